"""V4L2 webcams and video files through OpenCV; no judgement of what the picture shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import cv2

from edge.drivers.camera import Frame, Image, SensorIdentity, SensorKind, check_shape
from edge.errors import CameraError
from edge.session.observation import FrameInfo


class WebcamSource:
    """A V4L2 camera. A thread of its own reads it, so that a driver that hangs cannot hang the caller.

    Exposure is not controlled: V4L2's controls differ by camera, and their metadata cannot be believed.
    """

    exposure_control = False
    finite = False

    def __init__(self, device: int | str, *, width: int, height: int, fps: int) -> None:
        self._name = f"camera {device}"
        self._node = f"video{device}" if isinstance(device, int) else Path(device).resolve().name
        self._capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise CameraError(
                f"{self._name} cannot be opened",
                todo="check the cable, that no other program uses it, and that this user is in the group `video`",
            )
        for setting, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, fps),
            (cv2.CAP_PROP_BUFFERSIZE, 1),
        ):
            self._capture.set(setting, value)
        self._newest = _Newest(self._name)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._pump, name="webcam", daemon=True)
        self._thread.start()

    def read(self, timeout_s: float) -> Frame | None:
        """The newest frame not yet returned; CameraError when none comes in time."""
        return self._newest.take(timeout_s)

    def set_exposure(self, factor: float) -> None:
        """Nothing: see the class."""

    def identity(self) -> SensorIdentity:
        """As the kernel knows the device."""
        return video_identity(self._node)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=1.0)  # a driver that hangs keeps its daemon thread; the process is about to end
        self._newest.close()
        if not self._thread.is_alive():
            self._capture.release()

    def _pump(self) -> None:
        index = 0
        while not self._closing.is_set():
            arrived, image = self._capture.read()
            t_s = time.monotonic()
            if not arrived:
                self._newest.fail(CameraError(f"{self._name} vanished", todo="check its cable; the terminal restarts"))
                return
            try:
                check_shape(image, self._name)
            except CameraError as error:
                self._newest.fail(error)
                return
            self._newest.put(Frame(cast("Image", image), FrameInfo(index, t_s, image.shape[1], image.shape[0])))
            index += 1


class FileSource:
    """A video file. Timestamps are the file's own; with `pace` it plays at that speed, else as fast as it is read."""

    exposure_control = False
    finite = True

    def __init__(
        self,
        path: Path,
        *,
        pace: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not path.is_file():
            raise CameraError(f"{path} does not exist", todo="name a video file that OpenCV can read")
        self._capture = cv2.VideoCapture(str(path))
        self._path = path
        self._fps = self._capture.get(cv2.CAP_PROP_FPS)
        if not self._capture.isOpened() or not self._fps > 0:
            raise CameraError(f"{path} is no video that can be read", todo="name an MP4, MKV or AVI file")
        self._pace, self._monotonic, self._sleep = pace, monotonic, sleep
        self._started_s: float | None = None
        self._index = 0

    def read(self, timeout_s: float) -> Frame | None:  # noqa: ARG002 - a file answers at once
        """The next frame, or None at the end. CameraError when the very first frame cannot be read."""
        arrived, image = self._capture.read()
        if not arrived:
            if self._index == 0:
                raise CameraError(f"{self._path} holds no frame", todo="the file is truncated: record it again")
            return None
        check_shape(image, str(self._path))
        t_s = self._index / self._fps
        if self._pace:
            now_s = self._monotonic()
            self._started_s = now_s if self._started_s is None else self._started_s
            self._sleep(max(0.0, self._started_s + t_s - now_s))
            t_s += self._started_s
        frame = Frame(cast("Image", image), FrameInfo(self._index, t_s, image.shape[1], image.shape[0]))
        self._index += 1
        return frame

    def set_exposure(self, factor: float) -> None:
        """Nothing: what is recorded is recorded."""

    def identity(self) -> SensorIdentity:
        """A recording, by its name."""
        return SensorIdentity(SensorKind.FILE, self._path.name)

    def close(self) -> None:
        self._capture.release()


def video_identity(node: str, sys: Path = Path("/sys")) -> SensorIdentity:
    """Which device /dev/`node` is, from sysfs: its name, and vendor, product and serial number where it is USB.

    A device without hardware behind it (v4l2loopback and its kind) is VIRTUAL: whatever program feeds it may inject.
    """
    place = sys / "class/video4linux" / node
    model = _line(place / "name") or "unknown"
    if "virtual" in place.resolve().parts:
        return SensorIdentity(SensorKind.VIRTUAL, model)
    for folder in (place / "device").resolve().parents[:3]:
        vendor, product = _line(folder / "idVendor"), _line(folder / "idProduct")
        if vendor and product:
            serial = _line(folder / "serial")
            return SensorIdentity(SensorKind.HARDWARE, model, f"{vendor}:{product}" + (f" {serial}" if serial else ""))
    return SensorIdentity(SensorKind.HARDWARE, model)


def _line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()[:64]
    except OSError:
        return None


class _Newest:
    """Hands the newest frame from one thread to another; those that nobody took are overwritten."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: CameraError | None = None

    def put(self, frame: Frame) -> None:
        with self._changed:
            self._drop()
            self._frame = frame
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._drop()
            self._frame = None

    def _drop(self) -> None:
        if self._frame is not None:
            self._frame.image.fill(0)

    def fail(self, error: CameraError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify()

    def take(self, timeout_s: float) -> Frame:
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._error is not None, timeout_s)
            frame, self._frame = self._frame, None
            if frame is not None:
                return frame
            if self._error is not None:
                raise self._error
            raise CameraError(
                f"{self._name} gave no frame for {timeout_s:g} s", todo="the terminal restarts the camera"
            )
