"""One message to the broker from a command line, not from the service: connect, publish, wait for its word, leave."""

from __future__ import annotations

import secrets
import selectors
import time

from edge.config import Settings
from edge.ipc import Publish, Published, Up
from edge.uplink.link import Connection, End, Protocol

_PATIENCE_S = 15.0
_TURN_S = 0.2
_FIRST_REFUSAL = 0x80


def send_once(settings: Settings, topic: Up, payload: bytes) -> str | None:
    """None once the broker has acknowledged; else why it did not go."""
    why = ""
    for protocol in (Protocol.V5, Protocol.V311):
        opened = Connection.open(settings.uplink, settings.terminal_id, protocol, time.monotonic())
        if isinstance(opened, End):
            why = opened.detail
            continue
        try:
            told = _publish(opened, Publish(topic, secrets.token_bytes(16), payload))
        finally:
            opened.close()
        if told is None:
            return None
        why = told
    return why


def _publish(connection: Connection, message: Publish) -> str | None:
    deadline = time.monotonic() + _PATIENCE_S
    sent = False
    while connection.end is None and time.monotonic() < deadline:
        if connection.is_up and not sent:
            connection.publish(message)
            sent = True
        readable, writable = _wait(connection)
        for happened in connection.advance(time.monotonic(), readable=readable, writable=writable):
            if isinstance(happened, Published) and happened.message_id == message.message_id:
                if happened.reason_code < _FIRST_REFUSAL:
                    return None
                return f"the broker refuses it: reason {happened.reason_code:#04x}"
    return connection.end.detail if connection.end else "the broker does not answer"


def _wait(connection: Connection) -> tuple[bool, bool]:
    with selectors.DefaultSelector() as selector:
        write = selectors.EVENT_WRITE if connection.wants_to_write else 0
        selector.register(connection.socket, selectors.EVENT_READ | write)
        ready = {events for _, events in selector.select(_TURN_S)}
    events = next(iter(ready), 0)
    return bool(events & selectors.EVENT_READ), bool(events & selectors.EVENT_WRITE)
