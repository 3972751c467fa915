"""When a certificate is renewed, and what remains of a new pair that never worked."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edge.uplink.renewal import WISH, Renewal, due_at
from simulator.carrier import registry
from simulator.carrier.store import Store
from tests.support.wires import TERMINAL_ID, enrolled

DAY_S = 86400


class SetClock:
    def __init__(self, utc):
        self.now = utc

    def monotonic(self):
        return 0.0

    def utc(self):
        return int(self.now)

    def is_synchronised(self):
        return True


@pytest.fixture(scope="module")
def certificates():
    """Fifty of one day and one life, as a fleet has them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "t")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        x509.CertificateBuilder(name, name, key.public_key(), number + 1, begin, begin + timedelta(days=360)).sign(
            key, hashes.SHA256()
        )
        for number in range(50)
    ]


def test_a_fleet_of_one_day_comes_back_on_many_days_between_two_and_three_quarters_of_the_life(certificates):
    begin = certificates[0].not_valid_before_utc.timestamp()
    days = sorted((due_at(certificate) - begin) / DAY_S for certificate in certificates)
    assert days[0] >= 240
    assert days[-1] <= 270
    assert len({int(day) for day in days}) > 15
    assert due_at(certificates[0]) == due_at(certificates[0]), "drawn once, however often the uplink starts"


@pytest.fixture
def place(tmp_path):
    return enrolled(tmp_path)


def renewal(place, clock):
    return Renewal(place.settings.uplink, TERMINAL_ID, clock)


def test_nothing_is_asked_before_it_is_due_then_each_hour_with_one_key(place):
    now = datetime.now(UTC).timestamp()
    clock = SetClock(now)
    one = renewal(place, clock)
    assert one.request(0) is None
    clock.now = now + 280 * DAY_S
    assert one.request(30) is None, "it looks once a minute"
    first = one.request(61)
    assert x509.load_der_x509_csr(first).is_signature_valid
    assert one.request(300) is None
    again = one.request(61 + 3601)
    key = x509.load_der_x509_csr(first).public_key()
    assert x509.load_der_x509_csr(again).public_key() == key
    after_a_restart = renewal(place, clock).request(0)
    assert x509.load_der_x509_csr(after_a_restart).public_key() == key


def test_a_technician_may_ask_early(place):
    one = renewal(place, SetClock(datetime.now(UTC).timestamp()))
    assert one.request(0) is None
    (place.config.parent / "uplink" / WISH).touch()
    assert one.request(61) is not None
    assert not (place.config.parent / "uplink" / WISH).exists()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no certificate",
        bytes.fromhex("301106092a864886f70d010701a00404026869"),  # PKCS #7, but data where certificates belong
    ],
)
def test_an_answer_of_a_hostile_broker_is_refused_and_nothing_falls_over(place, answer):
    clock = SetClock(datetime.now(UTC).timestamp() + 280 * DAY_S)
    one = renewal(place, clock)
    assert one.request(0) is not None
    assert not one.answered(answer)
    assert not one.next.certificate.exists()


def answered(place, clock):
    one = renewal(place, clock)
    later = clock.now + 280 * DAY_S
    clock.now = later
    assert one.answered(registry.renewed(place.pki, Store(":memory:"), TERMINAL_ID, one.request(0), now=int(later)))
    return one


def test_a_pair_is_tried_three_times_where_the_network_fails_and_once_where_the_broker_refuses(place):
    clock = SetClock(datetime.now(UTC).timestamp())
    one = answered(place, clock)
    for number in range(3):
        assert one.begin_trial(100.0 * number)
        assert one.pair() == one.next
        one.failed(100.0 * number, refused=False)
        assert one.pair() == one.present
        assert one.next.key.exists() == (number < 2)
    assert not one.begin_trial(1000)
    assert one.request(1000) is None, "a day of rest"
    assert one.request(2 * DAY_S) is not None
    two = answered(place, clock)
    assert two.begin_trial(0)
    two.failed(0, refused=True)
    assert not two.next.certificate.exists()


def test_a_pair_that_waits_is_tried_after_a_restart(place):
    clock = SetClock(datetime.now(UTC).timestamp())
    answered(place, clock)
    one = renewal(place, clock)
    one.settle()
    assert one.request(0) is None
    assert one.begin_trial(0)
    one.connected()
    assert not one.next.key.exists()
    assert (
        x509.load_pem_x509_certificate(one.present.certificate.read_bytes()).not_valid_after_utc.timestamp() > clock.now
    )
