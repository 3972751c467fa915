"""A machine in namespaces: Debian's own systemd as PID 1 over a root file system, so that the units run for real.

The root is only read: an overlay in memory takes every write, and all of it is gone when the machine ends. Users,
folders and sandboxes are made by systemd from the shipped files; what a unit may do here is what it may do on the box.
It shares this computer's network, or has one of its own whose interfaces may come and go (systemd's udevd sees them).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_BOOT = Path(__file__).with_name("boot.sh")
_NAMESPACES = ("--mount", "--pid", "--ipc", "--uts", "--cgroup")


def why_not() -> str | None:
    """Why no machine can be booted here; None where it can."""
    if os.geteuid() != 0:
        return "needs root: namespaces, device nodes and users are made"
    for program in ("/lib/systemd/systemd", "/usr/bin/unshare", "/usr/bin/nsenter"):
        if not Path(program).exists():
            return f"{program} is not installed"
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    # What boot.sh does first, tried on this computer's own root: nothing is changed by it.
    mounts = (
        "mount -t tmpfs t /mnt && mkdir /mnt/{upper,work,root,groups} && mount -t cgroup2 c /mnt/groups && "
        "mount -t overlay o -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root"
    )
    try:
        group = _cgroup()
        group.mkdir()
        group.rmdir()
        subprocess.run(
            ["unshare", *_NAMESPACES, "--fork", "bash", "-c", mounts], capture_output=True, timeout=60, check=True
        )
    except (OSError, AssertionError, subprocess.SubprocessError) as error:
        return f"namespaces, overlays or control groups are not allowed here: {error}"
    return None


class Machine:
    """A booted machine. Commands run in it as root, outside of every unit's sandbox."""

    def __init__(self, process: subprocess.Popen[bytes], init: int, namespaces: Sequence[str] = _NAMESPACES) -> None:
        self._process = process
        self._namespaces = namespaces
        self.init = init

    def run(self, *command: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """Standard output of a command in the machine's namespaces."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.init), *self._namespaces, *command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def pid(self, unit: str) -> int:
        """The main process of a unit, by its number on this computer; 0 where it does not run."""
        inside = int(self.show(unit, "MainPID"))
        if inside == 0:
            return 0
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                text = status.read_text()
                if f"\t{inside}\n" in _field(text, "NSpid") and self._is_ours(status.parent):
                    return int(status.parent.name)
        return 0

    def journal(self, unit: str, since: str = "") -> str:
        """What a unit said, all of it or since a time as journalctl reads it."""
        return self.run(
            "journalctl", "--no-pager", "--output=cat", "--unit", unit, "--since", since or "@0", check=False
        )

    def until(self, unit: str, state: str, timeout_s: float = 90.0) -> None:
        """Wait for ActiveState; an AssertionError tells what the unit said."""
        deadline = time.monotonic() + timeout_s
        while (now := self.show(unit, "ActiveState")) != state:
            assert time.monotonic() < deadline, f"{unit} is {now}, not {state}: {self.journal(unit)[-1500:]}"
            time.sleep(0.3)

    def _is_ours(self, proc: Path) -> bool:
        return (proc / "ns/pid").readlink() == Path(f"/proc/{self.init}/ns/pid").readlink()


@contextlib.contextmanager
def booted(
    folder: Path,
    *,
    root: Path = Path("/"),
    files: Mapping[str, str],
    setup: str = "",
    patience_s: float = 120.0,
    own_network: bool = False,
) -> Iterator[Machine]:
    """Boot over `root` with these files added (path: text); `setup` is shell, run with the new root in $1 before.

    The units that `vouch-machine.target` wants are started; a file of that name must be among `files`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    added = folder / "files"
    for path, text in files.items():
        target = added / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755 if text.startswith("#!") else 0o644)
    script = folder / "setup.sh"
    script.write_text(f'#!/bin/bash\nset -euo pipefail\ncp -r --preserve=mode "{added}/." "$1/"\n{setup}\n')
    script.chmod(0o755)
    namespaces = (*_NAMESPACES, "--net") if own_network else _NAMESPACES
    group = _cgroup()
    group.mkdir()
    with (folder / "console").open("wb") as console:
        process = subprocess.Popen(
            [
                *("sh", "-c", 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"', "sh", str(group)),
                *("unshare", *namespaces, "--fork", "--kill-child", "--propagation", "private"),
                *("bash", str(_BOOT), str(root), str(script), "own-network" if own_network else ""),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    try:
        yield Machine(process, _init_of(process, folder / "console", patience_s), namespaces)
    finally:
        _end(process)
        _remove(group)


def _init_of(process: subprocess.Popen[bytes], console: Path, patience_s: float) -> int:
    """The machine's PID 1 as this computer numbers it, once it takes orders."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        assert process.poll() is None, console.read_text(errors="replace")[-2000:]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            machine = Machine(process, int(children[0]))
            if machine.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"):
                return machine.init
        time.sleep(0.2)
    raise AssertionError(f"the machine does not boot: {console.read_text(errors='replace')[-2000:]}")


def _cgroup() -> Path:
    """A new place in the tree of control groups: systemd makes its own below it, as it does on a real machine."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where) / f"vouch-machine-{os.getpid()}-{time.monotonic_ns()}"
    raise AssertionError("no cgroup2 is mounted")


def _end(process: subprocess.Popen[bytes]) -> None:
    """unshare passes its end on to PID 1, and with PID 1 every process of the machine ends."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    process.wait(20)


def _remove(group: Path) -> None:
    deadline = time.monotonic() + 10
    while group.exists() and time.monotonic() < deadline:
        for folder in sorted((path.parent for path in group.rglob("cgroup.procs")), key=lambda path: -len(path.parts)):
            with contextlib.suppress(OSError):
                folder.rmdir()
        time.sleep(0.1)


def _field(status: str, name: str) -> str:
    return next((f"{line}\n" for line in status.splitlines() if line.startswith(f"{name}:")), "")
