"""Stills of the simulator's people and of attacks with them, for `attacks`; they are no evidence on real people.

Seeds start where no training and no demonstration draws: persons, instruments, rooms and light were never learned from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.session.decision import ChallengeKind
from edge.session.machine import Phase, Screen
from simulator.camera import VirtualClock
from simulator.cast import cast
from simulator.room import Lighting
from simulator.scenario import AttackTable, DocumentTable, LightTable, PersonTable, RoomTable, Scenario
from simulator.species import Species, Strength
from simulator.study.plan import PRESENTATIONS

Image = NDArray[np.uint8]
BONA_FIDE = "bona_fide"
# Training draws people from 70,000 to 82,000 and from 100,000 on; who wears a mask is WEARER further.
FIRST_SEED, WEARER = 90_000, 5_000
FPS = 5.0
# The exposure has settled, then somebody is asked to turn: stills of both.
_SETTLING, _STILLS, _TURN_AT = 3, 5, 4


@dataclass(frozen=True, slots=True)
class Presentation:
    """One still before the camera, BGR."""

    name: str
    species: str  # BONA_FIDE, or what kind of instrument it is and how careful
    image: Image


def rendered(people: int) -> Iterator[Presentation]:
    """Five stills of each of so many people, and of every kind of attack with each that a sensor sees.

    Strength and light go round: three people have all strengths, six all lights.
    """
    kinds = [species for species in PRESENTATIONS if not species.injected]
    strengths, lights = tuple(Strength), tuple(Lighting)
    for k in range(people):
        seed, strength = FIRST_SEED + k, strengths[k % len(strengths)]
        for species in kinds:
            live = seed if species is Species.PERSON else seed + WEARER
            scenario = Scenario(
                challenge=seed,
                fps=FPS,
                person=PersonTable(seed=live),
                document=DocumentTable(seed=seed),
                room=RoomTable(seed=seed),
                light=LightTable(kind=lights[k % len(lights)]),
                attack=AttackTable(species=species, strength=strength, seed=seed) if species.attack else None,
            )
            name = f"{species.value}, {strength.value}" if species.attack else BONA_FIDE
            for n, image in enumerate(_filmed(scenario)):
                yield Presentation(f"{seed}-{n}", name, image)


def _filmed(scenario: Scenario) -> Iterator[Image]:
    shown = cast(scenario, VirtualClock())
    for k in range(_SETTLING + _STILLS):
        if k == _TURN_AT:
            shown.on_screen(Screen(Phase.CHALLENGE, action=ChallengeKind.TURN_LEFT))
        frame = shown.source.read(1.0)
        if frame is not None and k >= _SETTLING:
            yield frame.image
