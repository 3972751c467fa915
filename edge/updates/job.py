"""What the terminal hands to the child that installs for it; no TUF here, which a long-lived process need not hold."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from edge.config import Settings
from edge.errors import UpdateError, UpdateFault
from edge.updates.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Job:
    """Where things are. `root`: file with the trusted root; `carrier_keys`: folder of the keys that sign policies.

    `match_fmr_ppm`: what the policy in force asks of a pack; None where the caller does not know it.
    """

    state_dir: Path
    pack_dir: Path
    root: Path
    carrier_keys: Path
    match_fmr_ppm: int | None = None

    @classmethod
    def of(cls, settings: Settings, match_fmr_ppm: int | None = None) -> Job:
        """UpdateError (STATE) where the settings name no root: then no update is ever taken."""
        if settings.updates is None:
            raise UpdateError(
                UpdateFault.STATE,
                "this terminal has no trusted root for updates",
                todo="enrol it with a carrier that offers updates, or name [updates] root in terminal.toml",
            )
        return cls(
            settings.state_dir, settings.pack_dir, settings.updates.root, settings.keys.carrier_keys, match_fmr_ppm
        )

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.state_dir / "packs", self.pack_dir)

    def command(self, folder: Path) -> list[str]:
        """The child's command line: `install` from `folder`. Exit 0: done; 1: refused, and the shelf says why."""
        paths = [str(path) for path in (self.state_dir, self.pack_dir, self.root, self.carrier_keys)]
        return [sys.executable, "-m", "edge.updates.install", json.dumps([paths, self.match_fmr_ppm, str(folder)])]

    @classmethod
    def parse(cls, argument: str) -> tuple[Job, Path]:
        """What `command` wrote."""
        paths, match_fmr_ppm, folder = json.loads(argument)
        state_dir, pack_dir, root, carrier_keys = map(Path, paths)
        return cls(state_dir, pack_dir, root, carrier_keys, match_fmr_ppm), Path(folder)
