"""`vouch-sim study`: carries a plan out and writes its report; counting is report.py's."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from edge.errors import ConfigError
from simulator.study.plan import PRESENTATIONS, Plan
from simulator.study.report import write_report
from simulator.study.run import carry_out, count_remembered, print_progress


def study(
    plan: Plan,
    species: list[str] | None,
    folder: Path,
    pack_dir: Path,
    *,
    workers: int,
    minutes: float | None = None,
) -> int:
    """Exit code 0; ConfigError for a species that does not exist, numbers below 1, or a folder with another study.

    After `minutes` no more is played, and what there is by then is reported; the next call goes on from there.
    """
    if species:
        known = {one.value: one for one in PRESENTATIONS}
        strange = [name for name in species if name not in known]
        if strange:
            raise ConfigError(f"no such species: {', '.join(strange)}", todo=f"choose from {', '.join(known)}")
        plan = replace(plan, species=tuple(known[name] for name in species))
    if min(plan.bona_fide, plan.attacks) < 0 or workers < 1 or not 5 <= plan.fps <= 60:
        raise ConfigError("a study needs counts from 0, a worker, and 5 to 60 frames a second", todo="see --help")
    started = time.monotonic()
    before = count_remembered(plan, folder)
    if before:
        print(f"{before} sessions were played before: going on", file=sys.stderr)
    progress = partial(print_progress, started_with=before)
    limit_s = None if minutes is None else 60 * minutes
    rows, setup = carry_out(plan, folder, pack_dir, workers=workers, progress=progress, limit_s=limit_s)
    paths = write_report(rows, setup, plan, folder, wall_s=time.monotonic() - started)
    print(paths[0].read_text(encoding="utf-8"))
    print("written: " + ", ".join(str(path) for path in paths), file=sys.stderr)
    return 0
