"""Figures for every set of folds that is left out, from one evaluation: hits are counted by fold and
class."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.exact.hits import Table

Left = tuple[int, ...]  # folds that are left out, in ascending order
SHARES = 16  # that each fold's images are dealt to, so that a part of them can be looked at


def lefts(folds: int) -> list[Left]:
    """Nothing, each fold, each pair of folds: what a choice that is itself judged leaves out."""
    return [left for size in (0, 1, 2) for left in combinations(range(folds), size)]


def joined(left: Collection[int], fold: int) -> Left:
    """`left` and one fold more."""
    return tuple(sorted({*left, fold}))


class Counts:
    """Labelled images by fold (F) and class (G): class-averaged accuracy of the images in any folds."""

    def __init__(self, labels_N: NDArray[np.integer], folds_N: NDArray[np.int8], folds: int) -> None:
        self.known = np.flatnonzero(folds_N >= 0)
        self.classes, codes = np.unique(np.asarray(labels_N)[self.known], return_inverse=True)
        self.folds = folds
        self._codes = folds_N[self.known].astype(np.int64) * len(self.classes) + codes
        self.images_FG = self._counted(np.ones(len(self.known)))

    def _counted(self, hits: NDArray[np.generic]) -> NDArray[np.int64]:
        size = self.folds * len(self.classes)
        counts = np.bincount(self._codes, hits.astype(np.float64), size).astype(np.int64)
        return counts.reshape(self.folds, len(self.classes))

    def right(self, hits_QN: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Right images (Q, F, G) of Q sets of hits (Q, N)."""
        return np.stack([self._counted(hits[self.known]) for hits in hits_QN])

    def accuracy(self, right_QFG: NDArray[np.int64], left: Collection[int]) -> NDArray[np.float64]:
        """Class-averaged accuracy (Q,) over the images in no fold of `left`."""
        seen = np.setdiff1d(np.arange(self.folds), list(left))
        images = self.images_FG[seen].sum(axis=0)
        right_QG = right_QFG[:, seen].sum(axis=1)
        return averaged(right_QG, images)


def averaged(right_QG: NDArray[np.integer], images_G: NDArray[np.int64]) -> NDArray[np.float64]:
    """Class-averaged accuracy (Q,), as `metrics.class_averaged` sums it, to the last bit."""
    present = images_G > 0
    return np.asarray((np.compress(present, right_QG, axis=1) / images_G[present]).mean(axis=1), np.float64)


def dealt(folds_N: NDArray[np.int8], seed: int, shares: int = SHARES) -> NDArray[np.int16]:
    """The part (N,) of each image: those of a fold dealt to `shares` parts at random; −1 without a label."""
    share_N = np.random.default_rng([seed, 5]).integers(shares, size=len(folds_N))
    return np.where(folds_N >= 0, folds_N.astype(np.int64) * SHARES + share_N, -1).astype(np.int16)


def by_fold(table: Table, parts_N: NDArray[np.integer], folds: int, shares: int = SHARES) -> list[Table]:
    """The table of each fold's images, or of so many of its shares."""
    return [table.part(range(f * SHARES, f * SHARES + shares), parts_N) for f in range(folds)]
