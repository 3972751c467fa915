"""The queue on its way up: in order, few at a time, again when unanswered, and never stuck behind one that is never answered."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.evidence.journal import Row
from edge.ipc import Up
from edge.terminal.publisher import Publisher

WINDOW = 10


class Queue:
    """Unreleased rows by counter, as the journal pages them."""

    def __init__(self, count: int = 0) -> None:
        self.rows: dict[int, Row] = {}
        self.head = 0
        self.largest_page = 0
        for _ in range(count):
            self.append()

    def append(self) -> None:
        self.head += 1
        message = f"result {self.head}".encode()
        self.rows[self.head] = Row(self.head, self.head.to_bytes(16), hashlib.sha256(message).digest(), message)

    def fetch(self, limit: int, after: int) -> list[Row]:
        page = [row for counter, row in sorted(self.rows.items()) if counter > after][:limit]
        self.largest_page = max(self.largest_page, len(page))
        return page


def publisher(queue: Queue, **options) -> Publisher:
    made = Publisher(queue.fetch, window=WINDOW, jitter=lambda: 1.0, **options)
    made.link_up()
    return made


def counters(messages):
    assert all(message.topic is Up.RESULT for message in messages)
    return [int.from_bytes(message.message_id) for message in messages]


def receipt(queue: Queue, made: Publisher, counter: int) -> None:
    queue.rows.pop(counter, None)
    made.released(counter.to_bytes(16))


def test_nothing_is_sent_while_the_link_is_down():
    queue = Queue(3)
    made = Publisher(queue.fetch, window=WINDOW, jitter=lambda: 1.0)
    assert made.due(0.0) == []


def test_ten_are_under_way_and_each_receipt_lets_one_more_go_in_order():
    queue = Queue(30)
    made = publisher(queue)
    assert counters(made.due(0.0)) == list(range(1, 11))
    assert made.due(0.1) == []
    receipt(queue, made, 1)
    receipt(queue, made, 2)
    assert counters(made.due(0.2)) == [11, 12]


def test_an_acknowledgement_of_the_broker_lets_nothing_go():
    queue = Queue(30)
    made = publisher(queue)
    for message in made.due(0.0):
        made.published(message.message_id, 0, 0.1)
    assert made.due(0.2) == []


def test_a_new_result_goes_at_once():
    queue = Queue(0)
    made = publisher(queue)
    assert made.due(0.0) == []
    queue.append()
    assert counters(made.due(5.0)) == [1]


def test_an_unanswered_result_goes_again_with_identical_bytes():
    queue = Queue(1)
    made = publisher(queue, receipt_wait_s=20)
    first = made.due(0.0)
    assert made.due(19.0) == []
    later = [message for t in range(20, 100) for message in made.due(float(t))]
    assert first[0] in later


def test_after_an_outage_the_oldest_go_first_and_at_once():
    queue = Queue(30)
    made = publisher(queue)
    made.due(0.0)
    for counter in (1, 3):
        receipt(queue, made, counter)
    made.link_down()
    assert made.due(1.0) == []
    made.link_up()
    assert counters(made.due(2.0)) == [2, 4, 5, 6, 7, 8, 9, 10, 11, 12]


def test_a_silent_carrier_is_asked_ever_more_seldom():
    queue = Queue(100)
    made = publisher(queue, receipt_wait_s=20)
    bursts = [float(t) for t in range(4000) if made.due(float(t))]
    gaps = [b - a for a, b in itertools.pairwise(bursts)]
    assert len(bursts) < 12
    assert gaps == sorted(gaps)
    assert max(gaps) <= 620


def test_results_that_are_never_answered_do_not_hold_up_the_others():
    """More of them than fit the window, all at the head of the queue."""
    queue = Queue(60)
    made = publisher(queue)
    poisoned = set(range(1, 16))
    for t in range(20_000):
        for counter in counters(made.due(float(t))):
            if counter not in poisoned:
                receipt(queue, made, counter)
    assert set(queue.rows) == poisoned


def test_a_refusal_of_the_broker_is_no_loop():
    queue = Queue(100)
    made = publisher(queue)
    sent = 0
    for t in range(300):
        for message in made.due(float(t)):
            sent += 1
            made.published(message.message_id, 0x87, float(t))
    assert sent <= 60


def test_ten_thousand_results_never_fill_memory():
    queue = Queue(10_000)
    made = publisher(queue)
    order = []
    while queue.rows:
        for counter in counters(made.due(0.0)):
            order.append(counter)
            receipt(queue, made, counter)
    assert order == list(range(1, 10_001))
    assert queue.largest_page <= 50


def test_waiting_ends_when_something_is_due():
    queue = Queue(20)
    made = publisher(queue, receipt_wait_s=20)
    made.due(0.0)
    assert made.wait_s(0.0) == pytest.approx(20)
    assert made.wait_s(25.0) == 0


def test_nobody_spins_while_the_link_is_down_or_the_carrier_is_given_a_pause():
    queue = Queue(3)
    made = publisher(queue, receipt_wait_s=20)
    made.due(0.0)
    made.link_down()
    assert made.due(1000.0) == []
    assert made.wait_s(1000.0) > 1
    queue = Queue(WINDOW)
    made = publisher(queue, receipt_wait_s=20)
    for message in made.due(0.0):
        made.published(message.message_id, 0x87, 0.0)
    for tenth in range(3000):
        now = tenth / 10
        for message in made.due(now):
            made.published(message.message_id, 0x87, now)
        assert made.wait_s(now) > 0


class Any(RuleBasedStateMachine):
    """Whatever happens: never more than the window, never a result that was released, and in the end everything goes."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.made = Publisher(self.queue.fetch, window=3, jitter=lambda: 0.5)
        self.now = 0.0
        self.online = False
        self.sent: list[int] = []

    @rule(count=st.integers(1, 20))
    def results_are_made(self, count):
        for _ in range(count):
            self.queue.append()

    @rule(up=st.booleans())
    def link_changes(self, up):
        (self.made.link_up if up else self.made.link_down)()
        self.online, self.sent = up, []

    @rule(wait=st.floats(0, 700))
    def time_passes(self, wait):
        self.now += wait
        released = set(range(1, self.queue.head + 1)) - set(self.queue.rows)
        burst = counters(self.made.due(self.now))
        assert len(burst) <= 3
        assert not burst or self.online
        assert burst == sorted(burst)
        assert not released & set(burst)
        self.sent += burst
        assert self.made.wait_s(self.now) > 0, "whoever waits for this must not spin"

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), code=st.sampled_from([0, 0x10, 0x87, 0x97]))
    def the_broker_answers(self, data, code):
        self.made.published(data.draw(st.sampled_from(self.sent)).to_bytes(16), code, self.now)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def a_receipt_comes(self, data):
        receipt(self.queue, self.made, data.draw(st.sampled_from(self.sent)))

    @invariant()
    def memory_is_bounded(self):
        assert len(self.made._under_way) <= 3
        assert len(self.made._page) <= 50

    def teardown(self):
        self.made.link_up()
        for _ in range(2000):
            self.now += 30
            for counter in counters(self.made.due(self.now)):
                receipt(self.queue, self.made, counter)
        assert not self.queue.rows


TestAny = Any.TestCase
TestAny.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
