"""Convex losses of weights by class, minimised by quasi-Newton steps in the weights that are free, projected.

Bertsekas 1982, Projected Newton methods; the Hessian as L-BFGS knows it (Nocedal & Wright 2006, algorithm
7.4) from its blocks of each class, made anew now and then, and the steps since.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

STEPS = 30
FRESH = 8  # steps after which the Hessian's blocks are made anew
HOLDS = 2  # times that weights are held at 0 in one step
PAIRS = 8  # of steps and changes of the gradient that are remembered
TOLERANCE = 5e-5  # of the projected gradient, in the loss's units
ENOUGH = 3e-6  # a step that gains less is the last one
TRIES = 7  # lengths of a step, each a third of the one before
FEW_TRIES = 2  # of a bold one, where a sure one is at hand
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]  # a step and the change of the gradient, (G, P) each


class Loss(Protocol):
    """A convex loss of weights (G, P) of G classes."""

    @property
    def units_P(self) -> NDArray[np.float64]:
        """What a weight of 1 stands for."""

    @property
    def lowest_P(self) -> NDArray[np.float64]:
        """What no weight may be below."""

    def judged(self, weights_GP: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The loss and its gradient (G, P)."""

    def blocks(self, weights_GP: NDArray[np.float64]) -> NDArray[np.float64]:
        """The Hessian within each class, (G, P, P)."""


def minimum(loss: Loss, start_GP: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights (G, P) of least loss, found from `start_GP` on."""
    weights, memory = start_GP, list[Pair]()
    least, gradient = loss.judged(weights)
    for count in range(STEPS):
        if count % FRESH == 0:
            blocks = loss.blocks(weights)
        free = (weights > loss.lowest_P) | (gradient < 0)
        if np.abs(np.where(free, gradient, 0) / loss.units_P).max() < TOLERANCE:
            break
        bold = _step(loss.lowest_P, weights, gradient, free, blocks, memory)
        found = _along(loss, weights, least, gradient, bold, FEW_TRIES)
        if found is None:  # then what is sure to go down
            sure = -_newton(gradient, free, blocks, [])
            found = _along(loss, weights, least, gradient, sure, TRIES)
        if found is None:
            break
        tried, value, turned = found
        memory = [*memory[1 - PAIRS :], (tried - weights, turned - gradient)]
        gained, weights, least, gradient = least - value, tried, value, turned
        if gained < ENOUGH:
            break
    return weights


def _along(
    loss: Loss,
    weights_GP: NDArray[np.float64],
    least: float,
    gradient_GP: NDArray[np.float64],
    step_GP: NDArray[np.float64],
    tries: int,
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]] | None:
    """The first weights on the way back from the end of a step, cut off at their lowest, that lower the
    loss enough, and what is judged of them; None where there are none."""
    for place in range(tries):
        tried_GP = np.maximum(loss.lowest_P, weights_GP + step_GP / 3**place)
        value, turned_GP = loss.judged(tried_GP)
        slope = float((gradient_GP * (tried_GP - weights_GP)).sum())
        if slope < 0 and value <= least + 1e-4 * slope:
            return tried_GP, value, turned_GP
    return None


def _step(
    lowest_P: NDArray[np.float64],
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
        step_GP = held_GP - _newton(pull_GP, free_GP, blocks_GPP, memory)
        below_GP = free_GP & (weights_GP + step_GP < lowest_P)
        if not below_GP.any():
            break
        held_GP[below_GP] = -weights_GP[below_GP]
        free_GP = free_GP & ~below_GP
    return step_GP


def _newton(
    gradient_GP: NDArray[np.float64],
    free_GP: NDArray[np.bool_],
    blocks_GPP: NDArray[np.float64],
    memory: list[Pair],
) -> NDArray[np.float64]:
    """The gradient over the Hessian, in the free weights only."""
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
