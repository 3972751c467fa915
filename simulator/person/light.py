"""The light that falls on a person or a sheet of paper: ambient, and some directional sources; no camera here."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]  # linear BGR; 1.0 is what a white card needs to be just white at exposure 1
Direction = tuple[float, float, float]  # towards the light; x right, y up, z towards the camera, of the picture


@dataclass(frozen=True, slots=True)
class Light:
    """`sky` lights from above and `ground` from below (hemisphere); each of `sources` has a direction and a colour."""

    sky: Colour = (0.50, 0.51, 0.52)
    ground: Colour = (0.26, 0.28, 0.30)
    sources: tuple[tuple[Direction, Colour], ...] = (
        ((-0.45, 0.65, 0.75), (0.50, 0.53, 0.55)),
        ((0.75, 0.35, 0.55), (0.17, 0.16, 0.15)),
    )
