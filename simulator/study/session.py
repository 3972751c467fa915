"""One session of a study as one line of numbers; the order of sessions is plan.py's, counting them report.py's."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from edge.session.decision import CheckOutcome, Reason
from edge.session.machine import SessionMeasures
from edge.words import word_of
from simulator.person import draw_identity
from simulator.play import Played, Terminal, play
from simulator.scenario import Scenario, skin_tone

CUES = {
    Reason.PASSIVE_ATTACK: "passive",
    Reason.FLAT_FACE: "depth",
    Reason.IDENTITY_CHANGED: "continuity",
    Reason.SENSOR_MISMATCH: "sensor",
}
RESPONSE, COMPARISON = "response", "comparison"
PASS, FAIL, OPEN = "pass", "fail", "open"


@dataclass(frozen=True, slots=True)
class Row:
    """What a study remembers of a session. `cues`: what each would have said alone; `margins`: by how much."""

    name: str
    species: str
    strength: str  # "" for honest people
    light: str
    tone: str
    outcome: str
    pad: str
    reasons: tuple[str, ...]
    failures: tuple[str, ...]
    duration_s: float
    frames: int
    wall_s: float
    cues: dict[str, str]
    margins: dict[str, float | None]
    sensor_s: float | None = None
    obeys: str = ""  # how the honest person does what is asked; "" for attacks, and where an older study did not tell

    @property
    def bona_fide(self) -> bool:
        """Whether the attack check took it for a live person: a match, or another person than on the document."""
        return self.outcome in {"match", "no-match"}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Row:
        """TypeError or KeyError where the line is of another shape."""
        told = {**line, "reasons": tuple(line["reasons"]), "failures": tuple(line["failures"])}
        return cls(**told)


def run(scenario: Scenario, terminal: Terminal) -> Row:
    """Play it and sum it up."""
    started = time.perf_counter()
    played = play(scenario, terminal)
    return summed_up(scenario, played, wall_s=time.perf_counter() - started)


def summed_up(scenario: Scenario, played: Played, *, wall_s: float = 0.0) -> Row:
    """What is told of a session, without pictures and templates."""
    result, measures = played.result, played.measures
    return Row(
        name=scenario.name,
        species=scenario.species.value,
        strength=scenario.attack.strength.value if scenario.attack else "",
        light=scenario.light.kind.value,
        tone=_tone(scenario.holder),
        outcome=word_of(result.outcome),
        pad=word_of(result.pad),
        reasons=tuple(word_of(r) for r in result.reasons),
        failures=tuple(word_of(r) for r in measures.failures),
        duration_s=round(measures.duration_s, 3),
        frames=played.frames,
        wall_s=round(wall_s, 2),
        cues=_cues(played),
        margins=_margins(measures),
        sensor_s=_sensor_s(result.steps),
        obeys="" if scenario.attack else scenario.person.obeys.value,
    )


def _cues(played: Played) -> dict[str, str]:
    """What every cue alone says of the session, whatever the others said."""
    result, measures = played.result, played.measures
    cues = {name: _of(dict(measures.margins).get(reason)) for reason, name in CUES.items()}
    cues["sensor"] = {CheckOutcome.PASS: PASS, CheckOutcome.FAIL: FAIL}.get(measures.injection, OPEN)
    people = [record for record in result.challenges if record.kind.name != "EXPOSURE"]
    if people and all(record.ok for record in people):
        cues[RESPONSE] = PASS
    else:
        given_up = {Reason.CHALLENGE_TIMEOUT, Reason.CHALLENGE_TOO_EARLY, Reason.CHALLENGE_WRONG_ACTION}
        cues[RESPONSE] = FAIL if measures.failures and given_up & set(result.reasons) else OPEN
    if measures.score is None or measures.match_threshold is None:
        cues[COMPARISON] = OPEN
    else:
        cues[COMPARISON] = PASS if measures.score >= measures.match_threshold else FAIL
    return cues


def _margins(measures: SessionMeasures) -> dict[str, float | None]:
    told = {CUES.get(reason, word_of(reason)): margin for reason, margin in measures.margins}
    if measures.score is not None and measures.match_threshold:
        told[COMPARISON] = measures.score / measures.match_threshold
    return {name: None if m is None or not math.isfinite(m) else round(m, 3) for name, m in told.items()}


def _of(margin: float | None) -> str:
    if margin is None:
        return OPEN
    return PASS if margin >= 1 else FAIL


def _sensor_s(steps: tuple[str, ...]) -> float | None:
    """Seconds from the first exposure step to the first action, by the step log."""
    at = {name: int(ms) for ms, _, name in (step.partition(" ") for step in reversed(steps))}
    first = at.get("exposure")
    after = min((ms for name, ms in at.items() if name.startswith("step 1")), default=None)
    return None if first is None or after is None else (after - first) / 1000


@lru_cache(maxsize=64)
def _tone(seed: int) -> str:
    return skin_tone(draw_identity(seed))
