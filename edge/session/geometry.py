"""Geometry of face points: head pose, eye and mouth openness; depth is depth.py's, and judging is elsewhere.

Points are (138, 2), pixels of the unmirrored picture, x right, y down; see points.py for their names.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from edge.session.face_shape import FACE_SHAPE
from edge.session.observation import HeadPose
from edge.session.points import (
    CHEEKS,
    EYE_CORNERS,
    EYELID_PAIRS,
    INNER_LIP,
    INNER_LIP_PAIRS,
    LEFT_BROW,
    LEFT_EYE,
    NOSE,
    OVAL,
    POINT_COUNT,
    RIGHT_BROW,
    RIGHT_EYE,
)

Points = npt.NDArray[np.floating]
Array = npt.NDArray[np.float64]

# Mean distance of the lids in face units: median of 277 near-frontal faces of the training pool, 0.096 with the lids
# of the 468-point teacher, 0.100 with those of the iris teacher (5th and 95th percentile there: 0.062 and 0.129).
OPEN_EYE_RATIO = 0.10
# Inner lips, wide open, in face units: the mouth that a test clip opens has 0.45, closed mouths a median of 0.04.
WIDE_MOUTH_RATIO = 0.55
# From the eyes to the base of the nose where the eyes are 1 apart (the mean shape): stands in when the head turns. The
# mouth would not do: it goes down when it opens.
NOSE_BASE, EYES_TO_NOSE = 49, 0.718


def head_pose(points: Points) -> HeadPose:
    """Angles of the head from (138, 2) px: weak-perspective fit of the mean shape, degrees, signs as in `HeadPose`.

    The affine least-squares fit is projected to the nearest scaled rotation, then refined by Gauss-Newton steps on the
    rotation vector: the projection alone underweights depth, where the shape is flattest.
    """
    rotation = _fit_rotation(np.asarray(points, np.float64))
    forward = -rotation[:, 2]  # where the nose points: the shape looks towards -z
    yaw = np.degrees(np.arctan2(forward[0], -forward[2]))
    pitch = np.degrees(np.arctan2(-forward[1], np.hypot(forward[0], forward[2])))
    # Roll is what stays of the picture's tilt after yaw and pitch are undone.
    upright = _look(np.radians(yaw), np.radians(pitch)).T @ rotation
    roll = np.degrees(np.arctan2(upright[1, 0], upright[0, 0]))
    return HeadPose(float(yaw), float(pitch), float(roll))


def eye_openness(points: Points) -> tuple[float, float]:
    """Subject's right and left eye: 0 closed, 1 as open as the population's mean (lids over face unit)."""
    picture = np.asarray(points, np.float64)
    unit = face_unit(picture)
    return _lids(picture[RIGHT_EYE], unit), _lids(picture[LEFT_EYE], unit)


def mouth_openness(points: Points) -> float:
    """0 closed, about 1 wide open: distance of the inner lips in face units."""
    picture = np.asarray(points, np.float64)
    lips = picture[INNER_LIP]
    gap = np.mean([np.hypot(*(lips[low] - lips[high])) for high, low in INNER_LIP_PAIRS])
    return float(gap / face_unit(picture) / WIDE_MOUTH_RATIO)


def face_unit(points: Points) -> float:
    """Distance between the eyes as it would be seen from the front, px, at least 1."""
    picture = np.asarray(points, np.float64)
    right, left = picture[RIGHT_EYE].mean(axis=0), picture[LEFT_EYE].mean(axis=0)
    down = np.hypot(*(picture[NOSE_BASE] - (right + left) / 2))
    return float(max(np.hypot(*(left - right)), down / EYES_TO_NOSE, 1.0))


def _lids(eye: Array, unit: float) -> float:
    """Distance of the lids over the face unit: the distance of the eye's corners would shrink when the head turns."""
    along = eye[EYE_CORNERS[1]] - eye[EYE_CORNERS[0]]
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
    gap = np.mean([abs((eye[low] - eye[high]) @ across) for high, low in EYELID_PAIRS])
    return float(gap / unit / OPEN_EYE_RATIO)


@cache
def _rigid() -> tuple[npt.NDArray[np.intp], Array, Array, Array]:
    """Which points are fitted, their weights, the mean shape there (centred, face units), and its pseudo-inverse.

    What expression moves (lids, lips, chin) is left out; brows and the oval's upper half count less.
    """
    weights = np.zeros(POINT_COUNT)
    weights[[eye.start + corner for eye in (RIGHT_EYE, LEFT_EYE) for corner in EYE_CORNERS]] = 1.0
    weights[NOSE] = 1.0
    weights[RIGHT_BROW] = weights[LEFT_BROW] = 0.1
    weights[[OVAL.start + i for i in (*range(10), *range(27, 36))]] = 0.5
    weights[CHEEKS] = 0.5
    chosen = np.flatnonzero(weights)
    weights = weights[chosen] / weights.sum()
    body = np.asarray(FACE_SHAPE, np.float64)[chosen] / 1000.0
    body -= weights @ body
    inverse = np.linalg.solve(body.T @ (body * weights[:, None]), (body * weights[:, None]).T)  # (3, n)
    return chosen, weights, body, inverse


def _fit_rotation(picture: Array) -> Array:
    """Rotation (3, 3) whose first two rows, scaled, bring the mean shape onto `picture` (weak perspective)."""
    chosen, weights, body, inverse = _rigid()
    seen = picture[chosen] - weights @ picture[chosen]
    u, _, vt = np.linalg.svd((inverse @ seen).T)
    rows = u @ vt[:2]
    rotation = np.vstack([rows, _cross(rows[0], rows[1])])
    for _ in range(3):
        x, y, z = (body @ rotation.T).T
        scale = float(weights @ (x * seen[:, 0] + y * seen[:, 1])) / max(float(weights @ (x * x + y * y)), 1e-12)
        error_x, error_y = seen[:, 0] - scale * x, seen[:, 1] - scale * y
        # d(x, y)/d(rotation vector w) for a small turn w x p.
        along_x, along_y = np.array([0 * z, z, -y]) * scale, np.array([-z, 0 * z, x]) * scale  # (3, n)
        normal = (along_x * weights) @ along_x.T + (along_y * weights) @ along_y.T
        right = (along_x * weights) @ error_x + (along_y * weights) @ error_y
        rotation = _small(np.linalg.solve(normal + (1e-6 * np.trace(normal) + 1e-12) * np.eye(3), right)) @ rotation
    return rotation


def _cross(a: Array, b: Array) -> Array:
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _small(vector: Array) -> Array:
    """Rotation matrix of a rotation vector (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _look(yaw: float, pitch: float) -> Array:
    """Rotation of a head that turns by `yaw` (nose to +x) and looks up by `pitch`, radians; x right, y down."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return np.asarray(turn @ nod)
