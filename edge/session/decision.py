"""Evidence and signed policy -> outcome and reason codes; how evidence is gathered belongs to machine.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class Outcome(IntEnum):
    """Claim -70002 `decision`."""

    MATCH = 1
    NO_MATCH = 2
    LIVENESS_FAIL = 3
    INCONCLUSIVE = 4
    CANCELLED = 5
    ERROR = 6
    STAFF_ASSISTED = 7  # a member of staff compared person and document by eye; the terminal did not


class CheckOutcome(IntEnum):
    """Outcome of one check: presentation attack detection (pass = bona fide) or comparison (pass = match)."""

    NOT_RUN = 0
    PASS = 1
    FAIL = 2
    INCONCLUSIVE = 3


class ChallengeKind(IntEnum):
    """Actions a person may be asked for; numbers are those of the claim. Sides are the capture subject's own."""

    TURN_LEFT = 1
    TURN_RIGHT = 2
    BLINK = 3
    MOUTH_OPEN = 4
    LOOK_UP = 5
    EXPOSURE = 6  # asked of the sensor, not of the person


class Reason(IntEnum):
    """Reason codes of claim -70015; the carrier reads them, the person never does."""

    NO_FACE = 1
    SEVERAL_FACES = 2
    QUALITY_TIMEOUT = 3
    CHALLENGE_TIMEOUT = 4
    CHALLENGE_WRONG_ACTION = 5
    CHALLENGE_TOO_EARLY = 6
    FLAT_FACE = 7
    PASSIVE_ATTACK = 8
    IDENTITY_CHANGED = 9
    SENSOR_MISMATCH = 10
    BELOW_THRESHOLD = 11
    PORTRAIT_UNUSABLE = 12
    PORTRAIT_SEVERAL_FACES = 13
    CAMERA_LOST = 14
    SESSION_TIMEOUT = 15
    CONSENT_REFUSED = 16
    PERSON_CANCELLED = 17
    STAFF_ASSIST = 18
    CHALLENGE_EXPIRED = 19
    CLERK_CANCELLED = 20
    INTERNAL = 21
    # Why a member of staff took over; beside STAFF_ASSIST:
    MOVEMENT_NOT_POSSIBLE = 22  # the person cannot do any of the movements that are left
    HELP_ASKED = 23  # the person chose it
    CLERK_CALLED = 24


@dataclass(frozen=True, slots=True)
class Policy:
    """What the carrier demands, from its signed message. Integers only, because they come from canonical CBOR."""

    id: str
    version: int
    digest: bytes  # SHA-256 of the signed message's payload
    match_fmr_ppm: int = 1000  # false match rate asked of the pack's threshold, parts per million
    bona_fide_min_permille: int = 500  # aggregated passive score below this fails
    relief_min_permille: int = 0  # of a mean head's; 0: the rule's own default
    continuity_min_permille: int = 0  # 0: derived from the pack's threshold
    challenges: tuple[ChallengeKind, ...] = (
        ChallengeKind.TURN_LEFT,
        ChallengeKind.TURN_RIGHT,
        ChallengeKind.BLINK,
        ChallengeKind.MOUTH_OPEN,
    )
    challenge_count: int = 3  # at least one turn is always among them
    attempts: int = 3
    action_timeout_ms: int = 6000
    session_timeout_ms: int = 30000
    exposure_required: bool = False
    offline_tickets: int = 0
    # What pad.py measures against; its docstrings say what each number was found by.
    flat_relief_max_permille: int = 150  # a movement of less relief that was no answer shows a picture
    turned_likeness_permille: int = 850  # share of the continuity's minimum that a turned face must reach
    sensor_delay_min_frames: int = 2  # from the asking to the first frame with another exposure
    sensor_delay_max_frames: int = 6
    sensor_follow_min_permille: int = 900  # correlation of log luma and log exposure
    sensor_exponent_min_permille: int = 150  # luma goes with this power of the exposure
    sensor_exponent_max_permille: int = 1300


@dataclass(frozen=True, slots=True)
class ChallengeRecord:
    kind: ChallengeKind
    ok: bool


@dataclass(frozen=True, slots=True)
class SessionResult:
    """All that leaves the session's rules: no array, no bytes of a face, no score; only bands (0..7) and codes."""

    outcome: Outcome
    reasons: tuple[Reason, ...]
    pad: CheckOutcome
    pad_band: int
    challenges: tuple[ChallengeRecord, ...]
    injection: CheckOutcome
    match: CheckOutcome
    match_band: int
    consent_given: bool
    consent_at_s: float  # session clock (monotonic) of the answer; 0 where none
    steps: tuple[str, ...] = field(default=())  # step log for the transcript hash: names and times in ms, no biometric

    @classmethod
    def unjudged(
        cls,
        outcome: Outcome,
        reasons: tuple[Reason, ...] = (),
        *,
        consent_given: bool = False,
        consent_at_s: float = 0.0,
        steps: tuple[str, ...] = (),
    ) -> SessionResult:
        """A result without any check: nothing was run, nothing is claimed of a person."""
        return cls(
            outcome=outcome,
            reasons=reasons,
            pad=CheckOutcome.NOT_RUN,
            pad_band=0,
            challenges=(),
            injection=CheckOutcome.NOT_RUN,
            match=CheckOutcome.NOT_RUN,
            match_band=0,
            consent_given=consent_given,
            consent_at_s=consent_at_s,
            steps=steps,
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session ended before its checks were complete."""

    outcome: Outcome
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the decision is made from. `score` is None where no comparison was possible."""

    consent_given: bool
    consent_at_s: float
    challenges: tuple[ChallengeRecord, ...]  # every action that was required, in order
    pad: CheckOutcome
    pad_band: int
    pad_reasons: tuple[Reason, ...]
    injection: CheckOutcome
    score: float | None
    match_threshold: float
    match_band: int
    ending: Ending | None = None
    steps: tuple[str, ...] = ()


def decide(evidence: Evidence, policy: Policy) -> SessionResult:
    """The procedure, in this order; nothing but step 6 says match.

    1. People end a session: cancelled or refused says so, whatever else was seen.
    2. An attack that was seen is a liveness failure, however the session ended.
    3. What ended the session early (camera, time, attempts, a member of staff) stands.
    4. Every required challenge was answered, as many as the policy asks for, and the attack check passed; else
       nothing can be said.
    5. There is a comparison score; else nothing can be said.
    6. The score reaches the threshold: match, else no match.
    """
    ending = evidence.ending
    # 1.
    if ending is not None and ending.outcome is Outcome.CANCELLED:
        return _result(evidence, Outcome.CANCELLED, ending.reasons)
    # 2.
    if evidence.pad is CheckOutcome.FAIL:
        return _result(evidence, Outcome.LIVENESS_FAIL, evidence.pad_reasons + (ending.reasons if ending else ()))
    # 3.
    if ending is not None:
        return _result(evidence, ending.outcome, ending.reasons)
    # 4.
    answered = sum(record.ok for record in evidence.challenges if record.kind is not ChallengeKind.EXPOSURE)
    required = all(record.ok for record in evidence.challenges) and answered >= max(1, policy.challenge_count)
    sensor = evidence.injection is CheckOutcome.PASS or not policy.exposure_required
    if not (required and sensor and evidence.consent_given and evidence.pad is CheckOutcome.PASS):
        reason = Reason.SENSOR_MISMATCH if not sensor else Reason.CHALLENGE_TIMEOUT
        return _result(
            evidence, Outcome.INCONCLUSIVE, (reason if not (required and sensor) else Reason.QUALITY_TIMEOUT,)
        )
    # 5.
    if evidence.score is None:
        return _result(evidence, Outcome.INCONCLUSIVE, (Reason.QUALITY_TIMEOUT,))
    # 6.
    if evidence.score >= evidence.match_threshold:
        return _result(evidence, Outcome.MATCH, (), CheckOutcome.PASS)
    return _result(evidence, Outcome.NO_MATCH, (Reason.BELOW_THRESHOLD,), CheckOutcome.FAIL)


def _result(
    evidence: Evidence, outcome: Outcome, reasons: tuple[Reason, ...], match: CheckOutcome = CheckOutcome.NOT_RUN
) -> SessionResult:
    return SessionResult(
        outcome=outcome,
        reasons=tuple(dict.fromkeys(reasons)),
        pad=evidence.pad,
        pad_band=evidence.pad_band,
        challenges=evidence.challenges,
        injection=evidence.injection,
        match=match,
        match_band=0 if match is CheckOutcome.NOT_RUN else evidence.match_band,
        consent_given=evidence.consent_given,
        consent_at_s=evidence.consent_at_s,
        steps=evidence.steps,
    )
