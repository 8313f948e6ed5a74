"""The linear pool, q_c = Σ_m w_m p_mc, with the weights that make the labels likeliest.

Genest & Zidek 1986, Combining probability distributions; Breiman 1996, Stacked regressions. Every class
weighs the same, as in the metric. Without a constraint on the sum the loss −Σ a log q + Σ w has its minimum
at Σ w = 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.fitting.method import Method, Seen
from smelt.fusion.fitting.newton import Judged, minimised
from smelt.fusion.fitting.sample import picked

FAINT = 1e-30  # added to a probability before its logarithm


def linear_pool(
    own_Mn: NDArray[np.float32], balance_n: NDArray[np.float64], start_M: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Weights (M,) with sum 1 of the linear pool; own: what each result gives the label. start: weights
    that are near."""
    keep = balance_n > 0
    own, balance = picked(own_Mn, keep).astype(np.float64) + FAINT, balance_n[keep]

    def value(weights: NDArray[np.float64]) -> float:
        with np.errstate(divide="ignore"):
            return float(weights.sum() - balance @ np.log(weights @ own))

    def judged(weights: NDArray[np.float64]) -> Judged:
        mixed = weights @ own
        return value(weights), 1 - own @ (balance / mixed), (own * (balance / mixed**2)) @ own.T

    start = np.full(len(own), 1 / len(own)) if start_M is None else start_M
    weights = minimised(value, judged, start)
    return np.asarray(weights / weights.sum())


def fit(seen: Seen) -> NDArray[np.float64]:
    """Weights (M,) for the images seen."""
    return linear_pool(seen.sample.own_Mn, seen.sample.balanced(seen.seen_n), seen.near)


METHOD = Method("probability", fit)
