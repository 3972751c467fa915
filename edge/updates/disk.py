"""Files that survive a power cut: whole old or whole new, never half; what they hold is the caller's matter.

Everything here raises OSError as the system gives it: which file it was, and what to do, the caller knows.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def write(path: Path, data: bytes, mode: int) -> None:
    """Write beside, fsync, rename, fsync the folder. A write that fails leaves the old file and no other."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(mode)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """What is in this file, or which names are in this folder, is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Every plain file below, then every folder, the given one last."""
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            if not (Path(here) / name).is_symlink():
                sync(Path(here) / name)
        sync(Path(here))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; others wait. The lock ends with the process that holds it, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
