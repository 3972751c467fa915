"""A QR code held to the camera: its text. What the text may mean is not judged here, and no picture is kept."""

from __future__ import annotations

import cv2

from edge.drivers.camera import Image

_LONGEST = 128  # characters: an order number is far shorter


def read_code(image: Image) -> str | None:
    """The text of one QR code in a BGR picture; None where there is none, or one that is no short printable text."""
    try:
        text, _, _ = cv2.QRCodeDetector().detectAndDecode(image)
    except (cv2.error, UnicodeDecodeError):
        return None
    return text if 0 < len(text) <= _LONGEST and text.isprintable() else None
