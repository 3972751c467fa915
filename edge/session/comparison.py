"""Templates, the comparison score and its banding; how a template is made from pixels belongs to vision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Template:
    """A unit-length face embedding. Its repr never shows it, so that no log or traceback can."""

    vector: npt.NDArray[np.float32]  # (d,), L2 norm 1
    model: str = ""  # digest of the model that made it: templates of different models never compare

    def __repr__(self) -> str:
        return f"Template(<{self.vector.shape[0]} numbers>)"


def compare(probe: Template, reference: Template) -> float:
    """Comparison score: cosine of two templates, -1..1, higher is more alike. ValueError where models differ."""
    if probe.model != reference.model or probe.vector.shape != reference.vector.shape:
        msg = "templates of different models cannot be compared"
        raise ValueError(msg)
    return float(np.clip(np.dot(probe.vector, reference.vector), -1.0, 1.0))
