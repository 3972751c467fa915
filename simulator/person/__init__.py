"""A parametric 3-D head of our own making: identity, mesh, skin, motion, render; nothing films it here."""

from simulator.person.identity import Identity, draw_identity
from simulator.person.light import Light
from simulator.person.render import Person, PersonState, Truth, portrait, portrait_of, render, render_linear

__all__ = [
    "Identity",
    "Light",
    "Person",
    "PersonState",
    "Truth",
    "draw_identity",
    "portrait",
    "portrait_of",
    "render",
    "render_linear",
]
