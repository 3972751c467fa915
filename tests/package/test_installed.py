"""The Debian package in a Debian root of its own: install, upgrade, remove, purge; and the suite with the box's wheels.

Slow, so it is a command: `make test-arm64` (under qemu-user) or `make test-amd64`; VOUCH_BOX names root and package.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from tests.support.machine import booted, why_not
from tests.support.wires import enrolled, until

REPOSITORY = Path(__file__).resolve().parents[2]
BOX = os.environ.get("VOUCH_BOX")
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
    # A Raspberry Pi 4's processor: what the wheels must run on. qemu's own default has pointer authentication, computed
    # in software: Trixie's Python, built with it, is five times slower there.
    "QEMU_CPU": "cortex-a72",
}
SUITE_S = 3 * 3600.0
pytestmark = [
    pytest.mark.skipif(BOX is None, reason="slow: run `make test-arm64` or `make test-amd64`"),
    pytest.mark.timeout(4 * 3600),
]


class Root:
    """A root file system that takes every write in an overlay of its own; commands run in it by chroot."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.path = folder / "root"
        for name in ("upper", "work", "root"):
            (folder / name).mkdir()
        layers = f"lowerdir={base},upperdir={folder / 'upper'},workdir={folder / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.path], check=True)
        for name in ("proc", "dev"):
            subprocess.run(["mount", "--rbind", f"/{name}", self.path / name], check=True)
            subprocess.run(["mount", "--make-rslave", self.path / name], check=True)

    def close(self) -> None:
        for name in ("proc", "dev", "."):
            subprocess.run(["umount", "-R", "-l", self.path / name], check=False)

    def start(self, *command: str, output: IO[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(["chroot", self.path, *command], stdout=output, stderr=output, env=ENVIRONMENT)

    def run(self, *command: str, check: bool = True, timeout_s: float = 1800) -> str:
        done = subprocess.run(
            ["chroot", self.path, *command],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def package() -> Path:
    (found,) = Path(str(BOX)).glob("vouch_*.deb")
    return found


@pytest.fixture(scope="module")
def root(package: Path) -> Iterator[Root]:
    """The package is installed here; the tests below are one story, told in order."""
    folder = Path(str(BOX)) / "overlay"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    root = Root(Path(str(BOX)) / "root", folder)
    try:
        shutil.copy(package, root.path / "root/vouch.deb")
        print(root.run("dpkg", "--install", "/root/vouch.deb"))
        yield root
    finally:
        root.close()


def test_the_package_s_users_folders_and_units_are_there(root: Root) -> None:
    users = root.run("getent", "passwd", "vouch-terminal", "vouch-uplink", "vouch-kiosk").splitlines()
    assert len(users) == 3
    assert all(user.endswith("nologin") for user in users)
    stat = root.run("stat", "-c", "%a %U %n", "/etc/vouch", "/etc/vouch/terminal", "/etc/vouch/uplink")
    assert stat.splitlines() == [
        "755 root /etc/vouch",
        "700 vouch-terminal /etc/vouch/terminal",
        "700 vouch-uplink /etc/vouch/uplink",
    ]
    units = ["vouch-terminal", "vouch-uplink", "vouch-kiosk", "vouch-identity", "vouch-no-swap"]
    enabled = root.run("systemctl", "is-enabled", *[f"{unit}.service" for unit in units], "vouch-kiosk.socket")
    assert enabled.split() == ["enabled"] * 6


def test_the_virtual_environment_is_the_lock_s_and_sees_the_distribution_s_packages(root: Root) -> None:
    code = (
        "import json, platform, sys, numpy, cv2, edge, pkcs11, ai_edge_litert; from importlib.metadata import version\n"
        "print(json.dumps([platform.machine(), sys.prefix, version('numpy'), version('opencv-python-headless'), edge.__file__,"
        " '/usr/lib/python3/dist-packages' in sys.path]))"
    )
    machine, prefix, numpy, opencv, edge, sees = json.loads(root.run("/opt/vouch/bin/python3", "-I", "-c", code))
    python = root.run("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    assert prefix == "/opt/vouch"
    assert edge == f"/opt/vouch/lib/python{python}/site-packages/edge/__init__.py"
    assert sees
    lock = (REPOSITORY / "uv.lock").read_text()
    assert f'name = "numpy"\nversion = "{numpy}"' in lock
    assert f'name = "opencv-python-headless"\nversion = "{opencv}"' in lock
    if python == "3.11":
        assert numpy.startswith("1.26."), "Bookworm's picamera2 is compiled against numpy 1"
    print(machine, python, numpy, opencv)


def test_a_module_compiled_against_the_distribution_s_numpy_loads_beside_ours(root: Root) -> None:
    """As python3-picamera2's simplejpeg would: Debian has no picamera2, so another of its compiled modules stands in."""
    code = "import numpy, bottleneck; print(numpy.__file__, bottleneck.nansum(numpy.arange(4.0)))"
    said = root.run("/opt/vouch/bin/python3", "-I", "-c", code)
    assert "/opt/vouch/lib" in said
    assert "6.0" in said


def test_the_commands_work_with_the_box_s_own_wheels(root: Root) -> None:
    shutil.copy(REPOSITORY / "models/bench.jpg", root.path / "root/face.jpg")
    assert root.run("vouch", "models", "verify").count("a first run are right") == 4
    assert root.run("vouch", "compare", "/root/face.jpg", "/root/face.jpg").startswith("same")
    root.run("vouch", "doctor", "--target", "/root/target.pdf")
    assert (root.path / "root/target.pdf").read_bytes().startswith(b"%PDF")


def test_the_first_boot_makes_an_identity_that_each_process_can_read_for_itself(root: Root) -> None:
    root.run("vouch", "provision", "init", "--dir", "/etc/vouch", "--site", "shop-1", "--no-qr", "--software-key")
    root.run("systemd-tmpfiles", "--create", "vouch.conf")
    stat = root.run("stat", "-c", "%a %U %n", "/etc/vouch/terminal/result.key", "/etc/vouch/uplink/tls.key")
    assert stat.splitlines() == [
        "600 vouch-terminal /etc/vouch/terminal/result.key",
        "600 vouch-uplink /etc/vouch/uplink/tls.key",
    ]


def test_an_upgrade_keeps_settings_and_keys(root: Root) -> None:
    settings = root.path / "etc/vouch/terminal.toml"
    settings.write_text("# the technician's own\n")
    before = identity(root)
    root.run("dpkg-deb", "--raw-extract", "/root/vouch.deb", "/root/newer")
    control = root.path / "root/newer/DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9"))
    root.run("dpkg-deb", "--root-owner-group", "-Znone", "--build", "/root/newer", "/root/newer.deb")
    said = root.run("dpkg", "--install", "/root/newer.deb")
    assert "Unpacking vouch (9" in said
    assert identity(root) == before
    assert settings.read_text() == "# the technician's own\n"
    assert root.run("vouch", "models", "verify")


def test_the_suite_passes_with_the_box_s_wheels(root: Root) -> None:
    """The parts that VOUCH_BOX_TESTS names, each a process of its own, but for what systemd/box-leaves-out names.

    The firmware and its wheels are the installed package's own; what the tests need beside it comes from the lock.
    """
    wanted = os.environ.get("VOUCH_BOX_TESTS", "").split()
    if not wanted:
        pytest.skip("VOUCH_BOX_TESTS names no test")
    python = root.run("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    own = f"opt/vouch/lib/python{python}/site-packages"
    for name in ("models", "simulator", "tests", "systemd"):
        shutil.copytree(REPOSITORY / name, root.path / "srv" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock", "README.md", "Makefile"):
        shutil.copy(REPOSITORY / name, root.path / "srv" / name)
    (root.path / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (root.path / "srv/edge").symlink_to(f"/{own}/edge")
    subprocess.run(["mount", "--bind", Path(str(BOX)) / "site", root.path / "mnt"], check=True)
    packages = root.path / f"srv/.venv/lib/python{python}/site-packages"
    packages.mkdir(parents=True)
    (packages / "box.pth").write_text(f"/{own}\n/mnt\n")
    (root.path / "srv/.venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    (root.path / "srv/.venv/bin").mkdir()
    (root.path / "srv/.venv/bin/python").symlink_to("/usr/bin/python3")

    emulated = machine_of(root) != platform.machine()
    ignored = " ".join(
        f"--deselect={name}" if "::" in name else f"--ignore-glob=/srv/{name}"
        for name in left_out(python, emulated=emulated)
    )
    patience = "VOUCH_PATIENCE=20 " if emulated else ""
    running = []
    for part in wanted:
        log = Path(str(BOX)) / f"{part.replace('/', '-')}.log"
        shell = f"cd /srv && {patience}.venv/bin/python -m pytest -p no:cacheprovider --timeout=1800 --durations=25 {ignored} {part}"
        with log.open("w") as file:
            running.append((log, root.start("sh", "-c", shell, output=file)))
    for log, process in running:
        process.wait(SUITE_S)
        print(log.name, log.read_text()[-3000:])
    for log, process in running:
        assert process.returncode == 0, log
        assert " passed" in log.read_text()


def test_removal_leaves_keys_and_journal_and_purge_says_where_they_are(root: Root) -> None:
    (root.path / "var/lib/vouch").mkdir(exist_ok=True)
    (root.path / "var/lib/vouch/journal.sqlite").write_text("results without a receipt")
    before = identity(root)
    root.run("dpkg", "--remove", "vouch")
    assert not (root.path / "opt/vouch").exists()
    assert identity(root) == before
    said = root.run("dpkg", "--purge", "vouch")
    assert identity(root) == before
    assert "KEPT in /etc/vouch /var/lib/vouch" in said
    assert not (root.path / "etc/default/vouch").exists()
    assert "vouch" not in root.run("systemctl", "list-unit-files", "--no-pager")


@pytest.mark.skipif(bool(why_not()), reason=str(why_not()))
def test_an_installed_box_boots_to_ready_survives_a_hang_and_removal_stops_it(package: Path, tmp_path: Path) -> None:
    """A picture stands in for the camera; everything else is what the package installed, started by systemd."""
    if not package.name.endswith(f"_{ {'x86_64': 'amd64', 'aarch64': 'arm64'}[platform.machine()] }.deb"):
        pytest.skip("systemd does not run under qemu-user")
    place = enrolled(tmp_path)
    np.save(tmp_path / "frame.npy", np.full((480, 640, 3), 90, np.uint8))
    film = "ExecStart=/opt/vouch/bin/python3 /srv/filmed.py /etc/vouch/terminal.toml /srv/frame.npy"
    files = {
        "/etc/systemd/system/vouch-machine.target": "[Unit]\nRequires=multi-user.target\nAfter=multi-user.target\nAllowIsolate=yes\n",
        "/srv/film.conf": f"[Service]\nExecStart=\n{film}\n",
        "/srv/filmed.py": (REPOSITORY / "tests/support/filmed.py").read_text(),
        "/srv/terminal.toml": re.sub(r"^(state|run)_dir = .*\n", "", place.config.read_text(), flags=re.MULTILINE),
    }
    setup = f"""
cp {tmp_path}/frame.npy "$1/srv/"
cp -r {place.config.parent}/uplink {place.config.parent}/carrier {place.config.parent}/root.pem "$1/srv/"
cp {package} "$1/srv/vouch.deb"
chroot "$1" dpkg --install /srv/vouch.deb
sed -i 's/^VOUCH_INIT=.*/VOUCH_INIT="--no-qr --software-key"/' "$1/etc/default/vouch"
"""
    with booted(
        tmp_path / "machine", root=Path(str(BOX)) / "root", files=files, setup=setup, patience_s=900
    ) as machine:
        machine.until("vouch-identity.service", "active")
        owner = machine.run("stat", "-c", "%a %U", "/etc/vouch/terminal/result.key", "/etc/vouch/uplink/tls.key")
        assert owner.splitlines() == ["600 vouch-terminal", "600 vouch-uplink"], machine.journal("vouch-identity")
        machine.until("vouch-terminal.service", "active")
        assert machine.show("vouch-terminal.service", "StatusText").startswith("not enrolled yet")
        assert machine.show("vouch-uplink.service", "ConditionResult") == "no", "nothing to connect with"
        machine.run("systemctl", "stop", "vouch-terminal")
        machine.run("install", "-D", "/srv/film.conf", "/etc/systemd/system/vouch-terminal.service.d/film.conf")
        machine.run("systemctl", "daemon-reload")
        machine.run("sh", "-c", "cp -r /srv/carrier /srv/uplink /srv/root.pem /srv/terminal.toml /etc/vouch/")
        machine.run("systemd-tmpfiles", "--create", "vouch.conf")
        machine.run("systemctl", "start", "vouch-terminal", "vouch-uplink", timeout_s=200)
        assert machine.show("vouch-terminal.service", "StatusText") == "ready"
        os.kill(machine.pid("vouch-terminal.service"), signal.SIGSTOP)
        until(lambda: machine.show("vouch-terminal.service", "NRestarts") == "1", 120)
        machine.until("vouch-terminal.service", "active")
        machine.run("dpkg", "--install", "/srv/vouch.deb", timeout_s=600)  # as an upgrade does: both start anew
        for unit in ("vouch-terminal.service", "vouch-uplink.service"):
            machine.until(unit, "active")
        machine.run("dpkg", "--remove", "vouch", timeout_s=200)
        for unit in ("vouch-terminal.service", "vouch-uplink.service", "vouch-kiosk.socket"):
            assert machine.show(unit, "ActiveState") == "inactive"


def machine_of(root: Root) -> str:
    return root.run("python3", "-c", "import platform; print(platform.machine())").strip()


def left_out(python: str, *, emulated: bool) -> list[str]:
    """Globs of test files, and single tests, that are not run in the root; systemd/box-leaves-out gives each a reason."""
    holds = {"always": True, "bookworm": python == "3.11", "emulated": emulated}
    lines = (REPOSITORY / "systemd/box-leaves-out").read_text().splitlines()
    rows = [line.split(maxsplit=2) for line in lines if line and not line.startswith("#")]
    assert all(list(REPOSITORY.glob(name.split("::")[0])) and reason for _, name, reason in rows)
    return [name for when, name, _ in rows if holds[when]]


def identity(root: Root) -> dict[str, str]:
    files = [path for path in (root.path / "etc/vouch").rglob("*") if path.is_file()]
    assert files
    return {str(path.relative_to(root.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
