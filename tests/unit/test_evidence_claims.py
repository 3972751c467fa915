"""The claims: an allow-list, canonical, strict, small, and exactly what claims.cddl says."""

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EvidenceError
from edge.evidence import cbor, claims, messages
from edge.evidence.claims import Claims, ClockState, DebugStatus, Fresh, Label, Mode, TerminalContext
from edge.session.decision import ChallengeKind, ChallengeRecord, CheckOutcome, Outcome, Reason, SessionResult
from tests.evidence_samples import NONCE, POLICY, TERMINAL, key_file, longest_claims, result, sample_claims

CHECK = st.sampled_from(CheckOutcome)
COUNT = st.integers(0, 2**63 - 1)
TEXT32 = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=8)


@st.composite
def any_claims(draw):
    digest = st.binary(min_size=32, max_size=32)
    values = {
        "iat": COUNT,
        "cti": st.binary(min_size=16, max_size=16),
        "nonce": st.binary(min_size=16, max_size=64),
        "terminal_id": st.binary(min_size=16, max_size=16),
        "oemid": st.binary(min_size=16, max_size=16) | st.binary(min_size=3, max_size=3) | COUNT,
        "hardware_model": TEXT32,
        "uptime_s": COUNT,
        "secure_boot": st.none() | st.booleans(),
        "debug_status": st.sampled_from(DebugStatus),
        "boot_count": COUNT,
        "boot_seed": digest,
        "software_name": TEXT32,
        "software_version": TEXT32,
        "session_id": st.binary(min_size=8, max_size=32),
        "outcome": st.sampled_from(Outcome),
        "pad": CHECK,
        "pad_band": st.integers(0, 7),
        "challenges": st.lists(
            st.builds(ChallengeRecord, st.sampled_from(ChallengeKind), st.booleans()), max_size=16
        ).map(tuple),
        "injection": CHECK,
        "match": CHECK,
        "match_band": st.integers(0, 7),
        "transcript": digest,
        "pack_version": COUNT,
        "pack_digest": digest,
        "policy_id": TEXT32,
        "policy_version": COUNT,
        "policy_digest": digest,
        "site": TEXT32,
        "counter": st.integers(1, 2**63 - 1),
        "previous": digest,
        "consent_given": st.booleans(),
        "consent_text_digest": digest,
        "consent_at_s": COUNT,
        "clock_state": st.sampled_from(ClockState),
        "clock_error_s": COUNT,
        "id_commitment": st.none() | digest,
        "clerk": st.none() | st.binary(min_size=8, max_size=32),
        "reasons": st.lists(st.sampled_from(Reason), max_size=16).map(tuple),
        "mode": st.sampled_from(Mode),
        "fresh": st.sampled_from(Fresh),
    }
    return Claims(**{name: draw(strategy) for name, strategy in values.items()})


@given(any_claims())
@settings(max_examples=100)
def test_claims_come_back_as_they_were(original):
    encoded = claims.encode(original)
    assert claims.decode(encoded) == original
    assert cbor2.dumps(cbor2.loads(encoded), canonical=True) == encoded


def test_a_result_becomes_the_claims_of_the_specification():
    session = result(reasons=(Reason.STAFF_ASSIST,))
    raw = cbor2.loads(claims.encode(sample_claims(session)))
    assert raw[10] == NONCE
    assert raw[256] == b"\x01" + TERMINAL
    assert raw[265] == "tag:vouch.example,2026:result:1"
    assert raw[271] == ["0.1.0", 16384]
    assert raw[-70002] == Outcome.MATCH
    assert raw[-70003] == [1, 6, [[1, True], [3, True], [4, True]], 1]
    assert raw[-70004] == [1, 5]
    assert raw[-70007] == [POLICY.id, POLICY.version, POLICY.digest]
    assert raw[-70011] == [True, hashlib.sha256(b"I agree").digest(), 4711]
    assert raw[-70015] == [18]
    assert raw[-70017] == 1
    assert set(raw) == set(Label) - {Label.OEMBOOT, Label.ID_COMMITMENT, Label.CLERK, Label.ORDER_COMMITMENT}


def test_both_cbor_map_orders_agree_on_every_label():
    keys = [cbor2.dumps(int(label)) for label in Label]
    assert sorted(keys) == sorted(keys, key=lambda key: (len(key), key))


def test_nothing_that_claims_takes_can_hold_a_face():
    """Every field is an integer, an enumeration, a short text, a digest or identifier, or a tuple of such records."""
    allowed = {
        *("int", "bool", "float", "str", "bytes", "bytes | int", "bool | None", "bytes | None"),
        *("tuple[edge.session.decision.Reason, ...]", "tuple[edge.session.decision.ChallengeRecord, ...]"),
        *("tuple[str, ...]", "Outcome", "CheckOutcome", "ClockState", "Mode", "Fresh", "DebugStatus", "Policy"),
    }
    for record in (SessionResult, TerminalContext, Claims):
        for name, kind in get_type_hints(record).items():
            assert getattr(kind, "__name__", str(kind)) in allowed or str(kind) in allowed, (record, name, kind)
    assert not any(kind is bytes for kind in get_type_hints(SessionResult).values())


def test_no_byte_string_of_a_result_is_longer_than_an_identifier():
    def sizes(item):
        match item:
            case bytes():
                yield len(item)
            case dict():
                for inner in item.values():
                    yield from sizes(inner)
            case list():
                for inner in item:
                    yield from sizes(inner)

    assert max(sizes(cbor2.loads(claims.encode(longest_claims())))) <= 64


def test_the_longest_result_keeps_below_one_kilobyte(tmp_path):
    assert len(messages.build_result(longest_claims(), key_file(tmp_path))) <= 1024


def test_more_challenges_than_fit_keep_the_last_ones():
    many = [ChallengeRecord(ChallengeKind.BLINK, ok=False)] * 20 + [ChallengeRecord(ChallengeKind.BLINK, ok=True)]
    kept = sample_claims(result(challenges=tuple(many))).challenges
    assert len(kept) == 16
    assert kept[-1].ok


@pytest.mark.parametrize(
    "change",
    [
        {"cti": bytes(15)},
        {"nonce": bytes(15)},
        {"nonce": bytes(65)},
        {"terminal_id": bytes(15)},
        {"oemid": bytes(4)},
        {"oemid": -1},
        {"hardware_model": ""},
        {"hardware_model": "x" * 33},
        {"site": "店" * 11},
        {"site": "a\nb"},
        {"software_name": "\ud800"},
        {"iat": -1},
        {"iat": 2**63},
        {"iat": 2**70},
        {"iat": 1.5},
        {"iat": True},
        {"pad_band": 8},
        {"match_band": 0.7},
        {"counter": 0},
        {"previous": bytes(31)},
        {"challenges": tuple([ChallengeRecord(ChallengeKind.BLINK, ok=True)] * 17)},
        {"reasons": tuple([Reason.NO_FACE] * 17)},
        {"clerk": b"short"},
        {"id_commitment": bytes(16)},
        {"outcome": 8},
        {"fresh": 5},
        {"policy_digest": bytes(20)},
    ],
)
def test_a_value_out_of_range_is_never_signed(change):
    with pytest.raises(EvidenceError):
        claims.encode(replace(sample_claims(), **change))


@pytest.mark.parametrize(
    ("label", "value"),
    [
        (Label.PROFILE, "tag:vouch.example,2026:result:2"),
        (Label.UEID, b"\x02" + bytes(16)),
        (Label.OEMBOOT, None),
        (Label.OEMBOOT, 1),
        (Label.ID_COMMITMENT, None),
        (Label.ID_COMMITMENT, [2, bytes(32)]),
        (Label.CLERK, None),
        (Label.REASONS, []),
        (Label.REASONS, [0]),
        (Label.REASONS, [25]),
        (Label.REASONS, [True]),
        (Label.DECISION, True),
        (Label.DECISION, "match"),
        (Label.PAD, [1, 6, [[1, 1]], 1]),
        (Label.PAD, [1, 6, [], 1, 0]),
        (Label.PAD, [1, 6, [[7, True]], 1]),
        (Label.MATCH, [1]),
        (Label.SWVERSION, ["0.1.0"]),
        (Label.SWVERSION, ["0.1.0", 1]),
        (Label.HWMODEL, "text"),
        (Label.HWMODEL, b"\xff\xfe"),
        (Label.CONSENT, [1, bytes(32), 5]),
        (-70099, 1),
        ("note", 1),
    ],
)
def test_a_foreign_value_or_label_is_refused(label, value):
    raw = cbor2.loads(claims.encode(sample_claims()))
    raw[label] = value
    with pytest.raises(EvidenceError):
        claims.decode(cbor.encode(raw))


def test_a_missing_claim_is_refused():
    raw = cbor2.loads(claims.encode(sample_claims()))
    for label in raw:
        with pytest.raises(EvidenceError):
            claims.decode(cbor.encode({key: value for key, value in raw.items() if key != label}))


def test_another_order_of_the_same_claims_is_refused():
    raw = cbor2.loads(claims.encode(sample_claims()))
    with pytest.raises(EvidenceError, match="canonical"):
        claims.decode(cbor2.dumps(dict(reversed(raw.items()))))


def test_a_payload_that_is_no_map_is_refused():
    for payload in (b"\x80", b"\x01", b"\xf6", b""):
        with pytest.raises(EvidenceError):
            claims.decode(payload)


@given(st.data())
@settings(max_examples=150)
def test_a_flipped_bit_gives_other_claims_or_an_evidence_error(data):
    encoded = bytearray(claims.encode(longest_claims()))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = claims.decode(bytes(encoded))
    except EvidenceError:
        return
    assert decoded != longest_claims()


def test_the_transcript_hash_separates_challenge_and_steps():
    challenge = cbor.encode({1: b"c"})
    expected = hashlib.sha256(challenge + cbor2.dumps(["a 1", "b 2"])).digest()
    assert claims.transcript_hash(challenge, ("a 1", "b 2")) == expected
    assert claims.transcript_hash(challenge, ("a 1b 2",)) != expected


def test_claims_and_the_cddl_name_the_same_labels():
    text = Path(claims.__file__).with_name("claims.cddl").read_text()
    body = text[text.index("result = {") : text.index("\n}", text.index("result = {"))]
    named = {int(line.strip().removeprefix("? ").split(" =>")[0]) for line in body.splitlines()[1:] if "=>" in line}
    assert named == {int(label) for label in Label}
    optional = {int(line.strip()[2:].split(" =>")[0]) for line in body.splitlines() if line.strip().startswith("? ")}
    assert optional == {Label.OEMBOOT, Label.ID_COMMITMENT, Label.CLERK, Label.REASONS, Label.ORDER_COMMITMENT}
    assert {field.name for field in fields(Claims)} >= {"outcome", "counter", "previous"}
