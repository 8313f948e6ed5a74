"""How large a share of the labels is wrong, and whether training was enough to tell. Arrays in, numbers out.

A row whose AUM is negative is one that the models would rather call something else: its label is wrong, or
the models are weak. A weak learner has many such rows where every label is right, one that learns by heart
has none where half of the labels are wrong. So the share of them is no estimate, nor a bound.

`noise_rate` compares like with like instead: how often a visit in training finds the label first, and how
often a validation image, whose label is taken to be right, does at the same time. With r the share of wrong
labels, α the accuracy on right ones and β on wrong ones, a visit is right in A = (1 − r) · α + r · β of the
cases.
What is taken for granted, and makes the interval:

- α lies within `GAP` of the accuracies on validation before and after: training pictures are augmented, which
  makes them harder, and normalised by their own batch, which makes them easier (docs/log.md).
- Of a model's errors at least the share of a guess among the other classes, at most `ALIKE`, go to the wrong
  label that an image carries.
- Learning by heart lifts A, so that later epochs show less of the noise. Stretches of training are judged one
  by one; where they show the most, at most `BY_HEART` of the rows are known by heart.

Wrong labels that a model itself would give, as between classes that it cannot tell apart, are not seen.

Tried before: a mixture of two Gaussians, the usual estimate (Li et al. 2020, DivideMix, section 3.1), which
sees 35–60 % noise where there is none; the share of negative AUMs less the final error (docs/log-mining.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.mining.intervals import Z, wilson

Floats = NDArray[np.float64]

GAP = 0.15  # by which share accuracies on training pictures and on validation differ
ALIKE = 0.3  # largest share of the errors on an image that gives it the wrong label it carries
BY_HEART = 0.05  # largest share of rows known by heart in the stretches that show the most noise
STEADY = 0.05  # stretches that show less than the most by no more than this are still such
LATER = 2 / 3  # way from the accuracy before a stretch to that after it, which its mean does not pass
LEARNT = 0.5  # of what the best validation accuracy has over guessing: only from there on is one judged
SURER = 1.25  # the lower end is the best of several stretches, so each has an interval so much wider
WIDEST = 0.4  # an interval wider than this tells nothing that one could go by

NOT_ENOUGH = "not enough training to tell"
NO_VALIDATION = "cannot be checked: there are no labelled validation images"
CRAWLED = "cannot be checked: the labels of validation are as crawled as those of training"
NO_RECORD = "cannot be checked: no training that began with these labels recorded its accuracy on validation"


@dataclass(frozen=True)
class Curve:
    """Accuracy of one training after each epoch (E,): of the epoch's visits under the labels that were
    taught, averaged as validation is, and of validation; NaN where it was not validated. ValueError for other
    shapes."""

    train_E: Floats
    val_E: Floats

    def __post_init__(self) -> None:
        shapes = np.shape(self.train_E), np.shape(self.val_E)
        if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
            raise ValueError(f"train_E {shapes[0]} and val_E {shapes[1]} must be of one length, (E,)")


@dataclass(frozen=True)
class Estimate:
    """Share of wrong labels among `images` rows, with an interval; None where there is nothing to say.

    why: empty, or why no rate is claimed; `low` and `high` may be known then.
    """

    images: int
    validation_images: int
    models: int
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""

    def figures(self) -> dict[str, Any]:
        """All of it for JSON, with its line for people under `words`; what is not known is left out."""
        known = {
            name: value for name in ("rate", "low", "high") if (value := getattr(self, name)) is not None
        }
        return {
            **{name: round(float(value), 6) for name, value in known.items()},
            "images": self.images,
            "validation_images": self.validation_images,
            "models": self.models,
            "why": self.why,
            "words": self.words,
        }

    @property
    def words(self) -> str:
        """One line for people."""
        models = f"{self.models} model{'s' if self.models > 1 else ''}"
        by = f"by {models} and {self.validation_images} validation images"
        if self.low is None or self.high is None:
            return self.why
        between = f"{self.low:.2f} to {self.high:.2f}"
        if self.rate is None:
            return f"{self.why}: anything from {between} is possible ({by})"
        return f"about {self.rate:.2f} of {self.images} labels look wrong (estimated, {between}; {by})"


def noise_rate(
    curves: Sequence[Curve | tuple[ArrayLike, ArrayLike]], images: int, validation_C: ArrayLike
) -> Estimate:
    """The share of wrong labels among the `images` rows that the trainings behind `curves` were taught.

    curves: of each training its accuracies after each epoch, of training visits and of validation, (E,) both
    (see `Curve`). validation_C: labelled validation images of each class. Several trainings: the mean of
    their estimates. The lower end is the highest lower end of all stretches (learning by heart only hides
    noise), the upper end the lowest of those stretches that show nearly the most. The rate is the most
    that a stretch shows. TypeError or ValueError for a `validation_C` that is no count of each of two
    classes or more.
    """
    told = [one if isinstance(one, Curve) else Curve(*map(np.asarray, one)) for one in curves]
    validation_C = np.asarray(validation_C)
    if validation_C.dtype.kind not in "iu":
        raise TypeError(f"validation_C must be whole numbers of images, not {validation_C.dtype}")
    if validation_C.ndim != 1 or len(validation_C) < 2 or validation_C.min() < 0:
        raise ValueError(f"validation_C must be images of each class, (C ≥ 2,), not {validation_C.shape}")
    validation = int(validation_C.sum())
    unknown = Estimate(images, validation, len(told))
    if not validation:
        return replace(unknown, why=NO_VALIDATION)
    if not told:
        return replace(unknown, why=NO_RECORD)
    size, classes = effective_images(validation_C), len(validation_C)
    found = [interval for curve in told if (interval := _of_curve(curve, classes, size, images))]
    if len(found) < len(told):
        return replace(unknown, why=f"{NOT_ENOUGH}: {_what_there_was(told, classes)}")
    rate, low, high = (float(value) for value in np.mean(found, axis=0))
    if high - low <= WIDEST:
        return replace(unknown, rate=rate, low=low, high=high)
    return replace(unknown, low=low, high=high, why=NOT_ENOUGH)


def effective_images(images_C: NDArray[np.int64]) -> float:
    """As many images, equal numbers of each class, give a class-averaged share the same variance."""
    there = images_C[images_C > 0]
    return float(len(there) ** 2 / (1 / there).sum()) if len(there) else 0.0


def class_average_over_mean(
    seen_N: NDArray[np.int32],
    correct_N: NDArray[np.int32],
    labels_N: NDArray[np.int32],
    judged_C: NDArray[np.int64],
) -> float:
    """Class-averaged share of right visits over the plain share: brings the accuracy of an epoch's visits to
    the average that validation has. Only classes with `judged_C` > 0 are averaged; 1 where nothing was seen.
    """
    known = labels_N >= 0
    size = len(judged_C)
    seen = np.bincount(labels_N[known], weights=seen_N[known], minlength=size)
    right = np.bincount(labels_N[known], weights=correct_N[known], minlength=size)
    counted = (seen > 0) & (judged_C > 0)
    if not counted.any() or not right.sum():
        return 1.0
    return float((right[counted] / seen[counted]).mean() / (right.sum() / seen.sum()))


def _what_there_was(curves: Sequence[Curve], classes: int) -> str:
    times = min(int((~np.isnan(curve.val_E)).sum()) for curve in curves)
    if times < 2:
        return f"validation was looked at {'once' if times else 'never'} (`validate_every_epochs`)"
    best = float(np.mean([np.nanmax(curve.val_E) for curve in curves]))
    return f"validation accuracy came to {best:.2f}, guessing among {classes} classes gives {1 / classes:.2f}"


def _of_curve(curve: Curve, classes: int, size: float, images: int) -> tuple[float, float, float] | None:
    """(rate, low, high) by one training of `images` rows, `size` validation images; None where no stretch of
    it can be judged."""
    guessed, alike = 1 / (classes - 1), max(ALIKE, 1 / (classes - 1))
    rates, lows, highs = [], [], []
    for visits, worse, better in _stretches(curve, classes, size):
        rates.append(_wrong(visits, worse, guessed))
        fewest, most = wilson(visits, images)
        least_right = (1 - GAP) * wilson(worse, size, SURER * Z)[0]
        lows.append(_wrong(most, least_right, guessed, if_unclear=0.0))
        most_right = (1 + GAP) * wilson(worse + LATER * (better - worse), size)[1]
        unlearnt = (fewest - BY_HEART) / (1 - BY_HEART)
        highs.append(_wrong(unlearnt, min(most_right, 1.0), alike, if_unclear=1.0))
    if not rates:
        return None
    shown = max(rates)
    high = min(end for end, rate in zip(highs, rates) if rate >= shown - STEADY)
    low, high = float(np.clip(max(lows), 0, 1)), float(np.clip(high, 0, 1))
    low, high = min(low, high), max(low, high)
    return float(np.clip(shown, low, high)), low, high


def _stretches(curve: Curve, classes: int, size: float) -> Iterator[tuple[float, float, float]]:
    """(accuracy of the visits, lower and higher accuracy on validation before and after) of each stretch
    between two validations, once `LEARNT` of what was learnt at best, and surely more than guessing, is."""
    epochs, guess = np.flatnonzero(~np.isnan(curve.val_E)).tolist(), 1 / classes
    for before, after in pairwise(epochs):
        ends = curve.val_E[before], curve.val_E[after]
        enough = guess + LEARNT * (np.nanmax(curve.val_E) - guess)
        if min(ends) >= enough and wilson(min(ends), size)[0] > guess:
            yield float(curve.train_E[before + 1 : after + 1].mean()), float(min(ends)), float(max(ends))


def _wrong(visits: float, accuracy: float, share: float, if_unclear: float = 0.0) -> float:
    """The r with visits = (1 − r) · α + r · β for α = `accuracy` and β = `share` of the errors; below 0 where
    visits are right more often than α. `if_unclear` where α is no more than β: then any r would do."""
    wrong = share * (1 - accuracy)
    return (accuracy - visits) / (accuracy - wrong) if accuracy > wrong else if_unclear


# What the margins alone say


def negative_share(aum_N: Floats) -> float:
    """Share of the rows with a score whose AUM is negative; NaN where none has a score. An AUM of exactly 0
    speaks for neither side and is not counted."""
    known = aum_N[~np.isnan(aum_N)]
    return float((known < 0).mean()) if len(known) else float("nan")


def unexplained(aum_N: Floats, error: float = 0.0) -> float:
    """Share of wrong labels, 0..1: with n the negative share and e the share of negative AUMs on right
    labels, n = r + (1 − r) · e for the rate r, if every wrong label has a negative AUM.

    That holds for scores of models that did not learn the rows by heart (out of fold) and an `error` measured
    the same way; else see `noise_rate`. NaN where no row has a score.
    """
    assert 0 <= error <= 1
    if error == 1:
        return 0.0
    return float(np.clip((negative_share(aum_N) - error) / (1 - error), 0, 1))
