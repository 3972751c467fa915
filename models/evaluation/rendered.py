"""Stills of the simulator's people and of prints of them, for `attacks`; they are no evidence on real people.

Seeds start where no training and no demonstration draws: persons, prints, rooms and light were never learned from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.session.decision import ChallengeKind
from edge.session.machine import Phase, Screen
from simulator.attacks import PrintStage, draw_print
from simulator.camera import PersonStage, SimulatedCamera, Stage, VirtualClock
from simulator.person import Person

Image = NDArray[np.uint8]
BONA_FIDE = "bona_fide"
# Training draws people from 70,000 on, its own check from 80,000 on.
FIRST_SEED = 90_000
FPS = 4.0
# The exposure has settled, then somebody is asked to turn: stills of both.
_SETTLING, _STILLS, _TURN_AT = 3, 5, 5


@dataclass(frozen=True, slots=True)
class Presentation:
    """One still before the camera, BGR."""

    name: str
    species: str  # BONA_FIDE, or what kind of instrument it is
    image: Image


def rendered(people: int) -> Iterator[Presentation]:
    """Five stills of each of so many people, of a print of each and of a bent print of each."""
    for seed in range(FIRST_SEED, FIRST_SEED + people):
        person = Person.from_seed(seed)
        stages: dict[str, Stage] = {
            BONA_FIDE: PersonStage(person, seed),
            "print": PrintStage(person, seed, how=draw_print(seed)),
            "bent-print": PrintStage(person, seed, how=draw_print(seed, bent=True)),
        }
        for species, stage in stages.items():
            for k, image in enumerate(_filmed(stage, seed)):
                yield Presentation(f"{seed}-{k}", species, image)


def _filmed(stage: Stage, seed: int) -> Iterator[Image]:
    camera = SimulatedCamera(stage, seed=seed, fps=FPS, clock=VirtualClock())
    for k in range(_SETTLING + _STILLS):
        if k == _TURN_AT:
            stage.on_screen(Screen(Phase.CHALLENGE, action=ChallengeKind.TURN_LEFT))
        frame = camera.read(1.0)
        if k >= _SETTLING:
            yield frame.image
