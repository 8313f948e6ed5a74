"""The catalogue as one Parquet file for other programs: pandas, DuckDB, Polars, a notebook.

Columns: row, path, label, source, split, and where the data set has them shard, offset, size, query, title,
description, tags, rank, true_label, noise. `path` is binary where some name is not UTF-8.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from smelt.artifacts.bytestrings import ByteStrings
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.files import sync_folder
from smelt.errors import ArtifactError

ROWS_PER_GROUP = 1 << 20


def write_parquet(catalogue: Catalogue, path: Path) -> None:
    """Write `path` a million rows at a time, in one step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = path.with_name(f".{path.name}.tmp")
    writer = None
    plain = _is_utf8(catalogue)
    try:
        for start in range(0, max(catalogue.num_rows, 1), ROWS_PER_GROUP):
            stop = min(start + ROWS_PER_GROUP, catalogue.num_rows)
            table = pa.table(_columns(catalogue, start, stop, plain))
            writer = writer or pq.ParquetWriter(
                temporary, table.schema, compression="zstd", compression_level=1,
                use_dictionary=[name for name in table.column_names if name not in _PLAIN],
            )  # fmt: skip
            writer.write_table(table)
        assert writer is not None
        writer.close()
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArtifactError(f"cannot write {path}: {error}") from error
    sync_folder(path.parent)


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


def _columns(catalogue: Catalogue, start: int, stop: int, plain: bool) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    def words(codes: Any, values: list[str]) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(codes[start:stop].astype(np.int32)), pa.array(values))

    folder_words = catalogue.words("folder")
    prefixes = ByteStrings.of(word + b"/" if word else b"" for word in folder_words)
    folders = arrow_binary(prefixes).take(pa.array(catalogue.folder_codes()[start:stop]))
    names = arrow_binary(catalogue.names().slice(start, stop))
    paths = pc.binary_join_element_wise(folders, names, pa.scalar(b"", pa.large_binary()))
    columns: dict[str, Any] = {
        "row": np.arange(start, stop, dtype=np.int64),
        "path": paths.cast(pa.large_string()) if plain else paths,
        "label": catalogue.labels_N[start:stop],
        "source": words(catalogue.source_codes_N, list(catalogue.sources)),
        "split": words(catalogue.split_codes_N, list(catalogue.splits)),
    }
    for name, kind in catalogue.column_kinds.items():
        if kind == "fixed":
            values = catalogue.column(name)
            assert values is not None
            columns[name] = values[start:stop]
        elif kind == "words":
            texts = [word.decode("utf-8", "replace") for word in catalogue.words(name)]
            columns[name] = words(catalogue.codes(name), texts)
        else:
            strings = arrow_binary(catalogue.words(name).slice(start, stop))
            columns[name] = strings.cast(pa.large_string())
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
