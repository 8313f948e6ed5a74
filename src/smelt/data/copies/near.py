"""All pairs of 64-bit values within a small Hamming distance: exact, and quick at tens of millions.

Pigeonhole (multi-index hashing, Norouzi, Punjani and Fleet 2012, in the form of Manku, Jain and Das Sarma
2007, §3): split the bits into b blocks; two values at distance ≤ d agree wholly on at least b − d of them.
For each choice of b − d blocks the values are sorted with those blocks in front, and neighbours with an
equal front are compared. b is chosen by cost. A pair is reported by the first choice that finds it, so no
list of pairs seen is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.uint64]
Pairs = tuple[Values, Values]

BITS = 64
FEW = 512  # as few values as this are compared all with all
LONG_RUN = 4096  # a run of equal fronts longer than this is split again by the bits that still vary
CHUNK = 1 << 20
# Nanoseconds: sorting and cutting one value once, comparing one pair (measured, one core)
SORT_COST, COMPARE_COST = 130.0, 12.0


def near_values(values_N: Values, max_distance: int, threads: int = 2) -> Pairs:
    """All pairs of the distinct `values_N` that differ in 1..`max_distance` bits: (lower, higher), each once.

    The order of the pairs is by (lower, higher). Memory: some 24 bytes a value and thread, plus the pairs.
    """
    found = list(_join(np.sort(values_N), max_distance, threads))
    lower = np.concatenate([pair[0] for pair in found]) if found else np.zeros(0, np.uint64)
    higher = np.concatenate([pair[1] for pair in found]) if found else np.zeros(0, np.uint64)
    lower, higher = np.minimum(lower, higher), np.maximum(lower, higher)
    order = np.lexsort((higher, lower))
    return lower[order], higher[order]


def _join(values_N: Values, max_distance: int, threads: int) -> Iterator[Pairs]:
    """Pairs of the distinct, sorted values, in no particular order."""
    if max_distance < 1 or len(values_N) < 2:
        return
    weights = _entropy(values_N)
    blocks = _plan(len(values_N), weights, max_distance)
    if len(values_N) <= FEW or not blocks:
        yield from _compare_runs(values_N, np.uint64(0), max_distance)
        return
    choices = list(combinations(range(len(blocks)), len(blocks) - max_distance))

    def one(choice: tuple[int, ...]) -> list[Pairs]:
        return list(_join_choice(values_N, blocks, choice, max_distance))

    if threads == 1:
        for choice in choices:
            yield from one(choice)
        return
    with ThreadPoolExecutor(threads) as pool:
        for pairs in pool.map(one, choices):
            yield from pairs


def _entropy(values_N: Values) -> NDArray[np.float64]:
    """Bits of information in each of the 64 bits, from at most a million values, (64,); lowest bit first."""
    sample = values_N[:: max(1, len(values_N) // 1_000_000)]
    ones = np.array([np.count_nonzero(sample & np.uint64(1 << bit)) for bit in range(BITS)]) / len(sample)
    # a bit too rare for the sample still may vary: that costs balance, never a pair
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -ones * np.log2(ones) - (1 - ones) * np.log2(1 - ones)
    return np.nan_to_num(entropy)


def _plan(count: int, entropy_64: NDArray[np.float64], max_distance: int) -> list[list[int]]:
    """Bits dealt into blocks of equal information; empty where comparing all with all is cheaper."""
    total = float(entropy_64.sum())
    best, best_cost = 0, COMPARE_COST * count * count / 2
    varying = int(np.count_nonzero(entropy_64))  # a block of none would make a run of everything
    for blocks in range(max_distance + 1, min(max_distance + 9, varying + 1)):
        tables = math.comb(blocks, max_distance)
        front = total * (blocks - max_distance) / blocks
        cost = tables * count * (SORT_COST + COMPARE_COST * count / 2 / 2**front)
        if cost < best_cost:
            best, best_cost = blocks, cost
    if not best:
        return []
    # always to the block with the least so far, most informative bits first
    dealt: list[list[int]] = [[] for _ in range(best)]
    loads = np.zeros(best)
    for bit in np.argsort(-entropy_64, kind="stable").tolist():
        block = int(np.argmin(loads))
        dealt[block].append(bit)
        loads[block] += entropy_64[bit] + 1e-6
    return dealt


def _mask(bits: list[int]) -> np.uint64:
    return np.uint64(sum(1 << bit for bit in bits))


def _join_choice(
    values_N: Values, blocks: list[list[int]], choice: tuple[int, ...], max_distance: int
) -> Iterator[Pairs]:
    """Pairs that agree on the blocks of `choice` and whose first agreeing blocks those are."""
    front_bits = [bit for block in choice for bit in blocks[block]]
    order = [bit for bit in range(BITS) if bit not in set(front_bits)] + front_bits
    moved = _permute(values_N, order)
    moved.sort()
    front = np.uint64((1 << BITS) - (1 << (BITS - len(front_bits))))
    # canonical: no block before the last chosen one, other than the chosen, agrees as well
    others = [blocks[block] for block in range(choice[-1]) if block not in choice]
    where = {bit: position for position, bit in enumerate(order)}
    masks = [_mask([where[bit] for bit in block]) for block in others]
    for lower, higher in _compare_runs(moved, front, max_distance):
        difference = lower ^ higher
        first = np.ones(len(lower), bool)
        for mask in masks:
            first &= (difference & mask) != 0
        if first.any():
            yield _permute(lower[first], order, back=True), _permute(higher[first], order, back=True)


def _permute(values_N: Values, order: list[int], back: bool = False) -> Values:
    """Bit `order[i]` of each value becomes bit i, or back; neighbours that stay neighbours move together."""
    out = np.zeros_like(values_N)
    for source, target, width in _moves(order):
        start, end = (target, source) if back else (source, target)
        moved = values_N & _mask(list(range(start, start + width)))
        out |= moved << np.uint64(end - start) if end >= start else moved >> np.uint64(start - end)
    return out


def _moves(order: list[int]) -> Iterator[tuple[int, int, int]]:
    """Runs of `order` that keep their sequence: (source bit, target bit, width)."""
    start = 0
    for position in range(1, BITS + 1):
        if position == BITS or order[position] != order[position - 1] + 1:
            yield order[start], start, position - start
            start = position


def _compare_runs(sorted_N: Values, front: np.uint64, max_distance: int) -> Iterator[Pairs]:
    """Pairs within `max_distance` inside the runs of values whose `front` bits are equal.

    Work goes by distance in the sorted order: a value that has no equal front k further on has none k + 1
    further on, so the set of values still compared shrinks, and the work is the number of pairs.
    """
    for begin, end, long_run in _slices(sorted_N, front):
        part = sorted_N[begin:end]
        if long_run:
            yield from _join(part, max_distance, threads=1)
            continue
        keys = part & front
        active = np.flatnonzero(keys[1:] == keys[:-1])
        step = 1
        while len(active):
            left, right = part[active], part[active + step]
            near = np.bitwise_count(left ^ right) <= max_distance
            if near.any():
                yield left[near], right[near]
            step += 1
            active = active[: np.searchsorted(active, len(part) - step)]
            active = active[keys[active] == keys[active + step]]


def _slices(sorted_N: Values, front: np.uint64) -> Iterator[tuple[int, int, bool]]:
    """(begin, end, is one long run): slices that cut no run, some `CHUNK` values each."""
    count = len(sorted_N)
    if not front:
        yield 0, count, False
        return
    begin = 0
    while begin < count:
        end = min(begin + CHUNK, count)
        if end < count:  # back to where the last run began, or on to its end if it is all there is
            run = sorted_N[end] & front
            cut = int(np.searchsorted(sorted_N, run))
            end = cut if cut > begin else int(np.searchsorted(sorted_N, run | ~front, side="right"))
        yield from _split_long(sorted_N, front, begin, end)
        begin = end


def _split_long(sorted_N: Values, front: np.uint64, begin: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """The slice begin..end, with its long runs cut out as slices of their own."""
    keys = sorted_N[begin:end] & front
    stride = LONG_RUN // 2  # a run of LONG_RUN holds two values this far apart at such positions
    probes = keys[::stride]
    long_keys = np.unique(probes[1:][probes[1:] == probes[:-1]])
    at = begin
    for key in long_keys:
        low = begin + int(np.searchsorted(keys, key))
        high = begin + int(np.searchsorted(keys, key, side="right"))
        if low > at:
            yield at, low, False
        yield low, high, True
        at = high
    if end > at:
        yield at, end, False
