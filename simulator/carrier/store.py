"""The carrier's records in SQLite: terminals, orders, results, alarms, policies, packs; no judgement, no network."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import ConfigError
from simulator.carrier.judgement import Alarm, Finding, IssuedOrder, Known, Statement, is_trusted

_SCHEMA = """
CREATE TABLE IF NOT EXISTS terminals(
  id TEXT PRIMARY KEY, site TEXT NOT NULL, result_key TEXT NOT NULL, portrait_key TEXT NOT NULL,
  enrolled_at INTEGER NOT NULL, seen_at INTEGER, status TEXT) STRICT;
CREATE TABLE IF NOT EXISTS orders(
  id TEXT PRIMARY KEY, terminal TEXT NOT NULL REFERENCES terminals(id), reference TEXT NOT NULL,
  nonce BLOB NOT NULL UNIQUE, session BLOB NOT NULL, issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
  ticket INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE IF NOT EXISTS results(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, terminal TEXT NOT NULL REFERENCES terminals(id), cti BLOB NOT NULL,
  ctr INTEGER NOT NULL, digest BLOB NOT NULL UNIQUE, previous BLOB NOT NULL, nonce BLOB NOT NULL,
  envelope BLOB NOT NULL, claims TEXT NOT NULL, trusted INTEGER NOT NULL, received_at INTEGER NOT NULL,
  times INTEGER NOT NULL DEFAULT 1, receipts INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX IF NOT EXISTS results_by_counter ON results(terminal, ctr);
CREATE INDEX IF NOT EXISTS results_by_nonce ON results(nonce);
CREATE TABLE IF NOT EXISTS alarms(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, terminal TEXT NOT NULL, kind TEXT NOT NULL,
  detail TEXT NOT NULL, digest BLOB, closed_at INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS policies(
  digest BLOB PRIMARY KEY, id TEXT NOT NULL, version INTEGER NOT NULL, message BLOB NOT NULL,
  signed_at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS packs(digest BLOB PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS requests(id BLOB PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS enrolments(
  digest BLOB PRIMARY KEY, terminal TEXT NOT NULL, at INTEGER NOT NULL, request BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS retirements(terminal TEXT PRIMARY KEY, at INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
"""

SELF_TEST = "self-test"  # reference of an order that asks nobody
_SCHEMA_VERSION = 1  # rises with a change that an older carrier would misread
_IS_SELF_TEST = "(CASE WHEN json_valid(claims) THEN json_extract(claims, '$.mode') = 'self-test' ELSE 0 END)"
# By name: a column that a later carrier added is none of ours.
_TERMINALS = "SELECT id, site, result_key, portrait_key, enrolled_at, seen_at, status FROM terminals"
_ORDERS = "SELECT id, terminal, reference, nonce, session, issued_at, expires_at, ticket FROM orders"
_RESULTS = (
    "SELECT seq, terminal, cti, ctr, digest, previous, nonce, envelope, claims, trusted, received_at, times, receipts"
    " FROM results"
)
_ALARMS = "SELECT seq, at, terminal, kind, detail, digest, closed_at FROM alarms"


@dataclass(frozen=True, slots=True)
class Terminal:
    """One enrolled terminal; keys are PEM."""

    id: str
    site: str
    result_key: str
    portrait_key: str
    enrolled_at: int
    seen_at: int | None = None
    status: str | None = None  # JSON text of its last status message


@dataclass(frozen=True, slots=True)
class Order:
    """A number that waits for its person. `reference` is the shop's own."""

    id: str
    terminal: str
    reference: str
    nonce: bytes
    session: bytes
    issued_at: int
    expires_at: int
    ticket: bool = False  # issued ahead: its result names an order of its own


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A verified result. `claims` are by name, as JSON types; {"unreadable": ...} where the file is damaged there."""

    seq: int
    terminal: str
    cti: bytes
    ctr: int
    digest: bytes
    previous: bytes
    nonce: bytes
    envelope: bytes
    claims: Mapping[str, Any]
    trusted: bool
    received_at: int
    times: int  # how often the same bytes came
    receipts: int  # how many receipts were handed to the broker


@dataclass(frozen=True, slots=True)
class StoredAlarm:
    seq: int
    at: int
    terminal: str
    kind: Alarm | str  # text: a kind that a later carrier knows
    detail: str
    digest: bytes | None
    closed_at: int | None


class Store:
    """One database, one connection, one writer at a time; any thread may call."""

    def __init__(self, path: Path | str) -> None:
        """`path`: a file, or ":memory:". ConfigError: it cannot be opened, is something else, or of a later carrier."""
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as exc:
            raise _unusable(path, exc) from exc
        try:
            self._prepare(path)
        except sqlite3.Error as exc:
            self._db.close()
            raise _unusable(path, exc) from exc
        except ConfigError:
            self._db.close()
            raise

    def _prepare(self, path: Path | str) -> None:
        """A receipt promises that the result is kept: hence synchronous=FULL."""
        self._db.text_factory = lambda text: text.decode(errors="replace")  # one damaged row must not hide the others
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise ConfigError(
                f"{path} was written by a later carrier: its records have version {version}, ours {_SCHEMA_VERSION}",
                todo="install that carrier again, or name another file",
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._db.executescript(_SCHEMA)
        if "ticket" not in {row["name"] for row in self._rows("PRAGMA table_info(orders)")}:
            self._db.execute("ALTER TABLE orders ADD COLUMN ticket INTEGER NOT NULL DEFAULT 0")
        if version < _SCHEMA_VERSION:
            self._db.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block or nothing of it."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def version(self) -> str:
        """Another with every change, of ours or of another process: the page asks whether there is something new."""
        with self._lock:
            (others,) = self._db.execute("PRAGMA data_version").fetchone()
            return f"{self._db.total_changes}-{others}"

    # Terminals

    def add_terminal(self, terminal: Terminal) -> None:
        """Enrol; a terminal that exists gets the new site and keys (its counter goes on)."""
        self._write(
            "INSERT INTO terminals(id, site, result_key, portrait_key, enrolled_at) VALUES (?,?,?,?,?)"
            " ON CONFLICT(id) DO UPDATE SET site=excluded.site, result_key=excluded.result_key,"
            " portrait_key=excluded.portrait_key, enrolled_at=excluded.enrolled_at",
            (terminal.id, terminal.site, terminal.result_key, terminal.portrait_key, terminal.enrolled_at),
        )

    def terminal(self, terminal_id: str) -> Terminal | None:
        rows = self._rows(_TERMINALS + " WHERE id=?", (terminal_id,))
        return Terminal(**rows[0]) if rows else None

    def terminals(self) -> list[Terminal]:
        return [Terminal(**row) for row in self._rows(_TERMINALS + " ORDER BY enrolled_at, id")]

    def note_seen(self, terminal_id: str, now: int, status: str | None = None) -> None:
        """Remember a sign of life, and the status message where it was one."""
        self._write("UPDATE terminals SET seen_at=?, status=COALESCE(?, status) WHERE id=?", (now, status, terminal_id))

    def add_enrolment(self, digest: bytes, terminal_id: str, now: int, request: bytes) -> None:
        """Keep the signed request that a bundle answered."""
        self._write("INSERT OR IGNORE INTO enrolments VALUES (?,?,?,?)", (digest, terminal_id, now, request))

    def retire(self, terminal_id: str, now: int, record: bytes) -> None:
        """Keep a terminal's last signed word; the first counts."""
        self._write("INSERT OR IGNORE INTO retirements VALUES (?,?,?)", (terminal_id, now, record))

    def retired_at(self, terminal_id: str) -> int | None:
        rows = self._rows("SELECT at FROM retirements WHERE terminal=?", (terminal_id,))
        return rows[0]["at"] if rows else None

    # Orders

    def add_order(self, order: Order) -> None:
        self._write(
            "INSERT INTO orders(id, terminal, reference, nonce, session, issued_at, expires_at, ticket)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (
                *(order.id, order.terminal, order.reference, order.nonce, order.session),
                *(order.issued_at, order.expires_at, order.ticket),
            ),
        )

    def remove_order(self, order_id: str) -> None:
        self._write("DELETE FROM orders WHERE id=?", (order_id,))

    def order(self, order_id: str) -> Order | None:
        rows = self._rows(_ORDERS + " WHERE id=?", (order_id,))
        return _order(rows[0]) if rows else None

    def orders(self, limit: int = 100) -> list[Order]:
        """The newest first; tickets are no orders."""
        rows = self._rows(_ORDERS + " WHERE ticket=0 ORDER BY rowid DESC LIMIT ?", (limit,))
        return [_order(row) for row in rows]

    def references(self, terminal_id: str) -> list[str]:
        """The order numbers known for a terminal, the newest first."""
        rows = self._rows(
            "SELECT reference FROM orders WHERE terminal=? AND ticket=0 ORDER BY rowid DESC", (terminal_id,)
        )
        return [row["reference"] for row in rows]

    def living_tickets(self, terminal_id: str, now: int) -> int:
        """How many tickets of a terminal could still be used."""
        rows = self._rows(
            "SELECT count(*) AS living FROM orders o WHERE terminal=? AND ticket=1 AND expires_at>=?"
            " AND NOT EXISTS (SELECT 1 FROM results r WHERE r.nonce=o.nonce)",
            (terminal_id, now),
        )
        return int(rows[0]["living"])

    def note_request(self, request_id: bytes) -> bool:
        """Remember a terminal's request; False where it was answered before."""
        with self._lock:
            return self._db.execute("INSERT OR IGNORE INTO requests VALUES (?)", (request_id,)).rowcount == 1

    def order_of(self, nonce: bytes) -> Order | None:
        rows = self._rows(_ORDERS + " WHERE nonce=?", (nonce,))
        return _order(rows[0]) if rows else None

    # Policies and packs

    def add_policy(self, digest: bytes, policy_id: str, version: int, message: bytes, now: int) -> None:
        """A policy that is known already is kept with its newest signature: keys change more often than policies."""
        self._write(
            "INSERT INTO policies VALUES (?,?,?,?,?) ON CONFLICT(digest) DO UPDATE SET message=excluded.message",
            (digest, policy_id, version, message, now),
        )

    def knows_policy(self, digest: bytes) -> bool:
        return bool(self._rows("SELECT 1 FROM policies WHERE digest=?", (digest,)))

    def newest_policy(self) -> bytes | None:
        """The signed message of the policy that was added last."""
        rows = self._rows("SELECT message FROM policies ORDER BY version DESC, rowid DESC LIMIT 1")
        return bytes(rows[0]["message"]) if rows else None

    def add_pack(self, digest: bytes) -> None:
        self._write("INSERT OR IGNORE INTO packs VALUES (?)", (digest,))

    # Results

    def repeat_of(self, digest: bytes) -> StoredResult | None:
        """The stored result with exactly these bytes, counted once more; None where there is none."""
        self._write("UPDATE results SET times=times+1 WHERE digest=?", (digest,))
        return self.result(digest)

    def known(self, statement: Statement, now: int) -> Known:
        """What the rules need to judge a statement."""
        order = self.order_of(statement.nonce)
        answered = bool(self._rows("SELECT 1 FROM results WHERE nonce=? LIMIT 1", (statement.nonce,)))
        chain = self._rows(
            "SELECT ctr, digest, previous FROM results WHERE terminal=? AND ctr BETWEEN ? AND ? ORDER BY seq DESC",
            (statement.terminal, statement.ctr - 1, statement.ctr + 1),
        )
        by_counter = {row["ctr"]: row for row in chain}  # the oldest of a fork wins
        before, after = by_counter.get(statement.ctr - 1), by_counter.get(statement.ctr + 1)
        highest = self._rows("SELECT MAX(ctr) AS top FROM results WHERE terminal=?", (statement.terminal,))
        return Known(
            now=now,
            order=IssuedOrder(
                order.terminal,
                order.expires_at,
                answered,
                self_test=order.reference == SELF_TEST,
                ticket=order.ticket,
            )
            if order
            else None,
            policy=self.knows_policy(statement.policy_digest),
            pack=bool(self._rows("SELECT 1 FROM packs WHERE digest=?", (statement.pack_digest,))),
            highest_ctr=highest[0]["top"] or 0,
            same_ctr=statement.ctr in by_counter,
            before=bytes(before["digest"]) if before else None,
            after=bytes(after["previous"]) if after else None,
        )

    def add_result(
        self,
        statement: Statement,
        cti: bytes,
        envelope: bytes,
        claims: Mapping[str, Any],
        findings: tuple[Finding, ...],
        now: int,
    ) -> None:
        """Keep the result and raise its alarms; a gap that it fills is closed."""
        self._write(
            "INSERT INTO results(terminal, cti, ctr, digest, previous, nonce, envelope, claims, trusted, received_at)"
            " VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                *(statement.terminal, cti, statement.ctr, statement.digest, statement.previous, statement.nonce),
                *(envelope, json.dumps(claims), is_trusted(findings), now),
            ),
        )
        for finding in findings:
            self.add_alarm(statement.terminal, finding, now, statement.digest)
        self._close_gaps(statement.terminal, now)

    def note_receipt(self, digest: bytes) -> None:
        self._write("UPDATE results SET receipts=receipts+1 WHERE digest=?", (digest,))

    def result(self, digest: bytes) -> StoredResult | None:
        found = self._results(_RESULTS + " WHERE digest=?", (digest,))
        return found[0] if found else None

    def result_for(self, nonce: bytes) -> StoredResult | None:
        """The first answer to a challenge."""
        found = self._results(_RESULTS + " WHERE nonce=? ORDER BY seq LIMIT 1", (nonce,))
        return found[0] if found else None

    def results(self, limit: int = 100) -> list[StoredResult]:
        """The newest first."""
        return self._results(_RESULTS + " ORDER BY seq DESC LIMIT ?", (limit,))

    def count(self, terminal: str) -> tuple[int, int]:
        """(results of sessions, self-tests) that this terminal sent."""
        (row,) = self._rows(
            f"SELECT COUNT(*) AS every, COALESCE(SUM({_IS_SELF_TEST}), 0) AS tests"  # noqa: S608 - ours
            " FROM results WHERE terminal=?",
            (terminal,),
        )
        return row["every"] - row["tests"], row["tests"]

    # Alarms

    def add_alarm(self, terminal: str, finding: Finding, now: int, digest: bytes | None = None) -> None:
        self._write(
            "INSERT INTO alarms(at, terminal, kind, detail, digest) VALUES (?,?,?,?,?)",
            (now, terminal, finding.alarm.value, finding.detail, digest),
        )

    def alarms(self, limit: int = 100) -> list[StoredAlarm]:
        """The newest first."""
        rows = self._rows(_ALARMS + " ORDER BY seq DESC LIMIT ?", (limit,))
        return [_alarm(row) for row in rows]

    def alarms_about(self, digest: bytes) -> list[StoredAlarm]:
        """The alarms that one result raised."""
        rows = self._rows(_ALARMS + " WHERE digest=? ORDER BY seq", (digest,))
        return [_alarm(row) for row in rows]

    def _close_gaps(self, terminal: str, now: int) -> None:
        if not self._rows(
            "SELECT 1 FROM alarms WHERE terminal=? AND kind=? AND closed_at IS NULL", (terminal, Alarm.GAP.value)
        ):
            return
        (row,) = self._rows(
            "SELECT COUNT(DISTINCT ctr) AS held, COALESCE(MAX(ctr), 0) AS top FROM results WHERE terminal=?",
            (terminal,),
        )
        if row["held"] == row["top"]:
            self._write(
                "UPDATE alarms SET closed_at=? WHERE terminal=? AND kind=? AND closed_at IS NULL",
                (now, terminal, Alarm.GAP.value),
            )

    def _results(self, query: str, parameters: tuple[Any, ...]) -> list[StoredResult]:
        rows = self._rows(query, parameters)
        return [
            StoredResult(**{**row, "claims": _claims(row["claims"]), "trusted": bool(row["trusted"])}) for row in rows
        ]

    def _rows(self, query: str, parameters: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        with self._lock:
            cursor = self._db.execute(query, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _write(self, query: str, parameters: tuple[Any, ...]) -> None:
        with self._lock:
            self._db.execute(query, parameters)


def json_object(text: bytes | str) -> dict[str, Any] | None:
    """The object that this is; None where it is none, or could not be sent on as strict JSON.

    json takes NaN, and halves of UTF-16 pairs, and stops where the nesting is too deep for the caller's stack.
    """
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _claims(text: str) -> dict[str, Any]:
    claims = json_object(text)
    if claims is None or not all(isinstance(claims.get(name), str) for name in ("outcome", "mode")):
        return {"unreadable": f"{len(text)} characters"}
    return claims


def _alarm(row: dict[str, Any]) -> StoredAlarm:
    try:
        return StoredAlarm(**{**row, "kind": Alarm(row["kind"])})
    except ValueError:
        return StoredAlarm(**row)


def _order(row: dict[str, Any]) -> Order:
    return Order(**{**row, "ticket": bool(row["ticket"])})


def _unusable(path: Path | str, error: sqlite3.Error) -> ConfigError:
    return ConfigError(
        f"{path} cannot be used for the carrier's records: {error}", todo="name another file, in a folder that exists"
    )
