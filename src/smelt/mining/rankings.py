"""From dynamics of one or several models to one cleanness for each row. Arrays in, arrays out.

Everything is indexed by catalogue row; nothing relies on the position of a row in another list.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.ranking import Ranking
from smelt.errors import DataError
from smelt.mining.config import RankSettings, score_modules

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def score_of(dynamics: Dynamics, name: str) -> Floats:
    """The score `name` of every row, (N,), higher is cleaner; NaN where a row was never seen.

    Its module says by the names of what its function takes which columns it goes by. ArtifactError where the
    dynamics lack one, ValueError for a score that there is not.
    """
    modules = score_modules()
    if name not in modules:
        raise ValueError(f"there is no score {name!r}; there are {', '.join(modules)}")
    function = modules[name].score
    columns = {column: dynamics[column] for column in inspect.signature(function).parameters}
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(function(**columns), np.float64)
    return np.where(np.asarray(dynamics["seen"]) > 0, found, np.nan)


def scores_of(models: Sequence[Dynamics]) -> tuple[str, ...]:
    """Names of the scores that all models have the columns of."""
    return tuple(
        name
        for name, module in score_modules().items()
        if all(set(inspect.signature(module.score).parameters) <= set(model.columns) for model in models)
    )


def rank(
    models: Dynamics | Sequence[Dynamics],
    labels_N: ArrayLike,
    rows_N: ArrayLike | None = None,
    *,
    score: str = "aum",
    combine: str = "standard",
    per_class: bool = False,
) -> Ranking:
    """The ranking of rows, with labels (N,), by the dynamics of one model or several.

    rows_N: catalogue rows (N,), ascending; all rows unless given. score, combine, per_class: as the settings
    of these names say (`RankSettings`). `scores` of the ranking holds each score's plain mean
    over the models that saw the row; `cleanness` the chosen one, each model's first brought to one scale.

    Raises ValueError or TypeError for arrays of other shapes or types, DataError if no model saw any of the
    rows, ArtifactError if the dynamics are older than the score.
    """
    models = [models] if isinstance(models, Dynamics) else list(models)
    rows, labels = _checked(models, labels_N, rows_N)
    settings = RankSettings.model_validate({"score": score, "combine": combine, "per_class": per_class})
    scores = {}
    for name in dict.fromkeys((*scores_of(models), score)):
        each = [score_of(model, name)[rows] for model in models]
        scores[name] = mean_of(each)
        if name == score:
            cleanness = mean_of([scaled(values, labels, settings) for values in each])
    if np.isnan(cleanness).all():
        raise DataError("none of the rows to rank was seen in training: the dynamics are of another data set")
    return Ranking(rows=rows, scores=scores, cleanness=cleanness)


def _checked(
    models: Sequence[Dynamics], labels_N: ArrayLike, rows_N: ArrayLike | None
) -> tuple[Ints, NDArray[np.int32]]:
    """Rows and labels that the models can be asked about."""
    if not models or not all(isinstance(model, Dynamics) for model in models):
        raise TypeError("rank goes by Dynamics, one or more")
    sizes = sorted({model.num_rows for model in models})
    if len(sizes) > 1:
        raise ValueError(f"the dynamics are of {' and '.join(map(str, sizes))} rows: of different data sets")
    labels = whole_numbers("labels", labels_N)
    rows = np.arange(sizes[0]) if rows_N is None else whole_numbers("rows", rows_N)
    if rows.shape != labels.shape:
        raise ValueError(f"labels {labels.shape} and rows {rows.shape} must be of one length")
    if len(rows) and (rows[0] < 0 or rows[-1] >= sizes[0] or not (np.diff(rows) > 0).all()):
        raise ValueError(f"rows must ascend within 0..{sizes[0] - 1}, those of the dynamics")
    return rows.astype(np.int64), labels.astype(np.int32)


def whole_numbers(name: str, values: ArrayLike) -> NDArray[np.integer]:
    """`values` as an array (N,) of whole numbers; TypeError or ValueError, with `name`, if they are not."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must be whole numbers, not {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have the shape (N,), not {array.shape}")
    return array


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
