"""Results at chance are named, those that are not are left alone, and the most likely reason is found."""

from __future__ import annotations

import numpy as np
import pytest

from smelt.fusion.scores.sources import Held
from smelt.fusion.scores.suspects import deviations, warnings

CLASSES = 10


def results(
    count: int = 600, good: int = 3, quality: float = 2.0, seed: int = 0
) -> tuple[np.ndarray, list[Held]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    scores = quality * np.eye(CLASSES)[labels] + random.normal(size=(good, count, CLASSES))
    return labels, [Held(f"m{i}", "logits", one.astype(np.float32), CLASSES) for i, one in enumerate(scores)]


def with_scores(one: Held, scores: np.ndarray) -> Held:
    return Held("odd", "logits", scores.astype(np.float32), CLASSES)


ODD = {
    "rows": lambda s: s[np.random.default_rng(1).permutation(len(s))],
    "classes": lambda s: s[:, np.random.default_rng(1).permutation(CLASSES)],
    "reversed": lambda s: -s,
    "constant": lambda s: np.zeros_like(s),
}
REASONS = {
    "rows": "rows or classes",
    "classes": "its classes are in another order",
    "reversed": "worse than chance",
    "constant": "always answers the same class",
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("known", [True, False])
def test_the_odd_one_is_named_with_its_reason(kind: str, known: bool) -> None:
    labels, held = results()
    odd = with_scores(held[0], ODD[kind](np.asarray(held[0].scores)))
    (words,) = warnings([*held[1:], odd], labels if known else None, CLASSES)
    assert words.startswith("odd ") and "m1" not in words.split("(")[0]
    if kind != "reversed" or known:
        assert REASONS[kind] in words


def test_weak_results_are_not_at_chance() -> None:
    labels, held = results()
    _, weak = results(good=1, quality=0.6)
    weak = [Held("weak", "logits", weak[0].scores, CLASSES)]
    assert (np.asarray(weak[0].scores).argmax(1) == labels).mean() < 0.35
    for truth in (labels, None):
        assert not warnings([*held, *weak], truth, CLASSES)


def test_two_that_contradict_each_other() -> None:
    _, held = results(good=2)
    odd = with_scores(held[1], ODD["rows"](np.asarray(held[1].scores)))
    (words,) = warnings([held[0], odd], None, CLASSES)
    assert "agree no more than chance" in words and "m0" in words and "odd" in words


def test_labels_that_fit_nothing() -> None:
    labels, held = results()
    (words,) = warnings(held, np.random.default_rng(2).permutation(labels), CLASSES)
    assert "no result is better than chance" in words and "other images" in words
    (words,) = warnings(held, (labels + 3) % CLASSES, CLASSES)
    assert "numbered in another order" in words
    (words,) = warnings(held, np.where(labels == CLASSES - 1, 5, labels + 1), CLASSES)
    assert "count from 1" in words


def test_few_images_and_unknown_labels_say_nothing() -> None:
    labels, held = results(count=20)
    assert not warnings(held, labels, CLASSES)
    labels, held = results()
    assert not warnings(held, np.full(600, -1), CLASSES)
    odd = with_scores(held[0], np.where(labels[:, None] == 3, 0, np.asarray(held[0].scores)))
    unknown = np.where(labels == 3, -1, labels)
    assert not warnings([*held[1:], odd], unknown, CLASSES)


def test_deviations_are_those_of_shuffled_answers() -> None:
    random = np.random.default_rng(4)
    one, other = random.choice(4, 500, p=[0.6, 0.2, 0.1, 0.1]), random.choice(4, 500, p=[0.5, 0.3, 0.1, 0.1])
    agreed = [(random.permutation(one) == other).mean() for _ in range(4000)]
    expected = ((one == other).mean() - np.mean(agreed)) / np.std(agreed)
    # the shuffle keeps both margins, which makes its spread somewhat smaller than the binomial one
    assert np.sign(deviations(one, other, 4)) == np.sign(expected) or abs(expected) < 0.2
    assert abs(deviations(one, other, 4)) <= abs(expected) + 0.1
    assert abs(deviations(one, other, 4) - expected) < 0.5 * max(1, abs(expected))
