"""Messages and certificates that a real broker carries though they are wrong: dropped or refused, said, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from edge.ipc import Down, Inbound, Link, LinkState, Publish, Published, Up
from edge.uplink.link import SERVER_UNAVAILABLE
from simulator.broker import mosquitto_path
from tests.support import wires
from tests.support.mosquitto import mosquitto
from tests.support.small_broker import SmallBroker
from tests.support.wires import CarrierEnd, Place, TerminalEnd, enrolled, uplink_process

pytestmark = pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return enrolled(tmp_path)


@pytest.fixture
def terminal(place: Place) -> Iterator[TerminalEnd]:
    end = TerminalEnd(place.settings.socket_path)
    yield end
    end.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_an_oversized_challenge_is_dropped_and_the_next_one_arrives(
    place: Place, terminal: TerminalEnd, protocol: str
) -> None:
    place.config.write_text(place.config.read_text().replace("[uplink]", f'[uplink]\nprotocol = "{protocol}"'))
    rules = "user carrier\ntopic readwrite fv1/#\n\npattern readwrite fv1/+/%u/#\n"
    with mosquitto(place, rules=rules), uplink_process(place) as process:  # a broker without a limit of its own
        carrier = CarrierEnd(place)
        terminal.accept()
        terminal.expect(lambda m: isinstance(m, Link) and m.state is LinkState.UP)
        for size in (4097, 9000, 200_000):
            carrier.send("challenge", b"x" * size)
        carrier.send("challenge", b"y" * 4096)
        arrived = terminal.expect(lambda m: isinstance(m, Inbound))
        carrier.close()
    assert arrived == Inbound(Down.CHALLENGE, b"y" * 4096)
    assert not [event for event in process.events() if event["event"] == "link-down"], "the link stays"
    dropped = [event for event in process.events() if event["event"] == "message-dropped"]
    # MQTT 5 lets the uplink name its limit, so that the broker keeps the larger ones back.
    assert [event["size_bytes"] for event in dropped] == ([4097] if protocol == "5" else [4097, 9000, 200_000])


@pytest.mark.parametrize("v5", [True, False])
def test_a_broker_that_denies_our_topics_is_a_refusal_and_gets_no_result(
    place: Place, terminal: TerminalEnd, v5: bool
) -> None:
    with SmallBroker(place, v5=v5, denies=True) as broker, uplink_process(place):
        terminal.accept()
        refused = terminal.expect(lambda m: isinstance(m, Link) and m.state is LinkState.REFUSED)
        assert "denies us the topics" in refused.detail
        terminal.send(Publish(Up.RESULT, b"i" * 16, b"signed bytes"))
        terminal.expect(lambda m: m == Published(b"i" * 16, SERVER_UNAVAILABLE))
    assert broker.received == []


@pytest.mark.parametrize(("years", "words"), [(-12, "expired"), (12, "not yet valid")])
def test_a_clock_years_off_is_named_as_a_possible_cause_and_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int, words: str
) -> None:
    """The certificates are moved in time instead of the machine's clock: the distance is what TLS sees."""

    class Elsewhere(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=365 * years)

    monkeypatch.setattr(wires, "datetime", Elsewhere)
    place = enrolled(tmp_path)
    terminal = TerminalEnd(place.settings.socket_path)
    with mosquitto(place), uplink_process(place):
        terminal.accept()
        refused = terminal.expect(lambda m: isinstance(m, Link) and m.state is LinkState.REFUSED)
        assert words in refused.detail
        assert "clock" in refused.detail
        terminal.send(Publish(Up.RESULT, b"i" * 16, b"signed bytes"))
        terminal.expect(lambda m: m == Published(b"i" * 16, SERVER_UNAVAILABLE))
    terminal.close()
