"""Stage fuse: results of several models aligned and checked, weights from validation, lists of all splits."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smelt.artifacts import results
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.errors import ResultError
from smelt.files.atomic import read_json
from smelt.fusion.apply import Fusion
from smelt.fusion.scores.reference import fused, normalised
from smelt.metrics import class_averaged, hits_in_list
from smelt.stages.context import run as run_stage
from smelt.stages.fuse import groups

CLASSES = 7
COUNTS = {"train": 10, "val": 300, "test": 90}
SETTINGS = {
    "metric": "top1", "folds": 3, "bootstrap": 100, "write_scores": ["test"],
    "genetic": {"population": 12, "generations": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    random = np.random.default_rng(0)
    with CatalogueWriter(folder / "catalogue") as writer:
        writer.classes = [f"c{c}" for c in range(CLASSES)]
        for split, count in COUNTS.items():
            labels = random.integers(0, CLASSES, count).astype(np.int32)
            paths = Paths.of(f"{split}/{n}.jpg".encode() for n in range(count))
            writer.add(Block(split, "web", paths, labels if split != "test" else labels * 0 - 1))
        writer.finish()
    return folder


def model(
    folder: Path, index: Path, name: str, good: float, seed: int, views: Sequence[str] = ("a", "b")
) -> Path:
    """A predict artefact: results of two splits under some views, the second's lines in another order."""
    catalogue = Catalogue.open(index / "catalogue")
    random = np.random.default_rng(seed)
    for split in ("val", "test"):
        (folder / split).mkdir(parents=True)
        rows = catalogue.rows(split)
        truth = good * np.eye(CLASSES)[np.maximum(catalogue.labels_N[rows], 0)]
        for place, view in enumerate(views):
            scores = (truth + random.normal(size=truth.shape)).astype(np.float16)
            order = random.permutation(len(rows)) if place else np.arange(len(rows))
            info = results.describe(name, view, split, rows[order], catalogue.classes)
            results.write_dense(folder / split / f"{view}.npy", scores[order], info, rows[order])
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, index: Path) -> list[Path]:
    root = tmp_path_factory.mktemp("models")
    return [model(root / f"m{n}", index, f"m{n}", good, n) for n, good in enumerate((2.5, 1.0, 0.2))]


def run(index: Path, models: list[Path], out: Path, settings: dict[str, Any] = SETTINGS) -> Path:
    scratch = out / "scratch"
    scratch.mkdir(parents=True)
    run_stage("fuse", settings, inputs={"catalogue": [index], "predict": models}, out=out, scratch=scratch)
    shutil.rmtree(scratch)
    return out


def scores_of(index: Path, models: list[Path], split: str) -> np.ndarray:
    """Scores (M, N, C) in the catalogue's order, put together independently of the stage."""
    rows = Catalogue.open(index / "catalogue").rows(split)
    stack = []
    for folder in models:
        for view in ("a", "b"):
            path = folder / split / f"{view}.npy"
            place = {row: line for line, row in enumerate(results.read_rows(path))}
            stack.append(np.load(path)[[place[row] for row in rows]])
    return np.stack(stack)


def test_fuses_what_it_says(tmp_path: Path, index: Path, models: list[Path]) -> None:
    out = run(index, models, tmp_path / "out")
    record = read_json(out / "fusion.json")
    catalogue = Catalogue.open(index / "catalogue")
    assert [result["name"] for result in record["results"]] == [
        "m0/a",
        "m0/b",
        "m1/a",
        "m1/b",
        "m2/a",
        "m2/b",
    ]
    assert len({result["sha256"] for result in record["results"]}) == 6
    chosen = Fusion.from_json(next(m for m in record["methods"] if m["method"] == record["chosen"]))
    assert chosen.method not in ("mean_probability", "mean_log_probability", "mean_rank")
    for split in ("val", "test"):
        rows = catalogue.rows(split)
        assert np.array_equal(np.load(out / split / "rows.npy"), rows)
        scores = scores_of(index, models, split)
        for method in record["methods"]:
            fusion = Fusion.from_json(method)
            lists = np.load(out / split / f"{fusion.method}.top5.npy")
            assert lists.shape == (len(rows), 5)
            if fusion.pooling == "log_probability" and fusion.summed:
                expected = fused(scores, normalised(fusion.weights))
                assert np.array_equal(lists, np.argsort(-expected, axis=1, kind="stable")[:, :5])
            if split == "val":
                hits = hits_in_list(lists, catalogue.labels_N[rows])
                assert class_averaged(hits, catalogue.labels_N[rows]) == pytest.approx(
                    method["chosen_by"]["top5"]
                )
        assert np.array_equal(
            np.load(out / split / "top5.npy"), np.load(out / split / f"{chosen.method}.top5.npy")
        )
    teacher, info = results.open_dense(out / "test" / "fused.npy")
    assert info.model == "fused" and info.rows_hash == results.rows_hash(catalogue.rows("test"))
    assert np.array_equal(np.argmax(teacher, axis=1), np.load(out / "test" / "top5.npy")[:, 0])


def test_equal_bytes_and_resumed_tables(
    tmp_path: Path, index: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = run(index, models, tmp_path / "one"), run(index, models, tmp_path / "two")
    monkeypatch.setattr("smelt.fusion.procedure.SMALL", 0)  # tables go over the disk, as for large problems
    three = run(index, models, tmp_path / "three")
    names = [path.relative_to(one) for path in sorted(one.rglob("*")) if path.is_file()]
    assert len(names) > 20
    for other in (two, three):
        for name in names:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_copies_that_dedupe_found_are_kept_together(tmp_path: Path, index: Path, models: list[Path]) -> None:
    rows = Catalogue.open(index / "catalogue").rows("val")
    copies = tmp_path / "dedupe"
    copies.mkdir()
    # three groups of the rows of validation, and one that is none of its business
    table = pa.table({"row": [*rows[:9].tolist(), 0, 1], "group": [0] * 4 + [1] * 3 + [2] * 2 + [3] * 2})
    pq.write_table(table, copies / "duplicates.parquet")
    found = groups(copies, rows)
    sizes = np.unique(found, return_counts=True)[1]
    assert sorted(sizes[sizes > 1].tolist()) == [2, 3, 4] and len(np.unique(found)) == 300 - 6
    assert found[0] == found[3] != found[4] == found[6]
    # what hangs together, as the frames of a pan do, goes together
    hanging = table.append_column("chain", [[0] * 7 + [1] * 2 + [2] * 2])
    pq.write_table(hanging, copies / "duplicates.parquet")
    assert len(np.unique(groups(copies, rows)[:7])) == 1
    pq.write_table(table, copies / "duplicates.parquet")
    out = tmp_path / "out"
    (out / "scratch").mkdir(parents=True)
    inputs = {"catalogue": [index], "predict": models, "dedupe": [copies]}
    run_stage("fuse", SETTINGS, inputs=inputs, out=out, scratch=out / "scratch")
    record = read_json(out / "fusion.json")
    assert record["groups"] == record["held_out"]["groups"] == 294 and record["images"] == 300
    assert record["held_out"]["effective"] == pytest.approx(300**2 / (291 + 4**2 + 3**2 + 2**2))


def test_refused(tmp_path: Path, index: Path, models: list[Path]) -> None:
    other = shutil.copytree(models[0], tmp_path / "other")
    shutil.copy(models[1] / "val" / "a.npy", other / "val" / "a.npy")
    for second in (models[0], other):
        with pytest.raises(ResultError, match=r"both called m0/a"):
            run(index, [models[0], second], tmp_path / f"twice-{second.name}")
    # what a step that is not taken hands on is one result
    again = shutil.copytree(models[0], tmp_path / "again")
    once = read_json(run(index, [models[0], models[1], again], tmp_path / "handed") / "fusion.json")
    assert once["results"] == read_json(run(index, models[:2], tmp_path / "once") / "fusion.json")["results"]
    nothing = read_json(run(index, [tmp_path / "nothing"], tmp_path / "none") / "fusion.json")
    assert nothing["results"] == [] and "nothing is fused" in nothing["words"]
    odd = shutil.copytree(models[1], tmp_path / "odd")
    (odd / "test" / "b.npy").unlink()
    with pytest.raises(ResultError, match=r"different results \(m1/b\)"):
        run(index, [models[0], odd], tmp_path / "missing")
    catalogue = Catalogue.open(index / "catalogue")
    rows = catalogue.rows("val")[:-1]
    info = results.describe("x", "a", "val", rows, catalogue.classes)
    (tmp_path / "short" / "val").mkdir(parents=True)
    results.write_dense(tmp_path / "short" / "val" / "a.npy", np.zeros((len(rows), CLASSES)), info, rows)
    with pytest.raises(ResultError, match="does not cover the 300 images"):
        run(index, [tmp_path / "short"], tmp_path / "gap")
    rows = catalogue.rows("val")
    info = results.describe("x", "a", "val", rows, [*catalogue.classes[1:], "other"])
    results.write_dense(tmp_path / "short" / "val" / "a.npy", np.zeros((len(rows), CLASSES)), info, rows)
    with pytest.raises(ResultError, match="other classes"):
        run(index, [tmp_path / "short"], tmp_path / "classes")


def test_test_results_do_not_matter_for_the_choice(tmp_path: Path, index: Path, models: list[Path]) -> None:
    plain = read_json(run(index, models, tmp_path / "one") / "fusion.json")
    changed = []
    for folder in models:
        copy = shutil.copytree(folder, tmp_path / folder.name)
        for path in results.find(copy, "test"):
            info, rows = results.read_info(path), results.read_rows(path)
            results.write_dense(path, np.random.default_rng(9).normal(size=(len(rows), CLASSES)), info, rows)
        changed.append(copy)
    assert read_json(run(index, changed, tmp_path / "two") / "fusion.json") == plain
