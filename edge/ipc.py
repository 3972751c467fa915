"""The frames between terminal and uplink on their Unix socket: small, length-prefixed, schema-checked; no sockets here.

A frame is four bytes of length (big-endian, at most FRAME_LIMIT), then one canonical CBOR array `[kind, field, ...]`.
What came from the network travels as opaque bytes: neither this file nor the uplink looks into it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, TypeVar

import cbor2

from edge.errors import IpcError

PROTOCOL_VERSION = 3
PAYLOAD_LIMIT = 4096  # the smallest message limit among the brokers that we must serve
FRAME_LIMIT = PAYLOAD_LIMIT + 256
_HEADER = struct.Struct(">I")
_TEXT_LIMIT = 200
E = TypeVar("E", bound=Enum)


class Up(Enum):
    """Last level of `fv1/up/<terminal>/...`."""

    RESULT = "result"
    STATUS = "status"
    AUDIT = "audit"
    REQUEST = "request"  # begin an order, send tickets


class Down(Enum):
    """Last level of `fv1/dn/<terminal>/...`."""

    CHALLENGE = "challenge"
    RECEIPT = "receipt"
    POLICY = "policy"
    COMMAND = "command"


class LinkState(IntEnum):
    """What the uplink says of the broker."""

    DOWN = 0
    UP = 1
    REFUSED = 2  # certificate, host name or topic refused: somebody must act
    TAKEN_OVER = 3  # another client uses our identity: no reconnect, alarm


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame of either side: do both speak the same version?"""

    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Publish:
    """Terminal to uplink: send this. `message_id` comes back in Published."""

    topic: Up
    message_id: bytes  # 16 bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Published:
    """Uplink to terminal: the broker's acknowledgement, or its refusal. It releases nothing: only a receipt does."""

    message_id: bytes
    reason_code: int  # MQTT 5 reason code; 0 for success, 128 and above are refusals


@dataclass(frozen=True, slots=True)
class Inbound:
    """Uplink to terminal: bytes from the broker, not looked into."""

    topic: Down
    payload: bytes


@dataclass(frozen=True, slots=True)
class Link:
    state: LinkState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Papers:
    """Uplink to terminal, which cannot see them: from and until when its certificate and the carrier's CA hold.

    Seconds since 1970.
    """

    from_s: int  # both
    certificate_until_s: int
    ca_until_s: int


Message = Hello | Publish | Published | Inbound | Link | Papers


def encode(message: Message) -> bytes:
    """One frame. IpcError when a field is over its limit: the sender's mistake, found before it is sent."""
    body = cbor2.dumps(_fields(message), canonical=True)
    _checked(cbor2.loads(body))
    return _HEADER.pack(len(body)) + body


class Decoder:
    """Bytes in as they arrive, messages out. After an IpcError the connection must be closed."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """All messages completed by `data`, in order. IpcError on any malformed frame."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if not 1 <= length <= FRAME_LIMIT:
                raise IpcError(f"a frame of {length} bytes; at most {FRAME_LIMIT} are allowed")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            messages.append(_decoded(bytes(self._buffer[_HEADER.size : end])))
            del self._buffer[:end]
        return messages


def _fields(message: Message) -> list[Any]:
    match message:
        case Hello(version):
            return [0, version]
        case Publish(topic, message_id, payload):
            return [1, topic.value, message_id, payload]
        case Published(message_id, reason_code):
            return [2, message_id, reason_code]
        case Inbound(topic, payload):
            return [3, topic.value, payload]
        case Link(state, detail):
            return [4, int(state), detail[:_TEXT_LIMIT]]
        case Papers(from_s, certificate_until_s, ca_until_s):
            return [5, from_s, certificate_until_s, ca_until_s]


def _decoded(body: bytes) -> Message:
    try:
        fields = cbor2.loads(body)
        canonical = cbor2.dumps(fields, canonical=True)
    except Exception as exc:  # the decoder meets hostile bytes: whatever it raises is one fault to us
        raise IpcError("a frame is not CBOR") from exc
    if canonical != body:
        raise IpcError("a frame is not in canonical form")
    return _checked(fields)


def _checked(fields: object) -> Message:
    match fields:
        case [0, int(version)] if _is_int(version) and 0 <= version < 2**16:
            return Hello(version)
        case [1, str(topic), bytes(message_id), bytes(payload)] if len(message_id) == 16 and _fits(payload):
            return Publish(_member(Up, topic), message_id, payload)
        case [2, bytes(message_id), int(code)] if len(message_id) == 16 and _is_int(code) and 0 <= code <= 255:
            return Published(message_id, code)
        case [3, str(topic), bytes(payload)] if _fits(payload):
            return Inbound(_member(Down, topic), payload)
        case [4, int(state), str(detail)] if _is_int(state) and len(detail) <= _TEXT_LIMIT:
            return Link(_member(LinkState, state), detail)
        case [5, int(from_s), int(until_s), int(ca_until_s)] if all(map(_is_time, (from_s, until_s, ca_until_s))):
            return Papers(from_s, until_s, ca_until_s)
        case _:
            raise IpcError("a frame of unknown kind or with a wrong field")


def _member(kind: type[E], value: object) -> E:
    try:
        return kind(value)
    except ValueError as exc:
        raise IpcError(f"{value!r} is no {kind.__name__}") from exc


def _fits(payload: bytes) -> bool:
    return len(payload) <= PAYLOAD_LIMIT


def _is_time(value: int) -> bool:
    return _is_int(value) and 0 <= value < 2**40


def _is_int(value: int) -> bool:
    return not isinstance(value, bool)
