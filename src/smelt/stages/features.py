"""Stage `features`: what a net sees in every image of the catalogue, before it names classes.

Ports: data (optional), catalogue; check (optional: what it could not read is not tried again); train (the
model of the run whose features are wanted, where `model` names one; else `weights` says whose). Writes
`features.npy`, `known.npy`, `features.json` (see artifacts.featurestore), where images could not be read
`bad.csv`, and of a net of images and words `text_CD.npy`, what it makes of the classes' words. Lines go by
catalogue row, over all splits: how these are drawn does not matter.

Blocks of a fixed number of rows are written one after the other; a killed attempt goes on with the first
that is not there, and the bytes are those of an undisturbed one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.featurestore import WORDS, FeatureWriter
from smelt.data.config import ViewSettings
from smelt.data.images.loader import Loader
from smelt.errors import ArtifactError, BadImageError, DataError
from smelt.files.arrays import map_array, save_array
from smelt.files.atomic import write_csv
from smelt.files.failpoints import reach
from smelt.files.parquet import read_table
from smelt.learning import distributed, setup
from smelt.learning.extraction import extractor
from smelt.learning.featurebatches import dim_of, feature_batches
from smelt.learning.pixels import Normaliser
from smelt.models import image_text
from smelt.models.image_text import ImageText
from smelt.stages.config import FeaturesSettings
from smelt.stages.context import Context

BLOCK = 2048  # images of a block, in whole batches


def run(context: Context[FeaturesSettings]) -> None:
    """Write the features of all rows of the catalogue."""
    settings = context.settings
    device = distributed.device_of(context.runtime.device, 0)
    setup.fix_numerics(settings.threads, True, device)
    catalogue = Catalogue.open(context.catalogue)
    net, normalise, size, made_from, words = _net(context, device)
    net = net.to(device).to(memory_format=normalise.format)
    view = ViewSettings(size=size, crops=settings.crops, resize=settings.resize)
    context.scratch.mkdir(parents=True, exist_ok=True)
    writer = FeatureWriter(context.out, context.scratch, catalogue.num_rows, dim_of(net, size, normalise))
    reasons = _unreadable(context.maybe("check"), catalogue.num_rows)
    loader = setup.make_loader(catalogue, context.root, workers=context.runtime.workers)
    block = max(1, BLOCK // settings.batch_size) * settings.batch_size
    try:
        while writer.done < writer.rows:
            reach("features:block", str(writer.done))
            rows = np.arange(writer.done, min(writer.done + block, writer.rows))
            writer.write(*_block(context, net, loader, rows, reasons, view, normalise, writer))
        _list_bad(context.out, loader, reasons)
    finally:
        loader.close()
    if words is not None:
        made_from["scale"] = words.scale
        save_array(context.out / WORDS, words.words(catalogue.classes).numpy())
    made_from |= {"view": view.name, "flip": settings.flip, "precision": settings.precision}
    writer.finish(settings.name, made_from)


def _net(
    context: Context[FeaturesSettings], device: torch.device
) -> tuple[nn.Module, Normaliser, int, dict[str, Any], ImageText | None]:
    """The net that gives features, how its images are normalised, their size, what it is, in JSON, and the
    whole of it where it reads words, too."""
    settings = context.settings
    train = context.maybe("train")
    source: Path | str | None = train or settings.weights
    assert source is not None, "the settings were checked"
    if isinstance(source, str) and Path(source).is_absolute():  # else a name of timm's
        source = Path(source)
    both = image_text.load(settings.image_text, source) if settings.image_text else None
    net: nn.Module
    if both:
        net, inputs, words = both.features, both.inputs, both.said
    else:
        net, inputs, words = extractor(source, settings.backbone, image_size=settings.size)
    normalise = Normaliser(device, settings.channels_last, inputs.mean, inputs.std)
    about = {"net": words, "mean": list(inputs.mean), "std": list(inputs.std)}
    return net, normalise, settings.size or inputs.size, about, both


def _unreadable(check: Path | None, count: int) -> dict[int, str]:
    """Row → reason of all that `check` could not read; ArtifactError where it is of another catalogue."""
    if check is None:
        return {}
    table = read_table(check / "images.parquet", columns=["row", "ok", "reason"])
    if not np.array_equal(table["row"].to_numpy(), np.arange(count)):
        raise ArtifactError(f"{check} is not of this catalogue: it must have its {count} rows, in order")
    bad = np.flatnonzero(~table["ok"].to_numpy().astype(bool))
    return dict(zip(bad.tolist(), table["reason"].take(bad).to_pylist(), strict=True))


def _block(
    context: Context[FeaturesSettings],
    net: nn.Module,
    loader: Loader,
    rows: NDArray[np.int64],
    unreadable: dict[int, str],
    view: ViewSettings,
    normalise: Normaliser,
    writer: FeatureWriter,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values (n, D) and flags (n,) of the following rows `rows`; those in `unreadable` are not looked at."""
    settings = context.settings
    values = np.zeros((len(rows), writer.dim), np.float32)
    known = np.zeros(len(rows), bool)
    asked = np.array([place for place, row in enumerate(rows.tolist()) if row not in unreadable], np.int64)
    done = 0
    for found, valid in feature_batches(
        net, loader, rows[asked], view, settings.flip, settings.batch_size, normalise, settings.precision
    ):
        places = asked[done : done + len(valid)]
        values[places], known[places] = found, valid
        done += len(valid)
        context.emit(
            "progress", done=writer.done + int(places[-1]) + 1, total=writer.rows, unit="images",
            text=settings.name,
        )  # fmt: skip
    return values, known


def _list_bad(out: Path, loader: Loader, reasons: dict[int, str]) -> None:
    """Write `bad.csv`, if there are such images; DataError where all are.

    By the flags on the disk, and each looked at once more: a killed attempt has met some of them.
    """
    known = map_array(out / "known.npy")
    bad = np.flatnonzero(~known).tolist()
    if bad and len(bad) == len(known):
        raise DataError(
            f"not one of {len(known)} images can be read, so there are no features; "
            "`smelt check` says why of each"
        )
    lines = [(row, loader.store.name(row), reasons.get(row) or _reason(loader, row)) for row in bad]
    if lines:
        write_csv(out / "bad.csv", [("row", "file", "reason"), *lines])


def _reason(loader: Loader, row: int) -> str:
    try:
        loader.pixels(row)
    except BadImageError as error:
        return error.reason
    return "could not be read before"
