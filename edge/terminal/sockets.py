"""Listening sockets: those that systemd opened for us, since this process has no network, and the technician's own.

This process listens on loopback alone. A USB cable is brought there by another one, which the kernel binds to the
gadget's interface (systemd/optional/vouch-technician-usb.socket).
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping

from edge.config import TechnicianSettings
from edge.errors import ConfigError
from edge.log import Log
from edge.terminal.web import listening, loopback_hosts

KIOSK, TECHNICIAN = "kiosk", "technician"  # FileDescriptorName= of the units
_FIRST_LISTEN_FD = 3  # sd_listen_fds(3)


def inherited_sockets(environ: Mapping[str, str] = os.environ) -> dict[str, list[socket.socket]]:
    """By the name that the unit gives them; without names, the first is the kiosk's. Empty where there are none."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", KIOSK).split(":")
    found: dict[str, list[socket.socket]] = {}
    for number in range(count):
        name = names[number] if number < len(names) else "unknown"
        found.setdefault(name, []).append(socket.socket(fileno=_FIRST_LISTEN_FD + number))
    return found


def technician_sockets(settings: TechnicianSettings, inherited: list[socket.socket]) -> list[socket.socket]:
    """Where the technician's page listens: the inherited ones that are private, else the port that the settings name.

    None at all where neither can be: that is said in the log, and no reason not to serve customers.
    """
    log = Log("terminal.technician")
    private = []
    for sock in inherited:
        if is_private(sock):
            private.append(sock)
        else:
            log.error("socket-refused", address=str(sock.getsockname()[0]))
            sock.close()
    if inherited:
        return private
    try:
        return [listening("127.0.0.1", settings.port, section="technician")]
    except ConfigError as exc:
        log.warning("no-page", why=exc.message)
        return []


def is_private(sock: socket.socket) -> bool:
    """Bound to loopback."""
    try:
        return ipaddress.ip_address(str(sock.getsockname()[0])).is_loopback
    except (OSError, ValueError):
        return False


def hosts_of(sockets: list[socket.socket], gadget_address: str | None) -> set[str]:
    """The Host headers by which a browser reaches these sockets, over a USB cable too where there is one."""
    found: set[str] = set()
    for sock in sockets:
        port = sock.getsockname()[1]
        found |= loopback_hosts(port)
        if gadget_address is not None:
            found.add(f"{gadget_address}:{port}")
    return found
