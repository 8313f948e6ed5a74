"""Row by row, by how likely its label is wrong: keep, count for less, drop, teach softly or relabel.

Where a wrong label is dropped nothing false is learnt in its place; a new label may be. So it is taught only
where it is known to be right often enough: relabelling pays with few classes and many wrong labels, and harms
with many classes (docs/log.md). Of rows that would be given a new label, its share that is right is

- counted on an audit's verdicts with a right class, a label that was right after all counting against it; or
- the accuracy of the features on validation whose labels are right, times the mean probability that those
rows' labels are wrong;

and what decides is the lower end of its interval of 95 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.softlabels import SoftLabels
from smelt.artifacts.verdicts import OUTSIDE, RIGHT, WRONG
from smelt.mining.intervals import wilson
from smelt.mining.rightlabels import NOT_SAID
from smelt.mining.selections.lowest_fraction import lowest

if TYPE_CHECKING:
    from smelt.mining.draft import Draft, Known

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

NEEDS = ("ranking", "selection")
READS = ("above", "down_weight_from", "teach", "new_label_right", "fraction", "within")
MINIMUM_SHARE = 0.2  # of each class that stays, unless said otherwise: a class is never given up
SHARPER = (
    2.0  # power of the features' probabilities before they are taught; 1 to 5 differ little (docs/log.md)
)
DOUBT = 0.05  # probability of a wrong label from which on a row is taught softly
NO_WEIGHT = 0.01  # of a row at least, else it is dropped: a weight of 0 is no weight

LIKELY_WRONG, SHOWS_NONE, DOWN, SOFT, RELABELLED = (
    "likely_wrong", "outside", "in_doubt", "taught_softly", "relabelled",
)  # fmt: skip


@dataclass(frozen=True)
class Others:
    """What rows (N,) are of, if not of their label: classes_NK, −1 where unknown, and shares_NK, which add up
    to 1; 0 in rows of which nothing is known."""

    classes: NDArray[np.int32]
    shares: Floats

    @property
    def known(self) -> Bools:
        """(N,)"""
        return np.asarray(self.shares.sum(axis=1) > 0)


def others_of(rows_N: NDArray[np.int64], labels_N: NDArray[np.int32], likely: SoftLabels) -> Others:
    """The likeliest classes without the label, sharpened; the likeliest first."""
    classes, shares = likely.of(rows_N)
    shares = np.where((classes >= 0) & (classes != labels_N[:, None]), shares, 0.0).astype(np.float64)
    largest = shares.max(axis=1, keepdims=True, initial=0.0)
    powers = np.where(shares > 0, (shares / np.where(largest > 0, largest, 1)) ** SHARPER, 0.0)
    total = powers.sum(axis=1, keepdims=True)
    powers /= np.where(total > 0, total, 1)
    order = np.argsort(-powers, axis=1, kind="stable")
    classes = np.take_along_axis(np.where(powers > 0, classes, -1), order, axis=1)
    return Others(classes, np.take_along_axis(powers, order, axis=1))


def select(
    draft: Draft,
    known: Known,
    *,
    above: float,
    down_weight_from: float | None,
    teach: str,
    new_label_right: float,
    fraction: float,
    within: str,
) -> dict[str, Any]:
    """Decide about every row that is left, and say by what."""
    p_wrong = chances(draft, known)
    if p_wrong is None:
        cleanness = known.cleanness("likely_wrong")
        draft.flag(lowest(cleanness, draft.kept, fraction, draft.groups(within)), cleanness)
        why = "without features nothing tells how likely each label is wrong: the least clean are flagged"
        return {"by": "ranking", "fraction": fraction, "words": why}
    flagged = draft.kept & (np.nan_to_num(p_wrong) > above)
    outside = flagged & _outside(draft, known)
    found: dict[str, Any] = {
        "by": "features" if known.p_wrong is None else "audit", "above": above,
        "flagged": int(flagged.sum()), "expected_wrong": round(float(np.nansum(p_wrong[flagged])), 1),
    }  # fmt: skip
    taught = np.zeros(len(flagged), bool)
    if teach != "labels":
        taught, found["new_labels"] = _teach(draft, known, p_wrong, flagged, outside, teach, new_label_right)
    spared = draft.spared(flagged & ~taught, -np.where(np.isnan(p_wrong), 0.5, p_wrong))
    if down_weight_from is not None:
        doubt = draft.kept & ~taught & ~spared & (np.nan_to_num(p_wrong) >= down_weight_from)
        doubt &= draft.reasons == 0
        draft.weigh(doubt & (1 - p_wrong < 1), np.maximum(1 - p_wrong, NO_WEIGHT), DOWN)
    draft.weigh(spared & outside, draft.flagged_weight, SHOWS_NONE)
    draft.weigh(spared & ~outside, draft.flagged_weight, LIKELY_WRONG)
    return found


def chances(draft: Draft, known: Known) -> Floats | None:
    """How likely each label is wrong, (N,), NaN where nothing tells: by an audit, else by features; None
    without either."""
    if known.p_wrong is not None:
        return known.p_wrong
    if known.kinds is None or np.isnan(known.kinds.p_wrong).all():
        return None
    return known.kinds.p_wrong


def _outside(draft: Draft, known: Known) -> Bools:
    """Rows that, if wrong, show none of the classes rather than another one."""
    if known.kinds is None:
        return np.zeros(len(draft.rows), bool)
    return np.nan_to_num(known.kinds.p_outside) > 0.5


def _teach(
    draft: Draft, known: Known, p_wrong: Floats, flagged: Bools, outside: Bools, teach: str, least: float
) -> tuple[Bools, dict[str, Any]]:
    """(rows that are taught something else, what is known of their new labels)."""
    nobody = np.zeros(len(flagged), bool)
    if known.likely is None:
        return nobody, {"taught": 0, "words": "no features say what else a row is: no new label is taught"}
    doubtful = np.flatnonzero(draft.kept & (flagged | (np.nan_to_num(p_wrong) >= DOUBT)))
    others = others_of(draft.rows[doubtful], draft.labels[doubtful], known.likely)
    new = np.full(len(flagged), -1, np.int32)  # the likeliest other class, where it is known
    new[doubtful[others.known]] = others.classes[others.known, 0]
    wanted = flagged & ~outside & (new >= 0)
    if teach == "relabel":
        sure = np.zeros(len(flagged))
        sure[doubtful] = p_wrong[doubtful] * others.shares[:, 0]
        wanted &= sure >= least
    said = new_labels_right(known, wanted, p_wrong, new)
    said["least"] = least
    if said["low"] is None or said["low"] < least:
        said["taught"] = 0
        said["words"] += ": no new label is taught"
        return nobody, said
    if teach == "relabel":
        draft.relabel(wanted, new, RELABELLED)
    else:
        taught = others.known & ~(flagged & ~wanted)[doubtful] & (draft.reasons[doubtful] == 0)
        taught &= p_wrong[doubtful] >= DOUBT
        rows, chances_ = doubtful[taught], p_wrong[doubtful[taught], None]
        shares = (chances_ * others.shares[taught]).astype(np.float32)
        draft.soft = SoftLabels(draft.rows[rows], others.classes[taught], shares)
        draft.weigh(wanted, 1.0, SOFT)
        wanted[rows] = True
    return wanted, said | {"taught": int(wanted.sum())}


def new_labels_right(known: Known, wanted: Bools, p_wrong: Floats, new: NDArray[np.int32]) -> dict[str, Any]:
    """`right`, `low` (of an interval of 95 %), `images`, `by` and `words`: how often the new labels of the
    rows of `wanted` (N,) are right; None where nothing tells."""
    found: dict[str, Any] = {"rows": int(wanted.sum()), "right": None, "low": None, "images": 0, "by": ""}
    if not wanted.any():
        return found | {"words": "no row is to be given a new label"}
    judged = _judged(known, wanted, new)
    images = int(known.noise.get("validation_images") or 0)
    if judged is not None:
        found |= {"by": "audit", "right": float(judged.mean()), "images": len(judged)}
        found["low"] = float(wilson(found["right"], len(judged))[0])
    elif images:
        accuracy = 1 - int(known.noise.get("validation_errors", images)) / images
        wrong = float(np.nanmean(p_wrong[wanted]))
        found |= {"by": "validation", "right": wrong * accuracy, "images": images}
        found["low"] = wrong * float(wilson(accuracy, images)[0])
    else:
        return found | {
            "words": "neither an audit nor checked validation tells how many new labels are right"
        }
    found |= {name: round(found[name], 6) for name in ("right", "low")}
    words = f"of {found['rows']} new labels about {found['right']:.2f} are right, {found['low']:.2f} at least"
    return found | {"words": f"{words} (by {found['images']} images of the {found['by']})"}


def _judged(known: Known, wanted: Bools, new: NDArray[np.int32]) -> Bools | None:
    """Of the rows of `wanted` that were judged, and of which the right class is known, whether the new label
    is right; None where there is none."""
    if known.verdicts is None:
        return None
    words, places = np.asarray(known.verdicts.words), known.verdicts.places
    told = np.isin(words, (RIGHT, OUTSIDE)) | ((words == WRONG) & (known.verdicts.right != NOT_SAID))
    told &= wanted[places]
    if not told.any():
        return None
    right: Bools = ((words == WRONG) & (known.verdicts.right == new[places]))[told]
    return right
