"""step(state, event, now) -> (state, effects): one transition table, no I/O, no clock, no pixels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge.session.comparison import Template
from edge.session.decision import ChallengeKind, Outcome, Policy, SessionResult
from edge.session.observation import Observation


class Phase(Enum):
    """Where a session stands; also what the kiosk page shows."""

    IDLE = "idle"
    CONSENT = "consent"
    DOCUMENT = "document"  # waiting for the reference portrait
    POSITION = "position"  # face into the oval, baseline is measured
    CHALLENGE = "challenge"
    CHECKING = "checking"
    DONE = "done"


@dataclass(frozen=True, slots=True, eq=False)
class Begin:
    """A verified challenge of the carrier starts a session. `match_threshold` is the pack's for the policy's FMR."""

    nonce: bytes
    policy: Policy
    match_threshold: float
    mirrored_sides: bool = False
    exposure_control: bool = False  # whether the source obeys exposure steps


@dataclass(frozen=True, slots=True)
class Consent:
    given: bool


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceReady:
    """The document portrait's template."""

    template: Template


@dataclass(frozen=True, slots=True)
class ReferenceUnusable:
    several_faces: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    observation: Observation


@dataclass(frozen=True, slots=True)
class CannotDo:
    """The person says that this movement is not possible for them: another of equal strength follows."""


@dataclass(frozen=True, slots=True)
class Cancel:
    by_clerk: bool = False


@dataclass(frozen=True, slots=True)
class CameraLost:
    pass


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes without a frame."""


Event = Begin | Consent | ReferenceReady | ReferenceUnusable | Seen | CannotDo | Cancel | CameraLost | Tick


@dataclass(frozen=True, slots=True)
class Screen:
    """What the person should see now. Words, pictures and languages belong to the kiosk."""

    phase: Phase
    guidance: str | None = None  # value of quality.Guidance
    action: ChallengeKind | None = None
    step: int = 0  # of the challenge plan, from 1
    steps: int = 0
    progress: float = 0.0  # of the current action or phase, 0..1
    time_left_s: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Show:
    screen: Screen


@dataclass(frozen=True, slots=True)
class SetExposure:
    """Ask the source for this exposure relative to its automatic value (1.0 hands it back)."""

    factor: float


@dataclass(frozen=True, slots=True)
class Conclude:
    result: SessionResult


Effect = Show | SetExposure | Conclude
