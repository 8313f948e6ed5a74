"""The diagnosis against scikit-learn and plain loops, and the quality of mining against a known truth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.ranking import Ranking
from smelt.mining.diagnosis import (
    COMPARABLE,
    TOO_FEW,
    abstract_classes,
    auroc,
    by_validation,
    comparable,
    confusions,
    diagnose,
    intervals_against_truth,
    precision_at_k,
    ranking_against_truth,
    selection_against_truth,
)
from smelt.mining.draft import Draft
from smelt.mining.estimate import NOT_ENOUGH, Estimate
from smelt.mining.intervals import auroc_interval, wilson
from smelt.mining.rankings import rank, score_of
from smelt.mining.recorder import Recorder

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
    return Dynamics(recorder.arrays())


def ranking(models: list[Dynamics]) -> Ranking:
    return rank(models, catalogue().labels_N[ROWS], ROWS)


def test_the_tables_of_the_diagnosis() -> None:
    # of class 0 (rows 1, 4, 7, 10) three look like bees; of class 1 row 2 looks like a cat
    models = [model({1: 1, 4: 1, 7: 1, 2: 2}), model({1: 1, 4: 1, 7: 1})]
    found = diagnose(ranking(models), models, catalogue())
    assert found["negative"] == pytest.approx(3 / 11, abs=1e-6)
    shares = [(row["source"], row["images"], row["negative"], row["median_aum"]) for row in found["sources"]]
    assert shares == [("google", 6, round(2 / 6, 6), 1.0), ("flickr", 5, 0.2, 2.0)]
    assert [(row["class"], row["images"], row["negative"]) for row in found["classes"]] == [
        ("ant", 4, 0.75),
        ("bee", 4, 0.0),
        ("cat", 3, 0.0),
    ]
    for row in found["sources"] + found["classes"]:
        assert (row["low"], row["high"]) == pytest.approx(wilson(row["negative"], row["images"]), abs=1e-6)
    assert found["pairs"][0] == {"label": "ant", "looks_like": "bee", "images": 3}


def test_margins_alone_are_called_no_noise() -> None:
    models = [model({1: 1, 4: 1, 7: 1})]
    found = diagnose(ranking(models), models, catalogue())
    assert found["estimated_noise"] is None and found["noise"] == {}
    assert found["abstract"] == [] and found["abstract_why"] == TOO_FEW
    told = diagnose(ranking(models), models, catalogue(), Estimate(11, 60, 0.25, 0.125, 0.375))
    assert told["estimated_noise"] == 0.25
    assert (told["noise"]["low"], told["noise"]["high"], told["noise"]["images"]) == (0.125, 0.375, 11)
    untold = diagnose(ranking(models), models, catalogue(), Estimate(11, 60, None, 0.0, 0.9, why=NOT_ENOUGH))
    assert untold["estimated_noise"] is None and "rate" not in untold["noise"]
    assert untold["noise"]["words"].startswith(NOT_ENOUGH)


def test_a_class_of_one_image_does_not_come_before_one_of_many() -> None:
    labels = np.array([0] + [1] * 40 + [2] * 10, np.int32)
    made = of_margins(labels, [-1.0] + [-1.0] * 38 + [1.0] * 12)
    held = SimpleNamespace(
        labels_N=labels, source_codes_N=np.zeros(51, np.uint8), classes=("a", "b", "c"), sources=("web",)
    )
    found = diagnose(rank(made, labels), [made], held)  # type: ignore[arg-type]
    assert [row["class"] for row in found["classes"]] == ["b", "a", "c"]


# Classes that stand out


def of_margins(labels: NDArray[np.int32], margins: Any, classes: int = 0) -> Dynamics:
    """One visit of each row, with these margins; the highest other class is the next one."""
    classes = classes or int(labels.max()) + 1
    logits = torch.full((len(labels), classes), -50.0)
    wanted = torch.from_numpy(labels.astype(np.int64))
    rows = torch.arange(len(labels))
    logits[rows, (wanted + 1) % classes] = 0.0
    logits[rows, wanted] = torch.tensor(np.asarray(margins), dtype=torch.float32)
    recorder = Recorder(len(labels))
    recorder.update(rows, logits, wanted)
    return Dynamics(recorder.arrays())


def learnt(seed: int, negative_C: Any, sizes_C: Any) -> tuple[Dynamics, NDArray[np.int32]]:
    """Dynamics in which each row of a class has a negative AUM with the class's probability."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes_C)), sizes_C).astype(np.int32)
    size = np.abs(generator.normal(size=len(labels))) + 0.01
    return of_margins(
        labels, np.where(generator.random(len(labels)) < np.repeat(negative_C, sizes_C), -size, size)
    ), labels


def stands_out(seed: int, negative_C: Any, sizes_C: Any, models: int = 2) -> tuple[list[int], str]:
    made = [learnt(seed + 1000 * m, negative_C, sizes_C) for m in range(models)]
    labels = made[0][1]
    found, why = abstract_classes([m for m, _ in made], np.arange(len(labels)), labels, len(sizes_C))
    return [row["number"] for row in found], why


def test_a_weak_learner_is_not_the_classes_fault() -> None:
    """21 of 25 classes with a negative median, as after a short training on clean labels."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(70, 430, 25)
    for seed in range(20):
        negative = generator.permutation(
            np.r_[generator.uniform(0.6, 0.95, 21), generator.uniform(0.3, 0.45, 4)]
        )
        found, why = stands_out(seed, negative, sizes)
        assert found == [] and why.startswith(NOT_ENOUGH) and "of 25 classes" in why


def test_a_class_that_shows_nothing_stands_out_among_learnt_ones() -> None:
    generator = np.random.default_rng(1)
    sizes = generator.integers(70, 430, 25)
    missed, wrong = 0, 0
    for seed in range(20):
        negative = generator.uniform(0.1, 0.35, 25)
        negative[7] = 0.9
        found, why = stands_out(seed, negative, sizes)
        missed += 7 not in found
        wrong += len(set(found) - {7})
        assert why == ""
    assert missed == 0 and wrong == 0


def test_no_class_is_claimed_where_all_are_alike() -> None:
    for share in (0.05, 0.3, 0.49, 0.7):
        for seed in range(10):
            assert stands_out(seed, np.full(30, share), np.full(30, 60))[0] == []


def test_a_small_class_needs_more_than_a_few_images() -> None:
    negative, sizes = np.full(12, 0.1), np.full(12, 100)
    negative[3], sizes[3] = 1.0, 4
    assert stands_out(0, negative, sizes)[0] == []
    sizes[3] = 60
    assert stands_out(0, negative, sizes)[0] == [3]


def test_a_class_that_one_model_learnt_does_not_stand_out() -> None:
    negative, sizes = np.full(12, 0.1), np.full(12, 100)
    negative[3] = 0.95
    (bad, labels), (good, _) = learnt(0, negative, sizes), learnt(1, np.full(12, 0.1), sizes)
    rows = np.arange(len(labels))
    found, _ = abstract_classes([bad], rows, labels, 12)
    assert [row["number"] for row in found] == [3]
    assert found[0]["images"] == 100 and found[0]["low"] > 0.8 and 0 < found[0]["comparable"] < 0.2
    assert abstract_classes([bad, good], rows, labels, 12) == ([], "")


def test_small_classes_are_compared_with_small_ones() -> None:
    """Where all small classes are hard it is their size: none of them stands out."""
    sizes = np.r_[np.full(30, 300), np.full(25, 40)]
    negative = np.r_[np.full(30, 0.1), np.full(25, 0.8)]
    assert stands_out(0, negative, sizes) == ([], "")
    negative[5] = 0.8
    assert stands_out(0, negative, sizes) == ([5], "")


@given(st.lists(st.integers(1, 9), min_size=2, max_size=45))
@settings(max_examples=60, deadline=None)
def test_comparable_classes_are_the_neighbours_in_the_order_of_sizes(sizes: list[int]) -> None:
    order = sorted(range(len(sizes)), key=lambda c: (sizes[c], c))
    count = min(COMPARABLE, len(sizes) - 1)
    found = comparable(np.array(sizes, float))
    assert found.shape == (len(sizes), count)
    for place, c in enumerate(order):
        first = min(max(place - count // 2, 0), len(sizes) - count - 1)
        assert set(found[c]) == set(order[first : first + count + 1]) - {c}


def test_validation_has_its_say_of_a_class() -> None:
    accuracy = np.array([0.9, 0.8, 0.85, 0.0, 0.7, 0.3, np.nan])
    images = np.array([50, 50, 50, 50, 50, 4, 0])
    found = by_validation([3, 4, 5, 6], accuracy, images)
    assert [row["learnt"] for row in found] == ["no", "yes", "cannot be told", "cannot be told"]
    assert found[0]["usual"] == pytest.approx(0.75) and found[0]["images"] == 50
    assert found[0]["top1_interval"] == pytest.approx(wilson(0.0, 50), abs=1e-6)
    assert by_validation([1], np.full(3, np.nan), np.zeros(3, np.int64)) == []


def test_a_margin_of_exactly_zero_speaks_for_neither_side() -> None:
    labels = np.repeat(np.arange(6), 20).astype(np.int32)
    made = of_margins(labels, np.where(labels == 5, 0.0, 1.0))
    assert score_of(made, "aum")[labels == 5].tolist() == [0.0] * 20
    rows = np.arange(len(labels))
    assert abstract_classes([made], rows, labels, 6) == ([], "") and confusions([made], rows, labels, 6) == []
    doubted = of_margins(labels, np.where(labels == 5, -1e-6, 1.0))
    assert [row["number"] for row in abstract_classes([doubted], rows, labels, 6)[0]] == [5]
    assert confusions([doubted], rows, labels, 6) == [(5, 0, 20)]


# What images are taken for


def test_the_extra_class_of_threshold_samples_is_none_of_the_datas() -> None:
    labels = np.array([0, 0, 2, 2], np.int32)
    made = of_margins(
        labels, [-1.0, -1.0, -1.0, -1.0], classes=4
    )  # row 0, 1 → class 1; row 2, 3 → extra class 3
    assert confusions([made], np.arange(4), labels, 3) == [(0, 1, 2)]
    only = [of_margins(np.array([2, 2], np.int32), [-1.0, -2.0], classes=4)]
    assert confusions(only, np.arange(2), np.array([2, 2], np.int32), 3) == []


def test_classes_without_a_seen_row_are_left_out() -> None:
    nothing_of_cats = model({})
    unseen = np.array(nothing_of_cats["seen"])
    unseen[[3, 6, 9]] = 0
    models = [Dynamics({**nothing_of_cats.columns, "seen": unseen})]
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

    intervals = intervals_against_truth(ranking(models), known)
    scores = np.array([aum[row] for row in seen])
    assert intervals["aum"]["auroc"] == pytest.approx(auroc_interval(scores, wrong), abs=1e-6)
    assert intervals["aum"]["precision_at_k"] == pytest.approx(wilson(2 / 3, 3), abs=1e-6)
    assert (intervals["aum"]["images"], intervals["aum"]["wrong"]) == (10, 3)

    draft = Draft(ROWS, known.labels_N[ROWS], 3)
    draft.drop(draft.mask_of(np.array([3, 5])), "duplicate")
    draft.drop(draft.mask_of(np.array([1, 7, 11])), "low_aum")
    found = selection_against_truth(draft.selection(), known)
    assert found["rows"] == 11 and found["wrong"] == 3
    assert found["dropped"] == 2 and found["precision"] == 0.5 and found["recall"] == 0.5
    assert found["noise_left"] == pytest.approx(1 / 7, abs=1e-6)
    for name, images in (("precision", 2), ("recall", 2), ("noise_left", 7)):
        expected_ends = wilson(found[name], images)
        assert found[f"{name}_interval"] == pytest.approx(expected_ends, abs=1e-5)
    assert found["reasons"]["duplicate"] == {"rows": 2, "wrong": 1}
    assert found["noise"]["flip"] == {"rows": 2, "dropped_share": 0.5}
    assert found["noise"]["none"]["rows"] == 9


def test_without_a_truth_there_is_nothing_to_say() -> None:
    draft = Draft(ROWS, catalogue().labels_N[ROWS], 3)
    assert selection_against_truth(draft.selection(), catalogue()) == {}
    assert ranking_against_truth(ranking([model({})]), catalogue()) == {}
    assert intervals_against_truth(ranking([model({})]), catalogue()) == {}
