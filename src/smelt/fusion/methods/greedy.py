"""Greedy selection with replacement: the result that helps most is added to the bag, again and again.

Caruana et al. 2004, Ensemble selection from libraries of models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.fitting.method import Method, Searching
from smelt.fusion.fitting.searching import PROMISING, Found, Steps, best_of

MOST_BAGS = 16  # results that are added at most
PATIENCE = 4  # and how many without gain


def greedy_steps(cap: float, singles_M: NDArray[np.float64], patience: int = PATIENCE) -> Steps:
    """Starts from the best results, as few as the cap on weights allows; the best bag on the way is returned.
    Of many results only those that helped most are tried a second time.
    """
    num_results = len(singles_M)
    first = np.argsort(-singles_M, kind="stable")[: int(np.ceil(1 / cap - 1e-9))]
    bag = np.bincount(first, minlength=num_results).astype(np.float64)
    found = Found(bag / bag.sum(), float((yield bag[None] / bag.sum())[0]), ())
    history = [found.accuracy]
    stale = 0
    tried = np.arange(num_results)
    for _ in range(MOST_BAGS):
        bags = bag + np.eye(num_results)
        weights = bags / bags.sum(axis=1, keepdims=True)
        allowed = tried[(weights[tried] <= cap * (1 + 1e-9)).all(axis=1)]
        if not len(allowed):
            break
        accuracy = yield weights[allowed]
        order = best_of(accuracy, weights[allowed])
        best = order[0]
        bag = bags[allowed[best]]
        tried = np.setdiff1d(tried, allowed[order[PROMISING:]])
        if accuracy[best] > found.accuracy:
            found, stale = Found(weights[allowed[best]], float(accuracy[best]), ()), 0
        else:
            stale += 1
        history.append(found.accuracy)
        if stale >= patience:
            break
    return Found(found.weights_M, found.accuracy, tuple(history))


def steps(searching: Searching) -> Steps:
    """The search from the best results."""
    return greedy_steps(searching.cap, searching.singles_M)


METHOD = Method(None, steps=steps)
