"""The DET plot: false non-match over false match rate, normal-deviate axes (Martin et al. 1997); makes no figures."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE_PX = 640
_EDGE_PX = 70
_TICKS = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5)
_LOW, _HIGH = 0.00005, 0.6


def draw(path: Path, fmr: NDArray[np.float64], fnmr: NDArray[np.float64], title: str) -> None:
    """Writes a PNG. fmr, fnmr: the two rates along the thresholds, 0..1. OSError where it cannot be written."""
    canvas = np.full((_SIDE_PX, _SIDE_PX, 3), 255, np.uint8)
    for tick in _TICKS:
        at = _place(tick)
        cv2.line(canvas, (at, _EDGE_PX), (at, _SIDE_PX - _EDGE_PX), (220, 220, 220), 1)
        cv2.line(canvas, (_EDGE_PX, _SIDE_PX - at), (_SIDE_PX - _EDGE_PX, _SIDE_PX - at), (220, 220, 220), 1)
        _write(canvas, f"{100 * tick:g} %", (at - 22, _SIDE_PX - _EDGE_PX + 22))
        _write(canvas, f"{100 * tick:g} %", (8, _SIDE_PX - at + 5))
    inside = (fmr > _LOW) & (fnmr > _LOW) & (fmr < _HIGH) & (fnmr < _HIGH)
    line = [[_place(a), _SIDE_PX - _place(b)] for a, b in zip(fmr[inside], fnmr[inside], strict=True)]
    if line:
        cv2.polylines(canvas, [np.array(line, np.int32)], isClosed=False, color=(160, 60, 20), thickness=2)
    _write(canvas, title, (_EDGE_PX, 30))
    _write(canvas, "false match rate", (_SIDE_PX // 2 - 60, _SIDE_PX - 12))
    _write(canvas, "false non-match rate", (_EDGE_PX, _EDGE_PX - 12))
    try:
        written = cv2.imwrite(str(path), canvas)
    except cv2.error as exc:
        raise OSError(f"{path} is no kind of picture that can be written") from exc
    if not written:
        raise OSError(f"{path} cannot be written")


def _place(rate: float) -> int:
    normal = NormalDist()
    share = (normal.inv_cdf(rate) - normal.inv_cdf(_LOW)) / (normal.inv_cdf(_HIGH) - normal.inv_cdf(_LOW))
    return round(_EDGE_PX + share * (_SIDE_PX - 2 * _EDGE_PX))


def _write(canvas: NDArray[np.uint8], text: str, at: tuple[int, int]) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA)
