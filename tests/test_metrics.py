"""The metric against a naive loop and its invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smelt import metrics


def delivered(row: np.ndarray, k: int) -> list[int]:
    """The list of one image, by the rule's words: higher score first, then the lower class; NaN nowhere."""
    order = sorted((c for c in range(len(row)) if row[c] == row[c]), key=lambda c: (-row[c], c))
    return order[:k]


def naive(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Look each label up in its image's list; mean per class, then over classes."""
    by_class: dict[int, list[bool]] = {}
    for row, label in zip(scores.astype(np.float32), labels):
        if label >= 0:
            by_class.setdefault(int(label), []).append(int(label) in delivered(row, k))
    return float(np.mean([np.mean(hits) for hits in by_class.values()])) if by_class else float("nan")


def bf16(values: np.ndarray) -> np.ndarray:
    """Cut to the 8 bits of bfloat16: plateaus of equal scores."""
    return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


TIES = {
    "few values": lambda rng, n, c: rng.integers(0, 4, (n, c)).astype(np.float16),
    "all equal": lambda rng, n, c: np.zeros((n, c)),
    "one class, the rest underflows": lambda rng, n, c: (
        np.where(np.arange(c) == rng.integers(c), 1.0, 0.0) * np.ones((n, 1))
    ),
    "bf16 plateaus": lambda rng, n, c: bf16(8 + rng.normal(size=(n, c)) / 8),
    "ranks": lambda rng, n, c: rng.normal(size=(3, n, c)).argsort(axis=2).mean(axis=0),
    "infinite": lambda rng, n, c: rng.choice([-np.inf, 0.0, -0.0, np.inf], (n, c)),
    "NaN": lambda rng, n, c: rng.choice([np.nan, -np.inf, 0.0, 1.0], (n, c)),
    "none": lambda rng, n, c: rng.normal(size=(n, c)),
}


@pytest.mark.parametrize("ties", TIES)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 60), st.sampled_from([1, 2, 5, 9, 100]))
def test_what_is_measured_is_the_list_that_is_delivered(ties: str, seed: int, n: int, c: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = TIES[ties](rng, n, c)
    labels = rng.integers(-1, c, n)
    np.testing.assert_allclose(
        metrics.class_averaged_topk(scores, labels, k), naive(scores, labels, k), equal_nan=True
    )
    lists = metrics.top_lists(scores, k)
    for row, found in zip(scores.astype(np.float32), lists):
        wanted = delivered(row, k)
        assert found.tolist() == wanted + [-1] * (min(k, c) - len(wanted))
    assert (metrics.hits_in_list(lists, labels) == metrics.hits_topk(scores, labels, k)).all()


def test_equal_scores_are_right_for_the_first_classes_only() -> None:
    assert metrics.hits_topk(np.zeros((4, 4)), [0, 1, 2, 3], 2).tolist() == [True, True, False, False]
    assert metrics.class_averaged_topk(np.zeros((4, 4)), [0, 1, 2, 3], 1) == 0.25


def test_nan_is_never_right() -> None:
    scores = np.full((4, 4), np.nan)
    assert not metrics.hits_topk(scores, [0, 1, 2, 3], 4).any()
    assert (metrics.top_lists(scores, 4) == -1).all()


def test_classes_without_images_are_left_out_and_do_not_divide_by_zero() -> None:
    hits, labels = [True, False, True], [0, 0, 7]
    assert metrics.class_averaged(hits, labels) == 0.75
    table = metrics.per_class(hits, labels, 9)
    assert table[0] == 0.5 and table[7] == 1 and np.isnan(table[3])
