"""Images that a net sees alike: pairs to compare by their pixels, which decide.

Cosines are of features less their mean: those of different pictures are then near 0 under any net. They do
not tell a copy: two photos of one scene may be nearer than a photo and its own crop. Up to EXACT rows all
pairs are looked at; beyond, those whose signs under random projections nearly agree (Charikar 2002), of
which most, not all, are found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from smelt.artifacts.featurestore import Features
from smelt.data.copies.loose import loose_pairs

EXACT = 60_000  # rows: as many products of lines as one waits for
QUERIES, BLOCK = 1024, 8192  # lines that are multiplied at once
BITS, AWAY, TABLES = 64, 18, 32  # of signs; bits that may differ (a cosine of .65 is 17 on average)


@dataclass(frozen=True)
class Alike:
    """Pairs of catalogue rows, lower first, sorted, each once: pairs_R2, with their cosines_R float32."""

    pairs_R2: NDArray[np.int64]
    cosines_R: NDArray[np.float32]


def look_alikes(
    features: Features,
    rows_n: NDArray[np.int64],
    *,
    neighbours: int,
    least: float,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Alike:
    """Each of `rows_n` with the nearest `neighbours` among them, where the cosine is at least `least`.

    The same for any number of threads.
    """
    rows_n = rows_n[np.asarray(features.known_N[rows_n])]
    if len(rows_n) < 2 or not neighbours:
        return Alike(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
    sums = sum(block.sum(axis=0, dtype=np.float64) for block in features.blocks(rows_n, BLOCK))
    mean_D = (np.asarray(sums) / len(rows_n)).astype(np.float32)
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        if len(rows_n) <= EXACT:
            parts = list(_all(features, rows_n, mean_D, neighbours, least, pool, progress))
        else:
            parts = [_by_signs(features, rows_n, mean_D, least, threads)]
    first = np.concatenate([part[0] for part in parts])
    second = np.concatenate([part[1] for part in parts])
    cosine = np.concatenate([part[2] for part in parts])
    kept = _nearest(first, second, cosine, neighbours)
    pairs = np.sort(np.stack([rows_n[first[kept]], rows_n[second[kept]]], axis=1), axis=1)
    cosine = cosine[kept]
    order = np.lexsort((-cosine, pairs[:, 1], pairs[:, 0]))
    pairs, cosine = pairs[order], cosine[order]
    new = np.r_[True, (pairs[1:] != pairs[:-1]).any(axis=1)][: len(pairs)]
    return Alike(pairs[new], cosine[new])


Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]  # places in rows_n, cosines


def _lines(features: Features, rows: NDArray[np.int64], mean_D: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lines less the mean, of length 1 (0 for those that are the mean)."""
    lines = features.lines(rows) - mean_D
    lengths = np.sqrt((lines * lines).sum(axis=1, keepdims=True))
    return np.asarray(lines / np.maximum(lengths, np.float32(1e-12)), np.float32)


def _all(
    features: Features,
    rows_n: NDArray[np.int64],
    mean_D: NDArray[np.float32],
    neighbours: int,
    least: float,
    pool: ThreadPoolExecutor,
    progress: Callable[[int, int], None],
) -> Iterator[Found]:
    """The nearest of each block of lines in each block of lines."""
    count = len(rows_n)
    for start in range(0, count, BLOCK):
        others = _lines(features, rows_n[start : start + BLOCK], mean_D)

        def one(at: int, start: int = start, others: NDArray[np.float32] = others) -> Found:
            lines = _lines(features, rows_n[at : at + QUERIES], mean_D)
            cosine = lines @ others.T
            own = np.arange(at, at + len(lines)) - start
            inside = np.flatnonzero((own >= 0) & (own < len(others)))
            cosine[inside, own[inside]] = -2  # itself
            if neighbours < len(others):
                edge = np.partition(cosine, len(others) - neighbours, axis=1)[:, len(others) - neighbours]
                cosine[cosine < np.maximum(edge, np.float32(least))[:, None]] = -2
            i, j = np.nonzero(cosine >= np.float32(least))
            return i + at, j + start, cosine[i, j]

        for at, found in zip(range(0, count, QUERIES), pool.map(one, range(0, count, QUERIES))):
            progress(start + (at + QUERIES) * len(others) // (count + QUERIES), count)
            yield found


def _by_signs(
    features: Features, rows_n: NDArray[np.int64], mean_D: NDArray[np.float32], least: float, threads: int
) -> Found:
    """Pairs whose signs under BITS random projections differ in AWAY bits at most, by their cosines."""
    directions = np.random.default_rng(0).standard_normal((features.dim, BITS)).astype(np.float32)
    weights = np.uint64(1) << np.arange(BITS, dtype=np.uint64)
    signs = np.concatenate(
        [
            ((_lines(features, rows_n[at : at + BLOCK], mean_D) @ directions > 0) * weights).sum(
                axis=1, dtype=np.uint64
            )
            for at in range(0, len(rows_n), BLOCK)
        ]
    )
    pairs = loose_pairs(signs, signs, AWAY, tables=TABLES, threads=threads)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    cosine = np.concatenate(
        [
            (_lines(features, rows_n[part[:, 0]], mean_D) * _lines(features, rows_n[part[:, 1]], mean_D)).sum(
                axis=1
            )
            for part in (pairs[at : at + BLOCK] for at in range(0, max(len(pairs), 1), BLOCK))
        ]
    )
    kept = cosine >= np.float32(least)
    both = np.concatenate([pairs[kept], pairs[kept][:, ::-1]])
    return both[:, 0], both[:, 1], np.concatenate([cosine[kept], cosine[kept]])


def _nearest(
    first: NDArray[np.int64], second: NDArray[np.int64], cosine: NDArray[np.float32], neighbours: int
) -> NDArray[np.int64]:
    """Places of the `neighbours` highest cosines of each `first`; of equal ones the lower `second`."""
    order = np.lexsort((second, -cosine, first))
    owner = first[order]
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])[: len(owner)]
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return order[place < neighbours]
