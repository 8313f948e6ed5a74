"""The diagnosis against scikit-learn and plain loops, and the quality of mining against a known truth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.tables import Ranking
from smelt.mining.config import RankSettings
from smelt.mining.diagnosis import (
    auroc,
    diagnose,
    precision_at_k,
    ranking_against_truth,
    selection_against_truth,
)
from smelt.mining.dynamics import Recorder
from smelt.mining.rankings import rank
from smelt.mining.selection import Draft

values = st.sampled_from([-2.0, -1.0, 0.0, 0.25, 1.0, 7.0])
scored = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        st.lists(values, min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda wrong: 0 < sum(wrong) < len(wrong)),
    )
)


@given(scored)
@settings(max_examples=100, deadline=None)
def test_auroc_equals_scikit_learns(case: tuple[list[float], list[bool]]) -> None:
    scores, wrong = np.array(case[0]), np.array(case[1])
    assert auroc(scores, wrong) == pytest.approx(roc_auc_score(~wrong, scores), abs=1e-12)
    padded = np.r_[scores, np.nan, np.nan]
    assert auroc(padded, np.r_[wrong, True, False]) == pytest.approx(auroc(scores, wrong), abs=1e-12)


@given(scored, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_precision_at_k_is_the_mean_over_orders_of_ties(
    case: tuple[list[float], list[bool]], seed: int
) -> None:
    scores, wrong = np.array(case[0]), np.array(case[1])
    k = int(wrong.sum())
    found = precision_at_k(scores, wrong)
    distinct = scores + np.random.default_rng(seed).permutation(len(scores)) * 1e-9
    one_order = wrong[np.argsort(distinct)[:k]].mean()
    limit = np.sort(scores)[k - 1]
    assert abs(found - one_order) <= (scores == limit).sum() / k
    if (scores == limit).sum() == 1:
        assert found == pytest.approx(one_order)


def test_precision_and_auroc_where_there_is_nothing_to_find() -> None:
    assert np.isnan(auroc(np.array([1.0, 2.0]), np.zeros(2, bool)))
    assert np.isnan(precision_at_k(np.array([1.0, 2.0]), np.zeros(2, bool)))
    assert precision_at_k(np.array([1.0, 1.0, 5.0]), np.array([True, False, False])) == 0.5
    assert precision_at_k(np.array([1.0, 2.0, 5.0]), np.array([False, True, False]), k=2) == 0.5


# A small data set: 12 training rows (1..12) of 3 classes, two sources


def catalogue(true_labels: list[int] | None = None, noise: list[str] | None = None) -> Any:
    """What of a catalogue the diagnosis reads."""
    kinds = [""] + (noise or [""] * 12)
    words = list(dict.fromkeys(kinds))
    return SimpleNamespace(
        labels_N=np.array([0] + [0, 1, 2] * 4, np.int32),
        source_codes_N=np.array([0] + [0] * 6 + [1] * 6, np.uint8),
        classes=("ant", "bee", "cat"),
        sources=("google", "flickr"),
        column=lambda name: None if true_labels is None else np.array([0, *true_labels], np.int32),
        coded=lambda column, rows: (words, np.array([words.index(kinds[row]) for row in rows])),
    )


ROWS = np.arange(1, 13)


def model(taken_for: dict[int, int]) -> Dynamics:
    """A model that takes each row for its label, or for what `taken_for` says of it. Row 12 is unseen."""
    labels = catalogue().labels_N
    recorder = Recorder(13)
    seen = torch.arange(1, 12)
    logits = torch.zeros(11, 3)
    for i, row in enumerate(range(1, 12)):
        logits[i, taken_for.get(row, int(labels[row]))] = 2.0
    recorder.update(seen, logits, torch.from_numpy(labels[1:12]).long())
    return Dynamics(**recorder.arrays())


def ranking(models: list[Dynamics]) -> Ranking:
    return rank(models, ROWS, catalogue().labels_N[ROWS], RankSettings())


def test_the_tables_of_the_diagnosis() -> None:
    # of class 0 (rows 1, 4, 7, 10) three look like bees; of class 1 row 2 looks like a cat
    models = [model({1: 1, 4: 1, 7: 1, 2: 2}), model({1: 1, 4: 1, 7: 1})]
    found = diagnose(ranking(models), models, catalogue())
    assert found["estimated_noise"] == pytest.approx(3 / 11, abs=1e-6)
    assert found["sources"] == [
        {"source": "google", "images": 6, "estimated_noise": round(2 / 6, 6), "median_aum": 1.0},
        {"source": "flickr", "images": 5, "estimated_noise": 0.2, "median_aum": 2.0},
    ]
    assert [(row["class"], row["images"], row["estimated_noise"]) for row in found["classes"]] == [
        ("ant", 4, 0.75),
        ("bee", 4, 0.0),
        ("cat", 3, 0.0),
    ]
    assert found["pairs"][0] == {"label": "ant", "looks_like": "bee", "images": 3}
    assert found["abstract"] == [{"class": "ant", "images": 4, "best_median_aum": -2.0}]


def test_a_class_that_one_model_learnt_is_not_abstract() -> None:
    models = [model({1: 1, 4: 1, 7: 1}), model({})]
    assert diagnose(ranking(models), models, catalogue())["abstract"] == []


def test_classes_without_a_seen_row_are_left_out() -> None:
    nothing_of_cats = model({})
    unseen = np.array(nothing_of_cats.seen)
    unseen[[3, 6, 9]] = 0
    models = [Dynamics(**{**vars(nothing_of_cats), "seen": unseen})]
    found = diagnose(ranking(models), models, catalogue())
    assert [row["class"] for row in found["classes"]] == ["ant", "bee"] and found["abstract"] == []


def test_quality_against_the_known_truth() -> None:
    # rows 1 and 4 are bees, row 3 belongs to none of the classes, the truth of row 11 is not known
    truth = [1, 1, -1, 1, 1, 2, 0, 1, 2, 0, -2, 2]
    known = catalogue(truth, ["flip", "", "oov", "flip", *[""] * 8])
    models = [model({1: 1, 4: 1, 7: 1})]
    quality = ranking_against_truth(ranking(models), known)
    seen = [row for row in ROWS if row not in (11, 12)]
    aum = dict(zip(ROWS, ranking(models).scores["aum"]))
    wrong = np.array([row in (1, 3, 4) for row in seen])
    expected = roc_auc_score(~wrong, [aum[row] for row in seen])
    assert quality["aum"]["auroc"] == quality["cleanness"]["auroc"] == pytest.approx(expected, abs=1e-6)
    assert quality["aum"]["precision_at_k"] == pytest.approx(2 / 3, abs=1e-6)

    draft = Draft(ROWS, known.labels_N[ROWS], 3)
    draft.drop(draft.mask_of(np.array([3, 5])), "duplicate")
    draft.drop(draft.mask_of(np.array([1, 7, 11])), "low_aum")
    found = selection_against_truth(draft.selection(), known)
    assert found["rows"] == 11 and found["wrong"] == 3
    assert found["dropped"] == 2 and found["precision"] == 0.5 and found["recall"] == 0.5
    assert found["noise_left"] == pytest.approx(1 / 7, abs=1e-6)
    assert found["reasons"]["duplicate"] == {"rows": 2, "wrong": 1}
    assert found["noise"]["flip"] == {"rows": 2, "dropped_share": 0.5}
    assert found["noise"]["none"]["rows"] == 9


def test_without_a_truth_there_is_nothing_to_say() -> None:
    draft = Draft(ROWS, catalogue().labels_N[ROWS], 3)
    assert selection_against_truth(draft.selection(), catalogue()) == {}
    assert ranking_against_truth(ranking([model({})]), catalogue()) == {}
