"""How likely each label is wrong, learnt from verdicts on some rows and from the scores of all.

The log-odds of a wrong label are taken to be linear in the normal quantile of a score, which every increasing
function of the score shares; the line is fitted by Firth's likelihood (`mining.firth`). Quantiles and line
are those of all rows together: what is noise in one class is none in another, and quantiles within classes
hide that. Rows without a score share one probability. Arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.mining.firth import fit, sigmoid
from smelt.mining.quantiles import normal_quantiles
from smelt.mining.scales import mean_of
from smelt.random import keys, uniform

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 20  # parts of the verdicts, of which each is judged by what was fitted to the others
RESAMPLED = 400  # samples drawn from the verdicts, for intervals
BINS = 2000  # of the ordered rows, over which intervals are taken: they need not look at each row
SURELY = 2.0  # standard errors by which another score must beat the one that was asked for
MEAN, WEIGHED = "mean of all", "weighed"


@dataclass(frozen=True)
class Calibration:
    """What verdicts and a score say of every row.

    score_N: the score that is gone by, higher is cleaner, NaN where a row has none. chosen: its name;
    likelihoods: name of each score that was tried → mean held-out log-likelihood of a verdict. line: (2,)
    constant and slope of the log-odds. blank: probability of rows without a score. lines_B2, blanks_B: the
    same of resampled verdicts. out_n: probability of each verdict by a fit to others; mean_out: the mean over
    all rows of those fits' probabilities. orders: False where the verdicts do not show that lower scores are
    more often wrong: then all rows have the same probability.
    """

    score_N: Floats
    chosen: str
    likelihoods: Mapping[str, float]
    line: Floats
    blank: float
    lines_B2: Floats
    blanks_B: Floats
    out_n: Floats
    mean_out: float

    @property
    def orders(self) -> bool:
        """Whether lower scores are wrong more often in the verdicts."""
        return bool(self.line[1] < 0)

    @property
    def sure(self) -> float:
        """Share of the resampled verdicts in which lower scores are wrong more often."""
        return float((self.lines_B2[:, 1] < 0).mean())

    @cached_property
    def p_wrong_N(self) -> Floats:
        """The probability that the label of each row is wrong, (N,)."""
        return along(self.line, self.score_N, self.blank)

    @cached_property
    def order_N(self) -> Ints:
        """The rows, the least clean first, ties by row, those without a score last."""
        return np.argsort(self.score_N, kind="stable")

    @property
    def scored(self) -> int:
        """How many rows have a score."""
        return int((~np.isnan(self.score_N)).sum())


def along(line: Floats, scores_N: Floats, blank: float) -> Floats:
    """Probabilities (N,) by a line of log-odds; `blank` where there is no score."""
    return np.where(np.isnan(scores_N), blank, sigmoid(line[0] + line[1] * scores_N))


def calibrate(
    scores: Mapping[str, ArrayLike], places_n: ArrayLike, wrong_n: ArrayLike, *, seed: int = 0
) -> Calibration:
    """The probability of a wrong label of each of N rows by n verdicts.

    scores: name → (N,), higher is cleaner, NaN where a row has none; the first is the one to go by. Another
    one, the mean of the normal quantiles of all, or all of them weighed by the same regression, takes its
    place only where verdicts that were left out are likelier under it by `SURELY` standard errors.
    places_n: which rows have verdicts, each once, in the order of a random sample. wrong_n: (n,) verdicts.

    Raises ValueError for other shapes and for no verdict.
    """
    places, wrong, quantiles = _checked(scores, places_n, wrong_n)
    folds = np.arange(len(places)) % FOLDS
    tried = _candidates(quantiles, places, wrong, folds)
    names = list(tried)
    logs = {name: _log_likelihood(out, wrong) for name, (_, out) in tried.items()}
    chosen = names[0]
    for name in names[1:]:
        if _surely_better(logs[name], logs[names[0]]) and logs[name].mean() > logs[chosen].mean():
            chosen = name
    score_N, out_n = tried[chosen]
    line, blank = _lines(score_N[places], wrong, np.ones((1, len(places))))
    held = _without(folds)
    fold_lines, fold_blanks = _lines(score_N[places], wrong, held)
    share = np.bincount(folds, minlength=len(held)) / len(folds)
    means = _mean_probability(score_N, fold_lines, fold_blanks)
    lines_B2, blanks_B = _lines(score_N[places], wrong, _resampled(len(places), seed))
    return Calibration(
        score_N, chosen, {name: float(log.mean()) for name, log in logs.items()},
        line[0], float(blank[0]), lines_B2, blanks_B, out_n, float(share @ means),
    )  # fmt: skip


def _checked(
    scores: Mapping[str, ArrayLike], places_n: ArrayLike, wrong_n: ArrayLike
) -> tuple[Ints, Floats, dict[str, Floats]]:
    places, wrong = np.asarray(places_n), np.asarray(wrong_n)
    quantiles: dict[str, Floats] = {}
    for name, values in scores.items():
        found = normal_quantiles(values)
        if not any(np.array_equal(found, other, equal_nan=True) for other in quantiles.values()):
            quantiles[name] = found  # the same order under another name says nothing more
    if not quantiles or len({len(values) for values in quantiles.values()}) > 1:
        raise ValueError(f"scores must be one or more of one length: {[len(q) for q in quantiles.values()]}")
    size = len(next(iter(quantiles.values())))
    if places.ndim != 1 or wrong.shape != places.shape or not len(places):
        raise ValueError(f"places {places.shape} and wrong {wrong.shape} must be (n,), n at least 1")
    if places.dtype.kind not in "iu" or places.min() < 0 or places.max() >= size:
        raise ValueError(f"places must be rows 0..{size - 1}")
    if len(np.unique(places)) < len(places) or not np.isin(wrong, (0, 1)).all():
        raise ValueError("each row has one verdict, wrong (1) or not (0)")
    return places.astype(np.int64), wrong.astype(np.float64), quantiles


def _candidates(
    quantiles: Mapping[str, Floats], places: Ints, wrong: Floats, folds: Ints
) -> dict[str, tuple[Floats, Floats]]:
    """name → (the score (N,), held-out probabilities of the verdicts (n,))."""
    one = dict(quantiles)
    if len(quantiles) > 1:
        one[MEAN] = normal_quantiles(mean_of(list(quantiles.values())))
    found = {name: (score, _held_out(score[places], wrong, folds)) for name, score in one.items()}
    if len(quantiles) > 1:
        score, out = _weighed(quantiles, places, wrong, folds)
        found[WEIGHED] = (score, out)
    return found


def _weighed(
    quantiles: Mapping[str, Floats], places: Ints, wrong: Floats, folds: Ints
) -> tuple[Floats, Floats]:
    """All scores weighed by one regression: that score, and its held-out probabilities."""
    columns = list(quantiles.values())
    mean_N = mean_of(columns)

    def rows(at: Ints | slice) -> Floats:  # a score that a row lacks: the mean of those that it has
        known = [np.where(np.isnan(values[at]), mean_N[at], values[at]) for values in columns]
        return np.column_stack(known)

    seen = ~np.isnan(mean_N[places])
    inputs, held = rows(places[seen]), _without(folds)
    each = fit(inputs, wrong[seen], held[:, seen])
    out = np.empty(len(places))
    own = each[folds]
    out[seen] = sigmoid(own[seen, 0] + (own[seen, 1:] * inputs).sum(axis=1))
    out[~seen] = _blanks(seen, wrong, held)[folds][~seen]
    slopes = -fit(inputs, wrong[seen])[0, 1:]
    score = np.full(len(mean_N), np.nan)
    for start in range(0, len(score), 1 << 20):
        score[start : start + (1 << 20)] = rows(slice(start, start + (1 << 20))) @ slopes
    return normal_quantiles(score), out


def _without(folds: Ints) -> Floats:
    """How often each fold's fit counts each verdict: (folds, n)."""
    counts = folds[None, :] != np.arange(folds.max() + 1)[:, None]
    return np.asarray(counts, np.float64) if folds.max() else np.ones((1, len(folds)))


def _held_out(score_n: Floats, wrong_n: Floats, folds_n: Ints) -> Floats:
    """Probability of each verdict by the line of the other folds."""
    lines, blanks = _lines(score_n, wrong_n, _without(folds_n))
    own = lines[folds_n]
    return np.where(
        np.isnan(score_n), blanks[folds_n], sigmoid(own[:, 0] + own[:, 1] * np.nan_to_num(score_n))
    )


def _lines(score_n: Floats, wrong_n: Floats, times_Bn: Floats) -> tuple[Floats, Floats]:
    """(lines (B, 2), probabilities of rows without a score (B,)) of fits that count verdicts so often.

    A line that rises would say that clean rows are wrong more often: it is level then.
    """
    seen = ~np.isnan(score_n)
    lines = fit(score_n[seen, None], wrong_n[seen], times_Bn[:, seen])
    counts = times_Bn[:, seen].sum(axis=1)
    yes = times_Bn[:, seen] @ wrong_n[seen]
    level = np.log((yes + 0.5) / (counts - yes + 0.5))
    flat = (lines[:, 1] >= 0) | (yes == 0) | (yes == counts)
    lines[flat] = np.column_stack([level, np.zeros(len(level))])[flat]
    return lines, _blanks(seen, wrong_n, times_Bn)


def _blanks(seen_n: NDArray[np.bool_], wrong_n: Floats, times_Bn: Floats) -> Floats:
    """Share of wrong ones among rows without a score, drawn to that of all by one verdict's weight, (B,)."""
    every = times_Bn.sum(axis=1)
    rate = (times_Bn @ wrong_n + 0.5) / (every + 1)
    without = times_Bn[:, ~seen_n]
    return np.asarray((without @ wrong_n[~seen_n] + rate) / (without.sum(axis=1) + 1))


def _log_likelihood(out_n: Floats, wrong_n: Floats) -> Floats:
    return np.asarray(np.log(np.clip(np.where(wrong_n > 0, out_n, 1 - out_n), 1e-12, 1)))


def _surely_better(one_n: Floats, other_n: Floats) -> bool:
    """Whether verdicts are likelier under one score, by `SURELY` standard errors of the paired difference."""
    gain = one_n - other_n
    if len(gain) < 2:
        return False
    return bool(gain.mean() > SURELY * gain.std(ddof=1) / np.sqrt(len(gain)))


def _resampled(size: int, seed: int) -> Floats:
    """How often each verdict is in each of the samples with replacement, (RESAMPLED, n)."""
    draws = keys(seed, 0, np.arange(RESAMPLED), np.zeros(RESAMPLED, np.int64))
    picked = (uniform(draws[:, None], np.arange(size, dtype=np.uint64)) * size).astype(np.int64)
    counts = np.zeros((RESAMPLED, size))
    np.add.at(counts, (np.arange(RESAMPLED)[:, None], picked), 1)
    return counts


def _mean_probability(score_N: Floats, lines_B2: Floats, blanks_B: Floats) -> Floats:
    """Mean over all rows of the probabilities of each line, (B,)."""
    return np.array([along(line, score_N, blank).mean() for line, blank in zip(lines_B2, blanks_B)])
