"""What verdicts on a random sample say of a split: shares, cuts, selections, accuracy, as plain figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.ranking import Ranking
from smelt.artifacts.selection import Selection, for_its_score
from smelt.artifacts.verdicts import OUTSIDE, RIGHT, UNSURE, WRONG
from smelt.mining.calibration import Calibration, calibrate
from smelt.mining.cuts import Cut, Expected
from smelt.mining.diagnosis import auroc
from smelt.mining.intervals import auroc_interval
from smelt.mining.rates import Share, difference_share, sampled_share
from smelt.mining.rightlabels import NO_CLASS, NOT_SAID, corrected

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)  # of the rows, that the table of cuts leaves out
TRADE = re.compile(r"(?i)f(\d*\.?\d+)|(precision|recall)=(\d*\.?\d+)|costs=(\d*\.?\d+):(\d*\.?\d+)")


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on places (n,) of the N rows of a split, in the random order.

    words: (n,) one of the four. right: (n,) the right class where it was said, else `NOT_SAID`.
    """

    places: Ints
    words: Sequence[str]
    right: Ints

    @property
    def sure(self) -> Bools:
        """(n,) those that are not unsure."""
        return np.array([word != UNSURE for word in self.words], bool)

    @property
    def wrong(self) -> Bools:
        """(n,) labels that are wrong, those of images of no class among them."""
        return np.array([word in (WRONG, OUTSIDE) for word in self.words], bool)


def shares(verdicts: Verdicts, rows: int, calibration: Calibration | None) -> dict[str, Any]:
    """How many labels are wrong: counts of verdicts, the sample's own share, and one that goes by scores too
    where it is narrower.

    `share` is the one to believe, `by` says which it is; `if_unsure`: the lowest and the highest end if all
    unsure ones are right, and if all are wrong.
    """
    sure, wrong = verdicts.sure, verdicts.wrong
    sampled = sampled_share(wrong[sure], rows)
    sharper: Share | None = None
    if calibration is not None:
        sharper = difference_share(calibration.mean_out, calibration.out_n, wrong[sure], rows)
    if sharper and sharper.high - sharper.low >= sampled.high - sampled.low:
        sharper = None  # most rows were judged, or scores say nothing
    ends = [sampled_share(np.where(sure, wrong, answer), rows) for answer in (False, True)]
    return {
        "counts": {word: list(verdicts.words).count(word) for word in (RIGHT, WRONG, OUTSIDE, UNSURE)},
        "sampled": sampled.figures(),
        "sharper": sharper.figures() if sharper else None,
        "share": (sharper or sampled).figures(),
        "by": f"the verdicts and {calibration.chosen}" if sharper and calibration else "the verdicts alone",
        "if_unsure": [round(ends[0].low, 6), round(ends[1].high, 6)],
    }


def scores_of(ranking: Ranking, rows_N: Ints, score: str = "") -> dict[str, Floats]:
    """Scores of catalogue rows by name, the one that selections go by first (of what `score` says); NaN where
    there is none."""
    places = np.minimum(np.searchsorted(ranking.rows, rows_N), max(len(ranking.rows) - 1, 0))
    there = ranking.rows[places] == rows_N if len(ranking.rows) else np.zeros(len(rows_N), bool)
    columns = {f"cleanness ({score})" if score else "cleanness": ranking.cleanness, **ranking.scores}
    found = {name: np.where(there, values[places], np.nan) for name, values in columns.items()}
    return {name: values for name, values in found.items() if not np.isnan(values).all()}


def calibrated(scores: Mapping[str, Floats], verdicts: Verdicts) -> Calibration | None:
    """The calibration by verdicts that are sure; None without any, or without a score."""
    sure = verdicts.sure
    if not scores or not sure.any():
        return None
    return calibrate(scores, verdicts.places[sure], verdicts.wrong[sure])


def cuts(calibration: Calibration, verdicts: Verdicts, trade: str) -> dict[str, Any]:
    """What every cut is expected to do, and the one that `trade` asks for (see `cut_for`)."""
    expected = Expected(calibration)
    sure = verdicts.sure
    own = calibration.score_N[verdicts.places[sure]]
    wrong = verdicts.wrong[sure]
    found: dict[str, Any] = {
        "score": calibration.chosen,
        "likelihoods": {name: round(value, 6) for name, value in calibration.likelihoods.items()},
        "orders": calibration.orders,
        "sure": round(calibration.sure, 6),
        "scored": calibration.scored,
        "expected_wrong": round(float(calibration.p_wrong_N.sum()), 1),
        "auroc": _number(auroc(own, wrong)),
        "auroc_interval": [_number(value) for value in auroc_interval(own, wrong)],
        "cuts": [described(cut) for cut in expected.table(SHARES)],
        "trade": trade,
        "best": None,
    }
    if calibration.orders:
        cut = expected.at(cut_for(expected, trade))
        found["best"] = {
            **described(cut),
            "f1": round(cut.f(), 6),
            "threshold": _number(_threshold(calibration, cut.dropped)),
        }
    return found


def cut_for(expected: Expected, trade: str) -> int:
    """How many rows to leave out: `f1` (`f0.5`, `f2`: recall weighs less, or more), `precision=0.9` the most
    that are expected to be so precise, `recall=0.8` the fewest that find so much, `costs=LOST:KEPT` the
    cheapest where a right label lost and a wrong one kept cost so much. ValueError for other words."""
    found = TRADE.fullmatch(trade.replace(" ", ""))
    if not found:
        raise ValueError(f"{trade!r} is none of f1, f0.5, precision=0.9, recall=0.8, costs=1:3")
    beta, name, value, lost, kept = found.groups()
    if beta:
        return expected.best(float(beta))
    if lost:
        return expected.with_costs(float(lost), float(kept))
    if float(value) > 1:
        raise ValueError(f"{trade}: a share is between 0 and 1")
    return (
        expected.with_precision(float(value)) if name == "precision" else expected.with_recall(float(value))
    )


def described(cut: Cut) -> dict[str, Any]:
    """A cut for JSON."""
    found = {name: value for name, value in asdict(cut).items() if name != "rows"}
    rounded = {
        name: [round(end, 6) for end in value] if isinstance(value, tuple) else round(value, 6)
        for name, value in found.items()
    }
    return {"share": round(cut.share, 6), **rounded}


def _threshold(calibration: Calibration, dropped: int) -> float:
    """The probability of the last row that is left out."""
    return float(calibration.p_wrong_N[calibration.order_N[dropped - 1]]) if dropped else float("nan")


def selected(
    selection: Selection, rows_N: Ints, verdicts: Verdicts, calibration: Calibration | None
) -> dict[str, Any]:
    """What a selection left out for its score (`for_its_score`), by the verdicts and as is to be expected."""
    low = np.array([for_its_score(word) for word in selection.words])[selection.reasons]
    dropped_N = np.isin(rows_N, selection.rows[low & ~selection.kept])
    mine = dropped_N[verdicts.places] & verdicts.sure
    found: dict[str, Any] = {
        "dropped": int(dropped_N.sum()),
        "judged": int(mine.sum()),
        "judged_wrong": int((mine & verdicts.wrong).sum()),
        "sampled": sampled_share(verdicts.wrong[mine]).figures() if mine.any() else None,
    }
    if calibration is not None and calibration.orders and dropped_N.any():
        found["expected"] = described(Expected(calibration).of_rows(dropped_N))
    return found


def accuracy(lists_NK: NDArray[Any], labels_N: NDArray[Any], verdicts: Verdicts) -> dict[str, Any] | None:
    """Accuracy of the first classes of lists (N, K) as measured, and under right labels; None without any."""
    sure = verdicts.sure
    places = verdicts.places[sure]
    right = np.where(verdicts.wrong[sure], verdicts.right[sure], labels_N[places])
    outside = np.array([word == OUTSIDE for word in verdicts.words], bool)[sure]
    right = np.where(outside, NO_CLASS, right)
    found = corrected(lists_NK[:, 0], labels_N, places, right)
    if found is None:
        return None
    return {**found.figures(), "outside": int(outside.sum()), "not_said": int((right == NOT_SAID).sum())}


def place_in_list(lists_NK: NDArray[Any], labels_N: NDArray[Any]) -> Floats:
    """A score of held-out labels, higher is cleaner: minus the place of the label in a list, (N,)."""
    hits = lists_NK == labels_N[:, None]
    place = np.where(hits.any(axis=1), hits.argmax(axis=1), lists_NK.shape[1])
    return np.asarray(-place, np.float64)


def _number(value: float) -> float | None:
    return None if value != value else round(float(value), 6)
