"""The metric against a naive loop and its invariants."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from smelt import metrics


def naive(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Sort each image's classes with the label first among its equals; mean per class, then over classes."""
    by_class: dict[int, list[bool]] = {}
    for row, label in zip(scores.astype(np.float32), labels):
        if label < 0:
            continue
        order = sorted(range(len(row)), key=lambda c: (-row[c], c != label))
        by_class.setdefault(int(label), []).append(label in order[:k])
    return float(np.mean([np.mean(hits) for hits in by_class.values()])) if by_class else float("nan")


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 9), st.integers(1, 9))
def test_class_averaged_topk_equals_the_naive_loop(seed: int, n: int, c: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (n, c)).astype(np.float16)  # few values: many ties
    labels = rng.integers(-1, c, n)
    ours = metrics.class_averaged_topk(scores, labels, k)
    np.testing.assert_allclose(ours, naive(scores, labels, k), equal_nan=True)


def test_a_tie_goes_in_favour_of_the_label() -> None:
    assert metrics.hits_topk(np.zeros((3, 4)), [0, 1, 3], 1).all()


def test_classes_without_images_are_left_out_and_do_not_divide_by_zero() -> None:
    hits, labels = [True, False, True], [0, 0, 7]
    assert metrics.class_averaged(hits, labels) == 0.75
    table = metrics.per_class(hits, labels, 9)
    assert table[0] == 0.5 and table[7] == 1 and np.isnan(table[3])


def test_lists_and_scores_agree_where_there_are_no_ties() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.permuted(np.tile(np.arange(50.0), (40, 1)), axis=1), rng.integers(0, 50, 40)
    lists = metrics.top_lists(scores, 5)
    assert (metrics.hits_in_list(lists, labels) == metrics.hits_topk(scores, labels, 5)).all()
    assert (np.diff(np.take_along_axis(scores, lists, 1), axis=1) < 0).all()
