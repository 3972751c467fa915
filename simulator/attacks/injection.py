"""Virtual cameras: what they feed was never taken by the sensor; how well they pretend is their strength."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.clock import Clock
from edge.drivers.camera import Frame
from simulator.attacks.recording import Film, Recording
from simulator.camera import Optics, SimulatedCamera, Stage
from simulator.species import Strength

Array = NDArray[Any]  # float; numpy arithmetic loses the width

_PRETENDED_US = 9000


class RecordedStage:
    """A film of the holder's other session, as a stage: it sees no screen."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def on_screen(self, screen: object) -> None:
        """Nobody is there to see it."""

    def look(self, t_s: float, size: tuple[int, int]) -> Array:
        picture = self._recording.at(t_s)
        return picture if picture.shape[:2] == size[::-1] else cv2.resize(picture, size)

    @classmethod
    def of(cls, recording_person: Any, seed: int, fps: float, size: tuple[int, int] = (640, 480)) -> RecordedStage:
        """A whole session of this person, well lit, at the camera's own rate."""
        return cls(Recording(recording_person, seed, Film(session=True, fps=fps, size=size, distance_cm=57.0)))


class VirtualCamera:
    """A FrameSource that films `stage` perfectly and pretends to be a sensor.

    Clumsy: its metadata never change. Ordinary: they tell what was asked for, three frames later, and the picture does
    not change. Careful: the picture is brightened and darkened too, in software: in 8 bits, at once, without noise.
    """

    exposure_control = True
    finite = False

    def __init__(
        self, stage: Stage, *, fps: float, seed: int, clock: Clock, strength: Strength, jitter_s: float = 0.0004
    ) -> None:
        self._inner = SimulatedCamera(
            stage, fps=fps, seed=seed, clock=clock, optics=Optics(blur_px=0.5, corner_loss=0.1), jitter_s=jitter_s
        )
        self._strength = strength
        self._delay = 0 if strength is Strength.CAREFUL else 3
        self._factor = 1.0
        self._waiting: list[tuple[int, float]] = []
        self._index = -1

    @property
    def clock(self) -> Clock:
        return self._inner.clock

    def read(self, timeout_s: float) -> Frame:
        frame = self._inner.read(timeout_s)
        self._index = frame.info.index
        while self._waiting and self._waiting[0][0] <= self._index:
            self._factor = self._waiting.pop(0)[1]
        told = 1.0 if self._strength is Strength.CLUMSY else self._factor
        image = frame.image
        if self._strength is Strength.CAREFUL and told != 1.0:
            curve = np.clip(255 * (np.arange(256) / 255) * told ** (1 / 2.2) + 0.5, 0, 255).astype(np.uint8)
            image = np.asarray(cv2.LUT(image, curve), np.uint8)
        return Frame(image, replace(frame.info, exposure_us=round(_PRETENDED_US * told), gain=1.0))

    def set_exposure(self, factor: float) -> None:
        """Heard, and obeyed as far as this attacker goes."""
        self._waiting.append((self._index + self._delay, factor))

    def close(self) -> None:
        self._inner.close()
