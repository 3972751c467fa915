"""Pictures of every state of the kiosk page: `python -m tests.browser.pictures FOLDER`, or without one the two of the README.

The person in the preview is drawn by the simulator. A sheet is put together by the same browser.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.provisioning import qr
from edge.session.decision import ChallengeKind
from edge.session.machine import Phase, Screen
from simulator.camera import PersonStage, SimulatedCamera, VirtualClock
from simulator.person import Person
from simulator.phone import PhoneStage
from tests.browser.states import SIZES, STATES, Kiosk, chromium, show

SHEET = Path(__file__).resolve().parents[2] / "simulator" / "pictures" / "kiosk-states.png"
_SHEET_STATES = [
    *("idle", "panel", "scan", "no-ticket", "consent", "card", "position-guided", "turn-left", "turn-right"),
    *("turn-further", "blink", "mouth-open", "assist", "staff-panel", "verified", "not-verified"),
    *("enrol-request", "enrol-parts", "enrol-code", "enrol-wrong-root"),
]
_THINGS = ("card", "scan", "enrol")  # states that film a thing, not a person: the picture is not mirrored
_TURNED = {
    "turn-left": ChallengeKind.TURN_LEFT,
    "turn-right": ChallengeKind.TURN_RIGHT,
    "turn-further": ChallengeKind.TURN_RIGHT,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="a picture of each state, size and language goes here")
    parser.add_argument("--only", help="one state")
    parser.add_argument("--sheet", type=Path, default=SHEET, help="the README's sheet (%(default)s)")
    options = parser.parse_args()
    people = _people()
    kiosk = Kiosk()
    try:
        with chromium() as browser:
            if options.folder:
                for language in ("en", "zh"):
                    for size in SIZES:
                        _all(browser, kiosk, people, options.folder, size, language, options.only)
            else:
                _sheet(browser, kiosk, people, options.sheet)
    finally:
        kiosk.stop()


def _all(
    browser: Any,
    kiosk: Kiosk,
    people: dict[str, Any],
    folder: Path,
    size: tuple[int, int],
    language: str,
    only: str | None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in _pictures(browser, kiosk, people, size, language, only):
        (folder / f"{name}-{size[0]}x{size[1]}-{language}.png").write_bytes(picture)


def _pictures(
    browser: Any,
    kiosk: Kiosk,
    people: dict[str, Any],
    size: tuple[int, int],
    language: str,
    only: str | None = None,
) -> Any:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    page.goto(kiosk.server.url, wait_until="domcontentloaded")
    page.click(f'[data-language="{language}"]')
    for name in [*STATES, "panel", "staff-panel", "wait"]:
        if only in (None, name):
            yield name, picture_of(page, kiosk, people, name, language)
    page.close()


def picture_of(page: Any, kiosk: Kiosk, people: dict[str, Any], name: str, language: str) -> bytes:
    """PNG of one state on a page that is open."""
    show(kiosk.display, {"panel": "offline", "staff-panel": "assist", "wait": "idle"}.get(name, name))
    page.click(f'[data-language="{language}"]')
    if name == "panel":
        page.click("#staff")
        page.keyboard.type("A-1002")
    if name == "staff-panel":
        page.click("#here")
    ending = threading.Event()
    person = people.get(name, people["rest"])
    if name.startswith(_THINGS):
        person = people["phone" if name == "enrol-parts" else "room"]
    film = threading.Thread(target=_film, args=(kiosk, person, not name.startswith(_THINGS), ending))
    film.start()
    time.sleep(0.7)
    picture = page.screenshot()
    ending.set()
    film.join()
    if name in {"panel", "staff-panel"}:
        page.click("#close")
    return bytes(picture)


def _film(kiosk: Kiosk, person: Any, mirrored: bool, ending: threading.Event) -> None:
    while not ending.wait(0.1):
        kiosk.preview.offer(person, mirrored=mirrored)


def _people() -> dict[str, Any]:
    """The same person at rest and in each turn, and an empty room."""
    clock = VirtualClock()
    stage = PersonStage(Person.from_seed(7), 7)
    camera = SimulatedCamera(stage, clock=clock)
    found: dict[str, Any] = {}
    for name in ("rest", *_TURNED):
        kind = _TURNED.get(name)
        stage.on_screen(Screen(Phase.CHALLENGE, action=kind, step=1) if kind else Screen(Phase.POSITION))
        for _ in range(30 if kind is None else 60):
            frame = camera.read(1.0)
        found[name] = frame.image
    found["phone"] = _phone()
    found["room"] = np.full((480, 640, 3), (206, 214, 218), np.uint8)
    return found


def _phone() -> Any:
    """What the terminal's camera sees of a telephone with a part of an answer."""
    with tempfile.TemporaryDirectory() as folder:
        part = qr.split(qr.Kind.BUNDLE, bytes(range(256)) * 6)[2]
        (Path(folder) / "part-01.png").write_bytes(qr.png(part))
        camera = SimulatedCamera(PhoneStage(Path(folder)), clock=VirtualClock())
        for _ in range(20):
            frame = camera.read(1.0)
    return frame.image


def _sheet(browser: Any, kiosk: Kiosk, people: dict[str, Any], path: Path) -> None:
    """One compact picture: small English states, and the portrait and the Chinese page among them."""
    tiles = []
    page = browser.new_page(viewport={"width": 800, "height": 480}, reduced_motion="reduce")
    page.goto(kiosk.server.url, wait_until="domcontentloaded")
    for name in _SHEET_STATES:
        language = "zh" if name in {"turn-right", "scan", "enrol-wrong-root"} else "en"
        tiles.append((name, picture_of(page, kiosk, people, name, language)))
    page.set_viewport_size({"width": 1280, "height": 800})
    write(path.with_name("kiosk.png"), picture_of(page, kiosk, people, "turn-right", "en"))
    cells = "".join(
        f'<figure><img src="data:image/png;base64,{base64.b64encode(png).decode()}"><figcaption>{name}</figcaption></figure>'
        for name, png in tiles
    )
    style = (
        "body{margin:12px;display:grid;grid-template-columns:repeat(4,1fr);gap:12px;background:#fff;"
        "font:600 15px system-ui;color:#445}figure{margin:0}img{width:100%;display:block;border:1px solid #ccd;"
        "border-radius:6px}figcaption{padding-top:2px}"
    )
    sheet = browser.new_page(viewport={"width": 1500, "height": 100})
    sheet.set_content(f"<style>{style}</style>{cells}")
    write(path, sheet.screenshot(full_page=True))


def write(path: Path, png: bytes) -> None:
    """A picture for the README, small."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    # Sixty-four levels a channel are enough for a sheet, and compress to half.
    cv2.imwrite(str(path), picture & 0xFC | 0x02, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{path}: {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
