"""SIGKILL at any moment: nothing acknowledged is lost, the chain holds, no counter is given twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.evidence.journal import Journal

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_ROWS = 40

CHILD = """
import os, sys
from pathlib import Path
from edge.evidence.journal import Envelope, Journal, Release

def say(verb, row):  # one write: either the whole line was said or nothing of it
    os.write(1, f"{verb} {row.counter} {row.digest.hex()}\\n".encode())

def make(counter, previous):
    return Envelope(os.urandom(16), counter.to_bytes(8, "big") + previous + os.urandom(600))

def release(row):
    say("releasing", row)
    assert book.release(row.cti, row.digest) is Release.RELEASED
    say("released", row)

with Journal.open(Path(sys.argv[1]), max_rows=int(sys.argv[2])) as book:
    os.write(1, b"ready\\n")
    while True:
        row = book.append(make)
        say("appended", row)
        if row.counter % 3:
            release(row)
        elif book.pending_count() > 20:
            release(book.pending(1)[0])
"""


def said_before_the_kill(path, lines, more_s):
    """Kill a child that many lines and a moment after it began, however fast the machine is."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(MAX_ROWS)],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == b"ready\n"
        said = [child.stdout.readline() for _ in range(lines)]
        time.sleep(more_s)
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    return [
        (verb, int(counter), bytes.fromhex(digest))
        for verb, counter, digest in (line.decode().split() for line in said)
    ]


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path):
    path, chance = tmp_path / "journal.sqlite", random.Random(17)
    digests: dict[int, bytes] = {}
    releasing: set[int] = set()
    released: set[int] = set()
    for _ in range(12):
        for verb, counter, digest in said_before_the_kill(path, chance.randrange(40), chance.uniform(0.0, 0.02)):
            assert digests.setdefault(counter, digest) == digest, "one counter, two results"
            if verb != "appended":
                (releasing if verb == "releasing" else released).add(counter)
        last = max(digests, default=0)
        with Journal.open(path, max_rows=MAX_ROWS) as book:
            report = book.verify_chain()
            pending = {row.counter: row for row in book.pending(1000)}
        # at most one result more than was said: the kill came between the disk and the word
        assert last <= report.head <= last + 1
        if report.head > last:
            digests[report.head] = report.head_digest
        assert digests[report.head] == report.head_digest
        assert not released & pending.keys()
        assert digests.keys() - pending.keys() <= releasing, "a result is gone that nobody released"
        for counter, row in pending.items():
            assert row.digest == digests[counter]
            assert row.message[:8] == counter.to_bytes(8, "big")
            assert row.message[8:40] == digests.get(counter - 1, bytes(32))
    assert len(digests) > 50
