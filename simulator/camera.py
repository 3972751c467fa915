"""The simulator's camera: films a stage in linear light and gives 8-bit frames; it draws nobody and judges nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.clock import Clock, SystemClock
from edge.drivers.camera import Frame
from edge.errors import CameraError
from edge.session.machine import Screen
from edge.session.observation import FrameInfo
from simulator.person import Person, render_linear
from simulator.person.motion import Actor, Obedience
from simulator.raster import Canvas
from simulator.room import Place

Array = NDArray[Any]  # float; numpy arithmetic loses the width

_EXPOSURE_DELAY_FRAMES = (3, 4)  # as picamera2: a control takes effect so many frames later
_FULL_WELL_E = 6000.0  # electrons of a white pixel at gain 1: a small-pixel sensor such as the IMX708
_READ_NOISE_E = 2.6
_TARGET_LUMA = 0.20  # linear mean that the automatic exposure aims at: sRGB 124
_GAMMA = 2.2


class Stage(Protocol):
    """What stands before the lens."""

    def look(self, t_s: float, size: tuple[int, int]) -> Array:
        """The scene at time `t_s` in linear light, float32 BGR [height, width, 3]."""
        ...

    def on_screen(self, screen: Screen) -> None:
        """Whoever stands there sees the kiosk's screen; thread-safe."""
        ...


class PersonStage:
    """A live person in a room."""

    def __init__(
        self,
        person: Person,
        seed: int = 0,
        *,
        place: Place | None = None,
        obeys: Obedience = Obedience.PROMPTLY,
    ) -> None:
        self.person = person
        self.actor = Actor(person.who, seed, obeys=obeys)
        self._place = place or Place(seed)
        self._canvas: Canvas | None = None

    def look(self, t_s: float, size: tuple[int, int]) -> Array:
        canvas = self._canvas = Canvas.fitting(size, self._canvas)
        state = self.actor.at(t_s)
        room, light = self._place.room(size), self._place.light
        return render_linear(self.person, state, size, room, light, canvas=canvas).linear

    def on_screen(self, screen: Screen) -> None:
        self.actor.on_screen(screen)


class VirtualClock:
    """Time that only the camera moves: for tests and studies that run faster than life."""

    def __init__(self, start_s: float = 100.0, utc: int = 1_760_000_000) -> None:
        self._now, self._start, self._utc = start_s, start_s, utc

    def monotonic(self) -> float:
        return self._now

    def utc(self) -> int:
        return self._utc + int(self._now - self._start)

    def is_synchronised(self) -> bool:
        return True

    def advance_to(self, now_s: float) -> None:
        """Never back."""
        self._now = max(self._now, now_s)


@dataclass(frozen=True, slots=True)
class Optics:
    """Lens and sensor. `blur_px` is the lens's spread (standard deviation); `corner_loss` the vignette, 0..1."""

    blur_px: float = 0.6
    corner_loss: float = 0.22
    max_exposure_us: int = 30000
    max_gain: float = 12.0
    scene_gain: float = 1.0  # brightness of the scene: 1 is a lit shop
    distortion: float = -0.03  # of the lens: first radial term at the corner of the picture (under 0: barrel)
    jpeg_quality: int | None = None  # None: the frames never were JPEG


class SimulatedCamera:
    """A FrameSource. With a VirtualClock it runs as fast as it can; otherwise it keeps to the wall clock and drops."""

    def __init__(
        self,
        stage: Stage,
        *,
        size: tuple[int, int] = (640, 480),
        fps: float = 30.0,
        seed: int = 0,
        clock: Clock | None = None,
        optics: Optics | None = None,
        lost: float = 0.0,
        jitter_s: float = 0.0004,
    ) -> None:
        """`lost`: share of frames that never come. `jitter_s`: of the timestamps, standard deviation."""
        self.clock: Clock = clock or SystemClock()
        self._stage = stage
        self._size = size
        self._period_s = 1 / fps
        self._rng = np.random.default_rng([1907, seed])
        self._optics = optics or Optics()
        self._start_s = self.clock.monotonic()
        self._index = -1
        self._open = True
        self._lost, self._jitter_s = lost, jitter_s
        self._total_us = 9000.0  # exposure x gain that the automatic control would use now
        self._frozen_us: float | None = None
        self._queue: list[tuple[int, float]] = []  # frame index from which a total (us) holds
        self._applied_us = self._total_us
        self._noise = _noise_pool(self._rng, size)
        self._vignette = _vignette(size, self._optics.corner_loss)
        self._tone = _tone_curve()
        self._white = np.ones(3)  # gains of the automatic white balance, BGR
        self._spread_of: dict[float, Array] = {}
        self._lens = _lens_maps(size, self._optics.distortion)

    @property
    def exposure_control(self) -> bool:
        return True

    @property
    def finite(self) -> bool:
        return False

    def read(self, timeout_s: float) -> Frame:
        """The next frame. Waits for its moment on a real clock; frames that are already over are dropped."""
        if not self._open:
            raise CameraError("the simulated camera is closed")
        if self._period_s > timeout_s:
            raise CameraError(f"no frame within {timeout_s} s: the camera takes one every {self._period_s:.3f} s")
        self._index += 1
        while self._rng.random() < self._lost:
            self._index += 1
        due = self._start_s + (self._index + 1) * self._period_s
        now = self.clock.monotonic()
        if isinstance(self.clock, VirtualClock):
            self.clock.advance_to(due)
        elif now < due:
            time.sleep(due - now)
        elif now > due + self._period_s:
            missed = int((now - due) / self._period_s)
            self._index += missed
            due += missed * self._period_s
        most = self._period_s / 3  # timestamps jitter, but never change places
        t_s = due + float(np.clip(self._rng.normal(0, self._jitter_s), -most, most))
        exposure_us, gain = self._take_exposure()
        scene = self._stage.look(t_s, self._size)
        image, luma = self._expose(scene, exposure_us * gain, gain)
        self._meter(luma, exposure_us * gain)
        width, height = self._size
        return Frame(image, FrameInfo(self._index, t_s, width, height, exposure_us, gain))

    def set_exposure(self, factor: float) -> None:
        """Relative to the automatic value of now; 1.0 hands control back. Takes effect 3 to 4 frames later."""
        if not 0.25 <= factor <= 4.0:
            raise ValueError(f"exposure factor {factor} is outside 0.25..4")
        if factor == 1.0:
            self._frozen_us = None
            total = self._total_us
        else:
            if self._frozen_us is None:  # what the last frame had: the control's newest wish has not been seen yet
                self._frozen_us = self._total_us = self._applied_us
            total = self._frozen_us * factor
        self._queue.append((self._index + int(self._rng.choice(_EXPOSURE_DELAY_FRAMES)), total))

    def close(self) -> None:
        self._open = False

    def _take_exposure(self) -> tuple[int, float]:
        due = [total for at, total in self._queue if at <= self._index]
        if due:
            self._applied_us = due[-1]
            self._queue = [(at, total) for at, total in self._queue if at > self._index]
        exposure = min(self._applied_us, float(self._optics.max_exposure_us))
        gain = float(np.clip(self._applied_us / exposure, 1.0, self._optics.max_gain))
        return round(exposure), round(gain, 3)

    def _expose(self, scene: Array, total_us: float, gain: float) -> tuple[NDArray[np.uint8], float]:
        """Lens, sensor, tone curve. Also the linear luma that the automatic exposure measures."""
        level = self._optics.scene_gain * total_us / 9000.0
        picture: Array = cv2.GaussianBlur(scene, (0, 0), self._optics.blur_px)
        self._balance(picture)
        cv2.multiply(picture, self._vignette, picture, scale=level)
        cv2.multiply(picture, (*self._white.tolist(), 1.0), picture)  # type: ignore[call-overload]  # stubs forget scalars
        height, width = picture.shape[:2]
        luma = float(cv2.mean(picture[height // 8 :, width // 6 : -width // 6])[1])
        top, left = (int(v) for v in self._rng.integers(0, 64, 2))
        noise = self._noise[top : top + height, left : left + width]
        spread = cv2.LUT(cv2.convertScaleAbs(picture, alpha=255), self._spreads(gain))
        cv2.multiply(spread, noise, spread)
        cv2.add(picture, spread, picture)
        np.clip(picture, 0.0, 1.0, out=picture)
        picture *= 65535
        toned = cv2.LUT(picture.astype(np.uint16), self._tone)
        image = np.asarray(cv2.remap(toned, *self._lens, cv2.INTER_LINEAR), np.uint8)
        if self._optics.jpeg_quality is not None:
            coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._optics.jpeg_quality])[1]
            image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
        return image, luma

    def _spreads(self, gain: float) -> Array:
        """Standard deviation of the noise at 256 levels of light: shot noise and what reading adds."""
        if gain not in self._spread_of:
            per_electron = gain / _FULL_WELL_E
            light = (np.arange(256, dtype=np.float32) + np.float32(0.5)) / 255
            self._spread_of = {
                gain: np.sqrt(light * per_electron + (_READ_NOISE_E * per_electron) ** 2).astype(np.float32)
            }
        return self._spread_of[gain]

    def _balance(self, picture: Array) -> None:
        """Automatic white balance: slowly and only half way towards a grey mean, as cameras do."""
        mean = np.maximum(np.asarray(cv2.mean(picture[::8, ::8])[:3]), 1e-4)
        wanted = np.clip((mean[1] / mean) ** 0.5, 0.7, 1.4)
        self._white = wanted if self._index <= 0 else self._white + 0.04 * (wanted - self._white)

    def _meter(self, luma: float, frame_us: float) -> None:
        """Automatic exposure: damped steps towards the target, in effect 3 frames later; rests under manual control."""
        if self._frozen_us is not None:
            return
        # From what this frame had, not from the newest wish: frames still on their way would be corrected twice.
        wanted = frame_us * float(np.clip(_TARGET_LUMA / max(luma, 0.004), 0.25, 4.0))
        ratio = wanted / self._total_us
        if abs(np.log(ratio)) < 0.06:
            return
        limit = self._optics.max_exposure_us * self._optics.max_gain
        self._total_us = float(np.clip(self._total_us * ratio**0.18, 60.0, limit))
        self._queue.append((self._index + _EXPOSURE_DELAY_FRAMES[0], self._total_us))


def _noise_pool(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Unit noise, a little correlated between neighbours as demosaicing leaves it; frames take random windows of it."""
    width, height = size
    raw = rng.standard_normal((height + 64, width + 64, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(raw, (0, 0), 0.55)
    return soft / np.asarray(soft.std(), np.float32)


def _vignette(size: tuple[int, int], loss: float) -> Array:
    width, height = size
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    fall = 1 - loss * (x**2 + y**2) / 2
    return np.repeat(fall[..., None], 3, axis=2).astype(np.float32)


def _lens_maps(size: tuple[int, int], distortion: float) -> tuple[Array, Array]:
    """Where each pixel of the picture comes from, as fixed-point maps."""
    width, height = size
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    centre = np.asarray([(width - 1) / 2, (height - 1) / 2], np.float32)
    u, v = (x - centre[0]) / np.hypot(*centre), (y - centre[1]) / np.hypot(*centre)
    # Magnified so that no corner looks beyond the scene.
    scale = (1 - distortion * (u * u + v * v)) / (1 - distortion)
    maps = cv2.convertMaps(centre[0] + (x - centre[0]) * scale, centre[1] + (y - centre[1]) * scale, cv2.CV_16SC2)
    return maps[0], maps[1]


def _tone_curve() -> NDArray[np.uint8]:
    """16-bit linear to 8-bit."""
    x = np.arange(65536) / 65535
    y = np.power(x, 1 / _GAMMA)
    return np.clip(255 * y + 0.5, 0, 255).astype(np.uint8)
