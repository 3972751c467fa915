"""A print with holes for eyes and mouth before a live person's face: they blink and speak, the picture does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.session import machine
from edge.session.points import LEFT_EYE, OUTER_LIP, RIGHT_EYE
from simulator.attacks.paper import as_the_lens_sees, draw_print, print_on_paper
from simulator.attacks.sheet import lay, make_sheet
from simulator.person import Person, PersonState, render, render_linear
from simulator.person.motion import Actor
from simulator.person.render import NECK_PIVOT
from simulator.raster import Canvas, rotation, sample
from simulator.room import Place, draw_light, draw_room
from simulator.species import Strength

Array = NDArray[Any]  # float; numpy arithmetic loses the width

_SHEET_CM = 21.0
_SHADE = 0.45  # of the light that the sheet keeps from what is behind its holes
_FRONT_CM = 10.2  # of the sheet's middle before the head's: it touches the nose


@dataclass(frozen=True, slots=True)
class Holes:
    """What is cut out, and how: sizes relative to the eye and the mouth, rough edges in cm."""

    eyes: float = 1.25
    mouth: bool = True
    mouth_size: float = 1.15
    rough_cm: float = 0.05
    bend: float = 0.06
    trimmed: bool = False  # cut along the face's oval, not a whole sheet


def draw_holes(seed: int, strength: Strength = Strength.ORDINARY) -> Holes:
    """Clumsy: ragged holes in a whole flat sheet. Careful: holes as large as the lids, bent, cut along the face."""
    rng = np.random.default_rng([6301, seed])
    match strength:
        case Strength.CLUMSY:
            return Holes(float(rng.uniform(1.5, 2.0)), True, 1.3, float(rng.uniform(0.1, 0.25)), 0.01)
        case Strength.ORDINARY:
            return Holes(float(rng.uniform(1.2, 1.5)), bool(rng.random() < 0.7), bend=float(rng.uniform(0.03, 0.07)))
        case Strength.CAREFUL:
            return Holes(
                float(rng.uniform(1.05, 1.2)),
                bool(rng.random() < 0.5),
                1.05,
                0.02,
                float(rng.uniform(0.06, 0.09)),
                True,
            )


class CutoutStage:
    """`person` is on the print; `wearer` is behind it and does what the screen asks."""

    def __init__(
        self,
        person: Person,
        wearer: Person,
        seed: int = 0,
        *,
        strength: Strength = Strength.ORDINARY,
        place: Place | None = None,
    ) -> None:
        self.holes = draw_holes(seed, strength)
        self.paper = replace(draw_print(seed, strength=strength), border_cm=0.0, width_cm=_SHEET_CM)
        self._wearer = wearer
        self.actor = Actor(wearer.who, seed + 9200)
        self._place = place or Place(seed)
        self._canvas: Canvas | None = None
        self._make(person, seed)

    def on_screen(self, screen: machine.Screen) -> None:
        self.actor.on_screen(screen)

    def look(self, t_s: float, size: tuple[int, int]) -> Array:
        canvas = self._canvas = Canvas.fitting(size, self._canvas)
        state = self.actor.at(t_s)
        light = self._place.light
        scene = render_linear(self._wearer, state, size, self._place.room(size), light, canvas=canvas).linear
        turn = rotation(state.yaw_deg, state.pitch_deg, state.roll_deg)
        before = (np.asarray([0.0, 0.0, _FRONT_CM], np.float32) + self._shift - NECK_PIVOT) @ turn.T + NECK_PIVOT
        place = before + np.asarray([state.x_cm, state.y_cm, -state.distance_cm], np.float32)
        laid = lay(canvas, self._sheet, turn, place, light)
        rows, columns = self._printed.shape[:2]
        at = laid.uv * (columns - 1, rows - 1)
        paper = sample(self._printed, at) * laid.lit + self.paper.gloss * laid.shine
        cover = sample(self._cover, at)[..., None] * laid.covered[..., None]
        over = sample(self._outline, at)[..., None] * laid.covered[..., None]
        part = scene[laid.box]
        np.copyto(part, part * (1 - _SHADE * over) * (1 - cover) + paper * cover)
        return scene

    def _make(self, person: Person, seed: int) -> None:
        """Photograph, print, cut, and place: the picture's eyes lie on the wearer's."""
        size = (720, 900)
        state = PersonState(distance_cm=60.0, y_cm=0.0)
        picture, truth = render(person, state, size, draw_room(seed + 81, size), draw_light(seed + 82))
        eyes = truth.keypoints[:2]
        per_cm = float(np.hypot(*(eyes[1] - eyes[0]))) / (2 * self._wearer.who.eye_distance)
        printed = print_on_paper(picture, replace(self.paper, width_cm=size[0] / per_cm))
        cover = np.ones(size[::-1], np.float32)
        rng = np.random.default_rng([6307, seed])
        middle = eyes.mean(axis=0)
        for start, scale in ((RIGHT_EYE, self.holes.eyes), (LEFT_EYE, self.holes.eyes)):
            _cut(cover, truth.landmarks[start], scale, self.holes.rough_cm * per_cm, rng, tall=1.5)
        if self.holes.mouth:
            _cut(cover, truth.landmarks[OUTER_LIP], self.holes.mouth_size, self.holes.rough_cm * per_cm, rng, tall=1.3)
        outline = np.ones_like(cover)
        if self.holes.trimmed:
            left, top, right, bottom = truth.box
            outline[:] = 0
            centre = (int((left + right) / 2), int((top + bottom) / 2 - 0.06 * (bottom - top)))
            axes = (int(0.54 * (right - left)), int(0.62 * (bottom - top)))
            cv2.ellipse(outline, centre, axes, 0, 0, 360, 1.0, -1)
        cover *= outline
        wide, high = size[0] / per_cm, size[1] / per_cm
        self._sheet = make_sheet(wide, high, self.holes.bend)
        # uv 0.5 is the sheet's middle: move it so that the picture's eyes come to the wearer's.
        self._shift = np.asarray(
            [(size[0] / 2 - middle[0]) / per_cm, (middle[1] - size[1] / 2) / per_cm + self._wearer.who.eye_level, 0.0],
            np.float32,
        )
        self._printed = as_the_lens_sees(printed, wide, _SHEET_CM * 0.8)
        shape = self._printed.shape[1::-1]
        soft = [cv2.GaussianBlur(mask, (0, 0), 1.0) for mask in (cover, outline)]
        self._cover, self._outline = (cv2.resize(mask, shape, interpolation=cv2.INTER_AREA) for mask in soft)


def _cut(cover: Array, outline: Array, scale: float, rough_px: float, rng: np.random.Generator, *, tall: float) -> None:
    """A hole around `outline` [N, 2], enlarged, with edges as scissors leave them."""
    centre = outline.mean(axis=0)
    reach = (outline - centre) * scale
    reach[:, 1] *= tall
    hull = cv2.convexHull((centre + reach).astype(np.float32))[:, 0]
    rough = hull + rng.normal(0, rough_px, hull.shape)
    cv2.fillPoly(cover, [np.round(rough).astype(np.int32)], 0.0)
