"""The nearest rows of each row by features: exact up to a million rows, by an index of faiss beyond."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.mining.labelled_features import BLOCK, Labelled

NEAREST = 50  # neighbours of a row; 20 to 200 rank alike (docs/log.md)
EXACT = 1_000_000  # rows up to which all pairs are compared
DIRECTIONS = 512  # leading directions of the whitened space that are compared: more change nothing
REFERENCES = 8192  # rows that a block is compared with at once


@dataclass(frozen=True)
class Neighbours:
    """places_nK: the K nearest of the n usable rows of each of them, itself not among them, as places among
    these, the nearest first. cosines_nK: their similarity, in the whitened space."""

    places_nK: NDArray[np.int32]
    cosines_nK: NDArray[np.float32]


def available(num_rows: int) -> bool:
    """Whether neighbours of so many rows can be found: beyond `EXACT` rows it takes faiss."""
    return num_rows <= EXACT or importlib.util.find_spec("faiss") is not None


def neighbours(data: Labelled) -> Neighbours:
    """The `NEAREST` neighbours of every usable row (all others where there are fewer); made once.

    ValueError where there are too many rows and no faiss (see `available`).
    """
    if "neighbours" not in data.kept:
        if not available(data.num_rows):
            raise ValueError(
                f"neighbours among {data.num_rows:,} rows take faiss (smelt[faiss]); "
                f"up to {EXACT:,} all pairs are compared"
            )
        data.kept["neighbours"] = (_exact if data.num_rows <= EXACT else _indexed)(data)
    found: Neighbours = data.kept["neighbours"]
    return found


def _space(data: Labelled) -> NDArray[np.float32]:
    """(n, at most `DIRECTIONS`) unit vectors."""
    size = min(data.dim, DIRECTIONS)
    found = np.empty((data.num_rows, size), np.float32)
    data.spectrum  # noqa: B018  (before threads ask for it)
    for start, block in zip(data.starts(), data.each(lambda at: data.whitened(at, size))):
        found[start : start + len(block)] = block
    return found


def _exact(data: Labelled) -> Neighbours:
    space = _space(data)
    count = min(NEAREST, max(data.num_rows - 1, 0))
    places = np.empty((data.num_rows, count), np.int32)
    cosines = np.empty((data.num_rows, count), np.float32)

    def search(start: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """(places, cosines) of the nearest of each row of a block, over all references."""
        queries = space[start : start + BLOCK]
        own = np.arange(start, start + len(queries))
        best_places = np.empty((len(queries), 0), np.int32)
        best = np.empty((len(queries), 0), np.float32)
        for at in range(0, len(space), REFERENCES):
            near = queries @ space[at : at + REFERENCES].T
            inside = (own >= at) & (own < at + near.shape[1])
            near[np.flatnonzero(inside), own[inside] - at] = -np.inf
            there = np.broadcast_to(np.arange(at, at + near.shape[1], dtype=np.int32), near.shape)
            best, best_places = _largest(
                np.concatenate([best, near], axis=1), np.concatenate([best_places, there], axis=1), count
            )
        return best_places, best

    for start, (found, near) in zip(data.starts(), data.each(search)):
        places[start : start + len(found)], cosines[start : start + len(found)] = found, near
    return Neighbours(places, cosines)


def _largest(
    values: NDArray[np.float32], places: NDArray[np.int32], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The `count` largest of each line (fewer where there are fewer), in falling order; among equals the
    lower place."""
    if values.shape[1] > count:
        chosen = (
            np.argpartition(-values, count - 1, axis=1)[:, :count]
            if count
            else np.empty((len(values), 0), np.int64)
        )
        values, places = np.take_along_axis(values, chosen, 1), np.take_along_axis(places, chosen, 1)
    order = np.lexsort((places, -values), axis=1)
    return np.take_along_axis(values, order, 1), np.take_along_axis(places, order, 1)


def _indexed(data: Labelled) -> Neighbours:
    """By inverted lists: a row is compared with those of the cells next to its own."""
    import faiss

    space = _space(data)
    cells = int(4 * np.sqrt(len(space)))
    quantiser = faiss.IndexFlatIP(space.shape[1])
    index: Any = faiss.IndexIVFFlat(quantiser, space.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    faiss.omp_set_num_threads(data.threads)
    index.train(space[:: max(1, len(space) // (40 * cells))])
    index.add(space)
    index.nprobe = max(16, cells // 64)
    places = np.empty((len(space), NEAREST), np.int32)
    cosines = np.empty((len(space), NEAREST), np.float32)
    for start in data.starts():
        near, found = index.search(space[start : start + BLOCK], NEAREST + 1)
        own = np.arange(start, start + len(found))[:, None]
        near = np.where((found == own) | (found < 0), -np.inf, near)  # too few in the cells: -1
        best, there = _largest(near, found.astype(np.int32), NEAREST)
        places[start : start + len(found)], cosines[start : start + len(found)] = there, best
    return Neighbours(places, cosines)
