"""Reads what the doctor judges: disk, keys, models, clock, journal, board, link; nothing here has an opinion.

Each function measures one thing of the terminal with what it is given and returns its checks. What is broken comes as a
VouchError in the place of the thing, and becomes a failed check with that error's own words.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge.clock import Clock
from edge.config import Settings
from edge.drivers.board import BoardHealth, read_health
from edge.drivers.camera import FrameSource
from edge.drivers.storage import read_room, read_wear
from edge.errors import JournalError, UpdateError, VouchError
from edge.evidence.journal import RESERVE_BYTES, Journal
from edge.evidence.messages import CarrierKeys
from edge.evidence.signer import Signer, load_private_key
from edge.ipc import Papers
from edge.provisioning import doctor
from edge.provisioning.camera_checks import Looks
from edge.provisioning.doctor import Check, Name, RoundTrip
from edge.updates import report
from edge.updates.shelf import shelf_of
from edge.vision.inspection import inspect_pack
from edge.vision.pack import Pack

_PAPERS_WAIT_S = 4.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Instruments:
    """The terminal's own parts, or why one cannot be used. The running terminal lends its own; else they are opened."""

    settings: Settings
    clock: Clock
    source: FrameSource | VouchError
    looks: Looks | VouchError
    pack_dir: Path  # of the pack in force
    pack_digest: bytes | None  # of the pack that the process works with
    journal: Journal | JournalError
    signer: Signer | VouchError
    papers: Callable[[], Papers | None]  # as the uplink says, or as read
    round_trip: Callable[[float], RoundTrip]  # argument: seconds that it may take
    health: Callable[[], BoardHealth] = field(default=read_health)


def models(instruments: Instruments) -> list[Check]:
    """The pack as it lies on the disk now: hashes, tensors and a first run."""
    folder = instruments.pack_dir
    try:
        inspect_pack(folder)
        pack = Pack.load(folder)
    except VouchError as exc:
        return [doctor.fault(Name.MODELS, exc.message)]
    return [doctor.models(pack.manifest.name, pack.manifest.version, pack.digest, instruments.pack_digest)]


def updates(instruments: Instruments) -> list[Check]:
    """The shelf's record, and the uplink's report in the spool."""
    settings = instruments.settings
    try:
        state = shelf_of(settings).state()
    except UpdateError as exc:
        return [doctor.fault(Name.UPDATES, exc.message)]
    fetched = report.read(settings.updates.spool) if settings.updates is not None else None
    seen = doctor.UpdatesSeen(
        offered=settings.updates is not None,
        release=state.release,
        on_trial=state.trial is not None,
        refused=state.refused.why if state.refused is not None else None,
        unfetched=fetched.why if fetched is not None and fetched.fault is not None else None,
        expired=state.expires_s is not None and state.expires_s < instruments.clock.utc(),
    )
    return [doctor.updates(seen)]


def keys(instruments: Instruments) -> list[Check]:
    """Each key that this process must be able to use; the result key signs something that nobody keeps."""
    if isinstance(instruments.signer, VouchError):
        return [doctor.fault(Name.KEYS, instruments.signer.message)]
    settings = instruments.settings.keys
    try:
        load_private_key(settings.portrait_key)
        carrier = CarrierKeys.load(settings.carrier_keys)
        instruments.signer.sign(b"vouch doctor")
    except VouchError as exc:
        return [doctor.fault(Name.KEYS, exc.message)]
    return [doctor.keys(hardware=instruments.signer.hardware, carrier_keys=len(carrier))]


def certificate(instruments: Instruments) -> list[Check]:
    """The uplink alone sees its certificate; it tells when it comes, which may be a moment from now."""
    until_s = time.monotonic() + _PAPERS_WAIT_S
    while (papers := instruments.papers()) is None and time.monotonic() < until_s:
        time.sleep(_POLL_S)
    now_s = instruments.clock.utc()
    return [doctor.certificate(papers, now_s)]


def storage(instruments: Instruments) -> list[Check]:
    folder = instruments.settings.state_dir
    try:
        room = read_room(folder)
    except OSError as exc:
        return [doctor.fault(Name.DISK, f"{folder} cannot be read: {exc.strerror}"), doctor.wear(read_wear(Path("/")))]
    size = sum(_size(path) for path in folder.glob(f"{instruments.settings.journal_path.name}*"))
    return [doctor.disk(room, size, reserve_bytes=RESERVE_BYTES), doctor.wear(read_wear(folder))]


def journal(instruments: Instruments) -> list[Check]:
    """Read every row and verify the chain, then whether it can be written."""
    if isinstance(instruments.journal, JournalError):
        return [doctor.fault(Name.JOURNAL, instruments.journal.diagnostics())]
    try:
        found = instruments.journal.verify_chain()
        check = doctor.journal(found.rows, found.unreleased, found.head, instruments.settings.journal_max_rows)
        if check.verdict is not doctor.Verdict.FAIL:
            instruments.journal.probe_writable()
    except JournalError as exc:
        return [doctor.fault(Name.JOURNAL, exc.diagnostics())]
    return [check]


def board(instruments: Instruments) -> list[Check]:
    health = instruments.health()
    return [doctor.temperature(health), doctor.power(health)]


def link(instruments: Instruments, limit_s: float) -> list[Check]:
    """The round trip, and the clock with what the receipt says of it."""
    trip = instruments.round_trip(limit_s)
    clock = instruments.clock
    return [
        doctor.broker(trip),
        doctor.clock(clock.utc(), synchronised=clock.is_synchronised(), offset_s=trip.offset_s),
    ]


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
