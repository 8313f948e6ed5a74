"""The bootstrap of class-averaged figures: classes are drawn again, then groups of images within each.

Efron & Tibshirani 1993, ch. 8 (two stages). One set of draws serves every method and every fold that is left
out, so that differences between methods are differences on the same draws; a class's mean over the drawn
groups is linearised in their sizes, and exactly that mean where every group is one image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

ELEMENTS = 1 << 22  # draws at once
KEPT = 1 << 26  # draws up to which they are kept for the next call
LEAST = 1e-9  # what is below is rounding, not a gain


class Bootstrap:
    """Draws over the labelled images of labels (N,) in groups (N,); the draws depend on the seed alone."""

    def __init__(
        self, labels_N: NDArray[np.integer], groups_N: ArrayLike | None, samples: int, seed: int
    ) -> None:
        labels = np.asarray(labels_N)
        groups = np.arange(len(labels)) if groups_N is None else np.asarray(groups_N)
        self.known = np.flatnonzero(labels >= 0)
        _, classes = np.unique(labels[self.known], return_inverse=True)
        _, codes = np.unique(groups[self.known], return_inverse=True)
        # copies of one image under two labels are two units: each class draws its own
        pairs, self.unit = np.unique(np.stack([classes, codes]), axis=1, return_inverse=True)
        self.unit = self.unit.reshape(-1)
        self.of_unit = pairs[0]
        self.units = np.bincount(self.of_unit)
        self.samples, self.seed = samples, seed
        self._kept: list[NDArray[np.uint8]] | None = None

    @property
    def size(self) -> int:
        """U, the units that are drawn: groups of one class."""
        return len(self.of_unit)

    def contributions(self, values_N: ArrayLike, keep_N: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """What each unit adds to the class-averaged mean of values (N,) over the images kept, (U,)."""
        keep = np.ones(len(self.known), bool) if keep_N is None else keep_N[self.known]
        values = np.where(keep, np.asarray(values_N, np.float64)[self.known], 0.0)
        size_U = np.bincount(self.unit, keep, len(self.of_unit))
        sum_U = np.bincount(self.unit, values, len(self.of_unit))
        count_G = np.bincount(self.of_unit, size_U)
        mean_G = np.bincount(self.of_unit, sum_U) / np.maximum(count_G, 1)
        units_G = np.bincount(self.of_unit, size_U > 0)
        mean_U, count_U = mean_G[self.of_unit], np.maximum(count_G, 1)[self.of_unit]
        level = np.where(size_U > 0, mean_U / np.maximum(units_G, 1)[self.of_unit], 0.0)
        return np.asarray(((sum_U - mean_U * size_U) / count_U + level) / max(1, (count_G > 0).sum()))

    def __call__(self, columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Class-averaged means (samples, columns) of what `contributions` gave."""
        if not len(columns):
            return np.zeros((self.samples, 0))
        matrix = np.stack(columns, axis=1)
        return np.concatenate([part.astype(np.float64) @ matrix for part in self._parts()])

    def _parts(self) -> Iterator[NDArray[np.uint8]]:
        """How often each unit is in each sample, (some samples, U), the same at every call."""
        if self._kept is not None:
            yield from self._kept
            return
        step = max(1, ELEMENTS // max(1, self.size))
        random = np.random.default_rng([self.seed, 2])
        kept = []
        for start in range(0, self.samples, step):
            part = self._drawn(min(step, self.samples - start), random)
            if self.samples * self.size <= KEPT:
                kept.append(part)
            yield part
        self._kept = kept or None

    def _drawn(self, samples: int, random: np.random.Generator) -> NDArray[np.uint8]:
        """Classes with replacement, and for each time that one is drawn its number of units, likewise."""
        classes = len(self.units)
        drawn = random.integers(classes, size=(samples, classes)) + np.arange(samples)[:, None] * classes
        often = np.bincount(drawn.reshape(-1), minlength=samples * classes)
        counts = often * np.tile(self.units, samples)
        first = np.cumsum(self.units) - self.units + np.arange(samples)[:, None] * self.size
        width = np.repeat(np.tile(self.units, samples), counts)
        place = (random.random(len(width), np.float32) * width).astype(np.int64)
        place = np.minimum(place, width - 1) + np.repeat(first.reshape(-1), counts)
        drawn_SU = np.bincount(place, minlength=samples * self.size).reshape(samples, self.size)
        return np.minimum(drawn_SU, 255).astype(np.uint8)


def bootstrap(
    hits_N: ArrayLike,
    other_N: ArrayLike,
    labels_N: NDArray[np.integer],
    samples: int,
    seed: int,
    groups_N: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Differences of class-averaged accuracy of two sets of hits (N,) in bootstrap samples, (samples,)."""
    draws = Bootstrap(labels_N, groups_N, samples, seed)
    difference = np.asarray(hits_N, np.float64) - np.asarray(other_N, np.float64)
    return draws([draws.contributions(difference)])[:, 0]


def ahead(differences: NDArray[np.float64]) -> float:
    """Share of the samples in which a difference is a gain: more than nothing, and more than rounding."""
    return float((differences > LEAST).mean())
