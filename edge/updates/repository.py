"""The TUF client (python-tuf's ngclient) with our limits and our errors: the only importer of tuf in the firmware.

The same client runs twice, each time with a state folder and a fetcher of its own: in the uplink over HTTPS, in the
terminal from a folder. No delegations: what the four top roles sign is all there is. Expiry is judged by the system's
clock; a clock that was never set may miss a freeze, and nothing else: versions never go back.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

from tuf.api import exceptions
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edge import durable
from edge.errors import StorageError, UpdateError, UpdateFault

METADATA, TARGETS = "metadata", "targets"  # the two folders of a repository
TIMESTAMP = "timestamp.json"
_ROLES = ("root.json", TIMESTAMP, "snapshot.json", "targets.json")
# Bytes: some tens of times what a repository of one pack and one policy needs, and little memory where it is filled up.
_LIMITS = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=0,
    root_max_length=65_536,
    timestamp_max_length=16_384,
    snapshot_max_length=16_384,
    targets_max_length=65_536,
)
_CHUNK = 65_536
_NOT_FOUND = 404
_RESERVE_BYTES = 16 * 1024 * 1024  # stay free for the journal, whatever is offered


class Fetcher(FetcherInterface):
    """Hands out files by their path in the repository ("metadata/1.root.json"); a large one passes through `scratch`.

    ngclient's own would pass them through /tmp, which is memory on some systems.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    @abstractmethod
    def chunks(self, path: str, max_length: int) -> Iterator[bytes]:
        """The file's bytes. DownloadError and its kin where it cannot be had."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self.chunks(url, _LIMITS.targets_max_length)

    @contextlib.contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """As the interface says: a temporary file with at most `max_length` bytes."""
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            for chunk in self.chunks(url, max_length):
                if file.tell() + len(chunk) > max_length:
                    raise exceptions.DownloadLengthMismatchError(f"{url} is longer than {max_length} bytes")
                file.write(chunk)
            file.seek(0)
            yield file


class FolderFetcher(Fetcher):
    """A repository in a folder: the spool, or a USB stick. Plain files only; links are not followed."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        super().__init__(scratch)
        self._folder = folder

    def chunks(self, path: str, max_length: int) -> Iterator[bytes]:  # noqa: ARG002 - the caller counts
        place = self._folder / path
        try:
            with durable.open_plain(place) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except FileNotFoundError as exc:
            raise exceptions.DownloadHTTPError(f"{place} is missing", _NOT_FOUND) from exc
        except OSError as exc:
            raise exceptions.DownloadError(f"{place} cannot be read: {exc.strerror}") from exc


class Repository:
    """What a TUF repository offers now. Every method raises UpdateError, and nothing that was not verified comes out.

    `root`: the trusted root that came with the enrolment. `state`: what ngclient remembers, so that nothing goes back.
    """

    def __init__(self, root: bytes, state: Path, fetcher: Fetcher) -> None:
        self._state = state
        with translated():
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._updater = Updater(
                str(state),
                f"{METADATA}/",
                target_base_url=f"{TARGETS}/",
                fetcher=fetcher,
                config=_LIMITS,
                bootstrap=root,
            )

    def refresh(self) -> None:
        """Root by root from the trusted one, then timestamp, snapshot and targets; what was learned is on the disk."""
        with translated():
            try:
                self._updater.refresh()
            finally:
                durable.sync_tree(self._state)

    def find(self, name: str) -> TargetFile:
        """What is signed of this target. UpdateError (INCOMPLETE) where there is none."""
        with translated():
            target = self._updater.get_targetinfo(name)
        if target is None:
            raise UpdateError(
                UpdateFault.INCOMPLETE, f"the repository has no target {name}", todo="the carrier must publish it"
            )
        return target

    def read(self, name: str, limit: int, folder: Path) -> bytes:
        """A small target, by way of a file in `folder`."""
        path = folder / name.replace("/", "_")
        self.fetch(name, path, limit)
        content = path.read_bytes()
        path.unlink()
        return content

    def fetch(self, name: str, path: Path, limit: int) -> None:
        """Write a target to `path`, on the disk when this returns. `limit` in bytes."""
        target = self.find(name)
        if target.length > limit:
            raise UpdateError(
                UpdateFault.TOO_LARGE,
                f"{name} has {target.length} bytes, at most {limit} are taken",
                todo="the carrier must publish a smaller one",
            )
        with translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            _check_room(path.parent, 2 * target.length)
            self._updater.download_target(target, str(path))
            durable.sync(path)

    def has(self, name: str, path: Path) -> bool:
        """Whether `path` already holds this target's bytes."""
        return self._updater.find_cached_target(self.find(name), str(path)) is not None

    def expires_s(self) -> int | None:
        """When the first of the four roles expires, in seconds since 1970; see `expiry`."""
        return expiry(self._state)


def trusted_root(path: Path) -> bytes:
    """The root that came with the enrolment, as it lies on the disk; UpdateError (STATE) where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise UpdateError(
            UpdateFault.STATE,
            f"the trusted root {path} cannot be read: {exc.strerror}",
            todo="enrol again, or put the carrier's root.json there",
        ) from exc


def stored_name(target: TargetFile) -> str:
    """Where a repository keeps it below targets/: the hash goes before the name, so that versions lie side by side."""
    folder, slash, name = target.path.rpartition("/")
    return f"{folder}{slash}{next(iter(target.hashes.values()))}.{name}"


def expiry(state: Path) -> int | None:
    """When the first role of a client's state expires, in seconds since 1970; None before the first update."""
    times = []
    for role in _ROLES:
        try:
            told = json.loads((state / role).read_bytes())["signed"]["expires"]
            times.append(int(datetime.fromisoformat(told).timestamp()))
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return min(times)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Whatever ngclient, the fetchers and the disk raise, as one UpdateError."""
    try:
        yield
    except exceptions.ExpiredMetadataError as exc:
        raise UpdateError(
            UpdateFault.EXPIRED,
            f"the update is no longer valid: {exc}",
            todo="check this terminal's clock; else the carrier must sign anew. The installed pack goes on working",
        ) from exc
    except exceptions.BadVersionNumberError as exc:
        raise UpdateError(
            UpdateFault.ROLLBACK,
            f"the update is older than one that was seen: {exc}",
            todo="use the carrier's newest; if this is its newest, report it: somebody may be offering old files",
        ) from exc
    except exceptions.LengthOrHashMismatchError as exc:
        raise UpdateError(
            UpdateFault.CONTENT, f"a file is not the one that was signed: {exc}", todo="fetch or copy it again"
        ) from exc
    except exceptions.UnsignedMetadataError as exc:
        raise UpdateError(
            UpdateFault.SIGNATURE,
            f"not signed by keys that this terminal trusts: {exc}",
            todo="take no update from there, and report it to the carrier",
        ) from exc
    except exceptions.RepositoryError as exc:
        raise UpdateError(
            UpdateFault.MALFORMED, f"the metadata do not hold: {exc}", todo="fetch or copy them again"
        ) from exc
    except exceptions.SlowRetrievalError as exc:
        raise UpdateError(UpdateFault.SLOW, "the server is too slow", todo="it is tried again later") from exc
    except exceptions.DownloadLengthMismatchError as exc:
        raise UpdateError(UpdateFault.TOO_LARGE, str(exc), todo="fetch or copy it again") from exc
    except exceptions.DownloadHTTPError as exc:
        fault = UpdateFault.INCOMPLETE if exc.status_code == _NOT_FOUND else UpdateFault.UNREACHABLE
        raise UpdateError(
            fault, str(exc), todo="it is tried again; the carrier must publish it if it stays away"
        ) from exc
    except exceptions.DownloadError as exc:
        raise UpdateError(UpdateFault.UNREACHABLE, _reason(exc), todo="check the network, or the stick") from exc
    except StorageError as exc:
        raise UpdateError(UpdateFault.DISK, exc.message, todo=exc.todo) from exc
    except OSError as exc:
        raise UpdateError(
            UpdateFault.DISK,
            f"{exc.filename or 'a file'}: {exc.strerror or exc}",
            todo="free some space, check the disk and the folder's permissions",
        ) from exc


def _reason(exc: Exception) -> str:
    return f"{exc}: {exc.__cause__}" if exc.__cause__ is not None else str(exc)


def _check_room(folder: Path, wanted: int) -> None:
    numbers = os.statvfs(folder)
    if numbers.f_bavail * numbers.f_frsize < wanted + _RESERVE_BYTES:
        raise UpdateError(
            UpdateFault.DISK,
            f"the disk of {folder} has no room for the update",
            todo="free some space; it is tried again",
        )
