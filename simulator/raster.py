"""Triangles to pixels, by OpenCV's rasteriser: what lies where and how it is lit; no people and no cameras here."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float; numpy arithmetic loses the width

FOCAL_PER_HEIGHT = 1.25  # focal length over picture height: 43.6 degrees of vertical view
FAR_CM = 400.0
_NEAR_CM = 5.0


class Canvas:
    """Buffers of one picture size, kept from frame to frame: fresh ones would cost a quarter of the drawing."""

    def __init__(self, size: tuple[int, int]) -> None:
        width, height = size
        self.size = size
        self.pictures = [np.zeros((height, width, 3), np.float32) for _ in range(2)]
        self.depths = [np.zeros((height, width), np.float32) for _ in range(2)]

    @classmethod
    def fitting(cls, size: tuple[int, int], former: Canvas | None) -> Canvas:
        """The former one where it has this size, else a new one."""
        return former if former is not None and former.size == size else cls(size)

    def clear(self) -> None:
        """Black, and infinitely far."""
        for picture, depth in zip(self.pictures, self.depths, strict=True):
            picture.fill(0.0)
            depth.fill(FAR_CM)


def rasterise(
    canvas: Canvas,
    positions: Array,
    triangles: NDArray[np.int32],
    surface: Array,
    irradiance: Array,
    focal: float = FOCAL_PER_HEIGHT,
    *,
    both_sides: bool = False,
) -> tuple[Array, Array, Array]:
    """Two vertex attributes [V, 3] drawn as pictures [H, W, 3], 0 where nothing is, and the depth [H, W] in cm.

    `positions` [V, 3] in camera space, cm: x right, y up, z < 0 in front of the lens. Triangles whose vertices run
    clockwise on the screen are seen from behind and left out unless `both_sides`. What comes back is the canvas's own.
    """
    canvas.clear()
    settings = cv2.TriangleRasterizeSettings()
    settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
    settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE if both_sides else cv2.RASTERIZE_CULLING_CW)
    fov = 2 * float(np.arctan(0.5 / focal))
    lens = np.eye(4, dtype=np.float32)
    positions = np.ascontiguousarray(positions, np.float32)
    for attribute, picture, depth in zip((surface, irradiance), canvas.pictures, canvas.depths, strict=True):
        values = np.ascontiguousarray(attribute, np.float32)
        cv2.triangleRasterize(positions, triangles, values, picture, depth, lens, fov, _NEAR_CM, FAR_CM, settings)
    return canvas.pictures[0], canvas.pictures[1], canvas.depths[0]


def sample(texture: Array, at: Array) -> Array:
    """`texture` [h, w, 3] read at the pixels `at` [H, W, 2], between its texels."""
    places = np.ascontiguousarray(at, np.float32)
    return cv2.remap(texture, places, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]  # stubs forget None


def project(points: Array, size: tuple[int, int], focal: float = FOCAL_PER_HEIGHT) -> Array:
    """Camera-space points [N, 3] (z < 0 in front) to pixels [N, 2]."""
    width, height = size
    scale = focal * height / -points[:, 2]
    x = width / 2 + points[:, 0] * scale - 0.5
    y = height / 2 - points[:, 1] * scale - 0.5
    return np.stack([x, y], axis=1).astype(np.float32)


def rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Array:
    """[3, 3] object to camera axes, with the signs of DESIGN.md: pitch first, then yaw, then roll."""
    yaw, pitch, roll = np.deg2rad([yaw_deg, pitch_deg, roll_deg])
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return (tilt @ turn @ nod).astype(np.float32)
