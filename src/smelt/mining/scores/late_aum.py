"""Area under the margin with later visits weighted more: what the net says once it has learnt.

A net that is trained from scratch tells little in its first epochs. The mean is updated as in Shamir and
Zhang 2013, "Stochastic Gradient Descent for Non-smooth Optimization", section 3 (polynomial-decay averaging),
so that visit j of a row weighs j(j + 1)…(j + η − 1), which needs no word of how many will follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from smelt.mining.scores.aum import margin
from smelt.mining.visits import Column, Visits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

ETA = 3  # four fifths of the weight lie on the last third of the visits


def moved(visits: Visits, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Tensor:
    """What a visit moves the weighted mean by, (B,). Several visits in one step share the weight of all."""
    then, now = before["seen"].double(), after["seen"].double()
    kept = _product(then) / _product(now.clamp(min=1))
    share = (1 - kept) / (now - then).clamp(min=1)
    return ((visits.of(margin) - before["late_margin"]) * share).float()


def _product(visits_B: Tensor) -> Tensor:
    """j(j + 1)…(j + η): by how much the weights up to visit j have grown."""
    found = visits_B
    for i in range(1, ETA + 1):
        found = found * (visits_B + i)
    return found


COLUMNS = (Column("late_margin", "float32", moved, of=("seen", "late_margin")),)


def score(late_margin: NDArray[np.float32]) -> NDArray[np.float64]:
    """The weighted mean margin over all visits of a row, (N,)."""
    return late_margin.astype("float64")
