"""A document portrait on its way to one terminal: COSE_Encrypt for its P-256 portrait key; no JPEG is decoded here.

ECDH-ES with a fresh key + HKDF-SHA-256, direct (algorithm -25), then AES-256-GCM (algorithm 3): RFC 9053 sections 4.1,
5.2 and 6.3.1. The session that the portrait belongs to is authenticated with it, so it cannot be moved to another one.
"""

from __future__ import annotations

import secrets
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge.errors import EvidenceError
from edge.evidence import cbor
from edge.evidence.schema import items, labelled, octets, uint
from edge.evidence.signer import KEY_ID_SIZE, cose_key, key_id

PORTRAIT_AAD = b"vouch/portrait/1"
ENCRYPT_TAG = 96
PORTRAIT_LIMIT = 3584  # bytes of picture: what a challenge of 4096 bytes has room for
_A256GCM, _ECDH_ES_HKDF_256 = 3, -25
_ALG, _KID, _IV, _EPHEMERAL = 1, 4, 5, -1
_IV_SIZE, _GCM_TAG_SIZE, _KEY_BITS = 12, 16, 256
_CONTENT_HEADER = cbor.encode({_ALG: _A256GCM})
_RECIPIENT_HEADER = cbor.encode({_ALG: _ECDH_ES_HKDF_256})


def seal_portrait(jpeg: bytes, public_key: ec.EllipticCurvePublicKey, *, context: bytes) -> bytes:
    """Encrypt a picture of 1..3584 bytes for the holder of `public_key`; about 140 bytes are added.

    `context` binds it to one session: give the challenge's nonce. EvidenceError when the picture is too large.
    """
    octets(jpeg, "portrait", 1, PORTRAIT_LIMIT)
    if not isinstance(public_key.curve, ec.SECP256R1):
        raise EvidenceError("the portrait key is not P-256", todo="use the terminal's portrait key")
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    iv = secrets.token_bytes(_IV_SIZE)
    sealed = AESGCM(_content_key(ephemeral, public_key)).encrypt(iv, jpeg, _authenticated(context))
    recipient = [_RECIPIENT_HEADER, {_EPHEMERAL: cose_key(ephemeral.public_key()), _KID: key_id(public_key)}, b""]
    return _tagged([_CONTENT_HEADER, {_IV: iv}, sealed, [recipient]])


def open_portrait(sealed: bytes, private_key: ec.EllipticCurvePrivateKey, *, context: bytes) -> bytes:
    """The picture's bytes; EvidenceError when it is malformed, altered, for another key or for another session."""
    item = cbor.decode_tagged(sealed, ENCRYPT_TAG, strict=True)
    if _tagged(item) != sealed:
        raise EvidenceError("a sealed portrait that is not in canonical form")
    protected, unprotected, ciphertext, recipients = items(item, "sealed portrait", 4)
    header, parameters, nothing = items(items(recipients, "portrait recipients", 1)[0], "portrait recipient", 3)
    if protected != _CONTENT_HEADER or header != _RECIPIENT_HEADER or nothing != b"":
        raise EvidenceError("a sealed portrait with other algorithms", todo="use ECDH-ES + HKDF-256 and A256GCM")
    iv = octets(labelled(unprotected, {_IV}, (), "portrait header")[_IV], "portrait IV", _IV_SIZE)
    octets(ciphertext, "portrait ciphertext", _GCM_TAG_SIZE + 1, _GCM_TAG_SIZE + PORTRAIT_LIMIT)
    sender = labelled(parameters, {_EPHEMERAL, _KID}, (), "portrait recipient header")
    if octets(sender[_KID], "portrait kid", KEY_ID_SIZE) != key_id(private_key.public_key()):
        raise EvidenceError("a portrait for another key", todo="does the carrier hold this terminal's portrait key?")
    key = _content_key(private_key, _ephemeral_key(sender[_EPHEMERAL]))
    try:
        return AESGCM(key).decrypt(iv, ciphertext, _authenticated(context))
    except InvalidTag as exc:
        raise EvidenceError("a portrait that was altered or belongs to another session") from exc


def _content_key(private_key: ec.EllipticCurvePrivateKey, public_key: ec.EllipticCurvePublicKey) -> bytes:
    """COSE_KDF_Context of RFC 9053 section 5.2, without party identities: the ephemeral key makes each one unique."""
    nobody = [None, None, None]
    info = cbor.encode([_A256GCM, nobody, nobody, [_KEY_BITS, _RECIPIENT_HEADER]])
    secret = private_key.exchange(ec.ECDH(), public_key)
    return HKDF(algorithm=SHA256(), length=_KEY_BITS // 8, salt=None, info=info).derive(secret)


def _authenticated(context: bytes) -> bytes:
    return cbor.encode(["Encrypt", _CONTENT_HEADER, PORTRAIT_AAD + context])


def _ephemeral_key(value: object) -> ec.EllipticCurvePublicKey:
    fields = labelled(value, {1, -1, -2, -3}, (), "ephemeral key")
    uint(fields[1], "ephemeral key type", 2, 2)
    uint(fields[-1], "ephemeral key curve", 1, 1)
    x, y = (int.from_bytes(octets(fields[label], "ephemeral coordinate", 32), "big") for label in (-2, -3))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError as exc:
        raise EvidenceError("an ephemeral key that is not on P-256") from exc


def _tagged(item: Any) -> bytes:
    return bytes([0xC0 | 24, ENCRYPT_TAG]) + cbor.encode(item)
