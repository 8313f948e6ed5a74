"""Accuracies compared under noisy validation labels, as if wrong ones were left out. Arrays in, numbers out.

How likely each label is right: the confident joint of Northcutt et al. 2021, "Confident Learning:
Estimating Uncertainty in Dataset Labels", section 3.1, tells how often each class is called which
(T[i, j] = p(label i | class j)); then Bayes' rule for each row, p(right) = T[y, y] p_y / Σ_j T[y, j] p_j,
with p what the models say, tempered so that the labels are likeliest under T. A model that has learnt to
repeat what is called wrongly is so not paid for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.mining.intervals import Z
from smelt.mining.scales import whole_numbers

Floats = NDArray[np.float64]

NUMBERS = 10_000_000  # probabilities at a time
PRIOR = 5.0  # rows of each class that T is drawn towards one rate for all classes by
TEMPERATURES = tuple(2.0**power for power in range(-2, 6))  # exponents that are tried


@dataclass(frozen=True)
class Gain:
    """By how much accuracy a is above accuracy b, averaged over classes, 0..1: with its interval of 95 % and
    its standard error, on n rows. Without a row that counts: 0, −1 to 1."""

    gain: float
    low: float
    high: float
    standard_error: float
    n: int

    def figures(self) -> dict[str, float | int]:
        """For JSON."""
        return {name: round(value, 6) for name, value in asdict(self).items()}


def compare(
    hits_a_N: ArrayLike, hits_b_N: ArrayLike, labels_N: ArrayLike, weights_N: ArrayLike | None = None
) -> Gain:
    """The gain of predictions a over predictions b of the same rows.

    hits: (N,) whether each is its label, 0 or 1, or a mean of several models'. labels: (N,), −1 where there
    is none. weights: (N,) how likely each label is right (`label_right`); all 1 unless given, as where
    labels were checked. Each class counts alike. The difference is taken row by row, so that what both get
    wrong adds nothing to its error; that is the one of a ratio estimator (Cochran 1977, section 2.11) in
    each class, around the mean of all classes, so that one row of a class is enough. ValueError for other
    shapes.
    """
    labels = whole_numbers("labels", labels_N)
    a, b = np.asarray(hits_a_N, np.float64), np.asarray(hits_b_N, np.float64)
    weights = np.ones(len(labels)) if weights_N is None else np.asarray(weights_N, np.float64)
    if not a.shape == b.shape == weights.shape == labels.shape:
        raise ValueError(f"hits {a.shape}, {b.shape}, labels {labels.shape}, weights {weights.shape}: (N,)")
    if not bool(((weights >= 0) & (weights <= 1)).all()):
        raise ValueError("weights are probabilities, 0..1")
    counted = (labels >= 0) & (weights > 0)
    if not counted.any():
        return Gain(0.0, -1.0, 1.0, 1.0, 0)
    _, codes = np.unique(labels[counted], return_inverse=True)
    total = np.bincount(codes, weights=weights[counted])
    share = weights[counted] / total[codes] / len(total)  # of each row in the mean over classes
    differences = (a - b)[counted]
    gain = float(share @ differences)
    rows = len(differences)
    around = np.square(share * (differences - gain)).sum() * (rows / (rows - 1) if rows > 1 else 0.0)
    error = float(np.sqrt(around)) if rows > 1 else 1.0
    return Gain(gain, max(gain - Z * error, -1.0), min(gain + Z * error, 1.0), error, rows)


def label_right(labels_N: ArrayLike, probabilities_NC: ArrayLike) -> Floats:
    """The probability that each label is right, (N,); 0 for rows without a label (−1).

    probabilities: (N, C), out of sample: of models that were not taught these labels, the mean of several
    for example; rows need not add up to 1, and one of zeros or NaN says nothing. ValueError
    or TypeError for other shapes or types.
    """
    labels = whole_numbers("labels", labels_N)
    likely = np.asanyarray(probabilities_NC)
    if likely.ndim != 2 or len(likely) != len(labels) or likely.dtype.kind != "f":
        raise ValueError(
            f"probabilities must be floats (N, C) for labels {labels.shape}: {likely.dtype} {likely.shape}"
        )
    if labels.max(initial=-1) >= likely.shape[1]:
        raise ValueError(f"a label is {labels.max()}, and there are {likely.shape[1]} classes")
    found = np.zeros(len(labels))
    if (labels >= 0).any():
        called = confusions(labels, likely)
        values = [_log_likelihood(labels, likely, called, exponent) for exponent in TEMPERATURES]
        for place, own, any_ in _called(labels, likely, called, TEMPERATURES[int(np.argmax(values))]):
            found[place] = own / any_
    return found


def confusions(labels_N: NDArray[np.integer], probabilities_NC: NDArray[np.floating]) -> Floats:
    """(C, C) T[i, j], how often a row of class j has the label i: the confident joint, each label's row of
    it scaled to its number of rows, then each class drawn towards one rate by `PRIOR` rows."""
    size = probabilities_NC.shape[1]
    counts = np.bincount(labels_N[labels_N >= 0], minlength=size)
    sums = np.zeros(size)
    for rows, likely in _blocks(labels_N, probabilities_NC):
        own = likely[np.arange(len(rows)), labels_N[rows]]
        sums += np.bincount(labels_N[rows], weights=own, minlength=size)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    joint = np.zeros((size, size))
    for rows, likely in _blocks(labels_N, probabilities_NC):
        confident = np.where(likely >= thresholds - 1e-12, likely, -1.0)
        some = confident.max(axis=1) >= 0
        np.add.at(joint, (labels_N[rows][some], confident.argmax(axis=1)[some]), 1)
    empty = np.flatnonzero(joint.sum(axis=1) == 0)
    joint[empty, empty] = 1  # nothing speaks against these labels
    joint *= (counts / joint.sum(axis=1))[:, None]
    rate = 1 - float(np.trace(joint)) / max(float(joint.sum()), 1e-12)
    prior = np.full((size, size), rate / max(size - 1, 1))
    np.fill_diagonal(prior, 1 - rate)
    return np.asarray((joint + PRIOR * prior) / (joint.sum(axis=0) + PRIOR))


def _log_likelihood(
    labels_N: NDArray[np.integer], likely_NC: NDArray[np.floating], called_CC: Floats, exponent: float
) -> float:
    return sum(float(np.log(any_).sum()) for _, _, any_ in _called(labels_N, likely_NC, called_CC, exponent))


def _called(
    labels_N: NDArray[np.integer], likely_NC: NDArray[np.floating], called_CC: Floats, exponent: float
) -> Iterator[tuple[NDArray[np.int64], Floats, Floats]]:
    """(rows, p(label, and it is right), p(label)) of each block, of probabilities to the power `exponent`."""
    for rows, likely in _blocks(labels_N, likely_NC):
        tempered = np.maximum(likely / likely.max(axis=1, keepdims=True), 1e-12) ** exponent
        tempered /= tempered.sum(axis=1, keepdims=True)
        labels = labels_N[rows]
        own = called_CC[labels, labels] * tempered[np.arange(len(rows)), labels]
        every = np.einsum("nc,nc->n", called_CC[labels], tempered)
        yield rows, own, np.maximum(every, 1e-300)


def _blocks(
    labels_N: NDArray[np.integer], likely_NC: NDArray[np.floating]
) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """(rows, their probabilities, each row adding up to 1) of labelled rows, some at a time."""
    labelled = np.flatnonzero(labels_N >= 0)
    step = max(1, NUMBERS // max(likely_NC.shape[1], 1))
    for start in range(0, len(labelled), step):
        rows = labelled[start : start + step]
        likely = np.maximum(np.nan_to_num(likely_NC[rows].astype(np.float64), posinf=0.0), 0)
        likely[likely.sum(axis=1) <= 0] = 1  # nothing is said of the row
        yield rows, likely / likely.sum(axis=1, keepdims=True)
