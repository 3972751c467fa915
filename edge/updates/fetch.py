"""The uplink's side of an update: over HTTPS into the spool folder; what a pack is good for is not known here.

Procedure of `fetch`, which may be killed at any step:

1. TUF over HTTPS with the uplink's own certificate: what does not verify is not fetched any further.
2. release.json names the targets; each is written to the spool, unless it lies there already.
3. Metadata go to the spool before ngclient remembers them; timestamp.json last of all: it makes the spool complete.
4. What the release no longer names leaves the spool.

The spool is a TUF repository like any other (metadata/, targets/), so a copy of it on a stick serves as well. The
terminal believes nothing of it and verifies everything again. Every wait and every length has a limit.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import urllib3
from tuf.api import exceptions

from edge import durable
from edge.config import Settings, UplinkSettings
from edge.errors import UpdateError, UpdateFault
from edge.updates import report
from edge.updates.release import RELEASE_LIMIT, RELEASE_TARGET, Release, parse_release
from edge.updates.report import Report
from edge.updates.repository import (
    METADATA,
    TARGETS,
    TIMESTAMP,
    Fetcher,
    Repository,
    stored_name,
    translated,
    trusted_root,
)

_TARGET_LIMIT = 32_000_000  # bytes, as of a pack's model
_CHUNK = 65_536
_GAP_S = 30.0  # between two reads
_BASE_S, _RATE_BYTES_S = 60.0, 2_000  # a whole file: a minute, and as slow as 2 kB/s
# The terminal reads what is inside; who comes in at all, the mode of the spool folder itself says (tmpfiles.d).
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755
_TEXT_LIMIT = 200


def fetch(
    url: str,
    root: bytes,
    uplink: UplinkSettings,
    spool: Path,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    gap_s: float = _GAP_S,
) -> Release:
    """The release that lies complete in the spool now. UpdateError says why not; what lay there before stays good."""
    with translated():
        spool.mkdir(mode=0o750, parents=True, exist_ok=True)
        for folder in (spool / METADATA, spool / TARGETS, spool / TARGETS / "pack"):
            folder.mkdir(exist_ok=True)
            folder.chmod(_FOLDER_MODE)
    fetcher = HttpsFetcher(url, uplink, spool, monotonic=monotonic, gap_s=gap_s)
    try:
        repository = Repository(root, spool / "state", fetcher)
        repository.refresh()  # 1
        release = parse_release(_into(spool, repository, RELEASE_TARGET, RELEASE_LIMIT).read_bytes())  # 2
        kept = {stored_name(repository.find(RELEASE_TARGET))}
        for name in release.targets():
            _into(spool, repository, name, _TARGET_LIMIT)
            kept.add(stored_name(repository.find(name)))
        with translated():
            fetcher.publish()  # 3
            _drop(spool / TARGETS, kept)  # 4
    finally:
        fetcher.close()
    return release


def check(settings: Settings, utc_s: int) -> Release:
    """`fetch` by the settings, and leave the report in the spool. UpdateError as there."""
    updates = settings.updates
    if updates is None or updates.url is None:
        raise UpdateError(
            UpdateFault.UNREACHABLE,
            "the settings name no repository of updates",
            todo="name [updates] url and root in terminal.toml, or bring updates on a stick",
        )
    try:
        release = fetch(updates.url, trusted_root(updates.root), settings.uplink, updates.spool)
    except UpdateError as exc:
        report.leave(updates.spool, Report(utc_s, None, exc.fault, exc.message))
        raise
    report.leave(updates.spool, Report(utc_s, release.release, None, ""))
    return release


def _into(spool: Path, repository: Repository, name: str, limit: int) -> Path:
    """The target in the spool under its stored name, fetched where it does not lie there already."""
    path = spool / TARGETS / stored_name(repository.find(name))
    if repository.has(name, path):
        return path
    beside = path.with_name(f".{path.name}.new")
    repository.fetch(name, beside, limit)
    with translated():
        beside.chmod(_FILE_MODE)
        beside.replace(path)
        durable.sync(path.parent)
    return path


def _drop(targets: Path, kept: set[str]) -> None:
    for here, _, names in os.walk(targets):
        for name in names:
            path = Path(here) / name
            if str(path.relative_to(targets)) not in kept:
                path.unlink(missing_ok=True)


class HttpsFetcher(Fetcher):
    """The repository at `url`; metadata are also written to the spool as they come. Files are read anew: a renewed
    certificate counts at the next attempt. No proxy, no redirect, no compression, no retry of its own.
    """

    def __init__(
        self, url: str, uplink: UplinkSettings, spool: Path, *, monotonic: Callable[[], float], gap_s: float
    ) -> None:
        super().__init__(spool)
        self._url = url.rstrip("/")
        self._spool = spool
        self._monotonic = monotonic
        self._timestamp: bytes | None = None
        try:
            context = ssl.create_default_context(cafile=str(uplink.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(uplink.certificate, uplink.key)
        except (OSError, ssl.SSLError) as exc:
            raise UpdateError(
                UpdateFault.UNREACHABLE,
                f"the uplink's certificate, key or CA cannot be used: {exc}",
                todo="check [uplink] in terminal.toml; enrol again if they are damaged",
            ) from exc
        self._pool = urllib3.PoolManager(
            ssl_context=context, retries=False, timeout=urllib3.Timeout(connect=gap_s, read=gap_s), maxsize=1
        )

    def chunks(self, path: str, max_length: int) -> Iterator[bytes]:
        end_s = self._monotonic() + _BASE_S + max_length / _RATE_BYTES_S
        try:
            response = self._pool.request("GET", f"{self._url}/{path}", preload_content=False, redirect=False)
        except (
            urllib3.exceptions.NewConnectionError
        ) as exc:  # counts among urllib3's timeouts, but says nothing of speed
            raise exceptions.DownloadError(f"{self._url}: nobody answers there") from exc
        except urllib3.exceptions.TimeoutError as exc:
            raise exceptions.SlowRetrievalError(path) from exc
        except urllib3.exceptions.HTTPError as exc:
            raise exceptions.DownloadError(f"{self._url}: {_why(exc)}") from exc
        try:
            if response.status != 200:
                raise exceptions.DownloadHTTPError(f"{self._url}/{path}: HTTP {response.status}", response.status)
            while chunk := response.read1(_CHUNK, decode_content=False):
                if self._monotonic() > end_s:
                    raise exceptions.SlowRetrievalError(path)
                yield chunk
        except urllib3.exceptions.TimeoutError as exc:
            raise exceptions.SlowRetrievalError(path) from exc
        except urllib3.exceptions.HTTPError as exc:
            raise exceptions.DownloadError(f"{self._url}/{path}: {_why(exc)}") from exc
        finally:
            response.close()

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """As the interface says; metadata alone are fetched so."""
        data = super().download_bytes(url, max_length)
        name = url.rpartition("/")[2]
        if name == TIMESTAMP:
            self._timestamp = data
        else:
            durable.write(self._spool / METADATA / name, data, _FILE_MODE)
        return data

    def publish(self) -> None:
        """Step 3: from now on the spool is this release."""
        if self._timestamp is not None:
            durable.write(self._spool / METADATA / TIMESTAMP, self._timestamp, _FILE_MODE)

    def close(self) -> None:
        self._pool.clear()


def _why(exc: Exception) -> str:
    reason = getattr(exc, "reason", None)
    return str(reason or exc)[:_TEXT_LIMIT]
