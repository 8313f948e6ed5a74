"""How much nearer a row's features are to the centre of its class than to any other centre.

Cosines in whitened space, where a direction in which all images vary counts no more than others; the row has
no part in the centre of its own class. The nearest-mean classifier of Mensink et al. 2013, "Distance-Based
Image Classification", section 3, with a whitening in place of a learnt metric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smelt.mining.centres import centres
from smelt.mining.labelled_features import margins

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smelt.mining.labelled_features import Labelled


def score(features: Labelled) -> NDArray[np.float64]:
    """Cosine to the centre of the other rows of its class less the largest to another class's, (N,); NaN for
    the only row of a class."""
    around = centres(features)
    found = np.full(features.num_rows, np.nan)

    def block(start: int) -> NDArray[np.float64]:
        cosines = around.cosines(start)
        labels = features.classes[start : start + len(cosines)]
        only = features.counts[labels] < 2
        cosines[only, labels[only]] = 0
        return np.where(only, np.nan, margins(cosines, labels)[0])

    for start, values in zip(features.starts(), features.each(block)):
        found[start : start + len(values)] = values
    return features.whole(found)
