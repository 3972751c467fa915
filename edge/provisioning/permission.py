"""Who changes a provisioned terminal at a console knows the technician's PIN, as on the technician's page.

The commands need root, and root could do without them; the PIN stands against a console that was left open and a
command that was meant for another terminal, and wrong attempts are counted with the page's (pin.py). Before the first
accepted receipt there is nothing to guard. Where no PIN was set nothing is asked, but that is said: who may set one
here may do this too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from getpass import getpass
from pathlib import Path

from edge import config, durable
from edge.clock import Clock, SystemClock
from edge.errors import ProvisioningError
from edge.provisioning.identity import SETTINGS
from edge.provisioning.pin import PIN_NAME, PinGate

Ask = Callable[[str], str]
_PIN_FILE_MAX = 4096


def require_pin(
    folder: Path,
    *,
    pin_file: Path | None = None,
    ask: Ask | None = None,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns where this may go on. ProvisioningError: the PIN is wrong or missing; nothing was changed. ConfigError.

    After three wrong ones each attempt waits first, see pin.py. `ask`: how a PIN is asked for; default: the console,
    or a line of standard input.
    """
    path = folder / SETTINGS
    if not path.exists():
        return
    settings = config.load(path)
    if settings.accepted_path.exists():
        check_pin(settings.state_dir, pin_file=pin_file, ask=ask, clock=clock, sleep=sleep)


def check_pin(
    state_dir: Path,
    *,
    pin_file: Path | None = None,
    ask: Ask | None = None,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """As `require_pin`, whatever the terminal's standing."""
    gate = PinGate(state_dir, clock or SystemClock())
    if not gate.is_set:
        print("no technician's PIN is set here: `vouch technician pin` sets one", file=sys.stderr)
        return
    if (wait_s := gate.wait_s()) > 0:
        print(f"wrong PINs were tried: wait {wait_s:.0f} s", file=sys.stderr, flush=True)
        sleep(wait_s)
    given = _read(pin_file) if pin_file is not None else (ask or ask_here)("technician's PIN: ")
    if not given:
        raise ProvisioningError("the technician's PIN is missing", todo="type it, or name a file with --pin-file")
    if not gate.opens(given):
        raise ProvisioningError(
            "this is not the technician's PIN: nothing was changed",
            todo=f"type it again; forgotten: remove {state_dir / PIN_NAME} as root, and set a new one",
        )


def ask_here(prompt: str) -> str:
    """What is typed at the console, unseen; without one a line of standard input."""
    return getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().strip()


def _read(path: Path) -> str:
    try:
        with durable.open_plain(path, linked=True) as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ProvisioningError(f"{path} may be read by others", todo=f"chmod 600 {path}")
            return file.read(_PIN_FILE_MAX).decode().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ProvisioningError(f"{path} cannot be read: {exc}", todo="name the file with the PIN") from exc
