"""The two messages of an enrolment: the terminal's request and the carrier's bundle; no folder and no screen here.

enrolment.cddl beside it is the shape. The request is signed by the result key that it names: whoever made it holds that
key. The bundle is signed by the carrier root and answers one request, by digest; a one-time code that travels another
way (the carrier tells it to the technician) is bound to that request too, so that a bundle alone installs nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import EvidenceError
from edge.evidence import cbor, cose
from edge.evidence.schema import items, labelled, member, octets, text, uint
from edge.evidence.signer import Signer, key_id

REQUEST_AAD = b"vouch/enrol-request/1"
BUNDLE_AAD = b"vouch/enrol-bundle/1"
REQUEST_LIMIT = 2048  # bytes of a signed request: what QR codes carry with ease
BUNDLE_LIMIT = 12288  # bytes of a signed bundle: four certificates with RSA keys fit
NONCE_SIZE = 16
_CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: nothing that is misread
_CODE_SIZE = 12  # 60 bits, and each guess costs a scrypt
_CERTIFICATE_MAX = 2560
_UPDATES_ROOT_MAX = 4096
_URL = re.compile(r"(https://[^\s?#\x00-\x20\x7f-\uffff]{1,392})?")
_MISREAD = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})


class KeyStore(IntEnum):
    """Where the result key lies."""

    SOFTWARE = 0
    TOKEN = 1  # PKCS#11: a TPM or an HSM


class Purpose(IntEnum):
    """What a request asks for."""

    ENROL = 1
    RENEW = 2  # the terminal is known: a new certificate, and whatever else the carrier wants to change


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the carrier needs to know of a terminal; nothing in it is secret."""

    terminal_id: bytes  # 16; as hexadecimal text also the certificate's CN and the MQTT client id
    purpose: Purpose
    nonce: bytes  # 16, drawn for this request
    result_key: ec.EllipticCurvePublicKey
    portrait_key: ec.EllipticCurvePublicKey
    csr: bytes  # PKCS#10, DER, for the TLS key
    hardware_model: str  # 1..32
    software_version: str  # 1..32
    key_store: KeyStore
    site: str | None = None  # 1..32: what the technician named; the carrier has the last word
    payload: bytes = b""  # as signed; set by parse_request

    @property
    def digest(self) -> bytes:
        """SHA-256 of the payload: what a bundle answers."""
        return hashlib.sha256(self.payload).digest()

    @property
    def fingerprint(self) -> str:
        """First 8 bytes of the digest in groups of four hexadecimal digits: what people compare by eye or voice."""
        digits = self.digest[:8].hex()
        return "-".join(digits[at : at + 4] for at in range(0, 16, 4))


@dataclass(frozen=True, slots=True)
class UpdatesOffer:
    """Where model packs and policies come from, see edge/updates."""

    url: str  # "": on sticks alone
    root: bytes  # root.json, 1..4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The carrier's answer to one request."""

    terminal_id: bytes  # 16
    request: bytes  # 32, digest of the request that it answers
    iat: int  # s since 1970, the carrier's clock
    code_tag: bytes | None  # 32, see `code_tag`; None: no code was told (a renewal within the grace)
    certificate: bytes  # DER, for the request's TLS key
    authorities: tuple[bytes, ...]  # DER, 1..4: who signed certificate and broker
    broker_host: str  # 1..253
    broker_port: int
    site: str  # 1..32
    trust: bytes  # the signed key set, see edge/evidence/trust.py
    policy: bytes  # the signed policy
    updates: UpdatesOffer | None = None


def build_request(request: Request, signer: Signer) -> bytes:
    """Signed bytes; EvidenceError when a field is out of range or the signer is not the result key that is named."""
    fields: dict[int, Any] = {
        1: request.terminal_id,
        2: int(request.purpose),
        3: request.nonce,
        4: cose.cose_key(request.result_key),
        5: cose.cose_key(request.portrait_key),
        6: request.csr,
        7: request.hardware_model,
        8: request.software_version,
        9: int(request.key_store),
    }
    if request.site is not None:
        fields[10] = request.site
    message = cose.sign1(cbor.encode(fields), signer, REQUEST_AAD)
    parse_request(message)
    return message


def parse_request(message: bytes) -> Request:
    """A request whose signature holds by the result key in it; EvidenceError otherwise.

    That the key's holder is the terminal at the counter is what the fingerprint on its screen is for.
    """
    claimed = decode_request(cose.parse(message[: REQUEST_LIMIT + 1]).payload)
    keys = {key_id(claimed.result_key): claimed.result_key}
    return decode_request(cose.open_strict(message, keys, REQUEST_AAD, limit=REQUEST_LIMIT))


def decode_request(payload: bytes) -> Request:
    """A request's payload; EvidenceError when it is not as enrolment.cddl says."""
    fields = labelled(cbor.decode(payload), range(1, 10), (10,), "request")
    terminal_id, csr = octets(fields[1], "terminal id", 16), octets(fields[6], "csr", 1, 1024)
    _check_csr(csr, terminal_id.hex())
    return Request(
        terminal_id=terminal_id,
        purpose=member(Purpose, fields[2], "purpose"),
        nonce=octets(fields[3], "nonce", NONCE_SIZE),
        result_key=cose.decode_key(fields[4], "result key"),
        portrait_key=cose.decode_key(fields[5], "portrait key"),
        csr=csr,
        hardware_model=text(fields[7], "hardware model", 32),
        software_version=text(fields[8], "software version", 32),
        key_store=member(KeyStore, fields[9], "key store"),
        site=text(fields[10], "site", 32) if 10 in fields else None,
        payload=payload,
    )


def build_bundle(bundle: Bundle, root: Signer) -> bytes:
    """Signed bytes, at most 12 KB; EvidenceError when a field is out of range."""
    fields: dict[int, Any] = {
        1: bundle.terminal_id,
        2: bundle.request,
        3: bundle.iat,
        5: bundle.certificate,
        6: list(bundle.authorities),
        7: [bundle.broker_host, bundle.broker_port],
        8: bundle.site,
        9: bundle.trust,
        10: bundle.policy,
    }
    if bundle.code_tag is not None:
        fields[4] = bundle.code_tag
    if bundle.updates is not None:
        fields[11] = [bundle.updates.url, bundle.updates.root]
    payload = cbor.encode(fields)
    decode_bundle(payload)
    return cose.sign1(payload, root, BUNDLE_AAD)


def parse_bundle(message: bytes, roots: Mapping[bytes, ec.EllipticCurvePublicKey]) -> Bundle:
    """A bundle signed by the carrier root; EvidenceError otherwise. Whether it is for us is the caller's matter."""
    return decode_bundle(cose.open_strict(message, roots, BUNDLE_AAD, limit=BUNDLE_LIMIT))


def decode_bundle(payload: bytes) -> Bundle:
    """A bundle's payload, its signature being checked already; EvidenceError when it is not as enrolment.cddl says."""
    fields = labelled(cbor.decode(payload), (1, 2, 3, 5, 6, 7, 8, 9, 10), (4, 11), "bundle")
    host, port = items(fields[7], "broker", 2)
    return Bundle(
        terminal_id=octets(fields[1], "terminal id", 16),
        request=octets(fields[2], "request", 32),
        iat=uint(fields[3], "iat"),
        code_tag=octets(fields[4], "code", 32) if 4 in fields else None,
        certificate=octets(fields[5], "certificate", 1, _CERTIFICATE_MAX),
        authorities=tuple(octets(i, "authority", 1, _CERTIFICATE_MAX) for i in items(fields[6], "authorities", 1, 4)),
        broker_host=text(host, "broker host", 253),
        broker_port=uint(port, "broker port", 1, 65535),
        site=text(fields[8], "site", 32),
        trust=octets(fields[9], "trust", 1, cose.MESSAGE_LIMIT),
        policy=octets(fields[10], "policy", 1, cose.MESSAGE_LIMIT),
        updates=_updates(fields[11]) if 11 in fields else None,
    )


def _updates(value: object) -> UpdatesOffer:
    url, root = items(value, "updates", 2)
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise EvidenceError("updates: not a URL that begins with https://")
    return UpdatesOffer(url, octets(root, "updates", 1, _UPDATES_ROOT_MAX))


def new_code() -> str:
    """A one-time code, three groups of four."""
    letters = "".join(secrets.choice(_CODE_ALPHABET) for _ in range(_CODE_SIZE))
    return "-".join(letters[at : at + 4] for at in range(0, _CODE_SIZE, 4))


def code_tag(code: str, request: Request) -> bytes:
    """32 bytes that bind a code to one request: HMAC-SHA-256 under scrypt(code, salt = digest of the request)."""
    letters = code.upper().translate(_MISREAD)
    key = hashlib.scrypt(letters.encode(), salt=request.digest, n=2**14, r=8, p=1, dklen=32)
    return hmac.digest(key, b"vouch/code/1" + request.terminal_id, "sha256")


def code_fits(code: str, request: Request, tag: bytes) -> bool:
    return hmac.compare_digest(code_tag(code, request), tag)


def _check_csr(der: bytes, name: str) -> None:
    """PKCS#10, signed by its own P-256 key, its CN being this terminal; EvidenceError otherwise."""
    try:
        csr = x509.load_der_x509_csr(der)
        names = [str(attribute.value) for attribute in csr.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        key, signed = csr.public_key(), csr.is_signature_valid
    except Exception as exc:  # whatever cryptography raises on foreign bytes is one fault to us
        raise EvidenceError("csr: no certificate request") from exc
    if not signed or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EvidenceError("csr: not signed by a P-256 key of its own")
    if names != [name]:
        raise EvidenceError("csr: its name is not this terminal's id")
