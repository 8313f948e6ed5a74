"""What likelihoods are taken of: values of a sample of the labelled images.

Of many classes the likeliest and the label are looked at, the same for every fusion that is compared.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.config import Pooling
from smelt.fusion.scores.reference import single
from smelt.fusion.scores.soften import Softened
from smelt.fusion.scores.sources import Pool, Source, of_classes

BLOCK = 1 << 18  # scores of one result at once
CLASSES = 64  # of more classes the likeliest, the label among them
ELEMENTS = 1 << 26  # values of all results in memory, under each of two poolings
IMAGES = 6000  # of the sample
LOWEST = -1e4  # logits below the best one by more count as this
RUNS = 16  # of images one after the other up to which they are copied as such


@dataclass(frozen=True)
class Sample:
    """n images with values of K classes by M results, fold by fold.

    lines: positions in the fusion's order. folds_n, labels_n: of each. place_n: the label among the K.
    chances, logs: (M, K, n) values of the poolings "probability" and "log_probability". Images lie side by
    side: numpy is several times as fast along long rows as along rows of few classes.
    """

    lines: NDArray[np.int64]
    folds_n: NDArray[np.int8]
    labels_n: NDArray[np.int64]
    place_n: NDArray[np.int64]
    chances_MKn: NDArray[np.float32]
    logs_MKn: NDArray[np.float32]
    seed: int

    @property
    def own_Mn(self) -> NDArray[np.float32]:
        """What each result gives the label."""
        return np.asarray(self.chances_MKn[:, self.place_n, np.arange(len(self.place_n))])

    @cached_property
    def normalisers_Mn(self) -> NDArray[np.float32]:
        """log Σ exp of the logs over the K classes."""
        return np.asarray(np.log(np.exp(self.logs_MKn).sum(axis=1)), np.float32)

    def seen(self, left: Collection[int]) -> NDArray[np.bool_]:
        """Which images are in no fold of `left`, (n,)."""
        seen_F = np.ones(int(self.folds_n.max()) + 1, bool)
        seen_F[list(left)] = False
        return np.asarray(seen_F[self.folds_n])

    def few(self, most: int) -> NDArray[np.bool_]:
        """At most so many of the images, (n,): evenly of all folds, whatever the labels."""
        few = np.zeros(len(self.lines), bool)
        few[np.random.default_rng([self.seed, 6]).permutation(len(few))[:most]] = True
        return few

    def balanced(self, seen_n: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Weights (n,) with sum 1: every class among the seen images the same, none for the others."""
        counts = np.bincount(self.labels_n, seen_n)
        weights = np.where(seen_n, 1 / np.maximum(counts[self.labels_n], 1), 0.0)
        return np.asarray(weights / max(1, (counts > 0).sum()))


def sample(
    sources: Sequence[Source],
    labels_N: NDArray[np.integer],
    folds_N: NDArray[np.int8],
    seed: int,
    num_classes: int,
) -> Sample:
    """Read the values of a sample of the labelled images, evenly over the folds whatever the labels."""
    width = min(num_classes, CLASSES)
    known = np.random.default_rng([seed, 3]).permutation(np.flatnonzero(folds_N >= 0))
    lines = np.sort(known[: min(IMAGES, max(256, ELEMENTS // (width * len(sources))))])
    lines = lines[np.argsort(folds_N[lines], kind="stable")]
    labels = np.asarray(labels_N, np.int64)[lines]
    shape = (len(sources), width, len(lines))
    chances, logs = np.empty(shape, np.float32), np.empty(shape, np.float32)
    place = labels if width == num_classes else np.full(len(lines), -1)
    step = max(1, BLOCK // num_classes)
    poolings: tuple[Pooling, Pooling] = ("probability", "log_probability")
    for start in range(0, len(lines), step):
        part = slice(start, start + step)
        soft, raw = (
            [Pool(sources, pooling).lazily(index, lines[part]) for index in range(len(sources))]
            for pooling in poolings
        )
        if width < num_classes:
            kept_BK, place[part] = _likeliest(soft, labels[part], width)
        for index in range(len(sources)):
            for found, values in ((chances, soft[index]), (logs, raw[index])):
                few = np.asarray(values) if width == num_classes else of_classes(values, kept_BK)
                found[index, :, part] = few.T
    logs -= logs.max(axis=1, keepdims=True)
    np.maximum(logs, np.float32(LOWEST), out=logs)
    return Sample(lines, folds_N[lines], labels, place, chances, logs, seed)


def picked(values: NDArray[Any], keep_n: NDArray[np.bool_]) -> NDArray[Any]:
    """(…, n') of values (…, n), in C order, which an index would not give; runs of images as a whole."""
    inner = (np.flatnonzero(keep_n[1:] != keep_n[:-1]) + 1).tolist()
    if len(inner) > RUNS or not keep_n.any():
        return np.compress(keep_n, values, axis=-1)
    edges = pairwise([0, *inner, len(keep_n)])
    runs = [values[..., begin:end] for begin, end in edges if keep_n[begin]]
    return np.concatenate(runs, axis=-1) if len(runs) > 1 else np.ascontiguousarray(runs[0])


def _likeliest(
    values_MBC: Sequence[NDArray[Any] | Softened], labels_B: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The likeliest classes (B, K) of each image, the label among them, and the label's place (B,)."""
    total_BC = np.zeros(values_MBC[0].shape, np.float32)
    for values_BC in values_MBC:
        total_BC += single(np.asarray(values_BC))
    total_BC[np.arange(len(labels_B)), labels_B] = np.inf
    kept = np.sort(np.argpartition(-total_BC, width - 1, axis=1)[:, :width], axis=1)
    return kept, np.argmax(kept == labels_B[:, None], axis=1)
