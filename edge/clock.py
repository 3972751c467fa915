"""Time, always passed in: the only place that reads the system's clocks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

_SYNCHRONISED_MARK = Path("/run/systemd/timesync/synchronized")


class Clock(Protocol):
    """What a component may ask about time."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def utc(self) -> int:
        """Seconds since 1970 as the system believes; may be years off."""
        ...

    def is_synchronised(self) -> bool:
        """Whether the operating system says that the clock was set from the network since boot."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def utc(self) -> int:
        return int(time.time())

    def is_synchronised(self) -> bool:
        return _SYNCHRONISED_MARK.exists()
