"""The plan that a nonce stands for, and the recogniser of one action, frame by frame."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from edge.session.challenge import (
    DELAYS_S,
    DEPTH_KINDS,
    SMALL_KINDS,
    UNDER_WAY_S,
    Baseline,
    Recogniser,
    Stage,
    advance,
    draw_plan,
    draw_replacement,
    falls_short,
    substitutes,
    valid_sequences,
)
from edge.session.decision import ChallengeKind, Policy, Reason
from edge.session.observation import FrameInfo, observations_from_jsonl, observations_to_jsonl
from simulator.observed import Attitude, Body, observe

TURN_LEFT, TURN_RIGHT, BLINK, MOUTH_OPEN, LOOK_UP = list(ChallengeKind)[:5]
DEFAULT = Policy("t", 1, b"").challenges
REST = Baseline(yaw_deg=0.0, pitch_deg=0.0, eye_openness=0.9, mouth_openness=0.1)
BODY = Body(noise_px=0.0)


def nonces(count):
    return [i.to_bytes(16, "big") for i in range(count)]


def test_the_same_nonce_draws_the_same_plan_and_another_nonce_another():
    assert draw_plan(b"a" * 32, DEFAULT, 3) == draw_plan(b"a" * 32, DEFAULT, 3)
    assert len({draw_plan(nonce, DEFAULT, 3) for nonce in nonces(200)}) > 190


def test_a_default_plan_has_twelve_bits():
    plans = len(valid_sequences(DEFAULT, 3)) * len(DELAYS_S) ** 3
    assert plans == 6_144
    assert math.log2(plans) > 12.5


def test_a_plan_of_two_actions_still_has_nine_bits():
    assert math.log2(len(valid_sequences(DEFAULT, 2)) * len(DELAYS_S) ** 2) >= 9
    assert math.log2(len(valid_sequences(tuple(ChallengeKind)[:5], 2)) * len(DELAYS_S) ** 2) > 9


def test_every_sequence_and_every_delay_is_equally_likely():
    plans = [draw_plan(nonce, DEFAULT, 3) for nonce in nonces(6800)]
    sequences = Counter(tuple(step.kind for step in plan.steps) for plan in plans)
    assert set(sequences) == set(valid_sequences(DEFAULT, 3))
    expected = 6800 / 12
    chi_square = sum((n - expected) ** 2 / expected for n in sequences.values())
    assert chi_square < 31.3  # 11 degrees of freedom, 0.1 %
    delays = Counter(step.delay_s for plan in plans for step in plan.steps)
    expected = 3 * 6800 / 8
    assert sum((n - expected) ** 2 / expected for n in delays.values()) < 24.3  # 7 degrees of freedom, 0.1 %


@pytest.mark.parametrize("allowed", [DEFAULT, (), (BLINK,), (TURN_LEFT,), (BLINK, MOUTH_OPEN), (LOOK_UP, BLINK)])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 6, 9])
def test_every_plan_shows_depth_and_never_asks_twice_in_a_row(allowed, count):
    for nonce in nonces(20):
        kinds = [step.kind for step in draw_plan(nonce, allowed, count).steps]
        assert 1 <= len(kinds) <= 6
        assert any(kind in DEPTH_KINDS for kind in kinds)
        living = set(allowed) & set(SMALL_KINDS)
        assert len(living & set(kinds)) >= min(len(living), len(kinds) - 1)
        assert all(a is not b for a, b in pairwise(kinds))


def test_the_sensors_steps_change_every_time_and_start_with_a_change():
    for nonce in nonces(50):
        exposures = draw_plan(nonce, DEFAULT, 3).exposures
        steps = (1.0, *(exposure.factor for exposure in exposures))
        assert {exposure.frames for exposure in exposures} <= {2, 3}
        assert all(a != b for a, b in pairwise(steps))
        assert steps.count(1.0) == 1  # 1 would hand control back in the middle


def test_a_substitute_is_of_equal_strength():
    everything = tuple(ChallengeKind)[:5]
    assert set(substitutes(TURN_LEFT, everything, frozenset({TURN_LEFT}))) == {TURN_RIGHT, LOOK_UP}
    assert substitutes(BLINK, everything, frozenset({BLINK})) == (MOUTH_OPEN,)
    assert substitutes(BLINK, everything, frozenset({BLINK, MOUTH_OPEN})) == ()
    assert substitutes(MOUTH_OPEN, everything, frozenset({MOUTH_OPEN})) == ()
    assert substitutes(TURN_LEFT, everything, frozenset(DEPTH_KINDS)) == ()
    assert draw_replacement(b"n", 0, 1, (LOOK_UP,)).kind is LOOK_UP


def faces(attitude_at, fps, seconds, start_s=0.0):
    for i in range(int(seconds * fps)):
        t_s = start_s + i / fps
        yield t_s, observe(BODY, attitude_at(t_s), FrameInfo(i, t_s, 640, 480)).face


def drive(kind, attitude_at, *, fps=30, seconds=6.0, delay_s=0.5, timeout_s=4.0):
    """The recogniser after a whole movement, and the stages that it went through with their times."""
    r, stages = Recogniser(kind, delay_s, timeout_s), []
    for t_s, face in faces(attitude_at, fps, seconds):
        r = advance(r, face, t_s, REST)
        if not stages or stages[-1][1] is not r.stage:
            stages.append((t_s, r.stage))
    return r, stages


def between(start_s, end_s, **held):
    return lambda t_s: Attitude(**held) if start_s <= t_s < end_s else Attitude()


@pytest.mark.parametrize("fps", [12, 15, 30, 60])
@pytest.mark.parametrize(
    ("kind", "held"),
    [
        (TURN_LEFT, {"yaw_deg": 30}),
        (TURN_RIGHT, {"yaw_deg": -30}),
        (LOOK_UP, {"pitch_deg": 20}),
        (MOUTH_OPEN, {"mouth": 0.8}),
    ],
)
def test_a_movement_that_is_held_and_taken_back_is_recognised_at_any_frame_rate(fps, kind, held):
    r, stages = drive(kind, between(1.5, 2.3, **held), fps=fps)
    assert r.stage is Stage.DONE
    assert [s for _, s in stages if s is not Stage.MOVING] == [
        Stage.SETTLE,
        Stage.WAIT,
        Stage.PROMPTED,
        Stage.RETURN,
        Stage.DONE,
    ]


@pytest.mark.parametrize("fps", [12, 15, 30, 60])
@pytest.mark.parametrize("closed_s", [0.15, 0.4, 1.0])
def test_a_blink_is_recognised_at_any_frame_rate(fps, closed_s):
    assert drive(BLINK, between(1.5, 1.5 + closed_s, eyes=0.0), fps=fps)[0].stage is Stage.DONE


def test_one_eye_is_a_wink_and_no_blink():
    r = Recogniser(BLINK, 0.5, 4.0)
    for t_s, face in faces(lambda t_s: Attitude(), 30, 6.0):
        lids = (0.05, 0.95) if 1.5 <= t_s < 1.9 else face.eye_openness
        wink = type(face)(**{name: getattr(face, name) for name in face.__slots__} | {"eye_openness": lids})
        r = advance(r, wink, t_s, REST)
    assert r.failure is Reason.CHALLENGE_TIMEOUT


def test_eyes_that_stay_closed_are_no_blink():
    assert drive(BLINK, between(1.5, 9.0, eyes=0.0))[0].failure is Reason.CHALLENGE_TIMEOUT


def test_a_blink_before_the_prompt_is_no_answer_and_no_offence():
    assert drive(BLINK, between(0.3, 0.6, eyes=0.0))[0].failure is Reason.CHALLENGE_TIMEOUT


def test_a_blink_that_began_before_the_prompt_does_not_count():
    prompt_s = next(t for t, stage in drive(BLINK, lambda t_s: Attitude())[1] if stage is Stage.PROMPTED)
    r, _ = drive(BLINK, between(prompt_s - 0.1, prompt_s + 0.3, eyes=0.0))
    assert r.failure is Reason.CHALLENGE_TIMEOUT


def test_a_turn_that_starts_in_the_pause_is_too_early():
    r, stages = drive(TURN_LEFT, between(0.4, 2.0, yaw_deg=30))
    assert r.failure is Reason.CHALLENGE_TOO_EARLY
    assert Stage.PROMPTED not in {stage for _, stage in stages}


def test_a_turn_within_a_tenth_of_a_second_after_the_prompt_is_too_early():
    prompt_s = next(t for t, stage in drive(TURN_LEFT, lambda t_s: Attitude())[1] if stage is Stage.PROMPTED)
    assert drive(TURN_LEFT, between(prompt_s + 0.07, 3.0, yaw_deg=30))[0].failure is Reason.CHALLENGE_TOO_EARLY
    assert drive(TURN_LEFT, between(prompt_s + 0.25, 2.0, yaw_deg=30))[0].stage is Stage.DONE


def test_the_other_side_is_a_wrong_action():
    assert drive(TURN_LEFT, between(1.5, 3.0, yaw_deg=-30))[0].failure is Reason.CHALLENGE_WRONG_ACTION


def test_an_open_mouth_is_no_answer_to_a_turn():
    assert drive(TURN_LEFT, between(1.5, 3.0, mouth=0.9))[0].failure is Reason.CHALLENGE_WRONG_ACTION


def test_a_tilted_head_is_no_turn():
    assert drive(TURN_LEFT, between(1.5, 3.0, roll_deg=25))[0].failure is Reason.CHALLENGE_TIMEOUT


def test_half_a_turn_is_no_turn():
    assert drive(TURN_LEFT, between(1.5, 3.0, yaw_deg=13))[0].failure is Reason.CHALLENGE_TIMEOUT


def test_a_single_frame_of_a_turned_face_is_no_turn():
    assert drive(TURN_LEFT, between(1.5, 1.53, yaw_deg=35))[0].failure is Reason.CHALLENGE_TIMEOUT


def test_a_head_that_trembles_around_the_threshold_is_one_turn():
    def trembles(t_s):
        return Attitude(yaw_deg=20 + 4 * math.sin(40 * t_s)) if 1.5 <= t_s < 3 else Attitude()

    assert drive(TURN_LEFT, trembles)[0].stage is Stage.DONE


def test_a_turn_that_is_not_taken_back_runs_out_of_time():
    r, stages = drive(TURN_LEFT, between(1.5, 12.0, yaw_deg=30), seconds=10.0)
    assert r.failure is Reason.CHALLENGE_TIMEOUT
    assert stages[-1][0] - stages[1][0] < 0.5 + 4.0 + UNDER_WAY_S + 0.2


def test_nobody_is_cut_off_in_the_middle_of_a_movement_that_was_begun_in_time():
    late = between(4.3, 5.3, yaw_deg=30)  # the time for it is over at 4.7
    assert drive(TURN_LEFT, late, seconds=7.0)[0].stage is Stage.DONE
    too_late = between(4.9, 5.9, yaw_deg=30)
    assert drive(TURN_LEFT, too_late, seconds=7.0)[0].failure is Reason.CHALLENGE_TIMEOUT


@pytest.mark.parametrize(
    ("kind", "held", "short"),
    [
        (TURN_LEFT, {"yaw_deg": 15}, True),
        (MOUTH_OPEN, {"mouth": 0.3}, False),  # full: lips need little
        (TURN_LEFT, {"yaw_deg": 30}, False),
        (TURN_LEFT, {"yaw_deg": 4}, False),  # no movement yet
        (BLINK, {"eyes": 0.4}, False),
    ],
)
def test_who_falls_short_of_a_movement_is_known_after_a_moment(kind, held, short):
    assert not falls_short(drive(kind, between(1.5, 9.0, **held), seconds=1.9)[0])
    assert falls_short(drive(kind, between(1.5, 9.0, **held), seconds=3.0)[0]) is short


def test_a_person_who_is_never_at_rest_is_not_prompted_for_ever():
    r, _ = drive(TURN_LEFT, lambda t_s: Attitude(pitch_deg=12 * math.sin(9 * t_s)))
    assert r.failure is Reason.CHALLENGE_TIMEOUT
    assert r.prompt_s is None


def test_a_face_that_was_away_in_the_middle_of_a_turn_has_to_start_it_again():
    r, stages = Recogniser(TURN_LEFT, 0.5, 4.0), set()
    for t_s, face in faces(between(1.5, 2.6, yaw_deg=30), 30, 3.0):
        r = advance(r, None if 1.6 <= t_s < 2.5 else face, t_s, REST)
        stages.add(r.stage)
    assert Stage.RETURN not in stages
    assert not r.finished


def test_observations_come_back_from_their_lines_without_templates():
    seen = [observe(BODY, Attitude(yaw_deg=12), FrameInfo(i, i / 30, 640, 480, 9000, 1.5)) for i in range(3)]
    text = observations_to_jsonl(seen)
    assert text.count("\n") == 3
    back = observations_from_jsonl(text)
    assert [o.frame for o in back] == [o.frame for o in seen]
    assert all(b.face.template is None for b in back)
    assert abs(back[0].face.points - seen[0].face.points).max() <= 0.006
    assert observations_to_jsonl(back) == text


def test_lips_whose_reading_quivers_are_no_early_answer():
    r = Recogniser(MOUTH_OPEN, 0.6, 4.0)
    for i, (t_s, face) in enumerate(faces(between(2.0, 2.8, mouth=0.8), 30, 4.0)):
        quiver = 0.09 * (-1) ** (i // 3)
        r = advance(r, replace(face, mouth_openness=face.mouth_openness + quiver + 0.05), t_s, REST)
    assert r.stage is Stage.DONE


def test_a_mouth_that_stands_open_before_it_is_asked_for_is_an_early_answer():
    assert drive(MOUTH_OPEN, between(0.3, 1.5, mouth=0.8))[0].failure is Reason.CHALLENGE_TOO_EARLY
