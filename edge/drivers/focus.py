"""How sharp the lens draws, as one figure from 0 to 100; no judgement, and nothing of the picture is kept but its grey.

Detail of the finest kind is set against detail of the coarse kind: contrast and brightness cancel out, so that the same
lens gives about the same figure on any scene that has edges. Noise would pass for detail: it is measured from how two
frames differ, and taken off. (Family of the measure: band-pass ratios, see Pertuz et al. 2013, Pattern Recognition 46.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.drivers.camera import Image

_COARSE_STEPS = 3  # halvings between fine and coarse
# Fine detail against coarse, per pixel, of a lens that hardly draws (0) and of a sharp one (100). With the simulator's
# camera, faces and prints alike: a lens with a spread of 0.6 px gives 92 to 100, 1 px 72 to 87, 1.5 px 51 to 62, 2 px
# 36 to 48, 3 px 17 to 34. In the dark at full gain what is left of the noise flatters it.
_RATIO_NONE, _RATIO_FULL = 0.001, 0.1
# Coarse detail below this (grey levels squared) is a bare wall or the dark: there is nothing to be sharp.
_STRUCTURE_MIN = 4.0

Grey = NDArray[Any]  # float32; cv2 and numpy lose the width


@dataclass(frozen=True, slots=True)
class Focus:
    """`figure` 0..100; None where the area shows no edges to judge by, or before the second frame."""

    figure: int | None


class FocusMeter:
    """Takes a camera's frames one after the other; the area may change, and then the next figure is one frame later."""

    def __init__(self) -> None:
        self._before: Grey | None = None

    def measure(self, image_bgr: Image, area: tuple[int, int, int, int] | None = None) -> Focus:
        """`area`: x, y, width, height in pixels, cut to the frame; None: the middle half in each direction."""
        height, width = image_bgr.shape[:2]
        x, y, w, h = area or (width // 4, height // 4, width // 2, height // 2)
        cut = image_bgr[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)]
        if min(cut.shape[:2]) < 32:
            return Focus(None)
        grey = cast("Grey", cv2.cvtColor(cut, cv2.COLOR_BGR2GRAY).astype(np.float32))
        before, self._before = self._before, grey
        if before is None or before.shape != grey.shape:
            return Focus(None)
        fine = _detail(grey) - _detail(grey - before) / 2
        small, small_before = _shrunk(grey), _shrunk(before)
        coarse = _detail(small) - _detail(small - small_before) / 2
        if coarse < _STRUCTURE_MIN:
            return Focus(None)
        ratio = max(fine, 1e-6) / coarse
        share = math.log(ratio / _RATIO_NONE) / math.log(_RATIO_FULL / _RATIO_NONE)
        return Focus(round(100 * min(1.0, max(0.0, share))))

    def forget(self) -> None:
        """Overwrite what is kept of the last frame."""
        if self._before is not None:
            self._before.fill(0)
            self._before = None


def _detail(grey: Grey) -> float:
    """Mean square of the Laplacian."""
    return float(np.mean(np.square(cv2.Laplacian(grey, cv2.CV_32F, ksize=1))))


def _shrunk(grey: Grey) -> Grey:
    for _ in range(_COARSE_STEPS):
        grey = cast("Grey", cv2.pyrDown(grey))
    return grey
