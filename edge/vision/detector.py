"""Finds faces in a whole picture; following a face from frame to frame belongs to pipeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.vision.pack import BoxForm, DetectorSpec, Meaning
from edge.vision.picture import Image, Letterbox, letterbox
from edge.vision.runtime import FloatArray, Model, probability

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One face, pixels of the picture. `keypoints` (5, 2): the subject's right eye, left eye, nose, mouth corners."""

    box: tuple[float, float, float, float]  # x, y, width, height
    score: float  # 0..1
    keypoints: Points


class Detector:
    """Letterbox, run, decode, drop overlaps."""

    def __init__(self, spec: DetectorSpec, model: Model) -> None:
        self._spec = spec
        self._model = model
        self._canvas = np.zeros(spec.input.shape[1:], np.uint8)
        self._centres, self._units = _cells(spec)

    def detect(
        self, picture_bgr: Image, *, area: tuple[int, int, int, int] | None = None, fill: float = 1.0
    ) -> list[Detection]:
        """Faces of the picture, or of `area` of it (x, y, width, height), widest first.

        `fill` under 1 shrinks the picture on the canvas: a face that fills it is found only so.
        """
        fitted = letterbox(picture_bgr, self._canvas, area=area, fill=fill)
        outputs = self._model.run(self._canvas)
        scores = probability(outputs[Meaning.SCORE][:, 0], self._spec.score)
        good = np.flatnonzero(scores >= self._spec.score_min)
        if not good.size:
            return []
        corners, keypoints = self._decode(outputs, good, fitted)
        found = [
            Detection((float(c[0, 0]), float(c[0, 1]), float(c[1, 0] - c[0, 0]), float(c[1, 1] - c[0, 1])), float(s), k)
            for c, s, k in zip(corners, scores[good], keypoints, strict=True)
        ]
        return without_overlaps(found, self._spec.overlap_max)

    def wipe(self) -> None:
        """Overwrite what the last picture left."""
        self._canvas.fill(0)
        self._model.wipe()

    def _decode(
        self, outputs: dict[Meaning, FloatArray], good: npt.NDArray[np.intp], fitted: Letterbox
    ) -> tuple[Points, Points]:
        """Corners (n, 2, 2) and keypoints (n, 5, 2) in the picture's pixels."""
        centres, units = self._centres[good], self._units[good]
        box = outputs[Meaning.BOX][good].astype(np.float64) * units
        if self._spec.box is BoxForm.EDGES:
            corners = np.stack([centres - box[:, :2], centres + box[:, 2:]], axis=1)
        else:
            middle, half = centres + box[:, :2], box[:, 2:] / 2
            corners = np.stack([middle - half, middle + half], axis=1)
        raw = outputs[Meaning.KEYPOINTS][good].astype(np.float64) * units
        picked = raw.reshape(len(good), -1, 2)[:, list(self._spec.keypoints)]
        return fitted.to_picture(corners), fitted.to_picture(picked + centres[:, None])


def without_overlaps(found: list[Detection], overlap_max: float) -> list[Detection]:
    """Greedy non-maximum suppression by score; what is left, widest first."""
    kept: list[Detection] = []
    for candidate in sorted(found, key=lambda d: d.score, reverse=True):
        if all(overlap(candidate.box, other.box) <= overlap_max for other in kept):
            kept.append(candidate)
    return sorted(kept, key=lambda d: d.box[2], reverse=True)


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection of two boxes (x, y, width, height) over the smaller one, 0..1.

    Over the smaller one, not over the union: a detector that sees a face in a face must not count two.
    """
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    smaller = min(a[2] * a[3], b[2] * b[3])
    return max(wide, 0.0) * max(high, 0.0) / smaller if smaller > 0 else 0.0


def _cells(spec: DetectorSpec) -> tuple[Points, Points]:
    """Centre (n, 2) of every cell in canvas pixels, and the unit (n, 1) of its numbers."""
    centres: list[Points] = []
    units: list[Points] = []
    for grid in spec.grids:
        rows, columns = spec.input.height_px // grid.stride_px, spec.input.width_px // grid.stride_px
        ys, xs = np.mgrid[0:rows, 0:columns]
        places = (np.stack([xs.ravel(), ys.ravel()], axis=1) + 0.5) * grid.stride_px
        centres.append(np.repeat(places, grid.anchors, axis=0).astype(np.float64))
        units.append(np.full((len(centres[-1]), 1), float(grid.stride_px if spec.unit == "stride" else 1)))
    return np.concatenate(centres), np.concatenate(units)
