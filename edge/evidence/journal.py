"""What must never be lost or told twice: results until the carrier's receipt, their chain, nonces, tickets, policy.

SQLite, WAL, synchronous=FULL: what a method has returned is on the disk. What an envelope or a policy says, and which
keys sign it, is not known here.

A row of `results` is one result, or a run of released ones: `first..ctr`, the hash before the first, the hash of the
last. Its payload lies in `outbox` until it is released. So the chain stays whole however much is pruned.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from edge import durable
from edge.errors import EvidenceError, JournalError
from edge.evidence import cose, wal

GENESIS = bytes(32)  # `prev` of counter 1
APPLICATION_ID = 0x566F7563  # "Vouc", in the header of the file
SCHEMA_VERSION = 1
RESERVE_BYTES = 256 * 1024  # free on the disk before a session starts: some tens of times what one session writes
_COMFORT_BYTES = 8 * 1024 * 1024  # below this the write-ahead log is folded back before each session
_ERASE_EVERY = 32  # releases between two foldings of the log, while more wait
_BUSY_MS = 5000
_SEAL_SIZE = 8
_APPLICATION_ID_AT = 68  # SQLite file format, section 1.3

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "cell_size_check = ON",
    "trusted_schema = OFF",
    "wal_autocheckpoint = 200",
)
_SCHEMA = """
CREATE TABLE state (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  rows INTEGER NOT NULL, head_ctr INTEGER NOT NULL, head_digest BLOB NOT NULL,
  boot_count INTEGER NOT NULL, probes INTEGER NOT NULL,
  policy_version INTEGER NOT NULL, policy_message BLOB
) STRICT;
CREATE TABLE results (
  ctr INTEGER PRIMARY KEY, first INTEGER NOT NULL, cti BLOB NOT NULL UNIQUE,
  prev BLOB NOT NULL, digest BLOB NOT NULL, seal BLOB NOT NULL
) STRICT;
CREATE TABLE outbox (ctr INTEGER PRIMARY KEY, envelope BLOB NOT NULL) STRICT;
CREATE TABLE nonces (
  seq INTEGER PRIMARY KEY, nonce BLOB NOT NULL UNIQUE, session_id BLOB NOT NULL, boot_count INTEGER NOT NULL
) STRICT;
"""

# Added later, and read by no older software: the version of the file stays.
_TICKETS = """
CREATE TABLE IF NOT EXISTS tickets (
  seq INTEGER PRIMARY KEY, nonce BLOB NOT NULL UNIQUE, message BLOB NOT NULL, age_s INTEGER NOT NULL
) STRICT
"""

_CHAIN = """
SELECT ctr, first, cti, prev, digest, seal, envelope FROM results LEFT JOIN outbox USING (ctr) ORDER BY ctr
"""
_WAITING = "SELECT count(*), count(results.ctr) FROM outbox LEFT JOIN results USING (ctr)"
_MERGEABLE = """
SELECT a.ctr, a.first, a.prev, b.ctr, b.cti, b.digest FROM results a
JOIN results b ON b.ctr = (SELECT min(ctr) FROM results WHERE ctr > a.ctr)
WHERE a.ctr NOT IN (SELECT ctr FROM outbox) AND b.ctr NOT IN (SELECT ctr FROM outbox)
ORDER BY a.ctr LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed result, and the identifier that its receipt will name."""

    cti: bytes  # 16
    message: bytes  # COSE_Sign1


@dataclass(frozen=True, slots=True)
class Row:
    """A result in the journal. `message` is never changed: every retry sends the same bytes."""

    counter: int
    cti: bytes
    digest: bytes  # SHA-256 of message
    message: bytes


class Release(Enum):
    """What a receipt did."""

    RELEASED = "released"  # the payload is gone, hash and counter stay
    ALREADY = "already"  # a second receipt for the same result
    MISMATCH = "mismatch"  # the carrier names other bytes than ours under this cti: kept, somebody must look
    UNKNOWN = "unknown"  # no such result, or released so long ago that its row was pruned


@dataclass(frozen=True, slots=True)
class BootRecord:
    """Claims 267 and 268: how often this journal was opened by the terminal, and random bytes of this time."""

    count: int
    seed: bytes  # 32


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """The newest signed policy. Parse it again when the terminal starts: the journal knows no key."""

    version: int
    message: bytes


@dataclass(frozen=True, slots=True)
class Ticket:
    """A prefetched challenge that waits for a time without a link. Parse it again before it is used."""

    nonce: bytes
    message: bytes  # COSE_Sign1
    age_s: int  # seconds since it came, as far as they were counted; see age_tickets


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What verify_chain found in order."""

    rows: int
    unreleased: int
    head: int  # the last counter; 0 where no result was ever made
    head_digest: bytes


class Journal:
    """One connection behind one lock: every method may be called from any thread, and each is one transaction.

    Methods raise JournalError when the file cannot be written or is damaged. After an input/output error the journal
    refuses all work until it is opened anew, because only reading the disk again tells what was written.
    """

    def __init__(self, database: sqlite3.Connection, path: Path, max_rows: int) -> None:
        """Use `Journal.open`."""
        self._db = database
        self._path = path
        self._max_rows = max_rows
        self._lock = threading.RLock()
        self._broken = ""
        self._unerased = 0
        self._boot: BootRecord | None = None

    @classmethod
    def open(cls, path: Path, *, max_rows: int) -> Journal:
        """Open and check the whole file, or make a new one where there is none. JournalError says what is wrong.

        A file that is damaged or not ours is left as it is, byte by byte; see `set_aside`.
        """
        if not path.exists():
            _create(path)
        _check_header(path)
        # Read-only first: closing the last writing connection folds the log into the file, and would alter the damaged.
        with cls(_connect(path, mode="ro"), path, max_rows) as found:
            found._check()
        journal = cls(_connect(path, mode="rw"), path, max_rows)
        try:
            journal._begin()
        except BaseException:
            journal.close()
            raise
        return journal

    def append(self, make: Callable[[int, bytes], Envelope]) -> Row:
        """Store one result: counter, previous hash and envelope in one transaction. On the disk when it returns.

        `make(counter, previous)` gets the next counter (from 1) and the SHA-256 of the previous envelope (32 zero bytes
        at first), and gives the signed result. What it raises goes through, and nothing is stored; the same counter is
        handed out again, since no signed bytes have left. JournalError "full" when max_rows results wait for receipts.
        """
        with self._transaction() as db:
            rows, head, previous = db.execute("SELECT rows, head_ctr, head_digest FROM state").fetchone()
            rows -= self._merged(db, rows)
            counter = head + 1
            envelope = make(counter, previous)
            digest = hashlib.sha256(envelope.message).digest()
            db.execute(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(counter, counter, envelope.cti, previous, digest),
                    _seal(counter, counter, envelope.cti, previous, digest),
                ),
            )
            db.execute("INSERT INTO outbox VALUES (?, ?)", (counter, envelope.message))
            db.execute("UPDATE state SET rows = ?, head_ctr = ?, head_digest = ?", (rows + 1, counter, digest))
        return Row(counter, envelope.cti, digest, envelope.message)

    def pending(self, limit: int, *, after: int = 0) -> list[Row]:
        """Unreleased results with a counter above `after`, oldest first, at most `limit`."""
        with self._reading() as db:
            found = db.execute(
                "SELECT ctr, cti, digest, envelope FROM outbox JOIN results USING (ctr) "
                "WHERE ctr > ? ORDER BY ctr LIMIT ?",
                (after, limit),
            ).fetchall()
        return [Row(*fields) for fields in found]

    def pending_count(self) -> int:
        """How many results wait for their receipt."""
        with self._reading() as db:
            return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def release(self, cti: bytes, digest: bytes) -> Release:
        """Erase a result's payload because the carrier's verified receipt names its cti and the SHA-256 of its bytes.

        The bytes leave the database at once (secure_delete) and the write-ahead log within 32 releases, or as soon as
        nothing waits any more; `erase` does that now.
        """
        with self._transaction() as db:
            row = db.execute(
                "SELECT ctr, digest, EXISTS (SELECT 1 FROM outbox o WHERE o.ctr = r.ctr) FROM results r WHERE cti = ?",
                (cti,),
            ).fetchone()
            if row is None:
                return Release.UNKNOWN
            counter, own, waits = row
            if own != digest:
                return Release.MISMATCH
            if not waits:
                return Release.ALREADY
            db.execute("DELETE FROM outbox WHERE ctr = ?", (counter,))
            more = db.execute("SELECT EXISTS (SELECT 1 FROM outbox)").fetchone()[0]
        with self._lock:
            self._unerased += 1
            if self._unerased >= _ERASE_EVERY or not more:
                self.erase()
        return Release.RELEASED

    def erase(self) -> bool:
        """Fold the write-ahead log into the database and cut it to nothing, so that released bytes leave the disk.

        False where a reader of another process or a full disk is in the way: nothing is lost, the next call tries it.
        """
        with self._reading() as db:
            try:
                (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError as exc:
                if _name(exc) != "SQLITE_FULL":
                    raise
                return False
            if not busy:
                self._unerased = 0
            return not busy

    def spend_nonce(self, nonce: bytes, session_id: bytes) -> None:
        """Start of a session: mark the challenge's nonce as used, on the disk. EvidenceError when it was used before.

        A ticket with this nonce is gone in the same transaction: it serves once, whatever happens next.
        The last max_rows nonces are kept. A challenge older than those would be noticed by the carrier, which takes one
        result for each nonce.
        """
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM nonces WHERE nonce = ?", (nonce,)).fetchone():
                raise EvidenceError("this challenge was used before", todo="start the order again in the point of sale")
            cursor = db.execute(
                "INSERT INTO nonces (nonce, session_id, boot_count) SELECT ?, ?, boot_count FROM state",
                (nonce, session_id),
            )
            db.execute("DELETE FROM tickets WHERE nonce = ?", (nonce,))
            db.execute("DELETE FROM nonces WHERE seq <= ?", ((cursor.lastrowid or 0) - self._max_rows,))

    def store_ticket(self, nonce: bytes, message: bytes, *, limit: int) -> bool:
        """Keep a verified ticket, on the disk. False when `limit` are here, or this one is here or was spent."""
        with self._transaction() as db:
            (held,) = db.execute("SELECT count(*) FROM tickets").fetchone()
            if held >= limit or db.execute("SELECT 1 FROM nonces WHERE nonce = ?", (nonce,)).fetchone():
                return False
            cursor = db.execute(
                "INSERT OR IGNORE INTO tickets (nonce, message, age_s) VALUES (?, ?, 0)", (nonce, message)
            )
            return cursor.rowcount == 1

    def tickets(self) -> list[Ticket]:
        """All that wait, the oldest first."""
        with self._reading() as db:
            found = db.execute("SELECT nonce, message, age_s FROM tickets ORDER BY seq").fetchall()
        return [Ticket(*fields) for fields in found]

    def age_tickets(self, seconds: int) -> None:
        """Count time that has passed on the monotonic clock, so that a restart forgets little of it."""
        with self._transaction() as db:
            db.execute("UPDATE tickets SET age_s = age_s + ?", (seconds,))

    def drop_ticket(self, nonce: bytes) -> None:
        """Forget a ticket that is too old, or that the carrier's keys no longer cover."""
        with self._transaction() as db:
            db.execute("DELETE FROM tickets WHERE nonce = ?", (nonce,))

    def boot(self) -> BootRecord:
        """The record of this start: the first call counts, later ones give the same."""
        with self._lock:
            if self._boot is None:
                with self._transaction() as db:
                    db.execute("UPDATE state SET boot_count = boot_count + 1")
                    (count,) = db.execute("SELECT boot_count FROM state").fetchone()
                self._boot = BootRecord(count, secrets.token_bytes(32))
            return self._boot

    def store_policy(self, message: bytes, version: int) -> None:
        """Keep a verified policy's signed bytes. The version never goes back, nor names two texts: EvidenceError.

        The same text signed anew replaces the former: when the carrier changes its keys, the former's key goes.
        """
        with self._transaction() as db:
            floor, stored = db.execute("SELECT policy_version, policy_message FROM state").fetchone()
            if message == stored:
                return
            if stored is not None and version <= floor:
                anew = version == floor and cose.parse(message).payload == cose.parse(stored).payload
                if not anew:
                    raise EvidenceError(
                        f"policy version {version} does not follow {floor}", todo="the carrier must send a newer one"
                    )
            db.execute("UPDATE state SET policy_version = ?, policy_message = ?", (version, message))

    def stored_policy(self) -> StoredPolicy | None:
        """The newest policy, None before the first."""
        with self._reading() as db:
            version, message = db.execute("SELECT policy_version, policy_message FROM state").fetchone()
        return None if message is None else StoredPolicy(version, message)

    def probe_writable(self) -> None:
        """JournalError unless a session may start: a row is free, the disk has room, and a write reaches it now."""
        if _free_bytes(self._path) < _COMFORT_BYTES:
            self.erase()
        if _free_bytes(self._path) < RESERVE_BYTES:
            raise JournalError(
                f"the disk of {self._path} is full", todo="free some space; no session starts until then"
            )
        with self._transaction() as db:
            (rows,) = db.execute("SELECT rows FROM state").fetchone()
            self._merged(db, rows, dry=True)
            db.execute("UPDATE state SET probes = probes + 1")

    def verify_chain(self) -> ChainReport:
        """Read every page and row: counters without a gap, each hash, each index. JournalError at a fault.

        `open` checks the same but for indices and the seals of released rows, which nothing can be lost by.
        """
        self._check_pages("integrity_check")
        return self._verified(seals=True)

    def _verified(self, *, seals: bool) -> ChainReport:
        """1. Each row follows the one before. 2. Payloads, and where wanted all seals. 3. The head is where it was."""
        counter, last, rows = 0, GENESIS, 0
        with self._reading() as db:
            for ctr, first, cti, prev, digest, seal, envelope in db.execute(_CHAIN):
                if first != counter + 1 or first > ctr or prev != last:
                    raise self._damaged(f"the chain breaks at result {first}")
                if (seals or envelope is not None) and seal != _seal(ctr, first, cti, prev, digest):
                    raise self._damaged(f"row {ctr} was altered")
                if envelope is not None and hashlib.sha256(envelope).digest() != digest:
                    raise self._damaged(f"result {ctr} was altered")
                counter, last, rows = ctr, digest, rows + 1
            waiting, known = db.execute(_WAITING).fetchone()
            state = db.execute("SELECT rows, head_ctr, head_digest FROM state").fetchone()
        if state != (rows, counter, last) or waiting != known:
            raise self._damaged("rows are missing")
        return ChainReport(rows, waiting, counter, last)

    def close(self) -> None:
        """Fold the log back and close the file. Safe to call twice."""
        with self._lock, suppress(sqlite3.Error):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _merged(self, db: sqlite3.Connection, rows: int, *, dry: bool = False) -> int:
        """Make room for one row by joining neighbouring released rows: how many rows fewer. JournalError "full"."""
        if rows < self._max_rows:
            return 0
        (waiting,) = db.execute("SELECT count(*) FROM outbox").fetchone()
        if waiting >= self._max_rows:
            raise JournalError(
                f"the journal is full: {waiting} results wait for the carrier's receipt",
                todo="bring the terminal online; no session starts until results are received",
            )
        merged = 0
        while not dry and rows - merged >= self._max_rows:
            pair = db.execute(_MERGEABLE).fetchone()
            if pair is None:  # released rows stand between unreleased ones: never more rows than twice max_rows
                break
            a_ctr, first, prev, ctr, cti, digest = pair
            db.execute("DELETE FROM results WHERE ctr = ?", (a_ctr,))
            db.execute(
                "UPDATE results SET first = ?, prev = ?, seal = ? WHERE ctr = ?",
                (first, prev, _seal(ctr, first, cti, prev, digest), ctr),
            )
            merged += 1
        return merged

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._broken:
                raise JournalError(f"{self._path}: {self._broken}", todo="restart the terminal; it checks the journal")
            try:
                yield self._db
            except sqlite3.Error as exc:
                raise self._translated(exc) from exc

    def _translated(self, exc: sqlite3.Error) -> JournalError:
        name = _name(exc)
        if name == "SQLITE_FULL":
            return JournalError(
                f"the disk of {self._path} is full", todo="free some space; no session starts until then"
            )
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return JournalError(f"{self._path} is in use by another process", todo="stop the other process")
        if name.startswith("SQLITE_CONSTRAINT"):
            return JournalError(f"{self._path}: {exc}", todo="report it: the terminal made the same identifier twice")
        self._broken = f"{exc} ({name})" if name else str(exc)
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self._damaged(str(exc))
        return JournalError(
            f"{self._path} cannot be written: {self._broken}", todo="check the disk and the file's permissions"
        )

    def _damaged(self, what: str) -> JournalError:
        self._broken = what
        return _damaged(self._path, what)

    def _check(self) -> None:
        try:
            self._check_version()
            self._check_pages("quick_check")
            self._verified(seals=False)  # the links of all rows, all of those that can still be lost
        except (ValueError, TypeError, OverflowError) as exc:  # damage may reach as far as Python's own conversions
            raise self._damaged(f"{type(exc).__name__} while reading") from exc

    def _begin(self) -> None:
        with self._reading() as db:
            for pragma in _PRAGMAS:
                db.execute(f"PRAGMA {pragma}").fetchall()
            db.execute(_TICKETS)
        self.erase()  # what a cut has torn in the log must not meet the next cut

    def _check_version(self) -> None:
        with self._reading() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            raise JournalError(
                f"{self._path} has version {version}; this terminal knows {SCHEMA_VERSION}",
                todo="install the software that wrote it",
            )

    def _check_pages(self, pragma: str) -> None:
        with self._reading() as db:
            (verdict,) = db.execute(f"PRAGMA {pragma}(1)").fetchone()
        if verdict != "ok":
            raise self._damaged(verdict)


def set_aside(path: Path) -> Path:
    """Rename a damaged journal with its log, so that a new one can begin: only on a technician's explicit word.

    The carrier will see the counter start again, and asks for the old file. The new name; JournalError if that fails.
    """
    if path.is_dir():  # of the whole terminal, keys and all, at worst
        raise JournalError(f"{path} is a folder", todo="name the journal's own file")
    parts = [suffix for suffix in ("", "-wal", "-shm") if path.with_name(path.name + suffix).exists()]
    if not parts:
        raise JournalError(f"{path}: no such file", todo="name the journal's own file")
    number = 1
    while any(path.parent.glob(f"{path.name}.aside-{number}*")):
        number += 1
    target = path.with_name(f"{path.name}.aside-{number}")
    try:
        for suffix in parts:  # the main file first: should we be stopped here, its log alone still refuses to open
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
        _sync_directory(path.parent)
    except OSError as exc:
        raise JournalError(f"{path} cannot be renamed: {exc.strerror}", todo="check the disk and permissions") from exc
    return target


def _create(path: Path) -> None:
    """A new journal under another name first: whatever stops us, no half-made file has the journal's name."""
    draft = path.with_name(path.name + ".new")
    log = path.with_name(path.name + "-wal")
    if log.exists():
        raise JournalError(f"{path} is missing, but its log {log.name} is there", todo=_todo(path))
    try:
        for suffix in ("", "-wal", "-shm", "-journal"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        database = sqlite3.connect(draft, isolation_level=None)
        try:
            database.executescript(
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
                f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN; {_SCHEMA} COMMIT;"
            )
            database.execute("INSERT INTO state VALUES (1, 0, 0, ?, 0, 0, 0, NULL)", (GENESIS,))
        finally:
            database.close()
        descriptor = os.open(draft, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.rename(path)
        _sync_directory(path.parent)
    except (OSError, sqlite3.Error) as exc:
        raise JournalError(
            f"{path} cannot be made: {exc}",
            todo="check the folder, its permissions and the space on its disk; then restart the terminal",
        ) from exc


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
    except sqlite3.Error as exc:
        raise JournalError(f"{path} cannot be opened: {exc}", todo="check the disk and the file's permissions") from exc


def _check_header(path: Path) -> None:
    try:
        with durable.open_plain(path, linked=True) as file:  # SQLite would wait for a pipe
            header = file.read(100)
        log_damaged = wal.is_damaged(path.with_name(path.name + "-wal"))
    except OSError as exc:
        raise JournalError(f"{path} cannot be read: {exc.strerror}", todo="check the file's permissions") from exc
    if not header.startswith(b"SQLite format 3\0"):
        raise _damaged(path, "it is no database")
    if log_damaged:
        raise _damaged(path, "its write-ahead log was altered")
    if int.from_bytes(header[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4], "big") != APPLICATION_ID:
        raise _damaged(path, "it is another program's database")


def _damaged(path: Path, what: str) -> JournalError:
    return JournalError(f"{path} is damaged: {what}", todo=_todo(path))


def _todo(path: Path) -> str:
    return f"stop the terminal; `vouch evidence set-aside {path}` renames the file, to be kept for the carrier"


def _name(exc: sqlite3.Error) -> str:
    """SQLite's name of the error; empty where Python's own module raised it."""
    return getattr(exc, "sqlite_errorname", "")


def _seal(ctr: int, first: int, cti: bytes, prev: bytes, digest: bytes) -> bytes:
    """8 bytes over what no other hash of the row covers: finds a flipped bit, hinders no forger."""
    counters = ctr.to_bytes(8, "big") + first.to_bytes(8, "big")
    return hashlib.sha256(counters + cti + prev + digest).digest()[:_SEAL_SIZE]


def _free_bytes(path: Path) -> int:
    numbers = os.statvfs(path.parent)
    return numbers.f_bavail * numbers.f_frsize


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
