"""Whether customers can be served and what keeps them from it, told to page and manager; nothing is mended here."""

from __future__ import annotations

from collections.abc import Callable

from edge.clock import Clock
from edge.errors import VouchError
from edge.log import Log
from edge.terminal.display import Display, Service
from edge.watchdog import Notifier

_PROBE_EACH_S = 5.0


class InService:
    """Not thread-safe: the terminal's own thread calls it."""

    def __init__(
        self,
        display: Display,
        notifier: Notifier,
        clock: Clock,
        *,
        held: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        """`held`: by a technician. `changed`: the carrier should hear of it soon."""
        self.fault: str | None = None  # a short word for technician and carrier
        self._display = display
        self._notifier = notifier
        self._clock = clock
        self._held = held
        self._changed = changed
        self._probe_at_s = 0.0
        self._log = Log("terminal")

    def end(self, fault: str, exc: VouchError) -> None:
        if self.fault is None:
            self._log.error("out-of-service", exc=exc, fault=fault)
        self.fault = fault
        self._changed()
        self._probe_at_s = self._clock.monotonic() + _PROBE_EACH_S
        self.show()

    def begin_again(self) -> None:
        self.fault = None
        self._log.info("in-service-again")
        self.show()
        self._changed()

    def probe_is_due(self, now: float) -> bool:
        """Whether to see now if the fault has gone; at most every five seconds."""
        if now < self._probe_at_s:
            return False
        self._probe_at_s = now + _PROBE_EACH_S
        return True

    def show(self) -> None:
        """A fault first, then a technician's word."""
        fault = self.fault or ("technician" if self._held() else None)
        if self._display.read()[1].fault != fault:
            self._changed()
        self._display.change(service=Service.READY if fault is None else Service.OUT_OF_SERVICE, fault=fault)
        self._notifier.status("ready" if fault is None else f"out of service: {fault}")
