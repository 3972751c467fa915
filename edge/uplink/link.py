"""One MQTT connection over mutual TLS: the only importer of paho; when to connect again belongs to service.py.

paho is driven from the caller's own loop, without its thread. It has traps, each closed here:

- a callback that raises kills its network thread while `is_connected()` stays true: callbacks here only write down what
  happened, and `advance()` hands it out;
- its automatic reconnect keeps an old certificate and an old queue: every connection is a new client, a new TLS context
  and files read anew, and the journal is the only queue;
- a refused publish shows only in the version 2 `on_publish` reason code: it is handed on as `Published`;
- a message over the broker's limit makes the broker close, and would be sent again for ever: it is refused unsent;
- it waits for a CONNACK as long as the keep-alive: the wait here has a limit of its own.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge import durable
from edge.config import UplinkSettings
from edge.ipc import PAYLOAD_LIMIT, Down, Publish, Published
from edge.papers import CERTIFICATES_MAX
from edge.uplink import topics

CONNECT_TIMEOUT_S = 10.0
# MQTT 5 reason codes (OASIS MQTT 5.0, section 2.4)
SERVER_UNAVAILABLE = 0x88
PACKET_TOO_LARGE = 0x95
_UNSUPPORTED_PROTOCOL = 0x84
_TAKEN_OVER = 0x8E
_REFUSALS = frozenset({0x85, 0x86, 0x87, 0x8A, 0x8C, 0x90, 0x95})  # who we are or what we ask is not allowed
_FIRST_REFUSAL = 0x80
_INCOMING_LIMIT = 2 * PAYLOAD_LIMIT
_VALIDITY_ERRORS = frozenset({9, 10})  # OpenSSL: X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_PUBLISH_OVERHEAD = 16  # fixed header, lengths, packet id, empty properties


class Protocol(Enum):
    V5 = "5"
    V311 = "3.1.1"


class Ending(Enum):
    """Why a connection is over, or never came."""

    LOST = "lost"  # network or broker away: try again
    REFUSED = "refused"  # somebody must act, though trying again does no harm
    OLD_BROKER = "old-broker"  # the broker says that it does not speak this protocol version
    HUNG_UP = "hung-up"  # closed before a CONNACK: an old broker, or one that does not trust our certificate
    TAKEN_OVER = "taken-over"  # another client came with our identity
    ASKED = "asked"  # we closed it


@dataclass(frozen=True, slots=True)
class End:
    ending: Ending
    detail: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message from the broker; `Connection.acknowledge` it once it is handed on."""

    topic: Down
    payload: bytes
    packet_id: int
    qos: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A message from the broker that the terminal is spared: over the size limit, or of no topic that we know."""

    topic: Down | None
    size_bytes: int


Happening = Arrived | Dropped | Published


class Connection:
    """TCP, TLS and CONNECT are done or failed when `open` returns; `is_up` after the SUBACK; `end` when over."""

    @classmethod
    def open(cls, settings: UplinkSettings, terminal_id: str, protocol: Protocol, now: float) -> Connection | End:
        """Connect to the broker; blocks for CONNECT_TIMEOUT_S and the name's resolution at most.

        1. Read our certificate; its common name must be this terminal.
        2. Verify the broker: chain against our CA file alone, host name, TLS 1.2 or later.
        3. Only then does the first byte of MQTT leave.
        """
        try:
            name = _common_name(settings)
            context = _tls(settings)
        except (OSError, ValueError) as exc:
            return End(Ending.REFUSED, f"our certificate, key or CA file cannot be used: {_why(exc)}")
        if name != terminal_id:
            return End(Ending.REFUSED, "our certificate is another terminal's")
        connection = cls(settings, terminal_id, protocol, context, now)
        return connection.end or connection

    def __init__(
        self, settings: UplinkSettings, terminal_id: str, protocol: Protocol, context: ssl.SSLContext, now: float
    ) -> None:
        self.protocol = protocol
        self.end: End | None = None
        self.is_up = False
        self._accepted = False
        self._terminal_id = terminal_id
        self._opened_at = now
        self._packet_limit: int | None = None
        self._complaint = ""
        self._in_flight_limit = settings.max_in_flight
        self._waiting: deque[Publish] = deque()
        self._sent: dict[int, bytes] = {}
        self._happened: list[Happening] = []
        self._client = self._new_client(context)
        try:
            self._start(settings)
        except ssl.SSLCertVerificationError as exc:
            clock = "; or the clock here is wrong" if exc.verify_code in _VALIDITY_ERRORS else ""
            self._over(Ending.REFUSED, f"the broker's certificate is not trusted: {exc.verify_message}{clock}")
        except ssl.SSLError as exc:
            self._over(*_verdict(_why(exc)))
        except OSError as exc:
            self._over(Ending.LOST, f"no connection to {settings.host}:{settings.port}: {_why(exc)}")

    @property
    def socket(self) -> Any:
        """What to wait on; None when the connection is over."""
        return self._client.socket()

    @property
    def wants_to_write(self) -> bool:
        return bool(self._client.want_write())

    def advance(self, now: float, *, readable: bool, writable: bool) -> list[Happening]:
        """Let the connection work without blocking; what happened, in order. Call it at least once a second."""
        if self.end is None and writable:
            self._client.loop_write()
        if self.end is None and readable:
            self._read_all()
        if self.end is None:
            self._client.loop_misc()
        if self.end is None and not self.is_up and now - self._opened_at > CONNECT_TIMEOUT_S:
            self._over(Ending.LOST, "the broker accepted the connection and then said nothing")
        if self.end is None:
            self._send_waiting()
        else:
            self._let_go()
        happened, self._happened = self._happened, []
        return happened

    def publish(self, message: Publish) -> None:
        """Send with QoS 1. The broker's word, or our own refusal, comes out of `advance` as Published."""
        topic = topics.publish_topic(self._terminal_id, message.topic)
        size = len(topic) + len(message.payload) + _PUBLISH_OVERHEAD
        if self._packet_limit is not None and size > self._packet_limit:
            self._happened.append(Published(message.message_id, PACKET_TOO_LARGE))
            return
        self._waiting.append(message)
        self._send_waiting()

    def _send_waiting(self) -> None:
        """As many as the broker takes at once: paho itself does not heed the broker's Receive Maximum."""
        while self._waiting and len(self._sent) < self._in_flight_limit and self.end is None:
            message = self._waiting.popleft()
            info = self._client.publish(topics.publish_topic(self._terminal_id, message.topic), message.payload, qos=1)
            if info.rc == mqtt.MQTT_ERR_SUCCESS:
                self._sent[info.mid] = message.message_id
            else:
                self._happened.append(Published(message.message_id, SERVER_UNAVAILABLE))

    def acknowledge(self, message: Arrived) -> None:
        """Tell the broker that the message was handed on."""
        if self.end is None:
            self._client.ack(message.packet_id, message.qos)

    def close(self) -> None:
        """Say goodbye and let go of the socket."""
        if self.end is None:
            self._over(Ending.ASKED, "closed")

    def _start(self, settings: UplinkSettings) -> None:
        options: dict[str, Any] = {}
        if self.protocol is Protocol.V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.ReceiveMaximum = 2 * settings.max_in_flight
            properties.MaximumPacketSize = _INCOMING_LIMIT
            options = {"clean_start": True, "properties": properties}
        self._client.connect(settings.host, settings.port, keepalive=settings.keepalive_s, **options)

    def _new_client(self, context: ssl.SSLContext) -> mqtt.Client:
        v5 = self.protocol is Protocol.V5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._terminal_id,
            clean_session=None if v5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.tls_set_context(context)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_connect = self._guarded(self._on_connect)
        client.on_subscribe = self._guarded(self._on_subscribe)
        client.on_publish = self._guarded(self._on_publish)
        client.on_message = self._guarded(self._on_message)
        client.on_disconnect = self._guarded(self._on_disconnect)
        client.on_log = self._guarded(self._on_log)
        return client

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """A callback that cannot raise into paho: a fault there ends this connection, and the next one starts clean."""

        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as exc:  # noqa: BLE001 - whatever it is, paho must not see it
                self._note_end(Ending.LOST, f"a fault of ours while handling the broker: {type(exc).__name__}")

        return call

    def _read_all(self) -> None:
        """Read until the TLS layer holds nothing: what it has decrypted already does not wake the selector."""
        while self.end is None:
            self._client.loop_read()
            sock: Any = self._client.socket()
            if sock is None or not sock.pending():
                return

    def _on_connect(self, _client: object, _data: object, _flags: object, code: ReasonCode, properties: Any) -> None:
        if code.value >= _FIRST_REFUSAL:
            ending = (
                Ending.OLD_BROKER
                if code.value == _UNSUPPORTED_PROTOCOL
                else Ending.REFUSED
                if code.value in _REFUSALS
                else Ending.LOST
            )
            self._note_end(ending, f"the broker does not take us: {code.getName()}")
            return
        self._accepted = True
        self._packet_limit = getattr(properties, "MaximumPacketSize", None)
        self._in_flight_limit = min(self._in_flight_limit, getattr(properties, "ReceiveMaximum", self._in_flight_limit))
        self._client.subscribe([(topic, 1) for topic in topics.subscriptions(self._terminal_id)])

    def _on_subscribe(self, _client: object, _data: object, _mid: int, codes: list[ReasonCode], _props: object) -> None:
        if any(code.value >= _FIRST_REFUSAL for code in codes):
            self._note_end(Ending.REFUSED, "the broker denies us the topics of this terminal")
        else:
            self.is_up = True

    def _on_publish(self, _client: object, _data: object, mid: int, code: ReasonCode, _props: object) -> None:
        message_id = self._sent.pop(mid, None)
        if message_id is not None:
            self._happened.append(Published(message_id, code.value))

    def _on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        topic = topics.received(self._terminal_id, message.topic)
        if topic is None or len(message.payload) > PAYLOAD_LIMIT:
            self._client.ack(message.mid, message.qos)
            self._happened.append(Dropped(topic, len(message.payload)))
            return
        self._happened.append(Arrived(topic, bytes(message.payload), message.mid, message.qos))

    def _on_disconnect(self, _client: object, _data: object, flags: Any, code: ReasonCode, _props: object) -> None:
        if not flags.is_disconnect_packet_from_server:
            ending, detail = _verdict(self._complaint or "the connection ended without a word")
            if ending is Ending.LOST and not self._accepted:
                ending = Ending.HUNG_UP
            self._note_end(ending, detail)
        elif code.value == _TAKEN_OVER:
            self._note_end(Ending.TAKEN_OVER, "another client connected with the identity of this terminal")
        else:
            ending = Ending.REFUSED if code.value in _REFUSALS else Ending.LOST
            self._note_end(ending, f"the broker disconnected us: {code.getName()}")

    def _on_log(self, _client: object, _data: object, level: int, text: str) -> None:
        if level == mqtt.MQTT_LOG_ERR:
            self._complaint = text

    def _note_end(self, ending: Ending, detail: str) -> None:
        """The first reason counts: what follows is its echo."""
        self.is_up = False
        if self.end is None:
            self.end = End(ending, detail)

    def _over(self, ending: Ending, detail: str) -> None:
        self._note_end(ending, detail)
        self._let_go()

    def _let_go(self) -> None:
        if self._client.socket() is not None:
            self._client.disconnect()


def _tls(settings: UplinkSettings) -> ssl.SSLContext:
    for path in (settings.ca, settings.certificate, settings.key):
        durable.open_plain(path, linked=True).close()  # the TLS library opens by the path, and would wait for a pipe
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=settings.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.certificate, settings.key)
    return context


def _common_name(settings: UplinkSettings) -> str:
    certificate = x509.load_pem_x509_certificate(
        durable.read_plain(settings.certificate, CERTIFICATES_MAX, linked=True)
    )
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _verdict(text: str) -> tuple[Ending, str]:
    """A TLS alert is the broker's verdict on our certificate, however it is worded; anything else is the network."""
    if "alert" in text.lower():
        return Ending.REFUSED, f"the broker does not accept our certificate: {text}"
    return Ending.LOST, text


def _why(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return str(exc.reason or exc.strerror or "TLS").replace("_", " ").lower()
    if isinstance(exc, OSError):
        return exc.strerror or str(exc) or type(exc).__name__
    return type(exc).__name__
