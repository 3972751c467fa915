"""Exact binomial intervals; nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

_STEPS = 60  # of bisection: to 1e-18


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share `hits` / `trials` (Clopper and Pearson 1934). (0, 1) where nothing was tried."""
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} of {trials}")
    if trials == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _solve(lambda p: 1 - _cumulative(hits - 1, trials, p), tail)
    high = 1.0 if hits == trials else _solve(lambda p: 1 - _cumulative(hits, trials, p), 1 - tail)
    return low, high


def _solve(rising: Callable[[float], float], wanted: float) -> float:
    """Where a rising function of 0..1 reaches `wanted`."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if rising(middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _cumulative(hits: int, trials: int, p: float) -> float:
    """P(X <= hits) of a binomial variable."""
    if p <= 0:
        return 1.0
    if p >= 1:
        return 1.0 if hits >= trials else 0.0
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * math.log(p)
        + (trials - k) * math.log1p(-p)
        for k in range(hits + 1)
    ]  # fmt: skip
    return min(1.0, math.fsum(math.exp(value) for value in logs))
