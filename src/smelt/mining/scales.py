"""Scores on one scale, standardised or as ranks, and means of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.mining.quantiles import normal_quantiles

Floats = NDArray[np.float64]


def mean_of(scores_MN: Sequence[Floats]) -> Floats:
    """Mean over the models that have a score, (N,); NaN where none has."""
    total, count = np.zeros(len(scores_MN[0])), np.zeros(len(scores_MN[0]))
    for scores in scores_MN:
        known = ~np.isnan(scores)
        total[known] += scores[known]
        count += known
    with np.errstate(invalid="ignore"):
        return total / count


def standardised(scores_N: Floats, groups_N: NDArray[np.int32]) -> Floats:
    """(score − mean)/deviation within each group; 0 where a group's scores are all equal. NaN stays NaN.

    Scores are sums that were kept in float32: what they differ by below its resolution is no difference.
    """
    known = ~np.isnan(scores_N)
    _, codes = np.unique(groups_N, return_inverse=True)
    values = np.where(known, scores_N, 0)
    counts = np.maximum(np.bincount(codes, weights=known), 1)
    mean = np.bincount(codes, weights=values) / counts
    centred = scores_N - mean[codes]
    deviation = np.sqrt(np.bincount(codes, weights=np.where(known, centred, 0) ** 2) / counts)
    size = np.sqrt(np.bincount(codes, weights=values**2) / counts)
    equal = deviation <= size * np.finfo(np.float32).eps
    return np.where(equal[codes] & known, 0.0, centred / np.where(equal, 1, deviation)[codes])


def grouped_ranks(scores_N: Floats, groups_N: NDArray[np.int32]) -> Floats:
    """Rank of each score within its group, from 0 (lowest) to 1, equal scores sharing their mean rank."""
    ranks = np.full(len(scores_N), np.nan)
    known = np.flatnonzero(~np.isnan(scores_N))
    if not len(known):
        return ranks
    order = known[np.lexsort((scores_N[known], groups_N[known]))]
    group, score, place = groups_N[order], scores_N[order], np.arange(len(order))
    new_group = np.r_[True, group[1:] != group[:-1]]
    new_value = new_group | np.r_[True, score[1:] != score[:-1]]
    starts = np.flatnonzero(new_value)
    ends = np.r_[starts[1:], len(order)] - 1
    shared = ((starts + ends) / 2)[np.cumsum(new_value) - 1]
    first = np.maximum.accumulate(np.where(new_group, place, 0))
    sizes = np.diff(np.r_[np.flatnonzero(new_group), len(order)])[np.cumsum(new_group) - 1]
    ranks[order] = np.where(sizes > 1, (shared - first) / np.maximum(sizes - 1, 1), 0.5)
    return ranks


def mean_quantiles(scores: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    """Weighted mean of the scores' normal quantiles, over those that a row has, (N,); NaN without any.

    A quantile in place of a score keeps its order and gives all scores one scale: their mean, van der
    Waerden's for several samples, asks nothing of what the scores are. Never within classes: a class of which
    half is wrong would have as many rows flagged as one that is clean.
    """
    shape = next(iter(scores.values())).shape
    total, weight = np.zeros(shape), np.zeros(shape)
    for name, values in scores.items():
        quantiles = normal_quantiles(values)
        known = ~np.isnan(quantiles)
        total[known] += weights[name] * quantiles[known]
        weight[known] += weights[name]
    with np.errstate(invalid="ignore"):
        return total / weight


def whole_numbers(name: str, values: ArrayLike) -> NDArray[np.integer]:
    """`values` as an array (N,) of whole numbers; TypeError or ValueError, with `name`, if they are not."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must be whole numbers, not {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have the shape (N,), not {array.shape}")
    return array
