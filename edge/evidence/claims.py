"""The result as EAT claims (RFC 9711), an allow-list; claims.cddl beside it is the shape. No signature, no key here.

Pixels and templates stop before this file: nothing that it takes has a field for an array or for the bytes of a face.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from edge.errors import EvidenceError
from edge.evidence import cbor
from edge.evidence.schema import items, labelled, member, octets, text, truth, uint
from edge.session.decision import ChallengeKind, ChallengeRecord, CheckOutcome, Outcome, Policy, Reason, SessionResult

PROFILE = "tag:vouch.example,2026:result:1"
SEMVER = 16384  # CoSWID version scheme, RFC 9393 section 6.1
_UEID_RANDOM = 0x01  # UEID type RAND, RFC 9711 section 4.2.1
_BAND_MAX = 7
_ROWS_MAX = 16  # challenges or reasons in one result: what keeps a result below 1 KB
DIGEST_SIZE = 32
_ORDER_TAG_SIZE = 16  # HMAC 256/128


class Label(IntEnum):
    """Keys of the claims map. Registered ones: IANA CWT claims; ours lie below -65536 (private use)."""

    IAT = 6
    CTI = 7
    NONCE = 10
    UEID = 256
    OEMID = 258
    HWMODEL = 259
    UPTIME = 261
    OEMBOOT = 262
    DBGSTAT = 263
    PROFILE = 265
    BOOTCOUNT = 267
    BOOTSEED = 268
    SWNAME = 270
    SWVERSION = 271
    SESSION = -70001
    DECISION = -70002
    PAD = -70003
    MATCH = -70004
    TRANSCRIPT = -70005
    MODEL_PACK = -70006
    POLICY = -70007
    SITE = -70008
    COUNTER = -70009
    PREVIOUS = -70010
    CONSENT = -70011
    CLOCK = -70012
    ID_COMMITMENT = -70013
    CLERK = -70014
    REASONS = -70015
    MODE = -70016
    FRESH = -70017
    ORDER_COMMITMENT = -70018


_OPTIONAL = frozenset({Label.OEMBOOT, Label.ID_COMMITMENT, Label.CLERK, Label.REASONS, Label.ORDER_COMMITMENT})
_REQUIRED = frozenset(Label) - _OPTIONAL


class DebugStatus(IntEnum):
    """Claim 263, RFC 9711 section 4.2.9."""

    ENABLED = 0
    DISABLED = 1
    DISABLED_SINCE_BOOT = 2
    DISABLED_PERMANENTLY = 3
    DISABLED_FULLY_AND_PERMANENTLY = 4


class ClockState(IntEnum):
    """First half of claim -70012: what the terminal knows of its clock."""

    NONE = 0
    RTC_ONLY = 1
    NETWORK = 2  # NTP or Roughtime
    NONCE_BOUNDED = 3  # bounded by the carrier's challenge


class Mode(IntEnum):
    """Claim -70016."""

    PRODUCTION = 0
    TRAINING = 1
    SELF_TEST = 2
    DEGRADED = 3  # software key


class Fresh(IntEnum):
    """Claim -70017: whose nonce it is, and how it came."""

    ONLINE = 1
    TICKET = 2
    SCANNED = 3  # from the point of sale, as a QR code
    NONE = 4  # no carrier nonce: the terminal drew one itself


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalContext:
    """Everything in a result that the session's rules do not know. Integers, short texts, identifiers and digests.

    `uptime_s` is the monotonic clock at the end of the session, the same clock as `SessionResult.consent_at_s`.
    """

    terminal_id: bytes  # 16
    oemid: bytes | int  # 16 random bytes, 3 bytes (IEEE) or an IANA enterprise number
    hardware_model: str  # 1..32
    uptime_s: int
    utc_s: int  # what the terminal believes; see clock_state
    clock_state: ClockState
    clock_error_s: int
    boot_count: int
    boot_seed: bytes  # 32
    software_name: str  # 1..32
    software_version: str  # 1..32, semantic versioning
    site: str  # 1..32
    pack_version: int
    pack_digest: bytes  # 32
    policy: Policy
    mode: Mode
    fresh: Fresh
    session_id: bytes  # 8..32
    nonce: bytes  # 16..64
    consent_text_digest: bytes  # 32, SHA-256 of the text that the person agreed to, in their language
    debug_status: DebugStatus = DebugStatus.ENABLED
    secure_boot: bool | None = None
    id_commitment: bytes | None = None  # 32, HMAC-SHA-256 over document number and type
    clerk: bytes | None = None  # 8..32, pseudonym
    order_commitment: bytes | None = None  # 16, see order_commitment()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """A decoded result: the same content as the bytes, with names. Bands are 0..7, never a score."""

    iat: int
    cti: bytes
    nonce: bytes
    terminal_id: bytes
    oemid: bytes | int
    hardware_model: str
    uptime_s: int
    secure_boot: bool | None
    debug_status: DebugStatus
    boot_count: int
    boot_seed: bytes
    software_name: str
    software_version: str
    session_id: bytes
    outcome: Outcome
    pad: CheckOutcome
    pad_band: int
    challenges: tuple[ChallengeRecord, ...]
    injection: CheckOutcome
    match: CheckOutcome
    match_band: int
    transcript: bytes
    pack_version: int
    pack_digest: bytes
    policy_id: str
    policy_version: int
    policy_digest: bytes
    site: str
    counter: int
    previous: bytes
    consent_given: bool
    consent_text_digest: bytes
    consent_at_s: int
    clock_state: ClockState
    clock_error_s: int
    id_commitment: bytes | None
    clerk: bytes | None
    reasons: tuple[Reason, ...]
    mode: Mode
    fresh: Fresh
    order_commitment: bytes | None = None


def build(
    result: SessionResult, context: TerminalContext, *, cti: bytes, counter: int, previous: bytes, transcript: bytes
) -> Claims:
    """The claims of one finished session.

    `cti`: 16 random bytes, drawn once. `counter`, `previous`: what the journal hands out. `transcript`: see
    `transcript_hash`. Ranges are checked by `encode`.
    """
    return Claims(
        iat=context.utc_s,
        cti=cti,
        nonce=context.nonce,
        terminal_id=context.terminal_id,
        oemid=context.oemid,
        hardware_model=context.hardware_model,
        uptime_s=context.uptime_s,
        secure_boot=context.secure_boot,
        debug_status=context.debug_status,
        boot_count=context.boot_count,
        boot_seed=context.boot_seed,
        software_name=context.software_name,
        software_version=context.software_version,
        session_id=context.session_id,
        outcome=result.outcome,
        pad=result.pad,
        pad_band=result.pad_band,
        challenges=result.challenges[-_ROWS_MAX:],
        injection=result.injection,
        match=result.match,
        match_band=result.match_band,
        transcript=transcript,
        pack_version=context.pack_version,
        pack_digest=context.pack_digest,
        policy_id=context.policy.id,
        policy_version=context.policy.version,
        policy_digest=context.policy.digest,
        site=context.site,
        counter=counter,
        previous=previous,
        consent_given=result.consent_given,
        consent_text_digest=context.consent_text_digest,
        consent_at_s=int(result.consent_at_s),
        clock_state=context.clock_state,
        clock_error_s=context.clock_error_s,
        id_commitment=context.id_commitment,
        clerk=context.clerk,
        reasons=result.reasons[:_ROWS_MAX],
        mode=context.mode,
        fresh=context.fresh,
        order_commitment=context.order_commitment,
    )


def transcript_hash(challenge: bytes, steps: tuple[str, ...]) -> bytes:
    """SHA-256 over the challenge's payload as signed, then the step log as canonical CBOR array of text."""
    return hashlib.sha256(challenge + cbor.encode(list(steps))).digest()


def order_commitment(nonce: bytes, order: str) -> bytes:
    """Claim -70018: whoever knows the order number and the nonce can check it; the number itself does not travel."""
    return hmac.digest(nonce, order.encode(), "sha256")[:_ORDER_TAG_SIZE]


def clerk_pseudonym(site: str, number: str) -> bytes:
    """Claim -70014: 16 bytes that the shop can compute from a staff number and nobody reads a number from at sight.

    Staff numbers are short: whoever has a list of them can try them all. It is a pseudonym, no secret, and no proof of
    who typed it.
    """
    return hmac.digest(b"vouch/clerk/1", f"{site}\0{number}".encode(), "sha256")[:16]


def encode(claims: Claims) -> bytes:
    """Canonical CBOR. EvidenceError when a value is outside claims.cddl: nothing that we could not read is signed."""
    text(claims.hardware_model, "hwmodel", 32)
    encoded = cbor.encode(_to_map(claims))
    decode(encoded)
    return encoded


def decode(payload: bytes) -> Claims:
    """Strict: canonical bytes, exactly the labels, types, sizes and ranges of claims.cddl; EvidenceError otherwise."""
    fields = labelled(cbor.decode(payload), _REQUIRED, _OPTIONAL, "claims")
    return _from_map(fields)


def _to_map(claims: Claims) -> dict[int, Any]:
    optional: dict[int, Any] = {
        Label.OEMBOOT: claims.secure_boot,
        Label.ID_COMMITMENT: None if claims.id_commitment is None else [1, claims.id_commitment],
        Label.CLERK: claims.clerk,
        Label.REASONS: [int(reason) for reason in claims.reasons] or None,
        Label.ORDER_COMMITMENT: None if claims.order_commitment is None else [1, claims.order_commitment],
    }
    required: dict[int, Any] = {
        Label.IAT: claims.iat,
        Label.CTI: claims.cti,
        Label.NONCE: claims.nonce,
        Label.UEID: bytes([_UEID_RANDOM]) + claims.terminal_id,
        Label.OEMID: claims.oemid,
        Label.HWMODEL: claims.hardware_model.encode(),
        Label.UPTIME: claims.uptime_s,
        Label.DBGSTAT: int(claims.debug_status),
        Label.PROFILE: PROFILE,
        Label.BOOTCOUNT: claims.boot_count,
        Label.BOOTSEED: claims.boot_seed,
        Label.SWNAME: claims.software_name,
        Label.SWVERSION: [claims.software_version, SEMVER],
        Label.SESSION: claims.session_id,
        Label.DECISION: int(claims.outcome),
        Label.PAD: [
            int(claims.pad),
            claims.pad_band,
            [[int(record.kind), record.ok] for record in claims.challenges],
            int(claims.injection),
        ],
        Label.MATCH: [int(claims.match), claims.match_band],
        Label.TRANSCRIPT: claims.transcript,
        Label.MODEL_PACK: [claims.pack_version, claims.pack_digest],
        Label.POLICY: [claims.policy_id, claims.policy_version, claims.policy_digest],
        Label.SITE: claims.site,
        Label.COUNTER: claims.counter,
        Label.PREVIOUS: claims.previous,
        Label.CONSENT: [claims.consent_given, claims.consent_text_digest, claims.consent_at_s],
        Label.CLOCK: [int(claims.clock_state), claims.clock_error_s],
        Label.MODE: int(claims.mode),
        Label.FRESH: int(claims.fresh),
    }
    present = {label: value for label, value in optional.items() if value is not None}
    return {int(label): value for label, value in (required | present).items()}


def _from_map(fields: dict[int, Any]) -> Claims:
    if fields[Label.PROFILE] != PROFILE:
        raise EvidenceError(f"eat_profile: not {PROFILE}")
    ueid = octets(fields[Label.UEID], "ueid", 17)
    if ueid[0] != _UEID_RANDOM:
        raise EvidenceError("ueid: not of type RAND (0x01)")
    version, scheme = items(fields[Label.SWVERSION], "swversion", 2)
    uint(scheme, "swversion scheme", SEMVER, SEMVER)
    pad, pad_band, challenges, injection = items(fields[Label.PAD], "pad", 4)
    match, match_band = items(fields[Label.MATCH], "match", 2)
    pack_version, pack_digest = items(fields[Label.MODEL_PACK], "model-pack", 2)
    policy_id, policy_version, policy_digest = items(fields[Label.POLICY], "policy", 3)
    consent, consent_text, consent_at = items(fields[Label.CONSENT], "consent", 3)
    clock, clock_error = items(fields[Label.CLOCK], "clock", 2)
    return Claims(
        iat=uint(fields[Label.IAT], "iat"),
        cti=octets(fields[Label.CTI], "cti", 16),
        nonce=octets(fields[Label.NONCE], "eat_nonce", 16, 64),
        terminal_id=ueid[1:],
        oemid=_oemid(fields[Label.OEMID]),
        hardware_model=_hardware_model(fields[Label.HWMODEL]),
        uptime_s=uint(fields[Label.UPTIME], "uptime"),
        secure_boot=truth(fields[Label.OEMBOOT], "oemboot") if Label.OEMBOOT in fields else None,
        debug_status=member(DebugStatus, fields[Label.DBGSTAT], "dbgstat"),
        boot_count=uint(fields[Label.BOOTCOUNT], "bootcount"),
        boot_seed=octets(fields[Label.BOOTSEED], "bootseed", 32),
        software_name=text(fields[Label.SWNAME], "swname", 32),
        software_version=text(version, "swversion", 32),
        session_id=octets(fields[Label.SESSION], "session id", 8, 32),
        outcome=member(Outcome, fields[Label.DECISION], "decision"),
        pad=member(CheckOutcome, pad, "pad outcome"),
        pad_band=uint(pad_band, "pad band", 0, _BAND_MAX),
        challenges=tuple(_challenge(entry) for entry in items(challenges, "challenges", 0, _ROWS_MAX)),
        injection=member(CheckOutcome, injection, "injection outcome"),
        match=member(CheckOutcome, match, "match outcome"),
        match_band=uint(match_band, "match band", 0, _BAND_MAX),
        transcript=octets(fields[Label.TRANSCRIPT], "transcript hash", DIGEST_SIZE),
        pack_version=uint(pack_version, "model-pack version"),
        pack_digest=octets(pack_digest, "model-pack digest", DIGEST_SIZE),
        policy_id=text(policy_id, "policy id", 32),
        policy_version=uint(policy_version, "policy version"),
        policy_digest=octets(policy_digest, "policy digest", DIGEST_SIZE),
        site=text(fields[Label.SITE], "site", 32),
        counter=uint(fields[Label.COUNTER], "ctr", 1),
        previous=octets(fields[Label.PREVIOUS], "prev", DIGEST_SIZE),
        consent_given=truth(consent, "consent"),
        consent_text_digest=octets(consent_text, "consent text digest", DIGEST_SIZE),
        consent_at_s=uint(consent_at, "consent time"),
        clock_state=member(ClockState, clock, "clock state"),
        clock_error_s=uint(clock_error, "clock error"),
        id_commitment=_commitment(fields, Label.ID_COMMITMENT, "id-commit", DIGEST_SIZE),
        clerk=octets(fields[Label.CLERK], "clerk", 8, 32) if Label.CLERK in fields else None,
        reasons=_reasons(fields),
        mode=member(Mode, fields[Label.MODE], "mode"),
        fresh=member(Fresh, fields[Label.FRESH], "fresh"),
        order_commitment=_commitment(fields, Label.ORDER_COMMITMENT, "order-commit", _ORDER_TAG_SIZE),
    )


def _oemid(value: object) -> bytes | int:
    if isinstance(value, bytes) and len(value) in {3, 16}:
        return value
    return uint(value, "oemid (neither 3 nor 16 bytes)")


def _hardware_model(value: object) -> str:
    try:
        return text(octets(value, "hwmodel", 1, 32).decode("utf-8"), "hwmodel", 32)
    except UnicodeDecodeError as exc:
        raise EvidenceError("hwmodel: not UTF-8") from exc


def _challenge(value: object) -> ChallengeRecord:
    kind, ok = items(value, "challenge", 2)
    return ChallengeRecord(member(ChallengeKind, kind, "challenge kind"), truth(ok, "challenge ok"))


def _commitment(fields: dict[int, Any], label: Label, what: str, size: int) -> bytes | None:
    if label not in fields:
        return None
    algorithm, tag = items(fields[label], what, 2)
    uint(algorithm, f"{what} algorithm", 1, 1)
    return octets(tag, what, size)


def _reasons(fields: dict[int, Any]) -> tuple[Reason, ...]:
    if Label.REASONS not in fields:
        return ()
    return tuple(member(Reason, code, "reason") for code in items(fields[Label.REASONS], "reasons", 1, _ROWS_MAX))
