"""What the kiosk page shows, handed from the session's thread to the page's: no HTTP here, no words, no judgement.

The page learns neither a score nor the reason of a refusal, not even hidden in its data: outcomes are folded to four.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import Enum

import cv2
import numpy as np

from edge.drivers.camera import Image
from edge.drivers.document import CardView
from edge.ipc import LinkState
from edge.session.decision import Outcome
from edge.session.machine import Phase, Screen
from edge.terminal.texts import Language
from edge.words import word_of

_PREVIEW_WIDTH = 480
_JPEG_QUALITY = 72
_CAMERA_PHASES = frozenset({Phase.POSITION, Phase.CHALLENGE, Phase.CHECKING})


@dataclass(frozen=True, slots=True)
class ConsentPressed:
    given: bool
    language: Language  # of the text that was on the page


@dataclass(frozen=True, slots=True)
class CancelPressed:
    pass


@dataclass(frozen=True, slots=True)
class CannotPressed:
    """The person says that this movement is not possible for them."""


@dataclass(frozen=True, slots=True)
class MoreTimePressed:
    pass


@dataclass(frozen=True, slots=True)
class HelpPressed:
    """The person wants a member of staff, or the clerk takes over."""

    by_clerk: bool


@dataclass(frozen=True, slots=True)
class StaffPressed:
    """A member of staff answers for the staff-assisted path."""

    vouches: bool  # whether person and document are the same to the eye
    number: str  # the staff number, 1 to 32 letters and digits


@dataclass(frozen=True, slots=True)
class OrderPressed:
    """The clerk names an order."""

    order: str


@dataclass(frozen=True, slots=True)
class ScanPressed:
    """The clerk wants the camera to look for an order's QR code, or no more."""

    on: bool


@dataclass(frozen=True, slots=True)
class CodeTyped:
    """The technician's one-time code, at the first boot."""

    code: str


@dataclass(frozen=True, slots=True)
class AnswerPressed:
    """The technician has the carrier's answer for the camera, or wants to see the request again."""

    on: bool


@dataclass(frozen=True, slots=True)
class AnewPressed:
    """The technician wants another request: the code or the answer is lost."""


Press = (
    ConsentPressed
    | CancelPressed
    | CannotPressed
    | MoreTimePressed
    | HelpPressed
    | StaffPressed
    | OrderPressed
    | ScanPressed
    | CodeTyped
    | AnswerPressed
    | AnewPressed
)


class Service(Enum):
    """Whether a session could start."""

    READY = "ready"
    OUT_OF_SERVICE = "out-of-service"


class DeskState(Enum):
    """Where the clerk's order stands while no session runs."""

    READY = "ready"
    WRONG_CODE = "wrong-code"  # what was scanned or typed is no order number
    ASKING = "asking"  # the carrier was asked for this order
    NO_ANSWER = "no-answer"
    NO_TICKET = "no-ticket"  # no link, and no ticket to begin without one


class PersonOutcome(Enum):
    """All that the person is told."""

    VERIFIED = "verified"
    NOT_VERIFIED = "not-verified"  # staff helps; whatever the reason was
    CANCELLED = "cancelled"
    STAFF_ASSISTED = "staff-assisted"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finished:
    """A session that is over, as the clerk may quote it; in memory only."""

    reference: str
    outcome: PersonOutcome
    order: str


class EnrolStage(Enum):
    """How far the enrolment at the first boot has come."""

    NO_KEYS = "no-keys"
    REQUEST = "request"  # the request is shown
    ANSWER = "answer"  # the camera looks for the carrier's answer
    CODE = "code"  # the answer holds; its one-time code is asked for
    INSTALLING = "installing"
    INSTALLED = "installed"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an unprovisioned terminal shows to its technician; nothing in it is secret."""

    stage: EnrolStage
    terminal: str = ""  # id, hexadecimal
    fingerprint: str = ""
    software: str = ""
    hardware_key: bool = False
    parts: tuple[str, ...] = ()  # texts of the request's QR codes
    seen: int = 0  # of the answer's parts
    total: int = 0
    tries_left: int = 0
    fault: str | None = None  # a word that the page has a text for
    detail: str = ""  # what no word of the page covers
    camera: bool = True

    def to_record(self) -> dict[str, object]:
        return {**asdict(self), "stage": self.stage.value, "parts": len(self.parts)}


@dataclass(frozen=True, slots=True)
class View:
    """The page's whole state: a page that was just loaded needs nothing else."""

    language: Language = Language.EN  # what the page begins with
    service: Service = Service.READY
    training: bool = False  # no result registers anybody: the carrier has yet to accept a first one
    fault: str | None = None  # for the technician: a short word, no detail
    link: LinkState = LinkState.DOWN
    screen: Screen = Screen(Phase.IDLE)  # noqa: RUF009 - frozen
    card: CardView | None = None  # set while a card is awaited
    reference: str | None = None  # set with the outcome: what the person may quote
    desk: DeskState = DeskState.READY
    scanning: bool = False  # the camera looks for a QR code
    order: str | None = None  # of the running session, or of the order that is asked for
    tickets: int = 0  # how many sessions could begin without a link
    finished: tuple[Finished, ...] = ()  # the newest first
    enrolment: Enrolment | None = None  # set until the terminal is enrolled: then there is nothing else to show

    def to_json(self) -> str:
        screen = asdict(self.screen)
        screen.pop("outcome")
        action = self.screen.action
        answer = self.enrolment is not None and self.enrolment.stage is EnrolStage.ANSWER
        looks_at_things = self.card is not None or self.scanning or answer
        return json.dumps(
            {
                **screen,
                "phase": self.screen.phase.value,
                "action": word_of(action) if action else None,
                "progress": round(self.screen.progress, 2),
                "time_left_s": None if self.screen.time_left_s is None else round(self.screen.time_left_s, 1),
                "outcome": outcome.value if (outcome := for_the_person(self.screen.outcome)) else None,
                "preview": looks_at_things or self.screen.phase in _CAMERA_PHASES,
                "mirrored": not looks_at_things,
                "card": self.card.value if self.card else None,
                "reference": self.reference,
                "language": self.language.value,
                "service": self.service.value,
                "training": self.training,
                "fault": self.fault,
                "link": word_of(self.link),
                "desk": self.desk.value,
                "scanning": self.scanning,
                "order": self.order,
                "tickets": self.tickets,
                "enrolment": self.enrolment.to_record() if self.enrolment else None,
                "finished": [
                    {"reference": one.reference, "outcome": one.outcome.value, "order": one.order}
                    for one in self.finished
                ],
            }
        )


class Display:
    """The present view and who wants to hear of the next one. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._view = View()
        self._version = 0
        self._listeners: set[Callable[[], None]] = set()

    def change(self, **fields: object) -> None:
        """Replace fields of the view; listeners hear of it only where something changed."""
        with self._lock:
            view = replace(self._view, **fields)  # type: ignore[arg-type]
            if view == self._view:
                return
            self._view = view
            self._version += 1
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def read(self) -> tuple[int, View]:
        with self._lock:
            return self._version, self._view

    def nudge(self) -> None:
        """Call every listener although nothing changed: the page's server ends."""
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """`listener` is called in the changing thread after each change, and must not block; returns how to stop it."""
        with self._lock:
            self._listeners.add(listener)

        def stop() -> None:
            with self._lock:
                self._listeners.discard(listener)

        return stop


class Preview:
    """The newest small picture for the page: in memory only, only while somebody watches, overwritten when cleared."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._viewers = 0
        self._small: Image | None = None
        self._number = 0

    def offer(self, image: Image, *, mirrored: bool) -> None:
        """Keep a small copy of this frame, where a viewer is."""
        with self._changed:
            if self._viewers == 0:
                return
            height = round(image.shape[0] * _PREVIEW_WIDTH / image.shape[1])
            small = np.asarray(cv2.resize(image, (_PREVIEW_WIDTH, height), interpolation=cv2.INTER_LINEAR), np.uint8)
            if mirrored:
                small = np.ascontiguousarray(small[:, ::-1])
            self._wipe()
            self._small = small
            self._number += 1
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self._wipe()

    def watch(self) -> None:
        with self._changed:
            self._viewers += 1

    def unwatch(self) -> None:
        with self._changed:
            self._viewers -= 1
            if self._viewers == 0:
                self._wipe()

    def next_jpeg(self, after: int, timeout_s: float) -> tuple[int, bytes] | None:
        """The newest picture with a number above `after`, encoded; None when none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._small is not None and self._number > after, timeout_s)
            if self._small is None or self._number <= after:
                return None
            number, taken = self._number, self._small.copy()
        # Outside the lock: the camera's thread never waits for an encoder.
        _, jpeg = cv2.imencode(".jpg", taken, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
        taken.fill(0)
        return number, jpeg.tobytes()

    def _wipe(self) -> None:
        if self._small is not None:
            self._small.fill(0)
            self._small = None


def for_the_person(outcome: Outcome | None) -> PersonOutcome | None:
    """All refusals are one: neither page nor clerk learns an attack from another face."""
    match outcome:
        case None:
            return None
        case Outcome.MATCH:
            return PersonOutcome.VERIFIED
        case Outcome.CANCELLED:
            return PersonOutcome.CANCELLED
        case Outcome.STAFF_ASSISTED:
            return PersonOutcome.STAFF_ASSISTED
        case Outcome.ERROR:
            return PersonOutcome.ERROR
        case _:
            return PersonOutcome.NOT_VERIFIED
