"""The disk below a folder: room, and how far its flash is worn, as the kernel reports it; no judgement."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Medium(Enum):
    EMMC = "eMMC"
    SD = "SD card"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Room:
    """Of the file system that holds a folder. Bytes and inodes that this user may still use."""

    total_bytes: int
    free_bytes: int
    free_inodes: int
    read_only: bool


@dataclass(frozen=True, slots=True)
class Wear:
    """`worn_percent`: upper end of the tenth of its life that the eMMC says it has used (JEDEC JESD84-B51, registers
    DEVICE_LIFE_TIME_EST_TYP_A and _B, the worse of both); 110 where it is exceeded. `reserve`: PRE_EOL_INFO, 1 normal,
    2 80 % of the spare blocks used, 3 urgent. None where the medium does not say: SD cards do not.
    """

    medium: Medium
    name: str | None
    worn_percent: int | None
    reserve: int | None


def read_room(folder: Path) -> Room:
    """OSError where there is no such folder."""
    numbers = os.statvfs(folder)
    return Room(
        total_bytes=numbers.f_blocks * numbers.f_frsize,
        free_bytes=numbers.f_bavail * numbers.f_frsize,
        free_inodes=numbers.f_favail,
        read_only=bool(numbers.f_flag & os.ST_RDONLY),
    )


def read_wear(folder: Path, sys: Path = Path("/sys"), device: int | None = None) -> Wear:
    """Never raises. `device`: number of the block device (st_dev), for tests; None: the one below `folder`."""
    number = folder.stat().st_dev if device is None else device
    block = (sys / "dev/block" / f"{os.major(number)}:{os.minor(number)}").resolve()
    whole = block.parent if (block / "partition").exists() else block
    card = whole / "device"
    medium = {"MMC": Medium.EMMC, "SD": Medium.SD}.get(_text(card / "type") or "", Medium.OTHER)
    tenths = [_hexadecimal(part) for part in (_text(card / "life_time") or "").split()]
    worst = max((tenth for tenth in tenths if tenth is not None and 1 <= tenth <= 0x0B), default=None)
    reserve = _hexadecimal(_text(card / "pre_eol_info") or "")
    return Wear(
        medium=medium,
        name=_text(card / "name") or _text(card / "model"),
        worn_percent=None if worst is None else 10 * worst,
        reserve=reserve if reserve in (1, 2, 3) else None,
    )


def _hexadecimal(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip() or None
    except OSError:
        return None
