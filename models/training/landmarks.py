"""The 138-point landmark model: how it is trained; labels and pictures come from scenes, int8 from export.

`python -m models.training.landmarks --out DIR --minutes M` trains (and resumes); landmarks_check measures a file.

Input: RGB 0..255, [1, 128, 128, 3], cut by `edge.vision.crops.landmark_crop`. Outputs: `points` [1, 276], x and y of
138 points in 0..1 of the crop; `presence` [1, 1], logit of a face being there and centred; `openness` [1, 3]: subject's
right eye, left eye, mouth. Openness is 0 closed and 1 at the population's median open eye (mouth: at a gap of half the
mouth's width); eyes are measured against the eye's width in three dimensions, so that a turned head does not wink.
"""

from __future__ import annotations

import argparse
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edge.vision import crops
from edge.vision.detector import Detector
from edge.vision.pack import Pack, Role
from edge.vision.runtime import Model
from models.training import scenes, warm
from models.training.detector import Residual, conv
from models.training.run import Run, half, pixels

SIZE = crops.LANDMARK_CROP_PX
BATCH = 48
FRESH = 4  # of a batch are turned, lidded or pasted for it,
AGAIN = 16  # and so many were made before, are cut and lit anew (making one costs as much as learning from it)
DRAWN = 6  # on top, where drawn people are there
LURED = 3  # on top: things in empty rooms that the pack's detector takes for a face, or nearly
LURE_PX, LURE_FROM = 192, 0.15  # side of the cut that is kept of one; from which of the detector's scores on
KEPT = 9000
PROFILES_AS_OFTEN = 8  # faces turned by more than 27 degrees: each counts as so many
RATE, RATE_ON = 1e-3, 6e-4  # peak learning rate, from random numbers and where a shipped network goes on
# From this share of the run on, the first layers rest: they are a third of the work and have learned their edges.
STILL_FROM = 0.4
BELOW = 7  # layers before what `train_upper` trains: down to 8 x 8
UPPER_BATCH = 64
UPPER = np.array([1, 2, 3, 4, 5, 6, 7])
LOWER = np.array([15, 14, 13, 12, 11, 10, 9])
# The iris teacher's gap over width: 0.02 to 0.11 where eyes are shut, 0.19 at the pool's median.
CLOSED_RATIO, OPEN_RATIO = 0.06, 0.19
MOUTH_RATIO = 0.5
# Tensor names of the last layer and of what follows it: they stay in float, so that coordinates are not coarse.
FLOAT_OPS = ("Linear_out", "Linear_state", "serving_default_output")


class Landmarks(nn.Module):
    """Dense convolutions to 4 x 4, then the whole face at once; the last layer stays in float."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(3, 16, 2), conv(16, 32, 2), Residual(32), conv(32, 64, 2), Residual(64), Residual(64),
            conv(64, 96, 2), Residual(96), Residual(96), conv(96, 96, 2), Residual(96), conv(96, 64, 1, 1),
        )  # fmt: skip
        self.whole = nn.Sequential(nn.Conv2d(64, 112, 4, bias=False), nn.BatchNorm2d(112), nn.ReLU())
        self.out = nn.Linear(112, 276)
        self.state = nn.Linear(112, 1 + 3)

    def forward(self, x):
        """Normalised pixels [B, 3, 128, 128] (x / 127.5 - 1) -> points [B, 276], presence [B, 1], openness [B, 3]."""
        return self._said(self.whole(self.body(x)).flatten(1))

    def in_bfloat16(self, x):
        """The same, convolutions in bfloat16 (training); coordinates need float32."""
        with half():
            y = self.whole(self.body(x)).flatten(1)
        return self._said(y.float())

    def _said(self, y):
        state = self.state(y)
        return self.out(y), state[:, :1], state[:, 1:]


def eye_ratio(contour: np.ndarray, width: float) -> float:
    """Mean gap between the lids over the eye's width, from the 16 points of one eye."""
    return float(np.linalg.norm(contour[UPPER] - contour[LOWER], axis=1).mean() / max(width, 1e-3))


def close_eye(image: np.ndarray, contour: np.ndarray, amount: float) -> np.ndarray:
    """Draw the upper lid down over one eye by `amount` 0..1 (in place); returns the new contour [16, 2].

    The skin between brow and lid is stretched, lash line included; what stays visible of the eye is not moved.
    """
    right, left = (contour[0], contour[8]) if contour[0][0] < contour[8][0] else (contour[8], contour[0])
    across = left - right
    width = float(np.hypot(*across))
    if width < 5:
        return contour
    matrix = scenes.square_to((right + left) / 2, 2 * width, float(np.arctan2(across[1], across[0])), 64)
    matrix[1, 2] -= 8
    patch = cv2.warpAffine(image, matrix, (64, 48), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    local = contour @ matrix[:, :2].T + matrix[:, 2]
    order = np.argsort(local[[0, *UPPER, 8], 0])
    lid = local[[0, *UPPER, 8]][order]
    floor = local[[0, *LOWER, 8]][np.argsort(local[[0, *LOWER, 8], 0])]
    columns = np.arange(64)
    upper = np.interp(columns, lid[:, 0], lid[:, 1])
    lower = np.maximum(np.interp(columns, floor[:, 0], floor[:, 1]), upper)
    gap = lower - upper
    rise = 0.12 * amount * gap
    lowered = upper + amount * (gap - rise)
    top = upper - 13
    rows = np.arange(48)[:, None]
    lash = 1.2 * np.minimum(gap / 4, 1)
    inside = top + (rows - top) * (upper + lash - top) / np.maximum(lowered - top, 1)
    below = lower + 6
    under = np.clip((rows - (lowered + 0.0)) / np.maximum(below - lowered, 1), 0, 1)
    pushed = rows + rise * (1 - under) * (rows >= lower - rise)
    source = np.where(rows < top, rows, np.where(rows < lowered, inside, np.where(rows < below, pushed, rows)))
    x_map = np.repeat(columns[None].astype(np.float32), 48, axis=0)
    closed = cv2.remap(patch, x_map, source.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros((48, 64), np.float32)
    mask[4:-4, 4:-4] = 1
    mask = cv2.blur(mask, (5, 5))
    size = (image.shape[1], image.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    alpha = cv2.warpAffine(mask, matrix, size, flags=flags)[..., None]
    layer = cv2.warpAffine(closed, matrix, size, flags=flags)
    image[:] = (image + alpha * (layer.astype(np.float32) - image)).astype(np.uint8)
    moved = local.copy()
    gaps = local[LOWER] - local[UPPER]
    moved[UPPER] = local[UPPER] + amount * 0.88 * gaps + amount * (1 - amount) * 0.0
    moved[LOWER] = local[LOWER] - 0.12 * amount * gaps
    inverse = cv2.invertAffineTransform(matrix)
    return moved @ inverse[:, :2].T + inverse[:, 2]


def openness_of(mesh: np.ndarray) -> np.ndarray:
    points = mesh[scenes.LANDMARKS]
    right = eye_ratio(points[:16, :2], float(np.linalg.norm(mesh[33] - mesh[133])))
    left = eye_ratio(points[16:32, :2], float(np.linalg.norm(mesh[263] - mesh[362])))
    return np.array([scaled_eye(right), scaled_eye(left), mouth_opening(points)])


def mouth_opening(points: np.ndarray) -> float:
    """Gap between the inner lips over the mouth's width, scaled so that half a width is 1, from the 138 points."""
    inner = points[74:94, :2]
    gap = np.linalg.norm(inner[[3, 4, 5, 6, 7]] - inner[[17, 16, 15, 14, 13]], axis=1).mean()
    width = float(np.linalg.norm(points[54] - points[64]))
    return float(np.clip(gap / max(width, 1e-6) / MOUTH_RATIO, 0, 1.5))


def scaled_eye(ratio: float) -> float:
    """Openness from gap over width: 0 where the teacher sees shut eyes, 1 at the population's median."""
    return float(np.clip((ratio - CLOSED_RATIO) / (OPEN_RATIO - CLOSED_RATIO), 0, 1.4))


def _lids(
    rng: np.random.Generator, image: np.ndarray, mesh: np.ndarray, openness: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    both = rng.choice([0.5, 1.0, 1.0, 1.0]) * np.array([1.0, 1.0]) * (rng.random() if rng.random() < 0.35 else 1.0)
    amounts = both if rng.random() < 0.6 else both * rng.permutation([1.0, 0.0])
    for side, amount in enumerate(amounts):
        if amount > 0.02 and openness[side] > 0.35:
            own = scenes.LANDMARKS[16 * side : 16 * side + 16]
            mesh[own, :2] = close_eye(image, mesh[own, :2], float(amount))
    return image, openness_of(mesh)


def _jittered(rng: np.random.Generator, keypoints: np.ndarray, *, plain: bool) -> tuple[crops.Crop, float]:
    """The crop rule with the errors that a detector and a moving head make; presence 0 where the face is lost."""
    exact = crops.landmark_crop(keypoints)
    side = SIZE / exact.scale
    shift, scale, roll = rng.normal(0, 0.035, 2), np.exp(rng.normal(0, 0.07)), rng.normal(0, 0.08)
    presence = 1.0
    if not plain:
        shift, scale, roll = (
            rng.uniform(-0.11, 0.11, 2),
            np.exp(rng.uniform(-0.2, 0.2)),
            np.clip(rng.normal(0, 0.13), -0.4, 0.4),
        )
        if rng.random() < 0.08:
            presence = 0.0
            angle = rng.uniform(0, 2 * np.pi)
            if rng.random() < 0.7:
                shift = rng.uniform(0.4, 0.8) * np.array([np.cos(angle), np.sin(angle)])
            else:
                scale = rng.choice([0.35, 2.6]) * rng.uniform(0.8, 1.2)
    upright = np.arctan2(exact.matrix[0, 1], exact.matrix[0, 0]) + roll
    centre = exact.to_picture(np.array([[SIZE / 2, SIZE / 2]]))[0] + shift * side
    return crops.Crop(scenes.square_to(centre, side * scale, upright, SIZE), SIZE), presence


def loss_of(outputs, points, presence, openness):
    """Mean distance of points and of the lids' gaps in units of the distance between the eyes; openness; presence."""
    guess = outputs[0].view(-1, 138, 2)
    weight = torch.ones(138)
    weight[:32] = 1.6
    real = presence[:, None]
    count = real.sum().clamp(min=1)
    unit = _units(points)
    place = ((_length(guess - points) * weight / unit).mean(1, keepdim=True) * real).sum() / count
    upper, lower = torch.from_numpy(np.r_[UPPER, UPPER + 16]), torch.from_numpy(np.r_[LOWER, LOWER + 16])
    gaps = _length((guess[:, lower] - guess[:, upper]) - (points[:, lower] - points[:, upper])) / unit
    gap = (gaps.mean(1, keepdim=True) * real).sum() / count
    # Squared, not absolute: an open mouth is rare, and a median would deny it.
    each = F.smooth_l1_loss(outputs[2], openness, beta=0.6, reduction="none") * torch.tensor([1.0, 1.0, 2.0])
    opening = (each.mean(1, keepdim=True) * real).sum() / count
    there = F.binary_cross_entropy_with_logits(outputs[1], real)
    return place, gap, opening, there


def _length(vectors: torch.Tensor) -> torch.Tensor:
    """Euclidean, round at zero within 0.2 % of the crop: what the check measures, not its square."""
    return (vectors.square().sum(-1) + 4e-6).sqrt()


def _units(points: torch.Tensor) -> torch.Tensor:
    """crops.face_unit of each face [n, 1], in crops."""
    right, left = points[:, crops.RIGHT_EYE].mean(1), points[:, crops.LEFT_EYE].mean(1)
    mouth = (points[:, crops.RIGHT_MOUTH_CORNER] + points[:, crops.LEFT_MOUTH_CORNER]) / 2
    down = crops.EYES_PER_EYES_TO_MOUTH * (mouth - (right + left) / 2).norm(dim=1, keepdim=True)
    return torch.maximum((left - right).norm(dim=1, keepdim=True), down).clamp(min=0.05)


@dataclass(frozen=True, slots=True)
class Seen:
    """A face to cut crops from: picture uint8 RGB, its 138 points in px, openness [3]."""

    picture: np.ndarray
    points: np.ndarray
    openness: np.ndarray


@dataclass(frozen=True, slots=True)
class Lure:
    """What is no face but looks like one: a cut of a room, uint8 RGB [LURE_PX, LURE_PX, 3]; keypoints [5, 2] px."""

    picture: np.ndarray
    keypoints: np.ndarray


def find_lures(rooms: list, frames: int = 4000) -> list[Lure]:
    """Where the pack's detector sees a face, or nearly, in `frames` cuts of rooms without one."""
    pack, rng, lures = Pack.load(Path(__file__).parents[1]), np.random.default_rng(2002), []
    spec = pack.manifest.detector
    detector = Detector(spec.model_copy(update={"score_min": LURE_FROM}), Model(spec, pack.contents[Role.DETECTOR]))
    for _ in range(frames):
        frame = scenes.room_background(rng, rooms, 320, 240).astype(np.uint8)
        for found in detector.detect(np.ascontiguousarray(frame[..., ::-1])):
            exact = crops.landmark_crop(found.keypoints)
            centre = exact.to_picture(np.array([[exact.size_px / 2] * 2]))[0]
            matrix = scenes.square_to(centre, 2 * exact.size_px / exact.scale, 0.0, LURE_PX)
            picture = scenes.warp_small(frame, matrix, (LURE_PX, LURE_PX), cv2.BORDER_REPLICATE)
            lures.append(Lure(picture, found.keypoints @ matrix[:, :2].T + matrix[:, 2]))
    return lures


@dataclass(slots=True)
class Feed:
    """Training crops. Costly faces (turned, lids drawn down, on other backgrounds) are kept and cut anew many times."""

    pool: scenes.Pool
    rooms: list
    turner: scenes.HeadTurner
    chosen: np.ndarray  # indices of the pool to draw from
    drawn: Path | None = None
    lures: list[Lure] = field(default_factory=list)
    _teacher: scenes.Teacher = field(default_factory=scenes.Teacher)
    _kept: deque[Seen] = field(default_factory=lambda: deque(maxlen=KEPT))
    _people: dict[str, np.ndarray] | None = None

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """uint8 crops [n, 128, 128, 3], points [n, 138, 2] in 0..1, presence [n], openness [n, 3]."""
        fresh = [self.made(rng) for _ in range(FRESH)]
        self._kept.extend(fresh)
        seen = fresh + [self._kept[int(rng.integers(len(self._kept)))] for _ in range(AGAIN)]
        seen += [self.plain(rng) for _ in range(BATCH - FRESH - AGAIN)]
        crops_ = [crop_of(rng, face, self.rooms) for face in seen]
        if self.drawn and self._people is None and self.drawn.exists():
            self._people = dict(np.load(self.drawn))
        if self._people is not None:
            crops_ += [_drawn(rng, self._people) for _ in range(DRAWN)]
        if self.lures:
            crops_ += [lured(rng, self.lures[int(rng.integers(len(self.lures)))]) for _ in range(LURED)]
        parts = [np.stack(part) for part in zip(*crops_, strict=True)]
        return tuple(torch.from_numpy(part if k == 0 else part.astype(np.float32)) for k, part in enumerate(parts))

    def plain(self, rng: np.random.Generator, index: int | None = None) -> Seen:
        """A face of the pool as it is."""
        index = int(rng.choice(self.chosen)) if index is None else index
        mesh = self._mesh(index)
        return Seen(np.asarray(self.pool.images[index]), mesh[scenes.LANDMARKS, :2], openness_of(mesh))

    def made(self, rng: np.random.Generator) -> Seen:
        """A face with lids drawn down, turned or before another background."""
        index = int(rng.choice(self.chosen))
        image, mesh = np.asarray(self.pool.images[index]).copy(), self._mesh(index)
        openness = openness_of(mesh)
        if lidded := rng.random() < 0.4:
            image, openness = _lids(rng, image, mesh, openness)
        if rng.random() < 0.7:
            own = np.arctan(scenes.mesh_yaw(mesh))
            yaw = np.clip(own + rng.uniform(-0.75, 0.75), -0.9, 0.9) - own
            jaw = rng.uniform(0.1, 0.6) if rng.random() < 0.25 else 0.0
            image, mesh = self.turner.turn(image, mesh, -yaw, rng.normal(0, 0.18), jaw)
            return self._turned(image, mesh, openness, moved=lidded or jaw > 0)
        return self._before_a_room(rng, image, mesh, openness)

    def turned(self, index: int, aim: float) -> Seen:
        """A face turned to `aim` radians, and nothing else."""
        mesh = self._mesh(index)
        own = float(np.arctan(scenes.mesh_yaw(mesh)))
        image, mesh = self.turner.turn(np.asarray(self.pool.images[index]), mesh, own - aim, 0.0)
        return self._turned(image, mesh, openness_of(mesh), moved=False)

    def _before_a_room(
        self, rng: np.random.Generator, image: np.ndarray, mesh: np.ndarray, openness: np.ndarray
    ) -> Seen:
        points = mesh[scenes.LANDMARKS, :2] + scenes.HeadTurner.MARGIN
        side = scenes.FACE_PX + 2 * scenes.HeadTurner.MARGIN
        scene = scenes.room_background(rng, self.rooms, side, side)
        if rng.random() < 0.6:
            scenes.shoulders(rng, scene, image, crops.box_from_landmarks(points))
        moved = np.array([[1.0, 0, scenes.HeadTurner.MARGIN], [0, 1.0, scenes.HeadTurner.MARGIN]])
        scenes.paste(scene, image, scenes.head_mask(rng, points - scenes.HeadTurner.MARGIN), moved)
        return Seen(np.clip(scene, 0, 255).astype(np.uint8), points, openness)

    def _turned(self, image: np.ndarray, mesh: np.ndarray, openness: np.ndarray, *, moved: bool) -> Seen:
        """What the teacher says of the turned face: its mesh does not turn as a body does (8 % off at 30 degrees).

        Where lids or jaw were `moved`, eyes and lips stay where that put them.
        """
        said, sure = self._teacher.track(image, mesh)
        points = mesh[scenes.LANDMARKS, :2].copy()
        if sure > 0.5:
            part = np.r_[32:54, 94:138] if moved else np.arange(138)
            if not moved:
                said[scenes.LANDMARKS[:32], :2] = self._teacher.eyelids(image, said)
                openness = openness_of(said)
            points[part] = said[scenes.LANDMARKS[part], :2]
        if moved:
            openness[2] = mouth_opening(mesh[scenes.LANDMARKS])
        return Seen(image, points, openness)

    def _mesh(self, index: int) -> np.ndarray:
        mesh = np.asarray(self.pool.steady[index], np.float64).copy()
        mesh[scenes.LANDMARKS[:32], :2] = self.pool.eyes[index]
        return mesh


def training_feed(pool: scenes.Pool, people: Path | None = None) -> Feed:
    """Crops of all that is not held out; people: see `train`."""
    rooms = scenes.load_rooms(held_out=False)
    return Feed(pool, rooms, scenes.HeadTurner(pool), balanced(pool), people, find_lures(rooms))


def crop_of(rng: np.random.Generator, face: Seen, rooms: list) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """A crop as a moving head and a camera make it: mirrored half of the time, cut with errors, lit, blurred."""
    picture, points, openness = face.picture, face.points, face.openness
    if rng.random() < 0.5:
        picture, openness = np.ascontiguousarray(picture[:, ::-1]), openness[[1, 0, 2]]
        points = points[scenes.MIRROR] * [-1, 1] + [picture.shape[1] - 1, 0]
    crop, presence = _jittered(rng, crops.keypoints_from_landmarks(points), plain=False)
    if rng.random() < 0.04:
        out, presence = scenes.room_background(rng, rooms, SIZE, SIZE).astype(np.uint8), 0.0
    else:
        border = cv2.BORDER_REPLICATE if rng.random() < 0.85 else cv2.BORDER_CONSTANT
        out = scenes.warp_small(picture, crop.matrix, (SIZE, SIZE), border)
    return scenes.seen_by_camera(rng, out), crop.to_crop(points) / SIZE, presence, openness


def lured(rng: np.random.Generator, lure: Lure) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """A crop around it as a camera sees it, mirrored half of the time: as `crop_of`, with no face there."""
    picture, keypoints = lure.picture, lure.keypoints
    if rng.random() < 0.5:
        picture = np.ascontiguousarray(picture[:, ::-1])
        keypoints = keypoints[[1, 0, 2, 4, 3]] * [-1, 1] + [LURE_PX - 1, 0]
    crop, _ = _jittered(rng, keypoints, plain=True)
    out = scenes.warp_small(picture, crop.matrix, (SIZE, SIZE), cv2.BORDER_REPLICATE)
    return scenes.seen_by_camera(rng, out), np.zeros((len(scenes.LANDMARKS), 2)), 0.0, np.zeros(3)


def plain_crop(rng: np.random.Generator, face: Seen) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For validation: a face as it is, mirrored half of the time, cut with small errors; crop, points, openness."""
    picture, points, openness = face.picture, face.points, face.openness
    if rng.random() < 0.5:
        picture, openness = np.ascontiguousarray(picture[:, ::-1]), openness[[1, 0, 2]]
        points = points[scenes.MIRROR] * [-1, 1] + [picture.shape[1] - 1, 0]
    crop, _ = _jittered(rng, crops.keypoints_from_landmarks(points), plain=True)
    cut = scenes.warp_small(picture, crop.matrix, (SIZE, SIZE), cv2.BORDER_REPLICATE)
    return cut, crop.to_crop(points) / SIZE, openness


def train(folder: Path, pool_dir: Path, minutes: float, start: Path | None, people: Path | None) -> None:
    """Train for `minutes` of wall time in all; a checkpoint each minute makes a stopped run resume.

    start: a shipped .tflite whose weights are the beginning of a new run.
    people: `landmarks.npz` of scenes.draw_people, drawn people with exact points and lids, taken in when it is there.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    pool = scenes.load_pool(pool_dir)
    feed = training_feed(pool, people)
    model, rng = Landmarks().to(memory_format=torch.channels_last), np.random.default_rng(2000)
    model.out.bias.data = torch.from_numpy(mean_shape(pool)).float().flatten()
    model.out.weight.data *= 0.1
    if start and not (folder / "state.pt").exists():
        begin_at(model, start, feed, rng)
    # One step of the last layer moves all points at once: at the others' rate it throws them further than they err.
    points = {"params": list(model.out.parameters()), "factor": 0.2}
    others = {"params": [p for name, p in model.named_parameters() if not name.startswith("out.")]}
    run = Run.begin(folder / "state.pt", model, [others, points], RATE_ON if start else RATE)
    rng = np.random.default_rng(2000 + run.step)
    for _ in run.steps(minutes):
        if run.progress > STILL_FROM:
            model.body[:3].requires_grad_(requires_grad=False).eval()
        x, *goals = feed.batch(rng)
        run.composed()
        place, gap, opening, there = loss_of(model.in_bfloat16(pixels(x)), *goals)
        parts = {"place": place, "gap": gap, "open": opening, "there": there}
        run.learn(3 * place + 2 * gap + 1.5 * opening + 0.1 * there, parts, len(x))
        if run.step % 500 == 0:
            torch.save(run.average.module.state_dict(), folder / "landmarks.pt")
    run.save()
    torch.save(run.average.module.state_dict(), folder / "landmarks.pt")


def train_upper(folder: Path, pool_dir: Path, minutes: float, start: Path, people: Path | None, count: int) -> None:
    """Train what follows 8 x 8 alone, on `count` crops that the layers below saw once: for a machine with little time.

    A step costs a fifth of a whole one, and no picture is made for it. Runs resume; the crops are kept beside them.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    pool = scenes.load_pool(pool_dir)
    feed = training_feed(pool, people)
    model, rng = Landmarks().to(memory_format=torch.channels_last), np.random.default_rng(2000)
    begin_at(model, start, feed, rng)
    seen, goals = _looked_at(folder / "seen", model, feed, count)
    upper = Upper(model).to(memory_format=torch.channels_last)
    points = {"params": list(model.out.parameters()), "factor": 0.2}
    others = {
        "params": [p for name, p in upper.named_parameters() if ".out." not in name and not name.startswith("out.")]
    }
    run = Run.begin(folder / "state.pt", upper, [others, points], RATE)
    rng = np.random.default_rng(4000 + run.step)
    for _ in run.steps(minutes):
        chosen = np.sort(rng.integers(len(seen), size=UPPER_BATCH))
        x = torch.from_numpy(seen[chosen]).permute(0, 3, 1, 2)
        run.composed()
        place, gap, opening, there = loss_of(upper(x), *(torch.from_numpy(goal[chosen]) for goal in goals))
        parts = {"place": place, "gap": gap, "open": opening, "there": there}
        run.learn(3 * place + 2 * gap + 1.5 * opening + 0.1 * there, parts, len(x))
    run.save()
    average = {name.removeprefix("module."): value for name, value in run.average.module.state_dict().items()}
    torch.save(model.state_dict() | average, folder / "landmarks.pt")


class Upper(nn.Module):
    """The part of `Landmarks` after its first layers, under the same names."""

    def __init__(self, whole: Landmarks) -> None:
        super().__init__()
        self.body = nn.ModuleDict({str(k): whole.body[k] for k in range(BELOW, len(whole.body))})
        self.whole, self.out, self.state = whole.whole, whole.out, whole.state

    def forward(self, x):
        with half():
            for layer in self.body.values():
                x = layer(x)
            y = self.whole(x).flatten(1)
        state = self.state(y.float())
        return self.out(y.float()), state[:, :1], state[:, 1:]


@torch.inference_mode()
def _looked_at(folder: Path, model: Landmarks, feed: Feed, count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """What the first layers see in `count` training crops, float16 [n, 8, 8, 96], and the goals of each."""
    names = ("seen", "points", "presence", "openness")
    if not all((folder / f"{name}.npy").exists() for name in names):
        folder.mkdir(parents=True, exist_ok=True)
        rng, parts, lower = np.random.default_rng(2001), [], model.body[:BELOW].eval()
        while sum(len(part[0]) for part in parts) < count:
            x, *goals = feed.batch(rng)
            with half():
                y = lower(pixels(x))
            parts.append([y.permute(0, 2, 3, 1).half().numpy(), *(goal.numpy() for goal in goals)])
            if len(parts) % 40 == 0:
                print(sum(len(part[0]) for part in parts), "of", count, "crops", flush=True)
        for name, whole in zip(names, zip(*parts, strict=True), strict=True):
            np.save(folder / f"{name}.npy", np.concatenate(whole))
    seen, *goals = (np.load(folder / f"{name}.npy") for name in names)
    return seen, goals


def begin_at(model: Landmarks, start: Path, feed: Feed, rng: np.random.Generator) -> None:
    """The weights of a shipped .tflite, or of a run's .pt."""
    if start.suffix == ".pt":
        model.load_state_dict(torch.load(start))
    else:
        print(
            "beginning at", start, warm.start(model, start, torch.cat([pixels(feed.batch(rng)[0]) for _ in range(3)]))
        )


def _drawn(rng: np.random.Generator, drawn: dict) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    index = int(rng.integers(len(drawn["crops"])))
    picture, points, openness = drawn["crops"][index], drawn["points"][index], drawn["openness"][index]
    openness = np.array([*openness[:2], mouth_opening(points)], np.float32)
    if rng.random() < 0.5:
        picture, openness = np.ascontiguousarray(picture[:, ::-1]), openness[[1, 0, 2]]
        points = points[scenes.MIRROR] * [-1, 1] + [(SIZE - 1) / SIZE, 0]
    return scenes.seen_by_camera(rng, picture), points, 1.0, openness


def balanced(pool: scenes.Pool) -> np.ndarray:
    """Indices of training faces; turned heads, shut eyes and open mouths (rare in the pool) come up more often."""
    chosen = []
    for index in np.flatnonzero(~pool.held_out):
        mesh = np.asarray(pool.mesh[index], np.float64).copy()
        mesh[scenes.LANDMARKS[:32], :2] = pool.eyes[index]
        opening = openness_of(mesh)
        yaw = abs(scenes.mesh_yaw(mesh))
        rare = yaw > 0.3 or opening[:2].min() < 0.4 or opening[2] > 0.5
        chosen += [index] * (PROFILES_AS_OFTEN if yaw > 0.5 else 3 if rare else 1)
    return np.array(chosen)


def mean_shape(pool: scenes.Pool) -> np.ndarray:
    """Mean of the points in their exact crops [138, 2], 0..1: where the output layer starts."""
    shapes = []
    for index in range(600):
        points = pool.landmarks(index)
        shapes.append(crops.landmark_crop(crops.keypoints_from_landmarks(points)).to_crop(points) / SIZE)
    return np.mean(shapes, axis=0)


def export(weights: Path, pool_dir: Path, target: Path) -> None:
    """The trained network as an int8 file with a float last layer, calibrated on training crops."""
    from models.training.export import to_int8

    model = Landmarks()
    model.load_state_dict(torch.load(weights))
    feed, rng = training_feed(scenes.load_pool(pool_dir)), np.random.default_rng(6)
    crops_ = torch.cat([feed.batch(rng)[0] for _ in range(5)])
    pictures = [pixels(crops_[k : k + 1]).contiguous() for k in range(len(crops_))]
    print(to_int8(model, pictures[0], pictures, target, float_output=True, float_ops=FLOAT_OPS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(".runs/landmarks"))
    parser.add_argument("--pool", type=Path, default=Path(".runs/pool"))
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--start", type=Path, help="a shipped .tflite, or a .pt, that a new run begins with")
    parser.add_argument(
        "--upper", type=int, metavar="CROPS", help="train the upper layers of --start, see train_upper()"
    )
    parser.add_argument("--people", type=Path, help="drawn people, see train()")
    parser.add_argument("--export", type=Path, help="write the trained network to this .tflite")
    given = parser.parse_args()
    if given.export:
        export(given.out / "landmarks.pt", given.pool, given.export)
    elif given.upper:
        train_upper(given.out, given.pool, given.minutes, given.start, given.people, given.upper)
    else:
        train(given.out, given.pool, given.minutes, given.start, given.people)
