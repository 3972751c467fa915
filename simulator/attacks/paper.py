"""Printed photographs: paper and ink, and the hand that holds and moves the sheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.session import machine
from simulator.attacks.sheet import by_hand, held, lay, make_sheet, thumbs
from simulator.person import Person, PersonState, draw_identity, render_linear
from simulator.person.motion import Actor, draw_habits
from simulator.person.render import encode
from simulator.raster import FOCAL_PER_HEIGHT, Canvas, sample
from simulator.room import Place, draw_light, draw_room
from simulator.species import Strength

Array = NDArray[Any]  # float; numpy arithmetic loses the width
Image = NDArray[np.uint8]


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
    detail: float = 1.0  # share of the photograph's resolution that was printed
    hands: bool = False  # whether thumbs are seen on it


def draw_print(seed: int, *, bent: bool = False, strength: Strength = Strength.ORDINARY) -> Print:
    """Clumsy: office paper, small, coarse, white borders, thumbs on it. Ordinary: laser, ink jet or photo paper.

    Careful: large matt photo paper, fine screen, deep ink, borders outside the picture.
    """
    rng = np.random.default_rng([6007, seed])
    bend = float(rng.uniform(0.02, 0.055)) if bent else float(np.clip(rng.normal(0, 0.003), -0.005, 0.005))
    ordinary = Print(
        width_cm=float(rng.uniform(17.0, 23.0)),
        border_cm=float(rng.uniform(0.0, 1.2)),
        bend=bend,
        gloss=float(rng.uniform(0.05, 0.7)),
        halftone_per_cm=float(rng.uniform(20, 40)),
        halftone=float(rng.uniform(0.1, 0.5)),
        ink_black=float(rng.uniform(0.02, 0.06)),
        paper_white=float(rng.uniform(0.7, 0.88)),
        saturation=float(rng.uniform(0.7, 1.0)),
        hands=bool(rng.random() < 0.5),
    )
    match strength:
        case Strength.CLUMSY:
            return Print(
                width_cm=float(rng.uniform(12.0, 17.0)),
                border_cm=float(rng.uniform(0.8, 2.0)),
                bend=bend,
                gloss=float(rng.uniform(0.3, 1.0)),
                halftone_per_cm=float(rng.uniform(14, 22)),
                halftone=float(rng.uniform(0.4, 0.8)),
                ink_black=float(rng.uniform(0.05, 0.11)),
                paper_white=float(rng.uniform(0.75, 0.9)),
                saturation=float(rng.uniform(0.3, 0.75)),
                detail=float(rng.uniform(0.15, 0.4)),
                hands=True,
            )
        case Strength.ORDINARY:
            return ordinary
        case Strength.CAREFUL:
            return Print(
                width_cm=float(rng.uniform(21.0, 26.0)),
                border_cm=0.0,
                bend=bend * (1.25 if bent else 0.5),
                gloss=float(rng.uniform(0.0, 0.12)),
                halftone_per_cm=float(rng.uniform(60, 90)),
                halftone=float(rng.uniform(0.0, 0.08)),
                ink_black=float(rng.uniform(0.008, 0.02)),
                paper_white=float(rng.uniform(0.84, 0.92)),
                saturation=float(rng.uniform(0.95, 1.05)),
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
    if how.detail < 1:
        small = cv2.resize(linear, None, fx=how.detail, fy=how.detail, interpolation=cv2.INTER_AREA)
        linear = cv2.resize(small, (linear.shape[1], linear.shape[0]), interpolation=cv2.INTER_LINEAR)
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
        place: Place | None = None,
        picture: Image | None = None,
    ) -> None:
        """`picture`: what is printed; None: a photograph of the person."""
        self.how = how or draw_print(seed)
        sheet = print_on_paper(photograph(person, seed) if picture is None else picture, self.how)
        rng = np.random.default_rng([6013, person.who.seed, seed])
        habits = by_hand(draw_habits(person.who, rng), max(32.0, 2.15 * self.how.width_cm), rng)
        if self.how.hands:
            thumbs(sheet, draw_identity(seed + 40_009).skin, rng, sheet.shape[1] / self._width_cm)
        self._paper = as_the_lens_sees(sheet, self._width_cm, self.how.width_cm)
        self._sheet = make_sheet(self._width_cm, self._width_cm * sheet.shape[0] / sheet.shape[1], self.how.bend)
        self.actor = Actor(person.who, seed + 9001, habits)
        self._place = place or Place(seed)
        self._canvas: Canvas | None = None

    @property
    def _width_cm(self) -> float:
        return self.how.width_cm + 2 * self.how.border_cm

    def on_screen(self, screen: machine.Screen) -> None:
        self.actor.on_screen(screen)

    def room(self, size: tuple[int, int]) -> Array:
        """The scene behind the sheet."""
        return self._place.room(size)

    def look(self, t_s: float, size: tuple[int, int]) -> Array:
        canvas = self._canvas = Canvas.fitting(size, self._canvas)
        turn, place = held(self.actor, t_s)
        laid = lay(canvas, self._sheet, turn, place, self._place.light)
        rows, columns = self._paper.shape[:2]
        picture = sample(self._paper, laid.uv * (columns - 1, rows - 1)) * laid.lit + self.how.gloss * laid.shine
        out = self.room(size).copy()
        np.copyto(out[laid.box], picture, where=laid.covered[..., None])
        return out


def as_the_lens_sees(sheet: Array, width_cm: float, face_width_cm: float) -> Array:
    """The sheet at about the picture's own resolution: a pixel averages over its area, so dots do not alias wildly."""
    pixels_per_cm = 1.3 * FOCAL_PER_HEIGHT * 480 / (2.15 * face_width_cm)
    scale = min(1.0, pixels_per_cm * width_cm / sheet.shape[1])
    return np.ascontiguousarray(cv2.resize(sheet, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
