"""Do independent models take our people for people? Measures that with public teachers; draws nobody differently."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError
from edge.vision.crops import embedding_crop
from simulator.person.render import Image, Person, PersonState, Truth, render
from simulator.room import draw_light, draw_room

Array = NDArray[Any]

# Six views of everybody: the poses that a session asks for, eyes and mouth.
VIEWS = (
    PersonState(),
    PersonState(yaw_deg=22),
    PersonState(yaw_deg=-22, pitch_deg=6),
    PersonState(yaw_deg=38, pitch_deg=-6),
    PersonState(pitch_deg=22, mouth=0.2),
    PersonState(yaw_deg=-12, pitch_deg=-16, roll_deg=8, distance_cm=66.0),
)


@dataclass(frozen=True, slots=True)
class Realism:
    """What the teachers said. Shares 0..1; distances in shares of the distance between the eyes; cosines -1..1."""

    persons: int
    pictures: int
    found: float  # by YuNet, score 0.6 or more
    recognised: float  # by the 468-point model: presence over 0.5
    keypoint_error: float  # median over eyes and mouth corners, 468-point model against the truth
    eyes_open: float  # iris model: median openness (height over width), eyes open
    eyes_shut: float  # the same, eyes shut
    eyes_told_apart: float  # share of persons whose shut eyes are seen less open than 0.7 of their open ones
    mouth_told_apart: float  # share of persons whose open mouth is seen at least 0.12 of its width more open
    genuine: tuple[float, float, float]  # 5th, 50th, 95th percentile of the embedding's cosine, same person
    impostor: tuple[float, float, float]
    equal_error_rate: float


def measure(persons: int, teachers: Path, first_seed: int = 50_000) -> Realism:
    """Draw `persons` people in six views each, in rooms and lights of their own, and ask the teachers."""
    judge = _Judge(teachers)
    found: list[bool] = []
    recognised: list[bool] = []
    errors: list[float] = []
    vectors: list[Array] = []
    owners: list[int] = []
    lids: list[tuple[float, float]] = []
    mouths: list[float] = []
    for seed in range(first_seed, first_seed + persons):
        person = Person.from_seed(seed)
        for view, state in enumerate(VIEWS):
            at = seed * 7 + view
            picture, truth = render(person, state, background=draw_room(at), light=draw_light(at))
            keypoints = judge.find(picture)
            found.append(keypoints is not None)
            if keypoints is None:
                recognised.append(False)
                continue
            mesh, presence = judge.mesh(picture, truth)
            recognised.append(presence > 0.5)
            errors.append(_keypoint_error(mesh, truth))
            vectors.append(judge.embed(picture, keypoints))
            owners.append(seed)
        shut, shut_truth = render(person, PersonState(eye_right=0, eye_left=0), light=draw_light(seed))
        wide, wide_truth = render(person, PersonState(), light=draw_light(seed))
        gape, gape_truth = render(person, PersonState(mouth=0.9), light=draw_light(seed))
        lids.append((judge.eye_openness(wide, wide_truth), judge.eye_openness(shut, shut_truth)))
        mouths.append(judge.mouth_openness(gape, gape_truth) - judge.mouth_openness(wide, wide_truth))
    genuine, impostor = _scores(np.array(vectors), np.array(owners))
    openness = np.array(lids)
    return Realism(
        persons=persons,
        pictures=len(found),
        found=float(np.mean(found)),
        recognised=float(np.mean(recognised)),
        keypoint_error=float(np.median(errors)),
        eyes_open=float(np.median(openness[:, 0])),
        eyes_shut=float(np.median(openness[:, 1])),
        eyes_told_apart=float(np.mean(openness[:, 1] < 0.7 * openness[:, 0])),
        mouth_told_apart=float(np.mean(np.array(mouths) > 0.12)),
        genuine=_percentiles(genuine),
        impostor=_percentiles(impostor),
        equal_error_rate=_equal_error_rate(genuine, impostor),
    )


class _Judge:
    """The public models, loaded once."""

    def __init__(self, teachers: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  only this command needs it

        names = (
            "yunet_n_320_320.onnx",
            "mp_face_landmark.tflite",
            "mp_iris_landmark.tflite",
            "mobilefacenet_fp16.tflite",
        )
        paths = [teachers / name for name in names]
        missing = [str(p) for p in paths if not p.is_file()]
        if missing:
            raise ConfigError(
                f"teacher models are not there: {', '.join(missing)}", todo="name their folder with --teachers"
            )
        self._detector = cv2.FaceDetectorYN.create(str(paths[0]), "", (640, 480), 0.6, 0.3, 20)
        self._models = [Interpreter(str(p), num_threads=1) for p in paths[1:]]
        for model in self._models:
            model.allocate_tensors()

    def find(self, picture: Image) -> Array | None:
        """YuNet's five keypoints [5, 2] of its best face, or None."""
        faces: Array | None = self._detector.detect(picture)[1]
        if faces is None or not len(faces):
            return None
        best = faces[int(np.argmax(faces[:, -1]))]
        return np.asarray(best[4:14], np.float64).reshape(5, 2)

    def mesh(self, picture: Image, truth: Truth) -> tuple[Array, float]:
        """468 points [468, 2] in picture pixels and the presence, on a square 1.5 times the face."""
        left, top, right, bottom = truth.box
        centre, side = np.array([(left + right) / 2, (top + bottom) / 2]), 1.5 * max(right - left, bottom - top)
        points, _ = self._mesh_on(picture, centre, side)
        low, high = points.min(axis=0), points.max(axis=0)
        return self._mesh_on(picture, (low + high) / 2, 1.5 * float((high - low).max()))

    def _mesh_on(self, picture: Image, centre: Array, side: float) -> tuple[Array, float]:
        scale = 192 / side
        matrix = np.array([[scale, 0, 96 - scale * centre[0]], [0, scale, 96 - scale * centre[1]]])
        outputs = self._run(0, picture, matrix, 192, unit=True)
        points = next(o for o in outputs if o.size == 1404).reshape(468, 3)[:, :2]
        flag = float(next(o for o in outputs if o.size == 1).ravel()[0])
        return (points - matrix[:, 2]) / scale, 1 / (1 + float(np.exp(-flag)))

    def eye_openness(self, picture: Image, truth: Truth) -> float:
        """Mean height over width of both eyes, as the iris model outlines them."""
        values = []
        for start, mirrored in ((0, False), (16, True)):
            corners = truth.landmarks[[start, start + 8]]
            centre, width = corners.mean(axis=0), float(np.hypot(*(corners[1] - corners[0])))
            scale = 64 / (2.3 * width)
            matrix = np.array([[scale, 0, 32 - scale * centre[0]], [0, scale, 32 - scale * centre[1]]])
            if mirrored:
                matrix[0] = [-scale, 0, 32 + scale * centre[0]]
            outline = next(o for o in self._run(1, picture, matrix, 64, unit=True) if o.size == 213).reshape(71, 3)
            low, high = outline[1:8, :2], outline[9:16, :2]  # the lower lid, then the upper, corners apart
            values.append(float(np.mean(np.hypot(*(high - low).T)) / np.hypot(*(outline[0, :2] - outline[8, :2]))))
        return float(np.mean(values))

    def mouth_openness(self, picture: Image, truth: Truth) -> float:
        points, _ = self.mesh(picture, truth)
        return float(np.hypot(*(points[13] - points[14])) / np.hypot(*(points[78] - points[308])))

    def embed(self, picture: Image, keypoints: Array) -> Array:
        crop = embedding_crop(keypoints)
        outputs = self._run(2, picture, crop.matrix, 112, unit=False)
        vector = outputs[0].ravel()
        return vector / np.linalg.norm(vector)

    def _run(self, index: int, picture: Image, matrix: Array, size: int, *, unit: bool) -> list[Array]:
        crop = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        value = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).astype(np.float32) / 255
        if not unit:  # the embedding's: ImageNet mean and spread
            value = (value - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        model = self._models[index]
        model.set_tensor(model.get_input_details()[0]["index"], value[None].astype(np.float32))
        model.invoke()
        return [model.get_tensor(d["index"]) for d in model.get_output_details()]


def _keypoint_error(mesh: Array, truth: Truth) -> float:
    seen = np.stack([mesh[[33, 133]].mean(axis=0), mesh[[263, 362]].mean(axis=0), mesh[61], mesh[291]])
    known = truth.keypoints[[0, 1, 3, 4]]
    unit = max(float(np.hypot(*(truth.keypoints[1] - truth.keypoints[0]))), 1.0)
    return float(np.mean(np.hypot(*(seen - known).T)) / unit)


def _scores(vectors: Array, owners: Array) -> tuple[Array, Array]:
    cosine = vectors @ vectors.T
    upper = np.triu_indices(len(vectors), 1)
    same = (owners[:, None] == owners[None])[upper]
    return cosine[upper][same], cosine[upper][~same]


def _equal_error_rate(genuine: Array, impostor: Array) -> float:
    thresholds = np.linspace(-1, 1, 4001)
    missed = np.searchsorted(np.sort(genuine), thresholds) / max(len(genuine), 1)
    passed = 1 - np.searchsorted(np.sort(impostor), thresholds) / max(len(impostor), 1)
    at = int(np.argmin(np.abs(missed - passed)))
    return float((missed[at] + passed[at]) / 2)


def _percentiles(values: Array) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return float(low), float(middle), float(high)
