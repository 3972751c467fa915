"""CBOR as Vouch reads and writes it (RFC 8949): bounded, no surprises; what the items mean is not known here.

Reading is our own, because it meets hostile bytes before any signature is checked: general decoders follow tags into
dates, regular expressions, big numbers and shared references, and let a repeated map key win silently. cbor2 writes.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import cbor2

from edge.errors import EvidenceError

DEPTH_LIMIT = 12  # our deepest message has 5 levels
_INDEFINITE = 31
_BREAK = 0xFF
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_CONSTANTS: dict[int, bool | None] = {20: False, 21: True, 22: None, 23: None}


def encode(value: Any) -> bytes:
    """Deterministic encoding of RFC 8949 section 4.2.1; EvidenceError for a value that CBOR cannot hold.

    cbor2 sorts keys by length first; every map of ours has labels for which both orders agree (see claims.cddl).
    """
    try:
        return cbor2.dumps(value, canonical=True)
    except (cbor2.CBOREncodeError, UnicodeEncodeError) as exc:
        raise EvidenceError(f"a value that CBOR cannot hold: {type(exc).__name__}") from exc


def decode(data: bytes) -> Any:
    """The one item in `data`, which must be exactly how `encode` writes it. EvidenceError otherwise.

    Only integers of 64 bits, byte and text strings, arrays, maps with integer or string keys, booleans and null: no
    floats, no tags, no indefinite lengths.
    """
    value = _Reader(data, strict=True).whole()
    if encode(value) != data:
        raise EvidenceError("CBOR that is not in canonical form", todo="encode it as RFC 8949 section 4.2.1 says")
    return value


def decode_tagged(data: bytes, tag: int, *, strict: bool = False) -> Any:
    """The content of one item with this tag outermost and no other tag inside; EvidenceError otherwise.

    Not strict: any well-formed encoding is read, floats and indefinite lengths too. Strict is only `decode`'s set of
    types; the caller compares the bytes.
    """
    return _Reader(data, strict=strict).whole(tag)


def decode_any(data: bytes) -> Any:
    """One item in any well-formed, untagged encoding; EvidenceError otherwise."""
    return _Reader(data, strict=False).whole()


def is_well_formed(data: bytes) -> bool:
    """Whether `data` is one CBOR item (with or without an outermost tag) within our bounds."""
    try:
        reader = _Reader(data, strict=False)
        reader.outer_tag()
        reader.whole()
    except EvidenceError:
        return False
    return True


class _Reader:
    """One pass over bytes; time and memory are linear in their number, depth is bounded."""

    def __init__(self, data: bytes, *, strict: bool) -> None:
        self._data = data
        self._at = 0
        self._strict = strict

    def whole(self, tag: int | None = None) -> Any:
        if tag is not None and self.outer_tag() != tag:
            raise EvidenceError(f"CBOR tag {tag} is missing")
        value = self._item(0)
        if self._at != len(self._data):
            raise EvidenceError(f"{len(self._data) - self._at} bytes too many after the CBOR item")
        return value

    def outer_tag(self) -> int | None:
        if not self._data or self._data[0] >> 5 != 6:
            return None
        return self._argument(self._byte() & 31)

    def _item(self, depth: int) -> Any:
        if depth > DEPTH_LIMIT:
            raise EvidenceError(f"CBOR nested deeper than {DEPTH_LIMIT}")
        initial = self._byte()
        major, info = initial >> 5, initial & 31
        if info == _INDEFINITE and 2 <= major <= 5 and not self._strict:
            return self._indefinite(major, depth)
        if major == 7:
            return self._simple(info)
        argument = self._argument(info)
        match major:
            case 0:
                return argument
            case 1:
                return -1 - argument
            case 2:
                return self._take(argument)
            case 3:
                return _text(self._take(argument))
            case 4:
                return [self._item(depth + 1) for _ in range(self._count(argument))]
            case 5:
                return self._map(self._count(argument * 2) // 2, depth)
            case _:
                raise EvidenceError("a CBOR tag where none is allowed")

    def _map(self, pairs: int, depth: int) -> dict[int | str | bytes, Any]:
        result: dict[int | str | bytes, Any] = {}
        for _ in range(pairs):
            self._pair(result, depth)
        return result

    def _pair(self, result: dict[int | str | bytes, Any], depth: int) -> None:
        key = self._item(depth + 1)
        if isinstance(key, bool) or not isinstance(key, int | str | bytes):
            raise EvidenceError("a CBOR map key that is neither integer nor string")
        if key in result:
            raise EvidenceError("a CBOR map with the same key twice")
        result[key] = self._item(depth + 1)

    def _indefinite(self, major: int, depth: int) -> Any:
        items: list[Any] = []
        pairs: dict[int | str | bytes, Any] = {}
        while self._peek() != _BREAK:
            if major == 5:
                self._pair(pairs, depth)
            elif major == 4:
                items.append(self._item(depth + 1))
            else:
                head = self._byte()
                if head >> 5 != major or head & 31 == _INDEFINITE:
                    raise EvidenceError("a CBOR string in chunks of another kind")
                chunk = self._take(self._argument(head & 31))
                items.append(chunk if major == 2 else _text(chunk))
        self._byte()
        match major:
            case 2:
                return b"".join(items)
            case 3:
                return "".join(items)
            case 4:
                return items
            case _:
                return pairs

    def _simple(self, info: int) -> float | bool | None:
        if info in _CONSTANTS and not (self._strict and info == 23):
            return _CONSTANTS[info]
        if info in _FLOATS and not self._strict:
            form = _FLOATS[info]
            (number,) = struct.unpack(form, self._take(struct.calcsize(form)))
            return float(number) if math.isfinite(number) else None
        raise EvidenceError("a float or simple value in CBOR where none is allowed")

    def _argument(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise EvidenceError("a CBOR length that is not allowed")
        return int.from_bytes(self._take(1 << (info - 24)), "big")

    def _count(self, items: int) -> int:
        if items > len(self._data) - self._at:  # each item takes a byte at least
            raise EvidenceError("CBOR that promises more items than it has bytes")
        return items

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise EvidenceError("truncated CBOR")
        chunk = self._data[self._at : self._at + size]
        self._at += size
        return chunk

    def _byte(self) -> int:
        return self._take(1)[0]

    def _peek(self) -> int:
        if self._at >= len(self._data):
            raise EvidenceError("truncated CBOR")
        return self._data[self._at]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise EvidenceError("CBOR text that is not UTF-8") from exc
