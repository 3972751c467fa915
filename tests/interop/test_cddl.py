"""zcbor, reading claims.cddl, accepts what we write and refuses what we refuse."""

import re
from pathlib import Path

import cbor2
import pytest
import zcbor
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EvidenceError
from edge.evidence import cbor, claims, cose, messages
from edge.evidence.claims import Label
from edge.evidence.messages import PolicyReference, Receipt, ReceiptStatus
from edge.session.decision import Policy, Reason
from tests.evidence_samples import NOW, TERMINAL, challenge, key_file, longest_claims, result, sample_claims


@pytest.fixture(scope="module")
def schema():
    text = Path(claims.__file__).with_name("claims.cddl").read_text()
    # zcbor names a member after its type and cannot have two of a name: the named range is written out for it
    definition = re.search(r"^count = (.+)$", text, re.MULTILINE)
    assert definition is not None
    text = re.sub(r"\bcount\b", definition[1], text.replace(definition[0], ""))
    return zcbor.DataTranslator.from_cddl(text, 16).my_types


def valid(schema, kind, payload):
    try:
        schema[kind].validate_str(payload)
    except zcbor.CddlValidationError:
        return False
    return True


def test_our_results_keep_to_the_cddl(schema):
    staffed = sample_claims(result(reasons=(Reason.STAFF_ASSIST,), challenges=()))
    for sample in (sample_claims(), staffed, longest_claims()):
        assert valid(schema, "result", claims.encode(sample))


def test_our_carrier_messages_keep_to_the_cddl(schema, tmp_path):
    signer = key_file(tmp_path)
    orders = [challenge(), challenge(portrait=b"sealed", policy=PolicyReference("p", 3))]
    for order in orders:
        assert valid(schema, "challenge", cose.parse(messages.build_challenge(order, signer)).payload)
    receipt = Receipt(
        terminal_id=TERMINAL, cti=bytes(16), counter=1, digest=bytes(32), status=ReceiptStatus.DUPLICATE, iat=NOW
    )
    assert valid(schema, "receipt", cose.parse(messages.build_receipt(receipt, signer)).payload)
    assert valid(schema, "policy", cose.parse(messages.build_policy(Policy("p", 1, b""), signer)).payload)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 30)
    | st.integers(2**63 - 2, 2**63 + 1)
    | st.binary(max_size=66)
    | st.text(st.characters(codec="ascii", categories=("L",)), max_size=34)
)


@given(st.sampled_from([label for label in Label if label not in (Label.UEID, Label.HWMODEL)]), VALUES)
@settings(max_examples=150)
def test_our_reader_and_the_cddl_agree_on_an_altered_claim(schema, label, value):
    """Not ueid and hwmodel: that their content begins with 0x01, or is UTF-8, CDDL says in a comment only."""
    raw = cbor2.loads(claims.encode(longest_claims()))
    raw[int(label)] = value
    payload = cbor.encode(raw)
    try:
        claims.decode(payload)
        ours = True
    except EvidenceError:
        ours = False
    assert ours == valid(schema, "result", payload)
