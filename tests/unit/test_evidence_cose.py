"""COSE_Sign1: what is accepted, what is refused, and that hostile bytes raise nothing but EvidenceError."""

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EvidenceError
from edge.evidence import cbor, cose
from tests.evidence_samples import key_file

AAD = b"vouch/result/1"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    return key_file(tmp_path_factory.mktemp("keys"))


def foreign(signer, protected, unprotected, payload=b"hello", aad=b"", *, signed_header=None, tag=18):
    """A COSE_Sign1 as another program may write it."""
    signed = protected if signed_header is None else signed_header
    signature = signer.sign(cbor2.dumps(["Signature1", signed, aad, payload]))
    return cbor2.dumps(cbor2.CBORTag(tag, [protected, unprotected, payload, signature]))


def test_what_we_sign_verifies_and_is_strict(signer):
    message = cose.sign1(b"payload", signer, AAD)
    assert cose.verify(message, signer.public_key, AAD) == b"payload"
    assert cose.open_strict(message, {signer.key_id: signer.public_key}, AAD) == b"payload"
    assert message[:1] == b"\xd2"
    assert cbor2.loads(cose.parse(message).protected_bytes) == {1: -7, 4: signer.key_id}


def test_another_purpose_another_key_or_an_altered_byte_is_refused(signer, tmp_path):
    message = cose.sign1(b"payload", signer, AAD)
    with pytest.raises(EvidenceError):
        cose.verify(message, signer.public_key, b"vouch/receipt/1")
    with pytest.raises(EvidenceError):
        cose.verify(message, key_file(tmp_path).public_key, AAD)
    for at in range(len(message)):
        altered = bytearray(message)
        altered[at] ^= 1
        with pytest.raises(EvidenceError):
            cose.verify(bytes(altered), signer.public_key, AAD)


def test_every_truncation_and_every_extension_is_refused(signer):
    message = cose.sign1(b"payload", signer, AAD)
    for end in range(len(message)):
        with pytest.raises(EvidenceError):
            cose.verify(message[:end], signer.public_key, AAD)
    with pytest.raises(EvidenceError):
        cose.verify(message + b"\x00", signer.public_key, AAD)


@pytest.mark.parametrize(
    ("what", "protected", "unprotected"),
    [
        ("algorithm unprotected", {}, {1: -7}),
        ("algorithm unprotected, header empty", None, {1: -7}),
        ("content type and kid", {1: -7, 3: 0}, {4: b"11"}),
        ("understood critical parameter", {1: -7, 2: [4], 4: b"x"}, {}),
        ("unknown parameters", {1: -7, 99: b"?"}, {"note": [1.5, {1: 2}]}),
    ],
)
def test_other_programs_headers_are_accepted(signer, what, protected, unprotected):
    encoded = b"" if protected is None else cbor2.dumps(protected)
    signed = encoded if protected else b""
    message = foreign(signer, encoded, unprotected, signed_header=signed)
    assert cose.verify(message, signer.public_key) == b"hello"


@pytest.mark.parametrize(
    ("what", "protected", "unprotected"),
    [
        ("no algorithm", {4: b"x"}, {}),
        ("ES384", {1: -35}, {}),
        ("EdDSA", {1: -8}, {}),
        ("algorithm by name", {1: "ES256"}, {}),
        ("algorithm as float", {1: -7.0}, {}),
        ("algorithm in both headers", {1: -7}, {1: -7}),
        ("weak algorithm protected, right one not", {1: 0}, {1: -7}),
        ("unknown critical parameter", {1: -7, 2: [99], 99: 1}, {}),
        ("critical parameter that is absent", {1: -7, 2: [4]}, {}),
        ("critical list empty", {1: -7, 2: []}, {}),
        ("critical list no list", {1: -7, 2: 4, 4: b"x"}, {}),
        ("critical list of lists", {1: -7, 2: [[4]], 4: b"x"}, {}),
        ("critical list unprotected", {1: -7}, {2: [4], 4: b"x"}),
    ],
)
def test_headers_that_change_the_meaning_are_refused(signer, what, protected, unprotected):
    with pytest.raises(EvidenceError):
        cose.verify(foreign(signer, cbor2.dumps(protected), unprotected), signer.public_key)


def test_a_header_that_names_the_algorithm_twice_is_refused(signer):
    for twice in ("a2012601382f", "a201382f0126", "a20126180126"):  # -7 then -48, -48 then -7, label 1 in two spellings
        with pytest.raises(EvidenceError, match="same key twice"):
            cose.verify(foreign(signer, bytes.fromhex(twice), {}), signer.public_key)


def test_other_tags_and_no_tag_are_refused(signer):
    good = cbor2.dumps({1: -7})
    for tag in (17, 61, 96, 97, 98, 998):
        with pytest.raises(EvidenceError):
            cose.verify(foreign(signer, good, {}, tag=tag), signer.public_key)
    with pytest.raises(EvidenceError):
        cose.verify(foreign(signer, good, {})[1:], signer.public_key)
    with pytest.raises(EvidenceError):
        cose.verify(b"\xd8\x3d" + foreign(signer, good, {}), signer.public_key)


def test_a_detached_payload_is_refused(signer):
    protected = cbor2.dumps({1: -7})
    signature = signer.sign(cbor2.dumps(["Signature1", protected, b"", b"hello"]))
    with pytest.raises(EvidenceError, match="detached"):
        cose.verify(cbor2.dumps(cbor2.CBORTag(18, [protected, {}, None, signature])), signer.public_key)


@pytest.mark.parametrize("r_s", [(0, 0), (0, 1), (1, 0), (P256_ORDER, 1), (1, P256_ORDER), (2**256 - 1, 2**256 - 1)])
def test_signatures_out_of_range_are_refused(signer, r_s):
    signature = b"".join(number.to_bytes(32, "big") for number in r_s)
    with pytest.raises(EvidenceError):
        cose.verify(cose.tagged(cbor2.dumps({1: -7}), {}, b"hello", signature), signer.public_key)


@pytest.mark.parametrize("size", [0, 63, 65, 96, 132])
def test_signatures_of_another_size_are_refused(signer, size):
    with pytest.raises(EvidenceError, match="signature"):
        cose.verify(cose.tagged(cbor2.dumps({1: -7}), {}, b"hello", bytes([1]) * size), signer.public_key)


def test_keys_that_are_not_p256_are_refused(signer):
    message = cose.sign1(b"payload", signer, b"")
    for key in (
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
        None,
    ):
        with pytest.raises(EvidenceError, match="P-256"):
            cose.verify(message, key)


def test_a_message_beyond_the_limit_is_refused_unread(signer):
    with pytest.raises(EvidenceError, match="at most"):
        cose.verify(bytes(cose.GENERAL_LIMIT + 1), signer.public_key)
    with pytest.raises(EvidenceError, match="at most"):
        cose.open_strict(cose.sign1(bytes(4096), signer, AAD), {signer.key_id: signer.public_key}, AAD)


def strict_cases(signer):
    kid = signer.key_id
    good = cbor2.dumps({1: -7, 4: kid}, canonical=True)
    yield "kid unprotected", foreign(signer, cbor2.dumps({1: -7}), {4: kid}, aad=AAD)
    yield "algorithm unprotected", foreign(signer, cbor2.dumps({4: kid}), {1: -7}, aad=AAD)
    yield "something unprotected", foreign(signer, good, {99: 1}, aad=AAD)
    yield "something more protected", foreign(signer, cbor2.dumps({1: -7, 3: 0, 4: kid}), {}, aad=AAD)
    yield "header in another order", foreign(signer, b"\xa2\x04\x48" + kid + b"\x01\x26", {}, aad=AAD)
    yield "header length written long", foreign(signer, b"\xb8\x02\x01\x26\x04\x48" + kid, {}, aad=AAD)
    yield "short kid", foreign(signer, cbor2.dumps({1: -7, 4: kid[:4]}), {}, aad=AAD)
    yield "kid of nobody", foreign(signer, cbor2.dumps({1: -7, 4: bytes(8)}), {}, aad=AAD)
    message = cose.sign1(b"hello", signer, AAD)
    yield "tag written long", b"\xd8\x12" + message[1:]
    yield "array without end", b"\xd2\x9f" + message[2:] + b"\xff"


def test_the_strict_form_has_one_spelling(signer):
    keys = {signer.key_id: signer.public_key}
    for _what, message in strict_cases(signer):
        with pytest.raises(EvidenceError):
            cose.open_strict(message, keys, AAD)
    # the cases are refused for their form, not because they are badly signed
    assert cose.verify(dict(strict_cases(signer))["tag written long"], signer.public_key, AAD) == b"hello"
    assert cose.verify(dict(strict_cases(signer))["array without end"], signer.public_key, AAD) == b"hello"


def test_key_id_is_the_head_of_the_cose_key_thumbprint():
    # the example of RFC 9679 section 6
    numbers = ec.EllipticCurvePublicNumbers(
        0x65EDA5A12577C2BAE829437FE338701A10AAA375E1BB5B5DE108DE439C08551D,
        0x1E52ED75701163F7F9E40DDF9F341B3DC9BA860AF7E0CA7CA7E9EECD0084D19C,
        ec.SECP256R1(),
    )
    assert cose.key_id(numbers.public_key()).hex() == "496bd8afadf307e5"


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1()).public_key()


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_evidence_error(key, data):
    for message in (data, b"\xd2" + data, b"\xd2\x84" + data, b"\xd2\x84\x43\xa1\x01\x26\xa0" + data):
        with pytest.raises(EvidenceError):
            cose.verify(message, key)
        with pytest.raises(EvidenceError):
            cose.open_strict(message, {cose.key_id(key): key}, b"x")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=70) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.integers(-9, 9) | st.text(max_size=3), inner, max_size=4)
        | st.builds(cbor2.CBORTag, st.integers(0, 300), inner)
    ),
    max_leaves=10,
)


@given(st.lists(ANY, min_size=3, max_size=5) | st.tuples(ANY, ANY, ANY, ANY).map(list))
@settings(max_examples=200)
def test_well_formed_nonsense_raises_nothing_but_evidence_error(key, parts):
    data = cbor2.dumps(cbor2.CBORTag(18, parts))
    with pytest.raises(EvidenceError):
        cose.verify(data, key)
    wrapped = [cbor2.dumps(part) if at == 0 else part for at, part in enumerate(parts)]
    with pytest.raises(EvidenceError):
        cose.verify(cbor2.dumps(cbor2.CBORTag(18, wrapped)), key)


def test_to_be_signed_bytes_are_those_of_the_rfc():
    # RFC 9052 appendix C.2.1
    assert cbor.encode(["Signature1", bytes.fromhex("a10126"), b"", b"This is the content."]).hex() == (
        "846a5369676e61747572653143a101264054546869732069732074686520636f6e74656e742e"
    )
