"""The challenge's metric, class-averaged top-k accuracy, and the one order that everything is judged by.

The order of an image's classes is that of the list which is delivered for it: the higher score first, among
equal scores the class with the lower number (`top_lists`; no label is asked). An image is right in its first
k if its label is among the first k of that list, so what is measured is what is submitted: all-equal scores
get what "always the first k classes" gets, not everything. A class whose score is NaN has no place in a list
and is never right. Scores are compared in float32, whatever they are stored in. Classes without images are
left out of the mean, rows with a label below 0 (unknown) as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST = 1 << 20  # labels from which on their numbers are not counted as they are


def hits_topk(scores_NC: ArrayLike, labels_N: ArrayLike, k: int) -> NDArray[np.bool_]:
    """Which of N images have their label among the first k of their C classes; False where it is unknown.

    The same as `hits_in_list(top_lists(scores, k), labels)`, without making the lists.
    """
    if k < 1:
        raise ValueError(f"k is {k}: the first k classes are 1 or more")
    return np.asarray(before_label(scores_NC, labels_N) < k)


def before_label(scores_NC: ArrayLike, labels_N: ArrayLike) -> NDArray[np.int64]:
    """How many of C classes come before the label, (N,); beyond all counting where it is unknown or NaN."""
    scores = np.asarray(scores_NC, dtype=np.float32)
    labels = np.asarray(labels_N)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores {scores.shape} must be (N, C), and labels {labels.shape} (N,)")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels are whole numbers, not {labels.dtype}")
    if labels.max(initial=-1) >= scores.shape[1]:
        raise ValueError(f"a label is {labels.max()}: scores of {scores.shape[1]} classes know 0..C−1")
    known = labels >= 0
    label = np.where(known, labels, 0)
    own = scores[np.arange(len(scores)), label]
    label, place = label.astype(np.int32), np.arange(scores.shape[1], dtype=np.int32)
    # rivals of the same score come first where their number is lower
    if scores.flags.f_contiguous:  # in the order in which they lie in memory
        scores_CN = scores.T
        rivals = (scores_CN > own) | ((scores_CN == own) & (place[:, None] < label))
        before = rivals.sum(axis=0, dtype=np.int64)
    else:
        rivals = (scores > own[:, None]) | ((scores == own[:, None]) & (place < label[:, None]))
        before = rivals.sum(axis=1, dtype=np.int64)
    return np.where(known & ~np.isnan(own), before, np.iinfo(np.int64).max)


def hits_in_list(lists_NK: ArrayLike, labels_N: ArrayLike) -> NDArray[np.bool_]:
    """Which of N images have their label among the K classes of a submission's list."""
    labels = np.asarray(labels_N)
    hits: NDArray[np.bool_] = (np.asarray(lists_NK) == labels[:, None]).any(axis=1) & (labels >= 0)
    return hits


def per_class(hits_N: ArrayLike, labels_N: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """Accuracy of each class, (C,); NaN for a class without images."""
    labels = np.asarray(labels_N)
    known = labels >= 0
    counts = np.bincount(labels[known], minlength=num_classes)
    right = np.bincount(labels[known], weights=np.asarray(hits_N)[known], minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return right / counts


def class_averaged(hits_N: ArrayLike, labels_N: ArrayLike) -> float:
    """Mean over the classes that have images of the share of their images that are hits; NaN if none has."""
    labels = np.asarray(labels_N)
    known = labels >= 0
    if not known.any():
        return float("nan")
    codes = labels[known]
    if codes.max() >= LARGEST:
        codes = np.unique(codes, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(codes)
    right = np.bincount(codes, weights=np.asarray(hits_N)[known])
    present = counts > 0
    return float((right[present] / counts[present]).mean())


def class_averaged_topk(scores_NC: ArrayLike, labels_N: ArrayLike, k: int) -> float:
    """Class-averaged top-k accuracy of scores (N, C) against labels (N,)."""
    return class_averaged(hits_topk(scores_NC, labels_N, k), labels_N)


def top_lists(scores_NC: ArrayLike, k: int) -> NDArray[np.int64]:
    """The k best classes of each image, most confident first, (N, min(k, C)); among equals the lower first.

    −1 in place of a class whose score is NaN.
    """
    scores = np.asarray(scores_NC, dtype=np.float32)
    if scores.ndim != 2 or k < 1:
        raise ValueError(f"scores {scores.shape} must be (N, C), and k, {k}, at least 1")
    size = min(k, scores.shape[1])
    if scores.shape[1] <= 4 * size:
        return _sorted_lists(scores, size)
    top = np.argpartition(-scores, size - 1, axis=1)[:, :size]
    top.sort(axis=1)
    values = np.take_along_axis(scores, top, axis=1)
    lists: NDArray[np.int64] = np.take_along_axis(top, np.argsort(-values, axis=1, kind="stable"), axis=1)
    # where the last place is a tie, or NaN is about, the partition has taken any of them
    certain = (scores >= values.min(axis=1, keepdims=True)).sum(axis=1) == size
    lists[~certain] = _sorted_lists(scores[~certain], size)
    return lists


def _sorted_lists(scores_NC: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """`top_lists` by sorting every row."""
    lists: NDArray[np.int64] = np.argsort(-scores_NC, axis=1, kind="stable")[:, :k]
    lists[np.isnan(np.take_along_axis(scores_NC, lists, axis=1))] = -1
    return lists
