"""Drawn people and attacks for the passive model: crops that a terminal shows it in the simulator's sessions.

`python -m models.training.presentations --out DIR --count N [--workers 2]`; given again with a larger count it goes on.
Injected video is not among them: it looks like a person because it is the picture of one, and the sensor tells it.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.drivers.camera import Image
from edge.session import machine
from edge.session.observation import Observation
from edge.vision import crops
from edge.vision.picture import Levels
from simulator.carrier.server import reference_policy
from simulator.play import Terminal, play
from simulator.room import Lighting
from simulator.scenario import AttackTable, DocumentTable, LightTable, PersonTable, RoomTable, Scenario
from simulator.species import Species, Strength

PACK = Path(__file__).resolve().parents[1]
# Nobody of these is drawn elsewhere: demonstrations, tests and checks stay below, the studies begin at 300,000.
FIRST = 100_000
WEARER = 50_000  # added for the other person: behind a mask or a cut-out
KEPT = "presentations-{:06d}.npz"  # of one holder
EACH = 5  # crops of a session
EVERY = 2  # a crop of so many that the passive model would be asked about
FPS = 6.0
FRAMES_MAX = 50  # of a session that gives no more


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """`crops` [N, 96, 96, 3] RGB; of each its `species`, an attack's `strength`, and the `seed` of its holder."""

    crops: NDArray[np.uint8]
    species: NDArray[np.str_]
    strength: NDArray[np.str_]
    seed: NDArray[np.int64]

    @classmethod
    def load(cls, folder: Path) -> Crops:
        """All that was drawn so far. FileNotFoundError where there is nothing."""
        parts = [np.load(path) for path in sorted(folder.glob("presentations-*.npz"))]
        if not parts:
            raise FileNotFoundError(f"no presentations in {folder}: python -m models.training.presentations --out DIR")
        joined = {name: np.concatenate([part[name] for part in parts]) for name in ("crops", "species", "strength")}
        return cls(**joined, seed=np.concatenate([np.full(len(part["crops"]), int(part["seed"])) for part in parts]))

    def part(self, *, held_out: bool) -> Crops:
        """Those to learn from, or those of every eighth holder, kept out."""
        chosen = (self.seed % 8 == 0) == held_out
        return Crops(self.crops[chosen], self.species[chosen], self.strength[chosen], self.seed[chosen])

    def batches(self, rng: np.random.Generator, count: int) -> Iterator[list[tuple[NDArray[np.uint8], float]]]:
        """Without end, `count` crops and labels: every second one bona fide, every species of attack as often."""
        where = {str(kind): np.flatnonzero(self.species == kind) for kind in np.unique(self.species)}
        people = where.pop(Species.PERSON.value)
        attacks = list(where.values())
        while True:
            chosen = [people if k % 2 else attacks[int(rng.integers(len(attacks)))] for k in range(count)]
            yield [(self.crops[rng.choice(kind)], float(kind is people)) for kind in chosen]


def scenarios(seed: int, takes: int) -> Iterator[Scenario]:
    """Holder and another person as they are, a cut-out, two of the flat pictures, and a mask: each `takes` times.

    No careful masks: they are a little more gloss than a face, faces differ in gloss by more, and a model that is
    taught them refuses people (training/README.md).
    """
    rng = np.random.default_rng([9101, seed])
    lights = tuple(Lighting)

    def scenario(species: Species, live: int, k: int) -> Scenario:
        shares = [0.4, 0.6, 0.0] if species is Species.MASK else [0.2, 0.3, 0.5]
        strength = Strength(rng.choice([s.value for s in Strength], p=shares))
        attack = AttackTable(species=species, strength=strength, seed=seed + k) if species.attack else None
        return Scenario(
            name=f"{species.value}/{seed}",
            challenge=seed + k,
            fps=FPS,
            person=PersonTable(seed=live),
            document=DocumentTable(seed=seed if attack else live),
            room=RoomTable(seed=seed + 7 * k),
            light=LightTable(kind=lights[int(rng.integers(len(lights)))]),
            attack=attack,
        )

    other = seed + WEARER
    flat = rng.permutation([s.value for s in (Species.PRINT, Species.BENT_PRINT, Species.PHONE, Species.REPLAY)])
    for k in range(takes):
        yield scenario(Species.PERSON, seed, k)
        yield scenario(Species.PERSON, other, 2 + k)
        yield scenario(Species.MASK, other, 10 + k)
        yield scenario(Species.CUT_OUT, other, 12 + k)
        for n in (2 * k, 2 * k + 1):
            yield scenario(Species(flat[n % 4]), other, 20 + n)


class _EnoughError(Exception):
    pass


def session_crops(scenario: Scenario, terminal: Terminal) -> list[NDArray[np.uint8]]:
    """What the passive model would be shown in this session's first seconds, some of it."""
    found: list[NDArray[np.uint8]] = []
    asked, levels = 0, Levels()

    def look(image: Image, seen: Observation, _screen: machine.Screen | None) -> None:
        nonlocal asked
        if seen.frame.index >= FRAMES_MAX:
            raise _EnoughError
        if seen.face is None or seen.face.bona_fide is None:
            return
        if asked % EVERY == 0:
            levels.show(image)
            crop = crops.antispoof_crop(crops.keypoints_from_landmarks(seen.face.points))
            found.append(levels.cut(crop)[..., ::-1].copy())
        asked += 1
        if len(found) == EACH:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        play(scenario, terminal, on_frame=look)
    return found


def draw(seed: int, folder: Path, takes: int) -> int:
    """Write one holder's file; how many crops it has."""
    terminal = _opened()
    cut: list[NDArray[np.uint8]] = []
    species: list[str] = []
    strength: list[str] = []
    for scenario in scenarios(seed, takes):
        found = session_crops(scenario, terminal)
        cut += found
        species += [scenario.species.value] * len(found)
        strength += [scenario.attack.strength.value if scenario.attack else ""] * len(found)
    target = folder / KEPT.format(seed)
    unfinished = target.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(file, crops=np.stack(cut), species=np.array(species), strength=np.array(strength), seed=seed)
    unfinished.rename(target)
    return len(cut)


@lru_cache(maxsize=1)
def _opened() -> Terminal:
    """Once in each worker process. The passive model ends no session there: its mistakes are what is wanted."""
    cv2.setNumThreads(1)
    return Terminal.open(PACK, replace(reference_policy(), bona_fide_min_permille=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".runs/presentations"))
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--count", type=int, default=120, help="so many holders")
    parser.add_argument("--takes", type=int, default=1, help="six sessions each, of every holder")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    seeds = range(given.first, given.first + given.count)
    missing = [seed for seed in seeds if not (given.out / KEPT.format(seed)).exists()]
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(given.workers) as workers:
        counts = workers.imap_unordered(partial(draw, folder=given.out, takes=given.takes), missing)
        for done, count in enumerate(counts, 1):
            left_min = (time.monotonic() - started) / done * (len(missing) - done) / 60
            print(f"{count} crops; {len(missing) - done} holders to go, {left_min:.1f} min", flush=True)


if __name__ == "__main__":
    main()
