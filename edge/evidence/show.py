"""Signed bytes in words, for people: what `vouch evidence` prints; nothing here decides anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import EvidenceError
from edge.evidence import cbor, claims, cose, messages, requests, trust
from edge.session.decision import ChallengeRecord

_TIMES = frozenset({"iat", "exp"})
_LAST_YEAR_S = 253402300800  # 10000-01-01: datetime ends there


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of Vouch's messages: what it is signed under, and what reads its payload."""

    aad: bytes
    decode: Callable[[bytes], Any]
    limit: int = cose.MESSAGE_LIMIT  # bytes of the message


Kinds = Mapping[str, Kind]  # by the name that `--aad` has for it
KINDS: Kinds = {
    "result": Kind(messages.RESULT_AAD, claims.decode),
    "challenge": Kind(messages.CHALLENGE_AAD, messages.decode_challenge),
    "receipt": Kind(messages.RECEIPT_AAD, messages.decode_receipt),
    "policy": Kind(messages.POLICY_AAD, messages.decode_policy),
    "request": Kind(requests.REQUEST_AAD, requests.decode_request),
    "trust": Kind(trust.TRUST_AAD, trust.decode_trust),
}


class Verdict(IntEnum):
    """Exit codes of `vouch evidence`."""

    VALID = 0
    INVALID = 1
    UNREADABLE = 2


def show(path: Path, kinds: Kinds = KINDS) -> tuple[Verdict, list[str]]:
    """What a file of signed bytes says, its signature NOT checked: the verdict is about its form only.

    `kinds`: what it is read as; those of other rooms are the caller's to add.
    """
    message = _read(path)
    if not cbor.is_well_formed(message):
        return Verdict.UNREADABLE, [f"{path}: {len(message)} bytes that are no CBOR"]
    try:
        parts = cose.parse(message)
    except EvidenceError as error:
        return Verdict.INVALID, [f"{path}: {error.message}"]
    kid = parts.protected.get(cose.KID, parts.unprotected.get(cose.KID))
    lines = [
        f"COSE_Sign1, {len(message)} bytes, signature not checked (see `vouch evidence verify`)",
        f"key id: {_in_words(kid)}",
    ]
    for name, kind in kinds.items():
        with suppress(EvidenceError):
            return Verdict.VALID, [*lines, f"{name}:", *_lines(kind.decode(parts.payload))]
    if _claims_our_profile(parts.payload):
        return Verdict.INVALID, [*lines, f"a result that does not keep to its form: {_fault(parts.payload)}"]
    return Verdict.VALID, [*lines, "no message of Vouch's own", _raw(parts.payload)]


def verify(path: Path, key_path: Path, aad: str, kinds: Kinds = KINDS) -> tuple[Verdict, list[str]]:
    """Whether a file is a COSE_Sign1 signed by the key; for a kind of ours, also whether its content keeps to the form.

    A message of another kind than `aad` says is invalid, as what the caller takes it for; what it is, is said.
    ConfigError when the key cannot be read, EvidenceError when the file cannot.
    """
    key = messages.load_public_key(key_path)
    message = _read(path)
    if not cbor.is_well_formed(message):
        return Verdict.UNREADABLE, [f"unreadable: {len(message)} bytes that are no CBOR"]
    try:
        kind = kinds.get(aad)
        payload = cose.verify(message, key, kind.aad if kind else b"")
        if kind is None:
            content = [_raw(payload)]
        else:
            cose.open_strict(message, {cose.key_id(key): key}, kind.aad, limit=kind.limit)
            content = list(_lines(kind.decode(payload)))
    except EvidenceError as error:
        holds = _holding(message, key, kinds)
        if holds not in {None, aad}:
            return Verdict.INVALID, [
                f"invalid: signed by this key, but as {holds}, not as {aad}",
                f"  what to do: give --aad {holds}",
            ]
        hint = [f"  what to do: {error.todo}"] if error.todo else []
        return Verdict.INVALID, [f"invalid: {error.message}", *hint]
    return Verdict.VALID, [f"valid: signed by {cose.key_id(key).hex()} as {aad}", *content]


def _holding(message: bytes, key: ec.EllipticCurvePublicKey, kinds: Kinds) -> str | None:
    """As which kind the key has signed it; None: as none that we know."""
    for name, aad in {"none": b"", **{name: kind.aad for name, kind in kinds.items()}}.items():
        with suppress(EvidenceError):
            cose.verify(message, key, aad)
            return name
    return None


def _claims_our_profile(payload: bytes) -> bool:
    with suppress(EvidenceError):
        content = cbor.decode_any(payload)
        return isinstance(content, dict) and content.get(claims.Label.PROFILE) == claims.PROFILE
    return False


def _fault(payload: bytes) -> str:
    try:
        claims.decode(payload)
    except EvidenceError as error:
        return error.message
    return "none"


def _raw(payload: bytes) -> str:
    return f"payload: {len(payload)} bytes, {payload[:64].hex()}{'...' if len(payload) > 64 else ''}"


def _lines(record: Any) -> Iterator[str]:
    hidden = {"payload", "deadline_s"}
    for field in fields(record):
        value = getattr(record, field.name)
        if value is None or field.name in hidden:
            continue
        words = _time(value) if field.name in _TIMES else _in_words(value)
        yield f"  {field.name.replace('_', ' '):<22} {words}"


def _in_words(value: object) -> str:
    match value:
        case bytes():
            return value.hex() if len(value) <= 64 else f"<{len(value)} bytes>"
        case bool():
            return "yes" if value else "no"
        case Enum():
            return f"{value.name.lower().replace('_', '-')} ({value.value})"
        case tuple():
            return ", ".join(_in_words(item) for item in value) or "-"
        case ChallengeRecord():
            return f"{_in_words(value.kind)} {'done' if value.ok else 'not done'}"
        case messages.PolicyReference():
            return f"{value.id} version {value.version}"
        case ec.EllipticCurvePublicKey():
            return f"key {cose.key_id(value).hex()}"
        case _ if is_dataclass(value):
            return ", ".join(f"{field.name} {_in_words(getattr(value, field.name)) or '-'}" for field in fields(value))
        case _:
            return str(value)


def _time(seconds: int) -> str:
    if seconds >= _LAST_YEAR_S:
        return str(seconds)
    return f"{seconds} ({datetime.fromtimestamp(seconds, UTC).isoformat()})"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(cose.GENERAL_LIMIT + 1)
    except OSError as exc:
        raise EvidenceError(f"{path} cannot be read: {exc.strerror}", todo="mend the path") from exc
