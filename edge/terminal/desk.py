"""The clerk's side of the counter: how an order number becomes a challenge. No session, no page, no pixels here.

A challenge comes in one of three ways:

1. The carrier sends it unasked, because the order was entered in the point of sale.
2. The clerk names an order here while the link is up: a signed request goes up, and its challenge comes down.
3. The link is down: the oldest living ticket is taken, a challenge that was fetched ahead. It serves once, and the
   result binds the order to it (claims.order_commitment).
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from edge.clock import Clock
from edge.errors import EvidenceError, JournalError, SignerError
from edge.evidence import claims, messages, requests
from edge.evidence.claims import Fresh
from edge.evidence.journal import Journal, Ticket
from edge.evidence.messages import Challenge
from edge.evidence.requests import Request, RequestKind
from edge.evidence.signer import Signer
from edge.ipc import LinkState
from edge.log import Log
from edge.terminal.display import DeskState, Display

ORDER_WAIT_S = 12.0  # the carrier signs in milliseconds; the rest is a slow mobile network
SCAN_S = 45.0
TOLD_S = 60.0
_WAITING_LIMIT = 4
_TICKETS_EACH_S = 600.0  # between two requests for tickets that nobody answers
_COUNT_EACH_S = 3600.0  # a restart forgets at most so much of a ticket's age


@dataclass(frozen=True, slots=True)
class Ordered:
    """A living challenge, and the order that it stands for (the carrier's words, or the clerk's with a ticket)."""

    challenge: Challenge
    order: str

    @property
    def commitment(self) -> bytes | None:
        """What binds a ticket to this order in the claims; a challenge that names its order needs none."""
        if self.challenge.fresh is not Fresh.TICKET:
            return None
        return claims.order_commitment(self.challenge.nonce, self.order)


@dataclass(frozen=True, slots=True)
class Party:
    """Who asks, and whose answers count."""

    terminal_id: bytes  # 16
    signer: Signer
    carrier_keys: Mapping[bytes, EllipticCurvePublicKey]


class OrderDesk:
    """Called by the session's thread alone. `send` hands a signed request to the link and never blocks."""

    def __init__(
        self, party: Party, *, journal: Journal | None, clock: Clock, display: Display, send: Callable[[bytes], None]
    ) -> None:
        self._party = party
        self._journal = journal
        self._clock = clock
        self._display = display
        self._send = send
        self._log = Log("terminal.desk")
        self._waiting: deque[Ordered] = deque()
        self._asked: tuple[str, float] | None = None  # order and until when its answer is awaited
        self._scan_until_s: float | None = None
        self._told_until_s: float | None = None
        self._link = LinkState.DOWN
        self._allowed = 0
        self._ask_tickets_at_s = 0.0
        self._counted_at_s = clock.monotonic()

    @property
    def somebody_waits(self) -> bool:
        return bool(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether the clerk is about to begin an order."""
        return self.somebody_waits or self._asked is not None or self.scanning

    @property
    def scanning(self) -> bool:
        """Whether the camera should look for an order's QR code."""
        return self._scan_until_s is not None

    def next(self) -> Ordered | None:
        """The order to begin now. Whether it still lives is checked when its nonce is spent."""
        return self._waiting.popleft() if self._waiting else None

    def clear(self) -> None:
        """Out of service: nobody is served from an old queue when the fault has gone."""
        self._waiting.clear()
        self._asked = None
        self.stop_scan()
        self._say(DeskState.READY)

    def challenge(self, payload: bytes, *, in_session: bytes | None) -> None:
        """A message from the carrier: a ticket is kept, anything else waits for its session. EvidenceError if wrong."""
        challenge = messages.parse_challenge(payload, self._party.carrier_keys, self._party.terminal_id, self._clock)
        if challenge.fresh is Fresh.TICKET:
            self._keep(challenge, payload)
            return
        known = {waiting.challenge.nonce for waiting in self._waiting} | {in_session}
        if challenge.nonce in known:
            self._log.debug("challenge-again")
        elif len(self._waiting) >= _WAITING_LIMIT:
            self._log.warning("challenge-refused", why="too many wait")
        else:
            self._waiting.append(Ordered(challenge, challenge.order))
            self._asked = None
            self.stop_scan()
            self._say(DeskState.READY)

    def begin(self, order: str) -> None:
        """The clerk names an order. What happens next is on the display, also where nothing can happen.

        A second press changes nothing: one that waits or is asked for is not begun again. Another order is.
        """
        self.stop_scan()
        if not requests.is_order_number(order):
            self._say(DeskState.WRONG_CODE)
        elif any(waiting.order == order for waiting in self._waiting):
            self._say(DeskState.READY)
        elif self._link is LinkState.UP:
            asked_already = self._asked is not None and self._asked[0] == order
            self._say(DeskState.ASKING, order)
            if not asked_already:
                self._asked = (order, self._clock.monotonic() + ORDER_WAIT_S)
                self._request(RequestKind.ORDER, order=order)
        else:
            self._begin_with_ticket(order)

    def scan(self) -> None:
        """Look for a QR code, for a while."""
        self._scan_until_s = self._clock.monotonic() + SCAN_S
        self._display.change(desk=DeskState.READY, order=None, scanning=True)

    def dismiss(self) -> None:
        """The clerk has read what could not begin, or wants no scan any more."""
        self.stop_scan()
        if self._asked is None:
            self._say(DeskState.READY)

    def stop_scan(self) -> None:
        self._scan_until_s = None
        self._display.change(scanning=False)

    def scanned(self, code: str) -> None:
        """What a QR code says. Only an order number is taken; anything else is told, and the camera looks on."""
        code = code.strip()
        if requests.is_order_number(code):
            self.begin(code)
        else:
            self._say(DeskState.WRONG_CODE)

    def link(self, state: LinkState) -> None:
        """The link's state changed. An order that was asked for over a link that went takes a ticket."""
        came = state is LinkState.UP and self._link is not LinkState.UP
        self._link = state
        if came:
            self._ask_tickets_at_s = self._clock.monotonic()
        if state is not LinkState.UP and self._asked is not None:
            order, _ = self._asked
            self._asked = None
            self._begin_with_ticket(order)

    def allow(self, tickets: int) -> None:
        """The policy in force allows so many tickets; more than that are dropped."""
        if tickets != self._allowed:
            self._allowed = tickets
            self._ask_tickets_at_s = self._clock.monotonic()
        for ticket in self._held()[tickets:]:
            self._drop(ticket)
        self.show_tickets()

    def tick(self, now: float) -> None:
        """Time passes: waits end, tickets age, new ones are asked for."""
        if self._asked is not None and now >= self._asked[1]:
            self._say(DeskState.NO_ANSWER, self._asked[0])
            self._asked = None
        if self._scan_until_s is not None and now >= self._scan_until_s:
            self.dismiss()
        if self._told_until_s is not None and now >= self._told_until_s:
            self._say(DeskState.READY)
        if now - self._counted_at_s >= _COUNT_EACH_S:
            self._count(now)
        if self._link is LinkState.UP and self._allowed and now >= self._ask_tickets_at_s:
            self._ask_tickets_at_s = now + _TICKETS_EACH_S
            young = sum(1 for _, challenge, left_s in self._living(self._held()) if left_s > challenge.ttl_s / 2)
            if young < self._allowed:
                self._request(RequestKind.TICKETS, tickets=self._allowed - young)

    def _begin_with_ticket(self, order: str) -> None:
        taken = {waiting.challenge.nonce for waiting in self._waiting}
        free = [ticket for ticket in self._held() if ticket.nonce not in taken]
        for _, challenge, left_s in self._living(free):
            living = replace(challenge, deadline_s=self._clock.monotonic() + left_s)
            self._waiting.append(Ordered(living, order))
            self._log.info("ticket-taken")
            self._say(DeskState.READY)
            return
        self._say(DeskState.NO_TICKET, order)

    def _keep(self, challenge: Challenge, payload: bytes) -> None:
        """A ticket came. Where all places are taken it replaces the oldest past half of its life, else it is let go."""
        if self._journal is None or not self._allowed:
            return
        held = self._held()
        if len(held) >= self._allowed:
            # The oldest alone is verified: hundreds may come in a row, and the camera waits for them.
            for ticket, oldest, left_s in self._living(held[:1]):
                if left_s <= oldest.ttl_s / 2:
                    self._drop(ticket)
        try:
            kept = self._journal.store_ticket(challenge.nonce, payload, limit=self._allowed)
        except JournalError as exc:
            self._log.warning("ticket-not-kept", why=exc.message)
            return
        self._log.debug("ticket-came", kept=kept)
        self.show_tickets()

    def _living(self, held: list[Ticket]) -> Iterator[tuple[Ticket, Challenge, float]]:
        """(ticket, its challenge, seconds left) in the order given; what is over is dropped on the way."""
        since_s = self._clock.monotonic() - self._counted_at_s
        for ticket in held:
            challenge = self._opened(ticket)
            left_s = 0.0 if challenge is None else challenge.ttl_s - ticket.age_s - since_s
            if challenge is None or left_s <= 0:
                self._drop(ticket)
            else:
                yield ticket, challenge, left_s

    def _opened(self, ticket: Ticket) -> Challenge | None:
        """Signature and form are checked each time: what lay on a disk is no more trusted than what came by wire."""
        try:
            return messages.parse_challenge(
                ticket.message, self._party.carrier_keys, self._party.terminal_id, self._clock
            )
        except EvidenceError as exc:
            self._log.info("ticket-over", why=exc.message)
            return None

    def _count(self, now: float) -> None:
        passed_s, self._counted_at_s = int(now - self._counted_at_s), now
        if self._journal is not None and self._held():
            try:
                self._journal.age_tickets(passed_s)
            except JournalError as exc:
                self._log.warning("tickets-not-counted", why=exc.message)
        self.show_tickets()

    def _held(self) -> list[Ticket]:
        try:
            return self._journal.tickets() if self._journal is not None else []
        except JournalError:
            return []

    def _drop(self, ticket: Ticket) -> None:
        if self._journal is None:
            return
        try:
            self._journal.drop_ticket(ticket.nonce)
        except JournalError as exc:
            self._log.warning("ticket-not-dropped", why=exc.message)

    def show_tickets(self) -> None:
        """How many sessions could begin without a link."""
        self._display.change(tickets=len(self._held()))

    def _request(self, kind: RequestKind, *, order: str | None = None, tickets: int | None = None) -> None:
        request = Request(
            terminal_id=self._party.terminal_id, id=secrets.token_bytes(16), kind=kind, order=order, tickets=tickets
        )
        try:
            self._send(requests.build_request(request, self._party.signer))
        except (SignerError, EvidenceError) as exc:
            self._log.error("request-not-signed", exc=exc)  # an order then runs out of its time, and the clerk is told

    def _say(self, state: DeskState, order: str | None = None) -> None:
        """What could not begin is told for a while; then the page is the next customer's."""
        lasting = state in (DeskState.READY, DeskState.ASKING)
        self._told_until_s = None if lasting else self._clock.monotonic() + TOLD_S
        self._display.change(desk=state, order=order)
