"""How many faces the shipped pack sees in a frame: nobody and two people are said, and neither can be judged."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from edge.config import DEFAULT_PACK
from edge.session.observation import FrameInfo, Observation
from edge.session.quality import Guidance, gate, usable_face
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from simulator.person.render import Person, PersonState, render


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    pipeline = Pipeline(Pack.load(DEFAULT_PACK))
    yield pipeline
    pipeline.close()


def half(seed: int) -> np.ndarray:
    """A person in the middle of half a frame."""
    picture, _ = render(Person.from_seed(seed), PersonState(), (640, 480))
    return picture[:, 160:480]


def last_of(pipeline: Pipeline, picture: np.ndarray, frames: int = 20) -> Observation:
    """What is seen of a picture that stands before the camera for two thirds of a second."""
    pipeline.reset()
    for index in range(frames):
        seen = pipeline.process(picture.copy(), FrameInfo(index, index / 30, 640, 480))
    return seen


@pytest.mark.parametrize(("left", "right"), [(2, 5), (7, 3)])
def test_two_people_are_said_and_not_judged(pipeline: Pipeline, left: int, right: int) -> None:
    seen = last_of(pipeline, np.hstack([half(left), half(right)]))
    assert seen.face_count == 2
    assert gate(seen) is Guidance.TWO_PEOPLE
    assert usable_face(seen) is None


@pytest.mark.parametrize("seed", [2, 5])
def test_one_person_is_one(pipeline: Pipeline, seed: int) -> None:
    picture, _ = render(Person.from_seed(seed), PersonState(), (640, 480))
    seen = last_of(pipeline, picture)
    assert seen.face_count == 1
    assert usable_face(seen) is not None


@pytest.mark.parametrize("kind", ["black", "white", "noise", "stripes"])
def test_a_frame_without_a_person_is_nobody(pipeline: Pipeline, kind: str) -> None:
    picture = {
        "black": np.zeros((480, 640, 3), np.uint8),
        "white": np.full((480, 640, 3), 255, np.uint8),
        "noise": np.random.default_rng(3).integers(0, 256, (480, 640, 3), np.uint8),
        "stripes": cv2.resize(np.tile(np.uint8([[[0] * 3, [255] * 3]]), (1, 20, 1)), (640, 480)),
    }[kind]
    seen = last_of(pipeline, picture)
    assert (seen.face_count, seen.face) == (0, None)
    assert gate(seen) is Guidance.NO_FACE
