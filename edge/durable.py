"""Files whole or not at all, whatever the power and a folder's other users do; what is in them is not known here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edge.errors import StorageError

SECRET, PUBLIC = 0o600, 0o644


def write(path: Path, data: bytes, mode: int) -> None:
    """Write beside, fsync, rename, fsync the folder: a power cut leaves the old file or the new one, whole.

    Written by root, a file belongs to whom its folder belongs: the uplink must read what a technician installs for it.
    The folder's owner may have put anything under both names: it is replaced, and what it leads to is not touched.
    StorageError where the folder cannot be made or the disk does not take it; the old file is then untouched.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        make_folder(path.parent)
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as exc:
        raise StorageError(f"{path} cannot be made: {exc.strerror}", todo=_todo(exc)) from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)  # not by the name, which may lead elsewhere by now
            if os.geteuid() == 0:
                owner = path.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fsync(descriptor)
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as exc:
        beside.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written: {exc.strerror}", todo=_todo(exc)) from exc


def remove(path: Path) -> None:
    """Unlink and fsync the folder; nothing where there is no such file. StorageError where that cannot be."""
    try:
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)
    except OSError as exc:
        raise StorageError(f"{path} cannot be removed: {exc.strerror}", todo=_todo(exc)) from exc


def open_plain(path: Path, *, linked: bool = False) -> BinaryIO:
    """To read where somebody else may have put anything: no link is followed, no pipe waited for. Limit what you read.

    `linked`: the path may be a link to a plain file. OSError where it cannot be opened, or is no plain file.
    """
    follow = 0 if linked else os.O_NOFOLLOW
    descriptor = os.open(path, os.O_RDONLY | follow | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no plain file", str(path))
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path, limit: int = 2**16, *, linked: bool = False) -> bytes:
    """All of a file that is opened as by `open_plain`. OSError also where there are more than `limit` bytes."""
    with open_plain(path, linked=linked) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"more than {limit} bytes", str(path))
    return data


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on the disk before the next. OSError where that cannot be."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Until then a rename in it may be undone by a power cut. OSError where the disk does not take it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """What is in this file, or which names are in this folder, is on the disk when it returns. OSError as it comes."""
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


def _todo(exc: OSError) -> str:
    match exc.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "free some space on this disk"
        case errno.EROFS:
            return "the disk is mounted read-only: check it, then mount it for writing"
        case errno.EACCES | errno.EPERM:
            return "run it as root, or name a place that this user may write"
        case errno.ENOTDIR | errno.EEXIST | errno.EISDIR | errno.ELOOP:
            return "something else has this name or a folder's above it: remove that, or name another place"
        case _:
            return "check the disk"
