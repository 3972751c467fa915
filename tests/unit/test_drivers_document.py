"""Reading portraits: files, bytes and a card held to the camera."""

import contextlib

import cv2
import numpy as np
import pytest

from edge.drivers.camera import Frame
from edge.drivers.document import CardReader, CardView, find_card, from_bytes, from_file, rectify
from edge.errors import CaptureError, CaptureFault
from edge.session.observation import FrameInfo

MARK = (600, 150, 180, 240)  # x, y, width, height of the "portrait" on the card


def card() -> np.ndarray:
    """A card with a textured block where the portrait would be."""
    picture = np.full((540, 856, 3), 225, np.uint8)
    picture[:60] = (160, 90, 40)
    x, y, width, height = MARK
    noise = np.random.default_rng(5).integers(0, 255, (height // 15, width // 15, 3), dtype=np.uint8)
    picture[y : y + height, x : x + width] = cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST)
    return picture


def scene(corners: list[tuple[int, int]], *, blur: int = 0, size: tuple[int, int] = (640, 480)) -> Frame:
    target = np.array(corners, np.float32)
    source = np.array([[0, 0], [856, 0], [856, 540], [0, 540]], np.float32)
    image = np.full((size[1], size[0], 3), 60, np.uint8)
    warp = cv2.getPerspectiveTransform(source, target)
    mask = cv2.warpPerspective(np.full((540, 856), 255, np.uint8), warp, size)
    image[mask > 128] = cv2.warpPerspective(card(), warp, size)[mask > 128]
    if blur:
        image = cv2.GaussianBlur(image, (blur, blur), 0)
    return Frame(image, FrameInfo(0, 0.0, size[0], size[1]))


def finder(image: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Finds the textured block, as a face detector would find the face: by what it sees."""
    x, y, width, height = MARK
    busy = cv2.Laplacian(cv2.cvtColor(image[y : y + height, x : x + width], cv2.COLOR_BGR2GRAY), cv2.CV_32F).var()
    return [(float(x), float(y), float(width), float(height))] if busy > 5 else []


STRAIGHT = [(120, 100), (520, 100), (520, 352), (120, 352)]
TILTED = [(130, 90), (520, 130), (500, 370), (110, 330)]
UPRIGHT = [(460, 40), (460, 440), (208, 440), (208, 40)]


@pytest.mark.parametrize("corners", [STRAIGHT, TILTED, UPRIGHT])
def test_a_card_is_found_where_it_is_held(corners: list[tuple[int, int]]) -> None:
    found = find_card(scene(corners).image)
    assert found is not None
    for corner in corners:
        assert np.min(np.linalg.norm(found - np.array(corner), axis=1)) < 8


def test_no_card_is_found_in_an_empty_room() -> None:
    assert find_card(np.full((480, 640, 3), 60, np.uint8)) is None


@pytest.mark.parametrize("corners", [STRAIGHT, TILTED, UPRIGHT, STRAIGHT[2:] + STRAIGHT[:2]])
def test_the_portrait_is_read_however_the_card_is_turned(corners: list[tuple[int, int]]) -> None:
    reader = CardReader(finder)
    views = [reader.offer(scene(corners)) for _ in range(5)]
    assert views == [CardView.READING] * 4 + [CardView.READY]
    assert reader.portrait is not None
    assert min(reader.portrait.shape[:2]) >= MARK[2]


def test_the_sharpest_of_several_frames_is_kept() -> None:
    reader = CardReader(finder, frames=2)
    reader.offer(scene(STRAIGHT, blur=3))
    soft = reader.portrait
    reader.offer(scene(STRAIGHT))
    sharp = reader.portrait
    assert soft is not None
    assert sharp is not None
    assert sharp.astype(float).std() > soft.astype(float).std()


def test_a_far_card_and_a_blurred_card_say_so() -> None:
    reader = CardReader(finder)
    assert reader.offer(scene([(300, 220), (380, 220), (380, 270), (300, 270)])) is CardView.TOO_FAR
    assert reader.offer(scene(STRAIGHT, blur=31)) in {CardView.BLURRED, CardView.NO_PORTRAIT}
    assert reader.portrait is None


def test_closing_overwrites_the_portrait() -> None:
    reader = CardReader(finder, frames=1)
    reader.offer(scene(STRAIGHT))
    portrait = reader.portrait
    assert portrait is not None
    reader.close()
    assert not portrait.any()
    assert reader.portrait is None


def test_rectified_cards_have_the_standard_size() -> None:
    assert rectify(scene(STRAIGHT).image, np.array(STRAIGHT, np.float32)).shape == (540, 856, 3)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"not a picture", bytes(100)])
def test_bytes_that_are_no_picture_are_refused(data: bytes) -> None:
    with pytest.raises(CaptureError) as caught:
        from_bytes(data)
    assert caught.value.fault is CaptureFault.UNREADABLE


def test_a_truncated_jpeg_never_crashes() -> None:
    encoded = cv2.imencode(".jpg", card())[1].tobytes()
    for cut in (10, 200, len(encoded) // 2):
        with contextlib.suppress(CaptureError):
            assert from_bytes(encoded[:cut]).ndim == 3


def test_a_missing_file_says_what_to_do(tmp_path) -> None:
    with pytest.raises(CaptureError, match="cannot be read"):
        from_file(tmp_path / "absent.jpg")
