"""Training pictures: the pool of labelled faces, the rooms, and how both become pictures; no networks here.

`python -m models.training.scenes --pool DIR` labels the pool once (the teachers' 468 points and, for the eyelids, the
iris model's eye contour) and keeps it as memory-mapped arrays; everything else reads those.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
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


# By how much of the face's side a square is larger than the face (MediaPipe's own way: 1.5), and where it lies.
SQUARES = ((1.5, (0.0, 0.0)), (1.4, (0.02, 0.0)), (1.6, (-0.02, 0.0)), (1.5, (0.0, 0.02)), (1.5, (0.0, -0.02)))


def data_dir() -> Path:
    """The folder with faces, rooms and teachers: VOUCH_DATA, else `../shared/data` beside the repository."""
    default = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return Path(os.environ.get("VOUCH_DATA", default))


@dataclass(frozen=True, slots=True)
class Pool:
    """Labelled faces. `images` [N, 128, 128, 3] RGB; `mesh` [N, 468, 3] px of the image (z: nearer is smaller);
    `steady` [N, 468, 3] the mean of several such answers, to learn from (the same as `mesh` where none were made);
    `eyes` [N, 32, 2] px, eyelids as the iris model sees them; `source` [N] folder index; `held_out` [N] for validation.
    """

    images: NDArray[np.uint8]
    mesh: NDArray[np.float32]
    steady: NDArray[np.float32]
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
    averaged = folder / "steady.npy"
    arrays["steady"] = np.load(averaged, mmap_mode="r") if averaged.exists() else arrays["mesh"]
    held_out = np.arange(len(arrays["images"])) % 20 == 0
    return Pool(**arrays, held_out=held_out)


def load_rooms(*, held_out: bool) -> list[NDArray[np.uint8]]:
    """Face-free rooms, RGB [216, 288, 3]: every fifth is kept for validation."""
    files = sorted((data_dir() / "rooms").glob("*.jpg"))
    if not files:
        raise FileNotFoundError(data_dir() / "rooms")
    return [read_rgb(path) for i, path in enumerate(files) if (i % 5 == 0) is held_out]


def read_rgb(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(path)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def frames(clip: Path):
    """The frames of a video file, RGB."""
    capture = cv2.VideoCapture(str(clip))
    while True:
        more, frame = capture.read()
        if not more:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


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
        middle, side, roll = _square_of(points)
        return self.mesh(image, middle, 1.5 * side, roll)

    def steady(self, image: NDArray[np.uint8], points: NDArray, mirror: NDArray) -> NDArray[np.float64]:
        """Mean mesh of eight squares around known points, three of them on the mirrored picture (`mesh_mirror`).

        One answer is not the truth: 1.5 or 1.4 times the face as square moves it by 3 % of the distance between the
        eyes, a mirrored picture by 2.7 %. A student cannot learn that part, and a mean of eight has little of it.
        """
        width = image.shape[1] - 1
        mirrored = np.ascontiguousarray(image[:, ::-1])
        found = [self._around(image, points, grow, move) for grow, move in SQUARES]
        for grow, move in SQUARES[:3]:
            other = points.copy()
            other[:, 0] = width - points[:, 0]
            answer = self._around(mirrored, other[mirror], grow, move)[mirror]
            answer[:, 0] = width - answer[:, 0]
            found.append(answer)
        return np.mean(found, axis=0)

    def _around(self, image: NDArray, points: NDArray, grow: float, move: tuple[float, float]) -> NDArray[np.float64]:
        middle, side, roll = _square_of(points)
        return self.mesh(image, middle + side * np.asarray(move), grow * side, roll)[0]

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


def _square_of(points: NDArray) -> tuple[NDArray, float, float]:
    """Centre and side of the square around a mesh, upright with the eyes, and their roll in radians."""
    across = points[263, :2] - points[33, :2]
    roll = float(np.arctan2(across[1], across[0]))
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    turned = points[:, :2] @ turn
    low, high = turned.min(axis=0), turned.max(axis=0)
    return (low + high) / 2 @ turn.T, float((high - low).max()), roll


def mesh_mirror(meshes: NDArray) -> NDArray[np.intp]:
    """Which of the mesh's 468 points a mirror makes of each [468]: from the mean of many faces [N, 468, 3].

    ValueError where the mean is too uneven to tell.
    """
    frontal = [_facing(mesh.astype(np.float64)) for mesh in meshes if abs(mesh_yaw(mesh)) < 0.1]
    mean = np.mean(frontal, axis=0)
    found = np.linalg.norm(mean[:, None] - mean[None] * [-1, 1, 1], axis=2).argmin(axis=1)
    if (found[found] != np.arange(len(found))).any() or (found[LANDMARKS] != LANDMARKS[MIRROR]).any():
        raise ValueError("the mean mesh is not symmetric enough")
    return found


def _facing(mesh: NDArray) -> NDArray[np.float64]:
    """The mesh turned so that what joins its mirrored landmarks is the x axis, in units of the eyes' outer distance."""
    points = mesh[LANDMARKS]
    across = points - points[MIRROR]
    axis = (across * np.sign(across[:, :1] + 1e-9)).sum(axis=0)
    axis /= np.linalg.norm(axis)
    x, y, z = np.cross(axis, [1.0, 0.0, 0.0])
    spin = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + spin + spin @ spin / (1 + axis[0])
    return (mesh - points.mean(axis=0)) @ turn.T / np.linalg.norm(mesh[263] - mesh[33])


def first_face(teacher: Teacher, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mesh of the largest certain face on a grid of squares: for pictures with one person."""
    h, w = picture.shape[:2]
    best = None
    for y in np.arange(0.12, 0.75, 0.09):
        for x in np.arange(0.2, 0.85, 0.08):
            for side in (0.3, 0.5, 0.75):
                mesh, face = teacher.mesh(picture, np.array([x * w, y * h]), side * h, 0.0)
                mesh, face = teacher.track(picture, mesh) if face > 0.5 else (mesh, face)
                spread = np.ptp(mesh[:, 0]) * np.ptp(mesh[:, 1])
                value = (face > 0.9, spread if face > 0.9 else face)
                if best is None or value > best[0]:
                    best = (value, mesh)
    return best[1]


def square_to(centre: NDArray, side: float, roll: float, size: int) -> NDArray[np.float64]:
    """[2, 3] map from a picture to `size` px: the square around `centre`, turned upright by `roll` radians."""
    scale = size / side
    linear = scale * np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    return np.column_stack([linear, size / 2 - linear @ np.asarray(centre, np.float64)])


@dataclass(frozen=True, slots=True)
class Face:
    """One face to paste: image [128, 128, 3] RGB and its 138 landmarks, px; `yaw` about -1..1 (tangent, from depth)."""

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    yaw: float


def draw_face(rng: np.random.Generator, pool: Pool, indices: NDArray, turner: HeadTurner | None = None) -> Face:
    """A face of the pool, mirrored half of the time; with a `turner`, half of them turned and tilted further."""
    index = int(rng.choice(indices))
    image, landmarks = np.asarray(pool.images[index]), pool.landmarks(index)
    yaw = mesh_yaw(pool.mesh[index])
    if turner is not None and rng.random() < 0.5:
        mesh = np.asarray(pool.mesh[index], np.float64).copy()
        mesh[LANDMARKS[:32], :2] = pool.eyes[index]
        # Further to the side it shows: what the picture never saw can only be smeared.
        aim = np.clip(np.arctan(yaw) + rng.uniform(-0.2, 0.5) * (1 if yaw > 0 else -1), -0.8, 0.8)
        image, mesh = turner.turn(image, mesh, np.arctan(yaw) - aim, rng.normal(0, 0.35))
        image = np.ascontiguousarray(image[turner.MARGIN :][:FACE_PX, turner.MARGIN :][:, :FACE_PX])
        landmarks = (mesh[LANDMARKS, :2] - turner.MARGIN).astype(np.float32)
        yaw = float(np.tan(aim))
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        landmarks = landmarks[MIRROR]
        landmarks[:, 0] = FACE_PX - 1 - landmarks[:, 0]
        yaw = -yaw
    return Face(image, landmarks, yaw)


def mesh_yaw(mesh: NDArray) -> float:
    """Tangent of the head's yaw, from the depths of the face's two sides (234: picture left, 454: picture right)."""
    return float(mesh_yaws(mesh[None])[0])


def mesh_yaws(meshes: NDArray) -> NDArray[np.float64]:
    """The same of many meshes [N, 468, 3]."""
    across = (meshes[:, 454] - meshes[:, 234]).astype(np.float64)
    return across[:, 2] / np.maximum(across[:, 0], 1e-3)


class HeadTurner:
    """Shows a labelled face from another side: its picture on its 3-D mesh, set before its own background."""

    MARGIN = 24
    DISTANCE = 600.0  # px; a face of 100 px seen from six times its width

    def __init__(self, pool: Pool) -> None:
        frontal = [i for i in range(3000) if abs(mesh_yaw(pool.mesh[i])) < 0.05]
        mean = np.mean([pool.mesh[i] - pool.mesh[i].mean(axis=0) for i in frontal], axis=0).astype(np.float64)
        mean[[13, 312, 82, 81, 311, 80, 310, 191, 415], 1] -= 2  # open the mouth a little: no triangle across its line
        flat = self._with_rings(mean)[:, :2]
        low, span = flat.min(axis=0) - 1, np.ptp(flat, axis=0).max() + 2
        subdivision = cv2.Subdiv2D((0, 0, 1000, 1000))
        scaled = ((flat - low) / span * 998).astype(np.float32)
        ids = {}
        for i, p in enumerate(scaled):
            ids[(float(p[0]), float(p[1]))] = i
            subdivision.insert((float(p[0]), float(p[1])))
        triangles = []
        for t in subdivision.getTriangleList():
            corner = [ids.get((float(t[k]), float(t[k + 1]))) for k in (0, 2, 4)]
            if None not in corner:
                triangles.append(corner)
        self._triangles = np.array(triangles, np.int32)
        settings = cv2.TriangleRasterizeSettings().setShadingType(cv2.RASTERIZE_SHADING_SHADED)
        self._settings = settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)

    @staticmethod
    def _with_rings(mesh: NDArray) -> NDArray:
        """The mesh and two rings around its oval that fall back like the sides of a head."""
        oval = mesh[LANDMARKS[94:130]]
        centre = oval.mean(axis=0)
        width = float(np.ptp(oval[:, 0]))
        rings = []
        for wide, back in ((1.18, 0.25), (1.5, 0.8)):
            ring = centre + (oval - centre) * wide
            ring[:, 2] = oval[:, 2] + back * width
            rings.append(ring)
        return np.concatenate([mesh, *rings])

    def turn(
        self, image: NDArray, mesh: NDArray, yaw: float, pitch: float, jaw: float = 0.0
    ) -> tuple[NDArray, NDArray]:
        """The face turned by radians about its own axes: image [176, 176, 3] and mesh [468, 3] in its pixels.

        jaw: how far the lower jaw is dropped, in widths of the mouth.
        """
        size = FACE_PX + 2 * self.MARGIN
        flat = self._with_rings(mesh.astype(np.float64))
        mesh = drop_jaw(mesh.astype(np.float64), jaw) if jaw > 0 else mesh
        vertices = self._with_rings(mesh.astype(np.float64))
        oval = mesh[LANDMARKS[94:130]].astype(np.float64)
        pivot = oval.mean(axis=0)
        pivot[2] += 0.2 * float(np.ptp(oval[:, 0]))
        cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
        tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        rotation = tilt @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        turned = (vertices - pivot) @ rotation.T + pivot
        half = size / 2
        middle = FACE_PX / 2
        view = np.stack(
            [turned[:, 0] - middle, -(turned[:, 1] - middle), -(self.DISTANCE + turned[:, 2] - pivot[2])], axis=1
        ).astype(np.float32)
        texture = np.zeros((len(vertices), 3), np.float32)
        texture[:, :2] = (flat[:, :2] + 64) / 256
        ys, xs = np.mgrid[0:size, 0:size].astype(np.float32) - self.MARGIN
        colour = np.dstack([(xs + 64) / 256, (ys + 64) / 256, np.zeros_like(xs)])
        depth = np.full((size, size), 5000.0, np.float32)
        field = 2 * np.arctan(half / self.DISTANCE)
        cv2.triangleRasterize(
            view,
            self._triangles,
            texture,
            colour,
            depth,
            np.eye(4, dtype=np.float32),
            field,
            10.0,
            5000.0,
            self._settings,
        )
        source = colour[..., :2] * 256 - 64
        out = cv2.remap(image, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        scale = self.DISTANCE / (self.DISTANCE + turned[:468, 2] - pivot[2])
        points = turned[:468].copy()
        points[:, 0] = half + (turned[:468, 0] - middle) * scale
        points[:, 1] = half + (turned[:468, 1] - middle) * scale
        if jaw > 0:
            out = _dark_mouth(out, points[LANDMARKS[74:94], :2], np.median(image[80:110, 40:88], axis=(0, 1)))
        return out, points


def drop_jaw(mesh: NDArray, jaw: float) -> NDArray[np.float64]:
    """The mesh with all below the line between the lips moved down by `jaw` widths of the mouth; ears stay."""
    outer, inner = mesh[LANDMARKS[54:74]], mesh[LANDMARKS[74:94]]
    width = float(np.linalg.norm(outer[10, :2] - outer[0, :2]))
    across = (outer[10, :2] - outer[0, :2]) / max(width, 1.0)
    down = np.array([-across[1], across[0]])
    middle = (outer[0, :2] + outer[10, :2]) / 2
    x, y = (mesh[:, :2] - middle) @ across / width, (mesh[:, :2] - middle) @ down / width
    along, height = (inner[:, :2] - middle) @ across / width, (inner[:, :2] - middle) @ down / width
    upper, lower = slice(0, 11), np.r_[10:20, 0]
    line = (np.interp(x, along[upper], height[upper]) + np.interp(x, along[lower][::-1], height[lower][::-1])) / 2
    share = np.clip((y - line) / 0.04, 0, 1) * np.clip((1.7 - np.abs(x)) / 0.8, 0, 1)
    share[LANDMARKS[54 + np.arange(1, 10)]] = share[LANDMARKS[74 + np.arange(1, 10)]] = 0.0
    arch = np.sin(np.pi * np.arange(1, 10) / 10) ** 0.6
    share[LANDMARKS[54 + np.arange(11, 20)]] = share[LANDMARKS[74 + np.arange(11, 20)]] = arch
    share[LANDMARKS[[54, 64, 74, 84]]] = 0.25
    moved = mesh.copy()
    moved[:, :2] += (share * jaw * width)[:, None] * down
    moved[:, 2] += share * jaw * width * 0.3  # the jaw swings back as it drops
    return moved


def _dark_mouth(image: NDArray, inner: NDArray, skin: NDArray) -> NDArray[np.uint8]:
    mask = np.zeros(image.shape[:2], np.float32)
    cv2.fillPoly(mask, [np.round(inner * 8).astype(np.int32)], 1.0, lineType=cv2.LINE_AA, shift=3)
    mask = cv2.blur(mask, (2, 2))[..., None]
    teeth = np.zeros_like(mask[..., 0])
    upper = np.concatenate(
        [inner[1:10], (inner[1:10] + 0.18 * (inner[[19, 18, 17, 16, 15, 14, 13, 12, 11]] - inner[1:10]))[::-1]]
    )
    cv2.fillPoly(teeth, [np.round(upper * 8).astype(np.int32)], 1.0, shift=3)
    inside = np.asarray(skin) * [0.3, 0.17, 0.17] + teeth[..., None] * np.asarray(skin).mean() * 0.75
    return np.clip(image + mask * (inside - image), 0, 255).astype(np.uint8)


def room_background(rng: np.random.Generator, rooms: list, width: int, height: int) -> NDArray[np.float32]:
    """A room cut at random, or (one in four) a plain wall with a gradient: float32 RGB 0..255.

    There are a few hundred rooms only: many cuts are turned upside down, coloured anew, or laid over another.
    """
    if rng.random() < 0.75:
        cut = _room_cut(rng, rooms, width, height)
        if rng.random() < 0.25:
            cut = cut[::-1]
        if rng.random() < 0.25:
            cut = cut[..., rng.permutation(3)]
        if rng.random() < 0.15:
            share = rng.uniform(0.3, 0.7)
            cut = share * cut + (1 - share) * _room_cut(rng, rooms, width, height)
        return np.ascontiguousarray(cut, np.float32)
    base = rng.uniform(0, 1, 3) ** 0.5 * 255 if rng.random() < 0.5 else np.full(3, rng.uniform(0, 1) ** 0.4 * 255)
    slope = rng.normal(0, 25, 2)
    ramp = np.linspace(-1, 1, width)[None] * slope[0] + np.linspace(-1, 1, height)[:, None] * slope[1]
    return np.clip(base + ramp[..., None], 0, 255).astype(np.float32)


def _room_cut(rng: np.random.Generator, rooms: list, width: int, height: int) -> NDArray[np.float32]:
    room = rooms[int(rng.integers(len(rooms)))]
    h, w = room.shape[:2]
    part = rng.uniform(0.45, 1.0)
    ch, cw = int(h * part), int(min(w, h * part * width / height))
    y, x = int(rng.integers(0, h - ch + 1)), int(rng.integers(0, w - cw + 1))
    cut = room[y : y + ch, x : x + cw]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)


def head_mask(rng: np.random.Generator, landmarks: NDArray, *, oval_share: float = 0.55) -> NDArray[np.float32]:
    """What of a face's image is pasted [128, 128] 0..1: the head's oval, widened, or the whole square, softly edged."""
    mask = np.zeros((FACE_PX, FACE_PX), np.float32)
    if rng.random() < oval_share:
        oval = landmarks[94:130]
        centre = oval.mean(axis=0)
        wide = rng.uniform(1.02, 1.4)
        shape = centre + (oval - centre) * [wide, wide * rng.uniform(1.0, 1.15)]
        cv2.fillConvexPoly(mask, cv2.convexHull(shape.astype(np.float32)).astype(np.int32), 1.0)
        edge = int(rng.integers(1, 7)) * 2 + 1
    else:
        inset = int(rng.integers(3, 12))
        mask[inset:-inset, inset:-inset] = 1
        edge = int(rng.integers(0, inset)) * 2 + 1
    mask[[0, -1]] = 0
    mask[:, [0, -1]] = 0
    return cv2.blur(mask, (edge, edge))


def place(rng: np.random.Generator, landmarks: NDArray, height: float, centre: NDArray) -> NDArray[np.float64]:
    """[2, 3] map of a face's image into a scene: its oval `height` px high at `centre`, tilted up to 30 degrees."""
    oval = landmarks[94:130]
    low, high = oval.min(axis=0), oval.max(axis=0)
    scale = height / float(high[1] - low[1])
    roll = np.clip(rng.normal(0, 0.2), -0.55, 0.55)
    squeeze = rng.uniform(0.85, 1.08)
    linear = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]) @ np.diag([scale * squeeze, scale])
    return np.column_stack([linear, centre - linear @ ((low + high) / 2)])


def warp_small(image: NDArray, matrix: NDArray, size: tuple[int, int], border: int) -> NDArray:
    """warpAffine without aliasing: the image is halved (by area) until the map shrinks it less than twofold."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    matrix = matrix.copy()
    while scale < 0.6 and min(image.shape[:2]) >= 16:
        h, w = image.shape[:2]
        image = cv2.resize(image, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
        matrix[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5])
        matrix[:, :2] *= 2
        scale *= 2
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)


def paste(scene: NDArray, image: NDArray, mask: NDArray, matrix: NDArray) -> None:
    """Blend `image` under `mask` into the float scene, in place."""
    h, w = scene.shape[:2]
    corners = np.array([[0, 0], [FACE_PX, 0], [0, FACE_PX], [FACE_PX, FACE_PX]]) @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, [w - 1, h - 1])
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, [left + 1, top + 1], [w, h])
    moved = matrix.copy()
    moved[:, 2] -= [left, top]
    size = (int(right - left), int(bottom - top))
    alpha = warp_small(mask, moved, size, cv2.BORDER_CONSTANT)[..., None]
    part = scene[top:bottom, left:right]
    part += alpha * (warp_small(image, moved, size, cv2.BORDER_REPLICATE) - part)


def shoulders(rng: np.random.Generator, scene: NDArray, image: NDArray, box: NDArray) -> None:
    """A neck of skin colour and clothes below the face's box (left, top, right, bottom), in place."""
    left, top, right, bottom = box
    w, h = right - left, bottom - top
    cx = (left + right) / 2
    skin = image[80:100, 50:78].reshape(-1, 3).mean(axis=0)
    body = np.array(
        [
            [cx - w * 0.4, bottom + h * 0.25], [cx - w * rng.uniform(0.9, 1.4), bottom + h * rng.uniform(0.4, 0.7)],
            [cx - w * 1.5, bottom + h * 4], [cx + w * 1.5, bottom + h * 4],
            [cx + w * rng.uniform(0.9, 1.4), bottom + h * rng.uniform(0.4, 0.7)], [cx + w * 0.4, bottom + h * 0.25],
        ]
    )  # fmt: skip
    neck = [[cx - w * 0.3, bottom - h * 0.3], [cx + w * 0.3, bottom - h * 0.3]]
    neck += [[cx + w * 0.38, bottom + h * 0.4], [cx - w * 0.38, bottom + h * 0.4]]
    cv2.fillConvexPoly(scene, np.array(neck, np.int32), (skin * rng.uniform(0.6, 1.0)).tolist())
    cv2.fillPoly(scene, [body.astype(np.int32)], rng.uniform(0, 255, 3).tolist())


def photometric(rng: np.random.Generator, scene: NDArray, *, grey: float = 0.2) -> NDArray[np.uint8]:
    """What a camera does to a picture: light, colour, blur, noise, compression. uint8 out."""
    x = scene.astype(np.float32)
    if rng.random() < 0.85:
        x = x * (rng.uniform(0.5, 1.35) * rng.uniform(0.88, 1.12, 3)).astype(np.float32)
        x += np.float32(rng.uniform(-20, 20))
    if rng.random() < 0.3:
        x = 255 * np.power(np.clip(x, 0, 255) / 255, rng.uniform(0.6, 1.7))
    if rng.random() < grey:
        x = np.repeat(x @ np.array([[0.3], [0.59], [0.11]], np.float32), 3, axis=2)
    if rng.random() < 0.2:
        x = x * (1 + np.linspace(-1, 1, x.shape[1])[None, :, None] * rng.uniform(-0.5, 0.5)).astype(np.float32)
    if rng.random() < 0.25:
        length = int(rng.integers(2, 5))
        x = cv2.blur(x, (length, 1) if rng.random() < 0.5 else (length, length))
    if rng.random() < 0.5:
        x += cv2.randn(np.empty_like(x), 0, rng.uniform(1, 9))
    out = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        quality = int(rng.integers(35, 90))
        out = cv2.imdecode(cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return out


def seen_by_camera(rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What `photometric` does, for a small uint8 picture and at a tenth of the cost; also coarse and half hidden."""
    if rng.random() < 0.06:  # a hand, a phone, a mask's edge
        h, w = picture.shape[:2]
        y, x = int(rng.integers(0, h)), int(rng.integers(0, w))
        picture = picture.copy()
        picture[y : y + int(rng.integers(h // 8, h // 3)), x : x + int(rng.integers(w // 8, w // 3))] = rng.integers(
            0, 256, 3
        )
    if rng.random() < 0.18:
        side = int(rng.integers(44, 100))
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    elif rng.random() < 0.25:
        length = int(rng.integers(2, 5))
        picture = cv2.blur(picture, (length, 1) if rng.random() < 0.5 else (length, length))
    if rng.random() < 0.15:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.15:
        ramp = 1 + np.linspace(-1, 1, picture.shape[1]) * rng.uniform(-0.5, 0.5)
        picture = np.clip(picture * ramp[None, :, None].astype(np.float32), 0, 255).astype(np.uint8)
    if rng.random() < 0.85:
        levels = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.normal(0, 0.25))
        levels = 0.5 + (levels - 0.5) * np.exp(rng.normal(-0.05, 0.2)) + rng.normal(-0.02, 0.09)
        tint = np.exp(rng.normal(0, 0.07, 3)) * rng.uniform(0.6, 1.2)
        picture = cv2.LUT(picture, (levels * tint * 255).clip(0, 255).astype(np.uint8)[None])
    if rng.random() < 0.4:
        noise = cv2.randn(np.empty(picture.shape, np.int16), 0, rng.uniform(1, 9))
        picture = cv2.add(picture, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.15:
        coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 85))])[1]
        picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return picture


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


def steady_pool(folder: Path) -> None:
    """Adds `steady.npy` to a labelled pool: what the teacher says of each face on average."""
    teacher = Teacher()
    images, meshes = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "mesh"))
    mirror = mesh_mirror(np.asarray(meshes[:3000]))
    steady = np.empty_like(meshes)
    for k, (image, mesh) in enumerate(zip(images, meshes, strict=True)):
        steady[k] = teacher.steady(np.asarray(image), np.asarray(mesh, np.float64), mirror)
        if k % 2000 == 0:
            print(k, "averaged", flush=True)
    np.save(folder / "steady.npy", steady)


def rendered_live(seed: int, count: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray]]:
    """A drawn person before the simulated camera: frames RGB, landmarks [138, 2] px, openness [3] of the drawing."""
    from simulator.camera import SimulatedCamera, VirtualClock
    from simulator.person import Person, PersonState, render_linear
    from simulator.room import draw_light, draw_room

    rng = np.random.default_rng([31, seed])
    person, light = Person.from_seed(seed), draw_light(seed + 11)
    room = draw_room(seed + 12, (640, 480))

    class Stage:
        truth = None
        state = None

        def look(self, _t_s: float, size: tuple[int, int]) -> NDArray[np.float32]:
            shut = rng.random(2) * (rng.random() < 0.5)
            self.state = PersonState(
                yaw_deg=float(rng.uniform(-42, 42) * (rng.random() < 0.6)),
                pitch_deg=float(rng.normal(0, 9)),
                roll_deg=float(rng.normal(0, 6)),
                eye_right=float(1 - shut[0]),
                eye_left=float(1 - shut[1 if rng.random() < 0.3 else 0]),
                mouth=float(rng.random() * (rng.random() < 0.3)),
                x_cm=float(rng.normal(0, 5)),
                y_cm=float(rng.normal(-1, 3)),
                distance_cm=float(rng.uniform(34, 85)),
            )
            view = render_linear(person, self.state, size, room, light)
            self.truth = view.truth
            return view.linear * np.float32(0.2 / max(float(view.linear.mean()), 0.01))

        def on_screen(self, _screen: object) -> None:
            return

    stage = Stage()
    camera = SimulatedCamera(stage, seed=seed, clock=VirtualClock())
    for _ in range(count):
        frame = cv2.cvtColor(camera.read(1.0).image, cv2.COLOR_BGR2RGB)
        opening = np.array([stage.state.eye_right, stage.state.eye_left, stage.state.mouth], np.float32)
        yield frame, stage.truth.landmarks.astype(np.float32), opening


def draw_people(folder: Path, first: int, count: int, frames_each: int = 6) -> None:
    """Rendered crops for training: `landmarks.npz`, drawn people with exact points and lids.

    Seeds start at `first`: far from those that demonstrations and tests use.
    """
    from edge.vision import crops

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(17)
    cuts, points, openness = [], [], []
    for seed in range(first, first + count):
        for frame, landmarks, opening in rendered_live(seed, frames_each):
            exact = crops.landmark_crop(crops.keypoints_from_landmarks(landmarks))
            side = exact.size_px / exact.scale
            upright = float(np.arctan2(exact.matrix[0, 1], exact.matrix[0, 0])) + rng.normal(0, 0.12)
            centre = exact.to_picture(np.array([[exact.size_px / 2] * 2]))[0] + rng.uniform(-0.1, 0.1, 2) * side
            near = crops.Crop(square_to(centre, side * np.exp(rng.uniform(-0.18, 0.18)), upright, 128), 128)
            cuts.append(warp_small(frame, near.matrix, (128, 128), cv2.BORDER_REPLICATE))
            points.append(near.to_crop(landmarks) / 128)
            openness.append(opening)
        print(seed, len(cuts), flush=True)
        if seed % 20 == 19 or seed == first + count - 1:
            shapes = {"points": np.array(points, np.float32), "openness": np.array(openness, np.float32)}
            np.savez(folder / "landmarks.npz", crops=np.stack(cuts), **shapes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pool", type=Path, help="label the faces into this folder")
    parser.add_argument("--steady", type=Path, help="average several answers for each face of this folder's pool")
    parser.add_argument("--people", type=Path, help="draw people, for the landmarks, into this folder")
    parser.add_argument("--first", type=int, default=70_000)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--frames", type=int, default=6, help="of each person")
    given = parser.parse_args()
    if given.pool:
        label_pool(given.pool)
    if given.steady:
        steady_pool(given.steady)
    if given.people:
        draw_people(given.people, given.first, given.count, given.frames)
