"""The terminal process before a picture that is known to the byte: real vision, real everything, one still frame.

python -m tests.support.filmed terminal.toml frame.npy
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import numpy as np

from edge.clock import SystemClock
from edge.config import load
from edge.drivers.camera import Frame
from edge.log import setup
from edge.session.observation import FrameInfo
from edge.terminal.opening import open_identity, open_journal
from edge.terminal.service import Terminal
from edge.terminal.sockets import inherited_sockets
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from edge.watchdog import Notifier


class Still:
    """A camera that films one picture, thirty times a second."""

    exposure_control = False
    finite = False

    def __init__(self, image: np.ndarray) -> None:
        self._image = image
        self._index = 0

    def read(self, timeout_s: float) -> Frame:
        time.sleep(1 / 30)
        self._index += 1
        height, width = self._image.shape[:2]
        return Frame(self._image.copy(), FrameInfo(self._index, time.monotonic(), width, height))

    def set_exposure(self, factor: float) -> None: ...

    def close(self) -> None: ...


def main(config: Path, frame: Path) -> int:
    setup("terminal", level=10)
    settings = load(config)
    pack = Pack.load(settings.pack_dir)
    terminal = Terminal(
        settings,
        source=Still(np.load(frame)),
        vision=Pipeline(pack),
        pack=pack,
        identity=open_identity(settings),
        journal=open_journal(settings),
        clock=SystemClock(),
        notifier=Notifier.from_environment(),
    )
    signal.signal(signal.SIGTERM, lambda *_: terminal.stop())
    return terminal.run(inherited=inherited_sockets())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
