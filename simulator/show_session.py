"""`vouch-sim session`: plays one scenario, says what came of it, and on request writes it down; it judges nothing."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from edge.drivers.camera import Image
from edge.errors import ConfigError
from edge.session import machine
from edge.session.observation import Observation
from simulator.play import Terminal, play, save
from simulator.report import Report
from simulator.scenario import Scenario, load
from simulator.study.session import CUES, Row, summed_up


def show_session(scenario_path: Path, pack_dir: Path, record: Path | None, video: Path | None, *, as_json: bool) -> int:
    """Exit code 0 where the session ended as the scenario expects, or expects nothing; 1 where it ended otherwise."""
    scenario = load(scenario_path)
    terminal = Terminal.open(pack_dir)
    film = _Film(video, scenario.fps) if video else None
    started = time.perf_counter()
    played = play(scenario, terminal, record=record is not None, on_frame=film.frame if film else None)
    wall_s = time.perf_counter() - started
    if film:
        film.close()
    if record:
        save(record, scenario, terminal, played)
    row = summed_up(scenario, played, wall_s=wall_s)
    good = scenario.expected is None or scenario.expected == row.outcome
    if as_json:
        print(json.dumps({**row.to_json(), "expected": scenario.expected}))
        return 0 if good else 1
    _tell(Report(sys.stdout), scenario, row, played.result.steps, good=good)
    for path in (record, video):
        if path:
            print(f"  written: {path}")
    return 0 if good else 1


def _tell(report: Report, scenario: Scenario, row: Row, steps: tuple[str, ...], *, good: bool) -> None:
    report.heading(f"{scenario.name}: {row.outcome}", "as expected" if scenario.expected and good else "")
    if not good:
        report.line(f"  expected {scenario.expected}")
    told = scenario.attack
    who = f"the person of seed {scenario.person.seed}"
    if told is not None:
        who = f"{told.species.value}, {told.strength.value}, of the person of seed {scenario.holder}"
    report.fact("before the camera", who)
    report.fact("light, skin", f"{row.light}, {row.tone}")
    report.fact("reasons", ", ".join(row.reasons) or "none")
    report.fact("failed actions", ", ".join(row.failures) or "none")
    report.fact("duration", f"{row.duration_s:.1f} s, {row.frames} frames (played in {row.wall_s:.1f} s)")
    for cue, said in row.cues.items():
        margin = row.margins.get(cue)
        report.fact(f"cue {cue}", said if margin is None or cue not in {*CUES.values(), "comparison"} else
                    f"{said}   ({margin:.2f} of what is asked)")  # fmt: skip
    report.line("  steps (ms)")
    for step in steps:
        report.line(f"    {step}")
    if told is not None:
        report.line("  A simulated attack: no evidence about physical ones.")


@dataclass
class _Film:
    """A video of what the camera saw, with what the screen asked for written on it."""

    path: Path
    fps: float
    _writer: cv2.VideoWriter | None = field(default=None)

    def frame(self, image: Image, _seen: Observation, screen: machine.Screen | None) -> None:
        height, width = image.shape[:2]
        if self._writer is None:
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, (width, height))
            if not self._writer.isOpened():
                raise ConfigError(f"{self.path} cannot be written", todo="name an .mp4 file in a folder that exists")
        shown = image.copy()
        if screen is not None:
            asked = screen.action.name.lower() if screen.action else screen.guidance or ""
            words = f"{screen.phase.value}  {asked}"
            cv2.putText(shown, words, (10, height - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.putText(shown, words, (10, height - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
        self._writer.write(shown)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
