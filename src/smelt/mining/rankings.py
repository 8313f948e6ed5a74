"""From dynamics, features and texts to one cleanness for each row. Arrays in, arrays out.

Everything is indexed by catalogue row; nothing relies on the position of a row in another list.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.ranking import Ranking
from smelt.errors import DataError
from smelt.mining.config import FUSED, RankSettings, score_modules
from smelt.mining.image_words import Worded
from smelt.mining.labelled_features import Labelled
from smelt.mining.neighbours import EXACT, available
from smelt.mining.posterior import Posterior
from smelt.mining.scales import grouped_ranks, mean_of, mean_quantiles, standardised, whole_numbers
from smelt.mining.textscore import TextEvidence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What a score may ask for in place of columns of dynamics
FEATURES, TEXTS, WORDS = "features", "texts", "words"
BY_NEIGHBOURS = ("knn", "density")


def goes_by(name: str) -> tuple[str, ...]:
    """What the function of a score takes: names of columns of dynamics, or `features`, `texts` or `words`.

    ValueError for a score that there is not.
    """
    modules = score_modules()
    if name not in modules:
        raise ValueError(f"there is no score {name!r}; there are {', '.join(modules)}")
    return tuple(inspect.signature(modules[name].score).parameters)


def score_of(dynamics: Dynamics, name: str) -> Floats:
    """The score `name` of every row by what training recorded, (N,), higher is cleaner; NaN where a row was
    never seen.

    Its module says by the names of what its function takes which columns it goes by. ArtifactError where the
    dynamics lack one, ValueError for a score that there is not, or not by dynamics.
    """
    names = goes_by(name)
    if {FEATURES, TEXTS, WORDS} & set(names):
        raise ValueError(f"the score {name} goes by {names[0]}, not by dynamics")
    columns = {column: dynamics[column] for column in names}
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(score_modules()[name].score(**columns), np.float64)
    return np.where(np.asarray(dynamics["seen"]) > 0, found, np.nan)


@dataclass(frozen=True)
class Grounds:
    """What rows (N,) with labels (N,) are ranked by: dynamics of models, features of backbones, texts.

    spaces: name of a backbone → its features with the rows' labels, all of the same rows. texts: what the
    texts of the rows say. words: features of nets that read the classes' words, too.
    """

    rows: Ints
    labels: NDArray[np.int32]
    models: Sequence[Dynamics] = ()
    spaces: Mapping[str, Labelled] = field(default_factory=dict)
    texts: TextEvidence | None = None
    words: Sequence[Worded] = ()

    @cached_property
    def posterior(self) -> Posterior:
        """How likely each label is for each row, by the features; only where there are some."""
        return Posterior(list(self.spaces.values()))

    def names(self) -> tuple[str, ...]:
        """Names of the scores that there is all for."""
        return tuple(name for name in score_modules() if self.has(name))

    def has(self, name: str) -> bool:
        """Whether there is what the score goes by."""
        wanted = goes_by(name)
        if FEATURES in wanted:
            many = max((one.num_rows for one in self.spaces.values()), default=0)
            return many > 1 and (name not in BY_NEIGHBOURS or available(many))
        if TEXTS in wanted:
            return self.texts is not None
        if WORDS in wanted:
            return bool(self.words)
        return bool(self.models) and all(set(wanted) <= set(model.columns) for model in self.models)

    def why_not(self, name: str) -> str:
        """What a score lacks."""
        wanted = goes_by(name)
        if FEATURES in wanted:
            if self.spaces and name in BY_NEIGHBOURS:
                return f"more than {EXACT:,} rows: it takes faiss (smelt[faiss])"
            return "features: -o 'features=[{weights: FILE}]' has them written"
        if TEXTS in wanted:
            return "texts: the data set has none"
        if WORDS in wanted:
            return "features of a net of images and words (image_text)"
        return "training that recorded it"

    def score(self, name: str) -> Floats:
        """A score as it is shown, (N,): of dynamics the plain mean over the models."""
        if FEATURES in goes_by(name):
            return self._by_features(name)
        if TEXTS in goes_by(name):
            return np.asarray(score_modules()[name].score(self.texts), np.float64)
        if WORDS in goes_by(name):
            return mean_of([score_modules()[name].score(one) for one in self.words])
        return mean_of([score_of(model, name)[self.rows] for model in self.models])

    def _by_features(self, name: str) -> Floats:
        """Of several backbones the mean of their normal quantiles, each counting as much as it does where all
        are stacked to make the given labels likeliest."""
        each = {key: np.asarray(score_modules()[name].score(one)) for key, one in self.spaces.items()}
        if len(each) == 1:
            return next(iter(each.values()))
        return mean_quantiles(each, dict(zip(each, self.posterior.shares.tolist())))

    def cleanness(self, settings: RankSettings, shown: Mapping[str, Floats]) -> Floats:
        """What rows are ranked by, (N,); `shown`: the scores that are known already."""
        if settings.score != FUSED:
            return self._scaled(settings.score, settings, shown)
        names = self.fused(settings)
        if len(names) == 1:
            return self._scaled(names[0], settings, shown)
        if not names:
            raise DataError(
                f"nothing of what score: fused is the mean of ({', '.join(settings.fuse)}) is there: "
                + "; ".join(f"{name} lacks {self.why_not(name)}" for name in settings.fuse)
            )
        parts = {name: self._scaled(name, settings, shown) for name in names}
        return mean_quantiles(parts, dict.fromkeys(parts, 1.0))

    def fused(self, settings: RankSettings) -> list[str]:
        """Names of the scores that `fused` is the mean of."""
        return [name for name in settings.fuse if self.has(name) and self._heard(name)]

    def _heard(self, name: str) -> bool:
        """Texts that do not tell the classes apart have no say."""
        return TEXTS not in goes_by(name) or (self.texts is not None and self.texts.informative)

    def _scaled(self, name: str, settings: RankSettings, shown: Mapping[str, Floats]) -> Floats:
        """Of dynamics each model's scores are brought to one scale first."""
        wanted = goes_by(name)
        if {FEATURES, TEXTS, WORDS} & set(wanted):
            return shown[name] if name in shown else self.score(name)
        each = [score_of(model, name)[self.rows] for model in self.models]
        return mean_of([scaled(values, self.labels, settings) for values in each])

    def ranking(self, settings: RankSettings) -> Ranking:
        """Every score that there is, and the one that is gone by."""
        if settings.score != FUSED and not self.has(settings.score):
            if self.models and not {FEATURES, TEXTS, WORDS} & set(goes_by(settings.score)):
                score_of(self.models[0], settings.score)  # says which column it lacks
            raise DataError(f"score: {settings.score} lacks {self.why_not(settings.score)}")
        scores = {name: self.score(name) for name in self.names()}
        cleanness = self.cleanness(settings, scores)
        if np.isnan(cleanness).all():
            raise DataError(
                "none of the rows to rank has a score: the dynamics or features are of another data set, or "
                "training recorded no margins (train.mixing.probability: 1 mixes every batch)"
            )
        return Ranking(rows=self.rows, scores=scores, cleanness=cleanness)


def rank(
    models: Dynamics | Sequence[Dynamics],
    labels_N: ArrayLike,
    rows_N: ArrayLike | None = None,
    *,
    features: ArrayLike | Mapping[str, ArrayLike] | None = None,
    score: str = FUSED,
    combine: str = "standard",
    per_class: bool = False,
    **settings: Any,
) -> Ranking:
    """The ranking of rows, with labels (N,), by the dynamics of one model or several, by features, or both.

    models: none, as an empty list, where features are given. rows_N: catalogue rows (N,), ascending; all rows
    unless given. features: floats (rows of the catalogue, D), or several of them by name of their backbone.
    score, combine, per_class and others: as the settings of these names say (`RankSettings`). `scores` of the
    ranking holds each score's plain mean over the models that saw the row; `cleanness` the chosen one, each
    model's first brought to one scale.

    Raises ValueError or TypeError for arrays of other shapes or types, DataError if no row has a score,
    ArtifactError if the dynamics are older than the score.
    """
    models = [models] if isinstance(models, Dynamics) else list(models)
    given = features if isinstance(features, Mapping) else {} if features is None else {"features": features}
    arrays = {name: np.asanyarray(one) for name, one in given.items()}
    rows, labels = _checked(models, arrays, labels_N, rows_N)
    chosen = RankSettings.model_validate(
        {"score": score, "combine": combine, "per_class": per_class, **settings}
    )
    classes = int(labels.max(initial=-1)) + 1
    spaces = {name: Labelled(one, labels, classes, places_N=rows) for name, one in arrays.items()}
    return Grounds(rows, labels, models, spaces).ranking(chosen)


def _checked(
    models: Sequence[Dynamics], features: Mapping[str, NDArray[Any]], labels_N: ArrayLike,
    rows_N: ArrayLike | None,
) -> tuple[Ints, NDArray[np.int32]]:  # fmt: skip
    """Rows and labels that the models and features can be asked about."""
    if not all(isinstance(model, Dynamics) for model in models) or not (models or features):
        raise TypeError("rank goes by Dynamics, one or more, or by features")
    sizes = sorted({model.num_rows for model in models} | {len(one) for one in features.values()})
    if len(sizes) > 1:
        raise ValueError(f"what is given is of {' and '.join(map(str, sizes))} rows: of different data sets")
    labels = whole_numbers("labels", labels_N)
    rows = np.arange(sizes[0]) if rows_N is None else whole_numbers("rows", rows_N)
    if rows.shape != labels.shape:
        raise ValueError(f"labels {labels.shape} and rows {rows.shape} must be of one length")
    if len(rows) and (rows[0] < 0 or rows[-1] >= sizes[0] or not (np.diff(rows) > 0).all()):
        raise ValueError(f"rows must ascend within 0..{sizes[0] - 1}, those of the catalogue")
    return rows.astype(np.int64), labels.astype(np.int32)


def scaled(scores_N: Floats, labels_N: ArrayLike, settings: RankSettings) -> Floats:
    """One model's scores on the scale that `settings` asks for, over all rows or within each class."""
    groups = np.asarray(labels_N) if settings.per_class else np.zeros(len(scores_N), np.int32)
    if settings.combine == "rank":
        return grouped_ranks(scores_N, groups)
    if settings.combine == "mean" and not settings.per_class:
        return scores_N
    return standardised(scores_N, groups)
