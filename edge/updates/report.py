"""How the uplink's last attempt ended, left in the spool for the terminal and the technician; no more than a hint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge import durable
from edge.errors import StorageError, UpdateFault

_NAME = "fetch.json"
_MODE = 0o644
_LIMIT, _TEXT_LIMIT = 4096, 200


@dataclass(frozen=True, slots=True)
class Report:
    """`at_s`: s since 1970. `release`: what lies complete in the spool. `fault`: why nothing newer does."""

    at_s: int
    release: int | None
    fault: UpdateFault | None
    why: str


def leave(spool: Path, report: Report) -> None:
    """Write it; a disk that is full is no reason to stop."""
    told = {**asdict(report), "fault": report.fault.value if report.fault else None}
    try:
        spool.mkdir(mode=0o750, parents=True, exist_ok=True)
        durable.write(spool / _NAME, json.dumps(told).encode(), _MODE)
    except (OSError, StorageError):
        return


def read(spool: Path) -> Report | None:
    """The last report; None where there is none that can be read. It comes from the network's side: never trusted."""
    try:
        with (spool / _NAME).open("rb") as file:
            return _parsed(json.loads(file.read(_LIMIT)))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _parsed(told: dict[str, Any]) -> Report:
    at_s, release, fault, why = (told[name] for name in ("at_s", "release", "fault", "why"))
    if type(at_s) is not int or not (release is None or type(release) is int) or not isinstance(why, str):
        raise TypeError
    return Report(at_s, release, None if fault is None else UpdateFault(fault), why[:_TEXT_LIMIT])
