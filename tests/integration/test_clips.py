"""Our own pack on recordings of real people: the face is found, followed, and told apart."""

import csv

import cv2
import numpy as np
import pytest

from edge.config import DEFAULT_PACK
from edge.errors import CaptureError
from edge.session.comparison import compare
from edge.session.observation import FrameInfo
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline

CLIPS = ("frown", "headleft", "headshake", "headup", "lefteyewink", "mouthopen")


@pytest.fixture(scope="module")
def pack():
    return Pack.load(DEFAULT_PACK)


@pytest.fixture(scope="module")
def pipeline(pack):
    opened = Pipeline(pack)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def observed(pipeline, data_dir):
    """Every frame of every clip, as the terminal sees it."""
    seen = {}
    for clip in CLIPS:
        pipeline.reset()
        capture = cv2.VideoCapture(str(data_dir / "clips" / f"{clip}.mp4"))
        frames = []
        while (answer := capture.read())[0]:
            image = answer[1]
            k = len(frames)
            frames.append(pipeline.process(image, FrameInfo(k, k / 30, image.shape[1], image.shape[0])))
        capture.release()
        seen[clip] = frames
    return seen


def test_the_face_is_found_in_99_of_100_frames(observed):
    frames = [frame for clip in CLIPS for frame in observed[clip]]
    assert len(frames) == 955
    assert np.mean([frame.face is not None for frame in frames]) >= 0.99


def test_one_person_is_never_counted_as_two(observed):
    assert max(frame.face_count for clip in CLIPS for frame in observed[clip]) == 1


def test_a_turn_to_the_left_of_the_picture_is_followed_to_its_end(observed):
    yaws = np.array([frame.face.pose.yaw_deg for frame in observed["headleft"] if frame.face])
    assert abs(np.median(yaws[:5])) < 15
    assert yaws.min() < -30
    assert np.median(yaws[-5:]) < -25


def test_a_face_that_looks_up_is_seen_to_look_up(observed):
    pitches = np.array([frame.face.pose.pitch_deg for frame in observed["headup"] if frame.face])
    assert pitches.max() - np.median(pitches[:5]) > 12


def test_a_mouth_that_opens_is_seen_to_open(observed):
    mouths = np.array([frame.face.mouth_openness for frame in observed["mouthopen"] if frame.face])
    assert np.percentile(mouths, 95) > np.percentile(mouths, 20) + 0.3


def test_points_stay_on_the_face(observed):
    for clip in CLIPS:
        for frame in observed[clip]:
            if frame.face is None:
                continue
            x, y, width, height = frame.face.box
            middle = frame.face.points.mean(axis=0)
            assert x < middle[0] < x + width
            assert y < middle[1] < y + height


def test_people_are_told_apart_in_nine_of_ten_pairs(pipeline, data_dir):
    folder = data_dir / "faces" / "lfw-folds-1-5"
    with (folder / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::12]
    known = {}

    def template(name):
        if name not in known:
            try:
                known[name] = pipeline.central_portrait(cv2.imread(str(folder / "images" / name)))
            except CaptureError:
                known[name] = None
        return known[name]

    scores, same = [], []
    for row in rows:
        first, second = template(row["a"]), template(row["b"])
        scores.append(-1.0 if first is None or second is None else compare(first, second))
        same.append(row["same"] == "1")
    accuracy = max(np.mean((np.array(scores) >= t) == np.array(same)) for t in scores)
    assert accuracy >= 0.90
    assert sum(t is None for t in known.values()) <= 0.01 * len(known)


def test_the_packs_threshold_keeps_strangers_out(pipeline, pack, data_dir):
    """At the threshold for one false match in a hundred, not more than three in a hundred of 600 impostor pairs pass."""
    folder = data_dir / "faces" / "lfw-folds-1-5" / "images"
    files = sorted(folder.glob("*.jpg"))[::90]
    templates, names = [], []
    for file in files:
        try:
            templates.append(pipeline.central_portrait(cv2.imread(str(file))))
        except CaptureError:
            continue
        names.append(file.name.rsplit("_", 1)[0])
    scores = [compare(templates[i], templates[j]) for i in range(len(names)) for j in range(i) if names[i] != names[j]]
    assert len(scores) > 600
    assert np.mean(np.array(scores) >= pack.match_threshold(10_000)) <= 0.03
