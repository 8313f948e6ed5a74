"""The guard: the plain average is used unless another fusion is better with the certainty that is asked for.

The guard asks for certainty by bootstrap. Accuracy counts the few images that change sides and says little
at a few thousand; so where both fusions give likelihoods, the evidence is the gain in accuracy and that in
calibrated log likelihood (`likelihood.calibrated`), each in units of its own spread. A gain in accuracy must
be there in any case. Figures: docs/log.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.config import Method
from smelt.fusion.fitting.fits import Option
from smelt.fusion.fitting.method import simple, titled
from smelt.fusion.resample import LEAST, ahead


@dataclass(frozen=True)
class Setup:
    """An option of a method on the folds that are seen: hits (N,), accuracy, and log likelihoods (n,)."""

    option: Option
    hits_N: NDArray[np.bool_]
    accuracy: float
    likely: NDArray[np.float64] | None


@dataclass(frozen=True)
class Choice:
    """What is chosen from some folds: the option of each method, and the method.

    accuracies, sure: of each method, by which it was chosen (too good to be reported). rival: the simple mean
    that fitted methods were compared with.
    """

    options: Mapping[Method, Option]
    method: Method
    rival: Method
    accuracies: Mapping[Method, float]
    sure: Mapping[Method, float]


def guarded(
    setups: Mapping[Method, Setup], drawn_SM2: NDArray[np.float64], plain: Method, sure: float
) -> Choice:
    """The guard: the plain average, unless something else is better with the certainty asked for.

    drawn: accuracy and log likelihood (NaN: none) of each method in the bootstrap samples, on the same
    draws. Another simple mean must be as certainly better than the plain one as fitted weights must be than
    the simple mean that is left then; of several that are, the one with the greatest evidence in common
    units is taken.
    """
    place = {method: index for index, method in enumerate(setups)}

    def over(method: Method, rival: Method) -> NDArray[np.float64]:
        return np.asarray(drawn_SM2[:, place[method]] - drawn_SM2[:, place[rival]])

    def best(methods: Sequence[Method], rival: Method) -> Method:
        good = [m for m in methods if setups[m].accuracy > setups[rival].accuracy + LEAST
                and certainty(over(m, rival)) >= sure]  # fmt: skip
        if not good:
            return rival
        worth = evidence(np.stack([over(m, rival) for m in good]))
        return good[int(np.argmax(worth))]

    means = [m for m in setups if simple(m) and m != plain]
    fitted = [m for m in setups if not simple(m) and m != plain]
    rival = best(means, plain)
    return Choice(
        {m: setup.option for m, setup in setups.items()},
        best(fitted, rival),
        rival,
        {m: setup.accuracy for m, setup in setups.items()},
        {m: certainty(over(m, rival if m in fitted else plain)) for m in setups},
    )


def certainty(differences_S2: NDArray[np.float64]) -> float:
    """Share of bootstrap samples in which one fusion is better than another.

    differences: of accuracy and of log likelihood (NaN: none). Together each counts in units of its spread.
    """
    accuracy, likelihood = differences_S2.T
    spreads = accuracy.std(), likelihood.std()
    if np.isnan(likelihood).any() or min(spreads) <= LEAST:
        return ahead(accuracy)
    return ahead(accuracy / spreads[0] + likelihood / spreads[1])


def evidence(differences_GS2: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much better each of G fusions is, (G,): mean gains in units that are the same for all of them.

    Not in units of each one's own spread: hardly to differ from the rival is sure, and gains hardly anything.
    """
    mean_G2, spread_2 = differences_GS2.mean(axis=1), np.nan_to_num(differences_GS2.std(axis=1)).max(axis=0)
    units_G2 = mean_G2 / np.maximum(spread_2, LEAST)
    worth = np.where(np.isnan(units_G2[:, 1]), 2 * units_G2[:, 0], units_G2.sum(axis=1))
    return np.asarray(worth, np.float64)


def in_words(choice: Choice, asked: float, plain: Method, gain: float, interval: tuple[float, float]) -> str:
    """What is used and why."""
    used, rival = choice.method, titled(choice.rival)
    whole = (
        f"the whole of this choice, judged on images that had no part in it, gains {100 * gain:+.2f} points "
        f"over the plain average (95 %: {100 * interval[0]:+.2f} … {100 * interval[1]:+.2f})"
    )
    if not simple(used) and used != choice.rival:
        sure = f"{choice.sure[used]:.0%} certainty (accuracy and likelihood together)"
        return f"{titled(used)} is used: it is better than {rival} with {sure}; {whole}"
    if used != plain:
        return (
            f"{titled(used)} is used: it is better than the plain average ({titled(plain)}) with "
            f"{choice.sure[used]:.0%} certainty (accuracy and likelihood together); {whole}"
        )
    words = f"the plain average ({titled(plain)}) is used"
    tried = [method for method in choice.accuracies if method != plain]
    if not tried:
        return f"{words}: nothing else was tried"
    best = max(tried, key=lambda method: choice.accuracies[method])
    ahead_by = choice.accuracies[best] - choice.accuracies[plain]
    if ahead_by <= LEAST:
        return f"{words}: nothing beats it on held-out images ({titled(best)}: {100 * ahead_by:+.2f} points)"
    return (
        f"{words}: {titled(best)} gains {100 * ahead_by:+.2f} points on held-out images, but is better with "
        f"only {choice.sure[best]:.0%} certainty, {asked:.0%} are asked for"
    )
