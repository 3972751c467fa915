"""Who a simulated person is: one frozen set of numbers drawn from a seed; no geometry and no pixels here.

Lengths are centimetres, scaled around adult means of craniofacial anthropometry (Farkas 1994); `sd` units are free.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

# Measures are drawn flat, not from a bell: the models find people alike who are alike in every measure, and a bell
# crowds its middle while its tails are caricatures. Width in standard deviations of the adult means.
_REACH = 2.8
_BUMPS = 20


class HairStyle(Enum):
    """What covers the skull."""

    SHORT = "short"
    CROPPED = "cropped"
    PARTED = "parted"
    FRINGE = "fringe"
    LONG = "long"
    LONG_FRINGE = "long-fringe"
    TIED = "tied"
    RECEDING = "receding"
    BALD = "bald"


class Beard(Enum):
    """Hair of the lower face."""

    NONE = "none"
    STUBBLE = "stubble"
    MOUSTACHE = "moustache"
    GOATEE = "goatee"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Identity:
    """One person. Ratios are relative to the mean head; offsets and sizes are cm; colours are linear BGR 0..1."""

    seed: int
    # skull and jaw
    skull_width: float
    skull_height: float
    skull_depth: float
    cheek_width: float
    jaw_width: float
    jaw_taper: float
    chin_length: float
    chin_size: float
    chin_cleft: float
    forehead_slope: float
    cheekbone: float
    cheek_fullness: float
    temple: float
    # eyes
    eye_distance: float
    eye_width: float
    eye_height: float
    eye_tilt_deg: float
    eye_depth: float
    eye_level: float
    lid_crease: float
    lid_hood: float
    lid_peak: float
    lid_round: float
    lower_lid: float
    socket: float
    eye_bag: float
    iris: tuple[float, float, float]
    pupil: float
    # brows
    brow_height: float
    brow_ridge: float
    brow_arch: float
    brow_tilt: float
    brow_thickness: float
    brow_length: float
    brow_density: float
    brow_body: float
    brow_shade: float
    brow_gap: float
    # nose
    nose_length: float
    nose_width: float
    nose_projection: float
    bridge_height: float
    bridge_width: float
    nose_hump: float
    tip_size: float
    tip_lift: float
    alar_flare: float
    nostril: float
    # mouth
    mouth_width: float
    mouth_level: float
    upper_lip: float
    lower_lip: float
    cupid_bow: float
    mouth_curve: float
    philtrum: float
    muzzle: float
    # ears, neck, body
    ear_size: float
    ear_flare: float
    neck_width: float
    shoulder_width: float
    # surface
    skin: tuple[float, float, float]
    redness: float
    skin_mottle: float
    gloss: float
    lip_colour: tuple[float, float, float]
    age: float
    freckles: float
    moles: tuple[tuple[float, float, float], ...]
    # hair
    hair_style: HairStyle
    hair: tuple[float, float, float]
    grey: float
    hairline: float
    hair_volume: float
    hair_parting: float
    hair_length: float
    beard: Beard
    masculine: float
    glasses: bool
    glasses_size: float
    glasses_colour: tuple[float, float, float]
    # what no measure names: hills and hollows (x, y, reach, height in cm) and lighter and darker places of this face
    relief: tuple[tuple[float, float, float, float], ...]
    shades: tuple[tuple[float, float, float, float], ...]
    # unevenness of the two halves of the face
    asymmetry: tuple[float, ...]
    cloth: tuple[float, float, float]
    cloth_kind: int
    pace: float
    steadiness: float


def draw_identity(seed: int) -> Identity:
    """The person of this seed; the same seed gives the same person for ever."""
    rng = np.random.default_rng([7301, seed])
    masculine = float(np.clip(rng.normal(0.5, 0.42), 0, 1))
    m = 2 * masculine - 1
    age = float(rng.beta(1.5, 1.9))
    tone = float(rng.beta(1.1, 1.3))

    def around(mean: float, sd: float) -> float:
        return float(mean + _REACH * sd * rng.uniform(-1, 1))

    skin = _skin_colour(tone, rng)
    hair = _hair_colour(tone, rng)
    style = _hair_style(masculine, age, rng)
    eye_size = around(0.0, 1.0)
    return Identity(
        seed=seed,
        skull_width=around(1.0 + 0.01 * m, 0.03),
        skull_height=around(1.0 + 0.005 * m, 0.035),
        skull_depth=around(1.0, 0.04),
        cheek_width=around(1.0, 0.032),
        jaw_width=around(1.02 + 0.035 * m, 0.042),
        jaw_taper=around(-0.15 + 0.1 * m, 0.33),
        chin_length=around(0.1 + 0.2 * m, 0.40),
        chin_size=around(0.5 + 0.12 * m, 0.28),
        chin_cleft=max(0.0, around(-0.1, 0.2)),
        forehead_slope=around(0.2 * m, 0.5),
        cheekbone=around(0.42, 0.22),
        cheek_fullness=around(0.25 - 0.35 * age, 0.24),
        temple=around(0.35 + 0.3 * age, 0.2),
        eye_distance=around(3.15, 0.19),
        eye_width=1.42 + 0.1 * eye_size,
        eye_height=float(np.clip(around(1.0, 0.17) + 0.06 * eye_size, 0.74, 1.4)),
        eye_tilt_deg=around(3.0 - 2.5 * age, 2.9),
        eye_depth=around(0.0 + 0.12 * m, 0.22),
        eye_level=around(0.0, 0.27),
        lid_crease=float(rng.uniform(0, 1)),
        lid_hood=float(np.clip(around(0.25 + 0.3 * age, 0.3), 0, 1)),
        lid_peak=around(0.0, 0.09),
        lid_round=around(0.0, 0.06),
        lower_lid=around(0.0, 0.12),
        socket=float(np.clip(around(0.16 + 0.06 * age, 0.09), 0, 0.45)),
        eye_bag=float(np.clip(around(0.12 + 0.55 * age, 0.25), 0, 1.2)),
        iris=_iris_colour(tone, rng),
        pupil=around(0.21, 0.025),
        brow_height=around(1.75 - 0.12 * m, 0.29),
        brow_ridge=around(0.28 + 0.2 * m, 0.16),
        brow_arch=around(0.25 - 0.12 * m, 0.22),
        brow_tilt=around(0.0, 0.16),
        brow_thickness=max(0.13, around(0.36 + 0.1 * m, 0.15)),
        brow_length=around(1.0, 0.1),
        brow_density=float(np.clip(around(0.72 + 0.12 * m - 0.1 * age, 0.2), 0.25, 1.0)),
        brow_body=around(0.28, 0.09),
        brow_shade=around(0.8, 0.12),
        brow_gap=around(0.95 - 0.12 * m, 0.25),
        nose_length=around(1.0 + 0.02 * m, 0.08),
        nose_width=around(1.0 + 0.04 * m + 0.12 * (tone - 0.4), 0.145),
        nose_projection=around(1.03 - 0.1 * (tone - 0.4), 0.11),
        bridge_height=around(0.1 + 0.1 * m - 0.2 * (tone - 0.4), 0.28),
        bridge_width=around(1.0 + 0.05 * m, 0.15),
        nose_hump=around(0.05 * m, 0.17),
        tip_size=around(1.0, 0.18),
        tip_lift=around(0.0 - 0.1 * m, 0.22),
        alar_flare=around(1.0, 0.22),
        nostril=around(1.0, 0.14),
        mouth_width=around(2.5 + 0.06 * m, 0.23),
        mouth_level=around(0.0, 0.24),
        upper_lip=max(0.18, around(0.62 - 0.06 * m + 0.28 * (tone - 0.4) - 0.14 * age, 0.17)),
        lower_lip=max(0.28, around(0.86 - 0.06 * m + 0.3 * (tone - 0.4) - 0.12 * age, 0.19)),
        cupid_bow=around(0.14, 0.07),
        mouth_curve=around(0.02, 0.06),
        philtrum=around(0.0, 0.2),
        muzzle=around(0.55, 0.17),
        ear_size=around(1.0 + 0.05 * m + 0.05 * age, 0.09),
        ear_flare=float(np.clip(around(22.0, 11.0), 4, 50)),
        neck_width=around(0.94 + 0.08 * m, 0.04),
        shoulder_width=around(1.0 + 0.07 * m, 0.06),
        skin=skin,
        redness=float(np.clip(around(0.5, 0.3), 0, 1.2)),
        skin_mottle=float(np.clip(around(0.5 + 0.4 * age, 0.25), 0.1, 1.4)),
        gloss=float(np.clip(around(0.5, 0.25), 0.1, 1.1)),
        lip_colour=_lip_colour(skin, masculine, rng),
        age=age,
        freckles=float(max(0.0, rng.normal(-0.3, 0.9))) if tone < 0.45 else 0.0,
        moles=tuple(
            (float(rng.normal(0, 3.2)), float(rng.uniform(-10, 6)), float(rng.uniform(0.06, 0.24)))
            for _ in range(int(rng.poisson(3.0)))
        ),
        hair_style=style,
        hair=hair,
        grey=float(np.clip(rng.normal(1.9 * (age - 0.66), 0.22), 0, 0.95)),
        hairline=around(0.0, 0.55),
        hair_volume=float(np.clip(around(1.0, 0.35), 0.35, 2.0)),
        hair_parting=float(rng.uniform(-1, 1)),
        hair_length=float(rng.uniform(0, 1)),
        beard=_beard(masculine, rng),
        masculine=masculine,
        glasses=bool(rng.random() < 0.25),
        glasses_size=around(1.0, 0.12),
        glasses_colour=tuple(np.array([0.015, 0.015, 0.018]) * float(rng.uniform(0.6, 6))),
        relief=_bumps(np.random.default_rng([7302, seed]), 0.2),
        shades=_bumps(np.random.default_rng([7303, seed]), 0.11),
        asymmetry=tuple(float(v) for v in np.clip(rng.normal(0, 1, 8), -2, 2)),
        cloth=_triple(rng.uniform(0.02, 0.6, 3) * rng.uniform(0.2, 1.0)),
        cloth_kind=int(rng.integers(0, 4)),
        pace=float(np.clip(rng.normal(1.0 - 0.25 * (age - 0.4), 0.18), 0.55, 1.5)),
        steadiness=float(np.clip(rng.normal(1.0, 0.3), 0.4, 1.8)),
    )


def _bumps(rng: np.random.Generator, size: float) -> tuple[tuple[float, float, float, float], ...]:
    """Soft places of a face, the same on both of its sides: x, y, reach in cm, and how much."""
    return tuple(
        (
            float(rng.uniform(0.0, 5.2)),
            float(rng.uniform(-10.5, 6.5)),
            float(rng.uniform(0.8, 2.2)),
            float(np.clip(rng.normal(0, size), -2 * size, 2 * size)),
        )
        for _ in range(_BUMPS)
    )


def _skin_colour(tone: float, rng: np.random.Generator) -> tuple[float, float, float]:
    # sRGB of forearm skin from very light to dark, after the Monk scale's range.
    scale = np.array(
        [[240, 214, 198], [231, 194, 168], [214, 169, 134], [189, 138, 102], [146, 98, 68], [104, 68, 48], [72, 48, 38]]
    )
    at = tone * (len(scale) - 1)
    rgb = np.array([np.interp(at, np.arange(len(scale)), scale[:, c]) for c in range(3)])
    rgb = np.clip(rgb * (1 + rng.normal(0, 0.03, 3)), 20, 250) / 255
    return _triple(rgb[::-1] ** 2.2)


def _hair_colour(tone: float, rng: np.random.Generator) -> tuple[float, float, float]:
    colours = [  # sRGB: black, dark brown, brown, chestnut, dark blond, blond, red
        (20, 17, 17), (42, 29, 22), (75, 50, 34), (98, 58, 36), (135, 103, 66), (186, 152, 100), (140, 66, 34),
    ]  # fmt: skip
    light = np.array([0.15, 0.2, 0.22, 0.13, 0.13, 0.11, 0.06])
    dark = np.array([0.72, 0.24, 0.04, 0, 0, 0, 0])
    share = light * max(0.0, 1 - 2.2 * tone) + dark * min(1.0, 2.2 * tone)
    rgb = np.array(colours[int(rng.choice(len(colours), p=share / share.sum()))]) / 255.0
    return _triple((rgb[::-1] * rng.uniform(0.8, 1.2)) ** 2.2)


def _iris_colour(tone: float, rng: np.random.Generator) -> tuple[float, float, float]:
    colours = [(52, 30, 18), (84, 52, 28), (104, 92, 52), (92, 118, 128), (96, 132, 168)]
    light = np.array([0.2, 0.25, 0.2, 0.17, 0.18])
    dark = np.array([0.75, 0.25, 0, 0, 0])
    share = light * max(0.0, 1 - 2.5 * tone) + dark * min(1.0, 2.5 * tone)
    rgb = np.array(colours[int(rng.choice(len(colours), p=share / share.sum()))]) / 255.0
    return _triple(rgb[::-1] ** 2.2)


def _lip_colour(
    skin: tuple[float, float, float], masculine: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    b, g, r = skin
    strength = float(rng.uniform(0.15, 0.95))
    if masculine < 0.4 and rng.random() < 0.45:  # lipstick
        strength = float(rng.uniform(0.8, 1.15))
        b, g = b * 0.75, g * 0.62
    return _triple(np.array([b * (1 - 0.42 * strength), g * (1 - 0.6 * strength), r * (1 - 0.22 * strength)]))


def _hair_style(masculine: float, age: float, rng: np.random.Generator) -> HairStyle:
    if masculine > 0.5:
        styles = [HairStyle.SHORT, HairStyle.CROPPED, HairStyle.PARTED, HairStyle.FRINGE]
        share = np.array([0.36, 0.18, 0.2, 0.08])
        if rng.random() < 0.12 + 0.35 * age:
            return HairStyle.RECEDING if rng.random() < 0.6 else HairStyle.BALD
    else:
        styles = [HairStyle.LONG, HairStyle.LONG_FRINGE, HairStyle.TIED, HairStyle.PARTED, HairStyle.SHORT]
        share = np.array([0.38, 0.2, 0.2, 0.12, 0.1])
    return styles[int(rng.choice(len(styles), p=share / share.sum()))]


def _beard(masculine: float, rng: np.random.Generator) -> Beard:
    if masculine < 0.55:
        return Beard.NONE
    kinds = [Beard.NONE, Beard.STUBBLE, Beard.MOUSTACHE, Beard.GOATEE, Beard.FULL]
    return kinds[int(rng.choice(5, p=[0.42, 0.26, 0.08, 0.09, 0.15]))]


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))
