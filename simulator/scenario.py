"""One session's cast and circumstances, from a TOML file or drawn from a seed; nothing is filmed or judged here."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.errors import ConfigError
from simulator.person.identity import Identity
from simulator.person.motion import Obedience
from simulator.room import Lighting
from simulator.species import Species, Strength

SCENARIOS = Path(__file__).resolve().parent / "scenarios"

# Luminance (linear, BGR weights of Rec. 709) that parts the Monk scale's range into three: as sRGB, 198 and 132.
_LIGHT_SKIN, _MEDIUM_SKIN = 0.45, 0.16


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PersonTable(_Table):
    """The live person: an honest one, or the attacker."""

    seed: int = Field(ge=0)
    obeys: Obedience = Obedience.PROMPTLY


class DocumentTable(_Table):
    """Whose document it is; None: the live person's own. `chip`: the 102 x 126 pixel picture of an ID chip."""

    seed: int | None = Field(default=None, ge=0)
    chip: bool = False


class RoomTable(_Table):
    seed: int = Field(default=0, ge=0)


class LightTable(_Table):
    kind: Lighting = Lighting.SHOP


class AttackTable(_Table):
    species: Species
    strength: Strength = Strength.ORDINARY
    seed: int = Field(default=0, ge=0)  # of how it was made and is handled


class FaultTable(_Table):
    """`lost`: share of frames that never come. `jitter_ms`: of the timestamps (standard deviation)."""

    lost: float = Field(default=0.0, ge=0, le=0.9)
    jitter_ms: float = Field(default=0.4, ge=0, le=20)
    jpeg_quality: int | None = Field(default=None, ge=20, le=100)


class Scenario(_Table):
    """Everything that a session is drawn from: the same scenario gives the same session."""

    name: str = Field(default="unnamed", min_length=1, max_length=80)
    expected: str | None = Field(default=None, pattern="^(match|no-match|liveness-fail|inconclusive|error)$")
    challenge: int = Field(default=0, ge=0)  # seed of the carrier's nonce
    fps: float = Field(default=30.0, ge=5, le=60)
    person: PersonTable
    document: DocumentTable = DocumentTable()
    room: RoomTable = RoomTable()
    light: LightTable = LightTable()
    attack: AttackTable | None = None
    faults: FaultTable = FaultTable()

    @model_validator(mode="after")
    def _attacks_are_attacks(self) -> Scenario:
        if self.attack is not None and not self.attack.species.attack:
            raise ValueError(f"a {self.attack.species.value} is no attack: leave [attack] away")
        return self

    @property
    def species(self) -> Species:
        return self.attack.species if self.attack else Species.PERSON

    @property
    def holder(self) -> int:
        """Seed of the person on the document: the one whom an attack shows."""
        return self.person.seed if self.document.seed is None else self.document.seed

    @property
    def nonce(self) -> bytes:
        return np.random.default_rng([8101, self.challenge]).bytes(32)


def load(path: Path) -> Scenario:
    """Read and validate a scenario; ConfigError names the file, the setting and what it should be."""
    if not path.exists() and (SCENARIOS / f"{path}.toml").is_file():
        path = SCENARIOS / f"{path}.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        known = ", ".join(sorted(p.stem for p in SCENARIOS.glob("*.toml")))
        raise ConfigError(f"there is no scenario {path}", todo=f"name a TOML file, or one of: {known}") from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}", todo="mend the file; it must be TOML") from exc
    return parse(raw, str(path))


def parse(raw: dict[str, Any], origin: str) -> Scenario:
    """ConfigError names `origin` and what is wrong there."""
    try:
        return Scenario.model_validate(raw)
    except ValidationError as exc:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors(include_input=False))
        raise ConfigError(f"{origin}: {wrong}", todo="mend these settings") from exc


def skin_tone(who: Identity) -> str:
    """light, medium or dark: the group that reports count by."""
    blue, green, red = who.skin
    luminance = 0.0722 * blue + 0.7152 * green + 0.2126 * red
    if luminance >= _LIGHT_SKIN:
        return "light"
    return "medium" if luminance >= _MEDIUM_SKIN else "dark"
