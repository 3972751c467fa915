"""A self-test's result: signed, stored and sent like any other, released by the carrier's signed receipt alone.

It says that it is one (claim mode, self-test) and answers no challenge: its nonce is our own (claim fresh, none). So
the whole road is tried - key, journal, uplink, broker, carrier and back - and no number can be registered on it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from edge.clock import Clock
from edge.config import Settings
from edge.errors import EvidenceError, JournalError, SignerError
from edge.evidence import claims, messages
from edge.evidence.claims import Fresh, Mode
from edge.evidence.journal import Envelope, Journal
from edge.evidence.messages import Challenge, Receipt, ReceiptStatus
from edge.evidence.signer import Signer
from edge.ipc import LinkState
from edge.provisioning.doctor import RoundTrip, Trip
from edge.session.decision import Outcome, Policy, SessionResult
from edge.terminal.context import terminal_context
from edge.terminal.link_server import LinkServer
from edge.vision.pack import Pack

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Author:
    """Who signs self-tests, and under which policy and pack."""

    settings: Settings
    clock: Clock
    signer: Signer
    pack: Pack
    policy: Callable[[], Policy]


class SelfTest:
    """One at a time. `received` hears of receipts from the link's thread; `make` waits in the caller's own."""

    def __init__(self, author: Author, journal: Journal, link: LinkServer) -> None:
        self._author = author
        self._journal = journal
        self._link = link
        self._making = threading.Lock()
        self._changed = threading.Condition()
        self._awaited: bytes | None = None  # cti
        self._receipt: Receipt | None = None

    def received(self, receipt: Receipt) -> None:
        with self._changed:
            if receipt.cti == self._awaited:
                self._receipt = receipt
                self._changed.notify_all()

    def make(self, limit_s: float) -> RoundTrip:
        """1. There is a link, or nothing is made. 2. Sign and store. 3. Send. 4. Wait for the receipt, `limit_s`."""
        with self._making:
            clock = self._author.clock
            deadline_s = clock.monotonic() + limit_s
            down = self._wait_for_link(min(deadline_s, clock.monotonic() + limit_s / 2))  # 1
            if down is not None:
                return down
            try:
                waiting = self._journal.pending_count()
                cti = secrets.token_bytes(16)
                with self._changed:
                    self._awaited, self._receipt = cti, None
                counter = self._append(cti)  # 2
            except (JournalError, SignerError, EvidenceError) as exc:
                return RoundTrip(Trip.NOT_STORED, detail=exc.message)
            started_s = clock.monotonic()
            self._link.wake()  # 3
            receipt = self._wait_for_receipt(deadline_s - clock.monotonic())  # 4
            took_s = clock.monotonic() - started_s
            if receipt is None:
                return self._unanswered(counter, waiting)
            trip = Trip.REFUSED_BY_CARRIER if receipt.status is ReceiptStatus.REFUSED else Trip.RECEIVED
            return RoundTrip(trip, took_s, counter, clock.utc() - receipt.iat, waiting)

    def _wait_for_link(self, until_s: float) -> RoundTrip | None:
        """A link that comes within the time is one: uplink and broker may have been started a moment ago."""
        while (state := self._link.state) is not LinkState.UP:
            if self._author.clock.monotonic() >= until_s or state is LinkState.TAKEN_OVER:
                trip = {
                    None: Trip.NO_UPLINK,
                    LinkState.REFUSED: Trip.LINK_REFUSED,
                    LinkState.TAKEN_OVER: Trip.TAKEN_OVER,
                }.get(state, Trip.LINK_DOWN)
                return RoundTrip(trip, detail=self._link.detail if state is not None else "")
            with self._changed:
                self._changed.wait(_POLL_S)
        return None

    def _wait_for_receipt(self, limit_s: float) -> Receipt | None:
        with self._changed:
            self._changed.wait_for(lambda: self._receipt is not None, max(0.0, limit_s))
            self._awaited = None
            return self._receipt

    def _unanswered(self, counter: int, waiting_before: int) -> RoundTrip:
        try:
            before = sum(row.counter < counter for row in self._journal.pending(waiting_before + 1))
        except JournalError as exc:
            return RoundTrip(Trip.NOT_STORED, detail=exc.message)
        if 0 < before < waiting_before:
            return RoundTrip(Trip.QUEUED, counter=counter, waiting=before)
        return RoundTrip(Trip.NO_RECEIPT, counter=counter, waiting=before, detail=self._link.detail)

    def _append(self, cti: bytes) -> int:
        author = self._author
        nonce = secrets.token_bytes(32)
        now_s = author.clock.utc()
        own = Challenge(
            terminal_id=bytes.fromhex(author.settings.terminal_id),
            nonce=nonce,
            session_id=secrets.token_bytes(16),
            order="self-test",
            iat=max(0, now_s),
            exp=max(0, now_s) + 1,
            ttl_s=1,
            fresh=Fresh.NONE,
            payload=nonce,
        )
        context = terminal_context(
            author.settings,
            clock=author.clock,
            boot=self._journal.boot(),
            pack=author.pack,
            policy=author.policy(),
            challenge=own,
            challenge_age_s=0.0,
            consent_text_digest=bytes(claims.DIGEST_SIZE),  # nobody was asked, nobody was looked at
            mode=Mode.SELF_TEST,
        )
        transcript = claims.transcript_hash(own.payload, NOTHING.steps)

        def sealed(counter: int, previous: bytes) -> Envelope:
            body = claims.build(NOTHING, context, cti=cti, counter=counter, previous=previous, transcript=transcript)
            return Envelope(cti, messages.build_result(body, author.signer))

        return self._journal.append(sealed).counter


# What a self-test says of a person: there was none.
NOTHING = SessionResult.unjudged(Outcome.INCONCLUSIVE, steps=("self-test",))
