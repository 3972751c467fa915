"""The frames between the two processes: what goes in comes out, and nothing else comes out."""

import contextlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import IpcError
from edge.ipc import (
    FRAME_LIMIT,
    PAYLOAD_LIMIT,
    Decoder,
    Down,
    Hello,
    Inbound,
    Link,
    LinkState,
    Papers,
    Publish,
    Published,
    Up,
    encode,
)

payloads = st.binary(max_size=PAYLOAD_LIMIT)
ids = st.binary(min_size=16, max_size=16)
messages = st.one_of(
    st.builds(Hello, st.integers(0, 2**16 - 1)),
    st.builds(Publish, st.sampled_from(Up), ids, payloads),
    st.builds(Published, ids, st.integers(0, 255)),
    st.builds(Inbound, st.sampled_from(Down), payloads),
    st.builds(Link, st.sampled_from(LinkState), st.text(max_size=200)),
    st.builds(Papers, *[st.integers(0, 2**40 - 1)] * 3),
)


@given(st.lists(messages, max_size=5), st.integers(1, 64))
def test_messages_survive_the_socket_however_it_cuts_them(sent, cut):
    data = b"".join(encode(message) for message in sent)
    decoder, received = Decoder(), []
    for start in range(0, len(data), cut):
        received += decoder.feed(data[start : start + cut])
    assert received == sent


@given(st.binary(max_size=200))
def test_random_bytes_give_nothing_but_an_ipc_error(data):
    with contextlib.suppress(IpcError):
        Decoder().feed(data)


@given(messages, st.data())
def test_one_altered_byte_never_passes_as_the_same_message(message, data):
    frame = bytearray(encode(message))
    at = data.draw(st.integers(4, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(IpcError):
        assert Decoder().feed(bytes(frame)) != [message]


def test_an_announced_giant_frame_is_refused_before_it_is_awaited():
    with pytest.raises(IpcError):
        Decoder().feed((FRAME_LIMIT + 1).to_bytes(4))


def test_a_payload_over_the_limit_is_the_senders_error():
    with pytest.raises(IpcError):
        encode(Publish(Up.RESULT, b"i" * 16, b"x" * (PAYLOAD_LIMIT + 1)))


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [9, 1],
        [0, True],
        [0, 1, 2],
        [1, "result", b"short", b""],
        [1, "nonsense", b"i" * 16, b""],
        [2, b"i" * 16, 256],
        [4, 9, ""],
        [4, 1, "x" * 201],
        {0: 1},
        "text",
    ],
)
def test_a_frame_outside_the_schema_is_refused(fields):
    body = cbor2.dumps(fields, canonical=True)
    with pytest.raises(IpcError):
        Decoder().feed(len(body).to_bytes(4) + body)


def test_the_same_content_in_another_encoding_is_refused():
    body = bytes.fromhex("820018 01".replace(" ", ""))  # [0, 1] with the 1 in two bytes
    with pytest.raises(IpcError, match="canonical"):
        Decoder().feed(len(body).to_bytes(4) + body)
