"""Exact intervals for counted errors (Clopper and Pearson 1934), for rates of few trials; no pictures and no models."""

from __future__ import annotations

import math
from collections.abc import Callable

from models.evaluation.metrics import Estimate

_STEPS = 60  # halvings: far below what a float can hold


def rate(errors: int, trials: int, *, confidence: float = 0.95) -> Estimate:
    """Share of errors among trials, with its exact interval; ValueError where it is no share.

    The low end is the rate at which so many errors or more have probability (1 - confidence) / 2, the high end that of
    so many or fewer (ISO/IEC 19795-1 and 30107-3 ask for such an interval where trials are independent).
    """
    if not 0 <= errors <= trials or trials == 0:
        raise ValueError(f"{errors} of {trials} is no rate")
    tail = (1 - confidence) / 2
    low = 0.0 if errors == 0 else _solve(lambda p: 1 - _at_most(errors - 1, trials, p), tail)
    high = 1.0 if errors == trials else 1 - _solve(lambda p: 1 - _at_most(trials - errors - 1, trials, p), tail)
    return Estimate(errors / trials, low, high)


def _at_most(errors: int, trials: int, p: float) -> float:
    """Probability of `errors` or fewer in `trials` at rate p, 0 < p < 1."""
    logs = (
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(p)
        + (trials - k) * math.log1p(-p)
        for k in range(errors + 1)
    )
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def _solve(rising: Callable[[float], float], value: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2
