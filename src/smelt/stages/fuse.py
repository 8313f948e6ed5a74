"""Stage `fuse`: every way of fusing all results, chosen on validation, applied to every split.

Ports: catalogue, predict (an artefact for each model), dedupe (optional: copies of one image are kept
together when fusions are judged). Writes `fusion.json` (see `fusion.procedure`); for each split
`<split>/rows.npy`, `<split>/<method>.top5.npy` of every method, `<split>/top5.npy` of the chosen one, and,
where the settings ask for it, `<split>/fused.npy` with its sidecar, a result like any other. A data set
without labelled validation images gets the plain average, and `fusion.json` says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import results
from smelt.artifacts.catalogue import Catalogue
from smelt.errors import ResultError
from smelt.files.arrays import save_array
from smelt.files.atomic import read_json, sha256_file, write_json
from smelt.files.committed import MANIFEST
from smelt.files.parquet import column_names, read_table
from smelt.fusion.apply import apply, top_classes_of_all
from smelt.fusion.config import FuseSettings
from smelt.fusion.procedure import Outcome, fuse
from smelt.fusion.scores.identity import described
from smelt.fusion.scores.sources import Stored
from smelt.stages.context import Context

Found = dict[str, Stored]  # name (model/view) → result


def run(context: Context[FuseSettings]) -> None:
    """Fit and choose on the labelled images of validation, then write lists for validation and test."""
    settings = context.settings
    catalogue = Catalogue.open(context.catalogue)
    found = {
        split: collect(context.inputs["predict"], split, catalogue) for split in ("val", "test", "train")
    }
    by = next((split for split in found if found[split]), None)
    if by is None:
        write_json(context.out / "fusion.json", nothing(settings, len(catalogue.classes)))
        return
    val, rows = found[by], catalogue.rows(by)  # where there is no validation, another split names the results
    digests = [digest(source.path) for source in val.values()]
    copies = context.maybe("dedupe") if by == "val" else None
    outcome = fuse(
        list(val.values()),
        catalogue.labels_N[rows] if by == "val" else None,
        settings,
        num_classes=len(catalogue.classes),
        groups_N=None if copies is None else groups(copies, rows),
        folder=context.scratch / "tables",
        workers=context.runtime.workers,
        fingerprint=" ".join(digests),
        emit=context.emit,
    )
    images = [str(row) for row in rows.tolist()]
    kinds = [source.kind for source in val.values()]
    outcome.record.update(described(list(val), kinds, len(catalogue.classes), catalogue.classes, images))
    for entry, sha256 in zip(outcome.record["results"], digests):
        entry["sha256"] = sha256
    for split in ("val", "test"):
        if found[split]:
            write_lists(context, catalogue, split, matched(found[split], val, split), outcome)
    for split in settings.write_scores:
        if found[split]:
            write_scores(context, catalogue, split, matched(found[split], val, split), outcome)
    write_json(context.out / "fusion.json", outcome.record)


def groups(folder: Path, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group (N,) of copies that each of these rows of the catalogue is in; a row without any has its
    own."""
    path = folder / "duplicates.parquet"
    # folds are to have nothing in common: by chain, all that hangs together, where that was found
    key = "chain" if "chain" in column_names(path) else "group"
    table = read_table(path, ["row", key])
    copied, group = (table.column(name).to_numpy().astype(np.int64) for name in ("row", key))
    found = np.arange(len(rows_N), dtype=np.int64)
    place = np.searchsorted(rows_N, copied)
    here = (place < len(rows_N)) & (rows_N[np.minimum(place, max(0, len(rows_N) - 1))] == copied)
    found[place[here]] = len(rows_N) + group[here]
    return found


def nothing(settings: FuseSettings, num_classes: int) -> dict[str, Any]:
    """`fusion.json` where no image but the training images was predicted."""
    settings, metric_words = settings.resolved(num_classes)
    words = "nothing is fused: the data set has neither validation nor test images"
    return {
        "metric": settings.metric, "metric_words": metric_words, "warnings": [],
        "images": 0, "methods": [], "plain": settings.methods[0],
        "chosen": settings.methods[0], "words": words, "left_out": [], "results": [],
    }  # fmt: skip


def collect(folders: list[Path], split: str, catalogue: Catalogue) -> Found:
    """The results of a split, all aligned to the rows of the catalogue.

    ResultError for results of other classes or rows, or two different ones of one name.
    """
    wanted = catalogue.rows(split)
    wanted_hash, classes_hash = results.rows_hash(wanted), results.classes_hash(catalogue.classes)
    found: Found = {}
    for path in (path for folder in folders for path in results.find(folder, split)):
        info = results.read_info(path)
        name = f"{info.model}/{info.view}"
        twice = name in found and path != found[name].path
        if twice and digest(path) == digest(found[name].path):
            continue  # a step that was not taken hands on the results of the round before: they count once
        if name in found:
            raise ResultError(f"{path} and {found[name].path} are both called {name}")
        if info.classes_hash != classes_hash:
            raise ResultError(f"{path} is about other classes than the catalogue")
        order = None
        if info.rows_hash != wanted_hash:
            rows = results.read_rows(path)
            order = np.argsort(rows, kind="stable")
            if not np.array_equal(rows[order], wanted):
                raise ResultError(f"{path} does not cover the {len(wanted)} images of {split!r}, each once")
        found[name] = Stored(path, name, info.num_classes, info.kind, order)
    return found


def matched(found: Found, val: Found, split: str) -> list[Stored]:
    """The results of a split in the order of validation's; ResultError when they are not the same ones."""
    if found.keys() != val.keys():
        odd = ", ".join(sorted(found.keys() ^ val.keys()))
        raise ResultError(f"val and {split} have different results ({odd}): predict the same for both")
    return [found[name] for name in val]


def digest(path: Path) -> str:
    """sha256 of a result's file, as its artefact's manifest has it."""
    folder = path.parent.parent
    manifest = folder / MANIFEST
    listed = read_json(manifest)["files"] if manifest.exists() else {}
    key = str(path.relative_to(folder))
    return str(listed[key]["sha256"]) if key in listed else sha256_file(path)


def write_lists(
    context: Context[FuseSettings], catalogue: Catalogue, split: str, sources: list[Stored], outcome: Outcome
) -> None:
    """The best five classes of each image, by every method."""
    folder, rows = context.out / split, catalogue.rows(split)
    folder.mkdir(exist_ok=True)
    save_array(folder / "rows.npy", rows)
    context.emit("progress", done=0, total=len(rows), unit="images", text=f"lists of {split}")
    found = top_classes_of_all(outcome.fusions, sources, len(rows), min(5, len(catalogue.classes)))
    for fusion, lists in zip(outcome.fusions, found):
        save_array(folder / f"{fusion.method}.top5.npy", lists)
        if fusion is outcome.chosen:
            save_array(folder / "top5.npy", lists)


def write_scores(
    context: Context[FuseSettings], catalogue: Catalogue, split: str, sources: list[Stored], outcome: Outcome
) -> None:
    """The chosen fusion's scores as a dense result."""
    fusion, rows = outcome.chosen, catalogue.rows(split)
    kind: results.Kind = "probabilities" if fusion.pooling == "probability" else "logits"
    info = results.describe("fused", fusion.method, split, rows, catalogue.classes, kind)
    (context.out / split).mkdir(exist_ok=True)
    blocks = (scores for _, scores in apply(fusion, sources, len(rows)))
    results.write_dense(context.out / split / "fused.npy", blocks, info, rows)
