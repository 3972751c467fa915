"""Where the reference portrait comes from: a file, bytes from a challenge, or a card held to the camera.

Finding faces belongs to vision: whoever reads a card here passes the finder in. No picture outlives the read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from edge.drivers.camera import Frame, Image
from edge.errors import CaptureError, CaptureFault

Box = tuple[float, float, float, float]  # x, y, width, height in pixels
Corners = npt.NDArray[np.float32]  # (4, 2), pixels
FaceFinder = Callable[[Image], Sequence[Box]]

_MAX_BYTES = 20_000_000
_MAX_PIXELS = 50_000_000
CHALLENGE_PIXELS = 1_000_000  # of a portrait in a challenge: 3.5 KB have no more to tell
_FRAME_HEADERS = frozenset(bytes([n]) for n in range(0xC0, 0xD0)) - {b"\xc4", b"\xc8", b"\xcc"}
_CARD_SIZE = (856, 540)  # ISO/IEC 7810 ID-1 is 85.60 x 53.98 mm: ten pixels a millimetre
_CARD_SHARE = 0.04  # of the frame's area: below it the portrait has too few pixels
_PORTRAIT_MIN_WIDTH = 60.0  # pixels of face on the rectified card
_SHARP_ENOUGH = 60.0  # variance of the Laplacian on the 112-pixel grey portrait: below it edges are gone


def from_file(path: Path) -> Image:
    """A portrait file as BGR; CaptureError (UNREADABLE) says why not."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise CaptureError(
            CaptureFault.UNREADABLE, f"{path} cannot be read: {exc.strerror}", todo="name a picture file"
        ) from exc
    return from_bytes(data, name=str(path))


def from_bytes(data: bytes, *, name: str = "the portrait", max_pixels: int = _MAX_PIXELS) -> Image:
    """A JPEG or PNG as BGR, (height, width, 3) uint8; CaptureError (UNREADABLE) otherwise.

    What its header declares is looked at before anything is decoded: 600 bytes of JPEG can ask for gigabytes.
    """
    image = None
    if 0 < len(data) <= _MAX_BYTES and 0 < _declared_pixels(data) <= max_pixels:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
    if image is None:
        raise CaptureError(CaptureFault.UNREADABLE, f"{name} is no picture that can be read", todo="use a JPEG or PNG")
    return cast("Image", image)


def _declared_pixels(data: bytes) -> int:
    """Width x height by the header of a JPEG (ITU-T T.81, B.2.2: the first frame header) or PNG (IHDR); 0: neither."""
    if data[:16] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR":
        return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while data[at : at + 1] == b"\xff":
        marker, length = data[at + 1 : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _FRAME_HEADERS:
            return int.from_bytes(data[at + 5 : at + 7], "big") * int.from_bytes(data[at + 7 : at + 9], "big")
        at += 1 if marker == b"\xff" else 2 + max(length, 2)  # a marker may be padded with 0xff
    return 0


class CardView(Enum):
    """What the last frame showed of the card; the kiosk turns it into words."""

    NO_CARD = "no-card"
    TOO_FAR = "too-far"
    NO_PORTRAIT = "no-portrait"
    BLURRED = "blurred"
    READING = "reading"
    READY = "ready"


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    sharpness: float
    portrait: Image


class CardReader:
    """Collects portraits from frames until `frames` good ones are in, and keeps only the sharpest.

    `faces` finds faces in a BGR picture, largest first.
    """

    def __init__(self, faces: FaceFinder, *, frames: int = 5) -> None:
        self._faces = faces
        self._frames = frames
        self._good = 0
        self._best: _Candidate | None = None

    def offer(self, frame: Frame) -> CardView:
        """Look at one frame. After READY, `portrait` holds the result and further frames change nothing."""
        if self._good >= self._frames:
            return CardView.READY
        corners = find_card(frame.image)
        if corners is None:
            return CardView.NO_CARD
        if cv2.contourArea(corners) < _CARD_SHARE * frame.image.shape[0] * frame.image.shape[1]:
            return CardView.TOO_FAR
        card = rectify(frame.image, corners)
        found = self._portrait_on(card)
        card.fill(0)
        if found is None:
            return CardView.NO_PORTRAIT
        if found.sharpness < _SHARP_ENOUGH:
            found.portrait.fill(0)
            return CardView.BLURRED
        self._good += 1
        loser: _Candidate | None = found
        if self._best is None or found.sharpness > self._best.sharpness:
            loser, self._best = self._best, found
        if loser is not None:
            loser.portrait.fill(0)
        return CardView.READY if self._good >= self._frames else CardView.READING

    @property
    def portrait(self) -> Image | None:
        """The sharpest portrait so far, BGR, with a margin around the face; None before the first good frame."""
        return None if self._best is None else self._best.portrait

    def close(self) -> None:
        """Overwrite what was read."""
        if self._best is not None:
            self._best.portrait.fill(0)
        self._best = None

    def _portrait_on(self, card: Image) -> _Candidate | None:
        # The card may be held upside down: the rectified picture has an unknown half turn.
        for _ in range(2):
            faces = [box for box in self._faces(card) if box[2] >= _PORTRAIT_MIN_WIDTH]
            if faces:
                portrait = _with_margin(card, max(faces, key=lambda box: box[2]))
                return _Candidate(sharpness(portrait), portrait)
            cv2.flip(card, -1, dst=card)  # in place: no copy to overwrite
        return None


def find_card(image: Image) -> Corners | None:
    """Corners (4, 2) of the largest quadrilateral shaped like a card, clockwise from its top left; None if none."""
    smooth = cv2.GaussianBlur(image, (5, 5), 0)
    # Channel by channel: a blue card on a grey counter may have hardly any edge in luma.
    edges = np.max([cv2.Canny(channel, 20, 60) for channel in cv2.split(smooth)], axis=0)
    edges = cv2.dilate(edges, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(edges, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    # Hulls, not contours: an edge with a gap is an open line without area, its hull is the card all the same.
    hulls = sorted((cv2.convexHull(contour) for contour in contours), key=cv2.contourArea, reverse=True)
    for hull in hulls[:8]:
        outline = cv2.approxPolyDP(hull, 0.03 * cv2.arcLength(hull, True), True)
        if len(outline) == 4 and cv2.isContourConvex(outline):
            corners = _clockwise(outline.reshape(4, 2).astype(np.float32))
            if _is_card_shaped(corners):
                return corners
    return None


def rectify(image: Image, corners: Corners) -> Image:
    """The card as if seen straight on, 856 x 540 pixels."""
    width, height = _CARD_SIZE
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return cast("Image", cv2.warpPerspective(image, cv2.getPerspectiveTransform(corners, target), _CARD_SIZE))


def sharpness(portrait: Image) -> float:
    """Variance of the Laplacian of the grey portrait at 112 pixels: comparable between sizes."""
    grey = cv2.resize(cv2.cvtColor(portrait, cv2.COLOR_BGR2GRAY), (112, 112), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _clockwise(
    corners: Corners,
) -> Corners:
    centre = corners.mean(axis=0)
    order = np.argsort(np.arctan2(corners[:, 1] - centre[1], corners[:, 0] - centre[0]))
    ordered = corners[order]
    # A card held upright has its long side vertical: start so that the first side is a long one.
    first, second = (float(np.linalg.norm(ordered[1] - ordered[0])), float(np.linalg.norm(ordered[2] - ordered[1])))
    return ordered if first >= second else np.roll(ordered, -1, axis=0)


def _is_card_shaped(corners: Corners) -> bool:
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    long_side, short_side = (sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2
    # 1.586 straight on; a tilt of up to 35 degrees about either axis stays within these limits.
    return bool(short_side > 0 and 1.25 <= long_side / short_side <= 2.0)


def _with_margin(image: Image, box: Box) -> Image:
    x, y, width, height = box
    left, top = max(0, int(x - 0.4 * width)), max(0, int(y - 0.5 * height))
    right = min(image.shape[1], int(x + 1.4 * width))
    bottom = min(image.shape[0], int(y + 1.4 * height))
    return image[top:bottom, left:right].copy()
