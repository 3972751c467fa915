"""A broker for one client at a time over mutual TLS, that does what no installed broker can be asked to do.

It knows no MQTT 5, or it does and ends a session with the reason "session taken over".
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from typing import Self

from tests.support.wires import Place


class SmallBroker:
    """Without `v5` it answers MQTT 5 with "unacceptable protocol version", as OASIS MQTT 3.1.1, 3.2.2.3 demands.

    With `denies` it refuses every subscription.
    """

    def __init__(self, place: Place, *, v5: bool = False, denies: bool = False) -> None:
        self._v5 = v5
        self._granted = (b"\x87" if v5 else b"\x80") if denies else b"\x01"
        self._take_over = threading.Event()
        self.levels: list[int] = []
        self.received: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(place.pki.broker_certificate, place.pki.broker_key)
        self._context.load_verify_locations(place.pki.ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", place.settings.uplink.port))
        self._listener.settimeout(0.2)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(10)
        self._listener.close()

    def take_over(self) -> None:
        """End the present session as if another client had come with the same identity."""
        self._take_over.set()

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                raw, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                with self._context.wrap_socket(raw, server_side=True) as client:
                    client.settimeout(0.2)
                    self._talk(client)
            except OSError:
                continue

    def _talk(self, client: ssl.SSLSocket) -> None:
        while not self._closing.is_set():
            try:
                head = client.recv(1)
            except TimeoutError:
                if self._take_over.is_set():
                    self._take_over.clear()
                    client.sendall(b"\xe0\x02\x8e\x00")
                    return
                continue
            if not head:
                return
            body = self._exactly(client, self._length(client))
            match head[0] >> 4:
                case 1:  # CONNECT: the protocol level follows the name "MQTT"
                    self.levels.append(body[6])
                    if self._v5 and body[6] == 5:
                        client.sendall(bytes([0x20, 3, 0, 0, 0]))
                        continue
                    client.sendall(bytes([0x20, 2, 0, 0 if body[6] == 4 else 1]))
                    if body[6] != 4:
                        return
                case 8:  # SUBSCRIBE: the same answer for each topic
                    topics, at = 0, 3 if self._v5 else 2
                    while at < len(body):
                        at += 3 + struct.unpack_from(">H", body, at)[0]
                        topics += 1
                    answer = body[:2] + (b"\x00" if self._v5 else b"") + self._granted * topics
                    client.sendall(bytes([0x90, len(answer)]) + answer)
                case 3:  # PUBLISH with QoS 1
                    (size,) = struct.unpack_from(">H", body, 0)
                    self.received.append(body[4 + size :])
                    client.sendall(b"\x40\x02" + body[2 + size : 4 + size])
                case 12:
                    client.sendall(b"\xd0\x00")
                case 14:
                    return

    def _length(self, client: ssl.SSLSocket) -> int:
        total, shift = 0, 0
        while True:
            (byte,) = self._exactly(client, 1)
            total |= (byte & 0x7F) << shift
            if byte < 0x80:
                return total
            shift += 7

    def _exactly(self, client: ssl.SSLSocket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                chunk = client.recv(count - len(data))
            except TimeoutError:
                continue
            if not chunk:
                raise ConnectionResetError
            data += chunk
        return data
