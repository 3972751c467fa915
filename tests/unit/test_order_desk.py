"""The order desk alone: what a hurried clerk presses twice, and tickets that come by the hundred."""

import secrets

import pytest

from edge.evidence.claims import Fresh
from edge.evidence.journal import Journal
from edge.evidence.messages import build_challenge
from edge.evidence.requests import open_request
from edge.ipc import LinkState
from edge.terminal.desk import ORDER_WAIT_S, OrderDesk, Party
from edge.terminal.display import DeskState, Display
from tests.evidence_samples import NOW, TERMINAL, SetClock, challenge, key_file

WEEK_S = 7 * 86_400


class CountedKeys(dict):
    """The carrier's keys, and how often one was asked for: once for each signature that is verified."""

    asked = 0

    def get(self, kid, default=None):
        self.asked += 1
        return super().get(kid, default)


class Counter:
    """A desk with its journal and display; requests are kept, the clock stands still."""

    def __init__(self, folder):
        self.carrier, self.own = key_file(folder, "carrier.key"), key_file(folder)
        self.keys = CountedKeys({self.carrier.key_id: self.carrier.public_key})
        self.journal = Journal.open(folder / "journal.sqlite", max_rows=1000)
        self.clock, self.display, self.sent = SetClock(), Display(), []
        self.desk = OrderDesk(
            Party(TERMINAL, self.own, self.keys),
            journal=self.journal,
            clock=self.clock,
            display=self.display,
            send=self.sent.append,
        )

    def tickets(self, *nonces):
        for nonce in nonces:
            ticket = challenge(nonce=nonce, fresh=Fresh.TICKET, order="ticket", exp=NOW + WEEK_S, ttl_s=WEEK_S)
            self.desk.challenge(build_challenge(ticket, self.carrier), in_session=None)

    def shown(self):
        view = self.display.read()[1]
        return view.desk, view.order

    def waiting(self):
        """(order, nonce) of everything that waits, in its turn."""
        return [(ordered.order, ordered.challenge.nonce) for ordered in iter(self.desk.next, None)]

    def held(self):
        return [ticket.nonce for ticket in self.journal.tickets()]


@pytest.fixture
def counter(tmp_path):
    made = Counter(tmp_path)
    yield made
    made.journal.close()


ONE, TWO, THREE, FOUR = (bytes([number]) * 32 for number in (1, 2, 3, 4))


def test_an_order_that_is_pressed_twice_without_a_link_takes_one_ticket(counter):
    counter.desk.allow(3)
    counter.tickets(ONE, TWO)
    counter.desk.begin("A-1")
    counter.desk.begin("A-1")
    assert counter.shown() == (DeskState.READY, None)
    assert counter.waiting() == [("A-1", ONE)]


def test_another_order_that_is_begun_while_one_waits_takes_a_ticket_of_its_own(counter):
    counter.desk.allow(3)
    counter.tickets(ONE, TWO)
    for order in ("A-1", "A-2", "A-3"):
        counter.desk.begin(order)
    assert counter.shown() == (DeskState.NO_TICKET, "A-3")
    assert counter.waiting() == [("A-1", ONE), ("A-2", TWO)]


def test_an_order_that_is_pressed_twice_is_asked_for_once_until_its_time_is_over(counter):
    counter.desk.link(LinkState.UP)
    counter.desk.begin("A-1")
    counter.desk.scan()
    counter.desk.scanned("A-1")
    assert counter.shown() == (DeskState.ASKING, "A-1")
    assert not counter.desk.scanning
    counter.desk.begin("A-2")
    counter.clock.monotonic_s += ORDER_WAIT_S
    counter.desk.tick(counter.clock.monotonic())
    assert counter.shown() == (DeskState.NO_ANSWER, "A-2")
    counter.desk.begin("A-2")
    assert [open_request(sent, counter.own.public_key).order for sent in counter.sent] == ["A-1", "A-2", "A-2"]


def test_an_order_whose_challenge_has_come_is_not_asked_for_again(counter):
    counter.desk.link(LinkState.UP)
    counter.desk.challenge(build_challenge(challenge(order="A-1"), counter.carrier), in_session=None)
    counter.desk.begin("A-1")
    assert counter.sent == []
    assert [order for order, _ in counter.waiting()] == ["A-1"]


def test_each_ticket_that_comes_costs_a_few_signatures_however_many_are_held(counter):
    counter.desk.allow(30)
    counter.tickets(*(secrets.token_bytes(32) for _ in range(30)))
    assert counter.keys.asked == 30, "its own alone"
    counter.keys.asked = 0
    counter.tickets(*(secrets.token_bytes(32) for _ in range(10)))
    assert counter.keys.asked <= 20, "its own and the oldest"
    assert len(counter.held()) == 30


def test_where_all_places_are_taken_the_oldest_ticket_makes_room_from_half_of_its_life_on(counter):
    counter.desk.allow(2)
    counter.tickets(ONE, TWO, THREE)
    assert counter.held() == [ONE, TWO]
    counter.clock.monotonic_s += WEEK_S / 2
    counter.desk.tick(counter.clock.monotonic())
    counter.tickets(THREE)
    assert counter.held() == [TWO, THREE]
    counter.tickets(FOUR)
    assert counter.held() == [THREE, FOUR]


def test_a_ticket_under_a_key_that_has_gone_makes_room(counter, tmp_path):
    counter.desk.allow(2)
    counter.tickets(ONE, TWO)
    counter.carrier = key_file(tmp_path, "later.key")
    counter.keys.clear()
    counter.keys[counter.carrier.key_id] = counter.carrier.public_key
    counter.tickets(THREE)
    assert counter.held() == [TWO, THREE]
    counter.desk.begin("A-1")
    assert counter.waiting() == [("A-1", THREE)]
