"""The benchmark of learning from noisy labels: its filter by cleanlab's formula, its head, its ladders."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("mining", "learning"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("learning")


def test_pruning_by_noise_rate_by_a_plain_loop(learning: ModuleType) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 120)
    labels = np.where(rng.random(120) < 0.3, rng.integers(0, 3, 120), truth).astype(np.int32)
    likely = np.exp(2 * np.eye(3)[truth] + rng.normal(size=(120, 3)))
    likely /= likely.sum(axis=1, keepdims=True)
    thresholds = [np.mean(likely[labels == j, j]) for j in range(3)]
    joint = np.zeros((3, 3))
    for n in range(120):
        sure = [j for j in range(3) if likely[n, j] >= thresholds[j] - 1e-6]
        if sure:
            joint[labels[n], max(sure, key=lambda j: likely[n, j])] += 1
    wanted = set()
    for i in range(3):
        mine = [n for n in range(120) if labels[n] == i]
        scaled = joint[i] * len(mine) / joint[i].sum()
        for j in range(3):
            if i != j:
                wanted |= set(sorted(mine, key=lambda n: likely[n, i] - likely[n, j])[: round(scaled[j])])
    wanted = {n for n in wanted if likely[n].argmax() != labels[n]}
    found = learning.pruned_by_noise_rate(labels, likely)
    assert set(np.flatnonzero(found)) == wanted and len(wanted) > 10


def test_a_head_takes_the_steps_it_is_given_whatever_is_dropped(
    learning: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: (taken.append(1), step(self))[1])
    features, rng = torch.randn(400, 5), np.random.default_rng(0)
    targets = np.eye(3)[rng.integers(0, 3, 400)]
    for weights in (np.ones(400), (np.arange(400) < 150) * 1.0):
        taken.clear()
        learning.taught_head(features, targets, weights, 7, 0)
        assert len(taken) == 7


def test_steps_of_ladders(learning: ModuleType) -> None:
    def rung(name: str, top1: float, **more: object) -> dict[str, object]:
        return {"name": name, "val": {"top1": 0.0}, "test": {"top1": top1}, **more}

    ladders = [
        [
            rung("raw", 0.5), rung("filtered", 0.4, taken=False, decision={"words": "falls"}),
            rung("soft", 0.54 + seed / 100, taken=True), rung("genetic fusion", 0.1, taken=False),
            rung("what the guard chose: mean", 0.53 + seed / 100, taken=True),
        ]
        for seed in range(3)
    ]  # fmt: skip
    found = learning.gains(ladders)
    assert set(found["taken"]) == {"soft", "what the guard chose"}
    assert found["taken"]["soft"] == pytest.approx([0.04, 0.05, 0.06])
    assert (
        found["least"] == pytest.approx(-1.0)
        and found["refused"][0] == "filtered: falls"
        and len(found["refused"]) == 6
    )
    assert learning.gains([[rung("raw", 0.5)]])["least"] is None
