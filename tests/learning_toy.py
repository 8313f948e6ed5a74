"""A tiny learnable data set for the tests of learning, and the commands that train on it.

`python learning_toy.py FOLDER` runs the train stage described in FOLDER/job.json: a process of its own, to be
killed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.artifacts.selection import Selection, write_selection
from smelt.artifacts.softlabels import SoftLabels
from smelt.files import atomic, committed
from smelt.stages.context import run

SIZE, CLASSES = 16, 4
COUNTS = {"train": 120, "val": 40, "test": 12}
# few steps, all parts of the state in use: warm-up, momentum, average, drop-path, augmentation
SETTINGS: dict[str, Any] = {
    "backbone": "resnet8", "augment": {"sizes": [SIZE], "pad_crop": 2}, "epochs": 3, "batch_size": 32,
    "learning_rate": 0.05, "warmup_epochs": 1, "ema_decay": 0.9, "drop_path_rate": 0.2, "precision": "fp32",
    "threads": 1, "checkpoint_every_steps": 3, "seed": 1,
}  # fmt: skip


def images_of(labels_N: NDArray[np.int32], seed: int) -> NDArray[np.uint8]:
    """(N, 16, 16, 3) noise with a bright square whose corner tells the class."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 120, (len(labels_N), SIZE, SIZE, 3)).astype(np.uint8)
    for image, label in zip(images, labels_N):
        top, left = divmod(max(int(label), 0), 2)
        image[top * 8 + 2 : top * 8 + 7, left * 8 + 2 : left * 8 + 7, int(label) % 3] += 130
    return images


def make_data(folder: Path, bad: tuple[int, ...] = (), counts: Mapping[str, int] = COUNTS) -> Path:
    """An index artefact in `folder`: pixels raw inside the catalogue; rows in `bad` have none."""
    catalogue = folder / "catalogue"
    with CatalogueWriter(catalogue) as writer:
        writer.classes = [f"class {c}" for c in range(CLASSES)]
        writer.shards = ["images.bin"]
        writer.raw_shape, writer.inside = (SIZE, SIZE, 3), set(writer.shards)
        pixels = []
        for seed, (split, count) in enumerate(counts.items()):
            labels = (np.arange(count) % CLASSES).astype(np.int32)
            pixels.append(images_of(labels, seed))
            rows = writer.num_rows + np.arange(count)
            broken = np.isin(rows, bad)
            fixed = {
                "shard": np.where(broken, 0xFFFF, 0),
                "offset": rows * SIZE * SIZE * 3,
                "size": np.where(broken, -1, SIZE * SIZE * 3),
            }
            paths = Paths.of(f"{split}/{row}".encode() for row in rows)
            writer.add(Block(split, "web", paths, labels if split != "test" else labels * 0 - 1, fixed))
        writer.finish()
    (catalogue / "images.bin").write_bytes(np.concatenate(pixels).tobytes())
    return folder


def make_selection(
    folder: Path,
    *,
    drop: tuple[int, ...] = (),
    weights: Mapping[int, float] | None = None,
    extra: int = 0,
    count: int = COUNTS["train"],
    soft: SoftLabels | None = None,
) -> Path:
    """A select artefact: all training rows but `drop`, `weights` by row; the last `extra` in a class of
    their own."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.arange(count)
    labels = (rows % CLASSES).astype(np.int32)
    labels[count - extra :] = CLASSES
    factors = np.ones(count, np.float32)
    for row, weight in (weights or {}).items():
        factors[row] = weight
    kept = ~np.isin(rows, drop)
    reasons = np.where(kept, 0, 1).astype(np.int32)
    selection = Selection(rows, labels, factors, kept, reasons, ("", "dropped"), CLASSES + (extra > 0), soft)
    write_selection(folder, selection)
    return folder


def job(folder: Path, settings: Mapping[str, Any] | None = None, **inputs: Path | list[Path]) -> Path:
    """Write `job.json`: train with SETTINGS and `settings` over them, on a data set below the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ports: dict[str, list[str]] = {}
    for port, paths in inputs.items():
        ports[port] = [str(path) for path in (paths if isinstance(paths, list) else [paths])]
    atomic.write_json(folder / "job.json", {"settings": {**SETTINGS, **(settings or {})}, "inputs": ports})
    return folder


def run_job(folder: Path, stage: str = "train", emit: Any = None, workers: int = 1) -> Path:
    """Run the stage of `job.json` in this process; its output folder, scratch deleted as by a commit."""
    described = json.loads((folder / "job.json").read_text())
    run_stage(
        folder / "out", stage, described["settings"],
        {port: [Path(path) for path in paths] for port, paths in described["inputs"].items()}, emit, workers,
    )  # fmt: skip
    return folder / "out"


def run_stage(
    out: Path,
    stage: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, list[Path]],
    emit: Any = None,
    workers: int = 1,
) -> Path:
    """Run a stage into `out`, with an empty root for rows without pixels."""
    (out / "scratch").mkdir(parents=True, exist_ok=True)
    run(
        stage, settings, inputs=inputs, out=out, scratch=out / "scratch",
        runtime={"root": str(out), "workers": workers}, emit=emit or (lambda event, **fields: None),
    )  # fmt: skip
    return out


def hashes(out: Path) -> dict[str, str]:
    """sha256 of every file that a commit would take."""
    return {name: atomic.sha256_file(out / name) for name in committed.files_below(out)}


if __name__ == "__main__":
    from smelt.errors import SmeltError

    def show(event: str, **fields: Any) -> None:
        print(event, json.dumps(fields, default=str), flush=True)

    try:
        run_job(Path(sys.argv[1]), emit=show)
    except SmeltError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
