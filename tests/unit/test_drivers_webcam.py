"""A webcam whose driver misbehaves: every read ends within its time limit, and with an error that says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest

from edge.drivers.opencv_camera import WebcamSource
from edge.errors import CameraError

PICTURE = np.full((480, 640, 3), 90, np.uint8)


class Driver:
    """What OpenCV gives for a device: five pictures, then whatever the test says."""

    then: Callable[[], tuple[bool, object]]

    def __init__(self, *_: object) -> None:
        self.taken = 0

    def isOpened(self) -> bool:
        return True

    def set(self, *_: object) -> bool:
        return True

    def read(self) -> tuple[bool, object]:
        self.taken += 1
        time.sleep(0.01)
        return (True, PICTURE.copy()) if self.taken <= 5 else type(self).then()

    def release(self) -> None: ...


@pytest.fixture
def webcam(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WebcamSource]]:
    opened: list[WebcamSource] = []

    def start(then: Callable[[], tuple[bool, object]]) -> WebcamSource:
        monkeypatch.setattr(Driver, "then", staticmethod(then), raising=False)
        monkeypatch.setattr(cv2, "VideoCapture", Driver)
        opened.append(WebcamSource(0, width=640, height=480, fps=30))
        return opened[-1]

    yield start
    for source in opened:
        source.close()


def until_it_fails(source: WebcamSource) -> tuple[int, CameraError, float]:
    """Frames that came, the error after them, and how long the last read took."""
    frames = 0
    while True:
        began = time.monotonic()
        try:
            source.read(timeout_s=0.5)
        except CameraError as error:
            return frames, error, time.monotonic() - began
        frames += 1
        assert frames < 50


def test_a_driver_that_hangs_does_not_hang_the_terminal(webcam) -> None:
    never = threading.Event()

    def hangs() -> tuple[bool, object]:
        never.wait(60)
        return False, None

    frames, error, took_s = until_it_fails(webcam(hangs))
    never.set()
    assert 1 <= frames <= 5
    assert "no frame for 0.5 s" in error.message
    assert 0.4 < took_s < 5, "the time limit counts"


def test_a_camera_that_is_unplugged_is_an_error_at_once(webcam) -> None:
    frames, error, _ = until_it_fails(webcam(lambda: (False, None)))
    assert 1 <= frames <= 5
    assert "vanished" in error.message
    assert "cable" in error.todo


@pytest.mark.parametrize(
    "picture",
    [np.zeros((480, 640), np.uint8), np.zeros((480, 640, 3), np.float32), np.zeros((8, 8, 3), np.uint8), None],
    ids=["grey", "float", "tiny", "none"],
)
def test_a_picture_of_another_form_is_refused(webcam, picture) -> None:
    _, error, _ = until_it_fails(webcam(lambda: (True, picture)))
    assert "frames of" in error.message
    assert error.todo


def test_only_the_newest_frame_waits_for_a_slow_reader(webcam) -> None:
    source = webcam(lambda: (time.sleep(0.01), (True, PICTURE.copy()))[1])
    time.sleep(0.5)
    frame = source.read(timeout_s=0.5)
    assert frame is not None
    assert frame.info.index >= 3
    assert time.monotonic() - frame.info.t_s < 0.4


def test_frames_that_nobody_took_are_overwritten(webcam) -> None:
    given = []

    def picture() -> tuple[bool, object]:
        time.sleep(0.01)
        given.append(PICTURE.copy() + 1)
        return True, given[-1]

    source = webcam(picture)
    time.sleep(0.2)
    source.close()
    assert len(given) > 3
    assert not any(image.any() for image in given)
