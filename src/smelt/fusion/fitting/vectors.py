"""Weight vectors: kept within their cap, mixed with equal ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.fusion.scores.reference import normalised


def capped(weights_PM: ArrayLike, cap: float) -> NDArray[np.float64]:
    """Weights (P, M) with sum 1 and none above `cap` ≥ 1/M: what is over goes to the others in proportion."""
    weights = np.atleast_2d(np.array(weights_PM, np.float64))
    num_results = weights.shape[1]
    if cap <= 1.0 / num_results:
        return np.full_like(weights, 1.0 / num_results)
    weights /= weights.sum(axis=1, keepdims=True)
    for _ in range(num_results):
        full = weights >= cap
        over = weights.sum(axis=1) - np.minimum(weights, cap).sum(axis=1)
        if not bool((over > 1e-12).any()):
            break
        weights = np.minimum(weights, cap)
        open_PM = np.where(full, 0.0, weights)
        # results without any weight share what nobody else can take
        empty = open_PM.sum(axis=1) <= 1e-12
        open_PM[empty] = np.where(full[empty], 0.0, 1.0)
        weights += open_PM * (over / open_PM.sum(axis=1))[:, None]
    return np.minimum(weights, cap)


def shrunk(weights_M: ArrayLike, share: float) -> NDArray[np.float32]:
    """Weights with `share` of them replaced by equal ones."""
    weights = normalised(weights_M).astype(np.float64)
    return normalised((1 - share) * weights + share / len(weights))
