"""Rows are flagged whose AUM is no higher than that of samples under a made-up class.

Pleiss et al. 2020, section 4: a label that is surely wrong shows how low the AUM of wrong labels is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import DataError, RecipeError
from smelt.mining.scales import grouped_ranks

if TYPE_CHECKING:
    from smelt.mining.draft import Draft, Known

Bools = NDArray[np.bool_]

TOLD_APART = 0.75  # below it, samples under a made-up class are hardly told from the others

NEEDS = ("train", "threshold")
READS = ("percentile", "agreement")


def below_threshold(
    aum_RN: Sequence[NDArray[np.float64]], samples_RN: Sequence[Bools], percentile: float, agreement: str
) -> tuple[Bools, list[float]]:
    """(flagged (N,), threshold of each run): rows whose AUM is not above that run's threshold samples'.

    aum_RN: AUM in each of R runs, NaN where not seen. samples_RN: the threshold samples of each run; no run
    judges its own. agreement: `first`: the first run that judges a row decides; `any`, `all` of them.
    """
    thresholds, votes, judges = [], [], []
    for aum, sample in zip(aum_RN, samples_RN):
        known = aum[sample & ~np.isnan(aum)]
        if not len(known):
            raise DataError(
                "a training run recorded none of its threshold samples; does it fit its selection?"
            )
        thresholds.append(float(np.percentile(known, percentile)))
        judges.append(~np.isnan(aum) & ~sample)
        votes.append(judges[-1] & (np.nan_to_num(aum) <= thresholds[-1]))
    judged: Bools = np.array(judges)
    voted: Bools = np.array(votes)
    if agreement == "any":
        return np.asarray(voted.any(axis=0)), thresholds
    if agreement == "all":
        return voted.sum(axis=0) == np.maximum(judged.sum(axis=0), 1), thresholds
    first = judged.argmax(axis=0)
    return voted[first, np.arange(voted.shape[1])], thresholds


def told_apart(aum_N: NDArray[np.float64], sample_N: Bools) -> float:
    """Probability that a threshold sample has a lower AUM than another row, equals counting half; 1 where
    there are not both."""
    known = ~np.isnan(aum_N)
    samples, others = int((known & sample_N).sum()), int((known & ~sample_N).sum())
    if not samples or not others:
        return 1.0
    ranks = grouped_ranks(aum_N[known], np.zeros(samples + others, np.int32)) * (samples + others - 1)
    above = ranks[~sample_N[known]].sum() - others * (others - 1) / 2
    return float(above / (samples * others))


def select(draft: Draft, known: Known, *, percentile: float, agreement: str) -> dict[str, Any]:
    """Flag the rows that are left and no better than the threshold samples."""
    if not known.aum_RN or len(known.aum_RN) != len(known.samples_RN):
        raise RecipeError(
            f"select: threshold_samples needs the trainings (train: {len(known.aum_RN)}) and as many "
            f"selections that they were taught from (threshold: {len(known.samples_RN)})"
        )
    flagged, thresholds = below_threshold(known.aum_RN, known.samples_RN, percentile, agreement)
    mean = np.nanmean(np.array(known.aum_RN), axis=0) if known.ranking is None else known.ranking.cleanness
    draft.flag(flagged & draft.kept, mean)
    counts = [int((sample & ~np.isnan(aum)).sum()) for sample, aum in zip(known.samples_RN, known.aum_RN)]
    if (told := min(map(told_apart, known.aum_RN, known.samples_RN))) < TOLD_APART:
        known.warn(
            f"threshold_samples: of two images, one of them a threshold sample, training gave the sample the "
            f"lower AUM in {told:.0%} of the cases (half is chance): too short, or all is learnt by heart, "
            "so the threshold means little. More `epochs`, or `record_epochs` before the rate first drops"
        )
    if min(counts) * (100 - percentile) < 100:  # fewer than one sample lies above the threshold
        known.warn(
            f"threshold_samples: {min(counts)} samples are too few for a percentile of {percentile:g}: the "
            "threshold hangs on the largest of them"
        )
    return {"thresholds": thresholds, "threshold_samples": counts}
