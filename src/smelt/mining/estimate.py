"""The estimate of the share of wrong labels, from features and labels alone. Arrays in, numbers out.

Out of sample on both sides: every row is judged by a fit that has not seen it (`leave_one_out`), so that no
wrong label is learnt by heart. What the fit disagrees with, d, is its own errors and wrong labels; the two
are told apart by how sure it is of the rows of each class: the confident joint of Northcutt et al. 2021,
"Confident Learning: Estimating Uncertainty in Dataset Labels", section 3.1, on tempered leave-one-out
probabilities.

No verdict stands behind it, so it is called uncalibrated. Its interval is no confidence interval of a sample
but what is possible if

- rows of which the fit is less sure are wrong at least as often as the surer half: the lower end;
- labels that the fit agrees with are right for the most part: the upper end is d.

Where labels of validation are known to be right, the error e of the fit there narrows it: d = r(1 − α) + (1 −
r)e, with α, the share of wrong labels that the fit gives itself, between 0 and `ALIKE`.

Tried before: accuracies of training against validation by epoch (0.006 said where 0.091 were wrong), the
share of negative AUMs, mixtures of two Gaussians, injected flips, expectation-maximisation over Gaussians of
the classes, which drifts where features are no Gaussians (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.mining.intervals import wilson
from smelt.mining.labelled_features import Labelled
from smelt.mining.posterior import Posterior

Floats = NDArray[np.float64]

ALIKE = 0.5  # largest share of the wrong labels that the fit would have given itself
WIDEST = 0.4  # an interval wider than this tells nothing that one could go by
UNCALIBRATED = "uncalibrated"

NO_FEATURES = (
    "cannot be told without features (-o 'features=[{weights: FILE}]') or verdicts (smelt audit WORK)"
)
NOT_ENOUGH = "not enough training to tell"
TOO_WEAK = "these features tell the classes apart too little to say"


@dataclass(frozen=True)
class Estimate:
    """Share of wrong labels among `images` rows, with an interval; None where there is nothing to say.

    why: empty, or why no rate is claimed; `low` and `high` may be known then. validation_images: whose labels
    are right, that narrowed the interval; validation_errors: how many of them the fit gets wrong. disagree:
    share of the rows that the fit would call something else.
    """

    images: int
    validation_images: int = 0
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    disagree: float | None = None
    why: str = ""
    validation_errors: int = 0

    def figures(self) -> dict[str, Any]:
        """All of it for JSON, with its line for people under `words`; what is not known is left out."""
        names = ("rate", "low", "high", "disagree")
        known = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {
            **{name: round(float(value), 6) for name, value in known.items()},
            "images": self.images,
            "validation_images": self.validation_images,
            "validation_errors": self.validation_errors,
            "calibrated": False,
            "why": self.why,
            "words": self.words,
        }

    @property
    def words(self) -> str:
        """One line for people."""
        by = "by features, each image judged by the others"
        if self.validation_images:
            by += f", and {self.validation_images} validation images"
        if self.low is None or self.high is None:
            return self.why
        between = f"{self.low:.2f} to {self.high:.2f}"
        if self.rate is None:
            return f"{self.why}: anything from {between} is possible ({by})"
        return (
            f"about {self.rate:.2f} of {self.images} labels look wrong "
            f"({UNCALIBRATED}: {between} is possible; {by})"
        )


def noise_rate(
    features_ND: ArrayLike,
    labels_N: ArrayLike,
    num_classes: int | None = None,
    *,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
) -> Estimate:
    """The share of wrong labels among rows with features (N, D) and labels (N,), −1 where there is none.

    validation: (features (V, D), labels (V,)) of rows whose labels are known to be right. TypeError or
    ValueError for arrays of other shapes or types.
    """
    data = Labelled(features_ND, labels_N, num_classes)
    if data.num_rows < 2 or (data.counts > 0).sum() < 2:
        raise ValueError("an estimate takes labelled rows of two classes at least")
    posterior = Posterior([data])
    if validation is None:
        return estimated(posterior)
    other = Labelled(*validation, data.num_classes)
    if other.dim != data.dim:
        raise ValueError(f"validation has features of {other.dim} numbers, the rows of {data.dim}")
    return estimated(posterior, *errors_on(posterior, [other]))


def errors_on(posterior: Posterior, others: list[Labelled]) -> tuple[int, int]:
    """(rows that the fits get wrong, rows) of other labelled rows, one `Labelled` for each backbone."""
    wrong = 0
    for start in others[0].starts():
        likely = posterior.elsewhere([one.raw(start) for one in others])
        wrong += int((likely.argmax(axis=1) != others[0].classes[start : start + len(likely)]).sum())
    return wrong, others[0].num_rows


def estimated(posterior: Posterior, errors: int = 0, validation_images: int = 0) -> Estimate:
    """The estimate from out-of-sample probabilities; errors: of that many validation images, if any."""
    data = posterior.data
    surest, own, differs = (np.empty(data.num_rows) for _ in range(3))
    for start, (best, given, other) in zip(data.starts(), data.each(lambda at: _sure(posterior, at))):
        place = slice(start, start + len(best))
        surest[place], own[place], differs[place] = best, given, other
    disagree = float(differs.mean())
    sure = surest >= np.median(surest)
    low = float(wilson(float(differs[sure].mean()), int(sure.sum()))[0])
    high = float(wilson(disagree, data.num_rows)[1])
    if validation_images:
        low, high = _narrowed(disagree, errors, validation_images, low, high)
    found = Estimate(
        data.num_rows, validation_images, validation_errors=errors, low=low, high=high, disagree=disagree
    )
    if high - low > WIDEST:
        return replace(found, why=TOO_WEAK)
    return replace(found, rate=float(np.clip(_confident_joint(posterior, own), low, high)))


def _sure(posterior: Posterior, start: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(largest probability, that of the given label, whether another label has the largest) of a block."""
    likely = posterior.of(start)
    labels = posterior.data.classes[start : start + len(likely)]
    return likely.max(axis=1), likely[np.arange(len(labels)), labels], likely.argmax(axis=1) != labels


def _confident_joint(posterior: Posterior, own_n: Floats) -> float:
    """Share of the labels that are wrong by the confident joint: a row counts for the likeliest of the
    classes that it is at least as sure of as the rows of that class are on average (equations 1 and 2)."""
    data = posterior.data
    counts = np.maximum(data.counts, 1)
    thresholds = np.bincount(data.classes, weights=own_n, minlength=data.num_classes) / counts

    def count(start: int) -> tuple[Floats, Floats]:
        likely = posterior.of(start)
        labels = data.classes[start : start + len(likely)]
        confident = np.where(likely >= thresholds, likely, -1.0)
        taken, some = confident.argmax(axis=1), confident.max(axis=1) >= 0
        size = data.num_classes
        rows = np.bincount(labels[some], minlength=size)
        right = np.bincount(labels[some & (taken == labels)], minlength=size)
        return rows.astype(float), right.astype(float)

    rows, right = np.zeros(data.num_classes), np.zeros(data.num_classes)
    for some, same in data.each(count):
        rows += some
        right += same
    counted = rows > 0
    wrong_C = 1 - right[counted] / rows[counted]
    return float((wrong_C * data.counts[counted]).sum() / max(data.counts[counted].sum(), 1))


def _narrowed(disagree: float, errors: int, images: int, low: float, high: float) -> tuple[float, float]:
    """The ends within what the error on validation, with its own interval, leaves possible."""
    least, most = wilson(errors / images, images)
    lower = (disagree - most) / max(1 - most, 1e-9)
    room = 1 - least - ALIKE
    upper = (disagree - least) / room if room > 0 else high
    low, high = max(low, lower) if lower < high else low, min(high, max(upper, 0.0))
    return max(min(low, high), 0.0), max(high, 0.0)


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
