"""Shares with their intervals as a picture; what is counted belongs to report.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

_ROW_PX, _NAME_PX, _AXIS_PX, _VALUE_PX, _HEAD_PX, _EDGE_PX = 24, 190, 330, 70, 56, 16
_INK, _SOFT, _GRID, _DARK, _PALE = (40, 40, 40), (120, 120, 120), (225, 225, 225), (150, 80, 20), (215, 170, 120)


class Share(Protocol):
    """What is drawn of a rate."""

    @property
    def share(self) -> float: ...

    @property
    def interval(self) -> tuple[float, float]: ...


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: a name and a share; a heading where the share is None. `soft` is drawn paler."""

    name: str
    rate: Share | None
    soft: bool = False


def draw_bars(path: Path, title: str, bars: Sequence[Bar], *, columns: int = 1) -> None:
    """A PNG of horizontal bars from 0 to 100 %; groups that begin with a heading are never torn apart."""
    groups: list[list[Bar]] = []
    for bar in bars:
        if bar.rate is None or not groups:
            groups.append([])
        groups[-1].append(bar)
    most = -(-sum(len(group) for group in groups) // columns)
    stacks: list[list[Bar]] = [[]]
    for group in groups:
        if stacks[-1] and len(stacks) < columns and len(stacks[-1]) + len(group) / 2 > most:
            stacks.append([])
        stacks[-1] += group
    wide = _NAME_PX + _AXIS_PX + _VALUE_PX + _EDGE_PX
    high = _HEAD_PX + _ROW_PX * max(len(stack) for stack in stacks) + _EDGE_PX
    picture = np.full((high, wide * len(stacks) + _EDGE_PX, 3), 255, np.uint8)
    _text(picture, title, _EDGE_PX, 30, size=17)
    for number, stack in enumerate(stacks):
        _draw_stack(picture, stack, _EDGE_PX + number * wide)
    cv2.imwrite(str(path), picture)


def _draw_stack(picture: np.ndarray, bars: Sequence[Bar], left: int) -> None:
    axis = left + _NAME_PX
    for tick in range(0, 101, 25):
        x = axis + round(_AXIS_PX * tick / 100)
        cv2.line(picture, (x, _HEAD_PX - 6), (x, _HEAD_PX + _ROW_PX * len(bars)), _GRID, 1)
        _text(picture, f"{tick} %", x - 12, _HEAD_PX - 10, size=11, colour=_SOFT)
    for row, bar in enumerate(bars):
        y = _HEAD_PX + _ROW_PX * row
        if bar.rate is None:
            _text(picture, bar.name, left, y + 17, size=14)
            continue
        _text(picture, bar.name, left + 12, y + 16, size=13, colour=_SOFT)
        low, high = bar.rate.interval
        end = axis + round(_AXIS_PX * bar.rate.share)
        cv2.rectangle(picture, (axis, y + 6), (max(end, axis + 1), y + 17), _PALE if bar.soft else _DARK, -1)
        from_x, to_x = (axis + round(_AXIS_PX * value) for value in (low, high))
        cv2.line(picture, (from_x, y + 12), (to_x, y + 12), _INK, 1, cv2.LINE_AA)
        for x in (from_x, to_x):
            cv2.line(picture, (x, y + 8), (x, y + 16), _INK, 1)
        _text(picture, f"{100 * bar.rate.share:.0f} %", axis + _AXIS_PX + 10, y + 16, size=13)


def _text(picture: np.ndarray, words: str, x: int, y: int, *, size: int, colour: tuple[int, int, int] = _INK) -> None:
    if hasattr(cv2, "FontFace"):  # OpenCV 5 has outlines
        cv2.putText(picture, words, (x, y), colour, cv2.FontFace("sans"), size, 400)
    else:
        cv2.putText(picture, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size / 30, colour, 1, cv2.LINE_AA)
