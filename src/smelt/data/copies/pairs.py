"""Pairs of rows that may show the same picture, from their perceptual hashes alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.data.copies.hashes import BLANK, mirrored
from smelt.data.copies.loose import loose_pairs
from smelt.data.copies.near import near_values

SAME_HASH = 8  # rows of one hash that are paired with those of another; the others with the first of theirs


@dataclass(frozen=True)
class Candidates:
    """pairs_R2: rows, lower first, each pair and way once. mirrored_R: one side shows it left for right."""

    pairs_R2: NDArray[np.int64]
    mirrored_R: NDArray[np.bool_]

    @classmethod
    def merged(cls, parts: list[Candidates]) -> Candidates:
        """All parts together, sorted, repeats left out."""
        pairs = np.sort(np.concatenate([part.pairs_R2 for part in parts]), axis=1)
        flags = np.concatenate([part.mirrored_R for part in parts])
        span = int(pairs.max(initial=0)) + 1
        codes, flags = np.divmod(np.unique((pairs[:, 0] * span + pairs[:, 1]) * 2 + flags), 2)
        return cls(np.stack(np.divmod(codes, span), axis=1), flags.astype(bool))


def near_candidates(
    rows_N: NDArray[np.int64], hashes_NV: NDArray[np.uint64], max_distance: int, mirror: bool
) -> Candidates:
    """Pairs of `rows_N` of which a hash of one is within `max_distance` bits of a hash of the other.

    hashes_NV: V hashes of equal standing, equal ones counted once. mirror: also hashes of the mirrored
    picture. Exact but for this: of more than SAME_HASH rows with one hash, only the first are paired with
    rows of other hashes, and the others with the first one (a confirmed group is the same).
    """
    values, entries, flipped = _entries(hashes_NV, mirror)
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]][: len(values)])
    counts = np.diff(np.r_[starts, len(values)])
    distinct = values[starts]
    first = np.repeat(starts, counts)
    equal = np.flatnonzero(first != np.arange(len(values)))
    parts = [(first[equal], equal)]
    lower, higher = (np.searchsorted(distinct, side) for side in near_values(distinct, max_distance))
    parts.append(_all_with_all(starts, np.minimum(counts, SAME_HASH), lower, higher))
    left, right = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    # both flipped is the same as neither; a picture is no copy of itself
    useful = (entries[left] != entries[right]) & ~(flipped[left] & flipped[right])
    left, right = left[useful], right[useful]
    pairs = np.stack([rows_N[entries[left]], rows_N[entries[right]]], axis=1)
    return Candidates.merged([Candidates(pairs, flipped[left] | flipped[right])])


def _entries(
    hashes_NV: NDArray[np.uint64], mirror: bool
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
    """(hash, index of its row, is of the mirrored picture) sorted by hash and index; blanks left out."""
    values, indices = [hashes_NV[:, 0]], [np.arange(len(hashes_NV))]
    for column in hashes_NV.T[1:]:
        other = np.flatnonzero(column != hashes_NV[:, 0])
        values.append(column[other])
        indices.append(other)
    plain, index = np.concatenate(values), np.concatenate(indices)
    flipped = np.zeros(len(plain), bool)
    if mirror:
        flipped = np.r_[flipped, ~flipped]
        plain, index = np.r_[plain, mirrored(plain)], np.r_[index, index]
    usable = plain != BLANK
    plain, index, flipped = plain[usable], index[usable], flipped[usable]
    order = np.lexsort((flipped, index, plain))
    return plain[order], index[order], flipped[order]


def _all_with_all(
    starts: NDArray[np.int64], counts: NDArray[np.int64], lower: NDArray[np.int64], higher: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each (lower, higher) pair of runs every member of the one with every member of the other."""
    each = counts[lower] * counts[higher]
    which = np.repeat(np.arange(len(lower)), each)
    within = np.arange(len(which)) - np.repeat(np.cumsum(each) - each, each)
    i, j = np.divmod(within, counts[higher][which])
    return starts[lower][which] + i, starts[higher][which] + j


def crop_candidates(
    rows_N: NDArray[np.int64],
    whole_N: NDArray[np.uint64],
    windows_NV: NDArray[np.uint64],
    max_distance: int,
    *,
    tables: int,
    seed: int,
) -> Candidates:
    """Most pairs of which one, whole, is within `max_distance` bits of a window (V) of the other."""
    found = [np.zeros((0, 2), np.int64)]
    for number, window in enumerate(windows_NV.T):
        found.append(loose_pairs(window, whole_N, max_distance, tables=tables, seed=seed + number))
    pairs = rows_N[np.concatenate(found)]
    return Candidates.merged([Candidates(pairs, np.zeros(len(pairs), bool))])
