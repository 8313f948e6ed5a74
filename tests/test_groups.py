"""Copies of one image: found by equal rows, kept together in folds, counted once by the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from smelt.fusion.config import FuseSettings, GeneticSettings
from smelt.fusion.folds import effective, equal_rows, make_folds
from smelt.fusion.procedure import fuse
from smelt.fusion.resample import Bootstrap, ahead
from smelt.fusion.scores.sources import Held
from smelt.metrics import class_averaged

QUICK = FuseSettings(
    metric="top1", bootstrap=300, shrinkage=(0.0, 0.5), genetic=GeneticSettings(population=12, generations=8)
)


def held(scores: np.ndarray) -> list[Held]:
    return [Held(f"m{m}", "logits", one, one.shape[1]) for m, one in enumerate(scores)]


def test_folds_spread_classes_evenly() -> None:
    labels = np.random.default_rng(0).integers(-1, 7, 500)
    folds = make_folds(labels, 5, 1)
    assert ((folds == -1) == (labels < 0)).all()
    for label in range(7):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(folds, make_folds(labels, 5, 1))
    assert not np.array_equal(folds, make_folds(labels, 5, 2))


def test_folds_never_cut_a_group_and_stay_even() -> None:
    random = np.random.default_rng(0)
    groups = np.concatenate([np.repeat(np.arange(40), random.integers(2, 9, 40)), np.arange(1000, 1200)])
    labels = np.array([group % 4 for group in groups])
    random.shuffle(order := np.arange(len(groups)))
    groups, labels = groups[order], labels[order]
    labels[7] = -1
    folds = make_folds(labels, 5, 1, groups)
    assert folds[7] == -1
    for group in np.unique(groups):
        assert len(np.unique(folds[(groups == group) & (labels >= 0)])) <= 1
    for label in range(4):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.min() > 0.8 * counts.max()
    assert np.array_equal(folds, make_folds(labels, 5, 1, groups))


def test_equal_rows_are_copies() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(2, 30, 6)).astype(np.float32)
    repeated = np.concatenate([scores, scores[:, :10], scores[:, :5]], axis=1)
    groups = equal_rows(held(repeated), np.arange(45), 45)
    assert len(np.unique(groups)) == 30
    assert (groups[30:40] == groups[:10]).all() and (groups[40:] == groups[:5]).all()
    # equal in one result is no copy
    other = repeated.copy()
    other[1, 30:] += np.arange(15)[:, None] + 0.5
    assert len(np.unique(equal_rows(held(other), np.arange(45), 45))) == 45
    # images without a label are not looked at
    assert len(np.unique(equal_rows(held(repeated), np.arange(30), 45))) == 45


def test_rows_that_meet_by_chance_are_no_copies() -> None:
    """Saturated scores: "surely class 3" is said of many images."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 600)
    logits = 30 * np.eye(10)[labels] + random.normal(size=(5, 600, 10))
    sure = np.round(np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True), 3).astype(np.float32)
    assert len(np.unique(sure.reshape(5, 600, -1)[0], axis=0)) < 30
    assert len(np.unique(equal_rows(held(sure), np.arange(600), 600))) == 600


def test_effective_number() -> None:
    assert effective(np.arange(50)) == 50
    assert effective(np.repeat(np.arange(50), 10)) == pytest.approx(50)
    assert effective(np.array([0] * 9 + [1])) == pytest.approx(100 / 82)


def naive(difference: np.ndarray, labels: np.ndarray, groups: np.ndarray, samples: int) -> np.ndarray:
    """Classes, then groups within each, drawn one by one with replacement."""
    random = np.random.default_rng(9)
    classes = np.unique(labels)
    members = {
        c: [difference[(labels == c) & (groups == g)] for g in np.unique(groups[labels == c])]
        for c in classes
    }
    drawn = []
    for _ in range(samples):
        means = []
        for c in random.choice(classes, len(classes)):
            picks = random.integers(0, len(members[c]), len(members[c]))
            means.append(np.concatenate([members[c][p] for p in picks]).mean())
        drawn.append(np.mean(means))
    return np.array(drawn)


def differences(
    one: np.ndarray, other: np.ndarray, labels: np.ndarray, samples: int, groups: np.ndarray | None
) -> np.ndarray:
    """Of class-averaged accuracy of two sets of hits, in bootstrap samples."""
    draws = Bootstrap(labels, groups, samples, 0)
    return draws([draws.column(one.astype(float) - other.astype(float))])[:, 0]


@pytest.mark.parametrize("copies", [1, 6])
def test_bootstrap_is_that_of_classes_and_groups(copies: int) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 9, 240)
    one, other = random.random(240) < 0.8, random.random(240) < 0.7
    labels, one, other = (np.repeat(x, copies) for x in (labels, one, other))
    groups = np.repeat(np.arange(240), copies)
    gains = differences(one, other, labels, 4000, groups)
    expected = naive(one.astype(float) - other, labels, groups, 2000)
    assert gains.mean() == pytest.approx(
        class_averaged(one, labels) - class_averaged(other, labels), abs=0.004
    )
    assert gains.std() == pytest.approx(expected.std(), rel=0.08)
    assert (differences(one, one, labels, 100, groups) == 0).all()


def test_an_accuracys_interval_is_that_of_the_naive_bootstrap() -> None:
    random = np.random.default_rng(1)
    labels, groups = random.integers(0, 6, 300), np.arange(300) // 2
    labels = labels[groups]
    hits = random.random(300) < np.linspace(0.5, 0.95, 6)[labels]
    drawn = Bootstrap(labels, groups, 4000, 0).centred(hits)
    expected = naive(hits.astype(float), labels, groups, 2000)
    assert drawn.mean() == pytest.approx(class_averaged(hits, labels), abs=0.005)
    assert drawn.std() == pytest.approx(expected.std(), rel=0.1)


def test_ahead_is_strictly_more() -> None:
    assert ahead(np.zeros(10)) == 0 and ahead(np.full(10, 1e-13)) == 0 and ahead(np.array([0, 0.01])) == 0.5


def test_draws_do_not_know_the_labels_that_are_left_out() -> None:
    random = np.random.default_rng(0)
    labels, hits = random.integers(0, 5, 200), random.random(200) < 0.7
    keep = np.arange(200) >= 50
    other = labels.copy()
    other[:50] = random.permutation(labels[:50])
    drawn = [Bootstrap(one, None, 200, 0) for one in (labels, other)]
    one, two = (draws([draws.column(hits, keep)]) for draws in drawn)
    assert np.array_equal(one, two)


def test_sixty_images_ten_times_are_sixty() -> None:
    """Chance results on few images, and the same images again and again: no surer than the few."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    scores = random.normal(size=(24, 60, 3)).astype(np.float32)
    once = fuse(held(scores), labels, QUICK, num_classes=3)
    again = fuse(held(np.repeat(scores, 10, axis=1)), np.repeat(labels, 10), QUICK, num_classes=3)
    assert once.record["groups"] == again.record["groups"] == again.record["held_out"]["effective"] == 60
    assert again.record["images"] == 600 and any("60 different" in text for text in again.record["warnings"])
    for method in again.record["methods"]:
        assert method["held_out"]["top1"] < 0.55, method["method"]  # chance is a third
    widths = []
    for outcome in (once, again):
        low, high = outcome.record["held_out"]["interval"]["top1"]
        widths.append(high - low)
    assert widths[1] > 0.8 * widths[0]


def test_groups_that_are_given_are_kept_together() -> None:
    """Near copies have other scores; what dedupe found must do."""
    random = np.random.default_rng(0)
    labels = np.repeat(random.integers(0, 3, 50), 8)
    scores = np.repeat(random.normal(size=(12, 50, 3)), 8, axis=1)
    scores = (scores + 0.01 * random.normal(size=scores.shape)).astype(np.float32)
    groups = np.repeat(np.arange(50), 8)
    apart = fuse(held(scores), labels, QUICK, num_classes=3)
    together = fuse(held(scores), labels, QUICK, num_classes=3, groups_N=groups)
    assert apart.record["groups"] == 400 and together.record["groups"] == 50
    assert together.record["held_out"]["top1"] < apart.record["held_out"]["top1"] - 0.05
