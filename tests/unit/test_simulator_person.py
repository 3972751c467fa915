"""The drawn person: signs of movement, identity, obedience to the screen, and what public models make of it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge.session.decision import ChallengeKind
from edge.session.machine import Phase, Screen
from edge.session.points import EYELID_PAIRS, INNER_LIP, LEFT_EYE, NOSE_TIP, RIGHT_EYE
from simulator.person import Person, PersonState, draw_identity, portrait, render
from simulator.person.motion import Actor, Obedience
from simulator.person.realism import measure

STRAIGHT = PersonState(x_cm=0, y_cm=0)


@pytest.fixture(scope="module")
def person() -> Person:
    return Person.from_seed(11)


def _truth(person, **change):
    return render(person, replace(STRAIGHT, **change))[1]


def _nose_against_eyes(truth):
    return truth.keypoints[2] - truth.keypoints[:2].mean(axis=0)


def test_positive_yaw_points_the_nose_to_the_right_of_the_picture(person):
    assert _nose_against_eyes(_truth(person, yaw_deg=25))[0] > _nose_against_eyes(_truth(person))[0] + 15
    assert _nose_against_eyes(_truth(person, yaw_deg=-25))[0] < _nose_against_eyes(_truth(person))[0] - 15


def test_positive_pitch_lifts_the_nose(person):
    assert _nose_against_eyes(_truth(person, pitch_deg=15))[1] < _nose_against_eyes(_truth(person))[1] - 5


def test_positive_roll_lowers_the_eye_on_the_right_of_the_picture(person):
    right, left = _truth(person, roll_deg=12).keypoints[:2]
    assert left[0] > right[0]
    assert left[1] > right[1] + 8


def test_the_right_eye_is_on_the_left_of_the_picture_and_shuts_alone(person):
    truth = _truth(person, eye_right=0.0)
    gaps = {}
    for name, eye in (("right", RIGHT_EYE), ("left", LEFT_EYE)):
        lids = truth.landmarks[eye]
        gaps[name] = np.mean([np.hypot(*(lids[a] - lids[b])) for a, b in EYELID_PAIRS])
    assert truth.landmarks[RIGHT_EYE][:, 0].mean() < truth.landmarks[LEFT_EYE][:, 0].mean()
    assert gaps["right"] < 0.5
    assert gaps["left"] > 4


def test_a_shut_eye_hides_the_iris(person):
    def darkest(**change):
        picture, truth = render(person, replace(STRAIGHT, **change))
        x, y = np.mean(truth.landmarks[RIGHT_EYE], axis=0).astype(int)
        return np.percentile(picture[y - 3 : y + 3, x - 4 : x + 5].max(axis=2), 10)

    assert darkest() < 70
    assert darkest(eye_right=0.0, eye_left=0.0) > darkest() + 15


def test_an_open_mouth_is_dark_inside_and_moves_the_chin(person):
    shut_picture, shut = render(person, STRAIGHT)
    picture, wide = render(person, replace(STRAIGHT, mouth=0.9))
    lips = wide.landmarks[INNER_LIP]
    x, y = lips.mean(axis=0).astype(int)
    assert lips[:, 1].max() - lips[:, 1].min() > 12
    assert picture[y, x].max() < shut_picture[y - 40, x].max()
    assert wide.landmarks[112][1] > shut.landmarks[112][1] + 8


def test_the_same_seed_is_the_same_person_and_another_seed_another():
    assert draw_identity(5) == draw_identity(5)
    first, second = render(Person.from_seed(5), STRAIGHT)[0], render(Person.from_seed(5), STRAIGHT)[0]
    assert np.array_equal(first, second)
    other = render(Person.from_seed(6), STRAIGHT)[0]
    assert np.abs(other.astype(int) - first).mean() > 4


def test_many_seeds_give_heads_without_holes_or_nonsense():
    for seed in range(900, 906):
        person = Person.from_seed(seed)
        assert np.isfinite(person.positions).all()
        assert 12_000 < len(person.skin.positions) < 40_000
        truth = _truth(person, yaw_deg=20, eye_left=0.5, mouth=0.4)
        assert np.isfinite(truth.landmarks).all()
        assert 30 < np.hypot(*(truth.keypoints[1] - truth.keypoints[0])) < 120


def test_the_portrait_is_small_as_jpeg_and_is_not_the_live_picture(person):
    picture = portrait(11, (102, 126))
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    assert picture.shape == (126, 102, 3)
    assert 800 < len(coded) < 3000
    assert np.array_equal(portrait(11), portrait(11))
    assert portrait(11).shape == (441, 358, 3)


def _watch(actor, seconds, screen=None, start=0.0):
    if screen is not None:
        actor.on_screen(screen)
    return [actor.at(start + i / 30) for i in range(int(seconds * 30))]


@pytest.mark.parametrize(("action", "sign"), [(ChallengeKind.TURN_LEFT, 1), (ChallengeKind.TURN_RIGHT, -1)])
def test_a_turn_goes_to_the_persons_own_side_after_a_reaction_time_and_back(person, action, sign):
    actor = Actor(person.who, 3)
    _watch(actor, 1)
    states = _watch(actor, 2.5, Screen(Phase.CHALLENGE, action=action, step=1), start=1)
    yaw = np.array([sign * s.yaw_deg for s in states])
    assert np.abs(yaw[:6]).max() < 8  # 0.2 s: nobody is that fast
    assert 18 < yaw.max() < 55
    back = _watch(actor, 3, Screen(Phase.CHALLENGE, guidance="come-back", action=action, step=1), start=3.5)
    assert abs(back[-1].yaw_deg) < 9


def test_who_is_asked_to_go_further_does_and_keeps_to_it(person):
    actor = Actor(person.who, 3)
    turn = Screen(Phase.CHALLENGE, action=ChallengeKind.TURN_LEFT, step=1)
    usual = max(state.yaw_deg for state in _watch(actor, 2.5, turn))
    further = max(state.yaw_deg for state in _watch(actor, 1.5, replace(turn, guidance="further"), start=5))
    again = max(state.yaw_deg for state in _watch(actor, 2.5, replace(turn, step=2), start=8))
    assert further > usual + 4
    assert again > usual + 4


def test_a_blink_is_made_when_asked_and_lasts_like_one(person):
    actor = Actor(person.who, 4)
    _watch(actor, 1)
    shut = np.array(
        [
            s.eye_right < 0.3
            for s in _watch(actor, 3, Screen(Phase.CHALLENGE, action=ChallengeKind.BLINK, step=1), start=1)
        ]
    )
    runs = np.diff(np.nonzero(np.diff(np.concatenate([[0], shut.astype(int), [0]])))[0])[::2]
    assert len(runs) >= 1
    assert all(1 <= frames <= 12 for frames in runs)  # to 0.4 s


def test_mouth_and_nod_follow_the_screen(person):
    mouth = _watch(Actor(person.who, 5), 3, Screen(Phase.CHALLENGE, action=ChallengeKind.MOUTH_OPEN, step=1))
    assert max(s.mouth for s in mouth) > 0.4
    nod = _watch(Actor(person.who, 5), 3, Screen(Phase.CHALLENGE, action=ChallengeKind.LOOK_UP, step=1))
    assert max(s.pitch_deg for s in nod) > 12


def test_a_person_at_rest_looks_ahead_and_blinks_now_and_then(person):
    states = _watch(Actor(person.who, 6), 60, Screen(Phase.POSITION))
    yaw = np.array([s.yaw_deg for s in states])
    assert np.abs(yaw).max() < 10
    assert yaw.std() > 0.1  # nobody is a statue
    shut = np.array([s.eye_right < 0.5 for s in states]).astype(int)
    assert 4 <= (np.diff(shut) > 0).sum() <= 45


def test_a_person_who_does_not_obey_never_turns(person):
    actor = Actor(person.who, 7, obeys=Obedience.NOT)
    states = _watch(actor, 4, Screen(Phase.CHALLENGE, action=ChallengeKind.TURN_LEFT, step=1))
    assert max(abs(s.yaw_deg) for s in states) < 10


def test_guidance_brings_the_person_nearer(person):
    actor = Actor(person.who, 8)
    before = _watch(actor, 0.5)[-1]
    after = _watch(actor, 2, Screen(Phase.POSITION, guidance="too-far"), start=0.5)[-1]
    assert after.distance_cm < before.distance_cm - 4


def test_public_models_take_drawn_people_for_people(data_dir):
    result = measure(2, data_dir / "teachers", first_seed=70_000)
    assert result.found >= 0.95
    assert result.recognised >= 0.95
    assert result.keypoint_error < 0.12
    assert result.eyes_told_apart == 1.0
    assert result.genuine[1] > result.impostor[1] + 0.15


def test_the_nose_is_what_stands_out_most(person):
    heights = person.positions[:, 2]
    assert heights[person.landmarks[NOSE_TIP]] > heights.max() - 0.4
