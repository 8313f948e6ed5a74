"""Semi-supervised training against a loop of its formulas; cut short, as a pair, saved and refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from learning_toy import CLASSES, SIZE, job, make_data, make_selection, run_job
from smelt.artifacts.selection import read_selection, write_selection
from smelt.artifacts.softlabels import SoftLabels
from smelt.data.images.sampler import ClassBalancedSampler
from smelt.errors import PreemptedError
from smelt.learning import setup
from smelt.learning.config import TrainSettings
from smelt.learning.extraction import extractor
from smelt.models.pair import Pair
from smelt.models.trial import Net, judge
from test_loop import data, make_loop, numerics, plain_net, weights_of

__all__ = ["data", "numerics"]
DROPPED = tuple(range(0, 120, 3))


def semi_loop(data: Path, folder: Path, model: nn.Module, semi: dict[str, Any], **changes: Any) -> Any:
    """A loop whose rows in DROPPED have no label, on a selection that trusts half of row 1's label."""
    loop, watcher, told = make_loop(
        data, folder, model, drop=DROPPED, semi=semi, drop_path_rate=0.0, **changes
    )
    soft = SoftLabels(np.array([1]), np.array([[1, 2]], np.int32), np.array([[0.5, 0.5]], np.float32))
    unlabelled = ClassBalancedSampler(
        np.array(DROPPED), np.zeros(len(DROPPED), np.int32), images_per_class=None, seed=1
    )
    found = dataclasses.replace(loop.data, soft=soft, unlabelled=unlabelled)
    loop.data = found
    loop.lesson.data = found
    return loop, watcher, told


def pair_of_plain() -> Pair:
    return Pair([plain_net(0), plain_net(1)])


@pytest.mark.parametrize("networks", [1, 2])
def test_against_a_loop_of_the_papers(data: Path, tmp_path: Path, networks: int) -> None:
    """DivideMix's refinement and co-guessing, FixMatch's loss, FreeMatch's thresholds; plain SGD."""
    model = plain_net(0) if networks == 1 else pair_of_plain()
    semi = {"networks": networks, "warmup_epochs": 1, "ramp_epochs": 1, "weight": 0.8, "threshold": 0.3,
            "threshold_momentum": 0.5, "ratio": 0.5}  # fmt: skip
    loop, watcher, _ = semi_loop(
        data, tmp_path, model, semi, epochs=3, warmup_epochs=0, ema_decay=None, schedule="constant",
        momentum=0.0, weight_decay=0.0,
    )  # fmt: skip
    nets = [plain_net(k) for k in range(networks)]
    level, means, step, surely = 1 / CLASSES, torch.full((CLASSES,), 1 / CLASSES), 0, 0
    for epoch in range(3):
        for batch in loop._shown(epoch, 0):
            x = loop.normalise(batch.images)
            labels = torch.from_numpy(loop.data.labels_N[batch.rows_B.numpy()]).long()
            losses = [F.cross_entropy(net(x), labels, reduction="none") for net in nets]
            if epoch == 0:
                losses = [
                    -(F.log_softmax(net(x), 1) * target(batch.rows_B, labels)).sum(1).mean() for net in nets
                ]
            else:
                with torch.no_grad():
                    own = sum(torch.softmax(net(x), 1) for net in nets) / networks
                    said = sum(torch.softmax(net(loop.normalise(batch.weak.images)), 1) for net in nets)
                    said = said / networks
                one_hot, trust = F.one_hot(labels, CLASSES).float(), torch.ones(len(labels), 1)
                trust[batch.rows_B == 1] = 0.5
                refined = (trust * one_hot + (1 - trust) * own) ** 2
                refined = refined / refined.sum(1, keepdim=True)
                limits = (level * means / means.max()).clamp(min=0.3)
                sure = said.max(1).values >= limits[said.argmax(1)]
                surely += int(sure.sum())
                guess = said[sure] ** 2 / (said[sure] ** 2).sum(1, keepdim=True)
                ramp = 0.8 * min((step - loop.steps_per_epoch) / loop.steps_per_epoch, 1)
                strong = loop.normalise(batch.strong.images)[sure]
                losses = [
                    -(F.log_softmax(net(x), 1) * refined).sum() / len(x)
                    - ramp * (F.log_softmax(net(strong), 1) * guess).sum() / (0.5 * len(x))
                    for net in nets
                ]
                level = 0.5 * level + 0.5 * float(said.max(1).values.mean())
                means = 0.5 * means + 0.5 * said.mean(0)
            for net, loss in zip(nets, losses):
                net.zero_grad()
                loss.backward()
                with torch.no_grad():
                    for value in net.parameters():
                        value -= 0.05 * value.grad
            step += 1
    loop.run()
    assert surely > 20
    naive = torch.cat([weights_of(net) for net in nets])
    torch.testing.assert_close(weights_of(loop.model), naive, rtol=1e-3, atol=1e-4)
    assert sorted(set(watcher.rows)) == [row for row in range(120) if row not in DROPPED]
    assert float(loop.gradients.thresholds.level) == pytest.approx(level, rel=1e-3)


def target(rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    found = F.one_hot(labels, CLASSES).float()
    found[rows == 1] = torch.tensor([0.0, 0.5, 0.5, 0.0])
    return found


class _StopAt:
    def __init__(self, loop: Any, step: int) -> None:
        self.loop, self.step = loop, step

    @property
    def asked(self) -> bool:
        return bool(self.loop.progress.step == self.step)


def test_stopped_it_goes_on_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    semi = {"networks": 2, "warmup_epochs": 1, "mixup": 4.0, "spread": 1.0, "loss": "squared", "ratio": 1.5,
            "weight": 25.0, "threshold": 0.0}  # fmt: skip
    whole, _, _ = semi_loop(data, tmp_path / "a", pair_of_plain(), semi)
    whole.run()
    for step in (1, 4, 7):
        loop, watcher, _ = semi_loop(data, tmp_path / str(step), pair_of_plain(), semi)
        loop.stop = _StopAt(loop, step)
        with pytest.raises(PreemptedError):
            loop.run()
        again, watcher_again, _ = semi_loop(data, tmp_path / str(step), pair_of_plain(), semi)
        watcher_again.seen = list(watcher.seen)
        again.run()
        assert torch.equal(weights_of(again.model), weights_of(whole.model))
        assert torch.equal(again.gradients.thresholds.means_C, whole.gradients.thresholds.means_C)
        assert again.progress.metrics == whole.progress.metrics


@pytest.mark.parametrize("reason", ["low_aum", "bad"])
def test_the_stage_trains_a_pair_that_loads_and_gives_features(tmp_path: Path, reason: str) -> None:
    """Rows dropped for a score are unlabelled images; those dropped for another reason are left alone."""
    catalogue = make_data(tmp_path / "index")
    chosen = make_selection(tmp_path / "selection", drop=DROPPED)
    selection = dataclasses.replace(read_selection(chosen), words=("", reason))
    write_selection(chosen, selection)
    told: list[str] = []
    out = run_job(
        job(tmp_path / "a", {"semi": {"networks": 2}, "epochs": 2, "warmup_epochs": 0}, catalogue=catalogue,
            selection=chosen),
        emit=lambda event, **fields: told.append(str(fields.get("text", ""))),
    )  # fmt: skip
    assert any("dropped no row for its score" in text for text in told) == (reason == "bad")
    model = setup.saved_model(out)
    assert isinstance(model, Pair) and len(model.nets) == 2
    features, _, _ = extractor(out)
    with torch.no_grad():
        assert features(torch.rand(2, 3, SIZE, SIZE)).shape[0] == 2
        assert torch.allclose(model.eval()(torch.rand(2, 3, SIZE, SIZE)).exp().sum(1), torch.ones(2))


def test_a_trial_knows_that_a_pair_is_twice_a_net() -> None:
    one, two = judge([Net("resnet8", 4, 16), Net("resnet8", 4, 16, networks=2)])
    assert not two.build and two.values == 2 * one.values


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mixing": {"mixup": 1.0}}, "mixing"),
        ({"elr": {}}, "elr"),
        ({"loss": "gce"}, "loss"),
        ({"label_smoothing": 0.1}, "label_smoothing"),
        ({"epochs": 4, "semi": {"warmup_epochs": 4}}, "warm-up of semi"),
        ({"pretrained": True, "semi": {"networks": 2}}, "pretrained"),
        ({"layer_decay": 0.7, "semi": {"networks": 2}}, "layer_decay"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TrainSettings.model_validate({"semi": {}, **settings})
