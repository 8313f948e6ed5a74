"""What rounding and cutting leave of rows that sum to a constant, told from scores free of one another.

Numbers that were rounded lie on a grid: whole multiples of a step. Rounding moves each of C scores by at
most half a step, cutting to fewer digits by less than one and only down, so that a row still sums to its
constant within C such moves. With many classes that bound is wide. Free scores (each class's own
probability, logits) then show by their sums, which vary as much as all classes do together; those of
shares of one whole vary by what rounding added.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PLACES = 4  # decimals of the finest grid looked for
LEVELS = 20_000  # steps up to the highest score; beyond, rounding is of no account
MOST = 200_000  # scores that the grid is looked for in
OFF = 2e-3  # of a step: what float32 adds
HALF = 2.0**-11  # of a score: what float16 adds
FEW = 10  # rows: of fewer, how sums vary says nothing
FREE = 0.1  # of the variance of free scores' sums; shares of one whole stay below


def decimals(sample_SC: NDArray[np.float64], places: int = PLACES) -> float | None:
    """The power of ten that all numbers are multiples of, the largest of 0.1 … 10^−places; else None."""
    steps = (float(10.0**-place) for place in range(1, places + 1))
    return next((step for step in steps if _multiples(sample_SC, step, 0.0)), None)


def grid(sample_SC: NDArray[np.float64]) -> float | None:
    """The step that all scores (S, C), none below 0, are multiples of; None where there is none.

    The largest of 1, 0.5, 0.25, 0.2, 0.1, 0.05 …, else the smallest score above 0 or a few parts of it: rows
    of shares hold small ones.
    """
    positive = sample_SC[sample_SC > 0]
    positive = np.unique(positive[:: 1 + len(positive) // MOST])
    if not len(positive):
        return None
    for step in (part * 10.0**-place for place in range(PLACES + 1) for part in (1, 0.5, 0.25, 0.2)):
        if positive[-1] / step <= LEVELS and _multiples(positive, step, HALF):
            return step
    for parts in range(1, 6):
        step = float(positive[0]) / parts
        if positive[-1] / step > LEVELS:
            return None
        for value in positive[np.unique(np.geomspace(1, len(positive), 12).astype(int) - 1)]:
            step = float(value) / max(1.0, round(float(value) / step))  # larger ones tell it better
        if _multiples(positive, step, HALF):
            return step
    return None


def _multiples(values: NDArray[np.float64], step: float, relative: float) -> bool:
    scaled = values / step
    return bool((np.abs(scaled - np.round(scaled)) < np.minimum(OFF + relative * scaled, 0.1)).all())


def near(sums_N: NDArray[np.float64], total: float, step: float, count: int) -> bool:
    """Whether rows of `count` scores sum to `total` but for rounding, or but for digits that were cut off."""
    low, high = float(sums_N.min()) - total, float(sums_N.max()) - total
    rounded = max(-low, high) <= step * count / 2 + 1e-6
    return rounded or (high <= 1e-6 and -low < step * count)


def whole(sums_N: NDArray[np.float64], sample_SC: NDArray[np.float64], step: float, least: int) -> int | None:
    """The whole number, from `least` on, that rows sum to but for rounding or cutting digits; else None.

    sums_N: of all rows. Scores of 0 were not rounded down, and the highest is no more than the whole.
    """
    count = sample_SC.shape[1]
    filled = (sample_SC > 0).sum(axis=1)
    slack = 1e-6 * max(1.0, float(sums_N.max())) + 1e-3 * step
    own = sample_SC.sum(axis=1)
    for down, up in ((0.5, 0.5), (0.0, 1.0)):  # rounded, and digits cut off
        lowest = max(float((own - down * step * filled).max()), float(sums_N.max()) - down * step * count)
        highest = float(sums_N.min()) + up * step * count
        first = max(least, int(np.ceil(max(lowest, float(sample_SC.max()) - down * step) - slack)))
        if first <= highest + slack:
            nearest = round(float(np.median(sums_N)))
            return int(min(max(nearest, first), np.floor(highest + slack)))
    return None


def shares(sums_N: NDArray[np.float64], sample_SC: NDArray[np.float64], step: float) -> bool:
    """Whether sums vary so little that the scores of a row are parts of one whole.

    Few rows are taken for it where rounding alone explains no more than a twentieth of their sums.
    """
    if len(sums_N) < FEW:
        return bool(step * sample_SC.shape[1] / 2 <= 0.05 * np.median(sums_N))
    free = float(sample_SC.var(axis=0).sum())  # of independent classes, the variance of their sum
    # thrice the variance of rounding: what was rounded to 0 adds to it
    rounding = 3 * float((sample_SC > 0).sum(axis=1).mean()) * step**2 / 12
    return float(sums_N.var()) <= FREE * free + rounding


def best_kept(sums_N: NDArray[np.float64], sample_SC: NDArray[np.float64]) -> bool:
    """Whether rows are the largest of shares of 1, the others set to 0.

    Then no row sums to more than 1, (nearly) every row has zeros, and what a row misses is no more than its
    zeros could have been: each of them no larger than its smallest score that was kept.
    """
    if sums_N.max() > 1.02:
        return False
    filled = (sample_SC > 0).sum(axis=1)
    least = np.where(sample_SC > 0, sample_SC, np.inf).min(axis=1)
    missing = 1.0 - sample_SC.sum(axis=1)
    zeros = sample_SC.shape[1] - filled
    could = np.where(filled > 0, zeros * np.where(np.isfinite(least), least, 0.0), np.inf)
    return bool((zeros > 0).mean() >= 0.95 and (missing <= could + 0.02).mean() >= 0.98)
