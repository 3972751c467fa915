"""The passive model after ISO/IEC 30107-3: `python -m models.evaluation.attacks PRESENTATIONS.csv --images DIR`.

The CSV has the columns file,species: a still, and `bona_fide` or the presentation attack instrument species.
`--rendered N` adds N people of the simulator and attacks on them, of seeds that no training uses. Only the passive
model is measured here, still by still; a session has more defences, and its figures are others.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import VouchError
from edge.session.observation import FrameInfo
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from models.evaluation import exact, metrics, report, table
from models.evaluation.metrics import Estimate
from models.evaluation.rendered import BONA_FIDE, Presentation, rendered

Image = NDArray[np.uint8]
# ISO/IEC 30107-3 reports each species alone; under so many presentations its rate says next to nothing.
FEWEST = 10


@dataclass(frozen=True, slots=True)
class SpeciesFigures:
    """APCER of one species, or BPCER for BONA_FIDE: `error` is None where nothing was answered."""

    species: str
    presentations: int
    non_responses: int  # no face found: the system would ask again
    error: Estimate | None
    enough: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What `python -m models.evaluation.attacks` says."""

    threshold: float
    species: tuple[SpeciesFigures, ...]  # bona fide first
    apcer: float | None  # of the worst species, the figure that ISO/IEC 30107-3 asks for
    eer: float | None  # over all attacks at one threshold; None without both kinds
    eer_threshold: float | None


def figures(answers: Iterable[tuple[str, float | None]], threshold: float) -> Report:
    """answers: species and the model's probability of bona fide for each still, None where it gave none.

    A presentation without a face is a non-response, and in no rate (ISO/IEC 30107-3: APNRR and BPNRR stand apart).
    """
    by_species: dict[str, list[float | None]] = {}
    for species, answer in answers:
        by_species.setdefault(species, []).append(answer)
    rows = []
    for species in sorted(by_species, key=lambda name: (name != BONA_FIDE, name)):
        given = np.array([a for a in by_species[species] if a is not None])
        wrong = int(np.count_nonzero(given < threshold if species == BONA_FIDE else given >= threshold))
        rows.append(
            SpeciesFigures(
                species,
                len(by_species[species]),
                len(by_species[species]) - len(given),
                exact.rate(wrong, len(given)) if len(given) else None,
                len(given) >= FEWEST,
            )
        )
    apcers = [row.error.value for row in rows if row.species != BONA_FIDE and row.error]
    eer, at = _equal_error(by_species)
    return Report(threshold, tuple(rows), max(apcers, default=None), eer, at)


def _equal_error(by_species: dict[str, list[float | None]]) -> tuple[float | None, float | None]:
    told = [(a, species == BONA_FIDE) for species, answers in by_species.items() for a in answers if a is not None]
    scores, good = np.array([a for a, _ in told]), np.array([g for _, g in told], dtype=np.bool_)
    if not good.any() or good.all():
        return None, None
    apcer, bpcer = metrics.error_curve(scores, good)
    at = int(np.argmin(np.abs(apcer - bpcer)))
    reached = np.concatenate([[np.inf], np.unique(scores)[::-1]])
    return float((apcer[at] + bpcer[at]) / 2), float(reached[at])


def answers(pipeline: Pipeline, presentations: Iterable[Presentation]) -> Iterator[tuple[str, float | None]]:
    """Species and probability of a bona fide presentation, by the product's own way from a frame to that number."""
    for k, shown in enumerate(presentations):
        pipeline.reset()
        height, width = shown.image.shape[:2]
        face = pipeline.process(shown.image, FrameInfo(k, float(k), width, height), bona_fide=True).face
        yield shown.species, None if face is None else face.bona_fide


def listed(path: Path, images: Path) -> Iterator[Presentation]:
    """The stills that a CSV names. VouchError where it has another form, or a picture cannot be read."""
    for row in table.rows(path, ("file", "species")):
        name, species = row["file"], row["species"]
        picture = cv2.imread(str(images / name), cv2.IMREAD_COLOR)
        if picture is None:
            raise VouchError(f"{images / name} cannot be read", todo="--images must hold the files that the CSV names")
        yield Presentation(name, species, cast("Image", picture))


def main() -> int:
    """Exit 0 with figures, 2 where they are not possible."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluation.attacks", description=__doc__)
    parser.add_argument("presentations", type=Path, nargs="?", help="CSV with the columns file,species")
    parser.add_argument("--images", type=Path, help="folder of the files that the CSV names (default: its own)")
    parser.add_argument(
        "--rendered", type=int, default=0, metavar="N", help="add N people of the simulator, and attacks"
    )
    parser.add_argument("--pack", type=Path, default=Path(__file__).resolve().parents[1], help="model pack")
    parser.add_argument("--threshold", type=float, help="bona fide from here on (default: the pack's bona_fide_min)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.rendered < 0 or not (given.presentations or given.rendered):
        parser.error("name a CSV, or so many people with --rendered")
    cv2.setNumThreads(1)
    try:
        pack = Pack.load(given.pack)
        shown = listed(given.presentations, given.images or given.presentations.parent) if given.presentations else ()
        pipeline = Pipeline(pack)
        told = list(answers(pipeline, itertools.chain(shown, rendered(given.rendered))))
        pipeline.close()
    except (VouchError, OSError) as exc:
        print(exc.diagnostics() if isinstance(exc, VouchError) else exc, file=sys.stderr)
        return 2
    least = pack.manifest.antispoof.bona_fide_min if given.threshold is None else given.threshold
    found = figures(told, least)
    print(report.as_json(found) if given.json else text(found))
    return 0


def text(found: Report) -> str:
    """The figures as lines for people."""
    lines = [f"bona fide from {found.threshold:g} on; intervals: 95 %, Clopper-Pearson"]
    for row in found.species:
        kind = "BPCER" if row.species == BONA_FIDE else "APCER"
        line = f"{kind} {row.species:<14} " + ("no answer" if row.error is None else _percent(row.error))
        line += f" of {row.presentations - row.non_responses}; {row.non_responses} without a face"
        lines.append(line if row.enough else f"{line}; insufficient data")
    if found.apcer is not None:
        lines.append(f"APCER of the worst species: {100 * found.apcer:.1f} %")
    if found.eer is not None:
        lines.append(f"EER over all: {100 * found.eer:.1f} % at {found.eer_threshold:.3f}")
    return "\n".join(lines)


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
