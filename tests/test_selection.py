"""Selections: each rule against a plain loop, and what must hold whatever the scores are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from smelt.artifacts.selection import Selection
from smelt.errors import DataError
from smelt.mining.choosing import down_weight, select
from smelt.mining.config import DownWeightSettings, SelectSettings
from smelt.mining.draft import Draft, Known, follow, spare
from smelt.mining.evidence import Evidence, cleanest_of_groups
from smelt.mining.selections import threshold_samples
from smelt.mining.selections.lowest_fraction import lowest
from smelt.mining.selections.threshold_runs import threshold_rows
from smelt.mining.selections.threshold_samples import below_threshold, told_apart
from smelt.mining.selections.worst_classes import lowest_classes

Floats = NDArray[np.float64]

cases = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([-1.5, -0.5, 0.0, 1.0, 2.0, np.nan]), min_size=n, max_size=n),
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n),
    )
)


def draft(labels: list[int], num_classes: int = 3) -> Draft:
    return Draft(np.arange(len(labels)) * 2, np.array(labels, np.int32), num_classes)


@given(cases, st.floats(0, 0.99), st.booleans())
@settings(max_examples=150, deadline=None)
def test_lowest_equals_sorting_each_group(
    case: tuple[list[float], list[int], list[bool]], fraction: float, grouped: bool
) -> None:
    scores, groups, among = np.array(case[0]), np.array(case[1], np.int32), np.array(case[2])
    expected = np.zeros(len(scores), bool)
    for group in set(case[1]) if grouped else {None}:
        places = [
            i
            for i in range(len(scores))
            if among[i] and scores[i] == scores[i] and group in (None, groups[i])
        ]
        places.sort(key=lambda i: (scores[i], i))
        expected[places[: int(fraction * len(places) + 1e-9)]] = True
    np.testing.assert_array_equal(lowest(scores, among, fraction, groups if grouped else None), expected)


def test_a_fifth_of_thirty_five_is_seven() -> None:
    assert lowest(np.arange(35.0), np.ones(35, bool), 0.2).sum() == 7


@given(cases, st.integers(0, 12))
@settings(max_examples=150, deadline=None)
def test_spare_leaves_every_class_what_it_can(
    case: tuple[list[float], list[int], list[bool]], minimum: int
) -> None:
    scores, labels, kept = np.nan_to_num(np.array(case[0])), np.array(case[1], np.int32), np.array(case[2])
    flagged = lowest(scores, kept, 0.7)
    spared = spare(flagged, kept, scores, labels, minimum)
    assert not (spared & ~flagged).any()
    for label in set(case[1]):
        here = labels == label
        left = (kept & ~spared & here).sum()
        assert left == max((kept & ~flagged & here).sum(), min(minimum, (kept & here).sum()))
        back, gone = scores[here & flagged & ~spared], scores[here & spared]
        assert not len(back) or not len(gone) or back.min() >= gone.max()


def test_the_first_reason_stays_and_dropped_rows_weigh_nothing() -> None:
    made = draft([0, 1, 2, 0])
    made.drop(np.array([True, True, False, False]), "bad:truncated")
    made.drop(np.array([True, False, True, False]), "leak")
    made.weigh(np.array([True, False, False, True]), 0.25, "low_aum")
    chosen = made.selection()
    assert [chosen.words[code] for code in chosen.reasons] == [
        "bad:truncated",
        "bad:truncated",
        "leak",
        "low_aum",
    ]
    assert chosen.kept.tolist() == [False, False, False, True]
    assert chosen.weights.tolist() == [0, 0, 0, 0.25]
    assert chosen.counts() == {"bad:truncated": 2, "leak": 1, "low_aum": 1}


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["cross_label", "cross_label", "leak"], "-o rounds.N.select.cross_label=keep"),
        (["bad:html", "bad:html", "leak"], "bad_files.csv of the stage check"),
        (["lowest_fraction", "leak", "lowest_fraction"], "-o rounds.N.select.fraction=…"),
    ],
)
def test_a_selection_of_nothing_says_what_would_keep_rows(words: list[str], mend: str) -> None:
    one = draft([0] * len(words))
    for place, word in enumerate(words):
        one.drop(np.arange(len(words)) == place, word)
    with pytest.raises(DataError) as caught:
        one.selection()
    assert mend in str(caught.value)
    field = mend.partition("select.")[2].partition("=")[0]
    assert not field or field in SelectSettings.model_fields


def test_a_selection_of_nothing_is_refused_with_the_reasons() -> None:
    made = draft([0, 1])
    made.drop(np.array([True, True]), "duplicate")
    with pytest.raises(DataError, match="none of 2 rows: 2 duplicate"):
        made.selection()


def test_down_weighting_takes_the_band_of_ranks_and_nothing_marked_before() -> None:
    made = draft([0] * 10)
    cleanness = np.arange(10.0)[::-1].copy()  # row 0 the cleanest
    made.drop(lowest(cleanness, made.kept, 0.1), "low_aum")
    down_weight(made, cleanness, DownWeightSettings(start=0.6, stop=0.95, weight=0.5))
    assert made.weights.tolist() == [1] * 6 + [0.5] * 3 + [0]
    assert made.kept.tolist() == [True] * 9 + [False]
    with pytest.raises(ValueError, match="start must be below stop"):
        SelectSettings.model_validate({"down_weight": {"start": 0.9, "stop": 0.7}})


# Rounds after rounds


def earlier() -> Selection:
    first = draft([0, 1, 2, 0, 1])
    first.drop(np.array([True, False, False, False, False]), "bad:html")
    first.drop(np.array([False, True, True, False, False]), "low_aum")
    return first.selection()


def test_what_an_earlier_round_dropped_stays_dropped() -> None:
    made = draft([0, 1, 2, 0, 1])
    follow(made, earlier(), np.ones(5, bool), revive=False)
    assert made.kept.tolist() == [False, False, False, True, True]
    assert [made.words[code] for code in made.reasons] == ["bad:html", "low_aum", "low_aum", "", ""]


def test_reviving_frees_what_was_flagged_and_has_a_score_again() -> None:
    made = draft([0, 1, 2, 0, 1])
    follow(made, earlier(), np.array([True, True, False, True, True]), revive=True)
    assert made.kept.tolist() == [False, True, False, True, True]


def test_a_selection_of_other_rows_is_refused() -> None:
    with pytest.raises(DataError, match="other rows"):
        follow(draft([0, 1]), earlier(), np.ones(2, bool), revive=False)


# Threshold samples


@given(rows=st.integers(3, 200), classes=st.integers(1, 50), seed=st.integers(0, 100))
def test_threshold_sets_are_disjoint_and_of_the_papers_size(rows: int, classes: int, seed: int) -> None:
    ids = np.arange(rows) * 3 + 1
    if rows < classes + 1:
        with pytest.raises(DataError, match="more rows than classes"):
            threshold_rows(ids, classes, seed)
        return
    first, second = threshold_rows(ids, classes, seed)
    assert len(first) == len(second) == rows // (classes + 1)
    assert not set(first) & set(second) and set(first) | set(second) <= set(ids)
    shuffled = threshold_rows(ids[::-1].copy(), classes, seed)
    np.testing.assert_array_equal(first, shuffled[0])
    np.testing.assert_array_equal(second, shuffled[1])


def test_two_runs_judge_every_row_and_no_run_its_own_samples() -> None:
    nan = np.nan
    first = np.array([-1.0, 5.0, 1.0, 6.0, 0.5, nan])
    second = np.array([5.0, -1.0, 6.0, -3.0, 9.0, nan])
    samples = [np.array([1, 0, 0, 0, 0, 0], bool), np.array([0, 1, 0, 0, 0, 0], bool)]
    flagged, thresholds = below_threshold([first, second], samples, 99, "first")
    assert thresholds == [-1.0, -1.0]
    # row 0 is judged by the second run only, row 1 by the first only, row 3 by the first before the second
    assert flagged.tolist() == [False, False, False, False, False, False]
    assert (
        below_threshold([first, second], samples, 99, "any")[0].tolist() == [False] * 3 + [True] + [False] * 2
    )
    both = [np.array([-1.0, 5.0, -2.0, 6.0]), np.array([5.0, -1.0, -2.0, -3.0])]
    pair = [sample[:4] for sample in samples]
    assert below_threshold(both, pair, 99, "all")[0].tolist() == [False, False, True, False]
    assert below_threshold(both, pair, 99, "first")[0].tolist() == [False, False, True, False]


def test_the_threshold_is_the_percentile_and_on_it_counts_as_below() -> None:
    aum = np.concatenate([np.arange(101.0), [99.0, 99.5]])
    sample = np.arange(103) < 101
    flagged, thresholds = below_threshold([aum], [sample], 99, "first")
    assert thresholds == [99.0] and flagged.nonzero()[0].tolist() == [101]


def test_a_run_without_its_threshold_samples_is_refused() -> None:
    with pytest.raises(DataError, match="threshold samples"):
        below_threshold([np.array([1.0, np.nan])], [np.array([False, True])], 99, "first")


# Classes and groups


def test_worst_classes_leaves_out_those_without_images() -> None:
    accuracy = np.array([0.5, np.nan, 0.1, 0.5, 0.9])
    assert lowest_classes(accuracy, 2).tolist() == [0, 2]
    assert lowest_classes(accuracy, 99).tolist() == [0, 2, 3, 4]


def test_the_cleanest_kept_training_row_of_each_group() -> None:
    made = draft([0, 1, 2, 0, 1, 2])  # rows 0, 2, … 10
    made.drop(made.mask_of(np.array([4])), "bad:html")
    cleanness = np.array([1.0, 3.0, 9.0, np.nan, 2.0, 2.0])
    rows = np.array([0, 2, 4, 7, 6, 8, 10])
    groups = np.array([5, 5, 5, 5, 6, 7, 7])
    best = cleanest_of_groups(made, rows, groups, cleanness)
    assert rows[best].tolist() == [2, 8]  # group 6 has no score; in group 7 the earlier of equals
    assert not cleanest_of_groups(made, rows, groups, np.full(6, np.nan)).any()


# A stranger's own arrays


def test_selecting_from_plain_arrays() -> None:
    cleanness = np.array([0.5, -1.0, np.nan, 2.0, 1.0])
    chosen = select([0, 1, 0, 1, -1], cleanness, fraction=0.4)
    assert chosen.kept.tolist() == [True, False, True, True, False] and chosen.num_classes == 2
    table = chosen.to_arrow()
    assert table["reason"].to_pylist() == ["", "low_aum", "", "", "unlabelled"]
    assert table["weight"].to_pylist() == [1, 0, 1, 1, 0]
    copies = {
        "row": np.array([0, 2]), "group": np.zeros(2, int), "keep": np.array([True, False]),
        "cross_label": np.zeros(2, bool), "leak": np.zeros(2, bool),
    }  # fmt: skip
    clean = select([0, 1, 0], method="all", evidence=Evidence(bad={"html": np.array([1])}, copies=copies))
    assert clean.to_arrow()["reason"].to_pylist() == ["", "bad:html", "duplicate"]
    again = select([0, 1, 0], cleanness[:3], fraction=0.0, earlier=[clean])
    assert again.kept.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("labels", "cleanness", "settings", "told"),
    [
        ([0, 1], [1.0], {}, r"labels \(2,\) and the ranking \(1,\)"),
        ([0, 1], [[1.0], [2.0]], {}, r"cleanness must have the shape \(N,\), not \(2, 1\)"),
        ([0, 1], ["a", "b"], {}, "cleanness must be numbers"),
        ([0.5, 1], [1.0, 2.0], {}, "labels must be whole numbers"),
        ([0, 1], [1.0, 2.0], {"num_classes": 1}, "a label is 1, and num_classes 1"),
        ([0, 1], [1.0, 2.0], {"fraction": 2}, "fraction"),
        ([0, 1], [1.0, 2.0], {"method": "best"}, "lowest_fraction"),
        ([0, 1], None, {}, "goes by a ranking"),
    ],
)
def test_what_cannot_be_selected_from_is_told(labels: Any, cleanness: Any, settings: Any, told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=told):
        select(labels, cleanness, **settings)


def test_threshold_samples_that_training_hardly_tells_apart_are_warned_of() -> None:
    generator = np.random.default_rng(0)
    sample = np.arange(300) < 60
    weak, good = generator.normal(size=300), generator.normal(size=300) - 3.0 * sample
    expected = (good[sample][:, None] < good[~sample][None]).mean()
    assert told_apart(good, sample) == pytest.approx(expected)
    assert told_apart(np.zeros(300), sample) == 0.5 and told_apart(good, np.zeros(300, bool)) == 1.0
    for aum, count in ((weak, 1), (good, 0)):
        warnings: list[str] = []
        draft = Draft(np.arange(300), np.zeros(300, np.int32), 3)
        known = Known(aum_RN=[aum], samples_RN=[sample], warn=warnings.append)
        threshold_samples.select(draft, known, percentile=90.0, agreement="first")
        assert sum("means little" in one for one in warnings) == count
