"""What is not skin: eyeballs, teeth, ears, hair, neck, shoulders, glasses. Geometry only; painting is in skin.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simulator.person.identity import HairStyle, Identity
from simulator.person.shape import EYE_RADIUS_CM, EYE_STRETCH, Skin
from simulator.person.skin import hairness, region

Array = NDArray[Any]  # float; numpy arithmetic loses the width


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One surface in head space (cm)."""

    positions: Array  # [V, 3]
    normals: Array  # [V, 3]
    uv: Array  # [V, 2] atlas pixels
    triangles: NDArray[np.int32]
    occlusion: Array  # [V]
    gloss: Array  # [V]
    head: Array  # [V] share of the head's motion: 1 head .. 0 body


def build_parts(who: Identity, skin: Skin) -> dict[str, Part]:
    """All parts by name; `right_eye` and `left_eye` are always there."""
    rng = np.random.default_rng([557, who.seed])
    parts = {
        "right_eye": _eyeball(who, skin, 0),
        "left_eye": _eyeball(who, skin, 1),
        "teeth": _teeth(who),
        "mouth": _cavity(who),
        "right_ear": _ear(who, skin, -1),
        "left_ear": _ear(who, skin, 1),
        "body": _body(who),
    }
    if who.hair_style is not HairStyle.BALD:
        parts["hair"] = _hair(who, skin, rng)
    if who.hair_style in (HairStyle.LONG, HairStyle.LONG_FRINGE):
        parts["curtain"] = _curtain(who, skin, rng)
    if who.glasses:
        parts["glasses"] = _glasses(who, skin)
    return parts


def grid_normals(points: Array, *, wrap: bool = False) -> Array:
    """Unit normals of a grid [rows, columns, 3] whose columns run to the left seen from outside when rows run down."""
    if wrap:
        points = np.concatenate([points[:, -2:-1], points, points[:, 1:2]], axis=1)
    across = np.gradient(points, axis=1)
    down = np.gradient(points, axis=0)
    normals = np.cross(down, across)
    if wrap:
        normals = normals[:, 1:-1]
    return (normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)).astype(np.float32)


def grid_triangles(rows: int, columns: int) -> NDArray[np.int32]:
    ids = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = ids[:-1, :-1].ravel(), ids[:-1, 1:].ravel(), ids[1:, :-1].ravel(), ids[1:, 1:].ravel()
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]).astype(np.int32)


def _part(
    points: Array,
    surface: str,
    *,
    uv: Array | None = None,
    occlusion: Array | float = 1.0,
    gloss: float = 0.0,
    head: Array | float = 1.0,
    normals: Array | None = None,
) -> Part:
    rows, columns = points.shape[:2]
    if uv is None:
        u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
        uv = np.stack([u, v], axis=-1)
    normals = grid_normals(points) if normals is None else normals
    count = rows * columns
    return Part(
        points.reshape(-1, 3).astype(np.float32),
        normals.reshape(-1, 3).astype(np.float32),
        region(surface, uv.reshape(-1, 2)),
        grid_triangles(rows, columns),
        np.broadcast_to(np.asarray(occlusion, np.float32), (rows, columns)).reshape(count).copy(),
        np.full(count, gloss, np.float32),
        np.broadcast_to(np.asarray(head, np.float32), (rows, columns)).reshape(count).copy(),
    )


def _eyeball(who: Identity, skin: Skin, index: int) -> Part:
    centre = skin.eye_centres[index]
    stretch = EYE_STRETCH * who.eye_width / 1.42
    elevation, azimuth = np.meshgrid(np.linspace(1.25, -1.25, 15), np.linspace(-1.5, 1.5, 21), indexing="ij")
    direction = np.stack(
        [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)], axis=-1
    )
    points = centre + direction * EYE_RADIUS_CM * np.array([stretch, 1.0, 1.0])
    shade = np.clip(0.92 - 0.30 * np.clip(direction[..., 1] * 1.7, -0.3, 1) - 0.28 * direction[..., 0] ** 2, 0.2, 1)
    return _part(points, "eye", uv=np.full((15, 21, 2), 0.5), occlusion=shade, gloss=0.0, normals=direction)


def eye_uv(part: Part, centre: Array, gaze_x_deg: float, gaze_y_deg: float) -> Array:
    """Atlas pixels of an eyeball's vertices when it looks this far to the right of the picture and up."""
    shift = EYE_RADIUS_CM * np.sin(np.deg2rad([gaze_x_deg, gaze_y_deg])).astype(np.float32)
    place = part.positions[:, :2] - centre[:2].astype(np.float32) - shift
    place[:, 1] *= -1
    return region("eye", np.clip(0.5 + place / 2.84, 0, 1))


def _teeth(who: Identity) -> Part:
    u, v = np.meshgrid(np.linspace(-1, 1, 25), np.linspace(0, 1, 5))
    level = -7.65 + who.mouth_level
    x = 2.45 * np.sin(u * 1.25)
    z = 7.0 + 0.42 * who.muzzle + 1.75 * (np.cos(u * 1.25) - 0.3) - 0.15
    y = level + 0.62 - 0.86 * v
    return _part(np.stack([x, y, z], axis=-1), "teeth", occlusion=0.62, gloss=0.3)


def _cavity(who: Identity) -> Part:
    u, v = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(0, 1, 7))
    level = -7.65 + who.mouth_level
    points = np.stack([2.7 * np.sin(u * 1.3), level + 0.9 - 3.6 * v, 4.4 + 1.6 * np.cos(u * 1.3) - 1.6 * v], axis=-1)
    return _part(points, "mouth", occlusion=0.5)


def _ear(who: Identity, skin: Skin, side: int) -> Part:
    ring, angle = np.meshgrid(np.linspace(0.0, 1.0, 12), np.linspace(0, 2 * np.pi, 25), indexing="ij")
    u, v = ring * np.cos(angle), ring * np.sin(angle)  # u to the back, v up
    half_width, half_height = 1.75 * who.ear_size, 3.1 * who.ear_size
    taper = 1 - 0.24 * np.clip(-v, 0, 1)
    flare = np.deg2rad(who.ear_flare)
    bulge = (
        0.5 * (1 - ring**6)
        + 0.28 * np.exp(-(((ring - 0.84) / 0.11) ** 2))
        - 0.75 * np.exp(-(((u + 0.15) / 0.36) ** 2) - (((v + 0.05) / 0.36) ** 2))
    )
    back = np.array([side * np.sin(flare), 0.0, -np.cos(flare)])
    out = np.array([side * np.cos(flare), 0.0, np.sin(flare)])
    up = np.array([0.0, 0.985, -0.17])
    near = np.abs(skin.rest[..., 1] + 2.0) < 0.5
    width = float(np.abs(skin.rest[..., 0][near]).max())
    centre = np.array([side * (width + 0.15 + half_width * np.sin(flare) * 0.55), -1.8 + 0.3 * who.eye_level, -0.9])
    points = (
        centre
        + (u * half_width * taper)[..., None] * back
        + (v * half_height)[..., None] * up
        + (0.55 * bulge - 0.2)[..., None] * out
    )
    if side < 0:
        points, u, v = points[:, ::-1], u[:, ::-1], v[:, ::-1]
    points = points[::-1]
    u, v = u[::-1], v[::-1]
    uv = np.stack([0.5 + 0.5 * u, 0.5 - 0.5 * v], axis=-1)
    normals = grid_normals(points)
    if (normals * out).sum() < 0:
        points, uv = points[:, ::-1], uv[:, ::-1]
        normals = grid_normals(points)
    return _part(points, "ear", uv=uv, occlusion=0.85, gloss=0.25, normals=normals)


def _body(who: Identity) -> Part:
    table = np.array([  # v, y, half width, half depth, centre z
        [0.00, -6.0, 4.3, 4.6, -1.8], [0.14, -9.5, 4.9, 5.0, -1.9], [0.27, -13.0, 5.3, 5.2, -2.4],
        [0.36, -15.4, 6.0, 5.8, -2.9], [0.42, -16.8, 8.0, 6.7, -3.1], [0.50, -18.0, 12.0, 7.7, -3.1],
        [0.60, -19.4, 16.0, 8.5, -3.0], [0.70, -21.6, 19.0, 9.3, -2.8], [0.82, -25.5, 20.6, 10.4, -2.4],
        [1.00, -42.0, 21.2, 12.0, -2.0],
    ])  # fmt: skip
    v = np.concatenate([np.linspace(0, 0.34, 12), np.linspace(0.36, 0.62, 18), np.linspace(0.65, 1, 12)])
    chin_drop = -0.4 * who.chin_length
    y, width, depth, z0 = (np.interp(v, table[:, 0], table[:, c])[:, None] for c in range(1, 5))
    slim = np.clip((0.45 - v) / 0.15, 0, 1)[:, None]
    width = width * (slim * who.neck_width + (1 - slim) * who.shoulder_width)
    depth = depth * (slim * who.neck_width + (1 - slim))
    angle = np.linspace(-np.pi, np.pi, 49)[None]
    n = 2.0
    sine, cosine = np.sin(angle), np.cos(angle)
    x = width * np.sign(sine) * np.abs(sine) ** (2 / n)
    z = z0 + depth * np.sign(cosine) * np.abs(cosine) ** (2 / n)
    points = np.stack([x, y + chin_drop + 0 * x, z], axis=-1)
    shade = np.interp(v, [0, 0.1, 0.3, 0.4], [0.30, 0.42, 0.85, 1.0])[:, None]
    front_shade = shade + (1 - shade) * np.clip(-cosine, 0, 1)
    follow = np.interp(v, [0, 0.12, 0.36], [1.0, 0.75, 0.0])[:, None] * np.ones_like(x)
    u = np.broadcast_to((angle / np.pi + 1) / 2, x.shape)
    vv = np.broadcast_to(v[:, None], x.shape)
    return _part(points, "body", uv=np.stack([u, vv], axis=-1), occlusion=front_shade, gloss=0.05, head=follow)


_TOP_THICKNESS = {
    HairStyle.SHORT: 1.15, HairStyle.CROPPED: 0.32, HairStyle.PARTED: 1.35, HairStyle.FRINGE: 1.2, HairStyle.LONG: 1.1,
    HairStyle.LONG_FRINGE: 1.2, HairStyle.TIED: 0.6, HairStyle.RECEDING: 0.55, HairStyle.BALD: 0.0,
}  # fmt: skip


def _hair(who: Identity, skin: Skin, rng: np.random.Generator) -> Part:
    last = int(np.argmin(np.abs(skin.rest[:, 0, 1] + 9.0))) + 1
    columns = np.unique(np.concatenate([np.arange(0, skin.rest.shape[1], 2), [skin.rest.shape[1] - 1]]))
    rows = np.unique(np.concatenate([np.arange(0, 24), np.arange(24, max(last, 60), 3)]))
    grid = skin.rest[rows][:, columns].astype(np.float64)
    theta = np.broadcast_to(skin.angles[columns], grid.shape[:2])
    above = hairness(who, theta, grid[..., 1])
    thick = _TOP_THICKNESS[who.hair_style] * who.hair_volume
    crown = np.clip((grid[..., 1] - 1.0) / 9.0, 0, 1)
    depth = thick * (0.32 + 0.68 * crown)
    strands = np.repeat(rng.standard_normal((1, len(columns))), len(rows), axis=0)
    coarse = rng.standard_normal((len(rows) // 3 + 2, len(columns) // 2 + 2)).astype(np.float32)
    locks = cv2.resize(coarse, (len(columns), len(rows)), interpolation=cv2.INTER_CUBIC)
    edge = above + 0.12 * strands
    cover = np.clip(edge / 0.55, 0, 1)
    lift = np.where(edge > -0.1, (0.12 + depth * (1 + 0.10 * strands + 0.12 * locks)) * np.sqrt(cover), 0)
    lift = np.where(edge <= 0, -0.45, lift)
    if who.hair_style is HairStyle.PARTED:
        place = np.rad2deg(theta) * np.sign(who.hair_parting + 1e-6)
        lift = (
            lift
            * (1 - 0.7 * np.exp(-(((place + 30) / 7) ** 2)) * crown)
            * (1 + 0.25 * np.clip(place / 60, -1, 1) * crown)
        )
    outward = grid - np.array([0.0, 0.5, -0.5])
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    points = grid + outward * lift[..., None]
    shade = np.clip(0.72 + 0.3 * crown, 0, 1) * (0.75 + 0.25 * cover)
    u = np.broadcast_to((skin.angles[columns] / np.pi + 1) / 2, theta.shape)
    v = np.clip((12 - grid[..., 1]) / 21, 0, 1)
    part = _part(points, "hair", uv=np.stack([u, v], axis=-1), occlusion=shade, gloss=0.35)
    seen = (lift > -0.4).reshape(-1)[part.triangles].any(axis=1)  # what lies inside the head must not show in the mouth
    return replace(part, triangles=part.triangles[seen])


def _curtain(who: Identity, skin: Skin, rng: np.random.Generator) -> Part:
    rows, columns = 26, 61
    length = 9.0 + 13.0 * who.hair_length
    v = np.linspace(0, 1, rows)[:, None]
    y = 5.5 - v * (5.5 + length)
    near = np.abs(skin.rest[..., 1] - 1.0) < 0.6
    half = float(np.abs(skin.rest[..., 0][near]).max()) + 0.35 + 0.45 * who.hair_volume
    start = np.interp(y, [-22, -12, -5, 0, 3, 6], [70, 60, 66, 70, 72, 64])
    turn = np.linspace(-1, 1, columns)[None]
    angle = np.deg2rad(180 + turn * (180 - start))  # from the right side around the back to the left
    strands = rng.standard_normal((1, columns)) * 0.10
    width = np.interp(y, [-22, -15, -8, 0, 5.5], [half * 1.25, half * 1.18, half * 1.08, half, half * 0.86]) + strands
    depth = np.interp(y, [-22, -12, 0, 5.5], [8.0, 9.0, 9.9, 9.6]) + strands
    x, z = width * np.sin(angle), depth * np.cos(angle) - 0.2
    sway = 0.25 * np.sin(v * 9 + 3 * turn)
    points = np.stack([-(x + sway * np.sign(x) * v), y + 0 * x, z], axis=-1)
    points = points[:, ::-1]
    u = np.broadcast_to(0.5 + 0.5 * turn[:, ::-1], x.shape)
    vv = np.broadcast_to(v, x.shape)
    follow = np.interp(y, [-16, -8], [0.25, 1.0]) * np.ones_like(x)
    normals = grid_normals(points)
    if (normals * (points * np.array([1, 0, 1]))).sum() < 0:
        points, normals = points[:, ::-1], -normals[:, ::-1]
    part = _part(
        points, "hair", uv=np.stack([u, vv], axis=-1), occlusion=0.75, gloss=0.35, head=follow, normals=normals
    )
    return replace(part, triangles=np.concatenate([part.triangles, part.triangles[:, ::-1]]))  # seen from inside too


def _glasses(who: Identity, skin: Skin) -> Part:
    """Two rims, a bridge and temples as one ribbon grid each, joined."""
    pieces: list[Array] = []
    size = who.glasses_size
    level = who.eye_level - 0.25
    x, y, z = np.moveaxis(skin.rest, -1, 0)
    behind = (np.abs(x) > 1.2) & (np.abs(x) < 5.2 * size) & (np.abs(y - level) < 1.9 * size)
    front_z = float((z + 0.10 * np.abs(np.abs(x) - 1.0))[behind].max()) + 0.25  # rims rest before brows and cheeks
    t = np.linspace(0, 2 * np.pi, 33)
    for side in (-1, 1):
        cx = side * 3.35 * (0.5 + 0.5 * size)
        power = 2.6
        rx, ry = 2.55 * size, 1.75 * size
        ex = np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / power)
        ey = np.sign(np.sin(t)) * np.abs(np.sin(t)) ** (2 / power)
        ring = np.stack([cx + rx * ex, level + ry * ey, front_z - 0.10 * np.abs(cx + rx * ex - side * 1.0)], axis=-1)
        pieces.append(_tube(ring, 0.13))
        hinge = np.array([cx + side * rx, level + 0.6, front_z - 0.5])
        ear = np.array([side * (np.abs(skin.rest[..., 0]).max() + 0.1), level + 0.5, -0.8])
        pieces.append(_tube(np.linspace(hinge, ear, 12), 0.13))
    inner = 3.35 * (0.5 + 0.5 * size) - 2.55 * size
    a = np.linspace(-1, 1, 9)
    bridge = np.stack([a * max(inner, 0.3), level + 0.55 + 0.25 * (1 - a**2), front_z + 0.12 * (1 - a**2)], axis=-1)
    pieces.append(_tube(bridge, 0.14))
    parts = [_part(p, "frame", gloss=0.5, normals=grid_normals(p)) for p in pieces]
    offsets = np.cumsum([0] + [len(p.positions) for p in parts[:-1]])
    return Part(
        positions=np.concatenate([p.positions for p in parts]),
        normals=np.concatenate([p.normals for p in parts]),
        uv=np.concatenate([p.uv for p in parts]),
        triangles=np.concatenate([p.triangles + o for p, o in zip(parts, offsets, strict=True)]).astype(np.int32),
        occlusion=np.concatenate([p.occlusion for p in parts]),
        gloss=np.concatenate([p.gloss for p in parts]),
        head=np.concatenate([p.head for p in parts]),
    )


def _tube(path: Array, radius: float) -> Array:
    """Grid [9, N, 3] around a path."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    helper = np.where(np.abs(along[:, 2:3]) > 0.8, np.array([[0.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0]]))
    a = np.cross(along, helper)
    a /= np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-9)
    b = np.cross(along, a)
    phi = np.linspace(0, 2 * np.pi, 9)[:, None, None]
    return path[None] + radius * (np.cos(phi) * a[None] + np.sin(phi) * b[None])
