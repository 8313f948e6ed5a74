"""The verb fuse on files: what it prints and writes, how it is used again, what it refuses."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from smelt.errors import SmeltError
from smelt.fusion.inputs import read_lists
from smelt.metrics import class_averaged, hits_in_list
from smelt.verbs import flow
from smelt.verbs import fuse as verb


def smelt(*arguments: Any) -> Any:
    app = typer.Typer()
    verb.register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["fuse", *map(str, arguments)], catch_exceptions=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    labels = random.integers(0, 9, 400)
    truth = 1.5 * np.eye(9)[labels]
    np.save(folder / "labels.npy", labels)
    for name, noise in (("a", 0.7), ("b", 1.5), ("c", 3.0)):
        np.save(folder / f"{name}.npy", (truth + noise * random.normal(size=truth.shape)).astype(np.float32))
        np.save(
            folder / f"{name}-test.npy",
            (truth[::-1] + noise * random.normal(size=truth.shape)).astype(np.float32),
        )
    (folder / "ids.txt").write_text("".join(f"test{n:06}.jpg\n" for n in range(400)))
    return folder


def test_fit_write_and_use_again(files: Path, tmp_path: Path) -> None:
    inputs = [files / f"{name}.npy" for name in "abc"]
    out = tmp_path / "fused"
    found = smelt(
        *inputs, "--labels", files / "labels.npy", "--metric", "top1", "--explain", "--out", out, "--scores"
    )
    assert found.exit_code == 0, found.output
    for text in ("held out", "What each result is worth", "How alike they err", "is used"):
        assert text in found.output
    record = json.loads((out / "fusion.json").read_text())
    weights = dict(line.split(",") for line in (out / "weights.csv").read_text().splitlines()[1:])
    assert set(weights) == {"a", "b", "c"} and sum(map(float, weights.values())) == pytest.approx(1, abs=1e-6)
    labels = np.load(files / "labels.npy")
    ids, lists = read_lists(out / "top5.txt")
    assert len(ids) == 400
    chosen = next(m for m in record["methods"] if m["method"] == record["chosen"])
    assert class_averaged(hits_in_list(lists[:, :1], labels), labels) == pytest.approx(
        chosen["chosen_by"]["top1"]
    )
    assert np.array_equal(np.load(out / "scores.npy").argmax(1), lists[:, 0])

    again = tmp_path / "test"
    tests = [files / f"{name}-test.npy" for name in "abc"]
    found = smelt(
        *tests,
        "--use",
        out / "fusion.json",
        "--ids",
        files / "ids.txt",
        "--out",
        again,
        "--submission",
        "--json",
    )
    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["chosen"] == record["chosen"]
    with zipfile.ZipFile(again / "submission.zip") as archive:
        first = archive.read("predictions.txt").decode().splitlines()[0]
    assert first.startswith("test000000.jpg\t") and len(first.split()) == 6
    hits = hits_in_list(read_lists(again / "predictions.txt")[1], labels[::-1])
    assert class_averaged(hits, labels[::-1]) > 0.9
    assert smelt(*tests[:2], "--use", out / "fusion.json").exit_code != 0


def test_json_and_no_labels(files: Path) -> None:
    inputs = [files / f"{name}.npy" for name in "abc"]
    found = smelt(*inputs, "--labels", files / "labels.npy", "--json")
    assert found.exit_code == 0
    assert {"methods", "chosen", "words", "likeness", "curve", "results"} <= json.loads(found.output).keys()
    found = smelt(*inputs)
    assert found.exit_code == 0 and "without labels" in found.output.replace("\n", " ")


@pytest.mark.parametrize(
    "extra, match",
    [
        (["--metric", "top3"], "top1 or top5"),
        (["--submission"], "--out"),
        (["--work", "x"], "recipe"),
        (["--labels", "LABELS", "--use", "x"], "one of the two"),
    ],
)
def test_refused(files: Path, extra: list[str], match: str) -> None:
    extra = [str(files / "labels.npy") if one == "LABELS" else one for one in extra]
    found = smelt(files / "a.npy", files / "b.npy", *extra)
    assert isinstance(found.exception, SmeltError) and match in str(found.exception)
    assert found.exception.exit_code == 2


def test_bad_files_are_named_and_nothing_is_written(files: Path, tmp_path: Path) -> None:
    found = smelt(files / "a.npy", files / "a.npy", "--out", tmp_path / "out")
    assert isinstance(found.exception, SmeltError) and "a.npy is given twice" in str(found.exception)
    assert not (tmp_path / "out").exists()


def test_a_recipe_goes_to_the_flowchart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []

    def until(stage: str, recipe: str, **options: Any) -> Path:
        calls.append((stage, recipe, options))
        return tmp_path

    monkeypatch.setattr(flow, "run_until", until)
    monkeypatch.chdir(tmp_path)
    assert smelt("demo", "--work", "w", "-o", "seed=1").exit_code == 0
    assert smelt("my.yaml").exit_code == 0
    assert [call[:2] for call in calls] == [("fuse", "demo"), ("fuse", "my.yaml")]
    assert calls[0][2]["override"] == ["seed=1"] and calls[0][2]["work"] == Path("w")


def test_help_shows_examples() -> None:
    found = smelt("--help")
    assert found.exit_code == 0 and "smelt fuse a.npy b.npy" in found.output
