"""An enrolled terminal in a folder, its processes, and the carrier's end of the broker, for the tests of the wires."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import paho.mqtt.client as mqtt

from edge.config import Settings, load
from edge.ipc import Decoder, Hello, Link, LinkState, Message, encode
from edge.provisioning import identity, installation
from simulator.broker import Broker, BrokerTls
from simulator.carrier.pki import CarrierPki, create_pki
from tests.support.enrolment import CODE, signed_bundle

REPOSITORY = Path(__file__).resolve().parents[2]
TERMINAL_ID = "00112233445566778899aabbccddeeff"
# How many times as long to wait: a machine that is emulated (`make test-arm64`) takes its time.
PATIENCE = float(os.environ.get("VOUCH_PATIENCE", "1"))


@dataclass(frozen=True)
class Place:
    """A terminal's folder, enrolled with a carrier whose keys lie beside it."""

    config: Path
    settings: Settings
    pki: CarrierPki

    def broker(self, **options: object) -> Broker:
        port = self.settings.uplink.port
        return Broker(self.config.parent / "broker", BrokerTls.of(self.pki), port=port, **options)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def enrolled(folder: Path, *, host: str = "localhost", extra: str = "", enrolled_at: datetime | None = None) -> Place:
    """Make carrier keys and a terminal that the carrier has enrolled, then or now; `extra` goes into terminal.toml."""
    pki = create_pki(folder / "pki", now=datetime.now(UTC))
    place = folder / "terminal"
    asked = identity.create(place, site="shop-1", terminal_id=TERMINAL_ID, root=pki.root)
    bundle = signed_bundle(pki, asked.request, broker=(host, free_port()), now=enrolled_at)
    config = installation.install(place, bundle, code=CODE)
    text = config.read_text().replace("/var/lib/vouch", "state").replace("/run/vouch", "run")
    for name in ("state", "run"):
        (place / name).mkdir(mode=0o700, exist_ok=True)
        if f"{name}_dir = " not in text:
            text = f'{name}_dir = "{name}"\n' + text
    config.write_text(text + extra)
    return Place(config, load(config), pki)


class Process:
    """`vouch COMMAND` as its own OS process; its log as parsed lines."""

    def __init__(self, *command: str, log: Path, module: str = "edge.cli", environment: dict[str, str] | None = None):
        self._log = log
        environ = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"} | (environment or {})
        with log.open("ab") as file:
            self._child = subprocess.Popen(
                [sys.executable, "-m", module, *command], stdout=file, stderr=file, env=environ, cwd=log.parent
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait(self, timeout_s: float) -> int:
        return self._child.wait(timeout_s * PATIENCE)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait(10 * PATIENCE)

    def stop(self) -> int:
        self._child.terminate()
        return self._child.wait(10 * PATIENCE)

    def events(self) -> list[dict[str, object]]:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(8 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()


class _End:
    """One side of the Unix socket in a test's hands."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._decoder = Decoder()
        self._waiting: list[Message] = []
        self.seen: list[Message] = []

    def send(self, message: Message) -> None:
        self._socket.sendall(encode(message))

    def receive(self, timeout_s: float = 15.0) -> Message:
        return self._before(time.monotonic() + timeout_s * PATIENCE)

    def _before(self, deadline: float) -> Message:
        while not self._waiting:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError
            self._waiting += self._decoder.feed(data)
        message = self._waiting.pop(0)
        self.seen.append(message)
        return message

    def expect(self, wanted: Callable[[Message], bool], timeout_s: float = 20.0) -> Message:
        """The next message that is wanted; others on the way are kept in `seen`."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while True:
            message = self._before(deadline)
            if wanted(message):
                return message


class TerminalEnd(_End):
    """The terminal's side of the Unix socket, for tests of the uplink alone."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)

    def accept(self, timeout_s: float = 15.0, *, hello: bool = True) -> None:
        self.hang_up()
        self._listener.settimeout(timeout_s * PATIENCE)
        self._socket, _ = self._listener.accept()
        self._decoder, self._waiting = Decoder(), []
        if hello:
            self.send(Hello())
            assert isinstance(self.receive(), Hello)

    def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self.hang_up()
        self._listener.close()


class CarrierEnd:
    """The carrier's own connection to the broker: everything that terminals send, and a way to send to them."""

    def __init__(self, place: Place) -> None:
        self.arrived: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="carrier", protocol=mqtt.MQTTv5)
        context = ssl.create_default_context(cafile=place.pki.ca)
        context.load_cert_chain(place.pki.client_certificate, place.pki.client_key)
        self._client.tls_set_context(context)
        self._client.max_inflight_messages_set(1000)
        subscribed = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe("fv1/up/#", qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _c, _d, message: self.arrived.put((message.topic, bytes(message.payload)))
        self._client.connect("localhost", place.settings.uplink.port)
        self._client.loop_start()
        assert subscribed.wait(10 * PATIENCE)

    def send(self, kind: str, payload: bytes, *, qos: int = 1) -> None:
        """Hand it to paho's own thread; it arrives in order."""
        self._client.publish(f"fv1/dn/{TERMINAL_ID}/{kind}", payload, qos=qos)

    def receive(self, timeout_s: float = 15.0) -> tuple[str, bytes]:
        return self.arrived.get(timeout=timeout_s * PATIENCE)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def uplink_process(place: Place, *extra: str) -> Iterator[Process]:
    with Process("uplink", "--config", str(place.config), *extra, log=place.config.parent / "uplink.log") as process:
        yield process


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s * PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


class UplinkEnd(_End):
    """The uplink's side of the Unix socket, for tests of the terminal alone; says at once that the link is up."""

    def __init__(self, path: Path, *, up: bool = True) -> None:
        super().__init__()
        deadline = time.monotonic() + 10 * PATIENCE
        self._socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                assert time.monotonic() < deadline, "no terminal listens"
                time.sleep(0.05)
        self.send(Hello())
        assert isinstance(self.receive(), Hello)
        if up:
            self.send(Link(LinkState.UP, ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
