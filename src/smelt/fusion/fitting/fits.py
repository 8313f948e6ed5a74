"""Every way of fusing, fitted without every set of folds that a judged choice leaves out.

What is fitted for a set of folds sees no label of theirs: not the temperatures, not the pools, not the
searches and what they start from. `judge` chooses among what is made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.apply import Fusion
from smelt.fusion.config import FuseSettings, Pooling
from smelt.fusion.exact.hits import Table
from smelt.fusion.exact.pooled import Tables
from smelt.fusion.fitting import likelihood
from smelt.fusion.fitting.folded import SHARES, Counts, Left, dealt, joined, lefts
from smelt.fusion.fitting.method import Method, Searching, Seen, method
from smelt.fusion.fitting.sample import Sample, sample
from smelt.fusion.fitting.searching import searched, together
from smelt.fusion.fitting.vectors import capped, shrunk
from smelt.fusion.scores import temperature
from smelt.fusion.scores.reference import equal, normalised
from smelt.fusion.scores.sources import Source

PLAIN = 1 << 28  # scores up to which figures that no search needs are had without a table


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

    def inner(self, left: Left, folds: int) -> dict[int, Fusion]:
        """For each fold that is seen, the fusion fitted without it."""
        return {fold: self.fusions[joined(left, fold)] for fold in range(folds) if fold not in left}


class Fits:
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
        self._fitted: dict[str, dict[Left, Any]] = {}

    def options(self, name: str) -> list[Option]:
        """The ways a method is set up, all fitted."""
        one = method(name)
        if one.fusions is not None:
            fitted = self.fitted(name)
            made = [one.fusions(self.seen(name, left), fitted[left]) for left in self.lefts]
            return [Option(dict(zip(self.lefts, fusions))) for fusions in zip(*made)]
        if one.simple:
            assert one.pooling is not None
            fusion = Fusion(name, one.pooling, tuple(map(float, equal(len(self.sources)))))
            return [Option(dict.fromkeys(self.lefts, fusion))]
        weights = self._searched[name] if one.steps else self.fitted(name)
        shares = self.settings.shrinkage if one.tuned else (0.0,)
        return [Option({left: self._within(name, one.pooling or self.worth[left], weights[left], share)
                        for left in self.lefts}) for share in shares]  # fmt: skip

    def fitted(self, name: str) -> dict[Left, Any]:
        """What the fit of a method gives for each set of folds left out."""
        if name not in self._fitted:
            fit, found = method(name).fit, dict[Left, Any]()
            assert fit is not None, f"{name} is not fitted"
            for left, near in self._least_first:
                found[left] = fit(self.seen(name, left, None if near is None else found[near]))
            self._fitted[name] = found
        return self._fitted[name]

    def seen(self, name: str, left: Left, near: Any = None) -> Seen:
        """What a fit sees without some folds."""
        return Seen(
            self.sample, self.sample.seen(left), self.settings, near,
            of=lambda other: self.fitted(other)[left],
            temperatures_M=lambda: self.temperatures[left],
        )  # fmt: skip

    @property
    def _least_first(self) -> list[tuple[Left, Left | None]]:
        """Sets of folds left out, those that see least first, each with one before it that it may start from:
        what sees more starts from what sees less, never the other way round."""
        order = sorted(self.lefts, key=len, reverse=True)
        return [(left, next((less for less in order if set(less) > set(left)), None)) for left in order]

    @cached_property
    def sample(self) -> Sample:
        """Values that likelihoods are taken of."""
        return sample(self.sources, self.labels_N, self.folds_N, self.settings.seed, self.num_classes)

    @cached_property
    def temperatures(self) -> dict[Left, tuple[float, ...]]:
        """(M,) for each set of folds left out."""
        lines = temperature.sampled(self.folds_N, self.num_classes, self.settings.seed)
        found = [
            temperature.fits(source, self.labels_N, lines, self.folds_N, self.lefts)
            for source in self.sources
        ]
        return dict(zip(self.lefts, zip(*found)))

    def _within(self, name: str, pooling: Pooling, weights_M: NDArray[np.float64], share: float) -> Fusion:
        """A fusion whose weights keep to the bound, and to the cap of the table that it is valued over."""
        weights = shrunk(weights_M, share)
        cap = min(1.0, (self.settings.bound or np.inf) / len(weights))
        if pooling in self.tabled:
            cap = self.tables.store(pooling).cap
        if cap < 1:
            weights = normalised(capped(weights, cap)[0])
        return Fusion(name, pooling, tuple(map(float, weights)), share)

    @property
    def searches(self) -> dict[str, Method]:
        """The searches among what is asked for."""
        named = {name: method(name) for name in self.settings.methods}
        return {name: one for name, one in named.items() if one.steps}

    @cached_property
    def tabled(self) -> tuple[Pooling, ...]:
        """Poolings that there is a table for: those that are searched; all, where plain evaluation costs
        more."""
        if not self.searches:
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

    @cached_property
    def worth(self) -> dict[Left, Pooling]:
        """The pooling that is searched, for each set of folds left out: the first, unless the plain average
        makes the labels clearly likelier under another."""
        poolings, sample = self.settings.poolings, self.sample
        if len(poolings) == 1 or "rank" in poolings:
            return dict.fromkeys(self.lefts, poolings[0])
        weights = tuple(map(float, equal(len(self.sources))))
        plain = [Fusion("mean_probability", pooling, weights) for pooling in poolings]
        logs = [likelihood.log_chances(sample, [fusion], slice(None))[0] for fusion in plain]
        found = {}
        for left in self.lefts:
            balance = sample.balanced(sample.seen(left))
            first, *others = (likelihood.calibrated(one, sample.place_n, balance) for one in logs)
            found[left] = poolings[0]
            for pooling, other in zip(poolings[1:], others):
                if likelihood.clearly(other - first, balance):
                    found[left] = pooling
        return found

    @cached_property
    def _searched(self) -> dict[str, dict[Left, NDArray[np.float64]]]:
        """Weights (M,) of all searches, each over the pooling that is worth it, all step by step together."""
        found: dict[str, dict[Left, NDArray[np.float64]]] = {name: {} for name in self.searches}
        for pooling in dict.fromkeys(self.worth.values()):
            whole = self.table(pooling, self.settings.k)
            right = self.counts.right(whole.store.singles(whole.k))
            steps = {}
            for name, one in self.searches.items():
                for left in self.lefts:
                    if self.worth[left] == pooling and one.steps:
                        alone_M = self.counts.accuracy(right, left)
                        steps[name, left] = one.steps(self._searching(pooling, left, whole.cap, alone_M))
            for (name, left), one_found in together(searched(whole, self.parts_N, self.folds), steps).items():
                found[name][left] = one_found.weights_M
        return found

    def _searching(
        self, pooling: Pooling, left: Left, cap: float, singles_M: NDArray[np.float64]
    ) -> Searching:
        def pool_M() -> NDArray[np.float64]:
            pool = "linear_pool" if pooling == "probability" else "log_pool"
            weights_M: NDArray[np.float64] = self.fitted(pool)[left]
            return np.asarray(weights_M / weights_M.sum())

        return Searching(cap, singles_M, self.settings, pool_M)
