"""Lines for people: aligned, a little colour on a terminal, plain in a log; what they say is decided elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum
from typing import TextIO


class Tone(Enum):
    """ANSI colour of a piece of text."""

    PLAIN = ""
    SOFT = "2"
    STRONG = "1"
    GOOD = "32"
    BAD = "31"
    ODD = "33"


class Report:
    """Writes whole lines and flushes each: progress is seen when it happens."""

    def __init__(self, stream: TextIO, *, colour: bool | None = None) -> None:
        """`colour` None: where the stream is a terminal and NO_COLOR is not set (no-color.org)."""
        self._stream = stream
        self._colour = stream.isatty() and "NO_COLOR" not in os.environ if colour is None else colour

    def paint(self, text: str, tone: Tone) -> str:
        return f"\033[{tone.value}m{text}\033[0m" if self._colour and tone.value else text

    def line(self, text: str = "") -> None:
        print(text, file=self._stream, flush=True)

    def heading(self, text: str, remark: str = "") -> None:
        self.line()
        self.line(self.paint(text, Tone.STRONG) + (f"   {self.paint(remark, Tone.SOFT)}" if remark else ""))

    def step(self, at_s: float, name: str, text: str) -> None:
        """One thing that happened: seconds since the start, what, and the words."""
        self.line(f"  {self.paint(f'{at_s:5.1f} s', Tone.SOFT)}  {name:<11} {text}")

    def fact(self, name: str, text: str) -> None:
        self.line(f"  {self.paint(f'{name:<18}', Tone.SOFT)} {text}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns as wide as their widest cell; all but the first aligned to the right."""
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        for number, row in enumerate((head, *rows)):
            cells = [f"{row[0]:<{widths[0]}}"]
            cells += [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
            text = "  " + "   ".join(cells)
            self.line(self.paint(text, Tone.SOFT) if number == 0 else text)
