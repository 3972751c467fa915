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
_LAST_YEAR_S = 253402300800  # 10000-01-01: datetime ends there


@dataclass(frozen=True, slots=True)
class Report:
    """`at_s`: s since 1970, before the year 10000. `release`: what lies complete in the spool.

    `fault`: why nothing newer does; `why`: the same for people, at most 200 characters that print.
    """

    at_s: int
    release: int | None
    fault: UpdateFault | None
    why: str


def leave(spool: Path, report: Report) -> None:
    """Write it; a disk that is full is no reason to stop."""
    why = "".join(c if c.isprintable() else " " for c in report.why[:_TEXT_LIMIT])  # a server may have put it
    told = {**asdict(report), "fault": report.fault.value if report.fault else None, "why": why}
    try:
        spool.mkdir(mode=0o750, parents=True, exist_ok=True)
        durable.write(spool / _NAME, json.dumps(told).encode(), _MODE)
    except (OSError, StorageError):
        return


def read(spool: Path) -> Report | None:
    """The last report; None where there is none that can be read. It comes from the network's side: never trusted."""
    try:
        with durable.open_plain(spool / _NAME) as file:
            return _parsed(json.loads(file.read(_LIMIT)))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _parsed(told: dict[str, Any]) -> Report:
    at_s, release, fault, why = (told[name] for name in ("at_s", "release", "fault", "why"))
    if type(at_s) is not int or not (release is None or type(release) is int) or not isinstance(why, str):
        raise TypeError
    if not 0 <= at_s < _LAST_YEAR_S or not why.isprintable():  # both go to root's console
        raise ValueError
    return Report(at_s, release, None if fault is None else UpdateFault(fault), why[:_TEXT_LIMIT])
