"""Either process killed at any moment: what the journal acknowledged arrives, and nothing arrives under two counters."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
import sqlite3
import time
from pathlib import Path

import pytest

from edge.evidence.journal import Journal
from edge.evidence.messages import open_result
from edge.evidence.signer import load_private_key
from simulator.broker import mosquitto_path
from tests.support.receiving import ReceivingCarrier
from tests.support.wires import Place, Process, enrolled, until, uplink_process

pytestmark = [
    pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(300),  # several processes start and are killed: minutes on a busy machine
]


def appender(place: Place, log: Path, count: int, every_s: float = 0.01) -> Process:
    return Process(str(place.config), str(count), str(every_s), log=log, module="tests.support.appender")


def stored(log: Path) -> dict[int, str]:
    """Counter and cti of every result that the process said was on the disk; a torn last line says nothing."""
    said: dict[int, str] = {}
    for line in log.read_text(errors="replace").splitlines():
        parts = line.split()
        if parts[:1] == ["stored"] and len(parts) == 3 and len(parts[2]) == 32:
            assert int(parts[1]) not in said, "one counter for two results"
            said[int(parts[1])] = parts[2]
    return said


def test_kill_9_of_either_process_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    place = enrolled(tmp_path)
    chance = random.Random(1)
    log = tmp_path / "appender.log"
    with place.broker(), contextlib.ExitStack() as stack:
        carrier = ReceivingCarrier(place, forgets=0.2)
        stack.callback(carrier.close)
        terminal = stack.enter_context(appender(place, log, 10_000, 0.03))
        uplink = stack.enter_context(uplink_process(place))
        for turn in range(6):
            more = len(stored(log)) + chance.randrange(5, 60)
            until(lambda more=more: len(stored(log)) >= more, 40)
            time.sleep(chance.uniform(0.0, 0.5))
            if turn % 2:
                terminal.kill()
                terminal = stack.enter_context(appender(place, log, 10_000, 0.03))
            else:
                uplink.kill()
                uplink = stack.enter_context(uplink_process(place))
        terminal.kill()
        terminal = stack.enter_context(appender(place, log, 0))
        said = stored(log)
        assert len(said) > 50, "the test must have had something to lose"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not drained(place):
            time.sleep(0.5)
        terminal.kill()
        assert drained(place), "every result was released by its receipt"
    assert set(said) <= set(carrier.results), "nothing acknowledged is lost"
    assert all(len(different) == 1 for different in carrier.results.values()), "a counter never names two results"
    every = [message for different in carrier.results.values() for message in different]
    assert len({hashlib.sha256(message).digest() for message in every}) == len(carrier.results)
    key = load_private_key(place.settings.keys.result_key).public_key()
    chain = [open_result(next(iter(carrier.results[counter])), key) for counter in sorted(carrier.results)]
    assert [claims.counter for claims in chain] == list(range(1, len(chain) + 1)), "no gap"
    for before, after in itertools.pairwise(chain):
        (message,) = carrier.results[before.counter]
        assert after.previous == hashlib.sha256(message).digest()
    for counter, cti in said.items():
        (message,) = carrier.results[counter]
        assert open_result(message, key).cti.hex() == cti


def drained(place: Place) -> bool:
    """By the file itself, read beside the process that owns it."""
    with contextlib.closing(sqlite3.connect(f"file:{place.settings.journal_path}?mode=ro", uri=True)) as database:
        return database.execute("SELECT count(*) FROM outbox").fetchone()[0] == 0


def test_after_an_outage_of_the_broker_the_queue_drains_in_order(tmp_path: Path) -> None:
    place = enrolled(tmp_path)
    log = tmp_path / "appender.log"
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(place.broker())
        stack.enter_context(uplink_process(place))
        stack.enter_context(appender(place, log, 200, 0.005))
        time.sleep(1.0)
        broker.kill()
        while len(stored(log)) < 200:
            time.sleep(0.2)
        broker.start()
        carrier = ReceivingCarrier(place)
        stack.callback(carrier.close)
        deadline = time.monotonic() + 90
        while not drained(place):
            assert time.monotonic() < deadline
            time.sleep(0.3)
    first_time = list(dict.fromkeys(carrier.order))
    assert first_time == sorted(first_time)
    assert first_time[-1] == 200


def test_a_journal_that_a_killed_process_left_opens_with_its_chain_whole(tmp_path: Path) -> None:
    place = enrolled(tmp_path)
    log = tmp_path / "appender.log"
    for delay_s in (1.2, 1.5):
        with appender(place, log, 10_000, 0.0) as terminal:
            while len(stored(log)) == 0:
                time.sleep(0.05)
            time.sleep(delay_s)
            terminal.kill()
    with Journal.open(place.settings.journal_path, max_rows=100_000) as journal:
        report = journal.verify_chain()
    assert report.unreleased >= len(stored(log)) > 0
