"""What the person's surfaces look like: albedo painted procedurally into one atlas; no lighting, no geometry here.

All colours are linear BGR, 0..1. The atlas holds a rectangle per surface; `region` says where.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simulator.person.identity import Beard, HairStyle, Identity
from simulator.person.shape import Skin, eye_fissure, mouth_lines

Array = NDArray[Any]  # float; numpy arithmetic loses the width

ATLAS_PX = 1024
# left, top, width, height in the atlas
_REGIONS = {
    "skin": (0, 0, 640, 640),
    "hair": (644, 0, 380, 500),
    "body": (644, 504, 380, 256),
    "ear": (644, 764, 120, 120),
    "eye": (768, 764, 160, 160),
    "teeth": (932, 764, 92, 60),
    "mouth": (932, 828, 92, 60),
    "frame": (644, 892, 32, 32),
}


def region(name: str, uv: Array) -> Array:
    """Atlas pixels [N, 2] of places `uv` (0..1 in both directions) of one surface."""
    left, top, width, height = _REGIONS[name]
    return (
        np.asarray(uv, np.float32) * np.asarray([width - 1, height - 1], np.float32)
        + np.asarray([left, top], np.float32)
    ).astype(np.float32)


def paint(who: Identity, skin: Skin) -> NDArray[np.uint8]:
    """The atlas, [1024, 1024, 3] BGR, coded with gamma 2: `decode` is a square."""
    atlas = np.zeros((ATLAS_PX, ATLAS_PX, 3), np.float32)
    rng = np.random.default_rng([911, who.seed])
    surfaces = {
        "skin": paint_skin(who, skin, rng),
        "hair": paint_hair(who, rng),
        "body": paint_body(who, rng),
        "ear": paint_ear(who, rng),
        "eye": paint_eye(who, rng),
        "teeth": paint_teeth(rng),
        "mouth": paint_mouth(),
        "frame": np.full((32, 32, 3), who.glasses_colour, np.float32),
    }
    for name, picture in surfaces.items():
        left, top, width, height = _REGIONS[name]
        atlas[top : top + height, left : left + width] = picture
    return np.clip(np.sqrt(np.clip(atlas, 0, 1)) * 255 + 0.5, 0, 255).astype(np.uint8)


def noise(rng: np.random.Generator, height: int, width: int, cell_px: float, cell_py: float | None = None) -> Array:
    """Smooth noise with standard deviation 1; cells of `cell_px` x `cell_py` pixels."""
    rows, columns = int(height / (cell_py or cell_px)) + 3, int(width / cell_px) + 3
    small = rng.standard_normal((rows, columns)).astype(np.float32)
    field = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return (field - field.mean()) / (field.std() + 1e-6)


def paint_skin(who: Identity, skin: Skin, rng: np.random.Generator) -> Array:
    """Head without hair, eyes shut, as an albedo picture in grid space."""
    _, _, width, height = _REGIONS["skin"]
    rows, columns = skin.rest.shape[:2]
    at_x, at_y = np.meshgrid(
        np.linspace(0, columns - 1, width, dtype=np.float32), np.linspace(0, rows - 1, height, dtype=np.float32)
    )
    rest = cv2.remap(np.ascontiguousarray(skin.rest), at_x, at_y, cv2.INTER_LINEAR)
    x, y, z = (np.ascontiguousarray(rest[..., i]) for i in range(3))
    theta = cv2.remap(np.ascontiguousarray(np.broadcast_to(skin.angles, (rows, columns))), at_x, at_y, cv2.INTER_LINEAR)
    front = _step(z, 0.0, 3.0)
    tone = np.array(who.skin, np.float32)
    albedo = np.broadcast_to(tone, (height, width, 3)).copy()
    albedo *= _complexion(who, x, y, front, rng)
    _wrinkles(who, albedo, x, y, front)
    _lids(who, albedo, x, y, front, rng)
    _lips(who, albedo, x, y, front, rng)
    _nostrils(who, albedo, x, y, front)
    _spots(who, albedo, x, y, z, rng)
    _beard(who, albedo, x, y, z, front, rng)
    _brows(who, albedo, x, y, front, rng)
    _scalp(who, albedo, x, y, theta, rng)
    return np.clip(albedo, 0.002, 0.95)


def _complexion(who: Identity, x: Array, y: Array, front: Array, rng: np.random.Generator) -> Array:
    height, width = x.shape
    side = np.abs(x)
    m = (
        1.0
        + 0.055 * who.skin_mottle * noise(rng, height, width, 60)
        + 0.030 * who.skin_mottle * noise(rng, height, width, 18)
    )
    m += 0.022 * noise(rng, height, width, 5) + 0.028 * noise(rng, height, width, 1.7)  # pores
    red = 0.8 * _blob(side, y, 4.2, -3.4, 1.9, 1.6) + 0.75 * _blob(side, y, 0, -4.5, 1.3, 0.9)
    red += 0.35 * _blob(side, y, 0, -10.4, 1.6, 1.0) + 0.25 * noise(rng, height, width, 45) * front
    red = np.clip(red * who.redness * front, -0.3, 1.2)
    pale = 0.6 * _blob(side, y, 0, 5.0, 4.0, 2.0)
    for place_x, place_y, reach, amount in who.shades:
        m = m + amount * _blob(side, y, place_x, place_y, reach, reach) * front
    out = np.stack([m - 0.10 * red, m - 0.13 * red, m + 0.035 * red + 0.01 * pale], axis=-1)
    tired = who.eye_bag * 0.22 * _blob(side, y, who.eye_distance - 0.2, who.eye_level - 1.05, 1.3, 0.55) * front
    socket = 0.5 * _blob(side, y, 1.75, who.eye_level + 0.1, 0.7, 0.9) * front
    socket = who.socket * np.maximum(socket, _blob(side, y, who.eye_distance, who.eye_level + 0.7, 1.7, 0.8) * front)
    return (out * (1 - (tired + socket)[..., None] * np.asarray([0.8, 1.0, 0.85], np.float32))).astype(np.float32)


def _wrinkles(who: Identity, albedo: Array, x: Array, y: Array, front: Array) -> None:
    age = max(0.0, who.age - 0.25)
    side = np.abs(x)
    dark = np.zeros_like(x)
    for k in range(4):
        line = 3.7 + who.eye_level + 0.85 * k + 0.12 * np.sin(1.1 * x + 2.1 * k + who.asymmetry[6])
        dark += np.exp(-(((y - line) / 0.07) ** 2)) * np.exp(-((side / 3.6) ** 4)) * (0.6 + 0.3 * np.sin(3 * x + 5 * k))
    for k in range(4):  # crow's feet
        slope = -0.5 + 0.33 * k
        line = who.eye_level + 0.1 + slope * (side - 4.6)
        dark += 0.8 * np.exp(-(((y - line) / 0.06) ** 2)) * _step(side, 4.75, 5.1) * _step(-side, -6.3, -5.4)
    for k in (-1, 1):  # between the brows
        dark += 0.7 * np.exp(-(((x - 0.42 * k) / 0.08) ** 2)) * np.exp(-(((y - 2.0 - who.eye_level) / 0.8) ** 2))
    t = np.clip((-4.9 - y) / 2.8, 0, 1)
    fold = np.exp(-(((side - 1.98 - 1.25 * t) / 0.14) ** 2)) * _step(-y, 4.7, 5.2) * _step(y, -8.4, -7.6)
    dark = dark * age + fold * (0.12 + 0.75 * who.age) * 0.8
    albedo *= 1 - np.clip(0.5 * dark * front, 0, 0.6)[..., None] * np.asarray([1.0, 1.0, 0.85], np.float32)


def _lids(who: Identity, albedo: Array, x: Array, y: Array, front: Array, rng: np.random.Generator) -> None:
    hair = np.asarray([0.010, 0.009, 0.010], np.float32) + 0.15 * np.asarray(who.hair, np.float32)
    makeup = who.masculine < 0.35 and rng.random() < 0.5
    for side in (-1, 1):
        _, _, closed, s = eye_fissure(who, side, x)
        d = y - closed - who.eye_level
        inside = np.clip(1.08 - s**2, 0, 1) ** 0.6 * front
        shade = 0.16 * np.exp(-(((d - 0.45) / 0.5) ** 2)) * inside
        crease = (0.02 + 0.32 * who.lid_crease) * np.exp(-(((d - 0.93 - 0.02 * s) / 0.075) ** 2)) * inside
        if makeup:
            shade = shade * 2.5
        albedo *= 1 - np.clip(shade + crease, 0, 0.75)[..., None] * np.asarray([0.8, 0.95, 0.8], np.float32)
        # lashes: a dark margin, heavier above and to the outside
        above = _step(-d, -(0.31 + 0.08 * np.clip(s, -1, 1)), -0.15) * (d >= -0.02)
        below = 0.45 * _step(d, -0.10, -0.03) * (d < 0.0)
        lash = (above * (0.95 if makeup else 0.82) + below) * _step(1.06 - np.abs(s), 0.0, 0.09) * front
        albedo[:] = albedo * (1 - lash[..., None]) + hair * lash[..., None]
        corner = np.exp(-(((s + 1.0) / 0.1) ** 2) - ((d / 0.14) ** 2)) * front  # caruncle
        albedo[:] = (
            albedo * (1 - 0.6 * corner[..., None]) + np.asarray([0.22, 0.22, 0.5], np.float32) * 0.6 * corner[..., None]
        )


def _lips(who: Identity, albedo: Array, x: Array, y: Array, front: Array, rng: np.random.Generator) -> None:
    height, width = x.shape
    top, seam, bottom, s = mouth_lines(who, x)
    edge = 0.07
    mask = _step(top - y, -edge, edge) * _step(y - bottom, -edge, edge) * _step(1.0 - np.abs(s), -0.02, 0.05) * front
    colour = (
        np.asarray(who.lip_colour, np.float32)
        * (1 + 0.07 * noise(rng, height, width, 2.2, 14) + 0.05 * noise(rng, height, width, 9))[..., None]
    )
    colour = colour * np.where(y > seam, 0.86, 1.04)[..., None]
    albedo[:] = albedo * (1 - 0.92 * mask[..., None]) + colour * 0.92 * mask[..., None]
    line = np.exp(-(((y - seam) / 0.075) ** 2)) * _step(1.04 - np.abs(s), 0.0, 0.06) * front
    albedo *= 1 - 0.72 * line[..., None] * np.asarray([1.0, 1.0, 0.8], np.float32)
    under = 0.16 * np.exp(-(((y - bottom + 0.3) / 0.28) ** 2)) * np.clip(1 - (s / 0.75) ** 2, 0, 1) * front
    corner = 0.3 * np.exp(-(((np.abs(s) - 1.02) / 0.09) ** 2) - (((y - seam) / 0.2) ** 2)) * front
    albedo *= 1 - (under + corner)[..., None]


def _nostrils(who: Identity, albedo: Array, x: Array, y: Array, front: Array) -> None:
    base_y = -5.45 * who.nose_length + 0.15 * who.tip_lift
    side = np.abs(x)
    hole = np.exp(
        -(
            (np.abs((side - 0.66 * who.nose_width) / (0.36 * who.nostril)) ** 2.5)
            + (np.abs((y - base_y - 0.13) / (0.2 * who.nostril)) ** 2.5)
        )
    )
    wing_x, wing_y = 1.28 * who.nose_width, base_y + 0.62
    crease = np.exp(-(((side - wing_x - 0.52) / 0.16) ** 2) - (((y - wing_y + 0.05) / 0.55) ** 2))
    under = 0.25 * np.exp(-((side / (1.3 * who.nose_width)) ** 4) - (((y - base_y + 0.05) / 0.2) ** 2))
    albedo *= 1 - np.clip(0.86 * hole + 0.34 * crease + under, 0, 0.93)[..., None] * front[..., None]


def _spots(who: Identity, albedo: Array, x: Array, y: Array, z: Array, rng: np.random.Generator) -> None:
    for sx, sy, size in who.moles:
        spot = np.exp(-((((x - sx) ** 2 + (y - sy) ** 2) / size**2) ** 2)) * (z > 1)
        albedo *= 1 - 0.62 * spot[..., None] * np.asarray([1.0, 1.0, 0.8], np.float32)
    if who.freckles > 0:
        height, width = x.shape
        grain = np.clip(noise(rng, height, width, 4) - 1.1, 0, 1.2) * who.freckles
        grain = grain * _blob(np.abs(x), y, 2.5, -2.6, 3.0, 1.7)
        albedo *= 1 - np.clip(0.35 * grain, 0, 0.45)[..., None] * np.asarray([1.0, 0.95, 0.7], np.float32)
    height, width = x.shape
    blemish = np.clip(noise(rng, height, width, 9) - 2.1, 0, 0.8) * who.skin_mottle * 0.35
    albedo *= 1 - blemish[..., None] * np.asarray([1.0, 1.0, 0.55], np.float32)


def _beard(who: Identity, albedo: Array, x: Array, y: Array, z: Array, front: Array, rng: np.random.Generator) -> None:
    height, width = x.shape
    top, _, bottom, s = mouth_lines(who, x)
    side = np.abs(x)
    lips = _step(top - y, -0.05, 0.05) * _step(y - bottom, -0.05, 0.05) * (np.abs(s) < 1)
    cheek_line = -5.0 - 1.6 * np.exp(-(((side - 3.4) / 1.5) ** 2)) + 0.9 * np.clip(side - 4.5, 0, 2.5)
    jaw = _step(cheek_line - y, -0.4, 0.6) * _step(z, -0.5, 1.0)
    moustache = _step(top + 1.15 - y, 0, 0.35) * _step(y - top, -0.05, 0.1) * _step(3.0 - side, 0, 0.5) * front
    goatee = np.clip(
        _step(-y, 8.4, 9.0) * _step(2.6 - side, 0, 0.8) * front
        + _step(side, 2.2, 2.6) * _step(3.3 - side, 0, 0.4) * _step(-y, 6.6, 7.2) * front,
        0,
        1,
    )
    bare_under_lip = 1 - 0.6 * np.exp(-((x / 1.4) ** 2) - (((y - bottom + 0.35) / 0.25) ** 2))
    strength = {
        Beard.NONE: 0.10 * who.masculine * jaw,
        Beard.STUBBLE: 0.42 * np.maximum(jaw, moustache),
        Beard.MOUSTACHE: np.maximum(0.92 * moustache, 0.15 * jaw),
        Beard.GOATEE: np.maximum(0.9 * np.maximum(moustache, goatee), 0.15 * jaw),
        Beard.FULL: 0.93 * np.maximum(jaw, moustache),
    }[who.beard]
    strength = strength * (1 - lips) * bare_under_lip
    strands = 0.5 + 0.33 * noise(rng, height, width, 2.0, 6) + 0.2 * noise(rng, height, width, 1.4)
    cover = np.clip(strength * (0.65 + 0.6 * strands), 0, 0.97)
    if who.beard is Beard.NONE:  # shaven: a blue-grey shadow
        albedo *= 1 - cover[..., None] * np.asarray([0.75, 0.95, 1.0], np.float32)
        return
    colour = _hair_albedo(who, noise(rng, height, width, 3, 10))
    albedo[:] = albedo * (1 - cover[..., None]) + colour * cover[..., None]


def _brows(who: Identity, albedo: Array, x: Array, y: Array, front: Array, rng: np.random.Generator) -> None:
    height, width = x.shape
    strands = noise(rng, height, width, 3.0, 2.0) * 0.5 + noise(rng, height, width, 7.0, 2.4) * 0.5
    colour = _hair_albedo(who, noise(rng, height, width, 6, 3)) * who.brow_shade
    for side in (-1, 1):
        inner = who.brow_gap + 0.05 * side * who.asymmetry[7]
        length = 4.25 * who.brow_length
        t = (side * x - inner) / length
        rise = who.brow_tilt * (t - 0.3) + who.brow_arch * (np.sin(np.pi * np.clip((t + 0.05) / 1.25, 0, 1)) - 0.6)
        drop = -1.15 * np.clip(t - 0.62, 0, 1) ** 1.5
        centre = who.eye_level + who.brow_height + rise + drop + 0.04 * side * who.asymmetry[6]
        thick = (
            who.brow_thickness
            * (0.62 + 0.5 * np.clip(1 - np.abs(t - who.brow_body) / 0.75, 0, 1))
            * _step(1.04 - t, 0, 0.55)
        )
        d = (y - centre) / np.maximum(thick, 0.03)
        edge = 0.28 * strands
        mask = _step(1.0 - np.abs(d) + edge, -0.05, 0.6) * _step(t, -0.05, 0.1) * _step(1.03 - t, 0, 0.12) * front
        cover = np.clip(mask * who.brow_density * (1.0 + 0.18 * strands), 0, 0.96)
        albedo[:] = albedo * (1 - cover[..., None]) + colour * cover[..., None]


def _scalp(who: Identity, albedo: Array, x: Array, y: Array, theta: Array, rng: np.random.Generator) -> None:
    height, width = x.shape
    above = hairness(who, theta, y)
    strands = noise(rng, height, width, 2.2, 16)
    density = 0.25 if who.hair_style is HairStyle.BALD else 0.97
    cover = density * _step(above + 0.35 * strands, -0.35, 0.75)
    colour = _hair_albedo(who, strands)
    albedo[:] = albedo * (1 - cover[..., None]) + colour * cover[..., None]


def hairness(who: Identity, theta: Array, y: Array) -> Array:
    """How far, in cm, a place of the head lies above the hairline; negative on bare skin."""
    style = who.hair_style
    a = np.abs(np.rad2deg(theta))
    front = 7.1 + who.hairline * 0.8
    recess = 0.6
    if style is HairStyle.RECEDING:
        front, recess = 8.9 + 0.8 * who.hairline, 1.3
    if style is HairStyle.BALD:
        front, recess = 12.5, 0.0
    top = front + recess * np.exp(-(((a - 34) / 11) ** 2)) - 0.2 * np.exp(-((a / 9) ** 2))
    if style in (HairStyle.FRINGE, HairStyle.LONG_FRINGE):
        top = np.where(a < 48, 3.1 + who.hairline * 0.5 + 0.35 * np.cos(np.deg2rad(a * 3 + 40 * who.hair_parting)), top)
    if style is HairStyle.PARTED:
        lean = np.rad2deg(theta) * np.sign(who.hair_parting + 1e-6)
        top = top - 1.9 * np.exp(-(((lean - 24) / 16) ** 2))
    burn = -1.6 if who.masculine > 0.5 else -0.2
    line = np.interp(a, [0, 40, 46, 52, 57, 63, 67, 78, 82, 104, 110, 135, 180],
                     [0, 0, -0.1, -0.42, -0.62, -0.78, -1, -1, -0.62, -0.62, -1.3, -1.55, -1.65])  # fmt: skip
    # `line`: 0 at the forehead's hairline, -1 at the sideburn's end
    low = np.where(line > -1, top + line * (top - burn), burn + (line + 1) * 9.5)
    if style is HairStyle.BALD:
        low = np.where(a < 62, 12.5, np.minimum(low, 2.0))
    return (y - low).astype(np.float32)


def _hair_albedo(who: Identity, strands: Array) -> Array:
    base = np.asarray(who.hair, np.float32) * (1 - who.grey) + np.asarray([0.42, 0.44, 0.45], np.float32) * who.grey
    light = np.clip(1 + 0.30 * strands, 0.3, 2.2)
    return (base[None, None] * light[..., None] + 0.004).astype(np.float32)


def paint_hair(who: Identity, rng: np.random.Generator) -> Array:
    """Strands along the rows of the hair's own grid (down), lighter and darker locks across it."""
    _, _, width, height = _REGIONS["hair"]
    strands = (
        0.55 * noise(rng, height, width, 1.6, 60)
        + 0.5 * noise(rng, height, width, 5, 90)
        + 0.35 * noise(rng, height, width, 22, 70)
    )
    strands += 0.18 * noise(rng, height, width, 2.0)
    return _hair_albedo(who, strands)


def paint_body(who: Identity, rng: np.random.Generator) -> Array:
    """Neck above, cloth below (v = 0.42 is the collar)."""
    _, _, width, height = _REGIONS["body"]
    v = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    u = np.linspace(-1, 1, width, dtype=np.float32)[None] * np.ones((height, 1), np.float32)
    skin = (
        np.asarray(who.skin, np.float32)
        * (0.92 + 0.03 * noise(rng, height, width, 20) + 0.02 * noise(rng, height, width, 3))[..., None]
    )
    skin = skin * (1 - 0.10 * np.clip(1 - v / 0.3, 0, 1))[..., None]
    cloth = (
        np.asarray(who.cloth, np.float32)
        * (1 + 0.06 * noise(rng, height, width, 2) + 0.10 * noise(rng, height, width, 30))[..., None]
    )
    if who.cloth_kind == 1:
        cloth = np.where((np.sin(u * 60) > 0.2)[..., None], cloth, cloth * 0.45)
    if who.cloth_kind == 2:
        cloth = np.where((np.sin(v * 70) > 0.3)[..., None], cloth, 0.5 * cloth + 0.25)
    neckline = 0.42 + (0.10 if who.cloth_kind == 3 else 0.02) * np.exp(-((u / 0.14) ** 2))
    cover = _step(v - neckline, -0.008, 0.008)
    seam = 1 - 0.45 * np.exp(-(((v - neckline - 0.03) / 0.008) ** 2))
    return skin * (1 - cover[..., None]) + cloth * (seam * cover)[..., None]


def paint_ear(who: Identity, rng: np.random.Generator) -> Array:
    """u: 0 at the front edge .. 1 at the rim behind; v: top to lobe."""
    size = _REGIONS["ear"][2]
    u, v = np.meshgrid(np.linspace(-1, 1, size, dtype=np.float32), np.linspace(-1, 1, size, dtype=np.float32))
    m = 1 + 0.03 * noise(rng, size, size, 12)
    bowl = 0.55 * np.exp(-(((u + 0.2) / 0.3) ** 2) - (((v - 0.1) / 0.33) ** 2))
    groove = 0.38 * np.exp(-((np.hypot((u + 0.1) / 0.95, (v + 0.05) / 0.85) - 0.72) ** 2) / 0.006) * (v < 0.5)
    shade = np.clip(1 - bowl - groove, 0.25, 1) * m
    out = np.asarray(who.skin, np.float32) * shade[..., None]
    return out * np.asarray([0.84, 0.82, 1.03], np.float32)


def paint_eye(who: Identity, rng: np.random.Generator) -> Array:
    """The ball seen from the front, 2.4 iris diameters across, gaze in the middle."""
    size = _REGIONS["eye"][2]
    u, v = np.meshgrid(
        np.linspace(-1.42, 1.42, size, dtype=np.float32), np.linspace(-1.42, 1.42, size, dtype=np.float32)
    )
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    tint = 0.72 + 0.28 * min(1.0, who.skin[1] / 0.4)  # darker people's sclera is a little darker too
    white = tint * np.asarray([0.47, 0.50, 0.53], np.float32) * (1 + 0.03 * noise(rng, size, size, 16))[..., None]
    red = np.clip((r - 0.75) / 0.7, 0, 1)
    white = white * (1 - red[..., None] * np.asarray([0.34, 0.34, 0.14], np.float32))
    rays = 0.22 * np.sin(angle * 37 + 3 * np.sin(angle * 9)) + 0.18 * noise(rng, size, size, 4)
    iris = np.asarray(who.iris, np.float32) * (1 + rays)[..., None]
    iris = iris * (0.75 + 0.55 * np.exp(-(((r - 0.36) / 0.12) ** 2)))[..., None]
    ring = 1 - 0.72 * np.exp(-(((r - 0.585) / 0.06) ** 2))
    in_iris = _step(0.60 - r, -0.02, 0.02)
    eye = white * (1 - in_iris[..., None]) + iris * in_iris[..., None]
    eye = eye * ring[..., None]
    pupil = _step(who.pupil - r, -0.02, 0.02)
    return eye * (1 - pupil[..., None]) + np.asarray([0.004, 0.004, 0.004], np.float32) * pupil[..., None]


def paint_mouth() -> Array:
    """The dark inside, with the tongue at its floor."""
    _, _, width, height = _REGIONS["mouth"]
    u, v = np.meshgrid(np.linspace(-1, 1, width), np.linspace(0, 1, height))
    tongue = (np.exp(-((u / 0.55) ** 4)) * _step(v, 0.45, 0.75))[..., None]
    return np.asarray((0.012, 0.010, 0.035)) * (1 - tongue) + np.asarray((0.09, 0.075, 0.2)) * tongue


def paint_teeth(rng: np.random.Generator) -> Array:
    """A row of teeth; u along the arc."""
    _, _, width, height = _REGIONS["teeth"]
    u = np.linspace(0, 1, width, dtype=np.float32)[None] * np.ones((height, 1), np.float32)
    v = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    gap = np.abs(np.sin(np.pi * u * 10)) ** 0.25
    tone = (0.62 + 0.03 * noise(rng, height, width, 10)) * (0.35 + 0.65 * gap) * (0.75 + 0.25 * v)
    tone = tone * np.clip(1.25 - 1.6 * np.abs(u - 0.5), 0, 1)
    return tone[..., None] * np.asarray([0.72, 0.86, 0.95], np.float32)


def _blob(side: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    return np.exp(-(((side - cx) / sx) ** 2) - (((y - cy) / sy) ** 2))


def _step(t: Array, low: float | Array, high: float | Array) -> Array:
    """Smooth step from 0 below `low` to 1 above `high`."""
    s = np.clip((t - low) / (np.asarray(high) - low), 0, 1)
    return (s * s * (3 - 2 * s)).astype(np.float32)
