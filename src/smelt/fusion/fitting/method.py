"""What a way of fusing is: the METHOD of a module of `fusion/methods/`, whose name is the setting's value."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.apply import Fusion
from smelt.fusion.config import FuseSettings, Pooling
from smelt.fusion.fitting.sample import Sample
from smelt.fusion.fitting.searching import Steps


@dataclass(frozen=True)
class Seen:
    """What a fit sees of M results: nothing of the labels of the folds that are left out.

    sample: their values for n labelled images. seen_n: which of these are in no fold left out. near: what the
    same fit gave for fewer images, as a start; None where there is none. of: what the fit of another method
    gives for the same images. temperatures_M: of each result, by likelihood.
    """

    sample: Sample
    seen_n: NDArray[np.bool_]
    settings: FuseSettings
    near: Any
    of: Callable[[str], Any]
    temperatures_M: Callable[[], tuple[float, ...]]


@dataclass(frozen=True)
class Searching:
    """What a search starts from: it is told the accuracy of the weights that it asks for, see `searching`.

    cap: no weight may be above it. singles_M: accuracy of each result alone on the images that are seen.
    pool_M: the weights, with sum 1, under which the pool of the same pooling makes their labels likeliest.
    """

    cap: float
    singles_M: NDArray[np.float64]
    settings: FuseSettings
    pool_M: Callable[[], NDArray[np.float64]]


def never(num_results: int, num_classes: int, scores: float) -> str:
    """Nothing is too large."""
    return ""


@dataclass(frozen=True)
class Method:
    """A way of fusing; with neither `fit` nor `steps` all results weigh the same.

    pooling: what is averaged; None: what the settings' `poolings` let searches run over. fit: from what is
    seen, weights (M,) of any sum. steps: the search for them. fusions: what is made of the fit instead of
    those weights mixed with equal ones by each of the settings' shares: an option each. tuned: whether the
    option is chosen by the likelihood of what is held out.
    own_pass: whether it needs a pass over all scores by itself, every_score: whether none may be missing.
    too_large: why so many results, classes and scores are too many for it, in words.
    """

    pooling: Pooling | None
    fit: Callable[[Seen], Any] | None = None
    steps: Callable[[Searching], Steps] | None = None
    fusions: Callable[[Seen, Any], list[Fusion]] | None = None
    tuned: bool = True
    own_pass: bool = False
    every_score: bool = False
    too_large: Callable[[int, int, float], str] = never

    @property
    def simple(self) -> bool:
        """Whether it is a simple mean: nothing is fitted."""
        return self.fit is None and self.steps is None

    @property
    def by_likelihood(self) -> bool:
        """Whether its options are compared by likelihood, not by accuracy."""
        return self.fit is not None and self.tuned


def method(name: str) -> Method:
    """The method of a name that the settings know."""
    found: Method = importlib.import_module(f"smelt.fusion.methods.{name}").METHOD
    return found


def simple(name: str) -> bool:
    """Whether a method is a simple mean."""
    return method(name).simple


def titled(name: str) -> str:
    """A method in words."""
    return name.replace("_", " ")
