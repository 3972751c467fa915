"""The technician's PIN at a console: a provisioned terminal asks before it is changed, and counts as its page does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import ProvisioningError
from edge.provisioning import standing
from edge.provisioning.permission import require_pin
from edge.provisioning.pin import ATTEMPTS_NAME, PIN_NAME, PinGate, set_pin
from edge.provisioning.standing import Stage
from simulator.camera import VirtualClock
from tests.support.wires import REPOSITORY, TERMINAL_ID, Place, enrolled

PIN, WRONG = "274913", "111999"
CHANGING = {
    "provision request": ["provision", "request", "--no-qr"],
    "provision install": ["provision", "install", "."],
    "renew now": ["renew", "now"],
    "renew request": ["renew", "request", "--no-qr"],
    "renew install": ["renew", "install", "."],
    "reset": ["reset", "--confirm", TERMINAL_ID[:8]],
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return enrolled(tmp_path)


@pytest.fixture
def provisioned(place: Place) -> Place:
    place.settings.accepted_path.write_bytes(b"a receipt")
    set_pin(place.settings.state_dir, PIN)
    return place


def run(place: Place, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    folder = ["--config", str(place.config)] if arguments[0] == "technician" else ["--dir", str(place.config.parent)]
    return subprocess.run(
        [sys.executable, "-m", "edge.cli", *arguments, *folder],
        input=typed,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
        timeout=100,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ATTEMPTS_NAME
    }


def wrong_attempts(place: Place) -> int:
    path = place.settings.state_dir / ATTEMPTS_NAME
    return json.loads(path.read_text())["wrong"] if path.exists() else 0


@pytest.mark.parametrize("name", CHANGING)
def test_no_command_changes_a_provisioned_terminal_without_its_pin(provisioned: Place, name: str) -> None:
    before = files(provisioned.config.parent)
    missing = run(provisioned, *CHANGING[name])
    assert (missing.returncode, wrong_attempts(provisioned)) == (2, 0), "nothing typed is no attempt"
    assert "PIN is missing" in missing.stderr
    wrong = run(provisioned, *CHANGING[name], typed=f"{WRONG}\n")
    assert (wrong.returncode, wrong_attempts(provisioned)) == (2, 1)
    assert "not the technician's PIN" in wrong.stderr
    assert files(provisioned.config.parent) == before


def test_with_the_pin_a_renewal_is_asked_for_and_a_reset_ends_it(provisioned: Place, tmp_path: Path) -> None:
    pin_file = tmp_path / "pin"
    pin_file.write_text(f"{PIN}\n")
    refused = run(provisioned, *CHANGING["renew request"], "--pin-file", str(pin_file))
    assert "may be read by others" in refused.stderr
    pin_file.chmod(0o600)
    asked = run(provisioned, *CHANGING["renew request"], "--pin-file", str(pin_file))
    assert asked.returncode == 0, asked.stderr
    ended = run(provisioned, *CHANGING["reset"], "--force", "--out", str(tmp_path), typed=f"{PIN}\n")
    assert ended.returncode == 0, ended.stderr
    assert standing.inspect(provisioned.config.parent, 0).stage is Stage.BLANK
    assert (provisioned.settings.state_dir / PIN_NAME).exists(), "the next identity is guarded by it too"


def test_before_the_first_receipt_there_is_nothing_to_guard(place: Place) -> None:
    set_pin(place.settings.state_dir, PIN)
    assert run(place, *CHANGING["renew request"]).returncode == 0


def test_a_terminal_without_a_pin_says_so_and_goes_on(provisioned: Place) -> None:
    (provisioned.settings.state_dir / PIN_NAME).unlink()
    done = run(provisioned, *CHANGING["renew request"])
    assert done.returncode == 0
    assert "no technician's PIN is set" in done.stderr


def test_the_pin_itself_is_changed_by_who_knows_it(provisioned: Place) -> None:
    assert run(provisioned, "technician", "pin", typed=f"{WRONG}\n583920\n").returncode == 2
    assert PinGate(provisioned.settings.state_dir, VirtualClock()).opens(PIN), "the old one stays"
    assert run(provisioned, "technician", "pin", typed=f"{PIN}\n583920\n").returncode == 0
    assert PinGate(provisioned.settings.state_dir, VirtualClock()).opens("583920")


def test_after_three_wrong_ones_a_console_waits_as_the_page_does(provisioned: Place) -> None:
    clock, waits = VirtualClock(), []

    def sleep(wait_s: float) -> None:
        waits.append(wait_s)
        clock.advance_to(clock.monotonic() + wait_s)

    def attempt(pin: str) -> None:
        require_pin(provisioned.config.parent, ask=lambda _: pin, clock=clock, sleep=sleep)

    for _ in range(5):
        with pytest.raises(ProvisioningError, match="not the technician's PIN"):
            attempt(WRONG)
    assert waits == [5.0, 10.0]
    attempt(PIN)
    assert waits == [5.0, 10.0, 20.0]
    assert wrong_attempts(provisioned) == 0
