"""The challenge: a plan drawn from the carrier's nonce, and the recogniser of one action; what follows is not here.

Sides are the capture subject's own. In an unmirrored picture the nose of a person who turns to their own left goes to
the right of the picture: yaw > 0. All times are frame timestamps in seconds, never frame counts.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise, product

import numpy as np

from edge.session.decision import ChallengeKind, Reason
from edge.session.observation import FaceSeen

# Actions that show depth, and actions that show a living face.
DEPTH_KINDS = (ChallengeKind.TURN_LEFT, ChallengeKind.TURN_RIGHT, ChallengeKind.LOOK_UP)
SMALL_KINDS = (ChallengeKind.BLINK, ChallengeKind.MOUTH_OPEN)
TURNS = (ChallengeKind.TURN_LEFT, ChallengeKind.TURN_RIGHT)
# What a substitute for these may be; for a turn or a look up it is any that shows depth.
_EQUAL = {ChallengeKind.BLINK: SMALL_KINDS, ChallengeKind.MOUTH_OPEN: (ChallengeKind.MOUTH_OPEN,)}

# The pause before each prompt, beside the rest that comes first (NEUTRAL_HOLD_S): short for a counter, too varied for a
# recording.
DELAYS_S = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
# The sensor's steps: relative exposure, gentle enough to keep the face usable. Not 1: that hands control back to the
# automatic exposure, which then wanders. Each is asked for while the one before is still on its way to the sensor: that
# keeps the whole under 0.6 s at 30 frames a second, and a picture that follows must hold the order of several.
EXPOSURES = (0.45, 0.67, 1.5)
EXPOSURE_STEPS = 3
EXPOSURE_FRAMES = (2, 3)  # from one step to the next

# A movement counts as full from here, relative to the person's own resting state.
FULL_TURN_DEG = 20.0  # depth from parallax needs 20 to 25 degrees
FULL_LOOK_UP_DEG = 12.0  # read: landmark models see about 0.7 of a head's pitch
# Lips 6 mm apart. In a full dark beard the landmarks see 0.2 of a mouth that stands wide open; without one 0.45 and
# more, on the real clip 1.2. Supple masks, which follow the jaw in part, have 0.3 to 0.6; asking for 0.4 where no beard
# hides the lips was tried, and let them pass as well. Lips that move beside another movement stay under OTHER_MOUTH.
FULL_MOUTH = 0.2
OTHER_MOUTH = 0.35
FULL_BLINK = 0.5  # share of the person's own open state that is gone when the eyes count as closed
# Eyes that are less open at rest leave no room for a blink; a mouth that is more open than quality.py's gate allows is
# asked to close before anything else.
MIN_READABLE_EYES = 0.35
# Hysteresis, as shares of the full movement.
ONSET = 0.45
NEUTRAL = 0.40
LEAVE = 0.75
# Nobody answers a visual prompt in less: simple reaction times are 180 ms and more; 120 leaves room for the display.
MIN_REACTION_S = 0.12
MIN_HOLD_S = {
    ChallengeKind.TURN_LEFT: 0.30,
    ChallengeKind.TURN_RIGHT: 0.30,
    ChallengeKind.LOOK_UP: 0.30,
    ChallengeKind.MOUTH_OPEN: 0.15,
}
MIN_HOLD_FRAMES = 3
# Between the last open and the first open frame: spontaneous blinks take 100 to 400 ms, asked-for ones up to 2 s.
MIN_BLINK_S, MAX_BLINK_S = 0.06, 2.0
WRONG_HOLD_S = 0.2
UNDER_WAY_S = 2.0  # nobody is cut off in the middle of a movement that was begun in time
FALLS_SHORT_S = 0.7  # a movement that is under way for so long and not full will not be without a word
MAX_GAP_S = 0.35  # longer without a frame of this face and the movement cannot be called continuous
NEUTRAL_HOLD_S = 0.15
# A head that is held so still for so long is at rest, wherever it was while it was measured; degrees, openness.
NEW_REST_S = 1.0
NEW_REST_SPREAD = (3.0, 3.0, 0.1)
NEW_REST_MAX_YAW_DEG = 14.0
NEW_REST_MAX_MOUTH = 0.4


@dataclass(frozen=True, slots=True)
class Step:
    """One action of the plan and the pause before its prompt."""

    kind: ChallengeKind
    delay_s: float


@dataclass(frozen=True, slots=True)
class Exposure:
    """One step of the sensor: exposure over its value before the first, and for how many frames it stands."""

    factor: float
    frames: int


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]
    exposures: tuple[Exposure, ...]


def draw_plan(nonce: bytes, allowed: tuple[ChallengeKind, ...], count: int) -> Plan:
    """The plan that this nonce stands for: every valid sequence is equally likely.

    Four kinds and three steps give 12 sequences and 8 delays a step: 12 * 8**3 = 6,144 plans, 12 bits.
    """
    draw = _Draw(nonce, b"plan")
    sequences = valid_sequences(allowed, count)
    kinds = sequences[draw.below(len(sequences))]
    steps = tuple(Step(kind, DELAYS_S[draw.below(len(DELAYS_S))]) for kind in kinds)
    return Plan(steps, draw_exposures(nonce))


def draw_exposures(nonce: bytes) -> tuple[Exposure, ...]:
    """The sensor's steps, 12 sequences in 8 rhythms: no two alike in a row."""
    draw, steps, last = _Draw(nonce, b"exposure"), [], 1.0
    for _ in range(EXPOSURE_STEPS):
        choices = [e for e in EXPOSURES if e != last]
        last = choices[draw.below(len(choices))]
        steps.append(Exposure(last, EXPOSURE_FRAMES[draw.below(len(EXPOSURE_FRAMES))]))
    return tuple(steps)


def draw_replacement(nonce: bytes, index: int, number: int, choices: tuple[ChallengeKind, ...]) -> Step:
    """Another action for step `index`, the `number`-th of its kind, from `choices` (not empty)."""
    draw = _Draw(nonce, b"again" + bytes([index % 256, number % 256]))
    return Step(choices[draw.below(len(choices))], DELAYS_S[draw.below(len(DELAYS_S))])


def valid_sequences(allowed: tuple[ChallengeKind, ...], count: int) -> list[tuple[ChallengeKind, ...]]:
    """Every sequence of `count` actions: no action twice in a row, at least one that shows depth, and as many kinds of
    those that show a living face as there is room for: a mask turns like a head, but its lids and its jaw do not move,
    and a picture with holes for the eyes has no jaw.
    """
    kinds, length = allowed_kinds(allowed), max(1, min(count, 6))
    living = min(len(set(kinds) & set(SMALL_KINDS)), length - 1)
    return [
        sequence
        for sequence in product(kinds, repeat=length)
        if set(sequence) & set(DEPTH_KINDS)
        and len(set(sequence) & set(SMALL_KINDS)) >= living
        and all(a != b for a, b in pairwise(sequence))
    ]


def allowed_kinds(allowed: tuple[ChallengeKind, ...]) -> tuple[ChallengeKind, ...]:
    """What a person may be asked: the policy's kinds in their order of number; both turns where none shows depth."""
    kinds = {ChallengeKind(k) for k in allowed} & {*DEPTH_KINDS, *SMALL_KINDS}
    if not kinds & set(DEPTH_KINDS) or len(kinds) < 2:
        kinds |= set(TURNS)
    return tuple(sorted(kinds))


def substitutes(
    kind: ChallengeKind, allowed: tuple[ChallengeKind, ...], cannot: frozenset[ChallengeKind]
) -> tuple[ChallengeKind, ...]:
    """Actions of equal strength that this person has not declined: for a turn another turn or a look up, for a blink,
    which glasses hide, an open mouth. Nothing is as strong as an open mouth: a picture with holes for its holder's eyes
    blinks, and a mask with lids does. Where nothing is left, a member of staff takes over.
    """
    equal = _EQUAL.get(kind, DEPTH_KINDS)
    return tuple(k for k in allowed_kinds(allowed) if k in equal and k not in cannot)


class _Draw:
    """Numbers from a nonce: HMAC-SHA-256 in counter mode (NIST SP 800-108), uniform by rejection."""

    def __init__(self, nonce: bytes, label: bytes) -> None:
        self._stream = self._bytes(nonce, label)

    @staticmethod
    def _bytes(nonce: bytes, label: bytes) -> Iterator[int]:
        counter = 0
        while True:
            yield from hmac.new(nonce, b"vouch " + label + b"\0" + counter.to_bytes(4, "big"), hashlib.sha256).digest()
            counter += 1

    def below(self, n: int) -> int:
        limit = 65536 - 65536 % n
        while (value := next(self._stream) * 256 + next(self._stream)) >= limit:
            pass
        return value % n


@dataclass(frozen=True, slots=True)
class Baseline:
    """The person's own resting state: medians over the positioning phase."""

    yaw_deg: float
    pitch_deg: float
    eye_openness: float
    mouth_openness: float


def measure_baseline(faces: tuple[FaceSeen, ...]) -> Baseline:
    """Medians over good frontal frames (not empty)."""
    return Baseline(
        yaw_deg=float(np.median([f.pose.yaw_deg for f in faces])),
        pitch_deg=float(np.median([f.pose.pitch_deg for f in faces])),
        eye_openness=float(np.median([np.mean(f.eye_openness) for f in faces])),
        mouth_openness=float(np.median([f.mouth_openness for f in faces])),
    )


def new_rest(faces: tuple[FaceSeen, ...]) -> Baseline | None:
    """The resting state of these frames (not empty) of somebody who holds still; None where they do not, or away from
    the camera.
    """
    yaw, pitch, mouth = (
        np.array(values)
        for values in zip(*((f.pose.yaw_deg, f.pose.pitch_deg, f.mouth_openness) for f in faces), strict=True)
    )
    still = all(values.std() <= most for values, most in zip((yaw, pitch, mouth), NEW_REST_SPREAD, strict=True))
    base = measure_baseline(faces)
    frontal = abs(base.yaw_deg) <= NEW_REST_MAX_YAW_DEG and base.mouth_openness <= NEW_REST_MAX_MOUTH
    return base if still and frontal else None


def extent(kind: ChallengeKind, face: FaceSeen, base: Baseline, *, mirrored: bool = False) -> float:
    """How far a movement has gone: 0 at rest, 1 full, negative the other way."""
    yaw = (face.pose.yaw_deg - base.yaw_deg) / FULL_TURN_DEG * (-1 if mirrored else 1)
    if kind is ChallengeKind.TURN_LEFT:
        return yaw
    if kind is ChallengeKind.TURN_RIGHT:
        return -yaw
    if kind is ChallengeKind.LOOK_UP:
        return (face.pose.pitch_deg - base.pitch_deg) / FULL_LOOK_UP_DEG
    if kind is ChallengeKind.MOUTH_OPEN:
        return (face.mouth_openness - base.mouth_openness) / FULL_MOUTH
    # Both eyes: the one that is more open counts. A head that turns or nods hides the lids: no blink is read there.
    if abs(yaw) > 0.7 or abs(face.pose.pitch_deg - base.pitch_deg) > FULL_LOOK_UP_DEG:
        return 0.0
    return (1 - max(face.eye_openness) / max(base.eye_openness, MIN_READABLE_EYES)) / FULL_BLINK


def unreadable(base: Baseline) -> frozenset[ChallengeKind]:
    """Actions that cannot be read on this person in this light: they are not asked for, others are."""
    return frozenset({ChallengeKind.BLINK}) if base.eye_openness < MIN_READABLE_EYES else frozenset()


class Stage(Enum):
    """Where the recogniser of one action stands."""

    SETTLE = "settle"  # wait for the resting state
    WAIT = "wait"  # the pause before the prompt
    PROMPTED = "prompted"
    MOVING = "moving"
    RETURN = "return"  # the full movement was seen: back to rest
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Recogniser:
    """The state of one action; `advance` makes the next. `failure` says why where the stage is FAILED."""

    kind: ChallengeKind
    delay_s: float
    timeout_s: float
    stage: Stage = Stage.SETTLE
    begun_s: float | None = None
    calm_s: float | None = None  # at rest since
    rested: bool = False  # has been at rest before the prompt: what moves from now on moves too early
    prompt_s: float | None = None
    onset_s: float | None = None
    held_s: float = 0.0  # time at the full movement
    held_frames: int = 0
    wrong_s: float = 0.0  # time at the full extent of another movement
    last_s: float | None = None  # last frame with this face
    value: float = 0.0  # the extent there
    failure: Reason | None = None

    @property
    def prompted(self) -> bool:
        """Whether the action is asked for now (or was, and the person is on the way back)."""
        return self.stage in {Stage.PROMPTED, Stage.MOVING, Stage.RETURN}

    @property
    def finished(self) -> bool:
        return self.stage in {Stage.DONE, Stage.FAILED}


@dataclass(frozen=True, slots=True)
class _Frame:
    """What one frame means to one recogniser."""

    t_s: float
    gap_s: float  # since the last frame with this face
    value: float
    early: float  # the same, as it counts against a person who is not asked yet: lips that merely quiver do not
    other: float  # the greatest extent of another movement

    @property
    def calm(self) -> bool:
        return self.early <= NEUTRAL and self.other <= NEUTRAL


def advance(r: Recogniser, face: FaceSeen | None, t_s: float, base: Baseline, *, mirrored: bool = False) -> Recogniser:
    """The recogniser after a frame at `t_s`; `face` is None where the frame shows no usable face."""
    if r.finished:
        return r
    r = replace(r, begun_s=t_s if r.begun_s is None else r.begun_s)
    if _overdue(r, t_s):
        return _fail(r, Reason.CHALLENGE_TIMEOUT)
    gap = 0.0 if r.last_s is None else t_s - r.last_s
    if gap > MAX_GAP_S:
        r, gap = _interrupt(r), 0.0
    if face is None:
        return r
    value = extent(r.kind, face, base, mirrored=mirrored)
    early = value * FULL_MOUTH / OTHER_MOUTH if r.kind is ChallengeKind.MOUTH_OPEN else value
    frame = _Frame(t_s, gap, value, early, _other_extent(r.kind, face, base, mirrored=mirrored))
    return replace(_STAGES[r.stage](r, frame), last_s=t_s, value=value)


def falls_short(r: Recogniser) -> bool:
    """Whether the person does what is asked, and has done so for a while, but not as far as it takes."""
    if r.stage is not Stage.MOVING or r.kind is ChallengeKind.BLINK or r.held_frames:
        return False
    return r.onset_s is not None and r.last_s is not None and r.last_s - r.onset_s >= FALLS_SHORT_S


def remaining_s(r: Recogniser, t_s: float) -> float | None:
    """Seconds left for the movement; None before its prompt."""
    return None if r.prompt_s is None else max(0.0, r.timeout_s - (t_s - r.prompt_s))


def _other_extent(kind: ChallengeKind, face: FaceSeen, base: Baseline, *, mirrored: bool) -> float:
    def of(other: ChallengeKind) -> float:
        return extent(other, face, base, mirrored=mirrored)

    sides = [of(k) for k in TURNS if k is not kind]
    # Heads nod a little when they turn or the mouth opens, and mouths open when heads go back.
    nod = 0.0 if kind is ChallengeKind.LOOK_UP else of(ChallengeKind.LOOK_UP) / 1.5
    mouth = 0.0
    if kind not in {ChallengeKind.LOOK_UP, ChallengeKind.MOUTH_OPEN}:
        mouth = of(ChallengeKind.MOUTH_OPEN) * FULL_MOUTH / OTHER_MOUTH
    return max(*sides, nod, mouth)


def _overdue(r: Recogniser, t_s: float) -> bool:
    if r.prompt_s is not None:
        # Not with eyes shut: that is over in MAX_BLINK_S, or no blink.
        under_way = r.kind is not ChallengeKind.BLINK and r.stage in {Stage.MOVING, Stage.RETURN}
        return t_s - r.prompt_s > r.timeout_s + (UNDER_WAY_S if under_way else 0.0)
    # Before the prompt: a person who never comes to rest, or is away.
    return r.begun_s is not None and t_s - r.begun_s > r.timeout_s + r.delay_s


def _fail(r: Recogniser, reason: Reason) -> Recogniser:
    return replace(r, stage=Stage.FAILED, failure=reason)


def _interrupt(r: Recogniser) -> Recogniser:
    """The face was away: nothing of a half-done movement counts, but an open prompt keeps its time limit."""
    stage = r.stage
    if stage is Stage.WAIT:
        stage = Stage.SETTLE
    elif stage is Stage.MOVING:
        stage = Stage.PROMPTED
    return replace(r, stage=stage, calm_s=None, onset_s=None, held_s=0.0, held_frames=0, wrong_s=0.0)


def _settle(r: Recogniser, f: _Frame) -> Recogniser:
    if r.rested and r.kind is not ChallengeKind.BLINK and f.early >= LEAVE:
        return _fail(r, Reason.CHALLENGE_TOO_EARLY)
    if not f.calm:
        return replace(r, calm_s=None)
    calm_s = f.t_s if r.calm_s is None else r.calm_s
    if f.t_s - calm_s >= NEUTRAL_HOLD_S:
        return replace(r, stage=Stage.WAIT, calm_s=f.t_s, rested=True)
    return replace(r, calm_s=calm_s)


def _wait(r: Recogniser, f: _Frame) -> Recogniser:
    # A blink is involuntary: an early one is no answer, and no offence either.
    if r.kind is not ChallengeKind.BLINK and f.early >= LEAVE:
        return _fail(r, Reason.CHALLENGE_TOO_EARLY)
    if not f.calm:
        return replace(r, stage=Stage.SETTLE, calm_s=None)
    if r.calm_s is not None and f.t_s - r.calm_s >= r.delay_s:
        return replace(r, stage=Stage.PROMPTED, prompt_s=f.t_s)
    return r


def _prompted(r: Recogniser, f: _Frame) -> Recogniser:
    wrong = f.other >= 1 and f.value < 0.5
    r = replace(r, wrong_s=r.wrong_s + f.gap_s if wrong else 0.0)
    if r.wrong_s >= WRONG_HOLD_S:
        return _fail(r, Reason.CHALLENGE_WRONG_ACTION)
    if f.value < ONSET or r.prompt_s is None:
        return replace(r, onset_s=None)
    if f.t_s - r.prompt_s < MIN_REACTION_S:
        return r if r.kind is ChallengeKind.BLINK or f.early < ONSET else _fail(r, Reason.CHALLENGE_TOO_EARLY)
    if r.kind is ChallengeKind.BLINK:
        return _closing(r, f)
    return _moving(replace(r, stage=Stage.MOVING, onset_s=f.t_s), replace(f, gap_s=0.0))


def _closing(r: Recogniser, f: _Frame) -> Recogniser:
    """Only eyes that were seen open after the prompt can close as an answer to it."""
    was_open = r.value < ONSET and f.gap_s > 0
    if f.value < 1 or not (was_open or r.onset_s is not None):
        # Half closed on the way: remember when they were last open.
        return replace(r, onset_s=f.t_s - f.gap_s) if was_open else r
    onset = f.t_s - f.gap_s if r.onset_s is None else r.onset_s
    return replace(r, stage=Stage.MOVING, onset_s=onset, held_frames=1)


def _moving(r: Recogniser, f: _Frame) -> Recogniser:
    if r.kind is ChallengeKind.BLINK:
        return _reopening(r, f)
    if f.value < ONSET:
        return replace(r, stage=Stage.PROMPTED, onset_s=None, held_s=0.0, held_frames=0)
    # Hysteresis: held from the full movement on, until it falls below LEAVE.
    if f.value >= 1 or (r.held_frames > 0 and f.value >= LEAVE):
        first = r.held_frames == 0
        r = replace(r, held_s=r.held_s + (0.0 if first else f.gap_s), held_frames=r.held_frames + 1)
    elif r.held_frames > 0:
        r = replace(r, held_s=0.0, held_frames=0)
    if r.held_s >= MIN_HOLD_S[r.kind] and r.held_frames >= MIN_HOLD_FRAMES:
        return replace(r, stage=Stage.RETURN)
    return r


def _reopening(r: Recogniser, f: _Frame) -> Recogniser:
    if f.value >= ONSET:
        return replace(r, held_frames=r.held_frames + 1)
    closed_s = f.t_s - (f.t_s if r.onset_s is None else r.onset_s)
    if MIN_BLINK_S <= closed_s <= MAX_BLINK_S:
        return replace(r, stage=Stage.DONE, held_s=closed_s)
    return replace(r, stage=Stage.PROMPTED, onset_s=None, held_frames=0)


def _return(r: Recogniser, f: _Frame) -> Recogniser:
    return replace(r, stage=Stage.DONE) if f.value <= NEUTRAL else r


_STAGES: dict[Stage, Callable[[Recogniser, _Frame], Recogniser]] = {
    Stage.SETTLE: _settle,
    Stage.WAIT: _wait,
    Stage.PROMPTED: _prompted,
    Stage.MOVING: _moving,
    Stage.RETURN: _return,
}
