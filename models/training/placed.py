"""The detector's fixed check: LFW faces placed in frames, and frames without a face; nothing is trained here.

`python -m models.training.placed PACK_DIR --pool .runs/pool` runs the product's own detector, from its letterbox to
its score threshold. LFW is looked at and never learned from; the rooms are those that training keeps out.

A face is found where a box overlaps the teacher's (intersection over union above 0.5). A turned face is the picture on
the teacher's mesh, seen from another side: no photograph, but the only way to 45 degrees here. Pictures are chosen that
show the head within FURTHER_DEG of where it is turned to (mirrored where they look to the other side): what a picture
never saw can only be smeared, and a smear is no face.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.session.observation import FrameInfo
from edge.vision import crops
from edge.vision.detector import Detector
from edge.vision.pack import Pack, Role
from edge.vision.pipeline import Pipeline
from edge.vision.runtime import Model
from models.training import scenes

WIDTH, HEIGHT = 640, 480
NARROWEST_PX, WIDEST_PX = 90, 420
TURNED_DEG = 45.0
FURTHER_DEG = 25.0
LOWEST = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", type=Path, help="folder of a sealed pack")
    parser.add_argument("--pool", type=Path, default=Path(".runs/pool"))
    parser.add_argument("--faces", type=int, default=1000)
    parser.add_argument("--empty", type=int, default=1000)
    parser.add_argument("--detector", type=Path, help="this .tflite instead of the pack's")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    pack = Pack.load(given.pack)
    spec = pack.manifest.detector
    content = given.detector.read_bytes() if given.detector else pack.contents[Role.DETECTOR]
    # What a higher threshold would say can be read off the scores: a box only ever yields to one of a higher score.
    detector = Detector(spec.model_copy(update={"score_min": LOWEST}), Model(spec, content))
    least, faces = spec.score_min, LfwFaces(given.pool)
    print(f"frames of {WIDTH} x {HEIGHT}, score at least {least:g}")
    tables = []
    for name, turned in (("as they are", 0.0), (f"yaw to {TURNED_DEG:g}", TURNED_DEG)):
        rows = np.array([recall_row(detector, *frame) for frame in faces.frames(given.faces, turned)])
        tables.append(rows)
        good = rows[:, 1] >= least
        print(f"faces {name}: recall {_share(good)}; keypoints {100 * np.nanmean(rows[good, 3]):.1f} % of width off")
        column, edges = (2, (0, 15, 30, 46)) if turned else (0, (90, 130, 200, 300, 421))
        for low, high in itertools.pairwise(edges):
            part = good[(rows[:, column] >= low) & (rows[:, column] < high)]
            print(f"  {'yaw' if turned else 'width'} {low} to {high}: {_share(part)}")
    alarms = [np.array([found.score for found in detector.detect(frame)]) for frame in empty_frames(given.empty)]
    many = np.array([np.count_nonzero(scores >= least) for scores in alarms])
    print(f"frames without a face: {int(many.sum())} false alarms, in {int((many > 0).sum())} of {len(many)}")
    if not given.detector:
        told = whole_pipeline(pack, empty_frames(given.empty))
        print(f"  the terminal, which asks the landmark model too: a face in {sum(told)} of {len(told)}")
    for score in np.arange(LOWEST, 0.85, 0.05):
        recalls = ", ".join(f"{100 * np.mean(rows[:, 1] >= score):.2f} %" for rows in tables)
        wrong = sum(int(np.count_nonzero(scores >= score)) for scores in alarms)
        print(f"  score {score:.2f}: recall {recalls}; {wrong} false alarms")


def whole_pipeline(pack: Pack, frames: Iterator[NDArray[np.uint8]]) -> list[bool]:
    """Whether the product's pipeline sees a face in each frame, looked at as the first of a session."""
    pipeline, seen = Pipeline(pack), []
    for index, frame in enumerate(frames):
        pipeline.reset()
        seen.append(pipeline.process(frame, FrameInfo(index, 0.0, WIDTH, HEIGHT)).face is not None)
    pipeline.close()
    return seen


def recall_row(
    detector: Detector, frame: NDArray[np.uint8], landmarks: NDArray[np.float64], yaw_deg: float
) -> tuple[float, float, float, float]:
    """Width of the face, px; the score of its box, 0 without one; absolute yaw; keypoint error over the width."""
    box = crops.box_from_landmarks(landmarks)
    width = float(box[2] - box[0])
    for found in sorted(detector.detect(frame), key=lambda detection: -detection.score):
        x, y, w, h = found.box
        inner = np.clip(np.minimum(box[2:], [x + w, y + h]) - np.maximum(box[:2], [x, y]), 0, None).prod()
        if inner / (w * h + (box[2:] - box[:2]).prod() - inner) > 0.5:
            off = np.linalg.norm(found.keypoints - crops.keypoints_from_landmarks(landmarks), axis=1).mean()
            return width, found.score, abs(yaw_deg), float(off) / width
    return width, 0.0, abs(yaw_deg), float("nan")


class LfwFaces:
    """LFW's faces with the teacher's mesh, placed into frames."""

    def __init__(self, pool: Path) -> None:
        self._files = sorted((scenes.data_dir() / "faces/lfw-folds-1-5/images").glob("*.jpg"))
        if not self._files:
            raise FileNotFoundError("faces/lfw-folds-1-5: name the folder that holds it by VOUCH_DATA")
        self._teacher = scenes.Teacher()
        self._turner = scenes.HeadTurner(scenes.load_pool(pool))
        self._rooms = scenes.load_rooms(held_out=True)

    def frames(self, count: int, turned_deg: float) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64], float]]:
        """Frame BGR, landmarks [138, 2] px, yaw. The same `count` frames at every call."""
        rng = np.random.default_rng([41, int(turned_deg)])
        order = itertools.cycle(rng.permutation(len(self._files)))
        for _ in range(count):
            aim = np.radians(rng.uniform(-turned_deg, turned_deg)) if turned_deg else None
            picture, image, mesh = self._face(order, aim)
            yaw, grown = float(np.arctan(scenes.mesh_yaw(mesh))), picture.shape[0] / scenes.FACE_PX
            if aim is not None:
                picture, mesh = self._turner.turn(image, mesh, yaw - aim, 0.0)
                yaw, grown = float(aim), 1.0
            landmarks = ((mesh[scenes.LANDMARKS, :2] + 0.5) * grown - 0.5).astype(np.float64)
            width = float(np.exp(rng.uniform(np.log(NARROWEST_PX), np.log(WIDEST_PX))))
            yield (*self._placed(rng, picture, landmarks, width), float(np.degrees(yaw)))

    def _face(self, order: Iterator[int], aim: float | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray]:
        """The next picture, it at FACE_PX, and its mesh there; one whose head is near `aim` (radians)."""
        for index in order:
            picture = scenes.read_rgb(self._files[index])
            image = cv2.resize(picture, (scenes.FACE_PX, scenes.FACE_PX), interpolation=cv2.INTER_AREA)
            mesh, face = self._teacher.refine(image, np.array([64.0, 66.0]), 105.0)
            if aim is not None and scenes.mesh_yaw(mesh) * aim < 0:
                picture, image = picture[:, ::-1], np.ascontiguousarray(image[:, ::-1])
                mesh, face = self._teacher.refine(image, np.array([63.0, 66.0]), 105.0)
            near = aim is None or abs(np.arctan(scenes.mesh_yaw(mesh)) - aim) < np.radians(FURTHER_DEG)
            if face >= 0.9 and near:
                break
        return picture, image, mesh

    def _placed(
        self, rng: np.random.Generator, picture: NDArray, landmarks: NDArray, width: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The picture scaled so that the face is `width` px wide, soft at its edges, somewhere in a room."""
        box = crops.box_from_landmarks(landmarks)
        scale = width / float(box[2] - box[0])
        half = scale * (box[2:] - box[:2]) / 2
        room = np.array([WIDTH, HEIGHT]) - 2 * half
        centre = half + np.maximum(room, 0) * rng.uniform(0, 1, 2) + np.minimum(room, 0) / 2
        matrix = np.column_stack([np.eye(2) * scale, centre - scale * (box[:2] + box[2:]) / 2])
        scene = _room(rng, self._rooms).astype(np.float32)
        mask = np.zeros(picture.shape[:2], np.float32)
        edge = max(3, picture.shape[0] // 14)
        mask[edge:-edge, edge:-edge] = 1
        mask = cv2.blur(mask, (2 * edge - 1, 2 * edge - 1))
        way = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_CONSTANT}
        alpha = cv2.warpAffine(mask, matrix, (WIDTH, HEIGHT), **way)[..., None]
        layer = cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR).astype(np.float32)
        frame = (scene + alpha * (layer - scene)).astype(np.uint8)
        return np.ascontiguousarray(frame[..., ::-1]), landmarks @ matrix[:, :2].T + matrix[:, 2]


def empty_frames(count: int) -> Iterator[NDArray[np.uint8]]:
    """Cuts of the held-out rooms as frames, BGR; the same at every call."""
    rng, rooms = np.random.default_rng(43), scenes.load_rooms(held_out=True)
    for k in range(count):
        yield np.ascontiguousarray(_room(rng, rooms[k % len(rooms)][None])[..., ::-1])


def _room(rng: np.random.Generator, rooms: list[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    room = rooms[int(rng.integers(len(rooms)))]
    height, width = room.shape[:2]
    high = int(height * rng.uniform(0.45, 1.0))
    wide = min(width, round(high * WIDTH / HEIGHT))
    y, x = int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1))
    cut = room[y : y + high, x : x + wide]
    cut = cut[:, ::-1] if rng.random() < 0.5 else cut
    return cv2.resize(cut, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def _share(hits: NDArray) -> str:
    return f"{100 * hits.mean():.2f} % ({int(hits.sum())} of {len(hits)})" if len(hits) else "none"


if __name__ == "__main__":
    main()
