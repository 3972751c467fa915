"""Reading portraits: files, bytes and a card held to the camera."""

import contextlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert soft is not None
    contrast = soft.astype(float).std()
    reader.offer(scene(STRAIGHT))
    sharp = reader.portrait
    assert sharp is not None
    assert sharp.astype(float).std() > contrast
    assert not soft.any(), "what is not kept is overwritten"


def test_a_far_card_and_a_blurred_card_say_so() -> None:
    reader = CardReader(finder)
    assert reader.offer(scene([(300, 220), (380, 220), (380, 270), (300, 270)])) is CardView.TOO_FAR
    assert reader.offer(scene(STRAIGHT, blur=31)) in {CardView.BLURRED, CardView.NO_PORTRAIT}
    assert reader.portrait is None


@pytest.mark.parametrize("corners", [STRAIGHT, STRAIGHT[2:] + STRAIGHT[:2]], ids=["upright", "upside down"])
def test_no_picture_of_a_card_outlives_its_frame(corners: list[tuple[int, int]]) -> None:
    looked_at: list[np.ndarray] = []
    reader = CardReader(lambda image: (looked_at.append(image), finder(image))[1], frames=2)
    reader.offer(scene(corners))
    reader.offer(scene(corners))
    assert looked_at
    assert not any(image.any() for image in looked_at)


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


def declaring(width: int, height: int, form: str) -> bytes:
    """A small picture whose header says that it is large."""
    data = bytearray(cv2.imencode(form, np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    at, size = (16, size) if form == ".png" else (data.index(b"\xff\xc0") + 5, size[6:] + size[2:4])
    data[at : at + len(size)] = size
    return bytes(data)


@pytest.mark.parametrize("form", [".jpg", ".png"])
def test_a_picture_that_declares_itself_huge_is_refused_before_it_is_decoded(form: str, monkeypatch) -> None:
    assert from_bytes(declaring(16, 16, form), max_pixels=256).shape == (16, 16, 3)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for width, height, most in ((8000, 8000, 50_000_000), (16, 17, 256)):
        with pytest.raises(CaptureError):
            from_bytes(declaring(width, height, form), max_pixels=most)


@given(st.binary(max_size=64).map(lambda rest: b"\xff\xd8\xff" + rest) | st.binary(max_size=64))
def test_any_bytes_are_a_picture_or_refused(data: bytes) -> None:
    with contextlib.suppress(CaptureError):
        assert from_bytes(data).ndim == 3


@pytest.mark.parametrize(
    "way", [cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_OPTIMIZE, cv2.IMWRITE_JPEG_RST_INTERVAL]
)
def test_every_kind_of_jpeg_is_read(way: int) -> None:
    assert from_bytes(cv2.imencode(".jpg", card(), [way, 1])[1].tobytes()).shape == card().shape


def test_a_truncated_jpeg_never_crashes() -> None:
    encoded = cv2.imencode(".jpg", card())[1].tobytes()
    for cut in (10, 200, len(encoded) // 2):
        with contextlib.suppress(CaptureError):
            assert from_bytes(encoded[:cut]).ndim == 3


def test_a_missing_file_says_what_to_do(tmp_path) -> None:
    with pytest.raises(CaptureError, match="cannot be read"):
        from_file(tmp_path / "absent.jpg")
