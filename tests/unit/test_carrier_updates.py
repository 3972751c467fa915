"""What the carrier knows of its own update repository: packs and policies that it published raise no alarm."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import replace

import pytest

from edge.evidence.messages import ReceiptStatus, build_policy, parse_policy
from edge.evidence.signer import KeyFile
from simulator.carrier.judgement import Alarm
from simulator.carrier.pki import create_pki, load_public_key, rotate_signing_key
from simulator.carrier.server import CarrierSettings, reference_policy, updates_door
from simulator.carrier.service import Carrier
from simulator.carrier.updates import UpdateRepository, now
from tests.support.carrier_house import House, SetClock


class Publisher(House):
    """A carrier that serves updates, the engineer who publishes them, and whoever fetches."""

    def __init__(self, folder):
        super().__init__(folder, SetClock(int(now().timestamp())))  # the door's certificates hold today
        self.repository = UpdateRepository(folder / "repository", folder / "safe", folder / "online")
        self.repository.create(now())
        self.door = None

    def release(self, version, signer=None):
        """A policy of this version, signed and published."""
        path = self.folder / "policy.cose"
        path.write_bytes(
            build_policy(replace(reference_policy(), version=version), signer or KeyFile(self.pki.signing_key))
        )
        self.repository.publish(now(), pack=None, policy=path)
        return path.read_bytes()

    def open(self):
        settings = CarrierSettings(
            *(self.pki.folder, self.folder / "carrier.sqlite", "localhost", 8883), updates=self.repository.folder
        )
        self.door = updates_door(settings, self.pki, self.carrier)

    def fetch(self, path):
        context = ssl.create_default_context(cafile=str(self.pki.ca))
        context.load_cert_chain(self.pki.client_certificate, self.pki.client_key)
        host = self.door.url.removeprefix("https://")
        connection = http.client.HTTPSConnection(host, context=context, timeout=20)
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
        return status

    def start_again(self):
        """As after `rotate`: the carrier's process reads its keys anew."""
        self.carrier = Carrier(self.store, self.pki, KeyFile(self.pki.signing_key), self.clock, self.publish)
        self.carrier.set_policy(reference_policy())


@pytest.fixture
def house(tmp_path):
    house = Publisher(tmp_path)
    yield house
    if house.door is not None:
        house.door.stop()
    house.store.close()


@pytest.mark.parametrize("when", ["before the carrier starts", "while it serves"])
def test_a_session_under_a_published_policy_is_trusted(house, when):
    if when == "while it serves":
        house.open()
    published = house.release(2)
    if when == "while it serves":
        assert house.fetch("/metadata/timestamp.json") == 200
    else:
        house.open()
    terminal = house.terminal()
    challenge = house.order(terminal)
    terminal.take_policy(published)
    assert house.deliver(terminal, terminal.answer(challenge)).status is ReceiptStatus.ACCEPTED
    assert house.alarms == []


def test_a_published_policy_is_the_one_that_orders_bring_and_that_a_status_is_held_against(house):
    policy = parse_policy(house.release(2), {(key := KeyFile(house.pki.signing_key)).key_id: key.public_key})
    house.open()
    terminal = house.terminal()
    assert house.order(terminal).policy.version == 2
    before = len(house.sent)
    house.carrier.received(f"fv1/up/{terminal.id}/status", f'{{"policy": "{policy.digest.hex()}"}}'.encode())
    assert house.sent[before:] == []
    house.carrier.received(f"fv1/up/{terminal.id}/status", b"{}")
    assert terminal.take_policy(house.sent[before][1]) == policy


def test_a_policy_that_another_carrier_signed_is_not_known(house, tmp_path, caplog):
    foreign = house.release(2, KeyFile(create_pki(tmp_path / "other", now=now()).signing_key))
    house.open()
    assert "is no policy of this carrier" in caplog.text
    terminal = house.terminal()
    challenge = house.order(terminal)
    assert challenge.policy.version == 1
    digest = parse_policy(foreign, {(key := KeyFile(tmp_path / "other" / "signing.key.pem")).key_id: key.public_key})
    assert house.deliver(terminal, terminal.answer(challenge, policy_digest=digest.digest)).status is (
        ReceiptStatus.REFUSED
    )
    assert house.alarms == [Alarm.UNKNOWN_POLICY]


def test_a_published_policy_outlives_two_rotations_under_a_key_that_terminals_believe(house, caplog):
    house.release(2)
    house.open()
    for _ in range(2):
        rotate_signing_key(house.pki)
        house.start_again()
    house.door.stop()
    house.open()
    assert "is no policy of this carrier" not in caplog.text, "it is known, whoever signed what lies there"
    key = load_public_key(house.pki.signing_public_key.read_bytes())
    terminal = house.terminal()
    terminal.trust(key)
    assert house.order(terminal).policy.version == 2


def test_a_pack_is_known_once_it_lies_there_and_not_because_somebody_asks_for_it(house):
    house.open()
    digest = bytes(31) + b"\x07"
    name = f"targets/pack/{digest.hex()}.pack.toml"
    terminal = house.terminal()
    assert house.fetch(f"/{name}") == 404
    house.deliver(terminal, terminal.answer(house.order(terminal), pack_digest=digest))
    assert house.alarms == [Alarm.UNKNOWN_PACK]
    (house.repository.folder / name).write_text("")
    assert house.fetch(f"/{name}") == 200
    house.deliver(terminal, terminal.answer(house.order(terminal), pack_digest=digest))
    assert house.alarms == [Alarm.UNKNOWN_PACK]
