"""How a person moves: obeys the screen after a reaction time, overshoots, blinks, is never quite still; no pixels."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum

import numpy as np

from edge.session.decision import ChallengeKind
from edge.session.machine import Phase, Screen
from simulator.person.identity import Identity
from simulator.person.render import PersonState

_STEP_S = 1 / 120  # of the integration
_EFFORT_EACH_S, _EFFORT_MAX = 0.35, 1.4  # who is asked to go further does so, and keeps to it
_BACK_TO_REST = ("come-back", "look-straight", "close-mouth", "hold-still", "too-early")


class Obedience(Enum):
    """How a person does what the screen asks for."""

    PROMPTLY = "promptly"
    LATE = "late"  # two to four seconds later than others: reads slowly, looks at the clerk first
    WRONGLY = "wrongly"  # takes the first turn to the other side
    NOT = "not"


@dataclass(frozen=True, slots=True)
class Habits:
    """How this person moves. Times in seconds, angles in degrees.

    Reaction times after prompts on a screen: 0.3 to 1 s (simple visual reaction 0.25 s plus reading a picture);
    spontaneous blinks: 10 to 25 a minute, 100 to 400 ms (Stern et al. 1984).
    """

    reaction_s: float
    turn_deg: float
    nod_deg: float
    mouth: float
    speed: float  # natural frequency of the head's movement, 1/s
    damping: float  # under 1: overshoots
    blinks_per_minute: float
    blink_s: float
    tremor: float  # 1: usual unsteadiness
    rest_x_cm: float
    rest_y_cm: float
    rest_distance_cm: float
    rest_yaw_deg: float
    rest_pitch_deg: float
    rest_roll_deg: float


def draw_habits(who: Identity, rng: np.random.Generator) -> Habits:
    """Habits of this person on this day."""
    return Habits(
        reaction_s=float(np.clip(rng.lognormal(-0.75, 0.3) / who.pace, 0.25, 1.6)),
        turn_deg=float(np.clip(rng.normal(28, 4), 21, 38)),
        nod_deg=float(np.clip(rng.normal(21, 3), 15, 28)),
        mouth=float(np.clip(rng.normal(0.8, 0.12), 0.5, 1.0)),
        speed=float(np.clip(rng.normal(7.0, 1.2) * who.pace, 3.5, 10.0)),
        damping=float(np.clip(rng.normal(0.82, 0.12), 0.55, 1.1)),
        blinks_per_minute=float(rng.uniform(10, 25)),
        blink_s=float(rng.uniform(0.12, 0.28)),
        tremor=1.0 / who.steadiness,
        rest_x_cm=float(rng.normal(0, 1.2)),
        rest_y_cm=float(rng.normal(-1.0, 1.0)),
        rest_distance_cm=float(np.clip(rng.normal(57, 4), 48, 68)),
        rest_yaw_deg=float(rng.normal(0, 1.8)),
        rest_pitch_deg=float(rng.normal(0, 2.5)),
        rest_roll_deg=float(rng.normal(0, 1.5)),
    )


class Actor:
    """A body that is told by a screen what to do. `on_screen` may be called from any thread; `at` from one."""

    def __init__(
        self, who: Identity, seed: int = 0, habits: Habits | None = None, *, obeys: Obedience = Obedience.PROMPTLY
    ) -> None:
        self._rng = np.random.default_rng([2203, who.seed, seed])
        self.habits = habits or draw_habits(who, self._rng)
        self._obeys = obeys
        self._lock = threading.Lock()
        self._screen: Screen | None = None
        self._seen: tuple[ChallengeKind | None, int] = (None, 0)
        self._pending: tuple[float, ChallengeKind | None] | None = None
        self._action: ChallengeKind | None = None
        self._since = 0.0
        self._now: float | None = None
        h = self.habits
        # yaw, pitch, roll, x, y, distance, mouth: value, speed, slow drift
        self._rest = np.array(
            [h.rest_yaw_deg, h.rest_pitch_deg, h.rest_roll_deg, h.rest_x_cm, h.rest_y_cm, h.rest_distance_cm, 0.0]
        )
        self._value = self._rest.copy()
        self._rate = np.zeros(7)
        self._drift = np.zeros(7)
        self._blink_at: list[tuple[float, float]] = []  # start, length
        self._next_blink = 0.0
        self._gaze = np.zeros(2)
        self._next_saccade = 0.0
        self._guided = np.zeros(3)
        self._effort = 1.0  # of a movement over what comes naturally

    @property
    def action(self) -> ChallengeKind | None:
        """What the person is doing now, None when at rest."""
        return self._action

    def on_screen(self, screen: Screen) -> None:
        """The person sees this. Takes effect after the reaction time."""
        with self._lock:
            self._screen = screen

    def at(self, t_s: float) -> PersonState:
        """The body at time `t_s` (seconds, any start, never going back)."""
        if self._now is None:
            self._now = t_s
            self._next_blink = t_s + float(self._rng.exponential(60 / self.habits.blinks_per_minute))
        while self._now < t_s - 1e-9:
            step = min(_STEP_S, t_s - self._now)
            self._now += step
            self._notice(self._now)
            self._move(self._now, step)
        closed = self._lid_closure(t_s)
        yaw, pitch, roll, x, y, distance, mouth = (float(v) for v in self._value + self._drift)
        return PersonState(
            yaw_deg=yaw,
            pitch_deg=pitch,
            roll_deg=roll,
            eye_right=1.0 - closed,
            eye_left=1.0 - closed * 0.98,
            mouth=float(np.clip(mouth, 0, 1)),
            gaze_x_deg=float(np.clip(-0.55 * yaw, -20, 20) + self._gaze[0]),
            gaze_y_deg=float(np.clip(-0.55 * pitch, -15, 15) + self._gaze[1]),
            x_cm=x,
            y_cm=y,
            distance_cm=distance,
        )

    def _notice(self, now: float) -> None:
        with self._lock:
            screen = self._screen
        if screen is None or self._obeys is Obedience.NOT:
            return
        wanted = screen.action if screen.phase is Phase.CHALLENGE else None
        if wanted is ChallengeKind.EXPOSURE or screen.guidance in _BACK_TO_REST:
            wanted = None
        if (wanted, screen.step) != self._seen:
            self._seen = (wanted, screen.step)
            delay = self.habits.reaction_s * float(self._rng.lognormal(0, 0.18))
            if self._obeys is Obedience.LATE and wanted is not None:
                delay += float(self._rng.uniform(2.0, 4.0))
            self._pending = (now + delay, wanted)
        if self._pending is not None and now >= self._pending[0]:
            self._action, self._since = self._confused(self._pending[1]), now
            self._pending = None
            if self._action is ChallengeKind.BLINK:
                self._blink(now)
        self._follow_guidance(screen)

    def _confused(self, wanted: ChallengeKind | None) -> ChallengeKind | None:
        """Who obeys wrongly takes one turn to the other side, and has understood then."""
        other = {ChallengeKind.TURN_LEFT: ChallengeKind.TURN_RIGHT, ChallengeKind.TURN_RIGHT: ChallengeKind.TURN_LEFT}
        if self._obeys is not Obedience.WRONGLY or wanted not in other:
            return wanted
        self._obeys = Obedience.PROMPTLY
        return other[wanted]

    def _follow_guidance(self, screen: Screen) -> None:
        step = np.zeros(3)  # cm/s
        if screen.guidance == "too-far":
            step[2] = -9.0
        elif screen.guidance == "too-near":
            step[2] = 9.0
        elif screen.guidance == "off-centre":
            step[:2] = -6.0 * np.sign(self._rest[3:5] + self._guided[:2] - np.array([0.0, -1.0]))
        elif screen.guidance == "further":
            self._effort = min(_EFFORT_MAX, self._effort + _EFFORT_EACH_S * _STEP_S)
        self._guided += step * _STEP_S
        self._guided = np.clip(self._guided, -25, 25)

    def _move(self, now: float, step: float) -> None:
        h = self.habits
        target = self._rest.copy()
        target[3:6] += self._guided
        held = now - self._since
        active = held % 4.5 < 3.0  # holds, comes back, tries again while it is still asked
        kind = self._action
        if kind is ChallengeKind.TURN_LEFT and active:
            target[0] = h.turn_deg * self._effort  # the person's left is the right of the picture
        elif kind is ChallengeKind.TURN_RIGHT and active:
            target[0] = -h.turn_deg * self._effort
        elif kind is ChallengeKind.LOOK_UP and active:
            target[1] = h.nod_deg * self._effort
        elif kind is ChallengeKind.MOUTH_OPEN and held % 2.6 < 1.5:
            target[6] = min(1.0, h.mouth * self._effort)
        elif kind is ChallengeKind.BLINK and not self._blink_at and held > 1.1:
            self._blink(now)
            self._since = now
        speed = np.array([h.speed, h.speed, h.speed, 4.0, 4.0, 4.0, 14.0])
        damping = np.array([h.damping, h.damping, 0.9, 1.0, 1.0, 1.0, 1.0])
        pull = speed**2 * (target - self._value) - 2 * damping * speed * self._rate
        self._rate += pull * step
        self._value += self._rate * step
        # Ornstein-Uhlenbeck unsteadiness: degrees and centimetres of a standing person's head
        size = np.array([0.55, 0.5, 0.35, 0.18, 0.10, 0.22, 0.004]) * h.tremor
        self._drift += -self._drift * step / 0.8 + size * np.sqrt(2 * step / 0.8) * self._rng.standard_normal(7)
        if now >= self._next_blink:
            self._blink(now)
            self._next_blink = now + 0.4 + float(self._rng.exponential(60 / h.blinks_per_minute))
        if now >= self._next_saccade:
            self._gaze = self._rng.normal(0, 1.6, 2)
            self._next_saccade = now + float(self._rng.uniform(0.25, 1.6))
        self._blink_at = [(at, length) for at, length in self._blink_at if now < at + length]

    def _blink(self, now: float) -> None:
        deliberate = 1.5 if self._action is ChallengeKind.BLINK else 1.0
        length = float(np.clip(self.habits.blink_s * deliberate * self._rng.lognormal(0, 0.15), 0.1, 0.5))
        self._blink_at.append((now, length))

    def _lid_closure(self, now: float) -> float:
        """0 open .. 1 shut: down in a third of the blink, shut for a quarter, up in the rest."""
        shut = 0.0
        for at, length in self._blink_at:
            u = (now - at) / length
            shut = max(shut, float(np.interp(u, [0, 0.33, 0.58, 1.0], [0, 1, 1, 0])))
        return shut
