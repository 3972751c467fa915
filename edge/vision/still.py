"""Finds the faces of a still picture, whether they fill it or are small in it; frames belong to pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import CaptureError, CaptureFault
from edge.vision import crops
from edge.vision.detector import Detection, Detector, overlap
from edge.vision.landmarks import LandmarkFinder, Landmarks
from edge.vision.picture import Image, Levels

Box = tuple[float, float, float, float]  # x, y, width, height in pixels
Points = npt.NDArray[np.float64]

_SMALLEST_SIDE_PX = 32
# Shares of the detector's canvas that the picture takes: whole, and small enough for a face that fills the picture.
_FILLS = (1.0, 0.6)
_OVERLAP_MAX = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class StillFace:
    """A face that detector and landmark model agree on."""

    box: Box
    landmarks: Landmarks

    @property
    def keypoints(self) -> Points:
        """The five points (5, 2) that crops are cut by."""
        return crops.keypoints_from_landmarks(self.landmarks.points)


def as_bgr(image: Image) -> Image:
    """Grey, BGR or BGRA uint8 as BGR; CaptureError (UNREADABLE, TOO_SMALL) otherwise."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise CaptureError(
            CaptureFault.UNREADABLE, "this is no picture of 8-bit grey or colour", todo="use a JPEG or PNG"
        )
    if min(image.shape[:2]) < _SMALLEST_SIDE_PX:
        raise CaptureError(
            CaptureFault.TOO_SMALL,
            f"the picture is {image.shape[1]} x {image.shape[0]} pixels",
            todo=f"use one of {_SMALLEST_SIDE_PX} x {_SMALLEST_SIDE_PX} pixels or more",
        )
    if image.ndim == 2 or image.shape[2] == 1:
        return cast("Image", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    return cast("Image", cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)) if image.shape[2] == 4 else image


def refine(finder: LandmarkFinder, levels: Levels, keypoints: Points, presence_min: float) -> Landmarks | None:
    """Two looks: the detector's keypoints are coarse, the second crop comes from the first's points. None: no face."""
    first = finder.find(levels, keypoints)
    if first.presence < presence_min / 2:
        return None
    second = finder.find(levels, crops.keypoints_from_landmarks(first.points))
    return second if second.presence >= presence_min else None


class StillSearch:
    """Looks at the picture at two scales, then, where nothing is found, at its parts."""

    def __init__(self, detector: Detector, finder: LandmarkFinder, presence_min: float) -> None:
        self._detector = detector
        self._finder = finder
        self._presence_min = presence_min
        self._levels = Levels()

    def find(self, picture_bgr: Image) -> list[StillFace]:
        """Faces of the picture, widest first."""
        self._levels.show(picture_bgr)
        wholes = [d for fill in _FILLS for d in self._detector.detect(picture_bgr, fill=fill)]
        return self._confirmed(wholes) or self._confirmed(
            [d for area in _parts(picture_bgr) for d in self._detector.detect(picture_bgr, area=area)]
        )

    def wipe(self) -> None:
        """Overwrite what the last picture left."""
        self._levels.wipe()

    def _confirmed(self, detections: list[Detection]) -> list[StillFace]:
        faces: list[StillFace] = []
        for detection in sorted(detections, key=lambda d: d.score, reverse=True):
            if any(overlap(detection.box, face.box) > _OVERLAP_MAX for face in faces):
                continue
            landmarks = refine(self._finder, self._levels, detection.keypoints, self._presence_min)
            if landmarks is None:
                continue
            box = box_of(landmarks)
            if all(overlap(box, face.box) <= _OVERLAP_MAX for face in faces):
                faces.append(StillFace(box, landmarks))
        return sorted(faces, key=lambda face: face.box[2], reverse=True)


def box_of(landmarks: Landmarks) -> Box:
    """The oval's box: x, y, width, height."""
    left, top, right, bottom = (float(v) for v in crops.box_from_landmarks(landmarks.points))
    return left, top, right - left, bottom - top


def _parts(picture: Image) -> list[tuple[int, int, int, int]]:
    """Four overlapping quarters and the middle, x, y, width, height; none for a small picture."""
    height, width = picture.shape[:2]
    if min(height, width) < 320:
        return []
    w, h = round(0.6 * width), round(0.6 * height)
    corners = [(x, y, w, h) for y in (0, height - h) for x in (0, width - w)]
    return [*corners, ((width - w) // 2, (height - h) // 2, w, h)]
