"""Measures the picture of a face, after ISO/IEC 29794-5; judging the numbers belongs to the session."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from edge.session.observation import FaceQuality
from edge.vision.picture import Image

# Of the 112 x 112 aligned face: the skin from brows to chin, without hair and background.
_FACE = (slice(24, 108), slice(18, 94))
_BLACK, _WHITE = 4, 251
_LIPS = (slice(88, 98), slice(47, 66))
_BELOW_EYES = (slice(55, 64), slice(24, 88))
_LEAST_REDNESS = 6.0  # Cr above grey, of 255: below it a picture has too little colour to tell lips from cloth


def luma(picture_bgr: Image) -> float:
    """Mean luma (ITU-R BT.601 weights) of a picture, 0..1."""
    blue, green, red, _ = cv2.mean(picture_bgr)
    return (0.114 * blue + 0.587 * green + 0.299 * red) / 255


def quality(
    aligned_bgr: Image, frame_bgr: Image, frame_luma: float, box: tuple[float, float, float, float]
) -> FaceQuality:
    """Measure a face: its aligned 112 x 112 picture, the frame (any level of it, `box` in the same pixels)."""
    grey = cast("Image", cv2.cvtColor(aligned_bgr, cv2.COLOR_BGR2GRAY))
    face = grey[_FACE]
    mean, deviation = (float(v[0, 0]) for v in cv2.meanStdDev(face))
    ends = np.count_nonzero((face <= _BLACK) | (face >= _WHITE))
    middle = face.shape[1] // 2
    left, right = cv2.mean(face[:, :middle])[0], cv2.mean(face[:, -middle:])[0]
    return FaceQuality(
        brightness=mean / 255,
        contrast=deviation / 255,
        sharpness=float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0]) ** 2,
        saturated=float(ends / face.size),
        surround=_surround(frame_bgr, frame_luma, box),
        side_light=abs(left - right) / 255,
        lip_tint=_lip_tint(aligned_bgr),
    )


def _lip_tint(aligned_bgr: Image) -> float:
    skin = _redness(aligned_bgr[_BELOW_EYES])
    return float(np.clip(_redness(aligned_bgr[_LIPS]) / skin, -9.0, 9.0)) if skin >= _LEAST_REDNESS else 1.0


def _redness(part_bgr: Image) -> float:
    """Mean Cr (ITU-R BT.601) above grey, -128..127."""
    return 0.713 * (cv2.mean(part_bgr)[2] - 255 * luma(part_bgr))


def _surround(frame_bgr: Image, frame_luma: float, box: tuple[float, float, float, float]) -> float:
    height, width = frame_bgr.shape[:2]
    left, top = max(0, int(box[0])), max(0, int(box[1]))
    right, bottom = min(width, int(box[0] + box[2])), min(height, int(box[1] + box[3]))
    inside = max(0, right - left) * max(0, bottom - top)
    if inside == 0 or inside >= width * height:
        return frame_luma
    face = luma(frame_bgr[top:bottom, left:right])
    return float(np.clip((frame_luma * width * height - face * inside) / (width * height - inside), 0.0, 1.0))
