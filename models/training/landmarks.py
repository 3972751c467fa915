"""The 138-point landmark model: how it is trained and checked; labels and pictures come from scenes, int8 from export.

`python -m models.training.landmarks --out DIR --minutes M` trains (and resumes); `--check FILE.tflite` measures a file.

Input: RGB 0..255, [1, 128, 128, 3], cut by `edge.vision.crops.landmark_crop`. Outputs: `points` [1, 276], x and y of
138 points in 0..1 of the crop; `presence` [1, 1], logit of a face being there and centred; `openness` [1, 3]: subject's
right eye, left eye, mouth. Openness is 0 closed and 1 at the population's median open eye (mouth: at a gap of half the
mouth's width); eyes are measured against the eye's width in three dimensions, so that a turned head does not wink.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edge.vision import crops
from models.training import scenes
from models.training.detector import Residual, as_tensor, conv, moving_average, save

SIZE = crops.LANDMARK_CROP_PX
BATCH = 48
FRESH = 20  # of a batch; the rest was seen before (composing costs nearly as much as learning)
KEPT = 8000
RATE = 1e-3
# From this share of the run on, the first layers rest: they are a third of the work and have learned their edges.
STILL_FROM = 0.35
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
        y = self.whole(self.body(x)).flatten(1)
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


def sample(
    rng: np.random.Generator,
    pool: scenes.Pool,
    indices: np.ndarray,
    rooms: list,
    turner: scenes.HeadTurner | None,
    *,
    plain: bool = False,
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """One crop [128, 128, 3] uint8, points [138, 2] in 0..1, presence 0 or 1, openness [3].

    `plain` (for validation): no turning, no lids, no noise, but still a small jitter of the crop.
    """
    index = int(rng.choice(indices))
    image, mesh = np.asarray(pool.images[index]).copy(), np.asarray(pool.mesh[index], np.float64).copy()
    mesh[scenes.LANDMARKS[:32], :2] = pool.eyes[index]
    openness = _openness(mesh)
    if turner is not None and not plain:
        if rng.random() < 0.4:
            image, openness = _lids(rng, image, mesh, openness)
        if rng.random() < 0.5:
            own = np.arctan(scenes.mesh_yaw(mesh))
            yaw = np.clip(own + rng.uniform(-0.7, 0.7), -0.85, 0.85) - own
            jaw = rng.uniform(0.1, 0.6) if rng.random() < 0.4 else 0.0
            image, mesh = turner.turn(image, mesh, -yaw, rng.normal(0, 0.18), jaw)
            openness[2] = mouth_opening(mesh[scenes.LANDMARKS])
    points = mesh[scenes.LANDMARKS, :2]
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        points = points[scenes.MIRROR] * [-1, 1] + [image.shape[1] - 1, 0]
        openness = openness[[1, 0, 2]]
    crop, presence = _jittered(rng, points, plain=plain)
    out = _cut(rng, image, points, crop, rooms, plain=plain)
    if rng.random() < 0.08 and not plain:
        out, presence = scenes.room_background(rng, rooms, SIZE, SIZE), 0.0
    goal = crop.to_crop(points) / SIZE
    final = np.clip(out, 0, 255).astype(np.uint8) if plain else scenes.photometric(rng, out, grey=0.15)
    return final, goal.astype(np.float32), presence, openness.astype(np.float32)


def _openness(mesh: np.ndarray) -> np.ndarray:
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
    return image, _openness(mesh)


def _jittered(rng: np.random.Generator, points: np.ndarray, *, plain: bool) -> tuple[crops.Crop, float]:
    """The crop rule with the errors that a detector and a moving head make; presence 0 where the face is lost."""
    keypoints = crops.keypoints_from_landmarks(points)
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


def _cut(
    rng: np.random.Generator, image: np.ndarray, points: np.ndarray, crop: crops.Crop, rooms: list, *, plain: bool
) -> np.ndarray:
    if plain or image.shape[0] != scenes.FACE_PX or rng.random() < 0.6:
        border = cv2.BORDER_REPLICATE if rng.random() < 0.85 else cv2.BORDER_CONSTANT
        return scenes.warp_small(image, crop.matrix, (SIZE, SIZE), border).astype(np.float32)
    scene = scenes.room_background(rng, rooms, SIZE, SIZE)
    if rng.random() < 0.5:
        box = crops.box_from_landmarks(crop.to_crop(points))
        scenes.shoulders(rng, scene, image, box)
    scenes.paste(scene, image, scenes.head_mask(rng, points), crop.matrix)
    return scene


def loss_of(outputs, points, presence, openness):
    """L1 of points (eyes and lips count more), of the lids' gaps, of openness; presence as cross-entropy."""
    guess = outputs[0].view(-1, 138, 2)
    weight = torch.ones(138)
    weight[:32], weight[54:94], weight[94:130] = 2.0, 1.3, 0.7
    real = presence[:, None]
    count = real.sum().clamp(min=1)
    error = F.smooth_l1_loss(guess, points, beta=0.01, reduction="none").sum(-1) * weight
    place = (error.mean(1, keepdim=True) * real).sum() / count
    upper, lower = torch.from_numpy(np.r_[UPPER, UPPER + 16]), torch.from_numpy(np.r_[LOWER, LOWER + 16])
    gaps = F.smooth_l1_loss(
        guess[:, lower] - guess[:, upper], points[:, lower] - points[:, upper], beta=0.01, reduction="none"
    )
    gap = (gaps.sum(-1).mean(1, keepdim=True) * real).sum() / count
    # Squared, not absolute: an open mouth is rare, and a median would deny it.
    each = F.smooth_l1_loss(outputs[2], openness, beta=0.6, reduction="none") * torch.tensor([1.0, 1.0, 2.0])
    opening = (each.mean(1, keepdim=True) * real).sum() / count
    there = F.binary_cross_entropy_with_logits(outputs[1], real)
    return place, gap, opening, there


def start_from_detector(model: Landmarks, weights: Path) -> None:
    """The first layers as our detector has learned them: it knows eyes, noses and mouths of this size already."""
    own = torch.load(weights)
    first = nn.Sequential(*list(model.body)[:5])
    learned = [v for k, v in own.items() if k.startswith(("stem.", "fine."))]
    first.load_state_dict(dict(zip(first.state_dict(), learned, strict=True)))


def train(folder: Path, pool_dir: Path, minutes: float, detector: Path | None, people: Path | None) -> None:
    """Train for `minutes` of wall time in all; a checkpoint each minute makes a stopped run resume.

    people: `landmarks.npz` of scenes.draw_people, drawn people with exact points and lids: ten on top of each batch.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    pool = scenes.load_pool(pool_dir)
    rooms, turner = scenes.load_rooms(held_out=False), scenes.HeadTurner(pool)
    indices, drawn = balanced(pool), dict(np.load(people)) if people else None
    model = Landmarks().to(memory_format=torch.channels_last)
    model.out.bias.data = torch.from_numpy(mean_shape(pool)).float().flatten()
    model.out.weight.data *= 0.1
    if detector:
        start_from_detector(model, detector)
    # One step of the last layer moves all points at once: at the others' rate it throws them further than they err.
    points = list(model.out.parameters())
    others = [p for name, p in model.named_parameters() if not name.startswith("out.")]
    optimiser = torch.optim.AdamW([{"params": others}, {"params": points}], lr=RATE, weight_decay=1e-3)
    average = torch.optim.swa_utils.AveragedModel(model, avg_fn=moving_average, use_buffers=True)
    spent, step, saved = 0.0, 0, folder / "state.pt"
    if saved.exists():
        state = torch.load(saved)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        spent, step = state["spent"], state["step"]
    rng, kept = np.random.default_rng(2000 + step), deque(maxlen=KEPT)
    began, last, composing = time.monotonic() - spent, spent, 0.0
    while (spent := time.monotonic() - began) < minutes * 60:
        progress = spent / (minutes * 60)
        rate = RATE * min(1, (step + 1) / 200) * (0.5 * (1 + math.cos(math.pi * progress)) + 0.005)
        if progress > STILL_FROM:
            model.body[:3].requires_grad_(requires_grad=False).eval()
        for group, factor in zip(optimiser.param_groups, (1.0, 0.1), strict=True):
            group["lr"] = factor * rate
        t0 = time.monotonic()
        fresh = [sample(rng, pool, indices, rooms, turner) for _ in range(FRESH)]
        batch = fresh + [_again(rng, *kept[int(rng.integers(len(kept)))]) for _ in range(BATCH - FRESH) if kept]
        kept.extend(fresh)
        if drawn is not None:
            batch += [_drawn(rng, drawn) for _ in range(10)]
        x = torch.from_numpy(np.stack([b[0] for b in batch])).permute(0, 3, 1, 2).float() / 127.5 - 1
        points, openness = (torch.from_numpy(np.stack([b[k] for b in batch])) for k in (1, 3))
        presence = torch.tensor([b[2] for b in batch])
        composing += time.monotonic() - t0
        place, gap, opening, there = loss_of(
            model(x.contiguous(memory_format=torch.channels_last)), points, presence, openness
        )
        optimiser.zero_grad(set_to_none=True)
        (10 * place + 10 * gap + 1.5 * opening + 0.05 * there).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        average.update_parameters(model)
        step += 1
        if step % 50 == 0:
            losses = {"place": place, "gap": gap, "open": opening, "there": there}
            line = {"step": step, "s": round(spent)} | {k: round(v.item(), 5) for k, v in losses.items()}
            print(json.dumps(line | {"composing": round(composing / spent, 2)}), flush=True)
        if spent - last > 60:
            last = spent
            save(saved, model, average, optimiser, spent, step)
            torch.save(average.module.state_dict(), folder / "landmarks.pt")
    save(saved, model, average, optimiser, spent, step)
    torch.save(average.module.state_dict(), folder / "landmarks.pt")


def _again(
    rng: np.random.Generator, picture: np.ndarray, points: np.ndarray, presence: float, openness: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """A sample that was seen before, mirrored and lit anew."""
    if rng.random() < 0.5:
        picture, openness = np.ascontiguousarray(picture[:, ::-1]), openness[[1, 0, 2]]
        points = (points[scenes.MIRROR] * [-1, 1] + [(SIZE - 1) / SIZE, 0]).astype(np.float32)
    gain = (rng.uniform(0.75, 1.25) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    lit = np.clip(picture * gain + np.float32(rng.uniform(-12, 12)), 0, 255).astype(np.uint8)
    return lit, points, presence, openness


def _drawn(rng: np.random.Generator, drawn: dict) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    index = int(rng.integers(len(drawn["crops"])))
    picture, points, openness = drawn["crops"][index], drawn["points"][index], drawn["openness"][index]
    openness = np.array([*openness[:2], mouth_opening(points)], np.float32)
    shown = scenes.photometric(rng, picture.astype(np.float32), grey=0.1)
    return _again(rng, shown, points, 1.0, openness)


def balanced(pool: scenes.Pool) -> np.ndarray:
    """Indices of training faces; turned heads, shut eyes and open mouths (rare in the pool) come up more often."""
    chosen = []
    for index in np.flatnonzero(~pool.held_out):
        mesh = np.asarray(pool.mesh[index], np.float64).copy()
        mesh[scenes.LANDMARKS[:32], :2] = pool.eyes[index]
        opening = _openness(mesh)
        rare = abs(scenes.mesh_yaw(mesh)) > 0.3 or opening[:2].min() < 0.4 or opening[2] > 0.5
        chosen += [index] * (3 if rare else 1)
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
    pool, rng = scenes.load_pool(pool_dir), np.random.default_rng(6)
    rooms, turner = scenes.load_rooms(held_out=False), scenes.HeadTurner(pool)
    indices = np.flatnonzero(~pool.held_out)
    pictures = [as_tensor(sample(rng, pool, indices, rooms, turner)[0]) for _ in range(300)]
    print(to_int8(model, pictures[0], pictures, target, float_output=True, float_ops=FLOAT_OPS))


Run = Callable[[np.ndarray], list[np.ndarray]]


def runner(model: Path) -> Run:
    """A function from a uint8 RGB crop to points [138, 2] in 0..1, presence 0..1 and openness [3]; .pt or .tflite."""
    if model.suffix == ".pt":
        network = Landmarks()
        network.load_state_dict(torch.load(model))
        network.eval()

        def run(crop: np.ndarray) -> list[np.ndarray]:
            return [o.detach().numpy()[0] for o in network(as_tensor(crop))]
    else:
        from models.training.export import Runner

        file = Runner(model)

        def run(crop: np.ndarray) -> list[np.ndarray]:
            return [o[0] for o in file.run([crop[None].astype(np.float32) / 127.5 - 1])]

    def answer(crop: np.ndarray) -> list[np.ndarray]:
        points, presence, openness = run(crop)
        return [points.reshape(138, 2), 1 / (1 + np.exp(-presence[0])), openness]

    return answer


def check(model: Path, pool_dir: Path) -> None:
    """Error against the teacher on held-out faces, by yaw and turned; openness; presence; the clips, tracked."""
    run = runner(model)
    pool, rng = scenes.load_pool(pool_dir), np.random.default_rng(12)
    rooms, turner = scenes.load_rooms(held_out=True), scenes.HeadTurner(pool)
    indices = np.flatnonzero(pool.held_out)
    bins: dict[str, list[float]] = {}
    shut: dict[str, list[float]] = {"open": [], "shut": []}
    for index in indices:
        yaw = abs(np.degrees(np.arctan(scenes.mesh_yaw(pool.mesh[index]))))
        picture, points, _, openness = sample(rng, pool, np.array([index]), rooms, None, plain=True)
        found = run(picture)
        name = "yaw 0-10" if yaw < 10 else "yaw 10-20" if yaw < 20 else "yaw 20-30" if yaw < 30 else "yaw 30-"
        bins.setdefault(name, []).append(nme(found[0] * SIZE, points * SIZE))
        bins.setdefault("all", []).append(bins[name][-1])
        bins.setdefault("eye points", []).append(nme(found[0] * SIZE, points * SIZE, slice(0, 32)))
        bins.setdefault("openness error", []).append(float(np.abs(found[2][:2] - openness[:2]).mean()))
        bins.setdefault("mouth error", []).append(float(abs(found[2][2] - openness[2])))
        for side in range(2):
            kind = "open" if openness[side] > 0.7 else "shut" if openness[side] < 0.2 else None
            if kind:
                shut[kind].append(float(found[2][side]))
    for _ in range(1000):
        picture, points, presence, openness = sample(rng, pool, indices, rooms, turner)
        found = run(picture)
        bins.setdefault("presence right", []).append(float((found[1] > 0.5) == (presence > 0.5)))
        if presence:
            bins.setdefault("augmented", []).append(nme(found[0] * SIZE, points * SIZE))
            bins.setdefault("augmented openness error", []).append(float(np.abs(found[2][:2] - openness[:2]).mean()))
    for name in sorted(bins):
        print(f"{name}: {np.mean(bins[name]):.4f} (90 % under {np.quantile(bins[name], 0.9):.4f}) of {len(bins[name])}")
    low, high = np.quantile(shut["open"], 0.05), np.quantile(shut["shut"], 0.95)
    print(f"real eyes: open, 5 % under {low:.2f}; shut, 5 % over {high:.2f} (n {len(shut['shut'])})")
    clips(run)


def nme(found: np.ndarray, points: np.ndarray, part: slice = slice(None)) -> float:
    """Mean distance of the points, px, over the face unit (the distance between the eyes, seen from the front)."""
    unit = crops.face_unit(crops.keypoints_from_landmarks(points))
    return float(np.linalg.norm(found[part] - points[part], axis=1).mean() / unit)


def clips(run: Run) -> None:
    """Follow the face through each clip as the product does, beside the teacher on the same frames."""
    teacher = scenes.Teacher()
    for clip in sorted((scenes.data_dir() / "clips").glob("*.mp4")):
        mesh, points, rows = None, None, []
        for k, frame in enumerate(scenes.frames(clip)):
            if mesh is None:
                mesh = scenes.first_face(teacher, frame)
            for _ in range(2 if k == 0 else 1):
                mesh, _ = teacher.track(frame, mesh)
            truth = mesh.copy()
            truth[scenes.LANDMARKS[:32], :2] = teacher.eyelids(frame, mesh)
            if points is None:
                points = truth[scenes.LANDMARKS, :2]
            crop = crops.landmark_crop(crops.keypoints_from_landmarks(points))
            cut = scenes.warp_small(frame, crop.matrix, (SIZE, SIZE), cv2.BORDER_REPLICATE)
            found = run(cut)
            points = crop.to_picture(found[0] * SIZE)
            yaw = float(np.degrees(np.arctan(scenes.mesh_yaw(mesh))))
            rows.append([nme(points, truth[scenes.LANDMARKS, :2]), yaw, *_openness(truth), *found[2], found[1]])
        t = np.array(rows)
        print(
            f"{clip.name}: error {t[:, 0].mean():.3f}, worst {t[:, 0].max():.3f}; presence at least {t[:, 8].min():.2f}"
        )
        print(f"  teacher's yaw {t[:, 1].min():.0f} to {t[:, 1].max():.0f}")
        for name, c in (("right eye", 2), ("left eye", 3), ("mouth", 4)):
            a, b = t[:, c], t[:, c + 3]
            print(f"  {name}: teacher {a.min():.2f}..{a.max():.2f}, ours {b.min():.2f}..{b.max():.2f}", end="")
            print(f", correlation {np.corrcoef(a, b)[0, 1]:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(".runs/landmarks"))
    parser.add_argument("--pool", type=Path, default=Path(".runs/pool"))
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--detector", type=Path, help="our detector.pt, whose first layers are the start")
    parser.add_argument("--people", type=Path, help="drawn people, see train()")
    parser.add_argument("--export", type=Path, help="write the trained network to this .tflite")
    parser.add_argument("--check", type=Path, help="measure this .tflite or .pt")
    given = parser.parse_args()
    if given.check:
        check(given.check, given.pool)
    elif given.export:
        export(given.out / "landmarks.pt", given.pool, given.export)
    else:
        train(given.out, given.pool, given.minutes, given.detector, given.people)
