"""What is wrong with whole classes, as features see them: synonyms, two meanings, nothing in common, too
small.
 Only what the images show is claimed, out of sample, by an interval that holds for all comparisons
together, and against what is usual in the data set:

    synonyms      a discriminator that was fitted to the other half of the rows cannot tell two classes apart
    two meanings  a class lies in two heaps with a valley between them, alike by both halves of its rows, and
                  neither heap is where another class lies (that is listed as `mixed`: rows under a wrong
                  label) abstract      a class cannot be told from all others too small     classes of
                  which an interval is too wide to say either

Where features cannot tell most classes apart nothing is claimed of any: `why` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.mining.intervals import z_of_many
from smelt.mining.tokens import words_of
from smelt.mining.whitened import Bools, Ints, Sample, Split, apart, from_all_others, sampled, split_in_two

ROWS = 500_000  # looked at in all
MOST, FEWEST = 1000, 200  # of a class, where there are few classes and where there are many
LEAST = 20  # rows of a class that anything is said of
HEAPS = 200  # rows that two heaps can be seen in
NEAREST = 5  # classes that each is compared with
WEAK = 0.7  # area under the curve, of a typical class and its nearest: below it features tell nothing
NEAR_CHANCE = 0.35  # of the way from .5 to what is usual
VALLEY = 0.75  # rows midway over rows at a heap's centre; between two heaps that touch it is about 1
ALIKE = 0.7  # correlation of the parts that both halves of the rows give
OWN_DISTANCE = 0.5  # a heap is another class's that is nearer than this part of the way to the other heap
TELLING = 5  # words shown

Area = tuple[float, float, float]  # under the ROC curve, with the ends of its interval


def class_findings(
    features_ND: NDArray[np.floating],
    labels_N: NDArray[np.int32],
    classes: Sequence[str],
    *,
    known_N: Bools | None = None,
    texts: Mapping[str, Sequence[str]] | None = None,
    places_N: Ints | None = None,
) -> dict[str, Any]:
    """Findings as JSON values: lists of `synonyms`, `two_meanings`, `mixed`, `abstract` and `too_small`,
    the `usual` figures that they are compared with, the number of `compared` pairs, and `why`, "" or why
    nothing is said.

    features_ND: of the rows that labels_N (−1: none) are of; read at some rows only, so it may be mapped.
    known_N: False where there are none. texts: of the same rows, by field; words that tell the parts apart
    are shown. ValueError for lengths that do not agree.
    """
    places_N = np.arange(len(features_ND)) if places_N is None else places_N
    _check(features_ND, labels_N, places_N)
    usable_N = (labels_N >= 0) & (True if known_N is None else known_N)
    counts_C = np.bincount(labels_N[usable_N], minlength=len(classes))
    there = np.flatnonzero(counts_C >= LEAST)
    empty: dict[str, Any] = {"synonyms": [], "two_meanings": [], "mixed": [], "abstract": []}
    small = [_small(classes[k], counts_C[k], "anything") for k in np.flatnonzero(counts_C < LEAST).tolist()]
    if len(there) < 3:
        why = f"fewer than 3 classes have {LEAST} images"
        return {**empty, "too_small": small, "usual": {}, "compared": 0, "why": why}
    usable_N &= (counts_C >= LEAST)[labels_N]
    sample = sampled(features_ND, places_N, labels_N, usable_N, min(MOST, max(FEWEST, ROWS // len(there))))
    means = np.stack([sample.of(int(k)).mean(axis=0) for k in there])
    pairs, z = _nearest(means, there), z_of_many(NEAREST * len(there))
    said, areas = _Words(texts, sample), {pair: apart(sample, *pair, z) for pair in pairs}
    nearest = {int(k): min(area[0] for pair, area in areas.items() if k in pair) for k in there}
    others = {int(k): from_all_others(sample, int(k), z) for k in there}
    usual = {"apart": _median(nearest), "from_others": _median({k: a[0] for k, a in others.items()})}
    if min(usual.values()) < WEAK:
        why = f"the features tell a typical class from its nearest at an AUROC of {usual['apart']:.2f} only"
        return {**empty, "too_small": small, "usual": usual, "compared": len(pairs), "why": why}
    vague, unsure = _vague(others, usual["from_others"])
    split, mixed = _heaps(sample, there, means, [k for k in there.tolist() if k not in vague], classes, said)
    small += [_small(classes[k], counts_C[k], "whether it is abstract") for k in unsure]
    small += _undecided(areas, usual["apart"], classes, counts_C)
    small += [_small(classes[k], counts_C[k], "two meanings") for k in there.tolist() if counts_C[k] < HEAPS]
    return {
        "synonyms": _synonyms(areas, _bound(usual["apart"]), classes, said),
        "two_meanings": split, "mixed": mixed,
        "abstract": [{"class": classes[k], "rows": int(counts_C[k]), **_area(others[k])} for k in vague],
        "too_small": small, "usual": usual, "compared": len(pairs), "why": "",
    }  # fmt: skip


def _check(features_ND: NDArray[np.floating], labels_N: NDArray[np.int32], places_N: Ints) -> None:
    if features_ND.ndim != 2 or len(places_N) != len(labels_N):
        raise ValueError(f"features {features_ND.shape} must be (N, D) of labels {labels_N.shape}")


def _median(figures: Mapping[int, float]) -> float:
    return float(np.median(list(figures.values())))


def _synonyms(
    areas: Mapping[tuple[int, int], Area], bound: float, classes: Sequence[str], said: _Words
) -> list[dict[str, Any]]:
    """Pairs whose interval lies below the bound, the nearest to chance first."""
    same = sorted((area[2], pair) for pair, area in areas.items() if area[2] < bound)
    return [
        {"classes": [classes[a], classes[b]], **_area(areas[a, b]), "words": said.apart(a, b)}
        for _, (a, b) in same
    ]


def _undecided(
    areas: Mapping[tuple[int, int], Area], usual: float, classes: Sequence[str], counts_C: Ints
) -> list[dict[str, Any]]:
    """Classes of pairs that may be synonyms or not, of each the smaller."""
    bound, found = _bound(usual), []
    for pair, area in areas.items():
        if area[1] < bound <= area[2] and area[0] < (bound + usual) / 2:
            less, other = sorted(pair, key=lambda k: (counts_C[k], k))
            found.append(_small(classes[less], counts_C[less], f"whether it is the same as {classes[other]}"))
    return found


def _vague(others: Mapping[int, Area], usual: float) -> tuple[list[int], list[int]]:
    """(classes that cannot be told from all others, those of which that cannot be said either way)."""
    bound = _bound(usual)
    vague = [k for k, area in others.items() if area[2] < bound]
    unsure = [k for k, a in others.items() if a[1] < bound <= a[2] and a[0] < (bound + usual) / 2]
    return vague, unsure


def _bound(usual: float) -> float:
    """What the upper end of an interval must be below: near chance, for features that are usually that
    good."""
    return 0.5 + NEAR_CHANCE * (usual - 0.5)


def _nearest(means: NDArray[np.float64], there: Ints) -> list[tuple[int, int]]:
    """Pairs of classes one of which is among the NEAREST of the other, by centroid; ascending."""
    squares = (means**2).sum(axis=1)
    pairs = set()
    for place in range(len(there)):
        distance = squares - 2 * means @ means[place]
        distance[place] = np.inf
        for other in np.argsort(distance, kind="stable")[:NEAREST].tolist():
            if other != place:
                pairs.add((int(there[min(place, other)]), int(there[max(place, other)])))
    return sorted(pairs)


def _heaps(
    sample: Sample,
    there: Ints,
    means: NDArray[np.float64],
    asked: Sequence[int],
    classes: Sequence[str],
    said: _Words,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(two meanings, mixed): classes in two heaps, and those one of whose heaps is where another class
    lies."""
    two, mixed = [], []
    large = [k for k in asked if len(sample.of(k)) >= HEAPS]
    for k in large:
        values = sample.of(k)
        split = split_in_two(values, z_of_many(len(large)))
        if split is None or split.high >= VALLEY or split.agreement < ALIKE:
            continue
        line = {"class": classes[k], **_valley(split), "words": said.parts(k, split.second_n)}
        other = _lies_at(values, split, np.where(there[:, None] == k, np.inf, means))
        if other is None:
            two.append(line)
        else:
            mixed.append({**line, "looks_like": classes[there[other[0]]], "share": other[1]})
    return two, mixed


def _lies_at(
    values: NDArray[np.float64], split: Split, means: NDArray[np.float64]
) -> tuple[int, float] | None:
    """(the class whose centroid is near one of the heaps, the heap's share), the nearest; None if none is."""
    heaps = [values[~split.second_n], values[split.second_n]]
    centres = [heap.mean(axis=0) for heap in heaps]
    reach = OWN_DISTANCE * float(np.linalg.norm(centres[0] - centres[1]))
    distances = np.stack([np.linalg.norm(means - centre, axis=1) for centre in centres])
    heap, other = np.unravel_index(int(np.argmin(distances)), distances.shape)
    if distances[heap, other] >= reach:
        return None
    return int(other), len(heaps[int(heap)]) / len(values)


class _Words:
    """Words that tell two sets of rows apart; none where there are no texts."""

    def __init__(self, texts: Mapping[str, Sequence[str]] | None, sample: Sample) -> None:
        self.texts, self.sample = texts or {}, sample

    def apart(self, first: int, second: int) -> list[list[str]]:
        rows = self.sample.rows
        return self._tell(rows[self.sample.labels == first], rows[self.sample.labels == second])

    def parts(self, label: int, second_n: Bools) -> list[list[str]]:
        rows = self.sample.rows[self.sample.labels == label]
        return self._tell(rows[~second_n], rows[second_n])

    def _tell(self, first: Ints, second: Ints) -> list[list[str]]:
        """Of each set the words that it surely has more often: two proportions differ by a z that holds
        for all words together."""
        counts = [self._counted(rows) for rows in (first, second)]
        words = sorted(set(counts[0]) | set(counts[1]))
        least = z_of_many(len(words))
        found: list[list[tuple[float, str]]] = [[], []]
        for word in words:
            shares = [counts[side][word] / max(len(rows), 1) for side, rows in enumerate((first, second))]
            both = (counts[0][word] + counts[1][word]) / max(len(first) + len(second), 1)
            error = np.sqrt(both * (1 - both) * (1 / max(len(first), 1) + 1 / max(len(second), 1)))
            z = (shares[0] - shares[1]) / max(float(error), 1e-12)
            if abs(z) > least:
                found[int(z < 0)].append((-abs(z), word))
        return [[word for _, word in sorted(side)[:TELLING]] for side in found]

    def _counted(self, rows: Ints) -> Counter[str]:
        counts: Counter[str] = Counter()
        for row in rows.tolist():
            counts.update({w for column in self.texts.values() for w in words_of(column[row])})
        return counts


def _area(area: Area) -> dict[str, float]:
    return {"auroc": area[0], "low": area[1], "high": area[2]}


def _valley(split: Split) -> dict[str, Any]:
    smaller = min(split.second_n.mean(), 1 - split.second_n.mean())
    return {"rows": len(split.second_n), "valley": float(split.valley),
            "low": float(split.low), "high": float(split.high),
            "agreement": split.agreement, "smaller": float(smaller)}  # fmt: skip


def _small(name: str, rows: int, what: str) -> dict[str, Any]:
    return {"class": str(name), "rows": int(rows), "cannot_tell": what}
