"""Differential performance by age, sex and group: `python -m models.evaluation.groups LABELS.csv --images DIR`.

The CSV has the columns file,age,sex,group (`utk-adults/labels.csv`: UTKFace's labels, guessed by its makers). All
pictures are taken for different people, so there are impostor comparisons and failures to acquire, and no genuine ones.
Each group is set beside all: its false match rate over that of the comparisons of all groups, in the way of ISO/IEC
19795-10. Too few comparisons for a rate are called "insufficient data", and no number is made of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import CaptureError, VouchError
from edge.session.comparison import Template
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from models.evaluation import exact, report, table
from models.evaluation.metrics import Estimate
from models.evaluation.scores import all_scores

AGES = ((18, 29), (30, 44), (45, 59), (60, 120))
SEXES = {"0": "male", "1": "female"}
GROUPS = {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "other"}  # in UTKFace's words
# Two pictures of one person would be false impostors, and a web collection has some. UTKFace tells no identities;
# above this cosine two of its pictures are left out as probably one person.
SAME_COSINE = 0.75
# The "rule of 30" of ISO/IEC 19795-1: a rate needs 30 errors to be told within 30 %; fewer than 3 tell nothing.
FEWEST_EXPECTED = 3.0
FEWEST_CAPTURES = 30
ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Labelled:
    """One picture and what its collection says of the person."""

    file: str
    age: int
    sex: str
    group: str

    def cells(self) -> tuple[str, ...]:
        """The groups that it counts in."""
        age = next((f"age {low} to {high}" for low, high in AGES if low <= self.age <= high), "age unknown")
        return age, SEXES.get(self.sex, "sex unknown"), GROUPS.get(self.group, "group unknown")


@dataclass(frozen=True, slots=True)
class Cell:
    """One group. `fmr` and `ratio` are None where the data are insufficient."""

    name: str
    pictures: int
    failures: Estimate | None  # to acquire; Clopper-Pearson
    comparisons: int
    mean: float | None  # of the impostor scores
    deviation: float | None
    highest: float | None  # 99.9th percentile
    fmr: Estimate | None  # bootstrap over pictures
    ratio: Estimate | None  # to the rate of all


@dataclass(frozen=True, slots=True)
class Report:
    """What `python -m models.evaluation.groups` says. The first cell is of all, compared with all."""

    threshold: float
    left_out: int  # comparisons above SAME_COSINE
    cells: tuple[Cell, ...]


def read_labels(path: Path) -> list[Labelled]:
    """VouchError where the file has another form."""
    rows = table.rows(path, ("file", "age", "sex", "group"), blank=("sex", "group"))
    try:
        return [Labelled(row["file"], int(row["age"]), row["sex"], row["group"]) for row in rows]
    except ValueError as exc:
        raise VouchError(f"{path}: age: {exc}", todo="give whole years in the columns file,age,sex,group") from exc


def capture(
    labels: Iterable[Labelled], images: Path, encode: Callable[[NDArray[np.uint8]], Template]
) -> list[Template | None]:
    """A template of each picture, None where the product gives none. VouchError where a picture is missing."""
    found: list[Template | None] = []
    for row in labels:
        picture = cv2.imread(str(images / row.file), cv2.IMREAD_COLOR)
        if picture is None:
            raise VouchError(f"{images / row.file} cannot be read", todo="--images must hold the files of the CSV")
        try:
            found.append(encode(picture.astype(np.uint8, copy=False)))
        except CaptureError:
            found.append(None)
    return found


def figures(labels: list[Labelled], templates: list[Template | None], threshold: float, *, seed: int = 1) -> Report:
    """Every group within itself, beside all with all. VouchError where no face was found in any picture."""
    given = [(row, t) for row, t in zip(labels, templates, strict=True) if t is not None]
    if not given:
        raise VouchError("no face was found in any picture", todo="look at the pictures, or at the pack")
    study = _Comparisons.of([template for _, template in given], threshold, np.random.default_rng(seed))
    everybody = study.within(np.arange(len(given)))
    failed = [t is None for t in templates]
    cells = [_cell("all", failed, everybody, everybody)]
    for name in sorted({name for row in labels for name in row.cells()}, key=_order):
        mine = [f for row, f in zip(labels, failed, strict=True) if name in row.cells()]
        inside = study.within(np.flatnonzero([name in row.cells() for row, _ in given]))
        cells.append(_cell(name, mine, inside, everybody))
    return Report(threshold, int(np.count_nonzero(study.one_person & np.isfinite(study.scores))), tuple(cells))


@dataclass(frozen=True, slots=True)
class _Within:
    """The impostor comparisons within one group: their scores, their false match rate, and the same for each draw."""

    scores: NDArray[np.float32]
    fmr: float
    drawn: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Comparisons:
    """All scores (each once: above the diagonal, -inf elsewhere), and pictures drawn with replacement."""

    scores: NDArray[np.float32]
    one_person: NDArray[np.bool_]  # probably, so left out
    threshold: float
    draws: NDArray[np.int64]

    @staticmethod
    def of(templates: list[Template], threshold: float, rng: np.random.Generator) -> _Comparisons:
        count, vectors = len(templates), np.stack([t.vector for t in templates])
        scores = all_scores(templates, templates)
        scores[np.tril_indices(count)] = -np.inf
        return _Comparisons(
            scores,
            (vectors @ vectors.T) > SAME_COSINE,
            threshold,
            rng.multinomial(count, np.full(count, 1 / count), size=ROUNDS),
        )

    def within(self, index: NDArray[np.intp]) -> _Within:
        part = self.scores[np.ix_(index, index)]
        used = np.isfinite(part) & ~self.one_person[np.ix_(index, index)]
        rows, columns = np.nonzero(used & (part >= self.threshold))
        weights = self.draws[:, index].astype(np.float64)
        pairs = (weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)) / 2
        # The comparisons that are left out are few: their share of the weight is taken for their share of the number.
        pairs *= used.sum() / max(len(index) * (len(index) - 1) / 2, 1)
        drawn = (weights[:, rows] * weights[:, columns]).sum(axis=1) / np.maximum(pairs, 1e-9)
        return _Within(part[used], len(rows) / max(int(used.sum()), 1), drawn)


def _cell(name: str, failed: list[bool], group: _Within, everybody: _Within) -> Cell:
    values = group.scores
    enough = len(values) * everybody.fmr >= FEWEST_EXPECTED
    ratio = group.drawn / np.maximum(everybody.drawn, 1e-12)
    return Cell(
        name=name,
        pictures=len(failed),
        failures=exact.rate(sum(failed), len(failed)) if len(failed) >= FEWEST_CAPTURES else None,
        comparisons=len(values),
        mean=float(values.mean()) if values.size else None,
        deviation=float(values.std()) if values.size else None,
        highest=float(np.quantile(values, 0.999)) if values.size else None,
        fmr=_estimate(group.fmr, group.drawn) if enough else None,
        ratio=_estimate(group.fmr / everybody.fmr, ratio) if enough else None,
    )


def _estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def _order(name: str) -> tuple[int, str]:
    return (0 if name.startswith("age") else 1 if name in (*SEXES.values(), "sex unknown") else 2), name


def main() -> int:
    """Exit 0 with figures, 2 where they are not possible."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluation.groups", description=__doc__)
    parser.add_argument("labels", type=Path, help="CSV with the columns file,age,sex,group")
    parser.add_argument("--images", type=Path, help="folder of the files that the CSV names (default: its own)")
    parser.add_argument("--pack", type=Path, default=Path(__file__).resolve().parents[1], help="model pack")
    parser.add_argument("--fmr-ppm", type=int, default=1000, help="the pack's threshold for this false match rate")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        pack = Pack.load(given.pack)
        threshold = pack.match_threshold(given.fmr_ppm)
        labels = read_labels(given.labels)
        pipeline = Pipeline(pack)
        templates = capture(labels, given.images or given.labels.parent, pipeline.central_portrait)
        pipeline.close()
        found = figures(labels, templates, threshold)
    except VouchError as exc:
        print(exc.diagnostics(), file=sys.stderr)
        return 2
    print(report.as_json(found) if given.json else text(found))
    return 0


def text(found: Report) -> str:
    """The figures as lines for people."""
    left_out = f"{found.left_out} comparisons above a cosine of {SAME_COSINE}"
    lines = [
        f"at score {found.threshold:.3f}; {left_out} left out as one person's",
        _HEAD,
    ]
    for cell in found.cells:
        failures = "insufficient data" if cell.failures is None else _percent(cell.failures, 1)
        spread = "" if cell.mean is None else f"{cell.mean:.3f} +- {cell.deviation:.3f}"
        highest = "" if cell.highest is None else f"{cell.highest:.3f}"
        rate = "insufficient data"
        if cell.fmr is not None:
            rate = _percent(cell.fmr, 3)
            if cell.ratio is not None:
                rate += f", {cell.ratio.value:.2f} [{cell.ratio.low:.2f}, {cell.ratio.high:.2f}]"
        counts = f"{cell.name:<16} {cell.pictures:>8}  {failures:<20} {cell.comparisons:>11,}"
        lines.append(f"{counts}  {spread:<14} {highest:<6}  {rate}")
    return "\n".join(lines)


_HEAD = f"{'':<16} pictures  failure to acquire   comparisons  {'score':<14} 99.9 %  FMR, ratio to all"


def _percent(estimate: Estimate, digits: int) -> str:
    return f"{100 * estimate.value:.{digits}f} % [{100 * estimate.low:.{digits}f}, {100 * estimate.high:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
