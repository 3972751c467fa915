"""Plays a plan's sessions on several processes and remembers each as a line of JSON, to go on from after a stop."""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2

from edge.errors import ConfigError
from simulator.play import Terminal
from simulator.scenario import Scenario
from simulator.study.plan import Plan
from simulator.study.session import Row, run

SESSIONS = "sessions.jsonl"


@dataclass(frozen=True, slots=True)
class Setup:
    """What makes two studies comparable: their sessions may share a folder only where all of this is the same."""

    people: str
    fps: float
    pack: str
    policy: str

    def to_json(self) -> dict[str, Any]:
        return {"people": self.people, "fps": self.fps, "pack": self.pack, "policy": self.policy}


Progress = Callable[[int, int, Row, float], None]


def carry_out(
    plan: Plan, folder: Path, pack_dir: Path, *, workers: int, progress: Progress, limit_s: float | None = None
) -> tuple[list[Row], Setup]:
    """All rows of the plan, played now or before, and what they share. ConfigError: the folder holds another study.

    After `limit_s` seconds no more is played: the rows are those there are. `progress` is told how many sessions are
    there, of how many, the newest, and the seconds since the start.
    """
    setup = _setup(plan, pack_dir)
    rows = _remembered(folder, setup)
    wanted = list(plan.scenarios())
    missing = [scenario for scenario in wanted if scenario.name not in rows]
    started = time.monotonic()
    played = _played(missing, pack_dir, workers)
    with (folder / SESSIONS).open("a", encoding="utf-8") as file, closing(played):
        for row in played if limit_s is None or limit_s > 0 else ():
            rows[row.name] = row
            file.write(json.dumps(row.to_json(), separators=(",", ":")) + "\n")
            file.flush()
            done = sum(scenario.name in rows for scenario in wanted)
            progress(done, len(wanted), row, time.monotonic() - started)
            if limit_s is not None and time.monotonic() - started > limit_s:
                break
    return [rows[scenario.name] for scenario in wanted if scenario.name in rows], setup


def count_remembered(plan: Plan, folder: Path) -> int:
    """How many of the plan's sessions a folder may hold already; nothing is checked yet."""
    path = folder / SESSIONS
    if not path.exists():
        return 0
    names = {scenario.name for scenario in plan.scenarios()}
    text = path.read_text(encoding="utf-8")
    return sum(f'"name":"{name}"' in text for name in names)


def print_progress(done: int, wanted: int, row: Row, passed_s: float, started_with: int = 0) -> None:
    """One line a session, on standard error."""
    played = max(done - started_with, 1)
    left_min = passed_s / played * (wanted - done) / 60
    print(
        f"{done:5d}/{wanted}  {row.name:28} {row.outcome:14} {', '.join(row.reasons) or '-':45} "
        f"{row.duration_s:5.1f} s  (played in {row.wall_s:.1f} s; {left_min:.0f} min left)",
        file=sys.stderr,
        flush=True,
    )


def _setup(plan: Plan, pack_dir: Path) -> Setup:
    terminal = Terminal.open(pack_dir)
    told = terminal.policy
    policy = f"{told.id} {told.version} fmr {told.match_fmr_ppm} ppm, {told.challenge_count} actions"
    terminal.vision.close()
    return Setup(plan.people.value, plan.fps, terminal.pack_digest, policy)


def _remembered(folder: Path, setup: Setup) -> dict[str, Row]:
    """Rows of a study that was begun here; a new folder is made. A half-written last line is dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SESSIONS
    if not path.exists():
        path.write_text(json.dumps(setup.to_json()) + "\n", encoding="utf-8")
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[-1]:  # the process was killed while it wrote
        path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    try:
        before = json.loads(lines[0])
        rows = [Row.from_json(json.loads(line)) for line in lines[1:-1]]
    except (ValueError, TypeError, KeyError) as exc:
        raise ConfigError(f"{path} is no study: {exc}", todo="name another folder with --out") from exc
    if before != setup.to_json():
        changed = ", ".join(name for name, value in setup.to_json().items() if before.get(name) != value)
        raise ConfigError(f"{folder} holds a study with another {changed}", todo="name another folder with --out")
    return {row.name: row for row in rows}


def _played(scenarios: list[Scenario], pack_dir: Path, workers: int) -> Generator[Row]:
    if workers <= 1:
        cv2.setNumThreads(1)
        terminal = Terminal.open(pack_dir)
        yield from (run(scenario, terminal) for scenario in scenarios)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_begin) as pool:
        yield from pool.imap_unordered(partial(_work, pack_dir), scenarios, chunksize=1)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    cv2.setNumThreads(1)


def _work(pack_dir: Path, scenario: Scenario) -> Row:
    return run(scenario, _opened(pack_dir))


@lru_cache(maxsize=1)
def _opened(pack_dir: Path) -> Terminal:
    """Once in each worker process."""
    return Terminal.open(pack_dir)
