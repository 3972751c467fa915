"""The Unix socket by which `vouch doctor` asks the running terminal; mode 0600, so that only root and its user may.

One JSON line asks, lines of JSON answer: {"check": ...} as each is settled, then {"report": ...}; or {"error": ...}.
The control socket also is how a second process learns that a terminal runs.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.errors import ConfigError, VouchError
from edge.log import Log
from edge.provisioning.doctor import Check, Name
from edge.provisioning.examination import TIME_LIMIT_S, record_of
from edge.terminal.workbench import Workbench

_REQUEST = {"do": "doctor", "v": 1}
_LINE_LIMIT = 512
_IO_TIMEOUT_S = 5.0
_BACKLOG = 4
# Every check has a limit below this; what comes later is a terminal that hangs.
_ANSWER_TIMEOUT_S = TIME_LIMIT_S + 2.0


class ControlServer:
    """Serves one asker after the other, in a thread of its own."""

    def __init__(self, path: Path, workbench: Workbench) -> None:
        self._path = path
        self._workbench = workbench
        self._log = Log("terminal.control")
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def start(self) -> None:
        """ConfigError where the socket cannot be made."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            listener.bind(str(self._path))
            self._path.chmod(0o600)  # before it listens: nobody else connects, not even for a moment
            listener.listen(_BACKLOG)
        except OSError as exc:
            raise ConfigError(
                f"the socket {self._path} cannot be made: {exc.strerror or exc}",
                todo="check run_dir in terminal.toml: a short path to a folder that this user may write",
            ) from exc
        self._listener = listener
        self._thread.start()

    def stop(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
            self._listener.close()
            self._thread.join(2.0)
            self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                asker, _ = self._listener.accept() if self._listener is not None else (None, None)
            except OSError:
                return
            if asker is None:
                return
            with asker:
                asker.settimeout(_IO_TIMEOUT_S)
                try:
                    self._answer(asker)
                except OSError as exc:
                    self._log.debug("asker-gone", detail=exc.strerror)

    def _answer(self, asker: socket.socket) -> None:
        if _request(asker) != _REQUEST:
            _say(asker, {"error": "an unknown request", "todo": "use the `vouch` of this terminal's own release"})
            return
        try:
            examination = self._workbench.examine()
        except VouchError as exc:
            _say(asker, {"error": exc.message, "todo": exc.todo})
            return
        settled: queue.SimpleQueue[Check] = queue.SimpleQueue()
        examination.listen(settled.put)
        with contextlib.suppress(queue.Empty):
            for _ in Name:
                _say(asker, {"check": record_of(settled.get(timeout=TIME_LIMIT_S))})
        _say(asker, {"report": examination.report().as_record()})


def ask_terminal(path: Path) -> Iterator[dict[str, Any]] | None:
    """The answers of the running terminal, one by one; None where no terminal runs. ConfigError: not allowed to ask."""
    asker = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    asker.settimeout(_ANSWER_TIMEOUT_S)
    try:
        asker.connect(str(path))
        _say(asker, _REQUEST)
    except PermissionError as exc:
        asker.close()
        raise ConfigError(f"{path} may not be used", todo="run it as root: sudo vouch doctor") from exc
    except OSError:
        asker.close()
        return None
    return _answers(asker)


def _answers(asker: socket.socket) -> Iterator[dict[str, Any]]:
    """Ends where the terminal closes; what it had not said by then is missing."""
    with asker, asker.makefile("rb") as lines, contextlib.suppress(OSError):
        for line in lines:
            try:
                answer = json.loads(line)
            except ValueError:
                return
            if isinstance(answer, dict):
                yield answer


def _request(asker: socket.socket) -> Any:
    data = b""
    while b"\n" not in data and len(data) < _LINE_LIMIT:
        more = asker.recv(_LINE_LIMIT)
        if not more:
            break
        data += more
    try:
        return json.loads(data)
    except ValueError:
        return None


def _say(peer: socket.socket, what: dict[str, Any]) -> None:
    peer.sendall(json.dumps(what, ensure_ascii=False).encode() + b"\n")
