"""The coordinate search: of all changes of one weight the best is made, until none helps by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.fitting.method import Method, Searching
from smelt.fusion.fitting.searching import PROMISING, Found, Steps, best_of
from smelt.fusion.fitting.vectors import capped
from smelt.fusion.scores.reference import equal

FACTORS = (0.0, 2.0)  # what a weight is multiplied by
SWEEPS = 6  # at most


def coordinate_steps(cap: float, start_M: NDArray[np.float64], sweeps: int = SWEEPS) -> Steps:
    """Climb from `start_M`: of all changes of one weight take the best, until none helps by itself.

    Where no single change helps, the steps are halved, three times. Of many changes only those that helped
    most are tried again.
    """
    num_results = len(start_M)
    weights = capped(start_M, cap)[0]
    accuracy = float((yield weights[None])[0])
    history = [accuracy]
    fineness = 1.0
    tried = np.arange(num_results * (len(FACTORS) + 1))
    for _ in range(sweeps):
        factors = 1 + (np.array(FACTORS) - 1) * fineness
        moves = np.repeat(weights[None], num_results * len(factors) + num_results, axis=0)
        for place, factor in enumerate(factors):
            rows = place * num_results + np.arange(num_results)
            moves[rows, np.arange(num_results)] *= factor
        moves[-num_results:] += np.eye(num_results) * fineness / num_results
        some = tried[moves[tried].sum(axis=1) > 0]
        moves = capped(moves[some], cap)
        values = yield moves
        order = best_of(values, moves)
        best = order[0]
        tried = np.setdiff1d(tried, some[order[PROMISING:]])
        if values[best] > accuracy:
            weights, accuracy = moves[best], float(values[best])
        elif fineness > 0.2:
            fineness /= 2
        else:
            break
        history.append(accuracy)
    return Found(weights, accuracy, tuple(history))


def steps(searching: Searching) -> Steps:
    """The search from equal weights."""
    return coordinate_steps(searching.cap, equal(len(searching.singles_M)).astype(np.float64))


METHOD = Method(None, steps=steps)
