"""Attack presentations before the simulated camera: sheets that show a picture; bona fide people live in person/."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.session.decision import ChallengeKind
from edge.session.machine import Screen
from simulator.person import Light, Person, PersonState, render_linear
from simulator.person.motion import Actor, Habits, draw_habits
from simulator.person.render import encode
from simulator.raster import FAR_CM, FOCAL_PER_HEIGHT, Canvas, rasterise, rotation, sample
from simulator.room import draw_light, draw_room

Array = NDArray[Any]  # float; numpy arithmetic loses the width
Image = NDArray[np.uint8]

_GRID = 33


@dataclass(frozen=True, slots=True)
class Print:
    """How a picture was printed and is held. Lengths in cm; `bend` is the sheet's curvature in 1/cm (0: flat)."""

    width_cm: float = 21.0
    border_cm: float = 0.6
    bend: float = 0.0
    gloss: float = 0.25
    halftone_per_cm: float = 24.0  # 60 lines an inch is newspaper, 150 is good
    halftone: float = 0.35  # strength of the screen's dots, 0..1
    ink_black: float = 0.035  # reflectance of solid black ink
    paper_white: float = 0.80
    saturation: float = 0.85


def draw_print(seed: int, *, bent: bool = False) -> Print:
    """A print of ordinary kind: laser, ink jet or photo paper."""
    rng = np.random.default_rng([6007, seed])
    bend = float(rng.uniform(0.02, 0.055)) if bent else float(np.clip(rng.normal(0, 0.003), -0.005, 0.005))
    return Print(
        width_cm=float(rng.uniform(17.0, 23.0)),
        border_cm=float(rng.uniform(0.0, 1.2)),
        bend=bend,
        gloss=float(rng.uniform(0.05, 0.7)),
        halftone_per_cm=float(rng.uniform(20, 40)),
        halftone=float(rng.uniform(0.1, 0.5)),
        ink_black=float(rng.uniform(0.02, 0.06)),
        paper_white=float(rng.uniform(0.7, 0.88)),
        saturation=float(rng.uniform(0.7, 1.0)),
    )


def photograph(person: Person, seed: int = 0, size: tuple[int, int] = (720, 900)) -> Image:
    """A photograph of the person as an attacker would have it: frontal, looking at the lens, in some room's light."""
    rng = np.random.default_rng([6011, person.who.seed, seed])
    state = PersonState(
        yaw_deg=float(rng.normal(0, 2)),
        pitch_deg=float(rng.normal(0, 2)),
        roll_deg=float(rng.normal(0, 1)),
        distance_cm=48.0,
        y_cm=1.0,
    )
    view = render_linear(person, state, size, draw_room(seed + 71, size), draw_light(seed + 72))
    linear = cv2.GaussianBlur(view.linear, (0, 0), 0.8)
    level = float(np.percentile(linear[view.covered], 85))
    return encode(linear * (0.5 / max(level, 1e-3)))


def print_on_paper(picture: Image, how: Print) -> Array:
    """The sheet's reflectance, linear BGR 0..1 [H, W, 3]: border, gamut of ink on paper, halftone dots."""
    per_cm = picture.shape[1] / how.width_cm
    linear = np.power(picture.astype(np.float32) / 255, 2.2)
    grey = linear @ np.asarray([0.07, 0.72, 0.21], np.float32)
    linear = grey[..., None] + (linear - grey[..., None]) * how.saturation
    height, width = grey.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    pitch = max(per_cm / how.halftone_per_cm, 1.2)
    tone = np.sqrt(np.clip(linear, 0, 1))
    for channel, angle in enumerate((0.26, 1.31, 0.79)):  # the three inks' screens at their usual angles
        c, s = np.cos(angle), np.sin(angle)
        screen = np.sin(2 * np.pi * (c * x + s * y) / pitch) * np.sin(2 * np.pi * (c * y - s * x) / pitch)
        dot = np.clip(0.5 + (tone[..., channel] - 0.5 - 0.5 * screen) * 1.6, 0, 1)
        mixed = tone[..., channel] * (1 - how.halftone) + dot * how.halftone
        linear[..., channel] = mixed**2
    sheet = how.ink_black + (how.paper_white - how.ink_black) * np.clip(linear, 0, 1)
    border = int(how.border_cm * per_cm)
    paper = (how.paper_white * 1.02, how.paper_white, how.paper_white * 0.98)
    return cv2.copyMakeBorder(sheet, border, border, border, border, cv2.BORDER_CONSTANT, value=paper).astype(
        np.float32
    )


class PrintStage:
    """Somebody holds a printed picture before the camera and tries to do what the screen asks, with the sheet."""

    def __init__(
        self,
        person: Person,
        seed: int = 0,
        *,
        how: Print | None = None,
        light: Light | None = None,
        picture: Image | None = None,
    ) -> None:
        """`picture`: what is printed; None: a photograph of the person."""
        self.how = how or draw_print(seed)
        sheet = print_on_paper(photograph(person, seed) if picture is None else picture, self.how)
        self._sheet = _as_the_lens_sees(sheet, self.how)
        rng = np.random.default_rng([6013, person.who.seed, seed])
        self.actor = Actor(person.who, seed + 9001, _handling(draw_habits(person.who, rng), self.how, rng))
        self._light = light or draw_light(seed)
        self._seed = seed
        self._room: Array | None = None
        self._canvas: Canvas | None = None
        self._points, self._normals, self._triangles, self._uv = _sheet_mesh(self.how, sheet.shape[:2])

    def on_screen(self, screen: Screen) -> None:
        self.actor.on_screen(screen)

    def room(self, size: tuple[int, int]) -> Array:
        """The scene behind the sheet."""
        if self._room is None or self._room.shape[:2] != size[::-1]:
            self._room = draw_room(self._seed, size)
        return self._room

    def look(self, t_s: float, size: tuple[int, int]) -> Array:
        state = self.actor.at(t_s)
        shake = 0.0
        if self.actor.action in (ChallengeKind.BLINK, ChallengeKind.MOUTH_OPEN):
            shake = float(np.sin(2 * np.pi * 3.0 * t_s))
        return self._draw(state, shake, size)

    def _draw(self, state: PersonState, shake: float, size: tuple[int, int]) -> Array:
        if self._canvas is None or self._canvas.size != size:
            self._canvas = Canvas(size)
        turn = rotation(state.yaw_deg, state.pitch_deg + 2.5 * shake, state.roll_deg)
        place = np.asarray([state.x_cm, state.y_cm + 0.8 * shake, -state.distance_cm], np.float32)
        points = self._points @ turn.T + place
        normals = self._normals @ turn.T
        view = -points / np.linalg.norm(points, axis=1, keepdims=True)
        normals = normals * np.sign((normals * view).sum(axis=1, keepdims=True))
        up = 0.5 + 0.5 * normals[:, 1:2]
        irradiance = up * np.asarray(self._light.sky, np.float32) + (1 - up) * np.asarray(
            self._light.ground, np.float32
        )
        shine = np.zeros(len(points), np.float32)
        for towards, colour in self._light.sources:
            direction = np.asarray(towards, np.float32) / np.asarray(np.linalg.norm(towards), np.float32)
            irradiance = irradiance + np.clip(normals @ direction, 0, 1)[:, None] * np.asarray(colour, np.float32)
            half = view + direction
            half /= np.linalg.norm(half, axis=1, keepdims=True)
            shine += self.how.gloss * 0.55 * float(np.mean(colour)) * np.clip((normals * half).sum(axis=1), 0, 1) ** 60
        out = self.room(size).copy()
        inked = np.concatenate([self._uv, shine[:, None]], axis=1)
        surface, lit, depth = rasterise(self._canvas, points, self._triangles, inked, irradiance, both_sides=True)
        rows, columns = self._sheet.shape[:2]
        picture = sample(self._sheet, surface[..., :2] * (columns - 1, rows - 1)) * lit + surface[..., 2:3]
        covered = depth < FAR_CM
        out[covered] = picture[covered]
        return out


def _as_the_lens_sees(sheet: Array, how: Print) -> Array:
    """The sheet at about the picture's own resolution: a pixel averages over its area, so dots do not alias wildly."""
    wide = how.width_cm + 2 * how.border_cm
    pixels_per_cm = 1.3 * FOCAL_PER_HEIGHT * 480 / (2.15 * how.width_cm)
    scale = min(1.0, pixels_per_cm * wide / sheet.shape[1])
    return np.ascontiguousarray(cv2.resize(sheet, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def _handling(habits: Habits, how: Print, rng: np.random.Generator) -> Habits:
    """A hand that holds a sheet: turns it as far as the picture stays readable, trembles more than a head."""
    return replace(
        habits,
        turn_deg=float(rng.uniform(22, 42)),
        nod_deg=float(rng.uniform(15, 28)),
        rest_distance_cm=float(np.clip(2.15 * how.width_cm + rng.normal(0, 2.5), 32, 60)),
        rest_y_cm=float(rng.normal(0, 0.8)),
        tremor=habits.tremor * float(rng.uniform(1.0, 2.2)),
    )


def _sheet_mesh(how: Print, shape: tuple[int, int]) -> tuple[Array, Array, NDArray[np.int32], Array]:
    """Points, normals, triangles and uv of the sheet, bent about its upright axis, seen from its printed side."""
    rows, columns = shape
    wide = how.width_cm + 2 * how.border_cm
    high = wide * rows / columns
    u, v = np.meshgrid(np.linspace(0, 1, _GRID), np.linspace(0, 1, _GRID))
    along = (u - 0.5) * wide
    if abs(how.bend) > 1e-6:
        angle = along * how.bend
        x, z = np.sin(angle) / how.bend, (np.cos(angle) - 1) / how.bend
        normal = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=-1)
    else:
        x, z = along, np.zeros_like(along)
        normal = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (*along.shape, 3))
    y = (0.5 - v) * high
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
    ids = np.arange(_GRID * _GRID).reshape(_GRID, _GRID)
    a, b, c, d = ids[:-1, :-1].ravel(), ids[:-1, 1:].ravel(), ids[1:, :-1].ravel(), ids[1:, 1:].ravel()
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]).astype(np.int32)
    uv = np.stack([u, v], axis=-1).reshape(-1, 2).astype(np.float32)
    return points, normal.reshape(-1, 3).astype(np.float32), triangles, uv
