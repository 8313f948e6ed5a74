"""The loop: what it computes, against plain references; bad steps, bad images and too little memory."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from learning_toy import CLASSES, SETTINGS, SIZE, make_data, make_selection
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.checkpoint import Checkpoints
from smelt.artifacts.selection import read_selection
from smelt.data.images.sampler import ClassBalancedSampler
from smelt.errors import PreemptedError, TrainingError
from smelt.learning import setup
from smelt.learning.config import TrainSettings
from smelt.learning.distributed import Group, Stop
from smelt.learning.loop import Loop
from smelt.learning.optimisation import (
    Average,
    learning_rate_at,
    load_optimiser,
    make_optimiser,
    optimiser_tensors,
    set_learning_rate,
)
from smelt.learning.pixels import MEAN, STD, Normaliser
from smelt.learning.validation import accuracy
from smelt.metrics import class_averaged_topk


@pytest.fixture(autouse=True)
def numerics() -> None:
    torch.set_num_threads(1)
    setup.fix_numerics(1, True, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


class Watcher:
    """Keeps everything it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []
        self.epochs: list[int] = []

    def begin_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def update(self, rows_B: Tensor, logits_BC: Tensor, labels_B: Tensor) -> None:
        assert logits_BC.dtype == torch.float32 and not logits_BC.requires_grad
        self.seen.append((rows_B.clone(), logits_BC.clone(), labels_B.clone()))

    def exchange(self) -> None: ...

    def reduce(self) -> None: ...

    def state_dict(self) -> dict[str, Tensor]:
        return {"count": torch.tensor(len(self.seen))}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        del self.seen[int(state["count"]) :]

    @property
    def rows(self) -> list[int]:
        return [int(row) for rows, _, _ in self.seen for row in rows]


def plain_net(seed: int = 0) -> nn.Module:
    """Without norms: its output for an image does not depend on the others of the batch."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, CLASSES))


def make_loop(
    data: Path, folder: Path, model: nn.Module | None = None, *, drop: tuple[int, ...] = (),
    weights: Mapping[int, float] | None = None, **changes: Any,
) -> tuple[Loop, Watcher, list[str]]:  # fmt: skip
    settings = TrainSettings.model_validate({**SETTINGS, **changes})
    catalogue = Catalogue.open(data / "catalogue")
    selection = read_selection(make_selection(folder / "selection", drop=drop, weights=weights))
    loader = setup.make_loader(catalogue, folder, workers=0, seed=settings.seed, max_bad=1.0)
    watcher, told = Watcher(), []
    loop = Loop(
        model or plain_net(),
        settings,
        setup.training_data(catalogue, selection, loader, settings),
        learning_rate=0.05,
        device=torch.device("cpu"),
        group=Group(),
        checkpoints=Checkpoints(folder / "checkpoints", told.append),
        observers=[watcher],
        emit=lambda event, **fields: told.append(f"{event} {fields.get('text', '')}"),
    )
    return loop, watcher, told


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def test_against_a_naive_loop(data: Path, tmp_path: Path) -> None:
    """SGD with momentum, decay, weights, smoothing, warm-up and cosine, in torch's own parts."""
    weights = dict.fromkeys(range(0, 120, 3), 0.25)
    loop, watcher, _ = make_loop(
        data, tmp_path, weights=weights, label_smoothing=0.1, ema_decay=None, clip_norm=0.5, epochs=2
    )
    model = plain_net()
    order = loop.data.sampler
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 1e-4},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    losses: list[list[float]] = []
    for epoch in range(2):
        rows = order.epoch(epoch)
        batches = [rows[at : at + 30] for at in range(0, 120, 30)]
        losses.append([])
        for step, batch in enumerate(loop.data.loader.training(batches, loop.settings.augment, epoch)):
            at = epoch * 4 + step
            rate = 0.05 * (at + 1) / 4 if at < 4 else 0.05 * 0.5 * (1 + math.cos(math.pi * (at - 4) / 4))
            for group in optimiser.param_groups:
                group["lr"] = rate
            pixels = (batch.images.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
                3, 1, 1
            )
            labels = batch.rows_B % CLASSES
            each = F.cross_entropy(model(pixels), labels, reduction="none", label_smoothing=0.1)
            each = each * torch.tensor([weights.get(int(row), 1.0) for row in batch.rows_B])
            optimiser.zero_grad()
            each.mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimiser.step()
            losses[-1] += each.tolist()
    loop.run()
    torch.testing.assert_close(weights_of(loop.model), weights_of(model), rtol=1e-4, atol=1e-6)
    told = [row["train_loss"] for row in loop.progress.metrics]
    assert told == pytest.approx([float(np.mean(epoch)) for epoch in losses], rel=1e-5)
    assert sorted(watcher.rows) == sorted(list(range(120)) * 2) and watcher.epochs == [0, 1]


def test_observers_see_the_training_forward(data: Path, tmp_path: Path) -> None:
    loop, watcher, _ = make_loop(data, tmp_path, epochs=1, warmup_epochs=0)
    first = copy.deepcopy(loop.model)
    batch = next(loop.data.loader.training(loop._batches(0), loop.settings.augment, 0))
    expected = first(loop.normalise(batch.images))
    loop.run()
    rows, logits, labels = watcher.seen[0]
    assert torch.equal(rows, batch.rows_B) and torch.equal(labels, rows % CLASSES)
    torch.testing.assert_close(logits, expected.detach())


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_accumulation_changes_nothing_without_norms(data: Path, tmp_path: Path, parts: int) -> None:
    whole, watcher, _ = make_loop(data, tmp_path / "a", epochs=1, warmup_epochs=0)
    cut, cut_watcher, _ = make_loop(data, tmp_path / "b", epochs=1, warmup_epochs=0, accumulate_steps=parts)
    whole.run()
    cut.run()
    torch.testing.assert_close(weights_of(cut.model), weights_of(whole.model), rtol=1e-4, atol=1e-6)
    assert watcher.rows == cut_watcher.rows


def test_bad_images_do_not_touch_their_batch(data: Path, tmp_path: Path) -> None:
    """With all but 10 rows dropped, 3 of them unreadable: the net, norms included, sees the other 7 only."""
    bad = make_data(tmp_path / "bad", bad=(1, 4, 6))
    sizes: list[int] = []
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(4, CLASSES))  # fmt: skip
    model[0].register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    reference = copy.deepcopy(model)
    loop, watcher, _ = make_loop(
        bad, tmp_path, model, drop=tuple(range(10, 120)), batch_size=10, epochs=1, warmup_epochs=0,
        ema_decay=None, weight_decay=0.0, momentum=0.0, augment={"sizes": [SIZE], "pad_crop": 0, "flip": 0.0},
    )  # fmt: skip
    loop.run()
    assert sizes[0] == 7 and sorted(watcher.rows) == [0, 2, 3, 5, 7, 8, 9]
    assert loop.progress.masked == 3
    rows = torch.tensor(watcher.rows)
    images = torch.from_numpy(np.stack([loop.data.loader.pixels(int(row)) for row in rows])).permute(
        0, 3, 1, 2
    )
    loss = F.cross_entropy(reference(loop.normalise(images)), rows % CLASSES)
    loss.backward()
    for own, plain in zip(loop.model.parameters(), reference.parameters()):
        assert plain.grad is not None
        torch.testing.assert_close(own.detach(), (plain - 0.05 * plain.grad).detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loop.model[1].running_mean, reference[1].running_mean)  # type: ignore[index]


def test_a_batch_of_bad_images_only_is_no_step(tmp_path: Path) -> None:
    bad = make_data(tmp_path / "bad", bad=tuple(range(8)))
    loop, watcher, _ = make_loop(
        bad, tmp_path, drop=tuple(range(8, 120)), batch_size=8, epochs=1, warmup_epochs=0
    )
    before = weights_of(loop.model).clone()
    loop.run()
    assert torch.equal(weights_of(loop.model), before) and watcher.rows == []


class Poisoned(nn.Module):
    """Gives NaN in the forward passes (of training) whose numbers are in `when`."""

    def __init__(self, when: range | set[int]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.net = plain_net()
        self.when, self.calls = when, 0

    def forward(self, images: Tensor) -> Tensor:
        factor = 1.0
        if self.training:
            factor = float("nan") if self.calls in self.when else 1.0
            self.calls += 1
        return self.net(self.norm(images * factor))  # type: ignore[no-any-return]


def test_a_bad_step_is_skipped(data: Path, tmp_path: Path) -> None:
    model = Poisoned({2, 3, 7})
    loop, watcher, told = make_loop(data, tmp_path, model, max_bad_steps=2, ema_decay=0.5)
    loop.run()
    assert loop.progress.skipped == 3 and loop.progress.rate_factor == 1.0
    assert len(watcher.seen) == 12 - 3 and all(bool(logits.isfinite().all()) for _, logits, _ in watcher.seen)
    assert loop.average is not None
    for state in (loop.model.state_dict(), loop.average.state_dict()):
        assert all(bool(value.isfinite().all()) for value in state.values())
    assert sum("not finite, skipped" in text for text in told) == 3


def test_many_bad_steps_roll_back_once(data: Path, tmp_path: Path) -> None:
    """Bad from forward 5 to 7 on: back to the checkpoint of step 4 with half the rate, then to the end."""
    model = Poisoned(range(5, 8))
    loop, watcher, told = make_loop(data, tmp_path, model, max_bad_steps=2, checkpoint_every_steps=2)
    loop.run()
    assert loop.progress.rate_factor == 0.5 and loop.progress.step == 12
    assert any("back at step 4" in text for text in told)
    assert sorted(watcher.rows) == sorted(list(range(120)) * 3)  # each row once an epoch, for all that
    assert loop.progress.metrics[-1]["learning_rate"] == pytest.approx(
        0.5 * learning_rate_at(11, 12, 4, 0.05, loop.settings)
    )


def test_bad_for_good_stops_with_the_reason(data: Path, tmp_path: Path) -> None:
    loop, _, _ = make_loop(data, tmp_path, Poisoned(range(5, 10**6)), max_bad_steps=2)
    with pytest.raises(TrainingError, match=r"even after going back.*learning_rate"):
        loop.run()


def test_a_gradient_that_is_not_finite_is_a_bad_step(data: Path, tmp_path: Path) -> None:
    model = plain_net()
    calls: list[int] = []

    def spoil(gradient: Tensor) -> Tensor:
        calls.append(1)
        return gradient * float("inf") if len(calls) == 2 else gradient

    next(model.parameters()).register_hook(spoil)
    loop, watcher, _ = make_loop(data, tmp_path, model)
    loop.run()
    assert loop.progress.skipped == 1 and len(watcher.seen) == 11
    assert bool(weights_of(loop.model).isfinite().all())


class Greedy(nn.Module):
    """Runs out of memory with more than `limit` images."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.net, self.limit = plain_net(), limit

    def forward(self, images: Tensor) -> Tensor:
        if self.training and len(images) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.net(images)  # type: ignore[no-any-return]


def test_out_of_memory_halves_the_micro_batch(data: Path, tmp_path: Path) -> None:
    whole, watcher, _ = make_loop(data, tmp_path / "a", Greedy(1000))
    small, small_watcher, told = make_loop(data, tmp_path / "b", Greedy(10))
    whole.run()
    small.run()
    assert small.progress.parts == 4 and sum("out of memory" in text for text in told) == 2
    torch.testing.assert_close(weights_of(small.model), weights_of(whole.model), rtol=1e-4, atol=1e-6)
    assert small_watcher.rows == watcher.rows


def test_out_of_memory_with_one_image_stops(data: Path, tmp_path: Path) -> None:
    loop, _, _ = make_loop(data, tmp_path, Greedy(0))
    with pytest.raises(TrainingError, match="single image"):
        loop.run()


def test_stop_saves_where_it_is(data: Path, tmp_path: Path) -> None:
    whole, watcher, _ = make_loop(data, tmp_path / "a")
    whole.run()
    for step in (0, 2, 3, 11):
        folder = tmp_path / str(step)
        loop, first_watcher, _ = make_loop(data, folder)
        loop.stop = _StopAt(loop, step)
        with pytest.raises(PreemptedError, match=f"step {step + 1} of 12"):
            loop.run()
        again, watcher_again, _ = make_loop(data, folder)
        watcher_again.seen = list(first_watcher.seen)
        again.run()
        assert torch.equal(weights_of(again.model), weights_of(whole.model))
        assert again.progress.metrics == whole.progress.metrics and watcher_again.rows == watcher.rows


class _StopAt(Stop):
    def __init__(self, loop: Loop, step: int) -> None:
        self._loop, self._step = loop, step

    @property
    def asked(self) -> bool:  # type: ignore[override]
        return self._loop.progress.step == self._step


def test_training_does_not_touch_the_generator_of_others(data: Path, tmp_path: Path) -> None:
    """What a user draws between two steps does not change the training."""
    plain, _, _ = make_loop(data, tmp_path / "a", setup.new_model(TrainSettings(**SETTINGS), CLASSES))
    plain.run()
    noisy, _, _ = make_loop(data, tmp_path / "b", setup.new_model(TrainSettings(**SETTINGS), CLASSES))
    emit = noisy.emit
    noisy.emit = lambda event, **fields: (torch.rand(7), emit(event, **fields))[1]
    noisy._log_every = 0.0
    noisy.run()
    assert torch.equal(weights_of(noisy.model), weights_of(plain.model))


# schedule, average, metric


@given(
    st.sampled_from(["cosine", "constant", "step"]),
    st.integers(1, 20),
    st.integers(2, 12),
    st.floats(0.0, 0.9),
)
def test_schedule(schedule: str, per_epoch: int, epochs: int, warmup: float) -> None:
    settings = TrainSettings.model_validate(
        {"schedule": schedule, "epochs": epochs, "warmup_epochs": warmup * epochs}
    )
    total = per_epoch * epochs
    rates = [learning_rate_at(step, total, per_epoch, 0.3, settings) for step in range(total)]
    top = round(warmup * epochs * per_epoch)
    assert all(0.0 < rate <= 0.3 * (1 + 1e-9) for rate in rates)
    assert rates[:top] == sorted(rates[:top])
    after = rates[top:]
    assert after == sorted(after, reverse=True)
    if schedule == "constant":
        assert set(after) <= {0.3}
    if schedule == "step" and total >= 90 and top == 0:
        assert len(set(after)) == 4


@pytest.mark.parametrize("decay", [0.05, 0.8, 0.999])
def test_average_is_the_formula(decay: float) -> None:
    """From the first step of the warm-up to long after it: 0.8 is reached at step 35, 0.05 at once."""
    model = nn.Linear(2, 2)
    average = Average(model, decay)
    expected = model.weight.detach().clone()
    for step in range(60):
        with torch.no_grad():
            model.weight.normal_()
        average.update(model, step)
        used = min(decay, (1 + step) / (10 + step))
        expected = used * expected + (1 - used) * model.weight.detach()
        torch.testing.assert_close(average.state_dict()["weight"], expected)


def test_validation_is_the_metric(data: Path, tmp_path: Path) -> None:
    loop, _, _ = make_loop(data, tmp_path)
    labels = loop.data.validation_labels.copy()
    labels[:7] = 0  # classes of unequal size
    view = loop.settings.test_view
    scores = []
    for batch in loop.data.loader.views(loop.data.validation_rows, view, 64):
        loop.model.eval()
        scores.append(loop.model(loop.normalise(batch.images[:, 0])).detach().numpy())
    for batch_size in (7, 64):
        top1, top5 = accuracy(
            loop.model, loop.data.loader, loop.data.validation_rows, labels, CLASSES, view, batch_size,
            Normaliser(torch.device("cpu"), True), "fp32", Group(),
        )  # fmt: skip
        assert top1 == pytest.approx(class_averaged_topk(np.concatenate(scores), labels, 1))
        assert top5 == pytest.approx(class_averaged_topk(np.concatenate(scores), labels, 5))


def test_normaliser() -> None:
    images = torch.randint(0, 256, (3, 3, 5, 5), dtype=torch.uint8)
    for channels_last in (True, False):
        plain = (images.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        found = Normaliser(torch.device("cpu"), channels_last)(images)
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)
        assert found.is_contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )


def normed_net() -> nn.Module:
    """Down to one pixel before a batch norm: torch refuses the statistics of a single image there."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 16), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, CLASSES)
    )


@pytest.mark.parametrize("changes", [{"batch_size": 17}, {"batch_size": 7, "accumulate_steps": 7}])
def test_no_batch_of_one_ends_a_training(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """120 images in batches of 17 leave a last one of one, and so do micro-batches."""
    loop, watcher, _ = make_loop(
        data, tmp_path, normed_net(), epochs=1, warmup_epochs=0, ema_decay=None, **changes
    )
    loop.run()
    assert sorted(watcher.rows) == list(range(120))
    assert torch.isfinite(weights_of(loop.model)).all()


def test_micro_batches_are_never_of_one_image(data: Path, tmp_path: Path) -> None:
    sizes: list[int] = []
    model = normed_net()
    model[1].register_forward_pre_hook(
        lambda _, given: sizes.append(len(given[0])) if model.training else None
    )
    loop, _, _ = make_loop(data, tmp_path, model, epochs=1, warmup_epochs=0, batch_size=8, accumulate_steps=8)
    loop.run()
    assert min(sizes) == 2


def test_a_fused_optimiser_goes_on_where_its_parameters_are() -> None:
    """Its count of steps too: a checkpoint is read into main memory, a parameter may be elsewhere."""
    settings = TrainSettings.model_validate({"optimiser": "adamw"})
    model = nn.Linear(4, 4, device="meta")
    optimiser = make_optimiser(model, settings)
    saved = {
        "weight/step": torch.tensor(3.0),
        "weight/exp_avg": torch.zeros(4, 4),
        "weight/exp_avg_sq": torch.zeros(4, 4),
    }
    load_optimiser(optimiser, model, saved)
    assert {str(value.device) for value in optimiser.state[model.weight].values()} == {"meta"}
    assert optimiser.state[model.weight]["step"].dtype == torch.float32


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_an_optimiser_goes_on_to_the_same_bits(optimiser: str) -> None:
    settings = TrainSettings.model_validate({"optimiser": optimiser})
    made = []
    for resumed in (False, True):
        model = plain_net()
        trained = make_optimiser(model, settings)
        set_learning_rate(trained, 0.01)
        for step in range(6):
            if resumed and step == 3:
                state = {name: value.clone() for name, value in optimiser_tensors(trained, model).items()}
                trained = make_optimiser(model, settings)
                set_learning_rate(trained, 0.01)
                load_optimiser(trained, model, state)
            images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(step))
            trained.zero_grad()
            model(images).square().sum().backward()
            trained.step()
        made.append(weights_of(model))
    assert torch.equal(*made)


def test_the_average_warms_up_with_the_steps_of_the_training(data: Path, tmp_path: Path) -> None:
    """Against the formula, on the weights after every step."""
    loop, _, _ = make_loop(data, tmp_path, epochs=2, warmup_epochs=0, ema_decay=0.99)
    expected = weights_of(loop.model).clone()
    step = loop.optimiser.step

    def stepped() -> None:
        nonlocal expected
        step()
        number = loop.progress.step
        decay = min(0.99, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * weights_of(loop.model)

    loop.optimiser.step = stepped  # type: ignore[method-assign,assignment]
    loop.run()
    assert loop.average is not None and loop.total_steps > 5
    names = [name for name, _ in loop.model.named_parameters()]
    found = torch.cat([loop.average.state_dict()[name].reshape(-1) for name in names])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


# what an epoch tells of itself, whatever happened in it


def poisoned_rows(loop: Loop, when: set[int]) -> list[int]:
    """Make the loop's steps in `when` bad by their number, whenever they are done with the whole rate.

    Returns the list of steps that were tried, which grows.
    """
    compute, tried = loop.gradients.compute, []

    def spoilt(*given: Any) -> Any:
        sums, record = compute(*given)
        tried.append(loop.progress.step)
        if loop.progress.step in when and loop.progress.rate_factor == 1.0:
            sums.loss = math.nan
        return sums, record

    loop.gradients.compute = spoilt  # type: ignore[method-assign]
    return tried


def finished(data: Path, folder: Path, when: set[int], stops: list[int]) -> tuple[Loop, list[int]]:
    """A training with bad steps that is asked to stop, and taken up again, at the tries in `stops`."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    for stop in [*stops, None]:
        loop, watcher, _ = make_loop(data, folder, checkpoint_every_steps=3, max_bad_steps=2)
        tried = poisoned_rows(loop, when)
        watcher.seen = seen
        if stop is None:
            loop.run()
            break
        loop.stop = _StopAtTry(tried, stop)
        with pytest.raises(PreemptedError, match="saved at step") as stopped:
            loop.run()
        found = loop.checkpoints.latest()
        assert found is not None and f"saved at step {found.state['step']} of 12" in str(stopped.value)
    return loop, watcher.rows


class _StopAtTry(Stop):
    def __init__(self, tried: list[int], number: int) -> None:
        self._tried, self._number = tried, number

    @property
    def asked(self) -> bool:  # type: ignore[override]
        return len(self._tried) >= self._number


@pytest.mark.parametrize("when", [{5, 6, 7}, {6, 7, 8}, {9, 10, 11}])
def test_stopped_within_bad_steps_it_goes_on_as_if_it_had_not_been(
    data: Path, tmp_path: Path, when: set[int]
) -> None:
    """Checkpoints every three steps, epochs of four."""
    whole, rows = finished(data, tmp_path / "whole", when, [])
    assert whole.progress.rate_factor == 0.5 and sorted(rows) == sorted(list(range(120)) * 3)
    for stop in when:
        cut, cut_rows = finished(data, tmp_path / str(stop), when, [stop])
        assert cut_rows == rows and cut.progress.skipped == whole.progress.skipped
        assert cut.progress.metrics == whole.progress.metrics
        assert torch.equal(weights_of(cut.model), weights_of(whole.model))


@pytest.mark.parametrize("stops", [[1], [4], [6], [8], [9], [7, 2], [4, 4, 4]])
def test_whenever_it_is_stopped_nothing_is_lost_and_nothing_there_twice(
    data: Path, tmp_path: Path, stops: list[int]
) -> None:
    loop, rows = finished(data, tmp_path, {6, 7, 8}, stops)
    assert sorted(rows) == sorted(list(range(120)) * 3)
    told = [(row["epoch"], row["step"]) for row in loop.progress.metrics]
    assert told == [(1, 4), (2, 8), (3, 12)]


def test_metrics_of_an_epoch_are_of_all_its_steps_after_a_roll_back(data: Path, tmp_path: Path) -> None:
    """Loss and accuracy of each epoch against what the observers were told."""
    loop, watcher, _ = make_loop(data, tmp_path, checkpoint_every_steps=2, max_bad_steps=1, weight_decay=0.0)
    poisoned_rows(loop, {6, 7})
    loop.run()
    assert loop.progress.rate_factor == 0.5 and loop.progress.skipped == 2
    assert [row["epoch"] for row in loop.progress.metrics] == [1, 2, 3]
    for epoch, row in enumerate(loop.progress.metrics):
        steps = watcher.seen[4 * epoch : 4 * epoch + 4]
        logits, labels = torch.cat([one[1] for one in steps]), torch.cat([one[2] for one in steps])
        assert len(labels) == 120
        assert row["train_loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
        assert row["train_top1"] == pytest.approx(float((logits.argmax(1) == labels).double().mean()))


def test_an_epoch_without_a_sound_step_tells_no_loss(data: Path, tmp_path: Path) -> None:
    """Nothing was learnt: a loss of 0 would be the best of all epochs."""
    loop, _, _ = make_loop(data, tmp_path, max_bad_steps=4)
    poisoned_rows(loop, {4, 5, 6, 7})
    loop.run()
    assert [row["train_loss"] is None for row in loop.progress.metrics] == [False, True, False]
    assert loop.progress.metrics[1]["train_top1"] is None


def test_a_roll_back_keeps_the_parts_that_the_memory_allows(data: Path, tmp_path: Path) -> None:
    loop, _, told = make_loop(data, tmp_path, Greedy(10), max_bad_steps=1)
    poisoned_rows(loop, {2, 3})
    loop.run()
    assert loop.progress.parts == 4 and loop.progress.rate_factor == 0.5
    assert sum("out of memory" in text for text in told) == 2


class _Turns(Group):
    """One of two ranks, whose messages only note that they were sent."""

    def barrier(self) -> None:
        NOTED.append("barrier")


NOTED: list[str] = []


def test_no_rank_writes_before_all_have_read(data: Path, tmp_path: Path) -> None:
    """Between the first rank's reading and its next writing stands a barrier that the others reach only
    after their own reading."""
    order: dict[int, list[str]] = {}
    for rank in (0, 1):
        loop, _, _ = make_loop(data, tmp_path / str(rank))
        loop._save()
        loop.group = _Turns(rank)
        latest = loop.checkpoints.latest
        loop.checkpoints.latest = lambda latest=latest: (NOTED.append("read"), latest())[1]  # type: ignore
        NOTED.clear()
        assert loop._load()
        order[rank] = list(NOTED)
    assert order == {0: ["read", "barrier", "barrier"], 1: ["barrier", "read", "barrier"]}


@pytest.mark.parametrize("world_size", [1, 3])
def test_an_epoch_is_drawn_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    """Neither counting an epoch's images nor the size of a step draws; one taken up again draws no more."""
    drawn: list[tuple[int, int, int]] = []
    draw = ClassBalancedSampler.draw

    def counted(self: ClassBalancedSampler, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        drawn.append((epoch, start, stop))
        return draw(self, epoch, start, stop)

    monkeypatch.setattr(ClassBalancedSampler, "draw", counted)
    loop, _, _ = make_loop(data, tmp_path)
    loop.group = _Turns(world_size - 1, world_size)
    for start in (0, 2):
        drawn.clear()
        shown = list(loop.data.loader.training(loop._batches(1), loop.settings.augment, 1, start))
        assert sum(loop._batches(1).size(step) for step in range(4)) == 120
        assert len(shown) == 4 - start and drawn == [(1, at, at + 30) for at in (0, 30, 60, 90)]
