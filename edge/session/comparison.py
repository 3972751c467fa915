"""Templates, the comparison score and its banding; how a template is made from pixels belongs to vision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Distance of a score from its threshold where one band ends and the next begins; from band 4 on it is a match.
BAND_EDGES = (-0.24, -0.16, -0.08, 0.0, 0.08, 0.16, 0.24)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Template:
    """A unit-length face embedding. Its repr never shows it, so that no log or traceback can."""

    vector: npt.NDArray[np.float32]  # (d,), L2 norm 1
    model: str = ""  # digest of the model that made it: templates of different models never compare
    cohort: float = 0.0  # mean cosine to the nearest faces of the model's cohort; 0 where the model has none

    def __repr__(self) -> str:
        return f"Template(<{self.vector.shape[0]} numbers>)"


def compare(probe: Template, reference: Template) -> float:
    """Comparison score, -2..2, higher is more alike. ValueError where models differ.

    The cosine, less what both faces have in common with faces at large: a young woman's is near to more strangers' than
    an old man's, and would match more of them. (Cohort normalisation: Auckenthaler et al. 2000; by the nearest of the
    cohort: Sturim and Reynolds 2005. Here by means alone.)
    """
    if probe.model != reference.model or probe.vector.shape != reference.vector.shape:
        msg = "templates of different models cannot be compared"
        raise ValueError(msg)
    cosine = float(np.clip(np.dot(probe.vector, reference.vector), -1.0, 1.0))
    return cosine - (probe.cohort + reference.cohort) / 2


def mean_template(templates: tuple[Template, ...]) -> Template:
    """One template of several of the same person (not empty): the mean direction. ValueError where models differ."""
    if len({(t.model, t.vector.shape) for t in templates}) != 1:
        msg = "templates of different models have no mean"
        raise ValueError(msg)
    total = np.sum([t.vector for t in templates], axis=0)
    length = max(float(np.linalg.norm(total)), 1e-9)
    # One person's templates have the same nearest faces in the cohort, so cosines to these add up as the vectors do.
    cohort = sum(t.cohort for t in templates) / length
    return Template((total / length).astype(np.float32), templates[0].model, cohort)


def match_band(score: float, threshold: float) -> int:
    """0..7, 4 or more is a match: all that may be told of a score."""
    return sum(score - threshold >= edge for edge in BAND_EDGES)
