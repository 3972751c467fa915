"""Where the 138 named face points lie on the mesh: vertex numbers only; projecting them is the renderer's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from simulator.person.identity import Identity
from simulator.person.shape import Skin, mouth_lines

_Finder = Callable[[float, float], int]

# Shares of the way along a lid or lip, from corner to corner, of the mesh's points.
_LID_SHARES = (0.0, 0.10, 0.20, 0.34, 0.5, 0.65, 0.8, 0.92, 1.0)
_LIP_SHARES = (0.0, 0.07, 0.16, 0.28, 0.40, 0.5, 0.60, 0.72, 0.84, 0.93, 1.0)
# The oval's left half (picture right) from the forehead to the chin: x over the half width of the head, y in cm.
_OVAL = (
    (0.0, 4.9), (0.27, 5.0), (0.50, 4.9), (0.72, 4.6), (0.87, 3.7), (0.95, 2.7), (0.985, 1.4), (1.0, 0.1), (1.0, -1.3),
    (0.985, -2.9), (0.95, -4.5), (0.89, -6.2), (0.80, -7.7), (0.70, -8.9), (0.58, -9.9), (0.46, -10.7), (0.32, -11.2),
    (0.16, -11.6), (0.0, -11.8),
)  # fmt: skip


def landmark_vertices(who: Identity, skin: Skin) -> NDArray[np.int64]:
    """Skin vertices [138] in the order of edge.session.points, found on the head at rest."""
    points = skin.positions
    front = np.nonzero(points[:, 2] > -1.5)[0]

    def at(x: float, y: float) -> int:
        near = points[front]
        distance = (near[:, 0] - x) ** 2 + (near[:, 1] - y) ** 2 - 0.15 * near[:, 2]
        return int(front[int(np.argmin(distance))])

    chosen: list[int] = []
    for eye, outer_first in ((0, True), (1, False)):  # lids run from left to right in the picture
        upper, lower = skin.lids[eye]
        if not outer_first:
            upper, lower = upper[::-1], lower[::-1]
        chosen += [int(upper[round(t * (len(upper) - 1))]) for t in _LID_SHARES]
        chosen += [int(lower[round(t * (len(lower) - 1))]) for t in _LID_SHARES[-2:0:-1]]
    for side in (-1, 1):
        chosen += [at(*_brow_point(who, side, t)) for t in (1.17, 1.03, 0.79, 0.50, 0.15)]
    chosen += [at(x, y) for x, y in _nose_points(who)]
    chosen += _lips(who, skin, at)
    chosen += _oval(who, skin, at)
    level = who.eye_level
    for x, y in ((4.8, -3.6), (3.9, -4.5), (5.1, -2.0), (6.1, -3.0)):
        chosen += [at(-x, y + 0.4 * level), at(x, y + 0.4 * level)]
    return np.array(chosen, np.int64)


def _brow_point(who: Identity, side: int, t: float) -> tuple[float, float]:
    """On the upper edge of the brow, `t` 0 inner .. 1 outer; follows skin._brows."""
    x = side * (who.brow_gap + t * 4.25 * who.brow_length)
    rise = who.brow_tilt * (t - 0.3) + who.brow_arch * (np.sin(np.pi * min((t + 0.05) / 1.25, 1.0)) - 0.6)
    drop = -1.15 * max(t - 0.62, 0.0) ** 1.5
    return x, who.eye_level + who.brow_height + rise + drop + 0.45 * who.brow_thickness


def _nose_points(who: Identity) -> list[tuple[float, float]]:
    tip_y = -4.15 * who.nose_length + 0.35 * who.tip_lift
    base_y = -5.45 * who.nose_length + 0.15 * who.tip_lift
    root = who.eye_level + 0.35
    wing = 1.28 * who.nose_width
    ridge = [root + share * (tip_y - root) for share in (0.0, 0.2, 0.44, 0.66, 0.86, 1.0)]
    middle = [(0.0, y) for y in ridge]
    return [
        *middle, (0.0, tip_y - 0.45), (0.0, base_y - 0.1),
        (-1.45 * wing, base_y + 0.7), (1.45 * wing, base_y + 0.7),
        (-wing - 0.75, base_y + 1.65), (wing + 0.75, base_y + 1.65),
    ]  # fmt: skip


def _lips(who: Identity, skin: Skin, at: _Finder) -> list[int]:
    middle = 0.04 * who.asymmetry[4]
    x = [middle + who.mouth_width * (2 * t - 1) for t in _LIP_SHARES]
    top, _, bottom, _ = mouth_lines(who, np.array(x))
    upper, lower = skin.seam
    corner_right, corner_left = int(upper[0]), int(upper[-1])
    outer = [corner_right, *[at(x[k], float(top[k])) for k in range(1, 10)], corner_left]
    outer += [at(x[k], float(bottom[k])) for k in range(9, 0, -1)]
    last = len(upper) - 1
    inner = [int(upper[round(t * last)]) for t in _LIP_SHARES]
    inner += [int(lower[round(t * last)]) for t in _LIP_SHARES[-2:0:-1]]
    return outer + inner


def _oval(who: Identity, skin: Skin, at: _Finder) -> list[int]:
    rest = skin.rest[np.abs(skin.rest[..., 2]) < 2.0]
    left: list[int] = []
    right: list[int] = []
    for share, y in _OVAL:
        row = rest[np.abs(rest[:, 1] - y) < 0.8]
        half = float(np.abs(row[:, 0]).max()) if len(row) else 7.0
        low = y - who.chin_length * float(np.clip((-5.0 - y) / 6.5, 0, 1))
        x = share * (half if share > 0.8 else 7.1 * who.skull_width)
        left.append(at(x, low))
        right.append(at(-x, low))
    return left + right[-2:0:-1]
