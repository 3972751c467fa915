"""Process 1 before its carrier knows it: camera and page for the enrolment, and nothing else; no session, no uplink.

The rules are enrolling.py's; here are the camera, the sticks, the page and the loop. It ends when terminal.toml is
there, and the same process goes on as the terminal.
"""

from __future__ import annotations

import logging
import queue
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edge import config, durable
from edge.config import INTERRUPTED, CameraSettings, IdentitySettings, KioskSettings
from edge.drivers.camera import FrameSource, open_source
from edge.errors import VouchError
from edge.log import Log, setup
from edge.provisioning.enrolment import BUNDLE_LIMIT
from edge.provisioning.handover import handover_to
from edge.provisioning.identity import IDENTITY
from edge.terminal import first_boot_page
from edge.terminal.display import (
    AnewPressed,
    AnswerPressed,
    CodeTyped,
    Display,
    Enrolment,
    EnrolStage,
    Press,
    Preview,
)
from edge.terminal.enrolling import Enrolling
from edge.terminal.kiosk import KioskServer
from edge.terminal.session import overwrite
from edge.terminal.sockets import KIOSK, inherited_sockets
from edge.terminal.texts import Language
from edge.watchdog import Notifier

_FOLLOW_EACH_S = 1.0
_CAMERA_AGAIN_S = 5.0
_WAIT_S = 0.1
_SHOWN_S = 2.0  # that it is done, before the page begins anew as a terminal's
_KIOSK_LOST = 3
_STICK_FILES_MAX = 16
_INBOX_LIMIT = 16

OpenCamera = Callable[[CameraSettings], FrameSource]


def main(folder: Path, *, verbose: bool = False, open_camera: OpenCamera = open_source) -> int | None:
    """Serve the first boot; None once this terminal is enrolled, else the process's exit code. ConfigError."""
    setup("terminal", level=logging.DEBUG if verbose else logging.INFO)
    boot = FirstBoot(folder, open_camera=open_camera, notifier=Notifier.from_environment())
    former = {number: signal.signal(number, lambda *_: boot.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return boot.run(inherited=_kiosk_socket())
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class FirstBoot:
    """`run` blocks until the terminal is enrolled or `stop` is called."""

    def __init__(self, folder: Path, *, open_camera: OpenCamera, notifier: Notifier) -> None:
        self.display = Display()
        self.preview = Preview()
        self.page: KioskServer | None = None
        self._folder = folder
        self._open_camera = open_camera
        self._notifier = notifier
        self._log = Log("terminal.first-boot")
        self._inbox: queue.Queue[Press] = queue.Queue(_INBOX_LIMIT)
        self._source: FrameSource | None = None
        self._timeout_s = 0.0
        self._camera_due_s = 0.0
        self._follow_due_s = 0.0
        self._sticks_seen: set[tuple[Path, int, int]] = set()
        self._stopping = False
        self._stage: EnrolStage | None = None
        self._enrolling = Enrolling(folder, handover_to(folder), self._show)

    def stop(self) -> None:
        self._stopping = True

    def run(self, *, inherited: socket.socket | None = None) -> int | None:
        """None: enrolled. 0: stopped. 3: the page was lost."""
        own = self._own()
        kiosk = own.kiosk if own is not None else KioskSettings()
        self.display.change(language=Language(kiosk.language))
        more = first_boot_page.routes(self.display, self._press)
        page = self.page = KioskServer(kiosk, self.display, self.preview, self._press, inherited=inherited, more=more)
        page.start()
        self._log.info("first-boot", kiosk_url=page.url)
        self._notifier.ready("not enrolled yet: see the kiosk page")
        try:
            return self._loop(page)
        finally:
            if self._source is not None:
                self._source.close()
            page.stop()

    def _loop(self, page: KioskServer) -> int | None:
        while not self._stopping:
            if page.failed:
                return _KIOSK_LOST
            now = time.monotonic()
            self._take_presses()
            if now >= self._follow_due_s:
                self._follow_due_s = now + _FOLLOW_EACH_S
                self._enrolling.follow()
                self._look_at_sticks()
            if self._enrolling.view.stage is EnrolStage.INSTALLED and not self._interrupted:
                self._log.info("enrolled")
                time.sleep(_SHOWN_S)
                return None
            self._look(now)
            self._notifier.alive(now)  # without a camera too: a restart brings none, and a stick serves
        return 0

    @property
    def _interrupted(self) -> bool:
        """Settings are written before the last files of an installation: it must be whole."""
        return any((self._folder / name).exists() for name in INTERRUPTED)

    def _own(self) -> IdentitySettings | None:
        path = self._folder / IDENTITY
        return config.load_identity(path) if path.exists() else None

    def _look(self, now: float) -> None:
        """One picture of the camera, for the technician's eye and for its QR codes; it is overwritten."""
        if self._source is None and not self._camera_opens(now):
            time.sleep(_WAIT_S)
            return
        assert self._source is not None
        try:
            frame = self._source.read(self._timeout_s)
        except VouchError as exc:
            self._camera_gone(now, exc)
            return
        if frame is None:
            self._camera_gone(now, None)
            return
        self._enrolling.picture(frame.image)
        if self._enrolling.view.stage is EnrolStage.ANSWER:
            self.preview.offer(frame.image, mirrored=False)
        overwrite(frame.image)

    def _camera_opens(self, now: float) -> bool:
        if now < self._camera_due_s or (own := self._own()) is None:
            return False
        self._timeout_s = own.camera.timeout_s
        try:
            self._source = self._open_camera(own.camera)
        except VouchError as exc:
            self._camera_gone(now, exc)
            return False
        self._enrolling.camera(works=True)
        return True

    def _camera_gone(self, now: float, exc: VouchError | None) -> None:
        """A stick serves without one; and somebody may put its cable in."""
        if self._enrolling.view.camera:
            self._log.warning("no-camera", why="it ended" if exc is None else exc.message)
        self._enrolling.camera(works=False)
        self._camera_due_s = now + _CAMERA_AGAIN_S
        if self._source is not None:
            self._source.close()
            self._source = None

    def _look_at_sticks(self) -> None:
        own = self._own()
        if own is None or self._enrolling.view.stage not in (EnrolStage.REQUEST, EnrolStage.ANSWER):
            return
        for path, mark in _answers_below(own.sticks, own.terminal_id):
            if mark in self._sticks_seen:
                continue
            self._sticks_seen.add(mark)
            try:
                with durable.open_plain(path) as file:
                    message = file.read(BUNDLE_LIMIT + 1)
            except OSError as exc:
                self._log.warning("stick-unreadable", why=exc.strerror)
                continue
            self._enrolling.bundle(message)
            return

    def _take_presses(self) -> None:
        while True:
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return
            match item:
                case CodeTyped(code):
                    self._enrolling.code(code)
                case AnswerPressed(on):
                    self._sticks_seen.clear()
                    self.preview.clear()
                    self._enrolling.look_for_answer(on=on)
                case AnewPressed():
                    self._enrolling.ask_anew()
                case _:
                    pass  # a press of the terminal's page, in a browser that has yet to hear of this one

    def _press(self, item: Press) -> None:
        try:
            self._inbox.put_nowait(item)
        except queue.Full:
            self._log.warning("inbox-full", kind=type(item).__name__)

    def _show(self, view: Enrolment) -> None:
        if view.stage is not self._stage or view.fault:
            self._log.info("enrolment", stage=view.stage.value, fault=view.fault)
        self._stage = view.stage
        self.display.change(enrolment=view)


def _kiosk_socket() -> socket.socket | None:
    """A copy of what systemd opened for the page: the terminal, later in this process, takes the socket itself."""
    given = inherited_sockets()
    copy = next((sock.dup() for sock in given.get(KIOSK, [])), None)
    for found in given.values():
        for sock in found:
            sock.detach()
    return copy


def _answers_below(root: Path, terminal_id: str) -> Iterator[tuple[Path, tuple[Path, int, int]]]:
    """Bundles on sticks, at most two folders below, those that bear our name first, each with what tells it from
    another of that name.
    """
    try:
        found = [path for pattern in ("*.vouch", "*/*.vouch", "*/*/*.vouch") for path in root.glob(pattern)]
    except OSError:  # a stick that was pulled out while we looked
        return
    for path in sorted(found, key=lambda path: (path.stem != terminal_id, path))[:_STICK_FILES_MAX]:
        try:
            seen = path.stat()
        except OSError:
            continue
        yield path, (path, seen.st_mtime_ns, seen.st_size)
