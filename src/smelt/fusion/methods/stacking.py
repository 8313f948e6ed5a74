"""Stacking per class: the logarithmic pool with weights and a bias of each class.

    q_c ∝ exp(Σ_m w_mc s_mc + b_c),   w ≥ 0            s: log probabilities of result m for class c

Where results were trained on wrong labels they all lean the same way (cats for dogs), which one weight a
result cannot undo. A class's score hangs on what the results say of that class alone, as in StackingC
(Seewald 2002, How to make stacking better and faster while also taking care of an unknown weakness; Ting &
Witten 1999, Issues in stacked generalization, for a model of each class). Minimised is the class-balanced
log loss, and λ/2 of the squared distance from the logarithmic pool, in units of logits: without it so many
weights fit noise. λ is the method's option.

The loss is convex; `quasinewton` minimises it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.apply import Fusion
from smelt.fusion.fitting.method import Method, Seen
from smelt.fusion.fitting.quasinewton import minimum
from smelt.fusion.fitting.sample import picked
from smelt.fusion.fitting.vectors import capped
from smelt.fusion.scores.reference import equal, normalised

CLASSES = 64  # of more there are too few images a class, and a sample holds the likeliest of each image only
IMAGES = 1500  # that it is fitted on, or fewer:
ELEMENTS = 1 << 19  # values that fits look at
FEWEST = 16  # images a class below which such a sample is too small
PASS = 1 << 30  # scores up to which it is tried: no table knows its hits, all are evaluated some seven times


def sampled(num_classes: int, num_results: int) -> int:
    """Images that fits of so many classes and results look at."""
    return min(IMAGES, ELEMENTS // (num_classes * num_results))


def too_large(num_results: int, num_classes: int, scores: float) -> str:
    """Why stacking is not tried on so many, in words; "" where it is."""
    if num_classes > CLASSES:
        return f"it is fitted for up to {CLASSES} classes, there are {num_classes}"
    if sampled(num_classes, num_results) < FEWEST * num_classes:
        return f"{num_results} results of {num_classes} classes are too many weights for it"
    if scores > PASS:
        return f"it needs several passes of its own over {scores:.2g} scores"
    return ""


@dataclass(frozen=True)
class Images:
    """The images that a fit sees, of the classes that have any among them.

    values: (G, M + 1, n) log probabilities, then ones that the bias is multiplied by. place_n: of the label
    among the G. balance_n: weights with sum 1. units_P: logits that a weight of 1 stands for.
    """

    values_GPn: NDArray[np.float32]
    place_n: NDArray[np.int64]
    balance_n: NDArray[np.float64]
    units_P: NDArray[np.float64]

    @cached_property
    def _own(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.place_n, np.arange(len(self.place_n))

    @cached_property
    def _light_n(self) -> NDArray[np.float32]:
        return self.balance_n.astype(np.float32)

    def chances(self, weights_GP: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
        """Probabilities (G, n) and the log loss."""
        scores = np.matmul(weights_GP.astype(np.float32)[:, None], self.values_GPn)[:, 0]
        scores -= scores.max(axis=0)
        own = scores[self._own]
        np.exp(scores, out=scores)
        total = scores.sum(axis=0)
        scores /= total
        return scores, float(self.balance_n @ (np.log(total, dtype=np.float64) - own))

    def judged(self, weights_GP: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The log loss and its gradient (G, P)."""
        chances, loss = self.chances(weights_GP)
        chances[self._own] -= 1
        chances *= self._light_n
        return loss, np.matmul(self.values_GPn, chances[:, :, None])[:, :, 0].astype(np.float64)

    def bends(self, weights_GP: NDArray[np.float64]) -> NDArray[np.float64]:
        """The loss's Hessian within each class, (G, P, P), without the penalty's."""
        chances, _ = self.chances(weights_GP)
        weighted = self.values_GPn * (chances * (1 - chances) * self._light_n)[:, None]
        return np.asarray(np.matmul(weighted, self.values_GPn.transpose(0, 2, 1)), np.float64)


@dataclass(frozen=True)
class Loss:
    """The penalised loss of weights (G, P), those of results not below 0. base_P: what it draws them to."""

    images: Images
    base_P: NDArray[np.float64]
    penalty: float

    @property
    def units_P(self) -> NDArray[np.float64]:
        """Logits that a weight of 1 stands for."""
        return self.images.units_P

    @cached_property
    def lowest_P(self) -> NDArray[np.float64]:
        """0 for the weights of results, nothing for the bias."""
        return np.append(np.zeros(len(self.base_P) - 1), -np.inf)

    def judged(self, weights_GP: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The penalised loss and its gradient (G, P)."""
        loss, gradient_GP = self.images.judged(weights_GP)
        away_GP = (weights_GP - self.base_P) * self.images.units_P
        penalty = self.penalty / 2 * float((away_GP**2).sum())
        return loss + penalty, gradient_GP + self.penalty * away_GP * self.images.units_P

    def blocks(self, weights_GP: NDArray[np.float64]) -> NDArray[np.float64]:
        """The Hessian within each class, (G, P, P)."""
        return self.images.bends(weights_GP) + np.diag(self.penalty * self.images.units_P**2)


class Stacker:
    """Fits on a sample: log probabilities (M, C, n) and labels (n,) of its images."""

    def __init__(self, logs_MCn: NDArray[np.float32], labels_n: NDArray[np.int64]) -> None:
        num_results, self.num_classes, size = logs_MCn.shape
        self.labels_n, num_classes = labels_n, self.num_classes
        self.values_CPn = np.ones((num_classes, num_results + 1, size), np.float32)
        self.values_CPn[:, :-1] = logs_MCn.transpose(1, 0, 2)
        squares_M = np.einsum("mcn,mcn->m", logs_MCn, logs_MCn, dtype=np.float64)
        self.units_P = np.append(np.sqrt(squares_M / max(1, size * num_classes)), 1.0)
        self.units_P[self.units_P <= 0] = 1.0  # a result that says 0 of everything says nothing

    def seen(self, balance_n: NDArray[np.float64]) -> tuple[Images, NDArray[np.int64]]:
        """What has a weight in `balance_n`, and the classes (G,) that have images there."""
        mine = np.flatnonzero(balance_n > 0)
        labels = self.labels_n[mine]
        classes = np.flatnonzero(np.bincount(labels, minlength=self.num_classes))
        values = self.values_CPn if len(classes) == self.num_classes else self.values_CPn[classes]
        values = np.take(values, mine, axis=2)
        found = Images(values, np.searchsorted(classes, labels), balance_n[mine], self.units_P)
        return found, classes

    def path(
        self,
        balance_n: NDArray[np.float64],
        base_M: NDArray[np.float64],
        penalties: tuple[float, ...],
        near: Mapping[float, NDArray[np.float64]] | None = None,
    ) -> dict[float, NDArray[np.float64]]:
        """Penalty → weights (C, M + 1), the bias last; each fit starts from the last one, or from `near`.

        base: the weights of the logarithmic pool with its sharpness. Classes without any image seen keep
        them and count for nothing.
        """
        seen, classes = self.seen(balance_n)
        base_P = np.append(base_M, 0.0)
        whole = np.repeat(base_P[None], self.num_classes, axis=0)
        found = {}
        start = whole[classes]
        for penalty in penalties:
            start = start if near is None else near[penalty][classes]
            start = minimum(Loss(seen, base_P, penalty), start)
            found[penalty] = whole.copy()
            found[penalty][classes] = start
        return found


def fit(seen: Seen) -> dict[float, NDArray[np.float64]]:
    """Penalty → weights and biases (C, M + 1), for the images seen."""
    sample = seen.sample
    few = sample.few(sampled(sample.logs_MKn.shape[1], len(sample.logs_MKn)))
    logs_MKn, below_Mn = (picked(one, few) for one in (sample.logs_MKn, sample.normalisers_Mn))
    fits = Stacker(logs_MKn - below_Mn[:, None], sample.labels_n[few])
    # the strongest penalty first: among equals it is taken, and fits start from it
    penalties = tuple(sorted(set(seen.settings.penalties), reverse=True))
    balance_n = sample.balanced(seen.seen_n & few)[few]
    return fits.path(balance_n, seen.of("log_pool"), penalties, seen.near)


def fusions(seen: Seen, found: Mapping[float, NDArray[np.float64]]) -> list[Fusion]:
    """A fusion a penalty; no result has more than its bound in any class."""
    return [_fusion(weights_CP, penalty, seen.settings.bound) for penalty, weights_CP in found.items()]


def _fusion(weights_CP: NDArray[np.float64], penalty: float, bound: float | None) -> Fusion:
    weights_CM, biases_C = weights_CP[:, :-1], weights_CP[:, -1]
    cap = min(1.0, (bound or np.inf) / weights_CM.shape[1])
    some = weights_CM.sum(axis=1, keepdims=True)
    if cap < 1:
        weights_CM = some * capped(np.where(some > 0, weights_CM, 1.0), cap)
    mean_M = weights_CM.mean(axis=0) if some.any() else equal(weights_CM.shape[1])
    single_CM, single_C = weights_CM.astype(np.float32), biases_C.astype(np.float32)
    return Fusion(
        "stacking", "log_probability", tuple(map(float, normalised(mean_M))),
        class_weights=tuple(map(tuple, single_CM.T.tolist())), biases=tuple(single_C.tolist()),
        penalty=penalty,
    )  # fmt: skip


METHOD = Method("log_probability", fit, fusions=fusions, every_score=True, too_large=too_large)
