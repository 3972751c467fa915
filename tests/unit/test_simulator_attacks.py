"""Prints before the camera: paper and ink, flat and bent, moved as an attacker moves them."""

import cv2
import numpy as np
import pytest

from edge.session.decision import ChallengeKind
from edge.session.machine import Phase, Screen
from simulator.attacks import Print, PrintStage, draw_print, photograph, print_on_paper
from simulator.person import Person


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
