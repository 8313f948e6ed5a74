"""How many labels are wrong, from verdicts on a random sample of rows. Arrays in, numbers out.

Two estimates of one share: that of the sample alone, and one that knows the scores of all rows. The second is
the difference estimator of survey sampling (Särndal, Swensson and Wretman 1992, section 6.3): the mean over
all rows of a probability, and the mean over the sample of what that probability missed. Whatever the scores
are worth it is right on average, since each verdict is held against a fit that did not see it; the better
they are the narrower it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.mining.intervals import Z, wilson

Floats = NDArray[np.float64]

FEWEST = 5  # wrong and right verdicts each, below which only the sample's own share is claimed
NARROWEST = 4.0  # no interval is narrower than that of so many times the verdicts
MOST = 1e12  # verdicts that no interval is narrower for


@dataclass(frozen=True)
class Share:
    """A share with its interval of 95 %."""

    share: float
    low: float
    high: float

    def figures(self) -> dict[str, float]:
        """For JSON."""
        return {name: round(float(getattr(self, name)), 6) for name in ("share", "low", "high")}


def sampled_share(wrong_n: ArrayLike, rows: int | None = None) -> Share:
    """Share of wrong ones in a simple random sample (n,), Wilson's interval; 0 to 1 without a verdict.

    rows: how many there are to be drawn from, where that is known: a sample that is a good part of them is
    worth more, and one of all of them is no sample.
    """
    wrong = np.asarray(wrong_n, np.float64)
    if not len(wrong):
        return Share(0.0, 0.0, 1.0)
    share = float(wrong.mean())
    low, high = wilson(share, _worth(len(wrong), rows))
    return Share(share, float(low), float(high))


def _worth(verdicts: int, rows: int | None) -> float:
    """How many of infinitely many rows so many verdicts are worth."""
    unseen = 1 - verdicts / rows if rows else 1.0
    return verdicts / unseen if unseen > 0 else MOST


def difference_share(mean_out: float, out_n: ArrayLike, wrong_n: ArrayLike, rows: int) -> Share | None:
    """Share of wrong ones among `rows` rows, of which n were looked at, by a probability of each.

    mean_out: mean over all rows of probabilities by fits that left a part of the verdicts out. out_n: (n,)
    each verdict's probability by the fit that left it out. None where verdicts of one kind are fewer than
    `FEWEST`. The interval is Wilson's of as many verdicts as give this variance (with the correction for a
    sample that is a good part of all rows), so that it stays in 0..1.
    """
    wrong, out = np.asarray(wrong_n, np.float64), np.asarray(out_n, np.float64)
    if out.shape != wrong.shape or wrong.ndim != 1:
        raise ValueError(f"out {out.shape} and wrong {wrong.shape} must be (n,)")
    if min(wrong.sum(), (1 - wrong).sum()) < FEWEST:
        return None
    missed = wrong - out
    share = float(np.clip(mean_out + missed.mean(), 1 / (4 * rows), 1 - 1 / (4 * rows)))
    variance = float(missed.var(ddof=1)) / len(wrong) * max(1 - len(wrong) / rows, 0.0)
    worth = share * (1 - share) / variance if variance > 0 else np.inf
    low, high = wilson(share, min(worth, NARROWEST * len(wrong), MOST), Z)
    return Share(share, float(low), float(high))
