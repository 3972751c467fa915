"""What a technician may do to a running terminal: examine, focus the lens, hold it out of service; no HTTP, no socket.

The terminal's main thread owns the camera and lends it: it asks `wants_frames` and hands frames in, while no session is
open. A session goes first: live focus ends when one begins, so that no technician ever sees a customer; only while an
examination watches the camera, for some seconds, a session waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge import durable
from edge.drivers.camera import Frame
from edge.errors import BusyError, ProvisioningError, StorageError, VouchError
from edge.log import Log
from edge.provisioning.camera_checks import LiveFocus, Looks
from edge.provisioning.doctor import Light
from edge.provisioning.examination import Examination, Report
from edge.provisioning.probe import Instruments
from edge.terminal.context import SOFTWARE_VERSION
from edge.terminal.display import Preview

HOLD_NAME = "out-of-service"
# The page asks for live focus again and again; a phone that was put away does not.
_ASSIST_S = 5.0


@dataclass(frozen=True, slots=True)
class Nudge:
    """For the main thread's inbox: look at the workbench, something changed."""


@dataclass(frozen=True, slots=True)
class Assist:
    """Live focus as it is now; `best` is the highest figure since it began."""

    figure: int | None
    best: int | None
    light: Light


class Workbench:
    """Any thread may call; `frame`, `camera_lost` and `session_begins` are the main thread's."""

    def __init__(
        self, instruments: Instruments, *, in_session: Callable[[], bool], wake: Callable[[Nudge], None]
    ) -> None:
        self.preview = Preview()
        self.instruments = instruments
        self._in_session = in_session
        self._wake = wake
        self._log = Log("terminal.workbench")
        self._lock = threading.Lock()
        self._hold_path: Path = instruments.settings.state_dir / HOLD_NAME
        self._held = self._hold_path.exists()
        self._examination: Examination | None = None
        self._live: LiveFocus | None = None
        self._live_until_s = 0.0
        self._best: int | None = None

    def examine(self) -> Examination:
        """Begin to examine, or join the examination that runs. BusyError while a session is open."""
        with self._lock:
            running = self._examination
            if running is not None and not running.over:
                return running
            if self._in_session():
                raise BusyError("a customer is being verified", todo="run it again in a minute")
            self._examination = Examination(self.instruments, software=SOFTWARE_VERSION, by="terminal")
            examination = self._examination
        self._log.info("examination-begins")
        examination.start()
        self._wake(Nudge())
        return examination

    @property
    def examination(self) -> Examination | None:
        """The one that runs, or the last one."""
        return self._examination

    def last_report(self) -> Report | None:
        examination = self._examination
        return examination.report() if examination is not None and examination.over else None

    def assist(self) -> Assist | None:
        """Ask for live focus for the next seconds, and hear how it stands; None while a session is open."""
        with self._lock:
            if self._in_session():
                return None
            if self._live is None:
                looks = self.instruments.looks
                self._live, self._best = LiveFocus(looks if isinstance(looks, Looks) else None), None
            self._live_until_s = time.monotonic() + _ASSIST_S
            live, best = self._live, self._best
        self._wake(Nudge())
        return Assist(live.figure, best, live.light)

    @property
    def held(self) -> bool:
        """Whether a technician has taken the terminal out of service; survives a restart."""
        return self._held

    def hold(self, held: bool) -> None:
        """Take the terminal out of service, or back. ProvisioningError where that cannot be kept on the disk."""
        with self._lock:
            try:
                if held:
                    durable.write(self._hold_path, b"by a technician\n", durable.SECRET)
                else:
                    durable.remove(self._hold_path)
            except StorageError as exc:
                raise ProvisioningError(exc.message, todo=exc.todo) from exc
            self._held = held
        self._log.info("held" if held else "released")
        self._wake(Nudge())

    # The main thread's

    @property
    def occupied(self) -> bool:
        """Whether a session must wait: an examination is watching the camera."""
        examination = self._examination
        return examination is not None and examination.wants_frames

    @property
    def wants_frames(self) -> bool:
        return self.occupied or (self._live is not None and self._living())

    def frame(self, frame: Frame) -> None:
        """Look at one frame; the caller overwrites it."""
        examination = self._examination
        if examination is not None and examination.wants_frames:
            examination.frame(frame)
        live = self._live
        if live is not None and self._living():
            live.look(frame)
            if live.figure is not None:
                self._best = max(self._best or 0, live.figure)
            self.preview.offer(frame.image, mirrored=False)

    def camera_lost(self, exc: VouchError) -> None:
        examination = self._examination
        if examination is not None:
            examination.camera_lost(exc)

    def session_begins(self) -> None:
        """The customer is nobody's test picture."""
        self._end_assist()

    def stop(self) -> None:
        examination = self._examination
        if examination is not None:
            examination.abandon()
        self._end_assist()

    def _living(self) -> bool:
        if time.monotonic() < self._live_until_s:
            return True
        self._end_assist()
        return False

    def _end_assist(self) -> None:
        with self._lock:
            live, self._live = self._live, None
        if live is not None:
            live.forget()
            looks = self.instruments.looks
            if isinstance(looks, Looks):
                looks.vision.close()
        self.preview.clear()
