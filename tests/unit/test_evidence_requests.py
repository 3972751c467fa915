"""What a terminal may ask of its carrier: signed, small, and with no room for anything about a person."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import EvidenceError
from edge.evidence import cbor, cose, messages, requests
from edge.evidence.claims import clerk_pseudonym, order_commitment
from edge.evidence.requests import Request, RequestKind, build_request, decode_request, is_order_number, open_request
from tests.evidence_samples import TERMINAL, key_file

ORDER = Request(terminal_id=TERMINAL, id=bytes(16), kind=RequestKind.ORDER, order="A-1001")
TICKETS = Request(terminal_id=TERMINAL, id=bytes(16), kind=RequestKind.TICKETS, tickets=5)


@pytest.mark.parametrize("request_", [ORDER, TICKETS])
def test_what_is_asked_arrives(tmp_path, request_):
    signer = key_file(tmp_path)
    message = build_request(request_, signer)
    assert open_request(message, signer.public_key) == request_
    assert len(message) < 200


def test_nobody_else_can_ask(tmp_path):
    signer, other = key_file(tmp_path), key_file(tmp_path, "other.pem")
    with pytest.raises(EvidenceError):
        open_request(build_request(ORDER, other), signer.public_key)
    as_result = cose.sign1(cose.parse(build_request(ORDER, signer)).payload, signer, messages.RESULT_AAD)
    with pytest.raises(EvidenceError):
        open_request(as_result, signer.public_key)


@pytest.mark.parametrize(
    "order", ["", "-1", "1-", "a b", "Li Wei 1990", "x@y.z", "1" * 33, "номер", "1\n", "'; drop", "a,b", "../a/"]
)
def test_what_is_no_order_number_is_never_signed(tmp_path, order):
    assert not is_order_number(order)
    with pytest.raises(EvidenceError):
        build_request(
            Request(terminal_id=TERMINAL, id=bytes(16), kind=RequestKind.ORDER, order=order), key_file(tmp_path)
        )


@pytest.mark.parametrize("order", ["1", "1001", "A-1001", "2026/11/0042", "x" * 32, "a.b_c"])
def test_order_numbers_of_shops_are_taken(order):
    assert is_order_number(order)


@given(
    st.dictionaries(
        st.integers(0, 7), st.integers(-1, 1001) | st.binary(max_size=17) | st.text(max_size=34) | st.none(), max_size=6
    )
)
def test_only_whole_requests_are_read(fields):
    payload = cbor.encode({1: TERMINAL, 2: bytes(16), 3: 1} | fields) if fields else cbor2.dumps({})
    try:
        request = decode_request(payload)
    except EvidenceError:
        return
    assert (request.order is None) == (request.kind is RequestKind.TICKETS)
    assert (request.tickets is None) == (request.kind is RequestKind.ORDER)
    assert request.order is None or is_order_number(request.order)
    assert request.tickets is None or 1 <= request.tickets <= requests.TICKETS_MAX


def test_a_commitment_fits_one_nonce_and_one_order_and_a_pseudonym_one_shop_and_one_number():
    assert len({order_commitment(n, o) for n in (bytes(32), b"n" * 32) for o in ("1001", "1002")}) == 4
    assert len({clerk_pseudonym(s, n) for s in ("shop-1", "shop-11") for n in ("7", "17")}) == 4
