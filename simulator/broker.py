"""The simulator's MQTT broker as a child process: mosquitto, or the embedded one; what travels over it lies elsewhere.

Whichever runs: TLS 1.2 or later with a client certificate, user and client id are the certificate's CN, a terminal
writes below fv1/up/<its id>/ and reads below fv1/dn/<its id>/ only, the carrier the reverse for all.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.errors import LinkError
from edge.ipc import PAYLOAD_LIMIT
from simulator.carrier.pki import CARRIER_CLIENT, CarrierPki
from simulator.processes import Child, python_module

HOST = "127.0.0.1"
_QUEUE_LIMIT = 20_000  # messages for one slow reader; mosquitto's default of 1,000 drops silently in a drain
_START_TRIES = 3  # between asking for a free port and using it somebody else may take it
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")  # not on every user's PATH


class BrokerKind(Enum):
    MOSQUITTO = "mosquitto"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class BrokerTls:
    """PEM files: the CA that signed every client, and the broker's own identity."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def of(cls, pki: CarrierPki) -> BrokerTls:
        return cls(pki.ca, pki.broker_certificate, pki.broker_key)


class Broker:
    """One broker process. `start` again after `stop` or `kill` keeps the port: clients find it where it was."""

    def __init__(self, folder: Path, tls: BrokerTls, *, kind: BrokerKind | None = None, port: int = 0) -> None:
        """`kind` None: mosquitto where it is installed, else embedded. `port` 0: a free one, chosen at first start."""
        self.kind = kind or (BrokerKind.MOSQUITTO if mosquitto_path() else BrokerKind.EMBEDDED)
        self.port = port
        self._folder = folder
        self._tls = tls
        self._process: Child | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def log_path(self) -> Path:
        return self._folder / "broker.log"

    def start(self, timeout_s: float = 60.0) -> None:
        """Return when it accepts connections. LinkError with the end of its log where it does not."""
        self._folder.mkdir(parents=True, exist_ok=True)
        chosen = self.port != 0
        if chosen:
            _check_free(self.port)  # else the answer of whoever has it would pass for our child's
        for _ in range(1 if chosen else _START_TRIES):
            self.port = self.port if chosen else _free_port()
            self._process = Child(self._command(), self.log_path)
            if self._accepts(time.monotonic() + timeout_s):
                return
            self.stop()
        raise LinkError(f"the broker does not start: {self._tail()}", todo=f"read {self.log_path}")

    def check(self) -> None:
        """LinkError, with the end of its log, where the process has ended by itself."""
        if self._process is not None and self._process.exit_code is not None:
            raise LinkError(f"the broker has ended: {self._tail()}", todo=f"read {self.log_path}")

    def stop(self) -> None:
        """Ask it to end, by its process id. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        if self.kind is BrokerKind.EMBEDDED:
            return [
                *(*python_module("simulator.embedded_broker"), "--port", str(self.port)),
                *("--ca", str(self._tls.ca), "--certificate", str(self._tls.certificate), "--key", str(self._tls.key)),
            ]
        program = mosquitto_path()
        if program is None:
            raise LinkError("mosquitto is not installed", todo="apt install mosquitto, or use the embedded broker")
        rules, settings = self._folder / "broker.acl", self._folder / "mosquitto.conf"
        rules.write_text(access_rules(), encoding="utf-8")
        settings.write_text(_mosquitto_settings(self.port, self._tls, rules), encoding="utf-8")
        return [program, "-c", str(settings)]

    def _tail(self) -> str:
        return " | ".join(self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-4:])

    def _accepts(self, deadline: float) -> bool:
        while time.monotonic() < deadline and self._process is not None and self._process.exit_code is None:
            try:
                with socket.create_connection((HOST, self.port), timeout=1.0):
                    return True
            except OSError:
                time.sleep(0.03)
        return False


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a broker of ours that just ended holds nothing
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as exc:
            raise LinkError(
                f"port {port} of {HOST} cannot be used: {exc}", todo="stop what uses it, or name another with --port"
            ) from exc


def mosquitto_path() -> str | None:
    """Where mosquitto is installed; None where it is not."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(_SYSTEM_FOLDERS))


def access_rules() -> str:
    """The access file for mosquitto. `%u` is the user, that is the CN of the certificate."""
    return (
        f"user {CARRIER_CLIENT}\ntopic read fv1/up/#\ntopic write fv1/dn/#\n\n"
        "pattern write fv1/up/%u/#\npattern read fv1/dn/%u/#\n"
    )


def _mosquitto_settings(port: int, tls: BrokerTls, rules: Path) -> str:
    lines = [
        f"listener {port} {HOST}",
        f"cafile {tls.ca}",
        f"certfile {tls.certificate}",
        f"keyfile {tls.key}",
        "tls_version tlsv1.2",  # the lowest that is spoken
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",  # nobody can take another's session over
        "allow_anonymous false",
        f"acl_file {rules}",
        "persistence false",
        f"message_size_limit {PAYLOAD_LIMIT}",
        f"max_queued_messages {_QUEUE_LIMIT}",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # as root it would become a user who cannot read this folder
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
