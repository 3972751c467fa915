"""A flat or bent rectangle in somebody's hands: its mesh, its place, its light; what is on it belongs to its makers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.session.decision import ChallengeKind
from simulator.person import Light, PersonState
from simulator.person.motion import Actor, Habits
from simulator.raster import FAR_CM, Canvas, rasterise, rotation

Array = NDArray[Any]  # float; numpy arithmetic loses the width

_GRID = 33


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Points and normals [N, 3] in the sheet's own space (cm), triangles, and uv [N, 2] from the upper left corner."""

    points: Array
    normals: Array
    triangles: NDArray[np.int32]
    uv: Array


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """What the camera sees of a sheet: where it is, the uv there, the light that falls on it and what it mirrors.

    Cut to `box`, the rows and columns of the picture that the sheet is in: what is drawn of it is drawn there only.
    """

    box: tuple[slice, slice]
    covered: NDArray[np.bool_]  # [H, W]
    uv: Array  # [H, W, 2]
    lit: Array  # [H, W, 3] irradiance
    shine: Array  # [H, W, 1] mirrored light for a gloss of 1


def make_sheet(width_cm: float, height_cm: float, bend: float = 0.0) -> Sheet:
    """Bent about its upright axis: `bend` is the curvature in 1/cm, positive towards the camera in the middle."""
    u, v = np.meshgrid(np.linspace(0, 1, _GRID), np.linspace(0, 1, _GRID))
    along = (u - 0.5) * width_cm
    if abs(bend) > 1e-6:
        angle = along * bend
        x, z = np.sin(angle) / bend, (np.cos(angle) - 1) / bend
        normal = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=-1)
    else:
        x, z = along, np.zeros_like(along)
        normal = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (*along.shape, 3))
    points = np.stack([x, (0.5 - v) * height_cm, z], axis=-1).reshape(-1, 3).astype(np.float32)
    ids = np.arange(_GRID * _GRID).reshape(_GRID, _GRID)
    a, b, c, d = ids[:-1, :-1].ravel(), ids[:-1, 1:].ravel(), ids[1:, :-1].ravel(), ids[1:, 1:].ravel()
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]).astype(np.int32)
    uv = np.stack([u, v], axis=-1).reshape(-1, 2).astype(np.float32)
    return Sheet(points, normal.reshape(-1, 3).astype(np.float32), triangles, uv)


def lay(canvas: Canvas, sheet: Sheet, turn: Array, place: Array, light: Light) -> Laid:
    """The sheet turned by `turn` [3, 3] and moved to `place` (camera space, cm), in that light, from both sides."""
    points = sheet.points @ turn.T + np.asarray(place, np.float32)
    normals = sheet.normals @ turn.T
    view = -points / np.linalg.norm(points, axis=1, keepdims=True)
    normals = normals * np.sign((normals * view).sum(axis=1, keepdims=True))
    up = 0.5 + 0.5 * normals[:, 1:2]
    irradiance = up * np.asarray(light.sky, np.float32) + (1 - up) * np.asarray(light.ground, np.float32)
    shine = np.zeros(len(points), np.float32)
    for towards, colour in light.sources:
        direction = np.asarray(towards, np.float32) / np.asarray(np.linalg.norm(towards), np.float32)
        irradiance = irradiance + np.clip(normals @ direction, 0, 1)[:, None] * np.asarray(colour, np.float32)
        half = view + direction
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        shine += 0.55 * float(np.mean(colour)) * np.clip((normals * half).sum(axis=1), 0, 1) ** 60
    attributes = np.concatenate([sheet.uv, shine[:, None]], axis=1)
    surface, lit, depth = rasterise(canvas, points, sheet.triangles, attributes, irradiance, both_sides=True)
    covered = depth < FAR_CM
    box = _bounds(covered)
    return Laid(box, covered[box], surface[box][..., :2], lit[box], surface[box][..., 2:3])


def _bounds(covered: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns that have any; a single pixel where none is covered."""
    ends = [np.flatnonzero(covered.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 1) for at in ends)
    return rows, columns


def held(actor: Actor, t_s: float) -> tuple[Array, Array]:
    """Turn and place of a sheet that a hand moves for what the screen asks; a blink or mouth is answered by shaking."""
    state: PersonState = actor.at(t_s)
    shake = 0.0
    if actor.action in (ChallengeKind.BLINK, ChallengeKind.MOUTH_OPEN):
        shake = float(np.sin(2 * np.pi * 3.0 * t_s))
    turn = rotation(state.yaw_deg, state.pitch_deg + 2.5 * shake, state.roll_deg)
    return turn, np.asarray([state.x_cm, state.y_cm + 0.8 * shake, -state.distance_cm], np.float32)


def by_hand(habits: Habits, distance_cm: float, rng: np.random.Generator) -> Habits:
    """A hand that holds a sheet: turns it as far as the picture stays readable, trembles more than a head."""
    return replace(
        habits,
        turn_deg=float(rng.uniform(22, 42)),
        nod_deg=float(rng.uniform(15, 28)),
        rest_distance_cm=float(np.clip(distance_cm + rng.normal(0, 2.5), 20, 60)),
        rest_y_cm=float(rng.normal(0, 0.8)),
        tremor=habits.tremor * float(rng.uniform(1.0, 2.2)),
    )


def thumbs(sheet: Array, skin: tuple[float, float, float], rng: np.random.Generator, per_cm: float) -> None:
    """The thumbs that hold a sheet at its sides, painted onto `sheet` [h, w, 3] (linear reflectance)."""
    height, width = sheet.shape[:2]
    for left in (True, False):
        y = float(rng.uniform(0.45, 0.8)) * height
        reach, thick = float(rng.uniform(1.4, 2.8)) * per_cm, 0.85 * per_cm
        tip = reach if left else width - reach
        edge = 0.0 if left else float(width)
        mask: Array = np.zeros((height, width), np.float32)
        cv2.line(mask, (int(edge), int(y + 0.35 * reach)), (int(tip), int(y)), 1.0, int(2 * thick))
        mask = cv2.GaussianBlur(mask, (0, 0), max(0.06 * per_cm, 0.6))
        round_off = np.clip(1.15 - 0.45 * np.abs(np.arange(height)[:, None] - y) / thick, 0.5, 1.1)
        nail: Array = np.zeros((height, width), np.float32)
        inner = tip - (0.5 if left else -0.5) * per_cm
        cv2.ellipse(nail, (int(inner), int(y)), (int(0.6 * per_cm), int(0.5 * per_cm)), 0, 0, 360, 1.0, -1)
        nail = cv2.GaussianBlur(nail, (0, 0), max(0.08 * per_cm, 0.6))[..., None]
        colour = np.asarray(skin, np.float32) * round_off[..., None].astype(np.float32)
        colour = colour * (1 + nail * np.asarray([0.25, 0.15, 0.12], np.float32))
        sheet[:] = sheet * (1 - mask[..., None]) + np.clip(colour, 0, 1) * mask[..., None]
