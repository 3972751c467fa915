"""Makes the pictures that a terminal tests a new model pack on: simulated people, filmed; judging is edge's own.

`vouch-sim test-pictures` writes them into the firmware. They never change with a pack: a pack that brought its own
pictures would choose what it is asked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.session.machine import Screen
from simulator.attacks import PrintStage
from simulator.camera import SimulatedCamera, Stage, VirtualClock
from simulator.person import Person, PersonState, portrait, render_linear
from simulator.person.render import Truth
from simulator.room import draw_light, draw_room

_SIZE = (640, 480)
_SETTLED_FRAMES = 40  # until the camera's automatic exposure rests
_QUALITY = 90
PEOPLE = (11, 12, 55, 53)  # seeds; each and the next, the last and the first, do not look alike
_PRINTS = 2
_TURN_DEG = 26.0


def make_pictures(folder: Path) -> list[str]:
    """Write every picture and pictures.json; the names of what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"people": [], "turned": [], "shut": "", "prints": [], "empty": "empty.jpg"}
    for number, seed in enumerate(PEOPLE):
        person = Person.from_seed(seed)
        _save(folder / f"document-{number}.jpg", portrait(seed))
        frame = _live(folder, f"live-{number}.jpg", person, PersonState(), seed)
        told["people"].append({"document": f"document-{number}.jpg", "live": frame})
        if number < _PRINTS:
            _save(folder / f"print-{number}.jpg", _film(PrintStage(person, seed)))
            told["prints"].append(f"print-{number}.jpg")
    first = Person.from_seed(PEOPLE[0])
    for name, yaw in (("left", -_TURN_DEG), ("right", _TURN_DEG)):
        told["turned"].append(_live(folder, f"turned-{name}.jpg", first, PersonState(yaw_deg=yaw), PEOPLE[0]))
    told["shut"] = _live(folder, "shut.jpg", first, PersonState(eye_right=0.0, eye_left=0.0), PEOPLE[0])
    _save(folder / "empty.jpg", _film(_Empty(7)))
    (folder / "pictures.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return sorted(path.name for path in folder.iterdir())


class _Posed:
    """A person who holds still, and what is known of the picture."""

    def __init__(self, person: Person, state: PersonState, seed: int) -> None:
        self._person, self._state, self._seed = person, state, seed
        self.truth: Truth | None = None

    def look(self, _t_s: float, size: tuple[int, int]) -> NDArray[Any]:
        view = render_linear(self._person, self._state, size, draw_room(self._seed, size), draw_light(self._seed))
        self.truth = view.truth
        return view.linear

    def on_screen(self, screen: Screen) -> None: ...


class _Empty:
    def __init__(self, seed: int) -> None:
        self._seed = seed

    def look(self, _t_s: float, size: tuple[int, int]) -> NDArray[Any]:
        return draw_room(self._seed, size)

    def on_screen(self, screen: Screen) -> None: ...


def _live(folder: Path, name: str, person: Person, state: PersonState, seed: int) -> dict[str, Any]:
    stage = _Posed(person, state, seed)
    _save(folder / name, _film(stage))
    truth = stage.truth
    if truth is None:
        raise ValueError("nothing was filmed")
    left, top, right, bottom = truth.box
    return {
        "file": name,
        "box": [round(float(v), 1) for v in (left, top, right - left, bottom - top)],
        "points": [[round(float(x), 1), round(float(y), 1)] for x, y in truth.landmarks],
        "yaw_deg": state.yaw_deg,
    }


def _film(stage: Stage) -> NDArray[np.uint8]:
    camera = SimulatedCamera(stage, size=_SIZE, seed=1, clock=VirtualClock())
    frame = camera.read(1.0)
    for _ in range(_SETTLED_FRAMES):
        frame = camera.read(1.0)
    return frame.image


def _save(path: Path, image: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
        raise OSError(f"{path} cannot be written")
