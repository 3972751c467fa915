"""A small MQTT 3.1.1 broker for machines without mosquitto; for development and the demo, never for a fleet.

It speaks TLS with client certificates, takes user and client id from the certificate's CN, and holds the access rules.
It keeps nothing: no stored sessions, no retained messages, no wills, no QoS 2. Section numbers are those of MQTT 3.1.1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import ssl
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from edge.ipc import PAYLOAD_LIMIT
from simulator.carrier.pki import CARRIER_CLIENT

_PACKET_LIMIT = PAYLOAD_LIMIT + 256
_CONNECT_TIMEOUT_S = 10.0
_QUEUE_LIMIT = 20_000  # messages waiting for one reader; a slower one is disconnected, never silently skipped
_WINDOW = 32  # unacknowledged QoS 1 messages to one reader


class _Packet(IntEnum):
    """Control packet types, 2.2.1."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class _ConnectReturn(IntEnum):
    """CONNACK return codes, 3.2.2.3."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL = 1
    IDENTIFIER_REJECTED = 2


class _ProtocolError(Exception):
    """The client broke the protocol or the access rules: 4.8 asks to close the connection."""


@dataclass(eq=False)
class _Client:
    name: str
    writer: asyncio.StreamWriter
    subscriptions: dict[str, int] = field(default_factory=dict)  # topic filter -> granted QoS
    queue: asyncio.Queue[tuple[str, bytes, int]] = field(default_factory=lambda: asyncio.Queue(_QUEUE_LIMIT))
    window: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_WINDOW))
    unacknowledged: set[int] = field(default_factory=set)
    next_id: int = 0


class EmbeddedBroker:
    """Serves on loopback until cancelled."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._clients: dict[str, _Client] = {}

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", port, ssl=self._tls)
        print(f"embedded broker on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for client in list(self._clients.values()):
                client.writer.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client: _Client | None = None
        sender: asyncio.Task[None] | None = None
        try:
            name = _common_name(writer)
            answer, keepalive_s = _connect(await asyncio.wait_for(_read_packet(reader), _CONNECT_TIMEOUT_S), name)
            writer.write(bytes([_Packet.CONNACK << 4, 2, 0, answer]))
            if answer is not _ConnectReturn.ACCEPTED:
                print(f"{name}: refused, {answer.name}", flush=True)
                return
            client = self._enter(name, writer)
            sender = asyncio.create_task(_send_queue(client))
            await self._serve_client(client, reader, keepalive_s)
        except (_ProtocolError, UnicodeDecodeError, struct.error, IndexError) as exc:
            print(f"{client.name if client else 'a client'}: closed, {exc}", flush=True)
        except (OSError, EOFError, TimeoutError, asyncio.QueueFull):
            pass  # the peer is gone or too slow: nothing to keep for it
        finally:
            if sender is not None:
                sender.cancel()
            if client is not None and self._clients.get(client.name) is client:
                del self._clients[client.name]
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 2.0)

    def _enter(self, name: str, writer: asyncio.StreamWriter) -> _Client:
        """Register; a client that connects with a name in use disconnects the former one (3.1.4-2)."""
        former = self._clients.get(name)
        if former is not None:
            print(f"{name}: taken over", flush=True)
            former.writer.close()
        client = self._clients[name] = _Client(name, writer)
        return client

    async def _serve_client(self, client: _Client, reader: asyncio.StreamReader, keepalive_s: int) -> None:
        patience_s = keepalive_s * 1.5 if keepalive_s else None  # 3.1.2.10
        while True:
            kind, flags, body = await asyncio.wait_for(_read_packet(reader), patience_s)
            match kind:
                case _Packet.PUBLISH:
                    self._publish(client, flags, body)
                case _Packet.PUBACK:
                    (packet_id,) = struct.unpack(">H", body)
                    if packet_id in client.unacknowledged:
                        client.unacknowledged.remove(packet_id)
                        client.window.release()
                case _Packet.SUBSCRIBE:
                    _subscribe(client, body)
                case _Packet.UNSUBSCRIBE:
                    _unsubscribe(client, body)
                case _Packet.PINGREQ:
                    client.writer.write(bytes([_Packet.PINGRESP << 4, 0]))
                case _Packet.DISCONNECT:
                    return
                case _:
                    raise _ProtocolError(f"packet type {kind} has no place here")
            await client.writer.drain()

    def _publish(self, sender: _Client, flags: int, body: bytes) -> None:
        qos = flags >> 1 & 3
        if qos > 1:
            raise _ProtocolError("QoS 2 is not spoken here")
        topic, rest = _text(body)
        if not topic or "+" in topic or "#" in topic:
            raise _ProtocolError("a topic name may not be empty nor hold wildcards")
        if not may_write(sender.name, topic):
            # 3.3.5-2: acknowledge or close. An acknowledged message that goes nowhere would be a lie.
            raise _ProtocolError(f"may not write {topic}")
        payload = rest[2:] if qos else rest
        if len(payload) > PAYLOAD_LIMIT:
            raise _ProtocolError(f"a payload over {PAYLOAD_LIMIT} bytes")
        for reader in list(self._clients.values()):
            granted = [g for pattern, g in reader.subscriptions.items() if matches(pattern, topic)]
            if granted:
                try:
                    reader.queue.put_nowait((topic, payload, min(qos, max(granted))))
                except asyncio.QueueFull:
                    print(f"{reader.name}: too slow, closed", flush=True)
                    reader.writer.close()
        if qos:
            sender.writer.write(bytes([_Packet.PUBACK << 4, 2]) + rest[:2])


def may_write(name: str, topic: str) -> bool:
    """The access rule for publishing; `name` is the CN of the client's certificate."""
    return topic.startswith("fv1/dn/" if name == CARRIER_CLIENT else f"fv1/up/{name}/")


def may_read(name: str, topic_filter: str) -> bool:
    """The access rule for subscribing. A filter whose terminal level is a wildcard fits no terminal's rule."""
    return topic_filter.startswith("fv1/up/" if name == CARRIER_CLIENT else f"fv1/dn/{name}/")


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic name fits a filter with `+` and `#` (4.7)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for index, part in enumerate(wanted):
        if part == "#":
            return True
        if index >= len(levels) or part not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def server_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or later; a client without a certificate of our CA does not come past the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    return context


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="simulator.embedded_broker")
    parser.add_argument("--port", type=int, required=True)
    for name in ("--ca", "--certificate", "--key"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args(arguments)
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(_run(EmbeddedBroker(server_context(options.ca, options.certificate, options.key)), options.port))
    return 0


async def _run(broker: EmbeddedBroker, port: int) -> None:
    task = asyncio.ensure_future(broker.serve(port))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await task


async def _send_queue(client: _Client) -> None:
    with contextlib.suppress(OSError):
        while True:
            topic, payload, qos = await client.queue.get()
            name = topic.encode()
            head = struct.pack(">H", len(name)) + name
            if qos:
                await client.window.acquire()
                client.next_id = client.next_id % 65535 + 1  # free: the window is far smaller than 65,535
                client.unacknowledged.add(client.next_id)
                head += struct.pack(">H", client.next_id)
            body = head + payload
            client.writer.write(bytes([_Packet.PUBLISH << 4 | qos << 1]) + _length(len(body)) + body)
            await client.writer.drain()


async def _read_packet(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """Type, flags and body of the next control packet."""
    (first,) = await reader.readexactly(1)
    length = 0
    for shift in (0, 7, 14, 21):  # 2.2.3
        (byte,) = await reader.readexactly(1)
        length |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
    else:
        raise _ProtocolError("a length of more than four bytes")
    if length > _PACKET_LIMIT:
        raise _ProtocolError(f"a packet of {length} bytes")
    return first >> 4, first & 15, await reader.readexactly(length)


def _connect(packet: tuple[int, int, bytes], name: str) -> tuple[_ConnectReturn, int]:
    """The answer to the first packet, which must be CONNECT, and the keep-alive in seconds (3.1)."""
    kind, _, body = packet
    if kind != _Packet.CONNECT:
        raise _ProtocolError("the first packet must be CONNECT")
    protocol, rest = _text(body)
    level, keepalive_s = rest[0], struct.unpack(">H", rest[2:4])[0]
    if protocol != "MQTT" or level != 4:
        return _ConnectReturn.UNACCEPTABLE_PROTOCOL, 0
    client_id, _ = _text(rest[4:])
    return (_ConnectReturn.ACCEPTED if client_id == name else _ConnectReturn.IDENTIFIER_REJECTED), keepalive_s


def _subscribe(client: _Client, body: bytes) -> None:
    answers, rest = bytearray(), body[2:]
    while rest:
        topic_filter, rest = _text(rest)
        qos, rest = min(rest[0], 1), rest[1:]
        allowed = may_read(client.name, topic_filter)
        if allowed:
            client.subscriptions[topic_filter] = qos
        answers.append(qos if allowed else 0x80)
    client.writer.write(bytes([_Packet.SUBACK << 4]) + _length(2 + len(answers)) + body[:2] + bytes(answers))


def _unsubscribe(client: _Client, body: bytes) -> None:
    rest = body[2:]
    while rest:
        topic_filter, rest = _text(rest)
        client.subscriptions.pop(topic_filter, None)
    client.writer.write(bytes([_Packet.UNSUBACK << 4, 2]) + body[:2])


def _text(body: bytes) -> tuple[str, bytes]:
    (length,) = struct.unpack(">H", body[:2])
    if len(body) < 2 + length:
        raise _ProtocolError("a text runs past its packet")
    return body[2 : 2 + length].decode("utf-8"), body[2 + length :]


def _length(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, digit = divmod(value, 128)
        encoded.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


def _common_name(writer: asyncio.StreamWriter) -> str:
    certificate = writer.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    if len(names) != 1:
        raise _ProtocolError("the certificate names no single CN")
    return str(names[0])


if __name__ == "__main__":
    sys.exit(main())
