"""Crops and letterboxes keep every point where it belongs."""

import cv2
import numpy as np
import pytest

from edge.vision.crops import Crop, embedding_crop, landmark_crop
from edge.vision.picture import Levels, letterbox

SPOTS = ((180, 140), (260, 150), (225, 200), (190, 250), (255, 245))


def spotted(points, *, width=480, height=360, radius=9):
    """A black picture with a soft white spot at each point."""
    ys, xs = np.mgrid[0:height, 0:width]
    picture = np.zeros((height, width), np.float64)
    for x, y in points:
        picture += 255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * radius**2))
    return np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def centroid(picture, near, reach):
    ys, xs = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]]
    weight = picture[..., 0].astype(np.float64) * (np.hypot(xs - near[0], ys - near[1]) < reach)
    return np.array([(xs * weight).sum(), (ys * weight).sum()]) / weight.sum()


def shown(picture):
    levels = Levels()
    levels.show(picture)
    return levels


@pytest.mark.parametrize("size_px", [112, 48, 24])
def test_a_crop_shows_each_point_where_its_matrix_says_at_every_level(size_px):
    points = np.array(SPOTS, np.float64)
    for rule in (landmark_crop, embedding_crop):
        crop = rule(points, size_px)
        cut = shown(spotted(SPOTS)).cut(crop)
        assert cut.shape == (size_px, size_px, 3)
        for expected in crop.to_crop(points):
            reach = 18 * crop.scale
            assert np.abs(centroid(cut, expected, reach) - expected).max() < 0.12


def test_a_crop_beyond_the_border_repeats_it():
    picture = np.full((100, 100, 3), 200, np.uint8)
    cut = shown(picture).cut(Crop(np.array([[1.0, 0, 50], [0, 1, 50]]), 64))
    assert cut.min() == 200


def test_halvings_and_crops_keep_no_pixel_after_a_wipe():
    levels = shown(spotted(SPOTS))
    kept = [levels.level(k) for k in (1, 2, 3)]
    kept.append(levels.cut(embedding_crop(np.array(SPOTS, np.float64))))
    assert all(level.any() for level in kept)
    levels.wipe()
    assert not any(level.any() for level in kept)


def test_buffers_serve_pictures_of_changing_size():
    levels = Levels()
    for width, height in ((480, 360), (640, 480), (101, 127), (480, 360)):
        levels.show(np.full((height, width, 3), 90, np.uint8))
        assert levels.level(2).shape == (height // 2 // 2, width // 2 // 2, 3)
        assert levels.level(2).min() == 90


@pytest.mark.parametrize("fill", [1.0, 0.6])
@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (126, 102), (150, 150), (90, 120)])
def test_a_letterbox_maps_canvas_points_back_to_the_picture(shape, fill):
    height, width = shape
    spot = (0.3 * width, 0.6 * height)
    canvas = np.full((128, 160, 3), 77, np.uint8)
    fitted = letterbox(spotted([spot], width=width, height=height, radius=0.06 * width), canvas, fill=fill)
    ys, xs = np.mgrid[0:128, 0:160]
    weight = canvas[..., 0].astype(np.float64)
    found = np.array([(xs * weight).sum(), (ys * weight).sum()]) / weight.sum()
    assert np.abs(fitted.to_picture(found) - spot).max() < 0.02 * width
    assert canvas[0, 0].max() == 0 or (fill == 1.0 and canvas[0, 0].max() < 77)


def test_a_part_of_a_picture_maps_back_to_the_whole():
    picture = spotted([(300, 200)])
    canvas = np.zeros((128, 160, 3), np.uint8)
    fitted = letterbox(picture, canvas, area=(240, 120, 160, 128))
    found = centroid(canvas, (60, 80), 30)
    assert np.abs(fitted.to_picture(found) - (300, 200)).max() < 0.5
    assert cv2.countNonZero(canvas[..., 0]) > 0
