"""Candidates: the classes of an image that weights can move above or below its label.

Weights w ≥ 0 with sum 1 and none above `cap` give Σ w_m D_m at most the mean of the greatest 1/cap of the
differences D_m = s_m(class) − s_m(label), and at least the mean of the least 1/cap. A class whose greatest
mean is not positive never counts, one whose least mean is positive always does. What is between are the
image's candidates. An image with k or more certain classes is wrong, one with fewer than k certain classes
and candidates together is right, whatever the weights; the rest are undecided.

Decisions are those of `reference.fused`: a margin for its rounding is kept wherever its monotony does not
settle the matter by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.reference import rounding

TILE = 1 << 17  # elements compared at once, so that they stay in the cache


@dataclass(frozen=True)
class Pruned:
    """A block of B images after pruning; U of them undecided, with R candidates in all.

    hits_B: 1 right, 0 wrong, -1 undecided. images_U: positions in the block. need_U: an image is wrong when
    that many of its candidates are above its label. counts_U: candidates of each. classes_R: ids.
    values_RM: their values, own_UM: the label's. singles_MB: hits of each result alone.
    """

    hits_B: NDArray[np.int8]
    images_U: NDArray[np.int64]
    need_U: NDArray[np.int32]
    counts_U: NDArray[np.int64]
    classes_R: NDArray[np.int32]
    values_RM: NDArray[Any]
    own_UM: NDArray[Any]
    singles_MB: NDArray[np.bool_]


def prune(
    values_MBC: NDArray[Any], own_MB: NDArray[Any], labels_B: NDArray[np.integer], k: int, cap: float
) -> Pruned:
    """Decide the images of a block or find their candidates. Labels below 0: decided as wrong."""
    num_results, size = own_MB.shape
    above_BC, singles_MB = _count_above(values_MBC, own_MB, labels_B, k)
    hits_B = np.full(size, -1, np.int8)
    always = (above_BC == num_results).sum(axis=1)
    possible = (above_BC > 0).sum(axis=1)
    hits_B[possible < k] = 1
    if own_MB.size:
        # all results above by more than the rounding of both sums: above under any weights
        hits_B[(always >= k) & _sure_wrong(values_MBC, own_MB, above_BC, always, k)] = 0
    hits_B[np.asarray(labels_B) < 0] = 0
    images = np.flatnonzero(hits_B < 0)
    line, classes = np.nonzero(above_BC[images] > 0)
    values_RM = values_MBC[:, images[line], classes].T
    own_UM = own_MB[:, images].T
    low_R, high_R = _bounds(values_RM, own_UM[line], cap)
    certain = np.bincount(line[low_R], minlength=len(images))
    open_R = high_R & ~low_R
    need = k - certain
    counts = np.bincount(line[open_R], minlength=len(images))
    hits_B[images[need <= 0]] = 0
    hits_B[images[(need > 0) & (counts < need)]] = 1
    left = (need > 0) & (counts >= need)
    rows = np.flatnonzero(open_R & left[line])
    return Pruned(
        hits_B=hits_B,
        images_U=images[left],
        need_U=need[left].astype(np.int32),
        counts_U=counts[left],
        classes_R=classes[rows].astype(np.int32),
        values_RM=np.ascontiguousarray(values_RM[rows]),
        own_UM=np.ascontiguousarray(own_UM[left]),
        singles_MB=singles_MB,
    )


def _count_above(
    values_MBC: NDArray[Any], own_MB: NDArray[Any], labels_B: NDArray[np.integer], k: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """How many results put a class strictly above the label, (B, C), and which results alone are right."""
    num_results, size, num_classes = values_MBC.shape
    above_BC = np.zeros((size, num_classes), np.uint8 if num_results < 256 else np.uint16)
    singles_MB = np.empty((num_results, size), np.bool_)
    labels = np.maximum(np.asarray(labels_B, np.int64), 0)
    step = max(1, TILE // num_classes)
    flags = np.empty((step, num_classes), np.bool_)
    for start in range(0, size, step):
        stop = min(size, start + step)
        count, flag = above_BC[start:stop], flags[: stop - start]
        label = (np.arange(stop - start), labels[start:stop])
        for index in range(num_results):
            keys = _ordered(values_MBC[index, start:stop])
            np.greater(keys, _ordered(own_MB[index, start:stop])[:, None], out=flag)
            flag[label] = False
            np.add(count, flag.view(np.uint8), out=count, casting="unsafe")
            singles_MB[index, start:stop] = np.count_nonzero(flag, axis=1) < k
    return above_BC, singles_MB


def _ordered(values: NDArray[Any]) -> NDArray[Any]:
    """float16 as int16 in the same order (numpy compares those ten times as fast); others as they are.

    −0 comes before +0 here, which only makes a candidate of a class that would not be one.
    """
    if values.dtype != np.float16:
        return values
    bits = values.view(np.int16)
    keys = np.right_shift(bits, 15)
    np.bitwise_and(keys, 0x7FFF, out=keys)
    np.bitwise_xor(keys, bits, out=keys)
    return keys


def _sure_wrong(
    values_MBC: NDArray[Any],
    own_MB: NDArray[Any],
    above_BC: NDArray[Any],
    always_B: NDArray[np.integer],
    k: int,
) -> NDArray[np.bool_]:
    """Of images with k or more classes above in every result: is it so beyond rounding for k of them?"""
    sure = np.zeros(len(always_B), np.bool_)
    for image in np.flatnonzero(always_B >= k):
        classes = np.flatnonzero(above_BC[image] == len(values_MBC))[: 4 * k]
        values = values_MBC[:, image, classes].astype(np.float32)
        own = own_MB[:, image].astype(np.float32)[:, None]
        slack = rounding(len(own)) * (np.abs(values).max(axis=0) + np.abs(own).max())
        sure[image] = int(((values - own).min(axis=0) > slack).sum()) >= k
    return sure


def _bounds(
    values_RM: NDArray[Any], own_RM: NDArray[Any], cap: float, chunk: int = 1 << 14
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each candidate: is it above under all weights, and under some? (R,), (R,)."""
    low = np.empty(len(values_RM), np.bool_)
    high = np.empty(len(values_RM), np.bool_)
    share = extreme_shares(values_RM.shape[1], cap)
    for start in range(0, len(values_RM), chunk):
        part = slice(start, start + chunk)
        values, own = values_RM[part].astype(np.float32), own_RM[part].astype(np.float32)
        slack = rounding(values.shape[1]) * (np.abs(values).max(axis=1) + np.abs(own).max(axis=1))
        least, greatest = extreme_means(values - own, share)
        low[part] = least > slack
        high[part] = greatest > -slack
    return low, high


def extreme_shares(num_results: int, cap: float) -> NDArray[np.float32]:
    """Weights, in descending order of value, that make Σ w_m D_m greatest under w ≤ cap, Σw = 1; (M,)."""
    cap = max(cap, 1.0 / num_results)
    left = 1.0 - cap * np.arange(num_results)
    return np.asarray(np.clip(left, 0.0, cap), np.float32)


def extreme_means(
    differences_RM: NDArray[np.float32], share_M: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and greatest Σ w_m D_m of each row, (R,), (R,). Overwrites its input."""
    if share_M[0] >= 1.0:
        return differences_RM.min(axis=1), differences_RM.max(axis=1)
    differences_RM.sort(axis=1)
    least: NDArray[np.float32] = differences_RM @ share_M
    greatest: NDArray[np.float32] = differences_RM @ share_M[::-1]
    return least, greatest
