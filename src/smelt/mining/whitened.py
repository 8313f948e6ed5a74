"""Features in which the rows of a class lie alike in all directions, and what is measured in them out of
sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.mining.diagnosis import auroc
from smelt.mining.intervals import Z, auroc_interval, wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

DIMENSIONS = 64  # principal components that are looked at
SHRINKAGE = 0.1  # of the covariance within classes towards a multiple of the identity
BEGINNINGS = 5  # principal directions that a split is begun with
ROUNDS = 12  # of assigning and fitting a split
LEAST_SHARE = 0.1  # of the smaller part
OTHERS = 2000  # rows of other classes that one is compared with


@dataclass(frozen=True)
class Sample:
    """rows: (n,) of the data, by class, then row. values_nd: float64 whitened. labels: (n,). fold: (n,)
    of 0 and 1, in turn within a class."""

    rows: Ints
    values: Floats
    labels: Ints
    fold: Ints

    def of(self, label: int, fold: int | None = None) -> Floats:
        """The lines of a class, or those of one of its folds."""
        start, stop = np.searchsorted(self.labels, [label, label + 1])
        lines = self.values[start:stop]
        return lines if fold is None else lines[self.fold[start:stop] == fold]


def sampled(
    features_ND: NDArray[np.floating],
    places_N: Ints,
    labels_N: NDArray[np.int32],
    usable_N: Bools,
    most: int,
) -> Sample:
    """At most `most` rows of each class, evenly spaced, in DIMENSIONS whitened by the covariance within
    classes."""
    order = np.flatnonzero(usable_N)
    order = order[np.argsort(labels_N[order], kind="stable")]
    codes, starts, counts = np.unique(labels_N[order], return_index=True, return_counts=True)
    picked = [
        order[start + np.arange(min(most, many)) * many // min(most, many)]
        for start, many in zip(starts.tolist(), counts.tolist())
    ]
    rows = np.concatenate(picked) if picked else np.empty(0, np.int64)
    labels = labels_N[rows].astype(np.int64)
    fold = np.concatenate([np.arange(len(one)) % 2 for one in picked]) if picked else rows
    if not len(rows):
        return Sample(rows, np.empty((0, 0)), labels, fold)
    values = features_ND[places_N[rows]].astype(np.float32)
    values -= values.mean(axis=0)
    _, directions = np.linalg.eigh(values.T @ values / len(values))
    values_nd = (values @ directions[:, ::-1][:, :DIMENSIONS]).astype(np.float64)
    number = np.searchsorted(codes, labels)
    means = np.stack([values_nd[number == k].mean(axis=0) for k in range(len(codes))])
    within = values_nd - means[number]
    spread, axes = np.linalg.eigh(shrunk(within.T @ within / len(within)))
    return Sample(rows, values_nd @ (axes / np.sqrt(np.maximum(spread, 1e-12))), labels, fold)


def shrunk(covariance: Floats) -> Floats:
    """Shrunk towards a multiple of the identity of the same trace."""
    size = len(covariance)
    level = max(float(np.trace(covariance)) / max(size, 1), 1e-12)
    return np.asarray((1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(size))


def apart(sample: Sample, first: int, second: int, z: float = Z) -> tuple[float, float, float]:
    """(area under the ROC curve, low, high) of telling two classes apart by the line between their
    centroids, each half of the rows by the centroids of the other half. The interval is the mean of the
    halves', which is wide."""
    halves = []
    for fold in (0, 1):
        direction = sample.of(first, 1 - fold).mean(axis=0) - sample.of(second, 1 - fold).mean(axis=0)
        halves.append(_area(sample.of(first, fold) @ direction, sample.of(second, fold) @ direction, z))
    return _mean(*halves)


def from_all_others(sample: Sample, label: int, z: float = Z) -> tuple[float, float, float]:
    """The same of a class against rows of all others."""
    halves = [np.flatnonzero((sample.labels != label) & (sample.fold == fold)) for fold in (0, 1)]
    others = [sample.values[half[:: max(1, 2 * len(half) // OTHERS)]] for half in halves]
    both = []
    for fold in (0, 1):
        direction = sample.of(label, 1 - fold).mean(axis=0) - others[1 - fold].mean(axis=0)
        both.append(_area(sample.of(label, fold) @ direction, others[fold] @ direction, z))
    return _mean(*both)


def _mean(one: Floats, other: Floats) -> tuple[float, float, float]:
    """The mean of two areas, each with its interval, measured on rows of their own."""
    middle = (one[0] + other[0]) / 2
    down = np.hypot(one[0] - one[1], other[0] - other[1]) / 2
    up = np.hypot(one[2] - one[0], other[2] - other[0]) / 2
    return float(middle), float(middle - down), float(middle + up)


def _area(high: Floats, low: Floats, z: float) -> Floats:
    scores = np.concatenate([high, low])
    wrong = np.arange(len(scores)) >= len(high)
    return np.array([auroc(scores, wrong), *auroc_interval(scores, wrong, z)])


@dataclass(frozen=True)
class Split:
    """A class in two parts. valley: rows midway between the parts' centres over rows at the lesser
    centre, in windows of equal width, with an interval: about 1 or more where there is one heap, near 0
    where there are two. agreement: correlation of the parts that either half of the rows gives. second_n:
    which rows are in the second part."""

    valley: float
    low: float
    high: float
    agreement: float
    second_n: Bools


def split_in_two(values_nd: Floats, z: float = Z) -> Split | None:
    """The deepest valley of a class found on one half of its rows, measured on the other, and the other
    way round.

    On a half: from each of some principal directions, rows are assigned by turns to the nearer of two means
    and to the side of their linear discriminant; the direction with the deepest valley stays. None where no
    part has the least share.
    """
    halves = values_nd[::2], values_nd[1::2]
    middle = lesser = 0
    sides: list[Bools] = []
    for one, other in (halves, halves[::-1]):
        found = _directions(one)
        if not found:
            return None
        direction, first, second = min(found, key=lambda line: _valley(one @ line[0], line[1], line[2])[2])
        count = _valley(other @ direction, first, second)
        middle, lesser = middle + count[0], lesser + count[1]
        sides.append(values_nd @ direction > (first + second) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement = np.nan_to_num(np.corrcoef(sides[0], sides[1])[0, 1])
    low, high = wilson(middle / max(middle + lesser, 1), middle + lesser, z)
    return Split(
        middle / max(lesser, 1), low / max(1 - low, 1e-9), high / max(1 - high, 1e-9),
        abs(float(agreement)), sides[0],
    )  # fmt: skip


def _directions(values_nd: Floats) -> list[tuple[Floats, float, float]]:
    """Directions of splits that hold still, with the centres of both parts along them."""
    centred = values_nd - values_nd.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    found = []
    for number in range(1, min(BEGINNINGS, axes.shape[1]) + 1):
        second = centred @ axes[:, -number] > 0
        for _ in range(ROUNDS):
            if not LEAST_SHARE <= second.mean() <= 1 - LEAST_SHARE:
                break
            means = centred[~second].mean(axis=0), centred[second].mean(axis=0)
            within = centred - np.where(second[:, None], means[1], means[0])
            direction = np.linalg.solve(shrunk(within.T @ within / len(within)), means[1] - means[0])
            before, second = second, (centred - (means[0] + means[1]) / 2) @ direction > 0
            if np.array_equal(before, second):
                break
        if LEAST_SHARE <= second.mean() <= 1 - LEAST_SHARE:
            along = values_nd @ direction
            found.append((direction, float(along[~second].mean()), float(along[second].mean())))
    return found


def _valley(along_n: Floats, first: float, second: float) -> tuple[int, int, float]:
    """(rows midway, rows at the lesser centre, their ratio) in windows of a third of the centres'
    distance."""
    half = abs(second - first) / 6
    middle, *ends = (
        int((np.abs(along_n - place) < half).sum()) for place in ((first + second) / 2, first, second)
    )
    return middle, min(ends), middle / max(min(ends), 1)
