"""What the demo says of a session, and what it calls a success."""

import io
import json
from dataclasses import replace

import pytest

from simulator.demo_report import Played, Scene, as_json, print_result, print_summary
from simulator.report import Report, Tone

CLAIMS = {
    "outcome": "match",
    "pad": "pass",
    "pad_band": 6,
    "injection": "pass",
    "match": "pass",
    "match_band": 7,
    "challenges": [{"kind": "turn-left", "ok": True}, {"kind": "blink", "ok": False}],
    "reasons": [],
    "consent_given": True,
    "policy_id": "reference",
    "policy_version": 1,
    "mode": "degraded",
    "fresh": "online",
}
RESULT = {"claims": CLAIMS, "bytes": 640, "counter": 3, "signature": "valid", "trusted": True, "alarms": []}
GOOD = Played(
    scene=Scene("The right person", None, "match"),
    order={"result": RESULT, "trusted": True},
    measured={"scores": {"score": 0.94, "match_threshold": 0.5, "relief": None}, "stage_s": {"position": 1.5}},
    asked_s=0.2,
    at_carrier_s=11.0,
    released_s=11.004,
)


def told(printer, *arguments, **options):
    stream = io.StringIO()
    printer(Report(stream, colour=False), *arguments, **options)
    return stream.getvalue()


def with_order(played, **fields):
    return replace(played, order={**played.order, **fields})


def test_a_result_as_expected_is_told_with_its_claims_and_numbers():
    text = told(print_result, GOOD)
    assert "match  as expected" in text
    assert "turn-left done, blink failed" in text
    assert "comparison 0.94 (threshold 0.50)" in text
    assert "relief" not in text
    assert "released < 20 ms later" in text


@pytest.mark.parametrize(
    "played",
    [
        replace(GOOD, scene=Scene("x", None, "no-match")),
        replace(GOOD, released_s=None),
        with_order(GOOD, trusted=False),
    ],
    ids=["another outcome", "not released", "not trusted"],
)
def test_whatever_is_missing_is_not_as_expected(played):
    assert not played.as_expected
    assert "NOT as expected" in told(print_result, played)
    assert json.loads(as_json(False, [played]))["sessions"][0]["as_expected"] is False


def test_real_input_has_no_expected_outcome_but_must_be_trusted_and_released():
    real = replace(GOOD, scene=Scene("the clip", None, None), measured={})
    assert real.as_expected
    assert not replace(real, released_s=None).as_expected
    assert "as expected" not in told(print_result, real)


def test_an_alarm_is_told_beside_the_result_and_at_the_end():
    odd = with_order(GOOD, trusted=False, result={**RESULT, "trusted": False, "alarms": ["replay"]})
    assert "NOT to be trusted" in told(print_result, odd)
    assert "replay" in told(print_result, odd)
    text = told(print_summary, [odd], [{"kind": "replay", "detail": "answered before"}], 12.0, good=False)
    assert "replay: answered before" in text
    assert "0 of 1 sessions as expected, 1 alarms" in text


def test_the_table_has_a_column_for_each_session_and_a_dash_where_nothing_was_measured():
    lines = told(print_summary, [GOOD, replace(GOOD, measured={})], [], 40.0, good=True).splitlines()
    position = next(line for line in lines if line.startswith("  position"))
    assert position.split() == ["position", "1.50", "s", "-"]
    widths = {len(line) for line in lines if line.startswith("  ") and line.strip() and "alarm" not in line}
    assert len(widths) == 1


def test_colour_is_only_for_a_terminal():
    assert Report(io.StringIO()).paint("x", Tone.GOOD) == "x"
    assert Report(io.StringIO(), colour=True).paint("x", Tone.GOOD) == "\033[32mx\033[0m"
