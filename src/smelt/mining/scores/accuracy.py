"""Share of the visits in training at which the label had the largest logit.

"Correctness" in Swayamdipta et al. 2020, "Dataset Cartography", section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smelt.mining.scores.aum import margin
from smelt.mining.visits import Column, Visits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def right(visits: Visits) -> Tensor:
    """Recorded of each visit, (B,): whether the label has the strictly largest logit."""
    return visits.of(margin) > 0


COLUMNS = (Column("correct", "int32", right),)


def score(correct: NDArray[np.int32], seen: NDArray[np.int32]) -> NDArray[np.float64]:
    """The share of all visits of a row, (N,)."""
    return correct / seen
