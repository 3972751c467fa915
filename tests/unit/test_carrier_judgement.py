"""The carrier's rules, one story each."""

from dataclasses import replace

import pytest

from edge.evidence.claims import Fresh
from edge.session.decision import Outcome
from simulator.carrier.judgement import (
    GENESIS,
    Alarm,
    IssuedOrder,
    Known,
    Registration,
    Statement,
    is_trusted,
    judge,
    registration,
)

ONE, TWO = "1" * 32, "2" * 32
FIRST = Statement(ONE, 1, b"a" * 32, GENESIS, b"n" * 32, b"p" * 32, b"m" * 32)
THIRD = Statement(ONE, 3, b"c" * 32, b"b" * 32, b"n" * 32, b"p" * 32, b"m" * 32)
FRESH = Known(
    now=1000,
    order=IssuedOrder(ONE, expires_at=1100, answered=False),
    policy=True,
    pack=True,
    highest_ctr=0,
    same_ctr=False,
    before=None,
    after=None,
)
AFTER_TWO = replace(FRESH, highest_ctr=2, before=b"b" * 32)


def alarms(statement, known):
    return [finding.alarm for finding in judge(statement, known)]


def test_a_first_result_that_fits_raises_nothing():
    assert alarms(FIRST, FRESH) == []


def test_a_third_result_that_follows_the_second_raises_nothing():
    assert alarms(THIRD, AFTER_TWO) == []


@pytest.mark.parametrize(
    ("change", "alarm"),
    [
        ({"order": None}, Alarm.UNKNOWN_NONCE),
        ({"order": IssuedOrder(TWO, 1100, answered=False)}, Alarm.WRONG_TERMINAL),
        ({"order": IssuedOrder(ONE, 1100, answered=True)}, Alarm.REPLAY),
        ({"order": IssuedOrder(ONE, 999, answered=False)}, Alarm.LATE),
        ({"policy": False}, Alarm.UNKNOWN_POLICY),
        ({"pack": False}, Alarm.UNKNOWN_PACK),
        ({"same_ctr": True}, Alarm.FORK),
        ({"before": b"x" * 32}, Alarm.FORK),
        ({"after": b"x" * 32}, Alarm.FORK),
    ],
)
def test_each_thing_that_does_not_fit_raises_its_own_alarm_and_takes_trust_away(change, alarm):
    findings = judge(THIRD, replace(AFTER_TWO, **change))
    assert [finding.alarm for finding in findings] == [alarm]
    assert not is_trusted(findings)


def test_an_answer_in_the_last_second_is_in_time():
    assert alarms(FIRST, replace(FRESH, now=1100)) == []


def test_missing_counters_raise_a_gap_that_names_them_and_leave_the_result_trusted():
    findings = judge(THIRD, FRESH)
    assert [finding.alarm for finding in findings] == [Alarm.GAP]
    assert "1 to 2" in findings[0].detail
    assert is_trusted(findings)


def test_a_result_that_fills_a_gap_is_no_fork():
    assert alarms(THIRD, replace(AFTER_TWO, highest_ctr=9, after=THIRD.digest)) == []


def test_a_later_result_that_claims_to_be_the_first_is_a_fork():
    assert alarms(replace(THIRD, previous=GENESIS), replace(AFTER_TWO, before=None)) == [Alarm.FORK]


def test_a_first_result_that_follows_something_is_a_fork():
    assert alarms(replace(FIRST, previous=b"z" * 32), FRESH) == [Alarm.FORK]


def test_a_self_test_needs_no_order_and_raises_no_alarm() -> None:
    assert alarms(replace(FIRST, self_test=True), replace(FRESH, order=None, policy=False)) == []


def test_a_self_test_that_answers_an_order_is_an_alarm() -> None:
    assert alarms(replace(FIRST, self_test=True), FRESH) == [Alarm.FALSE_SELF_TEST]


TICKET = replace(FRESH, order=IssuedOrder(ONE, 1100, answered=False, ticket=True))


@pytest.mark.parametrize(
    ("change", "known", "alarm"),
    [
        ({"fresh": Fresh.TICKET}, FRESH, Alarm.WRONG_FRESH),
        ({"fresh": Fresh.ONLINE}, TICKET, Alarm.WRONG_FRESH),
        ({"fresh": Fresh.TICKET, "order_bound": False}, TICKET, Alarm.NO_ORDER),
        ({"outcome": Outcome.STAFF_ASSISTED, "clerk_named": False}, FRESH, Alarm.NO_CLERK),
    ],
)
def test_a_result_that_is_not_what_it_says_is_not_trusted(change, known, alarm):
    assert alarms(replace(FIRST, **change), known) == [alarm]
    assert not is_trusted(judge(replace(FIRST, **change), known))


def test_a_ticket_that_is_bound_to_an_order_raises_nothing():
    assert alarms(replace(FIRST, fresh=Fresh.TICKET), TICKET) == []


def test_only_a_trusted_match_registers_a_number_and_staff_are_never_taken_for_one():
    assert [o for o in Outcome if registration(o, trusted=True) is Registration.ALLOWED] == [Outcome.MATCH]
    assert [o for o in Outcome if registration(o, trusted=True) is Registration.REVIEW] == [Outcome.STAFF_ASSISTED]
    assert {registration(o, trusted=False) for o in Outcome} == {Registration.REFUSED}
