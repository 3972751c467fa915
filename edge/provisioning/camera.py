"""Reading a carrier's bundle from QR codes that are held to the terminal's own camera; pictures are overwritten."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.drivers.camera import FrameSource
from edge.errors import EvidenceError, ProvisioningError
from edge.provisioning.qr import Collector, Kind

Progress = Callable[[Collector], None]
_PATIENCE_S = 2.0


class CodeReader:
    """Finds the parts of one message in pictures. `message` is set when all were seen."""

    def __init__(self, kind: Kind) -> None:
        self.collector = Collector(kind)
        self.message: bytes | None = None
        self.complaint: str | None = None  # about the last code that was none of ours
        # Each reads some codes that the other does not, however long one is held: they take turns.
        self._detectors = itertools.cycle((cv2.QRCodeDetectorAruco(), cv2.QRCodeDetector()))
        self._last = ""

    def look(self, image: NDArray[np.uint8]) -> bool:
        """Whether this picture (BGR or grey) showed a part that was not the one before."""
        try:
            text, _, _ = next(self._detectors).detectAndDecode(image)
        except cv2.error:  # the detector gives up on some blurred corners that way
            return False
        if not text or text == self._last:
            return False
        self._last = text
        try:
            self.message = self.collector.add(text) or self.message
        except EvidenceError as exc:
            self.complaint = exc.message
            return False
        self.complaint = None
        return True


def read_codes(source: FrameSource, kind: Kind, *, timeout_s: float, on_progress: Progress) -> bytes:
    """The message whose parts are shown to the camera; `on_progress` is called for each part that is new.

    ProvisioningError after `timeout_s`, naming the parts that were not seen; CameraError.
    """
    reader = CodeReader(kind)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        frame = source.read(_PATIENCE_S)
        if frame is None:
            break
        try:
            if reader.look(frame.image):
                on_progress(reader.collector)
        finally:
            if frame.image.flags.writeable:
                frame.image.fill(0)
        if reader.message is not None:
            return reader.message
    collector = reader.collector
    if not collector.total:
        why = reader.complaint or "no QR code of a carrier's bundle was seen"
        raise ProvisioningError(
            why, todo="hold the carrier's page flat and still, the code filling half of the picture"
        )
    missing = ", ".join(map(str, collector.missing[:12]))
    raise ProvisioningError(
        f"only {collector.seen} of {collector.total} QR codes were seen; missing: {missing}",
        todo="show the whole sequence again, each code for about a second",
    )
