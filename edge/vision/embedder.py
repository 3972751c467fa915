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

_NO_COHORT = np.zeros((1, 0), np.float32)


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
        (one, near_one), (other, near_other) = self._answer(aligned), self._answer(self._mirrored)
        vector, cohort = self._unit(one + other, near_one + near_other)
        nearest = np.sort(cohort)[-self._spec.cohort_nearest :] if self._spec.cohort_nearest else np.zeros(1)
        return Template(vector, self._spec.sha256, float(nearest.mean()))

    def wipe(self) -> None:
        """Overwrite what the last picture left."""
        self._mirrored.fill(0)
        self._model.wipe()

    def _answer(self, aligned_bgr: Image) -> tuple[FloatArray, FloatArray]:
        found = self._model.run(aligned_bgr)
        return self._unit(found[Meaning.EMBEDDING][0], found.get(Meaning.COHORT, _NO_COHORT)[0])

    def _unit(self, vector: FloatArray, cohort: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The vector at length 1, and its products with the cohort's faces, which shrink with it."""
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length < 1e-6 or not np.isfinite(cohort).all():
            raise PackError(f"{self._spec.file} gives no template", todo="install another pack")
        return (vector / np.float32(length)).astype(np.float32), (cohort / np.float32(length)).astype(np.float32)
