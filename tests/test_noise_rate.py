"""The estimate of the noise and the kinds of rows, against made-up data whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

import smelt
from smelt.artifacts.ranking import Ranking
from smelt.artifacts.row_kinds import (
    AMBIGUOUS,
    COPY,
    KINDS,
    OUTSIDE,
    RIGHT,
    UNREADABLE,
    WRONG_CLASS,
    read_kinds,
    write_kinds,
)  # fmt: skip
from smelt.mining.estimate import TOO_WEAK, estimated, negative_share, noise_rate, unexplained
from smelt.mining.labelled_features import Labelled
from smelt.mining.noise_kinds import chance_outside, chance_wrong, decreasing, falling, kinds
from smelt.mining.posterior import Posterior

Floats = NDArray[np.float64]


def crawled(
    rate: float, *, rows: int = 4000, classes: int = 8, dim: int = 24, apart: float = 6.0, seed: int = 0,
    outside: float = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """(features, labels as given, true labels, −1 outside) of Gaussian classes so far apart."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, rows)
    centres = generator.normal(size=(classes, dim))
    centres *= apart / np.linalg.norm(centres, axis=1, keepdims=True)
    features = centres[truth] + generator.normal(size=(rows, dim))
    strange = generator.random(rows) < outside
    features[strange] = 2.0 * generator.normal(size=(int(strange.sum()), dim))
    flipped = ~strange & (generator.random(rows) < rate)
    labels = np.where(flipped, (truth + generator.integers(1, classes, rows)) % classes, truth)
    return features.astype(np.float32), labels, np.where(strange, -1, truth)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("apart", [4.0, 7.0])
def test_the_rate_is_that_of_the_flips(rate: float, apart: float) -> None:
    features, labels, truth = crawled(rate, apart=apart)
    found = noise_rate(features, labels)
    actual = float((labels != truth).mean())
    assert found.rate is not None and found.low is not None and found.high is not None
    assert found.low - 0.02 <= actual <= found.high + 0.02
    assert found.rate == pytest.approx(actual, abs=0.05)
    assert "uncalibrated" in found.words


def test_what_a_fit_would_call_otherwise_is_not_all_taken_for_noise() -> None:
    """Classes that overlap: a fifth is called otherwise, and every label is right."""
    features, labels, _ = crawled(0.0, apart=3.0)
    found = noise_rate(features, labels)
    assert found.disagree is not None and found.disagree > 0.1
    assert found.rate is not None and found.rate < 0.6 * found.disagree


def test_checked_validation_narrows_the_interval() -> None:
    features, labels, truth = crawled(0.1, apart=3.5)
    wide = noise_rate(features[1000:], labels[1000:])
    narrow = noise_rate(features[1000:], labels[1000:], validation=(features[:1000], truth[:1000]))
    assert narrow.validation_images == 1000 and "1000 validation images" in narrow.words
    assert narrow.low is not None and wide.low is not None and narrow.high is not None
    assert wide.high is not None and narrow.rate is not None
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert narrow.low - 0.03 <= 0.1 <= narrow.high + 0.03


def test_nothing_is_claimed_where_features_tell_nothing() -> None:
    generator = np.random.default_rng(0)
    found = noise_rate(generator.normal(size=(2000, 10)), generator.integers(0, 8, 2000))
    assert found.rate is None or (found.low is not None and found.low > 0.5)
    few = noise_rate(generator.normal(size=(12, 10)), np.arange(12) % 4)
    assert few.rate is None and few.why == TOO_WEAK and "anything from" in few.words


def test_the_public_estimate_refuses_what_it_cannot_judge() -> None:
    with pytest.raises(ValueError, match="two classes"):
        smelt.noise_rate(np.zeros((5, 2)), np.zeros(5, int))
    with pytest.raises(ValueError, match="features of 3 numbers"):
        smelt.noise_rate(np.eye(4), np.arange(4), validation=(np.zeros((2, 3)), np.array([0, 1])))


def test_negative_margins_are_counted_and_corrected() -> None:
    assert negative_share(np.array([-1.0, 1.0, np.nan, 1.0, 1.0])) == 0.25
    assert unexplained(np.array([1.0, 1.0, -1.0]), error=0.5) == 0.0


# Kinds


def judged(rate: float, outside: float, **settings: Any) -> tuple[Any, Any, Any]:
    """(kinds, labels, truth) of made-up data."""
    features, labels, truth = crawled(rate, outside=outside, **settings)
    data = Labelled(features, labels)
    posterior = Posterior([data])
    cleanness = smelt.rank([], labels, features=features).cleanness
    ranking = Ranking(np.arange(len(labels)), {}, cleanness)
    estimate = estimated(posterior)
    assert estimate.rate is not None
    return kinds(posterior, ranking, estimate.rate)[0], labels, truth


def test_wrong_classes_are_named_and_strangers_told_apart() -> None:
    found, labels, truth = judged(0.15, 0.1)
    wrong, strange = (truth >= 0) & (truth != labels), truth == -1
    taken = found.kind == WRONG_CLASS
    assert (taken & wrong).sum() > 0.85 * taken.sum() and (taken & wrong).sum() > 0.7 * wrong.sum()
    assert (found.likely[taken & wrong] == truth[taken & wrong]).mean() > 0.95
    out = found.kind == OUTSIDE
    assert (out & strange).sum() > 0.8 * out.sum() and out.sum() > 0.2 * strange.sum()
    assert found.p_outside[strange & (found.p_wrong > 0.5)].mean() > 0.6
    assert found.p_outside[wrong].mean() < 0.3


def test_probabilities_of_wrong_labels_are_near_their_frequencies() -> None:
    found, labels, truth = judged(0.2, 0.0, apart=4.5)
    wrong = truth != labels
    assert wrong[found.p_wrong < 0.05].mean() < 0.08 and wrong[found.p_wrong > 0.9].mean() > 0.9
    order = np.argsort(found.p_wrong)  # between, more often wrong the more probable it is
    often = [wrong[part].mean() for part in np.array_split(order, 8)]
    assert (np.diff(often) > -0.02).all() and often[-1] > 0.9
    assert found.p_wrong.mean() == pytest.approx(wrong.mean(), abs=0.03)


def test_clean_data_are_called_right() -> None:
    found, _, _ = judged(0.0, 0.0)
    assert (found.kind == RIGHT).mean() > 0.99 and (found.kind == OUTSIDE).sum() == 0


def test_an_image_between_two_classes_is_ambiguous() -> None:
    generator = np.random.default_rng(1)
    labels = np.r_[np.zeros(300, int), np.ones(300, int), np.arange(20) % 2]
    place = np.r_[-3 * np.ones(300), 3 * np.ones(300), np.zeros(20)]
    features = np.stack([place, *generator.normal(size=(3, 620))], axis=1) + 0.3 * generator.normal(
        size=(620, 4)
    )
    posterior = Posterior([Labelled(features, labels)])
    ranking = Ranking(np.arange(620), {}, smelt.rank([], labels, features=features).cleanness)
    found, _ = kinds(posterior, ranking, 0.0)
    assert (found.kind[600:] == AMBIGUOUS).mean() > 0.6 and (found.kind[:600] == AMBIGUOUS).mean() < 0.02


def test_what_is_known_of_files_stands_whatever_a_model_says(tmp_path: Any) -> None:
    features, labels, _ = crawled(0.1, rows=200, classes=3)
    posterior = Posterior([Labelled(features, labels)])
    ranking = Ranking(np.arange(200), {}, smelt.rank([], labels, features=features).cleanness)
    copy, broken = np.arange(200) < 5, np.arange(200) == 7
    found, _ = kinds(posterior, ranking, 0.1, {COPY: copy, UNREADABLE: broken})
    assert (found.kind[:5] == COPY).all() and found.kind[7] == UNREADABLE and found.p_kind[7] == 1
    assert found.counts()["copy"] == 5 and sum(found.counts().values()) == 200
    write_kinds(tmp_path, found)
    again = read_kinds(tmp_path)
    assert again is not None
    for name, values in vars(found).items():
        np.testing.assert_array_equal(getattr(again, name), values, err_msg=name)
    assert found.to_arrow()["kind"].to_pylist()[7] == "unreadable" and len(KINDS) == 6
    assert read_kinds(tmp_path / "elsewhere") is None


def test_a_falling_function_is_that_of_isotonic_regression() -> None:
    generator = np.random.default_rng(0)
    order = generator.normal(size=500)
    values = 1 / (1 + np.exp(3 * order)) + 0.2 * generator.normal(size=500)
    expected = IsotonicRegression(increasing=False).fit(order, values).predict(order)
    np.testing.assert_allclose(falling(values, order, 0.5), expected, atol=1e-9)
    order[3] = np.nan
    assert falling(values, order, 0.25)[3] == 0.25


def test_the_mean_of_the_chances_is_the_rate() -> None:
    generator = np.random.default_rng(0)
    given = generator.random(1000)
    for rate in (0.0, 0.1, 0.6):
        found = chance_wrong(given, np.full(1000, 0.1), given, rate)
        assert found.mean() == pytest.approx(rate, abs=0.01)
        assert (np.diff(found[np.argsort(given)]) <= 1e-12).all()


def test_a_decreasing_density_has_the_mass_of_its_parts() -> None:
    alpha = np.random.default_rng(0).beta(0.5, 1, 5000)
    found = decreasing(alpha, np.full(5000, 1 / 5000))
    order = np.argsort(alpha)
    assert (np.diff(found[order]) <= 0).all()
    assert found[alpha < 0.05].mean() > 3 * found[alpha > 0.5].mean()
    assert (chance_outside(np.ones(50), np.full(50, 0.1)) <= 0.05).all()
