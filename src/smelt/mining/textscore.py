"""The text score: whether what was written beside an image speaks for its class or for another one.
 No network: words are counted by class (`wordcounts`), each row is left out of the counts that judge it,
and the noisy labels are all that is asked. A field (title, tags, …) gives of every class k that shares a
word with the row the log odds d_k of the row's own class against k: a naive Bayes sum whose sharpness is
fitted to the labels of rows that were left out. Fields are then added up, each after

    g(d) = log((1 − j)·L + j) − log(e·L + 1 − e),    L = exp(d),

which is the odds where a text may be the echo of what was searched for, whatever the image shows (e), or
about something else altogether (j). Agreement is worth log(1/e) at most, contradiction more: many sites
repeat the query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.mining.scales import whole_numbers
from smelt.mining.tokens import hashed
from smelt.mining.wordcounts import Counts, count, left_out, odds, summed_by

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 1 << 12  # rows looked at together
SAMPLE = 1 << 13  # rows that sharpness is fitted to
SHARPNESS = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0)
LENGTH = (0.0, 0.5)  # powers of the number of words that a sum is divided by
ASTRAY = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
ECHO, ELSEWHERE = 0.25, 0.05  # e and j
STEP = 1 / 4  # scores are rounded to it: fainter differences are chance, and ranks would make them large
SURE = 3.0  # standard errors that a gain must be above 0


FIELDS = ("query", "title", "description", "tags")


class Column(Sequence[str]):
    """A text of some rows of a catalogue, fetched when a slice of it is asked for."""

    def __init__(self, catalogue: Catalogue, name: str, rows_N: Ints) -> None:
        self.catalogue, self.name, self.rows_N = catalogue, name, rows_N

    def __len__(self) -> int:
        return len(self.rows_N)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self.catalogue.strings(self.name, self.rows_N[index].tolist())
        return self.catalogue.strings(self.name, [int(self.rows_N[index])])[0]


def texts_of(catalogue: Catalogue, rows_N: Ints) -> dict[str, Sequence[str]]:
    """The texts of these rows by field, for `text_evidence`; without fields that the catalogue does not
    have."""
    there = set(catalogue.to_arrow().column_names)
    return {name: Column(catalogue, name, rows_N) for name in FIELDS if name in there}


@dataclass(frozen=True)
class FieldFit:
    """What one field tells. rows: with a word that others use, too. gain: nats per such row by which it makes
    the left-out labels likelier than the classes' shares do, error: its standard error. astray: share of them
    whose words are as those of any class. The sum of log odds is multiplied by sharpness / words**length.
    """

    rows: int
    gain: float
    error: float
    sharpness: float
    length: float
    astray: float

    @property
    def tells(self) -> bool:
        """Whether the gain is surely above 0."""
        return self.gain > SURE * self.error


@dataclass(frozen=True)
class TextEvidence:
    """score_N: higher is cleaner, NaN without a usable text. best_N: the class that the text speaks for most
    among those that share a word with it and the row's own, −1 where there is none. fields: what was fitted
    to each. accuracy: share of the rows with a score whose text speaks for no other class more than for
    their own; chance: the share that the most frequent class has among them.
    """

    score_N: Floats
    best_N: NDArray[np.int32]
    fields: dict[str, FieldFit]
    accuracy: float
    chance: float

    @property
    def informative(self) -> bool:
        """Whether a fusion should listen: a field tells the classes apart, and rows differ in what it
        says."""
        known = self.score_N[~np.isnan(self.score_N)]
        differ = len(known) > 0 and (known != np.median(known)).mean() >= 0.01
        return bool(differ and any(fit.tells for fit in self.fields.values()))


def text_score(texts: Mapping[str, Sequence[str]], labels_N: ArrayLike, classes: Sequence[str]) -> Floats:
    """(N,) float64, higher is cleaner, NaN where a row has no usable text; see `text_evidence`."""
    return text_evidence(texts, labels_N, classes).score_N


def text_evidence(
    texts: Mapping[str, Sequence[str]], labels_N: ArrayLike, classes: Sequence[str]
) -> TextEvidence:
    """What the texts of N rows say of their labels (N,), −1 where there is none.

    texts: by field N strings, "" for none; they are read by slices, so a column may fetch them when asked.
    Raises ValueError for other lengths and labels outside the classes, TypeError for labels that are no
    integers.
    """
    labels = whole_numbers("labels", labels_N).astype(np.int32)
    for name, column in texts.items():
        if len(column) != len(labels):
            raise ValueError(f"texts[{name!r}] has {len(column)} rows, and labels ({len(labels)},)")
    if labels.max(initial=-1) >= len(classes):
        raise ValueError(f"a label is {labels.max()}, and there are {len(classes)} classes")
    counted = {name: count(hashed(column), labels, len(classes)) for name, column in texts.items()}
    fits = {name: fitted(counts, labels) for name, counts in counted.items()}
    used = [(counted[name], fit) for name, fit in fits.items() if fit.tells]
    score_N = np.full(len(labels), np.nan)
    best_N = np.full(len(labels), -1, np.int32)
    for start in range(0, len(labels) if used else 0, BLOCK):
        block = slice(start, min(start + BLOCK, len(labels)))
        score_N[block], best_N[block] = _judged(used, labels, block)
    known = ~np.isnan(score_N)
    shares = np.bincount(labels[known], minlength=1) / max(known.sum(), 1)
    accuracy = float((best_N == labels)[known].mean()) if known.any() else float("nan")
    return TextEvidence(score_N, best_N, fits, accuracy, float(shares.max()) if known.any() else float("nan"))


@dataclass(frozen=True)
class Sums:
    """Log odds summed over the words of B rows: of the own class, and of a class that shares no word with the
    row; and by (row, class) of the P others that share one. Those of a class as the average is are 0."""

    words_B: Ints
    own_B: Floats
    none_B: Floats
    row_P: Ints
    class_P: Ints
    sum_P: Floats


def summed(counts: Counts, labels_N: NDArray[np.int32], rows: Ints | slice) -> Sums:
    """The sums of rows, each left out of the counts; not scaled yet."""
    rows_B = np.arange(len(labels_N))[rows]
    size, lengths = len(rows_B), np.diff(counts.offsets)[rows_B]
    row_E = np.repeat(np.arange(size), lengths)
    starts = counts.offsets[rows_B] - np.cumsum(lengths) + lengths
    place_E = np.arange(len(row_E)) + np.repeat(starts, lengths)
    word_E, label_E = counts.words[place_E], labels_N[rows_B][row_E]
    share_E, strength_E = counts.share_C[label_E], counts.strength_V[word_E]
    weight_E = counts.weight_N[rows_B[row_E]].astype(np.float64)
    own_E = np.maximum(counts.own_T[place_E] - weight_E, 0)
    total_E = np.maximum(counts.total_V[word_E] - weight_E, 0)
    q_E = left_out(counts.belief_V[word_E], own_E, share_E, total_E, strength_E)
    kept_EK, count_EK = counts.kept_VK[word_E], counts.count_VK[word_E].astype(np.float64)
    other_EK = (kept_EK >= 0) & (kept_EK != label_E[:, None])
    share_EK = counts.share_C[kept_EK]
    left_E = 1 - share_E - np.where(other_EK, share_EK, 0).sum(axis=1)  # of classes neither own nor kept
    mass_E = np.maximum(total_E - own_E - np.where(other_EK, count_EK, 0).sum(axis=1), 0)
    spread_E = np.where(left_E > 1e-9, mass_E, 0)
    rest_E = odds(spread_E, np.maximum(left_E, 1e-9), total_E, strength_E, q_E)
    more_EK = odds(count_EK, share_EK, total_E[:, None], strength_E[:, None], q_E[:, None]) - rest_E[:, None]
    codes = (row_E[:, None] * len(counts.share_C) + kept_EK)[other_EK]
    pairs, inverse = np.unique(codes, return_inverse=True)
    row_P, class_P = pairs // len(counts.share_C), pairs % len(counts.share_C)
    none_B = summed_by(row_E, rest_E, size)
    own_B = summed_by(row_E, odds(own_E, share_E, total_E, strength_E, q_E), size)
    sum_P = none_B[row_P] + summed_by(inverse, more_EK[other_EK], len(pairs))
    return Sums(lengths, own_B, none_B, row_P, class_P, sum_P)


def fitted(counts: Counts, labels_N: NDArray[np.int32]) -> FieldFit:
    """The sharpness, the power of the length and the share astray that make left-out labels likeliest."""
    usable = np.flatnonzero(np.diff(counts.offsets) > 0)
    if not len(usable):
        return FieldFit(0, 0.0, 0.0, 0.0, 0.0, 1.0)
    rows = usable[:: max(1, len(usable) // SAMPLE)]
    sums = summed(counts, labels_N, rows)
    label_B = labels_N[rows]
    best = (0.0, 0.0, 0.0, 0.0, 1.0)
    for sharpness, length in product(SHARPNESS, LENGTH):
        likely_B = np.exp(_log_share(sums, label_B, counts.share_C, sharpness, length))
        for astray in ASTRAY:
            gain_B = np.log((1 - astray) * likely_B + astray)
            gain = float(gain_B.mean())
            if gain > best[0]:
                best = (gain, float(gain_B.std() / np.sqrt(len(rows))), sharpness, length, astray)
    return FieldFit(len(usable), *best)


def _log_share(
    sums: Sums, label_B: NDArray[np.int32], share_C: Floats, sharpness: float, length: float
) -> Floats:
    """log(p(label | text)/π) of each row, over all classes."""
    scale_B = sharpness / np.maximum(sums.words_B, 1) ** length
    largest_B = np.maximum(sums.own_B, sums.none_B)
    np.maximum.at(largest_B, sums.row_P, sums.sum_P)
    own_B = scale_B * (sums.own_B - largest_B)
    none_B = scale_B * (sums.none_B - largest_B)
    more_P = np.exp(scale_B[sums.row_P] * (sums.sum_P - largest_B[sums.row_P]))
    size = len(label_B)
    others_B = np.bincount(sums.row_P, share_C[sums.class_P] * more_P, size)
    left_B = 1 - share_C[label_B] - np.bincount(sums.row_P, share_C[sums.class_P], size)
    return np.asarray(
        own_B - np.log(share_C[label_B] * np.exp(own_B) + others_B + np.maximum(left_B, 0) * np.exp(none_B))
    )


def _judged(
    used: Sequence[tuple[Counts, FieldFit]], labels_N: NDArray[np.int32], block: slice
) -> tuple[Floats, NDArray[np.int32]]:
    """(scores, classes that the texts speak for most) of a block of rows."""
    labels_B = labels_N[block]
    size, num_classes = len(labels_B), len(used[0][0].share_C)
    fields = [(summed(counts, labels_N, block), fit) for counts, fit in used]
    codes = np.unique(np.concatenate([sums.row_P * num_classes + sums.class_P for sums, _ in fields]))
    row_P, class_P = codes // num_classes, codes % num_classes
    against_P, average_B, words_B = np.zeros(len(codes)), np.zeros(size), np.zeros(size, np.int64)
    for sums, fit in fields:
        scale_B = fit.sharpness / np.maximum(sums.words_B, 1) ** fit.length
        sum_P = sums.none_B[row_P]
        sum_P[np.searchsorted(codes, sums.row_P * num_classes + sums.class_P)] = sums.sum_P
        against_P += saturated(scale_B[row_P] * (sums.own_B[row_P] - sum_P))
        average_B += saturated(scale_B * (sums.own_B))
        words_B += sums.words_B
    score_B = average_B.copy()
    np.minimum.at(score_B, row_P, against_P)
    best_B = labels_B.copy()
    low_B = np.zeros(size)
    np.minimum.at(low_B, row_P, against_P)
    winner = (against_P < 0) & (against_P == low_B[row_P])
    best_B[row_P[winner][::-1]] = class_P[winner][::-1]  # of equals the lowest class
    nothing = words_B == 0
    score_B = np.round(score_B / STEP) * STEP
    score_B[nothing], best_B[nothing] = np.nan, -1
    return score_B, best_B


def saturated(odds: Floats) -> Floats:
    """g(d): what log odds are worth where a text may be an echo or about something else."""
    bounded = np.clip(odds, -50, 50)
    ratio = np.exp(bounded)
    return np.asarray(np.log((1 - ELSEWHERE) * ratio + ELSEWHERE) - np.log(ECHO * ratio + 1 - ECHO))
