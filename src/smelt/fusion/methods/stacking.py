"""Stacking per class: the logarithmic pool with weights and a bias of each class.

    q_c ∝ exp(Σ_m w_mc s_mc + b_c),   w ≥ 0            s: log probabilities of result m for class c

Where results were trained on wrong labels they all lean the same way (cats for dogs), which one weight a
result cannot undo. A class's score hangs on what the results say of that class alone, as in StackingC
(Seewald 2002, How to make stacking better and faster while also taking care of an unknown weakness; Ting &
Witten 1999, Issues in stacked generalization, for a model of each class). Minimised is the class-balanced
log loss, and λ/2 of the squared distance from the logarithmic pool, in units of logits: without it so many
weights fit noise. λ is the method's option.

The loss is convex. It is minimised by quasi-Newton steps in the weights that are free, projected (Bertsekas
1982, Projected Newton methods): L-BFGS over the Hessian's blocks of each class, made anew now and then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

CLASSES = 64  # of more there are too few images a class, and a sample holds the likeliest of each image only
IMAGES = 1500  # that it is fitted on, or fewer:
ELEMENTS = 1 << 19  # values that fits look at
FEWEST = 16  # images a class below which such a sample is too small
PASS = 1 << 30  # scores up to which it is tried: no table knows its hits, all are evaluated some seven times
STEPS = 30
FRESH = 8  # steps after which the Hessian's blocks are made anew
HOLDS = 2  # times that weights are held at 0 in one step
PAIRS = 8  # of steps and changes of the gradient that are remembered
TOLERANCE = 5e-5  # of the projected gradient, in units of logits
ENOUGH = 3e-6  # a step that gains less is the last one
TRIES = 7  # lengths of a step, each a third of the one before
FEW_TRIES = 2  # of a bold one, where a sure one is at hand
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]  # a step and the change of the gradient, (G, P) each


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
class Seen:
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

    def seen(self, balance_n: NDArray[np.float64]) -> tuple[Seen, NDArray[np.int64]]:
        """What has a weight in `balance_n`, and the classes (G,) that have images there."""
        mine = np.flatnonzero(balance_n > 0)
        labels = self.labels_n[mine]
        classes = np.flatnonzero(np.bincount(labels, minlength=self.num_classes))
        values = self.values_CPn if len(classes) == self.num_classes else self.values_CPn[classes]
        values = np.take(values, mine, axis=2)
        found = Seen(values, np.searchsorted(classes, labels), balance_n[mine], self.units_P)
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
            start = Fit(seen, base_P, penalty, start).minimum()
            found[penalty] = whole.copy()
            found[penalty][classes] = start
        return found


@dataclass(frozen=True)
class Fit:
    """The search for the weights (G, P) of least penalised loss, those of results not below 0.

    base_P: what the penalty draws them to. start_GP: where it begins.
    """

    seen: Seen
    base_P: NDArray[np.float64]
    penalty: float
    start_GP: NDArray[np.float64]

    def minimum(self) -> NDArray[np.float64]:
        """The weights (G, P)."""
        weights, memory = self.start_GP, list[Pair]()
        loss, gradient = self.judged(weights)
        for count in range(STEPS):
            if count % FRESH == 0:
                blocks = self.blocks(weights)
            free = (weights > self.lowest_P) | (gradient < 0)
            if np.abs(np.where(free, gradient, 0) / self.seen.units_P).max() < TOLERANCE:
                break
            bold = self.step(weights, gradient, free, blocks, memory)
            found = self.along(weights, loss, gradient, bold, FEW_TRIES)
            if found is None:  # then what is sure to go down
                sure = -self.newton(gradient, free, blocks, [])
                found = self.along(weights, loss, gradient, sure, TRIES)
            if found is None:
                break
            tried, value, turned = found
            memory = [*memory[1 - PAIRS :], (tried - weights, turned - gradient)]
            gained, weights, loss, gradient = loss - value, tried, value, turned
            if gained < ENOUGH:
                break
        return weights

    @cached_property
    def lowest_P(self) -> NDArray[np.float64]:
        """0 for the weights of results, nothing for the bias."""
        return np.append(np.zeros(len(self.base_P) - 1), -np.inf)

    def blocks(self, weights_GP: NDArray[np.float64]) -> NDArray[np.float64]:
        """The Hessian within each class, (G, P, P)."""
        return self.seen.bends(weights_GP) + np.diag(self.penalty * self.seen.units_P**2)

    def judged(self, weights_GP: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The penalised loss and its gradient (G, P)."""
        loss, gradient_GP = self.seen.judged(weights_GP)
        away_GP = (weights_GP - self.base_P) * self.seen.units_P
        penalty = self.penalty / 2 * float((away_GP**2).sum())
        return loss + penalty, gradient_GP + self.penalty * away_GP * self.seen.units_P

    def along(
        self,
        weights_GP: NDArray[np.float64],
        loss: float,
        gradient_GP: NDArray[np.float64],
        step_GP: NDArray[np.float64],
        tries: int,
    ) -> tuple[NDArray[np.float64], float, NDArray[np.float64]] | None:
        """The first weights on the way back from the end of a step, cut off at their lowest, that lower the
        loss enough, and what is judged of them; None where there are none."""
        for place in range(tries):
            tried_GP = np.maximum(self.lowest_P, weights_GP + step_GP / 3**place)
            value, turned_GP = self.judged(tried_GP)
            slope = float((gradient_GP * (tried_GP - weights_GP)).sum())
            if slope < 0 and value <= loss + 1e-4 * slope:
                return tried_GP, value, turned_GP
        return None

    def step(
        self,
        weights_GP: NDArray[np.float64],
        gradient_GP: NDArray[np.float64],
        free_GP: NDArray[np.bool_],
        blocks_GPP: NDArray[np.float64],
        memory: list[Pair],
    ) -> NDArray[np.float64]:
        """Where to go, (G, P): weights that would fall below 0 go there, and the others to what is best for
        them then. Cut off instead, such steps often lower nothing."""
        held_GP = np.zeros_like(weights_GP)
        for _ in range(HOLDS):
            pull_GP = gradient_GP + np.matmul(blocks_GPP, held_GP[:, :, None])[:, :, 0]
            step_GP = held_GP - self.newton(pull_GP, free_GP, blocks_GPP, memory)
            below_GP = free_GP & (weights_GP + step_GP < self.lowest_P)
            if not below_GP.any():
                break
            held_GP[below_GP] = -weights_GP[below_GP]
            free_GP = free_GP & ~below_GP
        return step_GP

    def newton(
        self,
        gradient_GP: NDArray[np.float64],
        free_GP: NDArray[np.bool_],
        blocks_GPP: NDArray[np.float64],
        memory: list[Pair],
    ) -> NDArray[np.float64]:
        """The gradient over the Hessian, in the free weights only: as L-BFGS knows it (Nocedal & Wright 2006,
        algorithm 7.4) from the blocks of each class and the steps since."""
        pairs = [(np.where(free_GP, moved, 0), np.where(free_GP, turned, 0)) for moved, turned in memory]
        bent = [float(np.vdot(moved, turned)) for moved, turned in pairs]
        known = [(*pair, bend) for pair, bend in zip(pairs, bent) if bend > 1e-12]
        found, shares = np.where(free_GP, gradient_GP, 0), list[float]()
        for moved, turned, bend in reversed(known):
            shares.append(float(np.vdot(moved, found)) / bend)
            found -= shares[-1] * turned
        blocks = np.where(free_GP[:, :, None] & free_GP[:, None, :], blocks_GPP, 0)
        diagonal = blocks.reshape(len(blocks), -1)[:, :: blocks.shape[1] + 1]  # a view
        diagonal *= 1 + 1e-9
        diagonal[~free_GP] = 1.0
        found = np.asarray(np.linalg.solve(blocks, found[:, :, None])[:, :, 0], np.float64)
        for (moved, turned, bend), share in zip(known, reversed(shares)):
            found += (share - float(np.vdot(turned, found)) / bend) * moved
        return np.asarray(np.where(free_GP, found, 0))
