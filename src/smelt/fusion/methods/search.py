"""Searches over the weights of results: genetic, greedy with replacement, coordinate by coordinate.

All see nothing but class-averaged accuracy, which is a step function: among equals the vector that is
nearest to equal weights wins. All are deterministic by their seed. Each is written as steps: a generator
that yields a batch of weights (P, M) and is sent their accuracies (P,), so that many searches can share one
evaluation.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.config import GeneticSettings
from smelt.fusion.methods.vectors import capped

STEPS = (0.0, 2.0)  # what the coordinate search multiplies a weight by
SWEEPS = 6  # of the coordinate search at most
MOST_BAGS = 16  # results that the greedy search adds at most
PATIENCE = 4  # and how many without gain
PROMISING = 64  # moves that the greedy and the coordinate search look at again once all were looked at


@dataclass(frozen=True)
class Found:
    """The best weights (M,) of a search, their accuracy, and the best accuracy after each step."""

    weights_M: NDArray[np.float64]
    accuracy: float
    history: tuple[float, ...]


Steps = Generator[NDArray[np.float64], NDArray[np.float64], Found]


def best_of(accuracy_P: NDArray[np.float64], weights_PM: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order from best to worst: higher accuracy, then nearer to equal weights, then the earlier."""
    length = np.einsum("pm,pm->p", weights_PM, weights_PM).round(12)
    order: NDArray[np.int64] = np.lexsort((np.arange(len(accuracy_P)), length, -accuracy_P))
    return order


def genetic_steps(
    cap: float,
    singles_M: NDArray[np.float64],
    settings: GeneticSettings,
    seed: int,
    seeds_SM: NDArray[np.float64] | None = None,
) -> Steps:
    """Tournament selection, uniform or blended crossover, log-normal mutation, elitism, patience.

    singles_M: accuracy of each result alone, which part of the first population leans on. seeds_SM: weights
    that are thought good, of which the first population has some as they are and some varied.
    """
    random = np.random.default_rng(seed)
    population = _first(cap, singles_M, settings.population, random, seeds_SM)
    fitness = yield population
    history: list[float] = []
    stale = 0
    for generation in range(settings.generations):
        order = best_of(fitness, population)
        population, fitness = population[order], fitness[order]
        stale = 0 if not history or fitness[0] > history[-1] else stale + 1
        history.append(float(fitness[0]))
        if stale >= settings.patience:
            break
        # smaller steps as the run goes on: first where, then how exactly
        scale = settings.mutation_scale * 0.5 ** (generation / settings.generations)
        children = capped(_children(population, settings, scale, random), cap)
        population = np.concatenate([population[: settings.elite], children])
        fitness = np.concatenate([fitness[: settings.elite], (yield children)])
    best = best_of(fitness, population)[0]
    return Found(population[best], float(fitness[best]), tuple(history))


def _first(
    cap: float,
    singles_M: NDArray[np.float64],
    size: int,
    random: np.random.Generator,
    seeds_SM: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Equal weights, weights by accuracy, seeds, and random ones around all, some with results left out."""
    num_results = len(singles_M)
    spread = max(float(np.std(singles_M)), 1e-6)
    lean = np.exp((singles_M - singles_M.max()) / spread)
    kinds = np.stack(
        [np.ones(num_results), lean, *(np.empty((0, num_results)) if seeds_SM is None else seeds_SM)]
    )
    kinds = kinds[:size]
    base = kinds[np.arange(size) % len(kinds)]
    noise = np.exp(random.normal(size=(size, num_results)) * random.uniform(0.1, 1.0, (size, 1)))
    there = random.random((size, num_results)) >= random.choice([0.0, 0.0, 0.3, 0.6], (size, 1))
    there[~there.any(axis=1)] = True
    population = base * noise * there
    population[: len(kinds)] = kinds
    population[population.sum(axis=1) <= 0] = 1.0  # a seed without all of its results
    return capped(population, cap)


def _children(
    population: NDArray[np.float64], settings: GeneticSettings, scale: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """The next generation but for its elite; `population` comes from best to worst."""
    size, num_results = population.shape
    count = size - settings.elite
    # sorted by fitness: the winner of a tournament is the one drawn with the smallest place
    mothers = population[random.integers(size, size=(count, settings.tournament)).min(axis=1)]
    fathers = population[random.integers(size, size=(count, settings.tournament)).min(axis=1)]
    mixed = np.where(random.random((count, num_results)) < 0.5, mothers, fathers)
    share = random.random((count, 1))
    blended = share * mothers + (1 - share) * fathers
    both = np.where(random.random((count, 1)) < 0.5, mixed, blended)
    children = np.where(random.random((count, 1)) < settings.crossover, both, mothers)
    change = random.random((count, num_results)) < settings.mutation
    factor = np.exp(random.normal(size=(count, num_results)) * scale)
    toggle = random.random((count, num_results)) < settings.drop
    back = random.random((count, num_results)) * 2 / num_results
    mutated = np.where(toggle, np.where(children > 0, 0.0, back), children * factor)
    children = np.where(change, mutated, children)
    children[children.sum(axis=1) <= 0] = 1.0
    return children


def greedy_steps(cap: float, singles_M: NDArray[np.float64], patience: int = PATIENCE) -> Steps:
    """Ensemble selection with replacement (Caruana et al. 2004): add the result that helps most, again.

    Starts from the best results, as few as the cap on weights allows; the best bag on the way is returned.
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
    tried = np.arange(num_results * (len(STEPS) + 1))
    for _ in range(sweeps):
        factors = 1 + (np.array(STEPS) - 1) * fineness
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
