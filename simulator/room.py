"""Where the camera stands: procedural rooms and the light in them, in linear light; nobody is in the room here."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simulator.person.light import Light

Array = NDArray[Any]  # float; numpy arithmetic loses the width


class Lighting(Enum):
    """The light of a counter."""

    SHOP = "shop"  # ceiling lamps, warm or cool, soft or from one side
    DIM = "dim"  # a quarter of that: the sensor works with gain
    BRIGHT = "bright"  # daylight at noon: short exposures, hard shadows
    SIDE = "side"  # one strong lamp or window from the side
    WINDOW = "window"  # a bright window behind the person
    COLOURED = "coloured"  # shop signs: reddish, greenish or bluish light


def draw_room(seed: int, size: tuple[int, int] = (640, 480)) -> Array:
    """A shop's wall out of focus, [height, width, 3] linear BGR: shelves with goods, posters, perhaps a window."""
    width, height = size
    rng = np.random.default_rng([3109, seed])
    scale = height / 480
    wall = np.asarray(rng.uniform(0.25, 0.6) * (1 + rng.normal(0, 0.06, 3)), np.float32)
    room: Array = np.empty((height, width, 3), np.float32)
    room[:] = wall * np.linspace(1.08, 0.82, height, dtype=np.float32)[:, None, None]
    left, right = (float(v) for v in rng.uniform(0.8, 1.15, 2))
    room *= np.linspace(left, right, width, dtype=np.float32)[None, :, None]
    for _ in range(int(rng.integers(0, 3))):  # shelves
        y = int(rng.uniform(0.1, 0.8) * height)
        cv2.rectangle(room, (0, y), (width, y + int(9 * scale)), tuple(float(v) for v in wall * 0.5), -1)
        x = 0.0
        while x < width:
            w, h = rng.uniform(12, 60) * scale, rng.uniform(20, 80) * scale
            if rng.random() < 0.8:
                colour = _goods(rng)
                cv2.rectangle(room, (int(x), int(y - h)), (int(x + w), y), colour, -1)
            x += w + rng.uniform(0, 18) * scale
    for _ in range(int(rng.integers(0, 4))):  # posters, doors
        x, top = float(rng.uniform(-0.1, 0.9)) * width, rng.uniform(-0.1, 0.7) * height
        w, h = rng.uniform(40, 200) * scale, rng.uniform(60, 260) * scale
        colour = _goods(rng)
        cv2.rectangle(room, (int(x), int(top)), (int(x + w), int(top + h)), colour, -1)
    if rng.random() < 0.3:  # a window
        x, w = float(rng.uniform(0, 0.8)) * width, rng.uniform(80, 180) * scale
        bright = float(rng.uniform(0.8, 1.8))
        cv2.rectangle(room, (int(x), 0), (int(x + w), int(0.6 * height)), (bright * 1.05, bright, bright * 0.97), -1)
    soft: Array = cv2.GaussianBlur(room, (0, 0), float(rng.uniform(3.0, 9.0)) * scale)
    return soft + np.asarray(0.01, np.float32) * cv2.GaussianBlur(
        rng.standard_normal((height, width, 3)).astype(np.float32), (0, 0), 1.2
    )


def draw_light(seed: int, kind: Lighting = Lighting.SHOP) -> Light:
    """The light that falls on whoever stands at the counter."""
    rng = np.random.default_rng([3110, seed])
    shop = _shop(rng)
    match kind:
        case Lighting.SHOP:
            return shop
        case Lighting.DIM:
            return _scaled(shop, float(rng.uniform(0.18, 0.3)))
        case Lighting.BRIGHT:
            sun = (float(rng.uniform(-0.8, 0.8)), 0.8, 0.6)
            return replace(_scaled(shop, 2.2), sources=(*_scaled(shop, 2.2).sources, (sun, (0.9, 0.95, 1.0))))
        case Lighting.SIDE:
            side = (float(rng.choice((-1, 1))) * 0.95, 0.25, float(rng.uniform(0.35, 0.6)))
            strength = float(rng.uniform(0.5, 0.75))
            return Light(_times(shop.sky, 0.75), _times(shop.ground, 0.8), ((side, (strength,) * 3), shop.sources[1]))
        case Lighting.WINDOW:
            return _scaled(shop, float(rng.uniform(0.55, 0.8)))
        case Lighting.COLOURED:
            tint = np.roll([0.72, 0.95, 1.22], int(rng.integers(0, 3)))
            return _scaled(shop, tint)


def dress(room: Array, seed: int, kind: Lighting) -> Array:
    """The room in that light, changed in place: as bright as the person is lit, and the window of WINDOW."""
    if kind is Lighting.DIM:
        room *= np.float32(0.3)
    elif kind is Lighting.BRIGHT:
        room *= np.float32(1.8)
    elif kind is Lighting.WINDOW:
        rng = np.random.default_rng([3111, seed])
        height, width = room.shape[:2]
        left, wide = float(rng.uniform(-0.1, 0.45)), float(rng.uniform(0.45, 0.75))
        pane: Array = np.zeros((height, width), np.float32)
        cv2.rectangle(pane, (int(left * width), 0), (int((left + wide) * width), int(0.75 * height)), 1.0, -1)
        pane = cv2.GaussianBlur(pane, (0, 0), 0.012 * width)[..., None]
        room += pane * (float(rng.uniform(1.0, 1.7)) - room)
    return room


def _scaled(light: Light, by: float | NDArray[np.floating]) -> Light:
    return Light(_times(light.sky, by), _times(light.ground, by), tuple((d, _times(c, by)) for d, c in light.sources))


def _times(colour: tuple[float, float, float], by: float | NDArray[np.floating]) -> tuple[float, float, float]:
    return _colour(np.asarray(colour) * by)


def _shop(rng: np.random.Generator) -> Light:
    warm = float(rng.normal(0, 0.05))
    tint = np.array([1 - warm, 1.0, 1 + warm])
    strength = float(rng.uniform(0.75, 1.15))
    contrast = float(rng.uniform(0.4, 1.0))
    azimuth, height = rng.uniform(-1.1, 1.1), rng.uniform(0.35, 0.9)
    key = (float(np.sin(azimuth)), float(height), float(np.cos(azimuth) * 0.9 + 0.15))
    fill = (float(-np.sin(azimuth)), 0.3, 0.7)
    return Light(
        sky=_colour(tint * 0.62 * strength * (1.1 - 0.35 * contrast)),
        ground=_colour(tint * np.array([0.94, 1.0, 1.05]) * 0.34 * strength * (1.1 - 0.3 * contrast)),
        sources=(
            (key, _colour(tint * (0.32 + 0.42 * contrast) * strength)),
            (fill, _colour(tint * (0.26 - 0.14 * contrast) * strength)),
        ),
    )


def _goods(rng: np.random.Generator) -> tuple[float, float, float]:
    return _colour(rng.uniform(0.03, 0.6) * (1 + rng.uniform(-0.6, 0.6, 3) * rng.uniform(0, 1)))


def _colour(values: NDArray[np.floating]) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))


class Place:
    """A counter: its room and its light, drawn once."""

    def __init__(self, seed: int = 0, kind: Lighting = Lighting.SHOP) -> None:
        self._seed, self._kind = seed, kind
        self.light = draw_light(seed, kind)
        self._room: Array | None = None

    def room(self, size: tuple[int, int]) -> Array:
        """The scene behind whoever stands there, [height, width, 3] linear BGR; not to be changed."""
        if self._room is None or self._room.shape[:2] != size[::-1]:
            self._room = dress(draw_room(self._seed, size), self._seed, self._kind)
        return self._room
