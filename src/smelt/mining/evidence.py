"""What is wrong whatever a model says: bad files, leaks, copies, one picture under several labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.mining.config import SelectSettings
from smelt.mining.draft import Bools, Draft, Floats, Ints


def _no_rows() -> Ints:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Evidence:
    """What check and dedupe found, by catalogue row of any split.

    bad: reason → rows that cannot be read. damaged: rows whose pixels cannot all be right. copies: columns of
    the rows that have copies: `row`, `group` (equal for copies of one picture), `keep` (the one of its group
    that stays), `cross_label` (its group has several labels), `leak` (a copy of it is to be tested on).
    """

    bad: Mapping[str, Ints] = field(default_factory=dict)
    damaged: Ints = field(default_factory=_no_rows)
    copies: Mapping[str, NDArray[Any]] | None = None


def drop_evidence(draft: Draft, found: Evidence, settings: SelectSettings, cleanness_N: Floats) -> None:
    """Drop from the draft what was found, as far as `settings` ask for it."""
    for reason, rows in sorted(found.bad.items()):
        draft.drop(draft.mask_of(rows), f"bad:{reason}")
    if settings.damaged == "drop":
        draft.drop(draft.mask_of(found.damaged), "damaged")
    if (copies := found.copies) is None:
        return
    rows, several = copies["row"], copies["cross_label"]
    if settings.leaks == "drop":
        draft.drop(draft.mask_of(rows[copies["leak"]]), "leak")
    if settings.cross_label != "keep":  # at most one of the labels is right
        gone, groups = rows[several], copies["group"][several]
        if settings.cross_label == "cleanest":
            gone = gone[~cleanest_of_groups(draft, gone, groups, cleanness_N)]
        draft.drop(draft.mask_of(gone), "cross_label")
    if settings.duplicates == "drop":
        draft.drop(draft.mask_of(rows[~copies["keep"] & ~several]), "duplicate")


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
