"""Margin of the label in a ridge regression on features that was fitted without the row.

Out of sample in closed form (see `leave_one_out`), so that no wrong label is learnt by heart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smelt.mining.labelled_features import margins
from smelt.mining.leave_one_out import fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smelt.mining.labelled_features import Labelled


def score(features: Labelled) -> NDArray[np.float64]:
    """The label's output less the largest other, of the fit without the row, (N,)."""
    fit = fitted(features)
    found = np.full(features.num_rows, np.nan)

    def block(start: int) -> NDArray[np.float64]:
        scores = fit.scores(start)
        return margins(scores, features.classes[start : start + len(scores)])[0]

    for start, values in zip(features.starts(), features.each(block)):
        found[start : start + len(values)] = values
    return features.whole(found)
