"""A pipe lies where a file is expected, itself or behind a link: it is refused, and nobody waits for its writer."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.config import CameraSettings
from edge.drivers.camera import FrameSource
from edge.errors import CameraError, ConfigError, JournalError, ProvisioningError
from edge.evidence.journal import Journal
from edge.evidence.messages import load_public_key
from edge.evidence.trust import load_root
from edge.papers import read_papers
from edge.provisioning import identity, pin
from edge.provisioning.permission import check_pin
from edge.provisioning.pin import PinGate, set_pin
from edge.provisioning.standing import certificate_state
from edge.provisioning.written import DESK_STICK
from edge.terminal.first_boot import FirstBoot
from edge.uplink.link import Connection, End, Ending, Protocol
from edge.watchdog import Notifier
from simulator.camera import VirtualClock
from simulator.carrier.pki import create_pki
from tests.support.wires import TERMINAL_ID, enrolled

pytestmark = pytest.mark.timeout(20)
PIN = "274913"


@pytest.fixture(params=["pipe", "link"])
def pipe(request, tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    return tmp_path / request.param


def put(pipe: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(pipe)


def test_certificates_and_public_keys_are_not_waited_for(pipe: Path) -> None:
    with pytest.raises(ProvisioningError):
        certificate_state(pipe, 0)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_root(pipe)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_public_key(pipe)


@pytest.mark.parametrize("name", ["certificate", "key", "ca"])
def test_the_uplinks_papers_are_not_waited_for(tmp_path: Path, pipe: Path, name: str) -> None:
    uplink = enrolled(tmp_path).settings.uplink
    put(pipe, getattr(uplink, name))
    assert (read_papers(uplink) is None) == (name != "key")
    end = Connection.open(uplink, TERMINAL_ID, Protocol.V5, now=0.0)
    assert isinstance(end, End)
    assert (end.ending, "no plain file" in end.detail) == (Ending.REFUSED, True)


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_the_journal_is_not_waited_for(tmp_path: Path, pipe: Path, suffix: str) -> None:
    path = tmp_path / "journal.sqlite"
    Journal.open(path, max_rows=100).close()
    put(pipe, tmp_path / f"journal.sqlite{suffix}")
    with pytest.raises(JournalError, match="cannot be read"):
        Journal.open(path, max_rows=100)


def test_the_technicians_pin_and_the_attempts_at_it_are_not_waited_for(tmp_path: Path, pipe: Path) -> None:
    set_pin(tmp_path, PIN)
    put(pipe, tmp_path / pin.ATTEMPTS_NAME)
    assert PinGate(tmp_path, VirtualClock()).wait_s() == 3600
    (tmp_path / pin.ATTEMPTS_NAME).unlink()
    pipe.chmod(0o600)
    with pytest.raises(ProvisioningError, match="cannot be read"):
        check_pin(tmp_path, pin_file=pipe)
    put(pipe, tmp_path / pin.PIN_NAME)
    assert not PinGate(tmp_path, VirtualClock()).opens(PIN)


def test_a_bundle_on_a_stick_is_not_waited_for(tmp_path: Path, pipe: Path) -> None:
    def no_camera(_: CameraSettings) -> FrameSource:
        raise CameraError("none")

    box = tmp_path / "box"
    identity.create(box, root=create_pki(tmp_path / "carrier", now=datetime.now(UTC)).root, desk=True)
    put(pipe, box / DESK_STICK / "a.vouch")
    boot = FirstBoot(box, open_camera=no_camera, notifier=Notifier.from_environment())
    boot._enrolling.follow()
    boot._look_at_sticks()
    assert len(boot._sticks_seen) == 1
