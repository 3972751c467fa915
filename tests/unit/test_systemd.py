"""The sandbox that keeps the promise: the terminal has no network, the uplink no devices, and both a low exposure."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.provisioning import identity

UNITS = Path(__file__).resolve().parents[2] / "systemd"
EXPOSURE_LIMIT = 15  # systemd-analyze counts in tenths
SERVICES = sorted(path.name for path in UNITS.rglob("*.service"))
SEATD = "seatd.service"  # the distribution's, under a drop-in of ours


@pytest.fixture
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file of one of our units; seatd's is made of what Debian ships and our drop-in."""
    if request.param != SEATD:
        return next(UNITS.rglob(request.param))
    (tmp_path / SEATD).write_text(
        "[Unit]\nDescription=Seats\n[Service]\nExecStart=/bin/true\n"
        + (UNITS / "seatd.service.d/vouch.conf").read_text().replace("ExecStart=seatd", "ExecStart=/bin/true")
    )
    return tmp_path / SEATD


def service(name: str) -> dict[str, list[str]]:
    """The [Service] section, each directive with all its values."""
    values: dict[str, list[str]] = {}
    section = ""
    for line in (UNITS / name).read_text().replace("\\\n", "").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            values.setdefault(key, []).append(value)
    return values


@pytest.mark.parametrize("unit", [*SERVICES, SEATD], indirect=True)
def test_the_exposure_of_every_unit_is_low(unit: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", "--no-pager", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-400:] + found.stderr
    assert "Overall exposure level" in found.stdout


def test_the_terminal_has_no_network_and_the_uplink_no_devices() -> None:
    terminal, uplink = service("vouch-terminal.service"), service("vouch-uplink.service")
    assert terminal["PrivateNetwork"] == ["yes"]
    assert uplink["PrivateDevices"] == ["yes"]
    assert "/var/lib/vouch" in uplink["InaccessiblePaths"][0]
    assert "/etc/vouch/terminal" in uplink["InaccessiblePaths"][0]
    assert "/etc/vouch/uplink" in terminal["InaccessiblePaths"][0]


@pytest.mark.parametrize("name", ["vouch-terminal.service", "vouch-uplink.service", "vouch-kiosk.service"])
def test_no_process_leaves_memory_on_a_disk(name: str) -> None:
    unit = service(name)
    assert unit["LimitCORE"] == ["0"]
    assert unit["MemorySwapMax"] == ["0"]


@pytest.mark.parametrize("unit", [*SERVICES, SEATD], indirect=True)
def test_what_a_unit_leaves_out_is_explained(unit: Path) -> None:
    """systemd-analyze says what it would like; a directive that is not used to the full is there or in a comment."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--json=short", unit]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    lacking = {str(row["name"]).split("=")[0] for row in json.loads(found) if row["exposure"] not in (None, "0")}
    text = unit.read_text().replace("DevicePolicy=closed", "DevicePolicy=closed DeviceAllow")  # no more than null
    assert lacking
    assert sorted(directive for directive in lacking if not re.search(rf"\b{directive}\b", text)) == []


@pytest.mark.parametrize(
    "path", sorted(UNITS.rglob("*.service")) + sorted(UNITS.rglob("*.socket")), ids=lambda p: p.name
)
def test_every_unit_parses_and_says_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("#")
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text().replace("\\\n", ""))
    assert parser["Unit"]["Description"]


@pytest.mark.parametrize("host", ["shop-7", "s" * 33, "s" * 64])
def test_the_first_boot_makes_keys_whatever_the_host_is_called(host: str, tmp_path: Path) -> None:
    start = service("vouch-identity.service")["ExecStart"][1].replace("%l", host).replace("%%", "%")
    start = start.replace("/etc/vouch", str(tmp_path)).replace("/opt/vouch/bin/vouch", f"{sys.executable} -m edge.cli")
    done = subprocess.run(
        shlex.split(start),
        env=os.environ | {"VOUCH_INIT": "--no-qr --software-key"},
        cwd=UNITS.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert identity.waiting(tmp_path).request.site == host[:32]
