"""Pixels in, pixels out: levels of a picture, letterboxes and crops; no model and no judgement here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from edge.vision.crops import Crop

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]


class Levels:
    """A picture and its halvings, made when first asked for. Its buffers are kept for the next picture of the size."""

    def __init__(self) -> None:
        self._levels: list[Image] = []
        self._buffers: list[Image] = []
        self._crops: dict[int, Image] = {}

    def show(self, picture_bgr: Image) -> None:
        """Start with a new picture (height, width, 3); the picture itself is borrowed, not copied."""
        self._levels = [picture_bgr]

    def level(self, halvings: int) -> Image:
        """The picture halved so often (area-averaged)."""
        while len(self._levels) <= halvings:
            above = self._levels[-1]
            size = (max(1, above.shape[1] // 2), max(1, above.shape[0] // 2))
            self._levels.append(self._halved(above, size, len(self._levels) - 1))
        return self._levels[halvings]

    def cut(self, crop: Crop) -> Image:
        """The crop's square, (size, size, 3); beyond the picture its border is repeated.

        The array is overwritten by the next crop of the same size.
        """
        halvings = min(3, max(0, int(np.floor(np.log2(0.5 / max(crop.scale, 1e-6)))) + 1)) if crop.scale < 0.5 else 0
        picture = self.level(halvings)
        matrix = crop.matrix
        for _ in range(halvings):
            # The centre of a halved picture's first pixel lies at (0.5, 0.5) of the picture.
            linear = matrix[:, :2]
            matrix = np.column_stack([linear * 2, matrix[:, 2] + linear @ (0.5, 0.5)])
        size = (crop.size_px, crop.size_px)
        square = self._crops.setdefault(crop.size_px, np.empty((*size, 3), np.uint8))
        cv2.warpAffine(picture, matrix, size, dst=square, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return square

    def wipe(self) -> None:
        """Overwrite halvings and crops; the picture itself belongs to the caller."""
        for buffer in (*self._buffers, *self._crops.values()):
            buffer.fill(0)
        self._levels = []

    def _halved(self, above: Image, size: tuple[int, int], slot: int) -> Image:
        if slot < len(self._buffers) and self._buffers[slot].shape[:2] == size[::-1]:
            cv2.resize(above, size, dst=self._buffers[slot], interpolation=cv2.INTER_AREA)
        else:
            for old in self._buffers[slot:]:
                old.fill(0)
            del self._buffers[slot:]
            self._buffers.append(cast("Image", cv2.resize(above, size, interpolation=cv2.INTER_AREA)))
        return self._buffers[slot]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a rectangle of a picture was fitted into a smaller canvas."""

    scale_x: float
    scale_y: float
    left_px: int  # on the canvas
    top_px: int
    from_x: float  # in the picture
    from_y: float

    def to_picture(self, points: npt.NDArray[np.floating]) -> Points:
        """Canvas points (..., 2) in picture pixels; both count from the centre of the first pixel."""
        scale = np.array([self.scale_x, self.scale_y])
        start = np.array([self.from_x, self.from_y])
        corner = np.array([self.left_px, self.top_px])
        found: Points = (np.asarray(points, np.float64) - corner + 0.5) / scale - 0.5 + start
        return found


def letterbox(
    picture: Image,
    canvas: Image,
    *,
    area: tuple[int, int, int, int] | None = None,
    fill: float = 1.0,
) -> Letterbox:
    """Fit `area` (x, y, width, height; default: all) of the picture into the canvas, centred, black around it.

    `fill` is the share of the canvas that the longer side takes, 0..1. The canvas (height, width, 3) is overwritten.
    """
    x, y, width, height = area or (0, 0, picture.shape[1], picture.shape[0])
    scale = fill * min(canvas.shape[1] / width, canvas.shape[0] / height)
    inner_width = min(canvas.shape[1], max(1, round(width * scale)))
    inner_height = min(canvas.shape[0], max(1, round(height * scale)))
    left, top = (canvas.shape[1] - inner_width) // 2, (canvas.shape[0] - inner_height) // 2
    canvas.fill(0)
    cv2.resize(
        picture[y : y + height, x : x + width],
        (inner_width, inner_height),
        dst=canvas[top : top + inner_height, left : left + inner_width],
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    return Letterbox(inner_width / width, inner_height / height, left, top, x, y)
