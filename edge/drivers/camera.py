"""What the terminal needs of any camera; the adapters live beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.session.observation import FrameInfo

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture, BGR, uint8, (height, width, 3), and how it was taken. Its repr shows no pixel."""

    image: Image
    info: FrameInfo

    def __repr__(self) -> str:
        return f"Frame({self.info!r})"


class FrameSource(Protocol):
    """A camera, a video file or the simulator's camera. Not thread-safe: one thread owns it."""

    @property
    def exposure_control(self) -> bool:
        """Whether `set_exposure` does anything and the frames' metadata can be believed."""
        ...

    @property
    def finite(self) -> bool:
        """True for a file: it ends, and that is no fault."""
        ...

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; None at the end of a finite source.

        CameraError when none comes within `timeout_s`, or when its shape is not (height, width, 3) uint8.
        """
        ...

    def set_exposure(self, factor: float) -> None:
        """Exposure relative to what the automatic control would choose now (0.25..4); 1.0 hands control back."""
        ...

    def close(self) -> None:
        """Let go of the device; safe to call twice."""
        ...
