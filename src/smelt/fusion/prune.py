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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.reference import rounding, single

TILE = 1 << 17  # elements compared at once, so that they stay in the cache
WIDE = 256  # classes from which on lines are counted one by one, which is quicker then


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
    values_MBC: Sequence[NDArray[Any]],
    own_MB: NDArray[Any],
    labels_B: NDArray[np.integer],
    k: int,
    cap: float,
) -> Pruned:
    """Decide the images of a block or find their candidates. Labels below 0: decided as wrong."""
    size = own_MB.shape[1]
    above_BC, singles_MB = _count_above(values_MBC, own_MB, labels_B, k)
    possible_BC = above_BC > 0
    hits_B = np.full(size, -1, np.int8)
    hits_B[possible_BC.sum(axis=1) < k] = 1
    hits_B[np.asarray(labels_B) < 0] = 0
    hits_B[_surely_wrong(values_MBC, own_MB, above_BC, np.flatnonzero(hits_B < 0), k, cap)] = 0
    images = np.flatnonzero(hits_B < 0)
    line, classes = np.nonzero(possible_BC[images])
    values_RM = _gathered(values_MBC, images[line], classes, own_MB.dtype)
    own_UM = np.ascontiguousarray(own_MB[:, images].T)
    low_R, high_R = _bounds(values_RM, own_UM, line, cap)
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
    values_MBC: Sequence[NDArray[Any]], own_MB: NDArray[Any], labels_B: NDArray[np.integer], k: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """How many results put a class strictly above the label, (B, C), and which results alone are right."""
    num_results, size = own_MB.shape
    num_classes = values_MBC[0].shape[1]
    above_BC = np.zeros((size, num_classes), np.uint8 if num_results < 256 else np.uint16)
    singles_MB = np.empty((num_results, size), np.bool_)
    labels = np.maximum(np.asarray(labels_B, np.int64), 0)
    step = max(1, TILE // num_classes)
    flags = np.empty((step, num_classes), np.bool_)
    keys = np.empty((step, num_classes), np.int16)
    own_MB = own_MB + own_MB.dtype.type(0)  # −0 becomes 0: bits are compared below
    for start in range(0, size, step):
        stop = min(size, start + step)
        count, flag = above_BC[start:stop], flags[: stop - start]
        label = (np.arange(stop - start), labels[start:stop])
        for index, values_BC in enumerate(values_MBC):
            _above(values_BC[start:stop], own_MB[index, start:stop], flag, keys[: stop - start])
            flag[label] = False
            np.add(count, flag.view(np.uint8), out=count, casting="unsafe")
            if num_classes >= WIDE:
                over = np.array([np.count_nonzero(row) for row in flag])
            else:
                over = np.count_nonzero(flag, axis=1)
            singles_MB[index, start:stop] = over < k
    return above_BC, singles_MB


def _above(
    values_BC: NDArray[Any], own_B: NDArray[Any], out_BC: NDArray[np.bool_], keys_BC: NDArray[np.int16]
) -> None:
    """out = values > own. numpy compares integers ten times as fast as float16, so bits are compared.

    Bits order non-negative numbers as signed integers do, negative ones as unsigned integers in reverse.
    """
    if values_BC.dtype != np.float16:
        np.greater(values_BC, own_B[:, None], out=out_BC)
        return
    bits, own = values_BC.view(np.int16), np.ascontiguousarray(own_B, np.float16).view(np.int16)[:, None]
    if bool((own >= 0).all()):
        np.greater(bits, own, out=out_BC)
    elif bool((own < 0).all()):
        np.less(bits.view(np.uint16), own.view(np.uint16), out=out_BC)
    else:
        np.right_shift(bits, 15, out=keys_BC)
        np.bitwise_and(keys_BC, 0x7FFF, out=keys_BC)
        np.bitwise_xor(keys_BC, bits, out=keys_BC)
        np.greater(keys_BC, own ^ ((own >> 15) & 0x7FFF), out=out_BC)


def _surely_wrong(
    values_MBC: Sequence[NDArray[Any]],
    own_MB: NDArray[Any],
    above_BC: NDArray[Any],
    images: NDArray[np.int64],
    k: int,
    cap: float,
) -> NDArray[np.int64]:
    """Those of `images` that k or more of their most promising classes are above in any case.

    Saves looking at the hundreds of candidates of an image that is far from right.
    """
    tried = 4 * k
    if above_BC.shape[1] <= 2 * tried or not len(images):
        return images[:0]
    best = np.argpartition(above_BC[images], -tried, axis=1)[:, -tried:]
    line = np.repeat(np.arange(len(images)), tried)
    values_RM = _gathered(values_MBC, images[line], best.reshape(-1), own_MB.dtype)
    low_R, _ = _bounds(values_RM, np.ascontiguousarray(own_MB[:, images].T), line, cap)
    wrong: NDArray[np.int64] = images[low_R.reshape(len(images), tried).sum(axis=1) >= k]
    return wrong


def _gathered(
    values_MBC: Sequence[NDArray[Any]], images_R: NDArray[np.int64], classes_R: NDArray[np.int64], kind: Any
) -> NDArray[Any]:
    """Values (R, M) of single classes."""
    values_MR = np.empty((len(values_MBC), len(images_R)), kind)
    places_R = images_R * values_MBC[0].shape[1] + classes_R
    for row, values_BC in zip(values_MR, values_MBC):
        if values_BC.dtype == kind:
            np.take(values_BC.reshape(-1), places_R, out=row, mode="clip")
        else:
            row[:] = values_BC.reshape(-1)[places_R]
    return np.ascontiguousarray(values_MR.T)


def _bounds(
    values_RM: NDArray[Any], own_UM: NDArray[Any], line_R: NDArray[np.int64], cap: float, chunk: int = 1 << 10
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each candidate: is it above under all weights, and under some? (R,), (R,)."""
    low = np.empty(len(values_RM), np.bool_)
    high = np.empty(len(values_RM), np.bool_)
    share = extreme_shares(values_RM.shape[1], cap)
    labels_UM = single(own_UM)
    # no value is larger than the label's largest and the largest difference together
    largest_U = 2 * np.abs(labels_UM).max(axis=1, initial=0)
    for start in range(0, len(values_RM), chunk):
        part = slice(start, start + chunk)
        differences = single(values_RM[part]) - labels_UM[line_R[part]]
        least, greatest, largest = extreme_means(differences, share)
        slack = rounding(len(share)) * (largest + largest_U[line_R[part]])
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
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Least and greatest Σ w_m D_m of each row, and its largest |D|; each (R,). Overwrites its input."""
    if share_M[0] >= 1.0:
        least, greatest = differences_RM.min(axis=1), differences_RM.max(axis=1)
        return least, greatest, np.maximum(np.abs(least), np.abs(greatest))
    differences_RM.sort(axis=1)
    largest = np.maximum(np.abs(differences_RM[:, 0]), np.abs(differences_RM[:, -1]))
    return differences_RM @ share_M, differences_RM @ share_M[::-1], largest
