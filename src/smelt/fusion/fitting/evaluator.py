"""Evaluates fusions fold by fold, on images that they did not see: hits and likelihoods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.apply import Fusion, hits_of
from smelt.fusion.config import Pooling
from smelt.fusion.exact.hits import Table
from smelt.fusion.fitting import likelihood
from smelt.fusion.fitting.fits import Fits
from smelt.fusion.fitting.folded import Left, by_fold

KS = (1, 5)
AT_ONCE = 256  # vectors of weights that a table is asked for
PerFold = Mapping[int, Fusion]  # for each fold the fusion that its images are evaluated under


class Evaluator:
    """Evaluates what was fitted, each fusion on each fold once."""

    def __init__(self, fits: Fits) -> None:
        self.fits = fits
        # where scores are cut tables hold bounds, not the hits of what is delivered
        self.cut = any(source.cut for source in fits.sources)
        self._known: dict[tuple[Fusion, int], dict[int, NDArray[np.bool_]]] = {}  # (fusion, fold) → k → hits
        self._logs: dict[tuple[Fusion, int], NDArray[np.float32]] = {}

    def hits(self, asked: Sequence[PerFold], ks: Sequence[int]) -> dict[int, NDArray[np.bool_]]:
        """k → hits (Q, N) of each fold's images under the fusion that each of Q has for it."""
        fits = self.fits
        over = [[self._over_table(one, k) for one in asked] for k in ks]
        rest = [row for row in range(len(asked)) if not all(known[row] for known in over)]
        found = {k: np.zeros((len(asked), len(fits.labels_N)), np.bool_) for k in ks}
        if rest:
            hits = self._plain_hits([asked[row] for row in rest])
            for k, known in zip(ks, over):
                if not all(known):
                    found[k][rest] = hits[k]
        for k, known in zip(ks, over):
            rows = [row for row in range(len(asked)) if known[row]]
            for pooling in dict.fromkeys(_pooling(asked[row]) for row in rows):
                mine = [row for row in rows if _pooling(asked[row]) == pooling]
                of_folds = by_fold(fits.table(pooling, k), fits.parts_N, fits.folds)
                found[k][mine] = table_hits(of_folds, fits.folds_N, [asked[row] for row in mine])
        return found

    def _plain_hits(self, asked: Sequence[PerFold]) -> dict[int, NDArray[np.bool_]]:
        """k → hits (Q, N) by evaluating everything that was not evaluated before."""
        fits = self.fits
        found = {k: np.zeros((len(asked), len(fits.labels_N)), np.bool_) for k in KS}
        for fold in range(fits.folds):
            lines = np.flatnonzero(fits.folds_N == fold)
            fusions = dict.fromkeys(one[fold] for one in asked if fold in one)
            fresh = [fusion for fusion in fusions if (fusion, fold) not in self._known]
            if fresh:
                hits = hits_of(fresh, fits.sources, fits.labels_N, lines, KS)
                self._known |= {
                    (fusion, fold): {k: hits[k][row] for k in KS} for row, fusion in enumerate(fresh)
                }
            for row, one in enumerate(asked):
                for k in KS if fold in one else ():
                    found[k][row, lines] = self._known[one[fold], fold][k]
        return found

    def _over_table(self, one: PerFold, k: int) -> bool:
        """Whether a table knows the hits: it is there, or evaluating everything would cost more."""
        alike = len({fusion.pooling for fusion in one.values()}) == 1
        there = all(fusion.summed and fusion.pooling in self.fits.tabled for fusion in one.values())
        return alike and there and not self.cut and (k == self.fits.settings.k or self.fits.large)

    def likely(self, one: PerFold, left: Left) -> NDArray[np.float64] | None:
        """Calibrated log likelihood (n,) of the sampled images, each under its fold's fusion; NaN of the
        folds left out, None where ranks have none. They are mixed already."""
        if _pooling(one) == "rank":
            return None
        sample = self.fits.sample
        seen_n = sample.seen(left)
        parts = [self._logs[fusion, fold] for fold, fusion in one.items()]
        likely = np.full(len(seen_n), np.nan)
        balance = sample.balanced(seen_n)[seen_n]
        logs = np.concatenate(parts, axis=1)
        likely[seen_n] = likelihood.calibrated(logs, sample.place_n[seen_n], balance)
        return likely

    def mix(self, asked: Sequence[PerFold]) -> None:
        """Find what fusions make of the sampled images of their folds: all that can be at once."""
        for fold in range(self.fits.folds):
            alike: dict[object, dict[Fusion, None]] = {}
            for fusion in (one[fold] for one in asked if fold in one):
                if fusion.pooling != "rank" and (fusion, fold) not in self._logs:
                    kind = fusion.pooling, fusion.class_weights is None
                    alike.setdefault(fusion if fusion.temperatures else kind, {})[fusion] = None
            begin, end = np.searchsorted(self.fits.sample.folds_n, [fold, fold + 1]) if alike else (0, 0)
            for fusions in map(list, alike.values()):
                logs = likelihood.log_chances(self.fits.sample, fusions, slice(begin, end))
                self._logs |= {(fusion, fold): mixed for fusion, mixed in zip(fusions, logs)}


def _pooling(one: PerFold) -> Pooling:
    return next(iter(one.values())).pooling


def table_hits(
    tables: Sequence[Table], folds_N: NDArray[np.int8], asked: Sequence[PerFold]
) -> NDArray[np.bool_]:
    """Hits (Q, N) of each fold's images under the fusion that each of Q has for it, over the fold's table."""
    found = np.zeros((len(asked), len(folds_N)), np.bool_)
    for fold, table in enumerate(tables):
        mine = np.flatnonzero(folds_N == fold)
        wanted = list(dict.fromkeys(one[fold].weights for one in asked if fold in one))
        for start in range(0, len(wanted), AT_ONCE):
            part = wanted[start : start + AT_ONCE]
            hits = dict(zip(part, table.hits(np.array(part))[:, mine]))
            for row, one in enumerate(asked):
                if fold in one and one[fold].weights in hits:
                    found[row, mine] = hits[one[fold].weights]
    return found
