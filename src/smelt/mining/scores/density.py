"""How near the nearest images are, whatever their label: what lies alone is likely of no class at all.

Mean cosine to the nearest rows, in whitened space: Sun et al. 2022, "Out-of-Distribution Detection with Deep
Nearest Neighbors", section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smelt.mining.neighbours import neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smelt.mining.labelled_features import Labelled

FEW = 10  # nearest rows


def score(features: Labelled) -> NDArray[np.float64]:
    """Mean cosine to the `FEW` nearest rows, (N,)."""
    nearest = neighbours(features).cosines_nK[:, :FEW]
    mean = nearest.mean(axis=1, dtype=np.float64) if nearest.shape[1] else np.full(len(nearest), np.nan)
    return features.whole(mean)
