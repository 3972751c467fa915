"""The uplink process against a real broker: what the terminal hands it arrives, and what the carrier sends comes down."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.ipc import Down, Inbound, Link, LinkState, Publish, Published, Up
from simulator.broker import mosquitto_path
from tests.support.wires import TERMINAL_ID, CarrierEnd, Place, TerminalEnd, enrolled, uplink_process

pytestmark = pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")


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


def test_a_result_reaches_the_carrier_and_a_receipt_the_terminal(place: Place, terminal: TerminalEnd) -> None:
    with place.broker(), uplink_process(place) as process:
        carrier = CarrierEnd(place)
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        terminal.send(Publish(Up.RESULT, b"i" * 16, b"signed bytes"))
        assert carrier.receive() == (f"fv1/up/{TERMINAL_ID}/result", b"signed bytes")
        assert terminal.expect(lambda m: isinstance(m, Published)) == Published(b"i" * 16, 0)
        carrier.send("receipt", b"a receipt")
        assert terminal.expect(lambda m: isinstance(m, Inbound)) == Inbound(Down.RECEIPT, b"a receipt")
        carrier.send("nonsense", b"unknown topic")
        carrier.send("challenge", b"x" * 4096)
        assert terminal.expect(lambda m: isinstance(m, Inbound)) == Inbound(Down.CHALLENGE, b"x" * 4096)
        assert process.rss_mib() < 60
        carrier.close()
    up = [event for event in process.events() if event["event"] == "link-up"]
    assert [event["protocol"] for event in up] == ["v5"]


def test_a_message_that_asks_for_no_acknowledgement_gets_none(place: Place, terminal: TerminalEnd) -> None:
    with place.broker(), uplink_process(place) as process:
        carrier = CarrierEnd(place)
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        for number in range(3):
            carrier.send("challenge", bytes([number]), qos=0)
            assert terminal.expect(lambda m: isinstance(m, Inbound)) == Inbound(Down.CHALLENGE, bytes([number]))
        carrier.close()
    assert not [event for event in process.events() if event["event"] == "link-down"]


def test_messages_arrive_in_the_order_in_which_they_were_handed_over(place: Place, terminal: TerminalEnd) -> None:
    with place.broker(), uplink_process(place):
        carrier = CarrierEnd(place)
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        for n in range(200):
            terminal.send(Publish(Up.RESULT, n.to_bytes(16), str(n).encode()))
            if n >= 30:
                terminal.expect(lambda m: isinstance(m, Published))
        assert [carrier.receive()[1] for _ in range(200)] == [str(n).encode() for n in range(200)]
        carrier.close()


def test_a_broker_that_knows_no_mqtt_5_is_spoken_to_in_3_1_1(place: Place, terminal: TerminalEnd) -> None:
    from tests.support.small_broker import SmallBroker

    with SmallBroker(place) as broker, uplink_process(place) as process:
        terminal.accept()
        terminal.expect(is_link(LinkState.UP), timeout_s=30)
        terminal.send(Publish(Up.RESULT, b"i" * 16, b"signed bytes"))
        assert terminal.expect(lambda m: isinstance(m, Published)) == Published(b"i" * 16, 0)
    assert broker.levels == [5, 4]
    assert [e["protocol"] for e in process.events() if e["event"] == "link-up"] == ["v311"]


def test_a_renewed_certificate_is_used_at_the_next_connect(place: Place, terminal: TerminalEnd) -> None:
    """The old certificate is broken on disk: only a reload can then bring the link up again."""
    uplink = place.settings.uplink
    good = uplink.certificate.with_suffix(".good")
    shutil.copy(uplink.certificate, good)
    with place.broker() as broker, uplink_process(place):
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        uplink.certificate.write_text("no certificate")
        broker.kill()
        refused = terminal.expect(is_link(LinkState.REFUSED), timeout_s=40)
        assert "certificate" in refused.detail
        broker.start()
        shutil.copy(good, uplink.certificate)
        terminal.expect(is_link(LinkState.UP), timeout_s=60)


def test_the_uplink_waits_for_the_terminal_and_finds_it_again(place: Place, terminal: TerminalEnd) -> None:
    with place.broker(), uplink_process(place):
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        terminal.hang_up()
        terminal.accept()
        terminal.expect(is_link(LinkState.UP), timeout_s=30)


def test_without_a_terminal_the_uplink_stays_offline(place: Place) -> None:
    with place.broker() as broker, uplink_process(place) as process:
        from tests.support.wires import until

        until(lambda: any(event["event"] == "terminal-away" for event in process.events()))
        assert process.stop() == 0
    assert TERMINAL_ID not in broker.log_path.read_text()
