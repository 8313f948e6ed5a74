"""Verdicts on a sample of rows: how many labels are wrong, which, and what a cut is expected to do."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression

from smelt.mining import calibration as module
from smelt.mining.calibration import MEAN, WEIGHED, calibrate
from smelt.mining.cuts import Expected
from smelt.mining.firth import fit, sigmoid
from smelt.mining.quantiles import inverse_normal, normal_quantiles
from smelt.mining.rates import FEWEST, difference_share, sampled_share


def made(
    rows: int, rate: float, apart: float, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Scores, of which wrong labels have lower ones, what is wrong, and a random order of the rows."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(rows) < rate
    return rng.normal(size=rows) - apart * wrong, wrong, rng.permutation(rows)


# Quantiles


@given(st.floats(1e-300, 1 - 1e-16))
def test_the_inverse_is_that_of_the_standard_library(share: float) -> None:
    assert inverse_normal(share) == pytest.approx(NormalDist().inv_cdf(share), rel=1e-12, abs=1e-15)


def test_the_inverse_at_its_ends() -> None:
    found = inverse_normal([0.0, 1.0, np.nan, -0.1, 1.1])
    assert found[0] == -np.inf and found[1] == np.inf and np.isnan(found[2:]).all()


@given(st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(float("nan"))), max_size=30))
def test_quantiles_are_those_of_shared_ranks(scores: list[float]) -> None:
    known = [value for value in scores if value == value]
    for value, found in zip(scores, normal_quantiles(scores)):
        if value != value:
            assert np.isnan(found)
            continue
        below, equal = sum(other < value for other in known), sum(other == value for other in known)
        assert found == pytest.approx(NormalDist().inv_cdf((below + equal / 2) / len(known)), abs=1e-12)


# Firth's regression


def naive_firth(inputs: NDArray[np.float64], outcomes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Firth (1993): the likelihood and half the logarithm of the information's determinant, by a simplex."""
    design = np.column_stack([np.ones(len(inputs)), inputs])

    def loss(beta: NDArray[np.float64]) -> float:
        p = 1 / (1 + np.exp(-design @ beta))
        information = sum(q * (1 - q) * np.outer(x, x) for q, x in zip(p, design))
        likelihood = np.log(np.where(outcomes > 0, p, 1 - p)).sum()
        return -float(likelihood + 0.5 * np.log(np.linalg.det(information)))

    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20000, "maxfev": 20000}
    return np.asarray(minimize(loss, np.zeros(design.shape[1]), method="Nelder-Mead", options=options).x)


@pytest.mark.parametrize("columns", [1, 2])
def test_a_fit_is_the_maximum_of_firths_likelihood(columns: int) -> None:
    rng = np.random.default_rng(columns)
    inputs = rng.normal(size=(40, columns))
    outcomes = (rng.random(40) < sigmoid(-1 - inputs[:, 0])).astype(float)
    assert fit(inputs, outcomes)[0] == pytest.approx(naive_firth(inputs, outcomes), abs=1e-5)


def test_separable_outcomes_have_a_finite_fit() -> None:
    inputs = np.linspace(-2, 2, 30)[:, None]
    outcomes = (inputs[:, 0] < -1.5).astype(float)
    assert fit(inputs, outcomes)[0] == pytest.approx(naive_firth(inputs, outcomes), abs=1e-4)
    assert np.isfinite(fit(inputs, np.zeros(30))).all()


def test_many_observations_give_the_fit_without_any_penalty() -> None:
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(20000, 2))
    outcomes = (rng.random(20000) < sigmoid(-1 - 2 * inputs[:, 0] + inputs[:, 1])).astype(float)
    plain = LogisticRegression(C=np.inf, tol=1e-10).fit(inputs, outcomes)
    assert fit(inputs, outcomes)[0] == pytest.approx(np.r_[plain.intercept_, plain.coef_[0]], abs=2e-3)


def test_a_fit_that_counts_rows_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(4)
    inputs, times = rng.normal(size=(30, 1)), rng.integers(0, 4, (5, 30))
    outcomes = (rng.random(30) < 0.4).astype(float)
    together = fit(inputs, outcomes, times)
    for one, count in zip(together, times):
        places = np.repeat(np.arange(30), count)
        assert one == pytest.approx(fit(inputs[places], outcomes[places])[0], abs=1e-7)


def test_two_equal_columns_share_what_one_has() -> None:
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(60, 1))
    outcomes = (rng.random(60) < sigmoid(-inputs[:, 0])).astype(float)
    both = fit(np.repeat(inputs, 2, axis=1), outcomes)[0]
    assert np.isfinite(both).all() and both[1] == pytest.approx(both[2], abs=1e-3)


# Calibration


def test_probabilities_are_those_of_the_truth() -> None:
    score, wrong, order = made(20000, 0.2, 2.5)
    found = calibrate({"aum": score}, order[:2000], wrong[order[:2000]])
    assert found.chosen == "aum" and found.orders
    for part in np.array_split(found.order_N, 10):
        assert found.p_wrong_N[part].mean() == pytest.approx(wrong[part].mean(), abs=0.05)


def test_any_increasing_function_of_a_score_gives_the_same() -> None:
    score, wrong, order = made(500, 0.3, 2)
    one, other = (
        calibrate({"s": values}, order[:100], wrong[order[:100]]) for values in (score, np.exp(score))
    )
    assert np.array_equal(one.p_wrong_N, other.p_wrong_N) and np.array_equal(one.lines_B2, other.lines_B2)


def test_a_score_that_says_nothing_or_the_opposite_orders_nothing() -> None:
    score, wrong, order = made(2000, 0.2, 2.5)
    found = calibrate({"s": -score}, order[:200], wrong[order[:200]])
    assert not found.orders
    rate = (wrong[order[:200]].sum() + 0.5) / 201
    assert found.p_wrong_N == pytest.approx(np.full(2000, rate))
    assert found.sure < 0.05
    assert calibrate({"s": score}, order[:200], wrong[order[:200]]).sure == 1
    noise = np.random.default_rng(7).normal(size=(40, 2000))
    unsure = [calibrate({"s": one}, order[:200], wrong[order[:200]]).sure for one in noise]
    assert sum(share > 0.95 for share in unsure) <= 6  # of 40; two are to be expected


def test_the_score_that_was_asked_for_stays_unless_another_is_surely_better() -> None:
    score, wrong, order = made(4000, 0.3, 3)
    noise = np.random.default_rng(9).normal(size=4000)
    seen = order[:200], wrong[order[:200]]
    assert calibrate({"good": score, "noise": noise}, *seen).chosen == "good"
    assert calibrate({"noise": noise, "good": score}, *seen).chosen in ("good", WEIGHED)
    near = score + 0.1 * noise
    tried = calibrate({"near": near, "good": score}, *seen)
    assert tried.chosen == "near" and set(tried.likelihoods) == {"near", "good", MEAN, WEIGHED}


def test_scores_that_complete_one_another_are_weighed() -> None:
    rng = np.random.default_rng(2)
    wrong = rng.random(6000) < 0.4
    one, other = (rng.normal(size=6000) - 1.6 * wrong for _ in range(2))
    noise = [rng.normal(size=6000) for _ in range(3)]
    order = rng.permutation(6000)[:600]
    scores = {"one": one, **{f"noise {i}": values for i, values in enumerate(noise)}, "other": other}
    assert calibrate(scores, order, wrong[order]).chosen == WEIGHED


def test_rows_without_a_score_share_one_probability_and_come_last() -> None:
    score, wrong, order = made(3000, 0.2, 3)
    score[:600] = np.nan
    found = calibrate({"s": score}, order[:300], wrong[order[:300]])
    blank = order[:300][order[:300] < 600]
    rate = (wrong[order[:300]].sum() + 0.5) / 301
    assert found.p_wrong_N[:600] == pytest.approx((wrong[blank].sum() + rate) / (len(blank) + 1))
    assert set(found.order_N[-600:]) == set(range(600)) and found.scored == 2400


@pytest.mark.parametrize("answer", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 200])
def test_verdicts_of_one_kind_order_nothing(answer: int, count: int) -> None:
    score, _, order = made(1000, 0.2, 3)
    found = calibrate({"s": score}, order[:count], np.full(count, answer))
    assert not found.orders
    assert found.p_wrong_N == pytest.approx(np.full(1000, (answer * count + 0.5) / (count + 1)))
    cut = Expected(found).at(100)
    assert 0 <= cut.precision_interval[0] <= cut.precision_interval[1] <= 1


@pytest.mark.parametrize(
    ("scores", "places", "wrong"),
    [
        ({}, [0], [0]),
        ({"a": [1.0, 2.0], "b": [1.0]}, [0], [0]),
        ({"a": [1.0, 2.0]}, [], []),
        ({"a": [1.0, 2.0]}, [0, 0], [0, 1]),
        ({"a": [1.0, 2.0]}, [2], [0]),
        ({"a": [1.0, 2.0]}, [0], [2]),
        ({"a": [1.0, 2.0]}, [0.5], [1]),
        ({"a": [[1.0, 2.0]]}, [0], [1]),
    ],
)
def test_wrong_arguments_are_refused(scores: dict[str, Any], places: list[Any], wrong: list[Any]) -> None:
    with pytest.raises(ValueError):
        calibrate(scores, np.array(places), np.array(wrong))


# Cuts


@pytest.fixture(scope="module")
def expected() -> Expected:
    score, wrong, order = made(400, 0.25, 2)
    score[::50] = np.nan
    return Expected(calibrate({"s": score}, order[:120], wrong[order[:120]]))


def test_a_cut_is_what_its_probabilities_sum_to(expected: Expected) -> None:
    p, order = expected.calibration.p_wrong_N, expected.calibration.order_N
    for dropped in (1, 17, 150, 395):
        cut = expected.at(dropped)
        first = p[order[:dropped]].sum()
        assert cut.precision == pytest.approx(first / dropped)
        assert cut.recall == pytest.approx(first / p.sum())
        assert cut.left == pytest.approx(p[order[dropped:]].mean())
        for value, (low, high) in (
            (cut.precision, cut.precision_interval),
            (cut.recall, cut.recall_interval),
            (cut.left, cut.left_interval),
        ):
            assert low <= value <= high
    assert expected.at(0).recall == 0 and expected.at(400).recall == pytest.approx(1)
    with pytest.raises(ValueError):
        expected.at(401)


def test_the_chosen_cuts_are_those_of_a_plain_search(expected: Expected) -> None:
    cuts = [expected.at(k) for k in range(401)]
    for beta in (0.5, 1.0, 2.0):
        assert cuts[expected.best(beta)].f(beta) == pytest.approx(max(cut.f(beta) for cut in cuts[1:]))
    enough = [cut.dropped for cut in cuts[1:] if cut.precision >= 0.7]
    assert expected.with_precision(0.7) == max(enough) > 0
    assert expected.with_precision(1.0) == 0
    assert expected.with_recall(0.8) == min(cut.dropped for cut in cuts if cut.recall >= 0.8)
    ordered = expected.calibration.p_wrong_N[expected.calibration.order_N]
    assert expected.with_costs(1, 3) == (ordered > 0.25).sum()
    mask = np.arange(400) % 3 == 0
    some, p = expected.of_rows(mask), expected.calibration.p_wrong_N
    assert some.precision == pytest.approx(p[mask].mean()) and some.recall == pytest.approx(
        p[mask].sum() / p.sum()
    )
    assert some.precision_interval[0] < some.precision < some.precision_interval[1]
    first = np.zeros(400, bool)
    first[expected.calibration.order_N[:100]] = True
    assert expected.of_rows(first).precision_interval == pytest.approx(expected.at(100).precision_interval)


def test_intervals_of_cuts_hold_what_is_true() -> None:
    held = [0, 0]
    for seed in range(60):
        score, wrong, order = made(3000, 0.25, 2.2, seed)
        found = Expected(calibrate({"s": score}, order[:200], wrong[order[:200]]))
        cut = found.at(found.best())
        first = wrong[found.calibration.order_N[: cut.dropped]].sum()
        for i, (true, ends) in enumerate(
            ((first / cut.dropped, cut.precision_interval), (first / wrong.sum(), cut.recall_interval))
        ):
            held[i] += ends[0] <= true <= ends[1]
    assert min(held) >= 51  # of 60; nine in ten and more


# How many are wrong


def test_the_difference_estimator_is_its_formula() -> None:
    rng = np.random.default_rng(1)
    out, wrong = rng.random(50) * 0.5, (rng.random(50) < 0.3).astype(float)
    found = difference_share(0.21, out, wrong, 1000)
    assert found is not None
    missed = [w - p for w, p in zip(wrong, out)]
    assert found.share == pytest.approx(0.21 + sum(missed) / 50)
    variance = np.var(missed, ddof=1) / 50 * (1 - 50 / 1000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.1)
    few = np.zeros(50)
    few[: FEWEST - 1] = 1
    assert difference_share(0.1, out, few, 1000) is None and difference_share(0.1, out, 1 - few, 1000) is None


def test_without_a_wrong_one_in_200_at_most_two_in_a_hundred_are_wrong() -> None:
    found = sampled_share(np.zeros(200))
    assert found.share == 0 and found.low == 0 and 0.015 < found.high < 0.02
    assert (sampled_share([]).low, sampled_share([]).high) == (0.0, 1.0)


@pytest.mark.parametrize(("rate", "apart"), [(0.1, 2.0), (0.4, 3.0), (0.3, 0.0)])
def test_intervals_hold_the_rate_and_scores_narrow_them(
    rate: float, apart: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESAMPLED", 2)  # of no concern here
    held, plain, width, error = 0, 0, [], []
    for seed in range(80):
        score, wrong, order = made(2000, rate, apart, seed)
        seen = wrong[order[:200]]
        found = calibrate({"s": score}, order[:200], seen)
        sharp, own = difference_share(found.mean_out, found.out_n, seen, 2000), sampled_share(seen)
        assert sharp is not None
        held += sharp.low <= wrong.mean() <= sharp.high
        plain += own.low <= wrong.mean() <= own.high
        width.append((sharp.high - sharp.low) / (own.high - own.low))
        error.append(sharp.share - wrong.mean())
    assert held >= 70 and plain >= 70  # of 80; 76 are to be expected
    assert np.mean(width) < (0.85 if apart else 1.05)
    assert abs(np.mean(error)) < 3 * np.std(error) / np.sqrt(80) + 1e-9
