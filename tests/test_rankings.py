"""Rankings: by row id and not by position, against plain references, from one and several models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import rankdata

from smelt.artifacts.dynamics import Dynamics
from smelt.errors import DataError
from smelt.mining.config import ORDER
from smelt.mining.diagnosis import auroc, precision_at_k
from smelt.mining.estimate import negative_share, unexplained
from smelt.mining.rankings import goes_by, rank, score_of
from smelt.mining.recorder import Recorder
from smelt.mining.scales import grouped_ranks, mean_of, standardised

BY_TRAINING = tuple(name for name in ORDER if not {"features", "texts", "words"} & set(goes_by(name)))
scores_and_groups = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0, np.nan]), min_size=n, max_size=n),
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
    )
)


def dynamics(seed: int, rows: int = 12, classes: int = 4, visits: int = 5) -> Dynamics:
    """Dynamics of all rows but row 0, labels row % classes."""
    generator = torch.Generator().manual_seed(seed)
    recorder = Recorder(rows)
    for _ in range(visits):
        chosen = torch.arange(1, rows)
        recorder.update(chosen, torch.randn(rows - 1, classes, generator=generator), chosen % classes)
    return Dynamics(recorder.arrays())


@given(scores_and_groups)
@settings(max_examples=100, deadline=None)
def test_ranks_and_standard_scores_equal_a_loop_over_groups(both: tuple[list[float], list[int]]) -> None:
    scores, groups = np.array(both[0]), np.array(both[1], np.int32)
    ranks, standard = np.full(len(scores), np.nan), np.full(len(scores), np.nan)
    for group in set(both[1]):
        here = (groups == group) & ~np.isnan(scores)
        if here.sum() == 1:
            ranks[here] = 0.5
        elif here.any():
            ranks[here] = (rankdata(scores[here]) - 1) / (here.sum() - 1)
        if here.any():
            spread = scores[here].std()
            standard[here] = (scores[here] - scores[here].mean()) / (spread if spread > 1e-12 else 1)
    np.testing.assert_allclose(grouped_ranks(scores, groups), ranks, atol=1e-12)
    np.testing.assert_allclose(standardised(scores, groups), standard, atol=1e-7)


@given(seed=st.integers(0, 1000), order=st.permutations(range(1, 12)))
@settings(max_examples=25, deadline=None)
def test_scores_follow_the_row_id_whatever_the_order_of_training(seed: int, order: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(12, 4, generator=generator)
    labels = torch.arange(12) % 4
    recorder = Recorder(12)
    recorder.update(torch.tensor(order), logits[order], labels[order])
    rows = np.array([1, 2, 5, 7, 11])
    ranking = rank([Dynamics(recorder.arrays())], rows % 4, rows)
    for row, score in zip(rows, ranking.scores["aum"]):
        others = [float(logits[row, c]) for c in range(4) if c != row % 4]
        assert score == pytest.approx(float(logits[row, row % 4]) - max(others), abs=1e-5)


@pytest.mark.parametrize("score", BY_TRAINING)
@pytest.mark.parametrize("combine", ["standard", "rank", "mean"])
@pytest.mark.parametrize("per_class", [False, True])
def test_every_setting_ranks_rows_that_were_seen(score: Any, combine: Any, per_class: bool) -> None:
    chosen = {"score": score, "combine": combine, "per_class": per_class}
    labels = np.arange(12) % 4
    ranking = rank([dynamics(0), dynamics(1)], labels, **chosen)
    assert np.isnan(ranking.cleanness).tolist() == [True] + [False] * 11
    assert tuple(ranking.scores) == BY_TRAINING
    twice = rank([dynamics(0), dynamics(0)], labels, **chosen)
    once = rank(dynamics(0), labels, **chosen)
    np.testing.assert_allclose(twice.cleanness, once.cleanness)


def test_one_model_orders_rows_as_its_raw_score_does() -> None:
    labels = np.zeros(12, np.int32)
    for combine in ("standard", "rank", "mean"):
        ranking = rank([dynamics(3)], labels, score="aum", combine=combine)
        np.testing.assert_array_equal(np.argsort(ranking.cleanness), np.argsort(ranking.scores["aum"]))


def test_a_loud_model_weighs_no_more_than_a_quiet_one() -> None:
    quiet, loud = np.array([1.0, 2.0, 3.0]), np.array([3e3, 2e3, 1e3])
    groups = np.zeros(3, np.int32)
    np.testing.assert_allclose(
        mean_of([standardised(quiet, groups), standardised(loud, groups)]), 0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("value", "count"), [(0.1, 3), (0.9, 10), (1 / 3, 7), (0.7, 6), (-2.3, 11), (0.0, 4)]
)
def test_equal_scores_stand_at_zero_whatever_rounds(value: float, count: int) -> None:
    others = np.array([1.0, 2.0, 4.0])
    scores = np.r_[np.full(count, value), np.nan, others]
    groups = np.r_[np.zeros(count + 1), np.ones(3)].astype(np.int32)
    found = standardised(scores, groups)
    assert found[:count].tolist() == [0.0] * count and np.isnan(found[count])
    np.testing.assert_allclose(found[count + 1 :], (others - others.mean()) / others.std())


def test_what_float32_cannot_tell_apart_is_equal() -> None:
    """Saturated probabilities: sums of ones that were added in another order."""
    one = np.float64(np.float32(1))
    scores = np.array([one, one - 2.0**-25, one, one + 2.0**-25])
    assert standardised(scores, np.zeros(4, np.int32)).tolist() == [0.0] * 4
    told_apart = standardised(np.array([1.0, 1.0 + 1e-5]), np.zeros(2, np.int32))
    np.testing.assert_allclose(told_apart, [-1, 1], rtol=1e-6)


def test_a_class_of_equal_scores_moves_no_row() -> None:
    recorder = Recorder(6)
    logits = torch.tensor([[0.1, 0.0]] * 3 + [[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    recorder.update(torch.arange(6), logits, torch.tensor([0, 0, 0, 1, 1, 1]))
    labels = np.array([0, 0, 0, 1, 1, 1], np.int32)
    ranking = rank([Dynamics(recorder.arrays())], labels, score="aum", per_class=True)
    assert ranking.cleanness[:3].tolist() == [0.0, 0.0, 0.0]


def test_a_row_counts_only_where_it_was_seen() -> None:
    np.testing.assert_array_equal(
        mean_of([np.array([1.0, np.nan, np.nan]), np.array([3.0, 5.0, np.nan])]), [2.0, 5.0, np.nan]
    )
    some = dynamics(0).without(np.array([3, 4]))
    assert np.isnan(score_of(some, "aum")).nonzero()[0].tolist() == [0, 3, 4]
    assert some.other()[[3, 4]].tolist() == [-1, -1]
    assert np.isnan(score_of(some, "forgetting")).nonzero()[0].tolist() == [0, 3, 4]


def test_rows_never_learnt_are_the_most_forgotten() -> None:
    recorder = Recorder(3)
    right, wrong = [3.0, 0.0], [0.0, 3.0]
    for step in ([right, right, wrong], [wrong, right, wrong], [right, right, wrong]):
        recorder.update(torch.arange(3), torch.tensor(step), torch.zeros(3).long())
    assert score_of(Dynamics(recorder.arrays()), "forgetting").tolist() == [-1, 0, -2]


def test_dynamics_of_another_data_set_are_refused() -> None:
    nothing = Dynamics(Recorder(5).arrays())
    with pytest.raises(DataError, match="another data set"):
        rank([nothing], np.zeros(5, np.int32))


@pytest.mark.parametrize(
    ("labels", "rows", "told"),
    [
        (np.zeros(11, int), None, r"labels \(11,\) and rows \(12,\)"),
        (np.zeros((12, 1), int), None, r"labels must have the shape \(N,\), not \(12, 1\)"),
        (np.zeros(12), None, "labels must be whole numbers, not float64"),
        ([0, 1], [4, 3], r"rows must ascend within 0\.\.11"),
        ([0, 1], [3, 12], r"rows must ascend within 0\.\.11"),
    ],
)
def test_wrong_arguments_are_told_by_their_shapes(labels: Any, rows: Any, told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=told):
        rank(dynamics(0), labels, rows)
    with pytest.raises(TypeError, match="goes by Dynamics"):
        rank([], labels, rows)
    with pytest.raises(ValueError, match="of 3 and 12 rows"):
        rank([dynamics(0), dynamics(0, rows=3)], labels, rows)
    with pytest.raises(ValueError, match="score"):
        rank(dynamics(0), np.zeros(12, int), score="smoothness")


# How much is wrong


@given(rate=st.floats(0, 1), error=st.floats(0, 0.95))
def test_the_noise_rate_undoes_the_models_own_errors(rate: float, error: float) -> None:
    share = rate + (1 - rate) * error
    aum = np.where(np.arange(10_000) < share * 10_000, -1.0, 1.0)
    assert unexplained(aum, error) == pytest.approx(rate, abs=1e-3 / (1 - error))


def test_the_noise_rate_leaves_out_rows_without_a_score() -> None:
    assert negative_share(np.array([-1.0, 1.0, np.nan, 1.0, 1.0])) == 0.25
    assert np.isnan(unexplained(np.array([np.nan])))
    assert unexplained(np.array([1.0, 1.0, -1.0]), error=0.5) == 0.0
    assert unexplained(np.array([-1.0]), error=1.0) == 0.0


# Real noise: out-of-fold scores of five public models on CIFAR-10N


@pytest.fixture(scope="module")
def cifar10n(shared_data: Path) -> dict[str, tuple[list[Dynamics], NDArray[np.int32], NDArray[np.bool_]]]:
    archive = np.load(shared_data / "cifar10n.npz")
    found = {}
    for kind in ("worst", "aggre"):
        labels = archive[f"noisy_{kind}"].astype(np.int32)
        wrong = labels != archive["train_labels_clean"]
        scores = np.load(shared_data / "logits" / f"cifar10n_{kind}_oof_probs_f16.npy").astype(np.float32)
        models = []
        for scores_NC in scores[:4]:
            recorder = Recorder(len(labels))
            logits = torch.from_numpy(scores_NC).clamp(min=1e-7).log()
            recorder.update(torch.arange(len(labels)), logits, torch.from_numpy(labels).long())
            models.append(Dynamics(recorder.arrays()))
        found[kind] = (models, labels, wrong)
    return found


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "models", "auroc_above", "precision_above"),
    [
        ("worst", [1], 0.96, 0.87),  # ResNet-18
        ("worst", [2], 0.97, 0.90),  # ResNet-50d
        ("worst", [3], 0.985, 0.94),  # Swin-B
        ("worst", [0, 1, 2], 0.98, 0.91),  # three CNNs averaged
        ("aggre", [1], 0.97, 0.77),
        ("aggre", [0, 1, 2], 0.98, 0.82),
        ("aggre", [3], 0.99, 0.91),
    ],
)
def test_margins_find_real_wrong_labels(
    cifar10n: Any, kind: str, models: list[int], auroc_above: float, precision_above: float
) -> None:
    dynamics_M, labels, wrong = cifar10n[kind]
    ranking = rank([dynamics_M[m] for m in models], labels)
    assert auroc(ranking.cleanness, wrong) > auroc_above
    assert precision_at_k(ranking.cleanness, wrong) > precision_above
    # an upper estimate, and not far off with models as good as these
    assert wrong.mean() - 0.02 < unexplained(ranking.scores["aum"]) < wrong.mean() + 0.06


@pytest.mark.shared
@pytest.mark.slow
def test_an_average_of_equals_beats_each_of_them(cifar10n: Any) -> None:
    for kind in ("worst", "aggre"):
        models, labels, wrong = cifar10n[kind]
        single = [auroc(rank(m, labels).cleanness, wrong) for m in models[:3]]
        assert auroc(rank(models[:3], labels).cleanness, wrong) > max(single)
