"""A person as observations: the mean face moved by what the screen asks for, without a picture; rendering is elsewhere.

It stands where the vision pipeline stands, so that a whole session can be played in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from edge.session import machine
from edge.session.comparison import Template
from edge.session.decision import ChallengeKind, SessionResult
from edge.session.face_shape import FACE_SHAPE
from edge.session.geometry import eye_openness, head_pose, mouth_openness
from edge.session.machine import (
    Begin,
    Conclude,
    Consent,
    Effect,
    Event,
    Phase,
    ReferenceReady,
    Screen,
    Seen,
    SetExposure,
)
from edge.session.observation import FaceQuality, FaceSeen, FrameInfo, Observation
from edge.session.points import INNER_LIP, LEFT_EYE, OVAL, RIGHT_EYE

Vector = npt.NDArray[np.float64]
TEMPLATE_SIZE = 128


@dataclass(frozen=True, slots=True)
class Attitude:
    """How a head is held. Degrees as in HeadPose; `eyes` 1 open, 0 closed; `mouth` 0 closed, 1 wide open."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    eyes: float = 1.0
    mouth: float = 0.0


@dataclass(frozen=True, slots=True)
class Body:
    """Who, or what, stands before the camera. `depth` scales the relief: 1 a head, 0 a picture that is turned."""

    identity: int = 1
    depth: float = 1.0
    bona_fide: float = 0.95
    noise_px: float = 0.3
    likeness: float = 0.8  # cosine of two templates of this person


@dataclass(frozen=True, slots=True)
class Setting:
    """The camera's frames: width, height, frames a second, share of frames lost, jitter of the timestamps (s)."""

    width: int = 640
    height: int = 480
    fps: float = 30.0
    lost: float = 0.0
    jitter_s: float = 0.0
    latency_frames: int = 3  # until an exposure step shows


GOOD_QUALITY = FaceQuality(0.5, 0.18, 60.0, 0.0, 0.5, 0.05)


def template_of(identity: int, likeness: float = 1.0, take: int = 0) -> Template:
    """A unit vector that has cosine `likeness` with another take of the same identity, about 0 with others."""
    own = np.random.default_rng([1, identity]).normal(size=TEMPLATE_SIZE)
    own /= np.linalg.norm(own)
    other = np.random.default_rng([2, identity, take]).normal(size=TEMPLATE_SIZE)
    other -= own * (own @ other)
    other /= np.linalg.norm(other)
    share = float(np.sqrt(likeness))
    return Template((share * own + np.sqrt(1 - share * share) * other).astype(np.float32), "observed")


def observe(
    body: Body,
    held: Attitude,
    info: FrameInfo,
    *,
    luma: float = 0.45,
    quality: FaceQuality = GOOD_QUALITY,
    template: bool = True,
    bona_fide: bool = True,
) -> Observation:
    """One frame in which `body` is held so, as the pipeline would report it, with what it was asked to compute."""
    rng = np.random.default_rng([3, body.identity, info.index])
    shape = _shaped(held)
    shape[:, 2] *= body.depth
    unit_px = 0.15 * info.height
    centre = np.array([info.width / 2, info.height * 0.42])
    exact = centre + unit_px * (shape @ _rotation(held).T)[:, :2]
    points = (exact + rng.normal(0, body.noise_px, exact.shape)).astype(np.float32)
    low, high = points[OVAL].min(axis=0), points[OVAL].max(axis=0)
    face = FaceSeen(
        box=(float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])),
        detector_score=0.95,
        presence=0.99,
        points=points,
        pose=head_pose(points),
        eye_openness=eye_openness(points),
        mouth_openness=mouth_openness(points),
        quality=quality,
        bona_fide=float(np.clip(body.bona_fide + rng.normal(0, 0.03), 0, 1)) if bona_fide else None,
        template=template_of(body.identity, body.likeness, info.index + 1) if template else None,
    )
    return Observation(info, 1, face, luma)


@dataclass
class Actor:
    """Does what the screen asks for, like a person: after a reaction time, at a person's speed, and back.

    `answers` maps an action to what is done instead; `body_at` says who stands there at a time and a screen.
    """

    body: Body = field(default_factory=Body)
    reaction_s: float = 0.35
    speed_s: float = 0.25  # time to go to 1 - 1/e of a movement
    answers: dict[ChallengeKind, ChallengeKind | None] = field(default_factory=dict)
    resting: Attitude = field(default_factory=Attitude)
    body_at: Callable[[float, Screen | None], Body] | None = None
    turn_deg: float = 32.0
    further: float = 1.0  # how many times as far a turn goes once the screen asks for it
    _target: Attitude | None = None
    _due: list[tuple[float, Attitude]] = field(default_factory=list)
    _now: Attitude | None = None
    _last_s: float | None = None
    _screen: Screen | None = None

    def sees(self, screen: Screen, t_s: float) -> None:
        """The screen changed at `t_s`."""
        if screen.guidance == "further":
            self.turn_deg, self.further = self.turn_deg * self.further, 1.0
        if self._screen is None or (screen.action, screen.guidance) != (self._screen.action, self._screen.guidance):
            self._due.append((t_s + self.reaction_s, self._wanted(screen)))
            if screen.action is ChallengeKind.BLINK:
                self._due.append((t_s + self.reaction_s + 0.3, self.resting))
        self._screen = screen

    def at(self, t_s: float) -> tuple[Body, Attitude]:
        """Who stands there, and how, at `t_s`."""
        while self._due and self._due[0][0] <= t_s:
            self._target = self._due.pop(0)[1]
        now, target = self._now or self.resting, self._target or self.resting
        passed = 0.0 if self._last_s is None else t_s - self._last_s
        near = 1 - float(np.exp(-passed / self.speed_s))
        fast = 1 - float(np.exp(-passed / 0.03))  # lids are fast
        self._now = Attitude(
            now.yaw_deg + near * (target.yaw_deg - now.yaw_deg),
            now.pitch_deg + near * (target.pitch_deg - now.pitch_deg),
            now.roll_deg + near * (target.roll_deg - now.roll_deg),
            now.eyes + fast * (target.eyes - now.eyes),
            now.mouth + near * (target.mouth - now.mouth),
        )
        self._last_s = t_s
        body = self.body_at(t_s, self._screen) if self.body_at else self.body
        return body, self._now

    def _wanted(self, screen: Screen) -> Attitude:
        action = screen.action
        if action is None or screen.guidance == "come-back":
            return self.resting
        done = self.answers.get(action, action)
        return self.resting if done is None else replace(self.resting, **self._movement(done))

    def _movement(self, kind: ChallengeKind) -> dict[str, float]:
        rest = self.resting
        return {
            ChallengeKind.TURN_LEFT: {"yaw_deg": rest.yaw_deg + self.turn_deg},
            ChallengeKind.TURN_RIGHT: {"yaw_deg": rest.yaw_deg - self.turn_deg},
            ChallengeKind.LOOK_UP: {"pitch_deg": rest.pitch_deg + 25.0},
            ChallengeKind.MOUTH_OPEN: {"mouth": 0.9},
            ChallengeKind.BLINK: {"eyes": 0.0},
        }.get(kind, {})


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What came of a session: every event with its time, every effect with its time, the last state, the result."""

    events: tuple[tuple[float, Event], ...]
    effects: tuple[tuple[float, Effect], ...]
    state: machine.State
    result: SessionResult | None
    duration_s: float


def play(
    actor: Actor,
    begin: Begin,
    *,
    reference: Template | None = None,
    setting: Setting = Setting(),
    limit_s: float = 60.0,
    interrupt: Callable[[float, machine.State], Event | None] | None = None,
) -> Played:
    """A whole session between the rules and an actor; `interrupt` may put in events of its own."""
    state, clock = machine.initial(), 100.0
    events: list[tuple[float, Event]] = []
    effects: list[tuple[float, Effect]] = []
    camera = _Camera(setting)

    def send(event: Event, at_s: float) -> None:
        nonlocal state
        events.append((at_s, event))
        state, made = machine.step(state, event, at_s)
        for effect in made:
            effects.append((at_s, effect))
            if isinstance(effect, machine.Show):
                actor.sees(effect.screen, at_s - clock)
            if isinstance(effect, SetExposure):
                camera.factor_wanted = effect.factor

    send(begin, clock)
    send(Consent(given=True), clock)
    send(ReferenceReady(reference or template_of(actor.body.identity, actor.body.likeness, 0)), clock)
    for info, luma in camera.frames(limit_s):
        if state.phase is Phase.DONE:
            break
        extra = interrupt(info.t_s, state) if interrupt else None
        if extra is not None:
            send(extra, clock + info.t_s)
        body, held = actor.at(info.t_s)
        template, bona_fide = machine.wants_template(state), machine.wants_bona_fide(state)
        seen = observe(body, held, info, luma=luma, template=template, bona_fide=bona_fide)
        send(Seen(seen), clock + info.t_s)
    result = next((e.result for _, e in effects if isinstance(e, Conclude)), None)
    return Played(tuple(events), tuple(effects), state, result, events[-1][0] - clock)


@dataclass
class _Camera:
    setting: Setting
    factor_wanted: float = 1.0

    def frames(self, limit_s: float) -> Iterator[tuple[FrameInfo, float]]:
        rng = np.random.default_rng(5)
        waiting = [1.0] * max(1, self.setting.latency_frames)
        for index in range(int(limit_s * self.setting.fps)):
            waiting.append(self.factor_wanted)
            factor = waiting.pop(0)
            if rng.random() < self.setting.lost:
                continue
            t_s = index / self.setting.fps + rng.uniform(0, self.setting.jitter_s)
            luma = float(np.clip(0.4 * factor**0.45 + rng.normal(0, 0.002), 0, 1))
            exposure_us = round(10000 * factor)
            yield FrameInfo(index, t_s, self.setting.width, self.setting.height, exposure_us, 1.0), luma


def _shaped(held: Attitude) -> Vector:
    shape = np.asarray(FACE_SHAPE, np.float64) / 1000
    for eye in (RIGHT_EYE, LEFT_EYE):
        middle = shape[eye, 1].mean()
        shape[eye, 1] = middle + held.eyes * (shape[eye, 1] - middle)
    lower = slice(INNER_LIP.start + 11, INNER_LIP.stop)
    shape[lower, 1] += 0.55 * held.mouth
    shape[OVAL.start + 13 : OVAL.start + 24, 1] += 0.3 * held.mouth
    return shape


def _rotation(held: Attitude) -> Vector:
    y, p, r = np.radians([held.yaw_deg, held.pitch_deg, held.roll_deg])
    turn = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(turn @ nod @ tilt)
