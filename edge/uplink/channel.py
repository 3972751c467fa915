"""The uplink's end of the Unix socket to the terminal; what the frames mean belongs to service.py."""

from __future__ import annotations

import socket
from pathlib import Path

from edge.errors import IpcError
from edge.ipc import PROTOCOL_VERSION, Decoder, Hello, Message, encode

# The terminal's reader does nothing but read: a peer that does not read for this long is hung.
_SEND_TIMEOUT_S = 5.0
_CHUNK = 65536


class Channel:
    """A connected terminal. Reading never blocks; sending blocks for `_SEND_TIMEOUT_S` at most."""

    @classmethod
    def open(cls, path: Path) -> Channel | None:
        """Connect and say hello; None where no terminal listens."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(_SEND_TIMEOUT_S)
            sock.connect(str(path))
            channel = cls(sock)
            channel.send(Hello())
        except OSError:
            sock.close()
            return None
        return channel

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.greeted = False
        self._decoder = Decoder()

    def receive(self) -> list[Message]:
        """What has arrived, the terminal's hello taken off. IpcError when malformed, OSError when gone."""
        try:
            data = self.socket.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError
        messages = self._decoder.feed(data)
        if messages and not self.greeted:
            if messages[0] != Hello(PROTOCOL_VERSION):
                raise IpcError(
                    "the terminal speaks another version of the protocol", todo="install both from one release"
                )
            self.greeted = True
            messages = messages[1:]
        return messages

    def send(self, message: Message) -> None:
        """OSError when the terminal is gone or hung."""
        self.socket.sendall(encode(message))

    def close(self) -> None:
        self.socket.close()
