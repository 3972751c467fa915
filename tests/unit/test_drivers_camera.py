"""Sources of frames: what is absent, broken or of the wrong shape says so."""

import json
import sys
import time
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from edge.config import CameraSettings
from edge.drivers.board import read_health
from edge.drivers.camera import DetailSource, check_shape, open_source
from edge.drivers.opencv_camera import FileSource
from edge.drivers.picamera import PiCameraSource
from edge.errors import CameraError, ConfigError


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (160, 120))
    for shade in range(0, 250, 25):
        writer.write(np.full((120, 160, 3), shade, np.uint8))
    writer.release()
    return path


def test_a_file_gives_its_frames_with_its_own_timestamps_and_ends(clip: Path) -> None:
    source = FileSource(clip)
    frames = []
    while (frame := source.read(1.0)) is not None:
        frames.append(frame)
    source.close()
    assert len(frames) == 10
    assert [round(frame.info.t_s, 3) for frame in frames[:3]] == [0.0, 0.04, 0.08]
    assert source.finite


def test_a_paced_file_waits_for_its_own_timestamps(clip: Path) -> None:
    slept: list[float] = []
    source = FileSource(clip, pace=True, monotonic=lambda: 100.0, sleep=slept.append)
    frame = [source.read(1.0) for _ in range(3)][-1]
    source.close()
    assert frame is not None
    assert frame.info.t_s == pytest.approx(100.08)
    assert slept == pytest.approx([0.0, 0.04, 0.08])


def test_a_frame_never_shows_its_pixels_in_a_log(clip: Path) -> None:
    frame = FileSource(clip).read(1.0)
    assert "array" not in repr(frame)


def test_a_missing_and_a_truncated_file_are_refused(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(CameraError, match="does not exist"):
        FileSource(tmp_path / "absent.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:200])
    with pytest.raises(CameraError, match=r"no video|no frame"):
        FileSource(broken).read(1.0)


def test_no_camera_at_that_number_is_an_error_that_says_what_to_check() -> None:
    with pytest.raises(CameraError) as caught:
        open_source(CameraSettings(source="v4l2:97"))
    assert "cable" in caught.value.diagnostics()


@pytest.mark.parametrize("source", ["", "usb", "v4l2:", "file:", "sim:1"])
def test_a_source_that_means_nothing_is_a_settings_error(source: str) -> None:
    with pytest.raises(ConfigError, match="means nothing"):
        open_source(CameraSettings(source=source))


@pytest.mark.parametrize(
    "image",
    [
        None,
        np.zeros((480, 640), np.uint8),
        np.zeros((480, 640, 4), np.uint8),
        np.zeros((480, 640, 3), np.float32),
        np.zeros((2, 2, 3), np.uint8),
    ],
)
def test_frames_of_the_wrong_shape_are_refused(image: object) -> None:
    with pytest.raises(CameraError, match="gives frames of"):
        check_shape(image, "camera 0")


class Picamera2Stub:
    """Stands in for the hardware below picamera2's documented calls; the adapter above it is the real one."""

    def __init__(self) -> None:
        self.controls: list[dict] = []
        self.stalled = False
        self.made: list[np.ndarray] = []

    def create_video_configuration(self, **parts):
        return parts

    def configure(self, configuration):
        self.configuration = configuration

    def start(self):
        pass

    def close(self):
        pass

    def set_controls(self, controls):
        self.controls.append(controls)

    def captured_request(self, wait):
        if self.stalled:
            raise TimeoutError
        made = self.made
        sizes = {name: self.configuration[name]["size"] for name in ("main", "lores")}

        class Request:
            def make_array(self, name):
                width, height = sizes[name]
                made.append(np.full((height, width, 3) if name == "main" else (height * 3 // 2, width), 128, np.uint8))
                return made[-1]

            def get_metadata(self):
                return {"SensorTimestamp": 5_000_000_000, "ExposureTime": 10_000, "AnalogueGain": 2.0}

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

        return Request()


@pytest.fixture
def pi_camera(monkeypatch: pytest.MonkeyPatch) -> tuple[PiCameraSource, Picamera2Stub]:
    stub = Picamera2Stub()
    module = ModuleType("picamera2")
    module.Picamera2 = lambda: stub  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)
    return PiCameraSource(width=640, height=480, fps=30), stub


def test_the_pi_camera_gives_bgr_with_the_sensors_own_metadata(pi_camera) -> None:
    source, _ = pi_camera
    frame = source.read(1.0)
    assert frame.image.shape == (480, 640, 3)
    assert (frame.info.t_s, frame.info.exposure_us, frame.info.gain) == (5.0, 10_000, 2.0)
    assert isinstance(source, DetailSource)
    assert source.read_detail(1.0).image.shape == (960, 1280, 3)


def test_the_pi_cameras_own_picture_is_overwritten_once_it_is_bgr(pi_camera) -> None:
    source, stub = pi_camera
    assert source.read(1.0).image.any()
    assert not stub.made[0].any()


def test_the_pi_camera_takes_exposure_then_gain_and_hands_control_back(pi_camera) -> None:
    source, stub = pi_camera
    source.read(1.0)
    source.set_exposure(0.5)
    source.set_exposure(4.0)
    source.set_exposure(1.0)
    half, four, back = stub.controls
    assert (half["ExposureTime"], half["AnalogueGain"]) == (5_000, 2.0)
    assert four["ExposureTime"] * four["AnalogueGain"] == pytest.approx(80_000, rel=0.01)
    assert four["ExposureTime"] <= 33_333
    assert back == {"AeEnable": True}


def test_a_pi_camera_that_stalls_is_an_error_within_its_time_limit(pi_camera) -> None:
    source, stub = pi_camera
    stub.stalled = True
    started = time.monotonic()
    with pytest.raises(CameraError, match="no frame"):
        source.read(0.1)
    assert time.monotonic() - started < 5


def test_without_picamera2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraError) as caught:
        PiCameraSource(width=640, height=480, fps=30)
    assert "python3-picamera2" in caught.value.diagnostics()


def test_board_health_reads_what_the_kernel_says(tmp_path: Path) -> None:
    files = {
        "sys/class/thermal/thermal_zone0/temp": "61234\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        "tree/model": "Raspberry Pi 4 Model B Rev 1.4\x00",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    health = read_health(tmp_path / "sys", tmp_path / "tree")
    assert health.temperature_c == pytest.approx(61.234)
    assert (health.under_voltage, health.throttled) == (True, True)
    assert health.model == "Raspberry Pi 4 Model B Rev 1.4"


def test_board_health_of_an_unknown_board_is_none_not_a_guess(tmp_path: Path) -> None:
    health = read_health(tmp_path, tmp_path)
    assert json.dumps([health.temperature_c, health.under_voltage, health.throttled, health.model]) == (
        "[null, null, null, null]"
    )


def test_an_alarm_of_the_voltage_monitor_counts_where_the_firmware_is_silent(tmp_path: Path) -> None:
    monitor = tmp_path / "class/hwmon/hwmon1"
    monitor.mkdir(parents=True)
    (monitor / "name").write_text("rpi_volt\n")
    (monitor / "in0_lcrit_alarm").write_text("1\n")
    assert read_health(tmp_path, tmp_path).under_voltage is True
    assert read_health(tmp_path, tmp_path).throttled is None
