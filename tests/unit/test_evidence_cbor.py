"""The CBOR reader: bounded, strict, and of one mind with cbor2."""

import time

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EvidenceError
from edge.evidence import cbor

KEYS = st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8) | st.binary(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_read_back(value):
    assert cbor.decode(cbor.encode(value)) == value


@given(st.binary(max_size=200))
def test_random_bytes_give_a_value_that_cbor2_agrees_with_or_an_evidence_error(data):
    try:
        value = cbor.decode(data)
    except EvidenceError:
        return
    assert cbor2.loads(data) == value
    assert cbor2.dumps(value, canonical=True) == data


@given(st.binary(max_size=200))
def test_random_bytes_never_trouble_the_lenient_reader(data):
    for read in (cbor.decode_any, lambda message: cbor.decode_tagged(message, 18)):
        try:
            read(data)
        except EvidenceError:
            continue


@given(VALUES, st.data())
@settings(max_examples=60)
def test_a_truncated_item_is_refused(value, data):
    encoded = cbor.encode(value)
    with pytest.raises(EvidenceError):
        cbor.decode_any(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("nothing", ""),
        ("two items", "0000"),
        ("an integer written too long", "1801"),
        ("a length written too long", "580101"),
        ("keys in the wrong order", "a202000100"),
        ("a key twice", "a201000100"),
        ("a key twice in two spellings", "a20100180100"),
        ("a float", "f93c00"),
        ("infinity", "f97c00"),
        ("undefined", "f7"),
        ("an unassigned simple value", "f0"),
        ("a simple value in two bytes", "f8ff"),
        ("an array without end", "9f00ff"),
        ("a map without end", "bf0000ff"),
        ("a string in chunks", "5f4100ff"),
        ("a break alone", "ff"),
        ("reserved length", "1c"),
        ("a date tag", "c11a514b67b0"),
        ("a date text tag", "c0613a"),
        ("a big number", "c249010000000000000000"),
        ("a regular expression", "d8236328612b"),
        ("a shared value", "d81c80"),
        ("a reference to itself", "d81c81d81d00"),
        ("a MIME message", "d82460"),
        ("a float as key", "a1f93c0000"),
        ("a boolean as key", "a1f500"),
        ("an array as key", "a18000"),
        ("broken UTF-8", "61ff"),
        ("a surrogate in UTF-8", "63eda080"),
    ],
)
def test_what_our_messages_never_hold_is_refused(what, data):
    with pytest.raises(EvidenceError):
        cbor.decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x81" * 100_000,
        b"\x9f" * 100_000,
        b"\xa1\x00" * 50_000,
        b"\xd8\x1c\x81" * 30_000,
        b"\xd2" * 100_000,
        b"\x9b" + b"\xff" * 8,
        b"\xbb" + b"\xff" * 8,
        b"\x5b" + b"\xff" * 8 + b"x" * 100,
        b"\x9a\x00\x0f\xff\xff" + b"\x80" * 100_000,
    ],
)
def test_nesting_and_length_bombs_are_refused_at_once(bomb):
    start = time.perf_counter()
    for read in (cbor.decode, cbor.decode_any, lambda data: cbor.decode_tagged(data, 18)):
        with pytest.raises(EvidenceError):
            read(bomb)
    assert time.perf_counter() - start < 1.0


def test_the_lenient_reader_reads_other_spellings():
    assert cbor.decode_any(bytes.fromhex("9f1801ff")) == [1]
    assert cbor.decode_any(bytes.fromhex("bf61610161629f0203ffff")) == {"a": 1, "b": [2, 3]}
    assert cbor.decode_any(bytes.fromhex("5f42010243030405ff")) == bytes([1, 2, 3, 4, 5])
    assert cbor.decode_any(bytes.fromhex("7f657374726561646d696e67ff")) == "streaming"
    assert cbor.decode_any(bytes.fromhex("f93e00")) == 1.5


def test_chunks_of_another_kind_are_refused():
    for data in ("5f6161ff", "7f4161ff", "5f5f4100ffff"):
        with pytest.raises(EvidenceError):
            cbor.decode_any(bytes.fromhex(data))
