"""What goes wrong between the uplink and the broker: said once, told to the terminal, nothing sent to a stranger."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from edge.ipc import Hello, Link, LinkState, Publish, Published, Up
from edge.uplink.link import PACKET_TOO_LARGE, SERVER_UNAVAILABLE, Connection, End, Ending, Protocol
from simulator.broker import mosquitto_path
from simulator.carrier.pki import CarrierPki, create_pki
from tests.support.mosquitto import mosquitto
from tests.support.small_broker import SmallBroker
from tests.support.wires import TERMINAL_ID, CarrierEnd, Place, TerminalEnd, enrolled, until, uplink_process

pytestmark = pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")
NOT_AUTHORISED = 0x87
NO_SUBSCRIBER = 0x10  # a success: the broker took the message


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return enrolled(tmp_path)


@pytest.fixture
def terminal(place: Place) -> Iterator[TerminalEnd]:
    end = TerminalEnd(place.settings.socket_path)
    yield end
    end.close()


def is_link(state: LinkState):
    return lambda message: isinstance(message, Link) and message.state is state


class Stranger:
    """A TLS server with a certificate of its own; records every byte of a client that trusts it."""

    def __init__(self, port: int, pki: CarrierPki) -> None:
        self.received = b""
        self.handshakes_failed = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pki.broker_certificate, pki.broker_key)
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.2)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._closing.set()
        self._thread.join(10)
        self._listener.close()

    def _serve(self):
        while not self._closing.is_set():
            try:
                raw, _ = self._listener.accept()
            except TimeoutError:
                continue
            raw.settimeout(3)
            try:
                with self._context.wrap_socket(raw, server_side=True) as client:
                    self.received += client.recv(65536)
            except OSError:
                self.handshakes_failed += 1
                raw.close()


def test_a_broker_with_a_certificate_of_another_ca_gets_not_one_byte(
    place: Place, terminal: TerminalEnd, tmp_path: Path
):
    with (
        Stranger(place.settings.uplink.port, create_pki(tmp_path / "other", now=datetime.now(UTC))) as stranger,
        uplink_process(place) as process,
    ):
        terminal.accept()
        refused = terminal.expect(is_link(LinkState.REFUSED))
        assert "not trusted" in refused.detail
        terminal.send(Publish(Up.RESULT, b"i" * 16, b"signed bytes"))
        terminal.expect(lambda m: m == Published(b"i" * 16, SERVER_UNAVAILABLE))
        until(lambda: stranger.handshakes_failed >= 2, timeout_s=30)
    assert stranger.received == b""
    down = [event for event in process.events() if event["event"] == "link-down"]
    assert len(down) == 1, "once an outage, not once a try"


def test_a_broker_under_another_host_name_gets_not_one_byte(tmp_path: Path):
    """The certificate is for localhost and 127.0.0.1; 127.0.0.2 is the same machine under a name that it does not hold."""
    place = enrolled(tmp_path, host="127.0.0.2")
    terminal = TerminalEnd(place.settings.socket_path)
    stranger = Stranger(place.settings.uplink.port, place.pki)
    stranger._listener.close()
    stranger._listener = socket.create_server(("127.0.0.2", place.settings.uplink.port))
    stranger._listener.settimeout(0.2)
    with stranger, uplink_process(place):
        terminal.accept()
        refused = terminal.expect(is_link(LinkState.REFUSED))
        assert "not trusted" in refused.detail
        terminal.send(Publish(Up.RESULT, b"i" * 16, b"signed bytes"))
        until(lambda: stranger.handshakes_failed >= 1)
    assert stranger.received == b""
    terminal.close()


def test_a_broker_that_does_not_know_our_ca_refuses_us_and_the_terminal_hears_it(
    place: Place, terminal: TerminalEnd, tmp_path: Path
):
    other = create_pki(tmp_path / "other", now=datetime.now(UTC))
    with mosquitto(place, cafile=other.ca), uplink_process(place) as process:
        terminal.accept()
        refused = terminal.expect(is_link(LinkState.REFUSED), timeout_s=40)
        assert "certificate" in refused.detail
        time.sleep(3)
    assert len([event for event in process.events() if event["event"] == "link-down"]) <= 2


def test_a_broker_that_is_down_at_the_start_is_found_when_it_comes(place: Place, terminal: TerminalEnd):
    broker = place.broker()
    with uplink_process(place) as process:
        terminal.accept()
        terminal.expect(is_link(LinkState.DOWN))
        time.sleep(2)
        with broker:
            terminal.expect(is_link(LinkState.UP), timeout_s=60)
    kinds = [event["event"] for event in process.events() if str(event["event"]).startswith("link")]
    assert kinds[:2] == ["link-down", "link-up"]


def test_a_broker_killed_with_messages_in_flight_gets_them_again(place: Place, terminal: TerminalEnd):
    with place.broker() as broker, uplink_process(place):
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        broker.kill()
        terminal.send(Publish(Up.RESULT, b"i" * 16, b"signed bytes"))
        terminal.expect(is_link(LinkState.DOWN), timeout_s=40)
        broker.start()
        carrier = CarrierEnd(place)
        terminal.expect(is_link(LinkState.UP), timeout_s=60)
        terminal.send(Publish(Up.RESULT, b"i" * 16, b"signed bytes"))
        assert carrier.receive()[1] == b"signed bytes"
        carrier.close()


def test_a_denied_publish_is_a_refusal_that_the_terminal_hears(place: Place, terminal: TerminalEnd):
    rules = "pattern read fv1/dn/%u/#\npattern write fv1/up/%u/status\n"
    with mosquitto(place, rules=rules), uplink_process(place) as process:
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        terminal.send(Publish(Up.RESULT, b"i" * 16, b"signed bytes"))
        assert terminal.expect(lambda m: isinstance(m, Published)) == Published(b"i" * 16, NOT_AUTHORISED)
        terminal.expect(is_link(LinkState.REFUSED))
        terminal.send(Publish(Up.STATUS, b"j" * 16, b"status"))
        assert terminal.expect(lambda m: isinstance(m, Published)) == Published(b"j" * 16, NO_SUBSCRIBER)
        terminal.expect(is_link(LinkState.UP))
    assert [e["reason_code"] for e in process.events() if e["event"] == "publish-refused"] == [NOT_AUTHORISED]


def test_a_message_over_the_brokers_limit_is_refused_unsent_and_the_link_stays(place: Place, terminal: TerminalEnd):
    with mosquitto(place, "max_packet_size 500"), uplink_process(place) as process:
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        terminal.send(Publish(Up.RESULT, b"i" * 16, b"x" * 1000))
        assert terminal.expect(lambda m: isinstance(m, Published)) == Published(b"i" * 16, PACKET_TOO_LARGE)
        terminal.send(Publish(Up.RESULT, b"j" * 16, b"x" * 100))
        assert terminal.expect(lambda m: isinstance(m, Published)) == Published(b"j" * 16, NO_SUBSCRIBER)
    assert len([event for event in process.events() if event["event"] == "link-up"]) == 1


def test_a_session_taken_over_by_another_client_stops_and_alarms(place: Place, terminal: TerminalEnd):
    with SmallBroker(place, v5=True) as broker, uplink_process(place) as process:
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        broker.take_over()
        terminal.expect(is_link(LinkState.TAKEN_OVER))
        time.sleep(4)
        terminal.hang_up()
        terminal.accept()
        alarm = terminal.expect(lambda m: isinstance(m, Link))
        assert alarm.state is LinkState.TAKEN_OVER, "a terminal that comes later hears it too"
    assert broker.levels == [5], "the uplink must not fight for the session"
    assert len([event for event in process.events() if event["event"] == "link-up"]) == 1


def test_two_clients_that_fight_for_one_identity_are_noticed_where_the_broker_gives_no_reason(
    place: Place, terminal: TerminalEnd
):
    """mosquitto 2.0.11 hangs up on the old session without a word, in MQTT 5 too."""
    with place.broker(), uplink_process(place):
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        uplink = place.settings.uplink
        thief = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=TERMINAL_ID, protocol=mqtt.MQTTv5)
        context = ssl.create_default_context(cafile=uplink.ca)
        context.load_cert_chain(uplink.certificate, uplink.key)
        thief.tls_set_context(context)
        thief.connect("localhost", uplink.port)
        thief.loop_start()
        refused = terminal.expect(is_link(LinkState.REFUSED), timeout_s=100)
        assert "identity used twice" in refused.detail
        thief.disconnect()
        thief.loop_stop()


def test_a_broker_that_accepts_and_says_nothing_is_given_up(place: Place, monkeypatch: pytest.MonkeyPatch):
    with Mute(place):
        connection = Connection.open(place.settings.uplink, TERMINAL_ID, Protocol.V5, now=100.0)
        assert isinstance(connection, Connection)
        connection.advance(105.0, readable=False, writable=True)
        assert connection.end is None
        connection.advance(111.0, readable=False, writable=False)
        assert connection.end is not None
        assert connection.end.ending is Ending.LOST
        assert connection.socket is None


def test_a_fault_in_a_callback_ends_the_connection_and_never_the_process(place: Place, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Connection, "_on_connect", broken)
    with place.broker():
        connection = Connection.open(place.settings.uplink, TERMINAL_ID, Protocol.V5, now=0.0)
        assert isinstance(connection, Connection)
        deadline = time.monotonic() + 10
        while connection.end is None and time.monotonic() < deadline:
            connection.advance(0.0, readable=True, writable=True)
        assert connection.end == End(Ending.LOST, "a fault of ours while handling the broker: ZeroDivisionError")
        connection.advance(0.0, readable=False, writable=False)
        assert connection.socket is None


@pytest.mark.parametrize("broken", ["certificate", "key", "ca"])
def test_an_unusable_identity_is_a_refusal_with_its_cause(place: Place, broken: str):
    getattr(place.settings.uplink, broken).write_text("nonsense")
    end = Connection.open(place.settings.uplink, TERMINAL_ID, Protocol.V5, now=0.0)
    assert isinstance(end, End)
    assert end.ending is Ending.REFUSED
    assert "cannot be used" in end.detail


def test_the_certificate_of_another_terminal_is_not_used(place: Place):
    end = Connection.open(place.settings.uplink, "f" * 32, Protocol.V5, now=0.0)
    assert end == End(Ending.REFUSED, "our certificate is another terminal's")


def test_a_terminal_that_speaks_nonsense_is_dropped_and_met_again(place: Place, terminal: TerminalEnd):
    with uplink_process(place) as process:
        terminal.accept(hello=False)
        assert isinstance(terminal.receive(), Hello)  # who is gone before the uplink's hello was never there
        terminal._socket.sendall(b"\xff" * 64)
        terminal.accept(timeout_s=20)
        until(lambda: any(event["event"] == "terminal-lost" for event in process.events()))
        until(lambda: sum(event["event"] == "terminal-here" for event in process.events()) >= 1)


class Mute:
    """Accepts TLS and never answers."""

    def __init__(self, place: Place) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(place.pki.broker_certificate, place.pki.broker_key)
        self._listener = socket.create_server(("127.0.0.1", place.settings.uplink.port))
        self._listener.settimeout(10)
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(15)
        for client in self._clients:
            client.close()
        self._listener.close()

    def _serve(self):
        raw, _ = self._listener.accept()
        self._clients.append(self._context.wrap_socket(raw, server_side=True))
