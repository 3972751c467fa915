"""A person in a state, in a light -> a picture in linear light; what a sensor makes of it belongs to camera.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.session.points import LEFT_EYE, LEFT_MOUTH_CORNER, NOSE_TIP, OVAL, RIGHT_EYE, RIGHT_MOUTH_CORNER
from simulator.person.identity import HairStyle, Identity, draw_identity
from simulator.person.landmarks import landmark_vertices
from simulator.person.light import Light
from simulator.person.parts import build_parts, eye_uv
from simulator.person.shape import EYE_RADIUS_CM, Morph, Skin, adult_heights, build_skin
from simulator.person.skin import ATLAS_PX, hairness, paint, region
from simulator.raster import FAR_CM, FOCAL_PER_HEIGHT, Canvas, project, rasterise, rotation, sample

Image = NDArray[np.uint8]
Array = NDArray[Any]  # float; numpy arithmetic loses the width

NECK_PIVOT = np.array([0.0, -8.0, -1.5], np.float32)
GAMMA = 2.2


@dataclass(frozen=True, slots=True)
class PersonState:
    """One moment of a person. Degrees with the signs of DESIGN.md; openness: 0 closed, 1 the person's own open state.

    `x_cm`, `y_cm` move the head to the right and up in the picture; `distance_cm` is from the lens to the middle of the
    head. `gaze_*` is relative to the head. `right`/`left` are the person's own.
    """

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    eye_right: float = 1.0
    eye_left: float = 1.0
    mouth: float = 0.0
    gaze_x_deg: float = 0.0
    gaze_y_deg: float = 0.0
    x_cm: float = 0.0
    y_cm: float = -1.0
    distance_cm: float = 58.0


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What the picture shows, known exactly. Pixel coordinates as in edge.vision.crops."""

    state: PersonState
    keypoints: Array  # [5, 2] the detector's: right eye, left eye, nose tip, right and left corner of the mouth
    landmarks: Array  # [138, 2] in the order of edge.session.points
    box: tuple[float, float, float, float]  # left, top, right, bottom of the face's oval


class Person:
    """One identity's mesh and paint, built once (about a second); rendering does not change it."""

    def __init__(self, who: Identity) -> None:
        self.who = who
        skin = build_skin(who)
        parts = build_parts(who, skin)
        self.skin = skin
        self.landmarks = landmark_vertices(who, skin)
        self.atlas: Image = paint(who, skin)
        # Of the skin's vertices only those are moved and lit that a triangle or a landmark needs.
        bare = _bare(who, skin)
        drawn = np.unique(np.concatenate([bare.ravel(), self.landmarks]))
        place = np.full(len(skin.positions), -1, np.int64)
        place[drawn] = np.arange(len(drawn))
        self.landmarks = place[self.landmarks]
        self.morphs = tuple(_compact(morph, place) for morph in (skin.right_eye, skin.left_eye, skin.mouth))
        starts = np.cumsum([len(drawn)] + [len(p.positions) for p in parts.values()])
        self.parts = parts
        self.start = dict(zip(parts, starts[:-1].tolist(), strict=True))
        group = list(parts.values())
        modelled: Array = np.concatenate([skin.positions[drawn], *[p.positions for p in group]])
        self.morphs = tuple(_settled(morph, modelled) for morph in self.morphs)
        self.positions = adult_heights(modelled)
        self.normals: Array = np.concatenate([skin.normals[drawn], *[p.normals for p in group]])
        self.occlusion: Array = np.concatenate([skin.occlusion[drawn], *[p.occlusion for p in group]])
        skin_gloss = np.full(len(drawn), 0.45 * who.gloss, np.float32)
        self.gloss: Array = np.concatenate([skin_gloss, *[p.gloss for p in group]])
        self.softness: Array = np.zeros(len(self.positions), np.float32)
        self.softness[: len(drawn)] = 1.0
        self.head: Array = np.concatenate([np.ones(len(drawn), np.float32), *[p.head for p in group]])
        self.uv: Array = np.concatenate([region("skin", skin.grid_uv[drawn]), *[p.uv for p in group]])
        self.triangles = np.ascontiguousarray(
            np.concatenate([place[bare]] + [p.triangles + s for p, s in zip(group, starts[:-1], strict=True)]),
            np.int32,
        )

    @classmethod
    def from_seed(cls, seed: int) -> Person:
        """The person of this seed: always the same."""
        return cls(draw_identity(seed))


def _compact(morph: Morph, place: NDArray[np.int64]) -> Morph:
    """The same movement for the vertices that are drawn, by their new numbers."""
    kept = place[morph.vertices] >= 0
    return Morph(
        place[morph.vertices[kept]],
        morph.levels,
        np.ascontiguousarray(morph.positions[:, kept]),
        np.ascontiguousarray(morph.normals[:, kept]),
        np.ascontiguousarray(morph.occlusion[:, kept]),
    )


def _settled(morph: Morph, modelled: Array) -> Morph:
    """The movement as it is after the vertices were brought to adult heights."""
    rest = modelled[morph.vertices]
    moved = adult_heights(rest + morph.positions) - adult_heights(rest)
    return replace(morph, positions=np.ascontiguousarray(moved, np.float32))


def _bare(who: Identity, skin: Skin) -> NDArray[np.int32]:
    """The skin's triangles without the scalp that always lies under hair."""
    if who.hair_style in (HairStyle.BALD, HairStyle.CROPPED):
        return skin.triangles
    angle = np.interp(skin.grid_uv[:, 0], np.linspace(0, 1, len(skin.angles)), skin.angles)
    covered = hairness(who, angle, skin.positions[:, 1]) > 1.3
    return skin.triangles[~covered[skin.triangles].all(axis=1)]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A picture in linear light and where the person is in it."""

    linear: Array  # [H, W, 3] BGR
    covered: NDArray[np.bool_]  # [H, W] person, not background
    truth: Truth


def render(
    person: Person,
    state: PersonState,
    size: tuple[int, int] = (640, 480),
    background: Array | None = None,
    light: Light | None = None,
) -> tuple[Image, Truth]:
    """A picture, BGR uint8 [height, width, 3], as a good camera without noise takes it, and what it shows.

    `background`: [height, width, 3] linear BGR float32, else a plain grey wall. Exposure is chosen by the face.
    """
    view = render_linear(person, state, size, background, light)
    picture = cv2.GaussianBlur(view.linear, (0, 0), 0.55)
    left, top, right, bottom = (int(v) for v in view.truth.box)
    face = picture[max(top, 0) : max(bottom, 1), max(left, 0) : max(right, 1)]
    level = float(np.percentile(face[..., 1], 80)) if face.size else 0.4
    return encode(picture * (0.46 / max(level, 1e-3)) ** 0.65), view.truth


def encode(linear: Array) -> Image:
    """Linear 0..1 to gamma-coded uint8."""
    return np.clip(cv2.pow(np.clip(linear, 0, 1), 1 / GAMMA) * 255 + 0.5, 0, 255).astype(np.uint8)


def render_linear(
    person: Person,
    state: PersonState,
    size: tuple[int, int] = (640, 480),
    background: Array | None = None,
    light: Light | None = None,
    focal: float = FOCAL_PER_HEIGHT,
    canvas: Canvas | None = None,
) -> View:
    """The person in front of `background` in linear light; no lens, no sensor. `focal`: over the picture's height.

    Who draws many pictures gives a `canvas` of that size.
    """
    width, height = size
    if canvas is None or canvas.size != size:
        canvas = Canvas(size)
    light = light or Light()
    positions, normals, occlusion, uv = _pose(person, state)
    irradiance, shine = _shade(person, positions, normals, occlusion, light)
    inked = np.concatenate([uv / ATLAS_PX, shine[:, None]], axis=1)
    surface, lit, depth = rasterise(canvas, positions, person.triangles, inked, irradiance, focal)
    covered = depth < FAR_CM
    area = _area(positions, size, focal)
    seen = surface[area]
    picture = cv2.multiply(_albedo(person.atlas, seen), lit[area])
    picture += seen[..., 2:3]
    scene = np.full((height, width, 3), 0.32, np.float32) if background is None else background.copy()
    cv2.copyTo(picture, covered[area].view(np.uint8), scene[area])
    _glints(person, state, scene, depth, light, focal)
    return View(scene, covered, _truth(person, state, positions, size, focal))


def portrait(person_seed: int, size: tuple[int, int] = (358, 441)) -> Image:
    """The picture on the person's document, BGR uint8 [height, width, 3]: frontal, plain, another camera and light.

    358 x 441 is a printed document's picture at 300 dpi; a chip's is 102 x 126 (scale it down and code it as JPEG).
    """
    return portrait_of(Person.from_seed(person_seed), size)


def portrait_of(person: Person, size: tuple[int, int] = (358, 441)) -> Image:
    """As `portrait`, of somebody who is modelled already."""
    rng = np.random.default_rng([4401, person.who.seed])
    state = PersonState(
        yaw_deg=float(rng.normal(0, 1.5)),
        pitch_deg=float(rng.normal(0, 1.5)),
        roll_deg=float(rng.normal(0, 0.8)),
        eye_right=1.05,
        eye_left=1.05,
        distance_cm=115.0,
        y_cm=0.2,
    )
    light = Light(
        sky=(0.62, 0.62, 0.62),
        ground=(0.42, 0.42, 0.42),
        sources=(((-0.6, 0.35, 0.8), (0.30, 0.30, 0.30)), ((0.6, 0.35, 0.8), (0.30, 0.30, 0.30))),
    )
    tint = np.asarray([0.98, 1.0, 1.03], np.float32) * np.asarray(1 + rng.normal(0, 0.02, 3), np.float32)
    wide, high = size
    scale = 2 if high < 300 else 1
    wall = np.full((high * scale, wide * scale, 3), (0.80, 0.76, 0.72), np.float32)
    view = render_linear(person, state, (wide * scale, high * scale), wall, light, focal=3.3)
    linear: Array = cv2.GaussianBlur(view.linear, (0, 0), 0.9 * scale) * tint
    level = float(np.percentile(linear[view.covered][:, 1], 75))
    if scale > 1:
        linear = cv2.resize(linear, size, interpolation=cv2.INTER_AREA)
    linear = np.clip(linear * 0.9 * (0.4 / max(level, 1e-3)) ** 0.6, 0, 1)
    linear = linear * linear * (3 - 2 * linear) * 0.25 + linear * 0.75  # the harder tone curve of an older camera
    noisy = encode(linear.astype(np.float32)).astype(np.float32) + rng.normal(0, 1.6, (high, wide, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _pose(person: Person, state: PersonState) -> tuple[Array, Array, Array, Array]:
    positions, normals, occlusion = person.positions.copy(), person.normals.copy(), person.occlusion.copy()
    for morph, amount in zip(person.morphs, (state.eye_right, state.eye_left, state.mouth), strict=True):
        low, share = _level(morph, amount)
        at = morph.vertices
        positions[at] += (1 - share) * morph.positions[low] + share * morph.positions[low + 1]
        normals[at] += (1 - share) * morph.normals[low] + share * morph.normals[low + 1]
        occlusion[at] += (1 - share) * morph.occlusion[low] + share * morph.occlusion[low + 1]
    floor, start = person.parts["mouth"], person.start["mouth"]  # the floor of the mouth goes down with the jaw
    deep = np.linspace(0, 1, len(floor.positions), dtype=np.float32)
    positions[start : start + len(deep), 1] -= 2.8 * float(np.clip(state.mouth, 0, 1)) * deep
    uv = person.uv.copy()
    for index, name in enumerate(("right_eye", "left_eye")):
        part, start = person.parts[name], person.start[name]
        uv[start : start + len(part.uv)] = eye_uv(
            part, person.skin.eye_centres[index], state.gaze_x_deg, state.gaze_y_deg
        )
    turn = rotation(state.yaw_deg, state.pitch_deg, state.roll_deg)
    share_of_head = person.head[:, None]
    turned = (positions - NECK_PIVOT) @ turn.T + NECK_PIVOT
    # the trunk follows a little
    trunk = rotation(0.12 * state.yaw_deg, 0.0, 0.1 * state.roll_deg)
    still = (positions - NECK_PIVOT) @ trunk.T + NECK_PIVOT
    placed = still + (turned - still) * share_of_head
    facing = normals @ turn.T * share_of_head + (normals @ trunk.T) * (1 - share_of_head)
    placed += np.asarray([state.x_cm, state.y_cm, -state.distance_cm], np.float32)
    return placed.astype(np.float32), facing.astype(np.float32), occlusion, uv


def _level(morph: Morph, amount: float) -> tuple[int, float]:
    levels = morph.levels
    amount = min(max(amount, levels[0]), levels[-1])
    low = min(int(np.searchsorted(levels, amount, side="right")) - 1, len(levels) - 2)
    return low, (amount - levels[low]) / (levels[low + 1] - levels[low])


def _shade(person: Person, positions: Array, normals: Array, occlusion: Array, light: Light) -> tuple[Array, Array]:
    """Irradiance [V, 3] and shine [V] of every vertex."""
    ground = np.asarray(light.ground, np.float32)
    irradiance = ((0.5 + 0.5 * normals[:, 1:2]) * (np.asarray(light.sky, np.float32) - ground) + ground) * occlusion[
        :, None
    ]
    view = positions * (-1 / np.sqrt(np.einsum("ij,ij->i", positions, positions)))[:, None]
    facing = np.einsum("ij,ij->i", normals, view)
    shine = np.zeros(len(positions), np.float32)
    direct = np.sqrt(np.clip(occlusion, 0, 1))
    bleed = person.softness[:, None] * np.asarray(
        [0.10, 0.16, 0.30], np.float32
    )  # light that goes through skin comes out red
    gain = direct[:, None] / (1 + bleed)
    for towards, colour in light.sources:
        direction = np.asarray(towards, np.float32) / np.asarray(np.linalg.norm(towards), np.float32)
        cosine = normals @ direction
        irradiance += np.maximum(cosine[:, None] + bleed, 0) * gain * np.asarray(colour, np.float32)
        half = np.sqrt(np.maximum(2 + 2 * (view @ direction), 1e-3))  # length of view + direction
        glance = np.clip((facing + cosine) / half, 0, 1) ** 2
        strength = float(np.mean(colour))
        wide = glance**9
        shine += (0.20 * strength) * wide + (0.10 * strength) * wide * wide * glance**7
    shine *= direct
    rim = (1 - np.clip(np.abs(facing), 0, 1)) ** 4
    shine += 0.10 * float(np.mean(light.sky)) * rim
    return np.ascontiguousarray(irradiance, np.float32), (shine * person.gloss).astype(np.float32)


def _area(positions: Array, size: tuple[int, int], focal: float) -> tuple[slice, slice]:
    """Rows and columns of the picture that the person can touch."""
    width, height = size
    pixels = project(positions[::4], size, focal)  # neighbours lie within the margin
    left, top = np.floor(pixels.min(axis=0)).astype(int) - 12
    right, bottom = np.ceil(pixels.max(axis=0)).astype(int) + 12
    return (
        slice(min(max(int(top), 0), height - 1), max(min(int(bottom), height), 1)),
        slice(min(max(int(left), 0), width - 1), max(min(int(right), width), 1)),
    )


def _albedo(atlas: Image, surface: Array) -> Array:
    coded = sample(atlas, surface[..., :2] * ATLAS_PX)
    return cv2.multiply(coded, coded, scale=1 / 255**2, dtype=cv2.CV_32F)


def _glints(person: Person, state: PersonState, scene: Array, depth: Array, light: Light, focal: float) -> None:
    """The brightest source mirrored in each cornea, where no lid or nose hides it."""
    height, width = depth.shape
    towards, colour = max(light.sources, key=lambda source: float(np.mean(source[1])))
    place = np.asarray([state.x_cm, state.y_cm, -state.distance_cm])
    turn = rotation(state.yaw_deg, state.pitch_deg, state.roll_deg)
    for centre in (adult_heights(person.skin.eye_centres) - NECK_PIVOT) @ turn.T + NECK_PIVOT + place:
        half = np.asarray(towards) / np.linalg.norm(towards) - centre / np.linalg.norm(centre)
        point = centre + EYE_RADIUS_CM * half / np.linalg.norm(half)
        x, y = project(point[None], (width, height), focal)[0]
        column, row = round(float(x)), round(float(y))
        if not (3 <= column < width - 3 and 3 <= row < height - 3):
            continue
        if abs(float(depth[row, column]) + float(point[2])) > 0.055:  # a lid is 0.09 thick
            continue
        u, v = np.meshgrid(np.arange(-2, 3) + column - x, np.arange(-2, 3) + row - y)
        size_px = max(0.06 * focal * height / -float(point[2]), 0.5)
        spot = np.exp(-0.5 * (u**2 + v**2) / size_px**2)[..., None]
        scene[row - 2 : row + 3, column - 2 : column + 3] += spot * 0.9 * np.asarray(colour, np.float32)


def _truth(person: Person, state: PersonState, positions: Array, size: tuple[int, int], focal: float) -> Truth:
    points = project(positions[person.landmarks], size, focal)
    keypoints = np.stack(
        [
            points[RIGHT_EYE].mean(axis=0),
            points[LEFT_EYE].mean(axis=0),
            *points[[NOSE_TIP, RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER]],
        ]
    )
    low, high = points[OVAL].min(axis=0), points[OVAL].max(axis=0)
    return Truth(state, keypoints, points, (float(low[0]), float(low[1]), float(high[0]), float(high[1])))
