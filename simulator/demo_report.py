"""What the demo prints: the page's prompts as they come, each result as the carrier verified it, a table of times."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from simulator.film import Role
from simulator.kiosk_client import KioskClient
from simulator.report import Report, Tone

LOOK_EACH_MS = 20.0  # how often the demo looks whether something happened: no time is known better


@dataclass(frozen=True, slots=True)
class Scene:
    """One session. `expected` None: real input, whatever comes out is right."""

    title: str
    role: Role | None
    expected: str | None


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a scene: the carrier's word, the terminal's measurements, and times seen from outside."""

    scene: Scene
    order: dict[str, Any]  # the carrier's API
    measured: dict[str, Any]  # the terminal's own numbers; empty where it tells none
    asked_s: float | None  # from the order until the page asked for consent
    at_carrier_s: float  # from the order
    released_s: float | None  # from the order; None: not released

    @property
    def outcome(self) -> str:
        return str(self.order["result"]["claims"]["outcome"])

    @property
    def as_expected(self) -> bool:
        """The outcome, and that the carrier found no fault and the journal let go."""
        fits = self.scene.expected is None or self.outcome == self.scene.expected
        return fits and bool(self.order["trusted"]) and self.released_s is not None


def as_json(good: bool, played: list[Played]) -> str:
    """The same for programs."""
    rows = [
        {
            "title": one.scene.title,
            "expected": one.scene.expected,
            "outcome": one.outcome,
            "as_expected": one.as_expected,
            "released": one.released_s is not None,
            "at_carrier_s": round(one.at_carrier_s, 3),
            "released_s": one.released_s and round(one.released_s, 3),
            "result": one.order["result"],
            "measured": one.measured,
        }
        for one in played
    ]
    return json.dumps({"as_expected": good, "sessions": rows}, indent=2)


class Follower:
    """Prints what the kiosk page shows as it changes, and presses consent as the customer would."""

    def __init__(self, report: Report, kiosk: KioskClient, begun: float, *, press: bool) -> None:
        self._report = report
        self._kiosk = kiosk
        self._begun = begun
        self._press = press
        self._shown = ""
        self.asked_s: float | None = None
        kiosk.changes()  # what was before this session is not of it

    def look(self) -> None:
        for seen in self._kiosk.changes():
            phase, words = seen.view["phase"], _words(seen.view)
            if words and words != self._shown:
                self._shown = words
                self._report.step(seen.at_s - self._begun, phase, words)
                if phase == "consent" and self.asked_s is None:
                    self.asked_s = seen.at_s - self._begun
                    if self._press:
                        self._kiosk.consent()


_ACTIONS = {
    "turn-left": "turn your head to your left",
    "turn-right": "turn your head to your right",
    "blink": "close your eyes for a moment",
    "mouth-open": "open your mouth",
    "look-up": "look up",
    "exposure": "hold still",
}
_FOLLOWED = ("document", "position", "challenge", "checking", "done")


def _words(view: dict[str, Any]) -> str:
    """What the page says, in short; empty where it says nothing worth a line."""
    match view["phase"]:
        case "consent":
            return "asks for consent"
        case "document":
            return f"card: {_spaced(view['card'])}" if view["card"] else "reads the document's portrait"
        case "position":
            return _spaced(view["guidance"] or "face into the oval")
        case "challenge" if view["action"]:
            guidance = f" ({_spaced(view['guidance'])})" if view["guidance"] else ""
            return f"{view['step']} of {view['steps']}: {_ACTIONS.get(view['action'], view['action'])}{guidance}"
        case "challenge" if view["guidance"]:
            return f"{view['step']} of {view['steps']}: {_spaced(view['guidance'])}"
        case "checking":
            return "compares, decides, signs"
        case "done":
            return f"the person reads: {view['outcome']}"
        case _:
            return ""


def _spaced(word: str) -> str:
    return word.replace("-", " ")


def print_result(report: Report, played: Played) -> None:
    result = played.order["result"]
    claims = result["claims"]
    verdict = "as expected" if played.as_expected else "NOT as expected"
    tone = Tone.GOOD if played.as_expected else Tone.BAD
    if played.scene.expected is None:
        verdict, tone = "", Tone.STRONG
    report.line()
    report.fact("result", f"{report.paint(played.outcome, tone)}  {report.paint(verdict, Tone.SOFT)}")
    trust = "its own challenge, once and in time, history unbroken" if result["trusted"] else "NOT to be trusted"
    key = f"ES256 signature {result['signature']}, {result['bytes']} bytes, counter {result['counter']}"
    report.fact("carrier verified", f"{key}: {trust}")
    if result["alarms"]:
        report.fact("alarms", report.paint(", ".join(result["alarms"]), Tone.BAD))
    released = (
        "NOT released"
        if played.released_s is None
        else f"verified by the terminal, result released {_release(played)} later"
    )
    report.fact("signed receipt", released)
    report.fact(
        "claims",
        f"liveness {claims['pad']} (band {claims['pad_band']}), injection {claims['injection']}, "
        f"comparison {claims['match']} (band {claims['match_band']})",
    )
    done = ", ".join(f"{one['kind']} {'done' if one['ok'] else 'failed'}" for one in claims["challenges"]) or "none"
    report.fact("", f"challenges: {done}")
    report.fact(
        "",
        f"reasons: {', '.join(claims['reasons']) or 'none'}; consent {_yes(claims['consent_given'])}; "
        f"policy {claims['policy_id']} {claims['policy_version']}; mode {claims['mode']}; fresh {claims['fresh']}",
    )
    if "scores" in played.measured:
        report.fact("terminal measured", _measured_words(played.measured))
        report.fact("", report.paint("(for developers, about a simulated person; never sent)", Tone.SOFT))


def _measured_words(measured: dict[str, Any]) -> str:
    scores = measured.get("scores") or {}
    parts = [
        f"{name} {scores[field]:.2f}" + (f" (threshold {scores['match_threshold']:.2f})" if field == "score" else "")
        for field, name in (
            ("score", "comparison"),
            ("relief", "relief"),
            ("passive", "passive"),
            ("continuity", "one person"),
        )
        if scores.get(field) is not None
    ]
    return ", ".join(parts) or "no score was reached"


def print_summary(
    report: Report, played: list[Played], alarms: list[dict[str, Any]], total_s: float, *, good: bool
) -> None:
    """How long each stage took, a column for each session, and the verdict."""
    report.heading("How long each stage took")
    phases = [name for name in _FOLLOWED if any(name in one.measured.get("stage_s", {}) for one in played)]
    rows = [["ordered to asked for consent", *(_seconds(one.asked_s) for one in played)]]
    rows += [[name, *(_seconds(one.measured.get("stage_s", {}).get(name)) for one in played)] for name in phases]
    rows += [
        ["last frame to result on disk", *(_milliseconds(one.measured.get("decision_ms")) for one in played)],
        ["ordered to verified by carrier", *(_seconds(one.at_carrier_s) for one in played)],
        ["verified to released", *(_release(one) for one in played)],
        ["vision, mean of a frame", *(_milliseconds(one.measured.get("vision_ms")) for one in played)],
        ["frames", *(str(one.measured.get("frames", "-")) for one in played)],
    ]
    rows = [row for row in rows if any(cell != "-" for cell in row[1:])]
    report.table(["", *(f"session {number}" for number in range(1, len(played) + 1))], rows)
    report.line()
    if alarms:
        for alarm in alarms:
            report.fact("alarm", report.paint(f"{alarm['kind']}: {alarm['detail']}", Tone.BAD))
    counts = f"{sum(one.as_expected for one in played)} of {len(played)} sessions as expected"
    if all(one.scene.expected is None for one in played):
        counts = f"{played[-1].outcome}: real input, nothing was expected"
    text = f"{counts}, {len(alarms)} alarms, {total_s:.0f} s in all"
    report.line(report.paint(text, Tone.GOOD if good else Tone.BAD))


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _release(played: Played) -> str:
    if played.released_s is None:
        return "-"
    later_ms = 1000 * (played.released_s - played.at_carrier_s)
    return f"< {LOOK_EACH_MS:.0f} ms" if later_ms < LOOK_EACH_MS else f"{later_ms:.0f} ms"


def _yes(value: bool) -> str:
    return "given" if value else "not given"
