"""Public models, described by a manifest alone, serve the same pipeline: swapping a pack needs no code."""

import csv
import re
import shutil
import tomllib

import cv2
import pytest
from pydantic import BaseModel

from edge.config import DEFAULT_PACK
from edge.session.comparison import compare
from edge.session.observation import FrameInfo
from edge.session.points import MESH_468
from edge.vision.inspection import inspect_pack
from edge.vision.pack import (
    Activation,
    BoxForm,
    Grid,
    InputSpec,
    Manifest,
    MatchThreshold,
    Meaning,
    OutputSpec,
    Pack,
    Part,
    Role,
)
from edge.vision.pipeline import Pipeline
from models.training.seal import seal
from tests.foreign_pack import write_foreign_pack

GUIDE = (DEFAULT_PACK / "PACK.md").read_text(encoding="utf-8")


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


@pytest.fixture
def guided():
    """The manifest of the guide for those who bring their own models."""
    return re.search(r"^```toml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)[1]


def test_the_manifest_of_the_guide_is_one(guided):
    manifest = Manifest.model_validate(tomllib.loads(guided))
    assert manifest.landmarks.points == MESH_468


def test_the_guide_names_every_field_and_every_value_that_is_a_word():
    roles = [Manifest.model_fields[role.value].annotation for role in Role]
    tables: list[type[BaseModel]] = [Manifest, *roles, InputSpec, OutputSpec, Part, Grid, MatchThreshold]
    names = {name for table in tables for name in table.model_fields}
    words = {value.value for kind in (Activation, BoxForm, Meaning) for value in kind}
    assert [name for name in sorted(names | words) if f"`{name}`" not in GUIDE] == []


def test_the_manifest_of_the_guide_is_sealed_and_is_the_one_that_is_tested(guided, tmp_path, data_dir):
    tested = write_foreign_pack(tmp_path / "tested", data_dir / "teachers")
    shutil.copytree(tested, tmp_path / "guided")
    (tmp_path / "guided" / "pack.toml").write_text(guided, encoding="utf-8")
    seal(tmp_path / "guided")
    assert len(inspect_pack(tmp_path / "guided")) == 5
    theirs, ours = (Pack.load(tmp_path / name).manifest for name in ("guided", "tested"))
    assert (theirs.detector, theirs.landmarks, theirs.embedder) == (ours.detector, ours.landmarks, ours.embedder)
