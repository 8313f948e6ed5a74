"""Logistic regression that is finite for few and for separable observations (Firth 1993), many fits at once.

Maximum likelihood runs off to infinity where a line parts the wrong from the right, which small samples with
few wrong ones often allow, and is too steep on average before that. Firth's likelihood is that of maximum
likelihood times the root of the information's determinant (Jeffreys' prior): it takes the first-order bias
away, always has a finite maximum (Heinze and Schemper 2002), and has nothing to be tuned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ITERATIONS = 60
STEP = 3.0  # no coefficient moves further at once
HALVINGS = 12
CLOSE = 1e-9  # a move that is the end of it
FLOOR = 1e-9  # of the information's diagonal: where two columns are the same


def sigmoid(x: ArrayLike) -> Floats:
    """1/(1 + e^−x), without overflow."""
    values = np.asarray(x, np.float64)
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1, small) / (1 + small))


def fit(inputs_nP: ArrayLike, outcomes_n: ArrayLike, times_Bn: ArrayLike | None = None) -> Floats:
    """Coefficients (B, P + 1) of B fits, the constant first: log-odds of an outcome are a + inputs · b.

    inputs_nP: (n, P), best of mean 0 and deviation 1. outcomes_n: (n,), 0 or 1. times_Bn: how often each fit
    counts each observation, (B, n); one fit that counts all once unless given. ValueError for other shapes.
    """
    inputs, outcomes = np.asarray(inputs_nP, np.float64), np.asarray(outcomes_n, np.float64)
    times = np.ones((1, len(outcomes))) if times_Bn is None else np.asarray(times_Bn, np.float64)
    if inputs.ndim != 2 or outcomes.shape != inputs.shape[:1] or times.shape[1:] != outcomes.shape:
        raise ValueError(
            f"inputs {inputs.shape}, outcomes {outcomes.shape}, times {times.shape}: not (n, P), (n,), (B, n)"
        )
    design = np.column_stack([np.ones(len(inputs)), inputs])
    yes = times @ outcomes
    beta = np.zeros((len(times), design.shape[1]))
    beta[:, 0] = np.log((yes + 0.5) / (times.sum(axis=1) - yes + 0.5))
    going = np.arange(len(times))
    value = penalised(design, outcomes, times, beta)
    for _ in range(ITERATIONS):
        moved, better = _improved(design, outcomes, times[going], beta[going], value[going])
        step = np.abs(moved - beta[going]).max(axis=1)
        beta[going], value[going] = moved, better
        going = going[step > CLOSE]
        if not len(going):
            break
    return beta


def penalised(design_nP: Floats, outcomes_n: Floats, times_Bn: Floats, beta_BP: Floats) -> Floats:
    """Firth's log-likelihood of each fit, (B,); `design_nP` has the column of ones."""
    x_Bn = beta_BP @ design_nP.T
    likelihood = (times_Bn * (outcomes_n * x_Bn - np.logaddexp(0, x_Bn))).sum(axis=1)
    p_Bn = sigmoid(x_Bn)
    return np.asarray(
        likelihood + 0.5 * np.linalg.slogdet(_information(design_nP, times_Bn * p_Bn * (1 - p_Bn)))[1]
    )


def _information(design_nP: Floats, weights_Bn: Floats) -> Any:
    """Fisher's information of each fit, (B, P, P)."""
    width = design_nP.shape[1]
    products = (design_nP[:, :, None] * design_nP[:, None, :]).reshape(len(design_nP), -1)
    return (weights_Bn @ products).reshape(-1, width, width) + FLOOR * np.eye(width)


def _improved(
    design: Floats, outcomes: Floats, times: Floats, beta: Floats, value: Floats
) -> tuple[Floats, Floats]:
    """Coefficients after one step of Fisher's scoring, halved until it is uphill, and their likelihood."""
    p_Bn = sigmoid(beta @ design.T)
    spread_Bn = p_Bn * (1 - p_Bn)
    inverse = np.linalg.pinv(_information(design, times * spread_Bn), hermitian=True)
    hat_Bn = spread_Bn * np.einsum("np,bpq,nq->bn", design, inverse, design, optimize=True)
    score = (times * (outcomes - p_Bn + hat_Bn * (0.5 - p_Bn))) @ design
    step = np.einsum("bpq,bq->bp", inverse, score)
    step /= np.maximum(np.abs(step).max(axis=1, keepdims=True) / STEP, 1)
    found, best = beta.copy(), value.copy()
    waiting = np.arange(len(beta))
    for _ in range(HALVINGS):
        tried = beta[waiting] + step[waiting]
        reached = penalised(design, outcomes, times[waiting], tried)
        good = reached > value[waiting]
        found[waiting[good]], best[waiting[good]] = tried[good], reached[good]
        waiting = waiting[~good]
        if not len(waiting):
            break
        step[waiting] /= 2
    return found, best
