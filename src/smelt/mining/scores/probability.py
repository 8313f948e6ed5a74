"""Mean over training of the label's softmax probability.

"Confidence" in Swayamdipta et al. 2020, "Dataset Cartography", section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smelt.mining.scores.log_margin import log_margin
from smelt.mining.visits import Column, Visits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def probability(visits: Visits) -> Tensor:
    """Recorded of each visit, (B,): the softmax probability of the label."""
    return visits.of(log_margin).sigmoid()


COLUMNS = (Column("probability_sum", "float32", probability),)


def score(probability_sum: NDArray[np.float32], seen: NDArray[np.int32]) -> NDArray[np.float64]:
    """The mean over all visits of a row, (N,)."""
    return probability_sum / seen
