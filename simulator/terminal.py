"""The terminal process of the simulator: the firmware's own service with a simulated camera; it decides nothing."""

from __future__ import annotations

import json
import logging
import math
import signal
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from edge.config import CameraSettings, Settings
from edge.log import setup
from edge.terminal import first_boot
from edge.terminal.opening import open_identity, open_journal
from edge.terminal.service import Terminal
from edge.terminal.session import SessionReport
from edge.terminal.sockets import inherited_sockets
from edge.terminal.updating import open_vision
from edge.watchdog import Notifier
from edge.words import word_of
from simulator.camera import Optics, SimulatedCamera
from simulator.film import Film, FilmClock, Role
from simulator.phone import PhoneStage

_FIRST_BOOT_FPS = 10.0  # a code is shown for 0.6 s; a desk has other work than to draw an empty counter
MEASURED = "measured "  # what begins a line of measurements on standard output


def run_first_boot(folder: Path, phone: Path | None, *, verbose: bool = False) -> int | None:
    """The terminal before its enrolment; its camera sees a telephone with the pictures in `phone`, as
    `vouch-sim carrier enrol --png` writes them, once they are there. Result as of first_boot.main.
    """

    def camera(settings: CameraSettings) -> SimulatedCamera:
        return SimulatedCamera(PhoneStage(phone), size=(settings.width, settings.height), fps=_FIRST_BOOT_FPS)

    return first_boot.main(folder, verbose=verbose, open_camera=camera)


def run_terminal(
    settings: Settings,
    roles: Sequence[Role],
    *,
    idle: Role | None = None,
    optics: Optics | None = None,
    verbose: bool = False,
) -> int:
    """Be the terminal until SIGTERM. One role comes forward at each session, and after the last the first again.

    `idle` stands there while there is no session: what a technician holds to the camera. `optics` may be bad ones.

    After each session a line of measurements goes to standard output, for the developer: they are about simulated
    people, and no part of them is in the result. The exit code is the service's.
    """
    setup("terminal", level=logging.DEBUG if verbose else logging.INFO)
    identity = open_identity(settings)
    camera = settings.camera
    clock = FilmClock(1 / camera.fps)
    pack, vision, updating = open_vision(settings, clock.monotonic())
    film = Film(roles, clock, size=(camera.width, camera.height), fps=camera.fps, idle=idle, optics=optics)
    terminal = Terminal(
        settings,
        source=film,
        vision=vision,
        pack=pack,
        updating=updating,
        identity=identity,
        journal=open_journal(settings),
        clock=clock,
        notifier=Notifier.from_environment(),
        on_screen=film.on_screen,
        on_report=_print_measurements,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: terminal.stop())
    return terminal.run(inherited=inherited_sockets())


def _print_measurements(report: SessionReport) -> None:
    line = {
        "counter": report.counter,
        "outcome": report.result.outcome,
        "scores": asdict(report.measures) if report.measures else None,
        "stage_s": report.stage_s,
        "frames": report.frames,
        "vision_ms": report.vision_ms,
        "decision_ms": report.decision_ms,
    }
    print(MEASURED + json.dumps(_plain(line)), flush=True)


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return word_of(value)
        case float():
            return round(value, 4) if math.isfinite(value) else None
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
