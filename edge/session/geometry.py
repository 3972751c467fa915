"""Geometry of face points: head pose, eye and mouth openness, relief of a turn; what a value means is judged elsewhere.

Points are (138, 2), pixels of the unmirrored picture, x right, y down; see points.py for their names.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    LEFT_MOUTH_CORNER,
    NOSE,
    NOSE_TIP,
    OVAL,
    POINT_COUNT,
    RIGHT_BROW,
    RIGHT_EYE,
    RIGHT_MOUTH_CORNER,
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

# Corners of the eyes and the mouth, cheeks: nearly a plane, and what expression moves least.
PLANE_POINTS = (0, 8, 16, 24, RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER, 130, 131, 132, 133)
NOSE_RIDGE = (NOSE_TIP - 1, NOSE_TIP, NOSE_TIP + 1)
MIN_TRACK_FRAMES = 6
MIN_TURNED_FRAMES = 3
MIN_TURN_SINE = 0.26  # 15 degrees
MIN_DEPARTURE = 0.08  # face units


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


def turn_relief(track: Sequence[npt.NDArray[np.floating]], min_sine: float = MIN_TURN_SINE) -> float | None:
    """Depth of the nose in face units, from the points (138, 2) of the frames of one movement, the first at rest.

    The two-view form of factorisation (Tomasi and Kanade 1992; Koenderink and van Doorn 1991): under weak perspective
    an affine map carries a plane from one view to the other (rank 2); what the nose departs from the map of the eyes'
    corners, the mouth's and the cheeks is the third rank. The map's foreshortening gives the angle of the turn, and
    with it the departure becomes a depth. Returns None where the movement is too short, or smaller than `min_sine`.

    Measured, heads of the test clips against their own stills, printed flat and turned by up to 40 degrees, or bent
    around a cylinder of radius 1 and 0.7 face widths: with the 468-point teacher 0.39 and more; 0.13 and less; up to
    0.21, 0.27. With the first pack's landmarks 0.42 and more; 0.15 and less; up to 0.37, 0.44: a small model sees more
    depth than there is, so a strongly bent print is left to the passive model.
    """
    views = [np.asarray(points, np.float64) for points in track]
    if len(views) < MIN_TRACK_FRAMES:
        return None
    rest = np.median(views[:3], axis=0)
    seen = [_departure(rest, view) for view in views[3:]]
    # A departure of the nose without foreshortening is depth too: its angle is then below what can be measured.
    told = [(nose, max(sine, min_sine)) for nose, sine in seen if sine >= min_sine or nose >= MIN_DEPARTURE]
    if len(told) < MIN_TURNED_FRAMES:
        return None
    noses, sines = np.array(told).T
    return float((noses * sines).sum() / (sines * sines).sum())


def _departure(rest: Array, view: Array) -> tuple[float, float]:
    """How far the nose departs from the plane's map, in face units of `rest`, and the sine of the turn."""
    plane = np.column_stack([rest[list(PLANE_POINTS)], np.ones(len(PLANE_POINTS))])
    affine = np.linalg.lstsq(plane, view[list(PLANE_POINTS)], rcond=None)[0]  # (3, 2)
    large, small = np.linalg.svd(affine[:2], compute_uv=False)
    mapped = np.column_stack([rest[list(NOSE_RIDGE)], np.ones(len(NOSE_RIDGE))]) @ affine
    nose = (view[list(NOSE_RIDGE)] - mapped).mean(axis=0)
    cosine = small / max(large, 1e-9)
    return float(np.hypot(*nose) / max(large * face_unit(rest), 1e-9)), float(np.sqrt(max(0.0, 1 - cosine * cosine)))


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
