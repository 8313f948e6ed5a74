"""Scores by features against plain references: refits, loops over rows, scikit-learn; and the posterior."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

import smelt.mining.labelled_features as blocks
from smelt.mining import neighbours as near
from smelt.mining.labelled_features import SHRINKAGE, Labelled, margins
from smelt.mining.leave_one_out import LeaveOneOut, fitted
from smelt.mining.posterior import Posterior
from smelt.mining.rankings import rank
from smelt.mining.scores import centroid, density, knn, ridge

Floats = NDArray[np.float64]


def made(
    seed: int = 0, rows: int = 90, dim: int = 7, classes: int = 3, wrong: float = 0.2
) -> tuple[Any, Any, Any]:
    """(features, labels as given, whether each is wrong)."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, rows)
    centres = generator.normal(size=(classes, dim)) * 3
    features = (centres[truth] + generator.normal(size=(rows, dim)) * generator.uniform(0.5, 2, dim)).astype(
        np.float32
    )
    flipped = generator.random(rows) < wrong
    labels = np.where(flipped, (truth + generator.integers(1, classes, rows)) % classes, truth)
    return features, labels, flipped


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
def test_left_out_predictions_equal_refits_without_the_row(penalty: float) -> None:
    features, labels, _ = made()
    data = Labelled(features, labels)
    found = LeaveOneOut(data, penalty).scores(0)
    values = data.spectrum[0]
    for row in (0, 17, 89):
        rest = np.delete(np.arange(len(labels)), row)
        model = Ridge(alpha=penalty * values.mean() * len(labels), fit_intercept=True)
        model.fit(features[rest].astype(np.float64), np.eye(3)[labels[rest]])
        np.testing.assert_allclose(found[row], model.predict(features[row : row + 1])[0], atol=1e-4)


def test_the_penalty_is_the_one_with_the_least_error_left_out() -> None:
    features, labels, _ = made(rows=200)
    errors = {}
    for penalty in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0):
        out = LeaveOneOut(Labelled(features, labels), penalty).scores(0)
        errors[penalty] = ((out - np.eye(3)[labels]) ** 2).sum()
    assert fitted(Labelled(features, labels)).penalty == min(errors, key=lambda one: errors[one])


def whitened(features: Any) -> Floats:
    """By an eigendecomposition of the covariance, as the text says it."""
    centred = features - features.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(features))
    found = centred @ vectors / np.sqrt(values + SHRINKAGE * values.mean())
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def test_the_centroid_score_equals_a_loop_over_rows() -> None:
    features, labels, _ = made()
    space = whitened(features)
    expected = []
    for row in range(len(labels)):
        cosines = []
        for label in range(3):
            members = (labels == label) & (np.arange(len(labels)) != row)
            centre = space[members].sum(axis=0)
            cosines.append(float(space[row] @ centre / np.linalg.norm(centre)))
        own = cosines.pop(labels[row])
        expected.append(own - max(cosines))
    np.testing.assert_allclose(centroid.score(Labelled(features, labels)), expected, atol=1e-5)


def test_votes_and_density_equal_those_of_scikit_learns_neighbours() -> None:
    features, labels, _ = made(rows=150)
    space = whitened(features)
    index = NearestNeighbors(n_neighbors=51, metric="cosine", algorithm="brute").fit(space)
    distances, places = index.kneighbors(space)
    assert (places[:, 0] == np.arange(150)).all()
    share = np.bincount(labels, minlength=3) / 150
    expected = []
    for row in range(150):
        votes = np.bincount(labels[places[row, 1:]], minlength=3) + share
        others = np.delete(votes, labels[row])
        expected.append(np.log(votes[labels[row]] / others.max()))
    data = Labelled(features, labels)
    np.testing.assert_allclose(knn.score(data), expected, atol=1e-9)
    np.testing.assert_allclose(density.score(data), 1 - distances[:, 1:11].mean(axis=1), atol=1e-5)


@given(seed=st.integers(0, 50), threads=st.integers(1, 3), block=st.sampled_from([16, 64, 2048]))
@settings(max_examples=12, deadline=None)
def test_the_bits_do_not_depend_on_threads_and_nearly_not_on_blocks(
    seed: int, threads: int, block: int
) -> None:
    features, labels, _ = made(seed)
    whole = {one.__name__: one.score(Labelled(features, labels)) for one in (ridge, centroid, knn)}
    with pytest.MonkeyPatch.context() as patch:
        for module in (blocks, near, knn):
            patch.setattr(module, "BLOCK", block)
        patch.setattr(near, "REFERENCES", 32)
        alone = {one.__name__: one.score(Labelled(features, labels)) for one in (ridge, centroid, knn)}
        several = Labelled(features, labels, threads=threads)
        for one in (ridge, centroid, knn):
            assert one.score(several).tobytes() == alone[one.__name__].tobytes()
            np.testing.assert_allclose(alone[one.__name__], whole[one.__name__], atol=1e-3)


def test_rows_without_label_or_features_have_no_score_and_move_no_other() -> None:
    features, labels, _ = made()
    some, given_labels = np.arange(90) % 7 != 0, labels.copy()
    given_labels[~some] = -1
    for one in (ridge, centroid, knn, density):
        found = one.score(Labelled(features, given_labels))
        unknown = one.score(Labelled(features, labels, known_N=some))
        alone = one.score(Labelled(features[some], labels[some]))
        assert np.isnan(found).tolist() == np.isnan(unknown).tolist() == (~some).tolist()
        np.testing.assert_array_equal(found[some], alone)
        np.testing.assert_array_equal(unknown, found)


def test_rows_are_found_by_their_place_in_the_features() -> None:
    features, labels, _ = made()
    order = np.random.default_rng(5).permutation(90)
    shuffled = Labelled(features[order], labels, places_N=np.argsort(order))
    for one in (ridge, centroid):
        np.testing.assert_array_equal(one.score(shuffled), one.score(Labelled(features, labels)))


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [2, 2, 2, 2], [0, 1, 2, 3]])
def test_classes_of_one_image_or_none_are_no_trouble(labels: list[int]) -> None:
    features = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float16)
    data = Labelled(features, np.array(labels), 5)
    for one in (ridge, centroid, knn, density):
        assert one.score(data).shape == (4,)
    alone = np.bincount(labels, minlength=5)[labels] < 2
    assert np.isnan(centroid.score(data))[alone].all()


def test_equal_features_of_all_rows_give_numbers() -> None:
    data = Labelled(np.ones((20, 4), np.float32), np.arange(20) % 2)
    for one in (ridge, centroid, knn, density):
        assert np.isfinite(one.score(data)).all()


@pytest.mark.parametrize(
    ("features", "labels", "told"),
    [
        (np.zeros((3, 2)), np.zeros(4, int), r"3 rows and labels \(4,\)"),
        (np.zeros(3), np.zeros(3, int), r"floats \(N, D\)"),
        (np.zeros((3, 2), int), np.zeros(3, int), "floats"),
        (np.zeros((3, 2)), np.zeros(3), "whole numbers"),
    ],
)
def test_wrong_features_are_told_by_their_shapes(features: Any, labels: Any, told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=told):
        Labelled(features, labels)
    with pytest.raises(ValueError, match="a label is 4"):
        Labelled(np.zeros((1, 2)), np.array([4]), 3)


# The posterior


def test_temperatures_make_the_labels_likeliest() -> None:
    features, labels, _ = made(rows=400, dim=12)
    spaces = [Labelled(features[:, :5], labels), Labelled(features[:, 5:], labels)]
    found = Posterior(spaces)
    outputs = [fitted(one).scores(0).astype(np.float64) for one in spaces]

    def loss(t: Floats) -> float:
        logits = t[0] * outputs[0] + t[1] * outputs[1]
        return float(-(logits[np.arange(400), labels] - np.logaddexp.reduce(logits, axis=1)).mean())

    best = minimize(loss, [5.0, 5.0], bounds=[(0, None)] * 2, method="L-BFGS-B", tol=1e-12)
    assert loss(found.temperatures) <= best.fun + 1e-6
    assert loss(found.temperatures) <= min(loss(np.array([t, 0])) for t in np.linspace(0.1, 20, 100))
    np.testing.assert_allclose(found.of(0).sum(axis=1), 1)
    assert found.shares.sum() == pytest.approx(1)


def test_features_that_tell_nothing_count_nothing() -> None:
    features, labels, wrong = made(rows=600, dim=6)
    noise = np.random.default_rng(9).normal(size=(600, 30)).astype(np.float32)
    found = Posterior([Labelled(features, labels), Labelled(noise, labels)])
    assert found.shares[0] > 0.9
    both = rank([], labels, features={"good": features, "noise": noise}, score="centroid").cleanness
    good = rank([], labels, features=features, score="centroid").cleanness
    assert both[wrong].mean() < both[~wrong].mean() and np.corrcoef(both, good)[0, 1] > 0.85


def test_margins_take_the_lower_class_among_equals() -> None:
    scores = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    found, other = margins(scores, np.array([0, 1]))
    assert found.tolist() == [-2.0, 0.0] and other.tolist() == [1, 0]


def test_features_join_what_training_says(tmp_path: Any) -> None:
    features, labels, wrong = made(rows=300)
    ranking = rank([], labels, features=features)
    assert set(ranking.scores) == {"centroid", "ridge", "knn", "density"}
    assert ranking.cleanness[wrong].mean() < ranking.cleanness[~wrong].mean()
    with pytest.raises(Exception, match="aum lacks training"):
        rank([], labels, features=features, score="aum")


def test_beyond_so_many_rows_an_index_finds_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    features, labels, wrong = made(rows=3000, dim=10)
    exact = Labelled(features, labels)
    near.neighbours(exact)
    monkeypatch.setattr(near, "EXACT", 1000)
    found = near.neighbours(Labelled(features, labels))
    same = [
        len(set(a.tolist()) & set(b.tolist()))
        for a, b in zip(found.places_nK, exact.kept["neighbours"].places_nK)
    ]
    assert np.mean(same) > 0.9 * near.NEAREST
    assert not (found.places_nK == np.arange(3000)[:, None]).any()
    again = near.neighbours(Labelled(features, labels, threads=2))
    np.testing.assert_array_equal(found.places_nK, again.places_nK)
    score = knn.score(Labelled(features, labels))
    assert score[wrong].mean() < score[~wrong].mean()


def test_without_an_index_scores_by_neighbours_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, _ = made()
    monkeypatch.setattr(near, "EXACT", 10)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert set(rank([], labels, features=features).scores) == {"centroid", "ridge"}
    with pytest.raises(ValueError, match="smelt\\[faiss\\]"):
        near.neighbours(Labelled(features, labels))
