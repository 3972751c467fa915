"""The 138 points of one face from its crop; what they say about pose and eyes belongs to the session's geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.vision import crops
from edge.vision.pack import LandmarksSpec, Meaning
from edge.vision.picture import Levels
from edge.vision.runtime import Model, probability

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """Points (138, 2) in pixels of the picture."""

    points: Points
    presence: float  # probability that the crop shows a face, 0..1
    openness: tuple[float, float, float] | None  # right eye, left eye, mouth; None where the model does not say


class LandmarkFinder:
    """Crop around five keypoints, run, map to the picture."""

    def __init__(self, spec: LandmarksSpec, model: Model) -> None:
        self._spec = spec
        self._model = model
        self._picks = None if spec.points is None else np.array(spec.points)

    def find(self, levels: Levels, keypoints: Points) -> Landmarks:
        """The face at `keypoints` (5, 2), in pixels of the picture that `levels` shows."""
        crop = crops.landmark_crop(keypoints, self._spec.input.width_px)
        outputs = self._model.run(levels.cut(crop))
        points = outputs[Meaning.POINTS].reshape(-1, self._spec.dimensions)[:, :2].astype(np.float64)
        if self._picks is not None:
            points = points[self._picks]
        if self._spec.unit == "crop":
            points = points * crop.size_px
        presence = probability(outputs[Meaning.PRESENCE][:, 0], self._spec.presence)
        openness = outputs.get(Meaning.OPENNESS)
        return Landmarks(
            crop.to_picture(points),
            float(presence[0]),
            None if openness is None else (float(openness[0, 0]), float(openness[0, 1]), float(openness[0, 2])),
        )

    def wipe(self) -> None:
        """Overwrite what the last picture left."""
        self._model.wipe()
