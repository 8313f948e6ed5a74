"""Stage `check`: decodes every image once and tells which cannot be used, and what the others are.

images.parquet    row, ok, reason, width, height, content_hash (xxh128 of the file's bytes), pixel_hash
                  (xxh128 of the decoded pixels), perceptual_hash, perceptual_hashes (the same of the image
                  without its frame and of parts of it; see `smelt.data.perceptual`)
bad_files.csv     file, reason: one line for every image that cannot be used
check.json        counts by reason and by split

Works in chunks of rows, each kept in scratch when it is done: a killed run goes on with the next one, and
memory holds one chunk whatever the size of the catalogue.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smelt.settings import Settings
from smelt.stages.base import Context

if TYPE_CHECKING:
    import pyarrow as pa

    from smelt.artifacts.catalogue import Catalogue
    from smelt.data.loader import ImageStore

VERSION = 1
CHUNK = 8192  # rows a file in scratch, and a row group
TASK = 16  # images a thread takes at once


class StageSettings(Settings):
    """`check` has nothing to set: what can be read is a fact."""


def run(context: Context) -> None:
    """Check all rows of the catalogue; DataError when not a single image can be read."""
    from smelt.artifacts.catalogue import Catalogue
    from smelt.data.loader import ImageStore

    catalogue = Catalogue.open(context.one("catalogue") / "catalogue")
    root = context.maybe("data") or (Path(context.runtime.root) if context.runtime.root else None)
    context.scratch.mkdir(parents=True, exist_ok=True)
    chunks = _check_chunks(context, ImageStore(catalogue, root))
    _write(context.out, catalogue, root, chunks)


def _check_chunks(context: Context, store: ImageStore) -> list[Path]:
    """One Parquet file in scratch for every CHUNK rows; those that are there already are left alone."""
    import pyarrow.parquet as pq

    total, chunks = store.catalogue.num_rows, []
    for first in range(0, total, CHUNK):
        last = min(first + CHUNK, total)
        path = context.scratch / f"{first:09d}.parquet"
        chunks.append(path)
        if not path.exists():
            table = _table(list(_check_rows(context, store, first, last)))
            pq.write_table(table, path.with_suffix(".tmp"))
            os.replace(path.with_suffix(".tmp"), path)
        context.emit("progress", done=last, total=total, unit="images", text="checking")
    return chunks


def _check_rows(context: Context, store: ImageStore, first: int, last: int) -> Iterator[dict[str, Any]]:
    """The records of rows first..last−1 in order, computed by threads."""
    from concurrent.futures import ThreadPoolExecutor

    def task(start: int) -> list[dict[str, Any]]:
        return [_check_row(store, row) for row in range(start, min(start + TASK, last))]

    said, total = time.monotonic(), store.catalogue.num_rows
    with ThreadPoolExecutor(max(context.runtime.workers, 1), "check") as pool:
        for records in pool.map(task, range(first, last, TASK)):
            yield from records
            if time.monotonic() - said > context.runtime.log_every_seconds:
                said, done = time.monotonic(), records[-1]["row"] + 1
                context.emit("progress", done=done, total=total, unit="images", text="checking")


def _check_row(store: ImageStore, row: int) -> dict[str, Any]:
    """The record of one image: its hashes and size, or the reason why there are none."""
    import numpy as np
    import xxhash

    from smelt.data.decode import decode
    from smelt.data.perceptual import HASHES, perceptual_hashes
    from smelt.errors import BadImageError

    record: dict[str, Any] = {"row": row, "ok": False, "reason": "", "width": 0, "height": 0}
    record |= {"content_hash": bytes(16), "pixel_hash": bytes(16), "perceptual_hash": 0}
    record["perceptual_hashes"] = [0] * HASHES
    try:
        data = store.read(row)
        record["content_hash"] = xxhash.xxh128_digest(data if isinstance(data, bytes) else data.tobytes())
        pixels_HW3 = np.ascontiguousarray(decode(data) if isinstance(data, bytes) else data)
    except BadImageError as error:
        return record | {"reason": error.reason}
    hashes = perceptual_hashes(pixels_HW3).tolist()
    height, width, _ = pixels_HW3.shape
    return record | {
        "ok": True,
        "width": width,
        "height": height,
        # the width is the seed: plain images of one colour and area, but other shape, are not equal
        "pixel_hash": xxhash.xxh128_digest(pixels_HW3.data, seed=width),
        "perceptual_hash": hashes[0],
        "perceptual_hashes": hashes,
    }


def _table(records: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    from smelt.data.perceptual import HASHES

    schema = pa.schema(
        [
            ("row", pa.int64()),
            ("ok", pa.bool_()),
            ("reason", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("content_hash", pa.binary(16)),
            ("pixel_hash", pa.binary(16)),
            ("perceptual_hash", pa.uint64()),
            ("perceptual_hashes", pa.list_(pa.uint64(), HASHES)),
        ]
    )
    return pa.Table.from_pylist(records, schema)


def _write(out: Path, catalogue: Catalogue, root: Path | None, chunks: list[Path]) -> None:
    """Join the chunks and list what is bad."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from smelt.artifacts.files import write_bytes, write_json
    from smelt.errors import DataError

    reasons: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    bad_files = io.StringIO(newline="")
    lines = csv.writer(bad_files, lineterminator="\n")
    lines.writerow(["file", "reason"])
    temporary = out / ".images.parquet.tmp"
    with pq.ParquetWriter(temporary, _table([]).schema, compression="zstd") as writer:
        for chunk in chunks:
            table = pq.read_table(chunk)
            writer.write_table(table)
            bad = table.filter(pc.invert(table["ok"])).select(["row", "reason"]).to_pylist()
            for record in bad:
                lines.writerow([catalogue.path(record["row"]), record["reason"]])
                reasons[record["reason"]] += 1
                splits[catalogue.splits[catalogue.split_codes_N[record["row"]]]] += 1
    if catalogue.num_rows and reasons.total() == catalogue.num_rows:
        temporary.unlink()
        raise DataError(
            f"none of the {catalogue.num_rows} images below {root} can be read ({dict(reasons)}); the first "
            f"is {catalogue.path(0)!r}: is `root` the folder that the catalogue's paths start from?"
        )
    os.replace(temporary, out / "images.parquet")
    # names of files are bytes: those that are not UTF-8 are written as they are
    write_bytes(out / "bad_files.csv", bad_files.getvalue().encode("utf-8", "surrogateescape"))
    counts = {"images": catalogue.num_rows, "ok": catalogue.num_rows - reasons.total()}
    write_json(out / "check.json", counts | {"bad": dict(reasons), "bad_by_split": dict(splits)})
