"""COSE_Sign1 (RFC 9052): bytes to be signed, assembly, verification; what a payload means belongs to claims, messages.

`verify` is the public, general interface: any tagged COSE_Sign1 with ES256. `sign1` and `open_strict` are how Vouch's
own messages are written and read: one form only, so that no two byte strings say the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from edge.errors import EvidenceError
from edge.evidence import cbor
from edge.evidence.signer import KEY_ID_SIZE, SIGNATURE_SIZE, Signer, cose_key, key_id

__all__ = [
    "MESSAGE_LIMIT",
    "Sign1Parts",
    "cose_key",
    "decode_key",
    "key_id",
    "open_strict",
    "parse",
    "sign1",
    "tagged",
    "verify",
]

SIGN1_TAG = 18
GENERAL_LIMIT = 1 << 20  # bytes that `verify` looks at
MESSAGE_LIMIT = 4096  # bytes of any message of ours: the smallest limit among the brokers that we must serve
ALG, CRIT, KID = 1, 2, 4  # common header parameters, RFC 9052 section 3.1
ES256 = -7
_COORDINATE_SIZE = 32  # bytes of x and of y
_UNDERSTOOD = frozenset({ALG, 3, KID})  # 3: content type, which the caller judges by external_aad instead


def verify(message: bytes, key: ec.EllipticCurvePublicKey, external_aad: bytes = b"") -> bytes:
    """Payload of a tagged COSE_Sign1 (RFC 9052 section 4.4) that `key` signed with ES256; EvidenceError otherwise.

    1. The key is P-256; the message is one CBOR item of at most 1 MiB with tag 18 and the right shape.
    2. The algorithm is ES256, stated once, in the protected or the unprotected header; nothing critical is unknown.
    3. The signature holds over Sig_structure with `external_aad`.
    """
    _check_key(key)
    envelope = parse(message)
    _check_headers(envelope)
    _check_signature(envelope, key, external_aad)
    return envelope.payload


def open_strict(
    message: bytes, keys: Mapping[bytes, ec.EllipticCurvePublicKey], external_aad: bytes, *, limit: int = MESSAGE_LIMIT
) -> bytes:
    """Payload of a message in Vouch's own form, signed by one of `keys` (by kid); EvidenceError otherwise.

    1. At most `limit` bytes, tag 18, canonical encoding.
    2. Protected header exactly {alg: ES256, kid: 8 bytes}, unprotected header empty.
    3. The kid is among `keys`, and that key's signature holds with `external_aad`.
    """
    if len(message) > limit:
        raise EvidenceError(f"a message of {len(message)} bytes; at most {limit} are allowed")
    envelope = _shape(cbor.decode_tagged(message, SIGN1_TAG, strict=True))
    if tagged(envelope.protected_bytes, envelope.unprotected, envelope.payload, envelope.signature) != message:
        raise EvidenceError("a message that is not in canonical form")
    kid = envelope.protected.get(KID)
    if envelope.unprotected or not isinstance(kid, bytes) or len(kid) != KEY_ID_SIZE:
        raise EvidenceError("a message whose header is not {alg, kid}, protected")
    if envelope.protected_bytes != _protected(kid):
        raise EvidenceError("a message whose header is not {alg: ES256, kid}")
    key = keys.get(kid)
    if key is None:
        raise EvidenceError(
            f"signed by an unknown key {kid.hex()}", todo="is the sender's public key among the trusted ones?"
        )
    _check_key(key)
    _check_signature(envelope, key, external_aad)
    return envelope.payload


def sign1(payload: bytes, signer: Signer, external_aad: bytes) -> bytes:
    """A tagged COSE_Sign1 in Vouch's own form: protected {1: -7, 4: kid}, nothing unprotected. SignerError may come."""
    protected = _protected(signer.key_id)
    return tagged(protected, {}, payload, signer.sign(_to_be_signed(protected, external_aad, payload)))


@dataclass(frozen=True, slots=True)
class Sign1Parts:
    """The parts of a COSE_Sign1, none of them checked against a signature."""

    protected_bytes: bytes
    protected: Mapping[Any, Any]
    unprotected: Mapping[Any, Any]
    payload: bytes
    signature: bytes


def parse(message: bytes) -> Sign1Parts:
    """The parts of a tagged COSE_Sign1 in any encoding, UNVERIFIED; EvidenceError when it is none."""
    if len(message) > GENERAL_LIMIT:
        raise EvidenceError(f"a message of {len(message)} bytes; at most {GENERAL_LIMIT} are allowed")
    return _shape(cbor.decode_tagged(message, SIGN1_TAG))


def decode_key(value: object, what: str) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a decoded COSE_Key with exactly the members that `cose_key` writes; EvidenceError otherwise."""
    if not isinstance(value, dict) or len(value) != 4 or any(type(value.get(label)) is not int for label in (1, -1)):
        raise EvidenceError(f"{what}: not a COSE_Key on P-256")
    match value:
        case {1: 2, -1: 1, -2: bytes(x), -3: bytes(y)} if len(x) == len(y) == _COORDINATE_SIZE:
            numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        case _:
            raise EvidenceError(f"{what}: not a COSE_Key on P-256")
    try:
        return numbers.public_key()
    except ValueError as exc:
        raise EvidenceError(f"{what}: not a point of P-256") from exc


def tagged(protected: bytes, unprotected: Mapping[Any, Any], payload: bytes, signature: bytes) -> bytes:
    """Tag 18 around the four parts."""
    return bytes([0xC0 | SIGN1_TAG]) + cbor.encode([protected, dict(unprotected), payload, signature])


def _shape(item: object) -> Sign1Parts:
    match item:
        case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
            header = cbor.decode_any(protected) if protected else {}
            if not isinstance(header, dict):
                raise EvidenceError("a COSE_Sign1 whose protected header is no map")
            return Sign1Parts(protected, header, unprotected, payload, signature)
        case [bytes(), dict(), None, bytes()]:
            raise EvidenceError("a COSE_Sign1 with a detached payload", todo="send the payload inside the message")
        case _:
            raise EvidenceError("not the four parts of a COSE_Sign1")


def _check_key(key: ec.EllipticCurvePublicKey) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EvidenceError("the key is not P-256", todo="use the P-256 public key of the sender")


def _check_headers(envelope: Sign1Parts) -> None:
    for header in (envelope.protected, envelope.unprotected):
        if not all(isinstance(label, int | str) for label in header):
            raise EvidenceError("a header label that is neither integer nor text")
    if envelope.protected.keys() & envelope.unprotected.keys():
        raise EvidenceError("a header parameter that is both protected and unprotected")
    if CRIT in envelope.unprotected:
        raise EvidenceError("a critical list that is not protected")
    if CRIT in envelope.protected:
        critical = envelope.protected[CRIT]
        if not isinstance(critical, list) or not critical:
            raise EvidenceError("a critical list that is empty or no list")
        for label in critical:
            if not isinstance(label, int | str) or label not in _UNDERSTOOD or label not in envelope.protected:
                raise EvidenceError(f"an unknown critical header parameter {label!r:.40}")
    algorithm = envelope.protected.get(ALG, envelope.unprotected.get(ALG))
    if type(algorithm) is not int or algorithm != ES256:  # -7.0 is equal, and is no algorithm
        raise EvidenceError(f"algorithm {algorithm!r:.40}; only ES256 (-7) is accepted")


def _check_signature(envelope: Sign1Parts, key: ec.EllipticCurvePublicKey, external_aad: bytes) -> None:
    if len(envelope.signature) != SIGNATURE_SIZE:
        raise EvidenceError(f"a signature of {len(envelope.signature)} bytes; ES256 has {SIGNATURE_SIZE}")
    # An empty map that was written out is signed as the empty string: RFC 9052 section 4.4, step 1.
    protected = envelope.protected_bytes if envelope.protected else b""
    r, s = (int.from_bytes(half, "big") for half in (envelope.signature[:32], envelope.signature[32:]))
    try:
        key.verify(
            encode_dss_signature(r, s), _to_be_signed(protected, external_aad, envelope.payload), ec.ECDSA(SHA256())
        )
    except InvalidSignature as exc:
        raise EvidenceError(
            "the signature does not hold", todo="altered bytes, another key, or another kind of message (external_aad)"
        ) from exc


def _protected(kid: bytes) -> bytes:
    return cbor.encode({ALG: ES256, KID: kid})


def _to_be_signed(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    return cbor.encode(["Signature1", protected, external_aad, payload])
