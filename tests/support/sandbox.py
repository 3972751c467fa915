"""The shipped units in a booted machine, with the simulator's person at the camera; and what a probe can do in them.

Broker and update server are reached as in a shop, at an address that is not loopback: the uplink may not use that one.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge.evidence.claims import Claims
from simulator.carrier.portrait import fit_portrait
from simulator.person import portrait
from tests.support.counter import opened, signed_challenge
from tests.support.machine import Machine, booted
from tests.support.wires import REPOSITORY, CarrierEnd, Place, until

UNITS = REPOSITORY / "systemd"
PERSON = 11
LOOK_PORT = 9222
SHOP = "198.18.77.1"  # of the block for tests of networks (RFC 2544)
RESOLVER = "127.0.0.53"  # where systemd-resolved answers
SECRETS = {
    "result key": "/etc/vouch/terminal/result.key",
    "portrait key": "/etc/vouch/terminal/portrait.key",
    "TLS key": "/etc/vouch/uplink/tls.key",
    "journal": "/var/lib/vouch/journal.sqlite",
    "page's profile": "/run/vouch-kiosk/profile",
}
GRAPHICS = "/srv/graphics"  # a file of the group that the graphics processor's node belongs to
NO_SWAP = "/var/plain"
DEVICES = ("/dev/video0", "/dev/disk", "/dev/event0", "/dev/mem")


@dataclass(frozen=True)
class Box:
    machine: Machine
    place: Place

    def session(self) -> Claims:
        """A person comes, consents and moves; the claims of the signed result that the carrier got."""
        customer = subprocess.Popen(
            inside(self.machine.pid("vouch-terminal.service"), "tests.support.customer", "http://127.0.0.1:8080"),
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        with customer, contextlib.closing(CarrierEnd(self.place)) as carrier:
            until(self.online, 60)
            document = fit_portrait(bytes(cv2.imencode(".jpg", portrait(PERSON))[1]))
            carrier.send("challenge", signed_challenge(self.place, portrait=document))
            deadline = time.monotonic() + 500
            topic, message = carrier.receive(300)
            while not topic.endswith("/result"):
                topic, message = carrier.receive(max(1.0, deadline - time.monotonic()))
            assert customer.communicate(timeout=60)[0].strip() == "verified"
        return opened(self.place, message)

    def online(self) -> bool:
        """Whether the uplink is connected: what is sent to a terminal without one is lost."""
        said = self.machine.journal("vouch-uplink.service")
        return said.rfind('"event": "link-up"') > max(
            said.rfind(f'"event": "{gone}"') for gone in ("terminal-lost", "link-down")
        )

    def probe(self, unit: str, other: str) -> dict[str, object]:
        """What a process can do in a copy of `unit`'s sandbox; it tries its hand on the main process of `other`."""
        name = f"probe-{unit}"
        self.machine.run("systemctl", "set-environment", f"OTHER={self.machine.show(other, 'MainPID')}")
        self.machine.run("systemctl", "start", name, timeout_s=120)
        return json.loads(self.machine.run("cat", f"/run/{name}.json"))


def inside(pid: int, module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules in the network of a process."""
    return ["nsenter", "--target", str(pid), "--net", sys.executable, "-m", module, *arguments]


@contextlib.contextmanager
def running(folder: Path, place: Place, *ports: int, more: str = "") -> Iterator[Box]:
    """The box with its broker; what listens on this computer's loopback at `ports` is in its reach too.

    `more`: shell that prepares the root further, which is $1.
    """
    with (
        place.broker(),
        shop_network(place.settings.uplink.port, *ports),
        socket.create_server((RESOLVER, 0)) as resolver,
        booted(folder / "machine", files=files(place, resolver.getsockname()[1]), setup=setup(place) + more) as machine,
    ):
        machine.until("vouch-terminal.service", "active", 300)
        machine.until("vouch-uplink.service", "active", 60)
        yield Box(machine, place)


@contextlib.contextmanager
def shop_network(*ports: int) -> Iterator[None]:
    """An address of this computer that is not loopback, and what listens on loopback at these ports behind it."""
    address = ["ip", "address", "replace", f"{SHOP}/32", "dev", "lo"]
    subprocess.run(address, check=True, timeout=20)
    relays = [
        subprocess.Popen(
            [
                *("systemd-socket-activate", "--listen", f"{SHOP}:{port}"),
                *("/lib/systemd/systemd-socket-proxyd", f"127.0.0.1:{port}"),
            ],
            stderr=subprocess.DEVNULL,
        )
        for port in ports
    ]
    try:
        yield
    finally:
        for relay in relays:
            relay.terminate()
            relay.wait(10)
        subprocess.run(["ip", "address", "delete", f"{SHOP}/32", "dev", "lo"], check=True, timeout=20)


def probe_unit(name: str, port: int, resolver: int) -> str:
    """The unit with another program in it: every directive of its sandbox stays."""
    text = (UNITS / name).read_text().replace("\\\n", "")
    gone = r"^(ExecStart\w*|Type|Restart\w*|WatchdogSec|StartLimit\w*|StandardOutput)=.*\n"
    text = re.sub(gone, "", text, flags=re.MULTILINE)
    text = re.sub(r"\n\[Install\].*", "\n", text, flags=re.DOTALL)
    command = (
        f"/usr/bin/python3 -I /opt/vouch/source/tests/support/probe.py {SHOP}:{port} {RESOLVER}:{resolver} ${{OTHER}}"
    )
    command += " " + " ".join([*SECRETS.values(), *DEVICES, GRAPHICS])
    output = f"StandardOutput=truncate:/run/probe-{name}.json"
    own = f"Type=oneshot\nRuntimeDirectoryPreserve=yes\nPassEnvironment=OTHER\nExecStart={command}\n{output}"
    return text.replace("[Service]", f"[Service]\n{own}")


def swapoff_unit() -> str:
    """vouch-no-swap with another program in it: what the kernel says to swapoff(2) of a plain file."""
    text = re.sub(
        r"^(ExecStart|RemainAfterExit)=.*\n", "", (UNITS / "vouch-no-swap.service").read_text(), flags=re.MULTILINE
    )
    text = re.sub(r"\n\[Install\].*", "\n", text, flags=re.DOTALL)
    program = (
        "import ctypes, errno; libc = ctypes.CDLL(None, use_errno=True); "
        f"libc.swapoff(b'{NO_SWAP}'); print('swapoff', errno.errorcode[ctypes.get_errno()])"
    )
    return text.replace("[Service]\n", f'[Service]\nExecStart=/opt/vouch/bin/python -c "{program}"\n')


def browser_command() -> str:
    """The shipped command, with a port in the page's own network by which a test sees what the browser shows."""
    unit = (UNITS / "vouch-kiosk.service").read_text().replace("\\\n", "")
    line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    return line.replace(" --kiosk ", f" --kiosk --remote-debugging-port={LOOK_PORT} ") + "\n"


def files(place: Place, resolver: int) -> dict[str, str]:
    """What the machine's root gets beside this computer's own files."""
    system = "/etc/systemd/system"
    found = {f"{system}/{path.name}": path.read_text() for path in (*UNITS.glob("*.service"), *UNITS.glob("*.socket"))}
    found["/usr/lib/sysusers.d/vouch.conf"] = (UNITS / "sysusers.d/vouch.conf").read_text()
    found["/usr/lib/tmpfiles.d/vouch.conf"] = (UNITS / "tmpfiles.d/vouch.conf").read_text()
    found[f"{system}/vouch-machine.target"] = (
        "[Unit]\nDescription=The box\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n"
        "Wants=vouch-terminal.service vouch-uplink.service systemd-journald.service\n"
    )
    packages = Path("/opt/vouch/source") / Path(cv2.__file__).parents[1].relative_to(REPOSITORY)
    run = f"#!/bin/sh\nexport PYTHONHOME=/opt/vouch/python LD_LIBRARY_PATH=/opt/vouch/python/lib PYTHONPATH=/opt/vouch/source:{packages} PYTHONDONTWRITEBYTECODE=1\n"
    for name, module in (("vouch", "edge.cli"), ("vouch-sim", "simulator.cli")):
        found[f"/opt/vouch/bin/{name}"] = f'{run}exec /opt/vouch/python/bin/python3 -m {module} "$@"\n'
    found["/opt/vouch/bin/python"] = f'{run}exec /opt/vouch/python/bin/python3 "$@"\n'
    # A simulated person takes memory and time that a camera does not; nothing else differs from the shipped unit.
    found[f"{system}/vouch-terminal.service.d/simulated.conf"] = (
        "[Service]\nExecStart=\n"
        f"ExecStart=/opt/vouch/bin/vouch-sim terminal --config /etc/vouch/terminal.toml person:{PERSON}\n"
        "MemoryMax=2G\nTimeoutStartSec=300\nWatchdogSec=30\n"
    )
    # No display here: the compositor draws into memory. It asks seatd for its seat all the same, which leaves this
    # computer's console alone; sandbox, network and browser are the shipped unit's. The port is for the test to look.
    found["/usr/lib/systemd/system/seatd.service.d/vouch.conf"] = (UNITS / "seatd.service.d/vouch.conf").read_text()
    found[f"{system}/seatd.service.d/bound.conf"] = "[Service]\nEnvironment=SEATD_VTBOUND=0\n"
    found[f"{system}/vouch-kiosk.service.d/headless.conf"] = (
        "[Unit]\nConditionPathExists=\nConflicts=\n[Service]\nEnvironment=WLR_BACKENDS=libinput,headless "
        "WLR_LIBINPUT_NO_DEVICES=1 WLR_RENDERER=pixman LIBSEAT_LOGLEVEL=debug\nExecStart=\n" + browser_command()
    )
    found["/etc/systemd/journald.conf.d/test.conf"] = "[Journal]\nStorage=volatile\n"
    for name in ("vouch-terminal.service", "vouch-uplink.service", "vouch-kiosk.service"):
        found[f"{system}/probe-{name}"] = probe_unit(name, place.settings.uplink.port, resolver)
    found[f"{system}/probe-no-swap.service"] = swapoff_unit()
    found["/etc/hosts"] = f"{SHOP} localhost\n"  # the name in the broker's certificate
    settings = place.config.read_text()
    found["/etc/vouch/terminal.toml"] = re.sub(r"^(state|run)_dir = .*\n", "", settings, flags=re.MULTILINE)
    return found


def setup(place: Place) -> str:
    """Shell that makes users, folders and the identity in the new root, as the package and the technician do."""
    home = place.config.parent
    return f"""
systemd-sysusers --root="$1" vouch.conf
cp -r {home}/terminal {home}/uplink {home}/carrier {home}/root.pem {home}/identity.toml "$1/etc/vouch/"
systemd-tmpfiles --root="$1" --create vouch.conf
mkdir -p "$1"/opt/vouch/{{source,python}}
mount --bind {REPOSITORY} "$1/opt/vouch/source"
mount --bind {sys.base_prefix} "$1/opt/vouch/python"  # it may lie in somebody's home, which the units do not see
install -D -m 640 -g render /dev/null "$1{GRAPHICS}"
head -c 65536 /dev/zero > "$1{NO_SWAP}"
mknod -m 666 "$1/dev/video0" c 81 0
mknod -m 666 "$1/dev/disk" b 254 0
mknod -m 666 "$1/dev/event0" c 13 64
mknod -m 666 "$1/dev/mem" c 1 1
mknod -m 666 "$1/dev/tty0" c 4 0
"""
