"""One run of the doctor: every check with a time limit of its own, side by side where they can; the report at the end.

The same code runs inside the terminal, which lends its camera frame by frame, and in `vouch doctor` when no terminal
runs (terminal/doctor.py): whoever owns the camera calls `frame`, everything else has a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.drivers.camera import Frame
from edge.errors import VouchError
from edge.log import Log
from edge.provisioning import doctor, probe
from edge.provisioning.camera_checks import CameraChecks, Looks
from edge.provisioning.doctor import CAMERA_CHECKS, Check, Name, Verdict
from edge.provisioning.doctor_words import words_of
from edge.provisioning.probe import Instruments

TIME_LIMIT_S = 30.0
_CAMERA_LIMIT_S = 18.0
_ROUND_TRIP_S = 12.0
_REPORT_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Job:
    """Checks that one function makes, and how long it may take."""

    names: tuple[Name, ...]
    make: Callable[[Instruments], list[Check]]
    limit_s: float


_JOBS = (
    _Job((Name.MODELS,), probe.models, 20.0),
    _Job((Name.UPDATES,), probe.updates, 5.0),
    _Job((Name.KEYS,), probe.keys, 10.0),
    _Job((Name.CERTIFICATE,), probe.certificate, 6.0),
    _Job((Name.DISK, Name.WEAR), probe.storage, 10.0),
    _Job((Name.JOURNAL,), probe.journal, 25.0),
    _Job((Name.TEMPERATURE, Name.POWER), probe.board, 5.0),
    _Job((Name.BROKER, Name.CLOCK), lambda given: probe.link(given, _ROUND_TRIP_S), _ROUND_TRIP_S + 6.0),
)


@dataclass(frozen=True, slots=True)
class Report:
    """What the technician gets. `by` says who measured: the running terminal, or the doctor alone."""

    terminal_id: str
    site: str
    software: str
    made_at_s: int
    took_s: float
    by: str
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        return doctor.worst(self.checks)

    def as_record(self) -> dict[str, Any]:
        """JSON types, with the words of every check in both languages."""
        return {
            "v": _REPORT_VERSION,
            "terminal_id": self.terminal_id,
            "site": self.site,
            "software": self.software,
            "made_at_s": self.made_at_s,
            "took_s": round(self.took_s, 1),
            "by": self.by,
            "verdict": self.verdict.value,
            "checks": [record_of(check) for check in self.checks],
        }


def record_of(check: Check) -> dict[str, Any]:
    """One check as JSON types."""
    told = words_of(check)
    return {
        "name": check.name.value,
        "verdict": check.verdict.value,
        "finding": check.finding,
        "measured": dict(check.measured),
        "title": {"en": told.title.en, "zh": told.title.zh},
        "says": {"en": told.says.en, "zh": told.says.zh},
        "todo": None if told.todo is None else {"en": told.todo.en, "zh": told.todo.zh},
    }


class Examination:
    """`start`, then `frame` while `wants_frames`, until `wait` returns. Any thread may call but for `frame`."""

    def __init__(self, instruments: Instruments, *, software: str, by: str) -> None:
        self._given = instruments
        self._software = software
        self._by = by
        self._log = Log("doctor")
        self._started_s = time.monotonic()
        self._lock = threading.Condition()
        self._settled: dict[Name, Check] = {}
        self._listeners: list[Callable[[Check], None]] = []
        self._camera: CameraChecks | None = None
        source, looks = instruments.source, instruments.looks
        if isinstance(source, VouchError):
            self._settle_all([doctor.no_camera(name, source.message) for name in CAMERA_CHECKS])
        elif source.finite:
            self._settle_all([Check(name, Verdict.SKIP, "video-file") for name in CAMERA_CHECKS])
        else:
            self._camera = CameraChecks(
                source, instruments.settings.camera, looks if isinstance(looks, Looks) else None
            )

    def start(self) -> None:
        """Begin everything that needs no frames, each in a thread that nobody waits for beyond its limit."""
        for job in _JOBS:
            threading.Thread(target=self._run, args=(job,), name=f"doctor-{job.names[0].value}", daemon=True).start()

    def listen(self, listener: Callable[[Check], None]) -> None:
        """`listener` hears of every check, of settled ones at once; in any thread, and it must not block."""
        with self._lock:
            self._listeners.append(listener)
            settled = list(self._settled.values())
        for check in settled:
            listener(check)

    @property
    def wants_frames(self) -> bool:
        return self._camera is not None

    @property
    def over(self) -> bool:
        with self._lock:
            return len(self._settled) == len(Name)

    def frame(self, frame: Frame) -> None:
        """The camera's owner hands each frame in, and overwrites it afterwards."""
        camera = self._camera
        if camera is None:
            return
        try:
            camera.frame(frame)
        except Exception as exc:  # noqa: BLE001 - an examination that fails must not take the terminal with it
            self._log.error("camera-check-failed", exc=exc)
            self._end_camera([doctor.fault(name, "the check itself failed; see the log") for name in CAMERA_CHECKS])
            return
        if camera.over or time.monotonic() - self._started_s > _CAMERA_LIMIT_S:
            self._end_camera(camera.checks())

    def camera_lost(self, exc: VouchError) -> None:
        """No more frames will come."""
        if self._camera is not None:
            self._camera = None
            self._settle_all([doctor.no_camera(name, exc.message) for name in CAMERA_CHECKS])

    def abandon(self) -> None:
        """The process ends: what is not settled was not examined."""
        self.camera_lost(VouchError("the terminal stopped"))
        self._settle_all([Check(name, Verdict.SKIP, "not-examined") for name in Name])

    def checks(self) -> tuple[Check, ...]:
        """What is settled so far, in the report's order."""
        with self._lock:
            return tuple(self._settled[name] for name in Name if name in self._settled)

    def wait(self, limit_s: float = TIME_LIMIT_S) -> Report:
        """The report when every check is settled; what is not settled within the limit was too slow."""
        with self._lock:
            self._lock.wait_for(lambda: len(self._settled) == len(Name), max(0.0, limit_s))
        return self.report()

    def report(self) -> Report:
        """The report as of now; what is missing has failed by time."""
        settled = {check.name: check for check in self.checks()}
        settings = self._given.settings
        return Report(
            terminal_id=settings.terminal_id,
            site=settings.site,
            software=self._software,
            made_at_s=self._given.clock.utc(),
            took_s=time.monotonic() - self._started_s,
            by=self._by,
            checks=tuple(settled.get(name) or doctor.too_slow(name, TIME_LIMIT_S) for name in Name),
        )

    def _run(self, job: _Job) -> None:
        limit = threading.Timer(
            job.limit_s, self._settle_all, [[doctor.too_slow(name, job.limit_s) for name in job.names]]
        )
        limit.daemon = True
        limit.start()
        try:
            found = job.make(self._given)
        except Exception as exc:  # noqa: BLE001 - as in frame
            self._log.error("check-failed", exc=exc, check=job.names[0].value)
            found = [doctor.fault(name, "the check itself failed; see the log") for name in job.names]
        limit.cancel()
        self._settle_all(found)

    def _end_camera(self, checks: list[Check]) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.end()
        self._settle_all(checks)

    def _settle_all(self, checks: list[Check]) -> None:
        """The first word on a check counts: what comes after its time limit is too late."""
        with self._lock:
            fresh = [check for check in checks if check.name not in self._settled]
            self._settled.update({check.name: check for check in fresh})
            listeners = tuple(self._listeners)
            self._lock.notify_all()
        for listener in listeners:
            for check in fresh:
                listener(check)
