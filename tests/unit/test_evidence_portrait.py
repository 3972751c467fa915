"""The sealed portrait: for one terminal, for one session, and small enough for a challenge."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EvidenceError
from edge.evidence import cbor, messages
from edge.evidence.messages import PolicyReference
from edge.evidence.portrait import PORTRAIT_LIMIT, open_portrait, seal_portrait
from tests.evidence_samples import NONCE, challenge, key_file

PICTURE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4


@pytest.fixture(scope="module")
def private():
    return ec.generate_private_key(ec.SECP256R1())


def test_a_sealed_portrait_opens_with_its_key_and_session(private):
    sealed = seal_portrait(PICTURE, private.public_key(), context=NONCE)
    assert open_portrait(sealed, private, context=NONCE) == PICTURE
    assert PICTURE[:16] not in sealed


def test_two_seals_of_one_portrait_share_nothing_secret(private):
    first, second = (seal_portrait(PICTURE, private.public_key(), context=NONCE) for _ in range(2))
    assert first != second
    assert first[-200:] != second[-200:]


def test_another_session_or_another_terminal_cannot_open_it(private):
    sealed = seal_portrait(PICTURE, private.public_key(), context=NONCE)
    with pytest.raises(EvidenceError, match="another session"):
        open_portrait(sealed, private, context=bytes(32))
    with pytest.raises(EvidenceError, match="another key"):
        open_portrait(sealed, ec.generate_private_key(ec.SECP256R1()), context=NONCE)


def test_any_altered_or_missing_byte_is_refused(private):
    sealed = seal_portrait(b"\xff\xd8small", private.public_key(), context=NONCE)
    for at in range(len(sealed)):
        with pytest.raises(EvidenceError):
            open_portrait(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], private, context=NONCE)
        with pytest.raises(EvidenceError):
            open_portrait(sealed[:at], private, context=NONCE)


def test_a_point_off_the_curve_is_refused(private):
    sealed = cbor.decode_tagged(seal_portrait(PICTURE, private.public_key(), context=NONCE), 96)
    ephemeral = sealed[3][0][1][-1]
    for x, y in ((bytes(32), bytes(32)), (b"\xff" * 32, b"\xff" * 32), (ephemeral[-2], ephemeral[-2])):
        ephemeral[-2], ephemeral[-3] = x, y
        with pytest.raises(EvidenceError, match="P-256"):
            open_portrait(b"\xd8\x60" + cbor.encode(sealed), private, context=NONCE)


def test_the_largest_portrait_fits_into_a_challenge(private, tmp_path):
    sealed = seal_portrait(bytes(PORTRAIT_LIMIT), private.public_key(), context=NONCE)
    order = challenge(
        portrait=sealed,
        policy=PolicyReference("p" * 32, 2**63 - 1),
        order="o" * 64,
        session_id=bytes(32),
        ttl_s=604_800,
    )
    assert len(messages.build_challenge(order, key_file(tmp_path))) <= 4096


def test_portraits_of_wrong_size_and_wrong_keys_are_not_sealed(private):
    for size in (0, PORTRAIT_LIMIT + 1):
        with pytest.raises(EvidenceError):
            seal_portrait(bytes(size), private.public_key(), context=NONCE)
    with pytest.raises(EvidenceError, match="P-256"):
        seal_portrait(PICTURE, ec.generate_private_key(ec.SECP384R1()).public_key(), context=NONCE)


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_random_bytes_raise_nothing_but_evidence_error(private, data):
    for sealed in (data, b"\xd8\x60" + data, b"\xd8\x60\x84" + data):
        with pytest.raises(EvidenceError):
            open_portrait(sealed, private, context=NONCE)
