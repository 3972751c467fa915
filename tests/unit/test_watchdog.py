"""What the service manager hears, and that its absence stops nothing."""

import socket
from pathlib import Path

import pytest

from edge.watchdog import Notifier


@pytest.fixture
def manager(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(2)
        yield listener


def test_the_manager_hears_ready_alive_and_status(manager, tmp_path):
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notifier.ready("up\nand running")
    notifier.alive(100.0)
    notifier.status("broker down")
    notifier.stopping()
    said = [manager.recv(1000).decode() for _ in range(4)]
    assert said == ["READY=1\nSTATUS=up and running", "WATCHDOG=1", "STATUS=broker down", "STOPPING=1"]
    notifier.close()


def test_the_manager_is_fed_every_two_seconds_however_often_we_say_that_we_live(manager, tmp_path):
    notifier = Notifier(str(tmp_path / "notify"))
    for now in (0.0, 0.5, 1.9, 2.0, 2.1, 4.5):
        notifier.alive(now)
    notifier.status("end")
    assert [manager.recv(1000).decode() for _ in range(4)] == [*(["WATCHDOG=1"] * 3), "STATUS=end"]
    notifier.close()


def test_without_a_manager_nothing_happens():
    Notifier.from_environment({}).alive(100.0)


def test_a_manager_that_vanished_stops_nothing(tmp_path):
    notifier = Notifier(str(tmp_path / "gone"))
    notifier.ready("x")
    notifier.alive(100.0)
    notifier.close()
