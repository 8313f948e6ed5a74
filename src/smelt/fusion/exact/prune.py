"""Candidates: the classes of an image that weights can move before or behind its label.

A rival with a higher number than the label is before it in the list where its fused score is higher, one
with a lower number also where it is equal (`smelt.metrics`). Decisions are those of `reference.fused`:
- monotony settles what holds in every result: a later rival that is ≤ the label in all never comes before
  it, an earlier one that is ≥ in all always does;
- everything else needs a margin for rounding: sums that differ by less may come out equal, or turned round.
Only classes that come up to the label, or near it, in some result are looked at any closer.

Weights w ≥ 0 with sum 1 and none above `cap` give Σ w_m D_m at most the mean of the greatest 1/cap of the
differences D_m = s_m(class) − s_m(label), and at least the mean of the least 1/cap. A class whose greatest
mean is below the margin never counts, one whose least mean is above it always does. What is between are the
image's candidates. An image with k or more certain classes is wrong, one with fewer than k certain classes
and candidates together is right, whatever the weights; the rest are undecided. Several k share candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.scores.reference import UNDERFLOW, rounding, single
from smelt.fusion.scores.soften import Softened, SoftenedLabels

PER_IMAGE = ("hits_KN", "singles_KMN")  # fields whose last axis is the images
TILE = 1 << 17  # elements compared at once, so that they stay in the cache
Values = NDArray[Any] | Softened
Labels = NDArray[Any] | SoftenedLabels  # (M, B)
WIDE = 256  # classes from which on lines are counted one by one, which is quicker then
HALVES = 1500  # results up to which the steps of float16 are wider than what the sums' rounding can hide
MANY = 256  # candidates from which on an image's are searched for repeats
BEYOND = 1 + 4e-5  # weights may be above the cap by the rounding of float32; so much is proven for


@dataclass(frozen=True)
class Pruned:
    """N images after pruning; U of them undecided, with R candidates in all.

    hits_KN: for each k 1 right, 0 wrong, -1 undecided. images_U: positions of those that are
    undecided for any k. certain_U: how many classes come before the label in any case: an image is wrong when
    k − certain of its candidates do, too. counts_U: candidates of each. classes_R: ids. before_R: which of
    them win a tie with the label. values_RM: their values, own_UM: the label's. singles_KMN: hits of each
    result alone.
    """

    hits_KN: NDArray[np.int8]
    images_U: NDArray[np.int64]
    certain_U: NDArray[np.int32]
    counts_U: NDArray[np.int64]
    classes_R: NDArray[np.int32]
    before_R: NDArray[np.bool_]
    values_RM: NDArray[Any]
    own_UM: NDArray[Any]
    singles_KMN: NDArray[np.bool_]


def moved(pruned: Pruned, by: int) -> Pruned:
    """The same of images that begin at `by`."""
    return replace(pruned, images_U=pruned.images_U + by)


def joined(blocks: Sequence[Pruned]) -> Pruned:
    """The images of all blocks, one after the other."""
    return Pruned(**{
        field.name: np.concatenate([getattr(block, field.name) for block in blocks],
                                   axis=-1 if field.name in PER_IMAGE else 0)
        for field in fields(Pruned)
    })  # fmt: skip


def counted(blocks: Sequence[tuple[Sequence[Values], Labels]], labels_B: NDArray[np.integer]) -> list[Counts]:
    """`count` for each of several poolings of the same results, those of the same logits together."""
    made: dict[tuple[int, ...], Counts] = {}
    soft = [any(isinstance(one, Softened) for one in values_MBC) for values_MBC, _ in blocks]
    found: dict[int, Counts] = {}
    for index in sorted(range(len(blocks)), key=lambda index: not soft[index]):
        values_MBC, own_MB = blocks[index]
        raws = (one.logits_BC if isinstance(one, Softened) else one for one in values_MBC)
        where = tuple(int(raw.__array_interface__["data"][0]) for raw in raws)
        if where not in made:
            made[where] = count(values_MBC, own_MB, labels_B)
        found[index] = made[where]
    return [found[index] for index in range(len(blocks))]


def prune_counted(
    values_MBC: Sequence[Values],
    own_MB: Labels,
    labels_B: NDArray[np.integer],
    counts: Counts,
    ks: Sequence[int],
    cap: float,
) -> Pruned:
    """Decide the images of a block, whose classes were counted, or find their candidates. Labels below 0:
    decided as wrong."""
    labels_B = np.asarray(labels_B)
    k_K1 = np.array(ks)[:, None]
    possible_BC = counts.near_BC > 0
    possible_B = possible_BC.sum(axis=1)
    hits_KN = np.where(possible_B < k_K1, 1, -1).astype(np.int8)
    hits_KN[:, labels_B < 0] = 0
    asked = np.flatnonzero((hits_KN < 0).any(axis=0))
    far = asked[possible_B[asked] >= max(ks)]
    wrong = _surely_wrong(values_MBC, own_MB, labels_B, counts.near_BC, far, max(ks), cap)
    hits_KN[:, wrong] = 0
    images = np.setdiff1d(asked, wrong, assume_unique=True)
    line, classes = np.nonzero(possible_BC[images])
    before_R = classes < labels_B[images][line]
    values_RM = _gathered(values_MBC, images[line], classes, own_MB.dtype)
    own_UM = np.ascontiguousarray(own_MB[:, images].T)
    low_R, high_R = _bounds(values_RM, own_UM, line, before_R, cap)
    certain = np.bincount(line[low_R], minlength=len(images))
    open_R = high_R & ~low_R
    _drop_repeats(open_R, values_RM, line, before_R, max(ks) - certain)
    number = np.bincount(line[open_R], minlength=len(images))
    found_KU = np.where(certain >= k_K1, 0, np.where(certain + number < k_K1, 1, -1))
    hits_KN[:, images] = found_KU
    left = np.asarray((found_KU < 0).any(axis=0))
    rows = np.flatnonzero(open_R & left[line])
    return Pruned(
        hits_KN=hits_KN,
        images_U=images[left],
        certain_U=certain[left].astype(np.int32),
        counts_U=number[left],
        classes_R=classes[rows].astype(np.int32),
        before_R=before_R[rows],
        values_RM=np.ascontiguousarray(values_RM[rows]),
        own_UM=np.ascontiguousarray(own_UM[left]),
        singles_KMN=counts.over_MB[None] < k_K1[:, :, None],
    )


def _drop_repeats(
    open_R: NDArray[np.bool_],
    values_RM: NDArray[Any],
    line_R: NDArray[np.int64],
    before_R: NDArray[np.bool_],
    need_U: NDArray[np.int64],
) -> None:
    """Take back all but `need` of an image's candidates that have the same values in every result.

    They come before the label together or not at all, so that many decide. Where results tie thousands of
    classes (underflow, ranks beyond the last that count) this is what keeps an image small.
    """
    counts_U = np.bincount(line_R[open_R], minlength=len(need_U))
    rows = np.flatnonzero(open_R & (counts_U > MANY)[line_R])
    if not len(rows):
        return
    bits = values_RM[rows].astype(np.float32).view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1 << 62, size=bits.shape[1], dtype=np.uint64)
    order = np.lexsort(((bits * factors).sum(axis=1), before_R[rows], line_R[rows]))
    rows, bits = rows[order], bits[order]
    same = (bits[1:] == bits[:-1]).all(axis=1)
    same &= (line_R[rows[1:]] == line_R[rows[:-1]]) & (before_R[rows[1:]] == before_R[rows[:-1]])
    first = np.flatnonzero(np.concatenate([[True], ~same]))
    place = np.arange(len(rows)) - np.repeat(first, np.diff([*first, len(rows)]))
    open_R[rows[place >= np.maximum(need_U[line_R[rows]], 1)]] = False


@dataclass(frozen=True)
class Counts:
    """near_BC: how many results put a class before the label, or so near it that the rounding of sums might.
    over_MB: how many classes each result alone puts before it, as stored."""

    near_BC: NDArray[Any]
    over_MB: NDArray[np.int64]


def count(values_MBC: Sequence[Values], own_MB: Labels, labels_B: NDArray[np.integer]) -> Counts:
    """Compare every class with its image's label, in every result.

    Probabilities are compared by their logits; the counts will do for these, too.
    """
    num_results, size = own_MB.shape
    num_classes = values_MBC[0].shape[1]
    near_BC = np.zeros((size, num_classes), np.uint8 if num_results < 256 else np.uint16)
    over_MB = np.empty((num_results, size), np.int64)
    labels = np.maximum(np.asarray(labels_B, np.int64), 0)
    step = max(1, TILE // num_classes)
    here = np.arange(size)
    raws, owns, lows = [], [], []
    for index, values in enumerate(values_MBC):
        if isinstance(values, Softened):
            raw, own = values.logits_BC, values.logits_BC[here, labels]
            low = values.lowest(own, num_results)
        else:
            own_B = own_MB.own[index] if isinstance(own_MB, SoftenedLabels) else own_MB[index]
            raw, own = values, np.asarray(own_B, values.dtype)
            low = _lowest(own, num_results)
        raws.append(raw)
        owns.append(own)
        lows.append(low)
    for start in range(0, size, step):
        part = slice(start, min(size, start + step))
        compare = _Comparison(labels[part], num_classes)
        for index, raw in enumerate(raws):
            compare.add(raw[part], owns[index][part], lows[index][part], near_BC[part])
            over_MB[index, part] = compare.over()
    return Counts(near_BC, over_MB)


def _lowest(own_B: NDArray[Any], num_results: int) -> NDArray[np.float32]:
    """Values (B,) below which a class cannot come up to the label in a sum of results."""
    own = single(own_B)
    if own_B.dtype == np.float16 and num_results <= HALVES:
        return own
    return np.asarray(
        own - 2.1 * rounding(num_results) * np.abs(own) - num_results * num_results * UNDERFLOW, np.float32
    )


class _Comparison:
    """One block's classes against their labels, one result after the other, in buffers that stay.

    numpy compares integers ten times as fast as float16, so bits are compared: they order numbers that are
    not negative as signed integers do, negative ones as unsigned integers in reverse. A class before the
    label needs one step less than it.
    """

    def __init__(self, labels_B: NDArray[np.int64], num_classes: int) -> None:
        shape = (len(labels_B), num_classes)
        self.label = (np.arange(len(labels_B)), labels_B)
        self.before = np.arange(num_classes) < labels_B[:, None]
        self.steps = self.before.astype(np.int16)
        self.flags, self.near = np.empty(shape, np.bool_), np.empty(shape, np.bool_)
        self.keys, self.limits = np.empty(shape, np.int16), np.empty(shape, np.int16)

    def add(
        self, values_BC: NDArray[Any], own_B: NDArray[Any], low_B: NDArray[np.float32], near_BC: NDArray[Any]
    ) -> None:
        """Flag the classes that come before the label in this result; count those not below `low`."""
        if values_BC.dtype == np.float16:
            self._halves(np.ascontiguousarray(values_BC).view(np.int16), own_B, _floor(low_B))
        else:
            np.equal(values_BC, own_B[:, None], out=self.near)
            np.greater(values_BC, own_B[:, None], out=self.flags)
            self.flags |= np.logical_and(self.near, self.before, out=self.near)
            np.greater_equal(values_BC, low_B[:, None], out=self.near)
        self.flags[self.label] = False
        self.near[self.label] = False
        np.add(near_BC, self.near.view(np.uint8), out=near_BC, casting="unsafe")

    def _halves(
        self, bits: NDArray[np.int16], own_B: NDArray[np.float16], low_B: NDArray[np.float16]
    ) -> None:
        own, low = (_bits(one)[:, None] for one in (own_B, low_B))
        limits, keys = self.limits, self.keys
        if bool((low > 0).all()):
            np.greater(bits, np.subtract(own, self.steps, out=limits), out=self.flags)
            np.greater_equal(bits, low, out=self.near)
        elif bool((own < 0).all()):
            np.add(own, self.steps, out=limits)
            np.less(bits.view(np.uint16), limits.view(np.uint16), out=self.flags)
            np.less_equal(bits.view(np.uint16), low.view(np.uint16), out=self.near)
        else:
            np.bitwise_xor(
                np.bitwise_and(np.right_shift(bits, 15, out=keys), 0x7FFF, out=keys), bits, out=keys
            )
            # −0 is one step below 0 here, though it is equal
            steps = self.steps
            if (own == 0).any():
                steps = np.multiply(steps, np.where(own == 0, np.int16(2), np.int16(1)), out=limits)
            np.greater(keys, np.subtract(_key(own), steps, out=limits), out=self.flags)
            np.greater_equal(keys, _key(low) - (low == 0), out=self.near)

    def over(self) -> NDArray[np.int64]:
        """How many classes come before each label, (B,), in the result added last."""
        if self.flags.shape[1] >= WIDE:
            return np.array([np.count_nonzero(row) for row in self.flags])
        return np.asarray(np.count_nonzero(self.flags, axis=1))


def _bits(values_B: NDArray[np.float16]) -> NDArray[np.int16]:
    """Bits of float16, −0 as 0."""
    return np.ascontiguousarray(values_B + np.float16(0), np.float16).view(np.int16)


def _key(bits: NDArray[np.int16]) -> NDArray[np.int16]:
    """Integers that are ordered as the numbers of these bits are."""
    return np.asarray(bits ^ ((bits >> 15) & 0x7FFF), np.int16)


def _floor(low_B: NDArray[np.float32]) -> NDArray[np.float16]:
    """The largest float16 that are not above."""
    with np.errstate(over="ignore"):
        halves = low_B.astype(np.float16)
    return np.where(halves > low_B, np.nextafter(halves, np.float16(-np.inf)), halves)


def _surely_wrong(
    values_MBC: Sequence[Values],
    own_MB: Labels,
    labels_B: NDArray[np.integer],
    above_BC: NDArray[Any],
    images: NDArray[np.int64],
    k: int,
    cap: float,
) -> NDArray[np.int64]:
    """Those of `images` that k or more of their most promising classes are above in any case.

    Saves looking at the hundreds of candidates of an image that is far from right.
    """
    tried = 4 * k
    if above_BC.shape[1] <= 2 * tried or not len(images):
        return images[:0]
    best = np.argpartition(above_BC[images], -tried, axis=1)[:, -tried:]
    line = np.repeat(np.arange(len(images)), tried)
    values_RM = _gathered(values_MBC, images[line], best.reshape(-1), own_MB.dtype)
    before_R = best.reshape(-1) < labels_B[images][line]
    low_R, _ = _bounds(values_RM, np.ascontiguousarray(own_MB[:, images].T), line, before_R, cap)
    wrong: NDArray[np.int64] = images[low_R.reshape(len(images), tried).sum(axis=1) >= k]
    return wrong


def _gathered(
    values_MBC: Sequence[Values], images_R: NDArray[np.int64], classes_R: NDArray[np.int64], kind: Any
) -> NDArray[Any]:
    """Values (R, M) of single classes."""
    values_MR = np.empty((len(values_MBC), len(images_R)), kind)
    places_R = images_R * values_MBC[0].shape[1] + classes_R
    for row, values_BC in zip(values_MR, values_MBC):
        if isinstance(values_BC, Softened):
            row[:] = values_BC.of(np.take(values_BC.logits_BC.reshape(-1), places_R), images_R)
        elif values_BC.dtype == kind:
            np.take(values_BC.reshape(-1), places_R, out=row, mode="clip")
        else:
            row[:] = values_BC.reshape(-1)[places_R]
    return np.ascontiguousarray(values_MR.T)


def _bounds(
    values_RM: NDArray[Any],
    own_UM: NDArray[Any],
    line_R: NDArray[np.int64],
    before_R: NDArray[np.bool_],
    cap: float,
    chunk: int = 1 << 10,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each candidate: does it come before the label under all weights, and under some? (R,), (R,)."""
    low = np.empty(len(values_RM), np.bool_)
    high = np.empty(len(values_RM), np.bool_)
    num_results = values_RM.shape[1]
    share = extreme_shares(num_results, cap * BEYOND)
    labels_UM = single(own_UM)
    # no value is larger than the label's largest and the largest difference together
    largest_U = 2 * np.abs(labels_UM).max(axis=1, initial=0)
    for start in range(0, len(values_RM), chunk):
        part = slice(start, start + chunk)
        differences = single(values_RM[part]) - labels_UM[line_R[part]]
        always = before_R[part] & (differences >= 0).all(axis=1)
        never = ~before_R[part] & (differences <= 0).all(axis=1)
        least, greatest, largest = extreme_means(differences, share)
        # rounding of the two sums, and once more of the means here
        slack = rounding(num_results) * (2 * largest + largest_U[line_R[part]]) + num_results * UNDERFLOW
        low[part] = always | (least > slack)
        high[part] = ~never & (greatest >= -slack)
    return low, high


def extreme_shares(num_results: int, cap: float) -> NDArray[np.float32]:
    """Weights, in descending order of value, that make Σ w_m D_m greatest under w ≤ cap, Σw = 1; (M,)."""
    cap = max(cap, 1.0 / num_results)
    left = 1.0 - cap * np.arange(num_results)
    return np.asarray(np.clip(left, 0.0, cap), np.float32)


def extreme_means(
    differences_RM: NDArray[np.float32], share_M: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Least and greatest Σ w_m D_m of each row, and its largest |D|; each (R,). Overwrites its input."""
    if share_M[0] >= 1.0:
        least, greatest = differences_RM.min(axis=1), differences_RM.max(axis=1)
        return least, greatest, np.maximum(np.abs(least), np.abs(greatest))
    differences_RM.sort(axis=1)
    largest = np.maximum(np.abs(differences_RM[:, 0]), np.abs(differences_RM[:, -1]))
    return differences_RM @ share_M, differences_RM @ share_M[::-1], largest
