"""The diagnosis of the noise: where margins are low, what images are taken for, which classes stand out.

`diagnose` goes by what training saw alone, and claims of the data only what cannot as well be the learner's
weakness. The two functions `…_against_truth` measure a ranking and a selection by the hidden truth of a data
set that has one; only `evaluate` calls them. Intervals are of 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import UNKNOWN_TRUTH
from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.ranking import Ranking
from smelt.artifacts.selection import Selection, for_its_score
from smelt.mining.estimate import NOT_ENOUGH, Estimate, negative_share
from smelt.mining.intervals import auroc_interval, wilson, z_of_many
from smelt.mining.rankings import score_of
from smelt.mining.scales import grouped_ranks

if TYPE_CHECKING:
    from smelt.artifacts.catalogue import Catalogue

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PAIRS = 200  # pairs of classes listed
COMPARABLE = 20  # classes of the nearest sizes that a class is compared with
FEWEST = 4  # fewer to compare with tell nothing
FENCE = 1.5  # a class stands out beyond the upper quartile and so many times their spread (Tukey 1977)
TOO_FEW = "too few classes to compare"


def diagnose(
    ranking: Ranking, models: Sequence[Dynamics], catalogue: Catalogue, noise: Estimate | None = None
) -> dict[str, Any]:
    """Tables (lists of rows, each a dict by column) for people: `sources`, `classes`, `pairs`, `abstract`.

    `models` are the dynamics that the ranking was made from (without any there are no tables), `noise` what
    mining.estimate says.
    `negative` is the share of the rows with an AUM whose AUM is negative (`low`, `high`: its interval): what
    models would rather call something else, or have not learnt. It is no estimate of the noise;
    `estimated_noise` is, and None where nothing supports one (`noise` says why). Classes come with the
    surely largest share first.
    """
    told = {
        "estimated_noise": noise.rate if noise else None,
        "noise": noise.figures() if noise else {},
    }
    if not models:
        return told
    labels, classes = catalogue.labels_N[ranking.rows], catalogue.classes
    aum, sources = ranking.scores["aum"], catalogue.source_codes_N[ranking.rows]
    by_class = _by_group(aum, labels, "class", classes)
    standing_out, why = abstract_classes(models, ranking.rows, labels, len(classes))
    return {
        **told,
        "negative": _plain(negative_share(aum)),
        "sources": _by_group(aum, sources, "source", catalogue.sources),
        "classes": sorted(by_class, key=lambda row: -row["low"]),
        "pairs": [
            {"label": classes[label], "looks_like": classes[other], "images": count}
            for label, other, count in confusions(models, ranking.rows, labels, len(classes))
        ],
        "abstract": [{"class": classes[row["number"]], **row} for row in standing_out],
        "abstract_why": why,
    }


def confusions(
    models: Sequence[Dynamics], rows_N: Ints, labels_N: NDArray[np.int32], num_classes: int
) -> list[tuple[int, int, int]]:
    """(label, other class, images) of the rows with a negative AUM, the most frequent pairs first.

    The other class is that of the last visit; rows that looked like the extra class of threshold samples
    then look like none of the data's. Over several models the mean count, rounded.
    """
    codes = []
    for model in models:
        doubted = score_of(model, "aum")[rows_N] < 0
        other, label = model.other()[rows_N[doubted]], labels_N[doubted].astype(np.int64)
        real = (other >= 0) & (other < num_classes)
        codes.append(label[real] * num_classes + other[real])
    pairs, counts = np.unique(np.concatenate(codes), return_counts=True)
    counts = np.rint(counts / len(models)).astype(np.int64)
    order = np.lexsort((pairs, -counts))[:PAIRS]
    return [(*divmod(int(pairs[i]), num_classes), int(counts[i])) for i in order if counts[i]]


def abstract_classes(
    models: Sequence[Dynamics], rows_N: Ints, labels_N: NDArray[np.int32], num_classes: int
) -> tuple[list[dict[str, Any]], str]:
    """(classes that stand out, "" or why nothing can be told): no model learnt them, though it did learn
    classes of like size. The worst first.

    In every model more than half of the class's rows have a negative AUM, and more than an outlier among the
    `COMPARABLE` classes of nearest size, by the lower end of an interval that holds for all classes together.
    Where the typical class is not learnt either, it is the learner that is weak. A class that is merely hard
    stands out as well: to tell one that shows nothing takes a look, or validation.
    """
    negative_MC, images_MC = _negative_by_class(models, rows_N, labels_N, num_classes)
    there = np.flatnonzero((images_MC > 0).all(axis=0))
    if len(there) <= FEWEST:
        return [], TOO_FEW
    share_MC, images_MC = negative_MC[:, there] / images_MC[:, there], images_MC[:, there]
    weak = int((share_MC.mean(axis=0) >= 0.5).sum())
    if 2 * weak >= len(there):
        return [], f"{NOT_ENOUGH}: in {weak} of {len(there)} classes most images have a negative AUM"
    others_CK = comparable(images_MC.mean(axis=0))
    usual_M3C = np.quantile(share_MC[:, others_CK], [0.25, 0.5, 0.75], axis=2).swapaxes(0, 1)
    fence_MC = usual_M3C[:, 2] + FENCE * (usual_M3C[:, 2] - usual_M3C[:, 0])
    surely_MC = wilson(share_MC, images_MC, z_of_many(len(there)))[0]
    out_C = ((surely_MC > 0.5) & (surely_MC > fence_MC) & (usual_M3C[:, 1] < 0.5)).all(axis=0)
    medians_MC = np.array(
        [_medians(score_of(model, "aum")[rows_N], labels_N, num_classes) for model in models]
    )
    best_C = medians_MC[:, there].max(axis=0)
    return [
        {
            "number": int(there[c]),
            **_share(share_MC[:, c].mean(), round(images_MC[:, c].mean())),
            "comparable": _plain(usual_M3C[:, 1, c].mean()),
            "best_median_aum": _plain(best_C[c]),
        }
        for c in np.argsort(best_C, kind="stable")
        if out_C[c]
    ], ""


def by_validation(labels: Sequence[int], accuracy_C: Floats, images_C: Ints) -> list[dict[str, Any]]:
    """What validation says of some classes (`number`): accuracy with its interval, beside the median over
    all classes (`usual`), and whether the class was learnt (`learnt`).

    "no" where it surely has less than half of the usual accuracy, "yes" where it surely has as much, else
    "cannot be told". accuracy_C: NaN for a class without validation images. [] without any.
    """
    usual = np.nanmedian(accuracy_C) if images_C.any() else np.nan
    if np.isnan(usual):
        return []
    found = []
    for label in labels:
        low, high = wilson(accuracy_C[label], images_C[label])
        verdict = "no" if high < usual / 2 else "yes" if low >= usual / 2 else "cannot be told"
        found.append(
            {
                "number": label,
                "images": int(images_C[label]),
                "top1": _plain(accuracy_C[label]),
                "top1_interval": [_plain(low), _plain(high)],
                "usual": _plain(usual),
                "learnt": verdict,
            }
        )
    return found


def comparable(sizes_C: Floats) -> Ints:
    """(C, K) the K = min(`COMPARABLE`, C − 1) other classes of nearest size by rank, for each class."""
    count = min(COMPARABLE, len(sizes_C) - 1)
    order = np.argsort(sizes_C, kind="stable")
    places = np.arange(len(sizes_C))
    starts = np.clip(places - count // 2, 0, len(sizes_C) - count - 1)
    window = starts[:, None] + np.arange(count + 1)
    others = window[window != places[:, None]].reshape(len(sizes_C), count)
    found: Ints = np.empty_like(others)
    found[order] = order[others]
    return found


def _negative_by_class(
    models: Sequence[Dynamics], rows_N: Ints, labels_N: NDArray[np.int32], num_classes: int
) -> tuple[Ints, Ints]:
    """Rows of each class with a negative AUM and with any, by model: (M, C) each."""
    negative, images = [], []
    for model in models:
        aum = score_of(model, "aum")[rows_N]
        known = ~np.isnan(aum) & (labels_N >= 0)
        images.append(np.bincount(labels_N[known], minlength=num_classes))
        negative.append(np.bincount(labels_N[known & (aum < 0)], minlength=num_classes))
    return np.array(negative), np.array(images)


def _by_group(aum_N: Floats, groups_N: NDArray[Any], what: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each group that has an AUM at all."""
    known, size = ~np.isnan(aum_N), len(names)
    images = np.bincount(groups_N[known], minlength=size)
    negative = np.bincount(groups_N[known & (aum_N < 0)], minlength=size)
    medians = _medians(aum_N, groups_N, size)
    return [
        {what: names[int(i)], **_share(negative[i] / images[i], images[i]), "median_aum": _plain(medians[i])}
        for i in np.flatnonzero(images)
    ]


def _share(negative: float, images: int) -> dict[str, Any]:
    """The columns of a share of negative AUMs."""
    low, high = wilson(negative, images)
    return {"images": int(images), "negative": _plain(negative), "low": _plain(low), "high": _plain(high)}


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
    return {
        name: {
            "auroc": _plain(auroc(scores, wrong)),
            "precision_at_k": _plain(precision_at_k(scores, wrong)),
        }
        for name, scores, wrong in _judged(ranking, catalogue)
    }


def intervals_against_truth(ranking: Ranking, catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """The intervals of the figures of `ranking_against_truth`, and the rows that they were measured on."""
    found: dict[str, dict[str, Any]] = {}
    for name, scores, wrong in _judged(ranking, catalogue):
        scored = ~np.isnan(scores)
        k = int(wrong[scored].sum())
        found[name] = {
            "auroc": [_plain(end) for end in auroc_interval(scores, wrong)],
            "precision_at_k": [_plain(end) for end in wilson(precision_at_k(scores, wrong), k)],
            "images": int(scored.sum()),
            "wrong": k,
        }
    return found


def _judged(ranking: Ranking, catalogue: Catalogue) -> Iterator[tuple[str, Floats, Bools]]:
    """(name, scores, wrong or not) of each score, of the rows whose truth is known."""
    truth = wrong_labels(ranking.rows, catalogue)
    if truth is not None:
        known, wrong = truth
        for name, scores in {"cleanness": ranking.cleanness, **ranking.scores}.items():
            yield name, scores[known], wrong[known]


def selection_against_truth(selection: Selection, catalogue: Catalogue) -> dict[str, Any]:
    """How well a selection leaves out wrong labels; `{}` where the catalogue has no truth.

    dropped: rows left out because they ranked low (`for_its_score`). precision: share of them that is wrong;
    recall: share of the wrong rows that is among them, rows left out for other reasons not counted.
    noise_left: share of wrong labels among what is kept. `…_interval`: of each. reasons, noise: by reason,
    and by kind of noise.
    """
    truth = wrong_labels(selection.rows, catalogue)
    if truth is None:
        return {}
    known, wrong = truth
    low = np.array([for_its_score(word) for word in selection.words])[selection.reasons]
    dropped = low & ~selection.kept & known
    judged = known & (selection.kept | low)
    return {
        "rows": int(known.sum()),
        "wrong": int(wrong.sum()),
        "dropped": int(dropped.sum()),
        **_ratio("precision", wrong, dropped),
        **_ratio("recall", dropped, wrong & judged),
        **_ratio("noise_left", wrong, selection.kept & known),
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


def _ratio(name: str, part_N: Bools, whole_N: Bools) -> dict[str, Any]:
    """Share of `whole_N` that is in `part_N` too, and its interval; None where the whole is empty."""
    images = int(whole_N.sum())
    share = float((part_N & whole_N).sum() / images) if images else float("nan")
    return {name: _plain(share), f"{name}_interval": [_plain(end) for end in wilson(share, images)]}


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
