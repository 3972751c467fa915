"""The carrier changes its keys by signed sets with rising versions; nothing is planted, nothing goes back."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError, EvidenceError
from edge.evidence import cbor, cose, trust
from edge.evidence.signer import KeyFile, key_id
from edge.evidence.trust import Trust, TrustRecord, build_trust, parse_trust
from edge.provisioning.keys import private_pem, public_pem


class Key:
    """A carrier's key pair in a folder."""

    def __init__(self, folder, name):
        path = folder / f"{name}.key"
        path.write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))
        path.chmod(0o600)
        self.signer = KeyFile(path)
        self.public = self.signer.public_key


@pytest.fixture
def keys(tmp_path):
    return {name: Key(tmp_path, name) for name in ("root", "one", "two", "three", "stranger")}


def installed(tmp_path, keys):
    """The enrolment's folder: key one, version 1."""
    folder = tmp_path / "carrier"
    folder.mkdir(exist_ok=True)
    (folder / "one.pem").write_bytes(public_pem(keys["one"].public))
    first = build_trust(TrustRecord(1, (keys["one"].public,), 30), keys["root"].signer)
    (folder / trust.INSTALLED).write_bytes(first)
    (tmp_path / "root.pem").write_bytes(public_pem(keys["root"].public))
    return lambda: Trust.open(folder, root=tmp_path / "root.pem", path=tmp_path / "trust.cbor")


def record(keys, version, *names, grace=30):
    return TrustRecord(version, tuple(keys[name].public for name in names), grace)


def test_a_set_signed_by_a_key_in_force_takes_its_place_at_once_and_after_a_restart(tmp_path, keys):
    start = installed(tmp_path, keys)
    now = start()
    assert set(now) == {key_id(keys["one"].public)}
    now.accept(build_trust(record(keys, 2, "one", "two"), keys["one"].signer))
    now.accept(build_trust(record(keys, 3, "two", grace=7), keys["two"].signer))
    for held in (now, start()):
        assert set(held) == {key_id(keys["two"].public)}
        assert (held.version, held.grace_days) == (3, 7)
        assert set(held.ever) == {key_id(keys["one"].public), key_id(keys["two"].public)}


def test_an_older_set_a_replay_and_a_second_text_of_a_version_are_refused(tmp_path, keys):
    start = installed(tmp_path, keys)
    now = start()
    second = build_trust(record(keys, 2, "one", "two"), keys["one"].signer)
    third = build_trust(record(keys, 3, "two"), keys["two"].signer)
    now.accept(second)
    now.accept(third)
    now.accept(third)  # the same bytes again: the broker delivers at least once
    for held in (now, start()):
        for late in (second, build_trust(record(keys, 3, "one"), keys["two"].signer)):
            with pytest.raises(EvidenceError):
                held.accept(late)
        assert set(held) == {key_id(keys["two"].public)}


def test_neither_a_stranger_nor_a_key_that_is_out_can_name_keys(tmp_path, keys):
    now = installed(tmp_path, keys)()
    with pytest.raises(EvidenceError, match="unknown key"):
        now.accept(build_trust(record(keys, 2, "stranger"), keys["stranger"].signer))
    now.accept(build_trust(record(keys, 2, "two"), keys["one"].signer))
    with pytest.raises(EvidenceError, match="unknown key"):
        now.accept(build_trust(record(keys, 3, "one"), keys["one"].signer))


def test_the_root_may_name_keys_when_all_others_are_lost(tmp_path, keys):
    now = installed(tmp_path, keys)()
    now.accept(build_trust(record(keys, 9, "three"), keys["root"].signer))
    assert set(now) == {key_id(keys["three"].public)}


def test_a_policy_or_a_receipt_never_passes_for_a_key_set(tmp_path, keys):
    now = installed(tmp_path, keys)()
    payload = cose.parse(build_trust(record(keys, 2, "two"), keys["one"].signer)).payload
    with pytest.raises(EvidenceError, match="signature"):
        now.accept(cose.sign1(payload, keys["one"].signer, b"vouch/policy/1"))


def test_a_later_enrolment_begins_where_it_stands_and_the_chain_behind_it_is_passed_over(tmp_path, keys):
    start = installed(tmp_path, keys)
    now = start()
    now.accept(build_trust(record(keys, 2, "one", "two"), keys["one"].signer))
    folder = tmp_path / "carrier"
    (folder / "one.pem").unlink()
    (folder / "three.pem").write_bytes(public_pem(keys["three"].public))
    (folder / trust.INSTALLED).write_bytes(build_trust(record(keys, 5, "three"), keys["root"].signer))
    later = start()
    assert (set(later), later.version) == ({key_id(keys["three"].public)}, 5)
    later.accept(build_trust(record(keys, 6, "two"), keys["three"].signer))
    assert set(start()) == {key_id(keys["two"].public)}


@pytest.mark.parametrize("damage", [b"", b"\xff", cbor.encode([b"no message"]), cbor.encode([1])])
def test_a_damaged_chain_is_named_and_not_passed_over(tmp_path, keys, damage):
    start = installed(tmp_path, keys)
    (tmp_path / "trust.cbor").write_bytes(damage)
    with pytest.raises(ConfigError, match="do not hold") as caught:
        start()
    assert "vouch renew" in caught.value.todo


def test_a_planted_chain_is_refused(tmp_path, keys):
    start = installed(tmp_path, keys)
    forged = build_trust(record(keys, 2, "stranger"), keys["stranger"].signer)
    (tmp_path / "trust.cbor").write_bytes(cbor.encode([forged]))
    with pytest.raises(ConfigError):
        start()


@pytest.mark.parametrize(
    "wrong", [{1: 0}, {1: True}, {2: []}, {3: 367}, {3: -1}, {4: 1}, {2: [{1: 2, -1: 1, -2: bytes(32), -3: bytes(32)}]}]
)
def test_a_set_out_of_range_is_refused(keys, wrong):
    payload = cbor.decode(cose.parse(build_trust(record(keys, 1, "one"), keys["one"].signer)).payload)
    with pytest.raises(EvidenceError):
        trust.decode_trust(cbor.encode({**payload, **wrong}))


def test_a_key_named_twice_is_refused(keys):
    with pytest.raises(EvidenceError, match="twice"):
        build_trust(record(keys, 1, "one", "one"), keys["one"].signer)


@given(st.binary(max_size=300))
def test_noise_is_an_evidence_error(data):
    with pytest.raises(EvidenceError):
        trust.decode_trust(data)
    with pytest.raises(EvidenceError):
        parse_trust(data, {})
