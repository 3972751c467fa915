"""Relief of a turn: how much of a head's 3-D structure the tracked points show; what that means is judged in pad.py.

Points are (138, 2), pixels of the unmirrored picture, x right, y down; see points.py for their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from edge.session.face_shape import FACE_SHAPE
from edge.session.geometry import face_unit
from edge.session.points import (
    CHEEKS,
    EYE_CORNERS,
    LEFT_BROW,
    LEFT_EYE,
    LEFT_MOUTH_CORNER,
    NOSE,
    NOSE_TIP,
    RIGHT_BROW,
    RIGHT_EYE,
    RIGHT_MOUTH_CORNER,
)

Array = npt.NDArray[np.float64]

_EYES = tuple(eye.start + corner for eye in (RIGHT_EYE, LEFT_EYE) for corner in EYE_CORNERS)
# Corners of the eyes and the mouth, cheeks: nearly a plane, and what expression moves least.
PLANE_POINTS = (*_EYES, RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER, *range(CHEEKS.start, CHEEKS.start + 4))
# Whose depth is told: what expression moves little, from the brows to the upper lip.
RELIEF_POINTS = (
    *_EYES,
    *range(RIGHT_BROW.start, LEFT_BROW.stop),
    *range(NOSE.start, NOSE.stop),
    *range(RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER + 1),
    *range(CHEEKS.start, CHEEKS.stop),
)
NOSE_RIDGE = (NOSE_TIP - 1, NOSE_TIP, NOSE_TIP + 1)
REST_FRAMES = 3
MIN_TRACK_FRAMES = 6
MIN_TURNED_FRAMES = 3
MIN_TURN_SINE = 0.26  # 15 degrees
MIN_DEPARTURE = 0.08  # face units


def turn_relief(track: Sequence[npt.NDArray[np.floating]], min_sine: float = MIN_TURN_SINE) -> float | None:
    """Relief in mean heads: 1 the mean face's, 0 a flat or a smoothly bent sheet. None: moved too little or too short.

    `track`: the points (138, 2) of the frames of one movement, the first at rest; `min_sine` of the least turn.

    1. Two views and an affine map (Tomasi and Kanade 1992; Koenderink and van Doorn 1991): under weak perspective a
       map carries a plane from one view to the other, and what a point departs from the map of the eyes' corners, the
       mouth's and the cheeks is its depth times the sine of the turn, which the map's foreshortening tells. All frames
       of the turn together give each point's depth by least squares.
    2. A sheet that somebody bends or twists is, over the size of a face, a quadratic in x and y; a head has besides a
       nose that stands out from what is above, below and beside it, and sockets. So the best quadratic is taken out of
       the depths, and out of the mean head's; what the first has of the second is the relief.

    Measured with the first pack's landmarks: real heads of the test clips that turn or nod, 0.70 and more. Their own
    stills, printed flat and turned by 35 degrees, 0.12 and less; on a cylinder of radius 1 face width, upright, 0.34
    and less; of 0.7, in three directions, 0.46 and less; of 0.5 (a bottle), 0.49 and less. The nose's departure alone
    is, in the same order, 0.43 face units; 0.16; 0.27; 0.49; 0.40: there heads and bent sheets meet. That bent sheets
    have any is the landmark model's doing: it has seen heads only.
    """
    views = [np.asarray(points, np.float64) for points in track]
    if len(views) < MIN_TRACK_FRAMES:
        return None
    rest = np.median(views[:REST_FRAMES], axis=0)
    flat = (rest - rest[list(PLANE_POINTS)].mean(axis=0)) / face_unit(rest)
    told = [d for d in (_departures(flat, view, min_sine) for view in views[REST_FRAMES:]) if d is not None]
    if len(told) < MIN_TURNED_FRAMES:
        return None
    sines = np.array([sine for _, sine in told])
    depths = sines @ np.stack([along for along, _ in told]) / (sines @ sines)
    chosen = list(RELIEF_POINTS)
    return _sharp(flat[chosen], depths[chosen], _mean_head()[chosen])


def _departures(flat: Array, view: Array, min_sine: float) -> tuple[Array, float] | None:
    """How far each point departs from the plane's map along the turn [138], in face units at rest, the nose's way
    positive, and the sine of the turn. None where the view is not turned.
    """
    plane = list(PLANE_POINTS)
    affine = np.linalg.lstsq(_with_one(flat[plane]), view[plane], rcond=None)[0]  # (3, 2)
    _, (large, small), axes = np.linalg.svd(affine[:2])
    away = (view - _with_one(flat) @ affine) / max(float(large), 1e-9)
    cosine = float(small) / max(float(large), 1e-9)
    sine = float(np.sqrt(max(0.0, 1 - cosine * cosine)))
    nose = away[list(NOSE_RIDGE)].mean(axis=0)
    axis = axes[1]
    if sine < min_sine:
        # A departure of the nose without foreshortening is depth too: its angle is then below what can be measured.
        length = float(np.hypot(*nose))
        if length < MIN_DEPARTURE:
            return None
        axis, sine = nose / length, min_sine
    along: Array = away @ axis
    return (along if nose @ axis >= 0 else -along), sine


def _sharp(at: Array, depths: Array, head: Array) -> float:
    """Share of the head's relief in the depths [n] of the points at `at` [n, 2], each without its best quadratic."""
    x, y = at.T
    smooth = np.linalg.qr(np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y]))[0]
    rough_head = head - smooth @ (smooth.T @ head)
    return float(rough_head @ depths / max(float(rough_head @ rough_head), 1e-12))


def _with_one(points: Array) -> Array:
    return np.column_stack([points, np.ones(len(points))])


@cache
def _mean_head() -> Array:
    """Depth of the mean face's points [138], towards the camera, face units."""
    return -np.asarray(FACE_SHAPE, np.float64)[:, 2] / 1000
