"""Minus the mean cross entropy of the label over training.

The "small loss" that Han et al. 2018, "Co-teaching", section 2, select by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as functional

from smelt.mining.scores.log_margin import log_margin
from smelt.mining.visits import Column, Visits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def loss(visits: Visits) -> Tensor:
    """Recorded of each visit, (B,): −log p of the label, from log p/(1 − p)."""
    return functional.softplus(-visits.of(log_margin))


COLUMNS = (Column("loss_sum", "float32", loss),)


def score(loss_sum: NDArray[np.float32], seen: NDArray[np.int32]) -> NDArray[np.float64]:
    """Minus the mean over all visits of a row, (N,)."""
    return -loss_sum / seen
