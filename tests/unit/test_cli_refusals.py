"""A path that the technician may not enter is told in one line with what to do: exit 2, never a traceback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge.drivers.opencv_camera
import edge.evidence.journal
import edge.provisioning.commands
import edge.provisioning.permission
import edge.terminal.doctor
import edge.updates.overview
import edge.uplink.renewal
import edge.vision.pipeline
import edge.vision.report  # noqa: F401 - like all above: once a stranger, this process may not read its libraries
from edge.cli import main

_STRANGER = 65534


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder of somebody else's, of mode 0700, and this process no root."""
    folder = tmp_path / "vouch"
    folder.mkdir(0o700 if os.geteuid() == 0 else 0o000)
    for above in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        if above.owner() == folder.owner():
            above.chmod(0o755)
    if os.geteuid() != 0:
        yield folder
        folder.chmod(0o700)
        return
    os.seteuid(_STRANGER)
    try:
        yield folder
    finally:
        os.seteuid(0)


COMMANDS = [
    *(["provision", step, "--dir", "{}"] for step in ("request", "install", "status", "resume")),
    ["provision", "init", "--software-key", "--dir", "{}"],
    ["renew", "now", "--dir", "{}"],
    ["renew", "request", "--dir", "{}"],
    ["reset", "--dir", "{}"],
    ["doctor", "--config", "{}/terminal.toml"],
    ["technician", "pin", "--config", "{}/terminal.toml"],
    ["update", "status", "--config", "{}/terminal.toml"],
    ["run", "--config", "{}/terminal.toml"],
    ["evidence", "set-aside", "{}/journal.sqlite"],
    ["observe", "{}/clip.mp4"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_forgotten_sudo_is_told_and_no_traceback(closed, capsys, command):
    assert main([word.format(closed) for word in command]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert str(closed) in told
    assert "what to do: run it as root (sudo vouch ...)" in told


def test_a_forgotten_sudo_is_answered_with_sudo(closed, capsys):
    assert main(["provision", "request", "--dir", str(closed)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"vouch: {closed}")
    assert told.endswith(": permission denied\n  what to do: run it as root (sudo vouch ...)\n")


def test_a_path_that_is_too_long_is_told(capsys):
    assert main(["provision", "status", "--dir", "/" + "a" * 300]) == 2
    assert "too long\n  what to do: name a shorter one" in capsys.readouterr().err


def test_what_refuses_root_is_a_fault_of_ours(monkeypatch, capfd):
    def refused(_options):
        raise PermissionError(13, "Permission denied", "/dev/x")

    monkeypatch.setattr("edge.cli._models_list", refused)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert main(["models", "list"]) == 70
    assert "Traceback" in capfd.readouterr().err
