"""The pools' weights against independent minimisers; likelihoods against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from smelt.fusion.apply import Fusion
from smelt.fusion.fitting import likelihood, newton
from smelt.fusion.fitting import sample as sample_module
from smelt.fusion.fitting.sample import Sample, picked, sample
from smelt.fusion.folds import make_folds
from smelt.fusion.methods import linear_pool, log_pool
from smelt.fusion.scores.sources import Held


def problem(
    images: int = 400, results: int = 4, classes: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (M, N, C) of results of different quality and sharpness; classes of very different sizes."""
    random = np.random.default_rng(seed)
    shares = np.arange(1, classes + 1) ** 2.0
    labels = random.choice(classes, images, p=shares / shares.sum())
    noise = np.linspace(0.6, 2.0, results)[:, None, None]
    scores = 1.5 * np.eye(classes)[labels] + noise * random.normal(size=(results, images, classes))
    return (scores * np.linspace(0.7, 2, results)[:, None, None]).astype(np.float32), labels


def sampled(scores: np.ndarray, labels: np.ndarray, folds: int = 3) -> Sample:
    sources = [Held(str(m), "logits", one) for m, one in enumerate(scores)]
    return sample(sources, labels, make_folds(labels, folds, 0), 0, scores.shape[2])


def test_balanced_weights_are_those_of_the_metric() -> None:
    scores, labels = problem()
    found = sampled(scores, labels)
    seen = found.seen((1,))
    weights = found.balanced(seen)
    assert (weights[~seen] == 0).all() and weights.sum() == pytest.approx(1)
    for label in range(5):
        mine = seen & (found.labels_n == label)
        assert weights[mine].sum() == pytest.approx(1 / 5)


def test_linear_pool_is_the_fixed_point_of_expectation_maximisation() -> None:
    """Mixture weights by EM, which is slow, simple, and goes to the same and only maximum."""
    scores, labels = problem()
    found = sampled(scores, labels)
    own = found.own_Mn.T.astype(np.float64)
    for left in ((), (0,), (0, 2)):
        balance = found.balanced(found.seen(left))
        weights = np.full(4, 0.25)
        for _ in range(20_000):
            shares = own * weights
            weights = balance @ (shares / shares.sum(axis=1, keepdims=True))
        ours = linear_pool.linear_pool(found.own_Mn, balance)
        assert ours == pytest.approx(weights, abs=1e-3) and ours.sum() == pytest.approx(1)
        assert balance @ np.log(own @ ours + 1e-30) >= balance @ np.log(own @ weights + 1e-30) - 1e-9


def log_loss(weights: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> float:
    """Class-balanced loss of the logarithmic pool, image by image."""
    by_class: dict[int, list[float]] = {}
    for image, label in enumerate(labels):
        mixed = [float(weights @ scores[:, image, c].astype(np.float64)) for c in range(scores.shape[2])]
        by_class.setdefault(int(label), []).append(np.logaddexp.reduce(mixed) - mixed[label])
    ridge = log_pool.RIDGE / 2 * float(weights @ weights)
    return float(np.mean([np.mean(losses) for losses in by_class.values()])) + ridge


def test_log_pool_has_no_better_neighbour() -> None:
    """Convex, so a minimum among its neighbours is the minimum: tried by finite steps, over w ≥ 0."""
    scores, labels = problem(images=120)
    found = sampled(scores, labels)
    weights = log_pool.log_pool(found.logs_MKn, found.place_n, found.balanced(found.seen(())))
    best = log_loss(weights, scores, labels)
    assert (weights >= 0).all() and best < log_loss(np.full(4, 0.25), scores, labels) - 0.01
    for index in range(4):
        for step in (-0.02, 0.02):
            moved = weights.copy()
            moved[index] = max(0.0, moved[index] + step)
            assert log_loss(moved, scores, labels) >= best - 1e-6


def test_classes_count_the_same_however_many_images_they_have() -> None:
    """A result that is right on the large class only, another on the small ones: a mean over images
    differs."""
    labels = np.repeat([0, 1, 2], [180, 10, 10])
    random = np.random.default_rng(0)
    scores = 0.3 * random.normal(size=(2, 200, 3))
    scores[0, np.arange(200), labels] += np.where(labels == 0, 2.0, 0.0)
    scores[1, np.arange(200), labels] += np.where(labels == 0, 0.0, 2.0)
    found = sampled(scores.astype(np.float32), labels)
    assert linear_pool.linear_pool(found.own_Mn, found.balanced(found.seen(())))[1] > 0.55
    assert linear_pool.linear_pool(found.own_Mn, np.full(200, 1 / 200))[1] < 0.2


def test_separable_labels_keep_the_log_pool_finite() -> None:
    labels = np.arange(60) % 3
    scores = (9.0 * np.eye(3)[labels])[None].repeat(3, 0).astype(np.float32)
    found = sampled(scores, labels)
    weights = log_pool.log_pool(found.logs_MKn, found.place_n, found.balanced(found.seen(())))
    assert np.isfinite(weights).all() and weights.sum() > 0
    own = found.own_Mn
    own[0] = 0.0  # a result that rules every label out
    assert linear_pool.linear_pool(own, found.balanced(found.seen(()))) == pytest.approx(
        [0, 0.5, 0.5], abs=1e-3
    )


def test_log_chances_of_every_kind_of_fusion() -> None:
    scores, labels = problem(images=50)
    found = sampled(scores, labels)
    weights = (0.1, 0.2, 0.3, 0.4)
    values = scores[:, found.lines].astype(np.float64)

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)

    mixed = np.einsum("m,mnc->nc", weights, values)
    ours = likelihood.log_chances(found, [Fusion("log_pool", "log_probability", weights)], slice(None))[0]
    assert softmax(ours.T) == pytest.approx(softmax(mixed), abs=1e-5)
    ours = likelihood.log_chances(found, [Fusion("linear_pool", "probability", weights)], slice(None))[0]
    assert np.exp(ours.T) == pytest.approx(np.einsum("m,mnc->nc", weights, softmax(values)), abs=1e-6)
    temperatures = (1.0, 2.0, 0.5, 3.0)
    fusion = Fusion("tempered_probability", "probability", weights, 0.0, temperatures)
    cooled = softmax(values / np.array(temperatures)[:, None, None])
    ours = likelihood.log_chances(found, [fusion], slice(10, 30))[0]
    assert np.exp(ours.T) == pytest.approx(np.einsum("m,mnc->nc", weights, cooled)[10:30], abs=1e-5)


def test_calibrated_likelihood_is_the_best_over_all_sharpnesses() -> None:
    random = np.random.default_rng(0)
    logs = (4 * random.normal(size=(300, 6))).astype(np.float32)
    labels = np.argmax(0.4 * logs + random.gumbel(size=logs.shape), axis=1)
    balance = np.where(np.arange(300) < 200, 1 / 200, 0.0)
    ours = likelihood.calibrated(logs.T, labels, balance)
    assert np.isnan(ours[200:]).all() and not np.isnan(ours[:200]).any()
    means = []
    for sharp in np.linspace(0.05, 2, 400):
        scaled = sharp * logs[:200].astype(np.float64)
        means.append((scaled[np.arange(200), labels[:200]] - np.logaddexp.reduce(scaled, axis=1)).mean())
    assert ours[:200].mean() == pytest.approx(max(means), abs=1e-4)
    # only the order and the distances count: sharper or flatter scores have the same likelihood
    assert likelihood.calibrated(5 * logs.T, labels, balance)[:200] == pytest.approx(ours[:200], abs=2e-3)


def test_of_many_classes_the_likeliest_and_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "CLASSES", 4)
    scores, labels = problem(images=90, classes=9)
    found = sampled(scores, labels)
    assert found.chances_MKn.shape == (4, 4, 90)
    chances = np.exp(scores) / np.exp(scores).sum(axis=2, keepdims=True)
    for row, line in enumerate(found.lines):
        own = chances[:, line, labels[line]]
        assert found.own_Mn[:, row] == pytest.approx(own, abs=1e-6)
        mean = chances[:, line].mean(axis=0)
        rivals = np.sort(np.delete(mean, labels[line]))[::-1][:3]
        kept = np.sort(np.delete(found.chances_MKn[:, :, row].mean(axis=0), found.place_n[row]))[::-1]
        assert kept == pytest.approx(rivals, abs=1e-6)


@pytest.mark.parametrize("images", [0, 1, 40])
def test_picked_images_are_those_that_are_kept(images: int) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(3, 4, images))
    masks = [np.zeros(images, bool), np.ones(images, bool), np.arange(images) // 9 % 2 == 0,
             random.random(images) < 0.5]  # fmt: skip
    for keep in masks:
        found = picked(values, keep)
        assert np.array_equal(found, values[..., keep]) and found.flags.c_contiguous


@pytest.mark.parametrize("seed", range(20))
def test_minimised_stays_within_and_finds_what_another_minimiser_finds(seed: int) -> None:
    """Least squares over w ≥ 0 with columns much alike, where most weights end at 0."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(40, 1)) + 0.3 * random.normal(size=(40, 12))
    aim = matrix @ np.maximum(0, random.normal(size=12)) + random.normal(size=40)

    def value(weights: np.ndarray) -> float:
        return float(((matrix @ weights - aim) ** 2).sum() / 2)

    def judged(weights: np.ndarray) -> newton.Judged:
        return value(weights), matrix.T @ (matrix @ weights - aim), matrix.T @ matrix

    ours = newton.minimised(value, judged, np.full(12, 1 / 12))
    assert (ours >= 0).all() and ours == pytest.approx(nnls(matrix, aim)[0], abs=1e-4)


def test_clearly_is_two_standard_errors() -> None:
    balance = np.full(100, 0.01)
    one = np.random.default_rng(0).normal(size=100)
    one -= one.mean()
    error = one.std() / 10
    assert likelihood.clearly(one + 2.1 * error, balance) and not likelihood.clearly(
        one + 1.9 * error, balance
    )
    assert not likelihood.clearly(np.zeros(100), balance)
