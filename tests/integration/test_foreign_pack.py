"""Public models, described by a manifest alone, serve the same pipeline: swapping a pack needs no code."""

import csv

import cv2
import pytest

from edge.session.comparison import compare
from edge.session.observation import FrameInfo
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from tests.foreign_pack import write_foreign_pack


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, data_dir):
    return Pipeline(Pack.load(write_foreign_pack(tmp_path_factory.mktemp("pack"), data_dir / "teachers")))


def test_a_foreign_detector_and_mesh_follow_a_turn(foreign, data_dir):
    foreign.reset()
    capture = cv2.VideoCapture(str(data_dir / "clips" / "headleft.mp4"))
    yaws = []
    for k in range(90):
        _, image = capture.read()
        face = foreign.process(image, FrameInfo(k, k / 30, image.shape[1], image.shape[0])).face
        yaws.append(None if face is None else face.pose.yaw_deg)
    capture.release()
    assert None not in yaws
    assert abs(yaws[0]) < 15
    assert min(yaws) < -35


def test_a_foreign_embedder_tells_people_apart(foreign, data_dir):
    folder = data_dir / "faces" / "lfw-folds-1-5"
    with (folder / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::60]
    right = 0
    for row in rows:
        first, second = (foreign.central_portrait(cv2.imread(str(folder / "images" / row[k]))) for k in ("a", "b"))
        right += (compare(first, second) > 0.28) == (row["same"] == "1")
    assert right / len(rows) >= 0.94
