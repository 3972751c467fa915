"""The policy in force outlives a change of the carrier's keys, however the terminal hears of it; none goes back."""

import pytest

from edge.errors import EvidenceError
from edge.evidence import trust
from edge.evidence.journal import Journal
from edge.evidence.messages import build_policy
from edge.evidence.signer import key_id
from edge.evidence.trust import Trust, TrustRecord, build_trust
from edge.session.decision import Policy
from edge.terminal.policies import Policies
from edge.vision.pack import Pack
from tests.evidence_samples import key_file, public_pem
from tests.tiny_models import write_pack


def policy(signer, version=5, **changes):
    return build_policy(Policy("shops", version, bytes(32), **{"match_fmr_ppm": 100, **changes}), signer)


class House:
    """A terminal's folders from one start to the next, and a carrier with key `a` that later has key `b`."""

    def __init__(self, folder):
        self.folder = folder
        self.root, self.a, self.b = (key_file(folder, f"{name}.key") for name in ("root", "a", "b"))
        (folder / "root.pem").write_bytes(public_pem(self.root.public_key))
        self.carrier = folder / "carrier"
        self.carrier.mkdir()
        self.pack = Pack.load(write_pack(folder / "pack"))
        self.journal = Journal.open(folder / "journal.sqlite", max_rows=100)

    def bundle(self, version, signer, brought):
        """What an enrolment, or a renewal by file, leaves: of the keys only the new one remains."""
        for path in self.carrier.glob("*.pem"):
            path.unlink()
        key = signer.public_key
        (self.carrier / f"{key_id(key).hex()}.pem").write_bytes(public_pem(key))
        (self.carrier / trust.INSTALLED).write_bytes(build_trust(TrustRecord(version, (key,)), self.root))
        (self.carrier / trust.INSTALLED_POLICY).write_bytes(brought)

    def start(self):
        self.trust = Trust.open(self.carrier, root=self.folder / "root.pem", path=self.folder / "trust.cbor")
        self.policies = Policies(self.carrier, self.trust, self.pack)
        self.policies.recall(self.journal)
        return self.policies.current

    def rotate(self):
        """Over the link: key b alone."""
        self.trust.accept(build_trust(TrustRecord(2, (self.b.public_key,)), self.a))


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    made.bundle(1, made.a, policy(made.a))
    assert (made.start().version, made.policies.current.match_fmr_ppm) == (5, 100)
    yield made
    made.journal.close()


def test_a_renewal_by_file_after_a_rotation_leaves_the_policy_in_force(house):
    house.rotate()
    assert house.start().version == 5, "what was accepted under the former key stays accepted"
    house.bundle(2, house.b, policy(house.b))
    for _ in range(2):
        now = house.start()
        assert (now.version, now.match_fmr_ppm) == (5, 100)
    assert house.policies.take(policy(house.b), house.journal) is False
    assert house.policies.take(policy(house.b, 6), house.journal) is True
    assert house.start().version == 6


def test_a_policy_signed_anew_over_the_link_outlives_a_renewal_that_brings_an_older_one(house):
    house.policies.take(policy(house.a, 7), house.journal)
    house.rotate()
    assert house.policies.take(policy(house.b, 7), house.journal) is False
    house.bundle(2, house.b, policy(house.b, 6))
    assert house.start().version == 7


def test_a_renewal_turns_no_policy_back_and_the_carrier_can_send_it_anew(house):
    house.policies.take(policy(house.a, 7), house.journal)
    house.rotate()
    house.bundle(2, house.b, policy(house.b, 6))
    with pytest.raises(EvidenceError, match="unknown key"):
        house.start()
    with pytest.raises(EvidenceError, match="version 6 does not follow 7"):
        house.policies.take(policy(house.b, 6), house.journal)
    assert house.policies.take(policy(house.b, 7), house.journal) is True
    assert house.start().version == 7


def test_a_renewal_with_another_text_under_the_same_version_is_refused(house):
    house.rotate()
    house.bundle(2, house.b, policy(house.b, match_fmr_ppm=1000))
    with pytest.raises(EvidenceError, match="version 5 does not follow 5"):
        house.start()
    with pytest.raises(EvidenceError, match="version 5 does not follow 5"):
        house.policies.take(policy(house.b, match_fmr_ppm=1000), house.journal)
    assert house.policies.take(policy(house.b), house.journal) is True


def test_a_policy_signed_by_a_key_that_has_gone_is_not_kept(house):
    house.rotate()
    with pytest.raises(EvidenceError, match="unknown key"):
        house.policies.take(policy(house.a), house.journal)
