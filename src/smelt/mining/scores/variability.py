"""Standard deviation over training of the label's probability.

Swayamdipta et al. 2020, "Dataset Cartography", section 2. The probability of a wrong label is low and steady
(figure 1), so a wobbling one speaks for the row while models still learn; of one visit it says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from smelt.mining.scores import probability as mean_probability
from smelt.mining.scores.probability import probability
from smelt.mining.visits import Column, Visits

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def square(visits: Visits, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Tensor:
    """What a visit adds to the sum of squared deviations from the mean, (B,): Welford's update; summed over
    several visits of a step it is Chan's formula for two groups."""
    p = visits.of(probability)
    return (p - _mean(before)) * (p - _mean(after))


def _mean(at: Mapping[str, Tensor]) -> Tensor:
    return at["probability_sum"] / at["seen"].clamp(min=1)


COLUMNS = (
    *mean_probability.COLUMNS,
    Column("probability_m2", "float32", square, of=("seen", "probability_sum")),
)


def score(probability_m2: NDArray[np.float32], seen: NDArray[np.int32]) -> NDArray[np.float64]:
    """√(mean squared deviation) over all visits of a row, (N,)."""
    return np.asarray(np.sqrt(np.maximum(probability_m2 / seen, 0)))
