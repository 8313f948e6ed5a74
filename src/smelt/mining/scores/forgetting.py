"""How seldom a row went from right to wrong in training.

Toneva et al. 2019, "An Empirical Study of Example Forgetting during Deep Neural Network Learning", section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from smelt.mining.scores import accuracy
from smelt.mining.visits import RIGHT, Column, Visits

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def fell(visits: Visits, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Tensor:
    """Recorded of each step, (B,): whether the row was right when it was last seen, and is wrong now. A step
    is one visit, right if any of them is."""
    then, now = before["last"], after["last"]
    return (then >= 0) & (then & RIGHT > now & RIGHT)


COLUMNS = (*accuracy.COLUMNS, Column("forgotten", "int32", fell, how="once", of=("last",)))


def score(
    forgotten: NDArray[np.int32], correct: NDArray[np.int32], seen: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Minus the falls, (N,). Rows that were never right count one more than the most forgotten row: the paper
    takes them as forgotten without end."""
    falls = forgotten.astype(np.float64)
    never = (correct == 0) & (seen > 0)
    falls[never] = falls.max(initial=0) + 1
    return -falls
