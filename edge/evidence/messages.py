"""The carrier's challenge, receipt and policy, and the result on its way back; what carries them is not known here.

Every message is a COSE_Sign1 in the strict form of cose.py with an `external_aad` of its own, so that none passes for
another. Parsing: 1. size, form, signature by a trusted carrier key; 2. canonical payload with exactly the fields of
claims.cddl; 3. for this terminal; 4. not expired. Nothing of step 2 is looked at before step 1 holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge import durable
from edge.clock import Clock
from edge.errors import ConfigError, EvidenceError
from edge.evidence import cbor, claims, cose
from edge.evidence.claims import Claims, Fresh
from edge.evidence.portrait import PORTRAIT_LIMIT, open_portrait, seal_portrait
from edge.evidence.schema import items, labelled, member, octets, text, truth, uint
from edge.evidence.signer import Signer, key_id
from edge.session.decision import ChallengeKind, Policy

__all__ = [
    "CHALLENGE_AAD",
    "POLICY_AAD",
    "RECEIPT_AAD",
    "RESULT_AAD",
    "CarrierKeys",
    "Challenge",
    "PolicyReference",
    "Receipt",
    "ReceiptStatus",
    "build_challenge",
    "build_policy",
    "build_receipt",
    "build_result",
    "check_live",
    "decode_challenge",
    "decode_policy",
    "decode_receipt",
    "load_public_key",
    "open_portrait",
    "open_result",
    "parse_challenge",
    "parse_policy",
    "parse_receipt",
    "seal_portrait",
]

CHALLENGE_AAD = b"vouch/challenge/1"
RECEIPT_AAD = b"vouch/receipt/1"
POLICY_AAD = b"vouch/policy/1"
RESULT_AAD = b"vouch/result/1"
RESULT_LIMIT = 1024  # bytes of a signed result
SKEW_S = 120  # between two clocks that are both set from the network
TTL_MAX_S = 7 * 24 * 3600  # a ticket may wait a week; an online challenge lives minutes
_TERMINAL_ID_SIZE, _NONCE_SIZE = 16, 32
_SEAL_ROOM = 192  # what sealing adds to a portrait
# A policy may leave these out: label, field of Policy, least, most.
_PAD_FIELDS = {
    14: ("flat_relief_max_permille", 0, 1000),
    15: ("turned_likeness_permille", 0, 1000),
    16: ("sensor_delay_min_frames", 0, 60),
    17: ("sensor_delay_max_frames", 1, 60),
    18: ("sensor_follow_min_permille", 0, 1000),
    19: ("sensor_exponent_min_permille", 0, 5000),
    20: ("sensor_exponent_max_permille", 0, 5000),
}


class CarrierKeys(Mapping[bytes, ec.EllipticCurvePublicKey]):
    """The carrier's public keys by kid: several, so that the carrier can change its key without a visit."""

    def __init__(self, keys: list[ec.EllipticCurvePublicKey]) -> None:
        self._keys = {key_id(key): key for key in keys}

    @classmethod
    def load(cls, folder: Path) -> CarrierKeys:
        """Every *.pem of the folder, each a P-256 public key. ConfigError when one is not, or when there is none."""
        paths = sorted(folder.glob("*.pem"))
        if not paths:
            raise ConfigError(f"no carrier key in {folder}", todo="put the carrier's public key there as NAME.pem")
        return cls([load_public_key(path) for path in paths])

    def __getitem__(self, kid: bytes) -> ec.EllipticCurvePublicKey:
        return self._keys[kid]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def load_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """A P-256 public key from a PEM file; ConfigError otherwise."""
    try:
        key = load_pem_public_key(durable.read_plain(path, linked=True))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}", todo="mend the path or its permissions") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"{path} is no public key in PEM", todo="give a P-256 public key (PEM)") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"{path} holds a key that is not P-256", todo="give a P-256 public key (PEM)")
    return key


@dataclass(frozen=True, slots=True)
class PolicyReference:
    """The policy that the carrier expects to be in force."""

    id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """The carrier's order for one session."""

    terminal_id: bytes  # 16
    nonce: bytes  # 32, single use
    session_id: bytes  # 8..32
    order: str  # 1..64 bytes, opaque to the terminal
    iat: int  # s since 1970, the carrier's clock
    exp: int  # s since 1970, the carrier's clock
    ttl_s: int  # 1..604800, from arrival
    fresh: Fresh  # ONLINE, TICKET or SCANNED
    portrait: bytes | None = None  # sealed: open_portrait(portrait, key, context=nonce)
    policy: PolicyReference | None = None
    self_test: bool = False  # nobody is asked: the terminal answers at once, mode self-test
    payload: bytes = b""  # as signed: what the transcript hash begins with; set by parse_challenge
    deadline_s: float = 0.0  # on the terminal's monotonic clock; set by parse_challenge


class ReceiptStatus(IntEnum):
    """What the carrier did with a result. All three release it: the carrier has it and says so under its signature."""

    ACCEPTED = 1
    DUPLICATE = 2
    REFUSED = 3  # signature, chain or nonce did not satisfy the carrier: somebody must look


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    terminal_id: bytes  # 16
    cti: bytes  # 16
    counter: int
    digest: bytes  # SHA-256 of the result's COSE_Sign1 bytes
    status: ReceiptStatus
    iat: int  # s since 1970, the carrier's clock


def parse_challenge(
    message: bytes, keys: Mapping[bytes, ec.EllipticCurvePublicKey], terminal_id: bytes, clock: Clock
) -> Challenge:
    """A trusted, living challenge for this terminal; EvidenceError otherwise. Call it when the bytes arrive.

    The terminal's clock is never trusted: `ttl_s` runs on the monotonic clock from this call; iat and exp count only
    while the operating system says that the clock was set from the network, with 120 s of tolerance. Whether the nonce
    was used before is the journal's to say (`Journal.spend_nonce`).
    """
    payload = cose.open_strict(message, keys, CHALLENGE_AAD)
    challenge = decode_challenge(payload, clock.monotonic())
    _check_addressee(challenge.terminal_id, terminal_id, "challenge")
    check_live(challenge, clock)
    return challenge


def check_live(challenge: Challenge, clock: Clock) -> None:
    """EvidenceError when the challenge is expired by now: to be asked again when its session starts."""
    todo = "start the order again in the point of sale"
    if clock.monotonic() >= challenge.deadline_s:
        raise EvidenceError(f"the challenge is older than its {challenge.ttl_s} s", todo=todo)
    if not clock.is_synchronised():
        return
    now = clock.utc()
    if now > challenge.exp + SKEW_S:
        raise EvidenceError(f"the challenge expired {now - challenge.exp} s ago", todo=todo)
    if now < challenge.iat - SKEW_S:
        raise EvidenceError(
            f"the challenge was issued {challenge.iat - now} s in the future", todo="check the carrier's clock"
        )


def parse_receipt(message: bytes, keys: Mapping[bytes, ec.EllipticCurvePublicKey], terminal_id: bytes) -> Receipt:
    """A trusted receipt for this terminal; EvidenceError otherwise. Whether it fits a row is the journal's to say."""
    receipt = decode_receipt(cose.open_strict(message, keys, RECEIPT_AAD))
    _check_addressee(receipt.terminal_id, terminal_id, "receipt")
    return receipt


def parse_policy(message: bytes, keys: Mapping[bytes, ec.EllipticCurvePublicKey], *, version_floor: int = 0) -> Policy:
    """A trusted policy no older than the floor, `digest` being SHA-256 of its payload; EvidenceError otherwise."""
    policy = decode_policy(cose.open_strict(message, keys, POLICY_AAD))
    if policy.version < version_floor:
        raise EvidenceError(
            f"policy version {policy.version} is older than {version_floor}", todo="the carrier must send a newer one"
        )
    return policy


def build_challenge(challenge: Challenge, signer: Signer) -> bytes:
    """At most 4096 signed bytes; `payload` and `deadline_s` are ignored. EvidenceError when a field is out of range."""
    fields: dict[int, Any] = {
        1: challenge.terminal_id,
        2: challenge.nonce,
        3: challenge.session_id,
        4: challenge.order,
        5: challenge.iat,
        6: challenge.exp,
        7: challenge.ttl_s,
        8: int(challenge.fresh),
    }
    if challenge.portrait is not None:
        fields[9] = challenge.portrait
    if challenge.policy is not None:
        fields[10] = [challenge.policy.id, challenge.policy.version]
    if challenge.self_test:
        fields[11] = True
    payload = cbor.encode(fields)
    decode_challenge(payload)
    return _signed(payload, signer, CHALLENGE_AAD)


def build_receipt(receipt: Receipt, signer: Signer) -> bytes:
    """Signed bytes of a receipt; EvidenceError when a field is out of range."""
    fields = {
        1: receipt.terminal_id,
        2: receipt.cti,
        3: receipt.counter,
        4: receipt.digest,
        5: int(receipt.status),
        6: receipt.iat,
    }
    payload = cbor.encode(fields)
    decode_receipt(payload)
    return _signed(payload, signer, RECEIPT_AAD)


def build_policy(policy: Policy, signer: Signer) -> bytes:
    """Signed bytes of a policy; `digest` is ignored. EvidenceError when a field is out of range."""
    fields = {
        1: policy.id,
        2: policy.version,
        3: policy.match_fmr_ppm,
        4: policy.bona_fide_min_permille,
        5: policy.relief_min_permille,
        6: policy.continuity_min_permille,
        7: [int(kind) for kind in policy.challenges],
        8: policy.challenge_count,
        9: policy.attempts,
        10: policy.action_timeout_ms,
        11: policy.session_timeout_ms,
        12: policy.exposure_required,
        13: policy.offline_tickets,
        **{key: getattr(policy, name) for key, (name, _, _) in _PAD_FIELDS.items()},
    }
    payload = cbor.encode(fields)
    decode_policy(payload)
    return _signed(payload, signer, POLICY_AAD)


def build_result(result: Claims, signer: Signer) -> bytes:
    """Signed bytes of a result, at most 1024; EvidenceError when a claim is out of range."""
    message = cose.sign1(claims.encode(result), signer, RESULT_AAD)
    if len(message) > RESULT_LIMIT:
        raise EvidenceError(f"a result of {len(message)} bytes; at most {RESULT_LIMIT} are allowed")
    return message


def open_result(message: bytes, key: ec.EllipticCurvePublicKey) -> Claims:
    """What the terminal with this key said; EvidenceError when it did not say it in exactly these bytes."""
    return claims.decode(cose.open_strict(message, {key_id(key): key}, RESULT_AAD, limit=RESULT_LIMIT))


def decode_challenge(payload: bytes, now_s: float = 0.0) -> Challenge:
    """A challenge's payload, its signature being checked already; EvidenceError when it is not as claims.cddl says."""
    fields = labelled(cbor.decode(payload), range(1, 9), (9, 10, 11), "challenge")
    ttl_s = uint(fields[7], "ttl_s", 1, TTL_MAX_S)
    fresh = member(Fresh, fields[8], "fresh")
    if fresh is Fresh.NONE:
        raise EvidenceError("fresh: a challenge always brings a nonce")
    challenge = Challenge(
        terminal_id=octets(fields[1], "terminal id", _TERMINAL_ID_SIZE),
        nonce=octets(fields[2], "nonce", _NONCE_SIZE),
        session_id=octets(fields[3], "session id", 8, 32),
        order=text(fields[4], "order", 64),
        iat=uint(fields[5], "iat"),
        exp=uint(fields[6], "exp"),
        ttl_s=ttl_s,
        fresh=fresh,
        portrait=octets(fields[9], "portrait", 1, PORTRAIT_LIMIT + _SEAL_ROOM) if 9 in fields else None,
        policy=_policy_reference(fields[10]) if 10 in fields else None,
        self_test=11 in fields,
        payload=payload,
        deadline_s=now_s + ttl_s,
    )
    if fields.get(11, True) is not True:
        raise EvidenceError("self-test: true or absent")
    if challenge.exp <= challenge.iat:
        raise EvidenceError("exp: not after iat")
    return challenge


def decode_receipt(payload: bytes) -> Receipt:
    """A receipt's payload, its signature being checked already; EvidenceError when it is not as claims.cddl says."""
    fields = labelled(cbor.decode(payload), range(1, 7), (), "receipt")
    return Receipt(
        terminal_id=octets(fields[1], "terminal id", _TERMINAL_ID_SIZE),
        cti=octets(fields[2], "cti", 16),
        counter=uint(fields[3], "ctr", 1),
        digest=octets(fields[4], "digest", claims.DIGEST_SIZE),
        status=member(ReceiptStatus, fields[5], "status"),
        iat=uint(fields[6], "iat"),
    )


def decode_policy(payload: bytes) -> Policy:
    """A policy's payload, its signature being checked already; EvidenceError when it is not as claims.cddl says."""
    fields = labelled(cbor.decode(payload), range(1, 14), _PAD_FIELDS, "policy")
    challenges = items(fields[7], "challenges", 1, len(ChallengeKind))
    policy = Policy(
        id=text(fields[1], "policy id", 32),
        version=uint(fields[2], "policy version"),
        digest=hashlib.sha256(payload).digest(),
        match_fmr_ppm=uint(fields[3], "match_fmr_ppm", 1, 1_000_000),
        bona_fide_min_permille=uint(fields[4], "bona_fide_min_permille", 0, 1000),
        relief_min_permille=uint(fields[5], "relief_min_permille", 0, 1000),
        continuity_min_permille=uint(fields[6], "continuity_min_permille", 0, 1000),
        challenges=tuple(member(ChallengeKind, kind, "challenge kind") for kind in challenges),
        challenge_count=uint(fields[8], "challenge_count", 1, 8),
        attempts=uint(fields[9], "attempts", 1, 10),
        action_timeout_ms=uint(fields[10], "action_timeout_ms", 1000, 120_000),
        session_timeout_ms=uint(fields[11], "session_timeout_ms", 5000, 600_000),
        exposure_required=truth(fields[12], "exposure_required"),
        offline_tickets=uint(fields[13], "offline_tickets", 0, 1000),
        **{name: uint(fields[key], name, low, high) for key, (name, low, high) in _PAD_FIELDS.items() if key in fields},
    )
    if policy.sensor_delay_min_frames > policy.sensor_delay_max_frames:
        raise EvidenceError("sensor_delay_min_frames: above sensor_delay_max_frames")
    if len(set(policy.challenges)) != len(policy.challenges):
        raise EvidenceError("challenges: one named twice")
    return policy


def _policy_reference(value: object) -> PolicyReference:
    policy_id, version = items(value, "expected policy", 2)
    return PolicyReference(text(policy_id, "policy id", 32), uint(version, "policy version"))


def _check_addressee(named: bytes, own: bytes, what: str) -> None:
    if named != own:
        raise EvidenceError(
            f"the {what} is for terminal {named.hex()}", todo="check which terminal the carrier has for this counter"
        )


def _signed(payload: bytes, signer: Signer, external_aad: bytes) -> bytes:
    message = cose.sign1(payload, signer, external_aad)
    if len(message) > cose.MESSAGE_LIMIT:
        raise EvidenceError(
            f"a message of {len(message)} bytes; at most {cose.MESSAGE_LIMIT} are allowed", todo="shrink the portrait"
        )
    return message
