"""The head's geometry: grids of vertices from an identity's numbers; no colours and no pixels here.

Head space, centimetres: x to the right of the picture (the person's left), y up, z towards the camera; the origin lies
between the ears at the height of the pupils. The skin is one grid of rows (crown to under the chin) and columns
(around the head, from the back by the right ear, the nose, the left ear, to the back). Three slits run along grid rows:
between the lids of each eye and between the lips; their vertices exist twice, so that the slits open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simulator.person.identity import Identity

Array = NDArray[Any]  # float; numpy arithmetic loses the width

EYE_RADIUS_CM = 1.2
LID_THICKNESS_CM = 0.09
EYE_STRETCH = 1.3  # the ball is drawn as an ellipsoid, so that it fills the corners of the eye
OPENNESS_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
MOUTH_LEVELS = (0.0, 0.35, 0.7, 1.0)
_DENSE_ROWS = 6  # on either side of a slit
_LIFT_SHARE, _LIFT_FROM_Y, _LIFT_TO_Y = 0.22, -1.0, -7.5  # see adult_heights
JAW_ANGLE_DEG = 23.0  # of a wide open mouth: lips some 28 mm apart
JAW_HINGE = np.array([0.0, -1.6, 1.2])

# Row profile of the mean head at the midline: v, Y, front depth, half width, back depth, rise of the row to the side.
_PROFILE = np.array([
    [0.0, 11.75, 0.0, 0.0, 0.0, 0.0],
    [0.6, 11.65, 1.9, 1.8, 2.1, 0.0],
    [1.4, 11.1, 4.2, 3.9, 4.5, 0.0],
    [2.4, 10.0, 6.2, 5.5, 6.6, 0.0],
    [3.6, 8.5, 7.75, 6.6, 8.1, 0.0],
    [5.0, 6.5, 8.75, 7.25, 9.0, 0.0],
    [6.5, 4.5, 9.2, 7.5, 9.4, 0.0],
    [8.0, 2.4, 9.3, 7.45, 9.4, 0.1],
    [9.6, 0.3, 8.8, 7.25, 9.1, 0.3],
    [11.4, -2.0, 8.75, 7.05, 8.6, 0.7],
    [13.4, -4.5, 8.75, 6.75, 7.8, 1.3],
    [14.8, -6.0, 8.75, 6.4, 7.2, 1.9],
    [16.4, -7.6, 8.8, 6.05, 6.8, 2.5],
    [18.0, -9.2, 8.7, 5.65, 6.3, 3.1],
    [19.4, -10.6, 8.6, 5.2, 6.0, 3.5],
    [20.4, -11.45, 8.0, 4.8, 5.6, 3.7],
    [21.0, -11.85, 6.9, 4.3, 5.0, 3.7],
    [21.8, -11.9, 5.0, 3.4, 4.0, 3.3],
    [22.8, -11.5, 2.5, 2.0, 2.0, 2.6],
    [23.6, -11.0, 0.05, 0.05, 0.05, 2.0],
])  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Morph:
    """Vertices that move with one number: at each of `levels`, what is added to position, normal and occlusion."""

    vertices: NDArray[np.int64]  # [K]
    levels: tuple[float, ...]
    positions: Array  # [L, K, 3]
    normals: Array  # [L, K, 3]
    occlusion: Array  # [L, K]


@dataclass(frozen=True, slots=True, eq=False)
class Skin:
    """The skin's mesh at rest: eyes and mouth closed."""

    positions: Array  # [V, 3]
    normals: Array  # [V, 3]
    occlusion: Array  # [V], 0 dark .. 1 free
    triangles: NDArray[np.int32]  # [T, 3] as drawn: away from the slits, every other row is enough
    grid_uv: Array  # [V, 2] column and row as shares 0..1
    rest: Array  # [rows, columns, 3]: positions at rest by grid place, for painting
    angles: Array  # [columns] radians around the head, 0 at the nose
    right_eye: Morph
    left_eye: Morph
    mouth: Morph
    eye_centres: Array  # [2, 3] subject's right, left
    seam: NDArray[np.int64]  # [2, S] vertices of the upper and lower lip along the seam, picture left to right
    lids: tuple[NDArray[np.int64], NDArray[np.int64]]  # per eye [2, E]: upper and lower margin, picture left to right


def adult_heights(points: Array) -> Array:
    """`points` [..., 3] of the model brought to adult heights below the eyes, for the whole head and body.

    Nose and mouth are modelled in a frame that is longer than a face: the base of the nose 5.45 cm under the pupils,
    the seam of the lips 7.65, the chin 11.9. Adults have about 4.5, 6.3 and 10.5 (Farkas 1994, from the nasion; the
    mean shape of edge/session/face_shape.py has 4.5, 6.3 and 10.5). Detectors look for a mouth where people have one.
    """
    out = np.array(points)
    out[..., 1] += _LIFT_SHARE * np.clip(_LIFT_FROM_Y - points[..., 1], 0, _LIFT_FROM_Y - _LIFT_TO_Y)
    return out


def build_skin(who: Identity) -> Skin:
    """The head of `who`: about 24,000 vertices."""
    head = _Head(who)
    return head.skin()


def eye_fissure(who: Identity, side: int, x: NDArray[np.floating]) -> tuple[Array, Array, Array, Array]:
    """Upper and lower margin when open, the closed line (all y, cm) and s (-1 inner .. 1 outer) at places `x`.

    `side`: -1 for the subject's right eye (left in the picture), 1 for the left.
    """
    centre_x, centre_y = side * (who.eye_distance + 0.03 * side * who.asymmetry[0]), 0.06 * side * who.asymmetry[1]
    s = side * (x - centre_x) / who.eye_width
    axis = centre_y + np.tan(np.deg2rad(who.eye_tilt_deg + side * who.asymmetry[2])) * side * (x - centre_x)
    inside = np.clip(1 - s**2, 0, None)
    upper_shape = inside ** (0.68 - who.lid_round) * (1 - (0.16 + who.lid_peak) * s * (1 - 0.5 * who.lid_hood))
    lower_shape = inside**0.78 * (1 + (0.22 + who.lower_lid) * s)
    height = who.eye_height * (1 + 0.05 * side * who.asymmetry[3])
    return axis + 0.60 * height * upper_shape, axis - 0.42 * height * lower_shape, axis - 0.27 * lower_shape, s


def mouth_lines(who: Identity, x: NDArray[np.floating]) -> tuple[Array, Array, Array, Array]:
    """Top of the upper lip, seam, bottom of the lower lip (y, cm, mouth shut) and s = x / half width at places `x`."""
    s = (x - 0.04 * who.asymmetry[4]) / who.mouth_width
    a = np.abs(s)
    level = -7.65 + who.mouth_level
    inside = np.clip(1 - a**2, 0, None)
    seam = level - 0.10 * (1 - inside) + who.mouth_curve * a**2 - 0.07 * np.exp(-((a / 0.16) ** 2)) + 0.04 * a
    bow = who.cupid_bow * (np.exp(-(((a - 0.2) / 0.16) ** 2)) - 0.8 * np.exp(-((a / 0.1) ** 2)))
    top = seam + who.upper_lip * inside**0.9 * (0.88 + 0.0 * a) + bow * inside
    bottom = seam - who.lower_lip * inside**0.62 * (0.95 + 0.05 * np.cos(np.pi * np.clip(a, 0, 1)))
    return top, seam, bottom, s


class _Head:
    """Builds the skin step by step; thrown away afterwards."""

    def __init__(self, who: Identity) -> None:
        self.who = who
        self.theta = _columns()
        self.rows = _rows()
        self.eye_row = int(np.argmin(np.abs(self.rows - 9.93)))
        self.mouth_row = int(np.argmin(np.abs(self.rows - 16.45)))
        self.base = self._base()
        self.bare = self._bare()

    # -- the surface at rest ------------------------------------------------------------------------------------

    def _profile(self) -> NDArray[np.float64]:
        """[rows, 5]: Y, front, half width, back, rise for this person's rows."""
        who = self.who
        table = _PROFILE.copy()
        y = table[:, 1].copy()
        high = np.clip((y - 1.0) / 10.5, 0, 1)
        low = np.clip((-5.0 - y) / 6.5, 0, 1)
        table[:, 1] += (who.skull_height - 1) * 11.5 * high - who.chin_length * low
        middle = np.exp(-(((y + 1.5) / 4.0) ** 2))
        jaw = _smooth((-3.0 - y) / 5.0)
        width = 1 + (who.skull_width - 1) * (1 - 0.55 * jaw) + (who.cheek_width - 1) * middle
        width += (who.jaw_width - 1) * jaw - 0.06 * who.jaw_taper * _smooth((-7.5 - y) / 4.0)
        table[:, 3] *= width
        table[:, 2] *= 1 + 0.35 * (who.skull_depth - 1)
        table[:, 2] -= 0.55 * who.forehead_slope * np.clip((y - 3.0) / 6.0, 0, 1) * (table[:, 2] > 3)
        table[:, 4] *= who.skull_depth
        table[:, 5] *= 1 - 0.13 * who.jaw_taper
        fine = np.linspace(0, table[-1, 0], 1200)
        columns = []
        kernel = np.exp(-0.5 * (np.arange(-40, 41) / 16.0) ** 2)
        kernel /= kernel.sum()
        for c in range(1, 6):
            line = np.interp(fine, table[:, 0], table[:, c])
            padded = np.concatenate([2 * line[0] - line[40:0:-1], line, 2 * line[-1] - line[-2:-42:-1]])
            columns.append(np.interp(self.rows, fine, np.convolve(padded, kernel, "valid")))
        return np.stack(columns, axis=1)

    def _base(self) -> NDArray[np.float64]:
        """[rows, columns, 3] skull without face."""
        profile = self._profile()
        y0, front, width, back, rise = (profile[:, i : i + 1] for i in range(5))
        front, width, back = (np.maximum(v, 0.0) for v in (front, width, back))
        sine, cosine = np.sin(self.theta)[None], np.cos(self.theta)[None]
        flat = 2.5
        depth_front = np.clip(1 - np.abs(sine) ** flat, 0, None) ** (1 / flat)
        x = width * sine
        z = np.where(cosine >= 0, front * depth_front, back * cosine)
        y = y0 + rise * np.clip(1 - np.where(cosine > 0, depth_front, -np.abs(cosine) * 0.3), 0, 1.3)
        # Rows follow the slits of eyes and mouth where these are.
        for side in (-1, 1):
            s_grid = x[self.eye_row]
            _, _, closed, s = eye_fissure(self.who, side, s_grid)
            closed = closed + self.who.eye_level
            pull = (closed - y[self.eye_row]) * _smooth((1.75 - np.abs(s)) / 0.7) * (np.cos(self.theta) > 0)
            fade = np.exp(-(((self.rows - self.rows[self.eye_row]) / 2.6) ** 2))[:, None]
            y = y + fade * pull[None]
        _, seam, _, s = mouth_lines(self.who, x[self.mouth_row])
        pull = (seam - y[self.mouth_row]) * _smooth((2.0 - np.abs(s)) / 0.9) * (np.cos(self.theta) > 0)
        fade = np.exp(-(((self.rows - self.rows[self.mouth_row]) / 2.2) ** 2))[:, None]
        y = y + fade * pull[None]
        return np.stack([x, y, z], axis=-1)

    def _bare(self) -> NDArray[np.float64]:
        """[rows, columns, 3] with all features but the eyelids."""
        points = self.base.copy()
        front = _smooth((np.cos(self.theta) - 0.05) / 0.4)[None]
        relief = face_relief(self.who, points[..., 0], points[..., 1])
        points[..., 2] += relief * front
        who = self.who
        side = np.abs(points[..., 0])
        temple = (
            who.temple * 0.45 * np.exp(-(((points[..., 1] - 2.6) / 2.0) ** 2) - (((points[..., 2] - 4.5) / 2.2) ** 2))
        )
        hollow = (
            -who.cheek_fullness
            * 0.55
            * np.exp(-(((points[..., 1] + 5.8) / 2.2) ** 2) - (((points[..., 2] - 4.6) / 2.4) ** 2))
        )
        zygoma = (
            0.35
            * who.cheekbone
            * np.exp(-(((points[..., 1] + 1.6) / 1.3) ** 2) - (((points[..., 2] - 4.6) / 2.0) ** 2))
        )
        shift = np.where(side > 3.0, zygoma - temple - hollow, 0.0) * _smooth((side - 3.0) / 2.0)
        points[..., 0] += np.sign(points[..., 0]) * shift
        points[..., 0] += 0.05 * who.asymmetry[5] * np.clip((2 - points[..., 1]) / 10, 0, 1.2) * front
        return points

    # -- lids and jaw -------------------------------------------------------------------------------------------

    def _lidded(self, openness: tuple[float, float]) -> tuple[Array, Array]:
        """[rows, columns, 3] with lids (right, left) this far open: as the rows above see it, as those below do."""
        above, below = self.bare.copy(), self.bare.copy()
        for index, side in enumerate((-1, 1)):
            self._lids(above, side, openness[index], upper=True)
            self._lids(below, side, openness[index], upper=False)
        grid = np.where((np.arange(len(self.rows)) <= self.eye_row)[:, None, None], above, below)
        return grid, below[self.eye_row]

    def _lids(self, points: Array, side: int, openness: float, *, upper: bool) -> None:
        who = self.who
        window = (side * np.sin(self.theta) > 0.02) & (np.cos(self.theta) > 0.3)
        columns = np.nonzero(window)[0]
        rows = slice(max(0, self.eye_row - 34), self.eye_row + 30)
        block = self.bare[rows][:, columns]
        x, y = block[..., 0], block[..., 1]
        open_upper, open_lower, closed, s = eye_fissure(who, side, x[self.eye_row - rows.start])
        level = who.eye_level
        d = y - (closed + level)
        if upper:
            reach = 1.55
            move = (open_upper - closed) * openness
            weight = 1 - _smooth(np.clip(d, 0, None) / reach)
        else:
            reach = 1.1
            move = (open_lower - closed) * min(openness, 1.1)
            weight = 1 - _smooth(np.clip(-d, 0, None) / reach)
        moved = y + move[None] * weight
        z = np.empty_like(moved)
        for k in range(len(columns)):
            line = self.bare[rows.start : rows.stop + 8, columns[k]][::-1]
            z[:, k] = np.interp(moved[:, k], line[:, 1], line[:, 2])
        centre = eye_centre(who, side)
        radius = EYE_RADIUS_CM + LID_THICKNESS_CM
        stretch = EYE_STRETCH * who.eye_width / 1.42
        q = radius**2 - ((x - centre[0]) / stretch) ** 2 - (moved - centre[1]) ** 2
        ball = centre[2] + np.where(q > 0, np.sqrt(np.clip(q, 0, None)), -np.sqrt(np.clip(-q, 0, None)) * 2)
        z = _soft_max(z, ball, 0.22)
        if upper:  # the fold above the lid, and a hood that hangs over it
            fold = np.exp(-(((d - 0.95) / 0.16) ** 2)) * np.clip(1 - s**2, 0, 1)[None] ** 0.5
            z -= 0.10 * who.lid_crease * fold * min(openness, 1.0)
            hood = np.exp(-(((d - 1.35) / 0.3) ** 2)) * np.clip(1.2 - s**2, 0, 1)[None]
            z += 0.16 * who.lid_hood * hood
        else:
            bag = np.exp(-(((d + 0.75) / 0.3) ** 2)) * np.clip(1.1 - s**2, 0, 1)[None]
            z += 0.10 * who.eye_bag * bag
        target = points[rows]
        target[:, columns, 1] = moved
        target[:, columns, 2] = z

    def _open_mouth(self, points: Array, amount: float, *, upper: bool | None) -> Array:
        """Turn the jaw about its hinge. `upper`: True/False for vertices of one lip at the seam, None for the grid."""
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        _, seam, _, s = mouth_lines(self.who, x)
        inside = np.sqrt(np.clip(1 - s**2, 0, 1))
        below = (y < seam - 1e-9) if upper is None else np.full(y.shape, not upper)
        loose = _smooth((-5.6 - y) / 4.2)
        near = np.where(below, 1.0, 0.0)
        weight = loose * (1 - inside) + near * inside
        fade = _smooth((z + 1.0) / 4.5)  # the jaw's angle moves, the nape does not
        weight = weight * fade
        angle = np.deg2rad(JAW_ANGLE_DEG) * amount * weight
        dy, dz = y - JAW_HINGE[1], z - JAW_HINGE[2]
        c, n = np.cos(angle), np.sin(angle)
        out = points.copy()
        slide = 0.55 * amount * weight  # the joint's head glides forwards and down
        out[..., 1] = JAW_HINGE[1] + dy * c - dz * n - 0.6 * slide
        out[..., 2] = JAW_HINGE[2] + dz * c + dy * n + slide
        lip = np.exp(-(((y - seam) / 0.9) ** 2)) * inside * (~below)
        out[..., 1] += 0.18 * amount * lip
        pinch = np.exp(-(((y - seam) / 1.6) ** 2)) * np.clip(1.4 - s**2, 0, 1)
        out[..., 0] *= 1 - 0.07 * amount * pinch
        return out

    # -- assembly -----------------------------------------------------------------------------------------------

    def skin(self) -> Skin:
        rows, columns = len(self.rows), len(self.theta)
        ids = np.arange(rows * columns).reshape(rows, columns)
        rest, _ = self._lidded((0.0, 0.0))
        eye_columns = [
            self._slit_columns(eye_fissure(self.who, side, self.base[self.eye_row, :, 0])[3]) for side in (-1, 1)
        ]
        mouth_columns = self._slit_columns(mouth_lines(self.who, self.base[self.mouth_row, :, 0])[3])
        extra_columns = [*eye_columns, mouth_columns]
        extra_rows = [self.eye_row, self.eye_row, self.mouth_row]
        below = ids.copy()  # ids as the quads below a slit see its row
        extra_ids, start = [], rows * columns
        for row, cols in zip(extra_rows, extra_columns, strict=True):
            new = np.arange(start, start + len(cols))
            below[row, cols] = new
            extra_ids.append(new)
            start += len(cols)
        triangles = _triangles(ids, below)

        def vertices(eyes: tuple[float, float], mouth: float) -> NDArray[np.float64]:
            grid, eye_below = self._lidded(eyes)
            flat = np.concatenate(
                [
                    grid.reshape(-1, 3),
                    eye_below[eye_columns[0]],
                    eye_below[eye_columns[1]],
                    grid[self.mouth_row, mouth_columns],
                ]
            )
            if mouth > 0:
                first = extra_ids[2][0]
                seam_top = ids[self.mouth_row, mouth_columns]
                lower = self._open_mouth(flat[first:], mouth, upper=False)
                upper = self._open_mouth(flat[seam_top], mouth, upper=True)
                flat = self._open_mouth(flat, mouth, upper=None)
                flat[first:], flat[seam_top] = lower, upper
            return flat

        closed = vertices((0.0, 0.0), 0.0)
        normal_0 = _normals(closed, triangles)
        free_0 = self._occlusion(closed, normal_0, rows, columns, extra_rows, extra_columns)

        def morph(levels: tuple[float, ...], at: list[NDArray[np.float64]]) -> Morph:
            moved = np.max([np.abs(p - closed).max(axis=1) for p in at], axis=0) > 1e-4
            reach = np.zeros(len(closed), bool)
            reach[np.unique(triangles[moved[triangles].any(axis=1)])] = True
            chosen = np.nonzero(reach)[0]
            normals, free = [], []
            for p in at:
                n = _normals(p, triangles)
                normals.append((n - normal_0)[chosen])
                shade = self._occlusion(p, n, rows, columns, extra_rows, extra_columns)
                free.append((shade - free_0)[chosen])
            return Morph(
                chosen,
                levels,
                np.stack([(p - closed)[chosen] for p in at]).astype(np.float32),
                np.stack(normals).astype(np.float32),
                np.stack(free).astype(np.float32),
            )

        u, v = np.meshgrid(np.arange(columns) / (columns - 1), np.arange(rows) / (rows - 1))
        uv = np.stack([u, v], axis=-1)
        all_uv = np.concatenate(
            [uv.reshape(-1, 2), *[uv[r, c] for r, c in zip(extra_rows, extra_columns, strict=True)]]
        )
        return Skin(
            positions=closed.astype(np.float32),
            normals=normal_0.astype(np.float32),
            occlusion=free_0.astype(np.float32),
            triangles=_triangles(ids, below, self._drawn_rows()),
            grid_uv=all_uv.astype(np.float32),
            rest=rest.astype(np.float32),
            angles=self.theta.astype(np.float32),
            right_eye=morph(OPENNESS_LEVELS, [vertices((o, 0.0), 0.0) for o in OPENNESS_LEVELS]),
            left_eye=morph(OPENNESS_LEVELS, [vertices((0.0, o), 0.0) for o in OPENNESS_LEVELS]),
            mouth=morph(MOUTH_LEVELS, [vertices((0.0, 0.0), o) for o in MOUTH_LEVELS]),
            eye_centres=np.stack([eye_centre(self.who, -1), eye_centre(self.who, 1)]).astype(np.float32),
            seam=np.stack([ids[self.mouth_row, mouth_columns], extra_ids[2]]),
            lids=(
                np.stack([ids[self.eye_row, eye_columns[0]], extra_ids[0]]),
                np.stack([ids[self.eye_row, eye_columns[1]], extra_ids[1]]),
            ),
        )

    def _drawn_rows(self) -> NDArray[np.int64]:
        """A row is a pixel high at the counter: two are where nothing opens."""
        number = np.arange(len(self.rows))
        near = np.min([np.abs(number - row) for row in (self.eye_row, self.mouth_row)], axis=0)
        return np.nonzero((near <= _DENSE_ROWS) | (number % 2 == 0) | (number == len(self.rows) - 1))[0]

    def _slit_columns(self, s: Array) -> NDArray[np.int64]:
        return np.nonzero((np.abs(s) < 1.0) & (np.cos(self.theta) > 0.2))[0]

    def _occlusion(
        self,
        flat: Array,
        normals: Array,
        rows: int,
        columns: int,
        extra_rows: list[int],
        extra_columns: list[Array],
    ) -> Array:
        """Share of the sky that a vertex sees, from how deep it lies below its surroundings at four scales."""
        grid = flat[: rows * columns].reshape(rows, columns, 3).astype(np.float32)
        normal = normals[: rows * columns].reshape(rows, columns, 3).astype(np.float32)
        hidden = np.zeros((rows, columns), np.float32)
        for size, gain in ((7, 2.2), (15, 1.0), (31, 0.45), (55, 0.2)):
            mean = cv2.blur(grid, (size, size), borderType=cv2.BORDER_REPLICATE)
            hidden += gain * np.clip(((mean - grid) * normal).sum(axis=-1) - 0.004 * size, 0, None)
        free = 1 / (1 + 1.25 * hidden)
        under = _smooth((-10.5 - grid[..., 1]) / 1.6) * _smooth((8.6 - grid[..., 2]) / 2.5)  # under the chin
        free = free * (1 - 0.45 * under)
        parts = [free.reshape(-1)] + [free[r, c] for r, c in zip(extra_rows, extra_columns, strict=True)]
        return np.concatenate(parts)


def eye_centre(who: Identity, side: int) -> NDArray[np.float64]:
    """Centre of the eyeball, cm."""
    x = side * (who.eye_distance + 0.03 * side * who.asymmetry[0])
    y = 0.06 * side * who.asymmetry[1] + who.eye_level + 0.02
    return np.array([x, y, 6.62 - 0.35 * who.eye_depth])


def face_relief(who: Identity, x: Array, y: Array) -> NDArray[np.float64]:
    """What the face adds to the skull towards the camera, cm, at frontal places (x, y)."""
    side = np.abs(x)
    level = who.eye_level

    def bump(cx: float, cy: float, sx: float, sy: float) -> Array:
        return np.exp(-(((side - cx) / sx) ** 2) - (((y - cy) / sy) ** 2))

    z = np.zeros_like(x)
    # orbit, brow ridge, forehead
    z -= (0.95 + 0.5 * who.eye_depth) * bump(who.eye_distance - 0.05, level + 0.05, 1.55, 1.05)
    z -= 0.35 * bump(1.55, level + 0.25, 0.5, 0.8)
    ridge_y = level + who.brow_height + 0.12
    z += (0.12 + who.brow_ridge) * bump(2.7, ridge_y, 2.2, 0.75)
    z += 0.22 * who.brow_ridge * bump(0.0, ridge_y - 0.1, 1.2, 0.8)
    z += 0.10 * bump(2.4, 5.6, 1.9, 1.5)
    # cheeks
    z += who.cheekbone * 0.75 * bump(4.5, level - 2.3, 1.7, 1.25)
    z += 0.4 * who.cheek_fullness * bump(4.2, -5.2, 1.7, 1.8)
    z += 0.18 * bump(3.0, -3.6, 1.5, 1.4)
    z -= 0.10 * (0.35 + who.age) * _groove(x, y, (1.95, -4.9), (3.2, -7.7), 0.28)
    # muzzle, lips, chin
    mouth_y = -7.65 + who.mouth_level
    z += who.muzzle * 1.05 * bump(0.0, mouth_y + 0.2, 2.3, 1.9)
    z += _lips(who, x, y)
    z -= 0.38 * bump(0.0, mouth_y - who.lower_lip - 0.72, 1.5, 0.5)
    chin_y = -10.35 - 0.75 * who.chin_length
    z += (0.45 + 0.55 * who.chin_size) * bump(0.0, chin_y, 1.5, 1.15)
    z -= who.chin_cleft * 0.35 * bump(0.0, chin_y - 0.2, 0.25, 0.7)
    z -= 0.16 * bump(who.mouth_width + 0.1, mouth_y - 0.05, 0.4, 0.45)
    for bump_x, bump_y, reach, height in who.relief:
        calm = 0.35 if abs(bump_y - level) < 1.2 else 1.0  # lids must still close over the eye
        z += calm * height * bump(bump_x, bump_y, reach, reach)
    return z + _nose(who, x, y)


def _nose(who: Identity, x: Array, y: Array) -> Array:
    side = np.abs(x)
    level = who.eye_level
    tip_y = -4.15 * who.nose_length + 0.35 * who.tip_lift
    base_y = -5.45 * who.nose_length + 0.15 * who.tip_lift
    root_y = level + 0.75
    tip = 2.35 * who.nose_projection
    # ridge: height over the face along y
    knots_y = np.array([base_y - 0.35, base_y + 0.05, (base_y + tip_y) / 2 - 0.1, tip_y, tip_y + 0.7,
                        (tip_y + root_y) / 2, level - 0.15, root_y, root_y + 1.1, root_y + 2.2])  # fmt: skip
    bridge = 0.62 + 0.75 * who.bridge_height
    knots_h = np.array([0.0, 0.42 * tip, 0.84 * tip, tip, 0.93 * tip, 0.56 * tip + 0.3 * bridge + who.nose_hump,
                        bridge + 0.12, 0.72 * bridge, 0.3 * bridge, 0.0])  # fmt: skip
    grid = np.linspace(base_y - 1.5, root_y + 3, 400)
    line = np.interp(grid, knots_y, knots_h)
    kernel = np.exp(-0.5 * (np.arange(-24, 25) / 8.0) ** 2)
    line = np.convolve(np.pad(line, 24, mode="edge"), kernel / kernel.sum(), "valid")
    height = np.interp(y, grid, line, left=0.0, right=0.0)
    width = np.interp(
        y,
        [base_y - 0.4, base_y + 0.3, tip_y, tip_y + 1.2, level - 0.3, root_y + 0.8],
        [1.0, 1.0 * who.tip_size, 0.98 * who.tip_size, 0.92, 0.74, 1.0],
    ) * (0.6 + 0.4 * who.bridge_width) * (0.75 + 0.25 * who.nose_width)  # fmt: skip
    ridge = height * np.exp(-((side / width) ** 2.0))
    # ball of the tip, wings, nostrils, the foot of the nose on the cheek
    ball = 0.28 * who.tip_size * np.exp(-((x / 0.62) ** 2) - (((y - tip_y) / 0.6) ** 2))
    wing_x, wing_y = 1.28 * who.nose_width, base_y + 0.62
    wing = (0.72 + 0.4 * who.alar_flare) * np.exp(
        -(np.abs((side - wing_x) / 0.52) ** 2.4) - (np.abs((y - wing_y) / 0.62) ** 2.4)
    )
    nostril = 0.45 * np.exp(-(((side - 0.62 * who.nose_width) / 0.3) ** 2) - (((y - base_y - 0.12) / 0.2) ** 2))
    crease = 0.22 * np.exp(-(((side - wing_x - 0.62) / 0.22) ** 2) - (((y - wing_y) / 0.6) ** 2))
    foot = (
        0.35 * np.exp(-((side / 1.9) ** 2)) * np.interp(y, [base_y - 0.3, base_y + 0.8, level, root_y], [0, 1, 0.4, 0])
    )
    return ridge + ball + wing - nostril - crease + foot


def _lips(who: Identity, x: Array, y: Array) -> Array:
    top, seam, bottom, s = mouth_lines(who, x)
    inside = np.clip(1 - s**2, 0, 1)
    t = np.clip((y - seam) / np.maximum(top - seam, 0.05), 0, 2)
    b = np.clip((seam - y) / np.maximum(seam - bottom, 0.05), 0, 2)
    upper = np.where(y >= seam, np.exp(-(((t - 0.55) / 0.6) ** 2)), 0.0) * (0.22 + 0.22 * who.upper_lip) * inside**0.6
    lower = np.where(y < seam, np.exp(-(((b - 0.5) / 0.55) ** 2)), 0.0) * (0.26 + 0.26 * who.lower_lip) * inside**0.6
    rim = 0.06 * np.exp(-(((y - top) / 0.1) ** 2)) * inside**0.5
    line = 0.34 * np.exp(-(((y - seam) / 0.12) ** 2)) * np.clip(1.15 - s**2, 0, 1) ** 0.5
    trough = np.exp(-((x / 0.3) ** 2)) - 0.55 * np.exp(-(((np.abs(x) - 0.55) / 0.22) ** 2))
    philtrum = (0.1 + 0.06 * who.philtrum) * trough * np.exp(-(((y - seam - who.upper_lip - 0.7) / 0.75) ** 2))
    return upper + lower + rim - line - philtrum


def _groove(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float], width: float) -> Array:
    """1 along the line from `start` to `end` and along its mirror image, falling off sideways."""
    side = np.abs(x)
    dx, dy = end[0] - start[0], end[1] - start[1]
    t = np.clip(((side - start[0]) * dx + (y - start[1]) * dy) / (dx**2 + dy**2), 0, 1)
    away = np.hypot(side - start[0] - t * dx, y - start[1] - t * dy)
    return np.exp(-((away / width) ** 2)) * np.sin(np.pi * np.clip(0.15 + 0.8 * t, 0, 1))


def _columns() -> NDArray[np.float64]:
    front = np.deg2rad(np.arange(-54, 54.01, 1.0))
    flank = np.deg2rad(np.arange(57, 96.01, 3.0))
    back = np.deg2rad(np.linspace(105, 180, 10))
    right = np.concatenate([flank, back])
    return np.concatenate([-right[::-1], front, right])


def _rows() -> NDArray[np.float64]:
    pieces = [(0.0, 4.2, 0.3), (4.2, 8.2, 0.26), (8.2, 11.2, 0.095), (11.2, 12.8, 0.16), (12.8, 18.2, 0.125),
              (18.2, 20.4, 0.18), (20.4, 23.6, 0.32)]  # fmt: skip
    return np.concatenate([np.arange(a, b - 1e-6, step) for a, b, step in pieces] + [[23.6]])


def _triangles(ids: Array, below: Array, rows: Array | None = None) -> NDArray[np.int32]:
    """Between all rows, or between these alone."""
    if rows is not None:
        ids, below = ids[rows], below[rows]
    a, b = below[:-1, :-1].ravel(), below[:-1, 1:].ravel()
    c, d = ids[1:, :-1].ravel(), ids[1:, 1:].ravel()
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]).astype(np.int32)


def _normals(points: Array, triangles: Array) -> NDArray[np.float64]:
    p = points.astype(np.float64)
    face = np.cross(p[triangles[:, 1]] - p[triangles[:, 0]], p[triangles[:, 2]] - p[triangles[:, 0]])
    normals = np.stack(
        [
            sum(np.bincount(triangles[:, k], weights=face[:, axis], minlength=len(p)) for k in range(3))
            for axis in range(3)
        ],
        axis=1,
    )
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _soft_max(a: Array, b: Array, k: float) -> Array:
    """Polynomial smooth maximum: rounds the crossing over `k`."""
    h = np.clip(0.5 + 0.5 * (a - b) / k, 0, 1)
    return b + (a - b) * h + k * h * (1 - h)


def _smooth(t: Array | float) -> Array:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)
