"""The terminal's part in updates: which pack it works with, when a new one may come, when it has proved itself.

Installing is a child's work (edge.updates.install): a model that crashes, or metadata that exhaust memory, take no
terminal along. A new pack comes by a restart between two sessions: the process ends with a code of its own, and the
manager starts it anew.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from edge import durable
from edge.config import Settings
from edge.errors import UpdateError, UpdateFault
from edge.log import Log
from edge.session.decision import Policy
from edge.updates import report
from edge.updates.job import Job
from edge.updates.shelf import State, confirmed, ended, given_back, shelf_of
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline

CONFIRM_S = 600.0  # of service without a session: then a pack on trial has held
LOOK_EACH_S = 30.0
_RETRY_EACH_S = 3600.0  # what was refused may have been refused for a full disk or a wrong clock
_CHILD_LIMIT_S = 600.0
_WHY_LIMIT = 120
_TIMESTAMP_LIMIT = 16_384  # bytes: the child takes no longer one


class Updating:
    """One terminal's view of its shelf. Not thread-safe: the terminal's own thread calls it."""

    def __init__(self, settings: Settings, state: State, started_s: float) -> None:
        """Use `open_vision`. `started_s`: monotonic."""
        self._settings = settings
        self._shelf = shelf_of(settings)
        self._state = state
        self._loaded = _wanted(state)
        self._started_s = started_s
        self._child: subprocess.Popen[bytes] | None = None
        self._child_end_s = 0.0
        self._seen: tuple[bytes, float] | None = None
        self._next_look_s = started_s + LOOK_EACH_S
        self._offered: str | None = None
        self._log = Log("terminal.updates")
        if state.trial is not None:
            self._log.info("pack-on-trial", release=state.trial.release, start=state.trial.starts)

    @property
    def on_trial(self) -> bool:
        """Whether the pack that we work with has yet to prove itself."""
        trial = self._state.trial
        return trial is not None and trial.pack == self._loaded

    @property
    def wants_restart(self) -> bool:
        """Whether another pack waits for a start of ours; only to be followed while nobody stands before the camera."""
        return _wanted(self._state) != self._loaded

    def turn(self, now: float, *, idle: bool, in_service: bool, policy: Policy) -> None:
        """Now and then: end the child's work, look for new ones, and confirm a pack that has served long enough."""
        self._reap(now)
        if self.on_trial and in_service and now - self._started_s >= CONFIRM_S:
            self._confirm("served")
        if now < self._next_look_s:
            return
        self._next_look_s = now + LOOK_EACH_S
        self._reload()
        if idle and self._child is None and not self.on_trial and not self.wants_restart:
            self._look(now, policy)

    def session_over(self, *, good: bool) -> None:
        """A session ended; `good`: with a result that nobody's fault of ours made."""
        if good and self.on_trial:
            self._confirm("session")

    def give_up(self, why: str) -> bool:
        """The pack on trial cannot serve here: the former one is to come back. False where none is on trial."""
        if not self.on_trial:
            return False
        self._change(lambda state: ended(state, UpdateFault.PACK, why))
        self._log.error("pack-given-up", why=why)
        return True

    def new_policy(self) -> bytes | None:
        """The signed policy of the release in force, once after each start and each change of it."""
        if self._state.policy is None or self._state.policy == self._offered:
            return None
        self._offered = self._state.policy
        return self._shelf.policy(self._state)

    def status(self, utc_s: int) -> dict[str, Any]:
        """For the carrier: release in force, on trial, why an update was refused, whether signatures have run out."""
        state = self._state
        told: dict[str, Any] = {"release": state.release}
        if state.trial is not None:
            told["trial"] = state.trial.release or "by hand"
        if state.refused is not None:
            told["refused"] = {
                "release": state.refused.release,
                "fault": state.refused.fault.value,
                "why": state.refused.why[:_WHY_LIMIT],
            }
        if state.expires_s is not None and state.expires_s < utc_s:
            told["expired"] = True
        updates = self._settings.updates
        fetched = report.read(updates.spool) if updates is not None else None
        if fetched is not None and fetched.fault is not None:
            told["fetch"] = fetched.fault.value
        return told

    def close(self) -> None:
        """An orderly end: a start on trial is given back, and the child stops."""
        self._stop_child()
        if self.on_trial:
            self._change(given_back)

    def _confirm(self, why: str) -> None:
        self._change(confirmed)
        self._log.info("pack-in-force", why=why, release=self._state.release)

    def _change(self, make: Any) -> None:
        try:
            self._state = self._shelf.change(make)
        except UpdateError as exc:
            self._log.error("updates-record", exc=exc)

    def _reload(self) -> None:
        try:
            self._state = self._shelf.state()
        except UpdateError as exc:
            self._log.debug("updates-record", why=exc.message)

    def _look(self, now: float, policy: Policy) -> None:
        """A spool that changed since it was last examined gets a child to examine it."""
        updates = self._settings.updates
        if updates is None:
            return
        try:
            with durable.open_plain(updates.spool / "metadata" / "timestamp.json") as file:
                timestamp = file.read(_TIMESTAMP_LIMIT)
        except OSError:
            return
        digest = hashlib.sha256(timestamp).digest()
        if self._seen is not None and self._seen[0] == digest and now < self._seen[1]:
            return
        self._seen = digest, now + _RETRY_EACH_S
        command = Job(self._settings, policy.match_fmr_ppm).command(updates.spool)
        try:
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as exc:
            self._log.error("updates-child", exc=exc)
            return
        self._child_end_s = now + _CHILD_LIMIT_S

    def _reap(self, now: float) -> None:
        if self._child is None:
            return
        if self._child.poll() is None:
            if now < self._child_end_s:
                return
            self._log.warning("updates-child-slow")
            self._stop_child()
        self._child = None
        self._reload()

    def _stop_child(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()


def _wanted(state: State) -> str | None:
    """The pack that a start with this record takes; None is the firmware's own."""
    return state.trial.pack if state.trial is not None else state.pack


def folder_of(settings: Settings, pack: Pack) -> Path:
    """Where this pack lies: on the shelf, or where the firmware brought it."""
    own = shelf_of(settings).path_of(pack.digest.hex())
    return own if own.is_dir() else settings.pack_dir


def folder_in_force(settings: Settings) -> Path:
    """The folder of the pack that the next start would take, a trial aside; the built-in one where nobody knows."""
    shelf = shelf_of(settings)
    try:
        return shelf.path_of(shelf.state().pack)
    except UpdateError:
        return settings.pack_dir


def open_vision(settings: Settings, started_s: float) -> tuple[Pack, Pipeline, Updating]:
    """The pack to work with, opened; a start on trial is counted before that. PackError where there is none to serve.

    `started_s`: monotonic, now. A damaged record, or a disk that cannot be written, is no reason not to serve: the pack
    in force is taken, and no update until it is mended.
    """
    shelf = shelf_of(settings)

    def opened(pack: Pack) -> Pipeline:
        return Pipeline(pack, threads=settings.threads)

    pack, vision, state = shelf.begin(opened)
    return pack, vision, Updating(settings, state, started_s)
