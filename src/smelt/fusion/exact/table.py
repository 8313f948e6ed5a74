"""The table of candidates in memory, and the exact hits of whole populations of weights.

For each undecided image the table holds unit vectors along the differences D = s(class) − s(label) of its
candidates. One matrix product with the population's weights, also of length one, gives the cosine of D and w;
where its size is beyond `slack`, a proven bound of everything that was rounded (half precision where they are
many), its sign is that of the reference's comparison. The few images that hang on a cosine within the slack,
exact ties among them, are decided by the reference itself, on the stored values and by its rule for ties.

Tiles are laid out part by part: `part` is the table of some of them, and copies nothing. `near` cuts a table
to what is undecided within a ball of weights: |w·D − c·D| ≤ |w − c| |D − mean D|, since both sum to 1. A
search that closes in on an optimum pays for fewer and fewer candidates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.fusion.exact.tiles import Part, Tile, kept, repack, spread_over
from smelt.fusion.exact.units import Directions, beyond, numbers
from smelt.fusion.scores.reference import normalised

if TYPE_CHECKING:
    from smelt.fusion.exact.store import Store


@dataclass(frozen=True)
class Table:
    """Exact hits of N images under any weights that are non-negative, at most `cap` and in the ball.

    k: right is a label among the first k. hits_N: 1 right, 0 wrong, −1 in a tile. slack: bound of the
    rounding of a cosine but for the weights'. many: whether unit vectors are of half precision. parts_T: the
    part that each tile's images are of. center, radius: the ball that the table is valid in (None: all
    weights up to `cap`).
    """

    k: int
    labels_N: NDArray[np.int32]
    hits_N: NDArray[np.int8]
    tiles: Sequence[Tile]
    store: Store = field(repr=False)
    cap: float
    slack: float
    many: bool = False
    parts_T: Sequence[int] = field(default=(), repr=False)
    center: NDArray[np.float64] | None = None
    radius: float = np.inf
    threads: int = 0

    @property
    def num_results(self) -> int:
        """M."""
        return self.store.num_results

    @cached_property
    def candidates(self) -> int:
        """Candidates in all tiles, padding left out."""
        return sum(int((tile.rows_nI >= 0).sum()) for tile in self.tiles)

    @property
    def bytes(self) -> int:
        """Memory of the unit vectors."""
        return sum(tile.units.nbytes for tile in self.tiles)

    def covers(self, weights_PM: ArrayLike) -> NDArray[np.bool_]:
        """Which weights (summing to 1) the table is valid for, (P,)."""
        weights = np.asarray(weights_PM, np.float64)
        inside = np.asarray((weights <= self.cap * (1 + 1e-5)).all(axis=1), np.bool_)
        if self.center is not None:
            inside &= np.linalg.norm(weights - self.center, axis=1) <= self.radius
        return inside

    def hits(self, weights_PM: ArrayLike) -> NDArray[np.bool_]:
        """Which images are right, (P, N), as the reference has it. Weights are scaled to sum 1."""
        weights = normalised(np.atleast_2d(np.asarray(weights_PM)))
        assert bool(self.covers(weights).all()), "weights outside of what the table is valid for"
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
        weights = normalised(np.atleast_2d(np.asarray(weights_PM)))
        assert bool(self.covers(weights).all()), "weights outside of what the table is valid for"
        _, decided, order, starts, present = self._classes
        parts = [np.empty((0, len(weights)), np.bool_)]
        parts += [hits_IP for _, hits_IP in self._evaluated(weights)]
        right_PG = np.repeat(decided[None], len(weights), axis=0)
        if len(order):
            sums = np.add.reduceat(np.concatenate(parts)[order], starts, axis=0, dtype=np.int32)
            right_PG[:, present] += sums.T
        return right_PG

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
            image, person = np.divmod(unclear, len(weights_PM))
            above = self.store.above(tile.rows_nI[place, image[who]], person[who], weights_PM)
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

    def subset(self, keep_N: NDArray[np.bool_]) -> Table:
        """The table of some of the images; the others count as unlabelled."""
        labels = np.where(keep_N, self.labels_N, -1).astype(np.int32)
        parts = [kept(tile, np.repeat(keep_N[tile.images_I][None], len(tile.rows_nI), 0), tile.need_I)
                 for tile in self.tiles]  # fmt: skip
        return self._rebuilt(parts, labels, np.where(keep_N, self.hits_N, 0).astype(np.int8))

    def near(self, center_M: ArrayLike, radius: float, most: float = 1.0) -> Table:
        """The table for weights within `radius` (Euclidean, weights summing to 1) of a centre.

        The table itself, when more than the share `most` of its candidates would remain.
        """
        center = np.asarray(center_M, np.float64)
        if self.center is not None:
            assert float(np.linalg.norm(center - self.center)) + radius <= self.radius, "not within the ball"
        length = float(np.linalg.norm(center))
        direction = Directions(center[None])
        slack = self.slack + 1.02 * direction.error(self.many) + 1e-6
        hits = self.hits_N.copy()

        def look(tile: Tile) -> tuple[Tile, NDArray[np.bool_], NDArray[np.int64]]:
            cosine_nI = numbers(direction.cosines(tile.units)).reshape(tile.rows_nI.shape)
            # 1.01: the cosine itself may be rounded to bfloat16
            reach_nI = 1.01 * tile.spread_nI * (radius / length) + slack * (1 + radius / length)
            need = tile.need_I - (cosine_nI > reach_nI).sum(axis=0)
            unknown = (np.abs(cosine_nI) <= reach_nI) & (tile.rows_nI >= 0)
            hits[tile.images_I[need <= 0]] = 0
            hits[tile.images_I[(need > 0) & (unknown.sum(axis=0) < need)]] = 1
            return tile, unknown & (hits[tile.images_I] < 0), need

        seen = list(spread_over(look, self.tiles, self.candidates, self.threads))
        if sum(int(keep.sum()) for _, keep, _ in seen) > most * self.candidates:
            return self
        parts = [kept(tile, keep, need) for tile, keep, need in seen]
        return self._rebuilt(parts, self.labels_N, hits, center, radius)

    def _rebuilt(
        self,
        parts: Sequence[Part],
        labels_N: NDArray[np.int32],
        hits_N: NDArray[np.int8],
        center: NDArray[np.float64] | None = None,
        radius: float = np.inf,
    ) -> Table:
        tiles = list(repack(parts))
        center = self.center if center is None else center
        radius = min(radius, self.radius) if np.isinf(radius) else radius
        return replace(
            self, labels_N=labels_N, hits_N=hits_N, tiles=tiles, parts_T=(), center=center, radius=radius
        )
