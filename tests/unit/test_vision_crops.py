"""Which part of a picture each model sees: the same rule for a detected and a tracked face."""

import numpy as np
import pytest

from edge.vision import crops

FRONTAL = np.array(crops.ARCFACE_TEMPLATE, np.float64)


def turned(points: np.ndarray, degrees: float, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ rotation.T * scale + np.array(shift)


def landmarks_with(keypoints: np.ndarray) -> np.ndarray:
    points = np.zeros((crops.LANDMARK_COUNT, 2))
    points[crops.RIGHT_EYE], points[crops.LEFT_EYE] = keypoints[0], keypoints[1]
    points[[crops.NOSE_TIP, crops.RIGHT_MOUTH_CORNER, crops.LEFT_MOUTH_CORNER]] = keypoints[2:]
    return points


def test_a_tracked_face_is_cut_out_like_a_detected_one():
    face = turned(FRONTAL, 12, 2.5, (200, 80))
    found = crops.keypoints_from_landmarks(landmarks_with(face))
    assert crops.landmark_crop(found).matrix == pytest.approx(crops.landmark_crop(face).matrix)


@pytest.mark.parametrize("degrees", [-30, 0, 20])
def test_a_tilted_head_is_cut_out_with_level_eyes(degrees):
    face = turned(FRONTAL, degrees, 3.0, (150, 90))
    crop = crops.landmark_crop(face)
    right, left = crop.to_crop(face)[:2]
    assert right[1] == pytest.approx(left[1], abs=1e-9)
    assert left[0] - right[0] == pytest.approx(crop.size_px / crops.LANDMARK_CROP_UNITS, rel=0.01)


def test_the_antispoofing_crop_stays_upright_when_the_head_tilts():
    crop = crops.antispoof_crop(turned(FRONTAL, 25, 2.0, (100, 100)))
    assert crop.matrix[0, 1] == 0
    assert crop.matrix[1, 0] == 0


def test_the_size_of_a_turned_face_is_taken_from_eyes_and_mouth():
    narrow = FRONTAL * [0.6, 1.0]  # a yaw of 53 degrees leaves so much of the distance between the eyes
    assert crops.face_unit(narrow) == pytest.approx(crops.face_unit(FRONTAL), rel=0.01)


def test_points_return_to_where_they_came_from():
    face = turned(FRONTAL, -17, 1.7, (31, 12))
    for crop in (crops.landmark_crop(face), crops.antispoof_crop(face), crops.embedding_crop(face)):
        assert crop.to_picture(crop.to_crop(face)) == pytest.approx(face)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.0), (28, 3.1), (-41, 0.4)])
def test_a_moved_face_is_aligned_onto_the_template(degrees, scale):
    face = turned(FRONTAL, degrees, scale, (220, 140))
    assert crops.embedding_crop(face).to_crop(face) == pytest.approx(FRONTAL, abs=1e-6)
    assert crops.embedding_crop(face).scale == pytest.approx(1 / scale)


def test_a_mirrored_face_is_not_aligned_by_mirroring():
    mirrored = FRONTAL * [-1, 1] + [112, 0]
    crop = crops.embedding_crop(mirrored)
    assert np.linalg.det(crop.matrix[:, :2]) > 0
    assert np.abs(crop.to_crop(mirrored) - FRONTAL).max() > 5


def test_five_equal_points_give_a_crop_of_finite_numbers():
    point = np.full((5, 2), 40.0)
    for crop in (crops.landmark_crop(point), crops.antispoof_crop(point), crops.embedding_crop(point)):
        assert np.isfinite(crop.matrix).all()


def test_the_face_box_is_that_of_the_oval():
    points = np.zeros((crops.LANDMARK_COUNT, 2))
    points[crops.OVAL] = [50, 60]
    points[crops.OVAL.start] = [70, 20]
    assert crops.box_from_landmarks(points).tolist() == [50, 20, 70, 60]
