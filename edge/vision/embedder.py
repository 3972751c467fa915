"""The aligned face as a unit-length template; comparing templates belongs to the session's rules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.errors import PackError
from edge.session.comparison import Template
from edge.vision import crops
from edge.vision.pack import EmbedderSpec, Meaning
from edge.vision.picture import Levels
from edge.vision.runtime import Model


class Embedder:
    """Align by five points, run, normalise."""

    def __init__(self, spec: EmbedderSpec, model: Model) -> None:
        self._spec = spec
        self._model = model

    def template(self, levels: Levels, keypoints: npt.NDArray[np.float64]) -> Template:
        """The face at `keypoints` (5, 2), in pixels of the picture that `levels` shows.

        PackError where the model answers with no direction (all zeros, or no numbers): such a pack is broken.
        """
        crop = crops.embedding_crop(keypoints, self._spec.input.width_px)
        vector = self._model.run(levels.cut(crop))[Meaning.EMBEDDING][0]
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length < 1e-6:
            raise PackError(f"{self._spec.file} gives no template", todo="install another pack")
        return Template((vector / np.float32(length)).astype(np.float32), model=self._spec.sha256)

    def wipe(self) -> None:
        """Overwrite what the last picture left."""
        self._model.wipe()
