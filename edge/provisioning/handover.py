"""What the page at the first boot asks of whoever may write the identity's folder: install an answer, or ask anew.

On the box the terminal's process, which reads the camera and serves the page, may write neither the settings nor the
uplink's certificate. systemd hands its words over a Unix socket to `vouch provision handover`, which has no camera, no
page and no network, and which believes nothing: every check is made again. On a desk the process does it itself.

    request   [1, bundle, code] or [2]        CBOR, then the end of the stream
    answer    [] or [fault, message, what to do]
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import BinaryIO, Protocol

from edge.errors import BundleFault, EvidenceError, ProvisioningError, VouchError
from edge.evidence import cbor
from edge.evidence.schema import items, octets, text, uint
from edge.provisioning import identity, installation
from edge.provisioning.enrolment import BUNDLE_LIMIT

SOCKET = Path("/run/vouch-install.sock")  # systemd/vouch-install.socket
CODE_LIMIT = 64  # characters of a code as it is typed
_INSTALL, _ASK_ANEW = 1, 2
_REQUEST_LIMIT = BUNDLE_LIMIT + CODE_LIMIT + 16
_ANSWER_LIMIT = 4096
_LINE_LIMIT = 1200  # bytes of a text in the answer
_NO_FAULT = "-"
_PATIENCE_S = 60.0  # a token on a Pi signs within seconds


class Handover(Protocol):
    """Both raise ProvisioningError, ConfigError, SignerError or StorageError."""

    def install(self, message: bytes, code: str) -> None:
        """Put the carrier's bundle in force."""
        ...

    def ask_anew(self) -> None:
        """Replace the request that waits, or make one where none does."""
        ...


def handover_to(folder: Path) -> Handover:
    """Ourselves, where this process may write the folder; else the helper."""
    return Directly(folder) if os.access(folder, os.W_OK) else ByHelper(SOCKET)


class Directly:
    """By the hand of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def install(self, message: bytes, code: str) -> None:
        self._refuse_enrolled()
        installation.install(self._folder, message, code=code)

    def ask_anew(self) -> None:
        self._refuse_enrolled()
        identity.ask_anew(self._folder)

    def _refuse_enrolled(self) -> None:
        """Whoever reaches the socket later can change nothing any more."""
        if (self._folder / identity.SETTINGS).exists():
            raise ProvisioningError("this terminal is enrolled already", todo="renew it, or reset it first")


class ByHelper:
    """Another process writes, and answers over this socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def install(self, message: bytes, code: str) -> None:
        self._ask([_INSTALL, message, code[:CODE_LIMIT]])

    def ask_anew(self) -> None:
        self._ask([_ASK_ANEW])

    def _ask(self, request: list[object]) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
                link.settimeout(_PATIENCE_S)
                link.connect(str(self._path))
                link.sendall(cbor.encode(request))
                link.shutdown(socket.SHUT_WR)
                with link.makefile("rb") as stream:
                    answer = stream.read(_ANSWER_LIMIT + 1)
        except OSError as exc:
            raise ProvisioningError(
                f"nobody installs: {self._path} does not answer ({exc.strerror or 'too slow'})",
                todo="systemctl status vouch-install.socket",
            ) from exc
        refusal = _refusal(answer)
        if refusal is not None:
            raise refusal


def serve(folder: Path, asked: BinaryIO, answer: BinaryIO) -> None:
    """Do what one request says and answer it; nothing that it brings is believed."""
    said: list[str] = []
    try:
        _do(Directly(folder), asked.read(_REQUEST_LIMIT + 1))
    except VouchError as exc:
        fault = exc.fault.value if isinstance(exc, ProvisioningError) and exc.fault is not None else _NO_FAULT
        said = [fault, _line(exc.message), _line(exc.todo)]
    answer.write(cbor.encode(said))
    answer.flush()


def _do(handover: Handover, request: bytes) -> None:
    fields = items(cbor.decode(request), "request", 1, 3)
    match uint(fields[0], "request"), len(fields):
        case (1, 3):
            handover.install(octets(fields[1], "bundle", 1, BUNDLE_LIMIT + 1), text(fields[2], "code", CODE_LIMIT))
        case (2, 1):
            handover.ask_anew()
        case _:
            raise EvidenceError("a request that means nothing")


def _refusal(answer: bytes) -> ProvisioningError | None:
    try:
        said = items(cbor.decode(answer), "answer", 0, 3)
        if not said:
            return None
        fault, message, todo = (text(item, "answer", _LINE_LIMIT) for item in said)
        known = None if fault == _NO_FAULT else BundleFault(fault)
        return ProvisioningError(message, todo=todo, fault=known)
    except (EvidenceError, ValueError):
        return ProvisioningError("the installation broke off", todo="journalctl -u 'vouch-install@*'")


def _line(said: str) -> str:
    """As the other side takes it: printable, and not endless."""
    return "".join(c if c.isprintable() else " " for c in said)[: _LINE_LIMIT // 4] or _NO_FAULT
