"""One picture of drawn people and of every attack, for people to look at; `vouch-sim contact-sheet` makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError
from simulator.cast import make_stage, modelled
from simulator.person import Person, PersonState, render
from simulator.person.render import encode
from simulator.room import Lighting, Place
from simulator.scenario import AttackTable, PersonTable, Scenario
from simulator.species import Species, Strength

Image = NDArray[np.uint8]

_CELL = (150, 150)
_COLUMNS = 8
_PEOPLE_ROWS = 2
_BYTES_MAX = 500_000


def write_contact_sheet(path: Path, first_seed: int) -> None:
    """Two rows of people in as many lights, poses and faces, then every species in three strengths."""
    if path.suffix != ".png":
        raise ConfigError(f"{path} is no .png", todo="name the picture with .png")
    cells = [_cell(_person(first_seed + k, k)) for k in range(_COLUMNS * _PEOPLE_ROWS)]
    shown = [species for species in Species if species.attack and not species.injected]
    attacks = [(species, strength) for strength in Strength for species in shown]
    columns = len(shown)
    rows = [np.hstack(cells[k : k + _COLUMNS]) for k in range(0, len(cells), _COLUMNS)]
    width = rows[0].shape[1]
    seen = [
        _cell(_attack(species, strength, first_seed), f"{species.value}, {strength.value}")
        for species, strength in attacks
    ]
    side = width // columns
    for k in range(0, len(seen), columns):
        row = np.full((side, width, 3), 255, np.uint8)
        for column, cell in enumerate(seen[k : k + columns]):
            row[:, column * side : (column + 1) * side] = cv2.resize(cell, (side, side), interpolation=cv2.INTER_AREA)
        rows.append(row)
    sheet = np.vstack(rows)
    coded = _small_png(sheet)
    path.write_bytes(coded)


def _small_png(sheet: NDArray[Any]) -> bytes:
    """As a PNG under half a megabyte: fewer tones, and smaller where that is not enough."""
    scale = 1.0
    while True:
        picture = cv2.resize(sheet, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else sheet
        coarse = ((picture.astype(np.uint16) + 4) // 8 * 8).clip(0, 255).astype(np.uint8)
        done, coded = cv2.imencode(".png", coarse, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        if not done:
            raise ConfigError("the sheet cannot be coded", todo="reinstall OpenCV")
        if len(coded) <= _BYTES_MAX:
            return coded.tobytes()
        scale *= 0.92


def _person(seed: int, number: int) -> Image:
    rng = np.random.default_rng([71, seed])
    state = PersonState(
        yaw_deg=float(rng.normal(0, 14)),
        pitch_deg=float(rng.normal(0, 6)),
        eye_right=float(number % 11 != 7),
        eye_left=float(number % 11 != 7),
        mouth=0.8 if number % 12 == 4 else 0.0,
        distance_cm=52.0,
    )
    kind = tuple(Lighting)[number % len(Lighting)]
    place = Place(seed, kind)
    return render(Person.from_seed(seed), state, background=place.room((640, 480)), light=place.light)[0]


def _attack(species: Species, strength: Strength, seed: int) -> Image:
    scenario = Scenario(
        person=PersonTable(seed=seed + 1), attack=AttackTable(species=species, strength=strength, seed=seed)
    )
    stage = make_stage(scenario, modelled(seed + 2), modelled(seed + 1), Place(seed))
    linear = stage.look(1.0, (640, 480))
    level = float(np.percentile(linear[120:360, 200:440, 1], 80))
    return encode(linear * (0.46 / max(level, 1e-3)) ** 0.65)


def _cell(image: Image, words: str = "") -> Image:
    height = image.shape[0]
    left = (image.shape[1] - height) // 2
    cell = cv2.resize(image[:, left : left + height], (2 * _CELL[0], 2 * _CELL[1]), interpolation=cv2.INTER_AREA)
    if words:
        cell[-34:] = (cell[-34:].astype(np.float32) * 0.25 + 190).astype(np.uint8)
        cv2.putText(cell, words, (8, 2 * _CELL[1] - 11), cv2.FONT_HERSHEY_SIMPLEX, 0.62, (30, 30, 30), 1, cv2.LINE_AA)
    return np.asarray(cv2.resize(cell, _CELL, interpolation=cv2.INTER_AREA) if not words else cell, np.uint8)
