"""The camera as the terminal's own thread reads it: in a session, for an order's code, and now and then between.

Each finished frame is the proof of life that feeds the manager's watchdog. What a frame means is not known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edge.clock import Clock
from edge.drivers.camera import DetailSource, Frame, FrameSource
from edge.drivers.order_code import read_code
from edge.session import machine
from edge.terminal.desk import OrderDesk
from edge.terminal.display import Preview
from edge.terminal.session import Session, overwrite
from edge.watchdog import Notifier

IDLE_FRAME_S = 0.5
TICK_S = 0.1


class Lens:
    """Not thread-safe: the terminal's own thread calls it. Each method that reads raises CameraError."""

    def __init__(self, source: FrameSource, *, timeout_s: float, clock: Clock, notifier: Notifier) -> None:
        self.film_over = False  # a video file has ended in a session
        self._source = source
        self._timeout_s = timeout_s
        self._clock = clock
        self._notifier = notifier
        self._frame_at_s: float | None = None
        self._next_idle_s = 0.0

    @property
    def finite(self) -> bool:
        return self._source.finite

    def in_session(self, session: Session) -> None:
        """Everything between two frames is here: read, look, decide."""
        source = self._source
        if session.reads_document and isinstance(source, DetailSource):
            frame = source.read_detail(self._timeout_s)
        else:
            frame = source.read(self._timeout_s)
        if frame is None:
            # A file that ended: the rules' own time limits end the session, as they would for a person who left.
            self.film_over = True
            time.sleep(TICK_S)
            session.react(machine.Tick())
            return
        session.frame(frame)
        self._done()

    def idle(self, now: float, look: Callable[[Frame], None] | None) -> bool:
        """Without a session the camera is read now and then, to know that it lives; only a technician may `look`.

        False where no frame will come any more.
        """
        if self._source.finite or (now < self._next_idle_s and look is None):
            if self._source.finite:
                self._notifier.alive(now)
            return not self.film_over
        self._next_idle_s = now + IDLE_FRAME_S
        frame = self._source.read(self._timeout_s)
        if frame is None:
            return False
        if look is not None:
            look(frame)
        overwrite(frame.image)
        self._done()
        return True

    def for_order(self, desk: OrderDesk, preview: Preview) -> None:
        """The clerk holds an order's QR code to the camera: nobody's face is looked for."""
        frame = None if self._source.finite else self._source.read(self._timeout_s)
        if frame is None:
            desk.stop_scan()
            return
        preview.offer(frame.image, mirrored=False)
        code = read_code(frame.image)
        overwrite(frame.image)
        self._done()
        if code is not None:
            desk.scanned(code)
        if not desk.scanning:
            preview.clear()

    def until_idle_s(self, now: float) -> float:
        """Seconds until the camera wants to be read again without a session."""
        return max(0.0, self._next_idle_s - now)

    def age_s(self, now: float) -> float | None:
        """Of the newest frame; None before the first."""
        return None if self._frame_at_s is None else now - self._frame_at_s

    def _done(self) -> None:
        now = self._clock.monotonic()
        self._frame_at_s = now
        self._notifier.alive(now)  # only the thread that finished a frame says so
