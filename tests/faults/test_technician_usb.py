"""The technician's page on a USB cable: a laptop on the gadget's interface reaches it, nobody in the shop does.

A machine with a network of its own runs the shipped units; `usb0` and `eth0` are pairs of virtual cables that end in
another network, where the laptop and the shop are. A gadget's interface comes and goes as its driver does.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from tests.support.machine import Machine, booted, why_not
from tests.support.sandbox import UNITS, Box, files, setup
from tests.support.wires import Place, enrolled, until

GADGET, SHOP = "169.254.77.1", "10.77.0.2"
USB = "vouch-technician-usb.socket"
pytestmark = [pytest.mark.skipif(bool(why_not()), reason=str(why_not())), pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Cables:
    """The box, and the network outside where the other ends of its cables are, held by a process of its own."""

    machine: Machine
    place: Place
    outside: int

    def plug(self, name: str, address: str, other: str) -> None:
        """A cable: `name` with `address` in the box, `other` at its far end."""
        far = f"far-{name}"
        cable = ["ip", "link", "add", far, "type", "veth", "peer", "name", name, "netns", str(self.machine.init)]
        self.run(*cable)
        self.run("ip", "address", "add", f"{other}/24", "dev", far)
        self.run("ip", "link", "set", far, "up")
        self.machine.run("ip", "address", "add", f"{address}/24", "dev", name)
        self.machine.run("ip", "link", "set", name, "up")

    def unplug(self, name: str) -> None:
        self.run("ip", "link", "del", f"far-{name}")

    def run(self, *command: str) -> None:
        subprocess.run(["nsenter", "--target", str(self.outside), "--net", *command], check=True, timeout=30)

    def answer(self, address: str, *, over: str, port: int = 8081) -> str:
        """What somebody at the far end of `over` gets from the box at this address: an HTTP status, or `nothing`."""
        target = f"http://{address}:{port}/api/login"
        self.run("ip", "route", "replace", f"{address}/32", "dev", f"far-{over}")
        command = ["nsenter", "--target", str(self.outside), "--net", "curl", "--interface", f"far-{over}"]
        command += [
            "--silent",
            "--noproxy",
            "*",
            "--max-time",
            "4",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            target,
        ]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
        return "nothing" if said in ("", "000") else said

    def listening(self) -> set[str]:
        """Addresses at which anything listens for TCP in the box's network."""
        lines = self.machine.run("ss", "--no-header", "--listening", "--tcp", "--numeric").splitlines()
        return {line.split()[3] for line in lines}


@pytest.fixture(scope="module")
def cables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cables]:
    folder = tmp_path_factory.mktemp("usb")
    place = enrolled(folder, extra=f'\n[technician]\ngadget_address = "{GADGET}"\n')
    np.save(folder / "frame.npy", np.full((480, 640, 3), 90, np.uint8))
    film = "/opt/vouch/bin/python -m tests.support.filmed /etc/vouch/terminal.toml /srv/frame.npy"
    added = files(place, 0) | {
        **{f"/etc/systemd/system/{path.name}": path.read_text() for path in (UNITS / "optional").glob("vouch-*")},
        "/etc/systemd/system/vouch-terminal.service.d/simulated.conf": (
            f"[Service]\nExecStart=\nExecStart={film}\nMemoryMax=2G\nTimeoutStartSec=300\nWatchdogSec=60\n"
        ),
        "/etc/systemd/system/systemd-udevd.service.d/here.conf": "[Unit]\nConditionPathIsReadWrite=\n",
    }
    prepare = f"""{setup(place)}
cp {folder}/frame.npy "$1/srv/"
mkdir -p "$1/etc/systemd/system/sys-subsystem-net-devices-usb0.device.wants"
ln -s ../{USB} "$1/etc/systemd/system/sys-subsystem-net-devices-usb0.device.wants/{USB}"
"""
    outside = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        with booted(folder / "machine", files=added, setup=prepare, own_network=True) as machine:
            machine.until("vouch-terminal.service", "active", 300)
            yield Cables(machine, place, outside.pid)
    finally:
        outside.kill()
        outside.wait(10)


@contextlib.contextmanager
def plugged(cables: Cables) -> Iterator[None]:
    """The gadget's interface is there, and the page's second socket with it."""
    cables.plug("usb0", GADGET, "169.254.77.2")
    cables.machine.until(USB, "active", 60)
    until(lambda: cables.answer(GADGET, over="usb0") == "200", 90)
    try:
        yield
    finally:
        cables.unplug("usb0")
        cables.machine.until(USB, "inactive", 60)


def test_the_page_answers_on_the_gadget_s_cable_and_nobody_in_the_shop(cables: Cables) -> None:
    cables.plug("eth0", SHOP, "10.77.0.1")
    with plugged(cables):
        assert cables.listening() == {"127.0.0.1:8081", f"{GADGET}%usb0:8081"}
        assert cables.answer(SHOP, over="eth0") == "nothing"
        assert cables.answer(GADGET, over="eth0") == "nothing", "the kernel would take it for the box's own address"
        found = Box(cables.machine, cables.place).probe("vouch-uplink.service", "vouch-terminal.service")
        assert found["technician's page by USB"] == "timed out", "nor the uplink, from within the box"


def test_an_address_alone_would_let_the_shop_in(cables: Cables) -> None:
    """What the test above proves nothing without: bound to the address but not to the interface, the shop is answered."""
    with plugged(cables):
        server = ("python3", "-m", "http.server", "--bind", GADGET, "8099")
        cables.machine.run("systemd-run", "--unit", "unbound", *server)
        until(lambda: cables.answer(GADGET, over="eth0", port=8099) == "404", 30)
        cables.machine.run("systemctl", "stop", "unbound")


def test_without_the_gadget_only_loopback_is_left_and_with_it_the_page_is_back(cables: Cables) -> None:
    assert cables.listening() == {"127.0.0.1:8081"}
    loopback = (
        "curl",
        "--silent",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        "http://127.0.0.1:8081/api/login",
    )
    until(lambda: cables.machine.run(*loopback, check=False) == "200", 60)
    with plugged(cables):
        assert cables.answer(GADGET, over="eth0") == "nothing"
    assert cables.listening() == {"127.0.0.1:8081"}
