"""Process 1: sees the camera, faces and the result key, never the network; from a carrier's challenge to a signed row.

Three threads: the caller's runs camera, vision and rules, `link` talks to the uplink, `kiosk` serves the page.
A session:

1. A challenge comes in, sent by the carrier, asked for by the clerk, or as a ticket (desk.py): signature first, then
   form, addressee and age (evidence/messages.py).
2. The journal can be written, or no session starts.
3. Its nonce is spent, on the disk, before anybody is asked anything.
4. The person consents; the reference portrait is read; the rules run on frames (session.py).
5. The result becomes claims, is signed and stored in one transaction (recorder.py).
6. Only then is the outcome shown, and the row goes up until the carrier's signed receipt.
"""

from __future__ import annotations

import logging
import queue
import random
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from edge.clock import Clock, SystemClock
from edge.config import Settings
from edge.drivers.board import BoardHealth, read_health
from edge.drivers.camera import FrameSource, Image, open_source
from edge.drivers.document import CardView
from edge.errors import CameraError, EvidenceError, JournalError, PackError, SignerError, StorageError, VouchError
from edge.evidence import claims, messages
from edge.evidence.journal import Journal, Row
from edge.evidence.messages import Challenge
from edge.ipc import Down, Inbound, LinkState
from edge.log import Log, setup
from edge.session import machine
from edge.session.decision import Outcome, Policy, SessionResult
from edge.session.machine import Phase, Screen
from edge.terminal.alone import alone
from edge.terminal.desk import OrderDesk, Party
from edge.terminal.display import (
    CancelPressed,
    CannotPressed,
    ConsentPressed,
    Display,
    Finished,
    HelpPressed,
    MoreTimePressed,
    OrderPressed,
    Press,
    Preview,
    ScanPressed,
    StaffPressed,
    for_the_person,
)
from edge.terminal.in_service import InService
from edge.terminal.kiosk import KioskServer
from edge.terminal.lens import IDLE_FRAME_S, TICK_S, Lens
from edge.terminal.link_server import Credentials, LinkServer
from edge.terminal.maintenance import Lent, Maintenance
from edge.terminal.opening import Identity, open_identity, open_journal
from edge.terminal.policies import Policies
from edge.terminal.publisher import Publisher
from edge.terminal.recorder import Recorder, Visit
from edge.terminal.selftest import NOTHING, Author
from edge.terminal.session import Session, SessionReport, Tools, Vision
from edge.terminal.sockets import KIOSK, TECHNICIAN, inherited_sockets
from edge.terminal.standing import Standing
from edge.terminal.status import status_message
from edge.terminal.texts import Language
from edge.terminal.updating import Updating, open_vision
from edge.terminal.workbench import Nudge
from edge.vision.pack import Pack
from edge.watchdog import Notifier

OUTCOME_SHOWN_S = 12.0  # time to read, and to note the reference number
STATUS_EACH_S = 60.0
_INBOX_LIMIT = 64
_ITEMS_EACH_TURN = 8  # then the camera has its turn: each may cost a write to the disk
_FINISHED_SHOWN = 5
# Exit codes: systemd starts the process anew.
_CAMERA_LOST = 1
_KIOSK_LOST = 3
_NEW_PACK = 4
# A session that came to these has used every model of the pack.
_THROUGH = frozenset({Outcome.MATCH, Outcome.NO_MATCH, Outcome.LIVENESS_FAIL})


Item = Inbound | Press | LinkState | Nudge


def main(settings: Settings, *, verbose: bool = False) -> int:
    """Be the terminal process until SIGTERM, the end of a video file, or the loss of the camera; its exit code."""
    setup("terminal", level=logging.DEBUG if verbose else logging.INFO)
    clock = SystemClock()
    with alone(settings.state_dir):
        pack, vision, updating = open_vision(settings, clock.monotonic())
        terminal = Terminal(
            settings,
            source=open_source(settings.camera),
            vision=vision,
            pack=pack,
            updating=updating,
            identity=open_identity(settings),
            journal=open_journal(settings),
            clock=clock,
            notifier=Notifier.from_environment(),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: terminal.stop())
        return terminal.run(inherited=inherited_sockets())


class Terminal:
    """The service. Composed by `main`, and by the simulator with a camera of its own. `run` blocks until it ends."""

    def __init__(
        self,
        settings: Settings,
        *,
        source: FrameSource,
        vision: Vision,
        pack: Pack,
        identity: Identity,
        journal: Journal | JournalError,
        clock: Clock,
        notifier: Notifier,
        updating: Updating | None = None,
        jitter: Callable[[], float] | None = None,
        health: Callable[[], BoardHealth] = read_health,
        on_screen: Callable[[Screen], None] | None = None,
        on_report: Callable[[SessionReport], None] | None = None,
    ) -> None:
        """`on_screen` and `on_report` are for the simulator: its person reads the one, its page shows the other.

        Without `updating` the pack stays what it is.
        """
        self.display = Display()
        self.preview = Preview()
        self.page: KioskServer | None = None  # while `run` runs
        self._settings = settings
        self._source = source
        self._vision = vision
        self._pack = pack
        self._updating = updating
        self._identity = identity
        self._journal = journal if isinstance(journal, Journal) else None
        self._clock = clock
        self._notifier = notifier
        self._health = health
        self._on_screen = on_screen
        self._on_report = on_report
        self._log = Log("terminal")
        self._inbox: queue.Queue[Item] = queue.Queue(_INBOX_LIMIT)
        self._session: Session | None = None
        self._visit = Visit(Language(settings.kiosk.language))
        self.display.change(language=self._visit.language)
        self._outcome_until_s: float | None = None
        self._link = LinkState.DOWN
        self._refused_messages = 0
        self._lens = Lens(source, timeout_s=settings.camera.timeout_s, clock=clock, notifier=notifier)
        self._next_status_s = 0.0
        self._stopping = False
        self._policies = Policies(settings.keys.carrier_keys, identity.carrier_keys, pack)
        self._desk = OrderDesk(
            Party(bytes.fromhex(settings.terminal_id), identity.signer, identity.carrier_keys),
            journal=self._journal,
            clock=clock,
            display=self.display,
            send=self._ask_carrier,
        )
        self._standing = Standing(settings.accepted_path)
        self._recorder = Recorder(
            settings, clock=clock, signer=identity.signer, pack=pack, standing=self._standing, journal=self._journal
        )
        self.display.change(training=not self._standing.provisioned)
        self._link_server = LinkServer(
            settings.socket_path,
            journal=self._journal,
            publisher=Publisher(
                self._page, window=settings.uplink.max_in_flight, jitter=jitter or random.SystemRandom().random
            ),
            credentials=Credentials(identity.carrier_keys, bytes.fromhex(settings.terminal_id)),
            clock=clock,
            on_inbound=self._put,
            on_link=lambda state, _detail: self._put(state),
            on_receipt=lambda receipt: self._maintenance.received(receipt),  # noqa: PLW0108 - it is made below
            on_accepted=self._accepted,
        )
        self._maintenance = Maintenance(
            Lent(
                author=Author(settings, clock, identity.signer, pack, lambda: self._policies.current),
                source=source,
                vision=vision,
                journal=journal,
                link=self._link_server,
                health=health,
                in_session=lambda: self._session is not None,
                fault=lambda: self.display.read()[1].fault,
                wake=self._put,
            )
        )
        self.workbench = self._maintenance.workbench
        self._in_service = InService(
            self.display, notifier, clock, held=lambda: self.workbench.held, changed=self._tell_status
        )
        self._tools = Tools(
            source=source,
            vision=vision,
            clock=clock,
            portrait_key=identity.portrait_key,
            document=settings.document,
            camera_timeout_s=settings.camera.timeout_s,
            on_screen=self._show,
            on_card=self._show_card,
            on_frame=self._show_frame,
        )
        if isinstance(journal, JournalError):
            self._out_of_service("journal", journal)
        else:
            self._open_records(journal)
            self._desk.allow(self._policies.current.offline_tickets)
        self._in_service.show()

    def _accepted(self, receipt: bytes) -> None:
        """Runs in the link server's thread."""
        if self._standing.accepted(receipt):
            self.display.change(training=False)
            self._tell_status()

    def press(self, item: Press) -> None:
        """What the person did on the page; any thread may call it."""
        self._put(item)

    def stop(self) -> None:
        """End `run` soon; a running session becomes an error, signed and stored. Signal handlers may call it."""
        self._stopping = True

    def run(self, *, inherited: Mapping[str, list[socket.socket]] | None = None) -> int:
        """Serve until stopped (0), until a video file ends (0), until the camera (1) or the page (3) is lost, or until
        another pack is to be taken (4).

        `inherited`: listening sockets for the pages (sockets.py); without one, the settings' loopback port is opened.
        """
        given = inherited or {}
        kiosk = next(iter(given.get(KIOSK, [])), None)
        page = self.page = KioskServer(self._settings.kiosk, self.display, self.preview, self.press, inherited=kiosk)
        self._link_server.start()
        self._maintenance.start(given.get(TECHNICIAN, []))
        page.start()
        self._check_pack()
        self._log.info(
            "ready", kiosk_url=page.url, policy_version=self._policies.current.version, pending=self._pending()
        )
        self._notifier.ready("ready")
        try:
            return self._loop()
        finally:
            self._notifier.stopping()
            self._abandon()
            if self._updating is not None:
                self._updating.close()
            self._maintenance.stop()
            page.stop()
            self._link_server.stop()
            self._source.close()
            self._vision.close()
            if self._journal is not None:
                self._journal.close()

    def _loop(self) -> int:
        while not self._stopping:
            if self.page is not None and self.page.failed:
                return _KIOSK_LOST
            if self._follow_updates():
                return _NEW_PACK
            try:
                if not self._turn():
                    return 0
            except CameraError as exc:
                self._log.error("camera-lost", exc=exc)
                self._notifier.status("camera lost")
                self.workbench.camera_lost(exc)
                if self._session is not None:
                    self._session.react(machine.CameraLost())
                    self._finish_if_over()
                return _CAMERA_LOST
        return 0

    def _turn(self) -> bool:
        """One round; False when a video file has ended and its result was released."""
        now = self._clock.monotonic()
        self._take_inbox(now)
        self._keep_up(now)
        session = self._session
        if session is None:
            self._begin_if_waiting(now)
            if self._session is not None:
                return True
            if self._desk.scanning:
                self._lens.for_order(self._desk, self.preview)
                return True
            return self._idle(now)
        more = True
        if not session.wants_frames:
            session.react(machine.Tick())
            more = self._idle(now)
        else:
            self._lens.in_session(session)
        self._finish_if_over()
        return more

    def _idle(self, now: float) -> bool:
        """False when nothing more will come: the camera is a file that has ended, and its results were released."""
        look = self.workbench.frame if self._session is None and self.workbench.wants_frames else None
        return self._lens.idle(now, look) or (self._lens.film_over and bool(self._pending()))

    def _follow_updates(self) -> bool:
        """Whether to end, so that the next start takes another pack: never while somebody is here or waits."""
        updating = self._updating
        if updating is None:
            return False
        idle = self._session is None and not self._desk.busy and not self.workbench.wants_frames
        fault = self._in_service.fault
        updating.turn(self._clock.monotonic(), idle=idle, in_service=fault is None, policy=self._policies.current)
        message = updating.new_policy() if idle else None
        if message is not None:
            self._take_release_policy(message)
        return idle and updating.wants_restart and fault in (None, "pack")

    def _take_release_policy(self, message: bytes) -> None:
        """The policy of the release in force, unless the carrier has sent a newer one since."""
        try:
            follows = self._policies.follows(message)
        except EvidenceError as exc:
            self._refused("release-policy", exc)
            return
        if follows:
            self._take_policy(message)

    def _take_inbox(self, now: float) -> None:
        """What waits, a few at a time; without a session that needs frames, wait a little for something to come."""
        looks = self._desk.scanning or self.workbench.wants_frames
        busy = looks if self._session is None else self._session.wants_frames
        longest_s = TICK_S if self._session is not None or self._lens.finite else IDLE_FRAME_S
        timeout_s = longest_s if self._lens.finite else min(longest_s, self._lens.until_idle_s(now))
        try:
            self._take(self._inbox.get_nowait() if busy or timeout_s <= 0 else self._inbox.get(timeout=timeout_s))
            for _ in range(_ITEMS_EACH_TURN - 1):
                self._take(self._inbox.get_nowait())
        except queue.Empty:
            return

    def _take(self, item: Item) -> None:
        match item:
            case Inbound(Down.CHALLENGE, payload):
                self._take_challenge(payload)
            case Inbound(Down.POLICY, payload):
                self._take_policy(payload)
            case Inbound(Down.COMMAND, payload):
                self._take_trust(payload)
            case Inbound(topic, _):
                self._log.warning("message-ignored", topic=topic)
            case ConsentPressed(given, language):
                self._visit = replace(self._visit, language=language)
                self._react(machine.Consent(given))
            case CancelPressed():
                self._react(machine.Cancel())
            case CannotPressed():
                self._react(machine.CannotDo())
            case MoreTimePressed():
                self._react(machine.MoreTime())
            case HelpPressed(by_clerk):
                self._react(machine.CallStaff(by_clerk))
            case StaffPressed(vouches, number):
                self._visit = replace(self._visit, clerk=claims.clerk_pseudonym(self._settings.site, number))
                self._react(machine.StaffAnswer(vouches))
            case OrderPressed(order):
                if self._session is None and self._in_service.fault is None:
                    self._desk.begin(order)
            case ScanPressed(on):
                self._take_scan(on)
            case LinkState():
                self._take_link(item)
            case Nudge():
                self._in_service.show()

    def _react(self, event: machine.Event) -> None:
        if self._session is not None:
            self._session.react(event)
            self._finish_if_over()

    def _take_link(self, state: LinkState) -> None:
        if state is not self._link:
            self._link = state
            self.display.change(link=state)
            self._desk.link(state)
            self._tell_status()

    def _take_scan(self, on: bool) -> None:
        if not on:
            self._desk.dismiss()
            self.preview.clear()
        elif self._session is None and self._in_service.fault is None:
            self._desk.scan()

    def _take_challenge(self, payload: bytes) -> None:
        try:
            self._desk.challenge(payload, in_session=self._session.challenge.nonce if self._session else None)
        except EvidenceError as exc:
            self._refused("challenge", exc)

    def _take_policy(self, payload: bytes) -> None:
        """For the next session, see policies.py."""
        if self._journal is None:
            return
        try:
            if not self._policies.take(payload, self._journal):
                return
        except (EvidenceError, PackError) as exc:
            self._refused("policy", exc)
            return
        except JournalError as exc:
            self._out_of_service("journal", exc)
            return
        policy = self._policies.current
        self._log.info("policy-in-force", id=policy.id, version=policy.version)
        self._desk.allow(policy.offline_tickets)
        self._tell_status()
        if self._in_service.fault == "pack":
            self._in_service.begin_again()

    def _take_trust(self, payload: bytes) -> None:
        """The carrier changes its keys, see edge/evidence/trust.py."""
        try:
            record = self._identity.carrier_keys.accept(payload)
        except (EvidenceError, StorageError) as exc:
            self._refused("key-set", exc)
            return
        self._log.info("key-set-in-force", version=record.version, keys=len(record.keys))
        self._tell_status()

    def _refused(self, what: str, exc: VouchError) -> None:
        self._refused_messages += 1
        self._log.warning(f"{what}-refused", why=exc.message)

    def _begin_if_waiting(self, now: float) -> None:
        """Steps 2 and 3 of a session; the last outcome stays on the page for a while, unless somebody waits."""
        if self._outcome_until_s is not None and (now >= self._outcome_until_s or self._desk.somebody_waits):
            self._outcome_until_s = None
            self._show(Screen(Phase.IDLE))
        taken = self.workbench.held or self.workbench.occupied
        if self._journal is None or self._in_service.fault is not None or taken:
            return
        ordered = self._desk.next()
        if ordered is None:
            return
        challenge = ordered.challenge
        try:
            messages.check_live(challenge, self._clock)
            self._journal.probe_writable()
            threshold = self._policies.threshold
            self._journal.spend_nonce(challenge.nonce, challenge.session_id)
        except JournalError as exc:
            self._out_of_service("journal", exc)
            return
        except EvidenceError as exc:
            self._refused("challenge", exc)
            return
        policy = self._policies.current
        if challenge.policy is not None and challenge.policy.version > policy.version:
            self._log.warning("policy-older-than-expected", ours=policy.version, theirs=challenge.policy.version)
        if challenge.self_test:
            self._visit = replace(self._visit, ordered=None, clerk=None)
            self._store(NOTHING, challenge, policy)
            self._log.info("self-test-answered")
            self._link_server.wake()
            return
        self.workbench.session_begins()
        self._log.info("session-begins", policy_version=policy.version, fresh=challenge.fresh)
        self._visit = Visit(Language(self._settings.kiosk.language), ordered)
        self._desk.stop_scan()
        self._desk.show_tickets()
        self.display.change(order=ordered.order)
        self._session = Session(self._tools, challenge, policy, threshold)
        self._tell_status()

    def _finish_if_over(self) -> None:
        """Steps 5 and 6: claims, signature, journal; then the page. What cannot be stored is never shown as done."""
        session = self._session
        if session is None or session.result is None:
            return
        counter = self._store(session.result, session.challenge, session.policy)
        outcome = session.result.outcome if counter is not None else Outcome.ERROR
        report = session.report(counter)
        if self._updating is not None:
            self._updating.session_over(good=outcome in _THROUGH)
        self._session = None
        session.wipe()
        self.preview.clear()
        self._source.set_exposure(1.0)
        self._show(Screen(Phase.DONE, outcome=outcome))
        self._outcome_until_s = self._clock.monotonic() + OUTCOME_SHOWN_S
        self._tell_status()
        self._link_server.wake()
        if report is not None:
            self._log.info(
                "session-ends", stored=counter is not None, frames=report.frames, decision_ms=report.decision_ms
            )
            if self._on_report is not None:
                self._on_report(report)

    def _store(self, result: SessionResult, challenge: Challenge, policy: Policy) -> int | None:
        """The result's counter in the journal; None where it could not be signed or stored."""
        if self._recorder.boot is None:
            return None
        try:
            stored = self._recorder.store(result, challenge, policy, self._visit)
        except JournalError as exc:
            self._out_of_service("journal", exc)
            return None
        except (SignerError, EvidenceError) as exc:
            self._out_of_service("signer", exc)
            return None
        if not challenge.self_test:
            self._show_finished(stored.reference, result.outcome)
        return stored.counter

    def _show_finished(self, reference: str, outcome: Outcome) -> None:
        """The reference for the person, and a line in the clerk's list."""
        told, order = for_the_person(outcome), self._visit.ordered.order if self._visit.ordered else ""
        finished = self.display.read()[1].finished
        if told is not None:
            finished = (Finished(reference, told, order), *finished)[:_FINISHED_SHOWN]
        self.display.change(reference=reference, finished=finished)

    def _abandon(self) -> None:
        """The process ends with a session open: it is an error, signed and stored like any other result."""
        session = self._session
        if session is None:
            return
        session.interrupt()
        self._finish_if_over()

    def _open_records(self, journal: Journal) -> None:
        """Count this start, and take the newest policy into force again: its signature is checked anew."""
        try:
            self._recorder.count_start(journal)
            self._policies.recall(journal)
        except JournalError as exc:
            self._out_of_service("journal", exc)
        except EvidenceError as exc:
            self._refused("stored-policy", exc)

    def _out_of_service(self, fault: str, exc: VouchError) -> None:
        self._in_service.end(fault, exc)
        self._desk.clear()

    def _tell_status(self) -> None:
        """The carrier hears of it in this turn."""
        self._next_status_s = 0.0

    def _keep_up(self, now: float) -> None:
        """Status messages, and whether a fault has gone."""
        service, journal = self._in_service, self._journal
        if service.fault == "journal" and journal is not None and service.probe_is_due(now):
            try:
                journal.probe_writable()
                self._recorder.count_start(journal)
            except JournalError as exc:
                self._log.debug("still-out-of-service", why=exc.message)
            else:
                service.begin_again()
        self._desk.tick(now)
        if now >= self._next_status_s:
            self._next_status_s = now + STATUS_EACH_S
            self._link_server.send_status(self._status(now))

    def _check_pack(self) -> None:
        """A pack without a threshold for the policy in force cannot serve: one on trial is given up, else we say so."""
        try:
            self._policies.threshold  # noqa: B018 - whether there is one
        except PackError as exc:
            if self._updating is None or not self._updating.give_up(exc.message):
                self._out_of_service("pack", exc)

    def _status(self, now: float) -> bytes:
        fault = self.display.read()[1].fault
        return status_message(
            state="out-of-service" if fault else "session" if self._session else "ready",
            fault=fault,
            pack=self._pack,
            policy=self._policies.current,
            pending=self._pending(),
            boot=self._recorder.boot.count if self._recorder.boot else None,
            uptime_s=now,
            clock_synchronised=self._clock.is_synchronised(),
            link=self._link,
            refused_messages=self._refused_messages,
            camera_age_s=self._lens.age_s(now),
            board=self._health(),
            tickets=self.display.read()[1].tickets,
            updates=self._updating.status(self._clock.utc()) if self._updating is not None else None,
            trust=self._identity.carrier_keys.version,
            provisioned=self._standing.provisioned,
        )

    def _pending(self) -> int | None:
        try:
            return self._journal.pending_count() if self._journal is not None else None
        except JournalError:
            return None

    def _ask_carrier(self, request: bytes) -> None:
        self._link_server.send_request(request)

    def _page(self, limit: int, after: int) -> Sequence[Row]:
        return self._journal.pending(limit, after=after) if self._journal is not None else []

    def _put(self, item: Item) -> None:
        try:
            self._inbox.put_nowait(item)
        except queue.Full:
            self._log.warning("inbox-full", kind=type(item).__name__)

    def _show(self, screen: Screen) -> None:
        fields: dict[str, object] = {"screen": screen}
        if screen.phase is not Phase.DONE:
            fields["reference"] = None
        self.display.change(**fields)
        if self._on_screen is not None:
            self._on_screen(screen)

    def _show_card(self, view: CardView | None) -> None:
        self.display.change(card=view)

    def _show_frame(self, image: Image, mirrored: bool) -> None:
        self.preview.offer(image, mirrored=mirrored)
