"""A telephone that is held to the terminal's camera: it shows the QR codes of a folder in turns, as a page would.

Light and hand are drawn; what the codes say is not known here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.session.machine import Screen
from simulator.room import draw_room

Array = NDArray[Any]  # float; numpy arithmetic loses the width

_TURN_S = 0.6  # as the carrier's page
_HEIGHT_SHARE = 0.62  # of the picture that the code takes: "half of the picture" is what the page asks for
_WHITE = 0.75  # of a screen turned up bright beside the shop's light
_LOOK_S = 0.5  # how often the folder is looked at
_GAMMA = 2.2


class PhoneStage:
    """An empty counter until the folder holds pictures (part-01.png and so on), then the telephone that shows them."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._codes: list[Array] = []
        self._names: list[tuple[str, int]] = []
        self._due_s = -math.inf

    def look(self, t_s: float, size: tuple[int, int]) -> Array:
        if t_s >= self._due_s:
            self._due_s = t_s + _LOOK_S
            self._look_at_folder()
        scene = draw_room(0, size).copy()
        if self._codes:
            self._hold(scene, self._codes[int(t_s / _TURN_S) % len(self._codes)], t_s)
        return scene

    def on_screen(self, screen: Screen) -> None: ...

    def _hold(self, scene: Array, code: Array, t_s: float) -> None:
        """The code as a screen a little out of square, in a hand that is never quite still."""
        height, width = scene.shape[:2]
        half = _HEIGHT_SHARE * height / 2
        sway = np.array([3.0 * math.sin(0.9 * t_s), 2.0 * math.sin(1.3 * t_s)])
        corners = np.array([[-1.0, -0.98], [1.0, -1.0], [0.97, 1.0], [-0.99, 0.98]]) * half
        corners += np.array([width / 2, height / 2]) + sway
        side = code.shape[0]
        square = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
        turn = cv2.getPerspectiveTransform(square, corners.astype(np.float32))
        seen = cv2.warpPerspective(code, turn, (width, height), flags=cv2.INTER_AREA, borderValue=(-1, -1, -1))
        scene[seen[..., 0] >= 0] = seen[seen[..., 0] >= 0]

    def _look_at_folder(self) -> None:
        if self._folder is None:
            return
        paths = sorted(self._folder.glob("part-*.png"))
        names = [(path.name, path.stat().st_mtime_ns) for path in paths]
        if names == self._names:
            return
        pictures = [cv2.imread(str(path), cv2.IMREAD_COLOR) for path in paths]
        if any(picture is None for picture in pictures):  # half written: the next look finds it whole
            return
        self._names = names
        self._codes = [_lit(picture) for picture in pictures if picture is not None]


def _lit(picture: NDArray[Any]) -> Array:
    """Linear light [side, side, 3], drawn large enough that modules stay square when they are turned."""
    large = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    return (_WHITE * np.power(large.astype(np.float32) / 255, _GAMMA)).astype(np.float32)
