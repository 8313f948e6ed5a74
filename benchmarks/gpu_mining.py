"""CIFAR-10N at full size from scratch on a GPU: wrong labels found in one training, and what is learnt then.

    python benchmarks/gpu_mining.py [--data FOLDER] [--cache FOLDER] [--device cuda] [--minutes 8]
        [--sets worst aggre] [--quick]

Per set a recipe of two rounds, all 50,000 images, no weights and no features from elsewhere: a ResNet-18 on
the labels as they are, whose margins rank them; then a pair of ResNet-18 (`semi`), by the labels of the
cleaner images, with the others unlabelled. The share that is dropped is the rate of wrong labels that the
set's authors publish (Wei et al. 2022: 40.21 %, 9.03 %). Test accuracy is that of the last step, of the
running average.

Goals: P@k (k the true number of wrong labels) of .916 and .812; accuracy 92.6 on worst, then 96.3 (ProMix).

A call ends after --minutes: it asks the recipe to stop, which saves; the same call goes on from there. `done`
tells whether all is. --quick: a few hundred images, tiny nets, on the CPU; its figures say only that it runs.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import mining
import smelt
from smelt.artifacts import results
from smelt.errors import PreemptedError
from smelt.metrics import class_averaged, hits_topk
from smelt.mining.diagnosis import auroc, precision_at_k

RATES = {"worst": 0.4021, "aggre": 0.0903}
GOALS = {"worst_pk": 0.916, "aggre_pk": 0.812, "worst_accuracy": 92.6}
LEAVING = 120.0  # seconds that a recipe that was asked to stop has to save


def recipe(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Both rounds of one set."""
    semi = {
        "networks": 2,
        "warmup_epochs": args.epochs // 10,
        "ramp_epochs": args.epochs // 10,
        "threshold": 0.95,
        "threshold_momentum": 0.999,
    }
    return {
        "name": "gpu_mining",
        "seed": 0,
        "runtime": {"device": args.device, "workers": args.workers},
        "data": {
            "root": str(args.data),
            "format": "cifar_n",
            "labels": mining.SETS[name],
            "val_fraction": 0.02,  # seen, never chosen by: there is one training of each round
            "val_labels": "clean",
            **({"subset": args.subset} if args.subset else {}),
        },
        "dedupe": None,
        "train": {
            "backbone": args.backbone,
            "small_stem": True,
            "epochs": args.epochs,
            "batch_size": args.batch,
            "learning_rate": args.rate,
            "nesterov": True,
            "weight_decay": 5e-4,
            "warmup_epochs": 1,
            "ema_decay": 0.999,
            "augment": {"sizes": [32], "pad_crop": 4},
            "validate_every_epochs": max(args.epochs // 10, 1),
            "checkpoint_every_steps": 500,
        },
        "predict": {"views": [{"size": 32, "crops": 1, "resize": 1.0}], "splits": ["val", "test"]},
        "rounds": [
            {"name": "raw", "models": [{"name": "net", "train": {"epochs": args.raw_epochs}}]},
            {
                "name": "semi",
                "ranking": "raw",
                "select": {"method": "lowest_fraction", "fraction": RATES[name]},
                "models": [{"name": "net", "train": {"semi": semi}}],
            },
        ],
    }


def run(folder: Path, described: Mapping[str, Any], seconds: float) -> bool:
    """Go on with a recipe for so long at most; whether it is done. SystemExit where it failed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "benchmark.yaml"
    path.write_text(json.dumps(described))
    command = [sys.executable, "-m", "smelt", "predict", str(path), "--work", str(folder / "work"),
               "--quiet", "--replace"]  # fmt: skip
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        try:
            code = process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            code = process.wait(LEAVING)
            if code == -signal.SIGTERM:  # before it could listen: nothing was begun
                code = PreemptedError.exit_code
    if code not in (0, PreemptedError.exit_code):
        raise SystemExit(f"{' '.join(command)}\n{(folder / 'said.txt').read_text()[-4000:]}")
    return code == 0


def figures(folder: Path, name: str) -> dict[str, float]:
    """Of a recipe that is done: how well its ranking finds wrong labels, and the accuracy of both rounds."""
    work = smelt.Work(folder / "work")
    rows, _, wrong = mining.training_rows(work)
    score = work.ranking("raw").cleanness
    catalogue = smelt.Catalogue.open(work.find("index") / "catalogue")
    tested = catalogue.labels_N[catalogue.rows("test")]
    found = {f"{name}_pk": precision_at_k(score, wrong), f"{name}_auroc": auroc(score, wrong)}
    for item in work.of("predict"):
        scores, _ = results.open_dense(results.find(item.path, "test")[0])
        accuracy = 100 * class_averaged(hits_topk(scores, tested, 1), tested)
        found[f"{name}_accuracy" if item.round == "semi" else f"{name}_{item.round}_accuracy"] = accuracy
    found[f"{name}_images"] = len(rows)
    return {key: float(value) for key, value in found.items()}


def main() -> None:
    """Go on with every set in turn, as long as there is time, and print the line."""
    args = arguments()
    began, found, done = time.monotonic(), {}, {}
    for name in args.sets:
        folder = args.cache / f"{'quick-' if args.quick else ''}{name}"
        done[name] = run(folder, recipe(args, name), 60 * args.minutes - (time.monotonic() - began))
        if done[name]:
            found |= figures(folder, name)
    for key, value in found.items():
        goal = f"  (goal {GOALS[key]})" if key in GOALS else ""
        print(f"{key:24} {value:9.4f}{goal}")
    seconds = time.monotonic() - began
    print(json.dumps({"done": all(done.values()), "sets": done, "figures": found, "seconds": seconds}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parents[1]
    shared = root.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared, help="folder with cifar10n.npz")
    parser.add_argument("--cache", type=Path, default=root / "build" / "gpu_mining", help="work folders")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=12, help="threads that decode and augment")
    parser.add_argument("--minutes", type=float, default=8.0, help="a call ends after them, and a little")
    parser.add_argument("--sets", nargs="+", choices=sorted(mining.SETS), default=["worst", "aggre"])
    parser.add_argument("--epochs", type=int, default=120, help="of the second round")
    parser.add_argument("--quick", action="store_true", help="a few hundred images, tiny nets, on the CPU")
    args = parser.parse_args()
    args.cache, args.data = args.cache.resolve(), args.data.resolve()
    args.backbone, args.raw_epochs, args.batch, args.rate, args.subset = "resnet18", 40, 256, 0.1, None
    if args.quick:
        args.device, args.backbone, args.workers = "cpu", "resnet8", 1
        args.epochs, args.raw_epochs, args.batch, args.subset = 2, 2, 32, 300
        args.data = mining.first(args.data / "cifar10n.npz", args.cache / "images", mining.SHEET)
    elif args.device == "cpu":
        raise SystemExit("no GPU is to be seen: --quick is for the CPU, and --device cpu would take days")
    return args


if __name__ == "__main__":
    main()
