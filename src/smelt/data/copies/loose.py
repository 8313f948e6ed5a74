"""Pairs of 64-bit hashes that may differ in many bits, most of them found, at a cost that stays linear.

An exact join (see `near`) grows with the distance: ten bits at 16 M hashes would take an hour. Here each of
a few tables sorts the hashes by a random choice of bits among the more reliable, low frequencies
(locality-sensitive hashing, Indyk and Motwani 1998), and neighbours with an equal key are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from smelt.random import GOLDEN

KEY_BITS = 26  # room for the key beside the side and the row in one 64-bit word
ROW_BITS = 36
RELIABLE = 48  # the lowest frequencies, at the top of a hash: cropping and turning change them least
NEIGHBOURS = 64  # a key shared by more hashes than this is compared within so many places only
CHUNK = 1 << 20


def loose_pairs(
    first_N: NDArray[np.uint64],
    second_N: NDArray[np.uint64],
    max_distance: int,
    *,
    tables: int = 16,
    seed: int = 0,
    threads: int = 2,
) -> NDArray[np.int64]:
    """Most pairs (i, j), i ≠ j, for which `first[i]` and `second[j]` differ in at most `max_distance` bits.

    (R, 2) int64, sorted, each once; the same for equal arguments whatever the threads. Hashes of 0 are left
    out. Memory: some 40 bytes a hash and thread.
    """
    count = len(first_N)
    assert count == len(second_N) < 1 << (ROW_BITS - 1)
    bits = int(np.clip(round(math.log2(count + 1)), 8, 22))
    random = np.random.default_rng(seed)
    masks = [_mask(random, bits) for _ in range(tables)]

    def one(mask: np.uint64) -> NDArray[np.int64]:
        found = list(_neighbours(first_N, second_N, mask, max_distance))
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)

    with ThreadPoolExecutor(threads) as pool:
        codes = np.unique(np.concatenate(list(pool.map(one, masks))))
    return np.stack(np.divmod(codes, max(count, 1)), axis=1)


def _mask(random: np.random.Generator, bits: int) -> np.uint64:
    """`bits` of the RELIABLE highest bits."""
    chosen = random.permutation(RELIABLE)[:bits]
    return np.uint64(sum(1 << (63 - int(bit)) for bit in chosen))


def _neighbours(
    first_N: NDArray[np.uint64], second_N: NDArray[np.uint64], mask: np.uint64, max_distance: int
) -> Iterator[NDArray[np.int64]]:
    """Codes i · N + j of pairs whose bits under `mask` agree and that are near enough."""
    count = len(first_N)
    words = np.concatenate([_words(first_N, mask, 0), _words(second_N, mask, 1)])
    words.sort()
    row_mask, one = np.uint64((1 << (ROW_BITS - 1)) - 1), np.uint64(1)
    for begin in range(0, len(words), CHUNK):
        part = words[begin : begin + CHUNK + NEIGHBOURS]
        keys, side = part >> np.uint64(ROW_BITS), (part & one) == 1
        rows = ((part >> one) & row_mask).astype(np.int64)
        hashes = np.where(side, second_N[rows], first_N[rows])
        active = np.arange(min(CHUNK, len(part)))
        for step in range(1, NEIGHBOURS + 1):
            active = active[: np.searchsorted(active, len(part) - step)]
            active = active[keys[active] == keys[active + step]]
            if not len(active):
                break
            left = active[side[active] != side[active + step]]
            left = left[np.bitwise_count(hashes[left] ^ hashes[left + step]) <= max_distance]
            right = left + step
            i = np.where(side[left], rows[right], rows[left])
            j = np.where(side[left], rows[left], rows[right])
            yield (i * count + j)[i != j]


def _words(hashes_N: NDArray[np.uint64], mask: np.uint64, side: int) -> NDArray[np.uint64]:
    """Key, row and side of each hash that is not 0, in one sortable word.

    The side comes last: within a key of many hashes both sides then mix, whatever part is compared.
    """
    rows = np.flatnonzero(hashes_N).astype(np.uint64)
    key = ((hashes_N[rows] & mask) * np.uint64(GOLDEN)) >> np.uint64(64 - KEY_BITS)
    return (key << np.uint64(ROW_BITS)) | (rows << np.uint64(1)) | np.uint64(side)
