"""What the scores of a result mean: found from the numbers, said in words, and made one of two kinds.

Fusion computes with logits and with probabilities (`results.Kind`). Files hold more:
    logits               as they are: softmax makes them probabilities
    probabilities        rows sum to 1; rescaled to it where rounding or cutting has taken a part
    log_probabilities    logits whose softmax is exact; log 0 = −inf is cut
    percentages, sums    probabilities times 100, or added over crops or voters: each row over its sum
    sigmoid              each class's own probability. Given that exactly one class is there,
                         P(c) ∝ p_c Π_{j≠c} (1 − p_j) ∝ p_c / (1 − p_c): the softmax of log p − log(1 − p)
    ranks, points        places (the lowest is the best), or the reverse: log-probability − log(1 + place),
                         the reciprocal rank; its scale is a convention, a fitted temperature mends it
    lists                the best K classes and no scores: K … 1, nothing for the others
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import results
from smelt.errors import ResultError
from smelt.fusion.scores import rounding

Meaning = Literal[
    "logits", "probabilities", "log_probabilities", "sigmoid", "ranks", "points", "percentages", "sums",
    "lists",
]  # fmt: skip
SAYABLE: tuple[Meaning, ...] = tuple(one for one in get_args(Meaning) if one != "lists")
ALIASES = {
    "logit": "logits", "prob": "probabilities", "probs": "probabilities", "probability": "probabilities",
    "softmax": "probabilities", "log_probs": "log_probabilities", "log_prob": "log_probabilities",
    "logprobs": "log_probabilities", "logprob": "log_probabilities", "log_softmax": "log_probabilities",
    "log_probability": "log_probabilities", "multilabel": "sigmoid", "multi_label": "sigmoid",
    "rank": "ranks", "percent": "percentages", "percentage": "percentages", "per_cent": "percentages",
    "sum": "sums", "crop_sums": "sums", "votes": "sums", "borda": "points",
}  # fmt: skip
SMALLEST = 1e-12  # a sigmoid below counts as this; log p − log(1 − p) stays above −28
LOWEST = float(np.log(1e-7))  # what log 0 becomes, unless the file has lower ones
UNIFORM = 0.98  # of the largest entropy: rows whose softmax has more are called near uniform
SAMPLE = 256
EQUAL = "all scores of a row are equal: it says nothing about any image"
SCALES: tuple[tuple[float, Meaning], ...] = ((1.0, "probabilities"), (100.0, "percentages"), (255.0, "sums"))


@dataclass(frozen=True)
class Found:
    """A meaning, why it was taken, and what the user should be warned of.

    rescaled: each row is divided by its sum. floor: log-probabilities below are raised to it. unsure: rows
    are rankings, but nothing in the file says which end is the best.
    """

    meaning: Meaning
    why: str
    warnings: tuple[str, ...] = ()
    rescaled: bool = False
    floor: float | None = None
    unsure: bool = False

    @property
    def kind(self) -> results.Kind:
        """What fusion computes with."""
        return "probabilities" if self.meaning in ("probabilities", "percentages", "sums") else "logits"


@dataclass(frozen=True)
class Stats:
    """What is known of dense scores: their ends, the sum of each row (N,), some whole rows (S, C).

    minus_inf: whether some are −inf (first in the line `cut_line`); they count for no end and no sum.
    """

    low: float
    high: float
    sums_N: NDArray[np.float64]
    sample_SC: NDArray[np.float64]
    minus_inf: bool = False
    cut_line: int = -1

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.sample_SC.shape[1])


def named(text: str) -> Meaning:
    """The meaning that a user's word stands for; ResultError with the words there are."""
    word = text.strip().lower().replace("-", "_").replace(" ", "_")
    word = ALIASES.get(word, word)
    found: Meaning | None = next((one for one in SAYABLE if one == word), None)
    if found is not None:
        return found
    raise ResultError(f"{text!r} is no kind of scores; there are {', '.join(SAYABLE)}")


def find(stats: Stats) -> Found:
    """The meaning of dense scores, from the numbers alone."""
    if bool((stats.sample_SC == stats.sample_SC[:, :1]).all()):
        return _warned(Found("logits", "all scores of a row are equal"), EQUAL)
    if stats.low < -1e-6:
        return _ranked(stats, -1.0) or _logarithms(stats)
    return (
        _ranked(stats, 1.0) or _summed(stats) or _rounded(stats) or _rounded_sums(stats) or _unbounded(stats)
    )


def _ranked(stats: Stats, sign: float) -> Found | None:
    """Every row a ranking of all classes, from 0 or from 1, equal ones sharing their mean place."""
    rows, count = sign * stats.sample_SC, stats.num_classes
    if count < 2 or not np.isfinite(rows).all() or (np.abs(2 * rows - np.round(2 * rows)) > 1e-6).any():
        return None
    for start in (0, 1) if count > 2 else (1,):  # 0 and 1 are the probabilities of two classes
        total = count * (count - 1) / 2 + start * count
        if rows.min() < start or rows.max() > count - 1 + start or (rows.sum(axis=1) != total).any():
            continue
        if sign < 0:
            return Found("points", "every row is a ranking with minus before it: the highest is the best")
        why = f"every row is a ranking of the {count} classes from {start}"
        return Found("ranks", why, unsure=True)
    return None


def _logarithms(stats: Stats) -> Found:
    """Some are negative: log-probabilities where their exponentials sum to 1."""
    totals = np.exp(np.minimum(stats.sample_SC, 1.0)).sum(axis=1)
    least = 0.5 if stats.minus_inf else 0.98  # where chances were cut to 0, rows miss them
    if stats.high <= 1e-3 and least < totals.min() and totals.max() < 1.02:
        floor = min(stats.low, LOWEST) if stats.minus_inf else None
        cut = "; log 0 = −inf is taken as " + f"{floor:.1f}" if floor is not None else ""
        return Found(
            "log_probabilities", f"none is above 0 and their exponentials sum to 1{cut}", floor=floor
        )
    return _flat_warned(
        Found("logits", "some are negative, and they are no logarithms of probabilities"), stats
    )


def _summed(stats: Stats) -> Found | None:
    """Rows that sum to 1, to 100, to another constant, or to whole numbers."""
    sums = stats.sums_N
    low, mean, high = float(sums.min()), float(sums.mean()), float(sums.max())
    if stats.high <= 1.001:
        off = np.abs(sums - 1) >= 0.02
        if not off.any():
            return Found("probabilities", "every row is between 0 and 1 and sums to 1")
        if off.mean() <= 0.01:
            line = int(off.argmax())
            told = f"line {line} sums to {sums[line]:.3g} where nearly all sum to 1: rescaled"
            return Found("probabilities", "nearly every row sums to 1", (told,), rescaled=True)
    if mean <= 0 or high <= 0:
        return None
    whole = np.abs(sums - np.round(sums)) < 1e-3 * np.clip(sums / 100, 1, 50)
    if high - low <= 0.02 * mean and (len(sums) >= 3 or bool(whole.all())):
        if abs(mean - 100) < 1:
            return Found("percentages", "every row sums to 100: divided by it", rescaled=True)
        why = f"every row sums to {mean:.4g} (probabilities added over crops or voters): divided by it"
        return Found("sums", why, rescaled=True)
    counts = not (stats.sample_SC == np.round(stats.sample_SC)).all()
    if len(sums) >= 10 and counts and low > 0.5 and bool(whole.all()):
        why = f"every row sums to a whole number, {low:.0f} to {high:.0f} (probabilities added over crops)"
        return Found("sums", f"{why}: divided by it", rescaled=True)
    return None


def _rounded(stats: Stats) -> Found | None:
    """Probabilities (or percentages) of which rounding or cutting took a part, or which it added to."""
    for scale, meaning in SCALES:
        top = stats.high / scale
        if top > 1.005 or (scale > 1 and top <= 0.02):
            continue
        if scale == 255 and not (stats.sample_SC == np.round(stats.sample_SC)).all():
            continue
        sums, sample = stats.sums_N / scale, stats.sample_SC / scale
        step = 1 / 255 if scale == 255 else rounding.decimals(sample) or rounding.grid(sample)
        within = step is not None and rounding.near(sums, 1, step, stats.num_classes)
        # the best few kept and the others set to 0: never more than 1
        kept = rounding.best_kept(sums, sample) and (scale == 1 or float((sample == 0).mean()) > 0.5)
        if not (within or kept) or float(np.median(sums)) < (0.2 if scale > 1 else 0.01):
            continue
        if kept or len(sums) < rounding.FEW or (step is not None and rounding.shares(sums, sample, step)):
            return _rescaled(stats, meaning, f"not to {scale:.0f}")
    return None


def _rounded_sums(stats: Stats) -> Found | None:
    """Probabilities added over crops or voters and then rounded."""
    if stats.high <= 1.001 or (step := rounding.grid(stats.sample_SC)) is None:
        return None
    whole = rounding.whole(stats.sums_N, stats.sample_SC, step, least=2)
    if whole is None or not rounding.shares(stats.sums_N, stats.sample_SC, step):
        return None
    return _rescaled(stats, "sums", f"about {whole} in steps of {step:.3g}")


def _rescaled(stats: Stats, meaning: Meaning, near: str) -> Found:
    """Rows that are divided by their sum, with the warning that they are."""
    spread = f"rows sum to {stats.sums_N.min():.3g} … {stats.sums_N.max():.3g}"
    why = f"{spread}: {meaning} that were rounded or cut, each row divided by its sum"
    other = "sigmoid" if stats.high <= 1.001 else "logits"
    told = (
        f"{spread}, {near}: taken as {meaning} that were rounded or cut, and rescaled (if that is wrong say "
        f"--kind FILE={other})"
    )
    return Found(meaning, why, (told,), rescaled=True)


def _unbounded(stats: Stats) -> Found:
    """Neither negative nor of constant sum."""
    spread = f"rows sum to {stats.sums_N.min():.3g} … {stats.sums_N.max():.3g}"
    if stats.high <= 1.001:
        why = f"all are between 0 and 1 but {spread}: each class's own probability"
        return _warned(_flat_warned(Found("sigmoid", why), stats), _doubt(stats, spread))
    return _flat_warned(Found("logits", f"none is negative, some are above 1, {spread}"), stats)


def _doubt(stats: Stats, spread: str) -> str:
    """What is said of scores that may as well be shares of one whole, rounded or cut; else nothing."""
    if (stats.sample_SC == 0).mean() > 0.5 and stats.sums_N.max() <= 1.02:
        return (
            f"most are 0 and {spread}: taken as each class's own probability; if they are probabilities of "
            f"which a part is missing say --kind FILE=probabilities"
        )
    step = rounding.grid(stats.sample_SC)
    if step is None or rounding.whole(stats.sums_N, stats.sample_SC, step, least=1) is None:
        return ""
    if stats.num_classes * step > 0.5 and not rounding.shares(stats.sums_N, stats.sample_SC, step):
        return ""  # any sum would be near a whole number, and these vary as those of free scores do
    return (
        f"{spread} in steps of {step:.3g}: taken as each class's own probability; if they are probabilities "
        f"that were rounded say --kind FILE=probabilities"
    )


def _flat_warned(found: Found, stats: Stats) -> Found:
    """With a warning where softmax would leave rows near uniform."""
    sample = stats.sample_SC
    if not np.isfinite(sample).all():
        return found
    logits = converted(sample.astype(np.float32), found).astype(np.float64)
    if bool((logits == logits[:, :1]).all()):
        return _warned(found, EQUAL)
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    entropy = -(chances * np.log(np.maximum(chances, 1e-300))).sum(axis=1).mean() / np.log(stats.num_classes)
    if entropy < UNIFORM:
        return found
    best = 100 * chances.max(axis=1).mean()
    return _warned(
        found,
        f"taken as {found.meaning}, softmax leaves rows near uniform (the best class gets {best:.2g} % on "
        f"average), so that it has next to no vote in means of probabilities: if the scores mean something "
        f"else say --kind FILE=KIND, if they are similarities multiply them by a constant (with labels a "
        f"temperature is fitted)",
    )


def _warned(found: Found, words: str) -> Found:
    return replace(found, warnings=(*found.warnings, words)) if words else found


def said(meaning: Meaning, stats: Stats, source: str, because: str) -> Found:
    """The meaning that the user (or the file) gives; ResultError where the numbers cannot be that.

    source: the file, for the message. because: who said it.
    """
    bounds = {"probabilities": (-1e-3, 1.02), "sigmoid": (-1e-3, 1.02), "percentages": (-0.1, 102.0),
              "sums": (-1e-3, np.inf), "log_probabilities": (-np.inf, 0.02)}  # fmt: skip
    low, high = bounds.get(meaning, (-np.inf, np.inf))
    if stats.low < low or stats.high > high:
        odd = stats.low if stats.low < low else stats.high
        raise ResultError(f"{source} holds {odd:.4g}: these are no {meaning} ({because})")
    floor = min(stats.low, LOWEST) if meaning == "log_probabilities" and stats.minus_inf else None
    rescaled = meaning in ("percentages", "sums")
    if meaning == "probabilities":
        rescaled = bool((np.abs(stats.sums_N - 1) >= 0.02).any())
    found = Found(meaning, because, rescaled=rescaled, floor=floor)
    return _flat_warned(found, stats) if meaning in ("logits", "sigmoid") else found


def converted(scores_BC: NDArray[Any], found: Found) -> NDArray[Any]:
    """Scores as stored → logits or probabilities (`found.kind`); untouched where they are that already."""
    if found.meaning == "sigmoid":
        chance = np.clip(scores_BC.astype(np.float64), SMALLEST, 1 - 2.0**-25)
        return (np.log(chance) - np.log1p(-chance)).astype(np.float32)
    if found.meaning in ("ranks", "points"):
        values = scores_BC.astype(np.float32)
        values = values if found.meaning == "ranks" else -values
        logits: NDArray[np.float32] = -np.log1p(values - values.min(axis=1, keepdims=True))
        return logits
    if found.floor is not None:
        raised: NDArray[Any] = np.maximum(scores_BC, np.asarray(found.floor, scores_BC.dtype))
        return raised
    return _shares(scores_BC) if found.rescaled else scores_BC


def _shares(scores_BC: NDArray[Any]) -> NDArray[np.float32]:
    """Each row over its sum; a row of zeros is shared evenly."""
    values = np.maximum(scores_BC.astype(np.float32), np.float32(0))
    sums = values.sum(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    even = np.float32(1 / values.shape[1])
    shares: NDArray[np.float32] = np.where(sums > 0, values / np.where(sums > 0, sums, 1), even)
    return shares


def of_topk(top: results.TopK) -> Found:
    """The meaning of a top-K result's scores: rows may miss what was cut."""
    rows = _sample(top.scores_NK).astype(np.float64)
    sums = rows.sum(axis=1)
    if rows.min() >= 0 and rows.max() <= 1.001 and sums.max() <= 1.02:
        return Found("probabilities", "the kept scores are between 0 and 1 and sum to no more than 1")
    if rows.min() >= 0 and rows.max() <= 100.1 and sums.max() <= 102 and np.median(sums) > 20:
        whole = bool((rows == np.round(rows)).all())
        if not (whole and rows.max() < 20):
            return Found("percentages", "the kept scores sum to no more than 100: divided by it")
    if rows.max() <= 1e-3 and np.exp(rows).sum(axis=1).max() <= 1.02:
        return Found("log_probabilities", "none is above 0, their exponentials sum to no more than 1")
    return Found("logits", "no probabilities: the kept scores do not stay below 1")


def _sample(array: NDArray[Any]) -> NDArray[Any]:
    picked = np.unique(np.linspace(0, len(array) - 1, SAMPLE).astype(np.int64))
    return np.asarray(array[picked])
