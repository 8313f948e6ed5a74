"""Validation is the metric of what is delivered, and its logits are computed in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from smelt.data.config import ViewSettings
from smelt.data.images.loader import Batch
from smelt.learning.config import TrainSettings
from smelt.learning.distributed import Group
from smelt.learning.gradients import Gradients
from smelt.learning.heads import mixed
from smelt.learning.losses import Lesson
from smelt.learning.pixels import Normaliser
from smelt.learning.prediction import score_blocks
from smelt.learning.trainingdata import TrainingData
from smelt.learning.validation import accuracy, places, view_logits
from smelt.metrics import class_averaged, class_averaged_topk, hits_in_list, hits_topk, top_lists
from smelt.models.backbones import build, heads

CPU = torch.device("cpu")


def bf16(values: Any) -> np.ndarray:
    return torch.from_numpy(np.asarray(values, np.float32)).bfloat16().float().numpy()


NATURES = {
    "none": lambda rng, n, c: rng.normal(size=(n, c)),
    "all equal": lambda rng, n, c: np.zeros((n, c)),
    "few values": lambda rng, n, c: rng.integers(0, 3, (n, c)),
    "bf16 plateaus": lambda rng, n, c: bf16(8 + rng.normal(size=(n, c)) / 8),
    "underflow": lambda rng, n, c: np.where(rng.random((n, c)) < 0.2, rng.random((n, c)), 0),
    "NaN": lambda rng, n, c: rng.choice([np.nan, -np.inf, 0.0, 1.0], (n, c)),
}


class Given(nn.Module):
    """A model that gives the logits it was given, batch after batch."""

    def __init__(self, logits_NC: np.ndarray) -> None:
        super().__init__()
        self.logits, self.at = torch.from_numpy(np.asarray(logits_NC, np.float32)), 0

    def forward(self, images: Tensor) -> Tensor:
        self.at += len(images)
        return self.logits[self.at - len(images) : self.at]


class Images:
    """A loader of blank images."""

    def views(self, rows: np.ndarray, view: ViewSettings, size: int) -> Any:
        for start in range(0, len(rows), size):
            count = len(rows[start : start + size])
            batch = type("Batch", (), {})()
            batch.images = torch.zeros(count, view.crops, 3, 8, 8, dtype=torch.uint8)
            batch.valid_B = torch.ones(count, dtype=torch.bool)
            yield batch


@pytest.mark.parametrize("nature", NATURES)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(2, 9))
def test_validation_gives_the_figures_of_the_metric(nature: str, seed: int, n: int, c: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = NATURES[nature](rng, n, c), rng.integers(0, c, n).astype(np.int32)
    found = accuracy(
        Given(logits), Images(), np.arange(n), labels, c, ViewSettings(size=8), 7,  # type: ignore[arg-type]
        Normaliser(CPU, False), "fp32", Group(),
    )  # fmt: skip
    assert found == pytest.approx([class_averaged_topk(logits, labels, k) for k in (1, 5)])
    place = places(torch.from_numpy(np.asarray(logits, np.float32)), torch.from_numpy(labels).long()).numpy()
    for k in (1, 5, 9, 100):
        assert np.array_equal(place < k, hits_topk(logits, labels, k))


class Unreadable(Images):
    """Every third image cannot be read."""

    def views(self, rows: np.ndarray, view: ViewSettings, size: int) -> Any:
        for start, batch in zip(range(0, len(rows), size), super().views(rows, view, size)):
            batch.valid_B = torch.from_numpy(rows[start : start + size] % 3 > 0)
            yield batch


@pytest.mark.parametrize("nature", ["none", "NaN"])
def test_an_unreadable_image_counts_as_the_list_delivered_for_it(nature: str) -> None:
    """Validation says what the metric says of the scores that prediction writes, whatever the net makes of
    the blank pixels in the place of an image."""
    rng = np.random.default_rng(0)
    logits, labels = NATURES[nature](rng, 90, 7), rng.integers(0, 7, 90).astype(np.int32)
    common: Any = (Unreadable(), np.arange(90))
    view, normalise = ViewSettings(size=8), Normaliser(CPU, False)
    found = accuracy(
        Given(logits), *common, labels, 7, view, 11, normalise, "fp32", Group()
    )  # fmt: skip
    blocks = score_blocks(Given(logits), *common, view, 7, 11, normalise, "fp32", lambda done: None)
    written = np.concatenate(list(blocks))
    lists = top_lists(written, 5)
    assert (lists[::3] == np.arange(5)).all()
    for k, said in zip((1, 5), found):
        assert said == pytest.approx(class_averaged_topk(written, labels, k))
        assert said == pytest.approx(class_averaged(hits_in_list(lists[:, :k], labels), labels))
    assert hits_topk(written, labels, 1)[::3].any()  # of the first class: right by the list, and counted so


@pytest.mark.parametrize(
    ("logits", "right"),
    [([[0.0, 0, 0]] * 3, 1), ([[np.nan] * 3] * 3, 0), ([[0.0, 2, 2]] * 3, 1), ([[np.nan, 0, 1]] * 3, 1)],
)
def test_training_counts_right_answers_by_the_same_order(logits: list[list[float]], right: int) -> None:
    given = Given(np.array(logits))
    given.logits.requires_grad_()
    labels = np.arange(3, dtype=np.int32)
    normalise = Normaliser(CPU, False)
    settings, none = TrainSettings(precision="fp32"), labels[:0]
    data = TrainingData(None, None, labels, None, none.astype(np.int64), none, 3, 3)  # type: ignore[arg-type]
    gradients = Gradients(given, settings, Lesson(settings, data, None, CPU, Group()), normalise, Group())
    batch = Batch(torch.arange(3), torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.ones(3).bool())
    sums, _ = gradients.compute(batch, 3, 1, False, 0)
    assert sums.right == right == int(hits_topk(np.array(logits), labels, 1).sum())


def test_a_model_of_nan_is_never_right() -> None:
    found = accuracy(
        Given(np.full((10, 5), np.nan)), Images(), np.arange(10), np.arange(10, dtype=np.int32) % 5, 5,  # type: ignore[arg-type]
        ViewSettings(size=8), 10, Normaliser(CPU, False), "fp32", Group(),
    )  # fmt: skip
    assert found == (0.0, 0.0)


@pytest.mark.parametrize(
    "name", ["resnet14", "resnext20", "efficientnet_b0", "legacy_senet154", "deit_tiny_distilled_patch16_224"]
)
def test_the_head_and_what_follows_computes_in_float32(name: str) -> None:
    torch.manual_seed(0)
    size = 224 if "deit" in name else 32
    model = build(name, 10, image_size=size).eval()
    assert len(heads(model)) == (2 if "deit" in name else 1)
    seen: list[tuple[torch.dtype, torch.dtype]] = []
    for head in heads(model):
        head.register_forward_hook(lambda _, given, out: seen.append((given[0].dtype, out.dtype)))
    inside: list[torch.dtype] = []
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_hook(lambda _, given, out: inside.append(out.dtype))
    with torch.inference_mode(), mixed(model, CPU, "bf16"):
        logits = model(torch.randn(2, 3, size, size))
    assert inside == [torch.bfloat16]  # the trunk as the setting says
    assert logits.dtype == torch.float32
    assert {out for _, out in seen} == {torch.float32}
    assert all("forward" not in head.__dict__ for head in heads(model))  # nothing is left behind


def test_a_net_whose_head_is_not_known_computes_in_float32() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with torch.inference_mode(), mixed(model, CPU, "bf16"):
        assert model(torch.zeros(1, 3, 2, 2)).dtype == torch.float32


def test_the_ties_of_bfloat16_are_gone() -> None:
    """The logits are those of a float32 head on the trunk's bfloat16 features; hardly two are equal."""
    torch.manual_seed(0)
    model = build("resnet8", 200, image_size=32).eval()
    nn.init.constant_(model.get_classifier().bias, 8.0)  # where bfloat16 has steps of 1/16
    rows = np.arange(300)

    class Noise(Images):
        def views(self, rows: np.ndarray, view: ViewSettings, size: int) -> Any:
            random = torch.Generator().manual_seed(1)
            for batch in super().views(rows, view, size):
                batch.images = torch.randint(0, 256, batch.images.shape, dtype=torch.uint8, generator=random)
                yield batch

    view = ViewSettings(size=32)
    normalise = Normaliser(CPU, False)
    blocks = view_logits(model, Noise(), rows, view, 64, normalise, "bf16")  # type: ignore[arg-type]
    logits = torch.cat([logits for logits, _ in blocks])
    plain = []
    for batch in Noise().views(rows, view, 64):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            images = normalise(batch.images[:, 0])
            features = model.forward_head(model.forward_features(images), pre_logits=True)
        with torch.inference_mode():
            plain.append(model.get_classifier()(features.float()))
    torch.testing.assert_close(logits, torch.cat(plain), rtol=0, atol=0)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        rough = model(normalise(next(iter(Noise().views(rows, view, 300))).images[:, 0])).float()
    tied = [((one == one.amax(dim=1, keepdim=True)).sum(dim=1) > 1).float().mean() for one in (rough, logits)]
    assert tied[0] > 0.05 and tied[1] == 0
