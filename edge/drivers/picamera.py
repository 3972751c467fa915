"""The Raspberry Pi camera through picamera2; this file is its only importer.

One mode for the life of the process: `main` in the resolution that reads documents, `lores` in the pipeline's size.
Switching modes restarts the sensor, loses frames and upsets exposure; both streams come from the same request instead.
Written against picamera2's manual (chapters 4 to 6): metadata of the request, not the control that was asked for,
says what exposure and gain a frame has; a control takes effect three to four frames later.
"""

from __future__ import annotations

from typing import Any, cast

import cv2

from edge.drivers.camera import Frame, Image, SensorIdentity, SensorKind, check_shape
from edge.errors import CameraError
from edge.session.observation import FrameInfo

_DETAIL_SIZE = (1280, 960)  # a card at 15 cm shows its portrait at about 200 pixels here, at 100 in lores
_TODO = "check the ribbon cable and `rpicam-hello --list-cameras`; the terminal restarts the camera"


class PiCameraSource:
    """Frames from `lores` (YUV 4:2:0, which every Pi's ISP gives) as BGR, with the sensor's own timestamp."""

    exposure_control = True
    finite = False

    def __init__(self, *, width: int, height: int, fps: int) -> None:
        try:
            from picamera2 import Picamera2
        except ImportError as exc:
            raise CameraError(
                "picamera2 is not installed", todo="apt install python3-picamera2, or set camera.source"
            ) from exc
        self._frame_us = round(1e6 / fps)
        self._index = 0
        self._size = (width, height)
        self._automatic: tuple[float, float] | None = None  # exposure in us and gain when control was taken
        self._last: tuple[float, float] = (0.0, 1.0)
        try:
            self._camera: Any = Picamera2()
            configuration = self._camera.create_video_configuration(
                main={"size": _DETAIL_SIZE, "format": "RGB888"},
                lores={"size": self._size, "format": "YUV420"},
                buffer_count=4,
                controls={"FrameDurationLimits": (self._frame_us, self._frame_us)},
            )
            self._camera.configure(configuration)
            self._camera.start()
        except (RuntimeError, IndexError, OSError) as exc:
            raise CameraError(f"the Pi camera does not start: {exc}", todo=_TODO) from exc

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame of `lores`; CameraError when none completes in time."""
        image, metadata = self._request("lores", timeout_s)
        width, height = self._size
        bgr = cv2.cvtColor(image[: height * 3 // 2], cv2.COLOR_YUV420p2BGR)
        image.fill(0)  # a picture of its own, which nobody else overwrites
        return self._frame(cast("Image", bgr[:, :width]), metadata)

    def read_detail(self, timeout_s: float) -> Frame | None:
        """The next frame of `main`, for documents. libcamera's RGB888 lies in memory as blue, green, red."""
        return self._frame(*self._request("main", timeout_s))

    def set_exposure(self, factor: float) -> None:
        """Exposure first; what the frame's duration does not allow is made up by gain."""
        if factor == 1.0:
            self._automatic = None
            self._camera.set_controls({"AeEnable": True})
            return
        base_us, base_gain = self._automatic = self._automatic or self._last
        wanted_us = base_us * factor
        exposure_us = min(wanted_us, self._frame_us * 0.95)
        gain = max(1.0, base_gain * wanted_us / exposure_us) if exposure_us > 0 else base_gain
        self._camera.set_controls({"AeEnable": False, "ExposureTime": int(exposure_us), "AnalogueGain": gain})

    def identity(self) -> SensorIdentity:
        """The sensor's model and its place on the bus, from libcamera's properties."""
        told = self._camera.camera_properties
        place = told.get("SystemDevices") or told.get("Location")
        return SensorIdentity(
            SensorKind.HARDWARE, str(told.get("Model", "unknown")), None if place is None else str(place)
        )

    def close(self) -> None:
        self._camera.close()

    def _request(self, stream: str, timeout_s: float) -> tuple[Image, dict[str, Any]]:
        try:
            with self._camera.captured_request(wait=timeout_s) as request:
                return request.make_array(stream), request.get_metadata()
        except TimeoutError as exc:
            raise CameraError(f"the Pi camera gave no frame for {timeout_s:g} s", todo=_TODO) from exc
        except RuntimeError as exc:
            raise CameraError(f"the Pi camera failed: {exc}", todo=_TODO) from exc

    def _frame(self, image: Image, metadata: dict[str, Any]) -> Frame:
        check_shape(image, "the Pi camera")
        exposure_us, gain = metadata.get("ExposureTime"), metadata.get("AnalogueGain")
        if exposure_us is not None and gain is not None:
            self._last = (float(exposure_us), float(gain))
        info = FrameInfo(
            index=self._index,
            t_s=metadata["SensorTimestamp"] / 1e9,
            width=image.shape[1],
            height=image.shape[0],
            exposure_us=None if exposure_us is None else int(exposure_us),
            gain=None if gain is None else float(gain),
        )
        self._index += 1
        return Frame(image, info)
