"""What the terminal needs of any camera; the adapters live beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge.config import CameraSettings
from edge.errors import CameraError, ConfigError
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


@runtime_checkable
class DetailSource(Protocol):
    """A source that has a second, finer stream for documents, without changing its mode."""

    def read_detail(self, timeout_s: float) -> Frame | None:
        """As `FrameSource.read`, in the finer stream."""
        ...


class SensorKind(Enum):
    """Where frames come from, as far as the system can tell."""

    HARDWARE = "hardware"
    VIRTUAL = "virtual"  # a loopback device: another program makes the frames
    FILE = "file"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class SensorIdentity:
    """Which sensor it is. `model` as driver or USB descriptor name it; `unit` tells two of a model apart, or None."""

    kind: SensorKind
    model: str
    unit: str | None = None


@runtime_checkable
class IdentifiedSource(Protocol):
    """A source that can say which sensor it is."""

    def identity(self) -> SensorIdentity:
        """Never raises; what is not known is "unknown"."""
        ...


def open_source(settings: CameraSettings) -> FrameSource:
    """The camera that the settings name. CameraError when it is absent, ConfigError when the name means nothing."""
    kind, _, name = settings.source.partition(":")
    if kind == "picamera2":
        from edge.drivers.picamera import PiCameraSource

        return PiCameraSource(width=settings.width, height=settings.height, fps=settings.fps)
    if kind in {"v4l2", "file"} and name:
        from edge.drivers.opencv_camera import FileSource, WebcamSource

        if kind == "file":
            return FileSource(Path(name), pace=True)
        device = int(name) if name.isdigit() else name
        return WebcamSource(device, width=settings.width, height=settings.height, fps=settings.fps)
    raise ConfigError(
        f"camera.source {settings.source!r} means nothing", todo='use "picamera2", "v4l2:0" or "file:/path/to/clip.mp4"'
    )


def check_shape(image: object, name: str) -> None:
    """CameraError unless `image` is (height, width, 3) uint8 of a size that the pipeline takes."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        shape = getattr(image, "shape", None)
        raise CameraError(
            f"{name} gives frames of shape {shape}, not (height, width, 3) in 8 bit",
            todo="choose another mode of the camera, or another camera",
        )
    if not (48 <= image.shape[0] <= 4320 and 48 <= image.shape[1] <= 7680):
        raise CameraError(f"{name} gives frames of {image.shape[1]} x {image.shape[0]} pixels", todo="use 640 x 480")
