"""Health of the board as the kernel reports it: temperature, throttling, power. None where this board cannot say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SYS = Path("/sys")


@dataclass(frozen=True, slots=True)
class BoardHealth:
    temperature_c: float | None
    under_voltage: bool | None  # has happened since boot
    throttled: bool | None  # clock limited now or since boot
    model: str | None
    under_voltage_now: bool | None = None
    throttled_now: bool | None = None


def read_health(sys: Path = _SYS, device_tree: Path = Path("/proc/device-tree")) -> BoardHealth:
    """Read sysfs; never raises. The folders are parameters so that a test can lay out a board of its own."""
    flags = _throttled_flags(sys)
    return BoardHealth(
        temperature_c=_temperature(sys),
        under_voltage=_alarm(sys) if flags is None else bool(flags & 0x1_0001),
        throttled=None if flags is None else bool(flags & 0xE_000E),
        model=_text(device_tree / "model"),
        under_voltage_now=None if flags is None else bool(flags & 0x1),
        throttled_now=None if flags is None else bool(flags & 0xE),
    )


def _temperature(sys: Path) -> float | None:
    readings = [_text(zone / "temp") for zone in sorted((sys / "class/thermal").glob("thermal_zone*"))]
    values = [int(reading) / 1000 for reading in readings if reading and reading.lstrip("-").isdigit()]
    return max(values, default=None)


def _throttled_flags(sys: Path) -> int | None:
    """Bits of `vcgencmd get_throttled`: 0 under-voltage, 1 capped, 2 throttled, 3 soft limit; +16 since boot."""
    text = _text(sys / "devices/platform/soc/soc:firmware/get_throttled")
    try:
        return None if text is None else int(text, 16)
    except ValueError:
        return None


def _alarm(sys: Path) -> bool | None:
    for monitor in sorted((sys / "class/hwmon").glob("hwmon*")):
        if _text(monitor / "name") == "rpi_volt":
            alarm = _text(monitor / "in0_lcrit_alarm")
            return None if alarm is None else alarm != "0"
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip("\x00\n ")
    except OSError:
        return None
