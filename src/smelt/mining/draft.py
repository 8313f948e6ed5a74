"""A selection in the making, with a reason for whatever is done to a row, and what it may go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.ranking import Ranking
from smelt.artifacts.row_kinds import RowKinds
from smelt.artifacts.selection import Selection, for_its_score
from smelt.artifacts.softlabels import SoftLabels
from smelt.errors import DataError, RecipeError
from smelt.mining.audited import Verdicts

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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
    """Rows (N,) ascending with labels (N,) of `num_classes` classes, all kept at first.

    score: what flagged rows are said to be low in. flagged_weight: their weight, 0 drops them.
    minimum_per_class: rows that flagging leaves to every class, if it has them; minimum_share: share of its
    rows at the time.
    """

    def __init__(
        self,
        rows_N: Ints,
        labels_N: NDArray[np.int32],
        num_classes: int,
        *,
        score: str = "aum",
        flagged_weight: float = 0.0,
        minimum_per_class: int = 0,
        minimum_share: float = 0.0,
    ) -> None:
        self.rows = rows_N
        self.labels = labels_N.copy()
        self.weights = np.ones(len(rows_N), np.float32)
        self.kept = np.ones(len(rows_N), bool)
        self.reasons = np.zeros(len(rows_N), np.int32)
        self.words = [""]
        self.num_classes = num_classes
        self.score, self.flagged_weight = score, flagged_weight
        self.minimum, self.minimum_share = minimum_per_class, minimum_share
        self.soft: SoftLabels | None = None

    def drop(self, mask_N: Bools, word: str) -> None:
        """Drop those rows of the mask that are still kept, and say why."""
        mask = mask_N & self.kept
        self._mark(mask, word)
        self.kept[mask] = False
        self.weights[mask] = 0

    def weigh(self, mask_N: Bools, weight: float | Floats, word: str) -> None:
        """Learn from those rows of the mask that are still kept with this weight, or each with its own of
        (N,); 0 for all drops them."""
        if np.ndim(weight) == 0 and weight == 0:
            self.drop(mask_N, word)
            return
        mask = mask_N & self.kept
        self._mark(mask, word)
        self.weights[mask] = np.broadcast_to(weight, mask.shape)[mask]

    def flag(self, mask_N: Bools, cleanness_N: Floats) -> None:
        """Drop or weigh down the rows of the mask, as many as their classes can spare: the cleanest stay."""
        self.weigh(self.spared(mask_N, cleanness_N), self.flagged_weight, f"low_{self.score}")

    def spared(self, mask_N: Bools, cleanness_N: Floats) -> Bools:
        """As many rows of the mask as their classes can spare."""
        return spare(mask_N, self.kept, cleanness_N, self.labels, self.minimum, self.minimum_share)

    def relabel(self, mask_N: Bools, label: int | NDArray[np.int32], word: str) -> None:
        """Teach the rows of the mask under another label, or each under its own of (N,)."""
        if mask_N.any():
            self._mark(mask_N, word)
            self.labels[mask_N] = np.broadcast_to(label, mask_N.shape)[mask_N]
            self.num_classes = max(self.num_classes, int(self.labels.max()) + 1)

    def _mark(self, mask_N: Bools, word: str) -> None:
        if mask_N.any():
            if word not in self.words:
                self.words.append(word)
            self.reasons[mask_N] = self.words.index(word)

    def mask_of(self, rows: Ints) -> Bools:
        """Which of the draft's rows are among these catalogue rows."""
        return np.isin(self.rows, rows)

    def groups(self, within: str) -> NDArray[np.int32] | None:
        """What the setting `within` divides rows by: their labels, or nothing."""
        return self.labels if within == "class" else None

    def selection(self) -> Selection:
        """The finished selection. Raises DataError if nothing is left to learn from."""
        soft = self.soft
        if soft is not None:  # of what is left to learn from
            left = np.isin(soft.rows, self.rows[self.kept])
            soft = SoftLabels(soft.rows[left], soft.classes_NK[left], soft.shares_NK[left])
        made = Selection(
            self.rows, self.labels, self.weights, self.kept, self.reasons, tuple(self.words),
            self.num_classes, soft,
        )  # fmt: skip
        if not self.kept.any():
            counts = ", ".join(f"{count} {word}" for word, count in made.counts().items())
            raise DataError(f"the selection keeps none of {len(self.rows)} rows: {counts}{self._mend()}")
        return made

    def _mend(self) -> str:
        """What keeps rows that were dropped for the most frequent reason."""
        counts = np.bincount(self.reasons, minlength=len(self.words))
        if not counts[1:].any():
            return ""
        word = self.words[int(counts[1:].argmax()) + 1]
        return f". {MENDS.get(word.partition(':')[0], FLAGGED)}"


@dataclass(frozen=True)
class Known:
    """What a way of selecting may go by beside the labels; nothing of it has to be there.

    ranking: of the rows to select from; `score` names what it ranks by. kinds, likely: what features say is
    wrong with each row, and which classes it is likely of. p_wrong, verdicts: of an audit, how likely each
    label is wrong, NaN where it says nothing, and what people said, by place among the rows. noise: what the
    ranking tells of the share of wrong labels: `rate`, `low`, `high`, `words`, and of how many
    `validation_images` whose labels are right features get `validation_errors` wrong, as far as it does.
    accuracy: of each class on validation, (C,), by the k of top-k; NaN for a class without images. aum_RN,
    samples_RN: of R trainings with threshold samples the AUM of the rows, NaN where not seen, and which rows
    were samples.
    warn: told what a user should know.
    """

    ranking: Ranking | None = None
    score: str = "aum"
    kinds: RowKinds | None = None
    likely: SoftLabels | None = None
    p_wrong: Floats | None = None
    verdicts: Verdicts | None = None
    noise: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Callable[[int], Floats | None] = lambda k: None
    aum_RN: Sequence[Floats] = ()
    samples_RN: Sequence[Bools] = ()
    warn: Callable[[str], None] = lambda text: None

    def cleanness(self, what: str) -> Floats:
        """That of the ranking, (N,); RecipeError, saying what goes by it, if there is none."""
        if self.ranking is None:
            raise RecipeError(f"select: {what} goes by a ranking, and none is connected")
        return self.ranking.cleanness


def follow(draft: Draft, previous: Selection, judged_N: Bools, revive: bool) -> None:
    """Keep what an earlier round dropped out of this one, with its reason.

    With `revive` rows that the earlier round flagged (`for_its_score`) are free again where `judged_N` says
    that there is a score to judge them by now.
    """
    if not np.array_equal(previous.rows, draft.rows):
        raise DataError("the earlier selection is of other rows than the catalogue's training split")
    for code, word in enumerate(previous.words):
        mask = (previous.reasons == code) & ~previous.kept
        if revive and for_its_score(word):
            mask &= ~judged_N
        draft.drop(mask, word)


def spare(
    flagged_N: Bools, kept_N: Bools, cleanness_N: Floats, labels_N: NDArray[np.int32], minimum: int,
    share: float = 0.0,
) -> Bools:  # fmt: skip
    """`flagged_N` without the cleanest flagged rows of each class that would keep fewer than `minimum` or
    than this share of its kept rows."""
    if (minimum == 0 and share == 0) or not flagged_N.any():
        return flagged_N
    num_classes = int(labels_N.max()) + 1
    least = np.ceil(share * np.bincount(labels_N[kept_N], minlength=num_classes) - 1e-9).astype(np.int64)
    least = np.maximum(least, minimum)
    left = np.bincount(labels_N[kept_N & ~flagged_N], minlength=num_classes)
    places = np.flatnonzero(flagged_N)
    order = places[np.lexsort((places, -cleanness_N[places], labels_N[places]))]
    sizes = np.bincount(labels_N[order], minlength=num_classes)
    position = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[labels_N[order]]
    spared = flagged_N.copy()
    spared[order[position < (least - left)[labels_N[order]]]] = False
    return spared
