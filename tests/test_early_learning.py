"""ELR's targets against the paper's full ones, over ranks, and in trainings that are cut short."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from learning_toy import CLASSES, make_data
from smelt.artifacts.checkpoint import Checkpoints
from smelt.errors import PreemptedError
from smelt.learning import setup
from smelt.learning.distributed import Group
from smelt.learning.early_learning import EarlyTargets, early_loss
from smelt.learning.sections import ElrSettings
from test_loop import _StopAt, make_loop, plain_net, poisoned_rows, weights_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def numerics() -> None:
    setup.fix_numerics(1, True, CPU)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def shown(
    steps: int, rows: int, classes: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    generator = np.random.default_rng(seed)
    return [
        (generator.integers(0, rows, 7), generator.standard_normal((7, classes)) * 3) for _ in range(steps)
    ]


@settings(deadline=None)
@given(st.integers(2, 9), st.floats(0.0, 0.95), st.integers(0, 4), st.integers(0, 1000))
def test_with_all_classes_it_is_the_papers_buffer(classes: int, beta: float, more: int, seed: int) -> None:
    """t ← β t + (1 − β) p for each row, as the full table does it; a row twice in a step: its last visit."""
    early = EarlyTargets(10, classes, ElrSettings(beta=beta, top=classes + more), CPU, Group())
    full = np.zeros((10, classes))
    for rows, logits in shown(12, 10, classes, seed):
        moved = beta * full[rows] + (1 - beta) * softmax(logits)
        given = torch.from_numpy(rows), torch.from_numpy(logits).float()
        np.testing.assert_allclose(early.moved(*given), moved, atol=1e-3)
        early.update(*given, given[0])
        for row, line in zip(rows, moved):
            full[row] = line
    np.testing.assert_allclose(early.stored(torch.arange(10)), full, atol=1e-3)


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_the_best_classes_are_kept(top: int, seed: int) -> None:
    """Of each visit's target: those kept are no smaller than those left, and as they were, all others 0."""
    early = EarlyTargets(10, 6, ElrSettings(beta=0.7, top=top), CPU, Group())
    assert early.classes_NK.shape == early.shares_NK.shape == (10, top)
    for rows, logits in shown(12, 10, 6, seed):
        moved = 0.7 * early.stored(torch.from_numpy(rows)).double().numpy() + 0.3 * softmax(logits)
        given = torch.from_numpy(rows), torch.from_numpy(logits).float()
        early.update(*given, given[0])
        last = dict(zip(rows.tolist(), moved))
        for row, line in last.items():
            kept = early.stored(torch.tensor([row]))[0].numpy()
            places = sorted(set(early.classes_NK[row].tolist()))
            assert len(places) == top
            np.testing.assert_allclose(kept[places], line[places], atol=5e-4)
            left = np.delete(line, places)
            assert not np.delete(kept, places).any() and line[places].min() >= left.max() - 1e-6


def test_loss_is_the_formula_and_pulls_towards_the_target() -> None:
    """Value and gradient of log(1 − ⟨t, p⟩) (Liu et al. 2020, eq. 6, lemma 2)."""
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    t = torch.softmax(torch.randn(5, 4, dtype=torch.float64), 1) * 0.9
    p = torch.softmax(logits, 1).detach()
    loss = early_loss(logits, t)
    for i in range(5):
        assert float(loss[i].detach()) == pytest.approx(
            math.log(1 - sum(float(t[i, c] * p[i, c]) for c in range(4)))
        )
    loss.sum().backward()
    naive = torch.zeros(5, 4, dtype=torch.float64)
    for i in range(5):
        for c in range(4):
            naive[i, c] = p[i, c] / (1 - p[i] @ t[i]) * sum((t[i, k] - t[i, c]) * p[i, k] for k in range(4))
    torch.testing.assert_close(logits.grad, naive)


def test_a_net_that_is_sure_of_its_target_has_a_finite_loss() -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    loss = early_loss(logits, torch.tensor([[1.0, 0.0]]))
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(math.log(1e-4), rel=1e-3)
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


def test_ids_of_many_classes_are_kept_whole() -> None:
    for classes, kind in ((1 << 15, torch.int16), ((1 << 15) + 1, torch.int32)):
        early = EarlyTargets(2, classes, ElrSettings(top=1), CPU, Group())
        logits = torch.zeros(1, classes)
        logits[0, -1] = 50.0
        early.update(torch.tensor([1]), logits, torch.tensor([0]))
        assert early.classes_NK.dtype == kind and int(early.classes_NK[1, 0]) == classes - 1


class Thread(Group):
    """One of several ranks that are threads of one process."""

    def __init__(
        self, rank: int, world_size: int, table: list[Tensor | None], wall: threading.Barrier
    ) -> None:
        super().__init__(rank, world_size)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "wall", wall)

    table: list[Tensor | None]
    wall: threading.Barrier

    def gathered(self, own: Tensor) -> list[Tensor]:
        self.table[self.rank] = own
        self.wall.wait()
        found = [part for part in self.table if part is not None]
        self.wall.wait()
        return found


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_keep_to_the_bit_what_one_keeps(world_size: int) -> None:
    """Rows that come twice in a step on two ranks, and steps that leave a rank without images, too."""
    steps = [*shown(6, 10, 6, 1), (np.array([3]), np.random.default_rng(0).standard_normal((1, 6)))]
    settings = ElrSettings(top=3)
    alone = EarlyTargets(10, 6, settings, CPU, Group())
    for rows, logits in steps:
        alone.update(torch.from_numpy(rows), torch.from_numpy(logits).float(), torch.from_numpy(rows))
    table, wall = [None] * world_size, threading.Barrier(world_size)
    ranks = [
        EarlyTargets(10, 6, settings, CPU, Thread(rank, world_size, table, wall))
        for rank in range(world_size)
    ]

    def work(rank: int) -> None:
        for rows, logits in steps:
            mine = torch.from_numpy(rows[rank::world_size])
            ranks[rank].update(mine, torch.from_numpy(logits[rank::world_size]).float(), mine)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for one in ranks:
        for name, value in alone.state_dict().items():
            assert torch.equal(one.state_dict()[name], value)


# trainings


def elr_loop(data: Path, folder: Path, model: nn.Module | None = None, **changes: Any) -> Any:
    return make_loop(data, folder, model, **{"elr": {"top": CLASSES, "beta": 0.5}, **changes})


def test_against_a_naive_loop(data: Path, tmp_path: Path) -> None:
    """As the authors' code has it: the table first, then the loss with what is in it."""
    loop, _, _ = elr_loop(
        data, tmp_path, ema_decay=None, weight_decay=0.0, momentum=0.0, warmup_epochs=0, schedule="constant",
        label_smoothing=0.1,
    )  # fmt: skip
    model, table = plain_net(), torch.zeros(120, CLASSES)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    for epoch in range(3):
        for batch in loop.data.loader.training(loop._batches(epoch), loop.settings.augment, epoch):
            logits = model(loop.normalise(batch.images))
            p = torch.softmax(logits, 1)
            table[batch.rows_B] = 0.5 * table[batch.rows_B] + 0.5 * p.detach()
            elr = torch.log(1 - (table[batch.rows_B] * p).sum(1))
            hard = nn.functional.cross_entropy(
                logits, batch.rows_B % CLASSES, reduction="none", label_smoothing=0.1
            )
            optimiser.zero_grad()
            (hard + 3.0 * elr).mean().backward()
            optimiser.step()
    loop.run()
    torch.testing.assert_close(weights_of(loop.model), weights_of(model), rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(loop.lesson.early.stored(torch.arange(120)), table, atol=5e-3)


@pytest.mark.parametrize("mixing", [None, {"mixup": 1.0, "cutmix": 1.0, "probability": 0.5}])
def test_stopped_it_goes_on_to_the_same_bits(data: Path, tmp_path: Path, mixing: Any) -> None:
    whole, _, _ = elr_loop(data, tmp_path / "a", mixing=mixing)
    whole.run()
    for step in (1, 5, 10):
        loop, watcher, _ = elr_loop(data, tmp_path / str(step), mixing=mixing)
        loop.stop = _StopAt(loop, step)
        with pytest.raises(PreemptedError):
            loop.run()
        again, watcher_again, _ = elr_loop(data, tmp_path / str(step), mixing=mixing)
        watcher_again.seen = list(watcher.seen)
        again.run()
        assert torch.equal(weights_of(again.model), weights_of(whole.model))
        for name, value in whole.lesson.early.state_dict().items():
            assert torch.equal(again.lesson.early.state_dict()[name], value)
        assert again.progress.metrics == whole.progress.metrics


def test_a_skipped_step_and_a_roll_back_leave_no_trace(data: Path, tmp_path: Path) -> None:
    """Rows of a bad step keep their targets; back at a checkpoint they have those of then."""
    loop, _, _ = elr_loop(data, tmp_path, epochs=1, warmup_epochs=0)
    poisoned_rows(loop, {1})
    skipped = list(loop.data.loader.training(loop._batches(0), loop.settings.augment, 0))[1].rows_B
    loop.run()
    kept = loop.lesson.early.stored(torch.arange(120)).sum(1)
    assert bool((kept[skipped] == 0).all()) and int((kept > 0).sum()) == 120 - len(skipped)

    loop, _, _ = elr_loop(data, tmp_path / "back", max_bad_steps=1, checkpoint_every_steps=2)
    poisoned_rows(loop, {6, 7})
    seen: list[dict[str, Tensor]] = []
    load = loop._load
    save = Checkpoints.save
    saved: dict[int, dict[str, Tensor]] = {}

    def noted(self: Checkpoints, step: int, tensors: dict[str, Tensor], state: Any) -> None:
        saved[step] = {
            name: value.clone() for name, value in tensors.items() if name.startswith("observer1/")
        }
        save(self, step, tensors, state)

    def loaded() -> bool:
        found = bool(load())
        seen.append({name: value.clone() for name, value in loop.lesson.early.state_dict().items()})
        return found

    loop.checkpoints.save = noted.__get__(loop.checkpoints)
    loop._load = loaded
    loop.run()
    assert len(seen) == 2 and set(saved[6]) == {"observer1/classes", "observer1/shares"}
    for name, value in seen[1].items():
        assert torch.equal(value, saved[6][f"observer1/{name}"])


def test_mixed_batches_move_no_target(data: Path, tmp_path: Path) -> None:
    loop, watcher, _ = elr_loop(
        data, tmp_path, epochs=1, warmup_epochs=0, mixing={"mixup": 1.0, "probability": 0.5}
    )
    loop.run()
    moved = loop.lesson.early.stored(torch.arange(120)).sum(1) > 0
    assert sorted(watcher.rows) == torch.nonzero(moved).flatten().tolist()
    assert 0 < len(watcher.rows) < 120
