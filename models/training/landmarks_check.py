"""How near the landmark model is to its teacher on faces that it never saw; nothing is trained here.

`python -m models.training.landmarks_check models/landmarks.tflite --pool .runs/pool`. Errors are mean distances of the
138 points to the teacher's, over the distance between the middles of the eyes (`edge.vision.crops.face_unit`), and over
that of the eyes' outer corners, which the literature calls inter-ocular and which is 1.43 times as long.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from edge.vision import crops
from models.training import scenes
from models.training.detector import as_tensor
from models.training.landmarks import SIZE, Feed, Landmarks, openness_of, plain_crop

OUTER_CORNERS = (0, 16)  # of the 138: the eyes' outer corners
Answers = Callable[[np.ndarray], list[np.ndarray]]

STEADY_EVERY = 5  # of the held-out faces so many are put to the teacher several times


def check(model: Path, pool_dir: Path, faces: int | None) -> None:
    """Held-out faces by yaw, and turned further; openness; presence; what the teacher itself varies by; the clips."""
    run, rng = runner(model), np.random.default_rng(12)
    pool = scenes.load_pool(pool_dir)
    indices = np.flatnonzero(pool.held_out)[:faces]
    feed = Feed(pool, scenes.load_rooms(held_out=True), scenes.HeadTurner(pool), indices)
    table = Table()
    for index in indices:
        yaw = abs(np.degrees(np.arctan(scenes.mesh_yaw(pool.mesh[index]))))
        name = "yaw 0-10" if yaw < 10 else "yaw 10-20" if yaw < 20 else "yaw 20-30" if yaw < 30 else "yaw 30-"
        picture, points, openness = plain_crop(rng, feed.plain(rng, int(index)))
        table.add((name, "all"), run(picture), points, openness)
    for _ in range(len(indices) // 4):
        face = feed.turned(int(rng.choice(indices)), float(np.radians(rng.choice([-30, 30]))))
        picture, points, openness = plain_crop(rng, face)
        table.add(("turned to 30",), run(picture), points, openness)
    for _ in range(len(indices) // 60):
        for picture, points, presence, openness in zip(*(part.numpy() for part in feed.batch(rng)), strict=True):
            found = run(picture)
            table.presence(right=bool((found[1] > 0.5) == (presence > 0.5)))
            if presence:
                table.add(("augmented",), found, points, openness)
    table.show()
    beside_the_mean(run, pool, indices[::STEADY_EVERY])
    if faces is None:
        clips(run)


class Table:
    """Errors by name of a group of crops, and what was said of open and of shut eyes."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[float, ...]]] = {}
        self._present: list[bool] = []
        self._shut: dict[str, list[float]] = {"open": [], "shut": []}

    def add(self, names: tuple[str, ...], found: list[np.ndarray], points: np.ndarray, openness: np.ndarray) -> None:
        guess, truth = found[0] * SIZE, points * SIZE
        off = float(np.linalg.norm(guess - truth, axis=1).mean())
        outer = float(np.linalg.norm(truth[OUTER_CORNERS[0]] - truth[OUTER_CORNERS[1]]))
        eyes, mouth = float(np.abs(found[2][:2] - openness[:2]).mean()), float(abs(found[2][2] - openness[2]))
        row = (nme(guess, truth), off / max(outer, 1.0), nme(guess, truth, slice(0, 32)), eyes, mouth)
        for name in names:
            self._rows.setdefault(name, []).append(row)
        for side in range(2):
            kind = "open" if openness[side] > 0.7 else "shut" if openness[side] < 0.2 else None
            if kind and "all" in names:
                self._shut[kind].append(float(found[2][side]))

    def presence(self, *, right: bool) -> None:
        self._present.append(right)

    def show(self) -> None:
        print(
            "error in % of the eyes' distance (90 % are under), of the outer corners', of eye points; openness off by"
        )
        for name, rows in sorted(self._rows.items()):
            values = np.array(rows)
            mean, high = values.mean(axis=0), np.quantile(values[:, 0], 0.9)
            print(
                f"{name:<32} {100 * mean[0]:5.2f} ({100 * high:.1f}) {100 * mean[1]:5.2f} {100 * mean[2]:5.2f}", end=""
            )
            print(f"  eyes {mean[3]:.3f} mouth {mean[4]:.3f}  of {len(values)}")
        low, high = np.quantile(self._shut["open"], 0.05), np.quantile(self._shut["shut"], 0.95)
        print(f"real eyes: open, 5 % under {low:.2f}; shut, 5 % over {high:.2f} (n {len(self._shut['shut'])})")
        print(f"presence right in {100 * np.mean(self._present):.2f} % of {len(self._present)}")


def beside_the_mean(run: Answers, pool: scenes.Pool, indices: np.ndarray) -> None:
    """Our distance, and the teacher's own, to the mean of eight answers for squares moved a little and mirrored.

    One answer of the teacher is not the truth: no student can be nearer to it than it is to itself.
    """
    teacher, mirror = scenes.Teacher(), scenes.mesh_mirror(np.asarray(pool.mesh[:3000]))
    off: list[tuple[float, float]] = []
    for index in indices:
        image, mesh = np.asarray(pool.images[index]), np.asarray(pool.mesh[index], np.float64)
        steady = teacher.steady(image, mesh, mirror)[scenes.LANDMARKS, :2]
        once = mesh[scenes.LANDMARKS, :2]
        once[:32] = steady[:32] = pool.eyes[index]
        crop = crops.landmark_crop(crops.keypoints_from_landmarks(steady))
        cut = scenes.warp_small(image, crop.matrix, (SIZE, SIZE), cv2.BORDER_REPLICATE)
        off.append((nme(crop.to_picture(run(cut)[0] * SIZE), steady), nme(once, steady)))
    ours, itself = 100 * np.mean(off, axis=0)
    print(f"to the mean of eight answers of the teacher: {ours:.2f}; its one answer is {itself:.2f} from that", end="")
    print(f"  of {len(off)}")


def runner(model: Path) -> Answers:
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


def nme(found: np.ndarray, points: np.ndarray, part: slice = slice(None)) -> float:
    """Mean distance of the points, px, over the face unit (the distance between the eyes, seen from the front)."""
    unit = crops.face_unit(crops.keypoints_from_landmarks(points))
    return float(np.linalg.norm(found[part] - points[part], axis=1).mean() / unit)


def clips(run: Answers) -> None:
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
            rows.append([nme(points, truth[scenes.LANDMARKS, :2]), yaw, *openness_of(truth), *found[2], found[1]])
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help=".tflite or .pt")
    parser.add_argument("--pool", type=Path, default=Path(".runs/pool"))
    parser.add_argument("--faces", type=int, help="only so many held-out faces, and no clips")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    check(given.model, given.pool, given.faces)
