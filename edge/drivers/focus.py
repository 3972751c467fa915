"""How sharp the lens draws, as one figure from 0 to 100; no judgement, and nothing of the picture is kept but its grey.

Detail of the finest kind is set against detail of the coarse kind: contrast and brightness cancel out, so that the same
lens gives about the same figure on any scene that has edges. Noise would pass for detail and is taken off. (Family of
the measure: band-pass ratios, see Pertuz et al. 2013, Pattern Recognition 46.)
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.drivers.camera import Image

_COARSE_STEPS = 3  # halvings between fine and coarse
# Fine detail against coarse, per pixel, of a lens that hardly draws (0) and of a sharp one (100). With the simulator's
# camera, faces and the printed target: a lens with a spread of 0.6 px gives 100, 1 px 74 to 88, 1.5 px 51 to 65, 2 px
# 36 to 49, 3 px 23 to 36. In the dark at full gain what is left of the noise flatters it.
_RATIO_NONE, _RATIO_FULL = 0.001, 0.1
# Coarse detail below this (grey levels squared) is a bare wall or the dark: there is nothing to be sharp.
_STRUCTURE_MIN = 4.0
_SMOOTHED_OVER = 7  # frames: a hand trembles, and each frame has its own noise
# Of a normal distribution: the mean of the 60 % of magnitudes that are smallest, in standard deviations.
_QUIET_SHARE, _QUIET_MEAN = 60, 0.3966

Grey = NDArray[Any]  # float32; cv2 and numpy lose the width


class FocusMeter:
    """Takes a camera's frames one after the other; the area may change."""

    def __init__(self) -> None:
        self._before: Grey | None = None
        self._recent: deque[int] = deque(maxlen=_SMOOTHED_OVER)

    def measure(self, image_bgr: Image, area: tuple[int, int, int, int] | None = None) -> int | None:
        """0..100, the median of the last frames; None where the area shows no edges to judge by.

        `area`: x, y, width, height in pixels, cut to the frame; None: the middle half in each direction.
        """
        height, width = image_bgr.shape[:2]
        x, y, w, h = area or (width // 4, height // 4, width // 2, height // 2)
        cut = image_bgr[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)]
        figure = self._figure(cut) if min(cut.shape[:2]) >= 32 else None
        if figure is None:
            self._recent.clear()
            return None
        self._recent.append(figure)
        return round(median(self._recent))

    def forget(self) -> None:
        """Overwrite what is kept of the last frame."""
        self._recent.clear()
        if self._before is not None:
            self._before.fill(0)
            self._before = None

    def _figure(self, cut: Image) -> int | None:
        grey = cast("Grey", cv2.cvtColor(cut, cv2.COLOR_BGR2GRAY).astype(np.float32))
        before, self._before = self._before, grey
        coarse_grey = grey
        for _ in range(_COARSE_STEPS):
            coarse_grey = cast("Grey", cv2.pyrDown(coarse_grey))
        coarse = _energy(_laplacian(coarse_grey))
        if coarse < _STRUCTURE_MIN:
            return None
        edges = _laplacian(grey)
        fine = _energy(edges) - _noise(grey, edges, before)
        share = math.log(max(fine, 1e-6) / coarse / _RATIO_NONE) / math.log(_RATIO_FULL / _RATIO_NONE)
        return round(100 * min(1.0, max(0.0, share)))


def _noise(grey: Grey, edges: Grey, before: Grey | None) -> float:
    """Two measures, each of which can only be too high: the quiet places of this frame are so by noise alone, unless
    the scene has texture everywhere; two frames differ by noise alone, unless something moves. So the lower one holds.
    """
    magnitudes = np.abs(edges)
    quiet = magnitudes[magnitudes <= np.percentile(magnitudes, _QUIET_SHARE)]
    by_place = (float(np.mean(quiet)) / _QUIET_MEAN) ** 2
    if before is None or before.shape != grey.shape:
        return by_place
    return min(by_place, _energy(_laplacian(grey - before)) / 2)


def _laplacian(grey: Grey) -> Grey:
    """Without the outermost pixels: there the picture is continued as in a mirror, which makes an edge of any slope."""
    return cast("Grey", cv2.Laplacian(grey, cv2.CV_32F, ksize=1)[1:-1, 1:-1])


def _energy(values: Grey) -> float:
    return float(np.mean(np.square(values)))
