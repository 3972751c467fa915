"""Makes the document's portrait small enough for a challenge; who is on it does not matter here."""

from __future__ import annotations

import cv2
import numpy as np

from edge.errors import CaptureError, CaptureFault
from edge.evidence.portrait import PORTRAIT_LIMIT

_UPLOAD_LIMIT = 8_000_000  # bytes
_HEIGHTS = (280, 240, 200, 160, 126)  # pixels; 126 is the height of the picture on a Chinese ID chip
_QUALITIES = (88, 80, 70, 60, 50)


def fit_portrait(picture: bytes, limit: int = PORTRAIT_LIMIT) -> bytes:
    """The picture (JPEG or PNG) as a JPEG of at most `limit` bytes: as it is where it fits, else the largest that does.

    CaptureError (UNREADABLE) where it is no picture.
    """
    image = None
    if 0 < len(picture) <= _UPLOAD_LIMIT:
        image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise CaptureError(CaptureFault.UNREADABLE, "the portrait is no picture", todo="send a JPEG or PNG")
    if len(picture) <= limit and picture.startswith(b"\xff\xd8"):
        return picture
    for height in _HEIGHTS:
        scale = min(1.0, height / image.shape[0])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for quality in _QUALITIES:
            done, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if done and len(jpeg) <= limit:
                return jpeg.tobytes()
    raise CaptureError(CaptureFault.UNREADABLE, "the portrait does not fit a challenge", todo="send the face alone")
