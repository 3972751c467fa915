"""One process at a time owns camera and journal: the terminal, or `vouch doctor` while no terminal runs."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import ConfigError

# A doctor is done within 30 s; systemd gives a start 30 s, and tries again.
_WAIT_S = 25.0
_POLL_S = 0.25


@contextmanager
def alone(state_dir: Path, *, wait_s: float = _WAIT_S) -> Iterator[None]:
    """Hold the lock of this terminal's state folder, which the kernel frees when the process ends, however it ends.

    ConfigError when another process still has it after `wait_s`. Where the folder cannot be opened nothing is locked:
    opening the journal tells why.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        _lock(folder, state_dir, time.monotonic() + wait_s)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, state_dir: Path, until_s: float) -> None:
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if time.monotonic() >= until_s:
                raise ConfigError(
                    f"another terminal or doctor works with {state_dir}", todo="stop it, or wait until it is done"
                ) from exc
            time.sleep(_POLL_S)
        else:
            return
