"""A 3-D mask of the holder on another person's head: shape and colours of the one, eyes and movements of the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.session import machine
from simulator.person import Identity, Person, render_linear
from simulator.person.identity import Beard
from simulator.person.motion import Actor
from simulator.raster import Canvas
from simulator.room import Place
from simulator.species import Strength

Array = NDArray[Any]  # float; numpy arithmetic loses the width

# What a mould takes over; hair, ears, neck, eyes and clothes stay the wearer's.
_MOULDED = (
    *("cheek_width", "jaw_width", "jaw_taper", "chin_length", "chin_size", "chin_cleft", "forehead_slope"),
    *("cheekbone", "cheek_fullness", "temple", "eye_distance", "eye_width", "eye_height", "eye_tilt_deg"),
    *("eye_depth", "eye_level", "lid_crease", "lid_hood", "lid_peak", "lid_round", "lower_lid", "socket", "eye_bag"),
    *("brow_height", "brow_ridge", "brow_arch", "brow_tilt", "brow_thickness", "brow_length", "brow_density"),
    *("brow_body", "brow_shade", "brow_gap", "nose_length", "nose_width", "nose_projection", "bridge_height"),
    *("bridge_width", "nose_hump", "tip_size", "tip_lift", "alar_flare", "nostril", "mouth_width", "mouth_level"),
    *("upper_lip", "lower_lip", "cupid_bow", "mouth_curve", "philtrum", "muzzle"),
)


@dataclass(frozen=True, slots=True)
class Mask:
    """`likeness`: share of the way from the wearer's features to the holder's. `lids`: how far the lids follow."""

    likeness: float = 0.9
    lids: float = 0.5
    mouth: float = 0.0  # share of the jaw's movement that shows
    gloss: float = 0.6  # over the skin's own
    mottle: float = 0.3  # share of the skin's unevenness that the paint has
    saturation: float = 0.8


def draw_mask(seed: int, strength: Strength = Strength.ORDINARY) -> Mask:
    """Clumsy: plastic with rigid lids. Ordinary: cast resin, eye holes. Careful: painted silicone that moves."""
    rng = np.random.default_rng([6401, seed])
    match strength:
        case Strength.CLUMSY:
            return Mask(float(rng.uniform(0.6, 0.8)), 0.0, 0.0, float(rng.uniform(0.8, 1.4)), 0.0, 0.6)
        case Strength.ORDINARY:
            return Mask(float(rng.uniform(0.8, 0.95)), float(rng.uniform(0.3, 0.6)), 0.0, float(rng.uniform(0.3, 0.9)))
        case Strength.CAREFUL:
            return Mask(1.0, float(rng.uniform(0.8, 1.0)), 0.5, float(rng.uniform(0.1, 0.3)), 0.7, 0.95)


class MaskStage:
    """`person` is the holder whom the mask shows; `wearer` does what the screen asks."""

    def __init__(
        self,
        person: Person,
        wearer: Person,
        seed: int = 0,
        *,
        strength: Strength = Strength.ORDINARY,
        place: Place | None = None,
    ) -> None:
        self.mask = draw_mask(seed, strength)
        self._masked = Person(_mould(person.who, wearer.who, self.mask))
        self._masked.atlas = _paint(self._masked.atlas, self.mask)
        self.actor = Actor(wearer.who, seed + 9300)
        self._place = place or Place(seed)
        self._canvas: Canvas | None = None

    def on_screen(self, screen: machine.Screen) -> None:
        self.actor.on_screen(screen)

    def look(self, t_s: float, size: tuple[int, int]) -> Array:
        canvas = self._canvas = Canvas.fitting(size, self._canvas)
        state, mask = self.actor.at(t_s), self.mask
        stiff = replace(
            state,
            eye_right=1 - mask.lids * (1 - state.eye_right),
            eye_left=1 - mask.lids * (1 - state.eye_left),
            mouth=mask.mouth * state.mouth,
        )
        room, light = self._place.room(size), self._place.light
        return render_linear(self._masked, stiff, size, room, light, canvas=canvas).linear


def _mould(holder: Identity, wearer: Identity, mask: Mask) -> Identity:
    """The wearer with the holder's features."""
    near = mask.likeness

    def between(name: str) -> Any:
        own, other = float(getattr(wearer, name)), float(getattr(holder, name))
        return own + near * (other - own)

    return replace(
        wearer,
        **{name: between(name) for name in _MOULDED},
        # A mask must go over the head beneath it: it is a little wider.
        skull_width=max(wearer.skull_width, between("skull_width")) + 0.01,
        relief=holder.relief,
        shades=holder.shades,
        skin=holder.skin,
        lip_colour=holder.lip_colour,
        redness=holder.redness * mask.mottle,
        skin_mottle=max(0.05, holder.skin_mottle * mask.mottle),
        gloss=holder.gloss + mask.gloss,
        age=holder.age,
        freckles=holder.freckles * mask.mottle,
        moles=holder.moles,
        beard=holder.beard if holder.beard in {Beard.NONE, Beard.STUBBLE} else Beard.NONE,
        asymmetry=holder.asymmetry,
        masculine=holder.masculine,
    )


def _paint(atlas: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    """Paint instead of skin on the head's part of the atlas: no pores, paler."""
    out = atlas.copy()
    skin = out[:640, :640].astype(np.float32)
    smooth = cv2.bilateralFilter(skin, 5, 18, 2.0)
    skin = smooth + mask.mottle * (skin - smooth)
    grey = skin.mean(axis=2, keepdims=True)
    out[:640, :640] = np.clip(grey + mask.saturation * (skin - grey) + 0.5, 0, 255).astype(np.uint8)
    return out
