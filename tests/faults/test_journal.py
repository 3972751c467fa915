"""The journal under bad luck: full disk, flipped bits, foreign files, interrupted work, and its own bounds."""

import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from dataclasses import replace

import pytest

from edge import cli
from edge.errors import EvidenceError, JournalError, SignerError
from edge.evidence import claims, cose, journal, messages
from edge.evidence.journal import Envelope, Journal, Release, StoredPolicy, set_aside
from tests.evidence_samples import POLICY, context, key_file, result

ROWS = 1000


def envelope(_counter, _previous, size=700):
    return Envelope(os.urandom(16), b"RESULT" + os.urandom(size))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def book(path):
    with Journal.open(path, max_rows=ROWS) as opened:
        yield opened


def fill(path, count, max_rows=ROWS):
    with Journal.open(path, max_rows=max_rows) as opened:
        return [opened.append(envelope) for _ in range(count)]


def copied(path, folder):
    """The journal's files as a power cut would leave them."""
    folder.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        if path.with_name(name).exists():
            shutil.copy(path.with_name(name), folder)
    return folder / path.name


# --- the chain


def test_counters_have_no_gap_and_each_row_knows_the_hash_before_it(book):
    seen = []

    def remember(counter, previous):
        seen.append((counter, previous))
        return envelope(counter, previous)

    rows = [book.append(remember) for _ in range(5)]
    assert [counter for counter, _ in seen] == [1, 2, 3, 4, 5]
    assert [previous for _, previous in seen] == [bytes(32)] + [
        hashlib.sha256(row.message).digest() for row in rows[:-1]
    ]
    assert book.verify_chain().head == 5


def test_the_chain_goes_on_after_a_restart(path):
    first = fill(path, 3)
    with Journal.open(path, max_rows=ROWS) as again:
        assert [row.message for row in again.pending(10)] == [row.message for row in first]
        assert again.append(envelope).counter == 4
        assert again.verify_chain().rows == 4


def test_the_journal_chains_real_signed_results(book, tmp_path):
    signer = key_file(tmp_path)

    def make(counter, previous):
        cti = os.urandom(16)
        built = claims.build(result(), context(), cti=cti, counter=counter, previous=previous, transcript=bytes(32))
        return Envelope(cti, messages.build_result(built, signer))

    rows = [book.append(make) for _ in range(3)]
    opened = [messages.open_result(row.message, signer.public_key) for row in rows]
    assert [claim.counter for claim in opened] == [1, 2, 3]
    assert [claim.previous for claim in opened[1:]] == [row.digest for row in rows[:-1]]
    assert cose.verify(rows[0].message, signer.public_key, b"vouch/result/1")


def test_a_key_that_fails_leaves_no_trace_and_no_gap(book):
    def fail(_counter, _previous):
        raise SignerError("the token did not sign")

    book.append(envelope)
    with pytest.raises(SignerError):
        book.append(fail)
    assert book.append(envelope).counter == 2
    book.verify_chain()


def test_an_identifier_that_comes_twice_is_refused_and_harms_nothing(book):
    row = book.append(envelope)
    with pytest.raises(JournalError, match="cti"):
        book.append(lambda _counter, _previous: Envelope(row.cti, b"other"))
    assert book.append(envelope).counter == 2
    assert book.verify_chain().rows == 2


# --- release


def test_a_receipt_erases_the_payload_and_keeps_hash_and_counter(book):
    row = book.append(envelope)
    assert book.release(row.cti, row.digest) is Release.RELEASED
    assert book.pending(10) == []
    assert book.release(row.cti, row.digest) is Release.ALREADY
    report = book.verify_chain()
    assert (report.rows, report.unreleased, report.head, report.head_digest) == (1, 0, 1, row.digest)


def test_a_receipt_for_another_message_releases_nothing(book):
    row = book.append(envelope)
    assert book.release(row.cti, bytes(32)) is Release.MISMATCH
    assert book.release(bytes(16), row.digest) is Release.UNKNOWN
    assert book.pending(10) == [row]


def test_released_bytes_are_nowhere_on_the_disk_whatever_the_order(path):
    with Journal.open(path, max_rows=ROWS) as book:
        rows = [book.append(envelope) for _ in range(300)]
        order = rows[:]
        random.Random(5).shuffle(order)
        for row in order[:200]:
            assert book.release(row.cti, row.digest) is Release.RELEASED
        book.erase()
        for _ in range(100):
            book.append(envelope)
        book.erase()
        released = {row.message for row in order[:200]}
        on_disk = b"".join(file.read_bytes() for file in path.parent.iterdir())
        for message in released:
            for at in range(6, len(message) - 24, 24):
                assert message[at : at + 24] not in on_disk
        for row in order[200:]:
            assert row.message in on_disk
        for row in book.pending(ROWS):
            book.release(row.cti, row.digest)
        on_disk = b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert b"RESULT" not in on_disk


def test_pending_results_come_in_order_and_page_by_page(book):
    rows = [book.append(envelope) for _ in range(10)]
    assert book.pending(4) == rows[:4]
    assert book.pending(4, after=rows[3].counter) == rows[4:8]
    book.release(rows[0].cti, rows[0].digest)
    assert book.pending(2) == rows[1:3]
    assert book.pending_count() == 9


# --- bounds


def test_old_released_rows_are_joined_and_the_chain_still_holds(path):
    with Journal.open(path, max_rows=10) as book:
        for _ in range(50):
            row = book.append(envelope)
            book.release(row.cti, row.digest)
        report = book.verify_chain()
        assert (report.rows, report.head) == (10, 50)
    with Journal.open(path, max_rows=10) as book:
        assert book.append(envelope).counter == 51


def test_an_unreleased_result_in_front_outlives_every_pruning(path):
    with Journal.open(path, max_rows=10) as book:
        stuck = book.append(envelope)
        for _ in range(40):
            row = book.append(envelope)
            book.release(row.cti, row.digest)
        assert book.pending(10) == [stuck]
        assert book.verify_chain().rows == 10


def test_a_journal_full_of_unreleased_results_starts_no_session_and_loses_nothing(path):
    with Journal.open(path, max_rows=10) as book:
        rows = [book.append(envelope) for _ in range(10)]
        with pytest.raises(JournalError, match="full") as caught:
            book.probe_writable()
        assert "online" in caught.value.todo
        with pytest.raises(JournalError, match="full"):
            book.append(envelope)
        assert book.pending(20) == rows
        book.release(rows[0].cti, rows[0].digest)
        book.release(rows[1].cti, rows[1].digest)
        book.probe_writable()
        assert book.append(envelope).counter == 11
        book.verify_chain()


# --- nonces, boot, policy


def test_a_nonce_is_spent_once_and_for_ever(path):
    nonce = os.urandom(32)
    with Journal.open(path, max_rows=ROWS) as book:
        book.spend_nonce(nonce, b"session-1")
        with pytest.raises(EvidenceError, match="used before"):
            book.spend_nonce(nonce, b"session-2")
    with Journal.open(path, max_rows=ROWS) as book, pytest.raises(EvidenceError, match="used before"):
        book.spend_nonce(nonce, b"session-3")


def test_the_list_of_nonces_is_bounded(path):
    with Journal.open(path, max_rows=10) as book:
        nonces = [os.urandom(32) for _ in range(25)]
        for nonce in nonces:
            book.spend_nonce(nonce, b"session-1")
        for nonce in nonces[-10:]:
            with pytest.raises(EvidenceError):
                book.spend_nonce(nonce, b"session-1")
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM nonces").fetchone() == (10,)
    db.close()


def test_boots_are_counted_once_for_each_start(path):
    records = []
    for _ in range(3):
        with Journal.open(path, max_rows=ROWS) as book:
            assert book.boot() == book.boot()
            records.append(book.boot())
    assert [record.count for record in records] == [1, 2, 3]
    assert len({record.seed for record in records}) == 3


def policy(signer, version, **changes):
    return messages.build_policy(replace(POLICY, version=version, **changes), signer)


def test_the_policy_version_never_goes_back(path, tmp_path):
    carrier = key_file(tmp_path)
    five, seven = policy(carrier, 5), policy(carrier, 7)
    with Journal.open(path, max_rows=ROWS) as book:
        assert book.stored_policy() is None
        book.store_policy(five, 5)
        book.store_policy(five, 5)
        for message, version in ((policy(carrier, 4), 4), (policy(carrier, 5, attempts=9), 5)):
            with pytest.raises(EvidenceError, match="does not follow"):
                book.store_policy(message, version)
        book.store_policy(seven, 7)
    with Journal.open(path, max_rows=ROWS) as book:
        stored = book.stored_policy()
        assert stored is not None
        assert (stored.version, stored.message) == (7, seven)


def test_a_policy_signed_anew_takes_the_place_of_the_same_text_and_of_no_other(path, tmp_path):
    former, later = key_file(tmp_path, "former.pem"), key_file(tmp_path, "later.pem")
    with Journal.open(path, max_rows=ROWS) as book:
        book.store_policy(policy(former, 5), 5)
        anew = policy(later, 5)
        book.store_policy(anew, 5)
        with pytest.raises(EvidenceError, match="policy version 5 does not follow 5"):
            book.store_policy(policy(later, 5, attempts=9), 5)
        assert book.stored_policy() == StoredPolicy(5, anew)


# --- threads


def test_many_threads_share_one_journal(book):
    receipts = []

    def work():
        for _ in range(10):
            row = book.append(envelope)
            receipts.append(book.release(row.cti, row.digest))
            book.spend_nonce(os.urandom(32), b"session-1")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert receipts == [Release.RELEASED] * 40
    assert book.verify_chain().head == 40


def test_another_process_that_holds_the_file_is_named(book, path, monkeypatch):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    book._db.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(JournalError, match="in use by another process"):
        book.probe_writable()
    other.execute("ROLLBACK")
    other.close()
    book.probe_writable()


# --- full disk


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_disk(ballast):
    size = os.statvfs(ballast.parent)
    with ballast.open("wb", buffering=0) as file:
        for _ in range(size.f_bavail):
            file.write(bytes(size.f_frsize))
    assert os.statvfs(ballast.parent).f_bavail == 0


def test_a_full_disk_starts_no_session_and_loses_nothing(small_disk):
    path = small_disk / "journal.sqlite"
    with Journal.open(path, max_rows=ROWS) as book:
        book.probe_writable()
        rows = [book.append(envelope) for _ in range(20)]
        ballast = small_disk / "ballast"
        fill_disk(ballast)
        with pytest.raises(JournalError, match=r"disk .* is full") as caught:
            book.probe_writable()
        assert "space" in caught.value.todo
        lost = 0
        for _ in range(100):
            try:
                rows.append(book.append(envelope))
            except JournalError:
                lost += 1
        assert lost > 0
    with Journal.open(path, max_rows=ROWS) as book:
        assert book.pending(ROWS) == rows
        ballast.unlink()
        book.probe_writable()
        assert book.append(envelope).counter == len(rows) + 1
        book.verify_chain()


def test_a_journal_is_not_half_made_on_a_full_disk(small_disk):
    ballast = small_disk / "ballast"
    fill_disk(ballast)
    path = small_disk / "journal.sqlite"
    with pytest.raises(JournalError, match="cannot be made"):
        Journal.open(path, max_rows=ROWS)
    assert not path.exists()
    ballast.unlink()
    Journal.open(path, max_rows=ROWS).close()


def test_a_database_that_may_not_grow_says_so_and_keeps_its_chain(book):
    """Runs without root: SQLite itself reports the full disk."""
    rows = [book.append(envelope) for _ in range(3)]
    (pages,) = book._db.execute("PRAGMA page_count").fetchone()
    book._db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    with pytest.raises(JournalError, match=r"disk .* is full"):
        rows.extend(book.append(envelope) for _ in range(50))
    book._db.execute("PRAGMA max_page_count = 100000").fetchone()
    rows.append(book.append(envelope))
    assert book.pending(ROWS) == rows
    book.verify_chain()


def test_a_folder_that_is_absent_or_closed_is_named(tmp_path):
    with pytest.raises(JournalError, match="cannot be made"):
        Journal.open(tmp_path / "absent" / "journal.sqlite", max_rows=ROWS)


# --- damage


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a database",
        os.urandom(8192),
        b"SQLite format 3\0" + bytes(84),
        b"SQLite format 3\0" + os.urandom(8192),
    ],
)
def test_a_file_that_is_no_journal_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(JournalError, match="damaged") as caught:
        Journal.open(path, max_rows=ROWS)
    assert f"vouch evidence set-aside {path}" in caught.value.todo
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_another_programs_database_is_refused_and_left_alone(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE mine (x)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="another program"):
        Journal.open(path, max_rows=ROWS)
    assert path.read_bytes() == before


def test_a_truncated_journal_is_refused(path):
    fill(path, 40)
    whole = path.read_bytes()
    for size in (1, 99, 100, 4096, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(JournalError):
            Journal.open(path, max_rows=ROWS)
        assert path.read_bytes() == whole[:size]


def test_a_journal_whose_main_file_vanished_beside_its_log_is_refused(path, tmp_path):
    with Journal.open(path, max_rows=ROWS) as book:
        book.append(envelope)
        cut = copied(path, tmp_path / "cut")
    cut.unlink()
    with pytest.raises(JournalError, match="is missing, but its log"):
        Journal.open(cut, max_rows=ROWS)
    kept = set_aside(cut)
    assert kept.with_name(f"{kept.name}-wal").exists()
    Journal.open(cut, max_rows=ROWS).close()


def test_a_flipped_bit_is_noticed_or_harms_nothing(path):
    """Every result that comes out is one that went in; every loss is reported."""
    rows = fill(path, 30)
    with Journal.open(path, max_rows=ROWS) as book:
        for row in rows[:10]:
            book.release(row.cti, row.digest)
    whole = path.read_bytes()
    chance, told = random.Random(11), []
    for _ in range(150):
        altered = bytearray(whole)
        altered[chance.randrange(len(altered))] ^= 1 << chance.randrange(8)
        path.write_bytes(altered)
        try:
            with Journal.open(path, max_rows=ROWS) as book:
                assert book.pending(ROWS) == rows[10:]
                assert book.append(envelope).counter == 31
        except JournalError as error:
            told.append(error.todo)
            assert path.read_bytes() == altered
        for name in (f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
    assert all(told)
    assert len(told) > 30


def test_a_damaged_file_beside_a_log_is_left_as_it_is_with_its_log(path, tmp_path):
    with Journal.open(path, max_rows=ROWS) as book:
        for _ in range(40):
            book.append(envelope)
        book.erase()
        for _ in range(5):
            book.append(envelope)
        cut = copied(path, tmp_path / "cut")
    log = cut.with_name(f"{cut.name}-wal")
    altered = bytearray(cut.read_bytes())
    altered[altered.index(b"RESULT") + 50] ^= 4
    cut.write_bytes(altered)
    before = log.read_bytes()
    with pytest.raises(JournalError, match="was altered"):
        Journal.open(cut, max_rows=ROWS)
    assert cut.read_bytes() == altered
    assert log.read_bytes() == before


def test_a_flipped_bit_in_the_log_is_noticed_unless_it_looks_like_the_last_cut(path, tmp_path):
    with Journal.open(path, max_rows=ROWS) as book:
        rows = [book.append(envelope) for _ in range(12)]
        cut = copied(path, tmp_path / "cut")
    log = cut.with_name(f"{cut.name}-wal")
    main, whole = cut.read_bytes(), log.read_bytes()
    chance, noticed = random.Random(13), 0
    for _ in range(100):
        altered = bytearray(whole)
        altered[chance.randrange(len(altered))] ^= 1 << chance.randrange(8)
        cut.write_bytes(main)
        log.write_bytes(altered)
        try:
            with Journal.open(cut, max_rows=ROWS) as book:
                assert book.pending(ROWS) in (rows, rows[:-1])
        except JournalError:
            noticed += 1
            assert log.read_bytes() == altered
    assert noticed > 80


@pytest.mark.timeout(20)
def test_a_log_of_more_bytes_than_we_ever_write_is_refused_unread(path):
    Journal.open(path, max_rows=100).close()
    with path.with_name(path.name + "-wal").open("wb") as file:
        file.truncate(200 * 2**30)
    with pytest.raises(JournalError, match="write-ahead log was altered"):
        Journal.open(path, max_rows=100)


def test_a_log_torn_by_a_power_cut_loses_only_what_was_not_acknowledged(path, tmp_path):
    with Journal.open(path, max_rows=ROWS) as book:
        rows = [book.append(envelope) for _ in range(5)]
        before = path.with_name(f"{path.name}-wal").stat().st_size
        rows.append(book.append(envelope))
        cut = copied(path, tmp_path / "cut")
    log = cut.with_name(f"{cut.name}-wal")
    main, whole = cut.read_bytes(), log.read_bytes()
    for size in range(before, len(whole), 997):
        cut.write_bytes(main)
        log.write_bytes(whole[:size])
        with Journal.open(cut, max_rows=ROWS) as book:
            assert book.pending(ROWS) == rows[:5]
            assert book.append(envelope).counter == 6


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM results WHERE ctr = 2",
        "DELETE FROM results WHERE ctr = 4",
        "DELETE FROM outbox WHERE ctr = 4; DELETE FROM results WHERE ctr = 4; UPDATE state SET rows = 3",
        "UPDATE outbox SET envelope = x'00' WHERE ctr = 3",
        "UPDATE results SET cti = x'00000000000000000000000000000000' WHERE ctr = 3",
        "UPDATE results SET prev = digest WHERE ctr = 2",
        "UPDATE state SET head_ctr = 3",
        "UPDATE state SET rows = 5",
        "INSERT INTO outbox VALUES (9, x'00')",
    ],
)
def test_an_altered_row_breaks_the_chain(path, harm):
    fill(path, 4)
    db = sqlite3.connect(path)
    db.executescript(harm)
    db.close()
    with pytest.raises(JournalError, match="damaged"):
        Journal.open(path, max_rows=ROWS)


def test_a_gap_in_the_counters_is_found_even_where_the_hashes_fit(path):
    with Journal.open(path, max_rows=ROWS) as book:
        for row in [book.append(envelope) for _ in range(3)]:
            book.release(row.cti, row.digest)
    db = sqlite3.connect(path)
    db.executescript("UPDATE results SET ctr = 7, first = 7 WHERE ctr = 3; UPDATE state SET head_ctr = 7")
    db.close()
    with pytest.raises(JournalError, match="breaks at result 7"):
        Journal.open(path, max_rows=ROWS)


def test_an_altered_released_row_is_found_by_the_full_check(path):
    with Journal.open(path, max_rows=ROWS) as book:
        for row in [book.append(envelope) for _ in range(3)]:
            book.release(row.cti, row.digest)
    db = sqlite3.connect(path)
    db.executescript("UPDATE results SET cti = zeroblob(16) WHERE ctr = 2")
    db.close()
    with Journal.open(path, max_rows=ROWS) as book, pytest.raises(JournalError, match="row 2 was altered"):
        book.verify_chain()


def test_a_damaged_journal_is_set_aside_only_on_word_and_whole(path):
    fill(path, 3)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(JournalError):
        Journal.open(path, max_rows=ROWS)
    assert cli.main(["evidence", "set-aside", str(path)]) == 0
    kept = path.with_name(f"{path.name}.aside-1")
    assert kept.stat().st_size == 5000
    assert not path.exists()
    with Journal.open(path, max_rows=ROWS) as book:
        assert book.append(envelope).counter == 1
    assert set_aside(path) != kept
    with pytest.raises(JournalError, match="no such file"):
        set_aside(path)


def test_a_folder_is_not_set_aside(path, capsys):
    fill(path, 1)
    assert cli.main(["evidence", "set-aside", str(path.parent)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert path.exists()


def test_a_journal_of_a_newer_software_is_refused(path):
    fill(path, 1)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError, match="version 99"):
        Journal.open(path, max_rows=ROWS)


def test_only_the_owner_may_read_the_journal(path):
    with Journal.open(path, max_rows=ROWS) as book:
        book.append(envelope)
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file


def test_after_an_input_output_error_the_journal_refuses_all_work(book, monkeypatch):
    """The connection is closed under it: SQLite's answer to every statement is an error that no retry mends."""
    book._db.close()
    with pytest.raises(JournalError):
        book.append(envelope)
    with pytest.raises(JournalError, match="closed database"):
        book.pending(1)


def test_the_journal_writes_with_the_safest_settings(book):
    values = {
        name: book._db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "secure_delete", "temp_store")
    }
    assert values == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "temp_store": 2}
    assert journal.RESERVE_BYTES >= 64 * 4096
