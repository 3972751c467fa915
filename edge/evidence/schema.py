"""Checks of decoded CBOR against the types and ranges of claims.cddl; what a field means is known by its caller.

Each function returns the value with its type, or raises EvidenceError naming the field. Nothing is coerced.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, TypeVar

from edge.errors import EvidenceError

UINT_MAX = 2**63 - 1  # what SQLite and most readers hold; the wire would allow twice that
E = TypeVar("E", bound=IntEnum)


def labelled(value: object, required: Iterable[int], optional: Iterable[int], what: str) -> dict[int, Any]:
    """A map that has all required labels, and no label beyond the optional ones."""
    if not isinstance(value, dict):
        raise EvidenceError(f"{what}: not a map")
    required_labels, labels = set(required), set(value)
    if missing := required_labels - labels:
        raise EvidenceError(f"{what}: without label {', '.join(str(int(label)) for label in sorted(missing)[:4])}")
    if unknown := labels - required_labels - set(optional):
        raise EvidenceError(f"{what}: with unknown label {', '.join(sorted(map(repr, unknown))[:4])}")
    return value


def uint(value: object, what: str, low: int = 0, high: int = UINT_MAX) -> int:
    """An integer within low..high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise EvidenceError(f"{what}: not an integer of {low}..{high}")
    return value


def octets(value: object, what: str, low: int, high: int | None = None) -> bytes:
    """A byte string of low..high bytes; of exactly `low` where `high` is not given."""
    high = low if high is None else high
    if not isinstance(value, bytes) or not low <= len(value) <= high:
        raise EvidenceError(f"{what}: not a byte string of {low}..{high} bytes")
    return value


def text(value: object, what: str, high: int) -> str:
    """A text of 1..high bytes in UTF-8, as CDDL's .size counts, without control characters."""
    if not isinstance(value, str) or not value.isprintable():
        raise EvidenceError(f"{what}: not a printable text")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError as exc:
        raise EvidenceError(f"{what}: not a text that UTF-8 can hold") from exc
    if not 1 <= size <= high:
        raise EvidenceError(f"{what}: not a text of 1..{high} bytes")
    return value


def truth(value: object, what: str) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise EvidenceError(f"{what}: not a boolean")
    return value


def member(kind: type[E], value: object, what: str) -> E:
    """A member of the enumeration."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise EvidenceError(f"{what}: not an integer")
    try:
        return kind(value)
    except ValueError as exc:
        raise EvidenceError(f"{what}: {value} is no {kind.__name__}") from exc


def items(value: object, what: str, low: int, high: int | None = None) -> list[Any]:
    """An array of low..high items; of exactly `low` where `high` is not given."""
    high = low if high is None else high
    if not isinstance(value, list) or not low <= len(value) <= high:
        raise EvidenceError(f"{what}: not an array of {low}..{high} items")
    return value
