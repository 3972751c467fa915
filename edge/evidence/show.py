"""Signed bytes in words, for people: what `vouch evidence` prints; nothing here decides anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

from edge.errors import EvidenceError
from edge.evidence import cbor, claims, cose, messages, requests
from edge.session.decision import ChallengeRecord

AADS: dict[str, bytes] = {
    "none": b"",
    "result": messages.RESULT_AAD,
    "challenge": messages.CHALLENGE_AAD,
    "receipt": messages.RECEIPT_AAD,
    "policy": messages.POLICY_AAD,
    "request": requests.REQUEST_AAD,
}
_TIMES = frozenset({"iat", "exp"})
_LAST_YEAR_S = 253402300800  # 10000-01-01: datetime ends there


class Verdict(IntEnum):
    """Exit codes of `vouch evidence`."""

    VALID = 0
    INVALID = 1
    UNREADABLE = 2


def show(path: Path) -> tuple[Verdict, list[str]]:
    """What a file of signed bytes says, its signature NOT checked: the verdict is about its form only."""
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
    for kind, decoder in _DECODERS.items():
        with suppress(EvidenceError):
            return Verdict.VALID, [*lines, f"{kind}:", *_lines(decoder(parts.payload))]
    if _claims_our_profile(parts.payload):
        return Verdict.INVALID, [*lines, f"a result that does not keep to its form: {_fault(parts.payload)}"]
    return Verdict.VALID, [*lines, "no message of Vouch's own", _raw(parts.payload)]


def verify(path: Path, key_path: Path, aad: str) -> tuple[Verdict, list[str]]:
    """Whether a file is a COSE_Sign1 signed by the key; for a kind of ours, also whether its content keeps to the form.

    ConfigError when the key cannot be read, EvidenceError when the file cannot.
    """
    key = messages.load_public_key(key_path)
    message = _read(path)
    if not cbor.is_well_formed(message):
        return Verdict.UNREADABLE, [f"unreadable: {len(message)} bytes that are no CBOR"]
    try:
        payload = cose.verify(message, key, AADS[aad])
        if aad == "none":
            content = [_raw(payload)]
        else:
            cose.open_strict(message, {cose.key_id(key): key}, AADS[aad])
            content = list(_lines(_DECODERS[aad](payload)))
    except EvidenceError as error:
        hint = [f"  what to do: {error.todo}"] if error.todo else []
        return Verdict.INVALID, [f"invalid: {error.message}", *hint]
    return Verdict.VALID, [f"valid: signed by {cose.key_id(key).hex()} as {aad}", *content]


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "result": claims.decode,
    "challenge": messages.decode_challenge,
    "receipt": messages.decode_receipt,
    "policy": messages.decode_policy,
    "request": requests.decode_request,
}


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
