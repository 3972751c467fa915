"""Tickets on the disk: they outlive the process, serve exactly once, and never more of them than allowed."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from edge.errors import EvidenceError
from edge.evidence.journal import Journal

ROWS = 1000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def nonce(number):
    return number.to_bytes(32, "big")


def test_tickets_outlive_the_process_and_come_oldest_first(path):
    with Journal.open(path, max_rows=ROWS) as book:
        assert all(book.store_ticket(nonce(n), b"signed %d" % n, limit=5) for n in (3, 1, 2))
        book.age_tickets(3600)
    with Journal.open(path, max_rows=ROWS) as book:
        assert [(t.nonce, t.message, t.age_s) for t in book.tickets()] == [
            (nonce(n), b"signed %d" % n, 3600) for n in (3, 1, 2)
        ]
        assert book.verify_chain().rows == 0


def test_no_more_are_kept_than_allowed_and_none_twice(path):
    with Journal.open(path, max_rows=ROWS) as book:
        assert book.store_ticket(nonce(1), b"m", limit=2)
        assert not book.store_ticket(nonce(1), b"m", limit=2)
        assert book.store_ticket(nonce(2), b"m", limit=2)
        assert not book.store_ticket(nonce(3), b"m", limit=2)
        assert len(book.tickets()) == 2


def test_a_spent_ticket_is_gone_and_cannot_come_back(path):
    with Journal.open(path, max_rows=ROWS) as book:
        book.store_ticket(nonce(1), b"m", limit=2)
        book.spend_nonce(nonce(1), b"session-1")
        assert book.tickets() == []
        with pytest.raises(EvidenceError):
            book.spend_nonce(nonce(1), b"session-1")
        assert not book.store_ticket(nonce(1), b"m", limit=2), "the broker may deliver it again"
    with Journal.open(path, max_rows=ROWS) as book:
        assert book.tickets() == []


SPENDER = """
import sys
from pathlib import Path
from edge.evidence.journal import Journal
book = Journal.open(Path(sys.argv[1]), max_rows=1000)
for ticket in book.tickets():
    book.spend_nonce(ticket.nonce, b"session-1")
    print(ticket.nonce.hex(), flush=True)
"""


def test_a_ticket_that_was_spent_before_the_process_was_killed_stays_spent(path):
    with Journal.open(path, max_rows=ROWS) as book:
        for n in range(200):
            book.store_ticket(nonce(n), b"m", limit=200)
    child = subprocess.Popen([sys.executable, "-c", SPENDER, str(path)], stdout=subprocess.PIPE, text=True)
    spent = [child.stdout.readline().strip() for _ in range(20)]
    child.send_signal(signal.SIGKILL)
    spent += child.stdout.read().split()
    child.wait()
    child.stdout.close()
    with Journal.open(path, max_rows=ROWS) as book:
        left = {ticket.nonce.hex() for ticket in book.tickets()}
        assert not left & {text for text in spent if len(text) == 64}
        for text in spent:
            with pytest.raises(EvidenceError):
                book.spend_nonce(bytes.fromhex(text), b"session-1")


def test_a_journal_of_the_software_before_tickets_gets_room_for_them(path):
    with Journal.open(path, max_rows=ROWS) as book:
        book.spend_nonce(os.urandom(32), b"session-1")
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE tickets")
    with Journal.open(path, max_rows=ROWS) as book:
        assert book.store_ticket(nonce(1), b"m", limit=1)
