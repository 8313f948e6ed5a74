"""Accuracies compared under noisy validation labels, against plain loops, bootstrap and clean labels."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from smelt.mining import corrected
from smelt.mining.corrected import compare, confusions, label_right

Floats = NDArray[np.float64]
PAIRS = np.array([1, 0, 3, 2, 5, 4])  # what is called what under flips in pairs


def softmax(logits: Floats) -> Floats:
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def data(
    seed: int, rate: float, pairs: bool, rows: int = 600, blur: float = 0.55
) -> tuple[Floats, Floats, Floats]:
    """(features, true classes, labels) of six classes, of which a share is called something else."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 6, rows)
    features = np.eye(6)[truth] + blur * rng.normal(size=(rows, 6))
    flipped = rng.random(rows) < rate
    others = PAIRS[truth] if pairs else (truth + rng.integers(1, 6, rows)) % 6
    return features, truth, np.where(flipped, others, truth)


def models(features: Floats, truth: Floats, rate: float, pairs: bool, seed: int) -> list[Floats]:
    """Probabilities by nets that know the classes better or worse, and repeat the noise more or less."""
    rng = np.random.default_rng(seed)
    flip = np.eye(6)[PAIRS] if pairs else (np.ones((6, 6)) - np.eye(6)) / 5
    found = []
    for skill in (3.0, 2.0):
        for learnt in (0.0, 0.9):
            logits = skill * features + rng.normal(size=features.shape)
            likely = softmax(2 * logits)
            called = (1 - learnt * rate) * likely + learnt * rate * likely @ flip
            # a net that has learnt noise calls one of several by chance, as training left it
            repeats = rng.random(len(truth)) < learnt * rate
            called[repeats] = likely[repeats] @ flip
            found.append(called)
    return found


@pytest.mark.parametrize(("rate", "pairs"), [(0.4, False), (0.35, True)])
def test_decides_as_clean_labels_do_more_often_than_plain_accuracy(rate: float, pairs: bool) -> None:
    right, number = {"plain": 0, "corrected": 0}, 0
    for seed in range(40):
        features, truth, labels = data(seed, rate, pairs)
        found = models(features, truth, rate, pairs, seed + 1000)
        weights = label_right(labels, np.mean(found, axis=0))
        for a, b in combinations(found, 2):
            clean = compare(a.argmax(1) == truth, b.argmax(1) == truth, truth)
            if clean.low <= 0 <= clean.high:
                continue  # too close for clean labels too
            hits = a.argmax(1) == labels, b.argmax(1) == labels
            number += 1
            right["plain"] += (compare(*hits, labels).gain > 0) == (clean.gain > 0)
            right["corrected"] += (compare(*hits, labels, weights).gain > 0) == (clean.gain > 0)
    assert number > 50
    assert right["corrected"] > right["plain"], (right, number)
    assert right["corrected"] > 0.93 * number


@pytest.mark.parametrize("pairs", [False, True])
def test_weights_tell_right_labels_from_wrong_ones(pairs: bool) -> None:
    features, truth, labels = data(3, 0.3, pairs, 2000, 0.35)
    weights = label_right(labels, softmax(4 * features))
    wrong = labels != truth
    assert weights[~wrong].mean() > 0.85 and weights[wrong].mean() < 0.25
    assert abs((1 - weights.mean()) - wrong.mean()) < 0.06


def test_the_confident_joint_by_a_plain_loop() -> None:
    features, _, labels = data(5, 0.3, True, 150)
    likely, size = softmax(2 * features), 6
    thresholds = [np.mean([likely[n, j] for n in range(150) if labels[n] == j]) for j in range(size)]
    joint = np.zeros((size, size))
    for n in range(150):
        sure = [j for j in range(size) if likely[n, j] >= thresholds[j]]
        if sure:
            joint[labels[n], max(sure, key=lambda j: likely[n, j])] += 1
    for i in range(size):
        joint[i] *= (labels == i).sum() / joint[i].sum()
    rate = 1 - np.trace(joint) / joint.sum()
    wanted = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            prior = 1 - rate if i == j else rate / (size - 1)
            wanted[i, j] = (joint[i, j] + 5 * prior) / (joint[:, j].sum() + 5)
    found = confusions(labels, likely)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    np.testing.assert_allclose(found.sum(axis=0), 1)


def test_bayes_by_a_plain_loop() -> None:
    features, _, labels = data(6, 0.2, False, 80)
    likely = softmax(features)
    called, best = confusions(labels, likely), None
    for exponent in corrected.TEMPERATURES:
        fit, chances = 0.0, []
        for n in range(80):
            tempered = likely[n] ** exponent / (likely[n] ** exponent).sum()
            every = sum(called[labels[n], j] * tempered[j] for j in range(6))
            fit += np.log(every)
            chances.append(called[labels[n], labels[n]] * tempered[labels[n]] / every)
        if best is None or fit > best[0]:
            best = fit, chances
    assert best is not None
    np.testing.assert_allclose(label_right(labels, likely), best[1], rtol=1e-9)


def test_blocks_and_blanks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, _, labels = data(7, 0.3, True, 100)
    likely = softmax(2 * features).astype(np.float32)
    whole = label_right(labels, likely)
    monkeypatch.setattr(corrected, "NUMBERS", 42)
    np.testing.assert_allclose(label_right(labels, likely), whole, rtol=1e-9)
    some = np.concatenate([labels, [-1, -1]])
    found = label_right(some, np.concatenate([likely, likely[:2]]))
    np.testing.assert_allclose(found[:-2], whole, rtol=1e-9)
    assert (found[-2:] == 0).all() and label_right(np.array([-1]), likely[:1]).tolist() == [0]


def test_a_class_without_confident_rows_is_believed() -> None:
    likely = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    found = label_right(np.array([0, 1, 0, 1]), likely)  # nothing has the label 2
    assert np.isfinite(found).all() and (found > 0.5).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 9))
def test_weights_are_probabilities_whatever_comes(seed: int, rows: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    likely = rng.random((rows, classes)) * (rng.random((rows, classes)) < 0.5)
    found = label_right(rng.integers(-1, classes, rows), likely)
    assert ((found >= 0) & (found <= 1)).all()


def test_compare_by_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    labels, weights = rng.integers(0, 4, 50), rng.random(50)
    a, b = rng.random(50) < 0.7, rng.random(50) < 0.5
    gains = []
    for c in range(4):
        rows = [n for n in range(50) if labels[n] == c]
        total = sum(weights[n] for n in rows)
        gains.append(sum(weights[n] * (float(a[n]) - float(b[n])) for n in rows) / total)
    found = compare(a, b, labels, weights)
    assert found.gain == pytest.approx(np.mean(gains)) and found.n == 50
    assert found.low < found.gain < found.high
    other = compare(b, a, labels, weights)
    assert other.gain == pytest.approx(-found.gain) and other.low == pytest.approx(-found.high)


def test_the_standard_error_is_that_of_samples() -> None:
    rng = np.random.default_rng(2)
    rows = 400
    labels, weights = rng.integers(0, 5, rows), rng.random(rows)
    a = (rng.random(rows) < 0.8).astype(float)
    b = np.where(rng.random(rows) < 0.8, a, rng.random(rows) < 0.5)
    drawn = [rng.integers(0, rows, rows) for _ in range(2000)]
    gains = [compare(a[d], b[d], labels[d], weights[d]).gain for d in drawn]
    assert compare(a, b, labels, weights).standard_error == pytest.approx(np.std(gains), rel=0.1)


def test_nothing_to_compare() -> None:
    assert compare([], [], np.zeros(0, int)) == compare([1.0], [0.0], [-1])
    assert compare([1.0], [0.0], [-1]).figures() == {
        "gain": 0.0, "low": -1.0, "high": 1.0, "standard_error": 1.0, "n": 0,
    }  # fmt: skip
    one = compare([1.0], [0.0], [0])
    assert one.gain == 1 and one.low <= 0, "one row decides nothing"


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="hits"):
        compare([1.0], [0.0, 1.0], [0])
    with pytest.raises(ValueError, match="probabilities, 0"):
        compare([1.0], [0.0], [0], [2.0])
    with pytest.raises(ValueError, match=r"floats \(N, C\)"):
        label_right([0], np.zeros((2, 2)))
    with pytest.raises(ValueError, match="2 classes"):
        label_right([2], np.zeros((1, 2)))
    with pytest.raises(TypeError, match="whole numbers"):
        label_right([0.5], np.zeros((1, 2)))
