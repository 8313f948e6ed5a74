"""Weight vectors: kept within their cap, mixed with equal ones, and valued quickly for a search."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.fusion.exact.table import Table
from smelt.fusion.scores.reference import normalised

WORTH = 20_000  # candidates below which cutting a table costs more than it saves
TIGHTER = 0.7  # a new cut is tried at this share of the last one's radius, or of that tried in vain
MOST = 0.6  # and made if it leaves no more than this share of the candidates


def capped(weights_PM: ArrayLike, cap: float) -> NDArray[np.float64]:
    """Weights (P, M) with sum 1 and none above `cap` ≥ 1/M: what is over goes to the others in proportion."""
    weights = np.atleast_2d(np.array(weights_PM, np.float64))
    num_results = weights.shape[1]
    if cap <= 1.0 / num_results:
        return np.full_like(weights, 1.0 / num_results)
    weights /= weights.sum(axis=1, keepdims=True)
    for _ in range(num_results):
        full = weights >= cap
        over = weights.sum(axis=1) - np.minimum(weights, cap).sum(axis=1)
        if not bool((over > 1e-12).any()):
            break
        weights = np.minimum(weights, cap)
        open_PM = np.where(full, 0.0, weights)
        # results without any weight share what nobody else can take
        empty = open_PM.sum(axis=1) <= 1e-12
        open_PM[empty] = np.where(full[empty], 0.0, 1.0)
        weights += open_PM * (over / open_PM.sum(axis=1))[:, None]
    return np.minimum(weights, cap)


def shrunk(weights_M: ArrayLike, share: float) -> NDArray[np.float32]:
    """Weights with `share` of them replaced by equal ones."""
    weights = normalised(weights_M).astype(np.float64)
    return normalised((1 - share) * weights + share / len(weights))


class Valuer:
    """Accuracy of weights for a search over one table: remembers what it has seen, and cuts the table to
    the part that still matters as the search closes in. Its values are the table's own, to the last bit."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.evaluated = 0
        self.compared = 0  # candidates, each with each individual
        self._cuts: list[Table] = []
        self._seen: dict[bytes, float] = {}
        self._tried = np.inf  # the radius of the last cut that was made or not worth it

    @property
    def num_results(self) -> int:
        """M."""
        return self.table.num_results

    @property
    def cap(self) -> float:
        """No weight may be above it."""
        return self.table.cap

    def __call__(self, weights_PM: ArrayLike) -> NDArray[np.float64]:
        """Class-averaged accuracies (P,) of weights (P, M)."""
        weights = normalised(np.atleast_2d(np.asarray(weights_PM)))
        keys = [row.tobytes() for row in weights]
        fresh = {key: row for key, row in zip(keys, weights) if key not in self._seen}
        if fresh:
            self._evaluate(list(fresh), np.stack(list(fresh.values())))
        return np.array([self._seen[key] for key in keys])

    def _evaluate(self, keys: list[bytes], weights_PM: NDArray[np.float32]) -> None:
        self._close_in(weights_PM)
        left = np.ones(len(keys), np.bool_)
        for table in (*reversed(self._cuts), self.table):
            inside = np.flatnonzero(left & table.covers(weights_PM))
            if len(inside):
                for index, value in zip(inside, table.accuracy(weights_PM[inside])):
                    self._seen[keys[index]] = float(value)
                self.compared += table.candidates * len(inside)
                left[inside] = False
        assert not left.any(), "weights above the cap"
        self.evaluated += len(keys)

    def _close_in(self, weights_PM: NDArray[np.float32]) -> None:
        """Drop cuts that the population has left, add one around it when that is much smaller."""
        if len(weights_PM) < 8:
            return
        center = weights_PM.mean(axis=0, dtype=np.float64)
        distance = np.linalg.norm(weights_PM - center, axis=1)
        radius = 1.15 * float(np.quantile(distance, 0.9))
        while self._cuts and self._cuts[-1].covers(weights_PM).mean() < 0.5:
            self._cuts.pop()
            self._tried = np.inf
        parent = self._cuts[-1] if self._cuts else self.table
        if parent.candidates < WORTH or radius > TIGHTER * self._tried:
            return
        if parent.center is not None:
            room = parent.radius - float(np.linalg.norm(center - parent.center))
            if radius > room:
                parent = self.table
                self._cuts = []
        cut = parent.near(center, radius, MOST)
        self._tried = radius
        if cut is not parent:
            self._cuts.append(cut)
