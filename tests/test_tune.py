"""The range test: its curve, its choice, and where it ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from learning_toy import hashes, job, make_data, make_selection, run_job
from smelt.data.images.loader import Batch
from smelt.data.images.sampler import ClassBalancedSampler
from smelt.errors import TrainingError
from smelt.learning.config import TrainSettings
from smelt.learning.pixels import Normaliser
from smelt.learning.sections import TuneSettings
from smelt.learning.tuning import choose, range_test, rate_at, smoothed


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_rates_grow_by_a_constant_factor() -> None:
    settings = TuneSettings(lowest=1e-4, highest=1.0, steps=13)
    np.testing.assert_allclose([rate_at(i, settings) for i in range(0, 13, 3)], [1e-4, 1e-3, 1e-2, 1e-1, 1.0])


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=30), st.floats(0.0, 0.99))
def test_smoothing_is_the_weighted_mean(losses: list[float], smoothing: float) -> None:
    for i, found in enumerate(smoothed(losses, smoothing)):
        weights = smoothing ** np.arange(i, -1, -1.0)
        assert found == pytest.approx(float(np.average(losses[: i + 1], weights=weights)))


def test_choice_is_a_tenth_of_the_best() -> None:
    settings = TuneSettings(smoothing=0.0, fraction=0.1)
    curve = [(0.01, 3.0), (0.1, 2.0), (1.0, 1.0), (10.0, 5.0)]
    assert choose(curve, settings) == pytest.approx(0.1)
    with pytest.raises(TrainingError, match="never fell"):
        choose([(0.01, 1.0), (0.1, 2.0)], settings)


def test_stage(tmp_path: Path) -> None:
    """Deterministic; ends at divergence; the chosen rate is below the one where the loss was least."""
    inputs = {"catalogue": make_data(tmp_path / "data"), "selection": make_selection(tmp_path / "selection")}
    settings = {"learning_rate": "tune", "tune": {"steps": 60, "highest": 1e3, "lowest": 1e-3}}
    out = run_job(job(tmp_path / "a", settings, **inputs), "tune")
    found = json.loads((out / "tune.json").read_text())
    rates, losses = np.array(found["curve"]).T
    assert len(rates) < 60, "a rate of a million must diverge"
    assert len(found["smoothed"]) == len(rates) and (np.diff(rates) > 0).all()
    assert found["learning_rate"] == pytest.approx(0.1 * rates[int(np.argmin(found["smoothed"]))])
    assert np.isfinite(losses).all()
    again = run_job(job(tmp_path / "b", settings, **inputs), "tune")
    assert hashes(again) == hashes(out)


class Small(torch.nn.Module):
    """Takes no more than `most` images at once, as a device with little memory."""

    def __init__(self, most: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.most, self.sizes = torch.nn.Linear(3, 5), most, []  # type: ignore[var-annotated]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError(f"{len(images)} images on one device")
        return self.linear(images.mean((2, 3)))


def curve_of(most: int, **changes: object) -> tuple[list[tuple[float, float]], list[int]]:
    settings = TrainSettings.model_validate({"batch_size": 64, "precision": "fp32", **changes})
    random = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(12):
        images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=random)
        batch = Batch(torch.arange(64), images, torch.ones(64, dtype=torch.bool))
        batches.append((batch, torch.randint(0, 5, (64,), generator=random)))
    model, device = Small(most), torch.device("cpu")
    return range_test(model, batches, settings, device, Normaliser(device, False)), model.sizes


def test_the_batch_of_all_ranks_is_done_in_parts() -> None:
    """As training does it: by the ranks and micro-batches, and in halves where the memory is short."""
    whole, sizes = curve_of(1000)
    assert set(sizes) == {64} and len(whole) == 12
    for most, changes, seen in (
        (1000, {"world_size": 4}, {16}),
        (1000, {"accumulate_steps": 2}, {32}),
        (20, {}, {64, 32, 16}),
        (3, {"world_size": 8}, {8, 4, 2}),
    ):
        curve, sizes = curve_of(most, **changes)
        assert set(sizes) == seen
        np.testing.assert_allclose(curve, whole, rtol=1e-5)
    with pytest.raises(TrainingError, match="single image"):
        curve_of(0)


def test_only_what_the_test_takes_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """120 images in batches of 32: three whole ones an epoch. None is drawn twice, and no tail."""
    drawn: list[int] = []
    draw = ClassBalancedSampler.draw

    def counted(self: ClassBalancedSampler, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        drawn.append(stop - start)
        return draw(self, epoch, start, stop)

    monkeypatch.setattr(ClassBalancedSampler, "draw", counted)
    inputs = {"catalogue": make_data(tmp_path / "data"), "selection": make_selection(tmp_path / "selection")}
    settings = {"learning_rate": "tune", "tune": {"steps": 10, "highest": 0.1, "lowest": 1e-3}}
    out = run_job(job(tmp_path / "a", settings, **inputs), "tune")
    assert len(json.loads((out / "tune.json").read_text())["curve"]) == 10
    assert drawn == [32] * 10
