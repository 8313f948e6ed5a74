"""Convex functions of weights that may not be negative, minimised by projected Newton steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

HOLDS = 3  # times that a step is worked out, each with more weights held at 0
STEPS = 30
TOLERANCE = 1e-5  # of the projected gradient
Judged = tuple[float, NDArray[np.float64], NDArray[np.float64]]  # loss, gradient (M,), Hessian (M, M)


def minimised(
    value: Callable[[NDArray[np.float64]], float],
    judged: Callable[[NDArray[np.float64]], Judged],
    start_M: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The minimum (M,) over w ≥ 0 of a convex function: Newton steps in the weights that are free, projected.

    A weight at 0 whose gradient would push it below is held there (Bertsekas 1982, Projected Newton methods).
    Tried first is the step for which those that it would push below go to 0 and the others to what is best
    for them then: cut off instead, a step often lowers nothing, and is shortened again and again.
    """
    weights = start_M
    for _ in range(STEPS):
        loss, gradient, hessian = judged(weights)
        if np.abs(np.where(weights > 0, gradient, np.minimum(gradient, 0))).max() < TOLERANCE:
            break
        free = (weights > 1e-6) | (gradient < 0)
        for holds, shortest in ((HOLDS, 0.2), (1, 1e-6)):
            step, length = _newton(weights, gradient, hessian, free, holds), 1.0
            found = None
            while found is None and length > shortest:
                tried = np.maximum(0.0, weights + length * step)
                aim = loss + 1e-4 * min(0.0, float(gradient @ (tried - weights)))
                if tried.sum() > 0 and value(tried) <= aim:
                    found = tried
                length /= 2
            if found is not None:
                break
        if found is None:
            break
        weights = found
    return weights


def _newton(
    weights_M: NDArray[np.float64],
    gradient_M: NDArray[np.float64],
    hessian_MM: NDArray[np.float64],
    free_M: NDArray[np.bool_],
    holds: int,
) -> NDArray[np.float64]:
    """The step (M,) of the free weights, all others going to 0; `holds` − 1 times those that it would push
    below are no longer free."""
    step = np.where(free_M, 0.0, -weights_M)
    for _ in range(holds):
        inner = hessian_MM[np.ix_(free_M, free_M)]
        pull = gradient_M + hessian_MM @ np.where(free_M, 0.0, step) if holds > 1 else gradient_M
        inner.flat[:: len(inner) + 1] += 1e-9 * max(float(np.trace(inner)), 1e-12)
        step[free_M] = -np.linalg.solve(inner, pull[free_M])
        below = free_M & (weights_M + step < 0)
        if not below.any():
            break
        free_M = free_M & ~below
        step = np.where(below, -weights_M, step) if holds > 1 else step
    return step
