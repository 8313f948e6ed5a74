"""Probabilities at each result's temperature, averaged (Guo et al. 2017, §4.2)."""

from __future__ import annotations

from smelt.fusion.apply import Fusion
from smelt.fusion.fitting.method import Method, Seen
from smelt.fusion.scores.reference import equal


def fit(seen: Seen) -> tuple[float, ...]:
    """Temperatures (M,)."""
    return seen.temperatures_M()


def fusions(seen: Seen, temperatures_M: tuple[float, ...]) -> list[Fusion]:
    """Equal weights."""
    weights = tuple(map(float, equal(len(temperatures_M))))
    return [Fusion("tempered_probability", "probability", weights, 0.0, temperatures_M)]


METHOD = Method("probability", fit, fusions=fusions, tuned=False, own_pass=True)
