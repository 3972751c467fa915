"""Phones and tablets that show a film of the holder: pixels, refresh, glass and bezel, and the hand that moves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.session import machine
from simulator.attacks.recording import Film, Recording
from simulator.attacks.sheet import by_hand, held, lay, make_sheet
from simulator.person import Person
from simulator.person.motion import Actor, draw_habits
from simulator.raster import Canvas, sample
from simulator.room import Place
from simulator.species import Strength

Array = NDArray[Any]  # float; numpy arithmetic loses the width

_APERTURE = 0.85  # of a sensor pixel's pitch over which it gathers light (micro-lenses)
_EXPOSURE_S = 0.009  # the camera's usual exposure, for the refresh's bands
_READOUT_S = 0.020  # from the first row to the last of a rolling shutter


@dataclass(frozen=True, slots=True)
class Screen:
    """The display's lit area in cm, its pixels per cm, and how it shines. Lights are relative to the shop's white."""

    width_cm: float = 7.0
    height_cm: float = 12.5
    bezel_cm: float = 0.4
    pixels_per_cm: float = 160.0
    white: float = 1.0  # luminance of white
    black: float = 0.002  # leakage: OLED 0, LCD a thousandth
    gloss: float = 0.9  # of the glass
    haze: float = 0.015  # diffuse reflectance of glass and panel
    refresh_hz: float = 120.0
    duty: float = 1.0  # share of a refresh that is lit: 1 steady, OLED dims by pulses
    tint: tuple[float, float, float] = (1.04, 1.0, 0.95)
    bezel: float = 0.03  # reflectance


def draw_screen(seed: int, *, tablet: bool, strength: Strength = Strength.ORDINARY) -> Screen:
    """Clumsy: an old LCD with wide bezels, coarse pixels and glare. Careful: a bright OLED with a matt foil."""
    rng = np.random.default_rng([6211, seed])
    width, height = (15.5, 21.0) if tablet else (6.8, 14.2)
    size = float(rng.uniform(0.92, 1.08))
    coarse = 0.6 if tablet else 1.0
    match strength:
        case Strength.CLUMSY:
            return Screen(
                width * size, height * size,
                bezel_cm=float(rng.uniform(0.8, 1.8)),
                pixels_per_cm=float(rng.uniform(45, 75)) * coarse,
                white=float(rng.uniform(0.4, 0.8)),
                black=float(rng.uniform(0.004, 0.01)),
                gloss=float(rng.uniform(0.9, 1.3)),
                haze=float(rng.uniform(0.02, 0.05)),
                refresh_hz=60.0,
                duty=float(rng.uniform(0.5, 0.8)),
                tint=(1.15, 1.0, 0.86),
            )  # fmt: skip
        case Strength.ORDINARY:
            return Screen(
                width * size, height * size,
                bezel_cm=float(rng.uniform(0.25, 0.9)),
                pixels_per_cm=float(rng.uniform(100, 170)) * coarse,
                white=float(rng.uniform(0.8, 1.3)),
                black=float(rng.choice((0.0, 0.0015))),
                gloss=float(rng.uniform(0.6, 1.0)),
                refresh_hz=float(rng.choice((60, 90, 120, 240))),
                duty=float(rng.choice((1.0, 0.7))),
            )  # fmt: skip
        case Strength.CAREFUL:
            return Screen(
                width * size, height * size,
                bezel_cm=float(rng.uniform(0.1, 0.25)),
                pixels_per_cm=float(rng.uniform(160, 200)) * coarse,
                white=float(rng.uniform(1.0, 1.6)),
                black=0.0,
                gloss=float(rng.uniform(0.03, 0.12)),
                haze=float(rng.uniform(0.01, 0.02)),
                refresh_hz=float(rng.choice((120, 240, 480))),
                tint=(1.0, 1.0, 1.0),
            )  # fmt: skip


class ScreenStage:
    """Somebody holds a display before the camera. `session`: the film is another session; else the holder only looks,
    and the device is moved for what the screen asks.
    """

    def __init__(
        self,
        person: Person,
        seed: int = 0,
        *,
        session: bool,
        how: Screen | None = None,
        place: Place | None = None,
    ) -> None:
        self.how = how or draw_screen(seed, tablet=session)
        rng = np.random.default_rng([6217, person.who.seed, seed])
        film_height = 480 if self.how.width_cm > 10 else 420
        film_width = round(film_height * self.how.width_cm / self.how.height_cm / 4) * 4
        # A face fills the width of a phone; on a tablet it may be as large as life.
        self._film = Recording(
            person, seed, Film(session=session, size=(film_width, film_height), distance_cm=44.0 if session else 50.0)
        )
        self._lit = self.how.width_cm / (self.how.width_cm + 2 * self.how.bezel_cm)
        self._lit_v = self.how.height_cm / (self.how.height_cm + 2 * self.how.bezel_cm)
        self._sheet = make_sheet(self.how.width_cm / self._lit, self.how.height_cm / self._lit_v)
        habits = by_hand(draw_habits(person.who, rng), 34.0 if session else 22.0, rng)
        self.actor = Actor(person.who, seed + 9100, habits)
        self._moved = not session
        self._rest = Actor(person.who, seed + 9101, habits)
        self._place = place or Place(seed)
        self._canvas: Canvas | None = None

    def on_screen(self, screen: machine.Screen) -> None:
        self.actor.on_screen(screen)

    def look(self, t_s: float, size: tuple[int, int]) -> Array:
        canvas = self._canvas = Canvas.fitting(size, self._canvas)
        turn, place = held(self.actor if self._moved else self._rest, t_s)
        picture = self._film.at(t_s)
        laid = lay(canvas, self._sheet, turn, place, self._place.light)
        how = self.how
        u = (laid.uv[..., 0] - 0.5) / self._lit + 0.5
        v = (laid.uv[..., 1] - 0.5) / self._lit_v + 0.5
        inside = (laid.covered & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1))[..., None]
        rows, columns = picture.shape[:2]
        shown = sample(picture, np.stack([u * (columns - 1), v * (rows - 1)], axis=-1).astype(np.float32))
        glow = (how.black + (how.white - how.black) * shown) * np.asarray(how.tint, np.float32)
        glow *= self._pixels(u, v) * _refresh(how, t_s, size[1])[laid.box[0]]
        front = np.where(inside, glow + how.haze * laid.lit, how.bezel * laid.lit) + how.gloss * laid.shine
        out = self._place.room(size).copy()
        np.copyto(out[laid.box], front, where=laid.covered[..., None], casting="same_kind")
        return out

    def _pixels(self, u: Array, v: Array) -> Array:
        """How much of each colour's stripes falls on a sensor pixel, mean 1, [H, W, 3].

        The screen's stripe pattern is a cosine in screen space, sampled where the camera's pixels look: where it is
        finer than they are, what the aperture does not average away folds back as moire.
        """
        across = u * (self.how.width_cm * self.how.pixels_per_cm)
        along = v * (self.how.height_cm * self.how.pixels_per_cm)
        out = np.ones((*u.shape, 3), np.float32)
        strength_x = 0.8 * _kept(across)
        strength_y = 0.45 * _kept(along)
        lines = 1 + strength_y * np.cos(2 * np.pi * along)
        for channel in range(3):
            stripes = 1 + strength_x * np.cos(2 * np.pi * (across + channel / 3))
            out[..., channel] = stripes * lines
        return out


def _kept(phase: Array) -> Array:
    """Share of a pattern's contrast that a sensor pixel keeps, from how fast its phase goes from pixel to pixel."""
    steps = np.hypot(np.gradient(phase, axis=1), np.gradient(phase, axis=0))
    return np.sinc(np.clip(steps, 0, 40) * _APERTURE).astype(np.float32)


def _refresh(how: Screen, t_s: float, rows: int) -> Array:
    """Brightness of each row [H, 1, 1], mean 1: what of the display's pulses its exposure caught."""
    if how.duty >= 1:
        return np.ones((rows, 1, 1), np.float32)
    start = t_s + np.linspace(0, _READOUT_S, rows)
    lit = _lit_until((start + _EXPOSURE_S) * how.refresh_hz, how.duty) - _lit_until(start * how.refresh_hz, how.duty)
    return (lit / (how.duty * _EXPOSURE_S * how.refresh_hz)).astype(np.float32)[:, None, None]


def _lit_until(periods: Array, duty: float) -> Array:
    """Integral of the pulses from 0 to there, in periods."""
    whole = np.floor(periods)
    return whole * duty + np.minimum(periods - whole, duty)
