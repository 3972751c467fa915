"""The shipped units, run by systemd itself: what each process can reach from inside, and that a session still works.

A machine is booted in namespaces (tests/support/machine.py). Its terminal has the simulator's camera, everything else
is as shipped: users, folders, sandboxes, the page's socket. A probe runs in a copy of each unit and tries.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.session.decision import Outcome
from simulator.broker import mosquitto_path
from tests.support.machine import why_not
from tests.support.sandbox import DEVICES, GRAPHICS, LOOK_PORT, REPOSITORY, SECRETS, Box, inside, running
from tests.support.wires import enrolled, until

pytestmark = [
    pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(bool(why_not()), reason=str(why_not())),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("box")
    with running(folder, enrolled(folder, extra="\n[camera]\nfps = 15\n")) as box:
        yield box


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
    assert found["kiosk page"] not in ("ok", None), "the preview shows a face: the page lives in another network"
    assert found["listen"] == "EPERM"


def test_the_uplink_reaches_a_name_server_on_this_machine_and_not_the_technician_s_page(box: Box) -> None:
    found = box.probe("vouch-uplink.service", "vouch-terminal.service")
    assert found["resolver"] == "ok", "systemd-resolved answers on loopback: IPAddressAllow= lets it through"
    assert found["technician's page"] == "timed out", "IPAddressDeny=: there is no knock, so no PIN to guess"
    outside = ("python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8081), 5)")
    box.machine.run(*outside)  # or the page does not listen, and nothing is proven


def test_the_terminal_cannot_read_the_uplink_s_key(box: Box) -> None:
    found = box.probe("vouch-terminal.service", "vouch-uplink.service")
    assert found["read"][SECRETS["result key"]] == found["read"][SECRETS["journal"]] == "ok"
    assert found["read"][SECRETS["TLS key"]] in ("EACCES", "ENOENT")
    assert found["read"]["/dev/disk"] == found["read"]["/dev/mem"] == found["read"]["/dev/event0"] == "EPERM"


def test_the_page_s_browser_sees_the_page_and_no_key_no_camera_and_no_network(box: Box) -> None:
    found = box.probe("vouch-kiosk.service", "vouch-terminal.service")
    assert found["kiosk page"] == "ok"
    assert found["broker"] == "ENETUNREACH"
    assert found["technician's page"] == "ECONNREFUSED"
    assert found["interfaces"] == ["lo"]
    assert not {found["read"][path] for name, path in SECRETS.items() if name != "page's profile"} & {"ok"}
    assert found["read"]["/dev/video0"] == found["read"]["/dev/disk"] == found["read"]["/dev/event0"] == "EPERM"
    assert found["read"][GRAPHICS] == "ok", "its group counts inside its user namespace too"


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


def test_swap_could_be_switched_off_in_its_unit_s_sandbox(box: Box) -> None:
    box.machine.run("systemctl", "start", "probe-no-swap.service", timeout_s=120)
    said = box.machine.journal("probe-no-swap.service")
    assert "swapoff EINVAL" in said, f"no swap file: neither EPERM of a filter nor EROFS of a mount; {said}"


def test_the_two_processes_run_as_two_users_in_two_networks(box: Box) -> None:
    terminal, uplink = box.machine.pid("vouch-terminal.service"), box.machine.pid("vouch-uplink.service")
    assert Path(f"/proc/{terminal}").stat().st_uid != Path(f"/proc/{uplink}").stat().st_uid
    networks = {Path(f"/proc/{pid}/ns/net").readlink() for pid in (terminal, uplink, box.machine.init)}
    assert len(networks) == 2
    assert Path(f"/proc/{uplink}/ns/net").readlink() == Path(f"/proc/{box.machine.init}/ns/net").readlink()


def test_a_whole_session_works_inside_the_sandboxes(box: Box) -> None:
    assert box.session().outcome is Outcome.MATCH
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
    look = inside(kiosk, "tests.support.look", str(LOOK_PORT))
    seen = json.loads(
        subprocess.run(look, capture_output=True, text=True, cwd=REPOSITORY, timeout=300, check=True).stdout
    )
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
