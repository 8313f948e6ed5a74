"""The diagnosis of the noise: where it sits, what it is taken for, which classes cannot be learnt.

All but `against_truth` goes by what training saw alone. `against_truth` measures a ranking and a selection by
the hidden truth of a data set that has one; only `evaluate` calls it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.tables import Ranking, Selection
from smelt.mining.noise_rate import negative_share
from smelt.mining.rankings import grouped_ranks

if TYPE_CHECKING:
    from smelt.artifacts.catalogue import Catalogue

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
UNKNOWN_TRUTH = -2  # see artifacts.catalogue, which is heavier to import


def diagnose(
    models: Sequence[Dynamics], ranking: Ranking, labels_N: NDArray[np.int32], sources_N: Mapping[str, Any],
    num_classes: int, suspects_per_class: int,
) -> dict[str, Any]:  # fmt: skip
    """What `diagnosis.json` holds, for a ranking of N rows with labels (N,) by the models it was made from.

    sources_N: name of a source → mask (N,). Shares are of rows that have an AUM, of which `negative_share`
    is what the models would rather call something else; `pairs` counts those by (label, other class), summed
    over the models, the most frequent first.
    """
    aum = ranking.scores["aum"]
    doubted = [model.aum()[ranking.rows] < 0 for model in models]
    others = [model.other()[ranking.rows] for model in models]
    pairs = confusions(labels_N, doubted, others, num_classes)
    return {
        "rows": len(aum),
        "negative_share": _plain(negative_share(aum)),
        "sources": {name: _share(aum[mask]) for name, mask in sources_N.items()},
        "classes": _by_class(aum, labels_N, num_classes),
        "pairs": pairs[: 5 * num_classes],
        "abstract": abstract_classes(models, ranking.rows, labels_N, num_classes),
        "suspects": suspects(ranking, labels_N, others, suspects_per_class),
    }


def confusions(
    labels_N: NDArray[np.int32], doubted_MN: Sequence[NDArray[np.bool_]], others_MN: Sequence[Ints],
    num_classes: int,
) -> list[list[int]]:  # fmt: skip
    """[label, other class, rows] of the doubted rows, summed over models, the most frequent pair first."""
    codes = [
        labels_N[doubted].astype(np.int64) * num_classes + np.minimum(others[doubted], num_classes - 1)
        for doubted, others in zip(doubted_MN, others_MN)
    ]
    pairs, counts = np.unique(np.concatenate(codes), return_counts=True)
    order = np.lexsort((pairs, -counts))
    return [
        [int(p) // num_classes, int(p) % num_classes, int(c)] for p, c in zip(pairs[order], counts[order])
    ]


def abstract_classes(
    models: Sequence[Dynamics], rows_N: Ints, labels_N: NDArray[np.int32], num_classes: int
) -> list[int]:
    """Classes that no model learnt: the median AUM of their rows is negative in every model; the worst first.

    Noise alone rarely does that: more than half of a class would have to be wrong.
    """
    medians_MC = np.array([_medians(model.aum()[rows_N], labels_N, num_classes) for model in models])
    best_C = np.where(np.isnan(medians_MC).any(axis=0), np.inf, medians_MC.max(axis=0))
    return [int(c) for c in np.argsort(best_C, kind="stable") if best_C[c] < 0]


def suspects(
    ranking: Ranking, labels_N: NDArray[np.int32], others_MN: Sequence[Ints], per_class: int
) -> dict[str, list[Any]]:
    """The least clean rows of each class, least clean first: columns row, label, other, cleanness.

    other: the class that most models would rather call the row (of equals the lower), −1 if none saw it.
    """
    places = np.flatnonzero(~np.isnan(ranking.cleanness))
    order = places[np.lexsort((places, ranking.cleanness[places], labels_N[places]))]
    counts = np.bincount(labels_N[order])
    position = np.arange(len(order)) - (np.cumsum(counts) - counts)[labels_N[order]]
    chosen = order[position < per_class]
    votes_MN = np.array([others[chosen] for others in others_MN])
    return {
        "row": ranking.rows[chosen].tolist(),
        "label": labels_N[chosen].tolist(),
        "other": [_vote(votes) for votes in votes_MN.T],
        "cleanness": [round(float(value), 6) for value in ranking.cleanness[chosen]],
    }


def _vote(votes_M: Ints) -> int:
    cast = votes_M[votes_M >= 0]
    return int(np.bincount(cast).argmax()) if len(cast) else -1


def _by_class(aum_N: Floats, labels_N: NDArray[np.int32], num_classes: int) -> dict[str, list[Any]]:
    known = ~np.isnan(aum_N)
    rows = np.bincount(labels_N[known], minlength=num_classes)
    negative = np.bincount(labels_N[known & (aum_N < 0)], minlength=num_classes)
    share = np.divide(negative, rows, out=np.full(num_classes, np.nan), where=rows > 0)
    medians = _medians(aum_N, labels_N, num_classes)
    return {
        "rows": rows.tolist(),
        "negative_share": [_plain(value) for value in share],
        "median_aum": [_plain(value) for value in medians],
    }


def _medians(scores_N: Floats, labels_N: NDArray[np.int32], num_classes: int) -> Floats:
    """Median score of each class (C,); NaN for a class without scores."""
    places = np.flatnonzero(~np.isnan(scores_N))
    order = places[np.lexsort((scores_N[places], labels_N[places]))]
    counts = np.bincount(labels_N[order], minlength=num_classes)
    starts = np.cumsum(counts) - counts
    low, high = starts + (counts - 1) // 2, starts + counts // 2
    filled = counts > 0
    medians = np.full(num_classes, np.nan)
    medians[filled] = (scores_N[order[low[filled]]] + scores_N[order[high[filled]]]) / 2
    return medians


def _share(aum_N: Floats) -> dict[str, Any]:
    known = ~np.isnan(aum_N)
    return {"rows": int(known.sum()), "negative_share": _plain(negative_share(aum_N))}


def _plain(value: float) -> float | None:
    """A number for JSON: NaN becomes None."""
    return None if np.isnan(value) else round(float(value), 6)


# Against the hidden truth


def auroc(cleanness_N: Floats, wrong_N: NDArray[np.bool_]) -> float:
    """Probability that a right row scores above a wrong one, equal scores counting half.

    Rows without a score are left out; NaN unless there are both kinds.
    """
    known = ~np.isnan(cleanness_N)
    scores, wrong = cleanness_N[known], wrong_N[known]
    right_count, wrong_count = int((~wrong).sum()), int(wrong.sum())
    if not right_count or not wrong_count:
        return float("nan")
    ranks = grouped_ranks(scores, np.zeros(len(scores), np.int32)) * (len(scores) - 1) + 1
    above = ranks[~wrong].sum() - right_count * (right_count + 1) / 2
    return float(above / (right_count * wrong_count))


def precision_at_k(cleanness_N: Floats, wrong_N: NDArray[np.bool_], k: int | None = None) -> float:
    """Share of wrong rows among the k that score lowest; k is the number of wrong rows unless given.

    Of rows that tie for the last places the expected share is counted. Rows without a score are left out.
    """
    known = ~np.isnan(cleanness_N)
    scores, wrong = cleanness_N[known], wrong_N[known]
    k = int(wrong.sum()) if k is None else min(k, len(scores))
    if k == 0:
        return float("nan")
    limit = np.partition(scores, k - 1)[k - 1]
    below, level = scores < limit, scores == limit
    expected = wrong[level].mean() * (k - below.sum())
    return float((wrong[below].sum() + expected) / k)


def against_truth(ranking: Ranking | None, selection: Selection, catalogue: Catalogue) -> dict[str, Any]:
    """How well a ranking and a selection find the wrong labels of a data set whose truth is known.

    Rows whose truth is unknown are left out; a row that belongs to none of the classes is wrong. `{}` where
    the catalogue has no truth. `scores`: AUROC and precision at k (k = wrong rows) of each. `dropped`: rows
    not kept, whatever the reason, `flagged`: rows marked by a ranking, dropped or weighed down; precision and
    recall of both as a finder of wrong labels. `noise`: rows of each kind of noise and the share dropped.
    """
    column = catalogue.column("true_label")
    if column is None:
        return {}
    truth = np.asarray(column[selection.rows])
    known = truth != UNKNOWN_TRUTH
    wrong = known & (truth != catalogue.labels_N[selection.rows])
    low = np.array([word.startswith("low_") for word in selection.words])
    found: dict[str, Any] = {
        "rows": int(known.sum()),
        "wrong": int(wrong.sum()),
        "dropped": _found(~selection.kept & known, wrong),
        "flagged": _found(low[selection.reasons] & known, wrong),
        "kept_wrong_share": _plain(_ratio(wrong & selection.kept, selection.kept & known)),
        "reasons": _by_reason(selection, known, wrong),
        "noise": _by_noise(selection, catalogue.strings("noise", selection.rows)),
    }
    if ranking is not None:
        assert np.array_equal(ranking.rows, selection.rows), "a ranking and a selection of different rows"
        scores = {**ranking.scores, "cleanness": ranking.cleanness}
        found["scores"] = {name: _quality(values[known], wrong[known]) for name, values in scores.items()}
    return found


def _quality(cleanness_N: Floats, wrong_N: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "auroc": _plain(auroc(cleanness_N, wrong_N)),
        "precision_at_k": _plain(precision_at_k(cleanness_N, wrong_N)),
    }


def _ratio(part_N: NDArray[np.bool_], whole_N: NDArray[np.bool_]) -> float:
    return float(part_N.sum() / whole_N.sum()) if whole_N.any() else float("nan")


def _found(marked_N: NDArray[np.bool_], wrong_N: NDArray[np.bool_]) -> dict[str, Any]:
    both = marked_N & wrong_N
    return {
        "rows": int(marked_N.sum()),
        "precision": _plain(_ratio(both, marked_N)),
        "recall": _plain(_ratio(both, wrong_N)),
    }


def _by_reason(
    selection: Selection, known_N: NDArray[np.bool_], wrong_N: NDArray[np.bool_]
) -> dict[str, dict[str, int]]:
    size = len(selection.words)
    rows = np.bincount(selection.reasons[known_N], minlength=size)
    wrong = np.bincount(selection.reasons[wrong_N], minlength=size)
    return {
        word or "kept": {"rows": int(rows[i]), "wrong": int(wrong[i])}
        for i, word in enumerate(selection.words)
    }


def _by_noise(selection: Selection, kinds: list[str]) -> dict[str, dict[str, Any]]:
    words, codes = np.unique(np.array(kinds, dtype=object).astype(str), return_inverse=True)
    rows = np.bincount(codes, minlength=len(words))
    dropped = np.bincount(codes[~selection.kept], minlength=len(words))
    return {
        str(word) or "clean": {"rows": int(rows[i]), "dropped_share": _plain(dropped[i] / rows[i])}
        for i, word in enumerate(words)
    }
