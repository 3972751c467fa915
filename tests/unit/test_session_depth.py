"""Relief of a turn from exact points: heads have it, and nothing that a sheet of paper can be bent into."""

import numpy as np
import pytest

from edge.session.depth import turn_relief
from edge.session.face_shape import FACE_SHAPE
from edge.session.pad import MIN_RELIEF

HEAD = np.asarray(FACE_SHAPE, float) / 1000
UNIT_PX = 60.0


def turned(shape, degrees, *, nod=False, away=None):
    """Points (138, 2) px of a shape (138, 3) that has turned; `away`: the camera's distance in face units."""
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) if nod else np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    points = shape @ turn.T
    near = 1.0 if away is None else away / (away + points[:, 2:])
    return 320 + UNIT_PX * points[:, :2] * near


def movement(shape, degrees=30, noise_px=0.0, **how):
    rng = np.random.default_rng(1)
    angles = np.concatenate([np.zeros(4), np.linspace(0, degrees, 12), np.full(4, degrees)])
    return [turned(shape, angle, **how) + rng.normal(0, noise_px, (138, 2)) for angle in angles]


def sheet(curve):
    """The face drawn on a sheet that is bent so: depth as a function of the place on it."""
    x, y = HEAD[:, 0], HEAD[:, 1]
    return np.column_stack([x, y, curve(x, y)])


@pytest.mark.parametrize("degrees", [-40, -22, 22, 40])
@pytest.mark.parametrize("nod", [False, True])
def test_the_mean_head_has_the_relief_of_one_head_whichever_way_it_turns(degrees, nod):
    assert turn_relief(movement(HEAD, degrees, nod=nod)) == pytest.approx(1.0, abs=0.1)


def test_noise_of_the_landmarks_and_a_near_camera_change_little():
    assert turn_relief(movement(HEAD, noise_px=1.0)) == pytest.approx(1.0, abs=0.15)
    assert turn_relief(movement(HEAD, away=7.0)) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(
    "curve",
    [
        lambda x, y: 0 * x,
        lambda x, y: 0.5 * x**2,
        lambda x, y: 0.4 * y**2,
        lambda x, y: 0.4 * (x + 0.5 * y) ** 2,
        lambda x, y: 0.3 * x * y,
        lambda x, y: np.sqrt(np.maximum(1.4**2 - x**2, 0)) * -1,
    ],
    ids=["flat", "upright bend", "level bend", "oblique bend", "twist", "tube of 0.7 face widths"],
)
@pytest.mark.parametrize("nod", [False, True])
def test_no_way_to_bend_a_picture_gives_it_relief(curve, nod):
    for noise_px in (0.0, 0.7):
        relief = turn_relief(movement(sheet(curve), noise_px=noise_px, nod=nod, away=9.0))
        assert relief is None or relief < 0.5 * MIN_RELIEF


def test_a_movement_that_is_too_small_or_too_short_says_nothing():
    assert turn_relief(movement(HEAD, 3)) is None
    assert turn_relief(movement(HEAD)[:5]) is None
    assert turn_relief([]) is None
