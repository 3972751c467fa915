"""The end of an identity: a last signed word goes out, then keys, journal and settings are destroyed.

    1. The terminal is stopped.  2. Nothing waits for its receipt, or the technician forces it.
    3. A "retired" record is signed: where the history ends.  4. A mark is drafted: there is room for it. Then the
    record is exported, and sent where there is a link.
    5. The draft becomes the mark: from here on there is no way back.  6. Keys, journal, settings; the mark last.

Whatever stops us in step 6, `resume` goes on there at the next start. The root and the token's PIN stay: they belong to
the box, and the next identity needs them.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge import config, durable
from edge.clock import Clock
from edge.config import INTERRUPTED, Settings
from edge.errors import EvidenceError, JournalError, ProvisioningError, SignerError, StorageError
from edge.evidence import cbor
from edge.evidence.journal import GENESIS, Journal
from edge.evidence.schema import items, text, truth
from edge.evidence.signer import Token, destroy_token_key
from edge.provisioning import identity, keys, redo
from edge.provisioning.retirement import Retired, build_retired

MARK = INTERRUPTED[1]
_STATE = (
    *("journal.sqlite*", "trust.cbor", "accepted.cose"),
    *("packs/state.*", "packs/policy/*.cose", "packs/trust/*.json", "packs/trust/root_history/*.json"),
)
_PATH_MAX = 4096

Send = Callable[[Settings, bytes], str | None]


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a reset would end, for the technician to read before saying yes."""

    terminal_id: str
    settings: Settings | None  # None: never enrolled
    waiting: int  # results without a receipt
    objections: tuple[str, ...]  # what only --force goes over


@dataclass(frozen=True, slots=True)
class Outcome:
    """`record`: where the last word was exported; None: there was none to say. `unsent`: why it was not sent too."""

    record: Path | None
    unsent: str | None


def is_interrupted(folder: Path) -> bool:
    return (folder / MARK).exists()


def prospect(folder: Path) -> Prospect:
    """Steps 1 and 2, changing nothing. ProvisioningError where there is no identity, or the terminal runs."""
    own = identity.load_identity(folder)
    path = folder / identity.SETTINGS
    if not path.exists():
        return Prospect(own.terminal_id, None, 0, ())
    settings = config.load(path)
    if _answers(settings.socket_path):
        raise ProvisioningError(
            "the terminal is running", todo="stop it first: systemctl stop vouch-terminal vouch-uplink"
        )
    objections = []
    count = 0
    if settings.journal_path.exists():
        try:
            with Journal.open(settings.journal_path, max_rows=settings.journal_max_rows) as journal:
                count = journal.pending_count()
        except JournalError as exc:
            objections.append(f"the journal cannot be read: {exc.message}")
    if count:
        objections.append(
            f"{count} results wait for the carrier's receipt and would be lost; bring the terminal online"
        )
    objections += [
        f"{aside.name} was set aside and may hold results that the carrier waits for"
        for aside in sorted(settings.state_dir.glob("journal.sqlite.aside-*"))
        if not aside.name.endswith(("-wal", "-shm"))
    ]
    return Prospect(own.terminal_id, settings, count, tuple(objections))


def reset(folder: Path, *, out: Path, force: bool, clock: Clock, send: Send) -> Outcome:
    """Steps 1 to 6. `send(settings, message)` says why it could not send, None where it did.

    A record that lies at `out` already, of a reset that came no further, is kept: ours then has a number in its name.
    ProvisioningError, SignerError, StorageError: before step 5 nothing has changed.
    """
    redo.resume(folder)
    ahead = prospect(folder)
    if ahead.objections and not force:
        raise ProvisioningError("; ".join(ahead.objections), todo="mend that first, or lose it for good with --force")
    own = identity.load_identity(folder)
    message = _last_word(ahead, clock, force=force)
    if message is not None and _is_doomed(folder, out):
        raise ProvisioningError(f"{out} lies in what is about to be destroyed", todo="name another place with --out")
    token = keys.token_of(own.keys)
    state_dir = ahead.settings.state_dir.resolve() if ahead.settings else None
    draft = folder / f"{MARK}.draft"  # nobody reads it, and the next reset replaces it
    durable.write(draft, _mark(token, state_dir, force=force), durable.SECRET)
    try:
        outcome = _export(ahead.settings, message, out, send)
    except StorageError:
        durable.remove(draft)
        raise
    try:
        draft.replace(folder / MARK)
        durable.sync_folder(folder)
    except OSError as exc:
        raise StorageError(f"{folder / MARK} cannot be made: {exc.strerror}", todo="check the disk") from exc
    resume(folder)
    return outcome


def resume(folder: Path) -> bool:
    """Step 6, from wherever it was cut off; False where no reset was begun. SignerError, StorageError: call it again.

    A token that is away for good hinders only a reset that was not forced.
    """
    path = folder / MARK
    if not path.exists():
        return False
    token, state_dir, forced = _read_mark(path)
    if token is not None:
        try:
            destroy_token_key(token)
        except SignerError:
            if not forced:
                raise
    kept = {os.path.realpath(token.pin_file)} if token is not None else set()
    _destroy(folder, state_dir, kept)
    durable.remove(path)
    return True


def _last_word(ahead: Prospect, clock: Clock, *, force: bool) -> bytes | None:
    """The signed record; None where no carrier knows this terminal, or where a forced reset has no key left."""
    settings = ahead.settings
    if settings is None:
        return None
    counter, digest = 0, GENESIS
    if settings.journal_path.exists():
        try:
            with Journal.open(settings.journal_path, max_rows=settings.journal_max_rows) as journal:
                report = journal.verify_chain()
                counter, digest = report.head, report.head_digest
        except JournalError:
            if not force:
                raise
    record = Retired(
        terminal_id=bytes.fromhex(ahead.terminal_id),
        counter=counter,
        digest=digest,
        lost=ahead.waiting,
        iat=max(0, clock.utc()),
        forced=force,
    )
    try:
        with keys.opened(settings.keys) as signer:
            return build_retired(record, signer)
    except (SignerError, EvidenceError):
        if not force:
            raise
        return None


def _is_doomed(folder: Path, out: Path) -> bool:
    return out.resolve().is_relative_to(folder.resolve()) and out.resolve().parent != folder.resolve()


def _export(settings: Settings | None, message: bytes | None, out: Path, send: Send) -> Outcome:
    if settings is None or message is None:
        return Outcome(None, None)
    names = (out if number == 1 else out.with_stem(f"{out.stem}-{number}") for number in itertools.count(1))
    record = next(path for path in names if not os.path.lexists(path))
    durable.write(record, message, durable.PUBLIC)
    return Outcome(record, send(settings, message))


def _destroy(folder: Path, state_dir: Path | None, kept: set[str]) -> None:
    """Keys first: what remains after a cut is then of no use to anybody."""
    passed = [
        keys.destroy_below(folder / room, "*", kept=kept, folders=False)
        for room in ("terminal", "uplink", "carrier", "updates")
    ]
    if state_dir is not None:
        passed += [keys.destroy_below(state_dir, pattern, kept=kept, folders=True) for pattern in _STATE]
    for name in (redo.LIST, identity.REQUEST, identity.SETTINGS, identity.IDENTITY):
        keys.destroy_file(folder / name)
    for path in sorted({path for path in passed if path is not None}):
        print(f"{path} is a link or a file, no folder: what it may lead to was left alone", file=sys.stderr)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _mark(token: Token | None, state_dir: Path | None, *, force: bool) -> bytes:
    named = None if token is None else [str(token.module), token.label, str(token.pin_file)]
    return cbor.encode([named, None if state_dir is None else str(state_dir), force])


def _read_mark(path: Path) -> tuple[Token | None, Path | None, bool]:
    try:
        named, state_dir, forced = items(cbor.decode(path.read_bytes()), "reset", 3)
        token = None
        if named is not None:
            module, label, pin_file = (text(item, "token", _PATH_MAX) for item in items(named, "token", 3))
            token = Token(Path(module), label, Path(pin_file))
        where = None if state_dir is None else Path(text(state_dir, "state folder", _PATH_MAX))
        return token, where, truth(forced, "forced")
    except EvidenceError as exc:
        raise ProvisioningError(
            f"{path} is damaged: {exc.message}", todo="check the disk; remove the file and reset again"
        ) from exc
    except OSError as exc:
        raise StorageError(
            f"{path} cannot be read: {exc.strerror}", todo="run `vouch provision resume` as root"
        ) from exc
