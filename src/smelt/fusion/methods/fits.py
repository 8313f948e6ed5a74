"""Every way of fusing, fitted without every set of folds that a judged choice leaves out.

What is fitted for a set of folds sees no label of theirs: not the temperatures, not the pools, not the
searches and what they start from. `judge` chooses among what is made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.apply import Fusion
from smelt.fusion.config import MEANS, POOLS, SEARCHES, STACKED, FuseSettings, Method, Pooling
from smelt.fusion.exact.pooled import Tables
from smelt.fusion.exact.table import Table
from smelt.fusion.methods import pools, search, stacking
from smelt.fusion.methods.folded import SHARES, Counts, Left, dealt, lefts, searched, together
from smelt.fusion.methods.vectors import capped, shrunk
from smelt.fusion.scores import temperature
from smelt.fusion.scores.reference import equal, normalised
from smelt.fusion.scores.sources import Source

PLAIN = 1 << 28  # scores up to which figures that no search needs are had without a table
POOLING: dict[Method, Pooling] = {
    "mean_probability": "probability",
    "mean_log_probability": "log_probability",
    "mean_rank": "rank",
    "tempered_probability": "probability",
    "tempered_log_probability": "log_probability",
    "linear_pool": "probability",
    "log_pool": "log_probability",
    "stacking": "log_probability",
}


def large(sources: Sequence[Source], labels_N: NDArray[np.integer], num_classes: int) -> bool:
    """Whether evaluating everything costs more than tables for it."""
    return len(sources) * len(labels_N) * num_classes > PLAIN


@dataclass(frozen=True)
class Option:
    """One way to set a method up: its fusion for each set of folds that is left out."""

    fusions: Mapping[Left, Fusion]

    @property
    def final(self) -> Fusion:
        """Fitted on all labelled images."""
        return self.fusions[()]


class Methods:
    """Fits what the settings ask for on M results and N images in folds (−1: without a label)."""

    def __init__(
        self,
        sources: Sequence[Source],
        labels_N: NDArray[np.int32],
        folds_N: NDArray[np.int8],
        tables: Tables,
        settings: FuseSettings,
        num_classes: int,
    ) -> None:
        self.sources, self.labels_N, self.folds_N = sources, labels_N, folds_N
        self.tables, self.settings, self.num_classes = tables, settings, num_classes
        self.folds = int(folds_N.max()) + 1
        self.lefts = lefts(self.folds)
        self.counts = Counts(labels_N, folds_N, self.folds)

    def options(self, method: Method) -> list[Option]:
        """The ways a method is set up, all fitted."""
        if method in MEANS:
            weights = tuple(map(float, equal(len(self.sources))))
            fusion = Fusion(method, POOLING[method], weights)
            return [Option(dict.fromkeys(self.lefts, fusion))]
        if method in SEARCHES:
            fitted = self._searched[method]
            return [Option({left: self._within(method, self.worth[left], fitted[left], share)
                            for left in self.lefts}) for share in self.settings.shrinkage]  # fmt: skip
        if method in POOLS:
            return [Option({left: self._within(method, POOLING[method], self.pooled[method][left], share)
                            for left in self.lefts}) for share in self.settings.shrinkage]  # fmt: skip
        if method in STACKED:
            return [Option({left: self._stacked(method, self.stacked[left][penalty], penalty)
                            for left in self.lefts}) for penalty in self.penalties]  # fmt: skip
        return [Option({left: self._tempered(method, left) for left in self.lefts})]

    @cached_property
    def sample(self) -> pools.Sample:
        """Values that likelihoods are taken of."""
        return pools.sample(self.sources, self.labels_N, self.folds_N, self.settings.seed, self.num_classes)

    @cached_property
    def temperatures(self) -> dict[Left, tuple[float, ...]]:
        """(M,) for each set of folds left out."""
        lines = temperature.sampled(self.folds_N, self.num_classes, self.settings.seed)
        found = [
            temperature.fits(source, self.labels_N, lines, self.folds_N, self.lefts)
            for source in self.sources
        ]
        return dict(zip(self.lefts, zip(*found)))

    def _tempered(self, method: Method, left: Left) -> Fusion:
        temperatures, pooling = self.temperatures[left], POOLING[method]
        if pooling == "probability":
            return Fusion(method, pooling, tuple(map(float, equal(len(temperatures)))), 0.0, temperatures)
        # logits divided by T and averaged: weights in proportion to 1/T
        return self._within(method, pooling, 1 / np.array(temperatures), 0.0)

    def _within(
        self, method: Method, pooling: Pooling, weights_M: NDArray[np.float64], share: float
    ) -> Fusion:
        """A fusion whose weights keep to the bound, and to the cap of the table that it is valued over."""
        weights = shrunk(weights_M, share)
        cap = min(1.0, (self.settings.bound or np.inf) / len(weights))
        if pooling in self.tabled:
            cap = self.tables.store(pooling).cap
        if cap < 1:
            weights = normalised(capped(weights, cap)[0])
        return Fusion(method, pooling, tuple(map(float, weights)), share)

    @cached_property
    def tabled(self) -> tuple[Pooling, ...]:
        """Poolings that there is a table for: those that are searched; all, where plain evaluation costs
        more."""
        if not any(method in SEARCHES for method in self.settings.methods):
            return ()
        if not self.large:
            return tuple(dict.fromkeys(self.worth.values()))
        self.tables.prepare(self.settings.poolings)
        return self.settings.poolings

    @cached_property
    def parts_N(self) -> NDArray[np.int16]:
        """The part of each image, by which tables are laid out."""
        return dealt(self.folds_N, self.settings.seed, SHARES if self.large else 1)

    def table(self, pooling: Pooling, k: int) -> Table:
        """A table that is laid out by `parts_N`."""
        self.tables.parts_N = self.parts_N
        return self.tables[pooling, k]

    @property
    def large(self) -> bool:
        """Whether evaluating everything costs more than tables for it."""
        return large(self.sources, self.labels_N, self.num_classes)

    def _stacked(self, method: Method, found_CP: NDArray[np.float64], penalty: float) -> Fusion:
        """A fusion by weights of each class and biases; no result has more than its bound in any class."""
        weights_CM, biases_C = found_CP[:, :-1], found_CP[:, -1]
        cap = min(1.0, (self.settings.bound or np.inf) / weights_CM.shape[1])
        some = weights_CM.sum(axis=1, keepdims=True)
        if cap < 1:
            weights_CM = some * capped(np.where(some > 0, weights_CM, 1.0), cap)
        mean_M = weights_CM.mean(axis=0) if some.any() else equal(weights_CM.shape[1])
        single_CM, single_C = weights_CM.astype(np.float32), biases_C.astype(np.float32)
        return Fusion(
            method, POOLING[method], tuple(map(float, normalised(mean_M))),
            class_weights=tuple(map(tuple, single_CM.T.tolist())), biases=tuple(single_C.tolist()),
            penalty=penalty,
        )  # fmt: skip

    @property
    def penalties(self) -> tuple[float, ...]:
        """Of stacking, the strongest first: among equals it is taken, and fits start from it."""
        return tuple(sorted(set(self.settings.penalties), reverse=True))

    @cached_property
    def stacked(self) -> dict[Left, dict[float, NDArray[np.float64]]]:
        """Weights and biases (C, M + 1) by penalty, for each set of folds left out."""
        sample, most = self.sample, stacking.sampled(self.num_classes, len(self.sources))
        few = self._few(most)
        logs_MKn, below_Mn = (pools.picked(one, few) for one in (sample.logs_MKn, sample.normalisers_Mn))
        fits = stacking.Stacker(logs_MKn - below_Mn[:, None], sample.labels_n[few])
        found: dict[Left, dict[float, NDArray[np.float64]]] = {}
        for left, near in self._least_first:
            balance = sample.balanced(sample.seen(left) & few)[few]
            start = None if near is None else found[near]
            found[left] = fits.path(balance, self._pools[1][left], self.penalties, start)
        return found

    def _few(self, most: int) -> NDArray[np.bool_]:
        """At most so many of the sample's images, (n,): evenly of all folds, whatever the labels."""
        few = np.zeros(len(self.sample.lines), bool)
        few[np.random.default_rng([self.settings.seed, 6]).permutation(len(few))[:most]] = True
        return few

    @property
    def _least_first(self) -> list[tuple[Left, Left | None]]:
        """Sets of folds left out, those that see least first, each with one before it that it may start from:
        what sees more starts from what sees less, never the other way round."""
        order = sorted(self.lefts, key=len, reverse=True)
        return [(left, next((less for less in order if set(less) > set(left)), None)) for left in order]

    @property
    def pooled(self) -> dict[Method, dict[Left, NDArray[np.float64]]]:
        """Weights (M,) of both pools, with sum 1, for each set of folds left out."""
        linear, sharp = self._pools
        return {"linear_pool": linear, "log_pool": {left: one / one.sum() for left, one in sharp.items()}}

    @cached_property
    def _pools(self) -> tuple[dict[Left, NDArray[np.float64]], dict[Left, NDArray[np.float64]]]:
        """Weights (M,) of both pools, the logarithmic one's with their sharpness."""
        sample = self.sample
        own_Mn = sample.own_Mn
        few = self._few(pools.LOG_IMAGES)
        logs_MKn, place_n = pools.picked(sample.logs_MKn, few), sample.place_n[few]
        linear: dict[Left, NDArray[np.float64]] = {}
        sharp: dict[Left, NDArray[np.float64]] = {}
        for left, near in self._least_first:
            seen = sample.seen(left)
            start = None if near is None else (linear[near], sharp[near])
            balance = sample.balanced(seen)
            linear[left] = pools.linear_pool(own_Mn, balance, start and start[0])
            balance = sample.balanced(seen & few)[few]
            sharp[left] = pools.log_pool(logs_MKn, place_n, balance, start and start[1])
        return linear, sharp

    @cached_property
    def worth(self) -> dict[Left, Pooling]:
        """The pooling that is searched, for each set of folds left out: the first, unless the plain average
        makes the labels clearly likelier under another."""
        sample = self.sample
        if len(self.settings.poolings) == 1 or "rank" in self.settings.poolings:
            return dict.fromkeys(self.lefts, self.settings.poolings[0])
        weights = tuple(map(float, equal(len(self.sources))))
        logs = [pools.log_chances(sample, [Fusion("mean_probability", pooling, weights)], slice(None))[0]
                for pooling in self.settings.poolings]  # fmt: skip
        found = {}
        for left in self.lefts:
            balance = sample.balanced(sample.seen(left))
            first, *others = (pools.calibrated(one, sample.place_n, balance) for one in logs)
            found[left] = self.settings.poolings[0]
            for pooling, other in zip(self.settings.poolings[1:], others):
                if pools.clearly(other - first, balance):
                    found[left] = pooling
        return found

    @cached_property
    def _searched(self) -> dict[Method, dict[Left, NDArray[np.float64]]]:
        """Weights (M,) of all searches, each over the pooling that is worth it."""
        methods = [method for method in self.settings.methods if method in SEARCHES]
        found: dict[Method, dict[Left, NDArray[np.float64]]] = {method: {} for method in methods}
        for pooling in dict.fromkeys(self.worth.values()):
            mine = [left for left in self.lefts if self.worth[left] == pooling]
            for (method, left), weights in self._searches(pooling, methods, mine).items():
                found[method][left] = weights
        return found

    def _searches(
        self, pooling: Pooling, methods: Sequence[Method], mine: Sequence[Left]
    ) -> dict[tuple[Method, Left], NDArray[np.float64]]:
        """Weights (M,) of searches over a pooling, all fits step by step together."""
        whole = self.table(pooling, self.settings.k)
        right = self.counts.right(whole.store.singles(whole.k))
        steps = {
            (method, left): self._steps(method, pooling, left, whole.cap, self.counts.accuracy(right, left))
            for method in methods
            for left in mine
        }
        found = together(searched(whole, self.parts_N, self.folds), steps)
        return {key: one.weights_M for key, one in found.items()}

    def _steps(
        self, method: Method, pooling: Pooling, left: Left, cap: float, singles_M: NDArray[np.float64]
    ) -> search.Steps:
        if method == "greedy":
            return search.greedy_steps(cap, singles_M)
        if method == "coordinate":
            return search.coordinate_steps(cap, equal(len(singles_M)).astype(np.float64))
        best = self.pooled["linear_pool" if pooling == "probability" else "log_pool"][left]
        seeds_SM = np.stack([best, shrunk(best, 0.5)])
        return search.genetic_steps(cap, singles_M, self.settings.genetic, self.settings.seed, seeds_SM)
