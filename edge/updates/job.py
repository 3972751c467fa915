"""What the terminal hands to the child that installs for it; no TUF here, which a long-lived process need not hold."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from edge.config import Settings
from edge.errors import UpdateError, UpdateFault
from edge.updates.shelf import Shelf, shelf_of


@dataclass(frozen=True, slots=True)
class Job:
    """`match_fmr_ppm`: what the policy in force asks of a pack; None where the caller does not know it."""

    settings: Settings
    match_fmr_ppm: int | None = None

    @property
    def shelf(self) -> Shelf:
        return shelf_of(self.settings)

    @property
    def root(self) -> Path:
        """File with the trusted root. UpdateError (STATE) where there is none: then no update is ever taken."""
        if self.settings.updates is None:
            raise UpdateError(
                UpdateFault.STATE,
                "this terminal has no trusted root for updates",
                todo="enrol it with a carrier that offers updates, or name [updates] root in terminal.toml",
            )
        return self.settings.updates.root

    def command(self, folder: Path) -> list[str]:
        """The child's command line: `install` from `folder`. Exit 0: done; 1: refused, and the shelf says why."""
        told = [self.settings.model_dump(mode="json"), self.match_fmr_ppm, str(folder)]
        return [sys.executable, "-m", "edge.updates.install", json.dumps(told)]

    @classmethod
    def parse(cls, argument: str) -> tuple[Job, Path]:
        """What `command` wrote."""
        settings, match_fmr_ppm, folder = json.loads(argument)
        return cls(Settings.model_validate(settings), match_fmr_ppm), Path(folder)
