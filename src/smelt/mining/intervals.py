"""Intervals of 95 % for shares and for the area under the ROC curve. Numbers and arrays in, numbers out."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.mining.scales import grouped_ranks

Floats = NDArray[np.float64]
Z = NormalDist().inv_cdf(0.975)


def z_of_many(comparisons: int) -> float:
    """Quantile of the normal distribution for `comparisons` two-sided intervals that hold together in 95 %
    (Bonferroni)."""
    return NormalDist().inv_cdf(1 - 0.025 / max(comparisons, 1))


def wilson(share: ArrayLike, images: ArrayLike, z: float = Z) -> tuple[Any, Any]:
    """Wilson's score interval (1927) of a share of so many images: (low, high), each of the inputs' shape.

    (0, 1) where there is no image; NaN where the share is.
    """
    n = np.maximum(np.asarray(images, np.float64), 1e-9)
    p = np.asarray(share, np.float64)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return np.clip(centre - half, 0, 1)[()], np.clip(centre + half, 0, 1)[()]


def auroc_interval(cleanness_N: Floats, wrong_N: NDArray[np.bool_], z: float = Z) -> tuple[float, float]:
    """Interval of `diagnosis.auroc`: the variance of DeLong et al. (1988) by ranks (Sun and Xu 2014).

    It is turned into Wilson's interval of as many images as give that variance, so that it stays in 0..1 and
    has a width where no pair is in the wrong order. (NaN, NaN) unless there are both kinds of rows.
    """
    known = ~np.isnan(cleanness_N)
    scores, wrong = cleanness_N[known], wrong_N[known]
    right_count, wrong_count = int((~wrong).sum()), int(wrong.sum())
    if not right_count or not wrong_count:
        return float("nan"), float("nan")
    everywhere = _ranks(scores)
    below_right = (everywhere[~wrong] - _ranks(scores[~wrong])) / wrong_count
    above_wrong = 1 - (everywhere[wrong] - _ranks(scores[wrong])) / right_count
    area = float(below_right.mean())
    variance = _variance_of_mean(below_right) + _variance_of_mean(above_wrong)
    images = area * (1 - area) / variance if variance > 0 else float(min(right_count, wrong_count))
    low, high = wilson(area, max(images, 1.0), z)
    return float(low), float(high)


def _ranks(scores_N: Floats) -> Floats:
    """Ranks from 1, equal scores sharing their mean rank."""
    if len(scores_N) == 1:
        return np.ones(1)
    return grouped_ranks(scores_N, np.zeros(len(scores_N), np.int32)) * (len(scores_N) - 1) + 1


def _variance_of_mean(values_N: Floats) -> float:
    return float(values_N.var(ddof=1) / len(values_N)) if len(values_N) > 1 else 0.0
