"""A disk that is filled to its last block, and a terminal whose state lies on it."""

from __future__ import annotations

import os
from pathlib import Path

from edge.config import load
from tests.support.wires import Place


def on(disk: Path, place: Place) -> Place:
    """The same terminal with its state on that disk."""
    text = place.config.read_text().replace('state_dir = "state"', f'state_dir = "{disk / "state"}"')
    place.config.write_text(text)
    return Place(place.config, load(place.config), place.pki)


def fill(disk: Path) -> Path:
    """Not one block is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for _ in range(os.statvfs(disk).f_bavail):
            file.write(bytes(os.statvfs(disk).f_frsize))
    assert os.statvfs(disk).f_bavail == 0
    return ballast
