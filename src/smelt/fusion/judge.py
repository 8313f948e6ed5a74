"""How a fusion is chosen: fitted on folds, judged on the images left out, and used only if that holds.

For every fold the searches see the other folds only; a fold's images are then valued under those weights.
How far fitted weights are drawn toward equal ones, and over which pooling a search runs, is chosen for each
fold by what held out on the others (the fitted weights there did see the fold's images, the choice among a
handful of settings hardly can profit from that). What is reported for a method is what this whole procedure
gives on images it has not seen; the weights that are kept are fitted once more, on all images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.fusion import search, temperature
from smelt.fusion.apply import Fusion, plain_hits
from smelt.fusion.config import MEANS, SEARCHES, FuseSettings, Method, Pooling
from smelt.fusion.reference import equal, normalised
from smelt.fusion.sources import Source
from smelt.fusion.table import Table
from smelt.fusion.tables import Tables
from smelt.fusion.weights import Valuer, capped, shrunk
from smelt.metrics import class_averaged

Told = Callable[[str], None]
KS = (1, 5)
KEPT = 1 << 26  # bytes of a fold's table up to which it is kept between searches
POOLING: dict[Method, Pooling] = {
    "mean_probability": "probability",
    "mean_log_probability": "log_probability",
    "mean_rank": "rank",
    "tempered_probability": "probability",
    "tempered_log_probability": "log_probability",
}


@dataclass(frozen=True)
class Option:
    """One way to set a method up: its fusion for each fold (fitted on the others), and on all images."""

    folds: tuple[Fusion, ...]
    final: Fusion


@dataclass(frozen=True)
class Verdict:
    """A method, judged. held_out: k → hits (N,) of images under weights that never saw them. sure: share of
    bootstrap samples in which it beats the best simple mean; gain, low, high: over the plain average."""

    fusion: Fusion
    held_out: Mapping[int, NDArray[np.bool_]]
    accuracy: float
    gain: float
    low: float
    high: float
    sure: float


def make_folds(labels_N: NDArray[np.integer], folds: int, seed: int) -> NDArray[np.int8]:
    """A fold for each labelled image, classes spread evenly over them; −1 for the others."""
    random = np.random.default_rng([seed, 1])
    order = random.permutation(len(labels_N))
    order = order[np.argsort(np.asarray(labels_N)[order], kind="stable")]
    order = order[np.asarray(labels_N)[order] >= 0]
    folds_N = np.full(len(labels_N), -1, np.int8)
    folds_N[order] = np.arange(len(order)) % folds
    return folds_N


def tabled(fusion: Fusion, settings: FuseSettings) -> bool:
    """Whether there is a table for this fusion anyway, since a search needs it; else all is evaluated."""
    searched = any(method in SEARCHES for method in settings.methods)
    return searched and fusion.temperatures is None and fusion.pooling in settings.poolings


class Judge:
    """Fits and judges all methods over tables for each pooling and k of KS."""

    def __init__(
        self,
        sources: Sequence[Source],
        labels_N: NDArray[np.int32],
        tables: Tables,
        settings: FuseSettings,
        told: Told = lambda text: None,
    ) -> None:
        self.sources, self.labels_N, self.tables = sources, labels_N, tables
        self.settings, self.told = settings, told
        known = int((labels_N >= 0).sum())
        self.count = max(2, min(settings.folds, known // 2))
        self.folds_N = make_folds(labels_N, self.count, settings.seed)
        self._temperatures: dict[int, tuple[float, ...]] = {}
        self._parts: dict[tuple[Pooling, int], Table] = {}

    def verdicts(self) -> list[Verdict]:
        """All methods, in the order of the settings."""
        held = {method: self._held_out(method, self._options(method)) for method in self.settings.methods}
        plain = held[self.plain][1][self.settings.k]
        best = max(
            (hits[self.settings.k] for method, (_, hits) in held.items() if method in MEANS),
            key=self._accuracy,
            default=plain,
        )
        return [self._verdict(fusion, hits, plain, best) for fusion, hits in held.values()]

    @property
    def plain(self) -> Method:
        """The method that gains are counted from: the plain average of probabilities, if it is tried."""
        means = [method for method in self.settings.methods if method in MEANS]
        return means[0] if means else self.settings.methods[0]

    def _accuracy(self, hits_N: NDArray[np.bool_]) -> float:
        return class_averaged(hits_N, self.labels_N)

    def _verdict(
        self,
        fusion: Fusion,
        held: Mapping[int, NDArray[np.bool_]],
        plain_N: NDArray[np.bool_],
        best_N: NDArray[np.bool_],
    ) -> Verdict:
        own = held[self.settings.k]
        gains = bootstrap(own, plain_N, self.labels_N, self.settings.bootstrap, self.settings.seed)
        over = bootstrap(own, best_N, self.labels_N, self.settings.bootstrap, self.settings.seed)
        low, high = np.quantile(gains, [0.025, 0.975])
        sure = float((over > 1e-12).mean())
        gain = self._accuracy(own) - self._accuracy(plain_N)
        return Verdict(fusion, held, self._accuracy(own), gain, float(low), float(high), sure)

    def _options(self, method: Method) -> list[Option]:
        """The ways a method is set up; searches are fitted here."""
        self.told(method)
        size = len(self.sources)
        if method in MEANS:
            fusion = Fusion(method, POOLING[method], tuple(map(float, equal(size))))
            return [Option((fusion,) * self.count, fusion)]
        if method in SEARCHES:
            return [
                option for pooling in self.settings.poolings for option in self._searched(method, pooling)
            ]
        return [Option(tuple(self._tempered(method, fold) for fold in range(self.count)),
                       self._tempered(method, -1))]  # fmt: skip

    def _tempered(self, method: Method, fold: int) -> Fusion:
        """Temperatures fitted on all folds but `fold`."""
        if fold not in self._temperatures:
            lines = np.flatnonzero((self.folds_N >= 0) & (self.folds_N != fold))
            self._temperatures[fold] = tuple(
                temperature.fit(source, self.labels_N, lines, self.settings.seed) for source in self.sources
            )
        heat = self._temperatures[fold]
        pooling = POOLING[method]
        if pooling == "probability":
            return Fusion(method, pooling, tuple(map(float, equal(len(heat)))), 0.0, heat)
        # logits divided by T and averaged: weights in proportion to 1/T
        fusion = Fusion(method, pooling, tuple(map(float, normalised(1 / np.array(heat)))))
        if not tabled(fusion, self.settings):
            return fusion
        cap = self.tables[pooling, self.settings.k].cap
        weights = normalised(capped(fusion.weights, cap)[0])
        return Fusion(method, pooling, tuple(map(float, weights)))

    def _searched(self, method: Method, pooling: Pooling) -> list[Option]:
        """Fit on all but each fold and on everything; an option for every share of shrinkage."""
        fitted = [self._fit(method, pooling, fold) for fold in (*range(self.count), -1)]
        options = []
        for share in self.settings.shrinkage:
            fusions = [
                Fusion(method, pooling, tuple(map(float, shrunk(weights, share))), share)
                for weights in fitted
            ]
            options.append(Option(tuple(fusions[:-1]), fusions[-1]))
        return options

    def _fit(self, method: Method, pooling: Pooling, fold: int) -> NDArray[np.float64]:
        whole = self.tables[pooling, self.settings.k]
        seen_N = (self.folds_N >= 0) & (self.folds_N != fold)
        value = Valuer(self._table(pooling, fold))
        singles = np.array([class_averaged(hits[seen_N], self.labels_N[seen_N])
                            for hits in whole.store.singles_MN])  # fmt: skip
        seed = self.settings.seed * 1000 + fold + 1
        if method == "genetic":
            return search.genetic(value, singles, self.settings.genetic, seed).weights_M
        if method == "greedy":
            return search.greedy(value, singles).weights_M
        return search.coordinate(value, equal(len(singles)).astype(np.float64)).weights_M

    def _table(self, pooling: Pooling, fold: int) -> Table:
        """The table without the images of `fold` (−1: of all); small ones are kept for the next search."""
        if (pooling, fold) in self._parts:
            return self._parts[pooling, fold]
        whole = self.tables[pooling, self.settings.k]
        table = whole if fold < 0 else whole.subset((self.folds_N >= 0) & (self.folds_N != fold))
        if table.bytes <= KEPT:
            self._parts[pooling, fold] = table
        return table

    def _held_out(
        self, method: Method, options: Sequence[Option]
    ) -> tuple[Fusion, dict[int, NDArray[np.bool_]]]:
        """The final fusion and held-out hits of a method, its option chosen by the other folds."""
        hits = [self._option_hits(option) for option in options]
        chosen = hits[0]
        best = 0
        if len(options) > 1:
            k = self.settings.k
            chosen = {key: np.zeros(len(self.labels_N), np.bool_) for key in hits[0]}
            for fold in range(self.count):
                others = (self.folds_N >= 0) & (self.folds_N != fold)
                pick = _best([class_averaged(h[k][others], self.labels_N[others]) for h in hits], options)
                mine = self.folds_N == fold
                for key in chosen:
                    chosen[key][mine] = hits[pick][key][mine]
            best = _best([self._accuracy(h[k]) for h in hits], options)
        return options[best].final, chosen

    def _option_hits(self, option: Option) -> dict[int, NDArray[np.bool_]]:
        """k → hits (N,), each image under the fusion of its fold."""
        found = {k: np.zeros(len(self.labels_N), np.bool_) for k in KS}
        if not tabled(option.final, self.settings):
            same = len(set(option.folds)) == 1  # then one pass over all images will do
            for fold, fusion in enumerate(option.folds[:1] if same else option.folds):
                lines = np.flatnonzero(self.folds_N >= 0 if same else self.folds_N == fold)
                for k, hits in plain_hits(fusion, self.sources, self.labels_N, lines, KS).items():
                    found[k][lines] = hits
            return found
        weights = np.array([fusion.weights for fusion in option.folds])
        for k in KS:
            hits_FN = self.tables[option.final.pooling, k].hits(weights)
            for fold in range(self.count):
                mine = self.folds_N == fold
                found[k][mine] = hits_FN[fold, mine]
        return found


def _best(accuracies: Sequence[float], options: Sequence[Option]) -> int:
    """Index of the highest accuracy; among equals the most shrunk."""
    keys = [(accuracy, option.final.shrinkage) for accuracy, option in zip(accuracies, options)]
    return max(range(len(keys)), key=lambda index: keys[index])


def bootstrap(
    hits_N: NDArray[np.bool_],
    other_N: NDArray[np.bool_],
    labels_N: NDArray[np.integer],
    samples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Differences of class-averaged accuracy, (samples,): classes drawn again, then images within each.

    Of an image only the difference of its two hits matters, so a class's images are drawn as counts of +1
    and −1: a binomial for the gains, another for the losses among the rest.
    """
    known = np.asarray(labels_N) >= 0
    _, codes, sizes = np.unique(np.asarray(labels_N)[known], return_inverse=True, return_counts=True)
    difference = hits_N[known].astype(np.int8) - other_N[known].astype(np.int8)
    plus = np.bincount(codes, weights=difference > 0, minlength=len(sizes)) / sizes
    minus = np.bincount(codes, weights=difference < 0, minlength=len(sizes)) / sizes
    random = np.random.default_rng([seed, 2])
    step = max(1, (1 << 20) // len(sizes))
    parts = []
    for start in range(0, samples, step):
        drawn = random.integers(len(sizes), size=(min(step, samples - start), len(sizes)))
        size = sizes[drawn]
        up = random.binomial(size, plus[drawn])
        rest = np.where(plus[drawn] < 1, minus[drawn] / np.maximum(1 - plus[drawn], 1e-12), 0.0)
        down = random.binomial(size - up, np.minimum(rest, 1.0))
        parts.append(((up - down) / size).mean(axis=1))
    return np.concatenate(parts)


def guard(verdicts: Sequence[Verdict], plain: Method, sure: float) -> tuple[Verdict, str]:
    """The method to use, and why in words.

    The best simple mean, unless a fitted one beats it on held-out images with the certainty asked for.
    """
    means = [v for v in verdicts if v.fusion.method in MEANS] or list(verdicts[:1])
    safe = max(means, key=lambda v: v.accuracy)
    fitted = [v for v in verdicts if v.fusion.method not in MEANS and v.accuracy > safe.accuracy]
    trusted = [v for v in fitted if v.sure >= sure]
    if trusted:
        best = max(trusted, key=lambda v: v.accuracy)
        return best, (
            f"{name(best)} is used: on images it was not fitted to it gains "
            f"{100 * (best.accuracy - safe.accuracy):+.2f} points over the best simple mean ({name(safe)}), "
            f"and is ahead of it in {best.sure:.0%} of bootstrap samples"
        )
    words = f"the plain average ({name(safe)}) is used"
    if safe.fusion.method != plain:
        words = f"{name(safe)} is used, the best of the simple means"
    tried = [v for v in verdicts if v.fusion.method not in MEANS]
    if not tried:
        return safe, f"{words}: nothing else was tried"
    best = max(tried, key=lambda v: v.accuracy)
    gain = 100 * (best.accuracy - safe.accuracy)
    if gain <= 0:
        return (
            safe,
            f"{words}: no fitted fusion beats it on held-out images ({name(best)}: {gain:+.2f} points)",
        )
    return safe, (
        f"{words}: {name(best)} gains {gain:+.2f} points on held-out images, but is ahead in only "
        f"{best.sure:.0%} of bootstrap samples, {sure:.0%} are asked for"
    )


def name(verdict: Verdict) -> str:
    """A method in words."""
    return verdict.fusion.method.replace("_", " ")
