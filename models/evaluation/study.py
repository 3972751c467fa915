"""Pairs of pictures -> scores by the product's own code -> figures; arguments and printing belong to __main__."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import CaptureError, VouchError
from edge.session.comparison import Template, compare
from edge.vision.pack import MatchThreshold
from models.evaluation import conditions, exact, metrics, table
from models.evaluation.conditions import Condition
from models.evaluation.metrics import Estimate, Flags, Scores, Weights
from models.evaluation.scores import all_scores

FARS = (1e-2, 1e-3, 1e-4)
# Of more impostor comparisons only the highest are kept. A draw of the bootstrap may leave the few highest of a small
# set out, and needs the others then.
_KEEP_ALL = 200_000

Encoder = Callable[[NDArray[np.uint8]], Template]


@dataclass(frozen=True, slots=True)
class Pair:
    """One comparison of a protocol: probe `a`, reference `b`; whom they show, where their names do not say it."""

    fold: int
    a: str
    b: str
    same: bool
    subject_a: str = ""
    subject_b: str = ""


@dataclass(frozen=True, slots=True)
class Captures:
    """Templates by file name, None where the product gave none; and what it cost."""

    probes: dict[str, Template | None]
    references: dict[str, Template | None]
    ms_per_face: float  # median

    @property
    def failures(self) -> int:
        return sum(t is None for t in self.probes.values()) + sum(t is None for t in self.references.values())

    @property
    def total(self) -> int:
        return len(self.probes) + len(self.references)


@dataclass(frozen=True, slots=True)
class AtFar:
    """True accept rate at one false accept rate, and the threshold of the score that gives it."""

    far: float
    tar: Estimate
    threshold: float


@dataclass(frozen=True, slots=True)
class AtPack:
    """What one entry of the pack's `match` gives on these pictures, failed captures left out (ISO/IEC 19795-1)."""

    fmr_ppm: int  # as the pack says
    threshold: float
    false_matches: int  # among all impostors
    fmr: Estimate
    genuine: int  # pairs of the protocol
    false_non_matches: int
    fnmr: Estimate | None  # None without a genuine pair


@dataclass(frozen=True, slots=True)
class Figures:
    """All that a study says. TAR, FMR and thresholds come from all probes x references of different subjects.

    Accuracy, TAR and EER count a failed capture as a non-match, the EER among impostors too; FAR, FMR, FNMR do without.
    """

    pairs: int
    subjects: int
    captures: int
    failures_to_acquire: int
    ms_per_face: float
    accuracy: Estimate | None  # threshold from the other folds; None where the protocol has one fold
    accuracy_best_threshold: float
    best_threshold: float
    eer: Estimate
    impostors: int
    at_far: tuple[AtFar, ...]
    failure_to_acquire: Estimate  # Clopper-Pearson
    at_pack: tuple[AtPack, ...]


def read_pairs(path: Path) -> list[Pair]:
    """The protocol file, columns fold,a,b,same and perhaps subject_a,subject_b.

    VouchError where it has another form, lacks pairs of one kind, or contradicts itself on who is who.
    """
    pairs = []
    for row in table.rows(path, ("fold", "a", "b", "same"), optional=("subject_a", "subject_b")):
        if not (row["fold"].isdecimal() and row["same"] in {"0", "1"}):
            raise VouchError(
                f"{path}: fold {row['fold']}, same {row['same']} for {row['a']} and {row['b']}",
                todo="fold is a whole number, same is 1 for one person and 0 for two (fold,a,b,same)",
            )
        subjects = row.get("subject_a", ""), row.get("subject_b", "")
        pairs.append(Pair(int(row["fold"]), row["a"], row["b"], row["same"] == "1", *subjects))
    if {pair.same for pair in pairs} != {False, True}:
        raise VouchError(f"{path} lacks pairs of one kind", todo="give pairs of one subject and of two (fold,a,b,same)")
    subjects_of(pairs)
    return pairs


def subjects_of(pairs: list[Pair]) -> dict[str, str]:
    """Whom each picture shows: as the pairs say, else as its name says (metrics.subject_of).

    The figures take every two pictures of different subjects for impostors, whatever the pairs are: VouchError where
    a picture shows two subjects, or a pair's `same` says otherwise than its subjects.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        named = bool(pair.subject_a and pair.subject_b)
        a, b = pair.subject_a or metrics.subject_of(pair.a), pair.subject_b or metrics.subject_of(pair.b)
        for name, subject in ((pair.a, a), (pair.b, b)):
            if found.setdefault(name, subject) != subject:
                raise VouchError(
                    f"{name} shows {found[name]} in one pair and {subject} in another",
                    todo="give each picture one person in subject_a and subject_b throughout",
                )
        if pair.same != (a == b):
            raise VouchError(
                f"{pair.a} and {pair.b} are {'one person' if pair.same else 'two people'} by the column same, "
                f"and {a} and {b} by {'subject_a and subject_b' if named else 'their file names'}",
                todo="mend same, subject_a or subject_b"
                if named
                else "add the columns subject_a,subject_b, which say whom each picture shows; "
                "without them its path up to the last _ does (Ada_0001.jpg, Ada_0002.jpg)",
            )
    return found


def capture(pairs: list[Pair], images: Path, encode: Encoder, condition: Condition) -> Captures:
    """Templates of every probe as it is, and of every reference under the condition."""
    times_ms: list[float] = []

    def template_of(name: str, applied: Condition) -> Template | None:
        picture = cv2.imread(str(images / name), cv2.IMREAD_COLOR)
        if picture is None:
            raise VouchError(f"{images / name} cannot be read", todo="--images must hold the files that the pairs name")
        changed = conditions.apply(applied, cast("NDArray[np.uint8]", picture))
        started = time.perf_counter()
        try:
            return encode(changed)
        except CaptureError:
            return None
        finally:
            times_ms.append(1e3 * (time.perf_counter() - started))

    plain = sorted({p.a for p in pairs} | ({p.b for p in pairs} if condition is Condition.PLAIN else set()))
    probes = {name: template_of(name, Condition.PLAIN) for name in plain}
    references = {}
    if condition is not Condition.PLAIN:
        references = {name: template_of(name, condition) for name in sorted({p.b for p in pairs})}
    return Captures(probes, references, float(np.median(times_ms)))


def figures(
    pairs: list[Pair],
    captures: Captures,
    *,
    match: tuple[MatchThreshold, ...] = (),
    rounds: int = 300,
    seed: int = 1,
) -> Figures:
    """Everything, with intervals from `rounds` draws of subjects. match: the pack's own thresholds."""
    references = captures.references or captures.probes
    if not any(captures.probes.values()) or not any(references.values()):
        raise VouchError("no face was found in any picture", todo="look at the pictures, or at the pack")
    shown = subjects_of(pairs)
    names = sorted(set(shown.values()))
    index = {subject: k for k, subject in enumerate(names)}
    number = {picture: index[subject] for picture, subject in shown.items()}
    scores, same = pair_scores(pairs, captures.probes, references)
    folds = np.array([p.fold for p in pairs], np.int64)
    first = np.array([number[p.a] for p in pairs], np.int64)
    second = np.array([number[p.b] for p in pairs], np.int64)
    crosses = _Crosses.of(captures.probes, references, number, least=min((m.score for m in match), default=np.inf))

    def interval(figure: Callable[[Weights | None, Weights | None], float]) -> Estimate:
        def drawn_figure(drawn: Weights) -> float:
            return figure(metrics.pair_weights(drawn, first, second), drawn)

        rng = np.random.default_rng(seed)
        low, high = metrics.bootstrap(drawn_figure, len(names), rounds=rounds, rng=rng)
        return Estimate(figure(None, None), low, high)

    def tar(far: float) -> Callable[[Weights | None, Weights | None], float]:
        def at_its_own_threshold(weights: Weights | None, drawn: Weights | None) -> float:
            threshold = crosses.threshold(far, drawn)
            if np.isnan(threshold):
                return threshold
            return metrics.match_rate(scores[same], threshold, None if weights is None else weights[same])

        return at_its_own_threshold

    captured = same & np.isfinite(scores)

    def at_pack(entry: MatchThreshold) -> AtPack:
        def fnmr(weights: Weights | None, _: Weights | None) -> float:
            return 1 - metrics.match_rate(scores[captured], entry.score, None if weights is None else weights[captured])

        return AtPack(
            fmr_ppm=entry.fmr_ppm,
            threshold=entry.score,
            false_matches=int(np.count_nonzero(crosses.scores >= entry.score)),
            fmr=interval(lambda _, drawn: crosses.match_rate(entry.score, drawn)),
            genuine=int(np.count_nonzero(captured)),
            false_non_matches=int(np.count_nonzero(scores[captured] < entry.score)),
            fnmr=interval(fnmr) if captured.any() else None,
        )

    threshold, best = metrics.best_threshold(scores, same)
    return Figures(
        pairs=len(pairs),
        subjects=len(names),
        captures=captures.total,
        failures_to_acquire=captures.failures,
        ms_per_face=captures.ms_per_face,
        accuracy=interval(lambda weights, _: metrics.fold_accuracy(scores, same, folds, weights))
        if len(np.unique(folds)) > 1
        else None,
        accuracy_best_threshold=best,
        best_threshold=threshold,
        eer=interval(lambda weights, _: metrics.equal_error_rate(scores, same, weights)),
        impostors=crosses.count,
        at_far=tuple(AtFar(far, interval(tar(far)), crosses.threshold(far, None)) for far in FARS),
        failure_to_acquire=exact.rate(captures.failures, captures.total),
        at_pack=tuple(at_pack(entry) for entry in match),
    )


def pair_scores(
    pairs: list[Pair], probes: dict[str, Template | None], references: dict[str, Template | None]
) -> tuple[Scores, Flags]:
    """Scores and truth of the protocol's pairs; -inf where a capture failed."""
    scores = []
    for pair in pairs:
        a, b = probes[pair.a], references[pair.b]
        scores.append(float("-inf") if a is None or b is None else compare(a, b))
    return np.array(scores), np.array([p.same for p in pairs])


@dataclass(frozen=True, slots=True)
class _Crosses:
    """The scores of all probes x references of different subjects, highest first; of very many only the highest, which
    are enough for thresholds at FAR <= 1 % and for rates at `least` and above.
    """

    scores: Scores
    probe_subjects: NDArray[np.int64]
    reference_subjects: NDArray[np.int64]
    all_probes: NDArray[np.int64]  # subject of every probe
    all_references: NDArray[np.int64]
    once: bool  # probes and references are the same captures, so each comparison is there once and not twice

    @staticmethod
    def of(
        probes: dict[str, Template | None],
        references: dict[str, Template | None],
        number: dict[str, int],
        *,
        least: float,
    ) -> _Crosses:
        kept_p = [(number[n], t) for n, t in probes.items() if t is not None]
        kept_r = [(number[n], t) for n, t in references.items() if t is not None]
        subjects_p, subjects_r = np.array([s for s, _ in kept_p], np.int64), np.array([s for s, _ in kept_r], np.int64)
        matrix = all_scores([t for _, t in kept_p], [t for _, t in kept_r])
        matrix[subjects_p[:, None] == subjects_r[None]] = -np.inf
        if references is probes:  # each comparison once
            matrix[np.tril_indices(len(matrix))] = -np.inf
        compared = np.isfinite(matrix)
        if not compared.any():
            raise VouchError(
                "faces of one subject alone were found: nothing to compare with others",
                todo="give pictures of more subjects, or look at the pack",
            )
        if np.count_nonzero(compared) > _KEEP_ALL:
            # Twice the largest rate that is asked for, so that the bootstrap's draws find enough as well.
            compared &= matrix >= min(least, float(np.quantile(matrix[compared], 1 - 2 * max(FARS))))
        rows, columns = np.nonzero(compared)
        order = np.argsort(-matrix[rows, columns], kind="stable")
        rows, columns = rows[order], columns[order]
        return _Crosses(
            matrix[rows, columns].astype(np.float64),
            subjects_p[rows],
            subjects_r[columns],
            subjects_p,
            subjects_r,
            once=references is probes,
        )

    @property
    def count(self) -> int:
        return round(self._total(None))

    def threshold(self, far: float, drawn: Weights | None) -> float:
        """NaN where the draw has no impostors."""
        total = self._total(drawn)
        return metrics.threshold_at(self.scores, far, self._weights(drawn), total) if total else float("nan")

    def match_rate(self, threshold: float, drawn: Weights | None) -> float:
        """NaN where the draw has no impostors. threshold: not below `least`."""
        matches, weights, total = self.scores >= threshold, self._weights(drawn), self._total(drawn)
        count = np.count_nonzero(matches) if weights is None else weights @ matches
        return float(count) / total if total else float("nan")

    def _weights(self, drawn: Weights | None) -> Weights | None:
        return None if drawn is None else drawn[self.probe_subjects] * drawn[self.reference_subjects]

    def _total(self, drawn: Weights | None) -> float:
        size = int(max(self.all_probes.max(), self.all_references.max())) + 1
        draws = np.ones(size) if drawn is None else drawn[:size]
        a = np.bincount(self.all_probes, minlength=size) * draws
        b = np.bincount(self.all_references, minlength=size) * draws
        both = float(a.sum() * b.sum() - a @ b)
        return both / 2 if self.once else both
