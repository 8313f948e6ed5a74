"""Tiles: candidates of images laid out so that one product, two comparisons and a sum evaluate them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.exact.units import joined, picked

if TYPE_CHECKING:
    from smelt.fusion.exact.units import Units

ROWS = 1 << 13  # candidates of a tile: its product with a population fits the cache
FEW = 1 << 10
MANY = 1 << 16  # candidates from which on threads gain more than starting them costs
Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Tile:
    """I images with at most n candidates each; the candidate at place j of image i is row j·I + i.

    images_I: positions in the fusion's order. need_I: wrong with that many candidates before the label.
    units: (n·I, M) of length one, or zeros for rows that always go to the reference; padding points away from
    all weights. rows_nI: the candidate's row in the store, −1 for padding. spread_nI: |units − their mean|.
    """

    images_I: NDArray[np.int64]
    need_I: NDArray[np.int32]
    units: Units
    rows_nI: NDArray[np.int64]
    spread_nI: NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Candidates image by image: U images, counts_U of each, R in all."""

    images_U: NDArray[np.int64]
    need_U: NDArray[np.int32]
    counts_U: NDArray[np.int64]
    units: Units
    rows_R: NDArray[np.int64]
    spread_R: NDArray[np.float32]


def kept(tile: Tile, keep_nI: NDArray[np.bool_], need_I: NDArray[np.integer]) -> Part:
    """The candidates of a tile that are kept, with other needs; images without any are left out."""
    image, place = np.nonzero(keep_nI.T)
    counts = keep_nI.sum(axis=0)
    left = counts > 0
    return Part(
        tile.images_I[left],
        need_I[left].astype(np.int32),
        counts[left],
        picked(tile.units, place * len(tile.images_I) + image),
        tile.rows_nI[place, image],
        tile.spread_nI[place, image],
    )


def layout(counts_U: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each tile: the images in it, (I,), and for each place (n, I) the candidate's number in its image.

    −1 is padding. Images of like numbers of candidates go together, so that little is padded; a few hundred
    candidates are one tile anyway.
    """
    order = np.argsort(-counts_U, kind="stable")
    sizes = counts_U[order]
    start = 0
    while start < len(order):
        depth = int(sizes[start])
        alike = int(np.searchsorted(-sizes, 1 - 0.75 * depth, "right"))
        stop = max(start + 1, min(start + ROWS // depth, max(alike, start + FEW // depth)))
        chosen = order[start:stop]
        place_n1 = np.arange(depth)[:, None]
        yield chosen, np.where(place_n1 < counts_U[chosen], place_n1, -1)
        start = stop


def repack(parts: Sequence[Part]) -> Iterator[Tile]:
    """Tiles of the candidates in `parts`."""
    parts = [part for part in parts if len(part.images_U)]
    if not parts:
        return
    counts_U = np.concatenate([part.counts_U for part in parts])
    images_U = np.concatenate([part.images_U for part in parts])
    need_U = np.concatenate([part.need_U for part in parts])
    rows_R = np.concatenate([part.rows_R for part in parts])
    spread_R = np.concatenate([part.spread_R for part in parts])
    first_U = np.cumsum(counts_U) - counts_U
    part_U = np.repeat(np.arange(len(parts)), [len(part.images_U) for part in parts])
    within_U = first_U - np.cumsum([0, *(len(part.rows_R) for part in parts)])[part_U]
    for chosen, place_nI in layout(counts_U):
        counts = counts_U[chosen]
        pieces = [
            parts[part].units[begin : begin + count]
            for part, begin, count in zip(part_U[chosen], within_U[chosen], counts)
        ]
        there_nI = place_nI >= 0
        row_nI = np.where(there_nI, first_U[chosen] + place_nI, 0)
        yield Tile(
            images_U[chosen],
            need_U[chosen],
            picked(joined(pieces), np.where(there_nI, np.cumsum(counts) - counts + place_nI, -1).reshape(-1)),
            np.where(there_nI, rows_R[row_nI], -1),
            np.where(there_nI, spread_R[row_nI], np.float32(0)),
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """torch, where it is loaded, keeps to one thread: it wakes the others for work too small for them, and
    beside other programs they wait for one another by spinning."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_blas_thread() -> AbstractContextManager[Any]:
    """NumPy's products keep to one thread: most here are small, and beside other work two threads take up to
    a hundred times as long, each waiting for the other."""
    if os.environ.get("OPENBLAS_NUM_THREADS") == "1":  # it was said before NumPy was loaded
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits


def _alone() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def spread_over(
    work: Callable[[Item], Done], items: Sequence[Item], candidates: int, threads: int = 0
) -> Iterator[Done]:
    """`work` of every item, in order; in several threads where there are many `candidates` in all.

    torch keeps to one thread meanwhile.
    """
    threads = threads or (len(os.sched_getaffinity(0)) if candidates >= MANY else 1)
    with one_thread():
        if threads == 1 or len(items) <= 1:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(threads, initializer=_alone) as pool:
            yield from pool.map(work, items)
