"""Selections: which rows a round learns from, at what weight, and why. Arrays in, arrays out.

A `Draft` starts with every row kept. What is wrong whatever a model says (bad files, leaks, duplicates) is
dropped first; a method then flags among the rows that are left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.tables import Selection
from smelt.errors import DataError
from smelt.mining.config import DownWeightSettings

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

THRESHOLD_SAMPLE = "threshold_sample"
DOWN_WEIGHTED = "down_weighted"
OTHER_CLASS = "other_class"
# What to do where nothing is left, by the reason of most rows. N: the place of the round, from 0
MENDS = {
    "unlabelled": "smelt index says where labels were looked for",
    "bad": "These files cannot be read: bad_files.csv of the stage check lists them",
    "damaged": "damaged_files.csv of the stage check lists them; -o rounds.N.select.damaged=keep takes them",
    "leak": "They are copies of images of validation or test: other images there, or "
    "-o rounds.N.select.leaks=keep (accuracy is too good then)",
    "duplicate": "-o rounds.N.select.duplicates=keep keeps copies",
    "cross_label": "Each is a copy of an image under another label (duplicates.parquet of the stage dedupe). "
    "Where they are none: a smaller -o dedupe.max_distance=…, or -o dedupe=null; "
    "-o rounds.N.select.cross_label=keep learns from them all the same",
}
FLAGGED = "A smaller -o rounds.N.select.fraction=…, or -o rounds.N.select.minimum_per_class=… keeps more"


class Draft:
    """A selection in the making: rows (N,) ascending with labels (N,) of `num_classes` classes."""

    def __init__(self, rows_N: Ints, labels_N: NDArray[np.int32], num_classes: int) -> None:
        self.rows = rows_N
        self.labels = labels_N.copy()
        self.weights = np.ones(len(rows_N), np.float32)
        self.kept = np.ones(len(rows_N), bool)
        self.reasons = np.zeros(len(rows_N), np.int32)
        self.words = [""]
        self.num_classes = num_classes

    def drop(self, mask_N: Bools, word: str) -> None:
        """Drop those rows of the mask that are still kept, and say why."""
        mask = mask_N & self.kept
        self._mark(mask, word)
        self.kept[mask] = False
        self.weights[mask] = 0

    def weigh(self, mask_N: Bools, weight: float, word: str) -> None:
        """Learn from those rows of the mask that are still kept with this weight; 0 drops them."""
        if weight == 0:
            self.drop(mask_N, word)
            return
        mask = mask_N & self.kept
        self._mark(mask, word)
        self.weights[mask] = weight

    def relabel(self, mask_N: Bools, label: int, word: str) -> None:
        """Teach the rows of the mask under another label."""
        self._mark(mask_N, word)
        self.labels[mask_N] = label
        self.num_classes = max(self.num_classes, label + 1)

    def _mark(self, mask_N: Bools, word: str) -> None:
        if mask_N.any():
            if word not in self.words:
                self.words.append(word)
            self.reasons[mask_N] = self.words.index(word)

    def mask_of(self, rows: Ints) -> Bools:
        """Which of the draft's rows are among these catalogue rows."""
        return np.isin(self.rows, rows)

    def selection(self) -> Selection:
        """The finished selection. Raises DataError if nothing is left to learn from."""
        if not self.kept.any():
            raise DataError(
                f"the selection keeps none of {len(self.rows)} rows: {self._counts()}{self._mend()}"
            )
        return Selection(
            self.rows, self.labels, self.weights, self.kept, self.reasons, tuple(self.words), self.num_classes
        )

    def _mend(self) -> str:
        """What keeps rows that were dropped for the most frequent reason."""
        counts = np.bincount(self.reasons, minlength=len(self.words))
        if not counts[1:].any():
            return ""
        word = self.words[int(counts[1:].argmax()) + 1]
        return f". {MENDS.get(word.partition(':')[0], FLAGGED)}"

    def _counts(self) -> str:
        counts = np.bincount(self.reasons, minlength=len(self.words))
        return ", ".join(f"{count} {word or 'kept'}" for word, count in zip(self.words, counts) if count)


def follow(draft: Draft, previous: Selection, judged_N: Bools, revive: bool) -> None:
    """Keep what an earlier round dropped out of this one, with its reason.

    With `revive` rows that the earlier round flagged (reason `low_…`) are free again where `judged_N` says
    that there is a score to judge them by now.
    """
    if not np.array_equal(previous.rows, draft.rows):
        raise DataError("the earlier selection is of other rows than the catalogue's training split")
    for code, word in enumerate(previous.words):
        mask = (previous.reasons == code) & ~previous.kept
        if revive and word.startswith("low_"):
            mask &= ~judged_N
        draft.drop(mask, word)


def lowest(
    cleanness_N: Floats, among_N: Bools, fraction: float, groups_N: NDArray[np.int32] | None = None
) -> Bools:
    """The least clean `fraction` (rounded down) of the rows `among_N` that have a score, of all or of each
    group. Of equal scores the earlier row goes first."""
    places = np.flatnonzero(among_N & ~np.isnan(cleanness_N))
    groups = np.zeros(len(places), np.int32) if groups_N is None else groups_N[places]
    order = np.lexsort((places, cleanness_N[places], groups))
    sizes = np.bincount(groups, minlength=1)
    position = np.arange(len(places)) - (np.cumsum(sizes) - sizes)[groups[order]]
    # the small term keeps 0.2 · 35 at 7
    limit = np.floor(fraction * sizes + 1e-9)[groups[order]]
    mask = np.zeros(len(cleanness_N), bool)
    mask[places[order[position < limit]]] = True
    return mask


def spare(
    flagged_N: Bools, kept_N: Bools, cleanness_N: Floats, labels_N: NDArray[np.int32], minimum: int
) -> Bools:
    """`flagged_N` without the cleanest flagged rows of each class that would keep fewer than `minimum`."""
    if minimum == 0 or not flagged_N.any():
        return flagged_N
    num_classes = int(labels_N.max()) + 1
    left = np.bincount(labels_N[kept_N & ~flagged_N], minlength=num_classes)
    places = np.flatnonzero(flagged_N)
    order = places[np.lexsort((places, -cleanness_N[places], labels_N[places]))]
    sizes = np.bincount(labels_N[order], minlength=num_classes)
    position = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[labels_N[order]]
    spared = flagged_N.copy()
    spared[order[position < (minimum - left)[labels_N[order]]]] = False
    return spared


def down_weight(draft: Draft, cleanness_N: Floats, band: DownWeightSettings) -> None:
    """Give the rows whose rank lies in the band its weight; ranks go over all rows with a score, from the
    cleanest (the 2020 winners' trial: ranks 70–90 %). Rows that are marked already keep what they have."""
    scored = ~np.isnan(cleanness_N)
    above = lowest(cleanness_N, scored, 1 - band.start) & ~lowest(cleanness_N, scored, 1 - band.stop)
    draft.weigh(above & (draft.reasons == 0), band.weight, DOWN_WEIGHTED)


def threshold_rows(rows: Ints, num_classes: int, seed: int) -> tuple[Ints, Ints]:
    """Two disjoint random sets of N/(C + 1) of the N rows each, ascending (Pleiss et al. 2020, section 4).

    Raises DataError when there are too few rows.
    """
    size = len(rows) // (num_classes + 1)
    if size < 1:
        raise DataError(
            f"threshold samples need more rows than classes: {len(rows)} rows, {num_classes} classes"
        )
    shuffled = np.random.default_rng([seed, 0xA0A0]).permutation(np.sort(rows))
    return np.sort(shuffled[:size]), np.sort(shuffled[size : 2 * size])


def below_threshold(
    aum_RN: Sequence[Floats], samples_RN: Sequence[Bools], percentile: float, agreement: str
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


def worst_classes(accuracy_C: Floats, count: int) -> Ints:
    """The `count` classes with the lowest accuracy, ascending; classes without images (NaN) are not among
    them. Of equals the lower class."""
    order = np.argsort(accuracy_C, kind="stable")
    order = order[~np.isnan(accuracy_C[order])]
    return np.sort(order[:count])


def cleanest_of_groups(draft: Draft, rows: Ints, groups: Ints, cleanness_N: Floats) -> Bools:
    """Which of the catalogue rows `rows` (any split) is the cleanest kept training row of its group.

    Of equals the earlier row; none where no row of the group has a score.
    """
    place = np.searchsorted(draft.rows, rows).clip(max=len(draft.rows) - 1)
    usable = (draft.rows[place] == rows) & draft.kept[place] & ~np.isnan(cleanness_N[place])
    candidates = np.flatnonzero(usable)
    order = candidates[np.lexsort((rows[usable], -cleanness_N[place[usable]], groups[usable]))]
    best = np.zeros(len(rows), bool)
    best[order[np.r_[True, groups[order][1:] != groups[order][:-1]]] if len(order) else order] = True
    return best
