"""The diagnosis of the noise: where it sits, what it is taken for, which classes cannot be learnt.

`diagnose` goes by what training saw alone. The two functions `…_against_truth` measure a ranking and a
selection by the hidden truth of a data set that has one; only `evaluate` calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import UNKNOWN_TRUTH
from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.tables import Ranking, Selection
from smelt.mining.noise_rate import negative_share
from smelt.mining.rankings import grouped_ranks

if TYPE_CHECKING:
    from smelt.artifacts.catalogue import Catalogue

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PAIRS = 200  # pairs of classes listed


def diagnose(ranking: Ranking, models: Sequence[Dynamics], catalogue: Catalogue) -> dict[str, Any]:
    """Tables (lists of rows, each a dict by column) for people: `sources`, `classes`, `pairs`, `abstract`.

    `models` are the dynamics that the ranking was made from. `estimated_noise` is the share of the rows with
    an AUM whose AUM is negative: models would rather call them something else (an upper estimate, see
    mining.noise_rate). Classes come with the most estimated noise first.
    """
    labels, classes = catalogue.labels_N[ranking.rows], catalogue.classes
    aum, sources = ranking.scores["aum"], catalogue.source_codes_N[ranking.rows]
    by_source = _by_group(aum, sources, "source", catalogue.sources)
    by_class = _by_group(aum, labels, "class", classes)
    return {
        "estimated_noise": _plain(negative_share(aum)),
        "sources": by_source,
        "classes": sorted(by_class, key=lambda row: -row["estimated_noise"]),
        "pairs": [
            {"label": classes[label], "looks_like": classes[other], "images": count}
            for label, other, count in confusions(models, ranking.rows, labels, len(classes))
        ],
        "abstract": [
            {**row, "class": classes[row["class"]]}
            for row in abstract_classes(models, ranking.rows, labels, len(classes))
        ],
    }


def confusions(
    models: Sequence[Dynamics], rows_N: Ints, labels_N: NDArray[np.int32], num_classes: int
) -> list[tuple[int, int, int]]:
    """(label, other class, images) of the rows with a negative AUM, the most frequent pairs first.

    The other class is that of the last visit; over several models the mean count, rounded.
    """
    codes = []
    for model in models:
        doubted = model.aum()[rows_N] < 0
        other = np.minimum(model.other()[rows_N[doubted]], num_classes - 1)
        codes.append(labels_N[doubted].astype(np.int64) * num_classes + other)
    pairs, counts = np.unique(np.concatenate(codes), return_counts=True)
    counts = np.rint(counts / len(models)).astype(np.int64)
    order = np.lexsort((pairs, -counts))[:PAIRS]
    return [(*divmod(int(pairs[i]), num_classes), int(counts[i])) for i in order if counts[i]]


def abstract_classes(
    models: Sequence[Dynamics], rows_N: Ints, labels_N: NDArray[np.int32], num_classes: int
) -> list[dict[str, Any]]:
    """Classes that no model learnt: in every model the median AUM of their rows is negative. The worst first.

    Noise alone rarely does that: more than half of the class would have to be wrong.
    """
    medians_MC = np.array([_medians(model.aum()[rows_N], labels_N, num_classes) for model in models])
    best_C = np.where(np.isnan(medians_MC).any(axis=0), np.inf, medians_MC.max(axis=0))
    sizes = np.bincount(labels_N[labels_N >= 0], minlength=num_classes)
    return [
        {"class": int(c), "images": int(sizes[c]), "best_median_aum": _plain(best_C[c])}
        for c in np.argsort(best_C, kind="stable")
        if best_C[c] < 0
    ]


def _by_group(aum_N: Floats, groups_N: NDArray[Any], what: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each group that has an AUM at all."""
    known, size = ~np.isnan(aum_N), len(names)
    images = np.bincount(groups_N[known], minlength=size)
    negative = np.bincount(groups_N[known & (aum_N < 0)], minlength=size)
    medians = _medians(aum_N, groups_N, size)
    return [
        {
            what: names[int(i)],
            "images": int(images[i]),
            "estimated_noise": _plain(negative[i] / images[i]),
            "median_aum": _plain(medians[i]),
        }
        for i in np.flatnonzero(images)
    ]


def _medians(scores_N: Floats, groups_N: NDArray[Any], size: int) -> Floats:
    """Median score of each of `size` groups; NaN for a group without scores."""
    places = np.flatnonzero(~np.isnan(scores_N))
    order = places[np.lexsort((scores_N[places], groups_N[places]))]
    counts = np.bincount(groups_N[order], minlength=size)
    starts = np.cumsum(counts) - counts
    low, high, filled = starts + (counts - 1) // 2, starts + counts // 2, counts > 0
    medians = np.full(size, np.nan)
    medians[filled] = (scores_N[order[low[filled]]] + scores_N[order[high[filled]]]) / 2
    return medians


def _plain(value: float) -> float | None:
    """A number for JSON: NaN becomes None."""
    return None if np.isnan(value) else round(float(value), 6)


# Against the hidden truth


def ranking_against_truth(ranking: Ranking, catalogue: Catalogue) -> dict[str, dict[str, float | None]]:
    """AUROC and precision at k (k = number of wrong rows) of every score and of `cleanness`.

    `{}` where the catalogue has no truth; rows whose truth is unknown are left out.
    """
    truth = wrong_labels(ranking.rows, catalogue)
    if truth is None:
        return {}
    known, wrong = truth
    scores = {"cleanness": ranking.cleanness, **ranking.scores}
    return {
        name: {
            "auroc": _plain(auroc(values[known], wrong[known])),
            "precision_at_k": _plain(precision_at_k(values[known], wrong[known])),
        }
        for name, values in scores.items()
    }


def selection_against_truth(selection: Selection, catalogue: Catalogue) -> dict[str, Any]:
    """How well a selection leaves out wrong labels; `{}` where the catalogue has no truth.

    dropped: rows left out because they ranked low (reason `low_…`). precision: share of them that is wrong;
    recall: share of the wrong rows that is among them, rows left out for other reasons not counted.
    noise_left: share of wrong labels among what is kept. reasons, noise: by reason, and by kind of noise.
    """
    truth = wrong_labels(selection.rows, catalogue)
    if truth is None:
        return {}
    known, wrong = truth
    low = np.array([word.startswith("low_") for word in selection.words])[selection.reasons]
    dropped = low & ~selection.kept & known
    judged = known & (selection.kept | low)
    return {
        "rows": int(known.sum()),
        "wrong": int(wrong.sum()),
        "dropped": int(dropped.sum()),
        "precision": _ratio(wrong, dropped),
        "recall": _ratio(dropped, wrong & judged),
        "noise_left": _ratio(wrong, selection.kept & known),
        "reasons": _by_reason(selection, known, wrong),
        "noise": _by_noise(selection, *catalogue.coded("noise", selection.rows)),
    }


def wrong_labels(rows_N: Ints, catalogue: Catalogue) -> tuple[Bools, Bools] | None:
    """(truth is known, label is wrong), each (N,), of catalogue rows; None where there is no truth.

    A row that belongs to none of the classes is wrong.
    """
    column = catalogue.column("true_label")
    if column is None:
        return None
    truth = np.asarray(column[rows_N])
    known = truth != UNKNOWN_TRUTH
    return known, known & (truth != catalogue.labels_N[rows_N])


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


def _ratio(part_N: Bools, whole_N: Bools) -> float | None:
    """Share of `whole_N` that is in `part_N` too; None where the whole is empty."""
    return _plain((part_N & whole_N).sum() / whole_N.sum()) if whole_N.any() else None


def _by_reason(selection: Selection, known_N: Bools, wrong_N: Bools) -> dict[str, dict[str, int]]:
    size = len(selection.words)
    rows = np.bincount(selection.reasons[known_N], minlength=size)
    wrong = np.bincount(selection.reasons[wrong_N], minlength=size)
    return {
        word or "kept": {"rows": int(rows[i]), "wrong": int(wrong[i])}
        for i, word in enumerate(selection.words)
    }


def _by_noise(selection: Selection, words: list[str], codes_N: Ints) -> dict[str, dict[str, Any]]:
    rows = np.bincount(codes_N, minlength=len(words))
    dropped = np.bincount(codes_N[~selection.kept], minlength=len(words))
    return {
        words[i] or "none": {"rows": int(rows[i]), "dropped_share": _plain(dropped[i] / rows[i])}
        for i in sorted(np.flatnonzero(rows).tolist(), key=lambda i: words[i])
    }
