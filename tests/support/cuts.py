"""The power goes at each step that reaches the disk, one after another.

    python -m tests.support.cuts PREPARED TARGET ACTION [ARGUMENT...]

For n = 1, 2, ... the folder PREPARED is copied to TARGET/<n>, and ACTION runs on the copy in a process that is killed
just before its n-th call of fsync, rename or unlink; until an ACTION comes to its end. Prints how many were cut off.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from edge.clock import SystemClock
from edge.config import load
from edge.provisioning import installation, redo, reset
from edge.uplink.renewal import Renewal


def install(folder: Path, bundle: str, code: str) -> None:
    installation.install(folder, Path(bundle).read_bytes(), code=code)


def wipe(folder: Path) -> None:
    reset.reset(
        folder, out=folder.parent / f"{folder.name}.cose", force=False, clock=SystemClock(), send=lambda *_: "no link"
    )


def resume(folder: Path) -> None:
    reset.resume(folder)
    redo.resume(folder)


def promote(folder: Path) -> None:
    """The uplink's new certificate has just proven itself."""
    settings = load(folder / "terminal.toml")
    renewal = Renewal(settings.uplink, settings.terminal_id, SystemClock())
    assert renewal.begin_trial(1.0)
    renewal.connected()


ACTIONS: dict[str, Callable[..., None]] = {"install": install, "wipe": wipe, "resume": resume, "promote": promote}


def main(prepared: Path, target: Path, action: str, *arguments: str) -> None:
    number = 0
    while True:
        number += 1
        folder = target / str(number)
        shutil.copytree(prepared, folder)
        child = os.fork()
        if child == 0:
            _kill_at(number)
            try:
                ACTIONS[action](folder, *arguments)
            except BaseException as exc:
                print(repr(exc), file=sys.stderr, flush=True)
                os._exit(3)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status) != 0:
                sys.exit(f"{action} failed at {number}")
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    print(number - 1)


def _kill_at(number: int) -> None:
    left = [number]

    def wrapped(call: Callable[..., object]) -> Callable[..., object]:
        def before(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return before

    for name in ("fsync", "rename", "replace", "unlink"):
        setattr(os, name, wrapped(getattr(os, name)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
