"""The challenge's metric, class-averaged top-k accuracy, with its corners defined.

Ties: an image is right when fewer than k classes score strictly above its label, so a tie goes in favour of
the label whatever the order of the classes. Classes without images are left out of the mean. Rows with a
label below 0 (unknown) are left out as well. Scores are compared in float32, whatever they are stored in.
Scores that are not finite are refused by the readers, not here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def hits_topk(scores_NC: ArrayLike, labels_N: ArrayLike, k: int) -> NDArray[np.bool_]:
    """Which of N images are right in the first k of their C scores; False where the label is unknown."""
    scores = np.asarray(scores_NC, dtype=np.float32)
    labels = np.asarray(labels_N)
    assert scores.ndim == 2 and labels.shape == scores.shape[:1] and k >= 1
    known = labels >= 0
    own = scores[np.arange(len(labels)), np.where(known, labels, 0)]
    hits: NDArray[np.bool_] = ((scores > own[:, None]).sum(axis=1) < k) & known
    return hits


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
    _, codes, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    right = np.bincount(codes, weights=np.asarray(hits_N)[known])
    return float((right / counts).mean())


def class_averaged_topk(scores_NC: ArrayLike, labels_N: ArrayLike, k: int) -> float:
    """Class-averaged top-k accuracy of scores (N, C) against labels (N,)."""
    return class_averaged(hits_topk(scores_NC, labels_N, k), labels_N)


def top_lists(scores_NC: ArrayLike, k: int) -> NDArray[np.int64]:
    """The k best classes of each image, most confident first, (N, k); among equals the lower class first."""
    scores = np.asarray(scores_NC, dtype=np.float32)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]
