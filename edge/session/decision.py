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


@dataclass(frozen=True, slots=True)
class Policy:
    """What the carrier demands, from its signed message. Integers only, because they come from canonical CBOR."""

    id: str
    version: int
    digest: bytes  # SHA-256 of the signed message's payload
    match_fmr_ppm: int = 1000  # false match rate asked of the pack's threshold, parts per million
    bona_fide_min_permille: int = 500  # aggregated passive score below this fails
    relief_min_permille: int = 0  # 0: the rule's own default
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
