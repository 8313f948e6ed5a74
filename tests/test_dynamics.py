"""The recorder against a plain per-sample reference, its invariants, and dynamics on disk."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smelt.artifacts.dynamics import Dynamics
from smelt.errors import ArtifactError
from smelt.mining.rankings import score_of
from smelt.mining.recorder import Recorder, shown
from smelt.mining.visits import declared

Step = tuple[Tensor, Tensor, Tensor]  # rows, logits, labels of a batch


def steps(seed: int, rows: int, classes: int, batches: list[int], *, distinct: bool = True) -> list[Step]:
    """Random batches of these sizes; each row keeps one label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    made = []
    for size in batches:
        if distinct:
            chosen = torch.randperm(rows, generator=generator)[:size]
        else:
            chosen = torch.randint(0, rows, (size,), generator=generator)
        logits = 3 * torch.randn(len(chosen), classes, generator=generator)
        made.append((chosen, logits, labels[chosen]))
    return made


def recorded(made: list[Step], rows: int, **options: Any) -> Dynamics:
    recorder = Recorder(rows, **options)
    for step in made:
        recorder.update(*step)
    return Dynamics(recorder.arrays())


def reference(made: list[Step], rows: int) -> dict[str, list[Any]]:
    """What a per-sample loop in plain Python keeps of batches without repeated rows."""
    visits: list[list[tuple[float, float, bool, int]]] = [[] for _ in range(rows)]
    for rows_B, logits_BC, labels_B in made:
        for row, logits, label in zip(rows_B.tolist(), logits_BC.tolist(), labels_B.tolist()):
            others = [(value, -c) for c, value in enumerate(logits) if c != label]
            top, other = max(others)
            probability = math.exp(logits[label]) / sum(math.exp(v) for v in logits)
            visits[row].append((logits[label] - top, probability, logits[label] > top, -other))
    falls = [sum(a[2] and not b[2] for a, b in pairwise(row)) for row in visits]
    return {
        "seen": [len(row) for row in visits],
        "aum": [np.mean([v[0] for v in row]) if row else np.nan for row in visits],
        "probability": [np.mean([v[1] for v in row]) if row else np.nan for row in visits],
        "log_margin": [
            np.mean([math.log(v[1]) - math.log1p(-v[1]) for v in row]) if row else np.nan for row in visits
        ],
        "variability": [np.std([v[1] for v in row]) if row else np.nan for row in visits],
        "accuracy": [np.mean([v[2] for v in row]) if row else np.nan for row in visits],
        "forgotten": falls,
        "other": [row[-1][3] if row else -1 for row in visits],
    }


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 12),
    classes=st.integers(2, 6),
    batches=st.lists(st.integers(1, 12), max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_equals_a_per_sample_loop(seed: int, rows: int, classes: int, batches: list[int]) -> None:
    made = steps(seed, rows, classes, batches)
    dynamics, expected = recorded(made, rows), reference(made, rows)
    np.testing.assert_array_equal(dynamics["seen"], expected["seen"])
    np.testing.assert_array_equal(dynamics["forgotten"], expected["forgotten"])
    np.testing.assert_array_equal(dynamics.other(), expected["other"])
    np.testing.assert_allclose(score_of(dynamics, "accuracy"), expected["accuracy"], rtol=1e-6)
    np.testing.assert_allclose(score_of(dynamics, "aum"), expected["aum"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        score_of(dynamics, "probability"), expected["probability"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(score_of(dynamics, "log_margin"), expected["log_margin"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(score_of(dynamics, "variability"), expected["variability"], atol=2e-4)


def test_equals_the_package_of_the_papers_authors(tmp_path: Path) -> None:
    aum = pytest.importorskip("aum")
    made = steps(3, 40, 7, [16, 16, 8, 2, 31, 40])
    theirs = aum.AUMCalculator(str(tmp_path), compressed=True)
    for rows_B, logits_BC, labels_B in made:
        theirs.update(logits_BC, labels_B, rows_B.tolist())
    ours = score_of(recorded(made, 40), "aum")
    for row, total in theirs.sums.items():
        assert ours[row] == pytest.approx(total / theirs.counts[row], rel=1e-5, abs=1e-6)
    assert set(theirs.sums) == set(np.flatnonzero(~np.isnan(ours)))


@given(seed=st.integers(0, 10_000), batches=st.lists(st.integers(1, 20), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_rows_repeated_in_a_batch_count_each_time(seed: int, batches: list[int]) -> None:
    made = steps(seed, 5, 4, batches, distinct=False)
    singles = [(r[i : i + 1], z[i : i + 1], y[i : i + 1]) for r, z, y in made for i in range(len(r))]
    together, one_by_one = recorded(made, 5), recorded(singles, 5)
    np.testing.assert_array_equal(together["seen"], one_by_one["seen"])
    np.testing.assert_array_equal(together["correct"], one_by_one["correct"])
    np.testing.assert_allclose(together["margin_sum"], one_by_one["margin_sum"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        score_of(together, "variability"), score_of(one_by_one, "variability"), atol=2e-4
    )


def test_a_batch_is_one_visit_for_forgetting() -> None:
    right, wrong = [[2.0, 0.0]], [[0.0, 2.0]]
    recorder = Recorder(1)
    for logits in (right, wrong + wrong, right + wrong, wrong):
        recorder.update(
            torch.zeros(len(logits)).long(), torch.tensor(logits), torch.zeros(len(logits)).long()
        )
    assert recorder.arrays()["forgotten"].tolist() == [2]  # right → wrong, (right, wrong) → wrong


@given(seed=st.integers(0, 10_000), cut=st.integers(1, 15), order=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_neither_order_nor_cutting_of_a_batch_matters(seed: int, cut: int, order: Any) -> None:
    (rows, logits, labels), later = steps(seed, 16, 5, [16, 16])
    places = list(range(16))
    order.shuffle(places)
    shuffled = [(rows[places], logits[places], labels[places]), later]
    cuts = [(rows[:cut], logits[:cut], labels[:cut]), (rows[cut:], logits[cut:], labels[cut:]), later]
    base = recorded([(rows, logits, labels), later], 16)
    for other in (recorded(shuffled, 16), recorded(cuts, 16)):
        for name in ("seen", "margin_sum", "log_margin_sum", "probability_m2", "correct", "forgotten"):
            np.testing.assert_array_equal(base[name], other[name])
        np.testing.assert_array_equal(base.other(), other.other())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype: torch.dtype) -> None:
    made = [(rows, logits.to(dtype), labels) for rows, logits, labels in steps(0, 30, 9, [30, 30, 1])]
    exact = [(rows, logits.double(), labels) for rows, logits, labels in made]
    np.testing.assert_array_equal(recorded(made, 30)["margin_sum"], recorded(exact, 30)["margin_sum"])


def test_what_is_not_finite_or_not_valid_is_not_recorded() -> None:
    logits = torch.randn(6, 3)
    logits[0, 0], logits[1, 2], logits[2, 1], logits[3, 0] = math.nan, math.nan, math.inf, -math.inf
    valid = torch.tensor([True, True, True, True, False, True])
    recorder = Recorder(7)
    recorder.update(torch.arange(6), logits, torch.zeros(6).long(), valid)
    dynamics = Dynamics(recorder.arrays())
    assert dynamics["seen"].tolist() == [0, 0, 0, 0, 0, 1, 0]
    assert np.isnan(score_of(dynamics, "aum")).tolist() == [True, True, True, True, True, False, True]
    assert np.isfinite(dynamics["margin_sum"]).all() and np.isfinite(dynamics["probability_m2"]).all()
    assert dynamics.other().tolist()[:5] == [-1] * 5


def test_extreme_logits_stay_finite() -> None:
    recorder = Recorder(2)
    logits = torch.tensor([[6e4, -6e4, 0.0], [-6e4, 6e4, 0.0]], dtype=torch.float16)
    recorder.update(torch.arange(2), logits, torch.zeros(2).long())
    dynamics = Dynamics(recorder.arrays())
    assert score_of(dynamics, "probability").tolist() == [1.0, 0.0]
    assert score_of(dynamics, "aum").tolist() == [
        60000,
        -120000,
    ]  # the float16 spacing there is 32: 60000 = 1875 · 32


def test_empty_and_one_sample_batches_and_the_gradient_is_left_alone() -> None:
    recorder = Recorder(3)
    recorder.update(torch.zeros(0).long(), torch.zeros(0, 4), torch.zeros(0).long())
    logits = torch.randn(1, 4, requires_grad=True)
    before = logits.detach().clone()
    recorder.update(torch.tensor([2]), logits, torch.tensor([1]))
    assert torch.equal(logits, before) and logits.grad is None
    assert recorder.arrays()["seen"].tolist() == [0, 0, 1]


def test_rows_and_labels_out_of_range_are_refused() -> None:
    recorder = Recorder(3)
    with pytest.raises((IndexError, RuntimeError)):
        recorder.update(torch.tensor([3]), torch.randn(1, 4), torch.tensor([1]))
    with pytest.raises((IndexError, RuntimeError)):
        recorder.update(torch.tensor([0]), torch.randn(1, 4), torch.tensor([-1]))


def test_long_sums_keep_the_stated_accuracy() -> None:
    visits = 2000
    logits = torch.randn(visits, 50, 10, generator=torch.Generator().manual_seed(1)) + 5 * torch.eye(10)[0]
    recorder, rows, labels = Recorder(50), torch.arange(50), torch.zeros(50).long()
    for one in logits:
        recorder.update(rows, one, labels)
    exact = torch.stack(
        [(lambda own, largest: own - largest)(*shown(one, labels)[:2]).double() for one in logits]
    ).numpy()
    error = np.abs(score_of(Dynamics(recorder.arrays()), "aum") - exact.mean(axis=0))
    assert (error <= visits * 2.0**-24 * np.abs(exact).mean(axis=0)).all()
    spread = torch.softmax(logits.double(), 2)[:, :, 0].std(dim=0, correction=0).numpy()
    np.testing.assert_allclose(score_of(Dynamics(recorder.arrays()), "variability"), spread, rtol=1e-3)


def test_recording_can_stop_after_an_epoch() -> None:
    recorder = Recorder(4, stop_after_epoch=1)
    for epoch in range(4):
        recorder.begin_epoch(epoch)
        recorder.update(torch.arange(4), torch.randn(4, 3), torch.zeros(4).long())
    assert recorder.arrays()["seen"].tolist() == [2] * 4


@given(seed=st.integers(0, 10_000), at=st.integers(0, 6))
@settings(max_examples=25, deadline=None)
def test_a_checkpoint_goes_on_to_the_same_bytes(seed: int, at: int) -> None:
    made = steps(seed, 9, 4, [5, 9, 3, 7, 1, 9], distinct=False)
    first = Recorder(9)
    for step in made[:at]:
        first.update(*step)
    saved = {name: value.clone() for name, value in first.state_dict().items()}
    second = Recorder(9)
    second.load_state_dict(saved)
    for step in made[at:]:
        first.update(*step)
        second.update(*step)
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_sixteen_million_rows_fit() -> None:
    recorder = Recorder(10)
    held = sum(column.element_size() for column in recorder.columns.values())
    assert held == sum(np.dtype(kind.dtype).itemsize for kind in declared().values()) <= 44
    assert held * 16_076_665 <= 675 * 2**20


# Several ranks


def _rank_work(rank: int, world: int, folder: str, made: list[Step], every: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.set_num_threads(1)
    rows_in_all = 23
    recorder = Recorder(rows_in_all)
    assert len(recorder._own["seen"]) <= -(-rows_in_all // world)  # a rank keeps its own rows only
    for number, (rows, logits, labels) in enumerate(made, start=1):
        recorder.update(rows[rank::world], logits[rank::world], labels[rank::world])
        if number % every == 0:
            recorder.exchange()
        if number in (7, len(made)):  # as at a checkpoint, and after a kill: every rank starts anew
            recorder.reduce()
            if rank == 0:
                torch.save(recorder.state_dict(), f"{folder}/state.pt")
            dist.barrier()
            recorder = Recorder(rows_in_all)
            recorder.load_state_dict(torch.load(f"{folder}/state.pt"))
    recorder.reduce()
    if rank == 0:
        Dynamics(recorder.arrays()).save(Path(folder), {})
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(("world", "every"), [(2, 1), (3, 4), (2, 100)])
def test_ranks_record_what_one_process_does(tmp_path: Path, world: int, every: int) -> None:
    """To the bit, whichever rank meets an image, how often it comes in an epoch, even in one batch, and
    however seldom the ranks speak to one another; some batches leave ranks without an image."""
    made = steps(5, 23, 5, [20, 7, 1, 23, 9, 2] * 6, distinct=False)
    made[9] = (made[9][0], made[9][1] * torch.nan, made[9][2])
    mp.spawn(_rank_work, (world, str(tmp_path), made, every), nprocs=world)  # type: ignore[no-untyped-call]
    ours, alone = Dynamics.open(tmp_path), recorded(made, 23)
    assert int(alone["forgotten"].sum()) > 20
    for name in alone.columns:
        np.testing.assert_array_equal(ours[name], alone[name], err_msg=name)


def test_a_checkpoint_of_one_process_serves_several_ranks() -> None:
    made = steps(3, 10, 4, [6, 9, 4])
    alone = Recorder(10)
    for step in made:
        alone.update(*step)
    shards = []
    for rank in range(3):
        recorder = Recorder(10)
        recorder.rank, recorder.world_size = rank, 3
        recorder._own = {name: column[rank::3].clone() for name, column in recorder._own.items()}
        recorder.load_state_dict(alone.state_dict())
        shards.append(recorder._own)
    for name, column in alone.columns.items():
        for rank, shard in enumerate(shards):
            assert torch.equal(shard[name], column[rank::3])


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_margin_of_exactly_zero_is_not_right(label: int) -> None:
    recorder = Recorder(1)
    logits = torch.tensor([[1.0, 1.0, 1.0]])
    recorder.update(torch.tensor([0]), logits, torch.tensor([label]))
    found = Dynamics(recorder.arrays())
    assert (
        found["seen"].tolist() == [1]
        and found["correct"].tolist() == [0]
        and found["margin_sum"].tolist() == [0.0]
    )
    # and no fall from right to wrong is made of it
    recorder.update(
        torch.tensor([0]),
        torch.tensor([[0.0, 0.0, 0.0]]).index_fill(1, torch.tensor([(label + 1) % 3]), 5.0),
        torch.tensor([label]),
    )
    assert Dynamics(recorder.arrays())["forgotten"].tolist() == [0]


# On disk


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    before = recorded(steps(0, 8, 3, [4, 4]), 8)
    Dynamics(before.columns).save(tmp_path / "d", {"model": "m"})
    after = Dynamics.open(tmp_path / "d")
    for name, column in before.columns.items():
        np.testing.assert_array_equal(column, after[name])
    assert json.loads((tmp_path / "d" / "dynamics.json").read_text()) == {"model": "m", "rows": 8}
    assert dynamics_of_nothing(tmp_path).num_rows == 0


def dynamics_of_nothing(folder: Path) -> Dynamics:
    Dynamics(Recorder(0).arrays()).save(folder / "none", {})
    return Dynamics.open(folder / "none")


@pytest.mark.parametrize("damage", ["missing", "truncated", "rows", "dtype", "pickle", "empty"])
def test_damaged_files_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    Dynamics(recorded(steps(0, 8, 3, [4]), 8).columns).save(tmp_path, {})
    path = tmp_path / "margin_sum.npy"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "rows":
        np.save(path, np.zeros(7, np.float32))
    elif damage == "dtype":
        np.save(path, np.zeros(8, np.float64))
    elif damage == "pickle":
        np.save(path, np.array([{}] * 8, dtype=object), allow_pickle=True)
    else:
        path.write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"margin_sum\.npy"):
        score_of(Dynamics.open(tmp_path), "aum")


# Later visits weigh more


def test_late_aum_is_the_mean_with_polynomial_weights() -> None:
    generator = torch.Generator().manual_seed(4)
    recorder, margins = Recorder(3), []
    for _ in range(12):
        logits = torch.randn(3, 4, generator=generator)
        recorder.update(torch.arange(3), logits, torch.tensor([0, 1, 2]))
        others = logits.clone()
        others[torch.arange(3), torch.tensor([0, 1, 2])] = -torch.inf
        margins.append((logits[torch.arange(3), torch.tensor([0, 1, 2])] - others.max(dim=1).values).numpy())
    weights = np.array([j * (j + 1) * (j + 2) for j in range(1, 13)], float)
    expected = (np.array(margins) * weights[:, None]).sum(axis=0) / weights.sum()
    np.testing.assert_allclose(score_of(Dynamics(recorder.arrays()), "late_aum"), expected, rtol=1e-5)


def test_visits_of_one_step_share_their_weight() -> None:
    """Twice in a step is the weight of two visits, at the mean of what both showed."""
    recorder = Recorder(1)
    recorder.update(torch.tensor([0, 0]), torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 0]))
    assert score_of(Dynamics(recorder.arrays()), "late_aum")[0] == pytest.approx(2.0)
    recorder.update(torch.tensor([0]), torch.tensor([[5.0, 0.0]]), torch.tensor([0]))
    weights = np.array([6.0, 24.0, 60.0])
    expected = (weights[:2].sum() * 2.0 + weights[2] * 5.0) / weights.sum()
    assert score_of(Dynamics(recorder.arrays()), "late_aum")[0] == pytest.approx(expected, rel=1e-6)


def test_small_loss_is_minus_the_mean_cross_entropy() -> None:
    recorder, generator = Recorder(5), torch.Generator().manual_seed(1)
    total = torch.zeros(5)
    for _ in range(4):
        logits = 5 * torch.randn(5, 3, generator=generator)
        labels = torch.arange(5) % 3
        recorder.update(torch.arange(5), logits, labels)
        total += torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    found = score_of(Dynamics(recorder.arrays()), "small_loss")
    np.testing.assert_allclose(found, -total.numpy() / 4, rtol=1e-5, atol=1e-6)
