"""The bootstrap of class-averaged figures: classes are drawn again, then groups of images within each.

Efron & Tibshirani 1993, ch. 8 (two stages), the second in its Poisson form (Hanley & MacGibbon 2006): for
each time that a class was drawn, each of its groups is in the sample as often as a Poisson number with mean
1. So what is drawn for an image depends on its place and its own label only, and one set of draws serves
every method and every fold that is left out: differences between methods are on the same draws, and no draw
knows the labels left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp

import numpy as np
from numpy.typing import ArrayLike, NDArray

ELEMENTS = 1 << 19  # draws at once
CACHED = 1 << 17  # of them as numbers that are multiplied
KEPT = 1 << 26  # draws up to which they are kept for the next call
MOST = 10  # times that a class is drawn at most; more has a chance of 10⁻⁷
LEAST = 1e-9  # what is below is rounding, not a gain


@dataclass(frozen=True)
class Column:
    """A class-averaged mean as a sum over units, (U,), and the classes (C,) that it is averaged over."""

    adds_U: NDArray[np.float64]
    classes_C: NDArray[np.bool_]


class Bootstrap:
    """Draws over the labelled images of labels (N,) in groups (N,)."""

    def __init__(
        self, labels_N: NDArray[np.integer], groups_N: ArrayLike | None, samples: int, seed: int
    ) -> None:
        labels = np.asarray(labels_N)
        groups = np.arange(len(labels)) if groups_N is None else np.asarray(groups_N)
        self.known = np.flatnonzero(labels >= 0)
        self.labels = labels[self.known].astype(np.int64)
        self.classes = int(self.labels.max(initial=0)) + 1
        _, first, codes = np.unique(groups[self.known], return_index=True, return_inverse=True)
        # a unit is a group within one class; the draws of a group are those of its first image
        pairs, unit = np.unique(
            np.stack([first[codes.reshape(-1)], self.labels]), axis=1, return_inverse=True
        )
        self.unit, (self.first_U, self.class_U) = unit.reshape(-1), pairs
        self.alone = np.array_equal(self.first_U, np.arange(len(self.known)))  # every image is a unit
        self.samples, self.seed = samples, seed
        self.often_SC = self._drawn_classes()
        self._kept: list[NDArray[np.uint8]] | None = None

    def _drawn_classes(self) -> NDArray[np.uint8]:
        """How often each class is in each sample, (samples, C): as many draws as there are classes."""
        present = np.unique(self.labels)
        random = np.random.default_rng([self.seed, 7])
        drawn = random.integers(len(present), size=(self.samples, len(present)))
        often = np.zeros((self.samples, self.classes), np.int64)
        for sample, places in enumerate(drawn):
            often[sample, present] = np.bincount(places, minlength=len(present))
        return np.minimum(often, MOST).astype(np.uint8)

    def column(self, values_N: ArrayLike, keep_N: NDArray[np.bool_] | None = None) -> Column:
        """The class-averaged mean of values (N,) over the images kept. Classes count by their images
        there."""
        keep = np.ones(len(self.known), bool) if keep_N is None else keep_N[self.known]
        values = np.where(keep, np.asarray(values_N, np.float64)[self.known], 0.0)
        images_C = np.bincount(self.labels, keep, self.classes)
        sums_U = values if self.alone else np.bincount(self.unit, values, len(self.first_U))
        present = images_C > 0
        adds = sums_U / np.maximum(images_C, 1)[self.class_U] / max(1, present.sum())
        return Column(np.asarray(adds), present)

    def __call__(self, columns: Sequence[Column]) -> NDArray[np.float64]:
        """The means in all samples, (samples, columns); NaN where a column is."""
        if not columns:
            return np.zeros((self.samples, 0))
        matrix = np.stack([column.adds_U for column in columns], axis=1)
        sums = np.concatenate([self._product(part, matrix) for part in self._parts()])
        # the mean is over the classes that a sample has, each as often as it was drawn
        present = np.stack([column.classes_C for column in columns], axis=1)
        drawn = self.often_SC.astype(np.float64) @ present.astype(np.float64)
        return np.asarray(sums * (present.sum(axis=0) / np.maximum(drawn, 1)))

    def _product(self, often_SU: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Draws times columns, a few samples at a time: converted in the cache, not in fresh memory."""
        step = max(1, CACHED // max(1, often_SU.shape[1]))
        room = np.empty((min(step, len(often_SU)), often_SU.shape[1]))
        found = np.empty((len(often_SU), matrix.shape[1]))
        for start in range(0, len(often_SU), step):
            some = often_SU[start : start + step]
            np.copyto(room[: len(some)], some)
            np.matmul(room[: len(some)], matrix, out=found[start : start + len(some)])
        return found

    def centred(self, values_N: ArrayLike) -> NDArray[np.float64]:
        """The class-averaged mean of values (N,) in all samples, (samples,), with each class's number of
        images as it comes out (linearised); for means that are not differences near 0."""
        values = np.asarray(values_N, np.float64)[self.known]
        images_C = np.maximum(np.bincount(self.labels, minlength=self.classes), 1)
        mean_C = np.bincount(self.labels, values, self.classes) / images_C
        whole = np.zeros(int(self.known.max(initial=-1)) + 1)
        whole[self.known] = values - mean_C[self.labels]
        within = self([self.column(whole)])[:, 0]
        present = np.bincount(self.labels, minlength=self.classes) > 0
        often = self.often_SC[:, present].astype(np.float64)
        return np.asarray(within + often @ mean_C[present] / np.maximum(often.sum(axis=1), 1))

    def _parts(self) -> Iterator[NDArray[np.uint8]]:
        """How often each unit is in each sample, (some samples, U), the same at every call."""
        if self._kept is not None:
            yield from self._kept
            return
        step = max(1, ELEMENTS // max(1, len(self.known)))
        random = np.random.default_rng([self.seed, 2])
        kept = []
        for start in range(0, self.samples, step):
            often = self.often_SC[start : start + step]
            luck = random.integers(1 << 16, size=(len(often), len(self.known)), dtype=np.uint16)
            place = np.take(often, self.class_U, axis=1).astype(np.int32)
            place <<= 16
            place |= luck if self.alone else np.take(luck, self.first_U, axis=1)
            part = np.take(_poisson(), place)
            if self.samples * len(self.first_U) <= KEPT:
                kept.append(part)
            yield part
        self._kept = kept or None


@cache
def _poisson() -> NDArray[np.uint8]:
    """Poisson numbers by inversion: entry `mean · 2^16 + u` for means 0 … MOST and u of 16 even bits."""
    even = (np.arange(1 << 16) + 0.5) / (1 << 16)
    tables = []
    for mean in range(MOST + 1):
        chances = [exp(-mean)]
        for number in range(1, 60):
            chances.append(chances[-1] * mean / number)
        tables.append(np.searchsorted(np.cumsum(chances), even).astype(np.uint8))
    return np.concatenate(tables)


def ahead(differences: NDArray[np.float64]) -> float:
    """Share of the samples in which a difference is a gain: more than nothing, and more than rounding."""
    return float((differences > LEAST).mean())
