"""What the technician and the doctor hear of packs and updates: in force, on trial, refused, offered, run out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from edge.config import Settings
from edge.errors import PackError
from edge.updates import report
from edge.updates.report import Report
from edge.updates.shelf import MAX_STARTS, State, shelf_of
from edge.vision.pack import Pack


@dataclass(frozen=True, slots=True)
class Overview:
    """`pack`: the pack in force, None with `fault` where it is broken. `expired`: no new update until signed anew."""

    pack: Pack | None
    fault: str
    state: State
    fetched: Report | None
    expired: bool
    offered: bool  # whether this terminal has a root to check updates by

    @property
    def needs_somebody(self) -> bool:
        """Whether the technician or the carrier must act: a broken pack, a refused update, signatures that ran out."""
        return self.pack is None or self.state.refused is not None or self.expired


def look(settings: Settings, utc_s: int) -> Overview:
    """UpdateError (STATE) where the record itself is damaged."""
    shelf = shelf_of(settings)
    state = shelf.state()
    pack, fault = None, ""
    try:
        pack = Pack.load(shelf.path_of(state.pack))
    except PackError as exc:
        fault = exc.message
    updates = settings.updates
    return Overview(
        pack=pack,
        fault=fault,
        state=state,
        fetched=report.read(updates.spool) if updates is not None else None,
        expired=state.expires_s is not None and state.expires_s < utc_s,
        offered=updates is not None,
    )


def record_of(seen: Overview) -> dict[str, Any]:
    """As JSON types."""
    pack = None
    if seen.pack is not None:
        manifest = seen.pack.manifest
        pack = {"name": manifest.name, "version": manifest.version, "digest": seen.pack.digest.hex()}
    fetched = None
    if seen.fetched is not None:
        told = seen.fetched
        fault = told.fault.value if told.fault else None
        fetched = {"at_s": told.at_s, "release": told.release, "fault": fault, "why": told.why}
    return {
        "pack": pack,
        "fault": seen.fault or None,
        "brought_by": "firmware" if seen.state.pack is None else "update",
        "release": seen.state.release,
        "trial": json.loads(seen.state.trial.model_dump_json()) if seen.state.trial else None,
        "refused": json.loads(seen.state.refused.model_dump_json()) if seen.state.refused else None,
        "expires_s": seen.state.expires_s,
        "expired": seen.expired,
        "updates": seen.offered,
        "fetched": fetched,
    }


def lines_of(seen: Overview) -> list[str]:
    """A few lines for a terminal window."""
    state = seen.state
    lines = []
    if seen.pack is not None:
        manifest = seen.pack.manifest
        origin = "the firmware's own" if state.pack is None else "installed"
        lines.append(f"pack       {manifest.name} {manifest.version}, {origin}, digest {seen.pack.digest.hex()[:16]}")
    else:
        lines.append(f"pack       broken: {seen.fault}")
    lines.append(f"release    {state.release or 'none yet'}; nothing older is ever taken")
    if state.trial is not None:
        by_hand = "the firmware's own pack" if state.trial.pack is None else "a pack chosen by hand"
        what = f"release {state.trial.release}" if state.trial.release is not None else by_hand
        when = "waits for the next start" if state.trial.starts == 0 else f"start {state.trial.starts} of {MAX_STARTS}"
        lines.append(f"on trial   {what}: {when}")
    if state.refused is not None:
        which = f"release {state.refused.release}: " if state.refused.release is not None else ""
        lines.append(f"refused    {which}{state.refused.why} ({state.refused.fault.value})")
    if not seen.offered:
        lines.append("updates    none: terminal.toml names no root for them")
    elif state.expires_s is not None:
        day = datetime.fromtimestamp(state.expires_s, UTC).date()
        said = "ran out on" if seen.expired else "are good until"
        more = (
            ": no new update until the carrier signs anew; the installed pack goes on working" if seen.expired else ""
        )
        lines.append(f"signatures {said} {day}{more}")
    if seen.fetched is not None:
        when = datetime.fromtimestamp(seen.fetched.at_s, UTC).isoformat(timespec="minutes")
        came = seen.fetched.why if seen.fetched.fault else f"release {seen.fetched.release} lies in the spool"
        lines.append(f"fetched    {when}: {came}")
    return lines
