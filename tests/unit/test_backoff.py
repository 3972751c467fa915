"""Waiting before the next connection: doubling, capped, jittered from zero, forgiven only after holding."""

from hypothesis import given
from hypothesis import strategies as st

from edge.uplink.backoff import Backoff


def ceilings(backoff, count, now=0.0):
    return [backoff.lost(now) for _ in range(count)]


def test_ceilings_double_up_to_the_cap():
    assert ceilings(Backoff(lambda: 1.0, base_s=1, cap_s=60), 8) == [1, 2, 4, 8, 16, 32, 60, 60]


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 3000))
def test_every_wait_lies_between_zero_and_the_ceiling_even_after_a_week(random, failures):
    backoff = Backoff(lambda: random, cap_s=60)
    for _ in range(failures):
        backoff.lost(0.0)
    assert 0 <= backoff.lost(0.0) <= 60


def test_a_link_that_held_is_forgiven():
    backoff = Backoff(lambda: 1.0, held_s=30)
    ceilings(backoff, 5)
    backoff.connected(100.0)
    assert backoff.lost(130.0) == 1


def test_a_broker_that_accepts_and_drops_is_not_hammered():
    backoff = Backoff(lambda: 1.0, held_s=30)
    ceilings(backoff, 5)
    backoff.connected(100.0)
    assert backoff.lost(129.0) == 32


def test_a_failed_try_after_a_held_link_counts_from_that_loss_on():
    backoff = Backoff(lambda: 1.0, held_s=30)
    backoff.connected(0.0)
    assert [backoff.lost(100.0), backoff.lost(200.0), backoff.lost(300.0)] == [1, 2, 4]
