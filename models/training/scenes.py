"""Training pictures: the pool of labelled faces, the rooms, and how both become pictures; no networks here.

`python -m models.training.scenes --pool DIR` labels the pool once (the teachers' 468 points and, for the eyelids, the
iris model's eye contour) and keeps it as memory-mapped arrays; everything else reads those.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FACE_PX = 128
# fmt: off
LANDMARKS = np.array([
    33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7,
    263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249,
    70, 63, 105, 66, 107,
    300, 293, 334, 296, 336,
    168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 129, 358,
    61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146,
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
    50, 280, 205, 425, 117, 346, 123, 352,
])
# The iris model's first 16 points, as mesh indices: the eye's lower, then its upper contour.
IRIS_RIGHT = np.array([33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173])
IRIS_LEFT = np.array([263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398])
# Mirroring a picture exchanges these landmarks.
MIRROR = np.concatenate([
    np.arange(16, 32), np.arange(0, 16), np.arange(37, 42), np.arange(32, 37),
    np.array([42, 43, 44, 45, 46, 47, 48, 49, 51, 50, 53, 52]),
    54 + np.array([10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 19, 18, 17, 16, 15, 14, 13, 12, 11]),
    74 + np.array([10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 19, 18, 17, 16, 15, 14, 13, 12, 11]),
    94 + np.concatenate([[0], np.arange(35, 0, -1)]),
    np.array([131, 130, 133, 132, 135, 134, 137, 136]),
])
# fmt: on


def data_dir() -> Path:
    """The folder with faces, rooms and teachers: VOUCH_DATA, else `../shared/data` beside the repository."""
    default = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return Path(os.environ.get("VOUCH_DATA", default))


@dataclass(frozen=True, slots=True)
class Pool:
    """Labelled faces. `images` [N, 128, 128, 3] RGB; `mesh` [N, 468, 3] px of the image (z: nearer is smaller);
    `eyes` [N, 32, 2] px, eyelids as the iris model sees them; `source` [N] folder index; `held_out` [N] for validation.
    """

    images: NDArray[np.uint8]
    mesh: NDArray[np.float32]
    eyes: NDArray[np.float32]
    source: NDArray[np.int16]
    held_out: NDArray[np.bool_]

    def landmarks(self, index: int) -> NDArray[np.float32]:
        """The 138 points, px: the mesh's, with the eyelids of the iris model."""
        points = self.mesh[index, LANDMARKS, :2].copy()
        points[:32] = self.eyes[index]
        return points


def load_pool(folder: Path) -> Pool:
    """The arrays that `label_pool` left in `folder`, memory-mapped."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "mesh", "eyes", "source")}
    held_out = np.arange(len(arrays["images"])) % 20 == 0
    return Pool(**arrays, held_out=held_out)


def load_rooms(*, held_out: bool) -> list[NDArray[np.uint8]]:
    """Face-free rooms, RGB [216, 288, 3]: every fifth is kept for validation."""
    files = sorted((data_dir() / "rooms").glob("*.jpg"))
    return [read_rgb(path) for i, path in enumerate(files) if (i % 5 == 0) is held_out]


def read_rgb(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(path)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class Teacher:
    """MediaPipe's 468-point mesh and iris models: they label, and nothing of them is shipped."""

    def __init__(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        folder = data_dir() / "teachers"
        self._mesh = Interpreter(str(folder / "mp_face_landmark.tflite"), num_threads=1)
        self._iris = Interpreter(str(folder / "mp_iris_landmark.tflite"), num_threads=1)
        for model in (self._mesh, self._iris):
            model.allocate_tensors()

    def mesh(self, image: NDArray[np.uint8], centre: NDArray, side: float, roll: float) -> tuple[NDArray, float]:
        """Mesh [468, 3] in px of `image` and the probability of a face, from the square given in px and radians."""
        matrix = square_to(centre, side, roll, 192)
        crop = cv2.warpAffine(image, matrix, (192, 192), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        outputs = _invoke(self._mesh, crop.astype(np.float32)[None] / 255)
        points = next(o for o in outputs if o.size == 1404).reshape(468, 3).astype(np.float64)
        flag = float(next(o for o in outputs if o.size == 1).ravel()[0])
        inverse = cv2.invertAffineTransform(matrix)
        points[:, :2] = points[:, :2] @ inverse[:, :2].T + inverse[:, 2]
        points[:, 2] *= side / 192
        return points, 1 / (1 + np.exp(-flag))

    def refine(self, image: NDArray[np.uint8], centre: NDArray, side: float) -> tuple[NDArray, float]:
        """Two passes, the second on the square that the first one's points ask for (MediaPipe's own way: 1.5 x)."""
        points, _ = self.mesh(image, centre, side, 0.0)
        return self.track(image, points)

    def track(self, image: NDArray[np.uint8], points: NDArray) -> tuple[NDArray, float]:
        """One pass on the square around known points."""
        across = points[263, :2] - points[33, :2]
        roll = float(np.arctan2(across[1], across[0]))
        turned = points[:, :2] @ np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        low, high = turned.min(axis=0), turned.max(axis=0)
        middle = (low + high) / 2 @ np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        return self.mesh(image, middle, 1.5 * float((high - low).max()), roll)

    def eyelids(self, image: NDArray[np.uint8], points: NDArray) -> NDArray[np.float64]:
        """Eye contours [32, 2] in the order of the 138 landmarks, px, from the iris model."""
        found: dict[int, NDArray] = {}
        for indices, corners, mirrored in ((IRIS_RIGHT, (33, 133), False), (IRIS_LEFT, (362, 263), True)):
            a, b = points[corners[0], :2], points[corners[1], :2]
            side, roll = 2.3 * float(np.hypot(*(b - a))), float(np.arctan2(*(b - a)[::-1]))
            matrix = square_to((a + b) / 2, max(side, 8.0), roll, 64)
            if mirrored:
                matrix[0] *= -1
                matrix[0, 2] += 63
            crop = cv2.warpAffine(image, matrix, (64, 64), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            outputs = _invoke(self._iris, crop.astype(np.float32)[None] / 255)
            contour = next(o for o in outputs if o.size == 213).reshape(71, 3)[:16, :2].astype(np.float64)
            inverse = cv2.invertAffineTransform(matrix)
            found.update(zip(indices.tolist(), contour @ inverse[:, :2].T + inverse[:, 2], strict=True))
        return np.array([found[int(i)] for i in LANDMARKS[:32]])


def square_to(centre: NDArray, side: float, roll: float, size: int) -> NDArray[np.float64]:
    """[2, 3] map from a picture to `size` px: the square around `centre`, turned upright by `roll` radians."""
    scale = size / side
    linear = scale * np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    return np.column_stack([linear, size / 2 - linear @ np.asarray(centre, np.float64)])


def _invoke(model, value: NDArray) -> list[NDArray]:
    model.set_tensor(model.get_input_details()[0]["index"], value)
    model.invoke()
    return [model.get_tensor(d["index"]) for d in model.get_output_details()]


def label_pool(folder: Path) -> None:
    """Label every face of `faces/train`, drop those that the teacher does not take for a face, keep arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    teacher = Teacher()
    root = data_dir() / "faces" / "train"
    folders = sorted(p.name for p in root.iterdir() if p.is_dir())
    files = [(i, f) for i, name in enumerate(folders) for f in sorted((root / name).rglob("*"))]
    files = [(i, f) for i, f in files if f.suffix.lower() in {".jpg", ".jpeg", ".png"}]
    order = np.random.default_rng(7).permutation(len(files))
    images, meshes, eyes, sources = [], [], [], []
    for done, k in enumerate(order):
        source, path = files[k]
        image = cv2.resize(read_rgb(path), (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA)
        mesh, face = teacher.refine(image, np.array([64.0, 68.0]), 165.0)
        if face > 0.5:
            images.append(image)
            meshes.append(mesh.astype(np.float32))
            eyes.append(teacher.eyelids(image, mesh).astype(np.float32))
            sources.append(source)
        if done % 2000 == 0:
            print(done, len(images), flush=True)
    np.save(folder / "images.npy", np.stack(images))
    np.save(folder / "mesh.npy", np.stack(meshes))
    np.save(folder / "eyes.npy", np.stack(eyes))
    np.save(folder / "source.npy", np.array(sources, np.int16))
    (folder / "folders.txt").write_text("\n".join(folders) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pool", type=Path, required=True)
    label_pool(parser.parse_args().pool)
