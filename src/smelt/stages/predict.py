"""predict: scores of a trained model for whole splits, each view a result of its own.

Ports: data (optional), catalogue, train; decision and instead (optional: what stands in for this, see
`stages.decided`). Writes `<split>/<view>.npy`, or `<split>/<view>.topk.npz` for the
splits in `topk`, with their sidecars; `<split>/<view>.bad.csv` where images could not be read (their scores
are zeros). A killed attempt goes on with the first view that is not there, or that holds something else than
was written.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.results import TOPK, describe, write_dense
from smelt.data.config import ViewSettings
from smelt.data.images.loader import Loader
from smelt.errors import ArtifactError
from smelt.files.atomic import read_json, write_csv
from smelt.files.committed import MANIFEST, seal, sealed
from smelt.files.failpoints import reach
from smelt.learning import distributed, setup
from smelt.learning.pixels import Normaliser
from smelt.learning.predict_settings import PredictSettings
from smelt.learning.prediction import score_blocks, write_best
from smelt.stages.context import Context
from smelt.stages.decided import hand_on

SEALS = "views"  # in scratch: what finished views hold


def run(context: Context[PredictSettings]) -> None:
    """Write every view of every split that has images."""
    if hand_on(context):
        return
    settings = context.settings
    device = distributed.device_of(context.runtime.device, 0)
    setup.fix_numerics(settings.threads, True, device)
    train = context.one("train")
    catalogue = Catalogue.open(context.catalogue)
    outputs = int(read_json(train / "model.json")["num_classes"])
    if outputs < len(catalogue.classes):
        raise ArtifactError(f"{train} has {outputs} classes, the catalogue {len(catalogue.classes)}")
    inputs = setup.saved_inputs(train)
    normalise = Normaliser(device, settings.channels_last, inputs.mean, inputs.std)
    model = setup.saved_model(train, settings.weights).to(device).to(memory_format=normalise.format)
    loader = setup.make_loader(catalogue, context.root, workers=context.runtime.workers)
    plan = [
        (s, view, rows) for s in settings.splits if len(rows := catalogue.rows(s)) for view in settings.views
    ]
    total = sum(len(rows) for _, _, rows in plan)
    before = 0
    try:
        for split, view, rows in plan:
            _view(context, catalogue, loader, model, normalise, split, view, rows, (before, total))
            before += len(rows)
    finally:
        loader.close()
    shutil.rmtree(context.scratch / SEALS, ignore_errors=True)


def _view(
    context: Context[PredictSettings],
    catalogue: Catalogue,
    loader: Loader,
    model: Any,
    normalise: Any,
    split: str,
    view: ViewSettings,
    rows: NDArray[np.int64],
    position: tuple[int, int],
) -> None:
    """Write one result, unless a killed attempt has written it."""
    settings = context.settings
    kept = settings.topk.get(cast(Any, split))
    path = context.out / split / (view.name + (".npy" if kept is None else TOPK))
    record = context.scratch / SEALS / f"{split}-{view.name}.json"
    if sealed(record, context.out):
        return
    path.parent.mkdir(exist_ok=True)
    reach("predict:view", f"{split}/{view.name}")
    before, total = position

    def progress(done: int) -> None:
        context.emit("progress", done=before + done, total=total, unit="images", text=f"{split} {view.name}")

    blocks = score_blocks(
        model, loader, rows, view, len(catalogue.classes), settings.batch_size, normalise,
        settings.precision, progress,
    )  # fmt: skip
    info = describe(_name(context.one("train")), view.name, split, rows, catalogue.classes)
    if kept is None:
        write_dense(path, _noting_bad(blocks, loader, rows, path), info, rows)
    else:
        write_best(path, _noting_bad(blocks, loader, rows, path), kept, info, rows, context.scratch)
    written = sorted(path.parent.glob(f"{view.name}.*"))
    seal(record, context.out, [str(file.relative_to(context.out)) for file in written])


def _noting_bad(
    blocks: Iterator[NDArray[np.float32]], loader: Loader, rows: NDArray[np.int64], path: Path
) -> Iterator[NDArray[np.float32]]:
    """Pass blocks on and, behind the last, list the images that could not be read: before the sidecar."""
    yield from blocks
    bad = sorted(set(rows.tolist()) & set(loader.bad)) if loader.bad else []
    if not bad:
        return
    lines = ((row, loader.store.name(row), loader.bad[row]) for row in bad)
    name = path.name.removesuffix(TOPK).removesuffix(".npy") + ".bad.csv"
    write_csv(path.with_name(name), [("row", "file", "reason"), *lines])


def _name(train: Path) -> str:
    """What to call the model in results: backbone, seed and the beginning of its key."""
    name = str(read_json(train / "model.json")["name"])
    if not (train / MANIFEST).is_file():
        return name
    return f"{name}-{str(read_json(train / MANIFEST).get('key', ''))[:8]}".rstrip("-")
