"""Images that are one image: groups of duplicates, folds that keep them together, and how many there really
are.

Sixty images ten times over are sixty images. A copy on the other side of a fold gives the answer away, and a
bootstrap that draws copies one by one is far too sure; so folds and bootstrap go by group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.fusion.scores.sources import Source

COMMON = 12.0  # bits of a row's rarity in one result that agreeing by chance (saturated scores) explains
BLOCK = 4096  # images whose rows are read at once


def equal_rows(sources: Sequence[Source], lines: NDArray[np.int64], num_images: int) -> NDArray[np.int64]:
    """A group (N,) for each image: those at `lines` whose scores are equal in all results share one.

    Rows that only say "surely class 3" are equal for many images. So a group stays together only if its rows
    are too rare to meet by chance: the information of each result's row beyond COMMON bits, summed over the
    results, is more than that of any pair among the images.
    """
    groups = np.arange(num_images)
    left = np.asarray(lines, np.int64)
    codes = np.zeros(len(left), np.int64)
    for source in sources:
        codes = _codes([codes, _hashed(source, left)])
        twice = np.bincount(codes)[codes] > 1
        left, codes = left[twice], codes[twice]
        if not len(left):
            return groups
    first, codes = np.unique(codes, return_index=True, return_inverse=True)[1:]
    heads = left[first]
    bits = np.zeros(len(heads))
    for source in sources:
        bits += np.maximum(0.0, _rarity(source, lines, heads) - COMMON)
    rare = bits[codes] > 2 * np.log2(len(lines)) + 6
    groups[left[rare]] = heads[codes[rare]]
    return groups


def _codes(keys: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """One number for each combination of the keys."""
    found: NDArray[np.int64] = np.unique(np.stack(keys), axis=1, return_inverse=True)[1].reshape(-1)
    return found


def _hashed(source: Source, lines: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each row's bytes; other bytes, other number, but for one case in 2^63."""
    hashes = np.empty(len(lines), np.int64)
    for start in range(0, len(lines), BLOCK):
        rows = np.ascontiguousarray(source.block(lines[start : start + BLOCK], "middle"))
        for place, row in enumerate(rows):
            digest = hashlib.blake2b(row.tobytes(), digest_size=8).digest()
            hashes[start + place] = int.from_bytes(digest, "little", signed=True)
    return hashes


def _rarity(source: Source, lines: NDArray[np.int64], heads: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits (H,): how surprising the values of a row are together, by how often each is in the result."""
    sample = lines if len(lines) <= BLOCK else lines[np.linspace(0, len(lines) - 1, BLOCK).astype(np.int64)]
    drawn = np.unique(np.asarray(source.block(sample, "middle"), np.float32), axis=0)
    values, counts = np.unique(drawn, return_counts=True)
    bits = np.empty(len(heads))
    for start in range(0, len(heads), BLOCK):
        rows = np.asarray(source.block(heads[start : start + BLOCK], "middle"), np.float32)
        place = np.minimum(np.searchsorted(values, rows), len(values) - 1)
        often = np.where(values[place] == rows, counts[place], 1)
        bits[start : start + BLOCK] = -np.log2(often / drawn.size).sum(axis=1)
    return bits


def make_folds(
    labels_N: NDArray[np.integer], folds: int, seed: int, groups_N: ArrayLike | None = None
) -> NDArray[np.int8]:
    """A fold for each labelled image, classes spread evenly over them, groups never cut; −1 for the
    others."""
    labels = np.asarray(labels_N)
    random = np.random.default_rng([seed, 1])
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    order = order[labels[order] >= 0]
    folds_N = np.full(len(labels), -1, np.int8)
    if groups_N is None or not len(order):
        folds_N[order] = np.arange(len(order)) % folds
        return folds_N
    return _by_group(folds_N, labels, np.asarray(groups_N), order, folds)


def _by_group(
    folds_N: NDArray[np.int8],
    labels_N: NDArray[np.integer],
    groups_N: NDArray[np.integer],
    order: NDArray[np.int64],
    folds: int,
) -> NDArray[np.int8]:
    """Large groups first, each to the fold that has fewest of its class; then single images likewise."""
    _, codes, sizes = np.unique(groups_N[order], return_inverse=True, return_counts=True)
    single = sizes[codes] == 1
    together = order[~single][np.argsort(codes[~single], kind="stable")]
    members = [one for one in np.split(together, np.cumsum(sizes[sizes > 1])[:-1]) if len(one)]
    own_GF = np.zeros((int(labels_N.max()) + 1, folds), np.int64)
    total_F = np.zeros(folds, np.int64)
    for group in [*sorted(members, key=len, reverse=True), *order[single][:, None]]:
        own_F = own_GF[labels_N[group[0]]]
        fold = int(np.lexsort((np.arange(folds), total_F, own_F))[0])
        folds_N[group] = fold
        own_F[fold] += len(group)
        total_F[fold] += len(group)
    return folds_N


def effective(groups_N: ArrayLike) -> float:
    """How many equally large groups are worth as much: (Σ size)² / Σ size² (Kish 1965)."""
    sizes = np.unique(np.asarray(groups_N), return_counts=True)[1].astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0
