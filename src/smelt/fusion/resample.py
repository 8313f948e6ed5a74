"""The bootstrap of class-averaged figures: classes are drawn again, then groups of images within each.

Efron & Tibshirani 1993, ch. 8 (two stages). One set of draws serves every method and every fold that is left
out, so that differences between methods are differences on the same draws; a class's mean over the drawn
groups is linearised in their sizes, and exactly that mean where every group is one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

ELEMENTS = 1 << 22  # draws at once
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
        step = max(1, ELEMENTS // max(1, len(self.of_unit)))
        random = np.random.default_rng([self.seed, 2])
        parts = [
            self._drawn(min(step, self.samples - start), random) @ matrix
            for start in range(0, self.samples, step)
        ]
        return np.concatenate(parts)

    def _drawn(self, samples: int, random: np.random.Generator) -> NDArray[np.float64]:
        """How often each unit is in each sample, (samples, U)."""
        size = len(self.of_unit)
        first = np.cumsum(self.units) - self.units
        drawn = random.integers(len(self.units), size=(samples, len(self.units)))
        counts = self.units[drawn]
        classes = np.repeat(drawn.reshape(-1), counts.reshape(-1))
        sample = np.repeat(np.arange(samples) * size, counts.sum(axis=1))
        place = (random.random(len(classes), np.float32) * self.units[classes]).astype(np.int64)
        place = first[classes] + np.minimum(place, self.units[classes] - 1)
        return np.bincount(sample + place, minlength=samples * size).reshape(samples, size).astype(np.float64)


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
