"""Rows kept, weighed, dropped, taught softly or relabelled by how likely their label is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import golden_cases
import smelt
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.ranking import Ranking
from smelt.artifacts.row_kinds import RowKinds
from smelt.artifacts.selection import Selection, for_its_score, read_selection, write_selection
from smelt.artifacts.softlabels import SoftLabels
from smelt.errors import RecipeError
from smelt.files.atomic import read_json
from smelt.mining.audited import Verdicts
from smelt.mining.choosing import choose
from smelt.mining.config import SelectSettings
from smelt.mining.draft import Known, spare
from smelt.mining.evidence import Evidence
from smelt.mining.intervals import wilson
from smelt.mining.labelled_features import Labelled
from smelt.mining.noise_kinds import kinds, likeliest
from smelt.mining.posterior import Posterior
from smelt.mining.rightlabels import NOT_SAID
from smelt.mining.selections.likely_wrong import others_of

CHECKED = {"validation_images": 1000, "validation_errors": 50}


def known(p: list[float], p_outside: list[float] | None = None, **more: Any) -> Known:
    """Kinds of rows 10, 11, …; each row is likely of class 1 (.6), 0 (.3) or 2 (.1)."""
    size = len(p)
    rows = np.arange(size) + 10
    blank = np.zeros(size)
    found = RowKinds(
        rows, np.array(p), np.ones(size, np.int32), np.zeros(size, np.int8), blank,
        np.array(p_outside) if p_outside else blank,
    )  # fmt: skip
    classes = np.tile(np.array([[1, 0, 2]], np.int32), (size, 1))
    shares = np.tile(np.array([[0.6, 0.3, 0.1]], np.float32), (size, 1))
    return Known(
        **{"kinds": found, "likely": SoftLabels(rows, classes, shares),
           "ranking": Ranking(rows, {}, -np.nan_to_num(p)), **more}
    )  # fmt: skip


def chosen(of: Known, labels: list[int] | None = None, **settings: Any) -> tuple[Selection, dict[str, Any]]:
    assert of.ranking is not None
    size = len(of.ranking.rows)
    asked = SelectSettings.model_validate({"method": "likely_wrong", "minimum_share": 0.0, **settings})
    given_ = np.array(labels if labels else [0] * size, np.int32)
    return choose(of.ranking.rows, given_, 3, asked, of, Evidence())


def reasons(selection: Selection) -> list[str]:
    return [selection.words[code] for code in selection.reasons]


def test_what_is_likely_wrong_is_dropped_and_named() -> None:
    found, summary = chosen(known([0.9, 0.6, 0.5, 0.1, np.nan], [0.1, 0.9, 0.9, 0.9, 0.9]))
    assert reasons(found) == ["likely_wrong", "outside", "", "", ""]
    assert found.kept.tolist() == [False, False, True, True, True]
    assert found.weights.tolist() == [0, 0, 1, 1, 1] and found.soft is None
    assert summary["by"] == "features" and summary["flagged"] == 2 and summary["expected_wrong"] == 1.5
    assert all(for_its_score(word) for word in ("likely_wrong", "outside", "low_aum"))
    assert not for_its_score("leak") and not for_its_score("")


def test_rows_in_doubt_count_for_less() -> None:
    found, _ = chosen(known([0.0, 0.2, 0.4, 0.6, 1.0]), down_weight_from=0.3)
    np.testing.assert_allclose(found.weights, [1, 1, 0.6, 0, 0])
    assert reasons(found) == ["", "", "in_doubt", "likely_wrong", "likely_wrong"]
    every, _ = chosen(known([0.0, 0.2, 0.4, 0.6, 1.0]), down_weight_from=0.0, above=1.0)
    np.testing.assert_allclose(every.weights, [1, 0.8, 0.6, 0.4, 0.01], rtol=1e-6)
    assert every.kept.all() and reasons(every)[0] == "", "a label that is surely right is only kept"


def test_a_class_keeps_its_share() -> None:
    labels = [0] * 5 + [1] * 10
    p = [0.99, 0.98, 0.97, 0.96, 0.95] + [0.9] * 2 + [0.1] * 8
    found, _ = chosen(known(p), labels, minimum_share=0.4)
    assert found.kept.tolist() == [False, False, False, True, True] + [False] * 2 + [True] * 8
    default, _ = chosen(known(p), labels, minimum_share=None)
    assert default.kept[:5].tolist() == [False] * 4 + [True], "0.2 unless said otherwise"
    one, _ = chosen(known(p), labels, minimum_share=0.4, minimum_per_class=3)
    assert one.kept[:5].sum() == 3


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(0, 9))
def test_spared_by_a_plain_loop(seed: int, share: float, minimum: int) -> None:
    rng = np.random.default_rng(seed)
    labels, kept = rng.integers(0, 4, 40).astype(np.int32), rng.random(40) < 0.8
    flagged, clean = kept & (rng.random(40) < 0.6), rng.integers(0, 9, 40).astype(float)
    wanted = flagged.copy()
    for label in range(4):
        mine = [n for n in range(40) if labels[n] == label and kept[n]]
        least = max(minimum, int(np.ceil(share * len(mine) - 1e-9)))
        back = sorted((n for n in mine if flagged[n]), key=lambda n: (-clean[n], n))
        for n in back[: max(0, least - sum(not flagged[n] for n in mine))]:
            wanted[n] = False
    np.testing.assert_array_equal(spare(flagged, kept, clean, labels, minimum, share), wanted)


def test_without_features_the_least_clean_are_flagged() -> None:
    of = known([0.9] * 10, kinds=None, ranking=Ranking(np.arange(10) + 10, {}, np.arange(10.0)))
    found, summary = chosen(of, fraction=0.3)
    assert found.kept.tolist() == [False] * 3 + [True] * 7 and "low_aum" in found.words
    assert summary["by"] == "ranking" and "features" in summary["words"]
    nothing, _ = chosen(known([np.nan] * 10), fraction=0.3)
    assert nothing.kept.sum() == 7
    with pytest.raises(RecipeError, match="ranking"):
        choose(np.arange(3), np.zeros(3, np.int32), 1,
               SelectSettings(method="likely_wrong"), Known(), Evidence())  # fmt: skip


# New labels


def test_soft_targets_mix_the_label_with_what_features_say_instead() -> None:
    found, summary = chosen(known([1.0, 0.8, 0.2, 0.01], noise=CHECKED), teach="soft")
    assert found.kept.all() and found.weights.tolist() == [1, 1, 1, 1]
    assert summary["new_labels"]["by"] == "validation" and summary["new_labels"]["taught"] == 3
    assert found.soft is not None and found.soft.rows.tolist() == [10, 11, 12], "no doubt, no soft label"
    one, two = 0.6**2 / (0.6**2 + 0.1**2), 0.1**2 / (0.6**2 + 0.1**2)  # without the label, 0, and sharpened
    np.testing.assert_allclose(
        found.soft.targets(found.rows, found.labels, 3),
        [[1 - p, p * one, p * two] for p in (1.0, 0.8, 0.2, 0.0)], rtol=1e-5,
    )  # fmt: skip


def test_what_shows_none_of_the_classes_is_dropped_and_not_taught() -> None:
    found, _ = chosen(known([0.9, 0.9, 0.3], [0.8, 0.1, 0.8], noise=CHECKED), teach="soft")
    assert reasons(found) == ["outside", "taught_softly", ""]
    assert found.soft is not None and found.soft.rows.tolist() == [11, 12]


def test_the_likeliest_other_class_is_taught_where_it_is_sure_enough() -> None:
    p = [1.0, 0.7, 0.55, 0.1]
    found, summary = chosen(known(p, noise=CHECKED), [0, 0, 0, 0], teach="relabel")
    # .973 of the other classes' probability is on class 1: .7 · .973 is enough, .55 · .973 is not
    assert reasons(found) == ["relabelled", "relabelled", "likely_wrong", ""]
    assert found.labels.tolist() == [1, 1, 0, 0] and found.kept.tolist() == [True, True, False, True]
    assert summary["new_labels"]["taught"] == 2 and found.num_classes == 3
    own, _ = chosen(known(p, noise=CHECKED), [1, 1, 1, 1], teach="relabel")
    assert own.labels.tolist() == [0, 0, 1, 1], "never the label itself"


@pytest.mark.parametrize("teach", ["soft", "relabel"])
def test_no_new_label_is_taught_where_nothing_tells_that_it_is_right(teach: str) -> None:
    found, summary = chosen(known([0.9, 0.1]), teach=teach)
    assert reasons(found) == ["likely_wrong", ""] and found.soft is None
    assert summary["new_labels"]["low"] is None and "neither an audit" in summary["new_labels"]["words"]
    poor = {"validation_images": 100, "validation_errors": 40}
    found, summary = chosen(known([0.9, 0.1], noise=poor), teach=teach)
    assert found.kept.tolist() == [False, True] and found.soft is None and found.labels.tolist() == [0, 0]
    said = summary["new_labels"]
    assert said["right"] == pytest.approx(0.9 * 0.6) and said["taught"] == 0
    assert said["low"] == pytest.approx(0.9 * wilson(0.6, 100)[0], abs=1e-6)
    assert chosen(known([0.9, 0.1], noise=poor), teach=teach, new_label_right=0.4)[1]["new_labels"]["taught"]


def test_an_audit_decides_before_validation_does() -> None:
    size = 60
    words = ["wrong"] * 40 + ["right"] * 5 + ["outside"] * 2 + ["unsure"] * 3
    right = np.array([1] * 38 + [2] + [NOT_SAID] + [NOT_SAID] * 10)
    verdicts = Verdicts(np.arange(50), words, right)
    found, summary = chosen(known([0.9] * size + [0.0], noise=CHECKED, verdicts=verdicts), teach="soft")
    said = summary["new_labels"]
    # unsure ones, and a wrong one of which nobody said what it is, tell nothing
    assert (
        said["by"] == "audit" and said["images"] == 46 and said["right"] == pytest.approx(38 / 46, abs=1e-6)
    )
    assert said["low"] == pytest.approx(wilson(38 / 46, 46)[0], abs=1e-6) and said["taught"] == size
    verdicts = Verdicts(np.arange(50), words, np.where(right == 1, 2, right))
    found, summary = chosen(known([0.9] * size + [0.0], noise=CHECKED, verdicts=verdicts), teach="soft")
    assert summary["new_labels"]["right"] == 0 and found.soft is None
    assert reasons(found) == ["likely_wrong"] * size + [""]


def test_an_audits_probabilities_come_before_those_of_features() -> None:
    found, summary = chosen(known([0.9, 0.1, 0.1], p_wrong=np.array([0.1, 0.9, np.nan])))
    assert found.kept.tolist() == [True, False, True] and summary["by"] == "audit"


def test_rows_that_are_gone_are_not_taught(tmp_path: Path) -> None:
    of = known([0.9, 0.9, 0.1], noise=CHECKED)
    found, _ = chosen(of, [0, -1, 0], teach="soft")
    assert found.kept.tolist() == [True, False, True]
    assert found.soft is not None and found.soft.rows.tolist() == [10, 12]
    write_selection(tmp_path, found)
    again = read_selection(tmp_path)
    assert again.soft is not None
    np.testing.assert_array_equal(again.soft.shares_NK, found.soft.shares_NK)
    late = smelt.select(
        [0, 0, 0], of.ranking, method="likely_wrong", known=of, num_classes=3, minimum_share=0.0
    )
    again, _ = choose(of.ranking.rows, np.zeros(3, np.int32), 3,  # type: ignore[union-attr]
                      SelectSettings(method="likely_wrong", revive=True, above=0.95), of, Evidence(),
                      [late])  # fmt: skip
    assert late.kept.tolist() == [False, False, True] and again.kept.all(), "revived"


# From features to what is taught, by the stages


def test_features_say_what_is_wrong_and_what_is_taught_instead(tmp_path: Path) -> None:
    ports = golden_cases.to_rank_by_features(tmp_path)
    ranked = golden_cases.run("rank", {"validation_labels": "checked"}, ports, tmp_path / "rank")
    catalogue = Catalogue.open(ports["catalogue"][0] / "catalogue")
    rows = catalogue.rows("train")
    soft = {"method": "likely_wrong", "teach": "soft", "new_label_right": 0.2, "minimum_share": 0}
    inputs = {"catalogue": ports["catalogue"], "ranking": [ranked]}
    found = read_selection(golden_cases.run("select", soft, inputs, tmp_path / "select"))
    taught = np.array([found.words[code] == "taught_softly" for code in found.reasons])
    assert taught.any() and found.soft is not None
    wrong = rows % 6 == 0  # where an image lies is two classes further than its label there
    assert wrong[taught].mean() > 0.7
    targets = found.soft.targets(rows, found.labels, len(catalogue.classes))
    shown = (catalogue.labels_N[rows] + 2) % len(catalogue.classes)
    assert (targets[taught & wrong].argmax(axis=1) == shown[taught & wrong]).all()
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    summary = read_json(tmp_path / "select" / "selection.json")["new_labels"]
    assert summary["by"] == "validation" and summary["images"] == golden_cases.COUNTS["val"]


# What features say


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 6))
def test_the_likeliest_by_a_stable_sort(seed: int, classes: int, count: int) -> None:
    likely = np.random.default_rng(seed).integers(0, 4, (7, classes)) / 4  # with ties
    found, shares = likeliest(likely, min(count, classes))
    wanted = np.argsort(-likely, axis=1, kind="stable")[:, : min(count, classes)]
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(shares, np.take_along_axis(likely, wanted, axis=1).astype(np.float32))


def test_likeliest_classes_are_those_of_the_fit_to_the_other_rows() -> None:
    rng = np.random.default_rng(0)
    labels: NDArray[np.int32] = rng.integers(0, 3, 90).astype(np.int32)
    features = np.eye(4)[labels] + 0.4 * rng.normal(size=(90, 4))
    labels[:4] = -1
    posterior = Posterior([Labelled(features, labels)])
    rows = np.arange(90) + 5
    _, likely = kinds(posterior, Ranking(rows, {}, rng.normal(size=90)), 0.1)
    assert likely.rows.tolist() == rows[4:].tolist() and likely.classes_NK.shape == (86, 3)
    np.testing.assert_allclose(likely.shares_NK.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(likely.shares_NK[:, 0], posterior.of(0).max(axis=1), rtol=1e-5)


def test_others_of_rows_that_features_do_not_know() -> None:
    likely = SoftLabels(
        np.array([1, 2]), np.array([[2, 0], [1, -1]], np.int32), np.array([[0.5, 0.5], [1, 0]], np.float32)
    )
    found = others_of(np.array([0, 1, 2]), np.array([0, 2, 1], np.int32), likely)
    assert found.known.tolist() == [False, True, False], "a row that may be of its label alone has no other"
    assert found.classes[1].tolist() == [0, -1] and found.shares[1].tolist() == [1, 0]
