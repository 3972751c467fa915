"""Attack detection over a session: passive scores, depth of the turns, one person throughout, the sensor's answer.

The challenge's timing is judged in challenge.py, the sensor's answer in sensor.py; what the verdict means for the
session's outcome is in decision.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from edge.session.comparison import Template, compare
from edge.session.decision import CheckOutcome, Policy, Reason
from edge.session.sensor import SensorRecord, judge_sensor

# Below these numbers a part of the check has not run.
MIN_PASSIVE_FRAMES = 3
# Relief of a turn in mean heads (depth.turn_relief says what heads, flat and bent pictures measure).
MIN_RELIEF = 0.45
# A movement that was no answer may still show a picture that was turned: by 20 degrees and more, without depth.
FLAT_TURN_SINE = 0.34


@dataclass(frozen=True, slots=True, eq=False)
class PadEvidence:
    """What a session gathered. Templates stay in the session's rules and die with its state."""

    passive_early: tuple[float, ...] = ()  # probabilities 0..1 while positioning
    passive_late: tuple[float, ...] = ()  # from the first prompt on
    reliefs: tuple[float | None, ...] = ()  # one for each recognised action that shows depth
    start: tuple[Template, ...] = ()
    turned: tuple[tuple[Template, ...], ...] = ()  # one tuple for each recognised action that shows depth
    end: tuple[Template, ...] = ()
    sensor: SensorRecord = field(default=SensorRecord())


@dataclass(frozen=True, slots=True)
class PadVerdict:
    """`outcome` PASS: bona fide. `injection` is the sensor's part alone. Numbers are for the developer's eyes only."""

    outcome: CheckOutcome
    band: int
    injection: CheckOutcome
    reasons: tuple[Reason, ...]
    passive: float | None
    relief: float | None
    continuity: float | None
    margins: tuple[tuple[Reason, float | None], ...] = ()  # of every cue: passes from 1 on, None: not run


def judge(evidence: PadEvidence, policy: Policy, match_threshold: float) -> PadVerdict:
    """One verdict from all parts; any part that fails fails the whole, a part that did not run leaves it open.

    1. passive: the lower of the medians before and during the challenge, against the policy's minimum
    2. depth: the least relief of the recognised turns, against the policy's or the rule's minimum
    3. continuity: start, turns and end are one person
    4. sensor: the picture followed the exposure steps; required only where the policy says so
    """
    passive = _passive(evidence)
    relief = min((r for r in evidence.reliefs if r is not None), default=None)
    continuity = _continuity(evidence, policy.turned_likeness_permille / 1000)
    injection = judge_sensor(evidence.sensor, policy)
    margins = {
        Reason.PASSIVE_ATTACK: _margin(passive, policy.bona_fide_min_permille / 1000),
        Reason.FLAT_FACE: _margin(relief, relief_min(policy)),
        Reason.IDENTITY_CHANGED: _margin(continuity, policy.continuity_min_permille / 1000 or match_threshold),
    }
    failed = [reason for reason, margin in margins.items() if margin is not None and margin < 1]
    if injection is CheckOutcome.FAIL:
        failed.append(Reason.SENSOR_MISMATCH)
    known = [m for m in margins.values() if m is not None]
    complete = _complete(evidence) and (injection is CheckOutcome.PASS or not policy.exposure_required)
    if failed:
        outcome = CheckOutcome.FAIL
    elif complete and len(known) == len(margins):
        outcome = CheckOutcome.PASS
    else:
        outcome = CheckOutcome.INCONCLUSIVE if known else CheckOutcome.NOT_RUN
    band = _band(min(known), passed=outcome is CheckOutcome.PASS) if known else 0
    return PadVerdict(outcome, band, injection, tuple(failed), passive, relief, continuity, tuple(margins.items()))


def relief_min(policy: Policy) -> float:
    """What a turn must show at least, in mean heads."""
    return policy.relief_min_permille / 1000 or MIN_RELIEF


def _passive(evidence: PadEvidence) -> float | None:
    """The lower median of the two parts of the session: an attack that steps in later is not outvoted."""
    parts = [p for p in (evidence.passive_early, evidence.passive_late) if len(p) >= MIN_PASSIVE_FRAMES]
    return min((float(np.median(p)) for p in parts), default=None)


def _continuity(evidence: PadEvidence, turned_share: float) -> float | None:
    """Least likeness between the start and any later part, each at its best; turned faces are held to less.

    Same person, same minute, same camera: with the first pack the test clips have 0.92 at 22 degrees and 0.72 at 42
    degrees from their own start; strangers 0.25 at most.
    """
    parts = [(turned, turned_share) for turned in evidence.turned if turned]
    if evidence.end:
        parts.append((evidence.end, 1.0))
    return (
        min((_best(evidence.start, later) / share for later, share in parts), default=None) if evidence.start else None
    )


def _best(earlier: Iterable[Template], later: tuple[Template, ...]) -> float:
    return max(compare(a, b) for a in earlier for b in later)


def _complete(evidence: PadEvidence) -> bool:
    passive = min(len(evidence.passive_early), len(evidence.passive_late)) >= MIN_PASSIVE_FRAMES
    depth = bool(evidence.reliefs) and None not in evidence.reliefs
    one_person = bool(evidence.start and evidence.end and evidence.turned) and all(evidence.turned)
    return passive and depth and one_person


def _margin(value: float | None, minimum: float) -> float | None:
    """How often the minimum is reached; from 1 the part passes."""
    if value is None:
        return None
    if not np.isfinite(value):
        return 0.0
    return value / minimum if minimum > 0 else float("inf")


def _band(margin: float, *, passed: bool) -> int:
    """4..7 where the check passed, 0..3 where it did not: by how far the weakest part is from its minimum."""
    if passed:
        return 4 + sum(margin >= edge for edge in (1.25, 1.5, 1.75))
    return min(3, sum(margin >= edge for edge in (0.25, 0.5, 0.75)))
