"""Area under the margin: the mean over training of how far the label's logit is above all others.

Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking", section 3. Similar
images of the true class pull a wrong label's margin below 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smelt.mining.visits import Column, Visits, lead

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def margin(visits: Visits) -> Tensor:
    """Recorded of each visit, (B,): logit of the label − largest other logit (equation 1)."""
    return visits.of(lead)


COLUMNS = (Column("margin_sum", "float32", margin),)


def score(margin_sum: NDArray[np.float32], seen: NDArray[np.int32]) -> NDArray[np.float64]:
    """The mean margin over all visits of a row, (N,) (equation 2)."""
    return margin_sum / seen
