"""Which part of the picture each model sees: pure geometry for product and training; no pixels and no models here.

Every rule starts from the detector's five keypoints, or from the same five taken out of the 138 landmarks, so that a
face that is tracked is cut out exactly like a face that was just detected.

Coordinates are pixel coordinates as OpenCV's `warpAffine` uses them (the centre of the first pixel is 0, 0). Cut with
`cv2.warpAffine(picture, crop.matrix, (crop.size_px, crop.size_px), flags=INTER_LINEAR, borderMode=BORDER_REPLICATE)`;
where `crop.scale` is under 0.5, halve the picture first (INTER_AREA): the training pictures have no aliasing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]

LANDMARK_COUNT = 138
RIGHT_EYE = slice(0, 16)
LEFT_EYE = slice(16, 32)
NOSE_TIP = 47
RIGHT_MOUTH_CORNER = 54
LEFT_MOUTH_CORNER = 64
OVAL = slice(94, 130)

LANDMARK_CROP_PX = 128
ANTISPOOF_CROP_PX = 96
EMBEDDING_CROP_PX = 112

# The face unit is the distance between the eyes of a face seen from the front. The distance from the eyes to the
# mouth stands in when the head is turned: 40.7 px against 35.2 px in the ArcFace template.
EYES_PER_EYES_TO_MOUTH = 0.865
# Measured on the training pool, frontal faces: the oval is 3.0 units high, so this leaves a fifth of it on each side.
LANDMARK_CROP_UNITS = 4.4
# Twice the face: room for the edge of a sheet or a screen.
ANTISPOOF_CROP_UNITS = 6.6

# InsightFace / ArcFace, five-point template for 112 x 112.
ARCFACE_TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


@dataclass(frozen=True, slots=True)
class Crop:
    """A square cut out of a picture. `matrix` [2, 3]: picture pixels -> crop pixels, a similarity (no mirror)."""

    matrix: NDArray[np.float64]
    size_px: int

    @property
    def scale(self) -> float:
        """Crop pixels for one picture pixel."""
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))

    def to_crop(self, points: Points) -> NDArray[np.float64]:
        """Picture points [N, 2] in crop pixels."""
        return np.asarray(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_picture(self, points: Points) -> NDArray[np.float64]:
        """Crop points [N, 2] in picture pixels. The landmark model's output (0..1) is first multiplied by `size_px`."""
        return (np.asarray(points, np.float64) - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T


def keypoints_from_landmarks(landmarks: Points) -> NDArray[np.float64]:
    """The detector's five keypoints [5, 2] from 138 landmarks [138, 2]: eyes are the means of their 16 points.

    Order: subject's right eye (left in the picture), left eye, nose tip, right and left corner of the mouth.
    """
    points = np.asarray(landmarks, np.float64)
    return np.stack(
        [
            points[RIGHT_EYE].mean(axis=0),
            points[LEFT_EYE].mean(axis=0),
            points[NOSE_TIP],
            points[RIGHT_MOUTH_CORNER],
            points[LEFT_MOUTH_CORNER],
        ]
    )


def box_from_landmarks(landmarks: Points) -> NDArray[np.float64]:
    """Left, top, right, bottom: the face's oval, which is also what the detector's box was trained on."""
    oval = np.asarray(landmarks, np.float64)[OVAL]
    return np.concatenate([oval.min(axis=0), oval.max(axis=0)])


def face_unit(keypoints: Points) -> float:
    """Distance between the eyes, px, as it would be from the front; at least 1."""
    eyes, mouth = _midpoints(keypoints)
    between_eyes = np.hypot(*(np.asarray(keypoints[1], np.float64) - keypoints[0]))
    return max(float(between_eyes), EYES_PER_EYES_TO_MOUTH * float(np.hypot(*(mouth - eyes))), 1.0)


def landmark_crop(keypoints: Points, size_px: int = LANDMARK_CROP_PX) -> Crop:
    """Square with the eyes level: centre 0.3 of the way from the eyes to the mouth, side 4.4 face units."""
    roll = _roll(keypoints)
    return _square(_centre(keypoints), LANDMARK_CROP_UNITS * face_unit(keypoints), roll, size_px)


def antispoof_crop(keypoints: Points, size_px: int = ANTISPOOF_CROP_PX) -> Crop:
    """Upright square (not rotated with the face): the same centre, side 6.6 face units."""
    return _square(_centre(keypoints), ANTISPOOF_CROP_UNITS * face_unit(keypoints), 0.0, size_px)


def embedding_crop(keypoints: Points, size_px: int = EMBEDDING_CROP_PX) -> Crop:
    """Least-squares similarity of the five keypoints onto the ArcFace template (Umeyama 1991, without mirroring)."""
    source = np.asarray(keypoints, np.float64)
    target = np.asarray(ARCFACE_TEMPLATE) * (size_px / EMBEDDING_CROP_PX)
    p, q = source - source.mean(axis=0), target - target.mean(axis=0)
    spread = max(float((p * p).sum()), 1e-9)
    a = float((p * q).sum()) / spread
    b = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / spread
    linear = np.array([[a, -b], [b, a]])
    shift = target.mean(axis=0) - linear @ source.mean(axis=0)
    return Crop(np.column_stack([linear, shift]), size_px)


def _square(centre: NDArray[np.float64], side: float, roll: float, size_px: int) -> Crop:
    scale = size_px / side
    cos, sin = np.cos(roll) * scale, np.sin(roll) * scale
    linear = np.array([[cos, sin], [-sin, cos]])
    shift = np.full(2, size_px / 2.0) - linear @ centre
    return Crop(np.column_stack([linear, shift]), size_px)


def _midpoints(keypoints: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = np.asarray(keypoints, np.float64)
    return (points[0] + points[1]) / 2, (points[3] + points[4]) / 2


def _centre(keypoints: Points) -> NDArray[np.float64]:
    eyes, mouth = _midpoints(keypoints)
    return eyes + 0.3 * (mouth - eyes)


def _roll(keypoints: Points) -> float:
    across = np.asarray(keypoints[1], np.float64) - np.asarray(keypoints[0], np.float64)
    return float(np.arctan2(across[1], across[0]))
