"""Golden results: what each stage gives on tiny input, tied to its version.

    python tests/golden_cases.py                  which cases differ from what is recorded
    python tests/golden_cases.py --write [STAGE…] record them (all, or those of some stages)

A case whose result changed is recorded only if the stage's version was raised, if what it is made from
changed or if it was made on another build: a changed helper must not go unnoticed. `--force` records it all
the same. Records are `tests/golden/STAGE.json`. Inputs are made up here with the writers of
`smelt.artifacts`, so that a case shows a change of its own stage and of no other; `dedupe`, `evaluate` and
`submit` read what the stage before them gave.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import learning_toy
from smelt.artifacts import results
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.artifacts.dynamics import OTHER_BITS, Dynamics
from smelt.files import atomic, committed
from smelt.files.ipc import map_batch
from smelt.flowchart import versions
from smelt.mining.visits import declared
from smelt.stages.config import Runtime
from smelt.stages.context import Context
from smelt.stages.table import STAGES

FOLDER = Path(__file__).with_name("golden")
COMMAND = "python tests/golden_cases.py --write"
LONGEST = 400  # values of an array that are written out; longer ones are a hash and a few figures
CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
COUNTS = {"train": 42, "val": 70, "test": 35}

# What a case may differ by on another build: None must be equal everywhere (integers, tables, text); a number
# is how far floating-point figures may lie apart, relatively; single values that they decide may differ.
TOLERANCE: dict[str, float | None] = {
    "synthesise": 0.02, "index": None, "check": None, "dedupe": None, "select": None, "submit": None,
    "rank": 1e-6, "evaluate": 1e-6, "predict": 0.02, "features": 0.02, "tune": 0.01, "train": 0.01,
    "fuse": 0.02, "decide": 1e-6,
}  # fmt: skip
# By what a build is known, for each stage that is not equal everywhere
BUILD = {
    "synthesise": ("python", "numpy", "pillow", "libjpeg_turbo"),
    **dict.fromkeys(("rank", "decide", "evaluate"), ("numpy", "processor")),
    **dict.fromkeys(
        ("fuse", "tune", "train", "predict", "features"), ("torch", "numpy", "timm", "processor")
    ),
}


@dataclass(frozen=True)
class Case:
    """One run of a stage: `make` writes its inputs below a folder and gives them by port."""

    stage: str
    name: str
    make: Callable[[Path], dict[str, list[Path]]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.stage}/{self.name}"


# Inputs


def pictures(folder: Path) -> Path:
    """Images without a compressor's freedom (BMP), copies and broken ones among them, and their list."""
    random = np.random.default_rng(0)
    one, two, three, four = (
        np.kron(random.integers(0, 256, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(4)
    )
    shown = {
        "a/one.bmp": ("train", 0, one), "a/one again.bmp": ("train", 1, one), "a/two.bmp": ("train", 0, two),
        "b/two brighter.bmp": ("train", 0, np.minimum(two, 250) + 5), "b/three.bmp": ("train", 1, three),
        "b/four left for right.bmp": ("train", 1, four[:, ::-1]), "val/four.bmp": ("val", 1, four),
        "val/broken.bmp": ("val", 0, None),
        "test/noise.bmp": ("test", 1, random.integers(0, 256, (40, 50, 3))),
    }  # fmt: skip
    lines = ["path,label,split,title"]
    for name, (split, label, pixels) in shown.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if pixels is None:
            path.write_bytes(b"BM but no more")
        else:
            Image.fromarray(np.ascontiguousarray(pixels, np.uint8)).save(path)
        lines.append(f'{name},{CLASSES[label]},{split},"of {name}, they say"')
    lines.append("b/not there.bmp,bee,train,gone")
    with open(folder / "a/one again.bmp", "ab") as file:
        file.write(b"more bytes, equal pixels")
    (folder / "images.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def catalogue(folder: Path) -> Path:
    """An index artefact of COUNTS images in seven classes; test without labels."""
    random = np.random.default_rng(1)
    with CatalogueWriter(folder / "catalogue") as writer:
        writer.classes = list(CLASSES)
        for split, count in COUNTS.items():
            labels = random.permutation(np.arange(count) % len(CLASSES)).astype(np.int32)
            paths = Paths.of(f"{split}/{n}.jpg".encode() for n in range(count))
            writer.add(Block(split, "web", paths, labels if split != "test" else labels * 0 - 1))
        writer.finish()
    return folder


def trained(folder: Path, index: Path, seed: int) -> Path:
    """A train artefact as far as mining reads it: dynamics of eight visits (some rows have none), curves."""
    random = np.random.default_rng(seed)
    rows = Catalogue.open(index / "catalogue").rows("train")
    columns = {
        name: np.full(sum(COUNTS.values()), kind.start, kind.dtype) for name, kind in declared().items()
    }
    seen = rows[random.random(len(rows)) < 0.95]
    clean = random.random(len(seen)) < 0.7
    margin = np.where(clean, 2.0, -1.0) + random.integers(-64, 64, len(seen)) / 64  # exact in float32
    columns["seen"][seen] = 8
    columns["margin_sum"][seen] = 8 * margin
    columns["log_margin_sum"][seen] = 4 * margin
    columns["probability_sum"][seen] = np.round(8 * 256 / (1 + np.exp(-margin))) / 256
    columns["probability_m2"][seen] = random.integers(0, 64, len(seen)) / 64
    columns["correct"][seen] = np.where(clean, 7, 1)
    columns["forgotten"][seen] = random.integers(0, 3, len(seen))
    columns["last"][seen] = (9 << (OTHER_BITS + 1)) | random.integers(0, len(CLASSES), len(seen))
    Dynamics(columns).save(folder / "dynamics", {"classes": len(CLASSES), "epochs": 8, "backbone": "none"})
    lines = ["epoch,step,learning_rate,train_loss,train_top1,val_top1,val_top5,val_top1_ema,val_top5_ema"]
    lines += [f"{e},{e * 5},0.1,{2 - e / 5},{e / 10},{e / 16},0.9,," for e in range(1, 9)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def predicted(folder: Path, index: Path, seed: int, good: float) -> Path:
    """A predict artefact: one view of validation and test, better the larger `good`."""
    random = np.random.default_rng(seed)
    found = Catalogue.open(index / "catalogue")
    for split in ("val", "test"):
        (folder / split).mkdir(parents=True)
        rows = found.rows(split)
        truth = good * np.eye(len(CLASSES))[np.maximum(found.labels_N[rows], 0)]
        scores = (truth + random.normal(size=truth.shape)).astype(np.float16)
        info = results.describe(f"m{seed}", "32x1", split, rows, found.classes)
        results.write_dense(folder / split / "32x1.npy", scores, info, rows)
    return folder


def selected(folder: Path, index: Path) -> Path:
    """A select artefact that keeps all but a few rows."""
    from smelt.artifacts.selection import Selection, write_selection

    found = Catalogue.open(index / "catalogue")
    rows = found.rows("train")
    dropped = np.arange(len(rows)) % 9 == 4
    words, labels = ("", "low_aum"), found.labels_N[rows].astype(np.int32)
    weights, reasons = np.ones(len(rows), np.float32), dropped.astype(np.int32)
    folder.mkdir()
    write_selection(
        folder, Selection(rows, labels, weights, ~dropped, reasons, words, len(CLASSES)), {"method": "all"}
    )
    return folder


def untrained(folder: Path) -> Path:
    """A train artefact with the weights that a model begins with."""
    from smelt.artifacts.checkpoint import write_tensors
    from smelt.learning import setup
    from smelt.learning.config import TrainSettings

    settings = TrainSettings.model_validate(learning_toy.SETTINGS)
    folder.mkdir()
    write_tensors(folder / "model.safetensors", setup.new_model(settings, learning_toy.CLASSES).state_dict())
    atomic.write_json(folder / "model.json", setup.model_json(settings, learning_toy.CLASSES, "raw"))
    return folder


# Inputs of the cases, by port


def nothing(folder: Path) -> dict[str, list[Path]]:
    return {}


def of_pictures(folder: Path) -> dict[str, list[Path]]:
    return {"data": [pictures(folder / "data")]}


def to_check(folder: Path) -> dict[str, list[Path]]:
    ports = of_pictures(folder)
    index = run("index", {"format": "csv"}, ports, folder / "index")
    return {**ports, "catalogue": [index]}


def to_dedupe(folder: Path) -> dict[str, list[Path]]:
    ports = to_check(folder)
    return {**ports, "check": [run("check", {}, ports, folder / "check")]}


def to_rank(folder: Path) -> dict[str, list[Path]]:
    index = catalogue(folder / "index")
    return {"catalogue": [index], "train": [trained(folder / f"train{i}", index, i) for i in range(2)]}


def to_rank_by_features(folder: Path) -> dict[str, list[Path]]:
    """A training and what a net sees: where an image lies says its class, but for every sixth."""
    from smelt.artifacts.featurestore import FeatureWriter

    ports = to_rank(folder)
    (index,) = ports["catalogue"]
    labels, generator = Catalogue.open(index / "catalogue").labels_N, np.random.default_rng(17)
    lies = np.where(np.arange(len(labels)) % 6 == 0, (labels + 2) % len(CLASSES), labels)
    values = np.eye(len(CLASSES))[lies] + 0.25 * generator.normal(size=(len(labels), len(CLASSES)))
    for name in ("features", "scratch"):
        (folder / name).mkdir()
    writer = FeatureWriter(folder / "features", folder / "scratch", *values.shape)
    writer.write(values.astype(np.float32), np.arange(len(labels)) != 5)
    writer.finish("net", {})
    return {"catalogue": [index], "train": ports["train"][:1], "features": [folder / "features"]}


def to_select(folder: Path) -> dict[str, list[Path]]:
    """All ports that a method may read."""
    from smelt.artifacts.ranking import Ranking, write_ranking

    ports = to_rank(folder)
    (index,) = ports["catalogue"]
    rows = Catalogue.open(index / "catalogue").rows("train")
    scores = np.random.default_rng(5).permutation(len(rows)) / 64 - 0.2
    scores[3] = np.nan
    (folder / "ranking").mkdir()
    write_ranking(folder / "ranking", Ranking(rows, {"aum": scores}, scores), {"score": "aum"})
    predict = [predicted(folder / f"p{i}", index, i, 1.5) for i in range(2)]
    earlier = {"selection": [selected(folder / "selection", index)], "results": predict}
    return {"catalogue": [index], "train": ports["train"], "ranking": [folder / "ranking"], **earlier}


def only(*ports: str) -> Callable[[Path], dict[str, list[Path]]]:
    """`to_select` with the catalogue and these ports."""

    def make(folder: Path) -> dict[str, list[Path]]:
        found = to_select(folder)
        return {port: found[port] for port in ("catalogue", *ports)}

    return make


def to_likely(folder: Path) -> dict[str, list[Path]]:
    """A ranking with what features say of each row."""
    from smelt.artifacts.ranking import read_ranking
    from smelt.artifacts.row_kinds import RowKinds, write_kinds
    from smelt.artifacts.softlabels import LIKELY, SoftLabels, write_soft_labels

    ports = only("ranking")(folder)
    rows, generator = read_ranking(folder / "ranking").rows, np.random.default_rng(11)
    size, p_wrong = len(rows), generator.integers(0, 33, len(rows)) / 32
    p_wrong[7] = np.nan
    none, outside = np.zeros(size), generator.integers(0, 2, size) * 1.0
    likely = generator.permuted(np.tile(np.arange(len(CLASSES), dtype=np.int32), (size, 1)), axis=1)[:, :3]
    write_kinds(
        folder / "ranking", RowKinds(rows, p_wrong, likely[:, 0], np.zeros(size, np.int8), none, outside)
    )
    shares = np.tile(np.array([[0.75, 0.125, 0.125]], np.float32), (size, 1))
    write_soft_labels(folder / "ranking", SoftLabels(rows, likely, shares), LIKELY)
    noise = {"noise": {"rate": 0.5, "validation_images": 400, "validation_errors": 4, "words": "half"}}
    atomic.write_json(folder / "ranking" / "diagnosis.json", noise)
    return ports


def to_threshold(folder: Path) -> dict[str, list[Path]]:
    ports = to_select(folder)
    catalogue = {"catalogue": ports["catalogue"]}
    runs = [
        run("select", {"method": "threshold_runs", "part": part}, catalogue, folder / f"t{part}")
        for part in (0, 1)
    ]
    return {"catalogue": ports["catalogue"], "train": ports["train"], "threshold": runs}


def to_train(folder: Path) -> dict[str, list[Path]]:
    data = learning_toy.make_data(folder / "data")
    selection = learning_toy.make_selection(folder / "selection", drop=(3, 50), weights={5: 0.5})
    return {"catalogue": [data], "selection": [selection]}


def to_predict(folder: Path) -> dict[str, list[Path]]:
    return {
        "catalogue": [learning_toy.make_data(folder / "data")], "train": [untrained(folder / "train")]
    }  # fmt: skip


def to_fuse(folder: Path) -> dict[str, list[Path]]:
    index = catalogue(folder / "index")
    predict = [predicted(folder / f"p{i}", index, i, good) for i, good in enumerate((2.0, 1.5, 1.0))]
    return {"catalogue": [index], "predict": predict}


def to_evaluate(folder: Path) -> dict[str, list[Path]]:
    ports = to_fuse(folder)
    (index,) = ports["catalogue"]
    train = [trained(folder / f"train{i}", index, i) for i in range(3)]
    rank = run("rank", {}, {"catalogue": [index], "train": train}, folder / "rank")
    rounds = {"train/r": train, "predict/r": ports["predict"], "rank/r": [rank]}
    fused = run("fuse", FUSE, ports, folder / "fuse")
    return {"catalogue": [index], "fuse": [fused], **rounds, "select/r": [selected(folder / "select", index)]}


def to_decide(folder: Path) -> dict[str, list[Path]]:
    ports = to_fuse(folder)
    *tried, before = ports.pop("predict")
    return {**ports, "before": [before], "tried": tried}


def to_submit(folder: Path) -> dict[str, list[Path]]:
    ports = to_fuse(folder)
    return {"catalogue": ports["catalogue"], "fuse": [run("fuse", FUSE, ports, folder / "fuse")]}


FUSE = {"metric": "top1", "folds": 3, "bootstrap": 100, "genetic": {"population": 8, "generations": 4}}
SYNTHESISE = {
    "classes": 4, "abstract_classes": 1, "train_images": 16, "val_images": 4, "test_images": 4,
    "min_side": 24, "max_side": 32, "hostile": 0.5, "broken": 0.1,
}  # fmt: skip
TRAIN = {**learning_toy.SETTINGS, "epochs": 2}
ONE = {"size": learning_toy.SIZE, "crops": 1, "resize": 1.0}
PREDICT = {
    "views": [ONE, {"size": 20, "crops": 5}], "splits": ["val", "train"], "topk": {"train": 2},
    "precision": "fp32", "batch_size": 16,
}  # fmt: skip
ROUNDS = {"view": "32x1", "rounds": [{"name": "r", "models": ["r/m0", "r/m1", "r/m2"]}]}

CASES = (
    Case("synthesise", "small", nothing, SYNTHESISE),
    Case("index", "csv", of_pictures, {"format": "csv"}),
    Case("check", "pictures", to_check),
    Case("dedupe", "pictures", to_dedupe),
    Case("tune", "toy", to_train, {**TRAIN, "learning_rate": "tune", "tune": {"steps": 12}}),
    Case("train", "toy", to_train, TRAIN),
    Case("rank", "standard", to_rank),
    Case("rank", "features", to_rank_by_features, {"validation_labels": "checked"}),
    Case("rank", "per_class", to_rank, {"score": "forgetting", "combine": "rank", "per_class": True}),
    Case("select", "all", only()),
    Case("select", "lowest_fraction", only("ranking", "selection"),
         {"method": "lowest_fraction", "minimum_per_class": 3}),
    Case("select", "noise_rate", only("ranking", "results", "selection"), {"method": "noise_rate"}),
    Case("select", "likely_wrong", to_likely, {"method": "likely_wrong", "down_weight_from": 0.25}),
    Case("select", "taught", to_likely, {"method": "likely_wrong", "teach": "soft", "new_label_right": 0.5}),
    Case("select", "worst_classes", only("results", "selection"),
         {"method": "worst_classes", "worst_classes": 2}),
    Case("select", "threshold_runs", only(), {"method": "threshold_runs", "part": 1}),
    Case("select", "threshold_samples", to_threshold, {"method": "threshold_samples", "agreement": "any"}),
    Case("predict", "toy", to_predict, PREDICT),
    Case("predict", "bf16", to_predict, {**PREDICT, "precision": "bf16", "splits": ["val"], "topk": {}}),
    Case("features", "toy", to_predict, {"name": "toy", "model": "raw/toy-1", "precision": "fp32"}),
    Case("decide", "crawled", to_decide, {"view": "32x1", "tries": ["a", "b"], "metric": "top1"}),
    Case("fuse", "three", to_fuse, FUSE),
    Case("evaluate", "three", to_evaluate, ROUNDS),
    Case("submit", "three", to_submit),
)  # fmt: skip


# Running and describing


def run(stage: str, settings: Mapping[str, Any], inputs: dict[str, list[Path]], out: Path) -> Path:
    """Run a stage in this process; its output, without scratch."""
    return execute(context_of(stage, settings, inputs, out), stage)


def context_of(stage: str, settings: Mapping[str, Any], inputs: dict[str, list[Path]], out: Path) -> Context:
    scratch = out / "scratch"
    scratch.mkdir(parents=True)
    data = inputs.get("data", [out])[0]
    runtime = Runtime(root=str(data), workers=1)
    return Context(STAGES[stage].settings.model_validate(settings), inputs, out, scratch, runtime)


def execute(context: Context, stage: str) -> Path:
    import shutil

    import torch

    torch.set_num_threads(1)
    importlib.import_module(f"smelt.stages.{stage}").run(context)
    shutil.rmtree(context.scratch)
    return context.out


def digest_of(inputs: Mapping[str, Sequence[Path]]) -> str:
    """Hash of all files of the inputs."""
    digest = hashlib.sha256()
    for port in sorted(inputs):
        for folder in inputs[port]:
            for name in committed.files_below(folder):
                digest.update(f"{port} {name} {atomic.sha256_file(folder / name)}\n".encode())
    return digest.hexdigest()


def describe(folder: Path) -> dict[str, Any]:
    """JSON values of every file of an artefact: all of it where it is small, hashes and figures where not."""
    return {name: _file(folder / name) for name in committed.files_below(folder)}


def _file(path: Path) -> Any:
    if path.suffix == ".json":
        return atomic.read_json(path)
    if path.suffix == ".csv":
        return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    if path.suffix == ".txt":
        return path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return {name: _plain(table[name].to_pylist()) for name in table.column_names}
    if path.suffix == ".arrow":
        batch = map_batch(path)
        return {
            field.name: [str(field.type), _plain(batch[field.name].to_pylist())] for field in batch.schema
        }
    if path.suffix == ".npy":
        return _array(np.load(path, allow_pickle=False))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as found:
            return {name: _array(found[name]) for name in sorted(found)}
    if path.suffix == ".safetensors":
        from smelt.artifacts.checkpoint import read_tensors

        return {name: _array(tensor.numpy()) for name, tensor in sorted(read_tensors(path).items())}
    if path.suffix in (".jpg", ".png"):
        return _image(path)
    return {"sha256": atomic.sha256_file(path)}


def _image(path: Path) -> dict[str, Any]:
    try:
        pixels = np.asarray(Image.open(path).convert("RGB"))
    except OSError:
        return {"sha256": atomic.sha256_file(path), "broken": True}
    return {"sha256": atomic.sha256_file(path), "shape": list(pixels.shape), "mean": float(pixels.mean())}


def _array(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {"dtype": str(values.dtype), "shape": list(values.shape)}
    if values.size <= LONGEST:
        return {**known, "values": _plain(values.ravel().tolist())}
    numbers = np.nan_to_num(values.astype(np.float64))
    figures = {"mean": float(numbers.mean()), "norm": float(np.sqrt((numbers**2).sum()))}
    return {**known, "sha256": hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest(), **figures}


def _plain(value: Any) -> Any:
    """Values as strict JSON has them."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Comparing


def build_of(stage: str) -> dict[str, str]:
    """What the bytes of the stage depend on beside its code and input."""
    from smelt.flowchart.graph import Node

    made = versions.made_with(Node("golden", stage))
    return {name: made[name] for name in BUILD.get(stage, ()) if name in made}


def result_of(case: Case, folder: Path) -> dict[str, Any]:
    """The record of a case: version, build, a hash of the inputs and what came out."""
    inputs = case.make(folder / "inputs")
    out = run(case.stage, case.settings, inputs, folder / "out")
    return {
        "version": STAGES[case.stage].version,
        "build": build_of(case.stage),
        "settings": dict(case.settings),
        "inputs": digest_of(inputs),
        "files": json.loads(json.dumps(describe(out))),
    }


def recorded(stage: str) -> dict[str, Any]:
    """The records of a stage by case; empty where there are none."""
    path = FOLDER / f"{stage}.json"
    found: dict[str, Any] = atomic.read_json(path) if path.is_file() else {}
    return found


def differences(case: Case, golden: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where a result is not the golden one: exactly on the recorded build, else as TOLERANCE says."""
    tolerance = TOLERANCE[case.stage]
    exact = tolerance is None or golden["build"] == now["build"]
    found = list(_unequal(golden["files"], now["files"], (), None if exact else tolerance))
    return [f"{case.id}: {'/'.join(path)}: {text}" for path, text in found]


def _unequal(
    old: Any, new: Any, path: tuple[str, ...], tolerance: float | None
) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            if tolerance is not None and key == "sha256":
                continue
            if key not in old or key not in new:
                yield (*path, key), "is new" if key in new else "is gone"
            else:
                yield from _unequal(old[key], new[key], (*path, key), tolerance)
    elif tolerance is not None and _numbers(old) and _numbers(new) and len(old) == len(new):
        if (apart := _apart(old, new)) > tolerance:
            yield path, f"lies {apart:.3g} apart"
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, pair in enumerate(zip(old, new)):
            yield from _unequal(*pair, (*path, str(i)), tolerance)
    elif isinstance(old, float) and isinstance(new, int | float) and tolerance is not None:
        if (apart := _apart([old], [new])) > tolerance:
            yield path, f"{old} is now {new}"
    elif (old != new or type(old) is not type(new)) and not (tolerance is not None and _decided(old, new)):
        yield path, f"{str(old)[:60]} is now {str(new)[:60]}"


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) in (int, float) for item in value)


def _apart(old: Sequence[float], new: Sequence[float]) -> float:
    """Norm of the difference over the norm of the golden values (or 1, if that is more)."""
    a, b = np.asarray(old, np.float64), np.asarray(new, np.float64)
    return float(np.linalg.norm(a - b) / max(1.0, float(np.linalg.norm(a))))


def _decided(old: Any, new: Any) -> bool:
    """Counts and words that floating-point figures decide may differ where these do."""
    return all(isinstance(item, int | str | float) or item is None for item in (old, new))


# The command


def may_record(case: Case, golden: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    """Whether the change of a result has a reason that is written down."""
    if golden is None or golden["version"] != now["version"]:
        return True
    same_ground = all(golden[name] == now[name] for name in ("build", "inputs", "settings"))
    return not same_ground or golden["files"] == now["files"]


def main(arguments: Sequence[str]) -> int:
    """Compare or record; 1 where something differs, or was not recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="only these stages")
    parser.add_argument("--write", action="store_true", help="record what the stages give now")
    parser.add_argument("--force", action="store_true", help="also where the version was not raised")
    options = parser.parse_args(arguments)
    failed = 0
    for stage in options.stages or STAGES:
        records, old = {}, recorded(stage)
        for case in (case for case in CASES if case.stage == stage):
            with tempfile.TemporaryDirectory() as folder:
                now = result_of(case, Path(folder))
            golden = old.get(case.name)
            told = differences(case, golden, now) if golden else ["no record"]
            if golden and golden["version"] != now["version"]:
                told.insert(0, f"version {golden['version']} is now {now['version']}")
            keep = not options.force and not may_record(case, golden, now)
            print(f"{case.id}: {'; '.join(told[:3]) or 'as recorded'}")
            if keep:
                print("  not recorded: raise its version in src/smelt/stages/table.py, if that is meant")
            failed += keep if options.write else bool(told)
            records[case.name] = golden if keep else now
        if options.write:
            FOLDER.mkdir(exist_ok=True)
            atomic.write_bytes(
                FOLDER / f"{stage}.json",
                (json.dumps(records, sort_keys=True, separators=(",", ":"), indent=None) + "\n").encode(),
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
