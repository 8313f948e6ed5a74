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
from smelt.fusion.scores.scorefiles import read_file
from smelt.metrics import class_averaged, hits_in_list
from smelt.verbs import fuse_files as verb
from smelt.verbs import run


def read_lists(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    (raw,) = read_file(path)
    assert raw.ids is not None and raw.lists_NK is not None
    return raw.ids, raw.lists_NK


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
        (["--metric", "top3"], "auto, top1 or top5"),
        (["--kind", "a.npy=soup"], "'soup' is no kind"),
        (["--as", "x=none.npy"], "none.npy is none of the inputs"),
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

    monkeypatch.setattr(run, "run_until", until)
    monkeypatch.chdir(tmp_path)
    assert smelt("demo", "--work", "w", "-o", "seed=1").exit_code == 0
    assert smelt("my.yaml").exit_code == 0
    assert [call[:2] for call in calls] == [("fuse", "demo"), ("fuse", "my.yaml")]
    assert calls[0][2]["override"] == ["seed=1"] and calls[0][2]["work"] == Path("w")


def test_help_shows_examples() -> None:
    found = smelt("--help")
    assert found.exit_code == 0 and "smelt fuse a.npy b.npy" in found.output


def fitted(
    folder: Path, count: int = 300, classes: int = 8, seed: int = 0
) -> tuple[np.ndarray, dict[str, Any]]:
    """Labels and scores of three results of very different worth."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    made = {
        name: (worth * np.eye(classes)[labels] + random.normal(size=(count, classes))).astype(np.float32)
        for name, worth in (("good", 3.0), ("mid", 1.0), ("bad", 0.4))
    }
    folder.mkdir(exist_ok=True)
    for name, scores in made.items():
        np.save(folder / f"{name}.npy", scores)
    np.save(folder / "y.npy", labels)
    return labels, made


def first(path: Path) -> np.ndarray:
    return read_lists(path)[1][:, 0]


@pytest.fixture(scope="module")
def fusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fusion")
    fitted(folder)
    names = [folder / f"{name}.npy" for name in ("good", "mid", "bad")]
    found = smelt(*names, "--labels", folder / "y.npy", "--metric", "top1", "--out", folder / "fused")
    assert found.exit_code == 0, found.output
    return folder


def test_fusion_json_keeps_who_is_who(fusion: Path) -> None:
    record = json.loads((fusion / "fused" / "fusion.json").read_text())
    assert record["names"] == ["good", "mid", "bad"] == [one["name"] for one in record["results"]]
    assert record["kinds"] == ["logits"] * 3 and record["num_classes"] == 8
    assert record["classes"] is None and record["ids"] is None
    assert [Path(file).name for file in record["inputs"]["files"]] == ["good.npy", "mid.npy", "bad.npy"]


@pytest.mark.parametrize("order", [("good", "mid", "bad"), ("bad", "good", "mid")])
@pytest.mark.parametrize("form", ["{}.npy", "{}-test.npy", "{}_val.npy", "{}/test.npy", "--as", "only --as"])
def test_weights_go_by_name_never_by_position(
    fusion: Path, tmp_path: Path, order: tuple[str, ...], form: str
) -> None:
    labels, made = fitted(tmp_path / "source", seed=1)
    files, options = [], list[Any]()
    for place, name in enumerate(order):
        path = tmp_path / (f"{place}.npy" if "--as" in form else form.format(name))
        path.parent.mkdir(exist_ok=True)
        np.save(path, made[name])
        files.append(path)
        options += ["--as", f"{name}={path}"] if "--as" in form else []
    out = tmp_path / "out"
    files = [] if form == "only --as" else files
    found = smelt(*files, *options, "--use", fusion / "fused" / "fusion.json", "--out", out)
    assert found.exit_code == 0, found.output
    right = (first(out / "top5.txt") == labels).mean()
    assert right > (made["good"].argmax(1) == labels).mean() - 0.02 > 0.8
    weights = [line.split(",") for line in (out / "weights.csv").read_text().splitlines()[1:]]
    assert [name for name, _ in weights] == ["good", "mid", "bad"]
    assert ("another order" in found.output) == (order[0] == "bad")
    assert ("without the split" in found.output) == ("{}" in form and form != "{}.npy")


def test_another_set_of_results_is_refused_by_name(fusion: Path, tmp_path: Path) -> None:
    _, made = fitted(tmp_path / "source", seed=1)
    for name in ("good", "mid", "strange"):
        np.save(tmp_path / f"{name}-test.npy", made.get(name, made["bad"]))
    files = [tmp_path / f"{name}-test.npy" for name in ("good", "mid", "strange")]
    for given, match in ((files, r"not given: bad; not known to it: strange-test.*--as bad=FILE"),
                         (files[:2], "weighs 3 results, 2 are given.*not given: bad")):  # fmt: skip
        found = smelt(*given, "--use", fusion / "fused" / "fusion.json", "--out", tmp_path / "out")
        with pytest.raises(SmeltError, match=match):
            raise found.exception
    assert not (tmp_path / "out").exists()


def test_other_classes_are_refused_and_moved_ones_are_put_back(tmp_path: Path) -> None:
    _, made = fitted(tmp_path / "val")
    names = list("abcdefgh")
    for folder, order in (("val", names), ("test", names[::-1]), ("odd", [*names[:-1], "x"])):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, scores in made.items():
            columns = [names.index(one) if one in names else 7 for one in order]
            np.savez(tmp_path / folder / f"{name}.npz", scores=scores[:, columns], class_names=order)
    said = [tmp_path / "val" / f"{name}.npz" for name in made]
    out = tmp_path / "fused"
    assert smelt(*said, "--labels", tmp_path / "val" / "y.npy", "--out", out).exit_code == 0
    assert json.loads((out / "fusion.json").read_text())["classes"] == names
    moved = [tmp_path / "test" / f"{name}.npz" for name in made]
    found = smelt(*moved, "--use", out / "fusion.json", "--out", tmp_path / "again")
    assert found.exit_code == 0 and "its columns are moved" in found.output
    assert np.array_equal(first(tmp_path / "again" / "top5.txt"), first(out / "top5.txt"))
    odd = [tmp_path / "odd" / f"{name}.npz" for name in made]
    with pytest.raises(
        SmeltError, match=r"different lists of classes: it lacks 1 \(h\), it has 1 others \(x\)"
    ):
        raise smelt(*odd, "--use", out / "fusion.json").exception
    np.save(tmp_path / "val" / "good.npy", made["good"][:, :5])
    with pytest.raises(SmeltError, match=r"good\.npy has 5 classes, .*fusion\.json has 8"):
        raise smelt(tmp_path / "val" / "good.npy", *said[1:], "--use", out / "fusion.json").exception


def leaning(folder: Path, count: int, seed: int, order: list[str]) -> np.ndarray:
    """Labels of three results that all lean to the same classes, written with their columns in `order`."""
    random = np.random.default_rng(seed)
    names = list("abcdef")
    labels = random.integers(0, 6, count)
    folder.mkdir(exist_ok=True)
    for name, noise in (("one", 0.8), ("two", 1.2), ("three", 1.6)):
        scores = 1.8 * np.eye(6)[labels] + noise * random.normal(size=(count, 6)) + np.linspace(0.7, -0.7, 6)
        scores = scores.astype(np.float32)[:, [names.index(one) for one in order]]
        np.savez(folder / f"{name}.npz", scores=scores, class_names=order)
    np.save(folder / "y.npy", labels)
    return labels


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacked")
    leaning(folder / "val", 700, 0, list("abcdef"))
    files = [folder / "val" / f"{name}.npz" for name in ("one", "two", "three")]
    out = folder / "fused"
    found = smelt(*files, "--labels", folder / "val" / "y.npy", "--metric", "top1", "--explain", "--out", out)
    assert found.exit_code == 0, found.output
    assert "stacking is used" in " ".join(found.output.split())
    assert "mean weight" in " ".join(found.output.split())
    return folder


def test_weights_of_classes_go_by_their_names(stacked: Path, tmp_path: Path) -> None:
    """Other images with their columns in another order: the lists are those of the columns in order."""
    lists = []
    for place, order in enumerate((list("abcdef"), list("dafbec"))):
        labels = leaning(tmp_path / "test", 500, 1, order)
        files = [tmp_path / "test" / f"{name}.npz" for name in ("three", "one", "two")]
        out = tmp_path / f"out{place}"
        found = smelt(*files, "--use", stacked / "fused" / "fusion.json", "--out", out, "--scores")
        assert found.exit_code == 0, found.output
        lists.append(read_lists(out / "top5.txt")[1])
    assert np.array_equal(*lists)
    assert np.array_equal(
        np.load(tmp_path / "out0" / "scores.npy"), np.load(tmp_path / "out1" / "scores.npy")
    )
    plain = sum(np.load(path)["scores"][:, [order.index(one) for one in "abcdef"]] for path in files)
    assert class_averaged(lists[0][:, 0] == labels, labels) > (plain.argmax(1) == labels).mean() + 0.05


def test_weights_of_classes_are_written_by_name(stacked: Path) -> None:
    record = json.loads((stacked / "fused" / "fusion.json").read_text())
    chosen = next(m for m in record["methods"] if m["method"] == record["chosen"])
    header, *rows = [row.split(",") for row in
                     (stacked / "fused" / "class_weights.csv").read_text().splitlines()]  # fmt: skip
    assert header == ["class", "bias", "one", "two", "three"] and [row[0] for row in rows] == list("abcdef")
    table = np.array([[float(cell) for cell in row[1:]] for row in rows])
    assert table[:, 0] == pytest.approx(chosen["biases"]) and table[0, 0] < -0.2 < 0.2 < table[-1, 0]
    assert np.array(chosen["class_weights"]) == pytest.approx(table[:, 1:].T)
    weights = dict(
        line.split(",") for line in (stacked / "fused" / "weights.csv").read_text().splitlines()[1:]
    )
    mean = table[:, 1:].mean(axis=0)
    assert [float(weights[name]) for name in header[2:]] == pytest.approx(mean / mean.sum(), abs=1e-6)


@pytest.mark.parametrize(
    "damage",
    [
        {"biases": None},
        {"class_weights": None},
        {"class_weights": None, "biases": None},
        {"biases": [0.0] * 5},
        {"biases": [float("nan")] * 6},
        {"biases": ["x"] * 6},
        {"class_weights": [[0.1] * 6] * 2},
        {"class_weights": [[0.1] * 5] * 3},
        {"class_weights": [[0.1] * 6, [0.1] * 6, [0.1] * 5 + [-0.1]]},
        {"class_weights": [[0.1] * 6, [0.1] * 6, [None] * 6]},
        {"class_weights": [0.1] * 3},
        {"class_weights": [[0.1] * 7] * 3, "biases": [0.0] * 7},
        {"pooling": "probability"},
        {"temperatures": [1.0] * 3},
    ],
)
def test_damaged_weights_of_classes_are_refused(
    stacked: Path, tmp_path: Path, damage: dict[str, Any]
) -> None:
    record = json.loads((stacked / "fused" / "fusion.json").read_text())
    next(m for m in record["methods"] if m["method"] == record["chosen"]).update(damage)
    for known in (True, False):  # the number of classes
        if not known:
            record.update({"classes": None, "num_classes": None})
        (tmp_path / "f.json").write_text(json.dumps(record))
        files = [stacked / "val" / f"{name}.npz" for name in ("one", "two", "three")]
        found = smelt(*files, "--use", tmp_path / "f.json", "--out", tmp_path / "out")
        assert isinstance(found.exception, SmeltError) and "f.json" in str(found.exception)
        assert not (tmp_path / "out").exists()


def test_another_kind_than_was_fitted_is_said(fusion: Path, tmp_path: Path) -> None:
    _, made = fitted(tmp_path, seed=1)
    chances = np.exp(made["mid"]) / np.exp(made["mid"]).sum(axis=1, keepdims=True)
    np.save(tmp_path / "mid.npy", chances)
    files = [tmp_path / f"{name}.npy" for name in made]
    found = smelt(*files, "--use", fusion / "fused" / "fusion.json")
    assert (
        found.exit_code == 0
        and "mid held logits" in found.output
        and "mid.npy holds probabilities" in found.output
    )
    found = smelt(*files, "--use", fusion / "fused" / "fusion.json", "--kind", "mid.npy=logits")
    assert found.exit_code == 0 and "mid held" not in found.output


def chosen(pooling: str, weights: Any) -> str:
    method = {"method": "greedy", "pooling": pooling, "weights": weights, "shrinkage": 0}
    return json.dumps({"methods": [method], "chosen": "greedy", "names": ["good"]})


NO_FUSIONS = [
    "[]",
    "{}",
    "{",
    '{"methods": [], "chosen": "x"}',
    '{"methods": [{}], "chosen": "x", "names": [1]}',
    '{"methods": [{"method": "x"}], "chosen": "x", "names": ["good"]}',
    '{"methods": [], "chosen": "x", "names": ["a"], "classes": [1]}',
    *(chosen("rank", weights) for weights in (["x"], [-1.0], [float("nan")], [0.0], [0.5, 0.5], None)),
    chosen("x", [1.0]),
]


@pytest.mark.parametrize("text", NO_FUSIONS)
def test_what_is_no_fusion_is_refused(fusion: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "f.json").write_text(text)
    found = smelt(fusion / "good.npy", "--use", tmp_path / "f.json")
    assert isinstance(found.exception, SmeltError) and "f.json" in str(found.exception)


def test_ids_that_are_known_are_written(fusion: Path, tmp_path: Path) -> None:
    ids = [f"val/image {n}.jpg" for n in range(300)]
    (fusion / "good.ids.txt").write_text("\n".join(ids))
    try:
        found = smelt(fusion / "good.npy", "--out", tmp_path / "out")
        assert found.exit_code == 0 and read_lists(tmp_path / "out" / "top5.txt")[0] == tuple(ids)
        found = smelt(
            fusion / "good.npy", "--labels", fusion / "y.npy", "--out", tmp_path / "zip", "--submission"
        )
        assert "cannot go into a submission" in str(found.exception) and not (tmp_path / "zip").exists()
    finally:
        (fusion / "good.ids.txt").unlink()


def test_the_metric_means_something(tmp_path: Path) -> None:
    for classes, chosen in ((3, "top1"), (5, "top1"), (6, "top5")):
        fitted(tmp_path, classes=classes)
        found = smelt(
            tmp_path / "good.npy",
            tmp_path / "bad.npy",
            "--labels",
            tmp_path / "y.npy",
            "--out",
            tmp_path / "o",
        )
        assert found.exit_code == 0
        words = f"metric: {chosen.replace('top', 'top-')}, since there are {classes} classes"
        assert words in " ".join(found.output.split())
        assert json.loads((tmp_path / "o" / "fusion.json").read_text())["metric"] == chosen


def test_an_earlier_fusion_leaves_nothing_beside_a_later_one(fusion: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert (
        smelt(fusion / "good.npy", fusion / "mid.npy", "--out", out, "--scores", "--submission").exit_code
        == 0
    )
    (out / "mine.txt").write_text("kept")
    assert smelt(fusion / "good.npy", fusion / "bad.npy", "--out", out).exit_code == 0
    assert {path.name for path in out.iterdir()} == {"fusion.json", "weights.csv", "top5.txt", "mine.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_is_written_where_writing_fails(
    fusion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, value: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("smelt.fusion.delivered.write_json", broken)
    found = smelt(fusion / "good.npy", fusion / "mid.npy", "--out", tmp_path / "deep" / "out")
    assert "No space left" in str(found.exception)
    assert not list(tmp_path.rglob("*.*"))
    (tmp_path / "file").write_text("x")
    found = smelt(fusion / "good.npy", "--out", tmp_path / "file")
    assert "is a file; name a folder" in str(found.exception)
    found = smelt(fusion / "good.npy", "--out", tmp_path / "file" / "below")
    assert "cannot be written" in str(found.exception)


def test_warnings_reach_the_error_stream_and_the_record(fusion: Path, tmp_path: Path) -> None:
    labels = np.load(fusion / "y.npy")
    np.save(tmp_path / "odd.npy", np.load(fusion / "good.npy")[::-1])
    np.save(tmp_path / "y.npy", labels)
    found = smelt(
        fusion / "good.npy", tmp_path / "odd.npy", "--labels", tmp_path / "y.npy", "--out", tmp_path / "o"
    )
    assert "warning: odd is no better than chance" in found.stderr
    record = json.loads((tmp_path / "o" / "fusion.json").read_text())
    assert any("odd is no better" in text for text in record["warnings"])


# The field cases, from generated inputs


def case(folder: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    labels, made = fitted(folder, classes=12)
    return labels, made["good"], [f"img_{n:04}.jpg" for n in range(300)]


def probabilities(scores: np.ndarray) -> np.ndarray:
    exp = np.exp(scores.astype(np.float64))
    return exp / exp.sum(axis=1, keepdims=True)


def test_case_kaggle_tables(tmp_path: Path) -> None:
    case(tmp_path)
    for name in ("good", "mid"):
        rows = probabilities(np.load(tmp_path / f"{name}.npy"))
        lines = [f"img_{n:04}.jpg," + ",".join(f"{v:.5f}" for v in row) for n, row in enumerate(rows)]
        head = "image_id," + ",".join(f"cls_{c}" for c in range(12))
        (tmp_path / f"{name}.csv").write_text(
            "\n".join([head, *lines[:: 1 if name == "good" else -1]]) + "\n"
        )
    found = smelt(
        tmp_path / "good.csv",
        tmp_path / "mid.csv",
        "--labels",
        tmp_path / "y.npy",
        "--json",
        "--metric",
        "top1",
    )
    assert found.exit_code == 0
    record = json.loads(found.stdout)
    assert record["classes"] == [f"cls_{c}" for c in range(12)] and record["kinds"] == ["probabilities"] * 2
    assert record["ids"]["count"] == 300 and min(m["held_out"]["top1"] for m in record["methods"]) > 0.6


@pytest.mark.parametrize("form", ["header", "names", "shuffled"])
def test_case_labels_with_ids(tmp_path: Path, form: str) -> None:
    labels, _, ids = case(tmp_path)
    for name in ("good", "mid"):
        (tmp_path / f"{name}.ids.txt").write_text("\n".join(ids))
        (tmp_path / f"{name}.classes.txt").write_text("\n".join(f"cls_{c}" for c in range(12)))
    order = np.random.default_rng(0).permutation(300)
    lines = [f"{ids[n]},{f'cls_{labels[n]}' if form == 'names' else labels[n]}" for n in order]
    (tmp_path / "l.csv").write_text("\n".join(["image_id,label"] * (form == "header") + lines))
    files = [tmp_path / "good.npy", tmp_path / "mid.npy"]
    found = smelt(*files, "--labels", tmp_path / "l.csv", "--json", "--metric", "top1")
    assert found.exit_code == 0
    held = [m["held_out"]["top1"] for m in json.loads(found.stdout)["methods"]]
    assert max(held) > 0.85
    if form == "names":
        for name in ("good", "mid"):
            (tmp_path / f"{name}.classes.txt").unlink()
        found = smelt(*files, "--labels", tmp_path / "l.csv")
        assert "A.classes.txt" in str(found.exception)


@pytest.mark.parametrize("factor, kind", [(100, "percentages"), (10, "sums"), (1, "probabilities")])
def test_case_per_cent_and_sums_of_crops(tmp_path: Path, factor: float, kind: str) -> None:
    _, scores, _ = case(tmp_path)
    other = probabilities(np.load(tmp_path / "mid.npy"))
    np.save(tmp_path / "A.npy", (factor * probabilities(scores)).astype(np.float32))
    np.save(tmp_path / "B.npy", other.astype(np.float32))
    found = smelt(tmp_path / "A.npy", tmp_path / "B.npy", "--out", tmp_path / "o", "--scores")
    assert found.exit_code == 0 and f"{kind} (" in found.output
    fused = np.load(tmp_path / "o" / "scores.npy")
    assert np.allclose(fused, (probabilities(scores) + other) / 2, atol=1e-5)


def test_case_rounded_probabilities(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 200, 300)
    exact = [
        probabilities(3.0 * np.eye(200)[labels] + random.normal(size=(300, 200)) * 0.9) for _ in range(2)
    ]
    np.save(tmp_path / "A.npy", exact[0].round(2).astype(np.float32))
    np.save(tmp_path / "B.npy", exact[1].astype(np.float32))
    found = smelt(tmp_path / "A.npy", tmp_path / "B.npy", "--out", tmp_path / "o")
    assert found.exit_code == 0 and "rounded or cut" in found.stderr
    right = (first(tmp_path / "o" / "top5.txt") == labels).mean()
    assert right > ((exact[0] + exact[1]).argmax(1) == labels).mean() - 0.05
    assert right > (exact[1].argmax(1) == labels).mean() + 0.05


def test_the_folder_that_out_wrote_is_what_use_means(files: Path, tmp_path: Path) -> None:
    inputs = [files / f"{name}-test.npy" for name in "abc"]
    fitted_out = tmp_path / "fit"
    smelt(*(files / f"{name}.npy" for name in "abc"), "--labels", files / "labels.npy", "--out", fitted_out)
    by_folder = smelt(*inputs, "--use", fitted_out, "--json")
    by_file = smelt(*inputs, "--use", fitted_out / "fusion.json", "--json")
    assert by_folder.exit_code == 0 and by_folder.output == by_file.output


@pytest.mark.parametrize("option", ["--use", "--labels", "--ids"])
def test_folders_and_missing_files_are_told_by_option(files: Path, tmp_path: Path, option: str) -> None:
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "none.txt", "is not there")):
        found = smelt(files / "a.npy", files / "b.npy", option, path)
        assert isinstance(found.exception, SmeltError) and found.exception.exit_code == 2
        assert str(found.exception).startswith(f"{option} {path} {words}")


def test_folders_with_the_names_of_what_lies_beside_scores(files: Path, tmp_path: Path) -> None:
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.load(files / f"{name}.npy"))
    (tmp_path / "a.json").mkdir()  # somebody else's
    assert smelt(tmp_path / "a.npy", tmp_path / "b.npy").exit_code == 0
    (tmp_path / "a.ids.txt").mkdir()
    found = smelt(tmp_path / "a.npy", tmp_path / "b.npy")
    assert isinstance(found.exception, SmeltError) and "a.ids.txt is a folder" in str(found.exception)
