"""The order of models from frame to frame, with tiny models whose answers follow the picture's colour.

In these models a face is where red is: the detector's score and the landmark model's presence rise with it.
"""

import json

import cv2
import numpy as np
import pytest

from edge.errors import CameraError, CaptureError, CaptureFault
from edge.session.comparison import compare
from edge.session.observation import FrameInfo
from edge.session.points import MESH_468, POINT_COUNT
from edge.vision import crops
from edge.vision.detector import Detection, overlap, without_overlaps
from edge.vision.pack import Pack
from edge.vision.pipeline import DETECT_EVERY_S, UNCONFIRMED_MAX_S, Pipeline
from edge.vision.report import line_of, record_of
from tests.tiny_models import Output, build, write_pack

RED, GREY = (40, 40, 220), (60, 60, 60)
# Logit on the mean of (r, g, b): -5 for grey, strongly positive for red.
REDNESS = np.array([0.2, -0.1, -0.1]), -5.0
KEYPOINTS = np.array([(-0.6, -0.5), (0.6, -0.5), (0.0, 0.0), (-0.5, 0.6), (0.5, 0.6)])


def detector(cells=(0,)):
    """A face at each of these cells (of 3 x 2, stride 32 px), where the picture is red."""
    weights, bias = np.zeros((6, 15, 3)), np.zeros((6, 15))
    bias[:, 0] = -9
    for cell in cells:
        weights[cell, 0], bias[cell, 0] = REDNESS
        bias[cell, 1:5] = (0.45, 0.45, 0.45, 0.45)
        bias[cell, 5:] = 0.4 * KEYPOINTS.ravel()
    return build(64, 96, [Output((1, 6, 15), weights.reshape(90, 3), bias.ravel())])


def landmarks(shift=0.0):
    """A face in the middle of the crop, with the five points where the crop's rule puts them."""
    rng = np.random.default_rng(3)
    points = np.full((POINT_COUNT, 2), 0.5) + rng.normal(0, 0.02, (POINT_COUNT, 2))
    side = crops.LANDMARK_CROP_UNITS
    points[crops.RIGHT_EYE] = (0.5 - 0.5 / side, 0.5 - 0.3 / side)
    points[crops.LEFT_EYE] = (0.5 + 0.5 / side, 0.5 - 0.3 / side)
    points[crops.NOSE_TIP] = (0.5, 0.5)
    points[crops.RIGHT_MOUTH_CORNER] = (0.5 - 0.4 / side, 0.5 + 0.7 / side)
    points[crops.LEFT_MOUTH_CORNER] = (0.5 + 0.4 / side, 0.5 + 0.7 / side)
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    points[crops.OVAL] = 0.5 + np.stack([np.sin(angles) * 0.25, -np.cos(angles) * 0.3], axis=1)
    points = points + shift
    return build(
        32, 32, [Output((1, 276), bias=points.ravel()), Output((1, 1), REDNESS[0][None], np.array([REDNESS[1]]))]
    )


@pytest.fixture
def pipeline(tmp_path):
    return opened(tmp_path / "p")


def opened(folder, **replaced):
    return Pipeline(Pack.load(write_pack(folder, **({"detector": detector(), "landmarks": landmarks()} | replaced))))


def frame(colour=RED, width=96 * 4, height=64 * 4):
    return np.full((height, width, 3), colour, np.uint8)


def info(k, fps=30.0):
    return FrameInfo(k, k / fps, 96 * 4, 64 * 4)


def count_detections(pipeline, monkeypatch):
    calls = []
    real = pipeline._detector.detect
    monkeypatch.setattr(pipeline._detector, "detect", lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


def test_a_frame_with_a_face_says_all_of_it(pipeline):
    seen = pipeline.process(frame(), info(0), embed=True, bona_fide=True)
    assert seen.face_count == 1
    assert seen.face is not None
    assert seen.face.points.shape == (POINT_COUNT, 2)
    assert seen.face.template is not None
    assert np.linalg.norm(seen.face.template.vector) == pytest.approx(1, abs=1e-5)
    assert seen.face.bona_fide == pytest.approx(0.5)
    assert seen.luma == pytest.approx((0.114 * 40 + 0.587 * 40 + 0.299 * 220) / 255, abs=0.01)
    # Cell 0 of the grid has its centre at (16, 16) of the canvas, which is a quarter of the frame's size.
    x, y, width, height = seen.face.box
    assert abs(x + width / 2 - 64) < 12
    assert abs(y + height / 2 - 64) < 12


def test_what_is_not_asked_for_is_not_computed(pipeline):
    seen = pipeline.process(frame(), info(0))
    assert seen.face is not None
    assert seen.face.template is None
    assert seen.face.bona_fide is None


def test_a_frame_without_a_face_says_so(pipeline):
    seen = pipeline.process(frame(GREY), info(0), embed=True, bona_fide=True)
    assert seen.face is None
    assert seen.face_count == 0


def test_the_detector_rests_while_a_face_is_followed(pipeline, monkeypatch):
    calls = count_detections(pipeline, monkeypatch)
    for k in range(61):
        assert pipeline.process(frame(), info(k)).face is not None
    assert len(calls) == 1 + int(2.0 / DETECT_EVERY_S)


def test_the_detectors_rest_is_measured_by_time_not_by_frames(pipeline, monkeypatch):
    calls = count_detections(pipeline, monkeypatch)
    for k in range(31):
        pipeline.process(frame(), info(k, fps=15.0))
    assert len(calls) == 1 + 30 // 8  # at 15 frames a second every eighth frame is the first after half a second


def test_a_lost_face_is_looked_for_in_the_same_frame_and_found_again(pipeline, monkeypatch):
    calls = count_detections(pipeline, monkeypatch)
    pipeline.process(frame(), info(0))
    assert pipeline.process(frame(GREY), info(1)).face is None
    assert len(calls) == 2
    assert pipeline.process(frame(), info(2)).face is not None


def test_a_second_face_is_counted(tmp_path):
    pipeline = opened(tmp_path / "p", detector=detector(cells=(0, 5)))
    assert pipeline.process(frame(), info(0)).face_count == 2


def test_a_second_face_that_comes_while_one_is_followed_is_counted_within_half_a_second(tmp_path, monkeypatch):
    pipeline = opened(tmp_path / "p")
    pipeline.process(frame(), info(0))
    real = pipeline._detector.detect
    other = Detection((260.0, 150.0, 100.0, 120.0), 0.9, np.zeros((5, 2)))
    monkeypatch.setattr(pipeline._detector, "detect", lambda *a, **k: [*real(*a, **k), other])
    counts = [pipeline.process(frame(), info(k)).face_count for k in range(1, 17)]
    assert counts[0] == 1
    assert counts[-1] == 2


def test_points_that_drift_out_of_the_frame_are_not_followed(tmp_path):
    pipeline = opened(tmp_path / "p", landmarks=landmarks(shift=0.05))
    faces = [pipeline.process(frame(), info(k)).face for k in range(60)]
    for face in faces:
        assert face is None or face.box[0] < 96 * 4
    assert faces[-1] is not None, "the detector finds the face again"


def test_a_face_that_the_detector_no_longer_sees_is_followed_for_the_time_of_a_turn_only(pipeline, monkeypatch):
    pipeline.process(frame(), info(0))
    monkeypatch.setattr(pipeline._detector, "detect", lambda *a, **k: [])
    seen = [pipeline.process(frame(), info(k)).face is not None for k in range(1, 150)]
    assert all(seen[: int(30 * UNCONFIRMED_MAX_S)])
    assert not any(seen[int(30 * (UNCONFIRMED_MAX_S + 2 * DETECT_EVERY_S)) :])


def test_time_that_goes_back_begins_a_new_search(pipeline, monkeypatch):
    pipeline.process(frame(), info(50))
    calls = count_detections(pipeline, monkeypatch)
    pipeline.process(frame(), info(0))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((480, 640), np.uint8),
        np.zeros((480, 640, 4), np.uint8),
        np.zeros((480, 640, 3), np.float32),
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
    ],
)
def test_a_frame_of_the_wrong_shape_is_a_fault_of_the_camera(pipeline, image):
    with pytest.raises(CameraError):
        pipeline.process(image, info(0))


def test_close_overwrites_every_buffer_that_saw_the_face(pipeline):
    pipeline.process(frame(), info(0), embed=True, bona_fide=True)
    held = [pipeline._levels.level(k) for k in (1, 2)] + [pipeline._detector._canvas]
    assert all(buffer.any() for buffer in held)
    pipeline.close()
    assert not any(buffer.any() for buffer in held)
    assert pipeline._track is None


def test_templates_of_the_same_picture_agree_and_carry_their_model(pipeline):
    first, second = pipeline.portrait(frame()), pipeline.portrait(frame())
    assert compare(first, second) == pytest.approx(1, abs=1e-5)
    assert first.model == second.model != ""


@pytest.mark.parametrize("shape", [(126, 102), (150, 150), (480, 640), (1200, 900)])
def test_portraits_of_any_size_give_a_template(pipeline, shape):
    picture = np.full((*shape, 3), RED, np.uint8)
    assert pipeline.portrait(picture).vector.shape == (8,)


def fault_of(pipeline, image):
    with pytest.raises(CaptureError) as caught:
        pipeline.portrait(image)
    assert caught.value.todo
    return caught.value.fault


def test_each_fault_of_a_portrait_has_its_name(tmp_path, pipeline):
    assert fault_of(pipeline, frame(GREY)) is CaptureFault.NO_FACE
    assert fault_of(pipeline, frame(GREY)[..., 0]) is CaptureFault.NO_FACE  # grey pictures are read too
    assert fault_of(pipeline, np.zeros((20, 20, 3), np.uint8)) is CaptureFault.TOO_SMALL
    assert fault_of(pipeline, frame(width=48, height=34)) is CaptureFault.TOO_SMALL
    assert fault_of(pipeline, np.zeros((90, 90, 2), np.uint8)) is CaptureFault.UNREADABLE
    assert fault_of(pipeline, np.zeros((90, 90, 3), np.float32)) is CaptureFault.UNREADABLE
    two = opened(tmp_path / "two", detector=detector(cells=(0, 5)))
    assert fault_of(two, frame()) is CaptureFault.SEVERAL_FACES


def test_a_record_has_exactly_the_stable_keys_with_and_without_a_face(pipeline):
    keys = {
        *("t_s", "face", "box", "yaw_deg", "pitch_deg", "roll_deg", "eye_openness", "mouth_openness"),
        *("quality", "bona_fide"),
    }
    with_face = record_of(pipeline.process(frame(), info(0), bona_fide=True))
    without = record_of(pipeline.process(frame(GREY), info(1), bona_fide=True))
    for record in (with_face, without):
        assert set(json.loads(json.dumps(record))) == keys
    assert with_face["face"] is True
    assert without["face"] is False
    assert without["bona_fide"] is None
    assert line_of(pipeline.process(frame(GREY), info(2))).endswith("no face")


def test_overlapping_detections_leave_the_better_one():
    def at(x, score, width=50.0):
        return Detection((x, 0.0, width, 50.0), score, np.zeros((5, 2)))

    kept = without_overlaps([at(0, 0.6), at(5, 0.9), at(200, 0.7), at(202, 0.65, 20.0)], 0.4)
    assert [d.score for d in kept] == [0.9, 0.7]
    assert overlap((0, 0, 10, 10), (20, 20, 5, 5)) == 0
    assert overlap((0, 0, 10, 10), (2, 2, 4, 4)) == 1


def test_the_mesh_has_an_index_for_every_point():
    assert len(MESH_468) == len(set(MESH_468)) == POINT_COUNT


def test_quality_says_dark_bright_sharp_and_side_lit(pipeline):
    plain = pipeline.process(frame(), info(0)).face
    assert plain is not None
    dark = pipeline.process((frame() * 0.75).astype(np.uint8), info(1)).face
    assert dark is not None
    assert dark.quality.brightness < plain.quality.brightness
    half = frame()
    half[:, :64] = (0, 0, 160)
    side = pipeline.process(half, info(2)).face
    assert side is not None
    assert side.quality.side_light > plain.quality.side_light + 0.02
    noisy = cv2.add(frame(), np.random.default_rng(1).integers(0, 30, frame().shape, np.uint8))
    rough = pipeline.process(noisy, info(3)).face
    assert rough is not None
    assert rough.quality.sharpness > plain.quality.sharpness + 1
