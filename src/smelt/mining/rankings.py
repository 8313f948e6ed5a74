"""Rankings: dynamics of one or several models → one cleanness for each row. Arrays in, arrays out.

Everything is indexed by catalogue row; nothing relies on the position of a row in another list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.tables import Ranking
from smelt.errors import DataError
from smelt.mining.config import RankSettings

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def forgetting(dynamics: Dynamics) -> Floats:
    """Minus the forgetting events; rows never learnt count one more than the most forgotten row (Toneva et
    al. 2019, section 3, take them as forgotten without end). NaN where never seen."""
    events = dynamics.forgotten.astype(np.float64)
    never = (np.asarray(dynamics.correct) == 0) & (np.asarray(dynamics.seen) > 0)
    events[never] = events.max(initial=0) + 1
    return np.where(np.asarray(dynamics.seen) > 0, -events, np.nan)


# Each "higher is cleaner". The probability of a wrong label is low and steady (Swayamdipta et al. 2020,
# figure 1), so a wobbling one speaks for the row while models still learn; of one visit it says nothing.
SCORES: dict[str, Callable[[Dynamics], Floats]] = {
    "aum": Dynamics.aum,
    "log_margin": Dynamics.log_margin,
    "probability": Dynamics.probability,
    "accuracy": Dynamics.accuracy,
    "forgetting": forgetting,
    "variability": Dynamics.variability,
}


def without(dynamics: Dynamics, rows: Ints) -> Dynamics:
    """The dynamics as if the catalogue rows `rows` had never been seen."""
    seen, last = np.array(dynamics.seen), np.array(dynamics.last)
    seen[rows], last[rows] = 0, -1
    return replace(dynamics, seen=seen, last=last)


def rank(
    models: Sequence[Dynamics], rows_N: Ints, labels_N: NDArray[np.int32], settings: RankSettings
) -> Ranking:
    """The ranking of catalogue rows (N,), ascending, with labels (N,), by the dynamics of one or more models.

    `scores` holds each score's plain mean over the models that saw the row; `cleanness` the chosen one, each
    model's first brought to one scale. Raises DataError if no model saw any of the rows.
    """
    scores = {}
    for name, function in SCORES.items():
        each = [function(model)[rows_N] for model in models]
        scores[name] = mean_of(each)
        if name == settings.score:
            cleanness = mean_of([scaled(values, labels_N, settings) for values in each])
    if np.isnan(cleanness).all():
        raise DataError("none of the rows to rank was seen in training: the dynamics are of another data set")
    return Ranking(rows=rows_N, scores=scores, cleanness=cleanness)


def mean_of(scores_MN: Sequence[Floats]) -> Floats:
    """Mean over the models that have a score, (N,); NaN where none has."""
    total, count = np.zeros(len(scores_MN[0])), np.zeros(len(scores_MN[0]))
    for scores in scores_MN:
        known = ~np.isnan(scores)
        total[known] += scores[known]
        count += known
    with np.errstate(invalid="ignore"):
        return total / count


def scaled(scores_N: Floats, labels_N: ArrayLike, settings: RankSettings) -> Floats:
    """One model's scores on the scale that `settings` asks for, over all rows or within each class."""
    groups = np.asarray(labels_N) if settings.per_class else np.zeros(len(scores_N), np.int32)
    if settings.combine == "rank":
        return grouped_ranks(scores_N, groups)
    if settings.combine == "mean" and not settings.per_class:
        return scores_N
    return standardised(scores_N, groups)


def standardised(scores_N: Floats, groups_N: NDArray[np.int32]) -> Floats:
    """(score − mean)/deviation within each group; 0 where a group's scores are all equal. NaN stays NaN.

    Scores are sums that were kept in float32: what they differ by below its resolution is no difference.
    """
    known = ~np.isnan(scores_N)
    _, codes = np.unique(groups_N, return_inverse=True)
    values = np.where(known, scores_N, 0)
    counts = np.maximum(np.bincount(codes, weights=known), 1)
    mean = np.bincount(codes, weights=values) / counts
    centred = scores_N - mean[codes]
    deviation = np.sqrt(np.bincount(codes, weights=np.where(known, centred, 0) ** 2) / counts)
    size = np.sqrt(np.bincount(codes, weights=values**2) / counts)
    equal = deviation <= size * np.finfo(np.float32).eps
    return np.where(equal[codes] & known, 0.0, centred / np.where(equal, 1, deviation)[codes])


def grouped_ranks(scores_N: Floats, groups_N: NDArray[np.int32]) -> Floats:
    """Rank of each score within its group, from 0 (lowest) to 1, equal scores sharing their mean rank."""
    ranks = np.full(len(scores_N), np.nan)
    known = np.flatnonzero(~np.isnan(scores_N))
    if not len(known):
        return ranks
    order = known[np.lexsort((scores_N[known], groups_N[known]))]
    group, score, place = groups_N[order], scores_N[order], np.arange(len(order))
    new_group = np.r_[True, group[1:] != group[:-1]]
    new_value = new_group | np.r_[True, score[1:] != score[:-1]]
    starts = np.flatnonzero(new_value)
    ends = np.r_[starts[1:], len(order)] - 1
    shared = ((starts + ends) / 2)[np.cumsum(new_value) - 1]
    first = np.maximum.accumulate(np.where(new_group, place, 0))
    sizes = np.diff(np.r_[np.flatnonzero(new_group), len(order)])[np.cumsum(new_group) - 1]
    ranks[order] = np.where(sizes > 1, (shared - first) / np.maximum(sizes - 1, 1), 0.5)
    return ranks
