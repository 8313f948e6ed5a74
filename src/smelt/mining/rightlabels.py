"""Accuracy as it would be if labels were right, from verdicts on a random sample. Arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.mining.intervals import wilson
from smelt.mining.rates import MOST, NARROWEST, Share

Floats = NDArray[np.float64]

NO_CLASS, NOT_SAID = -1, -2  # of `right_n`: of none of the classes; wrong, and nobody said what is right


@dataclass(frozen=True)
class Corrected:
    """measured: share of all labelled images whose first class is the label. low, high: the share whose first
    class is right, counting as misses, and as hits, those of which nobody said what is right (`open`)."""

    measured: float
    low: Share
    high: Share
    judged: int
    open: int

    def figures(self) -> dict[str, Any]:
        """For JSON; `interval` is from the low end of one to the high end of the other."""
        return {
            "measured": round(self.measured, 6),
            "right_labels": [round(self.low.share, 6), round(self.high.share, 6)],
            "interval": [round(self.low.low, 6), round(self.high.high, 6)],
            "judged": self.judged,
            "open": self.open,
        }


def corrected(
    first_N: ArrayLike, labels_N: ArrayLike, places_n: ArrayLike, right_n: Sequence[int] | ArrayLike
) -> Corrected | None:
    """Accuracy under right labels of predictions `first_N` (N,) for images with crawled labels (N,).

    places_n: which images were judged. right_n: the right class of each, `NO_CLASS` or `NOT_SAID`. Images of
    none of the classes count neither as hit nor as miss, as if they were taken out.

    A ratio of two difference estimators (Särndal, Swensson and Wretman 1992, sections 5.6 and 6.3): what all
    images say of the accuracy under the crawled labels, and what the judged ones say it is off by. None where
    no judged image is of a class.
    """
    first, labels = np.asarray(first_N), np.asarray(labels_N)
    places, right = np.asarray(places_n, np.int64), np.asarray(right_n, np.int64)
    if first.shape != labels.shape or right.shape != places.shape or first.ndim != 1:
        raise ValueError(f"first {first.shape} and labels {labels.shape}: (N,); right {right.shape}: (n,)")
    inside = (right != NO_CLASS).astype(np.float64)
    if not inside.any():
        return None
    hits = (first == labels).astype(np.float64)
    said = np.where(right == NOT_SAID, 0.0, first[places] == right) * inside
    # a label that is wrong and was predicted is a miss, whatever is right
    open_ = (right == NOT_SAID) & (hits[places] == 0)
    ends = [
        _ratio(float(hits.mean()), hits[places], found, inside, len(first))
        for found in (said, np.where(open_, 1.0, said))
    ]
    return Corrected(float(hits.mean()), ends[0], ends[1], int(inside.sum()), int(open_.sum()))


def _ratio(measured: float, hits_n: Floats, right_n: Floats, inside_n: Floats, rows: int) -> Share:
    """(measured + mean of what the sample is off by) / share of images of the classes, with its interval."""
    size = len(hits_n)
    share = float(np.clip((measured + (right_n - hits_n).mean()) / inside_n.mean(), 0, 1))
    off = right_n - hits_n - share * inside_n
    variance = float(off.var(ddof=1)) / size / float(inside_n.mean()) ** 2 if size > 1 else np.inf
    variance *= max(1 - size / rows, 0.0)
    kept = min(max(share, 1 / (4 * rows)), 1 - 1 / (4 * rows))
    worth = kept * (1 - kept) / variance if variance > 0 else np.inf
    most = NARROWEST * size / max(1 - size / rows, 1e-9)
    low, high = wilson(share, max(min(worth, most, MOST), 1.0))
    return Share(share, float(low), float(high))
