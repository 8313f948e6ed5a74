"""As large a share is flagged as trainings say is wrong, or a safe one where they cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smelt.mining.estimate import unexplained
from smelt.mining.selections.lowest_fraction import lowest

if TYPE_CHECKING:
    from smelt.mining.draft import Draft, Known

NEEDS = ("ranking", "results", "selection")
READS = ("fraction", "within", "maximum_rate")


def safe_rate(fraction: float, negative: float, low: float = 0.0, high: float = 1.0) -> float:
    """The share to flag where no rate is known: the least of `fraction` and of the share of negative AUMs
    beyond the models' error, within what is possible."""
    return min(max(min(fraction, negative), low), high)


def select(
    draft: Draft, known: Known, *, fraction: float, within: str, maximum_rate: float
) -> dict[str, Any]:
    """Flag the estimated share of the rows that are left, of all or within each class."""
    cleanness, noise = known.cleanness("noise_rate"), known.noise
    accuracy = known.accuracy(1)
    error = None if accuracy is None else 1 - float(np.nanmean(accuracy))
    told, words = noise.get("rate"), str(noise.get("words") or "no estimate in the ranking")
    if told is None:
        assert known.ranking is not None
        aum = known.ranking.scores.get("aum", cleanness)[draft.kept]
        negative = float(np.nan_to_num(unexplained(aum, error or 0.0)))
        told = safe_rate(fraction, negative, noise.get("low", 0.0), noise.get("high", 1.0))
    rate = min(float(told), maximum_rate)
    if noise.get("rate") is None:
        known.warn(
            f"noise_rate: {words}; flags {rate:.3f} of the rows instead: the least of `fraction` "
            f"({fraction:g}) and of the share of negative AUMs beyond validation's error, within what is "
            "possible"
        )
    draft.flag(lowest(cleanness, draft.kept, rate, draft.groups(within)), cleanness)
    return {
        "noise": words,
        "supported": noise.get("rate") is not None,
        "validation_error": None if error is None else round(error, 6),
        "rate": round(rate, 6),
    }
