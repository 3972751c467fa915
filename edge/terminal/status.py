"""The status message: what the carrier's technicians may know of a terminal; small, and nothing of any person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edge.drivers.board import BoardHealth
from edge.ipc import LinkState
from edge.session.decision import Policy
from edge.terminal.context import SOFTWARE_VERSION, pack_number
from edge.vision.pack import Pack


def status_message(
    *,
    state: str,
    fault: str | None,
    pack: Pack,
    policy: Policy,
    pending: int | None,
    boot: int | None,
    uptime_s: float,
    clock_synchronised: bool,
    link: LinkState,
    refused_messages: int,
    camera_age_s: float | None,
    board: BoardHealth,
    tickets: int,
    updates: Mapping[str, Any] | None,
    trust: int,
    provisioned: bool,
) -> bytes:
    """JSON of version 1; None for what is not known. `updates` is left out where the terminal has none.

    `trust`: version of the carrier's key set. `provisioned`: whether the carrier has accepted a result of ours.
    """
    status: dict[str, Any] = {
        "v": 1,
        "state": state,
        "fault": fault,
        "software": SOFTWARE_VERSION,
        "pack": {"version": pack_number(pack.manifest.version), "digest": pack.digest.hex()},
        "policy": {"id": policy.id, "version": policy.version, "digest": policy.digest.hex()},
        "trust": trust,
        "provisioned": provisioned,
        "pending": pending,
        "tickets": tickets,
        "boot": boot,
        "uptime_s": int(uptime_s),
        "clock_synchronised": clock_synchronised,
        "link": link.name.lower(),
        "refused_messages": refused_messages,
        "camera_age_s": None if camera_age_s is None else round(camera_age_s, 1),
        "temperature_c": None if board.temperature_c is None else round(board.temperature_c, 1),
        "under_voltage": board.under_voltage,
        "throttled": board.throttled,
    }
    if updates is not None:
        status["updates"] = updates
    return json.dumps(status, separators=(",", ":")).encode()
