"""Stage `dedupe`: finds copies among all images, says which one of each group to keep, and what leaks.

duplicates.parquet  row, group, kind ("exact", "near": to its original), keep, cross_label, leak, distance
                    (bits between its hash and its original's, −1 where hashes say nothing), original, chain:
                    one row for each image that has a copy
leaks.csv           file, split, original, distance, kind: each training file that was compared with a file of
                    validation or test (split, original) and shows the same picture
alike.csv           file, other, cosine: with `features` connected, the pairs most alike that are no copies by
                    their pixels, for a person to look at
catalogue/          where `index` held images out and groups of copies would be torn: its catalogue, with the
                    hold-out drawn again by groups; all that follows reads it instead
dedupe.json         counts

Every row of a group is a copy of the best one of its group, its `original`, by comparison of the two. A
`chain` is all that hangs together, as the frames of a pan do: folds that are to have nothing in common go by
chain. Nothing is deleted: `select` drops what is not kept. Exact copies have equal bytes or pixels; near ones
have near hashes and pass a comparison of their pixels.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.artifacts.catalogue import SPLITS, Catalogue
from smelt.artifacts.catalogue_parquet import write_parquet
from smelt.artifacts.catalogue_writer import copy_with_splits
from smelt.artifacts.featurestore import Features
from smelt.data.copies.config import DedupeSettings
from smelt.data.copies.confirm import WHOLE, Copies, CopyFinder, Hashes, Progress, Search
from smelt.data.copies.groups import Verdict, decide, partners
from smelt.data.copies.hashes import BLANK, mirrored
from smelt.data.copies.lookalike import Alike, look_alikes
from smelt.data.copies.thumbnails import Thumbnails
from smelt.data.holdout import draw, origins
from smelt.data.images.store import ImageStore
from smelt.errors import ArtifactError
from smelt.files.atomic import read_json, write_csv, write_json
from smelt.files.parquet import read_table, write_table
from smelt.stages.context import Context

LOOKS_ALIKE, MOST_ALIKE = 0.75, 1000  # cosine and number of pairs that are listed


def run(context: Context[DedupeSettings]) -> None:
    """Find copies among the images that `check` could read."""
    catalogue = Catalogue.open(context.catalogue)
    hashes, area_N = _read_checks(context.one("check") / "images.parquet", catalogue.num_rows)
    root = context.root
    context.scratch.mkdir(parents=True, exist_ok=True)
    store = ImageStore(catalogue, root)
    thumbnails = Thumbnails(store, context.scratch / "thumbnails", context.runtime.workers)
    settings = context.settings
    search = Search(**settings.model_dump(include={field.name for field in fields(Search)}))

    def progress(what: str, done: int, total: int) -> None:
        context.emit("progress", done=done, total=total, unit="images", text=what)

    alike = _alike(context, hashes.ok_N, progress)
    finder = CopyFinder(hashes, thumbnails, search, progress, area_N, alike.pairs_R2 if alike else None)
    how = _held_out(context.one("catalogue"))
    copies = finder.find(_not_trained(_given(catalogue, how)))
    splits_N = _splits(catalogue, copies, how)
    if how:
        copies = finder.grouped(_not_trained(splits_N))
    moved = int((splits_N != catalogue.split_codes_N).sum())
    if moved:
        catalogue = _moved(context.one("catalogue") / "catalogue", context.out / "catalogue", splits_N)
    verdict = _decide(catalogue, copies, thumbnails.sizes(), area_N, settings)
    summary = _write(context.out, catalogue, hashes, copies, verdict, moved)
    if alike:
        listed = _list_alike(context.out / "alike.csv", catalogue, copies, alike)
        summary |= {"found_by_features": finder.by_features, "look_alike": listed}
    write_json(context.out / "dedupe.json", summary)


def _alike(context: Context[DedupeSettings], ok_N: NDArray[np.bool_], progress: Progress) -> Alike | None:
    """Readable images that a net sees alike; None without features."""
    folder, settings = context.maybe("features"), context.settings
    if folder is None:
        return None
    return look_alikes(
        Features.open(folder, len(ok_N)), np.flatnonzero(ok_N), neighbours=settings.neighbours,
        least=settings.neighbour_cosine, threads=max(context.runtime.workers, 1),
        progress=lambda done, total: progress("neighbours", done, total),
    )  # fmt: skip


def _list_alike(path: Path, catalogue: Catalogue, copies: Copies, alike: Alike) -> int:
    """Write the MOST_ALIKE pairs with the highest cosines, LOOKS_ALIKE at least, that are no copies of one
    another, through any number of copies; how many."""
    chains_N, pairs = copies.chains_N, alike.pairs_R2
    kept = np.flatnonzero((alike.cosines_R >= LOOKS_ALIKE) & (chains_N[pairs[:, 0]] != chains_N[pairs[:, 1]]))
    kept = kept[np.argsort(-alike.cosines_R[kept], kind="stable")]
    between = np.sort(chains_N[pairs[kept]], axis=1)  # of two pictures with their copies one pair is enough
    kept = kept[np.sort(np.unique(between, axis=0, return_index=True)[1])][:MOST_ALIKE]
    lines = (
        (catalogue.path(int(row)), catalogue.path(int(other)), f"{cosine:.3f}")
        for (row, other), cosine in zip(pairs[kept], alike.cosines_R[kept])
    )
    write_csv(path, [("file", "other", "cosine"), *lines])
    return len(kept)


def _held_out(index: Path) -> dict[str, Any] | None:
    """How the artefact `index` held images out; None where the data set came with its splits."""
    found = read_json(index / "index.json") if (index / "index.json").is_file() else {}
    return found.get("held_out") or None


def _given(catalogue: Catalogue, how: dict[str, Any] | None) -> NDArray[np.uint8]:
    """(N,) the splits as the data set came."""
    return origins(catalogue.split_codes_N, how["splits"]) if how else catalogue.split_codes_N


def _not_trained(splits_N: NDArray[np.uint8]) -> NDArray[np.bool_]:
    held: NDArray[np.bool_] = splits_N != SPLITS.index("train")
    return held


def _splits(catalogue: Catalogue, copies: Copies, how: dict[str, Any] | None) -> NDArray[np.uint8]:
    """(N,) the splits to learn by: what we held out ourselves, by groups."""
    if how is None:
        return catalogue.split_codes_N
    keys_N = catalogue.path_hashes()
    return draw(_given(catalogue, how), catalogue.labels_N, keys_N, copies.groups_N, copies.rank_N, how)


def _moved(source: Path, folder: Path, splits_N: NDArray[np.uint8]) -> Catalogue:
    """The catalogue with its rows in these splits, written to `folder`."""
    copy_with_splits(source, folder, splits_N)
    catalogue = Catalogue.open(folder)
    write_parquet(catalogue, folder / "catalogue.parquet")
    return catalogue


def _read_checks(path: Path, count: int) -> tuple[Hashes, NDArray[np.int64]]:
    """The hashes and the area in pixels of every row of the catalogue."""
    table = read_table(path)
    if not np.array_equal(table["row"].to_numpy(), np.arange(count)):
        raise ArtifactError(f"{path} is not of this catalogue: it must have its {count} rows, in order")

    def array(name: str) -> Any:
        return table[name].combine_chunks()

    def sixteen(name: str) -> NDArray[np.uint8]:
        column = array(name)
        data = np.frombuffer(column.buffers()[1], np.uint8) if count else np.zeros(0, np.uint8)
        return data.reshape(-1, 16)[column.offset : column.offset + count]

    perceptual = array("perceptual_hashes").flatten().to_numpy().reshape(count, -1)
    ok_N = table["ok"].to_numpy().astype(bool)
    area_N = table["width"].to_numpy().astype(np.int64) * table["height"].to_numpy()
    return Hashes(ok_N, sixteen("content_hash"), sixteen("pixel_hash"), perceptual), area_N


def _decide(
    catalogue: Catalogue,
    copies: Copies,
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]],
    area_N: NDArray[np.int64],
    settings: DedupeSettings,
) -> Verdict:
    """The verdict on every group; exact copies count with the file size of their first."""
    size_N = np.zeros(catalogue.num_rows, np.int64)
    size_N[sizes[0]] = sizes[1]
    return decide(
        copies.groups_N,
        catalogue.labels_N,
        _not_trained(catalogue.split_codes_N),
        area_N,
        size_N[copies.exact_N],
        shown_N=copies.shown_N,
        within_training=settings.within_training,
        against_held_out=settings.against_held_out,
        same_N=_same_file(catalogue),
    )


def _same_file(catalogue: Catalogue) -> NDArray[np.int64] | None:
    """(N,) lowest row of the same path; None where every path has one row (all but `multi_label: split`)."""
    _, first, inverse = np.unique(catalogue.path_hashes(), return_index=True, return_inverse=True)
    return None if len(first) == catalogue.num_rows else np.asarray(first[inverse])


def _distances(
    hashes_NV: NDArray[np.uint64], rows: NDArray[np.int64], originals: NDArray[np.int64]
) -> NDArray[np.int8]:
    """Fewest bits between the whole-picture hashes of rows and originals, mirrored or not; −1 for blanks."""
    best = np.full(len(rows), 65, np.int8)
    for own in hashes_NV[rows, :WHOLE].T:
        for other in hashes_NV[originals, :WHOLE].T:
            for way in (other, mirrored(other)):
                best = np.minimum(best, np.bitwise_count(own ^ way).astype(np.int8))
    blank = (hashes_NV[rows, 0] == BLANK) | (hashes_NV[originals, 0] == BLANK)
    return np.where(blank & (rows != originals), -1, best).astype(np.int8)


def _relation(
    hashes: Hashes, copies: Copies, rows: NDArray[np.int64], originals: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """(is exact, distance) of each row to the row it is judged a copy of."""
    exact = copies.exact_N[rows] == copies.exact_N[originals]
    distance = _distances(hashes.perceptual_NV, rows, originals)
    return exact, np.where(exact, 0, distance).astype(np.int8)


def _write(
    out: Path, catalogue: Catalogue, hashes: Hashes, copies: Copies, verdict: Verdict, moved: int
) -> dict[str, Any]:
    """Write the tables; what `dedupe.json` is to say."""
    rows, originals = verdict.rows, verdict.original
    exact, distance = _relation(hashes, copies, rows, originals)
    # an original is as exact as the nearest of its copies
    alone = np.bincount(copies.exact_N[rows], minlength=catalogue.num_rows) == 1
    exact &= (rows != originals) | ~alone[copies.exact_N[rows]]
    kind = pa.DictionaryArray.from_arrays(pa.array(np.where(exact, 0, 1), pa.int8()), ["exact", "near"])
    columns = {
        "row": rows, "group": verdict.group, "kind": kind, "keep": verdict.keep,
        "cross_label": verdict.cross_label, "leak": verdict.leak, "distance": distance, "original": originals,
        "chain": np.unique(copies.chains_N[rows], return_inverse=True)[1].astype(np.int32),
    }  # fmt: skip
    write_table(out / "duplicates.parquet", columns)
    leaks = _leaks(catalogue, hashes, copies, verdict)
    write_csv(out / "leaks.csv", leaks)
    splits = [line[1] for line in leaks[1:]]
    summary = _summary(catalogue, copies, verdict, exact)
    summary["moved_by_group"] = moved
    summary["leaks"] = {split: splits.count(split) for split in ("val", "test")}
    return summary


def _leaks(catalogue: Catalogue, hashes: Hashes, copies: Copies, verdict: Verdict) -> list[list[Any]]:
    """The lines of leaks.csv: each leaking training row with a row of each split it leaks into."""
    lines: list[list[Any]] = [["file", "split", "original", "distance", "kind"]]
    for split in ("val", "test"):
        inside_N = np.zeros(catalogue.num_rows, bool)
        inside_N[catalogue.rows(split)] = True
        shown_N = partners(copies.pairs_R2, copies.exact_N, inside_N, copies.rank_N)
        rows = verdict.rows[verdict.leak & (shown_N[verdict.rows] >= 0)]
        originals = shown_N[rows]
        exact, distance = _relation(hashes, copies, rows, originals)
        for row, original, same, bits in zip(rows.tolist(), originals.tolist(), exact, distance.tolist()):
            kind = "exact" if same else "near"
            lines.append([catalogue.path(row), split, catalogue.path(original), bits, kind])
    return lines


def _summary(
    catalogue: Catalogue, copies: Copies, verdict: Verdict, exact: NDArray[np.bool_]
) -> dict[str, Any]:
    """Counts for people and the report."""
    dropped = ~verdict.keep
    sources = catalogue.source_codes_N[verdict.rows[dropped]]
    by_source = np.bincount(sources, minlength=len(catalogue.sources)).tolist()
    copied = verdict.rows != verdict.original
    return {
        "images": catalogue.num_rows,
        "groups": int(verdict.group.max()) + 1 if len(verdict.group) else 0,
        "rows_in_groups": len(verdict.rows),
        "chains": len(np.unique(copies.chains_N[verdict.rows])),
        "exact_copies": int(np.count_nonzero(exact & copied)),
        "near_copies": int(np.count_nonzero(~exact & copied)),
        "dropped": int(np.count_nonzero(dropped)),
        "dropped_by_source": {name: n for name, n in zip(catalogue.sources, by_source) if n},
        "cross_label_groups": len(np.unique(verdict.group[verdict.cross_label])),
        "leaking": int(np.count_nonzero(verdict.leak)),
        "blank_images": copies.blank,
        "pairs_compared": copies.tested,
        "pairs_confirmed": len(copies.pairs_R2),
    }
