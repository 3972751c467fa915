"""Counts a study's rows and writes them down with intervals: Markdown, JSON, plots; sessions are played elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simulator.species import Species
from simulator.study.intervals import clopper_pearson
from simulator.study.plan import Plan
from simulator.study.plots import Bar, draw_bars
from simulator.study.run import Setup
from simulator.study.session import COMPARISON, CUES, FAIL, PASS, RESPONSE, Row

WARNING = (
    "These attacks are simulated: rendered sheets, screens, masks and people before a rendered camera. They are no "
    "evidence of APCER on physical attacks, nor of BPCER on real people."
)
CUE_NAMES = (*CUES.values(), RESPONSE, COMPARISON)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its Clopper-Pearson 95 % interval."""

    hits: int
    trials: int

    @property
    def share(self) -> float:
        return self.hits / self.trials if self.trials else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return clopper_pearson(self.hits, self.trials)

    def __str__(self) -> str:
        if not self.trials:
            return "none played"
        low, high = self.interval
        return f"{100 * self.share:.1f} % [{100 * low:.1f}, {100 * high:.1f}] ({self.hits} of {self.trials})"

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {"hits": self.hits, "trials": self.trials, "share": round(self.share, 5),
                "low": round(low, 5), "high": round(high, 5)}  # fmt: skip


def rate(rows: Iterable[Row], hit: Callable[[Row], bool]) -> Rate:
    """How many of the rows are hits."""
    marks = [hit(row) for row in rows]
    return Rate(sum(marks), len(marks))


def taken_for_bona_fide(row: Row) -> bool:
    """The numerator of APCER: the attack check passed and every action was answered."""
    return row.bona_fide


def accepted(row: Row) -> bool:
    return row.outcome == "match"


def taken_for_attack(row: Row) -> bool:
    """The numerator of BPCER."""
    return row.outcome == "liveness-fail"


def no_response(row: Row) -> bool:
    """Neither this nor that: time was over, quality did not do, or the camera was lost."""
    return row.outcome in {"inconclusive", "error", "cancelled"}


def write_report(rows: Sequence[Row], setup: Setup, plan: Plan, folder: Path, *, wall_s: float) -> list[Path]:
    """report.md, report.json and two plots in `folder`; their paths."""
    told = summary(rows, setup, plan, wall_s=wall_s)
    paths = [folder / name for name in ("report.md", "report.json", "rates.png", "cues.png")]
    paths[0].write_text(as_markdown(rows, told), encoding="utf-8")
    paths[1].write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    _plot_rates(rows, paths[2])
    _plot_cues(rows, paths[3])
    return paths


def summary(rows: Sequence[Row], setup: Setup, plan: Plan, *, wall_s: float) -> dict[str, Any]:
    """Everything that is counted, as JSON."""
    honest, attacks = _honest(rows), _attacks(rows)
    seeds = plan.people.first_seed
    return {
        "warning": WARNING,
        "setup": setup.to_json(),
        "seeds": [seeds, seeds + max(plan.bona_fide, plan.attacks) - 1],
        "command": plan.command,
        "sessions": {"played": len(rows), "planned": sum(1 for _ in plan.scenarios())},
        "played_s_a_session": round(float(np.mean([row.wall_s for row in rows])), 2) if rows else None,
        "wall_s": round(wall_s),
        "bona_fide": _honest_rates(honest),
        "bona_fide_by_light": {light: _honest_rates(part) for light, part in _by(honest, "light").items()},
        "bona_fide_by_tone": {tone: _honest_rates(part) for tone, part in _by(honest, "tone").items()},
        "attacks": {species: _attack_rates(part) for species, part in _by(attacks, "species").items()},
        "attacks_by_strength": {
            species: {strength: _attack_rates(some) for strength, some in _by(part, "strength").items()}
            for species, part in _by(attacks, "species").items()
        },
        "attacks_by_light": {light: _attack_rates(part) for light, part in _by(attacks, "light").items()},
        "attacks_by_tone": {tone: _attack_rates(part) for tone, part in _by(attacks, "tone").items()},
        "cues": {species: _cue_rates(part) for species, part in _by(rows, "species").items()},
        "duration_s": _durations(honest),
        "duration_s_by_obedience": {obeys: _durations(part) for obeys, part in _by(honest, "obeys").items()},
        "sensor_s": _seconds([row.sensor_s for row in honest if row.sensor_s is not None]),
        "reasons": {
            species: dict(Counter(reason for row in part for reason in row.reasons).most_common())
            for species, part in _by(rows, "species").items()
        },
    }


def as_markdown(rows: Sequence[Row], told: dict[str, Any]) -> str:
    """The report for people."""
    honest, attacks = _honest(rows), _attacks(rows)
    setup = told["setup"]
    intro = (
        f"`{told['command']}`: people of the set *{setup['people']}*, seeds {told['seeds'][0]} to {told['seeds'][1]} "
        f"(the other set shares nobody with it), camera at {setup['fps']:g} frames a second, pack "
        f"`{setup['pack'][:12]}`, policy {setup['policy']}. {_how_many(told)}; one took "
        f"{told['played_s_a_session']} s to play. Intervals are Clopper-Pearson, 95 %."
    )
    apcer = (
        "APCER: the attack check passed and all actions were answered, whatever the comparison said. The worst species "
        "counts."
    )
    alone = (
        "Share of sessions that this cue **alone** refuses, whatever the others say; for honest people that is its "
        "false rejection. A cue that had not run when the session ended refuses nothing."
    )
    lines = [
        "# Study of simulated presentations",
        "",
        f"**{WARNING}**",
        "",
        intro,
        "",
        "## Honest people",
        "",
        *_table(
            ("", "BPCER", "no response", "matched", "sensor check failed"),
            [("all", honest), *_parts(honest, "light"), *_parts(honest, "tone")],
            (taken_for_attack, no_response, accepted, lambda row: row.cues["sensor"] == FAIL),
        ),
        "",
        _duration_line(told),
        "",
        "BPCER: taken for an attack. No response: nothing could be said. A session holds up to three failed actions.",
        "",
        "## Attacks",
        "",
        *_table(
            ("species", "APCER", "accepted (match)", "no response"),
            [(species, part) for species, part in _by(attacks, "species").items()],
            (taken_for_bona_fide, accepted, no_response),
        ),
        "",
        apcer,
        "",
        *_table(
            ("APCER by strength, light, skin tone", "APCER", "accepted (match)"),
            [
                *[
                    (f"{species}, {strength}", some)
                    for species, part in _by(attacks, "species").items()
                    for strength, some in _by(part, "strength").items()
                ],
                *_parts(attacks, "light"),
                *_parts(attacks, "tone"),
            ],
            (taken_for_bona_fide, accepted),
        ),
        "",
        "## What every cue buys",
        "",
        alone,
        "",
        *_cue_table(rows),
        "",
        "## Why sessions failed",
        "",
        *[f"- {species}: {_reasons(part)}" for species, part in told["reasons"].items()],
        "",
        "![rates](rates.png)",
        "",
        "![cues](cues.png)",
        "",
    ]
    return "\n".join(lines)


def _how_many(told: dict[str, Any]) -> str:
    """So that nobody takes a study that was stopped for the whole of it."""
    played, planned = told["sessions"]["played"], told["sessions"]["planned"]
    if played == planned:
        return f"{played} sessions"
    return f"**{played} of the plan's {planned} sessions: the study was stopped, and goes on with the same command**"


def _honest(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.species == Species.PERSON.value]


def _attacks(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.species != Species.PERSON.value]


def _by(rows: Iterable[Row], name: str) -> dict[str, list[Row]]:
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(getattr(row, name), []).append(row)
    return parts


def _parts(rows: Iterable[Row], name: str) -> list[tuple[str, list[Row]]]:
    return [(f"{'light' if name == 'light' else 'skin'}: {key}", part) for key, part in sorted(_by(rows, name).items())]


def _honest_rates(rows: list[Row]) -> dict[str, Any]:
    return {
        "bpcer": rate(rows, taken_for_attack).to_json(),
        "no_response": rate(rows, no_response).to_json(),
        "matched": rate(rows, accepted).to_json(),
        "not_matched_though_live": rate(rows, lambda row: row.outcome == "no-match").to_json(),
        "sensor_failed": rate(rows, lambda row: row.cues["sensor"] == FAIL).to_json(),
    }


def _attack_rates(rows: list[Row]) -> dict[str, Any]:
    return {
        "apcer": rate(rows, taken_for_bona_fide).to_json(),
        "accepted": rate(rows, accepted).to_json(),
        "no_response": rate(rows, no_response).to_json(),
    }


def _cue_rates(rows: list[Row]) -> dict[str, Any]:
    return {
        cue: {
            "refuses": rate(rows, lambda row, cue=cue: row.cues.get(cue) == FAIL).to_json(),  # type: ignore[misc]
            "passes": rate(rows, lambda row, cue=cue: row.cues.get(cue) == PASS).to_json(),  # type: ignore[misc]
        }
        for cue in CUE_NAMES
    }


def _durations(rows: list[Row]) -> dict[str, float] | None:
    return _seconds([row.duration_s for row in rows if accepted(row)])


def _seconds(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    median, high = np.percentile(values, [50, 95])
    return {"median": round(float(median), 2), "p95": round(float(high), 2), "max": round(max(values), 2)}


def _duration_line(told: dict[str, Any]) -> str:
    whole, sensor = told["duration_s"], told["sensor_s"]
    if whole is None:
        return "No honest session matched."
    text = f"A matched session takes {whole['median']} s (median), {whole['p95']} s (95th percentile)"
    text += f"; the sensor check in it {sensor['median']} s, at most {sensor['max']} s." if sensor else "."
    for obeys, part in told["duration_s_by_obedience"].items():
        if obeys and part is not None:
            text += f" Of those who obey {obeys}: {part['median']} s and {part['p95']} s."
    return text


def _table(
    head: Sequence[str], parts: Sequence[tuple[str, list[Row]]], hits: Sequence[Callable[[Row], bool]]
) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += [f"| {name} | " + " | ".join(str(rate(rows, hit)) for hit in hits) + " |" for name, rows in parts]
    return lines


def _cue_table(rows: Sequence[Row]) -> list[str]:
    lines = ["| species | " + " | ".join(CUE_NAMES) + " |", "|" + "---|" * (len(CUE_NAMES) + 1)]
    for species, part in _by(rows, "species").items():
        shares = [rate(part, lambda row, cue=cue: row.cues.get(cue) == FAIL) for cue in CUE_NAMES]  # type: ignore[misc]
        cells = []
        for share in shares:
            low, high = share.interval
            cells.append(f"{100 * share.share:.0f} % [{100 * low:.0f}, {100 * high:.0f}]")
        lines.append(f"| {species} | " + " | ".join(cells) + " |")
    return lines


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items()) or "none"


def _plot_rates(rows: Sequence[Row], path: Path) -> None:
    honest, attacks = _honest(rows), _attacks(rows)
    bars = [Bar("honest people", None)]
    bars += [Bar("BPCER", rate(honest, taken_for_attack)), Bar("no response", rate(honest, no_response))]
    bars += [Bar(name, rate(part, lambda row: not accepted(row)), soft=True) for name, part in _parts(honest, "light")]
    bars += [Bar(name, rate(part, lambda row: not accepted(row)), soft=True) for name, part in _parts(honest, "tone")]
    bars.append(Bar("attacks: APCER", None))
    bars += [Bar(species, rate(part, taken_for_bona_fide)) for species, part in _by(attacks, "species").items()]
    draw_bars(path, "Error rates with 95 % intervals; pale: honest and not matched", bars)


def _plot_cues(rows: Sequence[Row], path: Path) -> None:
    bars = []
    for cue in CUE_NAMES:
        bars.append(Bar(f"{cue} alone refuses", None))
        bars += [
            Bar(
                species,
                rate(part, lambda row, cue=cue: row.cues.get(cue) == FAIL),  # type: ignore[misc]
                soft=species != Species.PERSON.value,
            )
            for species, part in _by(rows, "species").items()
        ]
    draw_bars(path, "What every cue alone refuses (dark: honest people, a false rejection)", bars, columns=3)
