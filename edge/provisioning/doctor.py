"""The technician's checks as pure values: what was measured -> pass, warn, fail or not possible here, and why.

Nothing is measured here (probe.py, camera_checks.py) and nothing is put in words (doctor_words.py). What a check keeps
of a measurement is in its `measured`: numbers of the machine and of the light, never a picture, a template or a score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

from edge.drivers.board import BoardHealth
from edge.drivers.camera import SensorIdentity, SensorKind
from edge.drivers.storage import Room, Wear
from edge.ipc import Papers
from edge.session.quality import MAX_BRIGHTNESS

Measured = str | int | float | bool | None


class Verdict(Enum):
    PASS = "pass"  # noqa: S105 - a verdict, no password
    WARN = "warn"  # works, but somebody should look
    FAIL = "fail"
    SKIP = "not-possible"  # cannot be checked here or now; says nothing about the terminal


class Name(Enum):
    """Every check, in the order of the report."""

    SENSOR = "camera-sensor"
    FRAMES = "camera-frames"
    EXPOSURE = "camera-exposure"
    FOCUS = "camera-focus"
    LIGHT = "light"
    SELF_MATCH = "self-match"
    MODELS = "models"
    UPDATES = "updates"
    KEYS = "keys"
    CERTIFICATE = "certificate"
    CLOCK = "clock"
    DISK = "disk"
    WEAR = "disk-wear"
    JOURNAL = "journal"
    TEMPERATURE = "temperature"
    POWER = "power"
    BROKER = "broker"


CAMERA_CHECKS = (Name.SENSOR, Name.FRAMES, Name.EXPOSURE, Name.FOCUS, Name.LIGHT, Name.SELF_MATCH)


@dataclass(frozen=True, slots=True)
class Check:
    """One check's outcome. `finding` is the key of its words; `measured` are their fields too."""

    name: Name
    verdict: Verdict
    finding: str
    measured: Mapping[str, Measured] = field(default_factory=dict)


def worst(checks: Iterable[Check]) -> Verdict:
    """FAIL before WARN before PASS; what was not possible does not count."""
    found = {check.verdict for check in checks}
    return next((verdict for verdict in (Verdict.FAIL, Verdict.WARN) if verdict in found), Verdict.PASS)


def fault(name: Name, detail: str) -> Check:
    """The check could not be made because the thing itself is broken; `detail` is a VouchError's own message."""
    return Check(name, Verdict.FAIL, "fault", {"detail": detail})


def too_slow(name: Name, limit_s: float) -> Check:
    return Check(name, Verdict.FAIL, "too-slow", {"limit_s": limit_s})


def no_camera(name: Name, detail: str) -> Check:
    """What a check of the camera says when there are no frames; FRAMES itself is the one that fails."""
    if name is Name.FRAMES:
        return Check(name, Verdict.FAIL, "no-camera", {"detail": detail})
    return Check(name, Verdict.SKIP, "needs-camera")


# Camera

# EAR blink detection needs 15 frames a second; below 10 no movement is recognised in time.
_FPS_FAIL, _FPS_WARN = 10.0, 15.0
_FPS_SHARE_WARN = 0.85
_GAP_WARN_S = 0.5


def frames(times_s: list[float], asked_fps: int) -> Check:
    """`times_s`: the sensor's timestamps of successive frames."""
    gaps = [after - before for before, after in pairwise(times_s)]
    if not gaps or times_s[-1] <= times_s[0]:
        return Check(Name.FRAMES, Verdict.FAIL, "no-camera", {"detail": f"{len(times_s)} frames"})
    fps = len(gaps) / (times_s[-1] - times_s[0])
    measured: dict[str, Measured] = {
        "fps": round(fps, 1),
        "asked_fps": asked_fps,
        "longest_gap_ms": round(1000 * max(gaps)),
        "frames": len(times_s),
    }
    if min(gaps) <= 0:
        return Check(Name.FRAMES, Verdict.FAIL, "time-goes-back", measured)
    if fps < 0.95 * _FPS_FAIL:
        return Check(Name.FRAMES, Verdict.FAIL, "slow", measured)
    if fps < _FPS_WARN or fps < _FPS_SHARE_WARN * asked_fps or max(gaps) > _GAP_WARN_S:
        return Check(Name.FRAMES, Verdict.WARN, "slow", measured)
    return Check(Name.FRAMES, Verdict.PASS, "good", measured)


def sensor(found: SensorIdentity | None, expected: str | None) -> Check:
    """`expected`: the setting camera.sensor."""
    if found is None:
        return Check(Name.SENSOR, Verdict.SKIP, "silent")
    measured: dict[str, Measured] = {"model": found.model, "unit": found.unit, "kind": found.kind.value}
    if expected is not None and found.model != expected:
        return Check(Name.SENSOR, Verdict.FAIL, "other", {**measured, "expected": expected})
    if found.kind is SensorKind.VIRTUAL:
        return Check(Name.SENSOR, Verdict.FAIL, "virtual", measured)
    if found.kind is not SensorKind.HARDWARE:
        return Check(Name.SENSOR, Verdict.WARN, "not-real", measured)
    return Check(Name.SENSOR, Verdict.PASS, "good", measured)


@dataclass(frozen=True, slots=True)
class ExposureStep:
    """One step of exposure: asked for, as the frames' metadata say, and how the picture changed. All are ratios."""

    asked: float
    told: float
    luma: float


# A step is quantised by the sensor's lines and gains; automatic control may still be settling.
_STEP_TOLERANCE = 0.15
# Linear light is encoded with a gamma of about 2.2: half the light shows as 0.73 of the luma. Offsets blur that.
_LUMA_TOLERANCE = 0.12


def exposure(steps: list[ExposureStep] | None) -> Check:
    """None: this source does not control exposure."""
    if steps is None:
        return Check(Name.EXPOSURE, Verdict.SKIP, "no-control")
    measured: dict[str, Measured] = {f"told_at_{step.asked:g}": round(step.told, 2) for step in steps}
    measured |= {f"luma_at_{step.asked:g}": round(step.luma, 2) for step in steps}
    if not steps or any(abs(step.told / step.asked - 1) > _STEP_TOLERANCE for step in steps):
        return Check(Name.EXPOSURE, Verdict.FAIL, "not-obeyed", measured)
    if any((step.luma - 1) * (step.asked - 1) < 0 or abs(step.luma - 1) < _LUMA_TOLERANCE / 2 for step in steps):
        return Check(Name.EXPOSURE, Verdict.FAIL, "picture-does-not-follow", measured)
    return Check(Name.EXPOSURE, Verdict.PASS, "good", measured)


FOCUS_FAIL, FOCUS_WARN = 45, 65  # a lens spread of more than 2 px, of 1.5 px; see drivers/focus.py


def focus(figure: int | None, *, subject: bool, dark: bool) -> Check:
    """`subject`: a face or the reference target stands at the face position; a far wall may well be out of focus."""
    measured: dict[str, Measured] = {"figure": figure}
    if dark:
        return Check(Name.FOCUS, Verdict.SKIP, "dark", measured)
    if figure is None or not subject:
        return Check(Name.FOCUS, Verdict.SKIP, "no-subject", measured)
    if figure < FOCUS_FAIL:
        return Check(Name.FOCUS, Verdict.FAIL, "blurred", measured)
    if figure < FOCUS_WARN:
        return Check(Name.FOCUS, Verdict.WARN, "soft", measured)
    return Check(Name.FOCUS, Verdict.PASS, "good", measured)


@dataclass(frozen=True, slots=True)
class Light:
    """At the face position. Mean lumas 0..1; `surround` is the rest of the frame. `gain` None: not known."""

    brightness: float
    surround: float
    side: float
    gain: float | None
    by_face: bool  # measured on a face or the target; else on the oval where a face would be


# Stricter than a session's gate: who stands there for the doctor may have light skin, and customers darker skin, of
# which a camera that exposes for the room makes half of that luma.
_MIN_BRIGHTNESS = 0.16
_MAX_SURROUND_OVER_FACE = 0.40
_GAIN_WARN = 8.0  # noise of a small sensor: what the models can bear
_SIDE_WARN = 0.40


def is_dark(found: Light) -> bool:
    return not found.brightness >= _MIN_BRIGHTNESS


def light(found: Light) -> Check:
    measured: dict[str, Measured] = {
        "brightness": round(found.brightness, 2),
        "surround": round(found.surround, 2),
        "side": round(found.side, 2),
        "gain": None if found.gain is None else round(found.gain, 1),
        "by_face": found.by_face,
    }
    if is_dark(found):
        return Check(Name.LIGHT, Verdict.FAIL, "dark", measured)
    if found.surround - found.brightness > _MAX_SURROUND_OVER_FACE:
        return Check(Name.LIGHT, Verdict.FAIL, "backlit", measured)
    if found.brightness > MAX_BRIGHTNESS:
        return Check(Name.LIGHT, Verdict.FAIL, "bright", measured)
    if found.gain is not None and found.gain > _GAIN_WARN:
        return Check(Name.LIGHT, Verdict.WARN, "little", measured)
    if found.side > _SIDE_WARN:
        return Check(Name.LIGHT, Verdict.WARN, "side", measured)
    return Check(Name.LIGHT, Verdict.PASS, "good", measured)


class TargetSeen(Enum):
    """What came of the reference target held to the camera; no score exists beyond this."""

    ABSENT = "absent"
    NO_FACE = "no-face"  # its mark was read, but no face found on it
    DIFFERS = "differs"
    MATCHES = "matches"


def self_match(seen: TargetSeen) -> Check:
    verdict = {TargetSeen.ABSENT: Verdict.SKIP, TargetSeen.MATCHES: Verdict.PASS}.get(seen, Verdict.FAIL)
    return Check(Name.SELF_MATCH, verdict, seen.value)


# What the terminal holds


def models(name: str, version: str, digest: bytes, in_force: bytes | None) -> Check:
    """The pack on the disk was verified wholly; `in_force` is the digest of the one that the process works with."""
    measured: dict[str, Measured] = {"pack": f"{name} {version}", "digest": digest.hex()}
    if in_force is not None and in_force != digest:
        return Check(Name.MODELS, Verdict.WARN, "restart", {**measured, "in_force": in_force.hex()})
    return Check(Name.MODELS, Verdict.PASS, "good", measured)


@dataclass(frozen=True, slots=True)
class UpdatesSeen:
    """`refused`: why the last update was not taken; `unfetched`: why the uplink brought none."""

    offered: bool  # whether this terminal has a root to check updates by
    release: int  # in force; 0 before the first
    on_trial: bool
    refused: str | None
    unfetched: str | None
    expired: bool


def updates(seen: UpdatesSeen) -> Check:
    """Nothing here stops the service: the pack in force goes on."""
    measured: dict[str, Measured] = {"release": seen.release}
    if seen.refused is not None:
        return Check(Name.UPDATES, Verdict.WARN, "refused", {**measured, "why": seen.refused})
    if seen.expired:
        return Check(Name.UPDATES, Verdict.WARN, "expired", measured)
    if seen.unfetched is not None:
        return Check(Name.UPDATES, Verdict.WARN, "not-fetched", {**measured, "why": seen.unfetched})
    if seen.on_trial:
        return Check(Name.UPDATES, Verdict.PASS, "on-trial", measured)
    if not seen.offered:
        return Check(Name.UPDATES, Verdict.SKIP, "none")
    return Check(Name.UPDATES, Verdict.PASS, "good", measured)


def keys(*, hardware: bool, carrier_keys: int) -> Check:
    measured: dict[str, Measured] = {"hardware": hardware, "carrier_keys": carrier_keys}
    if not hardware:
        return Check(Name.KEYS, Verdict.WARN, "software", measured)
    return Check(Name.KEYS, Verdict.PASS, "good", measured)


_DAY_S = 86_400
_DAYS_WARN = 30


def days_left(until_s: int, now_s: int) -> int:
    """Whole days, rounded down; negative after the end."""
    return (until_s - now_s) // _DAY_S


def certificate(papers: Papers | None, now_s: int) -> Check:
    """The uplink's certificate and the carrier's CA; None: nobody could tell."""
    if papers is None:
        return Check(Name.CERTIFICATE, Verdict.SKIP, "unknown")
    days, ca_days = days_left(papers.certificate_until_s, now_s), days_left(papers.ca_until_s, now_s)
    measured: dict[str, Measured] = {"days_left": days, "ca_days_left": ca_days}
    if now_s < papers.from_s:
        return Check(
            Name.CERTIFICATE, Verdict.FAIL, "early", measured | {"days_early": days_left(papers.from_s, now_s) + 1}
        )
    if min(days, ca_days) < 0:
        return Check(Name.CERTIFICATE, Verdict.FAIL, "expired", measured)
    if min(days, ca_days) < _DAYS_WARN:
        return Check(Name.CERTIFICATE, Verdict.WARN, "soon", measured)
    return Check(Name.CERTIFICATE, Verdict.PASS, "good", measured)


# Before this software was written no clock of a terminal that runs it can be right: 2026-06-01.
_SOFTWARE_S = 1_780_272_000
_TEN_YEARS_S = 10 * 365 * _DAY_S
_OFFSET_FAIL_S = 120  # as messages.SKEW_S: beyond it the carrier's challenges are refused
_OFFSET_WARN_S = 10


def clock(now_s: int, *, synchronised: bool, offset_s: int | None) -> Check:
    """`offset_s`: ours less the carrier's, from a test receipt; None without one."""
    measured: dict[str, Measured] = {"utc_s": now_s, "synchronised": synchronised, "offset_s": offset_s}
    if not _SOFTWARE_S <= now_s <= _SOFTWARE_S + _TEN_YEARS_S:
        return Check(Name.CLOCK, Verdict.FAIL, "implausible", measured)
    if offset_s is not None and abs(offset_s) > _OFFSET_FAIL_S:
        return Check(Name.CLOCK, Verdict.FAIL, "wrong", measured)
    if offset_s is not None and abs(offset_s) > _OFFSET_WARN_S:
        return Check(Name.CLOCK, Verdict.WARN, "off", measured)
    if not synchronised:
        return Check(Name.CLOCK, Verdict.WARN, "unsynchronised", measured)
    return Check(Name.CLOCK, Verdict.PASS, "good" if offset_s is None else "agrees", measured)


# Disk and journal

_MIB = 1024 * 1024
_INODES_FAIL = 64


def disk(room: Room, journal_bytes: int, *, reserve_bytes: int) -> Check:
    """`reserve_bytes`: free space below which no session starts (journal.RESERVE_BYTES)."""
    measured: dict[str, Measured] = {
        "free_mib": room.free_bytes // _MIB,
        "total_mib": room.total_bytes // _MIB,
        "journal_kib": journal_bytes // 1024,
    }
    if room.read_only:
        return Check(Name.DISK, Verdict.FAIL, "read-only", measured)
    if room.free_bytes < reserve_bytes or room.free_inodes < _INODES_FAIL:
        return Check(Name.DISK, Verdict.FAIL, "full", measured)
    if room.free_bytes < max(64 * _MIB, room.total_bytes // 20):
        return Check(Name.DISK, Verdict.WARN, "low", measured)
    return Check(Name.DISK, Verdict.PASS, "good", measured)


def wear(found: Wear) -> Check:
    measured: dict[str, Measured] = {
        "medium": found.medium.value,
        "name": found.name,
        "worn_percent": found.worn_percent,
        "reserve": found.reserve,
    }
    if found.worn_percent is None and found.reserve is None:
        return Check(Name.WEAR, Verdict.SKIP, "silent", measured)
    worn = found.worn_percent or 0
    if worn > 100 or found.reserve == 3:
        return Check(Name.WEAR, Verdict.FAIL, "worn-out", measured)
    if worn > 80 or found.reserve == 2:
        return Check(Name.WEAR, Verdict.WARN, "worn", measured)
    return Check(Name.WEAR, Verdict.PASS, "good", measured)


_WAITING_WARN = 50


def journal(rows: int, waiting: int, head: int, max_rows: int) -> Check:
    """The chain was read wholly and holds."""
    measured: dict[str, Measured] = {"results": head, "rows": rows, "waiting": waiting}
    if waiting >= max_rows:
        return Check(Name.JOURNAL, Verdict.FAIL, "full", measured)
    if waiting >= _WAITING_WARN:
        return Check(Name.JOURNAL, Verdict.WARN, "waiting", measured)
    return Check(Name.JOURNAL, Verdict.PASS, "good", measured)


# The board

_HOT_FAIL_C, _HOT_WARN_C = 85.0, 75.0  # a Raspberry Pi throttles from 80 on, hard at 85


def temperature(board: BoardHealth) -> Check:
    measured: dict[str, Measured] = {
        "temperature_c": None if board.temperature_c is None else round(board.temperature_c, 1),
        "throttled": board.throttled,
        "throttled_now": board.throttled_now,
    }
    if board.temperature_c is None and board.throttled is None:
        return Check(Name.TEMPERATURE, Verdict.SKIP, "silent", measured)
    celsius = board.temperature_c or 0.0
    if celsius >= _HOT_FAIL_C or (board.throttled_now and celsius >= _HOT_WARN_C):
        return Check(Name.TEMPERATURE, Verdict.FAIL, "hot", measured)
    if celsius >= _HOT_WARN_C:
        return Check(Name.TEMPERATURE, Verdict.WARN, "warm", measured)
    if board.throttled:
        return Check(Name.TEMPERATURE, Verdict.WARN, "throttled", measured)
    return Check(Name.TEMPERATURE, Verdict.PASS, "good", measured)


def power(board: BoardHealth) -> Check:
    measured: dict[str, Measured] = {"under_voltage": board.under_voltage, "under_voltage_now": board.under_voltage_now}
    if board.under_voltage is None:
        return Check(Name.POWER, Verdict.SKIP, "silent", measured)
    if board.under_voltage_now:
        return Check(Name.POWER, Verdict.FAIL, "low-now", measured)
    if board.under_voltage:
        return Check(Name.POWER, Verdict.WARN, "was-low", measured)
    return Check(Name.POWER, Verdict.PASS, "good", measured)


# The link


class Trip(Enum):
    """How far a self-test's result came."""

    RECEIVED = "received"  # the carrier's signed receipt released it
    REFUSED_BY_CARRIER = "refused-by-carrier"  # a receipt that says: somebody must look
    NO_RECEIPT = "no-receipt"
    QUEUED = "queued"  # older results are still before it, and they move
    NO_UPLINK = "no-uplink"
    LINK_DOWN = "link-down"
    LINK_REFUSED = "link-refused"
    TAKEN_OVER = "taken-over"
    NOT_STORED = "not-stored"


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """`detail`: the uplink's or our own words on why; `offset_s`: our clock less the carrier's, where it answered."""

    trip: Trip
    took_s: float | None = None
    counter: int | None = None
    offset_s: int | None = None
    waiting: int | None = None
    detail: str = ""


def broker(found: RoundTrip) -> Check:
    measured: dict[str, Measured] = {
        "took_ms": None if found.took_s is None else round(1000 * found.took_s),
        "counter": found.counter,
        "waiting": found.waiting,
        "detail": found.detail,
    }
    verdict = {Trip.RECEIVED: Verdict.PASS, Trip.QUEUED: Verdict.WARN}.get(found.trip, Verdict.FAIL)
    return Check(Name.BROKER, verdict, found.trip.value, measured)
