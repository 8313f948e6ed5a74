"""Mean over training of log p/(1 − p), p the label's probability: its margin over all others together.

The margin score of Carlini et al. 2022, "Membership Inference Attacks From First Principles", section IV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smelt.mining.scores.aum import margin
from smelt.mining.visits import Column, Visits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def log_margin(visits: Visits) -> Tensor:
    """Recorded of each visit, (B,): log p/(1 − p) = logit of the label − logsumexp of the others."""
    return visits.of(margin) + visits.log_share_B


COLUMNS = (Column("log_margin_sum", "float32", log_margin),)


def score(log_margin_sum: NDArray[np.float32], seen: NDArray[np.int32]) -> NDArray[np.float64]:
    """The mean over all visits of a row, (N,)."""
    return log_margin_sum / seen
