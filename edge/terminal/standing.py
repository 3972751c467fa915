"""How this terminal stands with its carrier: unprovisioned until the first accepted receipt; no session, no keys here.

Until then every result says training or self-test: nobody's number is registered by a terminal whose way to the carrier
and back was never seen to work.
"""

from __future__ import annotations

import threading
from pathlib import Path

from edge import durable
from edge.errors import StorageError
from edge.evidence.claims import Mode
from edge.log import Log


class Standing:
    """Any thread may call any method."""

    def __init__(self, path: Path) -> None:
        """`path`: keeps the receipt that made this terminal provisioned."""
        self._path = path
        self._lock = threading.Lock()
        self._provisioned = path.exists()
        self._log = Log("terminal.standing")

    @property
    def provisioned(self) -> bool:
        return self._provisioned

    def accepted(self, receipt: bytes) -> bool:
        """The carrier accepted a result of ours, by this verified receipt; whether that made us provisioned.

        The receipt is kept first, then believed.
        """
        with self._lock:
            if self._provisioned:
                return False
            try:
                durable.write(self._path, receipt, durable.SECRET)
            except StorageError as exc:
                self._log.warning("receipt-not-kept", why=exc.message)
                return False
            self._provisioned = True
        self._log.info("provisioned")
        return True

    def mode(self, *, hardware_key: bool, self_test: bool) -> Mode:
        """Claim -70016 of a result that is made now."""
        if self_test:
            return Mode.SELF_TEST
        if not self._provisioned:
            return Mode.TRAINING
        return Mode.PRODUCTION if hardware_key else Mode.DEGRADED
