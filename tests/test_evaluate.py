"""Stage `evaluate`: its figures against loops over single images, on a real run and on made-up artefacts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.artifacts import results
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.ranking import Ranking, write_ranking
from smelt.artifacts.selection import Selection, write_selection
from smelt.data.formats.config import FormatSettings
from smelt.mining.intervals import wilson
from smelt.stages.config import EvaluateSettings, RoundSettings, Runtime
from smelt.stages.context import Context
from smelt.stages.evaluate import blockwise, run, standing_out
from smelt.stages.index import index


def naive(scores: Iterable[Sequence[float]], labels: Iterable[int], k: int) -> float:
    """Class-averaged top-k, image by image: right if fewer than k classes come first, equal ones by
    number."""
    by_class: dict[int, list[bool]] = {}
    for row, label in zip(scores, labels, strict=True):
        if label >= 0:
            own = float(row[label])
            above = sum(float(s) > own or (float(s) == own and c < label) for c, s in enumerate(row))
            by_class.setdefault(label, []).append(above < k)
    means = [sum(hits) / len(hits) for hits in by_class.values()]
    return sum(means) / len(means)


def softmax(row: Sequence[float]) -> list[float]:
    powers = [math.exp(float(x) - max(map(float, row))) for x in row]
    return [p / sum(powers) for p in powers]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(-2, 2), min_size=3, max_size=3), st.integers(-1, 2)), min_size=1),
    st.integers(1, 5),
)
def test_blocks_give_what_the_whole_gives(images: list[tuple[list[int], int]], size: int) -> None:
    """Ties, images without a label and classes without images included; blocks of any size."""
    scores = np.array([row for row, _ in images], np.float16)
    labels = np.array([label for _, label in images], np.int32)
    if not (labels >= 0).any():
        return
    found = blockwise((scores[i : i + size] for i in range(0, len(scores), size)), labels)
    assert found["top1"] == pytest.approx(naive(scores.tolist(), labels.tolist(), 1))
    assert found["top5"] == pytest.approx(naive(scores.tolist(), labels.tolist(), 5))


# A finished run


def artefacts(work: Path, stage: str) -> dict[str, Path]:
    """Node id → artefact of every node of a stage."""
    nodes = json.loads((work / "flowchart.json").read_text())["nodes"]
    return {
        n["id"]: work / "artifacts" / f"{stage}-{n['key']}"
        for n in nodes
        if n["stage"] == stage and n["id"].startswith(stage)
    }


@pytest.mark.slow
def test_single_models_averages_and_fusions_of_a_run(finished: Path) -> None:
    catalogue = Catalogue.open(artefacts(finished, "index")["index"] / "catalogue")
    ladder = json.loads((artefacts(finished, "evaluate")["evaluate"] / "ladder.json").read_text())
    detail = json.loads((artefacts(finished, "evaluate")["evaluate"] / "evaluate.json").read_text())
    predicted = artefacts(finished, "predict")
    first = {row["model"]: row for row in detail["results"] if row["view"] == "32x1"}
    assert len(detail["results"]) == 12 and len(first) == 6
    for split in ("val", "test"):
        labels = catalogue.labels_N[catalogue.rows(split)].tolist()
        for model, row in first.items():
            scores, _ = results.open_dense(predicted[f"predict/{model}"] / split / "32x1.npy")
            assert row[split]["top1"] == pytest.approx(naive(scores.tolist(), labels, 1))
            assert row[split]["top5"] == pytest.approx(naive(scores.tolist(), labels, 5))
        for rung, averaged, name in zip(
            ladder["rungs"], ladder["rounds"], ("raw", "filtered", "distilled"), strict=False
        ):
            own = [model for model in first if model.startswith(f"{name}/")]
            values = [first[model][split]["top1"] for model in own]
            mean = sum(values) / 2
            assert rung[split]["top1"] == pytest.approx(mean)
            spread = math.sqrt(sum((v - mean) ** 2 for v in values))  # n − 1 = 1
            assert rung["spread"][f"{split}_top1"] == pytest.approx(spread)
            each = [
                results.open_dense(predicted[f"predict/{m}"] / split / "32x1.npy")[0].tolist() for m in own
            ]
            both = [[(a + b) / 2 for a, b in zip(softmax(x), softmax(y))] for x, y in zip(*each)]
            assert averaged[split]["top1"] == pytest.approx(naive(both, labels, 1))
        for rung in ladder["rungs"][3:]:
            path = artefacts(finished, "fuse")["fuse"] / split / f"{rung['method']}.top5.npy"
            lists = np.load(path).tolist()
            scores = [[-row.index(c) if c in row else -99 for c in range(6)] for row in lists]
            if split == "test":
                assert rung["test"]["top1"] == pytest.approx(naive(scores, labels, 1))
                assert rung["test"]["top5"] == pytest.approx(naive(scores, labels, 5))


# Made-up artefacts

ONE = RoundSettings(name="r", models=("r/m-0",))


def made(tmp_path: Path, val: str, test: str, truth: bool = True) -> tuple[Context, Path]:
    """Two classes and six training images; labels of two val and two test images as given, "?" unknown."""
    root = tmp_path / "data"
    root.mkdir()
    lines = ["path,label,split,true_label,noise"]
    for number, (label, true) in enumerate(zip("000111", ("0", "1", "0", "1", "-1", "1"))):
        kind = "flip" if number == 1 else "oov" if number == 4 else ""
        lines.append(f"t{number}.jpg,{label},train,{true if truth else ''},{kind}")
    for split, labels in (("val", val), ("test", test)):
        lines += [f"{split}{i}.jpg,{'' if c == '?' else c},{split},,," for i, c in enumerate(labels)]
    (root / "images.csv").write_text("\n".join(line.rstrip(",") + "," * (4 - line.rstrip(",").count(","))
                                               for line in lines) + "\n")  # fmt: skip
    indexed = FormatSettings(format="csv", check_files=False, val_fraction=0)
    index(indexed, root, tmp_path / "index")
    catalogue = Catalogue.open(tmp_path / "index" / "catalogue")
    scores = {"val": [[2, 1], [2, 1]], "test": [[1, 1], [0, 3]]}
    for split, values in scores.items():
        rows = catalogue.rows(split)
        if len(rows):
            (tmp_path / "predict" / split).mkdir(parents=True)
            info = results.describe("m", "8x1", split, rows, catalogue.classes)
            results.write_dense(
                tmp_path / "predict" / split / "8x1.npy",
                np.array(values[: len(rows)], np.float16),
                info,
                rows,
            )
            (tmp_path / "fuse" / split).mkdir(parents=True)
            lists = np.array([[0, 1]] * len(rows), np.uint16)
            np.save(tmp_path / "fuse" / split / "mean_probability.top5.npy", lists)
    (tmp_path / "fuse").mkdir(exist_ok=True)
    fusion = {"methods": [{"method": "mean_probability"}], "plain": "mean_probability", "results": [{}],
              "chosen": "mean_probability", "words": "made up"}  # fmt: skip
    (tmp_path / "fuse" / "fusion.json").write_text(json.dumps(fusion))
    mined(tmp_path, catalogue)
    one = ONE
    inputs = {"catalogue": [tmp_path / "index"], "fuse": [tmp_path / "fuse"]}
    inputs |= {f"{stage}/r": [tmp_path / stage] for stage in ("predict", "rank", "select")}
    (tmp_path / "out").mkdir()
    settings_ = EvaluateSettings(view="8x1", rounds=(one,))
    return Context(settings_, inputs, tmp_path / "out", tmp_path / "scratch", Runtime()), tmp_path / "out"


def mined(folder: Path, catalogue: Catalogue) -> None:
    """Rows 1 (wrong) and 2 (right) dropped as low; row 5 dropped as a duplicate; row 4 (wrong) kept."""
    rows = catalogue.rows("train")
    for stage in ("rank", "select"):
        (folder / stage).mkdir()
    score = np.array([0.9, -0.5, 0.1, 0.8, -0.2, np.nan])
    write_ranking(folder / "rank", Ranking(rows, {"aum": score}, score), {"score": "aum"})
    selection = Selection(
        rows, catalogue.labels_N[rows].astype(np.int32), np.ones(6, np.float32),
        np.array([True, False, False, True, True, False]), np.array([0, 1, 1, 0, 0, 2], np.int32),
        ("", "low_aum", "duplicate"), 2,
    )  # fmt: skip
    write_selection(folder / "select", selection, {"method": "lowest_fraction"})


def outcome(context: Context, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    run(context)
    return json.loads((out / "ladder.json").read_text()), json.loads((out / "evaluate.json").read_text())


def test_by_hand(tmp_path: Path) -> None:
    ladder, detail = outcome(*made(tmp_path, "01", "01"))
    single, fused = ladder["rungs"]
    assert single["val"]["top1"] == 0.5  # the second val image is of class 1, and 0 scores more
    assert single["test"]["top1"] == 1.0  # of equal scores the lower class comes first, the label here
    assert fused["test"]["top1"] == 0.5 and fused["val"] == {}  # nothing was held out
    assert ladder["fusion"] == "made up"
    assert detail["per_class"] == {"split": "test", "top1": [1.0, 0.0], "confused_with": {"1": "0"}}
    (found,) = ladder["selections"]
    assert (found["rows"], found["wrong"], found["dropped"]) == (6, 2, 2)
    assert (found["precision"], found["recall"]) == (0.5, 0.5)
    assert found["noise_left"] == pytest.approx(1 / 3, abs=1e-6)
    # wrong rows score −0.5 and −0.2, right ones 0.9, 0.1 and 0.8: every pair in order
    assert found["scores"]["aum"] == {"auroc": 1.0, "precision_at_k": 1.0}
    assert found["noise"]["flip"] == {"rows": 1, "dropped_share": 1.0}
    assert found["noise"]["oov"] == {"rows": 1, "dropped_share": 0.0}


def test_mining_is_judged_with_intervals_and_on_how_many(tmp_path: Path) -> None:
    context, out = made(tmp_path, "01", "01")
    (found,) = outcome(context, out)[0]["selections"]
    assert found["precision_interval"] == pytest.approx(wilson(0.5, 2), abs=1e-6)
    assert found["noise_left_interval"] == pytest.approx(wilson(1 / 3, 3), abs=1e-6)
    assert (found["intervals"]["aum"]["images"], found["intervals"]["aum"]["wrong"]) == (5, 2)
    assert found["intervals"]["aum"]["auroc"][1] == 1.0 and found["intervals"]["aum"]["auroc"][0] < 0.7


def test_validation_is_asked_about_classes_that_stand_out(tmp_path: Path) -> None:
    context, out = made(tmp_path, "01", "01")
    diagnosis = {"abstract": [{"number": 1, "class": "1"}]}
    (tmp_path / "rank" / "diagnosis.json").write_text(json.dumps(diagnosis))
    (found,) = outcome(context, out)[1]["standing_out"]["r"]
    # class 0: right, class 1: wrong, one image each; that is not enough to say that it was not learnt
    assert (found["number"], found["top1"], found["images"], found["usual"]) == (1, 0.0, 1, 0.5)
    assert found["learnt"] == "cannot be told"
    (tmp_path / "predict" / "val" / "8x1.npy").unlink()
    assert standing_out(context, Catalogue.open(tmp_path / "index" / "catalogue"), ONE) == []


def test_the_choice_is_shown_by_what_the_whole_of_it_holds_out(tmp_path: Path) -> None:
    """Not by the best of the figures that it chose among; test by the list that is delivered."""
    context, out = made(tmp_path, "01", "01")
    path = tmp_path / "fuse" / "fusion.json"
    fusion = json.loads(path.read_text())
    methods = [
        {"method": name, "held_out": {"top1": top1, "top5": 1.0}}
        for name, top1 in (("mean_probability", 0.5), ("genetic", 0.75), ("linear_pool", 0.9))
    ]
    for split in ("val", "test"):
        for name, lists in (("genetic", [[0, 1], [1, 0]]), ("linear_pool", [[1, 0], [1, 0]])):
            np.save(tmp_path / "fuse" / split / f"{name}.top5.npy", np.array(lists, np.uint16))
    held_out = {"top1": 0.6, "top5": 1.0, "interval": None}
    for chosen in ("linear_pool", "genetic", "mean_probability"):
        fusion |= {"methods": methods, "chosen": chosen, "held_out": held_out}
        path.write_text(json.dumps(fusion))
        ladder, _ = outcome(context, out)
        _, average, genetic, last = ladder["rungs"]
        assert (average["val"]["top1"], genetic["val"]["top1"], last["val"]["top1"]) == (0.5, 0.75, 0.6)
        assert last["chosen"] and last["name"].startswith("what the guard chose: ")
        assert [rung.get("chosen", False) for rung in ladder["rungs"]] == [False, False, False, True]
        right = {"linear_pool": 0.5, "genetic": 1.0, "mean_probability": 0.5}
        assert last["test"]["top1"] == right[chosen] and genetic["test"]["top1"] == 1.0


def test_without_test_labels_truth_or_test_images(tmp_path: Path) -> None:
    for number, (val, test) in enumerate((("01", "??"), ("01", ""), ("", "01"), ("", ""))):
        (tmp_path / str(number)).mkdir()
        ladder, detail = outcome(*made(tmp_path / str(number), val, test, truth=False))
        for rung in ladder["rungs"][:1]:
            assert ("top1" in rung["val"], "top1" in rung["test"]) == (bool(val), test == "01")
        assert detail["per_class"].get("split") == ("test" if test == "01" else "val" if val else None)


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    context, out = made(tmp_path, "01", "01")
    run(context)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    run(context)
    assert first == {path.name: path.read_bytes() for path in out.iterdir()}
