"""How often each class says each word, shrunk to how often all classes do; each row can be taken out again.
 Of word t in class k: n_tk, the weight of the class's texts that have it, n_t their sum over the classes,
π_k the class's share of the rows. Either the word tells classes apart, then its odds for the class
against the average are r_tk = (n_tk + a·π_k)/(π_k·(n_t + a)), a Dirichlet-multinomial whose centre is the
classes' shares; or it does not, and they are 1. With q, the probability of the first given the counts,
they are 1 + q·(r_tk − 1).

The strength a and the share of telling words are fitted to the words themselves, for rare and for frequent
ones apart, by the likelihood of each row's label when the row is left out. Leaving a row of class y out
divides the Bayes factor of a word by r_ty, which is exact where its weight is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.mining.tokens import BITS, Words

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KEPT = 16  # classes looked at for each word: those that it speaks for most
STRENGTHS = tuple(2.0**power for power in range(-2, 11, 2))  # a, in texts
TELLING = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95)  # shares of words that tell classes apart
PART = 1 << 24  # words counted at once
SAMPLE = 1 << 19  # pairs of word and class that are fitted to
LEAST = 3.0  # nats that telling words must gain in their group to be believed in
LARGEST = 500.0  # of the log of a Bayes factor: beyond it is certainty


@dataclass(frozen=True)
class Counts:
    """What one field says, of V words that at least two rows have.

    words: (T,) int32 in 0..V−1, those of row i at offsets[i]:offsets[i + 1]. weight_N: float32 of each row's
    text: 1 where nobody else of its class has the same words, 1/√m where m rows have. own_T: float32 n_ty of
    the row's own class, the row included. total_V: n_t. kept_VK: int32 classes, −1 for none; count_VK
    float32: n_tk. strength_V: a. belief_V: log odds that the word tells classes apart, by all rows. share_C:
    π.
    """

    words: NDArray[np.int32]
    offsets: Ints
    weight_N: NDArray[np.float32]
    own_T: NDArray[np.float32]
    total_V: Floats
    kept_VK: NDArray[np.int32]
    count_VK: NDArray[np.float32]
    strength_V: Floats
    belief_V: Floats
    share_C: Floats


@dataclass(frozen=True)
class Pairs:
    """The P pairs of a word and a class that has it, by word, then class: n_tk."""

    word: Ints
    label: Ints
    count: Floats


def count(read: Words, labels_N: NDArray[np.int32], num_classes: int, kept: int = KEPT) -> Counts:
    """The counts of a field over rows with a label (others have label −1, and count for nothing)."""
    words, offsets = _shared(read, labels_N)
    lengths = np.diff(offsets)
    weight_N = _weights(read.texts_N, lengths, labels_N)
    share_C = np.bincount(labels_N[labels_N >= 0], minlength=num_classes) + 0.5
    share_C = share_C / share_C.sum()
    size = int(words.max(initial=-1)) + 1
    pairs, own_T = _pairs(words, np.repeat(labels_N, lengths), np.repeat(weight_N, lengths), num_classes)
    total_V = summed_by(pairs.word, pairs.count, size)
    kept_VK, count_VK = _kept(pairs, share_C, size, kept)
    rows_V = np.bincount(words, minlength=size)
    strength_V, telling_V = _fitted(pairs, total_V, rows_V, share_C)
    bayes_V = bayes_factors(pairs, total_V, share_C, strength_V)
    with np.errstate(divide="ignore"):
        belief_V = np.clip(bayes_V + np.log(telling_V) - np.log1p(-telling_V), -LARGEST, LARGEST)
    return Counts(words, offsets, weight_N, own_T, total_V, kept_VK, count_VK, strength_V, belief_V, share_C)


def summed_by(index_T: NDArray[Any], values_T: NDArray[Any], size: int) -> Floats:
    """(size,) sums of the values of each index, in float64."""
    sums: NDArray[Any] = np.bincount(index_T, values_T, size)
    return sums.astype(np.float64, copy=False)


def odds(
    count_E: Floats, share_E: Floats | float, total_E: Floats, strength_E: Floats, telling_E: Floats
) -> Floats:
    """log(1 + q·(r − 1)) of words in a class: n_tk (of some classes: their sum), π_k, n_t, a and q."""
    ratio_E = (count_E / share_E + strength_E) / (total_E + strength_E)
    return np.asarray(np.log1p(telling_E * (ratio_E - 1)))


def left_out(belief_E: Floats, own_E: Floats, share_E: Floats, total_E: Floats, strength_E: Floats) -> Floats:
    """q without a row of a class that has n_ty = own_E and n_t = total_E when the row is left out."""
    ratio_E = (own_E / share_E + strength_E) / (total_E + strength_E)
    return np.asarray(1 / (1 + np.exp(np.clip(np.log(ratio_E) - belief_E, -LARGEST, LARGEST))))


def bayes_factors(pairs: Pairs, total_V: Floats, share_C: Floats, strength_V: Floats) -> Floats:
    """log of how much likelier a Dirichlet-multinomial of strength a makes each word's counts than π does."""
    strength_P, share_P = strength_V[pairs.word], share_C[pairs.label]
    centre_P = strength_P * share_P
    likely_P = log_gamma(pairs.count + centre_P) - log_gamma(centre_P) - pairs.count * np.log(share_P)
    return np.asarray(
        log_gamma(strength_V) - log_gamma(total_V + strength_V)
        + np.bincount(pairs.word, likely_P, len(total_V))
    )  # fmt: skip


def log_gamma(x: Floats) -> Floats:
    """log Γ of positive numbers to 1e-10 of it: Stirling's series at x + 8, and the recurrence down to x."""
    shifted = x + 8
    inverse = 1 / shifted
    series = inverse * (1 / 12 - inverse**2 * (1 / 360 - inverse**2 * (1 / 1260 - inverse**2 / 1680)))
    product_8 = x * (x + 1) * (x + 2) * (x + 3) * (x + 4) * (x + 5) * (x + 6) * (x + 7)
    stirling = (shifted - 0.5) * np.log(shifted) - shifted + 0.5 * np.log(2 * np.pi) + series
    return np.asarray(stirling - np.log(product_8))


def _shared(read: Words, labels_N: NDArray[np.int32]) -> tuple[NDArray[np.int32], Ints]:
    """(words, offsets) of labelled rows, without words of a single row: they say nothing once it is left
    out."""
    labelled_T = np.repeat(labels_N >= 0, np.diff(read.offsets))
    often = np.bincount(read.words[labelled_T], minlength=1 << BITS) > 1
    number = np.cumsum(often, dtype=np.int32) - 1
    use_T = labelled_T & often[read.words]
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(use_T)])
    return number[read.words[use_T]], before[read.offsets]


def _weights(
    texts_N: NDArray[np.uint64], lengths_N: Ints, labels_N: NDArray[np.int32]
) -> NDArray[np.float32]:
    """1/√m, m rows of a class having the same words: a copied text counts √m times, not m."""
    weight_N = np.zeros(len(texts_N), np.float32)
    use = np.flatnonzero((lengths_N > 0) & (labels_N >= 0))
    order = use[np.lexsort((labels_N[use], texts_N[use]))]
    same = (np.diff(texts_N[order]) == 0) & (np.diff(labels_N[order]) == 0)
    group = np.cumsum(np.concatenate([np.zeros(1, bool), ~same])[: len(order)])
    weight_N[order] = 1 / np.sqrt(np.bincount(group)[group])
    return weight_N


def _pairs(
    words: NDArray[np.int32], label_T: NDArray[np.int32], weight_T: NDArray[np.float32], num_classes: int
) -> tuple[Pairs, NDArray[np.float32]]:
    """(pairs, n_ty of each place), some PART places at once, by ranges of words."""
    own_T = np.zeros(len(words), np.float32)
    found: list[tuple[Ints, Floats]] = [(np.empty(0, np.int64), np.empty(0))]
    for part in _parts(words):
        codes, inverse = np.unique(
            words[part].astype(np.int64) * num_classes + label_T[part], return_inverse=True
        )
        sums = summed_by(inverse, weight_T[part], len(codes))
        own_T[part] = sums[inverse]
        found.append((codes, sums))
    codes, sums = (np.concatenate(column) for column in zip(*found, strict=True))
    return Pairs(codes // num_classes, codes % num_classes, sums), own_T


def _parts(words: NDArray[np.int32]) -> list[Ints]:
    """Places of the words, by ranges of words of at most some PART places each."""
    if len(words) <= PART:
        return [np.arange(len(words))]
    before = np.cumsum(np.bincount(words))
    cuts = np.searchsorted(before, np.arange(PART, before[-1], PART)) + 1
    bounds = np.unique(np.concatenate([[0], cuts, [len(before)]])).tolist()
    return [np.flatnonzero((words >= low) & (words < high)) for low, high in pairwise(bounds)]


def _kept(
    pairs: Pairs, share_C: Floats, size: int, kept: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(classes, counts) of each word, those with the most for their share, ties by class."""
    kept_VK = np.full((size, kept), -1, np.int32)
    count_VK = np.zeros((size, kept), np.float32)
    order = np.lexsort((pairs.label, -pairs.count / share_C[pairs.label], pairs.word))
    word = pairs.word[order]
    start = np.flatnonzero(np.diff(word, prepend=-1))
    place = np.arange(len(word)) - np.repeat(start, np.diff(start, append=len(word)))
    use, place = order[place < kept], place[place < kept]
    kept_VK[pairs.word[use], place] = pairs.label[use]
    count_VK[pairs.word[use], place] = pairs.count[use]
    return kept_VK, count_VK


def _fitted(pairs: Pairs, total_V: Floats, rows_V: Ints, share_C: Floats) -> tuple[Floats, Floats]:
    """(a, share of telling words) of each word: the likeliest for words of about its number of rows (by
    powers of 2). All texts of a word are taken to weigh what they weigh on average."""
    if not len(rows_V):
        return np.ones(0), np.zeros(0)
    frequency_V = np.floor(np.log2(rows_V)).astype(np.int64)
    every = max(1, len(pairs.word) // SAMPLE)
    use = np.flatnonzero(pairs.word % every == 0)
    sample = Pairs(pairs.word[use], pairs.label[use], pairs.count[use])
    weight_P = (total_V / rows_V)[sample.word]
    share_P = share_C[sample.label]
    own_P, total_P = np.maximum(sample.count - weight_P, 0), total_V[sample.word] - weight_P
    size = int(frequency_V.max()) + 1
    best_F, strength_F, telling_F = np.full(size, LEAST), np.full(size, STRENGTHS[-1]), np.zeros(size)
    for strength in reversed(STRENGTHS):  # of equals the most careful
        a_P = np.full(len(use), strength)
        bayes_P = bayes_factors(sample, total_V, share_C, np.full(len(total_V), strength))[sample.word]
        for telling in TELLING[1:]:
            q_P = left_out(bayes_P + np.log(telling / (1 - telling)), own_P, share_P, total_P, a_P)
            gain_P = sample.count * odds(own_P, share_P, total_P, a_P, q_P)
            gain_F = np.bincount(frequency_V[sample.word], gain_P, size)
            better = gain_F > best_F
            best_F[better], strength_F[better], telling_F[better] = gain_F[better], strength, telling
    return strength_F[frequency_V], telling_F[frequency_V]
