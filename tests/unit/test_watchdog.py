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
    notifier.alive()
    notifier.status("broker down")
    notifier.stopping()
    said = [manager.recv(1000).decode() for _ in range(4)]
    assert said == ["READY=1\nSTATUS=up and running", "WATCHDOG=1", "STATUS=broker down", "STOPPING=1"]
    notifier.close()


def test_without_a_manager_nothing_happens():
    Notifier.from_environment({}).alive()


def test_a_manager_that_vanished_stops_nothing(tmp_path):
    notifier = Notifier(str(tmp_path / "gone"))
    notifier.ready("x")
    notifier.alive()
    notifier.close()
