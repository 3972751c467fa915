"""The checks that need frames: fed one by one by whoever owns the camera, they keep numbers of them and no picture.

1. Watch for three seconds: frame times, light and focus at the face position, the reference target's mark.
2. Where the source controls exposure: a step down, one up, what metadata and picture made of them; then hand it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import cv2
import numpy as np

from edge.config import CameraSettings
from edge.drivers.camera import Frame, FrameSource, IdentifiedSource, Image
from edge.drivers.focus import FocusMeter
from edge.errors import CaptureError, VouchError
from edge.provisioning import doctor, target
from edge.provisioning.doctor import Check, ExposureStep, Light, Name, TargetSeen
from edge.session.comparison import Template, compare
from edge.session.observation import FaceSeen, FrameInfo, Observation

_WATCH_S = 3.0
_LOOK_FOR_TARGET_EACH_S = 0.4
_STEPS = (0.5, 1.5)  # within what a session asks of the sensor
_STEP_FRAMES_MAX = 15  # a control takes effect three to four frames later
_BASE_FRAMES = 8

Box = tuple[int, int, int, int]


class Vision(Protocol):
    """What these checks need of `edge.vision.pipeline.Pipeline`."""

    def process(
        self, image_bgr: Image, info: FrameInfo, *, embed: bool = False, bona_fide: bool = False
    ) -> Observation: ...

    def portrait(self, image: Image) -> Template: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Looks:
    """What sees, and the score from which the reference portrait counts as recognised."""

    vision: Vision
    threshold: float


class _Stage(Enum):
    WATCH = 0
    STEPS = 1
    OVER = 2


class LiveFocus:
    """Light and focus at the face position, frame by frame: for the checks, and for the technician's live assist."""

    def __init__(self, looks: Looks | None) -> None:
        self._looks = looks
        self._meter = FocusMeter()
        self._area: Box | None = None
        self.figure: int | None = None
        self.light = Light(0.0, 0.0, 0.0, None, by_face=False)

    def look(self, frame: Frame) -> None:
        face = self._face(frame)
        gain = frame.info.gain
        if face is not None:
            q = face.quality
            self.light = Light(q.brightness, q.surround, q.side_light, gain, by_face=True)
            self._area = _steady(self._area, face.box)
        else:
            self.light = _light_of_oval(frame.image, gain)
            self._area = None
        self.figure = self._meter.measure(frame.image, self._area)

    def forget(self) -> None:
        self._meter.forget()

    def _face(self, frame: Frame) -> FaceSeen | None:
        if self._looks is None:
            return None
        return self._looks.vision.process(frame.image, frame.info).face


class CameraChecks:
    """`frame` until `over`; then `checks`. The caller overwrites the frames."""

    def __init__(self, source: FrameSource, settings: CameraSettings, looks: Looks | None) -> None:
        """`looks` None: no models; what needs them is not possible."""
        self._source = source
        self._settings = settings
        self._looks = looks
        self._live = LiveFocus(looks)
        self._stage = _Stage.WATCH
        self._times_s: list[float] = []
        self._figures: list[int] = []
        self._lights: list[Light] = []
        self._seen = TargetSeen.ABSENT
        self._next_look_s = float("-inf")
        self._totals: list[tuple[float, float]] = []  # exposure x gain (us), luma
        self._base: tuple[float, float] | None = None
        self._steps: list[ExposureStep] = []
        self._frames_in_step = 0
        if looks is not None:
            looks.vision.reset()

    @property
    def over(self) -> bool:
        return self._stage is _Stage.OVER

    def frame(self, frame: Frame) -> None:
        if self._stage is _Stage.WATCH:
            self._watch(frame)
        elif self._stage is _Stage.STEPS:
            self._step(frame)

    def end(self) -> None:
        """Hand exposure back and overwrite what was kept; safe to call at any time, and twice."""
        if self._stage is _Stage.STEPS:
            self._source.set_exposure(1.0)
        self._stage = _Stage.OVER
        self._live.forget()
        if self._looks is not None:
            self._looks.vision.close()

    def checks(self) -> list[Check]:
        """All six, from what was seen so far."""
        identity = self._source.identity() if isinstance(self._source, IdentifiedSource) else None
        rate = doctor.frames(self._times_s, self._settings.fps)
        found = [doctor.sensor(identity, self._settings.sensor), rate]
        if not self._lights:
            return found + [
                doctor.no_camera(name, "") for name in doctor.CAMERA_CHECKS if name not in (Name.SENSOR, Name.FRAMES)
            ]
        light = self._lights[-1]
        figure = round(float(np.percentile(self._figures, 75))) if self._figures else None
        subject = light.by_face or self._seen is not TargetSeen.ABSENT
        return [
            *found,
            doctor.exposure(self._steps if self._base is not None else None),
            doctor.focus(figure, subject=subject, dark=doctor.is_dark(light)),
            doctor.light(light),
            doctor.self_match(self._seen)
            if self._looks is not None
            else Check(Name.SELF_MATCH, doctor.Verdict.SKIP, "no-models"),
        ]

    def _watch(self, frame: Frame) -> None:
        now_s = frame.info.t_s
        self._times_s.append(now_s)
        self._live.look(frame)
        self._lights.append(self._live.light)
        if self._live.figure is not None:
            self._figures.append(self._live.figure)
        if self._looks is not None and self._seen is not TargetSeen.MATCHES and now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_FOR_TARGET_EACH_S
            if target.is_seen(frame.image):
                self._seen = _recognised(frame.image, self._looks)
        self._note(frame)
        if now_s - self._times_s[0] >= _WATCH_S and len(self._times_s) > _BASE_FRAMES:
            self._begin_steps()

    def _begin_steps(self) -> None:
        if not self._source.exposure_control or len(self._totals) < _BASE_FRAMES:
            self._stage = _Stage.OVER
            return
        recent = np.asarray(self._totals[-_BASE_FRAMES:])
        self._base = (float(np.median(recent[:, 0])), float(np.median(recent[:, 1])))
        self._stage = _Stage.STEPS
        self._ask()

    def _ask(self) -> None:
        self._frames_in_step = 0
        self._source.set_exposure(_STEPS[len(self._steps)])

    def _step(self, frame: Frame) -> None:
        """Wait until the metadata show what was asked, or for as many frames as is fair; then the next step."""
        self._note(frame)
        self._frames_in_step += 1
        if self._base is None or not self._totals:
            return
        asked = _STEPS[len(self._steps)]
        total, luma = self._totals[-1]
        told = total / max(self._base[0], 1.0)
        arrived = abs(told / asked - 1) < 0.1 and self._frames_in_step > 2
        if not arrived and self._frames_in_step < _STEP_FRAMES_MAX:
            return
        self._steps.append(ExposureStep(asked, told, luma / max(self._base[1], 1e-3)))
        if len(self._steps) < len(_STEPS):
            self._ask()
        else:
            self._source.set_exposure(1.0)
            self._stage = _Stage.OVER

    def _note(self, frame: Frame) -> None:
        info = frame.info
        if info.exposure_us is not None and info.gain is not None:
            self._totals.append((info.exposure_us * info.gain, _luma(frame.image)))


def _recognised(image: Image, looks: Looks) -> TargetSeen:
    """Whether the face beside the mark is the drawn one; every template is overwritten at once."""
    templates: list[Template] = []
    try:
        templates.append(looks.vision.portrait(image))
        templates.append(looks.vision.portrait(target.reference_portrait()))
        same = compare(*templates) >= looks.threshold
    except CaptureError:
        return TargetSeen.NO_FACE
    except VouchError:
        return TargetSeen.DIFFERS
    finally:
        for template in templates:
            if template.vector.flags.writeable:
                template.vector.fill(0)
    return TargetSeen.MATCHES if same else TargetSeen.DIFFERS


def _steady(before: Box | None, box: tuple[float, float, float, float]) -> Box:
    """The area to measure focus in: the last one unless the face has left it, since two frames must show the same."""
    x, y, width, height = (round(value) for value in box)
    if before is not None:
        moved = max(abs(before[0] - x), abs(before[1] - y), abs(before[2] - width), abs(before[3] - height))
        if moved < 0.2 * width:
            return before
    return x, y, width, height


def _light_of_oval(image: Image, gain: float | None) -> Light:
    """Where the kiosk's oval is, the face would be."""
    height, width = image.shape[:2]
    top, bottom, left, right = round(0.2 * height), round(0.75 * height), round(0.33 * width), round(0.67 * width)
    inside, whole = image[top:bottom, left:right], _luma(image)
    share = inside.shape[0] * inside.shape[1] / (height * width)
    brightness = _luma(inside)
    middle = inside.shape[1] // 2
    return Light(
        brightness=brightness,
        surround=max(0.0, (whole - share * brightness) / (1 - share)),
        side=abs(_luma(inside[:, :middle]) - _luma(inside[:, middle:])),
        gain=gain,
        by_face=False,
    )


def _luma(image: Image) -> float:
    """Mean, ITU-R BT.601 weights, 0..1."""
    blue, green, red, _ = cv2.mean(image)
    return float(0.114 * blue + 0.587 * green + 0.299 * red) / 255
