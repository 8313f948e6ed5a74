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

from smelt.fusion.apply import Fusion
from smelt.fusion.config import FuseSettings, Method
from smelt.fusion.exact.pooled import Tables
from smelt.fusion.fitting.evaluator import KS, Evaluator
from smelt.fusion.fitting.fits import Fits, Option
from smelt.fusion.fitting.folded import Left
from smelt.fusion.fitting.method import method, simple
from smelt.fusion.folds import effective, make_folds
from smelt.fusion.guard import Choice, Setup, guarded, in_words
from smelt.fusion.resample import Bootstrap, Column
from smelt.fusion.scores.sources import Kept, Source
from smelt.metrics import class_averaged

Told = Callable[[str], None]
Hits = Mapping[int, NDArray[np.bool_]]  # k → hits (N,)


@dataclass(frozen=True)
class Verdict:
    """A method, judged. held_out: hits of images that had no part in fitting it or setting it up. fitted:
    hits of the final fusion on the images that it was fitted to.

    gain, low, high: of the former over the plain average. sure: how certain it is, from all folds,
    that the method is better than what the guard compares it with; see `Choice`.
    """

    fusion: Fusion
    held_out: Hits
    fitted: Hits
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
        self.count = min(settings.folds, self.groups)
        self.folds_N = make_folds(labels_N, self.count, settings.seed, groups_N)
        order = np.argsort(self.folds_N, kind="stable")
        for source in sources:
            if isinstance(source, Kept):
                source.arrange(order)
        self.fits = Fits(sources, labels_N, self.folds_N, tables, settings, num_classes)
        self.evaluator = Evaluator(self.fits)
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
        asked = [*outer.values(), *final.values(), self._applied(choices, taken)]
        hits = self.evaluator.hits(asked, KS)
        own = hits[self.settings.k]
        gains = self._gains(own, own[list(outer).index(self.plain)])
        verdicts = tuple(
            Verdict(
                choices[()].options[method].final,
                {k: hits[k][row] for k in KS},
                {k: hits[k][row + len(outer)] for k in KS},
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
        self.evaluator.mix(
            [o.inner(left, self.count) for m in by_likelihood for o in self.options[m] for left in lefts]
        )
        for left in lefts:
            for name, options in self.options.items():
                tried[left, name] = [(option, None) for option in options]
                if name in by_likelihood:
                    tried[left, name] = [self._likeliest(options, left)]
        asked = [option.inner(left, self.count) for (left, _), some in tried.items() for option, _ in some]
        hits = iter(self.evaluator.hits(asked, (self.settings.k,))[self.settings.k])
        found: dict[Left, dict[Method, Setup]] = {left: {} for left in lefts}
        for (left, name), some in tried.items():
            seen = self._seen(left)
            setups = []
            for option, likely in some:
                own = next(hits)
                accuracy = class_averaged(own[seen], self.labels_N[seen])
                setups.append(Setup(option, own, accuracy, likely))
            found[left][name] = max(setups, key=lambda one: (one.accuracy, one.option.final.shrinkage))
        self.evaluator.mix(
            [one.option.inner(left, self.count) for left in lefts for one in found[left].values()]
        )
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

    def _likely(self, option: Option, left: Left) -> NDArray[np.float64] | None:
        return self.evaluator.likely(option.inner(left, self.count), left)

    def _seen(self, left: Left) -> NDArray[np.bool_]:
        seen = ~np.isin(np.arange(self.count), left)
        return np.asarray((self.folds_N >= 0) & seen[np.maximum(self.folds_N, 0)])

    def _likelihoods(self, setup: Setup) -> Column:
        """The log likelihoods for the bootstrap; NaN where there are none."""
        values_N = np.full(len(self.labels_N), np.nan)
        if setup.likely is None:
            return self.draws.column(values_N)
        values_N[self.fits.sample.lines] = setup.likely
        return self.draws.column(values_N, ~np.isnan(values_N))
