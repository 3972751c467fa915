"""The carrier's link and a real broker: what it says of its own troubles."""

from __future__ import annotations

from datetime import UTC, datetime

from simulator.broker import Broker, BrokerKind, BrokerTls, mosquitto_path
from simulator.carrier.link import BrokerAddress, CarrierLink
from simulator.carrier.pki import create_pki
from tests.support.wires import until

KIND = BrokerKind.MOSQUITTO if mosquitto_path() else BrokerKind.EMBEDDED
HINT = "does another carrier run with the same keys?"


def test_two_carriers_with_the_same_keys_are_told_that_and_one_alone_is_not(tmp_path, caplog):
    pki = create_pki(tmp_path / "keys", now=datetime.now(UTC))
    with Broker(tmp_path / "broker", BrokerTls.of(pki), kind=KIND) as broker:
        address = BrokerAddress("localhost", broker.port, pki.ca, pki.client_certificate, pki.client_key)
        links = [CarrierLink(address) for _ in range(2)]
        try:
            links[0].start(lambda *_: None)
            assert links[0].wait_up(10)
            assert HINT not in caplog.text
            links[1].start(lambda *_: None)
            until(lambda: HINT in caplog.text, 40)
        finally:
            for link in links:
                link.stop()
