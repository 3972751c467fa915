"""How fast a queue of signed results drains to a local mosquitto, and whether memory stays flat meanwhile.

    python -m tests.benchmarks.drain [--results 10000] [--json]

Real are the journal (synchronous=FULL), both processes' code, the broker with mutual TLS and a carrier that verifies
each result and signs each receipt. Only the camera is missing: the results are synthetic sessions, signed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import tempfile
import time
from pathlib import Path

from edge.evidence.journal import Journal
from edge.evidence.signer import KeyFile
from tests.support.appender import envelope
from tests.support.receiving import ReceivingCarrier
from tests.support.wires import Place, Process, enrolled, until, uplink_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vouch-drain-") as folder:
        figures = measure(Path(folder), options.results)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:28} {value}")


def measure(folder: Path, count: int) -> dict[str, float]:
    """Fill, connect, drain; RSS in MiB is sampled at a tenth and at the end."""
    place = enrolled(folder)
    filled_s = fill(place, count)
    with contextlib.ExitStack() as stack:
        stack.enter_context(place.broker())
        carrier = ReceivingCarrier(place)
        stack.callback(carrier.close)
        terminal = stack.enter_context(
            Process(str(place.config), "0", "0", log=folder / "terminal.log", module="tests.support.appender")
        )
        uplink = stack.enter_context(uplink_process(place))
        until(lambda: waiting(place) < count, 120)
        begun, left = time.perf_counter(), waiting(place)
        until(lambda: waiting(place) <= left - count // 10, 600)
        early = (terminal.rss_mib(), uplink.rss_mib())
        until(lambda: waiting(place) == 0, 1800)
        passed = time.perf_counter() - begun
        late = (terminal.rss_mib(), uplink.rss_mib())
    return {
        "results": count,
        "journal_appends_per_s": round(count / filled_s, 1),
        "drained_per_s": round(left / passed, 1),
        "terminal_rss_mib_at_a_tenth": round(early[0], 1),
        "terminal_rss_mib_at_the_end": round(late[0], 1),
        "uplink_rss_mib_at_a_tenth": round(early[1], 1),
        "uplink_rss_mib_at_the_end": round(late[1], 1),
        "in_order": carrier.order == sorted(carrier.order),
        "sent_more_than_once": len(carrier.order) - len(carrier.results),
    }


def fill(place: Place, count: int) -> float:
    """Seconds for `count` signed appends."""
    signer = KeyFile(place.settings.keys.result_key)
    begun = time.perf_counter()
    with Journal.open(place.settings.journal_path, max_rows=place.settings.journal_max_rows) as journal:
        for _ in range(count):
            journal.append(lambda counter, previous: envelope(signer, counter, previous))
    return time.perf_counter() - begun


def waiting(place: Place) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{place.settings.journal_path}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM outbox").fetchone()[0])


if __name__ == "__main__":
    main()
