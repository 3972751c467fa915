"""The uplink's download over mutual TLS: a real server, a real repository, and servers that behave badly."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.errors import UpdateError, UpdateFault
from edge.updates import fetch as fetching
from edge.updates.fetch import check, fetch
from edge.updates.install import Outcome
from edge.updates.report import read
from simulator.carrier.pki import CarrierPki
from simulator.carrier.updates_door import UpdatesDoor
from tests.support.updating import World, make_world
from tests.support.wires import Place, enrolled, until, uplink_process


class Uplink:
    """An enrolled terminal's uplink side, and the carrier's door, which share one PKI."""

    def __init__(self, folder: Path) -> None:
        self.place: Place = enrolled(folder / "place")
        self.world: World = make_world(folder)
        self.spool = folder / "spool"
        self.door = UpdatesDoor(self.world.repository.folder, self.place.pki)
        self.door.start()

    def fetch(self, url: str | None = None, **options):
        root = self.world.job.settings.updates.root.read_bytes()
        return fetch(url or self.door.url, root, self.place.settings.uplink, self.spool, **options)

    def fault(self, *args, **options) -> UpdateFault:
        with pytest.raises(UpdateError) as caught:
            self.fetch(*args, **options)
        assert caught.value.todo
        return caught.value.fault

    def names(self) -> set[str]:
        return {str(p.relative_to(self.spool / "targets")) for p in (self.spool / "targets").rglob("*") if p.is_file()}


@pytest.fixture
def uplink(tmp_path: Path) -> Iterator[Uplink]:
    uplink = Uplink(tmp_path)
    yield uplink
    uplink.door.stop()


def test_a_release_comes_into_the_spool_and_the_terminal_takes_it_from_there(uplink: Uplink) -> None:
    world = uplink.world
    world.publish(1, policy=world.policy(1))
    assert uplink.fetch().release == 1
    assert world.take(uplink.spool) is Outcome.ON_TRIAL
    assert world.serve() == "1.1"
    for path in uplink.spool.rglob("*.json"):
        if path.parent.name == "metadata":
            assert path.stat().st_mode & 0o777 == 0o644, "the terminal reads it; the spool folder itself says who may"


def test_what_did_not_change_is_not_fetched_again_and_what_is_old_leaves(uplink: Uplink) -> None:
    world = uplink.world
    world.publish(1)
    uplink.fetch()
    first = uplink.names()
    kept = {name: (uplink.spool / "targets" / name).stat().st_ino for name in first}
    world.publish(2)
    uplink.fetch()
    second = uplink.names()
    same = first & second
    assert {name.split(".", 1)[1] for name in same} == {"detector.tflite", "landmarks.tflite", "antispoof.tflite"}
    assert all((uplink.spool / "targets" / name).stat().st_ino == kept[name] for name in same)
    assert len(second) == 6
    assert world.take(uplink.spool) is Outcome.ON_TRIAL


def test_rotated_roots_are_all_in_the_spool(uplink: Uplink) -> None:
    from simulator.carrier.updates import now

    for role in ("root", "timestamp", "root"):
        uplink.world.repository.rotate(role, now())
    uplink.world.publish(1)
    uplink.fetch()
    assert uplink.world.take(uplink.spool) is Outcome.ON_TRIAL


def test_a_spool_of_an_earlier_release_stays_good_while_the_next_one_is_torn(uplink: Uplink) -> None:
    world = uplink.world
    world.publish(1)
    uplink.fetch()
    world.publish(2)
    (path,) = [
        p
        for p in (world.repository.folder / "targets/pack").glob("*.embedder.tflite")
        if p.name.split(".")[0] not in str(uplink.names())
    ]
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert uplink.fault() is UpdateFault.CONTENT
    assert world.take(uplink.spool) is Outcome.ON_TRIAL
    assert world.serve() == "1.1"
    path.write_bytes(content)
    assert uplink.fetch().release == 2
    assert world.take(uplink.spool) is Outcome.ON_TRIAL


@pytest.mark.parametrize("after", range(1, 14))
def test_a_download_that_is_killed_at_any_file_goes_on_at_the_next_attempt(uplink: Uplink, monkeypatch, after: int):
    """The kill comes instead of the n-th write to the spool; what the terminal sees is the old release or the new one."""

    class Killed(BaseException):
        pass

    world = uplink.world
    world.publish(1)
    uplink.fetch()
    world.publish(2)
    count = 0

    def killed(real: Callable[..., None]) -> Callable[..., None]:
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count >= after:
                raise Killed
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(fetching.durable, "write", killed(fetching.durable.write))
    monkeypatch.setattr(fetching.durable, "sync", killed(fetching.durable.sync))
    with contextlib.suppress(Killed):
        uplink.fetch()
    monkeypatch.undo()
    with contextlib.suppress(UpdateError):
        world.take(uplink.spool)
    assert world.serve() in ("1.0", "1.1", "1.2")
    assert uplink.fetch().release == 2
    world.take(uplink.spool)
    assert world.serve() == "1.2"


def test_a_stranger_without_a_certificate_gets_nothing(uplink: Uplink) -> None:
    uplink.world.publish(1)
    context = ssl.create_default_context(cafile=str(uplink.place.pki.ca))
    port = int(uplink.door.url.rsplit(":", 1)[1])
    got = b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("localhost", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(b"GET /metadata/timestamp.json HTTP/1.0\r\n\r\n")
        got = secured.recv(100)
    assert got == b""


def test_a_server_of_another_ca_is_not_believed(uplink: Uplink, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from simulator.carrier.pki import create_pki

    other = create_pki(tmp_path / "other", now=datetime.now(UTC))
    door = UpdatesDoor(uplink.world.repository.folder, other)
    door.start()
    assert uplink.fault(door.url) is UpdateFault.UNREACHABLE
    door.stop()


def test_nobody_listening_is_told_and_left_in_the_spool_for_the_technician(uplink: Uplink) -> None:
    from edge.config import UpdateSettings

    updates = UpdateSettings(root=uplink.world.job.settings.updates.root, url="https://localhost:9", spool=uplink.spool)
    settings = uplink.place.settings.model_copy(update={"updates": updates})
    with pytest.raises(UpdateError):
        check(settings, 1_700_000_000)
    report = read(uplink.spool)
    assert (report.fault, report.at_s) == (UpdateFault.UNREACHABLE, 1_700_000_000)


class Rogue:
    """A TLS server that answers each request by `behave(connection)`."""

    def __init__(self, pki: CarrierPki, behave: Callable[[ssl.SSLSocket], None]) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pki.broker_certificate, pki.broker_key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._behave = behave
        self.sent = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.url = f"https://localhost:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
                with self._context.wrap_socket(plain, server_side=True) as secured:
                    secured.recv(4096)
                    self._behave(secured)
            except OSError:
                if self._listener.fileno() < 0:
                    return

    def close(self) -> None:
        self._listener.close()


@contextlib.contextmanager
def rogue(uplink: Uplink, behave: Callable[[ssl.SSLSocket], None]) -> Iterator[Rogue]:
    server = Rogue(uplink.place.pki, behave)
    yield server
    server.close()


def test_endless_data_are_cut_off_at_the_limit(uplink: Uplink) -> None:
    sent = 0

    def endless(connection: ssl.SSLSocket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)
            sent += 65536

    with rogue(uplink, endless) as server:
        assert uplink.fault(server.url) is UpdateFault.TOO_LARGE
    assert sent < 4_000_000, "what lies in socket buffers, not a disk full"


def test_a_server_that_says_nothing_is_left(uplink: Uplink) -> None:
    hold = threading.Event()
    with rogue(uplink, lambda _c: hold.wait(20)) as server:
        assert uplink.fault(server.url, gap_s=0.5) is UpdateFault.SLOW
        hold.set()


def test_a_server_that_drips_is_left_when_the_time_of_the_whole_file_is_over(uplink: Uplink) -> None:
    """Each read comes in time; only the file as a whole does not. The clock is the test's own: a second a byte."""
    drips = 0

    def drip(connection: ssl.SSLSocket) -> None:
        nonlocal drips
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        while True:
            connection.sendall(b"{")
            drips += 1
            time.sleep(0.01)

    ticks = iter(range(10_000))
    with rogue(uplink, drip) as server:
        assert uplink.fault(server.url, monotonic=lambda: float(next(ticks))) is UpdateFault.SLOW
    assert drips > 20


def test_a_compressed_bomb_is_not_inflated_and_a_redirect_is_not_followed(uplink: Uplink) -> None:
    import gzip

    bomb = gzip.compress(bytes(50_000_000))

    def inflate(connection: ssl.SSLSocket) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
        connection.sendall(head.encode() + bomb)

    with rogue(uplink, inflate) as server:
        assert uplink.fault(server.url) in (UpdateFault.MALFORMED, UpdateFault.TOO_LARGE)
    redirect = b"HTTP/1.1 302 Found\r\nLocation: https://localhost:9/\r\nContent-Length: 0\r\n\r\n"
    with rogue(uplink, lambda c: c.sendall(redirect)) as server:
        assert uplink.fault(server.url) is UpdateFault.UNREACHABLE


def test_a_truncated_answer_is_refused(uplink: Uplink) -> None:
    cut = b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"signed": '
    with rogue(uplink, lambda c: c.sendall(cut)) as server:
        assert uplink.fault(server.url) in (UpdateFault.UNREACHABLE, UpdateFault.MALFORMED)


def test_a_full_disk_is_told_and_the_spool_recovers(uplink: Uplink, tmp_path: Path) -> None:
    import os
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        uplink.spool = disk / "spool"
        uplink.world.publish(1)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(os.statvfs(disk).f_bavail * 4096 - 40_000))
        assert uplink.fault() is UpdateFault.DISK
        ballast.unlink()
        assert uplink.fetch().release == 1
        assert uplink.world.take(uplink.spool) is Outcome.ON_TRIAL
    finally:
        shutil.rmtree(disk, ignore_errors=True)
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_the_uplink_process_fetches_by_itself_and_stays_small(tmp_path: Path, uplink: Uplink, monkeypatch) -> None:
    config = uplink.place.config
    root = shutil.copy(uplink.world.job.settings.updates.root, config.parent / "root.json")
    table = f'\n[updates]\nroot = "{root}"\nurl = "{uplink.door.url}"\nspool = "{uplink.spool}"\n'
    config.write_text(config.read_text() + table)
    uplink.world.publish(1)
    with uplink_process(uplink.place) as process:
        until(lambda: any(e["event"] == "update-in-spool" for e in process.events()), 100)
        assert process.rss_mib() < 80
    assert uplink.world.take(uplink.spool) is Outcome.ON_TRIAL
