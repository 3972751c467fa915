"""Requests, bundles, last words: what is written is read, and nothing else is."""

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import EvidenceError
from edge.evidence import cbor, cose
from edge.evidence.signer import KeyFile, key_id
from edge.provisioning import enrolment, identity, retirement
from simulator.carrier.pki import create_pki
from tests.evidence_samples import key_file
from tests.support.enrolment import CODE, bundle_of


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(pki, a request, a signed request, a signed bundle)"""
    folder = tmp_path_factory.mktemp("world")
    pki = create_pki(folder / "keys", now=datetime.now(UTC))
    asked = identity.create(folder / "terminal", site="shop", root=pki.root)
    bundle = enrolment.build_bundle(bundle_of(pki, asked.request), KeyFile(pki.root_key))
    return pki, asked.request, asked.message, bundle


def roots(pki):
    key = KeyFile(pki.root_key).public_key
    return {key_id(key): key}


def test_a_request_and_a_bundle_are_read_as_they_were_written(world):
    pki, request, message, bundle = world
    assert enrolment.parse_request(message) == request
    assert len(message) < 900, "one QR code"
    opened = enrolment.parse_bundle(bundle, roots(pki))
    assert opened.request == request.digest
    assert enrolment.build_bundle(opened, KeyFile(pki.root_key))
    assert len(bundle) < 3000


def test_the_fingerprint_changes_with_every_field(world):
    _, request, message, _ = world
    payload = cbor.decode(cose.parse(message).payload)
    seen = {request.fingerprint}
    for label, value in ((3, bytes(16)), (7, "other"), (8, "9.9.9"), (9, 1), (10, "elsewhere")):
        changed = enrolment.decode_request(cbor.encode({**payload, label: value}))
        seen.add(changed.fingerprint)
    assert len(seen) == 6


def test_a_code_fits_one_request_only(world):
    _, request, message, _ = world
    payload = cbor.decode(cose.parse(message).payload)
    other = enrolment.decode_request(cbor.encode({**payload, 3: bytes(16)}))
    tag = enrolment.code_tag(CODE, request)
    assert enrolment.code_fits(CODE, request, tag)
    assert not enrolment.code_fits(CODE, other, tag)
    codes = {enrolment.new_code() for _ in range(50)}
    assert len(codes) == 50
    assert all(len(code) == 14 and code.count("-") == 2 for code in codes)


def test_a_request_that_another_key_signed_is_refused(world, tmp_path):
    _, _request, message, _ = world
    forged = cose.sign1(cose.parse(message).payload, key_file(tmp_path), enrolment.REQUEST_AAD)
    with pytest.raises(EvidenceError, match="unknown key"):
        enrolment.parse_request(forged)


def test_a_request_never_passes_for_another_kind_of_message(world, tmp_path):
    _pki, _, _message, bundle = world
    with pytest.raises(EvidenceError):
        enrolment.parse_request(bundle)
    signer = key_file(tmp_path)
    record = retirement.Retired(terminal_id=bytes(16), counter=7, digest=bytes(32), lost=0, iat=1, forced=False)
    word = retirement.build_retired(record, signer)
    assert retirement.open_retired(word, signer.public_key) == record
    with pytest.raises(EvidenceError, match="signature"):
        retirement.open_retired(cose.sign1(cose.parse(word).payload, signer, b"vouch/result/1"), signer.public_key)
    assert len(fields(record)) == 6


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_an_altered_byte_anywhere_is_an_evidence_error(world, place, value):
    pki, _, message, bundle = world
    for signed, parse in (
        (message, enrolment.parse_request),
        (bundle, lambda data: enrolment.parse_bundle(data, roots(pki))),
    ):
        altered = bytearray(signed)
        at = place % len(signed)
        if altered[at] == value:
            return
        altered[at] = value
        with pytest.raises(EvidenceError):
            parse(bytes(altered))
        with pytest.raises(EvidenceError):
            parse(signed[:at])


VALUES = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=80) | st.text(max_size=40)
ANY = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(-3, 12), inner), max_leaves=8
)


@given(st.dictionaries(st.integers(1, 11), ANY, max_size=11))
def test_no_payload_raises_anything_but_an_evidence_error(payload):
    data = cbor.encode(payload)
    for decode in (enrolment.decode_request, enrolment.decode_bundle, retirement.decode_retired):
        try:
            decode(data)
        except EvidenceError:
            continue


@given(st.sampled_from(range(1, 11)), ANY)
def test_no_altered_field_raises_anything_but_an_evidence_error(world, label, value):
    _pki, _, message, bundle = world
    for signed, decode in ((message, enrolment.decode_request), (bundle, enrolment.decode_bundle)):
        payload = cbor.decode(cose.parse(signed).payload)
        payload[label] = value
        try:
            decode(cbor.encode(payload))
        except EvidenceError:
            continue
