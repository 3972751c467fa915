"""The passive model's probability that a bona fide face, no print and no screen, is before the camera."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.vision import crops
from edge.vision.pack import Activation, AntispoofSpec, Meaning
from edge.vision.picture import Levels
from edge.vision.runtime import Model, probability


class Antispoof:
    """Wide upright crop, run, one number. Judging it over a session belongs to the session's rules."""

    def __init__(self, spec: AntispoofSpec, model: Model) -> None:
        self._spec = spec
        self._model = model

    def bona_fide(self, levels: Levels, keypoints: npt.NDArray[np.float64]) -> float:
        """Probability 0..1 for the face at `keypoints` (5, 2) in pixels of the picture that `levels` shows."""
        crop = crops.antispoof_crop(keypoints, self._spec.input.width_px)
        values = self._model.run(levels.cut(crop))[Meaning.BONA_FIDE][0]
        if self._spec.activation is not Activation.SOFTMAX:
            values = values[self._spec.bona_fide_class : self._spec.bona_fide_class + 1]
            return float(probability(values, self._spec.activation)[0])
        return float(probability(values, self._spec.activation)[self._spec.bona_fide_class])

    def wipe(self) -> None:
        """Overwrite what the last picture left."""
        self._model.wipe()
