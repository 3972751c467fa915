"""zcbor, reading enrolment.cddl and trust.cddl, accepts what we write and refuses what we refuse."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zcbor
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EvidenceError
from edge.evidence import cbor, cose, trust
from edge.evidence.signer import KeyFile
from edge.provisioning import enrolment, identity, retirement
from edge.provisioning.enrolment import UpdatesOffer
from simulator.carrier.pki import create_pki
from tests.support.enrolment import bundle_of


def types(path):
    text = path.read_text()
    for name in ("count", "certificate"):
        definition = re.search(rf"^{name} = ([^;\n]+).*$", text, re.MULTILINE)
        if definition:  # zcbor names a member after its type and cannot have two of a name
            text = re.sub(rf"\b{name}\b", definition[1].strip(), text.replace(definition[0], ""))
    for number, name in enumerate(("result key", "portrait key")):
        text = re.sub(rf"cose-key,( +; {name})", rf"key{number}: cose-key,\1", text)
    return zcbor.DataTranslator.from_cddl(text, 16).my_types


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """(schema's type, our decoder, a payload) for each message."""
    folder = tmp_path_factory.mktemp("cddl")
    pki = create_pki(folder / "keys", now=datetime.now(UTC))
    request = identity.create(folder / "terminal", site="shop", root=pki.root).request
    bundle = enrolment.build_bundle(
        bundle_of(pki, request, updates=UpdatesOffer("https://localhost:8443", b"{}")), KeyFile(pki.root_key)
    )
    last = retirement.Retired(terminal_id=bytes(16), counter=3, digest=bytes(32), lost=1, iat=9, forced=True)
    word = retirement.build_retired(last, KeyFile(pki.root_key))
    ours = types(Path(enrolment.__file__).with_name("enrolment.cddl"))
    theirs = types(Path(trust.__file__).with_name("trust.cddl"))
    return {
        "request": (ours["request"], enrolment.decode_request, request.payload),
        "bundle": (ours["bundle"], enrolment.decode_bundle, cose.parse(bundle).payload),
        "retired": (ours["retired"], retirement.decode_retired, cose.parse(word).payload),
        "trust": (theirs["trust"], trust.decode_trust, cose.parse(pki.trust.read_bytes()).payload),
    }


KINDS = ("request", "bundle", "retired", "trust")


def valid(schema, payload):
    try:
        schema.validate_str(payload)
    except zcbor.CddlValidationError:
        return False
    return True


def readable(decode, payload):
    try:
        decode(payload)
    except EvidenceError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_write_keeps_to_the_cddl(samples, kind):
    schema, decode, payload = samples[kind]
    assert valid(schema, payload)
    assert readable(decode, payload)


VALUES = st.none() | st.booleans() | st.integers(-2, 30) | st.binary(max_size=40) | st.just([])


@given(st.sampled_from(KINDS), st.integers(1, 11), VALUES)
@settings(max_examples=150)
def test_what_the_cddl_refuses_we_refuse_too(samples, kind, label, value):
    """Not the reverse: that a CSR is one, and that a text is printable, CDDL cannot say."""
    schema, decode, payload = samples[kind]
    changed = cbor.encode({**cbor.decode(payload), label: value})
    if readable(decode, changed):
        assert valid(schema, changed)


@given(st.sampled_from(KINDS), st.data())
@settings(max_examples=40)
def test_a_field_left_out_is_refused_by_both(samples, kind, data):
    schema, decode, payload = samples[kind]
    fields = cbor.decode(payload)
    optional = {"request": {10}, "bundle": {4, 11}}.get(kind, set())
    del fields[data.draw(st.sampled_from(sorted(fields.keys() - optional)))]
    changed = cbor.encode(fields)
    assert not readable(decode, changed)
    assert not valid(schema, changed)
