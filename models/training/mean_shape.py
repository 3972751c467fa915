"""Makes `edge/session/face_shape.py`, the mean 3-D face that head pose is fitted to; no network is trained here.

`python -m models.training.mean_shape [--faces N]` averages the teacher's 468-point mesh over near-frontal faces
(generalised Procrustes, similarity only), makes the mean symmetric and prints its table rounded to thousandths of the
distance between the eyes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.training.scenes import FACE_PX, LANDMARKS, MIRROR, Teacher, data_dir, read_rgb

# The mesh's own depth is too small: what moves in the picture when heads turn (structure from the motion of its points,
# weak perspective, free shape) is 1.7 and 1.4 times as deep in the clips headleft and headshake, 1.2 to 1.5 times in
# rendered heads; in headup, which turns about one axis alone and so hardly tells depth, 0.9 to 1.0. A mean shape that
# is too flat reads a yaw of 20 degrees as 26.
DEPTH = 1.3
TARGET = Path(__file__).resolve().parents[2] / "edge" / "session" / "face_shape.py"
HEADER = '''"""The mean 3-D face, 138 points, as models/training/mean_shape.py writes it; see geometry.py for its use.

Thousandths of the distance between the eyes' centres; x to the right of the picture, y down, z away from the camera.
Source: mean of {count} near-frontal faces of the training pool, labelled by a 468-point mesh, made symmetric; its depth
times {depth}, because that mesh is too flat.
"""

from __future__ import annotations

# fmt: off
FACE_SHAPE = (
'''


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--faces", type=int, default=3000)
    shapes = np.stack(list(near_frontal(parser.parse_args().faces)))
    table = np.rint(1000 * mean_shape(shapes) * [1, 1, DEPTH]).astype(int)
    rows = [", ".join(f"({x}, {y}, {z})" for x, y, z in table[i : i + 6]) + "," for i in range(0, len(table), 6)]
    TARGET.write_text(
        HEADER.format(count=len(shapes), depth=DEPTH) + "".join(f"    {row}\n" for row in rows) + ")\n# fmt: on\n"
    )
    print(f"{len(shapes)} faces, {TARGET}")


def near_frontal(limit: int):
    """Meshes [138, 3] in px, x right, y down, z away, of faces that look at the camera within about 8 degrees."""
    teacher = Teacher()
    files = sorted((data_dir() / "faces" / "train").rglob("*.jpg")) + sorted(
        (data_dir() / "faces" / "train").rglob("*.png")
    )
    for index in np.random.default_rng(11).permutation(len(files))[: 2 * limit]:
        image = cv2.resize(read_rgb(files[index]), (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA)
        points, face = teacher.mesh(image, np.array([64.0, 68.0]), 165.0, 0.0)
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        side = 1.5 * float((high - low).max())
        points, face = teacher.mesh(image, (low + high) / 2, side, 0.0)
        points[:, 2] *= side / 192
        shape = points[LANDMARKS]
        across = shape[16:32].mean(axis=0) - shape[0:16].mean(axis=0)
        turned = abs(np.arctan2(across[2], across[0]))
        if face > 0.9 and turned < np.radians(8):
            yield shape


def mean_shape(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric mean [138, 3] with the eyes level, centred between them, at distance 1; looks at the camera."""
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    mean = shapes[0] / np.linalg.norm(shapes[0])
    for _ in range(6):
        aligned = np.stack([_onto(shape, mean) for shape in shapes])
        mean = np.median(aligned, axis=0)
        mean = (mean + mean[MIRROR] * np.array([-1, 1, 1])) / 2
        # Keep the pose that faces have on average: undo the mean of the rotations that aligned them.
        spin = sum(_rotation(mean, shape) for shape in shapes)
        u, _, vt = np.linalg.svd(spin)
        mean = mean @ (u @ vt).T
        mean = (mean + mean[MIRROR] * np.array([-1, 1, 1])) / 2
        mean /= np.linalg.norm(mean)
    right, left = mean[0:16].mean(axis=0), mean[16:32].mean(axis=0)
    return (mean - (right + left) / 2) / np.linalg.norm(left - right)


def _rotation(source: NDArray, target: NDArray) -> NDArray:
    """Rotation R that brings `source` @ R.T closest to `target` (Kabsch)."""
    u, _, vt = np.linalg.svd(target.T @ source)
    return u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt


def _onto(shape: NDArray, mean: NDArray) -> NDArray:
    turned = shape @ _rotation(shape, mean).T
    return turned * float((turned * mean).sum() / (turned * turned).sum())


if __name__ == "__main__":
    main()
