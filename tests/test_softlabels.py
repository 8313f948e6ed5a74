"""Soft labels: what is read is what was written, targets by a naive loop, and trainings that go by them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from learning_toy import CLASSES, hashes, job, make_data, make_selection, run_job
from smelt.artifacts.selection import read_selection, write_selection
from smelt.artifacts.softlabels import FILE, SoftLabels, read_soft_labels, write_soft_labels
from smelt.errors import ArtifactError, DataError
from smelt.files.parquet import read_table, write_table
from smelt.learning import setup
from test_loop import make_loop, plain_net, weights_of
from test_train import ended


@pytest.fixture(autouse=True)
def numerics() -> None:
    setup.fix_numerics(1, True, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def made(rows: NDArray[np.int64], width: int, classes: int, seed: int) -> SoftLabels:
    """Rows with up to `width` different classes each, whose shares come to 1 at most."""
    generator = np.random.default_rng(seed)
    of = np.array([generator.permutation(classes)[:width] for _ in rows]).reshape(len(rows), width)
    shares = generator.dirichlet(np.ones(width + 1), len(rows))[:, :width]
    gone = generator.random(of.shape) < 0.3
    return SoftLabels(
        rows, np.where(gone, -1, of).astype(np.int32), np.where(gone, 0, shares).astype(np.float32)
    )


ROWS = st.lists(st.integers(0, 40), unique=True, max_size=12).map(
    lambda rows: np.array(sorted(rows), np.int64)
)


@settings(deadline=None)
@given(ROWS, st.integers(0, 4), st.integers(0, 100))
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: NDArray[np.int64], width: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("soft")
    soft = made(rows, width, 6, seed)
    write_soft_labels(folder, soft)
    read = read_soft_labels(folder)
    assert read is not None and len(read) == len(rows)
    if width:
        for name in ("rows", "classes_NK", "shares_NK"):
            found = getattr(read, name)
            assert found.dtype == getattr(soft, name).dtype
            np.testing.assert_array_equal(found, getattr(soft, name))
    else:
        assert read.classes_NK.shape == read.shares_NK.shape == (len(rows), 0)


@settings(deadline=None)
@given(ROWS, st.integers(0, 4), st.lists(st.integers(0, 45), max_size=15), st.integers(0, 100))
def test_targets_are_the_shares_and_the_rest_on_the_label(
    rows: NDArray[np.int64], width: int, asked: list[int], seed: int
) -> None:
    soft = made(rows, width, 6, seed)
    labels = np.random.default_rng(seed).integers(0, 6, len(asked))
    found = soft.targets(np.array(asked, np.int64), labels, 6)
    for line, row, label in zip(found, asked, labels, strict=True):
        naive = dict.fromkeys(range(6), 0.0)
        if row in rows:
            at = rows.tolist().index(row)
            for c, share in zip(soft.classes_NK[at].tolist(), soft.shares_NK[at].tolist()):
                if c >= 0:
                    naive[c] += share
        naive[int(label)] += 1 - sum(naive.values())
        np.testing.assert_allclose(line, list(naive.values()), atol=1e-6)
        assert line.sum() == pytest.approx(1, abs=1e-6)


def test_a_selection_has_its_soft_labels_or_none(tmp_path: Path) -> None:
    soft = made(np.array([2, 5, 9]), 3, CLASSES, 0)
    with_soft = read_selection(make_selection(tmp_path / "a", soft=soft))
    assert with_soft.soft is not None
    np.testing.assert_array_equal(with_soft.soft.shares_NK, soft.shares_NK)
    assert read_selection(make_selection(tmp_path / "b")).soft is None
    (tmp_path / "c").mkdir()
    write_selection(tmp_path / "c", dataclasses.replace(with_soft, soft=None))
    assert not (tmp_path / "c" / FILE).exists()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("row", [1, 1]), ("row", [2, 1]), ("row", [1, None]), ("row", ["a", "b"]),
        ("class_0", [0.5, 1.0]), ("class_0", [-2, 0]), ("class_0", [0, None]),
        ("share_0", [1.5, 0.0]), ("share_0", [-0.5, 0.0]), ("share_0", [float("nan"), 0.0]),
        ("share_0", [0.9, 0.9]), ("share_0", [None, 0.1]),
    ],
)  # fmt: skip
def test_damage_is_told_of(tmp_path: Path, name: str, values: list[Any]) -> None:
    soft = SoftLabels(
        np.array([1, 2]), np.array([[0, 1], [1, 0]], np.int32), np.array([[0.5, 0.2], [0.5, 0.2]], np.float32)
    )
    write_soft_labels(tmp_path, soft)
    table = read_table(tmp_path / FILE)
    kind = table.schema.field(name).type if all(isinstance(v, int | float | None) for v in values) else None
    if name == "class_0" and isinstance(values[0], float):
        kind = pa.float64()
    at = table.schema.get_field_index(name)
    write_table(tmp_path / FILE, table.set_column(at, name, pa.array(values, kind)))
    with pytest.raises(ArtifactError, match="damaged"):
        read_soft_labels(tmp_path)


def test_a_file_cut_short_or_without_a_column_is_told_of(tmp_path: Path) -> None:
    write_soft_labels(tmp_path, made(np.arange(9), 2, 4, 0))
    table = read_table(tmp_path / FILE)
    write_table(tmp_path / FILE, table.drop_columns(["class_1"]))
    with pytest.raises(ArtifactError, match="lacks the column class_1"):
        read_soft_labels(tmp_path)
    write_table(tmp_path / FILE, table)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="damaged"):
        read_soft_labels(tmp_path)


@pytest.mark.parametrize("shapes", [((3,), (3, 2), (3, 1)), ((3,), (2, 2), (2, 2)), ((3,), (3,), (3,))])
def test_other_shapes_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SoftLabels(np.arange(shapes[0][0]), np.zeros(shapes[1], np.int32), np.zeros(shapes[2], np.float32))


# trainings


def test_training_is_a_naive_soft_cross_entropy(data: Path, tmp_path: Path) -> None:
    soft = made(np.arange(0, 120, 2), 3, CLASSES, 1)
    loop, watcher, _ = make_loop(
        data, tmp_path, ema_decay=None, weight_decay=0.0, momentum=0.0, warmup_epochs=0, schedule="constant",
        label_smoothing=0.1,
    )  # fmt: skip
    object.__setattr__(loop.data, "soft", soft)
    model = plain_net()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    full = np.zeros((120, CLASSES))
    for row in range(120):
        if row in soft.rows:
            at = soft.rows.tolist().index(row)
            for c, share in zip(soft.classes_NK[at], soft.shares_NK[at]):
                full[row, c] += share if c >= 0 else 0
        full[row, row % CLASSES] += 1 - full[row].sum()
    full = 0.9 * full + 0.1 / CLASSES
    for epoch in range(3):
        for batch in loop.data.loader.training(loop._batches(epoch), loop.settings.augment, epoch):
            log_p = torch.log_softmax(model(loop.normalise(batch.images)), 1)
            optimiser.zero_grad()
            (-(torch.from_numpy(full[batch.rows_B.numpy()]) * log_p).sum(1)).mean().backward()
            optimiser.step()
    loop.run()
    torch.testing.assert_close(weights_of(loop.model), weights_of(model), rtol=1e-4, atol=1e-5)
    rows, _, labels = watcher.seen[0]
    assert torch.equal(labels, rows % CLASSES)  # margins are of the labels, whatever is taught


@pytest.mark.slow
def test_a_kill_changes_nothing(data: Path, tmp_path: Path) -> None:
    """With soft labels, mixing and ELR at once."""
    selection = make_selection(tmp_path / "s", soft=made(np.arange(0, 120, 2), 3, CLASSES, 1))
    settings = {"elr": {"top": 3}, "mixing": {"mixup": 1.0, "cutmix": 1.0}, "loss": "gce"}
    whole = run_job(job(tmp_path / "whole", settings, catalogue=data, selection=selection))
    plain = run_job(job(tmp_path / "plain", catalogue=data, selection=selection))
    assert hashes(whole)["model.safetensors"] != hashes(plain)["model.safetensors"]
    folder = job(tmp_path / "cut", settings, catalogue=data, selection=selection)
    for moment in ("train:step:4", "checkpoint:tensors:8", "train:step:11"):
        assert ended(folder, moment) == -9, moment
    for leftover in (folder / "out").rglob(".*.tmp"):
        leftover.unlink()
    assert ended(folder) == 0
    assert hashes(folder / "out") == hashes(whole)


def test_a_class_that_is_none_is_refused(data: Path, tmp_path: Path) -> None:
    soft = SoftLabels(np.array([3]), np.array([[CLASSES]], np.int32), np.array([[0.5]], np.float32))
    selection = make_selection(tmp_path / "s", soft=soft)
    with pytest.raises(DataError, match=f"class {CLASSES}"):
        run_job(job(tmp_path / "j", catalogue=data, selection=selection))
