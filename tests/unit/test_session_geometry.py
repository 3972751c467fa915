"""Head pose, openness and relief from points that are made by turning the mean face."""

import numpy as np
import pytest

from edge.session.face_shape import FACE_SHAPE
from edge.session.geometry import eye_openness, head_pose, mouth_openness
from edge.session.points import INNER_LIP, LEFT_EYE, POINT_COUNT, RIGHT_EYE

SHAPE = np.array(FACE_SHAPE) / 1000.0


def project(yaw_deg=0.0, pitch_deg=0.0, roll_deg=0.0, scale=60.0, shape=SHAPE):
    y, p, r = np.radians([yaw_deg, pitch_deg, roll_deg])
    turn = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return scale * (shape @ (turn @ nod @ tilt).T)[:, :2] + (320, 240)


def test_the_mean_shape_has_every_point_and_is_symmetric():
    assert SHAPE.shape == (POINT_COUNT, 3)
    assert np.allclose(SHAPE[RIGHT_EYE] * (-1, 1, 1), SHAPE[LEFT_EYE])


def test_a_nose_to_the_right_of_the_picture_is_positive_yaw():
    points = project(yaw_deg=25)
    assert points[47, 0] > points[:, 0].mean()
    assert head_pose(points).yaw_deg > 20


def test_a_face_that_looks_up_has_positive_pitch():
    points = project(pitch_deg=20)
    assert points[47, 1] < project()[47, 1]
    assert head_pose(points).pitch_deg > 15


def test_a_clockwise_tilt_is_positive_roll():
    points = project(roll_deg=20)
    right, left = points[RIGHT_EYE].mean(axis=0), points[LEFT_EYE].mean(axis=0)
    assert left[1] > right[1]  # the eye on the right of the picture is the lower one
    assert head_pose(points).roll_deg > 15


@pytest.mark.parametrize("yaw", [-50, -20, 0, 35])
@pytest.mark.parametrize("pitch", [-20, 0, 25])
@pytest.mark.parametrize("roll", [-15, 0, 15])
def test_the_pose_that_made_the_points_comes_back(yaw, pitch, roll):
    rng = np.random.default_rng(1)
    pose = head_pose(project(yaw, pitch, roll) + rng.normal(0, 0.5, (POINT_COUNT, 2)))
    assert np.allclose((pose.yaw_deg, pose.pitch_deg, pose.roll_deg), (yaw, pitch, roll), atol=2.0)


def test_an_open_mouth_does_not_turn_the_head():
    shape = SHAPE.copy()
    shape[INNER_LIP.start + 11 : INNER_LIP.stop, 1] += 0.5
    shape[94 + 12 : 94 + 25, 1] += 0.3
    pose = head_pose(project(yaw_deg=10, shape=shape))
    assert abs(pose.yaw_deg - 10) < 2
    assert abs(pose.pitch_deg) < 4
    assert mouth_openness(project(shape=shape)) > 0.5
    assert mouth_openness(project()) < 0.2


def test_lids_that_close_bring_openness_to_zero_also_in_a_turned_face():
    shape = SHAPE.copy()
    for eye in (RIGHT_EYE, LEFT_EYE):
        shape[eye, 1] = shape[eye, 1].mean()
    assert max(eye_openness(project(shape=shape))) < 0.15
    assert min(eye_openness(project())) > 0.6
    assert min(eye_openness(project(yaw_deg=35))) > 0.6
