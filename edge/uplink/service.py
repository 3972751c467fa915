"""Process 2: carries opaque frames between the terminal's Unix socket and the carrier's broker; keeps nothing.

It may be killed at any time: the terminal's journal is the only queue. It cannot see a camera, a face or the result
key, and looks into no payload but one of its own: the answer to its request for a new TLS certificate. One thread, one
selector; the only call that may block is a connection attempt.
"""

from __future__ import annotations

import logging
import random
import secrets
import selectors
import signal
from collections.abc import Callable

from edge.clock import Clock, SystemClock
from edge.config import Settings
from edge.errors import IpcError
from edge.ipc import Down, Inbound, Link, LinkState, Message, Publish, Published, Up
from edge.log import Log, setup
from edge.papers import read_papers
from edge.uplink.backoff import Backoff
from edge.uplink.channel import Channel
from edge.uplink.link import SERVER_UNAVAILABLE, Arrived, Connection, Dropped, End, Ending, Protocol
from edge.uplink.renewal import DER_SEQUENCE, Renewal
from edge.uplink.updates import UpdateWatch
from edge.watchdog import Notifier

_TURN_S = 0.5
_TERMINAL_CAP_S = 5.0
_FIRST_REFUSAL = 0x80
# A broker that has no reason codes (3.1.1) ends a stolen session by hanging up; so does one that denies a topic.
_SUSPICIOUS_LOSSES = 4
# One hang-up for each protocol version that we speak: then it is not the version.
_SUSPICIOUS_HANG_UPS = 2


def main(settings: Settings, *, verbose: bool = False) -> int:
    """Be the uplink process until SIGTERM or SIGINT; its exit code."""
    setup("uplink", level=logging.DEBUG if verbose else logging.INFO)
    uplink = Uplink(
        settings, clock=SystemClock(), jitter=random.SystemRandom().random, notifier=Notifier.from_environment()
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: uplink.stop())
    watch = UpdateWatch(settings, SystemClock(), random.SystemRandom().random)
    watch.start()
    try:
        return uplink.run()
    finally:
        watch.stop()


class Uplink:
    """The service. `run` returns when `stop` was called; a signal handler may call it."""

    def __init__(
        self, settings: Settings, *, clock: Clock, jitter: Callable[[], float], notifier: Notifier, held_s: float = 30.0
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._notifier = notifier
        self._log = Log("uplink")
        self._renewal = Renewal(settings.uplink, settings.terminal_id, clock)
        self._terminal: Channel | None = None
        self._terminal_backoff = Backoff(jitter, base_s=0.25, cap_s=_TERMINAL_CAP_S, held_s=1.0)
        self._terminal_due = 0.0
        self._connection: Connection | None = None
        self._connection_backoff = Backoff(jitter, held_s=held_s)
        self._connection_due = 0.0
        self._protocol = Protocol.V311 if settings.uplink.protocol == "3.1.1" else Protocol.V5
        self._state = LinkState.DOWN
        self._detail = ""
        self._outage: tuple[float, frozenset[Ending]] | None = None
        self._accepted_losses = 0
        self._hang_ups = 0
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> int:
        """Serve until stopped; 0."""
        self._notifier.ready("waiting for the terminal")
        while not self._stopping:
            self.turn()
        self._notifier.stopping()
        if self._connection is not None:
            self._connection.close()
        if self._terminal is not None:
            self._terminal.close()
        return 0

    def turn(self) -> None:
        """One round: connect what is due, wait for either side, carry what came."""
        now = self._clock.monotonic()
        self._notifier.alive(now)
        if self._terminal is None and now >= self._terminal_due:
            self._meet_terminal(now)
        if self._wants_broker(now):
            self._meet_broker(now)
        terminal_readable, broker_readable, broker_writable = self._wait()
        if terminal_readable:
            self._from_terminal()
        if self._connection is not None:
            self._serve_broker(self._connection, readable=broker_readable, writable=broker_writable)
        if self._connection is not None and self._connection.is_up:
            self._renew(self._connection)

    def _wants_broker(self, now: float) -> bool:
        """Online only while there is a terminal: then nothing is acknowledged that could not be handed on."""
        here = self._terminal is not None and self._terminal.greeted
        return (
            here
            and self._connection is None
            and self._state is not LinkState.TAKEN_OVER
            and now >= self._connection_due
        )

    def _wait(self) -> tuple[bool, bool, bool]:
        """Up to _TURN_S: (terminal readable, broker readable, broker writable)."""
        with selectors.DefaultSelector() as selector:
            if self._terminal is not None:
                selector.register(self._terminal.socket, selectors.EVENT_READ, "terminal")
            sock = self._connection.socket if self._connection is not None else None
            if sock is not None and self._connection is not None:
                write = selectors.EVENT_WRITE if self._connection.wants_to_write else 0
                selector.register(sock, selectors.EVENT_READ | write, "broker")
            ready = {key.data: events for key, events in selector.select(_TURN_S)}
        broker = ready.get("broker", 0)
        return "terminal" in ready, bool(broker & selectors.EVENT_READ), bool(broker & selectors.EVENT_WRITE)

    def _meet_terminal(self, now: float) -> None:
        self._terminal = Channel.open(self._settings.socket_path)
        if self._terminal is None:
            if self._terminal_backoff.failures == 0:
                self._log.warning("terminal-away", path=self._settings.socket_path)
            self._terminal_due = now + self._terminal_backoff.lost(now)
            return
        self._terminal_backoff.connected(now)
        self._tell(Link(self._state, self._detail))
        self._tell_papers()

    def _lose_terminal(self, why: str) -> None:
        if self._terminal is None:
            return
        now = self._clock.monotonic()
        self._log.warning("terminal-lost", why=why)
        self._terminal.close()
        self._terminal = None
        self._terminal_due = now + self._terminal_backoff.lost(now)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._set_state(LinkState.DOWN, "")

    def _from_terminal(self) -> None:
        if self._terminal is None:
            return
        greeted = self._terminal.greeted
        try:
            messages = self._terminal.receive()
        except OSError:
            self._lose_terminal("closed")
            return
        except IpcError as exc:
            self._lose_terminal(exc.message)
            return
        if self._terminal.greeted and not greeted:
            self._log.info("terminal-here")
        for message in messages:
            self._publish(message)

    def _publish(self, message: Message) -> None:
        if not isinstance(message, Publish):
            self._lose_terminal(f"a frame that the terminal may not send: {type(message).__name__}")
        elif self._connection is not None and self._connection.is_up:
            self._connection.publish(message)
        else:
            self._tell(Published(message.message_id, SERVER_UNAVAILABLE))

    def _meet_broker(self, now: float) -> None:
        self._renewal.settle()
        pair = self._renewal.pair()
        identity = self._settings.uplink.model_copy(update={"certificate": pair.certificate, "key": pair.key})
        opened = Connection.open(identity, self._settings.terminal_id, self._protocol, now)
        if isinstance(opened, End):
            self._ended(opened, was_up=False)
        else:
            self._connection = opened
            self._tell_papers()  # they are read anew at every connect

    def _serve_broker(self, connection: Connection, *, readable: bool, writable: bool) -> None:
        was_up = connection.is_up
        happened = connection.advance(self._clock.monotonic(), readable=readable, writable=writable)
        if connection.is_up and not was_up:
            self._came_up(connection)
        for message in happened:
            if isinstance(message, Arrived) and _is_certificate(message):
                self._renewal.answered(message.payload)
                connection.acknowledge(message)
            elif isinstance(message, Arrived):
                self._tell(Inbound(message.topic, message.payload))
                if self._terminal is not None:
                    connection.acknowledge(message)
            elif isinstance(message, Dropped):
                self._log.warning("message-dropped", topic=message.topic, size_bytes=message.size_bytes)
            else:
                self._acknowledged(message)
        if connection.end is not None and connection is self._connection:
            self._connection = None
            self._ended(connection.end, was_up=was_up)

    def _renew(self, connection: Connection) -> None:
        """Ask for a new certificate when it is time; connect with it when it is there."""
        now = self._clock.monotonic()
        request = self._renewal.request(now)
        if request is not None:
            connection.publish(Publish(Up.AUDIT, secrets.token_bytes(16), request))
        if self._renewal.begin_trial(now):
            self._connection = None
            connection.close()
            self._connection_due = now
            self._set_state(LinkState.DOWN, "connecting with a new certificate")

    def _acknowledged(self, message: Published) -> None:
        self._tell(message)
        if message.reason_code >= _FIRST_REFUSAL:
            if self._state is LinkState.UP:
                self._log.error("publish-refused", reason_code=message.reason_code)
            self._set_state(LinkState.REFUSED, f"the broker refuses a message: reason {message.reason_code:#04x}")
        elif self._state is LinkState.REFUSED:
            self._log.info("publish-accepted-again")
            self._set_state(LinkState.UP, "")

    def _came_up(self, connection: Connection) -> None:
        now = self._clock.monotonic()
        self._renewal.connected()
        self._connection_backoff.connected(now)
        outage_s = now - self._outage[0] if self._outage is not None else 0.0
        self._log.info("link-up", protocol=connection.protocol, outage_s=outage_s)
        self._outage = None
        self._set_state(LinkState.UP, "")

    def _ended(self, end: End, *, was_up: bool) -> None:
        """Decide when and how to try again, and say once an outage what is wrong.

        MQTT 5 first, 3.1.1 where the broker has no 5; and back, lest a hang-up for another reason pins us to it.
        """
        now = self._clock.monotonic()
        if self._renewal.on_trial:
            self._log.warning("renewal-trial-failed", ending=end.ending, detail=end.detail)
            self._renewal.failed(now, refused=end.ending in (Ending.REFUSED, Ending.HUNG_UP))
            self._connection_due = now
            return
        if end.ending in (Ending.OLD_BROKER, Ending.HUNG_UP) and self._settings.uplink.protocol == "auto":
            self._protocol = Protocol.V311 if self._protocol is Protocol.V5 else Protocol.V5
        self._hang_ups = self._hang_ups + 1 if end.ending is Ending.HUNG_UP else 0
        delay_s = self._connection_backoff.lost(now)
        self._connection_due = now + delay_s
        self._accepted_losses = self._accepted_losses + 1 if was_up and self._connection_backoff.failures > 1 else 0
        since, told = self._outage or (now, frozenset())
        log = self._log.debug if end.ending in told else self._log.warning  # once for each kind of end in an outage
        self._outage = (since, told | {end.ending})
        log("link-down", ending=end.ending, detail=end.detail, next_try_s=delay_s)
        self._set_state(*self._verdict(end))

    def _verdict(self, end: End) -> tuple[LinkState, str]:
        if end.ending is Ending.TAKEN_OVER:
            return LinkState.TAKEN_OVER, f"{end.detail}; no reconnect until this service is restarted"
        if end.ending is Ending.REFUSED:
            return LinkState.REFUSED, end.detail
        if self._hang_ups >= _SUSPICIOUS_HANG_UPS:
            return LinkState.REFUSED, "the broker hangs up before it answers: it may not trust our certificate"
        if self._accepted_losses >= _SUSPICIOUS_LOSSES:
            return (
                LinkState.REFUSED,
                "the broker hangs up soon after accepting: our identity used twice, or a topic denied",
            )
        return LinkState.DOWN, end.detail

    def _set_state(self, state: LinkState, detail: str) -> None:
        if (state, detail) == (self._state, self._detail):
            return
        self._state, self._detail = state, detail
        self._notifier.status(f"broker {state.name.lower()} {detail}".strip())
        self._tell(Link(state, detail))

    def _tell_papers(self) -> None:
        held = read_papers(self._settings.uplink)
        if held is not None:
            self._tell(held)

    def _tell(self, message: Message) -> None:
        if self._terminal is None:
            return
        try:
            self._terminal.send(message)
        except OSError:
            self._lose_terminal("closed")


def _is_certificate(message: Arrived) -> bool:
    """An answer to our own request: DER where everything for the terminal is COSE."""
    return message.topic is Down.COMMAND and message.payload[:1] == DER_SEQUENCE
