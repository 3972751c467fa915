"""The technician's way through an enrolment at the kiosk: request shown, answer read, code typed; no camera, no page.

Every bundle is checked as soon as it is whole, so that what is wrong is said before a code is asked for. A request
bears five wrong codes: then it ends, and with it every answer and code that was made for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge import __version__
from edge.drivers.camera import Image
from edge.errors import BundleFault, ProvisioningError, VouchError
from edge.provisioning import identity, installation, qr
from edge.provisioning.camera import CodeReader
from edge.provisioning.handover import Handover
from edge.provisioning.installation import Checked
from edge.provisioning.qr import Kind
from edge.terminal.display import Enrolment, EnrolStage

TRIES = 5
# Faults beside BundleFault: what the camera or the installation said.
NOT_OURS = "not-ours"  # a QR code, but no part of a carrier's answer
OTHER_ANSWER = "other-answer"  # a part of another answer than the one that was being read
TOO_MANY = "too-many"  # wrong codes: the request has ended
NOT_INSTALLED = "not-installed"  # the detail says why
_READING = frozenset({EnrolStage.REQUEST, EnrolStage.ANSWER})


class Enrolling:
    """One thread calls. `show` gets the view after each change."""

    def __init__(self, folder: Path, handover: Handover, show: Callable[[Enrolment], None]) -> None:
        self.view = Enrolment(EnrolStage.NO_KEYS, software=__version__)
        self._folder = folder
        self._handover = handover
        self._show = show
        self._reader = CodeReader(Kind.BUNDLE)
        self._refused = ""  # the message that was refused last: it stays in front of the camera for a while
        self._answer: tuple[bytes, Checked] | None = None
        self._request = b""
        show(self.view)
        self.follow()

    def follow(self) -> None:
        """See what lies in the folder now: somebody at a console may make keys, ask anew, or install."""
        if (self._folder / identity.SETTINGS).exists():
            self._change(stage=EnrolStage.INSTALLED, fault=None)
            return
        try:
            if not (self._folder / identity.IDENTITY).exists():
                self._change(stage=EnrolStage.NO_KEYS, fault=None, detail="")
                return
            asked = identity.waiting(self._folder)
            if asked is None:
                self._handover.ask_anew()
                asked = identity.waiting(self._folder)
        except VouchError as exc:
            self._change(stage=EnrolStage.NO_KEYS, fault=NOT_INSTALLED, detail=exc.diagnostics())
            return
        if asked is not None and asked.message != self._request:
            self._request = asked.message
            self._forget()
            self._change(
                stage=EnrolStage.REQUEST,
                terminal=asked.request.terminal_id.hex(),
                fingerprint=asked.request.fingerprint,
                hardware_key=bool(asked.request.key_store),
                parts=qr.for_screen(asked.message),
                tries_left=TRIES,
                detail="",
            )

    def camera(self, *, works: bool) -> None:
        self._change(camera=works)

    def picture(self, image: Image) -> None:
        """What the camera sees: perhaps a part of the answer."""
        if self.view.stage not in _READING:
            return
        before = self._reader.collector.message_id
        new = self._reader.look(image)
        collector = self._reader.collector
        if new and collector.message_id != self._refused:
            other = before not in ("", self._refused, collector.message_id)
            fault = OTHER_ANSWER if other else None
            self._change(stage=EnrolStage.ANSWER, seen=collector.seen, total=collector.total, fault=fault)
        elif self._reader.complaint is not None and not self._refused:
            self._change(fault=NOT_OURS)
        if self._reader.message is not None:
            message, name = self._reader.message, collector.message_id
            self._reader = CodeReader(Kind.BUNDLE)
            if name != self._refused:
                self.bundle(message)
                self._refused = name if self._answer is None else ""

    def bundle(self, message: bytes) -> None:
        """A whole answer, from the camera or from a stick."""
        if self.view.stage not in _READING:
            return
        try:
            checked = installation.check(self._folder, message)
        except VouchError as exc:
            self._refuse(exc)
            return
        self._answer = (message, checked)
        self._change(stage=EnrolStage.CODE, fault=None, detail="", seen=0, total=0)

    def look_for_answer(self, *, on: bool) -> None:
        """The technician turns to the answer, or back to the request."""
        if self.view.stage in (*_READING, EnrolStage.CODE):
            self._forget()
            self._change(stage=EnrolStage.ANSWER if on else EnrolStage.REQUEST)

    def code(self, code: str) -> None:
        """The one-time code was typed."""
        if self._answer is None or self.view.stage is not EnrolStage.CODE:
            return
        message, checked = self._answer
        self._change(stage=EnrolStage.INSTALLING, fault=None, detail="")
        try:
            installation.check_code(self._folder, checked, code)
            self._handover.install(message, code)
        except VouchError as exc:
            self._wrong_code(exc)
            return
        self.follow()

    def ask_anew(self) -> None:
        """Another request; answers to the former one are worth nothing from now on."""
        if self.view.stage not in (*_READING, EnrolStage.CODE):
            return
        try:
            self._handover.ask_anew()
        except VouchError as exc:
            self._refuse(exc)
            return
        self.follow()

    def _wrong_code(self, exc: VouchError) -> None:
        if not isinstance(exc, ProvisioningError) or exc.fault is not BundleFault.CODE:
            self._change(stage=EnrolStage.CODE)
            self._refuse(exc)
            return
        left = self.view.tries_left - 1
        self._change(stage=EnrolStage.CODE, fault=BundleFault.CODE.value, tries_left=left)
        if left <= 0:
            self.ask_anew()
            if self.view.stage is EnrolStage.REQUEST:
                self._change(fault=TOO_MANY)

    def _refuse(self, exc: VouchError) -> None:
        known = exc.fault if isinstance(exc, ProvisioningError) else None
        fault = known.value if known is not None else NOT_INSTALLED
        stage = self.view.stage if self.view.stage is EnrolStage.CODE else EnrolStage.ANSWER
        self._change(stage=stage, fault=fault, detail="" if known else exc.diagnostics(), seen=0, total=0)

    def _forget(self) -> None:
        self._reader = CodeReader(Kind.BUNDLE)
        self._refused = ""
        self._answer = None
        self._change(fault=None, detail="", seen=0, total=0)

    def _change(self, **fields: object) -> None:
        view = replace(self.view, **fields)  # type: ignore[arg-type]
        if view != self.view:
            self.view = view
            self._show(view)
