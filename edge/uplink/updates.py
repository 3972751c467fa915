"""Asks the carrier for updates now and then, in a thread beside the link; what comes, the terminal verifies.

A thread, since a slow server may hold a download for minutes, and results must go on meanwhile. It may die with the
process at any moment: the spool is complete or it is the one before (edge.updates.fetch).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge.clock import Clock
from edge.config import Settings
from edge.errors import UpdateError, UpdateFault
from edge.log import Log
from edge.uplink.backoff import Backoff

_FIRST_S = 30.0  # results go first after a start
_TRY_BASE_S = 60.0


class UpdateWatch:
    """`start` and `stop`; between them one attempt each `check_each_s`, spread so that no fleet comes at once."""

    def __init__(
        self, settings: Settings, clock: Clock, jitter: Callable[[], float], *, first_s: float = _FIRST_S
    ) -> None:
        """`jitter`: 0..1. Does nothing where the settings name no repository."""
        self._settings = settings
        self._clock = clock
        self._jitter = jitter
        self._first_s = first_s
        self._log = Log("uplink.updates")
        self._stopping = threading.Event()
        self._told: UpdateFault | None = None
        self._thread = threading.Thread(target=self._watch, name="updates", daemon=True)

    def start(self) -> None:
        if self._settings.updates is not None and self._settings.updates.url is not None:
            self._thread.start()

    def stop(self) -> None:
        """The thread is not waited for: it may be in a read, and has nothing to lose."""
        self._stopping.set()

    def _watch(self) -> None:
        updates = self._settings.updates
        if updates is None:
            return
        backoff = Backoff(self._jitter, base_s=_TRY_BASE_S, cap_s=float(updates.check_each_s), held_s=0.0)
        wait_s = self._first_s * (1 + self._jitter())
        while not self._stopping.wait(wait_s):
            if self._attempt():
                backoff.connected(self._clock.monotonic())
                wait_s = updates.check_each_s * (0.75 + 0.5 * self._jitter())
            else:
                wait_s = backoff.lost(self._clock.monotonic())

    def _attempt(self) -> bool:
        from edge.updates.fetch import check  # noqa: PLC0415 - seven MiB that a terminal without updates need not hold

        try:
            release = check(self._settings, self._clock.utc())
        except UpdateError as exc:
            # Once for each kind of fault in a row: an outage of days leaves one line.
            log = self._log.debug if exc.fault is self._told else self._log.warning
            log("update-not-fetched", fault=exc.fault, why=exc.message, what_to_do=exc.todo)
            self._told = exc.fault
            return False
        except Exception as exc:  # noqa: BLE001 - a thread that ends would leave a terminal that never updates
            self._log.error("update-check-failed", exc=exc)
            return False
        self._told = None
        self._log.info("update-in-spool", release=release.release)
        return True
