"""The estimate of the noise against known rates: learners that are weak, good, or learn by heart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smelt.mining.estimate import (
    NO_RECORD,
    NO_VALIDATION,
    NOT_ENOUGH,
    WIDEST,
    Curve,
    Estimate,
    class_average_over_mean,
    effective_images,
    negative_share,
    noise_rate,
)
from smelt.mining.recorder import Recorder

CLASSES = 20


def learner(
    seed: int, rate: float, *, final: float, epochs: int = 20, images: int = 1000, heart: float = 0.0,
    augmented: float = 0.95, every: int = 1, start: float = 1 / CLASSES,
) -> Curve:  # fmt: skip
    """Accuracies by epoch of a made-up training on labels of which the share `rate` is wrong.

    Accuracy on unseen images rises to `final`; a training picture is `augmented` times as often right; by the
    end the share `heart` of all rows is known by heart. Wrong labels are else found by guessing. Validation
    is a sample of `images`, training one of 4,000 visits an epoch.
    """
    generator = np.random.default_rng(seed)
    steps = np.linspace(0, 1, epochs + 1)
    true = start + (final - start) * (1 - np.exp(-4 * steps)) / (1 - np.exp(-4))
    during = augmented * (true[:-1] + true[1:]) / 2
    known = heart * steps[1:] ** 2
    right = known + (1 - known) * during
    wrong = known + (1 - known) * (1 - during) / (CLASSES - 1)
    train = generator.binomial(4000, (1 - rate) * right + rate * wrong) / 4000
    val = generator.binomial(images, true[1:]) / images
    looked_at = (np.arange(1, epochs + 1) % every == 0) | (np.arange(1, epochs + 1) == epochs)
    return Curve(train, np.where(looked_at, val, np.nan))


def judged(curves: list[Curve], images: int = 1000) -> Estimate:
    return noise_rate(curves, 4000, np.full(CLASSES, images // CLASSES))


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.2, 0.33, 0.5])
@pytest.mark.parametrize(
    "kind",
    [
        {"final": 0.85}, {"final": 0.85, "heart": 0.4}, {"final": 0.6, "epochs": 40, "heart": 0.9},
        {"final": 0.5, "epochs": 10, "every": 2}, {"final": 0.3, "epochs": 6}, {"final": 0.12, "epochs": 4},
        {"final": 0.7, "augmented": 0.9}, {"final": 0.7, "augmented": 1.0}, {"final": 0.5, "images": 200},
    ],
    ids=str,
)  # fmt: skip
def test_the_interval_holds_the_truth_or_nothing_is_claimed(rate: float, kind: dict[str, float]) -> None:
    held, runs = 0, 60
    for seed in range(runs):
        found = judged([learner(seed, rate, **kind)], int(kind.get("images", 1000)))  # type: ignore[arg-type]
        if found.low is None or found.high is None:
            assert found.rate is None and found.why
            held += 1
            continue
        held += found.low <= rate <= found.high
        assert (found.rate is None) == (found.high - found.low > WIDEST)
        assert found.rate is None or found.low <= found.rate <= found.high
    assert held >= 0.95 * runs


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("models", [1, 2])
def test_a_weak_learner_says_that_it_cannot_tell(rate: float, models: int) -> None:
    for seed in range(30):
        curves = [learner(seed + 100 * m, rate, final=0.09, epochs=3) for m in range(models)]
        found = judged(curves)
        assert found.rate is None and found.words.startswith(NOT_ENOUGH)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.35])
def test_a_good_learner_tells_the_rate(rate: float) -> None:
    for seed in range(20):
        found = judged([learner(seed + m, rate, final=0.85, heart=0.3) for m in (0, 50)])
        assert found.rate == pytest.approx(rate, abs=0.08) and not found.why
        assert f"about {found.rate:.2f} of 4000 labels" in found.words and "estimated" in found.words


def test_learning_by_heart_widens_what_is_possible_downwards_only() -> None:
    for seed in range(20):
        found = judged([learner(seed, 0.4, final=0.6, epochs=40, heart=1.0)])
        assert found.low is not None and found.high is not None
        assert found.low <= 0.4 <= found.high


def test_more_training_images_of_validation_narrow_the_interval() -> None:
    widths = []
    for images in (200, 1000, 20_000):
        found = judged([learner(1, 0.2, final=0.8, images=images)], images)
        assert found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] > widths[1] > widths[2]


def test_without_validation_the_estimate_cannot_be_checked() -> None:
    curve = learner(0, 0.3, final=0.8)
    nothing = noise_rate([curve], 4000, np.zeros(CLASSES, np.int64))
    assert nothing.rate is None and nothing.words == NO_VALIDATION
    assert judged([]).words == NO_RECORD
    once = Curve(curve.train_E, np.r_[np.full(19, np.nan), 0.8])
    assert judged([once]).words == f"{NOT_ENOUGH}: validation was looked at once (`validate_every_epochs`)"
    never = Curve(curve.train_E, np.full(20, np.nan))
    assert judged([curve, never]).rate is None  # a training that says nothing is not passed over


def test_the_end_of_training_alone_does_not_decide() -> None:
    """In the end every label is known by heart: who looks there alone sees no noise."""
    curve = learner(3, 0.4, final=0.7, epochs=30, heart=1.0)
    assert curve.train_E[-1] > curve.val_E[-1]
    found = judged([curve])
    assert found.high is not None and found.high > 0.3


# Averages over classes


@pytest.mark.parametrize("images", [[5, 5, 5], [100, 1, 30, 0], [7]])
def test_effective_images_have_the_variance_of_a_class_average(images: list[int]) -> None:
    there = [n for n in images if n]
    # variance of the mean over classes of shares of n images, in units of p (1 − p)
    variance = sum(1 / n for n in there) / len(there) ** 2
    assert effective_images(np.array(images)) == pytest.approx(1 / variance)


def test_visits_are_averaged_as_validation_is() -> None:
    labels = np.array([0] * 90 + [1] * 10 + [2] * 10 + [-1] * 5, np.int32)
    seen = np.full(115, 2, np.int32)
    correct = np.where(labels == 0, 2, np.where(labels == 1, 1, 0)).astype(np.int32)
    plain = (180 + 10) / 220
    everywhere = np.array([4, 4, 4])
    assert class_average_over_mean(seen, correct, labels, everywhere) == pytest.approx(0.5 / plain)
    without = np.array([4, 4, 0])  # validation has nothing of the third class
    assert class_average_over_mean(seen, correct, labels, without) == pytest.approx(0.75 / plain)
    assert class_average_over_mean(seen * 0, correct * 0, labels, everywhere) == 1.0


def test_a_margin_of_exactly_zero_is_not_negative() -> None:
    recorder = Recorder(3)
    recorder.update(
        torch.arange(3), torch.tensor([[1.0, 1.0], [1.0, 2.0], [2.0, 1.0]]), torch.zeros(3).long()
    )
    sums = recorder.arrays()["margin_sum"].astype(np.float64)
    assert sums.tolist() == [0.0, -1.0, 1.0]
    assert negative_share(sums) == pytest.approx(1 / 3)


# A real learner


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.35])
@pytest.mark.parametrize(("epochs", "tells"), [(2, False), (12, True)])
def test_a_network_tells_what_is_wrong_only_once_it_has_learnt(rate: float, epochs: int, tells: bool) -> None:
    generator = np.random.default_rng(1)
    torch.manual_seed(1)
    centres = generator.normal(size=(10, 20)) * 0.8

    def sample(images: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = generator.integers(0, 10, images)
        noise = generator.normal(size=(images, 20))
        return torch.from_numpy((centres[labels] + noise).astype(np.float32)), torch.from_numpy(labels)

    (train, truth), (val, val_labels) = sample(3000), sample(1000)
    wrong = torch.from_numpy(generator.random(3000) < rate)
    labels = torch.where(wrong, (truth + torch.from_numpy(generator.integers(1, 10, 3000))) % 10, truth)
    model = torch.nn.Sequential(torch.nn.Linear(20, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimiser = torch.optim.SGD(model.parameters(), 0.02 if tells else 1e-4, momentum=0.9)
    right_E, val_E = [], []
    for _ in range(epochs):
        right = 0
        for batch in torch.randperm(3000).split(50):
            logits = model(train[batch])
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(logits, labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            right += int((logits.argmax(1) == labels[batch]).sum())
        right_E.append(right / 3000)
        val_E.append(float((model(val).argmax(1) == val_labels).float().mean()))
    counts = np.bincount(val_labels.numpy(), minlength=10)
    found = noise_rate([Curve(np.array(right_E), np.array(val_E))], 3000, counts)
    assert (found.rate is not None) == tells
    if tells:
        assert found.low is not None and found.high is not None
        assert found.low <= float(wrong.float().mean()) <= found.high
