"""The face detector: how it is trained, exported and checked; the pictures come from scenes, the int8 file from export.

`python -m models.training.detector --out DIR --minutes M` trains (and resumes); `--check FILE.tflite` measures a file.

Input: RGB 0..255, [1, 128, 160, 3]: the frame letterboxed (black bars, area-averaged), so that 640 x 480 becomes
160 x 120 with 4 px above and below. Output: [1, 320, 15], one row a cell of a 16 x 20 grid of stride 8 px, row by row:
score logit; left, top, right, bottom (distances from the cell's centre, in strides); five keypoints x, y (offsets from
the cell's centre, in strides). The cell's centre is at ((column + 0.5) * 8, (row + 0.5) * 8) input pixels.
"""

from __future__ import annotations

import argparse
import itertools
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edge.vision.crops import OVAL, keypoints_from_landmarks
from models.training import scenes, warm
from models.training.run import Run, half, pixels

WIDTH, HEIGHT, STRIDE = 160, 128, 8
COLUMNS, ROWS = WIDTH // STRIDE, HEIGHT // STRIDE
BATCH = 48
FRESH = 16  # of a batch; the rest was seen before (composing costs as much as learning)
KEPT = 6000
HARD = 10  # of a batch: pictures without a face in which the network found one
HARD_KEPT, HARD_FROM = 1500, 0.15  # how many are kept, and from which probability on
PROFILES_AS_OFTEN = 8  # faces turned by more than 17 degrees are few in the pool: each counts as so many
# Peak learning rate, from random numbers and where a shipped network goes on.
RATE, RATE_ON = 3e-3, 1e-3
# Tensor names of the last convolution and of what follows it: they stay in float, so that boxes are not coarse.
FLOAT_OPS = ("Conv2d_out", "serving_default_output")


def conv(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(x + self.norm(self.conv(x)))


class Detector(nn.Module):
    """Dense small convolutions (they train fast on a CPU); one grid of stride 8 that also sees strides 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, 2), conv(16, 32, 2), Residual(32))
        self.fine = nn.Sequential(conv(32, 64, 2), Residual(64))
        self.middle = nn.Sequential(conv(64, 80, 2), Residual(80))
        self.coarse = nn.Sequential(conv(80, 80, 2), Residual(80))
        self.narrow = conv(80, 64, 1, 1)
        self.head = nn.Sequential(Residual(64), Residual(64))
        self.out = nn.Conv2d(64, 15, 1)
        nn.init.constant_(self.out.bias, 0.0)
        self.out.bias.data[0] = -4.0
        self.out.bias.data[1:5] = 3.0

    def forward(self, x):
        """Normalised pixels [B, 3, 128, 160] (x / 127.5 - 1) -> [B, 320, 15]."""
        fine = self.fine(self.stem(x))
        middle = self.middle(fine)
        middle = middle + F.interpolate(self.coarse(middle), scale_factor=2, mode="nearest")
        fine = fine + F.interpolate(self.narrow(middle), scale_factor=2, mode="nearest")
        return self.out(self.head(fine)).permute(0, 2, 3, 1).reshape(-1, ROWS * COLUMNS, 15)


def compose(
    rng: np.random.Generator,
    pool: scenes.Pool,
    indices: np.ndarray,
    rooms: list,
    turner: scenes.HeadTurner | None = None,
) -> tuple[np.ndarray, list]:
    """One picture [128, 160, 3] uint8 and its faces [(box [4], keypoints [5, 2], yaw)], px."""
    content = _content(rng)
    left, top, width, height = content
    inner = scenes.room_background(rng, rooms, width, height)
    _distract(rng, inner, rooms, pool, indices)
    faces: list = []
    count = int(rng.choice([0, 1, 2, 3], p=[0.35, 0.5, 0.1, 0.05]))
    for k in range(count):
        face = scenes.draw_face(rng, pool, indices, turner)
        tall = (
            float(np.exp(rng.uniform(np.log(18), np.log(0.92 * height)))) if k == 0 else rng.uniform(16, height * 0.4)
        )
        _paste_face(rng, inner, face, tall, faces)
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    canvas[top : top + height, left : left + width] = scenes.photometric(rng, inner)
    offset = np.array([left, top], np.float64)
    return canvas, [(box + np.tile(offset, 2), keypoints + offset, yaw) for box, keypoints, yaw in faces]


def _content(rng: np.random.Generator) -> tuple[int, int, int, int]:
    aspect = rng.choice([4 / 3, 4 / 3, 4 / 3, 16 / 9, 1.0, 0.8, 0.75])
    width, height = (WIDTH, round(WIDTH / aspect)) if aspect > WIDTH / HEIGHT else (round(HEIGHT * aspect), HEIGHT)
    return (WIDTH - width) // 2, (HEIGHT - height) // 2, width, height


def _paste_face(rng: np.random.Generator, scene: np.ndarray, face: scenes.Face, tall: float, faces: list) -> None:
    height, width = scene.shape[:2]
    for _ in range(8):
        lateral = min(tall * 0.32, width / 2.2)
        centre = np.array([rng.uniform(lateral, width - lateral), rng.uniform(tall * 0.42, height - tall * 0.42)])
        if tall > 0.6 * height:
            centre = np.array([width / 2 + rng.normal(0, width * 0.08), height / 2 + rng.normal(0, height * 0.06)])
        matrix = scenes.place(rng, face.landmarks, tall, centre)
        points = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
        oval = points[OVAL]
        box = np.concatenate([oval.min(axis=0), oval.max(axis=0)])
        if all(_apart(box, other) for other, _, _ in faces):
            break
    else:
        return
    image = face.image
    if rng.random() < 0.4:
        image = cv2.convertScaleAbs(image, alpha=rng.uniform(0.45, 1.3))
    if not faces and rng.random() < 0.5:
        scenes.shoulders(rng, scene, image, box)
    if tall > 0.45 * height and rng.random() < 0.5:
        scene[:] = scenes.warp_small(image.astype(np.float32), matrix, (width, height), cv2.BORDER_REPLICATE)
        faces.clear()
    else:
        scenes.paste(scene, image, scenes.head_mask(rng, face.landmarks), matrix)
    faces.append((box, keypoints_from_landmarks(points), face.yaw))


def _apart(a: np.ndarray, b: np.ndarray) -> bool:
    grow = 0.25 * (a[2:] - a[:2] + b[2:] - b[:2]) / 2
    return bool(((a[:2] - grow > b[2:]) | (b[:2] - grow > a[2:])).any())


def _distract(rng: np.random.Generator, scene: np.ndarray, rooms: list, pool: scenes.Pool, indices: np.ndarray) -> None:
    """Things with a face's outline or colour that are no face, so that neither becomes the sign of one."""
    height, width = scene.shape[:2]
    for _ in range(int(rng.choice([0, 1, 2, 4], p=[0.45, 0.25, 0.2, 0.1]))):
        face = scenes.draw_face(rng, pool, indices)
        kind = rng.random()
        if kind < 0.4:
            patch = scenes.room_background(rng, rooms, 128, 128).astype(np.uint8)
        elif kind < 0.7:
            skin = face.image[76:100, 44:84].reshape(-1, 3).mean(axis=0)
            patch = skin + rng.normal(0, 12, (8, 8, 3))
            patch = cv2.resize(np.clip(patch, 0, 255).astype(np.uint8), (128, 128), interpolation=cv2.INTER_CUBIC)
        else:
            tiles = [face.image[y : y + 32, x : x + 32] for y in range(0, 128, 32) for x in range(0, 128, 32)]
            order = rng.permutation(16)
            patch = np.vstack([np.hstack([tiles[order[4 * r + c]] for c in range(4)]) for r in range(4)])
        tall = float(np.exp(rng.uniform(np.log(12), np.log(0.8 * height))))
        centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        mask = scenes.head_mask(rng, face.landmarks)
        scenes.paste(scene, patch, mask, scenes.place(rng, face.landmarks, tall, centre))


def targets(faces: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heat [320], regression [320, 14] in strides, and its weight over face size [320]."""
    ys, xs = np.mgrid[0:ROWS, 0:COLUMNS]
    cells = np.stack([(xs.ravel() + 0.5) * STRIDE, (ys.ravel() + 0.5) * STRIDE], axis=1)
    heat = np.zeros(len(cells), np.float32)
    regression = np.zeros((len(cells), 14), np.float32)
    weight = np.zeros(len(cells), np.float32)
    for box, keypoints, _ in faces:
        size = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
        distance = ((cells - (box[:2] + box[2:]) / 2) ** 2).sum(axis=1)
        own = np.exp(-distance / (2 * max(3.2, 0.13 * size) ** 2)).astype(np.float32)
        own[np.argmax(own)] = 1
        mine = own > np.maximum(heat, 0.02)
        heat[mine] = own[mine]
        near = mine & (own > 0.25)
        offsets = keypoints[None] - cells[near][:, None]
        edges = np.concatenate([cells[near] - box[:2], box[2:] - cells[near]], axis=1)
        regression[near] = np.concatenate([edges, offsets.reshape(-1, 10)], axis=1) / STRIDE
        weight[near] = own[near] * STRIDE / size
    return heat, regression, weight


def loss_of(out, heat, regression, weight):
    """Penalty-reduced focal loss (CornerNet) and an L1 of box and keypoints in units of the face's size."""
    logit = out[..., 0]
    p = torch.sigmoid(logit).clamp(1e-4, 1 - 1e-4)
    peak = (heat > 0.99).float()
    focal = -(peak * (1 - p) ** 2 * torch.log(p) + (1 - peak) * (1 - heat) ** 4 * p**2 * torch.log(1 - p))
    faces = peak.sum().clamp(min=1)
    error = F.smooth_l1_loss(
        out[..., 1:] * weight[..., None], regression * weight[..., None], beta=0.02, reduction="none"
    )
    return focal.sum() / faces, error.sum() / (weight > 0).sum().clamp(min=1) / 14


def train(folder: Path, pool_dir: Path, minutes: float, start: Path | None) -> None:
    """Train for `minutes` of wall time in all; a checkpoint each minute makes a stopped run resume.

    start: a shipped .tflite whose weights are the beginning of a new run.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    pool = scenes.load_pool(pool_dir)
    indices, rooms = np.flatnonzero(~pool.held_out), scenes.load_rooms(held_out=False)
    turner = scenes.HeadTurner(pool)
    profiles = indices[np.abs(scenes.mesh_yaws(pool.mesh[indices])) > 0.3]
    indices = np.concatenate([indices, np.repeat(profiles, PROFILES_AS_OFTEN - 1)])
    rng, kept, hard = np.random.default_rng(1000), deque(maxlen=KEPT), deque(maxlen=HARD_KEPT)

    def fresh(count: int) -> list[Sample]:
        return [
            (picture, *targets(faces))
            for picture, faces in (compose(rng, pool, indices, rooms, turner) for _ in range(count))
        ]

    model = Detector().to(memory_format=torch.channels_last)
    if start and not (folder / "state.pt").exists():
        first = torch.cat([as_tensor(picture) for picture, *_ in fresh(48)])
        print("beginning at", start, warm.start(model, start, first))
    run = Run.begin(folder / "state.pt", model, [{"params": list(model.parameters())}], RATE_ON if start else RATE)
    rng = np.random.default_rng(1000 + run.step)
    for _ in run.steps(minutes):
        new = fresh(FRESH)
        batch = new + [_mirrored(rng, *kept[int(rng.integers(len(kept)))]) for _ in range(BATCH - FRESH) if kept]
        batch += [_mirrored(rng, *hard[int(rng.integers(len(hard)))]) for _ in range(HARD) if hard]
        kept.extend(new)
        x, *goals = (torch.from_numpy(np.stack(part)) for part in zip(*batch, strict=True))
        run.composed()
        with half():
            out = model(pixels(x))
        score, error = loss_of(out.float(), *goals)
        found = torch.sigmoid(out[:FRESH, :, 0].detach().float()).amax(1).tolist()
        hard.extend(sample for sample, p in zip(new, found, strict=True) if p > HARD_FROM and not sample[1].any())
        run.learn(score + 12 * error, {"score": score, "error": error}, len(batch))
    run.save()
    torch.save(run.average.module.state_dict(), folder / "detector.pt")


Sample = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _mirrored(
    rng: np.random.Generator, picture: np.ndarray, heat: np.ndarray, goal: np.ndarray, weight: np.ndarray
) -> Sample:
    """A composed picture that was seen before: mirrored half of the time, in other light."""
    gain = (rng.uniform(0.75, 1.25) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    picture = np.clip(picture * gain + np.float32(rng.uniform(-12, 12)) * (picture > 0), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        return picture, heat, goal, weight
    heat, weight = (v.reshape(ROWS, COLUMNS)[:, ::-1].ravel() for v in (heat, weight))
    # Left and right edge change places, as do the eyes and the corners of the mouth; offsets across change sign.
    goal = goal.reshape(ROWS, COLUMNS, 14)[:, ::-1].reshape(-1, 14)
    goal = goal[:, [2, 1, 0, 3, 6, 7, 4, 5, 8, 9, 12, 13, 10, 11]] * ([1] * 4 + [-1, 1] * 5)
    return np.ascontiguousarray(picture[:, ::-1]), heat, goal.astype(np.float32), weight


def export(weights: Path, pool_dir: Path, target: Path) -> None:
    """The trained network as an int8 file with a float last layer, calibrated on composed pictures."""
    from models.training.export import to_int8

    model = Detector()
    model.load_state_dict(torch.load(weights))
    pool, rng = scenes.load_pool(pool_dir), np.random.default_rng(5)
    indices, rooms = np.flatnonzero(~pool.held_out), scenes.load_rooms(held_out=False)
    pictures = [as_tensor(compose(rng, pool, indices, rooms)[0]) for _ in range(200)]
    print(to_int8(model, pictures[0], pictures, target, float_output=True, float_ops=FLOAT_OPS))


def as_tensor(picture: np.ndarray) -> torch.Tensor:
    """uint8 RGB [h, w, 3] as the network's input [1, 3, h, w]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


def letterbox(picture: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """The input for a picture of any size: [128, 160, 3], its scale, and where its corner lies (x, y)."""
    h, w = picture.shape[:2]
    scale = min(WIDTH / w, HEIGHT / h)
    size = (round(w * scale), round(h * scale))
    left, top = (WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=interpolation)
    return canvas, scale, np.array([left, top], np.float64)


def decode(rows: np.ndarray, threshold: float = 0.5) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """(probability, box [4], keypoints [5, 2]) in input px, best first, overlaps above 0.4 removed."""
    probability = 1 / (1 + np.exp(-rows[:, 0]))
    found: list[tuple[float, np.ndarray, np.ndarray]] = []
    for cell in np.argsort(-probability):
        if probability[cell] < threshold:
            break
        centre = np.array([cell % COLUMNS + 0.5, cell // COLUMNS + 0.5]) * STRIDE
        edges = rows[cell, 1:5] * STRIDE
        box = np.concatenate([centre - edges[:2], centre + edges[2:]])
        if all(iou(box, other) < 0.4 for _, other, _ in found):
            found.append((float(probability[cell]), box, centre + rows[cell, 5:].reshape(5, 2) * STRIDE))
    return found


def iou(a: np.ndarray, b: np.ndarray) -> float:
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(inner / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner, 1e-6))


def check(model: Path, pool_dir: Path) -> None:
    """Recall on held-out composites by size and yaw, on LFW and on the clips; false alarms on held-out rooms."""
    run = runner(model)
    pool, rng = scenes.load_pool(pool_dir), np.random.default_rng(11)
    indices, rooms = np.flatnonzero(pool.held_out), scenes.load_rooms(held_out=True)
    rows: list[tuple[float, float, bool, float]] = []
    for _ in range(1500):
        picture, faces = compose(rng, pool, indices, rooms)
        found = decode(run(picture))
        for box, keypoints, yaw in faces:
            match = max(found, key=lambda f, box=box: iou(f[1], box), default=None)
            hit = match is not None and iou(match[1], box) > 0.5
            error = np.linalg.norm(match[2] - keypoints, axis=1).mean() / (box[2] - box[0]) if hit else np.nan
            rows.append((float(box[2] - box[0]) * 4, abs(float(np.degrees(np.arctan(yaw)))), hit, float(error)))
    table = np.array(rows, np.float64)
    for name, column, edges in (
        ("width px of 640", 0, (0, 60, 90, 150, 250, 700)),
        ("yaw deg", 1, (0, 10, 20, 30, 90)),
    ):
        for low, high in itertools.pairwise(edges):
            part = table[(table[:, column] >= low) & (table[:, column] < high)]
            error = 100 * np.nanmean(part[:, 3])
            print(
                f"{name} {low}-{high}: recall {part[:, 2].mean():.3f} of {len(part)}, keypoints {error:.1f} % of width"
            )
    alarms = total = 0
    for room in rooms:
        for part in (1.0, 0.7, 0.5):
            h, w = (int(v * part) for v in room.shape[:2])
            for y, x in ((0, 0), (room.shape[0] - h, room.shape[1] - w)):
                alarms += len(decode(run(letterbox(room[y : y + h, x : x + w])[0])))
                total += 1
    print(f"held-out rooms: {alarms} false alarms in {total} pictures")
    files = sorted((scenes.data_dir() / "faces" / "lfw-folds-1-5" / "images").glob("*.jpg"))[::4]
    found = [len(decode(run(letterbox(scenes.read_rgb(f))[0]))) for f in files]
    many = np.array(found)
    print(f"LFW: a face in {np.mean(many > 0):.3f}, more than one in {np.mean(many > 1):.3f} of {len(files)}")
    for clip in sorted((scenes.data_dir() / "clips").glob("*.mp4")):
        counts = [len(decode(run(letterbox(frame)[0]))) for frame in scenes.frames(clip)]
        print(f"{clip.name}: one face in {np.mean(np.array(counts) == 1):.3f} of {len(counts)} frames")


def runner(model: Path):
    """A function from a uint8 RGB picture to the file's first output, without its batch axis; .pt or .tflite."""
    if model.suffix == ".pt":
        network = Detector()
        network.load_state_dict(torch.load(model))
        network.eval()
        return lambda picture: network(as_tensor(picture)).detach().numpy()[0]
    from models.training.export import Runner

    run = Runner(model)
    return lambda picture: run.run([picture[None].astype(np.float32) / 127.5 - 1])[0][0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(".runs/detector"))
    parser.add_argument("--pool", type=Path, default=Path(".runs/pool"))
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--export", type=Path, help="write the trained network to this .tflite")
    parser.add_argument("--check", type=Path, help="measure this .tflite or .pt")
    parser.add_argument("--start", type=Path, help="a shipped .tflite whose weights a new run begins with")
    given = parser.parse_args()
    if given.check:
        check(given.check, given.pool)
    elif given.export:
        export(given.out / "detector.pt", given.pool, given.export)
    else:
        train(given.out, given.pool, given.minutes, given.start)
