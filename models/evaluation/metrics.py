"""Verification figures after ISO/IEC 19795-1 from scores alone; pictures, templates and printing do not belong here.

Conventions: a score is higher for more alike faces; a comparison matches where score >= threshold. A capture that
failed counts as a comparison that does not match (score -inf). `weights` count how often each comparison is taken, for
the bootstrap; None takes each once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]
Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def best_threshold(scores: Scores, same: Flags, weights: Weights | None = None) -> tuple[float, float]:
    """The threshold of highest accuracy, and that accuracy: half-way between two neighbouring scores, the strictest of
    several that are as good; +inf where accepting nothing is best.
    """
    counts = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ranked, gains = scores[order], np.where(same[order], counts[order], -counts[order])
    right = counts[~same].sum() + np.concatenate([[0.0], np.cumsum(gains)])
    ends = np.concatenate([[True], ranked[1:] != ranked[:-1], [True]])  # a threshold cannot part equal scores
    best = int(np.argmax(np.where(ends, right, -np.inf)))
    accuracy = float(right[best] / counts.sum())
    if best == 0:
        return float("inf"), accuracy
    below = ranked[best] if best < len(ranked) else -1.0
    return float((ranked[best - 1] + max(below, -1.0)) / 2), accuracy


def fold_accuracy(scores: Scores, same: Flags, folds: NDArray[np.int64], weights: Weights | None = None) -> float:
    """Mean over folds of the accuracy at the threshold that is best on the other folds (LFW View 2's protocol)."""
    counts = np.ones(len(scores)) if weights is None else weights
    shares = []
    for fold in np.unique(folds):
        test = folds == fold
        if counts[test].sum() == 0 or counts[~test].sum() == 0:
            continue  # the draw left this fold, or all others, empty
        threshold, _ = best_threshold(scores[~test], same[~test], counts[~test])
        right = (scores[test] >= threshold) == same[test]
        shares.append(float(counts[test] @ right / counts[test].sum()))
    return float(np.mean(shares)) if shares else float("nan")


def equal_error_rate(scores: Scores, same: Flags, weights: Weights | None = None) -> float:
    """Where false matches are as frequent as false non-matches; between two scores the mean of both rates.

    NaN where the weights leave no comparison of one kind.
    """
    if weights is not None and not (weights[same].any() and weights[~same].any()):
        return float("nan")
    fmr, fnmr = error_curve(scores, same, weights)
    at = int(np.argmin(np.abs(fmr - fnmr)))
    return float((fmr[at] + fnmr[at]) / 2)


def error_curve(scores: Scores, same: Flags, weights: Weights | None = None) -> tuple[Scores, Scores]:
    """False match and false non-match rate at every threshold, strictest first (the first accepts nothing)."""
    counts = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ranked, hits, taken = scores[order], same[order], counts[order]
    ends = np.concatenate([[True], ranked[1:] != ranked[:-1], [True]])
    false = np.concatenate([[0.0], np.cumsum(np.where(hits, 0.0, taken))])[ends] / max(taken[~hits].sum(), 1e-12)
    true = np.concatenate([[0.0], np.cumsum(np.where(hits, taken, 0.0))])[ends] / max(taken[hits].sum(), 1e-12)
    return false, 1 - true


def threshold_at(impostors: Scores, fmr: float, weights: Weights | None = None, total: float | None = None) -> float:
    """The lowest threshold whose false match rate is at most `fmr`.

    impostors: scores, of which only the highest are needed; total: the weight of all of them, where some are left out.
    The threshold lies just above a score, so that this score does not match; -1 where all may match. Where scores were
    left out and all of the others may match, it is the lowest of these: stricter than it need be, never looser.
    """
    counts = np.ones(len(impostors)) if weights is None else weights
    order = np.argsort(-impostors, kind="stable")
    ranked, taken = impostors[order], np.cumsum(counts[order])
    given = float(counts.sum())
    allowed = fmr * (given if total is None else total)
    first_too_many = int(np.searchsorted(taken, allowed + 1e-9, side="right"))
    if first_too_many < len(ranked):
        return float(np.nextafter(ranked[first_too_many], np.inf))
    left_out = total is not None and total > given + 1e-9
    return float(ranked[-1]) if left_out and len(ranked) else -1.0


def match_rate(scores: Scores, threshold: float, weights: Weights | None = None) -> float:
    """Share of comparisons at or above the threshold: TAR of genuine ones, FMR of impostors; NaN without any."""
    counts = np.ones(len(scores)) if weights is None else weights
    return float(counts @ (scores >= threshold) / counts.sum()) if counts.any() else float("nan")


def subject_of(name: str) -> str:
    """`wave-1/Ada_Lovelace_0001.jpg` -> `wave-1/Ada_Lovelace`: file names end with a number of the picture."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.rsplit(".", 1)[0].rsplit("_", 1)[0]


def bootstrap(
    figure: Callable[[Weights], float], subjects: int, *, rounds: int, rng: np.random.Generator
) -> tuple[float, float]:
    """2.5 and 97.5 percentile of `figure` when subjects, not comparisons, are drawn with replacement.

    figure: takes how often each subject was drawn [subjects]. Comparisons of one subject stand or fall together, so
    drawing comparisons would make the interval too narrow (ISO/IEC 19795-1, Bolle et al. 2004).
    """
    values = []
    for _ in range(rounds):
        drawn = np.bincount(rng.integers(0, subjects, subjects), minlength=subjects).astype(np.float64)
        value = figure(drawn)
        if np.isfinite(value):
            values.append(value)
    if not values:
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def pair_weights(drawn: Weights, first: NDArray[np.int64], second: NDArray[np.int64]) -> Weights:
    """How often each comparison is taken: as often as its one subject was drawn, or the product for two subjects."""
    weights: Weights = np.where(first == second, drawn[first], drawn[first] * drawn[second])
    return weights
