"""The simulated camera in a process of its own, as hardware would be, and the clock that its frames drive.

A film drops no frame that is asked for: where the machine is too slow to draw thirty a second, time on the stage and on
the terminal's monotonic clock runs slower than on the wall, so that what is decided does not depend on the load.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.clock import SystemClock
from edge.drivers.camera import Frame, SensorIdentity, SensorKind
from edge.errors import CameraError, ConfigError
from edge.provisioning import target
from edge.session.machine import Phase, Screen
from edge.session.observation import FrameInfo
from simulator.attacks import Print, PrintStage
from simulator.camera import Optics, SimulatedCamera, Stage
from simulator.cast import make_stage
from simulator.person import Person
from simulator.room import Place, draw_room
from simulator.scenario import AttackTable, PersonTable, Scenario
from simulator.species import Species

_FILMED = frozenset({Phase.POSITION, Phase.CHALLENGE, Phase.CHECKING})
_STALL_S = 5.0  # longer than a frame takes on any machine: then something hangs, and time limits must run out
_WEARER = 1_000_003  # added to the holder's seed: who wears the mask or stands behind the cut-out
_START_PATIENCE_S = 60.0  # a head is modelled in seconds, on a busy machine in many


@dataclass(frozen=True, slots=True)
class Role:
    """One presentation. `seed` says which person; the same seed is the same person."""

    species: Species
    seed: int

    @classmethod
    def parse(cls, text: str) -> Role:
        """From "person:7", "print:7", "mask:7" and so on; ConfigError otherwise."""
        name, _, seed = text.partition(":")
        known = [species.value for species in Species if not species.injected]
        try:
            species, number = Species(name), int(seed)
        except ValueError as exc:
            raise ConfigError(f"{text!r} is no actor", todo=f"write person:SEED; or {', '.join(known)}") from exc
        if species.injected:
            raise ConfigError(f"{name} replaces the camera and is no actor", todo="use vouch-sim session")
        return cls(species, number)

    def __str__(self) -> str:
        return f"{self.species.value}:{self.seed}"


class Cast:
    """A stage where one after the other comes forward: the next when a session begins; in between `idle` or nobody."""

    def __init__(self, roles: Sequence[Role], idle: Role | None = None) -> None:
        people = {role.seed: Person.from_seed(role.seed) for role in (*roles, *([idle] if idle else []))}
        self._stages = [_stage(role, people[role.seed]) for role in roles]
        self._idle = _stage(idle, people[idle.seed]) if idle else None
        self._on: Stage | None = None
        self._next = 0
        self._empty: NDArray[np.float32] | None = None

    def look(self, t_s: float, size: tuple[int, int]) -> NDArray[np.float32]:
        if self._on is not None:
            return self._on.look(t_s, size)
        if self._idle is not None:
            return self._idle.look(t_s, size)
        if self._empty is None:
            self._empty = draw_room(0, size)
        return self._empty.copy()

    def on_screen(self, screen: Screen) -> None:
        if screen.phase is Phase.IDLE:
            self._on = None
        elif self._on is None:
            self._on = self._stages[self._next % len(self._stages)]
            self._next += 1
        if self._on is not None:
            self._on.on_screen(screen)


class FilmClock(SystemClock):
    """The machine's clock, but while a session is filmed, monotonic time goes from frame to frame."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._filming = False
        self._floor_s = self._frame_s = self._wall_s = super().monotonic()

    def monotonic(self) -> float:
        since_s = super().monotonic() - self._wall_s
        if self._filming and since_s < _STALL_S:
            since_s = min(since_s, self._period_s)
        self._floor_s = max(self._floor_s, self._frame_s + since_s)
        return self._floor_s

    def on_screen(self, screen: Screen) -> None:
        """The phase says whether frames follow each other."""
        self._filming = screen.phase in _FILMED

    def wait_for(self, frame_s: float) -> None:
        """Sleep where the film would run faster than the wall."""
        time.sleep(max(0.0, self._wall_s + min(frame_s - self._frame_s, self._period_s) - super().monotonic()))

    def frame_came(self, frame_s: float) -> None:
        """Time is that of this frame now, unless it was later already."""
        self._frame_s, self._wall_s = frame_s, super().monotonic()


class Film:
    """A FrameSource whose camera and actors live in a child process; `on_screen` is what they see."""

    exposure_control = True
    finite = False

    def __init__(
        self,
        roles: Sequence[Role],
        clock: FilmClock,
        *,
        size: tuple[int, int],
        fps: float,
        seed: int = 0,
        idle: Role | None = None,
        optics: Optics | None = None,
    ) -> None:
        """Returns when the actors are ready. CameraError where the child process ends instead."""
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self._clock = clock
        self._size = size
        self._telling = threading.Lock()  # a pipe takes one sender at a time
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_film,
            args=(theirs, _Scene(tuple(roles), idle, size, fps, seed, optics), clock.monotonic()),
            name="camera",
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._receive(_START_PATIENCE_S)

    def read(self, timeout_s: float) -> Frame:
        """The next frame; CameraError when none comes within `timeout_s` on the wall clock."""
        self._tell(_Wanted(self._clock.monotonic()))
        info = self._receive(timeout_s)
        if not isinstance(info, FrameInfo):
            raise CameraError("the simulated camera speaks out of turn")
        # A copy of our own: it is overwritten after use.
        image = np.frombuffer(self._pipe.recv_bytes(), np.uint8).reshape(self._size[1], self._size[0], 3).copy()
        self._clock.wait_for(info.t_s)
        self._clock.frame_came(info.t_s)
        return Frame(image, info)

    def set_exposure(self, factor: float) -> None:
        self._tell(factor)

    def identity(self) -> SensorIdentity:
        return SensorIdentity(SensorKind.SIMULATED, "simulated camera")

    def on_screen(self, screen: Screen) -> None:
        """The actor sees this. Any thread may call."""
        self._clock.on_screen(screen)
        self._tell(screen)

    def close(self) -> None:
        self._pipe.close()
        self._process.join(2.0)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _receive(self, timeout_s: float) -> object:
        try:
            if not self._pipe.poll(timeout_s):
                raise CameraError(f"no frame within {timeout_s} s")
            return self._pipe.recv()
        except (OSError, EOFError) as exc:
            raise CameraError("the simulated camera's process has ended") from exc

    def _tell(self, message: Screen | float | _Wanted) -> None:
        try:
            with self._telling:
                self._pipe.send(message)
        except OSError as exc:
            raise CameraError("the simulated camera's process has ended") from exc


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The terminal asks for a frame, and says what time it is there."""

    now_s: float


class _StageClock(SystemClock):
    """The camera's clock in the child: set before each frame."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def monotonic(self) -> float:
        return self.now_s


@dataclass(frozen=True, slots=True)
class _Scene:
    """What the child films, and through what."""

    roles: tuple[Role, ...]
    idle: Role | None
    size: tuple[int, int]
    fps: float
    seed: int
    optics: Optics | None


class _Crew:
    """The child: draws the next frame while the terminal looks at the last one."""

    def __init__(self, scene: _Scene, start_s: float) -> None:
        self._stage = Cast(scene.roles, scene.idle)
        self._clock = _StageClock(start_s)
        self._camera = SimulatedCamera(
            self._stage, size=scene.size, fps=scene.fps, seed=scene.seed, clock=self._clock, optics=scene.optics
        )
        self._period_s = 1 / scene.fps
        self._last_s = start_s
        self._drawn: Frame | None = None

    def serve(self, pipe: Connection) -> None:
        """Until the pipe ends."""
        while True:
            if self._drawn is None and not pipe.poll():
                self._drawn = self._draw(self._last_s + self._period_s)
            message = pipe.recv()
            if isinstance(message, Screen):
                self._stage.on_screen(message)
            elif isinstance(message, _Wanted):
                frame = self._frame(message.now_s)
                pipe.send(frame.info)
                pipe.send_bytes(frame.image.reshape(-1).data)
            else:
                self._camera.set_exposure(message)

    def _frame(self, now_s: float) -> Frame:
        """The one in hand, unless it is too old because nobody asked for a while."""
        drawn, self._drawn = self._drawn, None
        if drawn is None or drawn.info.t_s < now_s - 2 * self._period_s:
            drawn = self._draw(max(now_s, self._last_s + self._period_s))
        return drawn

    def _draw(self, at_s: float) -> Frame:
        self._clock.now_s = at_s
        frame = self._camera.read(1.0)
        self._last_s = frame.info.t_s
        return frame


def _film(pipe: Connection, scene: _Scene, start_s: float) -> None:
    cv2.setNumThreads(1)  # the other cores are the terminal's
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal ends us by closing the pipe
    crew = _Crew(scene, start_s)
    try:
        pipe.send("ready")
        crew.serve(pipe)
    except (OSError, EOFError):
        return  # the terminal is gone


def _stage(role: Role, person: Person) -> Stage:
    if role.species is Species.TARGET:
        sheet = Print(width_cm=target.WIDTH_MM / 10, border_cm=0.0, gloss=0.1, halftone=0.15)
        return PrintStage(person, role.seed, how=sheet, picture=target.draw())
    attack = AttackTable(species=role.species, seed=role.seed) if role.species.attack else None
    scenario = Scenario(person=PersonTable(seed=role.seed), challenge=role.seed, attack=attack)
    needs_other = role.species in {Species.CUT_OUT, Species.MASK}
    live = Person.from_seed(role.seed + _WEARER) if needs_other else person
    return make_stage(scenario, person, live, Place(role.seed))
