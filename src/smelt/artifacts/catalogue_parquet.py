"""The catalogue as one Parquet file for other programs: pandas, DuckDB, Polars, a notebook.

Columns: row, path, label, source, split, and where the data set has them shard, offset, size, query, title,
description, tags, rank, true_label, noise. `path` is binary where some name is not UTF-8. Text that the
catalogue holds cut is whole here; so are long names of classes, under `smelt.classes` in the metadata of the
schema (a JSON object, label → name).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from smelt.artifacts.bytestrings import ByteStrings
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.longtexts import Kept, discard
from smelt.errors import ArtifactError
from smelt.files.atomic import sync_folder

ROWS_PER_GROUP = 1 << 20
LONG_BYTES_PER_GROUP = 1 << 27  # of texts that were cut: a group with more of them has fewer rows


def write_parquet(catalogue: Catalogue, path: Path) -> None:
    """Write `path` a million rows at a time, in one step; then what lay aside for it is deleted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = path.with_name(f".{path.name}.tmp")
    writer = None
    plain = _is_utf8(catalogue)
    names = ["source", *(name for name, kind in catalogue.column_kinds.items() if kind != "fixed")]
    long = {name: kept for name in names if (kept := Kept.open(catalogue.folder, name)) is not None}
    start, stop = 0, -1
    try:
        while stop < catalogue.num_rows:
            stop = _group_end(catalogue, start, long)
            table = pa.table(_columns(catalogue, start, stop, plain, long))
            writer = writer or pq.ParquetWriter(
                temporary, _with_classes(catalogue, table.schema), compression="zstd", compression_level=1,
                use_dictionary=[name for name in table.column_names if name not in _PLAIN],
            )  # fmt: skip
            writer.write_table(table)
            start = stop
        assert writer is not None
        writer.close()
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArtifactError(f"cannot write {path}: {error}") from error
    sync_folder(path.parent)
    discard(catalogue.folder)


_PLAIN = {"row", "path", "offset", "size", "title", "description", "tags"}  # nearly all values differ


def _is_utf8(catalogue: Catalogue) -> bool:
    names = catalogue.names()
    for start in range(0, len(names), ROWS_PER_GROUP):
        part = names.slice(start, min(start + ROWS_PER_GROUP, len(names)))
        try:
            if bool((part.heap & 0x80).any()):
                part.heap.tobytes().decode()
        except UnicodeDecodeError:
            return False
    try:
        catalogue.words("folder").heap.tobytes().decode()
    except UnicodeDecodeError:
        return False
    return True


def _group_end(catalogue: Catalogue, start: int, long: Mapping[str, Kept]) -> int:
    """The row behind a group that begins with `start`: its long texts must fit into memory."""
    stop = min(start + ROWS_PER_GROUP, catalogue.num_rows)
    if not long or stop == start:
        return stop
    sizes = np.zeros(stop - start, np.int64)
    for name, kept in long.items():
        if catalogue.column_kinds.get(name) == "strings":
            here = slice(*np.searchsorted(kept.numbers, [start, stop]).tolist())
            sizes[kept.numbers[here] - start] += kept.sizes()[here]
        else:
            codes = _codes(catalogue, name)[start:stop]
            of_code = np.zeros(int(max(codes.max(), kept.numbers.max())) + 1, np.int64)
            of_code[kept.numbers] = kept.sizes()
            sizes += of_code[codes]
    return start + max(1, int(np.searchsorted(np.cumsum(sizes), LONG_BYTES_PER_GROUP, "right")))


def _codes(catalogue: Catalogue, name: str) -> Any:
    return catalogue.source_codes_N if name == "source" else catalogue.codes(name)


def _with_classes(catalogue: Catalogue, schema: Any) -> Any:
    kept = Kept.open(catalogue.folder, "class")
    if kept is None:
        return schema
    whole = {int(label): kept.text(i).decode("utf-8", "replace") for i, label in enumerate(kept.numbers)}
    return schema.with_metadata({"smelt.classes": json.dumps(whole, ensure_ascii=False)})


def _columns(
    catalogue: Catalogue, start: int, stop: int, plain: bool, long: Mapping[str, Kept]
) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    def words(codes: Any, values: list[str], name: str = "") -> Any:
        codes = codes[start:stop].astype(np.int32)
        if name in long:  # only those that this group uses: all of them, whole, may be more than memory
            used, codes = np.unique(codes, return_inverse=True)
            kept = long[name]
            place = dict(zip(kept.numbers.tolist(), range(len(kept.numbers))))
            values = [
                kept.text(place[code]).decode("utf-8", "replace") if code in place else values[code]
                for code in used.tolist()
            ]
            codes = codes.astype(np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(values, pa.string()))

    folder_words = catalogue.words("folder")
    prefixes = ByteStrings.of(word + b"/" if word else b"" for word in folder_words)
    folders = arrow_binary(prefixes).take(pa.array(catalogue.folder_codes()[start:stop]))
    names = arrow_binary(catalogue.names().slice(start, stop))
    paths = pc.binary_join_element_wise(folders, names, pa.scalar(b"", pa.large_binary()))
    columns: dict[str, Any] = {
        "row": np.arange(start, stop, dtype=np.int64),
        "path": paths.cast(pa.large_string()) if plain else paths,
        "label": catalogue.labels_N[start:stop],
        "source": words(catalogue.source_codes_N, list(catalogue.sources), "source"),
        "split": words(catalogue.split_codes_N, list(catalogue.splits)),
    }
    for name, kind in catalogue.column_kinds.items():
        if kind == "fixed":
            values = catalogue.column(name)
            assert values is not None
            columns[name] = values[start:stop]
        elif kind == "words":
            texts = [word.decode("utf-8", "replace") for word in catalogue.words(name)]
            columns[name] = words(catalogue.codes(name), texts, name)
        else:
            texts_of = catalogue.words(name).slice(start, stop)
            if name in long:
                texts_of = long[name].restored(texts_of, start)
            columns[name] = arrow_binary(texts_of).cast(pa.large_string())
    return columns


def arrow_binary(strings: ByteStrings) -> Any:
    """The same strings as a pyarrow array of type large_binary, without a copy."""
    import pyarrow as pa

    offsets = np.ascontiguousarray(strings.offsets, np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(strings.heap))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(strings), buffers)


def from_arrow(column: Any) -> ByteStrings:
    """A pyarrow column of strings or bytes as ByteStrings; null is the empty string."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = pc.fill_null(array.cast(pa.large_binary()), b"")
    _, offsets, heap = array.buffers()
    found = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return ByteStrings(np.frombuffer(heap or b"", np.uint8), found)
