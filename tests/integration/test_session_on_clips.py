"""Recognisers and depth on filmed people, through the product's own models: every movement on its side, none invented."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.config import DEFAULT_PACK
from edge.session.challenge import Recogniser, Stage, advance, measure_baseline
from edge.session.decision import ChallengeKind, Reason
from edge.session.depth import turn_relief
from edge.session.observation import FrameInfo
from edge.session.pad import MIN_RELIEF
from edge.session.quality import Guidance, gate, usable_face
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from simulator.raster import Canvas, rasterise, sample

TURN_LEFT, TURN_RIGHT, BLINK, MOUTH_OPEN, LOOK_UP = list(ChallengeKind)[:5]
CLIPS = ("frown", "headleft", "headshake", "headup", "lefteyewink", "mouthopen")
REST_FRAMES = 5


def pictures(path: Path):
    film = cv2.VideoCapture(str(path))
    while True:
        there, picture = film.read()
        if not there:
            return
        yield picture


@cache
def observed(folder: Path, name: str):
    """The first five seconds of a clip as the pipeline sees them."""
    return watch(list(pictures(folder / "clips" / f"{name}.mp4"))[:150])


def watch(frames):
    pipeline = Pipeline(Pack.load(DEFAULT_PACK))
    return [
        pipeline.process(picture, FrameInfo(i, i / 30, picture.shape[1], picture.shape[0]))
        for i, picture in enumerate(frames)
    ]


def recognise(kind, seen, start=0):
    """The recogniser at its furthest: shown the first frame for a while, prompted, then shown the clip."""
    faces = [usable_face(o) for o in seen[start:]]
    base = measure_baseline(tuple(f for f in faces[:REST_FRAMES] if f is not None))
    r, track = Recogniser(kind, delay_s=0.1, timeout_s=6.0), []
    # Some clips begin with the movement.
    for i, face in enumerate([faces[REST_FRAMES]] * 15 + faces[REST_FRAMES:]):
        r = advance(r, face, i / 30, base)
        if face is not None and r.prompted:
            track.append(face.points)
        if r.finished or r.stage is Stage.RETURN:
            break
    return r, track


@pytest.mark.parametrize("name", CLIPS)
def test_a_person_is_found_and_usable_from_the_first_frames_on(data_dir, name):
    seen = observed(data_dir, name)
    assert sum(usable_face(o) is not None for o in seen) >= 0.95 * len(seen)
    # Whatever the gates would have the person change, light and place of these clips are good enough.
    complaints = {gate(o) for o in seen[:REST_FRAMES]} - {None}
    assert complaints <= {Guidance.LOOK_STRAIGHT, Guidance.EYES_HIDDEN}


def test_the_nose_that_goes_to_the_left_of_the_picture_is_the_persons_right_turn(data_dir):
    # The clip is called "head left" after the picture's left; sides are the person's own, of an unmirrored picture.
    r, track = recognise(TURN_RIGHT, observed(data_dir, "headleft"))
    assert r.stage is Stage.RETURN
    assert turn_relief(track) >= MIN_RELIEF


def test_the_same_turn_is_the_wrong_answer_to_the_other_side(data_dir):
    r, _ = recognise(TURN_LEFT, observed(data_dir, "headleft"))
    assert r.failure is Reason.CHALLENGE_WRONG_ACTION


def test_a_head_that_goes_up_is_recognised_and_has_depth(data_dir):
    r, track = recognise(LOOK_UP, observed(data_dir, "headup"))
    assert r.stage is Stage.RETURN
    assert turn_relief(track) >= MIN_RELIEF


def test_a_mouth_that_opens_is_recognised(data_dir):
    r, _ = recognise(MOUTH_OPEN, observed(data_dir, "mouthopen"), start=15)
    assert r.stage is Stage.RETURN


@pytest.mark.parametrize("kind", [TURN_LEFT, TURN_RIGHT])
@pytest.mark.parametrize("name", ["frown", "headshake", "headup", "lefteyewink", "mouthopen"])
def test_no_turn_is_seen_where_there_is_none(data_dir, name, kind):
    r, _ = recognise(kind, observed(data_dir, name))
    assert r.stage is not Stage.RETURN


@pytest.mark.parametrize("kind", [MOUTH_OPEN, LOOK_UP])
@pytest.mark.parametrize("name", ["frown", "lefteyewink"])
def test_nothing_is_seen_in_a_face_that_only_frowns_or_winks(data_dir, name, kind):
    r, _ = recognise(kind, observed(data_dir, name))
    assert r.stage is not Stage.RETURN


@pytest.mark.parametrize(("name", "still"), [("headleft", 8), ("headup", 5), ("frown", 60)])
@pytest.mark.parametrize("degrees", [40, -40])
def test_a_still_of_the_clip_that_is_turned_like_a_sheet_has_no_depth(data_dir, name, still, degrees):
    picture = list(pictures(data_dir / "clips" / f"{name}.mp4"))[still]
    face = usable_face(observed(data_dir, name)[still])
    seen = watch(sheet_that_turns(picture, face.points.mean(axis=0), float(np.ptp(face.points[:, 0])), degrees))
    track = [face.points for face in map(usable_face, seen) if face is not None]
    assert turn_relief(track) < 0.6 * MIN_RELIEF
    for kind in (TURN_LEFT, TURN_RIGHT):
        assert recognise(kind, seen)[0].stage is not Stage.RETURN


@pytest.mark.parametrize(("name", "still"), [("headleft", 8), ("headup", 5), ("frown", 60), ("lefteyewink", 5)])
@pytest.mark.parametrize("radius", [2.0, 1.0])
def test_a_still_of_the_clip_that_is_bent_like_a_face_and_turned_has_too_little_depth(data_dir, name, still, radius):
    picture = list(pictures(data_dir / "clips" / f"{name}.mp4"))[still]
    face = usable_face(observed(data_dir, name)[still])
    frames = sheet_on_a_tube(picture, face.points.mean(axis=0), float(np.ptp(face.points[:, 0])), radius)
    track = [face.points for face in map(usable_face, watch(frames)) if face is not None]
    assert turn_relief(track) < MIN_RELIEF


def sheet_on_a_tube(picture, centre, face_px, radius, degrees=35, away=6.0):
    """The picture bent about its upright axis and turned; radius and the camera's distance in face widths."""
    height, width = picture.shape[:2]
    u, v = np.meshgrid(*[np.linspace(-1.4, 1.4, 57)] * 2)
    ids = np.arange(u.size).reshape(u.shape)
    a, b, c, d = ids[:-1, :-1].ravel(), ids[:-1, 1:].ravel(), ids[1:, :-1].ravel(), ids[1:, 1:].ravel()
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]).astype(np.int32)
    uv = np.stack([centre[0] + u * face_px, centre[1] + v * face_px, np.ones_like(u)], axis=-1)
    uv = uv.reshape(-1, 3).astype(np.float32)
    x, z = radius * np.sin(u / radius), radius * (1 - np.cos(u / radius))
    shift = (np.asarray(centre) - (width / 2, height / 2)) / face_px
    for angle in np.radians(np.concatenate([np.zeros(6), np.linspace(0, degrees, 14)])):
        across, deep = x * np.cos(angle) - z * np.sin(angle), x * np.sin(angle) + z * np.cos(angle)
        place = 10 * np.stack([across + shift[0], -(v + shift[1]), -(away + deep)], axis=-1).reshape(-1, 3)
        canvas = Canvas((width, height))
        surface, _, _ = rasterise(canvas, place, triangles, uv, uv, away * face_px / height, both_sides=True)
        seen = sample(picture, surface[..., :2])
        seen[surface[..., 2] < 0.5] = 128
        yield seen


def sheet_that_turns(picture, centre, face_px, degrees, frames=24):
    """The picture as a flat print that turns about its vertical axis, seen from six face widths away."""
    away = 6.0 * face_px
    height, width = picture.shape[:2]
    to_middle = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1.0]])
    back = np.linalg.inv(to_middle)
    for angle in np.radians(np.concatenate([np.zeros(8), np.linspace(0, degrees, frames), np.full(6, degrees)])):
        turn = np.array([[np.cos(angle), 0, 0], [0, 1, 0], [-np.sin(angle) / away, 0, 1]])
        yield cv2.warpPerspective(picture, back @ turn @ to_middle, (width, height), borderMode=cv2.BORDER_REPLICATE)
