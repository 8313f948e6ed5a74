"""Stage `check`: decodes every image once and tells which cannot be used, and what the others are.

images.parquet    row, ok, reason, damaged (a word of `data.images.damage`, or empty: the image could be read,
                  and stays, but not all of it can be right), width, height, content_hash (xxh128 of the
                  file's bytes), pixel_hash
                  (xxh128 of the decoded pixels), perceptual_hash, perceptual_hashes (the same of the image
                  without its frame and of parts of it; see `data.copies.hashes`)
bad_files.csv     file, reason: one line for every image that cannot be used
damaged_files.csv file, damage: one line for every image that is damaged, but used
check.json        counts by reason and by split, of bad and of damaged images

Works in chunks of rows, each kept in scratch when it is done: a killed run goes on with the next one, and
memory holds one chunk (and a byte a row) whatever the size of the catalogue.

Single images may be bad. That not one of a whole class or split can be read is far more often a folder that
is not mounted or was not unpacked: it stops the run, and what was found bad is looked at again by the next.
An error of the machine (a disk, a permission, too many open files) stops it too; see `files.opening`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.data.copies.hashes import HASHES, perceptual_hashes
from smelt.data.images.config import CheckSettings
from smelt.data.images.decode import examine
from smelt.data.images.kinds import HEIC_HINT, sniff
from smelt.data.images.store import ImageStore
from smelt.errors import BadImageError, DataError, some
from smelt.files.atomic import write_csv, write_json
from smelt.files.opening import patiently
from smelt.files.parquet import read_table, write_table, writing
from smelt.stages.context import Context

CHUNK = 8192  # rows a file in scratch, and a row group
TASK = 16  # images a thread takes at once
WARN = 0.2  # a class is named when more than this part of its images cannot be read …
FEW = 2  # … and more than so many
LARGE = 64 << 20  # bytes of pixels from which images are hashed one at a time: that takes twice as much again
_turn = threading.Lock()


def run(context: Context[CheckSettings]) -> None:
    """Check all rows of the catalogue; DataError when none can be read, or none of a class or split."""
    heic = context.settings.resolved().heic == "yes"
    catalogue = Catalogue.open(context.catalogue)
    root = context.root
    context.scratch.mkdir(parents=True, exist_ok=True)
    chunks = _check_chunks(context, ImageStore(catalogue, root), heic)
    _write(context, catalogue, root, chunks)


def _check_chunks(context: Context[CheckSettings], store: ImageStore, heic: bool) -> list[Path]:
    """One Parquet file in scratch for every CHUNK rows; those that are there already are left alone."""
    total, chunks = store.catalogue.num_rows, []
    for first in range(0, total, CHUNK):
        last = min(first + CHUNK, total)
        path = context.scratch / f"{first:09d}.parquet"
        chunks.append(path)
        if not path.exists():
            table = _table(list(_check_rows(context, store, first, last, heic)))
            write_table(path, table)
        context.emit("progress", done=last, total=total, unit="images", text="checking")
    return chunks


def _check_rows(
    context: Context[CheckSettings], store: ImageStore, first: int, last: int, heic: bool
) -> Iterator[dict[str, Any]]:
    """The records of rows first..last−1 in order, computed by threads."""

    def one(row: int) -> dict[str, Any]:
        return patiently(lambda: _check_row(store, row, heic), lambda: store.name(row))

    def task(start: int) -> list[dict[str, Any]]:
        return [one(row) for row in range(start, min(start + TASK, last))]

    said, total = time.monotonic(), store.catalogue.num_rows
    with ThreadPoolExecutor(max(context.runtime.workers, 1), "check") as pool:
        for records in pool.map(task, range(first, last, TASK)):
            yield from records
            if time.monotonic() - said > context.runtime.log_every_seconds:
                said, done = time.monotonic(), records[-1]["row"] + 1
                context.emit("progress", done=done, total=total, unit="images", text="checking")


def _check_row(store: ImageStore, row: int, heic: bool) -> dict[str, Any]:
    """The record of one image: its hashes and size, or the reason why there are none."""
    record: dict[str, Any] = {"row": row, "ok": False, "reason": "", "damaged": "", "width": 0, "height": 0}
    record |= {"content_hash": bytes(16), "pixel_hash": bytes(16), "perceptual_hash": 0}
    record["perceptual_hashes"] = [0] * HASHES
    try:
        data = store.read(row)
        record["content_hash"] = xxhash.xxh128_digest(data if isinstance(data, bytes) else data.tobytes())
        if not heic and isinstance(data, bytes) and sniff(data[:64]).kind == "HEIC":
            raise BadImageError("unsupported_format", HEIC_HINT)
        stored_HW3, damaged = examine(data) if isinstance(data, bytes) else (data, "")
        pixels_HW3 = np.ascontiguousarray(stored_HW3)
    except BadImageError as error:
        return record | {"reason": error.reason}
    with _turn if pixels_HW3.nbytes > LARGE else nullcontext():
        hashes = perceptual_hashes(pixels_HW3).tolist()
    height, width, _ = pixels_HW3.shape
    return record | {
        "ok": True,
        "damaged": damaged,
        "width": width,
        "height": height,
        # the width is the seed: plain images of one colour and area, but other shape, are not equal
        "pixel_hash": xxhash.xxh128_digest(pixels_HW3.data, seed=width),
        "perceptual_hash": hashes[0],
        "perceptual_hashes": hashes,
    }


def _table(records: list[dict[str, Any]]) -> pa.Table:
    schema = pa.schema(
        [
            ("row", pa.int64()),
            ("ok", pa.bool_()),
            ("reason", pa.string()),
            ("damaged", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("content_hash", pa.binary(16)),
            ("pixel_hash", pa.binary(16)),
            ("perceptual_hash", pa.uint64()),
            ("perceptual_hashes", pa.list_(pa.uint64(), HASHES)),
        ]
    )
    return pa.Table.from_pylist(records, schema)


class _List:
    """Images and what is said of each, with the counts of the words."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.rows: list[int] = []
        self.said: list[str] = []
        self._catalogue = catalogue

    def add(self, row: int, word: str) -> None:
        self.rows.append(row)
        self.said.append(word)

    @property
    def words(self) -> Counter[str]:
        return Counter(self.said)

    def by_split(self) -> dict[str, int]:
        splits = Counter(self._catalogue.split_codes_N[self.rows].tolist())
        return {split: splits[code] for code, split in enumerate(self._catalogue.splits) if splits[code]}

    def write(self, path: Path, word: str) -> None:
        lines = ((self._catalogue.path(row), said) for row, said in zip(self.rows, self.said))
        write_csv(path, [("file", word), *lines])


def _write(
    context: Context[CheckSettings], catalogue: Catalogue, root: Path | None, chunks: list[Path]
) -> None:
    """Join the chunks and list what is bad or damaged; DataError where that is too much for single images."""
    bad, damaged = _List(catalogue), _List(catalogue)
    ok_N = np.ones(catalogue.num_rows, bool)
    with writing(context.out / "images.parquet", _table([]).schema) as writer:
        for chunk in chunks:
            table = read_table(chunk)
            writer.write_table(table)
            for record in table.filter(pc.invert(table["ok"])).select(["row", "reason"]).to_pylist():
                bad.add(record["row"], record["reason"])
                ok_N[record["row"]] = False
            spoilt = table.filter(pc.not_equal(table["damaged"], ""))
            for record in spoilt.select(["row", "damaged"]).to_pylist():
                damaged.add(record["row"], record["damaged"])
    try:
        _judge(context, catalogue, root, ok_N, bad.words)
    except DataError:
        (context.out / "images.parquet").unlink()
        for number, chunk in enumerate(chunks):  # what is mended meanwhile is not to stay bad
            if not ok_N[number * CHUNK : (number + 1) * CHUNK].all():
                chunk.unlink()
        raise
    bad.write(context.out / "bad_files.csv", "reason")
    damaged.write(context.out / "damaged_files.csv", "damage")
    counts: dict[str, Any] = {"images": catalogue.num_rows, "ok": int(ok_N.sum())}
    counts |= {"bad": dict(bad.words), "bad_by_split": bad.by_split()}
    counts |= {"damaged": dict(damaged.words), "damaged_by_split": damaged.by_split()}
    write_json(context.out / "check.json", counts)


def _judge(
    context: Context[CheckSettings],
    catalogue: Catalogue,
    root: Path | None,
    ok_N: NDArray[np.bool_],
    reasons: Counter[str],
) -> None:
    """Refuse a catalogue of which nothing, or nothing of a split or a class, can be read; warn of many."""
    settings = context.settings
    if catalogue.num_rows and not ok_N.any():
        raise DataError(
            f"none of the {catalogue.num_rows} images below {root} can be read ({dict(reasons)}); the first "
            f"is {catalogue.path(0)!r}: is `root` the folder that the catalogue's paths start from?"
        )
    lost, thin = [], []
    for split in catalogue.splits:
        gone, few = _groups(catalogue, split, ok_N)
        lost += gone
        thin += few
    if lost:
        text = (
            f"not one image can be read of {len(lost):,} whole part(s) of the data set (all in all "
            f"{dict(reasons)} below {root}):\n  " + "\n  ".join(some(lost, len(lost)))
        )
        if settings.unreadable == "stop":
            raise DataError(
                text + "\nSee that their files are there and whole, or take them out of the data set; to go "
                "on without them: -o check.unreadable=warn"
            )
        context.emit("warning", text=text)
    if thin:
        text = f"of {len(thin):,} class(es) more than {WARN:.0%} of the images cannot be read: "
        context.emit("warning", text=text + "; ".join(some(thin, len(thin))))


def _groups(catalogue: Catalogue, split: str, ok_N: NDArray[np.bool_]) -> tuple[list[str], list[str]]:
    """What of a split cannot be read at all, and classes of which much cannot be, in words; worst first.

    Held-out classes without a readable image are only told: a few images can all be bad, and nothing is
    learnt from them.
    """
    rows = catalogue.rows(split)
    if len(rows) and not ok_N[rows].any():
        return [f"split {split}: {len(rows):,} images, such as {catalogue.path(int(rows[0]))!r}"], []
    labels, classes = catalogue.labels_N[rows], catalogue.num_classes
    known = (labels >= 0) & (labels < classes)
    total_C = np.bincount(labels[known], minlength=classes)
    bad_C = np.bincount(labels[known & ~ok_N[rows]], minlength=classes)
    share_C = bad_C / np.maximum(total_C, 1)
    order = np.lexsort((-bad_C, -share_C))

    def told(label: int) -> str:
        return f"{split} class {label} ({catalogue.classes[label]}): {bad_C[label]:,} of {total_C[label]:,}"

    gone_C = (bad_C == total_C) & (total_C > 0) & (split == "train")
    thin_C = (share_C > WARN) & (bad_C > FEW) & ~gone_C
    return [told(c) for c in order[gone_C[order]]], [told(c) for c in order[thin_C[order]]]
