"""What is to be expected of leaving out the least clean rows, and where to cut. Numbers out of a calibration.

Of the k least clean rows Σ p are expected to be wrong, p being the probability of each: that over k is the
expected precision of the cut, over Σ p of all rows its expected recall. Intervals of 95 % are percentiles
over calibrations on resampled verdicts, the order of the rows being as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.mining.calibration import BINS, Calibration
from smelt.mining.firth import sigmoid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ENDS = (0.025, 0.975)


@dataclass(frozen=True)
class Cut:
    """What leaving out the `dropped` least clean of `rows` rows is expected to do.

    Precision: share of wrong labels among what is left out; recall: share of all wrong labels that is left
    out; left: share of wrong labels among what stays. Each with its interval (low, high).
    """

    dropped: int
    rows: int
    precision: float
    recall: float
    left: float
    precision_interval: tuple[float, float]
    recall_interval: tuple[float, float]
    left_interval: tuple[float, float]

    @property
    def share(self) -> float:
        """Share of the rows that is left out."""
        return self.dropped / max(self.rows, 1)

    def f(self, beta: float = 1.0) -> float:
        """F-measure of the expected precision and recall; beta above 1 weighs recall higher."""
        both = beta * beta * self.precision + self.recall
        return (1 + beta * beta) * self.precision * self.recall / both if both > 0 else 0.0


class Expected:
    """What every cut of a calibration is expected to do: `at(k)` for one, `of_rows`; the others choose k."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.rows = len(calibration.score_N)
        p_N = calibration.p_wrong_N[calibration.order_N]
        self.wrong_K: Floats = np.concatenate([[0.0], np.cumsum(p_N)])  # among the k least clean, k = 0..N
        self._edges, self._wrong_BG = _resampled_sums(calibration)

    def at(self, dropped: int) -> Cut:
        """The cut that leaves out the `dropped` least clean rows; ValueError outside of 0..N."""
        if not 0 <= dropped <= self.rows:
            raise ValueError(f"{dropped} of {self.rows} rows cannot be left out")
        among = np.array([np.interp(dropped, self._edges, wrong) for wrong in self._wrong_BG])
        return self._cut(self.wrong_K[dropped], among, dropped)

    def _cut(self, own: float, among_B: Floats, dropped: int) -> Cut:
        """A cut with so many wrong ones in what is left out, by the calibration and by each resampled one."""
        precision, recall, left = (
            float(value) for value in _figures(own, self.wrong_K[-1], dropped, self.rows)
        )
        each = _figures(among_B, self._wrong_BG[:, -1], dropped, self.rows)
        ends = [(float(low), float(high)) for low, high in (np.quantile(values, ENDS) for values in each)]
        return Cut(dropped, self.rows, precision, recall, left, *ends)

    def best(self, beta: float = 1.0) -> int:
        """How many to leave out for the highest expected F-measure (the fewest of equals)."""
        k = np.arange(self.rows + 1)
        total = self.wrong_K[-1]
        return int(np.argmax((1 + beta * beta) * self.wrong_K / (k + beta * beta * total)))

    def with_precision(self, least: float) -> int:
        """The most rows whose expected precision is at least so high; 0 where none is."""
        k = np.arange(1, self.rows + 1)
        good = np.flatnonzero(self.wrong_K[1:] >= least * k - 1e-9)
        return int(good[-1]) + 1 if len(good) else 0

    def with_recall(self, least: float) -> int:
        """The fewest rows whose expected recall is at least so high."""
        return int(np.searchsorted(self.wrong_K, least * self.wrong_K[-1] - 1e-9))

    def with_costs(self, lost: float, kept: float) -> int:
        """How many to leave out where a right label that is left out costs `lost` and a wrong one that stays
        costs `kept`: those more likely wrong than lost/(lost + kept)."""
        if lost < 0 or kept < 0 or lost + kept == 0:
            raise ValueError(f"costs are not negative, and not both 0: {lost}, {kept}")
        k = np.arange(self.rows + 1)
        total = lost * (k - self.wrong_K) + kept * (self.wrong_K[-1] - self.wrong_K)
        return int(np.argmin(total))

    def of_rows(self, dropped_N: ArrayLike) -> Cut:
        """What leaving out any rows (mask (N,)), of whatever order, is expected to do."""
        mask = np.asarray(dropped_N, bool)
        if mask.shape != (self.rows,):
            raise ValueError(f"a mask of {mask.shape} for {self.rows} rows")
        among = float(self.calibration.p_wrong_N[mask].sum())
        marks = np.concatenate([[0.0], np.cumsum(mask[self.calibration.order_N])])[self._edges]
        share_G = np.diff(marks) / np.maximum(np.diff(self._edges), 1)
        return self._cut(among, np.diff(self._wrong_BG, axis=1) @ share_G, int(mask.sum()))

    def table(self, shares: Sequence[float]) -> list[Cut]:
        """Cuts that leave out such shares of the rows."""
        return [self.at(round(share * self.rows)) for share in shares]


def _figures(wrong: ArrayLike, total: ArrayLike, dropped: int, rows: int) -> tuple[Floats, Floats, Floats]:
    """(precision, recall, left) of cuts with so many wrong ones in what is left out."""
    among, all_ = np.asarray(wrong, np.float64), np.asarray(total, np.float64)
    precision = among / dropped if dropped else np.ones_like(among)
    recall = among / np.maximum(all_, 1e-300)
    left = (all_ - among) / (rows - dropped) if dropped < rows else np.zeros_like(among)
    return precision, recall, left


def _resampled_sums(calibration: Calibration) -> tuple[Ints, Floats]:
    """(edges (G + 1,), expected wrong ones before each edge by each resampled line (B, G + 1))."""
    scored, rows = calibration.scored, len(calibration.score_N)
    ordered = calibration.score_N[calibration.order_N[:scored]]
    edges = np.unique(np.linspace(0, scored, min(scored, BINS) + 1).round().astype(np.int64))
    sizes = np.diff(edges)
    middle = np.add.reduceat(ordered, edges[:-1]) / sizes if scored else np.zeros(0)
    lines = calibration.lines_B2
    parts = sigmoid(lines[:, :1] + lines[:, 1:] * middle) * sizes
    sums = np.concatenate([np.zeros((len(lines), 1)), np.cumsum(parts, axis=1)], axis=1)
    if rows > scored:
        edges = np.append(edges, rows)
        blank = sums[:, -1:] + calibration.blanks_B[:, None] * (rows - scored)
        sums = np.concatenate([sums, blank], axis=1)
    return edges, sums
