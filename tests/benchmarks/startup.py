"""How long `vouch run` takes from its start until it is ready, and the memory of both processes.

    python -m tests.benchmarks.startup CLIP.mp4 [--pack FOLDER] [--json]

The CPU seconds are what the same start costs on a machine that does nothing else. The camera is a video file, because
opening one takes no driver's time.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from edge.config import DEFAULT_PACK
from tests.support.wires import Process, enrolled, until, uplink_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--pack", type=Path, default=DEFAULT_PACK)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vouch-startup-") as folder:
        figures = measure(Path(folder), options.clip.resolve(), options.pack.resolve())
    print(json.dumps(figures) if options.json else "\n".join(f"{name:28} {value}" for name, value in figures.items()))


def measure(folder: Path, clip: Path, pack: Path) -> dict[str, float]:
    place = enrolled(folder, extra=f'\n[kiosk]\nport = 0\n\n[camera]\nsource = "file:{clip}"\n')
    place.config.write_text(f'pack_dir = "{pack}"\n' + place.config.read_text())
    begun = time.monotonic()
    with (
        Process("run", "--config", str(place.config), log=folder / "run.log") as terminal,
    ):
        until(lambda: any(event["event"] == "ready" for event in terminal.events()), 60)
        ready_s = time.monotonic() - begun
        cpu_s = cpu_seconds(terminal.pid)
        with uplink_process(place) as uplink:
            until(lambda: any(event["event"] == "terminal-here" for event in uplink.events()), 60)
            time.sleep(1.0)
            return {
                "ready_s": round(ready_s, 2),
                "ready_cpu_s": round(cpu_s, 2),
                "terminal_rss_mib": round(terminal.rss_mib(), 1),
                "uplink_rss_mib": round(uplink.rss_mib(), 1),
            }


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
