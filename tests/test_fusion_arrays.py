"""Fusion as a library: plain arrays in, weights and scores out; what does not fit is refused with shapes."""

from __future__ import annotations

import numpy as np
import pytest

from smelt.errors import ResultError
from smelt.fusion.apply import Fusion
from smelt.fusion.config import FuseSettings
from smelt.fusion.procedure import fuse
from smelt.fusion.scores.soften import softmax
from smelt.fusion.scores.sources import Held

SETTINGS = FuseSettings(metric="top1", methods=("mean_probability", "linear_pool"), bootstrap=200)


def problem(images: int = 300) -> tuple[list[np.ndarray], np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, images)
    return [
        2 * np.eye(4)[labels] + noise * random.normal(size=(images, 4)) for noise in (0.5, 2.0, 2.0)
    ], labels


def test_arrays_are_fused_as_sources_are() -> None:
    scores, labels = problem()
    held = [Held(f"scores[{m}]", "logits", one.astype(np.float32), 4) for m, one in enumerate(scores)]
    expected = fuse(held, labels, SETTINGS, num_classes=4)
    for results in (scores, tuple(scores), [one.tolist() for one in scores]):
        assert fuse(results, labels.tolist(), SETTINGS).record == expected.record
    assert fuse(np.stack(scores), labels, SETTINGS).chosen == expected.chosen
    named = fuse({"one": scores[0], "two": scores[1]}, labels, SETTINGS)
    assert [one["name"] for one in named.record["results"]] == ["one", "two"]
    fused = expected.chosen.scores(scores)
    assert fused.shape == (300, 4) and np.array_equal(
        expected.chosen.top(scores, 1)[:, 0], fused.argmax(axis=1)
    )


def test_probabilities_are_known_by_their_sums() -> None:
    scores, labels = problem()
    chances = [softmax(one.astype(np.float32)) for one in scores]
    found = fuse([*chances[:2], scores[2]], labels, SETTINGS).record["results"]
    assert [one["kind"] for one in found] == ["probabilities", "probabilities", "logits"]
    mean = Fusion("mean_probability", "probability", (1.0,) * 3).scores(chances)
    assert mean == pytest.approx(np.mean(chances, axis=0), abs=1e-6)


def test_what_does_not_fit_is_refused_with_shapes() -> None:
    scores, labels = problem()
    for wrong, words in (
        ([scores[0], scores[1][:9]], r"\(300, 4\).*\(9, 4\)"),
        ([scores[0][0]], r"scores\[0\] has shape \(4,\), not \(N, C\)"),
        ([], "no result to fuse"),
        ({"a": np.array([["x"]])}, "a holds <U1, not scores"),
    ):
        with pytest.raises(ValueError, match=words):
            fuse(wrong, labels, SETTINGS)
    with pytest.raises(TypeError, match=r"scores\[0\] is of type object"):
        fuse([object()], labels, SETTINGS)
    for of, words in (
        (labels[:9], r"9 labels, but scores\[0\] is of 300 images"),
        (labels.astype(float), r"not float64 \(300,\)"),
        (labels[:, None], r"not int64 \(300, 1\)"),
        (labels + 1, "below the number of classes, 4, not 4"),
    ):
        with pytest.raises(ValueError, match=words):
            fuse(scores, of, SETTINGS)
    with pytest.raises(ValueError, match=r"groups \(images,\) are 9 for 300 labels"):
        fuse(scores, labels, SETTINGS, groups_N=np.arange(9))
    scores[1][7, 2] = np.nan
    with pytest.raises(ResultError, match="line 7 is not finite"):
        fuse(scores, labels, SETTINGS)
    fusion = Fusion("linear_pool", "probability", (0.5, 0.5))
    with pytest.raises(ValueError, match="a fusion of 2 results, not of 3 of 4 classes"):
        fusion.scores([scores[0], scores[2], scores[0] + 1])
