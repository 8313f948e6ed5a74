"""How a fusion is chosen, and how the choice is judged: nothing is valued on images that it was made with.

To choose from some folds: every method is fitted without each of them in turn and valued on that one; so is
decided how a method is set up (its option) and, by the guard, which method is used instead of the plain
average, if any. The whole of this is a function of the folds it sees. It is applied to all folds, which gives
the fusion that is used, and, to be judged, to all folds but one, which is then what the outcome is valued on:
fits without each pair of folds serve both. The figures that are reported are those of images that had no part
in any decision; the best of several estimates is never reported as its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.fusion.apply import Fusion, hits_of
from smelt.fusion.config import FuseSettings, Method, Pooling
from smelt.fusion.exact.pooled import Tables
from smelt.fusion.exact.table import Table
from smelt.fusion.fitting import likelihood
from smelt.fusion.fitting.fits import Fits, Option
from smelt.fusion.fitting.folded import Left, by_fold, joined
from smelt.fusion.fitting.method import method, simple
from smelt.fusion.folds import effective, make_folds
from smelt.fusion.guard import Choice, Setup, guarded, in_words
from smelt.fusion.resample import Bootstrap, Column
from smelt.fusion.scores.sources import Kept, Source
from smelt.metrics import class_averaged

Told = Callable[[str], None]
KS = (1, 5)
Hits = Mapping[int, NDArray[np.bool_]]  # k → hits (N,)


@dataclass(frozen=True)
class Verdict:
    """A method, judged. held_out: hits of images that had no part in fitting it or setting it up. fitted:
    hits of the final fusion on the images that it was fitted to.

    accuracy, gain, low, high: of these, the last three over the plain average. sure: how certain it is, from
    all folds, that the method is better than what the guard compares it with; see `Choice`.
    """

    fusion: Fusion
    held_out: Hits
    fitted: Hits
    accuracy: float
    gain: float
    low: float
    high: float
    sure: float


@dataclass(frozen=True)
class Judgement:
    """All methods, the choice, and what the whole procedure of choosing holds out."""

    verdicts: tuple[Verdict, ...]
    choice: Choice
    words: str
    held_out: Hits
    interval: Mapping[int, tuple[float, float]]
    gain: float
    low: float
    high: float
    taken: tuple[Method, ...]  # by the choice without each fold
    images: int
    groups: int
    effective: float

    @property
    def chosen(self) -> Fusion:
        """The fusion that is used."""
        return self.choice.options[self.choice.method].final


class Judge:
    """Fits all methods on the labelled images, chooses, and judges the choice."""

    def __init__(
        self,
        sources: Sequence[Source],
        labels_N: NDArray[np.int32],
        tables: Tables,
        settings: FuseSettings,
        *,
        num_classes: int,
        groups_N: ArrayLike | None = None,
        told: Told = lambda text: None,
    ) -> None:
        self.sources, self.labels_N, self.tables = sources, labels_N, tables
        self.settings, self.told, self.groups_N = settings, told, groups_N
        known = labels_N >= 0
        groups = np.arange(len(labels_N)) if groups_N is None else np.asarray(groups_N)
        self.images, self.groups = int(known.sum()), len(np.unique(groups[known]))
        self.effective = effective(groups[known])
        self.cut = any(source.cut for source in sources)  # tables hold bounds then, not what is delivered
        self.count = min(settings.folds, self.groups)
        self.folds_N = make_folds(labels_N, self.count, settings.seed, groups_N)
        order = np.argsort(self.folds_N, kind="stable")
        for source in sources:
            if isinstance(source, Kept):
                source.arrange(order)
        self.fits = Fits(sources, labels_N, self.folds_N, tables, settings, num_classes)
        self._known: dict[tuple[Fusion, int], dict[int, NDArray[np.bool_]]] = {}  # (fusion, fold) → k → hits
        self._logs: dict[tuple[Fusion, int], NDArray[np.float32]] = {}
        self.draws = Bootstrap(labels_N, groups_N, settings.bootstrap, settings.seed)

    @property
    def plain(self) -> Method:
        """The method that gains are counted from: the plain average of probabilities, if it is tried."""
        means = [name for name in self.settings.methods if simple(name)]
        return means[0] if means else self.settings.methods[0]

    @cached_property
    def options(self) -> dict[Method, list[Option]]:
        """All methods with their options, fitted."""
        found = {}
        for name in self.settings.methods:
            self.told(name)
            found[name] = self.fits.options(name)
        return found

    def judgement(self) -> Judgement:
        """Choose from all folds, and from all but each, which is what the first is judged by."""
        choices = self.choices()
        outer = {method: self._applied(choices, dict.fromkeys(self.outer, method)) for method in self.options}
        taken = {left: choices[left].method for left in self.outer}
        final = {
            method: dict.fromkeys(range(self.count), choices[()].options[method].final) for method in outer
        }
        wishes = [*outer.values(), *final.values(), self._applied(choices, taken)]
        hits = self.hits(wishes, KS)
        own = hits[self.settings.k]
        gains = self._gains(own, own[list(outer).index(self.plain)])
        verdicts = tuple(
            Verdict(
                choices[()].options[method].final,
                {k: hits[k][row] for k in KS},
                {k: hits[k][row + len(outer)] for k in KS},
                self._accuracy(own[row]),
                *gains[row],
                choices[()].sure[method],
            )
            for row, method in enumerate(outer)
        )
        held: Hits = {k: hits[k][-1] for k in KS}
        interval = {k: self._interval(held[k]) for k in KS}
        gain, low, high = gains[-1]
        words = in_words(choices[()], self.settings.sure, self.plain, gain, (low, high))
        return Judgement(
            verdicts, choices[()], words, held, interval, gain, low, high, tuple(taken.values()), self.images,
            self.groups, self.effective,
        )  # fmt: skip

    @property
    def outer(self) -> list[Left]:
        """Each fold by itself."""
        return [(fold,) for fold in range(self.count)]

    def _applied(self, choices: Mapping[Left, Choice], methods: Mapping[Left, Method]) -> dict[int, Fusion]:
        """For each fold the fusion that the choice without it made of a method."""
        return {left[0]: choices[left].options[methods[left]].fusions[left] for left in self.outer}

    def _accuracy(self, hits_N: NDArray[np.bool_]) -> float:
        return class_averaged(hits_N, self.labels_N)

    def _gains(
        self, hits_QN: NDArray[np.bool_], plain_N: NDArray[np.bool_]
    ) -> list[tuple[float, float, float]]:
        """Gain of each of Q sets of hits over the plain average, and its interval of 95 %."""
        differences = hits_QN.astype(np.float64) - plain_N
        drawn = self.draws([self.draws.column(one) for one in differences])
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        plain = self._accuracy(plain_N)
        return [
            (self._accuracy(own) - plain, float(down), float(up)) for own, down, up in zip(hits_QN, low, high)
        ]

    def _interval(self, hits_N: NDArray[np.bool_]) -> tuple[float, float]:
        low, high = np.clip(np.quantile(self.draws.centred(hits_N), [0.025, 0.975]), 0, 1)
        return float(low), float(high)

    def hits(self, wishes: Sequence[Mapping[int, Fusion]], ks: Sequence[int]) -> dict[int, NDArray[np.bool_]]:
        """k → hits (Q, N) of each fold's images under the fusion that a wish has for it."""
        over = [[self._over_table(wish, k) for wish in wishes] for k in ks]
        rest = [row for row in range(len(wishes)) if not all(known[row] for known in over)]
        found = {k: np.zeros((len(wishes), len(self.labels_N)), np.bool_) for k in ks}
        if rest:
            some = [k for k, known in zip(ks, over) if not all(known)]
            wanted = [wishes[row] for row in rest]
            hits = self._plain_hits(wanted)
            for k in some:
                found[k][rest] = hits[k]
        for k, known in zip(ks, over):
            rows = [row for row in range(len(wishes)) if known[row]]
            for pooling in dict.fromkeys(_pooling(wishes[row]) for row in rows):
                mine = [row for row in rows if _pooling(wishes[row]) == pooling]
                of_folds = by_fold(self.fits.table(pooling, k), self.fits.parts_N, self.count)
                found[k][mine] = table_hits(of_folds, self.folds_N, [wishes[row] for row in mine])
        return found

    def _plain_hits(self, wishes: Sequence[Mapping[int, Fusion]]) -> dict[int, NDArray[np.bool_]]:
        """k → hits (Q, N) by evaluating everything that was not evaluated before."""
        found = {k: np.zeros((len(wishes), len(self.labels_N)), np.bool_) for k in KS}
        for fold in range(self.count):
            lines = np.flatnonzero(self.folds_N == fold)
            fusions = dict.fromkeys(wish[fold] for wish in wishes if fold in wish)
            fresh = [fusion for fusion in fusions if (fusion, fold) not in self._known]
            if fresh:
                hits = hits_of(fresh, self.sources, self.labels_N, lines, KS)
                self._known |= {(one, fold): {k: hits[k][row] for k in KS} for row, one in enumerate(fresh)}
            for row, wish in enumerate(wishes):
                for k in KS if fold in wish else ():
                    found[k][row, lines] = self._known[wish[fold], fold][k]
        return found

    def _over_table(self, wish: Mapping[int, Fusion], k: int) -> bool:
        """Whether a table knows the hits: it is there, or evaluating everything would cost more."""
        alike = len({fusion.pooling for fusion in wish.values()}) == 1
        there = all(fusion.summed and fusion.pooling in self.fits.tabled for fusion in wish.values())
        return alike and there and not self.cut and (k == self.settings.k or self.fits.large)

    def choices(self) -> dict[Left, Choice]:
        """What is chosen from all folds, and from all but each."""
        lefts: list[Left] = [(), *self.outer]
        setups = self._setups(lefts)
        columns = []
        for left in lefts:
            for name in self.options:
                columns += [self.draws.column(setups[left][name].hits_N, self._seen(left))]
                columns += [self._likelihoods(setups[left][name])]
        drawn = self.draws(columns).reshape(self.settings.bootstrap, len(lefts), len(self.options), 2)
        return {
            left: guarded(setups[left], drawn[:, row], self.plain, self.settings.sure)
            for row, left in enumerate(lefts)
        }

    def _setups(self, lefts: Sequence[Left]) -> dict[Left, dict[Method, Setup]]:
        """The option of each method that holds out best on the folds that are seen.

        Options of pools and of stacking by likelihood, which they are fitted by and which says more of how
        far to shrink than a count does; others' by accuracy. Among equals the most shrunk.
        """
        tried: dict[tuple[Left, Method], list[tuple[Option, NDArray[np.float64] | None]]] = {}
        by_likelihood = [m for m in self.options if method(m).by_likelihood]
        self._mix([(option, left) for m in by_likelihood for option in self.options[m] for left in lefts])
        for left in lefts:
            for name, options in self.options.items():
                tried[left, name] = [(option, None) for option in options]
                if name in by_likelihood:
                    tried[left, name] = [self._likeliest(options, left)]
        wishes = [self._inner(option, left) for (left, _), some in tried.items() for option, _ in some]
        hits = iter(self.hits(wishes, (self.settings.k,))[self.settings.k])
        found: dict[Left, dict[Method, Setup]] = {left: {} for left in lefts}
        for (left, name), some in tried.items():
            seen = self._seen(left)
            setups = []
            for option, likely in some:
                own = next(hits)
                accuracy = class_averaged(own[seen], self.labels_N[seen])
                setups.append(Setup(option, own, accuracy, likely))
            found[left][name] = max(setups, key=lambda one: (one.accuracy, one.option.final.shrinkage))
        self._mix([(setup.option, left) for left in lefts for setup in found[left].values()])
        for left in lefts:
            for name, setup in found[left].items():
                if setup.likely is None:
                    found[left][name] = replace(setup, likely=self._likely(setup.option, left))
        return found

    def _likeliest(self, options: Sequence[Option], left: Left) -> tuple[Option, NDArray[np.float64] | None]:
        """The option under which the labels of the folds seen are likeliest, and their likelihoods."""
        balance = self.fits.sample.balanced(self.fits.sample.seen(left))
        likely = [self._likely(option, left) for option in options]
        worth = [float(np.nansum(one * balance)) if one is not None else -np.inf for one in likely]
        best = max(range(len(options)), key=lambda place: (worth[place], options[place].final.shrinkage))
        return options[best], likely[best]

    def _seen(self, left: Left) -> NDArray[np.bool_]:
        seen = ~np.isin(np.arange(self.count), left)
        return np.asarray((self.folds_N >= 0) & seen[np.maximum(self.folds_N, 0)])

    def _inner(self, option: Option, left: Left) -> dict[int, Fusion]:
        """For each fold that is seen, the option fitted without it."""
        return {fold: option.fusions[joined(left, fold)] for fold in range(self.count) if fold not in left}

    def _likely(self, option: Option, left: Left) -> NDArray[np.float64] | None:
        """Calibrated log likelihood (n,) of the sampled images, each under the fit without its fold; NaN of
        the folds left out. They are mixed already."""
        if option.final.pooling == "rank":
            return None
        sample = self.fits.sample
        seen_n = sample.seen(left)
        parts = [self._logs[fusion, fold] for fold, fusion in self._inner(option, left).items()]
        likely = np.full(len(seen_n), np.nan)
        balance = sample.balanced(seen_n)[seen_n]
        likely[seen_n] = likelihood.calibrated(np.concatenate(parts, axis=1), sample.place_n[seen_n], balance)
        return likely

    def _mix(self, options: Sequence[tuple[Option, Left]]) -> None:
        """What options make of the sampled images of the folds that are seen: all that can be at once."""
        wishes = [self._inner(option, left) for option, left in options if option.final.pooling != "rank"]
        for fold in range(self.count):
            alike: dict[object, dict[Fusion, None]] = {}
            for fusion in (wish[fold] for wish in wishes if fold in wish):
                if (fusion, fold) not in self._logs:
                    kind = fusion.pooling, fusion.class_weights is None
                    alike.setdefault(fusion if fusion.temperatures else kind, {})[fusion] = None
            begin, end = np.searchsorted(self.fits.sample.folds_n, [fold, fold + 1])
            for fusions in map(list, alike.values()):
                logs = likelihood.log_chances(self.fits.sample, fusions, slice(begin, end))
                self._logs.update({(fusion, fold): one for fusion, one in zip(fusions, logs)})

    def _likelihoods(self, setup: Setup) -> Column:
        """The log likelihoods for the bootstrap; NaN where there are none."""
        values_N = np.full(len(self.labels_N), np.nan)
        if setup.likely is None:
            return self.draws.column(values_N)
        values_N[self.fits.sample.lines] = setup.likely
        return self.draws.column(values_N, ~np.isnan(values_N))


def _pooling(wish: Mapping[int, Fusion]) -> Pooling:
    return next(iter(wish.values())).pooling


def table_hits(
    tables: Sequence[Table], folds_N: NDArray[np.int8], wishes: Sequence[Mapping[int, Fusion]]
) -> NDArray[np.bool_]:
    """Hits (Q, N) of each fold's images under the fusion that a wish has for it, over the fold's table."""
    found = np.zeros((len(wishes), len(folds_N)), np.bool_)
    for fold, table in enumerate(tables):
        mine = np.flatnonzero(folds_N == fold)
        wanted = list(dict.fromkeys(wish[fold].weights for wish in wishes if fold in wish))
        for start in range(0, len(wanted), 256):
            part = wanted[start : start + 256]
            hits = dict(zip(part, table.hits(np.array(part))[:, mine]))
            for row, wish in enumerate(wishes):
                if fold in wish and wish[fold].weights in hits:
                    found[row, mine] = hits[wish[fold].weights]
    return found
