"""What the terminal asks of its carrier: begin this order, send tickets; nothing of a person is in it.

Signed with the result key under an `external_aad` of its own: whoever holds the uplink can neither begin an order nor
collect tickets. A request only ever leads to a challenge, which the carrier signs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import EvidenceError
from edge.evidence import cbor, cose
from edge.evidence.schema import labelled, member, octets, text, uint
from edge.evidence.signer import Signer, key_id

REQUEST_AAD = b"vouch/request/1"
REQUEST_LIMIT = 512
TICKETS_MAX = 1000  # what a policy may allow
TICKET_ORDER = "ticket"  # a ticket's challenge names no order
_ID_SIZE = 16
_ORDER_LIMIT = 32
_ORDER_NUMBER = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,30}[A-Za-z0-9])?")


class RequestKind(IntEnum):
    ORDER = 1
    TICKETS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    terminal_id: bytes  # 16
    id: bytes  # 16, random: the carrier answers it once
    kind: RequestKind
    order: str | None = None  # ORDER: see is_order_number
    tickets: int | None = None  # TICKETS: 1..1000


def is_order_number(value: str) -> bool:
    """1 to 32 letters, digits and - . _ / between them: a shop's number has no room for a name or an address."""
    return _ORDER_NUMBER.fullmatch(value) is not None


def build_request(request: Request, signer: Signer) -> bytes:
    """Signed bytes; EvidenceError when a field is out of range."""
    fields: dict[int, Any] = {1: request.terminal_id, 2: request.id, 3: int(request.kind)}
    if request.order is not None:
        fields[4] = request.order
    if request.tickets is not None:
        fields[5] = request.tickets
    payload = cbor.encode(fields)
    decode_request(payload)
    return cose.sign1(payload, signer, REQUEST_AAD)


def open_request(message: bytes, key: ec.EllipticCurvePublicKey) -> Request:
    """What the terminal with this key asks for; EvidenceError when it did not ask in exactly these bytes."""
    return decode_request(cose.open_strict(message, {key_id(key): key}, REQUEST_AAD, limit=REQUEST_LIMIT))


def decode_request(payload: bytes) -> Request:
    """A request's payload, its signature being checked already; EvidenceError when it is not as claims.cddl says."""
    fields = labelled(cbor.decode(payload), range(1, 4), (4, 5), "request")
    request = Request(
        terminal_id=octets(fields[1], "terminal id", _ID_SIZE),
        id=octets(fields[2], "request id", _ID_SIZE),
        kind=member(RequestKind, fields[3], "kind"),
        order=text(fields[4], "order number", _ORDER_LIMIT) if 4 in fields else None,
        tickets=uint(fields[5], "tickets", 1, TICKETS_MAX) if 5 in fields else None,
    )
    if request.order is not None and not is_order_number(request.order):
        raise EvidenceError("order number: letters, digits and - . _ / between them")
    if (request.order is not None, request.tickets is not None) != (
        request.kind is RequestKind.ORDER,
        request.kind is RequestKind.TICKETS,
    ):
        raise EvidenceError("request: an order asks with its number, tickets with how many")
    return request
