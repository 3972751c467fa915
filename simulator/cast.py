"""From a scenario to what stands before the camera, the camera itself and the document; nothing is judged here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from edge.clock import Clock
from edge.drivers.camera import FrameSource, Image
from edge.session import machine
from simulator.attacks import (
    CutoutStage,
    MaskStage,
    PrintStage,
    RecordedStage,
    ScreenStage,
    VirtualCamera,
    draw_print,
    draw_screen,
)
from simulator.camera import Optics, PersonStage, SimulatedCamera, Stage
from simulator.person import Person, portrait_of
from simulator.room import Place
from simulator.scenario import Scenario
from simulator.species import Species, Strength

_CHIP_PX = (102, 126)  # the picture on a Chinese ID chip
_CHIP_QUALITY = 40  # JPEG: about 1.5 KB, with a Huffman table that a chip's coder would share


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """A session's camera, the document's picture, who is told what the screen shows, and the holder."""

    source: FrameSource
    portrait: Image
    on_screen: Callable[[machine.Screen], None]
    holder: Person


def cast(scenario: Scenario, clock: Clock) -> Cast:
    """Models the people (a second each) and sets up the camera."""
    holder = modelled(scenario.holder)
    needs_other = scenario.species in {Species.PERSON, Species.CUT_OUT, Species.MASK}
    live = modelled(scenario.person.seed) if needs_other else holder
    place = Place(scenario.room.seed, scenario.light.kind)
    stage = make_stage(scenario, holder, live, place)
    seed, faults = scenario.challenge, scenario.faults
    source: FrameSource
    if scenario.attack is not None and scenario.species.injected:
        source = VirtualCamera(stage, fps=scenario.fps, seed=seed, clock=clock, strength=scenario.attack.strength)
    else:
        source = SimulatedCamera(
            stage,
            fps=scenario.fps,
            seed=seed,
            clock=clock,
            optics=Optics(jpeg_quality=faults.jpeg_quality),
            lost=faults.lost,
            jitter_s=faults.jitter_ms / 1000,
        )
    return Cast(source, _document(holder, chip=scenario.document.chip), stage.on_screen, holder)


@lru_cache(maxsize=3)
def modelled(seed: int) -> Person:
    """The person of this seed; the last few are kept, since a study shows a holder in many ways."""
    return Person.from_seed(seed)


def make_stage(scenario: Scenario, holder: Person, live: Person, place: Place) -> Stage:
    """Who or what stands there: `holder` is on the document, `live` is the person in the room."""
    seed = scenario.challenge if scenario.attack is None else scenario.attack.seed
    strength = Strength.ORDINARY if scenario.attack is None else scenario.attack.strength
    match scenario.species:
        case Species.PERSON | Species.TARGET:
            return PersonStage(live, seed, place=place, obeys=scenario.person.obeys)
        case Species.PRINT | Species.BENT_PRINT:
            how = draw_print(seed, bent=scenario.species is Species.BENT_PRINT, strength=strength)
            return PrintStage(holder, seed, how=how, place=place)
        case Species.CUT_OUT:
            return CutoutStage(holder, live, seed, strength=strength, place=place)
        case Species.PHONE | Species.REPLAY:
            session = scenario.species is Species.REPLAY
            how_shown = draw_screen(seed, tablet=session, strength=strength)
            return ScreenStage(holder, seed, session=session, how=how_shown, place=place)
        case Species.MASK:
            return MaskStage(holder, live, seed, strength=strength, place=place)
        case Species.INJECTED_VIDEO:
            return RecordedStage.of(holder, seed, scenario.fps)
        case Species.INJECTED_PUPPET:
            return PersonStage(holder, seed, place=place)


def _document(holder: Person, *, chip: bool) -> Image:
    picture = portrait_of(holder)
    if not chip:
        return picture
    small = cv2.resize(picture, _CHIP_PX, interpolation=cv2.INTER_AREA)
    coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _CHIP_QUALITY])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
