"""The last signed word of a terminal whose keys are about to be destroyed; the destruction is reset.py's.

enrolment.cddl beside it is the shape.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from edge.evidence import cbor, cose
from edge.evidence.schema import labelled, octets, truth, uint
from edge.evidence.signer import Signer, key_id

RETIRED_AAD = b"vouch/retired/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """Where the terminal's history ends: no later result of it can be genuine."""

    terminal_id: bytes  # 16
    counter: int  # of the last result; 0 where there was none or the journal could not be read
    digest: bytes  # 32, SHA-256 of the last result; zeros where there was none
    lost: int  # results that were never receipted and go with the journal
    iat: int  # s since 1970, as the terminal believes
    forced: bool  # the technician insisted, although something spoke against it


def build_retired(record: Retired, signer: Signer) -> bytes:
    """Signed bytes; EvidenceError when a field is out of range."""
    payload = cbor.encode(
        {1: record.terminal_id, 2: record.counter, 3: record.digest, 4: record.lost, 5: record.iat, 6: record.forced}
    )
    decode_retired(payload)
    return cose.sign1(payload, signer, RETIRED_AAD)


def open_retired(message: bytes, key: ec.EllipticCurvePublicKey) -> Retired:
    """What the terminal with this key said; EvidenceError when it did not say it in exactly these bytes."""
    return decode_retired(cose.open_strict(message, {key_id(key): key}, RETIRED_AAD))


def decode_retired(payload: bytes) -> Retired:
    """A record's payload, its signature being checked already; EvidenceError when it is not as enrolment.cddl says."""
    fields = labelled(cbor.decode(payload), range(1, 7), (), "retired")
    return Retired(
        terminal_id=octets(fields[1], "terminal id", 16),
        counter=uint(fields[2], "ctr"),
        digest=octets(fields[3], "digest", 32),
        lost=uint(fields[4], "lost"),
        iat=uint(fields[5], "iat"),
        forced=truth(fields[6], "forced"),
    )
