"""A message as QR codes and back: parts of one size that name their place; what the message says is not known here.

A part is `VOUCH1/<kind>/<first 4 bytes of SHA-256>/<number>/<total>/<base 45>`: QR's alphanumeric mode holds exactly
these characters, and base 45 (RFC 9285) costs 3 percent there. Parts may come in any order and again and again; they
are shown in turns until all were seen.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from enum import Enum

import segno

from edge.errors import EvidenceError

BASE45 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
PART_SIZE = 150  # bytes: a code of 53 modules, which a 640 x 480 camera reads from a telephone's screen
WHOLE_SIZE = 800  # bytes: one code that a telephone's camera reads from a console or a picture
# Bytes of a code on the kiosk's smallest screen: at most 93 modules with the quiet zone, which 372 of its 480 rows show
# at four pixels each. Correction L: a lit screen has no stains, and larger modules are worth more.
SCREEN_SIZE = 600
PARTS_MAX = 99
_PREFIX = "VOUCH1"
_VALUES = {character: value for value, character in enumerate(BASE45)}


class Kind(Enum):
    REQUEST = "R"
    BUNDLE = "B"


def split(kind: Kind, message: bytes, size: int = PART_SIZE) -> list[str]:
    """The message's parts, each of at most `size` bytes; EvidenceError where that gives more than 99 or none."""
    chunks = [message[at : at + size] for at in range(0, len(message), size)]
    if not 1 <= len(chunks) <= PARTS_MAX:
        raise EvidenceError(f"a message of {len(message)} bytes does not fit into {PARTS_MAX} QR codes")
    identity = _identity(message)
    return [
        f"{_PREFIX}/{kind.value}/{identity}/{number}/{len(chunks)}/{base45(chunk)}"
        for number, chunk in enumerate(chunks, 1)
    ]


@dataclass(slots=True)
class Collector:
    """Parts in, the message out. A part of another message begins that one: what is shown last counts."""

    kind: Kind
    total: int = 0
    message_id: str = ""  # of the message whose parts are collected; empty before the first
    _parts: dict[int, bytes] = field(default_factory=dict)

    def add(self, text: str) -> bytes | None:
        """The whole message with the last missing part, else None. EvidenceError: no part of ours or no fit."""
        identity, number, total, chunk = _part(self.kind, text)
        if (identity, total) != (self.message_id, self.total):
            self.message_id, self.total, self._parts = identity, total, {}
        if self._parts.setdefault(number, chunk) != chunk:
            self._parts.clear()
            raise EvidenceError(f"part {number} came in two forms", todo="show the whole sequence again")
        if len(self._parts) < total:
            return None
        message = b"".join(self._parts[n] for n in range(1, total + 1))
        if _identity(message) != identity:
            self._parts.clear()
            raise EvidenceError("the parts do not fit together", todo="show the whole sequence again")
        return message

    @property
    def seen(self) -> int:
        return len(self._parts)

    @property
    def missing(self) -> list[int]:
        """Numbers of the parts that have yet to be shown; empty before the first."""
        return [number for number in range(1, self.total + 1) if number not in self._parts]


def base45(data: bytes) -> str:
    """RFC 9285, section 3."""
    out = []
    for at in range(0, len(data), 2):
        pair = data[at : at + 2]
        value = int.from_bytes(pair, "big")
        out.append(BASE45[value % 45] + BASE45[value // 45 % 45] + (BASE45[value // 2025] if len(pair) == 2 else ""))
    return "".join(out)


def from_base45(text: str) -> bytes:
    """RFC 9285, section 3; EvidenceError for what no encoder writes."""
    try:
        values = [_VALUES[character] for character in text]
    except KeyError as exc:
        raise EvidenceError("a character that is not of base 45") from exc
    out = bytearray()
    for at in range(0, len(values), 3):
        group = values[at : at + 3]
        size = len(group) - 1
        value = sum(digit * 45**place for place, digit in enumerate(group))
        if size == 0 or value >= 256**size:
            raise EvidenceError("a group that is not of base 45")
        out += value.to_bytes(size, "big")
    return bytes(out)


def for_screen(message: bytes) -> tuple[str, ...]:
    """A request's parts for the kiosk's screen: one code where it fits, else as few of one size as it takes."""
    count = -(-len(message) // SCREEN_SIZE)
    return tuple(split(Kind.REQUEST, message, -(-len(message) // count)))


def svg(text: str, *, module_px: int = 4, error: str = "m") -> str:
    """A part as a picture with its quiet zone, black on white. `error`: how much correction, "l" or "m"."""
    out = io.BytesIO()
    _code(text, error).save(out, kind="svg", scale=module_px, border=4, light="white", xmldecl=False, svgclass=None)
    return out.getvalue().decode()


def png(text: str, *, module_px: int = 4) -> bytes:
    out = io.BytesIO()
    _code(text).save(out, kind="png", scale=module_px, border=4)
    return out.getvalue()


def terminal_text(text: str) -> str:
    """A part in half blocks, for a console with dark ground."""
    out = io.StringIO()
    _code(text).terminal(out=out, border=4, compact=True)
    return out.getvalue()


def _code(text: str, error: str = "m") -> segno.QRCode:
    return segno.make_qr(text, error=error, boost_error=False)


def _part(kind: Kind, text: str) -> tuple[str, int, int, bytes]:
    fields = text.split("/", 5)
    if len(fields) != 6 or fields[0] != _PREFIX:
        raise EvidenceError("a QR code that is none of Vouch's")
    _, named, identity, number, total, body = fields
    if named != kind.value:
        other = "a terminal's request" if named == Kind.REQUEST.value else "a carrier's bundle"
        raise EvidenceError(f"this QR code is {other}" if named in {k.value for k in Kind} else "an unknown QR code")
    counts = [int(n) for n in (number, total) if n.isascii() and n.isdigit() and len(n) <= 2]
    if len(counts) != 2 or not 1 <= counts[0] <= counts[1] or len(identity) != 8:
        raise EvidenceError("a QR code that is none of Vouch's")
    chunk = from_base45(body)
    if not chunk:
        raise EvidenceError("a QR code without content")
    return identity, counts[0], counts[1], chunk


def _identity(message: bytes) -> str:
    return hashlib.sha256(message).hexdigest()[:8].upper()
