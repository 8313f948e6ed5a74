"""Result files: round trips, alignment, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smelt.artifacts import results
from smelt.errors import ArtifactError
from smelt.learning.prediction import write_best
from smelt.metrics import top_lists

ROWS = np.array([3, 5, 8, 13, 21])
CLASSES = ("a", "b", "c", "d", "e", "f")


def scores(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(5, 6)).astype(np.float16)


def info(kind: results.Kind = "logits") -> results.ResultInfo:
    return results.describe("m", "64x1", "val", ROWS, CLASSES, kind)


def test_dense_round_trip_whole_and_in_blocks(tmp_path: Path) -> None:
    results.write_dense(tmp_path / "one.npy", scores(), info(), ROWS)
    results.write_dense(tmp_path / "two.npy", iter([scores()[:2], scores()[2:]]), info(), ROWS)
    one, said = results.open_dense(tmp_path / "one.npy")
    assert said == info() and one.dtype == np.float16 and np.array_equal(one, scores())
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()
    assert np.array_equal(results.read_rows(tmp_path / "one.npy"), ROWS)
    assert np.array_equal(np.load(tmp_path / "one.npy"), scores())


@pytest.mark.parametrize("bad", ["nan", "big", "short", "wide"])
def test_dense_refuses_and_leaves_nothing(tmp_path: Path, bad: str) -> None:
    values = scores().astype(np.float32)
    if bad in ("nan", "big"):
        values[1, 1] = np.nan if bad == "nan" else 1e6
    values = values[:4] if bad == "short" else np.hstack([values, values]) if bad == "wide" else values
    with pytest.raises(ArtifactError):
        results.write_dense(tmp_path / "one.npy", values, info(), ROWS)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "one.npy"
    results.write_dense(path, scores(), info(), ROWS)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match=r"one\.npy"):
        results.open_dense(path)
    np.save(results.rows_path(path), ROWS[::-1])
    with pytest.raises(ArtifactError, match=r"one\.rows\.npy"):
        results.read_rows(path)
    with pytest.raises(ArtifactError, match=r"two\.json"):
        results.open_dense(tmp_path / "two.npy")


@pytest.mark.parametrize("values", [1, 2, 3, 1000])
def test_topk_is_cut_in_the_order_of_the_delivered_list(tmp_path: Path, values: int) -> None:
    """Among equal scores, also at the boundary, the lower class stays; whole or written block by block."""
    made = np.random.default_rng(values).integers(0, values, (40, 9)).astype(np.float32) / 8
    rows = np.arange(40)
    said = results.describe("m", "64x1", "val", rows, tuple("abcdefghi"))
    for k in (1, 4, 8, 9):
        plain = [sorted(range(9), key=lambda c, line=line: (-line[c], c))[:k] for line in made.tolist()]
        assert results.cut(made, k).classes_NK.tolist() == plain
        path = tmp_path / f"{k}.topk.npz"
        write_best(path, iter([made[:7], made[7:30], made[30:]]), k, said, rows, tmp_path)
        assert results.open_topk(path)[0].classes_NK.tolist() == plain
        assert top_lists(made, k).tolist() == plain


def test_topk_keeps_the_best_and_bounds_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "one.topk.npz"
    results.write_topk(path, results.cut(scores(), 3), info(), ROWS)
    top, said = results.open_topk(path)
    assert said == info() and top.classes_NK.dtype == np.uint16
    for line, full in enumerate(scores()):
        kept = top.classes_NK[line]
        rest = np.setdiff1d(np.arange(6), kept)
        assert np.array_equal(full[kept], top.scores_NK[line])
        assert full[rest].max() <= top.scores_NK[line, -1] and full[rest].min() >= top.floor_N[line]
        chance = np.exp(full.astype(np.float64))
        tail = chance[rest].sum() / chance.sum()
        assert tail <= top.tail_N[line] <= tail * 1.001 + 1e-6
    before = path.read_bytes()
    results.write_topk(path, results.cut(scores(), 3), info(), ROWS)
    assert path.read_bytes() == before
    assert np.array_equal(results.read_rows(path), ROWS)


def test_topk_from_elsewhere_and_damaged(tmp_path: Path) -> None:
    path = tmp_path / "one.topk.npz"
    top = results.cut(scores(), 2)
    np.savez_compressed(path, classes=top.classes_NK, scores=top.scores_NK)
    read = results.map_topk(path)
    assert np.array_equal(read.scores_NK, top.scores_NK) and (read.floor_N == -65504).all()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"one\.topk\.npz"):
        results.map_topk(path)
    np.savez(path, classes=np.array([{}], dtype=object), scores=np.zeros(1))
    with pytest.raises(ArtifactError):
        results.map_topk(path)


def test_hashes_depend_on_order() -> None:
    assert results.rows_hash([1, 2]) != results.rows_hash([2, 1])
    assert results.classes_hash(["a", "b"]) != results.classes_hash(["b", "a"])
    assert results.rows_hash(np.array([1, 2], np.int32)) == results.rows_hash(np.array([1, 2], np.int64))


def test_find_lists_results_only(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    results.write_dense(tmp_path / "val" / "64x1.npy", scores(), info(), ROWS)
    results.write_topk(tmp_path / "val" / "32x1.topk.npz", results.cut(scores(), 2), info(), ROWS)
    assert [path.name for path in results.find(tmp_path, "val")] == ["32x1.topk.npz", "64x1.npy"]
