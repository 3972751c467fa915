"""What a session's rules speak of: phases, events, effects and the state; how one becomes the next is machine.py's."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from edge.session import challenge
from edge.session.challenge import Baseline, Recogniser
from edge.session.comparison import Template
from edge.session.decision import ChallengeKind, CheckOutcome, Outcome, Policy, Reason, SessionResult
from edge.session.observation import FaceSeen, Observation
from edge.session.pad import PadEvidence
from edge.session.quality import Guidance, Steady


class Phase(Enum):
    """Where a session stands; also what the kiosk page shows."""

    IDLE = "idle"
    CONSENT = "consent"
    DOCUMENT = "document"  # waiting for the reference portrait
    POSITION = "position"  # face into the oval, baseline is measured
    CHALLENGE = "challenge"
    CHECKING = "checking"
    ASSIST = "assist"  # a member of staff takes over; the camera rests
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
class CallStaff:
    """The person wants no face check or no more of it, or the clerk takes over: the staff-assisted path follows."""

    by_clerk: bool = False


@dataclass(frozen=True, slots=True)
class StaffAnswer:
    """A member of staff compared the person with the document by eye (`vouches`), or could not."""

    vouches: bool


@dataclass(frozen=True, slots=True)
class MoreTime:
    """The person was told that time runs out, and asks for more."""


@dataclass(frozen=True, slots=True)
class Cancel:
    by_clerk: bool = False


@dataclass(frozen=True, slots=True)
class CameraLost:
    pass


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes without a frame."""


Event = (
    Begin
    | Consent
    | ReferenceReady
    | ReferenceUnusable
    | Seen
    | CannotDo
    | CallStaff
    | StaffAnswer
    | MoreTime
    | Cancel
    | CameraLost
    | Tick
)


@dataclass(frozen=True, slots=True)
class Screen:
    """What the person should see now. Words, pictures and languages belong to the kiosk."""

    phase: Phase
    guidance: str | None = None  # value of quality.Guidance
    action: ChallengeKind | None = None
    step: int = 0  # of the challenge plan, from 1
    steps: int = 0
    progress: float = 0.0  # of the current action or phase, 0..1
    time_left_s: float | None = None  # of the movement; in other phases only when it runs out
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


@dataclass(frozen=True, slots=True)
class SessionMeasures:
    """Scores for the developer at the simulator; never a part of the result, never sent."""

    score: float | None = None
    match_threshold: float | None = None
    passive: float | None = None
    relief: float | None = None
    continuity: float | None = None
    injection: CheckOutcome = CheckOutcome.NOT_RUN
    duration_s: float = 0.0  # from the first camera frame on
    failures: tuple[Reason, ...] = ()
    margins: tuple[tuple[Reason, float | None], ...] = ()  # of every cue of the attack check: passes from 1 on


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A good frontal template and how good its frame was."""

    template: Template
    quality: float


@dataclass(frozen=True, slots=True, eq=False)
class SensorRun:
    """The exposure steps under way: the last one asked for is `index` of the plan's, after frame `since_frame`."""

    index: int
    since_frame: int
    reference: float | None  # exposure times gain before the first step


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Everything a session remembers; made by `initial` and `step` only. DONE holds no face, template or nonce."""

    phase: Phase = Phase.IDLE
    begin: Begin | None = None
    begun_s: float = 0.0  # clock of `now`, like every *_at_s and deadline here
    deadline_s: float = float("inf")
    extensions: int = 0  # of this phase's time
    assist_reason: Reason | None = None
    camera_at_s: float | None = None
    consent_given: bool = False
    consent_at_s: float = 0.0
    reference: Template | None = None
    last: Observation | None = None
    steady: Steady[Guidance] = field(default=Steady())
    # POSITION; times are frame timestamps
    faces: tuple[FaceSeen, ...] = ()
    good_s: float = 0.0
    last_good_s: float | None = None
    sensor: SensorRun | None = None
    # CHALLENGE
    plan: challenge.Plan | None = None
    baseline: Baseline | None = None
    index: int = 0
    recogniser: Recogniser | None = None
    asked: tuple[ChallengeKind, ...] = ()  # what each step of the plan asks for in the end
    cannot: frozenset[ChallengeKind] = frozenset()
    failures: tuple[Reason, ...] = ()
    replacements: int = 0
    track: tuple[npt.NDArray[np.float32], ...] = ()
    turned: tuple[Template, ...] = ()
    settling: tuple[tuple[float, FaceSeen], ...] = ()  # frames of a person who holds still, but not where they began
    # CHECKING
    checking_since_s: float | None = None
    # what the decision is made from
    pad: PadEvidence = field(default=PadEvidence())
    probes: tuple[Probe, ...] = ()
    last_template_s: float = float("-inf")
    last_passive_s: float = float("-inf")
    log: tuple[str, ...] = ()
    shown: Screen | None = None
    shown_at_s: float = float("-inf")
    scores: SessionMeasures | None = None
