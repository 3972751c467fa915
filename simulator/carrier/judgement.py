"""What the carrier concludes from a result whose signature and schema hold: pure rules, no database, no network.

Every finding is an alarm for a person to look at. A finding never makes a result vanish: it is stored, receipted and
marked, because what is proven to come from a terminal is evidence, also of trouble.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from edge.evidence.claims import Fresh
from edge.session.decision import Outcome

GENESIS = bytes(32)  # `prev` of a terminal's first result


class Alarm(Enum):
    """Why somebody should look."""

    UNKNOWN_TERMINAL = "unknown-terminal"  # never enrolled here
    UNREADABLE = "unreadable"  # form, key, signature or schema: nothing proven, so no receipt
    WRONG_NAME = "wrong-name"  # the claims name another terminal than the topic
    UNKNOWN_NONCE = "unknown-nonce"  # we never issued that challenge
    WRONG_TERMINAL = "wrong-terminal"  # we issued it to another terminal
    REPLAY = "replay"  # the challenge was answered before, by another result
    LATE = "late"  # the answer came after the challenge's time
    UNKNOWN_POLICY = "unknown-policy"  # decided under a policy that we never signed
    UNKNOWN_PACK = "unknown-pack"  # measured with models that we do not know
    GAP = "gap"  # counters are missing; closes when they arrive
    FALSE_SELF_TEST = "false-self-test"  # says that it is one, but answers a person's order
    WRONG_FRESH = "wrong-fresh"  # a ticket's result that says it was online, or the reverse
    NO_ORDER = "no-order"  # a ticket's result that is bound to no order
    NO_CLERK = "no-clerk"  # staff-assisted, and nobody named
    FORK = "fork"  # two histories: one counter twice, or a previous hash that does not fit


class Registration(Enum):
    """What a result means for the number that waits for it."""

    ALLOWED = "allowed"  # a match that nothing speaks against
    REVIEW = "review"  # staff-assisted: by this carrier's rule, a second person looks at a copy of the document
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Finding:
    alarm: Alarm
    detail: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What a verified result says of itself, as far as the rules care."""

    terminal: str  # 32 hexadecimal digits, from the claims
    ctr: int
    digest: bytes  # SHA-256 of the envelope
    previous: bytes  # `prev` claim
    nonce: bytes
    policy_digest: bytes
    pack_digest: bytes
    self_test: bool = False  # a technician's trial of the road: no person, no order
    outcome: Outcome = Outcome.MATCH
    fresh: Fresh = Fresh.ONLINE
    order_bound: bool = True  # the claims commit to an order number
    clerk_named: bool = True


@dataclass(frozen=True, slots=True)
class IssuedOrder:
    terminal: str
    expires_at: int  # seconds, the carrier's clock
    answered: bool
    self_test: bool = False  # we asked for one ourselves
    ticket: bool = False  # issued ahead, for any one order


@dataclass(frozen=True, slots=True)
class Known:
    """What the carrier's records say at the moment of judgement."""

    now: int
    order: IssuedOrder | None  # by the statement's nonce
    policy: bool
    pack: bool
    highest_ctr: int  # 0: no result yet
    same_ctr: bool  # another result with this counter exists
    before: bytes | None  # digest of the result one counter below, where we have it
    after: bytes | None  # `prev` claim of the result one counter above, where we have it


def judge(statement: Statement, known: Known) -> tuple[Finding, ...]:
    """All findings, none where everything fits.

    1. The challenge is ours, for this terminal, unanswered, in time, and answered as what it was issued; a technician's
       self-test has none.
    2. A staff-assisted result names its clerk.
    3. Policy and model pack are known.
    4. Counter and previous hash continue the one history that this terminal has told so far.
    """
    return (
        *_freshness(statement, known),
        *_staff(statement),
        *_versions(statement, known),
        *_history(statement, known),
    )


def registration(outcome: Outcome, *, trusted: bool) -> Registration:
    """Only a match registers a number by itself; what a member of staff vouched for is never taken for one."""
    if not trusted:
        return Registration.REFUSED
    return {Outcome.MATCH: Registration.ALLOWED, Outcome.STAFF_ASSISTED: Registration.REVIEW}.get(
        outcome, Registration.REFUSED
    )


def is_trusted(findings: Iterable[Finding]) -> bool:
    """Whether the result is as it should be. A gap alone says nothing against the result at hand.

    Whether a number may be registered is more than this: a self-test is in order, and registers nothing.
    """
    return all(finding.alarm is Alarm.GAP for finding in findings)


def _freshness(statement: Statement, known: Known) -> Iterable[Finding]:
    order = known.order
    if statement.self_test and order is None:
        return  # a technician's: nobody asked for it
    if order is not None and statement.self_test and not order.self_test:
        yield Finding(Alarm.FALSE_SELF_TEST, f"nonce {statement.nonce.hex()} is of a person's order")
    if order is None:
        yield Finding(Alarm.UNKNOWN_NONCE, f"nonce {statement.nonce.hex()} was never issued")
        return
    if order.terminal != statement.terminal:
        yield Finding(Alarm.WRONG_TERMINAL, f"nonce {statement.nonce.hex()} was issued to {order.terminal}")
    if order.answered:
        yield Finding(Alarm.REPLAY, f"nonce {statement.nonce.hex()} was answered before")
    if known.now > order.expires_at:
        yield Finding(Alarm.LATE, f"{known.now - order.expires_at} s after the challenge's end")
    if order.ticket != (statement.fresh is Fresh.TICKET):
        yield Finding(Alarm.WRONG_FRESH, f"issued as {'a ticket' if order.ticket else 'an order'}")
    elif order.ticket and not statement.order_bound:
        yield Finding(Alarm.NO_ORDER, "a ticket's result that names no order")


def _staff(statement: Statement) -> Iterable[Finding]:
    if statement.outcome is Outcome.STAFF_ASSISTED and not statement.clerk_named:
        yield Finding(Alarm.NO_CLERK, "staff-assisted, and nobody named")


def _versions(statement: Statement, known: Known) -> Iterable[Finding]:
    if not known.policy and not statement.self_test:  # it decided nothing, perhaps before our first policy came
        yield Finding(Alarm.UNKNOWN_POLICY, f"policy {statement.policy_digest.hex()}")
    if not known.pack:
        yield Finding(Alarm.UNKNOWN_PACK, f"pack {statement.pack_digest.hex()}")


def _history(statement: Statement, known: Known) -> Iterable[Finding]:
    expected = known.highest_ctr + 1
    if known.same_ctr:
        yield Finding(Alarm.FORK, f"counter {statement.ctr} came before with other bytes")
    elif statement.ctr > expected:
        missing = f"{expected}" if statement.ctr == expected + 1 else f"{expected} to {statement.ctr - 1}"
        yield Finding(Alarm.GAP, f"counter {statement.ctr} came, {missing} is missing")
    genesis = statement.ctr == 1
    if genesis != (statement.previous == GENESIS):
        yield Finding(Alarm.FORK, f"counter {statement.ctr}: a first result has a previous hash of zeros, no other has")
    elif known.before is not None and statement.previous != known.before:
        yield Finding(Alarm.FORK, f"counter {statement.ctr} does not follow our counter {statement.ctr - 1}")
    if known.after is not None and known.after != statement.digest:
        yield Finding(Alarm.FORK, f"our counter {statement.ctr + 1} does not follow this counter {statement.ctr}")
