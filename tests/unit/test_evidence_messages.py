"""The carrier's messages: trusted before parsed, for this terminal, in time by a clock that nobody trusts."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ConfigError, EvidenceError
from edge.evidence import cbor, cose, messages
from edge.evidence.claims import Fresh
from edge.evidence.messages import CarrierKeys, PolicyReference, Receipt, ReceiptStatus
from edge.session.decision import ChallengeKind, Policy
from tests.evidence_samples import (
    NONCE,
    NOW,
    TERMINAL,
    SetClock,
    challenge,
    key_file,
    public_pem,
    sample_claims,
)

TEN_YEARS_S = 10 * 365 * 24 * 3600


@pytest.fixture(scope="module")
def carrier(tmp_path_factory):
    return key_file(tmp_path_factory.mktemp("carrier"))


@pytest.fixture(scope="module")
def keys(carrier):
    return CarrierKeys([carrier.public_key])


def receipt(**changes):
    fields = {
        "terminal_id": TERMINAL,
        "cti": bytes(16),
        "counter": 1,
        "digest": bytes(32),
        "status": ReceiptStatus.ACCEPTED,
        "iat": NOW,
    }
    return Receipt(**(fields | changes))


# --- challenge


def test_a_good_challenge_is_read_as_it_was_built(carrier, keys):
    sent = challenge(policy=PolicyReference("shop-default", 7), portrait=b"sealed")
    got = messages.parse_challenge(messages.build_challenge(sent, carrier), keys, TERMINAL, SetClock())
    assert replace(got, payload=b"", deadline_s=0.0) == sent
    assert got.deadline_s == 1300.0
    assert cbor.decode(got.payload)[2] == NONCE


def test_an_unsigned_challenge_is_refused(carrier, keys):
    message = messages.build_challenge(challenge(), carrier)
    payload = cose.parse(message).payload
    with pytest.raises(EvidenceError):
        messages.parse_challenge(payload, keys, TERMINAL, SetClock())
    stripped = cose.tagged(cose.parse(message).protected_bytes, {}, payload, bytes(64))
    with pytest.raises(EvidenceError, match="signature"):
        messages.parse_challenge(stripped, keys, TERMINAL, SetClock())


def test_a_challenge_of_a_stranger_is_refused_before_it_is_parsed(tmp_path, keys):
    stranger = key_file(tmp_path)
    with pytest.raises(EvidenceError, match="unknown key"):
        messages.parse_challenge(messages.build_challenge(challenge(), stranger), keys, TERMINAL, SetClock())
    with pytest.raises(EvidenceError, match="unknown key"):
        messages.parse_challenge(
            cose.sign1(b"\xff not even CBOR", stranger, messages.CHALLENGE_AAD), keys, TERMINAL, SetClock()
        )


def test_a_trusted_signature_over_nonsense_is_refused(carrier, keys):
    for payload in (b"", b"\xff", b"\x80", cbor.encode({}), cbor.encode({1: TERMINAL}), b"\x81" * 3000):
        with pytest.raises(EvidenceError):
            messages.parse_challenge(cose.sign1(payload, carrier, messages.CHALLENGE_AAD), keys, TERMINAL, SetClock())


def test_a_challenge_for_another_terminal_is_refused(carrier, keys):
    message = messages.build_challenge(challenge(terminal_id=bytes(16)), carrier)
    with pytest.raises(EvidenceError, match="for terminal 0000") as caught:
        messages.parse_challenge(message, keys, TERMINAL, SetClock())
    assert caught.value.todo


def test_a_message_of_another_kind_is_refused_as_a_challenge(carrier, keys):
    wrong = [
        messages.build_receipt(receipt(), carrier),
        messages.build_policy(Policy("p", 1, b""), carrier),
        messages.build_result(sample_claims(), carrier),
    ]
    for message in wrong:
        with pytest.raises(EvidenceError):
            messages.parse_challenge(message, keys, TERMINAL, SetClock())
    with pytest.raises(EvidenceError):
        messages.parse_receipt(messages.build_challenge(challenge(), carrier), keys, TERMINAL)
    with pytest.raises(EvidenceError):
        messages.parse_policy(messages.build_challenge(challenge(), carrier), keys)


def test_an_oversized_challenge_is_refused(carrier, keys):
    with pytest.raises(EvidenceError, match="at most 4096"):
        messages.parse_challenge(bytes(4097), keys, TERMINAL, SetClock())
    with pytest.raises(EvidenceError):
        messages.build_challenge(challenge(portrait=bytes(4000)), carrier)


def test_a_challenge_expires_by_the_network_clock_with_tolerance(carrier, keys):
    message = messages.build_challenge(challenge(), carrier)
    messages.parse_challenge(message, keys, TERMINAL, SetClock(utc_s=NOW + 300 + 120))
    with pytest.raises(EvidenceError, match="expired 421 s ago"):
        messages.parse_challenge(message, keys, TERMINAL, SetClock(utc_s=NOW + 300 + 421))
    messages.parse_challenge(message, keys, TERMINAL, SetClock(utc_s=NOW - 120))
    with pytest.raises(EvidenceError, match="future"):
        messages.parse_challenge(message, keys, TERMINAL, SetClock(utc_s=NOW - 121))


@pytest.mark.parametrize("error_s", [-TEN_YEARS_S, TEN_YEARS_S])
def test_a_terminal_whose_clock_is_ten_years_off_still_works(carrier, keys, error_s):
    clock = SetClock(utc_s=NOW + error_s, synchronised=False)
    got = messages.parse_challenge(messages.build_challenge(challenge(), carrier), keys, TERMINAL, clock)
    clock.monotonic_s += 299.0
    messages.check_live(got, clock)
    clock.monotonic_s += 1.0
    with pytest.raises(EvidenceError, match="older than its 300 s"):
        messages.check_live(got, clock)


def test_the_time_to_live_counts_even_when_the_clock_is_set(carrier, keys):
    clock = SetClock()
    message = messages.build_challenge(challenge(exp=NOW + 90_000, ttl_s=60), carrier)
    got = messages.parse_challenge(message, keys, TERMINAL, clock)
    clock.monotonic_s += 60.0
    with pytest.raises(EvidenceError, match="older"):
        messages.check_live(got, clock)


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": bytes(31)},
        {"session_id": bytes(7)},
        {"order": ""},
        {"order": "x" * 65},
        {"ttl_s": 0},
        {"ttl_s": 604_801},
        {"exp": NOW},
        {"iat": -1},
        {"fresh": Fresh.NONE},
        {"portrait": b""},
        {"policy": PolicyReference("", 1)},
        {"policy": PolicyReference("p", -1)},
    ],
)
def test_a_challenge_out_of_range_is_neither_built_nor_read(carrier, change):
    with pytest.raises(EvidenceError):
        messages.build_challenge(challenge(**change), carrier)


def test_each_refusal_says_something_else(carrier, keys, tmp_path):
    good = messages.build_challenge(challenge(), carrier)
    altered = good[:-1] + bytes([good[-1] ^ 1])
    cases = [
        (altered, SetClock()),
        (messages.build_challenge(challenge(), key_file(tmp_path)), SetClock()),
        (messages.build_challenge(challenge(terminal_id=bytes(16)), carrier), SetClock()),
        (good, SetClock(utc_s=NOW + 9999)),
        (good, SetClock(utc_s=NOW - 9999)),
    ]
    said = []
    for message, clock in cases:
        with pytest.raises(EvidenceError) as caught:
            messages.parse_challenge(message, keys, TERMINAL, clock)
        assert caught.value.todo
        said.append(caught.value.message)
    assert len(set(said)) == len(cases)


@given(st.binary(max_size=4200))
@settings(max_examples=150)
def test_random_bytes_raise_nothing_but_evidence_error(carrier, keys, data):
    for parse in (
        lambda message: messages.parse_challenge(message, keys, TERMINAL, SetClock()),
        lambda message: messages.parse_receipt(message, keys, TERMINAL),
        lambda message: messages.parse_policy(message, keys),
        lambda message: messages.open_result(message, carrier.public_key),
    ):
        with pytest.raises(EvidenceError):
            parse(data)


SMALL = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.binary(max_size=33) | st.text(max_size=33),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(-3, 15), inner, max_size=14),
    max_leaves=20,
)


@given(st.dictionaries(st.integers(0, 14), SMALL, max_size=14) | SMALL)
@settings(max_examples=150)
def test_signed_nonsense_raises_nothing_but_evidence_error(carrier, keys, content):
    """A carrier with a bug: its signature is good, the content is not."""
    payload = cbor.encode(content)
    for aad, parse in (
        (messages.CHALLENGE_AAD, lambda message: messages.parse_challenge(message, keys, TERMINAL, SetClock())),
        (messages.RECEIPT_AAD, lambda message: messages.parse_receipt(message, keys, TERMINAL)),
        (messages.POLICY_AAD, lambda message: messages.parse_policy(message, keys)),
        (messages.RESULT_AAD, lambda message: messages.open_result(message, carrier.public_key)),
    ):
        with pytest.raises(EvidenceError):
            parse(cose.sign1(payload, carrier, aad))


@given(st.data())
@settings(max_examples=100)
def test_one_altered_field_of_a_signed_challenge_is_read_or_refused(carrier, keys, data):
    fields = cbor.decode(
        cose.parse(messages.build_challenge(challenge(policy=PolicyReference("p", 1)), carrier)).payload
    )
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(SMALL)
    message = cose.sign1(cbor.encode(fields), carrier, messages.CHALLENGE_AAD)
    try:
        got = messages.parse_challenge(message, keys, TERMINAL, SetClock())
    except EvidenceError:
        return
    assert got.terminal_id == TERMINAL


# --- receipt


@pytest.mark.parametrize("status", list(ReceiptStatus))
def test_a_receipt_is_read_as_it_was_built(carrier, keys, status):
    sent = receipt(status=status, counter=2**63 - 1)
    assert messages.parse_receipt(messages.build_receipt(sent, carrier), keys, TERMINAL) == sent


def test_a_receipt_for_another_terminal_or_out_of_range_is_refused(carrier, keys):
    with pytest.raises(EvidenceError, match="for terminal"):
        messages.parse_receipt(messages.build_receipt(receipt(terminal_id=bytes(16)), carrier), keys, TERMINAL)
    for change in ({"cti": b""}, {"digest": bytes(31)}, {"counter": 0}, {"status": 4}, {"iat": -1}):
        with pytest.raises(EvidenceError):
            messages.build_receipt(receipt(**change), carrier)


# --- policy


def test_a_policy_is_read_as_it_was_built_with_the_digest_of_its_payload(carrier, keys):
    sent = Policy(
        id="shop-default",
        version=8,
        digest=b"",
        match_fmr_ppm=100,
        challenges=(ChallengeKind.TURN_RIGHT, ChallengeKind.LOOK_UP),
        exposure_required=True,
        offline_tickets=20,
    )
    message = messages.build_policy(sent, carrier)
    digest = hashlib.sha256(cose.parse(message).payload).digest()
    assert messages.parse_policy(message, keys) == replace(sent, digest=digest)


def test_a_policy_never_goes_back(carrier, keys):
    message = messages.build_policy(Policy("p", 8, b""), carrier)
    assert messages.parse_policy(message, keys, version_floor=8).version == 8
    with pytest.raises(EvidenceError, match="older than 9"):
        messages.parse_policy(message, keys, version_floor=9)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"version": -1},
        {"match_fmr_ppm": 0},
        {"match_fmr_ppm": 0.001},
        {"bona_fide_min_permille": 1001},
        {"challenges": ()},
        {"challenges": (ChallengeKind.BLINK, ChallengeKind.BLINK)},
        {"challenges": (9,)},
        {"attempts": 0},
        {"action_timeout_ms": 10},
        {"session_timeout_ms": 10**9},
        {"exposure_required": 1},
    ],
)
def test_a_policy_out_of_range_is_refused(carrier, change):
    with pytest.raises(EvidenceError):
        messages.build_policy(replace(Policy("p", 1, b""), **change), carrier)


# --- result


def test_a_result_is_opened_only_with_the_terminals_key(tmp_path, carrier):
    terminal = key_file(tmp_path)
    message = messages.build_result(sample_claims(), terminal)
    assert messages.open_result(message, terminal.public_key) == sample_claims()
    with pytest.raises(EvidenceError):
        messages.open_result(message, carrier.public_key)
    with pytest.raises(EvidenceError):
        messages.open_result(message[:-1] + bytes([message[-1] ^ 1]), terminal.public_key)
    assert cose.verify(message, terminal.public_key, b"vouch/result/1")


# --- the carrier's keys


def test_several_carrier_keys_are_trusted_at_once(tmp_path, carrier):
    second = key_file(tmp_path, "second-private.key")
    folder = tmp_path / "carrier"
    folder.mkdir()
    (folder / "2026.pem").write_bytes(public_pem(carrier.public_key))
    (folder / "2027.pem").write_bytes(public_pem(second.public_key))
    keys = CarrierKeys.load(folder)
    assert len(keys) == 2
    for signer in (carrier, second):
        assert messages.parse_challenge(messages.build_challenge(challenge(), signer), keys, TERMINAL, SetClock())


def test_a_folder_without_usable_carrier_keys_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no carrier key"):
        CarrierKeys.load(tmp_path)
    with pytest.raises(ConfigError, match="no carrier key"):
        CarrierKeys.load(tmp_path / "absent")
    (tmp_path / "a.pem").write_bytes(b"-----BEGIN PUBLIC KEY-----\nnonsense\n")
    with pytest.raises(ConfigError, match=r"a\.pem"):
        CarrierKeys.load(tmp_path)
    (tmp_path / "a.pem").write_bytes(public_pem(ec.generate_private_key(ec.SECP384R1()).public_key()))
    with pytest.raises(ConfigError, match="P-256"):
        CarrierKeys.load(tmp_path)
