"""Semi-supervised learning: the papers' formulas in NumPy, thresholds, the pair, the second stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from smelt.data.images.beside import Beside
from smelt.data.images.sampler import ClassBalancedSampler
from smelt.learning import semisupervised as semi
from smelt.learning.thresholds import Thresholds
from smelt.models.backbones import build, heads
from smelt.models.pair import Pair


def distributions(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], 0.4), shape[:-1]).astype(np.float32)


def as_float(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


@given(st.integers(0, 99), st.sampled_from([0.2, 0.5, 1.0, 2.0]))
def test_refining_and_guessing(seed: int, temperature: float) -> None:
    """DivideMix eq. 3 to 6, image by image."""
    said, trust = distributions(seed, 2, 5, 4), np.random.default_rng(seed).random(5).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    fine = semi.refined(as_float(labels), as_float(trust), as_float(said[0]), temperature).numpy()
    guess = semi.guessed(as_float(said), temperature).numpy()
    for i in range(5):
        mixed = [trust[i] * labels[i, c] + (1 - trust[i]) * said[0, i, c] for c in range(4)]
        mean = [(said[0, i, c] + said[1, i, c]) / 2 for c in range(4)]
        for found, shares in ((fine[i], mixed), (guess[i], mean)):
            raised = [float(share) ** (1 / temperature) for share in shares]
            assert found == pytest.approx([one / sum(raised) for one in raised], abs=2e-5)


def test_a_trusted_label_stays_and_one_without_trust_is_what_the_nets_say() -> None:
    said = as_float(distributions(1, 2, 3))
    labels = torch.eye(3)[:2]
    assert torch.allclose(semi.refined(labels, torch.ones(2), said, 0.5), labels, atol=1e-6)
    assert torch.allclose(semi.refined(labels, torch.zeros(2), said, 1.0), said)


@given(st.integers(0, 99))
def test_losses(seed: int) -> None:
    """MixMatch eq. 4 and DivideMix eq. 11 in NumPy."""
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(0, 3, (6, 5)), distributions(seed, 6, 5)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    squared = [sum((p[i, c] - targets[i, c]) ** 2 for c in range(5)) / 5 for i in range(6)]
    assert semi.squared_loss(as_float(logits), as_float(targets)).numpy() == pytest.approx(squared, rel=1e-4)
    mean = p.mean(axis=0)
    spread = sum(0.2 * np.log(0.2 / mean[c]) for c in range(5))
    assert float(semi.spread_loss(as_float(logits))) == pytest.approx(spread, rel=1e-4, abs=1e-6)
    assert float(semi.spread_loss(torch.zeros(3, 4))) == pytest.approx(0.0, abs=1e-6)


def test_ramp() -> None:
    assert [semi.ramped(done, 4) for done in (-1, 0, 1, 4, 9)] == [0, 0, 0.25, 1, 1]
    assert semi.ramped(0, 0) == 1


def test_thresholds_follow_what_is_said() -> None:
    """FreeMatch's running means, step by step; those of several ranks are those of all their lines."""
    found = Thresholds(3, 0.9, 0.0, torch.device("cpu"))
    level, means = 1 / 3, np.full(3, 1 / 3)
    for step in range(5):
        said = distributions(step, 8, 3)
        limits = level * means / means.max()
        by_hand = [line.max() >= limits[line.argmax()] for line in said]
        assert found.passed(as_float(said)).tolist() == by_hand
        found.move(Thresholds.sums(as_float(said[::2])) + Thresholds.sums(as_float(said[1::2])))
        level = 0.9 * level + 0.1 * said.max(axis=1).mean()
        means = 0.9 * means + 0.1 * said.mean(axis=0)
    assert float(found.level) == pytest.approx(level, rel=1e-6)
    assert found.means_C.numpy() == pytest.approx(means, rel=1e-6)
    again = Thresholds(3, 0.9, 0.0, torch.device("cpu"))
    again.load_state_dict(found.state_dict())
    assert torch.equal(again.means_C, found.means_C) and torch.equal(again.level, found.level)


def test_thresholds_keep_to_the_least_and_to_what_is_finite() -> None:
    found = Thresholds(2, 0.5, 0.95, torch.device("cpu"))
    assert found.passed(torch.tensor([[0.94, 0.06], [0.04, 0.96]])).tolist() == [False, True]
    found.move(torch.full((4,), torch.nan))
    found.move(torch.zeros(4))
    assert found.means_C.tolist() == [0.5, 0.5]


def test_a_pair_says_the_mean_of_its_nets() -> None:
    torch.manual_seed(0)
    nets = [build("resnet8", 5, image_size=32) for _ in range(2)]
    pair, images = Pair(nets).eval(), torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        said = torch.stack([torch.softmax(net(images), 1) for net in nets]).mean(0)
        assert torch.allclose(pair(images).exp(), said, atol=1e-6)
        features = pair.forward_head(pair.forward_features(images), pre_logits=True)
        logits = pair.forward_head(pair.forward_features(images))
    assert torch.allclose(logits, pair(images), atol=1e-6)
    assert len(heads(pair)) == 2 and all(isinstance(head, nn.Linear) for head in heads(pair))
    assert features.shape == (3, sum(head.in_features for head in heads(pair)))  # type: ignore[misc]


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9))
def test_the_second_stream(images: int, size: int, steps: int, ranks: int, seed: int) -> None:
    """Every row once before any comes again, over epochs; ranks share each step; any step is drawn alone."""
    rows = np.arange(100, 100 + images)
    sampler = ClassBalancedSampler(rows, np.zeros(images, np.int32), images_per_class=None, seed=seed)
    epochs = [[Beside(sampler, e, steps, size, r, ranks) for r in range(ranks)] for e in range(3)]
    shown = []
    for parts in epochs:
        assert {len(part) for part in parts} == {steps}
        for step in range(steps):
            whole = parts[0].whole(step)
            assert len(whole) == size == parts[0].size(step)
            for rank, part in enumerate(parts):
                assert part[step].tolist() == whole[rank::ranks].tolist()
            shown += whole.tolist()
        assert [part.num_images for part in parts] == [sum(map(len, part)) for part in parts]
    for at in range(0, len(shown) - images + 1, images):
        assert sorted(shown[at : at + images]) == rows.tolist()
    with pytest.raises(ValueError, match="no row"):
        Beside(
            ClassBalancedSampler(rows[:0], np.zeros(0, np.int32), images_per_class=None, seed=0),
            0,
            1,
            1,
            0,
            1,
        )
