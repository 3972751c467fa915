"""The technician's side of a terminal, put together: workbench, self-test, control socket, page; it has no rules."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge.drivers.board import BoardHealth
from edge.drivers.camera import FrameSource
from edge.errors import JournalError
from edge.evidence.journal import Journal
from edge.evidence.messages import Receipt
from edge.log import Tail
from edge.provisioning.camera_checks import Looks, Vision
from edge.provisioning.doctor import RoundTrip, Trip, days_left
from edge.provisioning.pin import PinGate
from edge.provisioning.probe import Instruments
from edge.terminal.context import SOFTWARE_VERSION, built_in_policy
from edge.terminal.control import ControlServer
from edge.terminal.link_server import LinkServer
from edge.terminal.selftest import Author, SelfTest
from edge.terminal.sockets import technician_sockets
from edge.terminal.technician.page import Desk, TechnicianServer
from edge.terminal.updating import folder_of
from edge.terminal.workbench import Nudge, Workbench
from edge.words import word_of


@dataclass(frozen=True, slots=True)
class Lent:
    """What the terminal lends to its technician."""

    author: Author
    source: FrameSource
    vision: Vision
    journal: Journal | JournalError
    link: LinkServer
    health: Callable[[], BoardHealth]
    in_session: Callable[[], bool]
    fault: Callable[[], str | None]
    wake: Callable[[Nudge], None]


class Maintenance:
    """`start` and `stop` with the terminal; `workbench` is what its main thread serves."""

    def __init__(self, lent: Lent) -> None:
        self._lent = lent
        author, journal = lent.author, lent.journal
        self._self_test = SelfTest(author, journal, lent.link) if isinstance(journal, Journal) else None
        self.workbench = Workbench(
            Instruments(
                settings=author.settings,
                clock=author.clock,
                source=lent.source,
                looks=Looks(lent.vision, author.pack.match_threshold(built_in_policy().match_fmr_ppm)),
                pack_dir=folder_of(author.settings, author.pack),
                pack_digest=author.pack.digest,
                journal=journal,
                signer=author.signer,
                papers=lambda: lent.link.papers,
                round_trip=self._round_trip,
                health=lent.health,
            ),
            in_session=lent.in_session,
            wake=lent.wake,
        )
        self._control = ControlServer(author.settings.control_path, self.workbench)
        self.page: TechnicianServer | None = None  # between `start` and `stop`

    def start(self, inherited: Sequence[socket.socket]) -> None:
        """ConfigError where the control socket cannot be made; a page that cannot be served is only said in the log."""
        settings, clock = self._lent.author.settings, self._lent.author.clock
        self._control.start()
        desk = Desk(self.workbench, PinGate(settings.state_dir, clock), Tail("terminal"), clock, self._standing)
        sockets = technician_sockets(settings.technician, list(inherited))
        self.page = TechnicianServer(desk, sockets, settings.technician.gadget_address)
        self.page.start()

    def stop(self) -> None:
        self.workbench.stop()
        self._control.stop()
        if self.page is not None:
            self.page.stop()

    def received(self, receipt: Receipt) -> None:
        """A verified receipt came; in the link's thread."""
        if self._self_test is not None:
            self._self_test.received(receipt)

    def _round_trip(self, limit_s: float) -> RoundTrip:
        if self._self_test is None:
            return RoundTrip(Trip.NOT_STORED, detail="the journal cannot be used")
        return self._self_test.make(limit_s)

    def _standing(self) -> dict[str, Any]:
        """What the page shows beside the checks."""
        lent = self._lent
        settings, now_s = lent.author.settings, lent.author.clock.utc()
        papers, state = lent.link.papers, lent.link.state
        return {
            "terminal_id": settings.terminal_id,
            "site": settings.site,
            "software": SOFTWARE_VERSION,
            "fault": lent.fault(),
            "in_session": lent.in_session(),
            "link": "no-uplink" if state is None else word_of(state),
            "link_detail": lent.link.detail,
            "pending": _pending(lent.journal),
            "days_left": None if papers is None else days_left(papers.certificate_until_s, now_s),
            "ca_days_left": None if papers is None else days_left(papers.ca_until_s, now_s),
            "utc_s": now_s,
        }


def _pending(journal: Journal | JournalError) -> int | None:
    if isinstance(journal, JournalError):
        return None
    try:
        return journal.pending_count()
    except JournalError:
        return None
