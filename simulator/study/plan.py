"""Which sessions a study plays: people, attacks, strengths and lights from seeds; nothing is played here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from simulator.person.motion import Obedience
from simulator.room import Lighting
from simulator.scenario import (
    AttackTable,
    DocumentTable,
    FaultTable,
    LightTable,
    PersonTable,
    RoomTable,
    Scenario,
)
from simulator.species import Species, Strength

# Nobody of these is drawn anywhere else: demonstrations and tests use seeds under 60,000, training from 70,000 on.
_FIRST_SEED = {"tuning": 300_000, "report": 600_000}
_OTHERS = 150_000  # added for the person who wears the mask
_LIGHTS = tuple(Lighting)
_STRENGTHS = tuple(Strength)


PRESENTATIONS = tuple(species for species in Species if species is not Species.TARGET)


class People(Enum):
    """Two sets of persons that share nobody: one to tune thresholds on, the other to report."""

    TUNING = "tuning"
    REPORT = "report"

    @property
    def first_seed(self) -> int:
        return _FIRST_SEED[self.value]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many sessions of each kind, and the camera's frames a second."""

    people: People = People.TUNING
    bona_fide: int = 60
    attacks: int = 15  # of each species
    fps: float = 15.0
    species: tuple[Species, ...] = PRESENTATIONS

    @property
    def command(self) -> str:
        """What a reader types to play the same sessions."""
        told = f"vouch-sim study --people {self.people.value} --bona-fide {self.bona_fide} --attacks {self.attacks} "
        told += f"--fps {self.fps:g}"
        if self.species != PRESENTATIONS:
            told += " --species " + " ".join(species.value for species in self.species)
        return told

    def scenarios(self) -> Iterator[Scenario]:
        """In an order that has all kinds early, and one holder's attacks together: a head takes a second to model."""
        rounds = max(self.bona_fide, self.attacks)
        for number in range(rounds):
            seed = self.people.first_seed + number
            if Species.PERSON in self.species:
                # As many honest sessions by now as the shares ask for.
                low, high = (self.bona_fide * n // rounds for n in (number, number + 1))
                for k in range(low, high):
                    yield self._honest(k)
            if number < self.attacks:
                for species in self.species:
                    if species.attack:
                        yield self._attack(species, number, seed)

    def _honest(self, number: int) -> Scenario:
        seed = self.people.first_seed + number
        rng = np.random.default_rng([9001, seed])
        return Scenario(
            name=f"person/{number}",
            challenge=seed,
            fps=self.fps,
            person=PersonTable(seed=seed, obeys=_obedience(rng)),
            document=DocumentTable(chip=number % 3 == 2),
            room=RoomTable(seed=seed),
            light=LightTable(kind=_LIGHTS[number % len(_LIGHTS)]),
            faults=_faults(rng),
        )

    def _attack(self, species: Species, number: int, seed: int) -> Scenario:
        rng = np.random.default_rng([9002, seed, list(Species).index(species)])
        strength = _STRENGTHS[number % len(_STRENGTHS)]
        # Every strength in every light: the lights go on when all strengths had one.
        light = _LIGHTS[(number // len(_STRENGTHS)) % len(_LIGHTS)]
        return Scenario(
            name=f"{species.value}/{strength.value}/{number}",
            challenge=seed,
            fps=self.fps,
            person=PersonTable(seed=seed + _OTHERS),
            document=DocumentTable(seed=seed),
            room=RoomTable(seed=seed),
            light=LightTable(kind=light),
            attack=AttackTable(species=species, strength=strength, seed=seed),
            faults=_faults(rng),
        )


def _obedience(rng: np.random.Generator) -> Obedience:
    """Of ten honest people one is late, and one in twenty takes the wrong side first; nobody refuses."""
    return Obedience(rng.choice(["promptly", "late", "wrongly"], p=[0.85, 0.10, 0.05]))


def _faults(rng: np.random.Generator) -> FaultTable:
    """A camera as it is: most lose nothing, some lose frames."""
    lost = float(rng.choice([0.0, 0.01, 0.05], p=[0.7, 0.2, 0.1]))
    return FaultTable(lost=lost, jitter_ms=float(rng.choice([0.4, 2.0])))
