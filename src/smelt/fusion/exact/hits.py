"""The table of candidates in memory, and the exact hits of whole populations of weights.

For each undecided image the table holds unit vectors along the differences D = s(class) − s(label) of its
candidates. One matrix product with the population's weights, also of length one, gives the cosine of D and w;
where its size is beyond `slack`, a proven bound of everything that was rounded (half precision where they are
many), its sign is that of the reference's comparison. The few images that hang on a cosine within the slack,
exact ties among them, are decided by the reference itself, on the stored values and by its rule for ties.

Candidates lie in tiles, so that one product, two comparisons and a sum evaluate them; tiles are laid out part
by part, and `Table.part`, the table of some of them, copies nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.files.arrays import let_go
from smelt.fusion.exact.candidates import Store
from smelt.fusion.exact.threads import spread_over
from smelt.fusion.exact.units import ROUGH, Directions, beyond, exact, halved, picked, rounded
from smelt.fusion.scores.reference import normalised, rounding, single

if TYPE_CHECKING:
    from smelt.fusion.exact.units import Units

ROWS = 1 << 13  # candidates of a tile: its product with a population fits the cache
FEW = 1 << 10


@dataclass(frozen=True)
class Tile:
    """I images with at most n candidates each; the candidate at place j of image i is row j·I + i.

    images_I: positions in the fusion's order. need_I: wrong with that many candidates before the label.
    units: (n·I, M) of length one, or zeros for rows that always go to the reference; padding points away from
    all weights. rows_nI: the candidate's row in the store, −1 for padding.
    """

    images_I: NDArray[np.int64]
    need_I: NDArray[np.int32]
    units: Units
    rows_nI: NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """Exact hits of N images under any weights that are non-negative and at most `cap`.

    k: right is a label among the first k. hits_N: 1 right, 0 wrong, −1 in a tile. slack: bound of the
    rounding of a cosine but for the weights'. many: whether unit vectors are of half precision. parts_T: the
    part that each tile's images are of.
    """

    k: int
    labels_N: NDArray[np.int32]
    hits_N: NDArray[np.int8]
    tiles: Sequence[Tile]
    store: Store = field(repr=False)
    slack: float
    many: bool
    parts_T: Sequence[int] = field(repr=False)
    threads: int = 0

    @property
    def num_results(self) -> int:
        """M."""
        return self.store.num_results

    @property
    def cap(self) -> float:
        """No weight may be above it."""
        return self.store.cap

    @cached_property
    def candidates(self) -> int:
        """Candidates in all tiles, padding left out."""
        return sum(int((tile.rows_nI >= 0).sum()) for tile in self.tiles)

    def hits(self, weights_PM: ArrayLike) -> NDArray[np.bool_]:
        """Which images are right, (P, N), as the reference has it. Weights are scaled to sum 1."""
        weights = self._allowed(weights_PM)
        hits_PN = np.empty((len(weights), len(self.hits_N)), np.bool_)
        hits_PN[:] = self.hits_N == 1
        for tile, hits_IP in self._evaluated(weights):
            hits_PN[:, tile.images_I] = hits_IP.T
        return hits_PN

    def accuracy(self, weights_PM: ArrayLike) -> NDArray[np.float64]:
        """Class-averaged accuracy (P,), equal to the last bit to `metrics.class_averaged` of the hits."""
        accuracies: NDArray[np.float64] = (self.right(weights_PM) / self._classes[0]).mean(axis=1)
        return accuracies

    def right(self, weights_PM: ArrayLike) -> NDArray[np.int32]:
        """How many images of each class that has any are right, (P, G), classes in ascending order."""
        weights = self._allowed(weights_PM)
        _, decided, order, starts, present = self._classes
        parts = [np.empty((0, len(weights)), np.bool_)]
        parts += [hits_IP for _, hits_IP in self._evaluated(weights)]
        right_PG = np.repeat(decided[None], len(weights), axis=0)
        if len(order):
            sums = np.add.reduceat(np.concatenate(parts)[order], starts, axis=0, dtype=np.int32)
            right_PG[:, present] += sums.T
        return right_PG

    def _allowed(self, weights_PM: ArrayLike) -> NDArray[np.float32]:
        weights = normalised(np.atleast_2d(np.asarray(weights_PM)))
        assert bool((weights <= self.cap * (1 + 1e-5)).all()), "weights above the cap that was proven for"
        return weights

    @cached_property
    def _classes(self) -> tuple[NDArray[Any], ...]:
        """Images and decided hits of each class; images in tiles sorted by class, and where each begins."""
        known = self.labels_N >= 0
        _, codes, counts = np.unique(self.labels_N[known], return_inverse=True, return_counts=True)
        all_codes = np.full(len(self.labels_N), -1)
        all_codes[known] = codes
        decided = np.bincount(codes, weights=self.hits_N[known] == 1, minlength=len(counts)).astype(np.int32)
        tiled = all_codes[np.concatenate([np.empty(0, np.int64), *(tile.images_I for tile in self.tiles)])]
        order = np.argsort(tiled, kind="stable")
        present, starts = np.unique(tiled[order], return_index=True)
        return counts, decided, order, starts, present

    def _evaluated(self, weights_PM: NDArray[np.float32]) -> Iterator[tuple[Tile, NDArray[np.bool_]]]:
        """Every tile with the hits (I, P) of its images."""
        directions = Directions(weights_PM)
        slack = self.slack + 1.02 * directions.error(self.many)

        def evaluate(tile: Tile) -> tuple[Tile, NDArray[np.bool_]]:
            return tile, self._hits(tile, directions, weights_PM, slack)

        yield from spread_over(evaluate, self.tiles, self.candidates, self.threads)

    def _hits(
        self, tile: Tile, directions: Directions, weights_PM: NDArray[np.float32], slack: float
    ) -> NDArray[np.bool_]:
        size, depth = len(tile.images_I), len(tile.rows_nI)
        sure, maybe = beyond(directions.cosines(tile.units), slack)
        shape = (depth, size * len(weights_PM))
        counter: Any = np.uint8 if depth < 256 else np.uint16
        sure_IP = np.add.reduce(sure.view(np.uint8).reshape(shape), axis=0, dtype=counter)
        maybe_IP = np.add.reduce(maybe.view(np.uint8).reshape(shape), axis=0, dtype=counter)
        need = np.repeat(tile.need_I, len(weights_PM)).astype(counter)
        hits = maybe_IP < need
        unclear = np.flatnonzero((sure_IP < need) & ~hits)
        if len(unclear):
            place, who = np.nonzero((maybe & ~sure).reshape(shape)[:, unclear])
            image, vector = np.divmod(unclear, len(weights_PM))
            above = self.store.above(tile.rows_nI[place, image[who]], vector[who], weights_PM)
            count = sure_IP[unclear] + np.bincount(who[above], minlength=len(unclear))
            hits[unclear] = count < need[unclear]
        return np.asarray(hits, np.bool_).reshape(size, len(weights_PM))

    def part(self, parts: Collection[int], parts_N: NDArray[np.integer]) -> Table:
        """The table of the images whose part is among these; the others count as unlabelled."""
        keep_N = np.isin(parts_N, list(parts))
        mine = [place for place, part in enumerate(self.parts_T) if part in parts]
        return replace(
            self,
            labels_N=np.where(keep_N, self.labels_N, -1).astype(np.int32),
            hits_N=np.where(keep_N, self.hits_N, 0).astype(np.int8),
            tiles=[self.tiles[place] for place in mine],
            parts_T=[self.parts_T[place] for place in mine],
        )


def tables_of(
    store: Store, labels_N: NDArray[np.integer], threads: int = 0, parts_N: NDArray[np.integer] | None = None
) -> dict[int, Table]:
    """k → its table; all share the unit vectors, which are made tile by tile from the disk.

    parts_N: images of different parts never share a tile, so that `Table.part` costs nothing.
    """
    counts = np.array(store.counts_U)
    many = halved(int(counts.sum()) * store.num_results)
    open_KU = np.array(store.hits_KN)[:, store.images_U] < 0
    part_U = np.zeros(len(counts), np.int64) if parts_N is None else np.asarray(parts_N)[store.images_U]
    sorts = np.stack([part_U, (open_KU << np.arange(len(store.ks))[:, None]).sum(axis=0)])
    kinds, kind_U = np.unique(sorts, axis=1, return_inverse=True)
    plans = [
        (kind, mine[chosen], place_nI)
        for kind in range(kinds.shape[1])
        for mine in [np.flatnonzero(kind_U.reshape(-1) == kind)]
        for chosen, place_nI in layout(counts[mine])
    ]
    if many:
        import torch  # noqa: F401  here, not first in some thread

    def make(plan: tuple[int, NDArray[np.int64], NDArray[np.int64]]) -> tuple[Tile, float]:
        return _tile(store, plan[1], plan[2], many)

    made = list(spread_over(make, plans, int(counts.sum()), threads))
    let_go(store.values_RM)
    # on top: the sums of the product, and what rounding its bfloat16 output can hide
    moved = max((far for _, far in made), default=0.0)
    slack = 1.02 * (moved + ROUGH + 2 * rounding(store.num_results))
    labels, tables = np.asarray(labels_N, np.int32), {}
    for place, k in enumerate(store.ks):
        mine = [n for n, (kind, _, _) in enumerate(plans) if kinds[1, kind] >> place & 1]
        tiles = [
            replace(made[n][0], need_I=np.asarray(k - store.certain_U[plans[n][1]], np.int32)) for n in mine
        ]
        parts = [int(kinds[0, plans[n][0]]) for n in mine]
        tables[k] = Table(
            k, labels, np.array(store.hits_KN[place]), tiles, store, slack, many, parts, threads
        )
    return tables


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


def _tile(
    store: Store, chosen: NDArray[np.int64], place_nI: NDArray[np.int64], many: bool
) -> tuple[Tile, float]:
    """The tile of some images (see `layout`), and how far rounding moved its vectors at most."""
    there_nI = place_nI >= 0
    first = store.ends_U[chosen] - store.counts_U[chosen]
    rows_nI = np.where(there_nI, first + place_nI, -1)
    image_nI = np.broadcast_to(chosen, place_nI.shape)
    values = single(store.values_RM[rows_nI[there_nI]])
    exactly = exact(values, single(store.own_UM[image_nI[there_nI]]))
    held, moved = rounded(exactly, many)
    row_nI = np.full(place_nI.shape, -1)
    row_nI[there_nI] = np.arange(len(exactly))
    images, need = np.array(store.images_U[chosen]), np.zeros(len(chosen), np.int32)
    return Tile(images, need, picked(held, row_nI.reshape(-1)), rows_nI), moved
