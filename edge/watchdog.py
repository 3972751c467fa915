"""What both processes tell systemd (sd_notify): ready, alive, one line of state; when to tell it, the caller knows.

The protocol is one datagram of `NAME=value` lines to the Unix socket in $NOTIFY_SOCKET (sd_notify(3)). Without a
manager every call does nothing, so that the same process runs on a developer's desk.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from edge.log import Log

_FEED_EACH_S = 2.0


class Notifier:
    """Sends to the service manager, if there is one. Never raises: a deaf manager is no reason to stop a session."""

    def __init__(self, address: str | None) -> None:
        """`address` is a path, or a name in the abstract namespace that starts with "@"; None: no manager."""
        self._log = Log("watchdog")
        self._socket: socket.socket | None = None
        self._fed_at_s = float("-inf")
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        return cls(environ.get("NOTIFY_SOCKET"))

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def alive(self, now: float) -> None:
        """Feed the watchdog, every two seconds at most; `now`: seconds of one monotonic clock."""
        if now - self._fed_at_s >= _FEED_EACH_S:
            self._fed_at_s = now
            self._send("WATCHDOG=1")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_line(status)}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as exc:
            self._log.debug("manager-deaf", detail=exc.strerror)


def _line(text: str) -> str:
    return text.replace("\n", " ")
