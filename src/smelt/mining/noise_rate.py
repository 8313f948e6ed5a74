"""How large a share of the labels is wrong, estimated from the scores alone. Arrays in, numbers out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mixture_rate(scores_N: Floats, iterations: int = 200) -> float:
    """Share of the lower of two Gaussians fitted to the scores by expectation maximisation.

    NaN scores are left out; NaN is returned for fewer than two different scores.
    """
    scores = scores_N[~np.isnan(scores_N)]
    if len(scores) < 2 or scores.min() == scores.max():
        return float("nan")
    low, high = np.percentile(scores, [10, 75])
    mean, share = np.array([low, high]), np.array([0.5, 0.5])
    floor = 1e-3 * scores.std()
    deviation = np.full(2, scores.std())
    for _ in range(iterations):
        z = (scores[:, None] - mean) / deviation
        log_density = np.log(share) - np.log(deviation) - z**2 / 2
        odds = np.clip(log_density[:, 1] - log_density[:, 0], -50, 50)
        belongs = 1 / (1 + np.exp(odds))
        weights = np.stack([belongs, 1 - belongs], axis=1)
        total = np.maximum(weights.sum(axis=0), 1e-9)
        before, share = share, total / len(scores)
        mean = (weights * scores[:, None]).sum(axis=0) / total
        deviation = np.sqrt((weights * (scores[:, None] - mean) ** 2).sum(axis=0) / total)
        deviation = np.maximum(deviation, floor)
        if abs(before[0] - share[0]) < 1e-6:
            break
    return float(share[np.argmin(mean)])
