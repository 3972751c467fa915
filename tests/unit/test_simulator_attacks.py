"""Prints before the camera: paper and ink, flat and bent, moved as an attacker moves them."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge.session.decision import ChallengeKind
from edge.session.machine import Phase, Screen
from simulator.attacks import (
    CutoutStage,
    MaskStage,
    Print,
    PrintStage,
    RecordedStage,
    Recording,
    ScreenStage,
    VirtualCamera,
    draw_print,
    photograph,
    print_on_paper,
)
from simulator.attacks import (
    Screen as Display,
)
from simulator.attacks.recording import Film
from simulator.attacks.screen import _refresh
from simulator.camera import VirtualClock
from simulator.person import Person, PersonState
from simulator.species import Strength


@pytest.fixture(scope="module")
def person() -> Person:
    return Person.from_seed(31)


def test_paper_has_no_black_deeper_than_ink_and_no_white_brighter_than_paper(person):
    how = Print(ink_black=0.04, paper_white=0.8)
    sheet = print_on_paper(photograph(person), how)
    assert sheet.min() > 0.035
    assert sheet.max() <= 0.8 * 1.03


def test_a_photograph_is_the_person_seen_from_the_front(person):
    assert photograph(person).shape == (900, 720, 3)
    assert np.array_equal(photograph(person, 1), photograph(person, 1))


def _outline(stage, t_s):
    """Corners of the sheet in the picture, from the difference to the empty room."""
    scene = stage.look(t_s, (320, 240))
    covered = (np.abs(scene - stage.room((320, 240))).max(axis=2) > 1e-6).astype(np.uint8)
    contour = max(cv2.findContours(covered, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=cv2.contourArea)
    return contour[:, 0].astype(float)


def test_a_flat_print_that_turns_stays_a_quadrangle_and_narrows(person):
    stage = PrintStage(person, 4, how=Print(border_cm=1.0))
    before = _outline(stage, 1.0)
    stage.on_screen(Screen(Phase.CHALLENGE, action=ChallengeKind.TURN_LEFT, step=1))
    widths = [np.ptp(_outline(stage, 1.0 + i / 10)[:, 0]) for i in range(1, 22)]
    assert min(widths) < 0.95 * np.ptp(before[:, 0])
    contour = _outline(stage, 3.2)
    hull = cv2.approxPolyDP(contour.astype(np.float32)[:, None], 4.0, closed=True)
    assert len(hull) in (4, 5)  # five where a corner lies outside the picture


def test_a_bent_print_has_curved_edges(person):
    flat = PrintStage(person, 4, how=Print(bend=0.0))
    bent = PrintStage(person, 4, how=Print(bend=0.06))

    def edge_error(stage):
        contour = _outline(stage, 0.5)
        box = cv2.boxPoints(cv2.minAreaRect(contour.astype(np.float32)))
        return cv2.contourArea(box) - cv2.contourArea(contour.astype(np.float32))

    assert edge_error(bent) > edge_error(flat) + 200


def test_an_attacker_shakes_the_sheet_when_a_blink_is_asked_for(person):
    stage = PrintStage(person, 4)
    still = [_outline(stage, i / 30).mean(axis=0)[1] for i in range(12)]
    stage.on_screen(Screen(Phase.CHALLENGE, action=ChallengeKind.BLINK, step=1))
    for i in range(60):  # the reaction time passes
        stage.actor.at(0.5 + i / 30)
    shaken = [_outline(stage, 2.6 + i / 30).mean(axis=0)[1] for i in range(12)]
    assert np.std(shaken) > 1.5 * np.std(still) + 0.5


def test_prints_differ_by_seed():
    assert draw_print(1) != draw_print(2)
    assert draw_print(1, bent=True).bend > 0.015


@pytest.fixture(scope="module")
def other() -> Person:
    return Person.from_seed(32)


SIZE = (320, 240)


def test_strengths_go_from_coarse_to_fine():
    clumsy, _, careful = (draw_print(5, strength=strength) for strength in Strength)
    assert clumsy.halftone_per_cm < careful.halftone_per_cm
    assert clumsy.ink_black > careful.ink_black
    assert clumsy.hands
    assert not careful.hands


def test_behind_a_cut_out_eyes_close_and_the_picture_does_not(person, other):
    stage = CutoutStage(person, other, 3)
    states = [PersonState(), PersonState(eye_right=0.0, eye_left=0.0)]
    stage.actor = SimpleNamespace(at=lambda _t: states.pop(0))
    opened, shut = stage.look(0.0, (640, 480)), stage.look(0.1, (640, 480))
    changed = np.abs(opened - shut).max(axis=2) > 0.02
    assert 40 < changed.sum() < 0.02 * changed.size


def test_a_screen_that_is_finer_than_the_sensor_shows_less_of_its_pixels_than_a_coarse_one(person):
    def pattern(per_cm):
        stage = ScreenStage(person, 3, session=True, how=Display(15.0, 20.0, pixels_per_cm=per_cm))
        u, v = np.meshgrid(np.linspace(0, 1, 300, dtype=np.float32), np.linspace(0, 1, 400, dtype=np.float32))
        return float(stage._pixels(u, v).std())

    assert pattern(8.0) > 0.3  # the pixels themselves are seen
    assert 0.001 < pattern(44.3) < 0.2  # moire
    assert pattern(44.3) < pattern(8.0)


def test_a_pulsed_display_has_bands_that_move_and_a_steady_one_has_none():
    pulsed = Display(refresh_hz=90.0, duty=0.6)
    first, second = (_refresh(pulsed, t_s, 240) for t_s in (0.0, 1 / 30 + 0.004))
    assert np.ptp(first) > 0.05
    assert np.abs(first - second).max() > 0.02
    assert first.mean() == pytest.approx(1.0, abs=0.2)
    assert np.ptp(_refresh(Display(duty=1.0), 0.0, 240)) == 0


def test_a_mask_has_the_holders_features_and_the_wearers_hair_and_clothes(person, other):
    stage = MaskStage(person, other, 3, strength=Strength.CAREFUL)
    masked = stage._masked.who
    assert masked.nose_width == pytest.approx(person.who.nose_width)
    assert (masked.hair_style, masked.cloth) == (other.who.hair_style, other.who.cloth)


def test_a_recorded_session_moves_without_a_screen_and_a_looking_holder_does_not_turn(person):
    def turn_deg(session):
        film = Recording(person, 4, Film(session=session, size=(90, 120)))
        pictures, yaws = zip(*((film.at(t / 5), film._actor.at(t / 5).yaw_deg) for t in range(60)), strict=True)
        assert any(np.abs(picture - pictures[0]).mean() > 0.01 for picture in pictures)
        return max(map(abs, yaws))

    assert turn_deg(True) > 18
    assert turn_deg(False) < 8


@pytest.mark.parametrize(
    ("strength", "told", "seen"), [("clumsy", False, False), ("ordinary", True, False), ("careful", True, True)]
)
def test_a_virtual_camera_obeys_exposure_as_far_as_its_strength_goes(person, strength, told, seen):
    clock = VirtualClock()
    camera = VirtualCamera(
        RecordedStage.of(person, 1, 30.0, SIZE), fps=30, seed=1, clock=clock, strength=Strength(strength)
    )
    before = [camera.read(1.0) for _ in range(45)][-1]  # until its automatic exposure rests
    camera.set_exposure(0.45)
    after = [camera.read(1.0) for _ in range(6)][-1]
    assert (after.info.exposure_us < before.info.exposure_us) is told
    assert bool(after.image.mean() < 0.85 * before.image.mean()) is seen
