"""The logarithmic pool, q_c ∝ exp Σ_m w_m s_mc, with the weights that make the labels likeliest.

Genest & Zidek 1986, Combining probability distributions. The loss is convex in w; Σ w is the sharpness, which
no order of classes depends on. Every class weighs the same, as in the metric.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.fitting.method import Method, Seen
from smelt.fusion.fitting.newton import Judged, minimised
from smelt.fusion.fitting.sample import picked

IMAGES = 2500  # that it is fitted on
RIDGE = 1e-5  # on the weights: with every label right the sharpness would grow for ever


def log_pool(
    logs_MKn: NDArray[np.float32],
    place_n: NDArray[np.int64],
    balance_n: NDArray[np.float64],
    start_M: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Weights (M,) of the logarithmic pool, their sum its sharpness. start: weights that are near."""
    keep = balance_n > 0
    logs, place, balance = picked(logs_MKn, keep), place_n[keep], balance_n[keep]
    num_results, width, size = logs.shape
    flat = logs.reshape(num_results, -1)
    own = logs[:, place, np.arange(size)].astype(np.float64)
    light = balance.astype(np.float32)

    def shares(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
        mixed = (weights.astype(np.float32) @ flat).reshape(width, size)
        top = mixed.max(axis=0)
        mixed -= top
        np.exp(mixed, out=mixed)
        total = mixed.sum(axis=0)
        loss = balance @ (np.log(total, dtype=np.float64) + top - weights @ own)
        mixed /= total
        return mixed, float(loss + RIDGE / 2 * weights @ weights)

    def judged(weights: NDArray[np.float64]) -> Judged:
        chances, loss = shares(weights)
        mean = np.einsum("mkn,kn->mn", logs, chances)
        gradient = (mean.astype(np.float64) - own) @ balance + RIDGE * weights
        chances *= light
        spread = (mean * -light) @ mean.T
        for one in range(width):  # class by class it stays in the cache
            spread += (logs[:, one] * chances[one]) @ logs[:, one].T
        return loss, gradient, spread.astype(np.float64) + RIDGE * np.eye(num_results)

    start = np.full(num_results, 1 / num_results) if start_M is None else start_M
    return minimised(lambda w: shares(w)[1], judged, start)


def fit(seen: Seen) -> NDArray[np.float64]:
    """Weights (M,) for the images seen, their sum the sharpness."""
    keep = seen.seen_n & seen.sample.few(IMAGES)
    sample = seen.sample
    return log_pool(
        picked(sample.logs_MKn, keep), sample.place_n[keep], sample.balanced(keep)[keep], seen.near
    )


METHOD = Method("log_probability", fit)
