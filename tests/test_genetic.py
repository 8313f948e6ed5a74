"""The searches: deterministic, within their bounds, better than where they began, exact where cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_toy import build, table_of
from smelt.fusion.config import GeneticSettings
from smelt.fusion.exact.hits import Table, tables_of
from smelt.fusion.fitting import searching
from smelt.fusion.fitting.folded import Counts, Left, dealt, lefts
from smelt.fusion.fitting.searching import Found, Steps, best_of, searched, together
from smelt.fusion.fitting.vectors import capped, shrunk
from smelt.fusion.methods.coordinate import coordinate_steps
from smelt.fusion.methods.genetic import genetic_steps
from smelt.fusion.methods.greedy import greedy_steps
from smelt.fusion.scores.reference import equal, normalised
from smelt.fusion.scores.sources import Held, Pool
from smelt.fusion.worth import singles
from smelt.metrics import class_averaged, hits_topk

QUICK = GeneticSettings(population=24, generations=30, patience=10)


def planted(
    num_results: int = 10, images: int = 1500, bound: float | None = None
) -> tuple[Table, np.ndarray]:
    """Results of which the first two are good, the others noise that the plain average suffers from."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 12, images)
    truth = 1.5 * np.eye(12)[labels]
    noise = np.array([1.0, 1.0, *([3.0] * (num_results - 2))])[:, None, None]
    scores = (truth + noise * random.normal(size=(num_results, images, 12))).astype(np.float16)
    pool = Pool([Held(str(m), "logits", one) for m, one in enumerate(scores)], "log_probability")
    return table_of(build(pool, labels, 1, bound=bound), labels), scores


def alone(table: Table, steps: Steps) -> Found:
    """One search over one table."""
    return together([table], {("genetic", ()): steps})["genetic", ()]


def genetic(table: Table, settings: GeneticSettings = QUICK, seed: int = 1) -> Found:
    return alone(table, genetic_steps(table.cap, singles(table), settings, seed))


def coordinate(table: Table) -> Found:
    return alone(table, coordinate_steps(table.cap, equal(table.num_results).astype(np.float64)))


@pytest.mark.parametrize("kind", ["genetic", "greedy", "coordinate"])
@pytest.mark.parametrize("bound", [None, 2.0])
def test_finds_the_planted_weights(kind: str, bound: float | None) -> None:
    table, scores = planted(bound=bound)

    def run() -> Found:
        if kind == "genetic":
            return genetic(table, seed=5)
        if kind == "greedy":
            return alone(table, greedy_steps(table.cap, singles(table), 20))
        return coordinate(table)

    found = run()
    plain = table.accuracy(equal(10))[0]
    assert found.accuracy > plain + 0.03
    assert found.weights_M[:2].min() > found.weights_M[2:].max()
    assert found.weights_M.max() <= table.cap * (1 + 1e-9)
    assert found.weights_M.sum() == pytest.approx(1)
    # the accuracy it reports is the real one, of a plain evaluation
    fused = sum(w * s.astype(np.float32) for w, s in zip(normalised(found.weights_M), scores))
    assert found.accuracy == class_averaged(hits_topk(fused, table.labels_N, 1), table.labels_N)
    again = run()
    assert np.array_equal(found.weights_M, again.weights_M) and found.history == again.history
    assert list(found.history) == sorted(found.history)


def test_the_seed_matters_and_patience_ends_it() -> None:
    table, _ = planted(images=400)
    runs = [genetic(table, seed=seed) for seed in (1, 2)]
    assert not np.array_equal(runs[0].weights_M, runs[1].weights_M)
    settings = GeneticSettings(population=8, generations=100, patience=3)
    assert len(genetic(table, settings).history) < 100


def test_greedy_is_caruanas() -> None:
    """Against the procedure written out: add the result whose bag is best, again and again."""
    table, scores = planted(images=300)
    labels = table.labels_N
    accuracies = [class_averaged(hits_topk(one, labels, 1), labels) for one in scores]
    bag, best = [int(np.argmax(accuracies))], (-1.0, [0])
    for _ in range(12):
        tried = []
        for m in range(len(scores)):
            w = normalised(np.bincount([*bag, m], minlength=len(scores)).astype(float))
            fused = np.zeros(scores[0].shape, np.float32)
            for weight, one in zip(w, scores):
                fused += weight * one.astype(np.float32)
            tried.append(
                (class_averaged(hits_topk(fused, labels, 1), labels), -(w.astype(float) ** 2).sum(), -m)
            )
        bag.append(-max(tried)[2])
        best = max(best, (max(tried)[0], list(bag)), key=lambda pair: pair[0])
    found = alone(table, greedy_steps(table.cap, np.array(accuracies), patience=12))
    assert found.accuracy >= best[0] > accuracies[0]
    assert found.history[1:13] == pytest.approx(
        np.maximum.accumulate([found.history[0], *found.history[1:13]])[1:]
    )


def test_of_equally_good_weights_the_nearest_to_equal_ones_win() -> None:
    population = np.array(
        [[0.9, 0.1, 0.0], [0.4, 0.3, 0.3], [0.5, 0.25, 0.25], [0.4, 0.3, 0.3], [0.1, 0.1, 0.8]]
    )
    order = best_of(np.array([0.7, 0.7, 0.7, 0.7, 0.8]), population)
    assert order.tolist() == [4, 1, 3, 2, 0]
    # right whatever the weights: every search ends at the equal ones, or as near as its steps come
    labels = np.arange(60) % 3
    scores = [(5 * np.eye(3)[labels] + 0.1 * m).astype(np.float16) for m in range(4)]
    pool = Pool([Held(str(m), "logits", one) for m, one in enumerate(scores)], "log_probability")
    table = table_of(build(pool, labels, 1), labels)
    for found in (genetic(table), coordinate(table)):
        assert found.accuracy == 1 and found.weights_M == pytest.approx([0.25] * 4)


def test_seeds_are_tried_as_they_are() -> None:
    table, _ = planted(images=300)
    good = np.array([[0.5, 0.5, *([0.0] * 8)], [0.6, 0.4, *([0.0] * 8)]])
    first = next(genetic_steps(1.0, singles(table), QUICK, 0, good))
    for seed in good:
        assert np.isclose(first, seed).all(axis=1).any()
    assert np.isfinite(first).all() and first.sum(axis=1) == pytest.approx(np.ones(len(first)))


def test_searches_together_find_what_each_finds_alone() -> None:
    """All folds but some, step by step beside other searches: against a table of just those images."""
    table, scores = planted(num_results=5, images=400)
    folds = np.random.default_rng(0).integers(0, 3, 400).astype(np.int8)
    counts = Counts(table.labels_N, folds, 3)
    right = counts.right(np.asarray(table.store.singles(1)))
    steps: dict[tuple[str, Left], Steps] = {}
    for left in lefts(3):
        accuracy = counts.accuracy(right, left)
        steps["genetic", left] = genetic_steps(1.0, accuracy, QUICK, 3)
        steps["greedy", left] = greedy_steps(1.0, accuracy, 20)
        steps["coordinate", left] = coordinate_steps(1.0, equal(5).astype(np.float64))
    parts = dealt(folds, 0)
    found = together(searched(tables_of(table.store, table.labels_N, parts_N=parts)[1], parts, 3), steps)
    assert set(found) == set(steps)
    for left in lefts(3):
        labels = np.where(np.isin(folds, left), -1, table.labels_N)
        pool = Pool([Held(str(m), "logits", one) for m, one in enumerate(scores)], "log_probability")
        part = table_of(build(pool, labels, 1), labels)
        one = genetic(part, seed=3)
        assert np.array_equal(found["genetic", left].weights_M, one.weights_M)
        assert found["genetic", left].history == one.history
        two = alone(part, greedy_steps(1.0, singles(part), 20))
        assert np.array_equal(found["greedy", left].weights_M, two.weights_M)
        assert found["coordinate", left].accuracy == coordinate(part).accuracy


def test_searches_of_a_very_large_table_see_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = planted(images=900)
    folds = (np.arange(900) % 3).astype(np.int8)
    monkeypatch.setattr(searching, "SEARCHED", table.candidates // 4)
    parts = dealt(folds, 0)
    some = searched(tables_of(table.store, table.labels_N, parts_N=parts)[1], parts, 3)
    assert sum(part.candidates for part in some) == pytest.approx(table.candidates / 4, rel=0.3)
    for fold, part in enumerate(some):
        assert (folds[part.labels_N >= 0] == fold).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_capped_weights(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = int(random.integers(1, 20))
    population = random.dirichlet(np.full(size, 0.3), 6) * random.choice([1.0, 7.0])
    population[0] = np.eye(size)[0]
    cap = float(random.uniform(1 / size, 1))
    kept = capped(population, cap)
    assert (kept >= 0).all() and (kept <= cap + 1e-12).all()
    assert kept.sum(axis=1) == pytest.approx(np.ones(6))
    inside = (population / population.sum(axis=1, keepdims=True) <= cap).all(axis=1)
    assert np.allclose(kept[inside], (population / population.sum(axis=1, keepdims=True))[inside])
    for before, after in zip(population, kept):  # order is kept among those below the cap
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= -1e-9).all()


def test_shrinking_goes_from_the_weights_to_equal_ones() -> None:
    one = np.array([0.7, 0.3, 0.0])
    assert shrunk(one, 0.0) == pytest.approx(one)
    assert shrunk(one, 1.0) == pytest.approx(np.full(3, 1 / 3))
    assert shrunk(one, 0.5) == pytest.approx((one + 1 / 3) / 2)
