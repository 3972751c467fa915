"""The shipped units, run by systemd itself: what each process can reach from inside, and that a session still works.

A machine is booted in namespaces (tests/support/machine.py). Its terminal has the simulator's camera, everything else
is as shipped: users, folders, sandboxes, the page's socket. A probe runs in a copy of each unit and tries.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest

from edge.session.decision import Outcome
from simulator.broker import mosquitto_path
from simulator.carrier.portrait import fit_portrait
from simulator.person import portrait
from tests.support.counter import opened, signed_challenge
from tests.support.machine import Machine, booted, why_not
from tests.support.wires import CarrierEnd, Place, enrolled, until

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = REPOSITORY / "systemd"
PERSON = 11
LOOK_PORT = 9222
SECRETS = {
    "result key": "/etc/vouch/terminal/result.key",
    "portrait key": "/etc/vouch/terminal/portrait.key",
    "TLS key": "/etc/vouch/uplink/tls.key",
    "journal": "/var/lib/vouch/journal.sqlite",
    "page's profile": "/run/vouch-kiosk/profile",
}
DEVICES = ("/dev/video0", "/dev/disk", "/dev/event0", "/dev/mem")

pytestmark = [
    pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(bool(why_not()), reason=str(why_not())),
    pytest.mark.timeout(900),
]


@dataclass(frozen=True)
class Box:
    machine: Machine
    place: Place

    def probe(self, unit: str, other: str) -> dict[str, object]:
        """What a process can do in a copy of `unit`'s sandbox; it tries its hand on the main process of `other`."""
        name = f"probe-{unit}"
        self.machine.run("systemctl", "set-environment", f"OTHER={self.machine.show(other, 'MainPID')}")
        self.machine.run("systemctl", "start", name, timeout_s=120)
        return json.loads(self.machine.run("cat", f"/run/{name}.json"))


def probe_unit(name: str, port: int) -> str:
    """The unit with another program in it: every directive of its sandbox stays."""
    text = (UNITS / name).read_text().replace("\\\n", "")
    gone = r"^(ExecStart\w*|Type|Restart\w*|WatchdogSec|StartLimit\w*|StandardOutput)=.*\n"
    text = re.sub(gone, "", text, flags=re.MULTILINE)
    text = re.sub(r"\n\[Install\].*", "\n", text, flags=re.DOTALL)
    command = f"/usr/bin/python3 -I /opt/vouch/source/tests/support/probe.py {port} ${{OTHER}}"
    command += " " + " ".join([*SECRETS.values(), *DEVICES])
    output = f"StandardOutput=truncate:/run/probe-{name}.json"
    own = f"Type=oneshot\nRuntimeDirectoryPreserve=yes\nPassEnvironment=OTHER\nExecStart={command}\n{output}"
    return text.replace("[Service]", f"[Service]\n{own}")


def browser_command() -> str:
    """The shipped command, with a port in the page's own network by which a test sees what the browser shows."""
    unit = (UNITS / "vouch-kiosk.service").read_text().replace("\\\n", "")
    line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    return line.replace(" --kiosk ", f" --kiosk --remote-debugging-port={LOOK_PORT} ") + "\n"


def files(place: Place) -> dict[str, str]:
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
        found[f"{system}/probe-{name}"] = probe_unit(name, place.settings.uplink.port)
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
mknod -m 666 "$1/dev/video0" c 81 0
mknod -m 666 "$1/dev/disk" b 254 0
mknod -m 666 "$1/dev/event0" c 13 64
mknod -m 666 "$1/dev/mem" c 1 1
mknod -m 666 "$1/dev/tty0" c 4 0
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("box")
    place = enrolled(folder, extra="\n[camera]\nfps = 15\n")
    with place.broker(), booted(folder / "machine", files=files(place), setup=setup(place)) as machine:
        machine.until("vouch-terminal.service", "active", 300)
        machine.until("vouch-uplink.service", "active", 60)
        yield Box(machine, place)


def test_the_terminal_cannot_open_a_network_socket_to_anywhere(box: Box) -> None:
    found = box.probe("vouch-terminal.service", "vouch-uplink.service")
    refused = {name: said for name, said in found["socket"].items() if name not in ("AF_UNIX", "AF_NETLINK")}
    assert set(refused.values()) == {"EAFNOSUPPORT"}
    assert found["packet socket"] == found["raw socket"] == "EAFNOSUPPORT"
    assert found["broker"] == found["listen"] == "EAFNOSUPPORT"
    assert found["interfaces"] == ["lo"], "a network of its own, with nothing in it"
    assert box.machine.run("ls", "/sys/class/net").split() != ["lo"], "or this computer proves nothing"


def test_the_uplink_cannot_open_a_camera_or_any_device(box: Box) -> None:
    found = box.probe("vouch-uplink.service", "vouch-terminal.service")
    assert {found["read"][path] for path in DEVICES} == {"ENOENT"}
    assert "/dev/null" in found["devices"]
    assert not [path for path in found["devices"] if "video" in path or "media" in path or "tpm" in path]
    assert found["device node"] == "EPERM"


def test_the_uplink_reaches_the_broker_and_neither_keys_journal_nor_the_page(box: Box) -> None:
    found = box.probe("vouch-uplink.service", "vouch-terminal.service")
    assert found["broker"] == "ok"
    assert found["read"][SECRETS["TLS key"]] == "ok"
    for name in ("result key", "portrait key", "journal", "page's profile"):
        assert found["read"][SECRETS[name]] in ("EACCES", "ENOENT"), name
    assert found["kiosk page"] == "ECONNREFUSED", "the preview shows a face: the page lives in another network"
    assert found["listen"] == "EPERM"


def test_the_terminal_cannot_read_the_uplink_s_key(box: Box) -> None:
    found = box.probe("vouch-terminal.service", "vouch-uplink.service")
    assert found["read"][SECRETS["result key"]] == found["read"][SECRETS["journal"]] == "ok"
    assert found["read"][SECRETS["TLS key"]] in ("EACCES", "ENOENT")
    assert found["read"]["/dev/disk"] == found["read"]["/dev/mem"] == found["read"]["/dev/event0"] == "EPERM"


def test_the_page_s_browser_sees_the_page_and_no_key_no_camera_and_no_network(box: Box) -> None:
    found = box.probe("vouch-kiosk.service", "vouch-terminal.service")
    assert found["kiosk page"] == "ok"
    assert found["broker"] == "ECONNREFUSED", "the broker listens on this computer's loopback, not on the page's"
    assert found["interfaces"] == ["lo"]
    assert not {found["read"][path] for name, path in SECRETS.items() if name != "page's profile"} & {"ok"}
    assert found["read"]["/dev/video0"] == found["read"]["/dev/disk"] == "EPERM"


@pytest.mark.parametrize("unit", ["vouch-terminal.service", "vouch-uplink.service"])
def test_neither_process_can_gain_rights_or_touch_the_other(box: Box, unit: str) -> None:
    other = {"vouch-terminal.service": "vouch-uplink.service"}.get(unit, "vouch-terminal.service")
    found = box.probe(unit, other)
    assert found["user"] != 0
    assert found["capabilities"] == 0
    assert (found["no new privileges"], found["system calls filtered"]) == ("1", "2")
    for attempt in ("trace", "mount", "new user namespace", "be root", "swap on", "writable code"):
        assert found[attempt] != "ok", attempt
    assert found["signal"] in ("EPERM", "ESRCH")
    assert found["other processes"] == []
    assert {folder for folder, said in found["write"].items() if said == "ok"} == {"/tmp"}, "a /tmp of its own"
    assert found["core bytes"] == 0


def test_the_two_processes_run_as_two_users_in_two_networks(box: Box) -> None:
    terminal, uplink = box.machine.pid("vouch-terminal.service"), box.machine.pid("vouch-uplink.service")
    assert Path(f"/proc/{terminal}").stat().st_uid != Path(f"/proc/{uplink}").stat().st_uid
    networks = {Path(f"/proc/{pid}/ns/net").readlink() for pid in (terminal, uplink, box.machine.init)}
    assert len(networks) == 2
    assert Path(f"/proc/{uplink}/ns/net").readlink() == Path(f"/proc/{box.machine.init}/ns/net").readlink()


def test_a_whole_session_works_inside_the_sandboxes(box: Box) -> None:
    terminal = box.machine.pid("vouch-terminal.service")
    customer = subprocess.Popen(
        [
            "nsenter",
            "--target",
            str(terminal),
            "--net",
            sys.executable,
            "-m",
            "tests.support.customer",
            "http://127.0.0.1:8080",
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    with customer, closing(CarrierEnd(box.place)) as carrier:
        document = fit_portrait(bytes(cv2.imencode(".jpg", portrait(PERSON))[1]))
        carrier.send("challenge", signed_challenge(box.place, portrait=document))
        deadline = time.monotonic() + 500
        topic, message = carrier.receive(300)
        while not topic.endswith("/result"):
            topic, message = carrier.receive(max(1.0, deadline - time.monotonic()))
        assert customer.communicate(timeout=60)[0].strip() == "verified"
    claims = opened(box.place, message)
    assert claims.outcome is Outcome.MATCH
    assert box.machine.show("vouch-terminal.service", "NRestarts") == "0"


def test_a_terminal_that_hangs_is_killed_by_the_watchdog_and_comes_back(box: Box) -> None:
    before = box.machine.pid("vouch-terminal.service")
    os.kill(before, signal.SIGSTOP)
    until(lambda: box.machine.show("vouch-terminal.service", "NRestarts") == "1", 120)
    box.machine.until("vouch-terminal.service", "active", 300)
    assert box.machine.pid("vouch-terminal.service") != before
    assert "Watchdog timeout" in box.machine.journal("vouch-terminal.service")


has_browser = pytest.mark.skipif(
    not all(map(shutil.which, ("cage", "seatd", "Xwayland", "chromium"))),
    reason="cage, seatd, xwayland and chromium are not all installed",
)


@has_browser
def test_the_browser_shows_the_page_and_sandboxes_its_renderers_inside_its_unit(box: Box) -> None:
    box.machine.run("systemctl", "start", "vouch-kiosk.service")
    until(lambda: established(box.machine.pid("vouch-kiosk.service"), 8080) > 0, 180)
    kiosk = box.machine.pid("vouch-kiosk.service")
    seen = json.loads(inside(kiosk, "tests.support.look", str(LOOK_PORT)))
    assert seen["address"] == "http://127.0.0.1:8080/"
    assert "Welcome" in seen["text"]
    assert "You are adequately sandboxed." in seen["sandbox"]
    outside = Path(f"/proc/{box.machine.init}/ns/user").readlink()
    renderers = [path for path in Path("/proc").glob("[0-9]*") if is_renderer(path, kiosk)]
    assert renderers
    for renderer in renderers:
        assert (renderer / "ns/user").readlink() not in (outside, Path(f"/proc/{kiosk}/ns/user").readlink())
        assert "Seccomp:\t2" in (renderer / "status").read_text()
    assert box.machine.show("vouch-kiosk.service", "NRestarts") == "0"
    box.machine.run("systemctl", "stop", "vouch-kiosk.service")


@has_browser
def test_the_compositor_has_its_seat_from_seatd_and_stays_where_its_unit_s_limits_hold(box: Box) -> None:
    """A session of logind would move it to a control group of its own, out of DeviceAllow= and IPAddressDeny=."""
    box.machine.run("systemctl", "start", "vouch-kiosk.service")
    until(lambda: "Opened client" in box.machine.journal("seatd.service"), 60)
    group = Path(f"/proc/{box.machine.pid('vouch-kiosk.service')}/cgroup").read_text().strip().splitlines()[-1]
    assert group.endswith("/system.slice/vouch-kiosk.service")
    socket = box.machine.run("stat", "-c", "%a %U %G", "/run/seatd.sock")
    assert socket.split() == ["770", "root", "vouch-kiosk"]
    box.machine.run("systemctl", "stop", "vouch-kiosk.service")


@has_browser
@pytest.mark.parametrize(
    ("directive", "complaint"),
    [
        ("MemoryDenyWriteExecute=yes", "Failed to reserve virtual memory for CodeRange"),
        ("RestrictNamespaces=yes", "No usable sandbox"),
        ("SystemCallFilter=~chroot", "sys_chroot"),
        ("SystemCallFilter=~capset", "No usable sandbox"),
        ("ProcSubset=pid", "Can't open display"),
        ("RestrictAddressFamilies=~AF_NETLINK", "failed to start a session"),
    ],
)
def test_a_directive_that_the_kiosk_leaves_out_would_keep_the_browser_from_coming(
    box: Box, directive: str, complaint: str
) -> None:
    folder = "/run/systemd/system/vouch-kiosk.service.d"
    box.machine.run("sh", "-c", f"mkdir -p {folder} && printf '[Service]\n{directive}\n' > {folder}/tried.conf")
    box.machine.run("systemctl", "daemon-reload")
    began = box.machine.run("date", "+%F %T").strip()
    try:
        box.machine.run("systemctl", "start", "vouch-kiosk.service")
        until(lambda: complaint in box.machine.journal("vouch-kiosk.service", since=began), 120)
    finally:
        box.machine.run("systemctl", "stop", "vouch-kiosk.service")
        box.machine.run("rm", f"{folder}/tried.conf")
        box.machine.run("systemctl", "daemon-reload")


def inside(pid: int, module: str, *arguments: str) -> str:
    """Run one of our modules in the network of a process; what it printed."""
    command = ["nsenter", "--target", str(pid), "--net", sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=300, check=True).stdout


def established(pid: int, port: int) -> int:
    """Open connections to a port in the network of a process."""
    if pid == 0:
        return 0
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


def is_renderer(proc: Path, kiosk: int) -> bool:
    """Whether this is a renderer of the browser in the kiosk's control group."""
    try:
        return (
            b"--type=renderer" in (proc / "cmdline").read_bytes()
            and (proc / "cgroup").read_text() == Path(f"/proc/{kiosk}/cgroup").read_text()
        )
    except OSError:
        return False
