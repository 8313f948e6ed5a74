"""Intervals against their definitions: the score equation by bisection, DeLong's variance by loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.mining.intervals import Z, auroc_interval, wilson, z_of_many


def ends_by_bisection(share: float, images: int, z: float) -> list[float]:
    """The two p for which |share − p| = z · sqrt(p (1 − p)/n)."""
    found = []
    for inside, outside in ((share, 0.0), (share, 1.0)):
        for _ in range(200):
            middle = (inside + outside) / 2
            far = abs(share - middle) > z * math.sqrt(middle * (1 - middle) / images)
            inside, outside = (inside, middle) if far else (middle, outside)
        found.append(inside)
    return found


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 4))
@settings(max_examples=100, deadline=None)
def test_wilsons_interval_solves_the_score_equation(case: tuple[int, int], z: float) -> None:
    right, images = case
    low, high = wilson(right / images, images, z)
    assert [low, high] == pytest.approx(ends_by_bisection(right / images, images, z), abs=1e-9)


def test_wilsons_interval_of_arrays_and_of_nothing() -> None:
    low, high = wilson(np.array([0.5, 0.5, np.nan]), np.array([10, 0, 5]))
    assert (low[1], high[1]) == pytest.approx((0, 1), abs=1e-6) and np.isnan(low[2]) and np.isnan(high[2])
    assert (low[0], high[0]) == pytest.approx(wilson(0.5, 10))
    assert pytest.approx(1.959964, abs=1e-6) == Z == z_of_many(1)
    assert z_of_many(1000) == pytest.approx(4.0556, abs=1e-3)  # of 0.05/1000 on both sides


def naive_interval(scores: list[float], wrong: list[bool]) -> tuple[float, float]:
    """DeLong et al. 1988, equations 3 and 4, as they stand; then as many images as have that variance."""
    right = [s for s, w in zip(scores, wrong) if not w]
    bad = [s for s, w in zip(scores, wrong) if w]

    def above(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    v10 = [sum(above(x, y) for y in bad) / len(bad) for x in right]
    v01 = [sum(above(x, y) for x in right) / len(right) for y in bad]
    area = sum(v10) / len(v10)
    variance = sum(
        sum((v - area) ** 2 for v in values) / (len(values) - 1) / len(values)
        for values in (v10, v01)
        if len(values) > 1
    )
    images = area * (1 - area) / variance if variance > 1e-15 else min(len(right), len(bad))
    low, high = wilson(area, max(images, 1))
    return float(low), float(high)


scored = st.integers(2, 25).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0]), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda wrong: 0 < sum(wrong) < len(wrong)),
    )
)


@given(scored)
@settings(max_examples=100, deadline=None)
def test_the_interval_of_the_area_equals_a_loop_over_pairs(case: tuple[list[float], list[bool]]) -> None:
    scores, wrong = np.array(case[0]), np.array(case[1])
    assert auroc_interval(scores, wrong) == pytest.approx(naive_interval(*case), abs=1e-7)
    padded = auroc_interval(np.r_[scores, np.nan], np.r_[wrong, True])
    assert padded == pytest.approx(auroc_interval(scores, wrong), abs=1e-12)


def test_the_interval_of_the_area_holds_the_truth() -> None:
    generator = np.random.default_rng(0)
    truth = 0.5 * (1 + math.erf(1.0 / 2))  # of N(1, 1) above N(0, 1): Φ(1/√2)
    held = 0
    for _ in range(300):
        wrong = np.arange(80) < 20
        low, high = auroc_interval(generator.normal(size=80) + ~wrong, wrong)
        held += low <= truth <= high
    assert 0.91 <= held / 300 <= 0.99


def test_a_perfect_order_of_few_rows_is_not_certain() -> None:
    low, high = auroc_interval(np.array([1.0, 2, 3, 4, 5, 6]), np.array([True] * 3 + [False] * 3))
    assert low < 0.6 and high == 1.0
    assert np.isnan(auroc_interval(np.array([1.0, 2.0]), np.zeros(2, bool))).all()
