"""Features on disk: what is written is read, in blocks, after a kill; what cannot be right is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from smelt.artifacts.featurestore import INFO, KNOWN, VALUES, Features, FeatureWriter
from smelt.errors import ArtifactError
from smelt.files.arrays import new_array, read_array, write_lines
from smelt.files.atomic import read_json, write_json


def made(count: int, dim: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, dim)).astype(np.float32), random.random(count) < 0.8


def folders(path: Path) -> tuple[Path, Path]:
    (path / "out/scratch").mkdir(parents=True, exist_ok=True)
    return path / "out", path / "out/scratch"


def written(path: Path, values: NDArray[np.float32], known: NDArray[np.bool_], block: int) -> Features:
    out, scratch = folders(path)
    writer = FeatureWriter(out, scratch, *values.shape)
    for at in range(0, len(values), block):
        writer.write(values[at : at + block], known[at : at + block])
    writer.finish("toy", {"backbone": "none"})
    return Features.open(out)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 17), st.integers(1, 11))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, count: int, dim: int, block: int, size: int
) -> None:
    values, known = made(count, dim)
    found = written(tmp_path_factory.mktemp("features"), values, known, block)
    expected = np.where(known[:, None], values, 0).astype(np.float16)
    assert np.array_equal(found.values_ND, expected) and np.array_equal(found.known_N, known)
    assert (found.num_rows, found.dim, found.name) == (count, dim, "toy")
    rows = np.random.default_rng(1).permutation(count)[: count // 2].astype(np.int64)
    blocks = list(found.blocks(rows, size))
    assert all(len(one) <= size and one.dtype == np.float32 for one in blocks)
    assert np.array_equal(np.concatenate([np.zeros((0, dim)), *blocks]), expected[rows].astype(np.float32))


def test_a_killed_writer_goes_on_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    values, known = made(30, 5)
    written(tmp_path / "whole", values, known, 10)
    out, scratch = folders(tmp_path / "killed")
    first = FeatureWriter(out, scratch, 30, 5)
    first.write(values[:10] * np.float32(1e6), known[:10])  # clipped, and known to be after the kill
    first.write(values[10:20], known[10:20])
    with open(scratch / "features.blocks", "a", encoding="utf-8") as file:
        file.write("[20, 10, 0, ")  # torn
    second = FeatureWriter(out, scratch, 30, 5)
    assert second.done == 20 and second.clipped == int((np.abs(values[:10][known[:10]] * 1e6) > 65504).sum())
    second.write(values[20:], known[20:])
    write_lines(out / VALUES, 12, np.full((1, 5), 7, np.float16))  # a disk that lost what it was given
    third = FeatureWriter(out, scratch, 30, 5)
    assert third.done == 10
    write_lines(out / VALUES, 0, np.zeros((1, 5), np.float16))
    fourth = FeatureWriter(out, scratch, 30, 5)
    assert fourth.done == 0 == fourth.clipped
    for at in range(0, 30, 10):
        fourth.write(values[at : at + 10], known[at : at + 10])
    fourth.finish("toy", {"backbone": "none"})
    for name in (VALUES, KNOWN, INFO):
        assert (out / name).read_bytes() == (tmp_path / "whole/out" / name).read_bytes()
    assert not list(scratch.iterdir())


def test_another_shape_begins_anew(tmp_path: Path) -> None:
    out, scratch = folders(tmp_path)
    FeatureWriter(out, scratch, 8, 4).write(*made(4, 4))
    assert FeatureWriter(out, scratch, 8, 3).done == 0
    assert read_array(out / VALUES).shape == (8, 3)


def test_clipped_and_refused(tmp_path: Path) -> None:
    values = np.array([[1e9, -1e9], [np.nan, 1.0], [0.5, 65504.0]], np.float32)
    found = written(tmp_path, values, np.array([True, False, True]), 3)
    assert found.values_ND.tolist() == [[65504.0, -65504.0], [0.0, 0.0], [0.5, 65504.0]]
    assert found.info["clipped"] == 2
    for bad in (np.nan, np.inf, -np.inf):
        writer = FeatureWriter(*folders(tmp_path / str(bad)), 4, 2)
        writer.write(np.zeros((2, 2), np.float32), np.ones(2, bool))
        with pytest.raises(ArtifactError, match="1 of 2 images are not finite, the first of row 3"):
            writer.write(np.array([[0, 0], [0, bad]], np.float32), np.ones(2, bool))
        assert writer.done == 2


def test_wrong_arguments(tmp_path: Path) -> None:
    writer = FeatureWriter(*folders(tmp_path), 4, 2)
    for values, known in (
        (np.zeros((2, 3), np.float32), np.ones(2, bool)),
        (np.zeros((2, 2), np.float32), np.ones(3, bool)),
        (np.zeros((5, 2), np.float32), np.ones(5, bool)),
    ):
        with pytest.raises(ValueError, match="do not follow row 0"):
            writer.write(values, known)
    with pytest.raises(ValueError, match="0 of 4 rows"):
        writer.finish("toy", {})
    with pytest.raises(ValueError, match=r"not \(3, 0\)"):
        FeatureWriter(*folders(tmp_path), 3, 0)


def test_what_is_no_features_is_refused(tmp_path: Path) -> None:
    values, known = made(6, 3)
    written(tmp_path, values, known, 6)
    out = tmp_path / "out"
    with pytest.raises(ArtifactError, match="6 rows, the catalogue has 7"):
        Features.open(out, 7)
    info = read_json(out / INFO)
    write_json(out / INFO, {**info, "dim": 4})
    with pytest.raises(ArtifactError, match=r"float16 \(6, 3\), features.json says float16 \(6, 4\)"):
        Features.open(out)
    write_json(out / INFO, [1])
    with pytest.raises(ArtifactError, match="does not describe features"):
        Features.open(out)
    write_json(out / INFO, info)
    (out / KNOWN).unlink()
    with pytest.raises(ArtifactError, match="is not there"):
        Features.open(out)


def test_lines_fit_where_they_are_written(tmp_path: Path) -> None:
    new_array(tmp_path / "a.npy", (4, 2), np.float16)
    write_lines(tmp_path / "a.npy", 3, np.full((1, 2), 2, np.float16))
    assert read_array(tmp_path / "a.npy").tolist() == [[0, 0], [0, 0], [0, 0], [2, 2]]
    for start, values in ((3, np.zeros((2, 2), np.float16)), (0, np.zeros((1, 2), np.float32)),
                          (-1, np.zeros((1, 2), np.float16)), (0, np.zeros((1, 3), np.float16))):  # fmt: skip
        with pytest.raises(ValueError, match="does not fit"):
            write_lines(tmp_path / "a.npy", start, values)
    with pytest.raises(ArtifactError, match="cannot write"):
        write_lines(tmp_path / "none.npy", 0, np.zeros((1, 2), np.float16))
