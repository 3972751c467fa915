"""Tell a torn write-ahead log from a damaged one, before SQLite opens it; what the pages hold is not known here.

SQLite reads a log up to the first frame whose checksum fails and silently forgets the rest: right after a power cut,
where only the transaction that was being written can be torn, but a loss of acknowledged results after a flipped bit.
Since each of our transactions is synced before the next begins, two commits behind a bad frame mean damage.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge import durable

_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683  # SQLite file format, section 4.1
_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_SUMMED = 8  # bytes of a frame's header that its checksum covers
_SIZE_MAX = 2**28  # ours is folded into the file at 200 pages of 4 KiB


@dataclass(frozen=True, slots=True)
class _Frame:
    valid: bool  # this and all before it
    commit: bool


def is_damaged(log: Path) -> bool:
    """Whether the log holds more committed transactions than SQLite would read, or more bytes than we ever wrote.

    OSError when it cannot be read.
    """
    if not log.exists():
        return False
    with durable.open_plain(log) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _SIZE_MAX:
            return True
        return sum(frame.commit for frame in _frames(file, size) if not frame.valid) > 1


def _frames(log: BinaryIO, size: int) -> Iterator[_Frame]:
    """The frames of the log's present generation (those with its salts), in order."""
    if size < _HEADER.size + _FRAME.size:
        return
    header = log.read(_HEADER.size)
    magic, _version, page_size, _sequence, salt_1, salt_2, *expected = _HEADER.unpack(header)
    order = "<" if magic == _MAGIC_LITTLE else ">"
    state = _checksum(header[:-8], order, (0, 0))
    valid = magic in {_MAGIC_LITTLE, _MAGIC_BIG} and state == tuple(expected)
    if not valid:  # a damaged header: the first frame knows the salts, and our files have SQLite's own page size
        page_size = 4096
        _, _, salt_1, salt_2, *_ = _FRAME.unpack(log.read(_FRAME.size))
        log.seek(_HEADER.size)
    while len(frame := log.read(_FRAME.size + page_size)) == _FRAME.size + page_size:
        _page, size_after_commit, own_1, own_2, *expected = _FRAME.unpack_from(frame)
        fits = (own_1, own_2) == (salt_1, salt_2)
        if valid:
            state = _checksum(frame[:_SUMMED] + frame[_FRAME.size :], order, state)
            valid = fits and state == tuple(expected)
        if fits:
            yield _Frame(valid, size_after_commit != 0)


def _checksum(data: bytes, order: str, state: tuple[int, int]) -> tuple[int, int]:
    """SQLite file format, section 4.2."""
    s0, s1 = state
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for x0, x1 in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + x0 + s1) & 0xFFFFFFFF
        s1 = (s1 + x1 + s0) & 0xFFFFFFFF
    return s0, s1
