"""Every probe with every reference: only a study compares so; the product compares one face with one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.session.comparison import Template


def all_scores(probes: Sequence[Template], references: Sequence[Template]) -> NDArray[np.float32]:
    """`edge.session.comparison.compare` of each pair, [probes, references], in one product of matrices."""
    cosines = np.stack([t.vector for t in probes]) @ np.stack([t.vector for t in references]).T
    common = np.array([t.cohort for t in probes])[:, None] + np.array([t.cohort for t in references])
    scores: NDArray[np.float32] = (cosines - common / 2).astype(np.float32)
    return scores
