"""Child processes of the simulator: started with a log, stopped by their own id; what they do is no matter here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_SOURCE_ROOT = Path(__file__).resolve().parent.parent


class Child:
    """One running process. It dies with nobody: whoever starts it stops it."""

    def __init__(self, command: Sequence[str], log: Path, *, extra: Mapping[str, str] | None = None) -> None:
        """Start `command`, its output appended to `log`; `extra` is added to the environment."""
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**child_environment(), **(extra or {})},
                start_new_session=True,  # Ctrl-C goes to the parent alone, which then stops its children in order
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self, timeout_s: float = 5.0) -> None:
        """SIGTERM, and SIGKILL after `timeout_s`. Safe to call twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def log_tail(self, lines: int = 6) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def python_module(name: str) -> list[str]:
    """The command that runs a module of this source tree with this interpreter."""
    return [sys.executable, "-m", name]


def child_environment() -> dict[str, str]:
    """Ours, and this source tree on the path: it may run without being installed."""
    paths = [str(_SOURCE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
