"""The kinds of presentation and how much trouble an attacker takes; what they look like is in attacks/ and person/."""

from __future__ import annotations

from enum import Enum


class Species(Enum):
    """Who or what stands before the camera, or instead of it."""

    PERSON = "person"
    PRINT = "print"  # a printed photograph of the holder, flat
    BENT_PRINT = "bent-print"  # the same, bent like a face
    CUT_OUT = "cut-out"  # a print with holes, a live person's eyes and mouth behind them
    PHONE = "phone"  # a video of the holder who only looks, on a phone that is moved
    REPLAY = "replay"  # a recorded session of the holder with another challenge, on a tablet
    MASK = "mask"  # a 3-D mask of the holder on another person's head
    INJECTED_VIDEO = "injected-video"  # a virtual camera with that recorded session
    INJECTED_PUPPET = "injected-puppet"  # a virtual camera with a drawn holder who does what the screen asks
    TARGET = "target"  # the technician's reference target: no presentation of anybody

    @property
    def attack(self) -> bool:
        return self not in {Species.PERSON, Species.TARGET}

    @property
    def injected(self) -> bool:
        """Whether there is no sensor."""
        return self in {Species.INJECTED_VIDEO, Species.INJECTED_PUPPET}


class Strength(Enum):
    """From what anybody has at hand to what somebody prepares who knows the terminal."""

    CLUMSY = "clumsy"
    ORDINARY = "ordinary"
    CAREFUL = "careful"
