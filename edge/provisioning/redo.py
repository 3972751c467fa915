"""Several files at once or none of them: a list is written first, then carried out, again after a power cut.

What the files mean is not known here. Until the list is on the disk nothing has changed; from then on the outcome is
certain, whoever calls `resume` next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge import durable
from edge.config import INTERRUPTED
from edge.errors import EvidenceError, ProvisioningError
from edge.evidence import cbor
from edge.evidence.schema import items, octets, text, uint

LIST = INTERRUPTED[0]
_FILES_MAX = 64
_SIZE_MAX = 65536


@dataclass(frozen=True, slots=True)
class Change:
    """One file of the folder: its new content, or None to remove it."""

    path: str  # relative
    data: bytes | None
    mode: int = durable.PUBLIC


def commit(folder: Path, changes: Sequence[Change]) -> None:
    """Make all changes, in this order. StorageError: before the list is written nothing has changed; after it,
    `resume` goes on where this ended.
    """
    rows = [[change.path, change.mode, change.data] for change in changes]
    durable.write(folder / LIST, cbor.encode(rows), durable.SECRET)
    resume(folder)


def is_interrupted(folder: Path) -> bool:
    return (folder / LIST).exists()


def resume(folder: Path) -> bool:
    """Finish what was cut off; False where nothing was. ProvisioningError, StorageError."""
    path = folder / LIST
    if not is_interrupted(folder):
        return False
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ProvisioningError(
            f"an interrupted installation in {folder} cannot be read: {exc.strerror}",
            todo="run `vouch provision resume` as root",
        ) from exc
    for change in _parsed(path, data):
        target = folder / change.path
        if change.data is None:
            durable.remove(target)
        else:
            durable.write(target, change.data, change.mode)
    durable.remove(path)
    return True


def _parsed(path: Path, data: bytes) -> list[Change]:
    try:
        return [_change(row) for row in items(cbor.decode(data), "changes", 1, _FILES_MAX)]
    except EvidenceError as exc:
        raise ProvisioningError(
            f"{path} is damaged: {exc.message}", todo="check the disk; remove the file and install the bundle again"
        ) from exc


def _change(row: object) -> Change:
    name, mode, data = items(row, "change", 3)
    path = text(name, "path", 200)
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise EvidenceError("a path that leaves the folder")
    return Change(path, None if data is None else octets(data, "content", 0, _SIZE_MAX), uint(mode, "mode", 0, 0o777))
