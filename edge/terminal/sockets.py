"""Listening sockets: those that systemd opened for us, since this process has no network, and the technician's own.

The technician's page may be reached over loopback and over the USB-Ethernet gadget, by nobody else. A socket is taken
only when it is bound to loopback, or to a link-local address and to a gadget's interface by the kernel itself.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Mapping

from edge.config import TechnicianSettings
from edge.errors import ConfigError
from edge.log import Log
from edge.terminal.web import listening, loopback_hosts

KIOSK, TECHNICIAN = "kiosk", "technician"  # FileDescriptorName= of the units
_FIRST_LISTEN_FD = 3  # sd_listen_fds(3)
_GADGET = re.compile(r"usb\d{1,2}")
_INTERFACE_NAME_SIZE = 16  # IFNAMSIZ


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
    """Where the technician's page listens: the inherited ones that are private, else those that the settings name.

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
        private.append(listening("127.0.0.1", settings.port, section="technician"))
    except ConfigError as exc:
        log.warning("no-page", why=exc.message)
        return []
    if settings.gadget_address is not None:
        try:
            private.append(_on_gadget(settings, private[0].getsockname()[1]))
        except ConfigError as exc:
            log.warning("no-gadget", why=exc.message)
    return private


def is_private(sock: socket.socket) -> bool:
    """Bound to loopback; or to a link-local address on an interface that is a USB gadget's, by SO_BINDTODEVICE."""
    try:
        address = ipaddress.ip_address(str(sock.getsockname()[0]))
        device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _INTERFACE_NAME_SIZE)
    except (OSError, ValueError):
        return False
    name = device.rstrip(b"\0").decode("ascii", "replace")
    return address.is_loopback or (address.is_link_local and _GADGET.fullmatch(name) is not None)


def hosts_of(sockets: list[socket.socket]) -> set[str]:
    """The Host headers by which a browser reaches these sockets."""
    found: set[str] = set()
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        if ipaddress.ip_address(host).is_loopback:
            found |= loopback_hosts(port)
        else:
            found.add(f"{host}:{port}")
    return found


def _on_gadget(settings: TechnicianSettings, port: int) -> socket.socket:
    return listening(str(settings.gadget_address), port, section="technician", device=settings.gadget_interface)
