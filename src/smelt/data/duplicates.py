"""Exact and near duplicates among millions of images: joins of hashes, groups, and which copy is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.data.near import near_values
from smelt.data.perceptual import BLANK, perceptual_hash

__all__ = ["group_rows", "join_exact", "join_near", "perceptual_hash"]


def join_exact(hashes_N: NDArray[np.generic], valid_N: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """For each row the lowest row with the same 16-byte hash: its own number where there is none before it.

    hashes_N: (N,) of a 16-byte type, or (N, 16) bytes. Rows that are not valid are each their own.
    """
    words_N2 = np.ascontiguousarray(hashes_N).view(np.uint64).reshape(-1, 2)
    count = len(words_N2)
    rows = np.arange(count) if valid_N is None else np.flatnonzero(valid_N)
    words = words_N2[rows]
    order = np.lexsort((words[:, 1], words[:, 0]))  # stable: rows of equal hash stay ascending
    first = np.arange(count)
    if len(rows):
        words, rows = words[order], rows[order]
        starts = np.flatnonzero(np.r_[True, (words[1:] != words[:-1]).any(axis=1)])
        first[rows] = np.repeat(rows[starts], np.diff(np.r_[starts, len(rows)]))
    return first


def join_near(
    hashes_N: NDArray[np.uint64], max_distance: int = 4, valid_N: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Pairs of rows whose hashes differ in at most `max_distance` of 64 bits: (pairs_R2, distance_R).

    Exact: every pair of different hash values within the distance is there, as the lowest rows that have
    them. Rows of equal hash are paired with the lowest such row only, so a million copies give a million
    pairs. `BLANK` hashes say nothing and are left out, as are rows that are not valid. Sorted by pair.
    """
    usable = hashes_N != BLANK
    rows = np.flatnonzero(usable if valid_N is None else usable & valid_N)
    order = np.argsort(hashes_N[rows], kind="stable")
    rows = rows[order]
    del order
    hashes = hashes_N[rows]
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]][: len(rows)])
    values, first_rows = hashes[starts], rows[starts]
    first = np.repeat(first_rows, np.diff(np.r_[starts, len(rows)]))
    equal = first != rows
    same_R2 = np.stack([first[equal], rows[equal]], axis=1)
    del hashes, rows, first, equal
    lower, higher = near_values(values, max_distance)
    ends = [first_rows[np.searchsorted(values, side)] for side in (lower, higher)]
    near_R2 = np.sort(np.stack(ends, axis=1), axis=1)
    distance = np.r_[np.zeros(len(same_R2), np.int8), np.bitwise_count(lower ^ higher).astype(np.int8)]
    pairs = np.concatenate([same_R2, near_R2])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return pairs[order], distance[order]


def group_rows(count: int, pairs_R2: NDArray[np.int64]) -> NDArray[np.int64]:
    """Connected components: for each of `count` rows the lowest row it is joined to, directly or not.

    Vectorised union by lowest label with pointer jumping (Shiloach and Vishkin 1982).
    """
    label = np.arange(count)
    left, right = pairs_R2[:, 0], pairs_R2[:, 1]
    while True:
        a, b = label[left], label[right]
        open_pairs = a != b
        if not open_pairs.any():
            return label
        left, right, a, b = left[open_pairs], right[open_pairs], a[open_pairs], b[open_pairs]
        np.minimum.at(label, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(label, jumped := label[label]):
            label = jumped
