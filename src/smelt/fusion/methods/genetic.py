"""The genetic search: a population of weights, selected by tournament, crossed over and mutated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.config import GeneticSettings
from smelt.fusion.fitting.method import Method, Searching
from smelt.fusion.fitting.searching import Found, Steps, best_of
from smelt.fusion.fitting.vectors import capped, shrunk


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


def steps(searching: Searching) -> Steps:
    """The search from the weights of the likeliest pool, as they are and half shrunk."""
    best = searching.pool_M()
    seeds_SM = np.stack([best, shrunk(best, 0.5)])
    settings = searching.settings
    return genetic_steps(searching.cap, searching.singles_M, settings.genetic, settings.seed, seeds_SM)


METHOD = Method(None, steps=steps)
