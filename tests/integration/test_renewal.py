"""The TLS certificate is renewed over the live link to a real broker: asked for, proven, and only then in the old one's
place; a new one that does not work costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from edge.evidence.signer import load_private_key
from edge.ipc import Inbound, Link, LinkState, Publish, Up
from edge.provisioning import identity
from edge.uplink.renewal import due_at
from simulator.broker import mosquitto_path
from simulator.carrier import registry
from simulator.carrier.pki import create_pki, issue_terminal_certificate
from simulator.carrier.store import Store
from tests.support.wires import TERMINAL_ID, CarrierEnd, Place, TerminalEnd, enrolled, until, uplink_process

pytestmark = [
    pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(240),
]
AGO = timedelta(days=300)  # of 366: above two thirds and the longest delay


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return enrolled(tmp_path, enrolled_at=datetime.now(UTC) - AGO)


@pytest.fixture
def terminal(place: Place) -> Iterator[TerminalEnd]:
    end = TerminalEnd(place.settings.socket_path)
    yield end
    end.close()


@pytest.fixture
def house(place: Place, terminal: TerminalEnd) -> Iterator[tuple[Place, TerminalEnd, CarrierEnd, object]]:
    with place.broker(), uplink_process(place) as process:
        carrier = CarrierEnd(place)
        terminal.accept()
        terminal.expect(is_link(LinkState.UP))
        yield place, terminal, carrier, process
        carrier.close()


def is_link(state: LinkState):
    return lambda message: isinstance(message, Link) and message.state is state


def asked(carrier: CarrierEnd) -> bytes:
    topic, request = carrier.receive(30)
    assert topic == f"fv1/up/{TERMINAL_ID}/audit"
    return request


def certificate(place: Place) -> x509.Certificate:
    return x509.load_pem_x509_certificate(place.settings.uplink.certificate.read_bytes())


def works(terminal: TerminalEnd, carrier: CarrierEnd) -> bool:
    terminal.send(Publish(Up.RESULT, b"i" * 16, b"a result"))
    return carrier.receive(30)[1] == b"a result"


def names(process) -> list[object]:
    return [event["event"] for event in process.events()]


def test_a_certificate_that_is_due_is_renewed_with_a_new_key_while_results_flow(house) -> None:
    place, terminal, carrier, process = house
    old, old_key = certificate(place), place.settings.uplink.key.read_bytes()
    assert due_at(old) < datetime.now(UTC).timestamp()
    request = asked(carrier)
    assert len(request) < 512
    answer = registry.renewed(
        place.pki, Store(":memory:"), TERMINAL_ID, request, now=int(datetime.now(UTC).timestamp())
    )
    assert len(answer) < 4096
    carrier.send("command", answer)
    terminal.expect(is_link(LinkState.DOWN), 30)
    assert place.settings.uplink.key.read_bytes() == old_key, "not before the new one has worked"
    terminal.expect(is_link(LinkState.UP), 60)
    until(lambda: place.settings.uplink.key.read_bytes() != old_key)
    new = certificate(place)
    assert new.not_valid_after_utc > old.not_valid_after_utc
    assert new.public_key() == load_private_key(place.settings.uplink.key).public_key()
    assert place.settings.uplink.key.stat().st_mode & 0o777 == 0o600
    assert not list(place.settings.uplink.key.parent.glob("next.*"))
    assert works(terminal, carrier)
    assert names(process).count("renewed") == 1
    assert not any(isinstance(message, Inbound) for message in terminal.seen), "no business of the terminal's"


def test_a_certificate_that_the_broker_refuses_is_forgotten_and_the_old_one_serves_on(house) -> None:
    place, terminal, carrier, process = house
    old = place.settings.uplink.certificate.read_bytes()
    ahead = datetime.now(UTC) + timedelta(days=10)
    carrier.send(
        "command",
        registry.renewed(place.pki, Store(":memory:"), TERMINAL_ID, asked(carrier), now=int(ahead.timestamp())),
    )
    terminal.expect(is_link(LinkState.DOWN), 30)
    terminal.expect(is_link(LinkState.UP), 90)
    assert place.settings.uplink.certificate.read_bytes() == old
    assert works(terminal, carrier)
    assert "renewal-useless" in names(process)
    assert not list(place.settings.uplink.key.parent.glob("next.*"))


def test_answers_that_are_not_for_this_key_name_and_authority_are_refused(house, tmp_path) -> None:
    place, terminal, carrier, process = house
    request, now = asked(carrier), datetime.now(UTC)
    stranger = create_pki(tmp_path / "stranger", now=now)
    other_key = identity.signing_request(ec.generate_private_key(ec.SECP256R1()), TERMINAL_ID)
    answers = [
        registry.renewed(stranger, Store(":memory:"), TERMINAL_ID, request, now=int(now.timestamp())),
        registry.renewed(place.pki, Store(":memory:"), TERMINAL_ID, other_key, now=int(now.timestamp())),
        registry.renewed(
            place.pki, Store(":memory:"), TERMINAL_ID, request, now=int((now - AGO - timedelta(days=1)).timestamp())
        ),
        pkcs7.serialize_certificates([x509.load_pem_x509_certificate(place.pki.ca.read_bytes())], Encoding.DER),
        b"\x30\x03abc",
    ]
    for answer in answers:
        carrier.send("command", answer)
    until(lambda: names(process).count("renewal-refused") == len(answers), 40)
    assert works(terminal, carrier)
    assert issue_terminal_certificate(place.pki, request, TERMINAL_ID, now=now), "the key that was asked for remains"
