"""One session: events and frames into the rules, their effects out; signing and the journal are service.py's.

Owns every picture and template of the session and overwrites them when it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from edge.clock import Clock
from edge.config import DocumentSettings
from edge.drivers import document
from edge.drivers.camera import Frame, FrameSource, Image
from edge.drivers.document import CHALLENGE_PIXELS, CardReader, CardView
from edge.errors import CaptureError, CaptureFault, EvidenceError
from edge.evidence.messages import Challenge, open_portrait
from edge.log import Log
from edge.session import machine
from edge.session.comparison import Template
from edge.session.decision import Outcome, Policy, Reason, SessionResult
from edge.session.machine import Phase, Screen, SessionMeasures
from edge.session.observation import FrameInfo, Observation
from edge.session.quality import Steady

_FRAME_PHASES = frozenset({Phase.POSITION, Phase.CHALLENGE, Phase.CHECKING})


class Vision(Protocol):
    """What a session needs of `edge.vision.pipeline.Pipeline`."""

    def process(
        self, image_bgr: Image, info: FrameInfo, *, embed: bool = False, bona_fide: bool = False
    ) -> Observation: ...

    def portrait(self, image: Image) -> Template: ...

    def faces(self, image: Image) -> list[tuple[float, float, float, float]]: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What every session of this process works with."""

    source: FrameSource
    vision: Vision
    clock: Clock
    portrait_key: EllipticCurvePrivateKey
    document: DocumentSettings
    camera_timeout_s: float
    on_screen: Callable[[Screen], None]
    on_card: Callable[[CardView | None], None]
    on_frame: Callable[[Image, bool], None]  # picture, whether to mirror it


@dataclass(frozen=True, slots=True)
class SessionReport:
    """For the developer at the simulator: never a part of the result, never logged, never sent."""

    result: SessionResult
    measures: SessionMeasures | None
    counter: int | None  # in the journal; None where it could not be stored
    stage_s: dict[str, float]  # seconds in each phase
    frames: int
    vision_ms: float  # mean of a frame
    decision_ms: float  # from the last frame's arrival until the result was on the disk


@dataclass(slots=True)
class _Timing:
    phase: Phase = Phase.IDLE
    since_s: float = 0.0
    stage_s: dict[str, float] = field(default_factory=dict)
    frames: int = 0
    vision_s: float = 0.0
    last_frame_s: float = 0.0


class Session:
    """Begun with a living challenge whose nonce is spent. `result` is set when it is over; then call `wipe`.

    No exception of vision or of the rules comes out of an event: it makes the result an error. CameraError does come
    out of `frame`: what the camera's loss means for the process is not this file's to say.
    """

    def __init__(self, tools: Tools, challenge: Challenge, policy: Policy, match_threshold: float) -> None:
        self.challenge = challenge
        self.policy = policy
        self.result: SessionResult | None = None
        self.state = machine.initial()
        self._tools = tools
        self._log = Log("terminal.session")
        self._templates: list[Template] = []
        self._card: CardReader | None = None
        self._card_said: Steady[CardView] = Steady()
        self._timing = _Timing(since_s=tools.clock.monotonic())
        tools.vision.reset()
        self.react(
            machine.Begin(
                nonce=challenge.nonce,
                policy=policy,
                match_threshold=match_threshold,
                exposure_control=tools.source.exposure_control,
            )
        )

    @property
    def wants_frames(self) -> bool:
        """Whether the camera is of use now: never before consent."""
        return self.result is None and (self.state.phase in _FRAME_PHASES or self._card is not None)

    @property
    def reads_document(self) -> bool:
        """Whether frames are for reading a card, so that a finer picture is of use."""
        return self._card is not None

    def react(self, event: machine.Event) -> None:
        """One event of the person, of time, or of the camera."""
        if self.result is not None:
            return
        try:
            self._step(event)
            if self.state.phase is Phase.DOCUMENT and self._card is None and self.result is None:
                self._fetch_portrait()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must become an error result, never a match
            self._fail(exc)

    def frame(self, frame: Frame) -> None:
        """Look at one frame, then overwrite it."""
        self._timing.last_frame_s = time.perf_counter()
        try:
            if self._card is not None:
                self._look_for_card(self._card, frame)
            else:
                self._look_at_person(frame)
        except Exception as exc:  # noqa: BLE001 - as in react
            self._fail(exc)
        finally:
            overwrite(frame.image)

    def report(self, counter: int | None) -> SessionReport | None:
        """After the result was stored (or could not be)."""
        if self.result is None:
            return None
        timing = self._timing
        return SessionReport(
            result=self.result,
            measures=machine.measures(self.state),
            counter=counter,
            stage_s=dict(timing.stage_s),
            frames=timing.frames,
            vision_ms=1000 * timing.vision_s / max(1, timing.frames),
            decision_ms=1000 * (time.perf_counter() - timing.last_frame_s) if timing.last_frame_s else 0.0,
        )

    def wipe(self) -> None:
        """Overwrite every template and picture of this session."""
        for template in self._templates:
            if template.vector.flags.writeable:
                template.vector.fill(0)
        self._templates.clear()
        self._drop_card()
        self._tools.vision.close()
        self.state = machine.initial()

    def interrupt(self) -> None:
        """The process is told to stop: an error, because nobody judged anything."""
        if self.result is None:
            self._conclude_as_error("process stopped")

    def _step(self, event: machine.Event) -> None:
        now = self._tools.clock.monotonic()
        self.state, effects = machine.step(self.state, event, now)
        self._note_phase(now)
        for effect in effects:
            match effect:
                case machine.Show(screen):
                    # The outcome is shown by service.py, once it is on the disk.
                    if screen.phase is not Phase.DONE:
                        self._tools.on_screen(screen)
                case machine.SetExposure(factor):
                    self._tools.source.set_exposure(factor)
                case machine.Conclude(result):
                    self.result = result
        if self.state.phase is not Phase.DOCUMENT:
            self._drop_card()

    def _fail(self, exc: Exception) -> None:
        self._log.error("session-failed", exc=exc, phase=self.state.phase)
        self._conclude_as_error("internal error")

    def _conclude_as_error(self, last_step: str) -> None:
        self.result = SessionResult.unjudged(
            Outcome.ERROR,
            (Reason.INTERNAL,),
            consent_given=self.state.consent_given,
            consent_at_s=self.state.consent_at_s,
            steps=(*self.state.log, last_step)[-machine.MAX_LOG :],
        )

    def _fetch_portrait(self) -> None:
        """The reference, from the carrier's challenge, else from a file (development), else from a card shown to us."""
        settings, sealed = self._tools.document, self.challenge.portrait
        if settings.challenge and sealed is not None:
            self._use_portrait(lambda: document.from_bytes(self._opened(sealed), max_pixels=CHALLENGE_PIXELS))
        elif settings.file is not None:
            path = settings.file
            self._use_portrait(lambda: document.from_file(path))
        elif settings.camera:
            self._card = CardReader(self._tools.vision.faces)
            self._tools.on_card(CardView.NO_CARD)
        else:
            self._step(machine.ReferenceUnusable())

    def _opened(self, sealed: bytes) -> bytes:
        return open_portrait(sealed, self._tools.portrait_key, context=self.challenge.nonce)

    def _use_portrait(self, read: Callable[[], Image]) -> None:
        try:
            image = read()
            try:
                template = self._tools.vision.portrait(image)
            finally:
                overwrite(image)
        except EvidenceError as exc:
            self._log.warning("portrait-refused", why=exc.message)
            self._step(machine.ReferenceUnusable())
            return
        except CaptureError as exc:
            self._log.warning("portrait-unusable", fault=exc.fault)
            self._step(machine.ReferenceUnusable(several_faces=exc.fault is CaptureFault.SEVERAL_FACES))
            return
        self._templates.append(template)
        self._tools.vision.reset()
        self._step(machine.ReferenceReady(template))

    def _look_for_card(self, reader: CardReader, frame: Frame) -> None:
        self._tools.on_frame(frame.image, False)
        view = reader.offer(frame)
        self._card_said = self._card_said.then(view, frame.info.t_s)
        self._tools.on_card(self._card_said.shown or CardView.NO_CARD)
        portrait = reader.portrait
        if view is CardView.READY and portrait is not None:
            self._use_portrait(portrait.copy)
        else:
            self._step(machine.Tick())

    def _look_at_person(self, frame: Frame) -> None:
        self._tools.on_frame(frame.image, True)
        started = time.perf_counter()
        seen = self._tools.vision.process(
            frame.image,
            frame.info,
            embed=machine.wants_template(self.state),
            bona_fide=machine.wants_bona_fide(self.state),
        )
        self._timing.vision_s += time.perf_counter() - started
        self._timing.frames += 1
        if seen.face is not None and seen.face.template is not None:
            self._templates.append(seen.face.template)
        self._step(machine.Seen(seen))

    def _drop_card(self) -> None:
        if self._card is not None:
            self._card.close()
            self._card = None
            self._tools.on_card(None)

    def _note_phase(self, now: float) -> None:
        timing = self._timing
        if self.state.phase is not timing.phase:
            name = timing.phase.value
            timing.stage_s[name] = timing.stage_s.get(name, 0.0) + now - timing.since_s
            timing.phase, timing.since_s = self.state.phase, now


def overwrite(image: Image) -> None:
    """Pictures are overwritten, not merely forgotten: freed memory keeps its bytes."""
    if image.flags.writeable:
        image.fill(0)
