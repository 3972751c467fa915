"""The terminal's end of the Unix socket: one uplink at a time, results out, receipts in; challenges are not read here.

One thread. A receipt is verified here, because a queue of ten thousand must not wait for a person in front of the
camera; everything else goes to the inbox as opaque bytes.
"""

from __future__ import annotations

import contextlib
import secrets
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from edge.clock import Clock
from edge.errors import ConfigError, EvidenceError, IpcError, JournalError
from edge.evidence.journal import Journal, Release
from edge.evidence.messages import Receipt, ReceiptStatus, parse_receipt
from edge.ipc import (
    PROTOCOL_VERSION,
    Decoder,
    Down,
    Hello,
    Inbound,
    Link,
    LinkState,
    Message,
    Papers,
    Publish,
    Published,
    Up,
    encode,
)
from edge.log import Log
from edge.terminal.publisher import Publisher

_CHUNK = 65536
_SEND_TIMEOUT_S = 5.0
_SOCKET_MODE = 0o660
_BACKLOG = 4
_FAULT_PAUSE_S = 1.0
_REQUESTS_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose receipts count, and for whom."""

    carrier_keys: Mapping[bytes, EllipticCurvePublicKey]
    terminal_id: bytes  # 16


class LinkServer:
    """`start` listens, `stop` ends the thread. `state` is the uplink's last word on the broker."""

    def __init__(
        self,
        path: Path,
        *,
        journal: Journal | None,
        publisher: Publisher,
        credentials: Credentials,
        clock: Clock,
        on_inbound: Callable[[Inbound], None],
        on_link: Callable[[LinkState, str], None],
        on_receipt: Callable[[Receipt], None] = lambda _receipt: None,
        on_accepted: Callable[[bytes], None] = lambda _receipt: None,
    ) -> None:
        """`on_receipt` hears of each verified receipt, after the journal acted on it; `on_accepted` gets the bytes of
        each by which the carrier took a result of ours for good.

        The callbacks run in this server's thread. Without a journal nothing is sent but status messages.
        """
        self._path = path
        self._journal = journal
        self._publisher = publisher
        self._credentials = credentials
        self._clock = clock
        self._on_inbound = on_inbound
        self._on_link = on_link
        self._on_receipt = on_receipt
        self._on_accepted = on_accepted
        self._log = Log("terminal.link")
        self._listener: socket.socket | None = None
        self._uplink: socket.socket | None = None
        self._decoder = Decoder()
        self._greeted = False
        self._state = LinkState.DOWN
        self.detail = ""  # the uplink's words on that state
        self.papers: Papers | None = None  # as the uplink last said
        self._status: bytes | None = None
        self._requests: deque[bytes] = deque(maxlen=_REQUESTS_LIMIT)
        self._status_lock = threading.Lock()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._wake_read.setblocking(False)
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="link", daemon=True)

    def start(self) -> None:
        """Listen, with mode 0660. A socket file of an earlier process is replaced. ConfigError where that cannot be."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self._listener.bind(str(self._path))
            self._path.chmod(_SOCKET_MODE)
            self._listener.listen(_BACKLOG)
        except OSError as exc:
            raise ConfigError(
                f"the socket {self._path} cannot be made: {exc.strerror or exc}",
                todo="check run_dir in terminal.toml: a short path to a folder that this user may write",
            ) from exc
        self._thread.start()

    def wake(self) -> None:
        """There is a new result or status: look at once. Any thread may call it."""
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"\0")

    @property
    def state(self) -> LinkState | None:
        """What the uplink says of the broker; None while no uplink process is there. Any thread may ask."""
        return self._state if self._greeted else None

    def send_status(self, payload: bytes) -> None:
        """Send the newest status as soon as there is a link; an older one that has not gone is dropped."""
        with self._status_lock:
            self._status = payload
        self.wake()

    def send_request(self, payload: bytes) -> None:
        """Send a signed request now; without a link it is dropped: an answer that comes late is no answer."""
        self._requests.append(payload)
        self.wake()

    def stop(self) -> None:
        self._stopping = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join(_SEND_TIMEOUT_S)
        self._drop("stopping")
        for sock in (self._listener, self._wake_read, self._wake_write):
            if sock is not None:
                sock.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except JournalError as exc:
                self._log.error("journal-unusable", exc=exc)
                self._start_over("the journal cannot be used")
            except Exception as exc:  # noqa: BLE001 - a thread that ends would leave a terminal that never delivers
                self._log.error("link-failed", exc=exc)
                self._start_over("a fault of ours")

    def _start_over(self, why: str) -> None:
        """Without an uplink there is nothing to do but to wait for it: it comes back within seconds."""
        self._drop(why)
        time.sleep(_FAULT_PAUSE_S)

    def _turn(self) -> None:
        now = self._clock.monotonic()
        for name in self._wait(self._publisher.wait_s(now) if self._greeted else 60.0):
            if name == "listener":
                self._accept()
            elif name == "uplink":
                self._read()
        self._send_what_is_due()

    def _wait(self, timeout_s: float) -> list[str]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ, "wake")
            if self._listener is not None:
                selector.register(self._listener, selectors.EVENT_READ, "listener")
            if self._uplink is not None:
                selector.register(self._uplink, selectors.EVENT_READ, "uplink")
            ready = [str(key.data) for key, _ in selector.select(timeout_s)]
        if "wake" in ready:
            with contextlib.suppress(BlockingIOError):
                self._wake_read.recv(_CHUNK)
        return ready

    def _accept(self) -> None:
        """The newest uplink wins: the older one is hung, or it is the one that was just restarted."""
        if self._listener is None:
            return
        newcomer, _ = self._listener.accept()
        if self._uplink is not None:
            self._drop("a newer one came")
        newcomer.settimeout(_SEND_TIMEOUT_S)
        self._uplink, self._decoder, self._greeted = newcomer, Decoder(), False
        self._send(Hello())

    def _read(self) -> None:
        if self._uplink is None:
            return
        try:
            data = self._uplink.recv(_CHUNK, socket.MSG_DONTWAIT)
            if not data:
                self._drop("it closed")
                return
            for message in self._decoder.feed(data):
                self._received(message)
        except BlockingIOError:
            return
        except OSError:
            self._drop("it closed")
        except IpcError as exc:
            self._drop(exc.message)

    def _received(self, message: Message) -> None:
        if not self._greeted:
            if message != Hello(PROTOCOL_VERSION):
                raise IpcError("the uplink speaks another version of the protocol")
            self._greeted = True
            self._log.info("uplink-here")
            return
        match message:
            case Link(state, detail):
                self._link(state, detail)
            case Published(message_id, reason_code):
                self._publisher.published(message_id, reason_code, self._clock.monotonic())
            case Inbound(Down.RECEIPT, payload):
                self._receipt(payload)
            case Inbound():
                self._on_inbound(message)
            case Papers():
                self.papers = message
            case Hello() | Publish():
                raise IpcError("a frame that an uplink may not send")

    def _link(self, state: LinkState, detail: str) -> None:
        was, self._state = self._state, state
        self.detail = detail
        # REFUSED covers one denied topic too: the link itself may be up, and only trying tells.
        online = (LinkState.UP, LinkState.REFUSED)
        if state in online and was not in online:
            self._publisher.link_up()
        elif state not in online:
            self._publisher.link_down()
        elif state is LinkState.UP and was is LinkState.REFUSED:
            self._publisher.link_up()
        if state is not was:
            self._log.info("link", state=state, detail=detail)
        self._on_link(state, detail)

    def _receipt(self, payload: bytes) -> None:
        """1. Signature, form and addressee. 2. It names a result of ours by cti and hash. 3. The result is released."""
        if self._journal is None:
            return
        try:
            receipt = parse_receipt(payload, self._credentials.carrier_keys, self._credentials.terminal_id)
        except EvidenceError as exc:
            self._log.warning("receipt-refused", why=exc.message)
            return
        release = self._journal.release(receipt.cti, receipt.digest)
        if release is Release.MISMATCH:
            self._log.error("receipt-for-other-bytes", counter=receipt.counter)
            return
        if receipt.status is ReceiptStatus.REFUSED:
            self._log.error("result-refused-by-carrier", counter=receipt.counter)
        elif release is not Release.UNKNOWN:
            self._on_accepted(payload)
        self._log.debug("released", counter=receipt.counter, release=release)
        self._publisher.released(receipt.cti)
        self._on_receipt(receipt)

    def _send_what_is_due(self) -> None:
        if not self._greeted or self._state in (LinkState.DOWN, LinkState.TAKEN_OVER):
            self._requests.clear()
            return
        while self._requests:
            self._send(Publish(Up.REQUEST, secrets.token_bytes(16), self._requests.popleft()))
        with self._status_lock:
            status, self._status = self._status, None
        if status is not None:
            self._send(Publish(Up.STATUS, secrets.token_bytes(16), status))
        if self._journal is None:
            return
        for message in self._publisher.due(self._clock.monotonic()):
            self._send(message)

    def _send(self, message: Message) -> None:
        if self._uplink is None:
            return
        try:
            self._uplink.sendall(encode(message))
        except OSError:
            self._drop("it does not read")

    def _drop(self, why: str) -> None:
        if self._uplink is None:
            return
        self._uplink.close()
        self._uplink = None
        self._log.info("uplink-gone", why=why)
        self._greeted = False
        self._state = LinkState.DOWN
        self._publisher.link_down()
        self._on_link(LinkState.DOWN, "the uplink process is away")
