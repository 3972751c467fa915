"""What is done to the reference picture before it is compared; no figures and no models here."""

from __future__ import annotations

from enum import Enum
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

PORTRAIT_PX = (102, 126)  # width, height of the picture on a Chinese identity chip
PORTRAIT_BYTES = 1024
# Tables and headers of a baseline JPEG say nothing of the face, and a chip leaves them out: they do not count.
_SCAN_MARK = b"\xff\xda"


class Condition(Enum):
    PLAIN = "plain"
    GREY = "grey"
    PORTRAIT = "portrait"
    BLUR = "blur"


def apply(condition: Condition, image_bgr: Image) -> Image:
    """The picture as the condition leaves it."""
    if condition is Condition.GREY:
        return cast("Image", cv2.cvtColor(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR))
    if condition is Condition.BLUR:
        # A sigma of 2 % of the height: about a sixteenth of the distance between the eyes of a face that fills half.
        return cast("Image", cv2.GaussianBlur(image_bgr, (0, 0), 0.02 * image_bgr.shape[0]))
    if condition is Condition.PORTRAIT:
        return cast("Image", cv2.imdecode(coded_portrait(image_bgr), cv2.IMREAD_COLOR))
    return image_bgr


def coded_portrait(image_bgr: Image) -> Image:
    """The largest middle part of that shape at 102 x 126 as a JPEG [bytes], within 1 KB where quality 1 is enough."""
    height, width = image_bgr.shape[:2]
    side = min(height, width / (PORTRAIT_PX[0] / PORTRAIT_PX[1]))
    half_h, half_w = side / 2, side * PORTRAIT_PX[0] / PORTRAIT_PX[1] / 2
    top, left = round(height / 2 - half_h), round(width / 2 - half_w)
    cut = image_bgr[top : top + round(2 * half_h), left : left + round(2 * half_w)]
    small = cv2.resize(cut, PORTRAIT_PX, interpolation=cv2.INTER_AREA)
    for quality in range(60, 0, -1):
        coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1]
        if quality == 1 or len(coded) - coded.tobytes().index(_SCAN_MARK) <= PORTRAIT_BYTES:
            break
    return cast("Image", coded)
