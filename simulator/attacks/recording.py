"""What an attacker has on film: the holder in another session or merely looking; how it is shown is in other files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.session import challenge
from edge.session.decision import ChallengeKind
from edge.session.machine import Phase, Screen
from simulator.person import Person, render_linear
from simulator.person.motion import Actor
from simulator.raster import Canvas
from simulator.room import Place

Array = NDArray[Any]  # float; numpy arithmetic loses the width

_STILL_S = 3.6  # positioning and the sensor's steps, before the first prompt
_MOVE_S, _REST_S = 1.5, 1.1
_KINDS = (ChallengeKind.TURN_LEFT, ChallengeKind.TURN_RIGHT, ChallengeKind.BLINK, ChallengeKind.MOUTH_OPEN)


@dataclass(frozen=True, slots=True)
class Film:
    """`session`: the holder did what another nonce asked for; else only looks and blinks. `fps` of the film itself."""

    session: bool = True
    fps: float = 25.0
    size: tuple[int, int] = (360, 480)
    distance_cm: float = 46.0


class Recording:
    """The film, played from when it is first looked at; a session is repeated when it is over."""

    def __init__(self, person: Person, seed: int, film: Film | None = None) -> None:
        self.film = film or Film()
        self._person = person
        self._place = Place(seed + 313)
        self._actor = Actor(person.who, seed + 517)
        self._screens = _rehearsal(seed) if self.film.session else []
        self._canvas = Canvas(self.film.size)
        self._began_s: float | None = None
        self._gain: float | None = None
        self._last: tuple[int, Array] | None = None

    def at(self, t_s: float) -> Array:
        """The film's picture at `t_s`, linear BGR [height, width, 3]; its exposure was right."""
        self._began_s = t_s if self._began_s is None else self._began_s
        number = int((t_s - self._began_s) * self.film.fps)
        if self._last is None or number > self._last[0]:
            self._last = (number, self._draw(number / self.film.fps))
        return self._last[1]

    def _draw(self, passed_s: float) -> Array:
        if self._screens:
            length = self._screens[-1][0]
            within = passed_s % length
            self._actor.on_screen([screen for at, screen in self._screens if at <= within][-1])
        state = self._actor.at(passed_s)
        nearer = self.film.distance_cm / self._actor.habits.rest_distance_cm
        state = replace(state, distance_cm=state.distance_cm * nearer)
        room = self._place.room(self.film.size)
        view = render_linear(self._person, state, self.film.size, room, self._place.light, canvas=self._canvas)
        if self._gain is None:  # as its first picture was exposed, so the film stays
            level = float(np.percentile(view.linear[view.covered][::7, 1], 80)) if view.covered.any() else 0.4
            self._gain = (0.46 / max(level, 1e-3)) ** 0.8
        return np.clip(view.linear * np.float32(self._gain), 0, 1)


def _rehearsal(seed: int) -> list[tuple[float, Screen]]:
    """Screens of another session with their times; the last marks its end."""
    nonce = np.random.default_rng([6101, seed]).bytes(32)
    screens: list[tuple[float, Screen]] = [(0.0, Screen(Phase.POSITION))]
    at = _STILL_S
    for number, step in enumerate(challenge.draw_plan(nonce, _KINDS, 3).steps, 1):
        at += step.delay_s
        screens.append((at, Screen(Phase.CHALLENGE, action=step.kind, step=number)))
        at += _MOVE_S
        screens.append((at, Screen(Phase.CHALLENGE, guidance="come-back", step=number)))
        at += _REST_S
    screens.append((at + 1.0, Screen(Phase.CHECKING)))
    return screens
