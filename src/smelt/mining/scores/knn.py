"""Whether the rows whose features are nearest have the same label.

The log of the label's share among the nearest rows over that of the most frequent other class, each with its
share of all labels added as if it were one neighbour more. Bahri et al. 2020, "Deep k-NN for Noisy Labels",
section 3; the row itself does not vote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smelt.mining.labelled_features import BLOCK, margins
from smelt.mining.neighbours import neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smelt.mining.labelled_features import Labelled


def score(features: Labelled) -> NDArray[np.float64]:
    """log share of the label − log share of the most frequent other, (N,)."""
    data, places = features, neighbours(features).places_nK
    priors = data.counts / max(data.num_rows, 1)
    found = np.full(data.num_rows, np.nan)
    for start in data.starts():
        near = data.classes[places[start : start + BLOCK]]
        lines = np.arange(len(near))[:, None] * data.num_classes
        votes = np.bincount((near + lines).ravel(), minlength=len(near) * data.num_classes)
        shares = votes.reshape(len(near), data.num_classes) + priors
        with np.errstate(divide="ignore"):
            found[start : start + len(near)] = margins(np.log(shares), data.classes[start : start + BLOCK])[0]
    return data.whole(found)
