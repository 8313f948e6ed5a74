"""The catalogue as one Parquet file for other programs: pandas, DuckDB, Polars, a notebook.

Columns: row, path, label, source, split, and where the data set has them shard, offset, size, query, title,
description, tags, rank, true_label, noise. `path` is binary where some name is not UTF-8. Text that the
catalogue holds cut is whole here; so are long names of classes, under `smelt.classes` in the metadata of the
schema (a JSON object, label → name).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.longtexts import Kept, discard
from smelt.files.parquet import writing

ROWS_PER_GROUP = 1 << 20
LONG_BYTES_PER_GROUP = 1 << 27  # of texts that were cut: a group with more of them has fewer rows
_PLAIN = {"row", "path", "offset", "size", "title", "description", "tags"}  # nearly all values differ


def write_parquet(catalogue: Catalogue, path: Path) -> None:
    """Write `path` a million rows at a time, in one step; then what lay aside for it is deleted."""
    source = _Source.of(catalogue)
    schema = _with_classes(catalogue, source.group(0, 0).schema)
    coded = [name for name in schema.names if name not in _PLAIN]
    with writing(path, schema, compression_level=1, use_dictionary=coded) as writer:
        start, stop = 0, -1
        while stop < catalogue.num_rows:
            stop = source.group_end(start)
            writer.write_table(source.group(start, stop))
            start = stop
    discard(catalogue.folder)


def _with_classes(catalogue: Catalogue, schema: pa.Schema) -> pa.Schema:
    kept = Kept.open(catalogue.folder, "class")
    if kept is None:
        return schema
    names = (text.decode("utf-8", "replace") for text in kept.texts.to_pylist())
    whole = dict(zip(kept.numbers.tolist(), names))
    return schema.with_metadata({"smelt.classes": json.dumps(whole, ensure_ascii=False)})


@dataclass(frozen=True)
class _Source:
    """Columns by name, folders with their slash, whether paths are UTF-8, and whole texts of columns."""

    columns: dict[str, Any]
    prefixes: Any
    text: bool
    long: dict[str, Kept]

    @classmethod
    def of(cls, catalogue: Catalogue) -> _Source:
        table = catalogue.to_arrow()
        columns = {name: table[name].chunk(0) for name in table.column_names if name != "missing"}
        folders = columns["folder"].dictionary
        slashes = pc.if_else(pc.equal(pc.binary_length(folders), 0), b"", b"/").cast(pa.large_binary())
        long = {name: kept for name in columns if (kept := Kept.open(catalogue.folder, name)) is not None}
        prefixes = pc.binary_join_element_wise(folders, slashes, pa.scalar(b"", pa.large_binary()))
        return cls(columns, prefixes, _is_text(folders) and _is_text(columns["name"]), long)

    def group_end(self, start: int) -> int:
        """The row behind a group that begins with `start`: its long texts must fit into memory."""
        stop = min(start + ROWS_PER_GROUP, len(self.columns["name"]))
        if not self.long or stop == start:
            return stop
        sizes = np.zeros(stop - start, np.int64)
        for name, kept in self.long.items():
            sizes += kept.sizes(_numbers(self.columns[name][start:stop], start))
        return start + max(1, int(np.searchsorted(np.cumsum(sizes), LONG_BYTES_PER_GROUP, "right")))

    def group(self, start: int, stop: int) -> pa.Table:
        """The rows start..stop-1 as they are written."""
        part = {name: column[start:stop] for name, column in self.columns.items()}
        for name, kept in self.long.items():
            part[name] = _whole(part[name], start, kept)
        prefixes = self.prefixes.take(part.pop("folder").indices)
        paths = pc.binary_join_element_wise(prefixes, part.pop("name"), pa.scalar(b"", pa.large_binary()))
        first = {
            "row": np.arange(start, stop, dtype=np.int64),
            "path": paths.cast(pa.large_string()) if self.text else paths,
            **{name: part.pop(name) for name in ("label", "source", "split")},
        }
        return pa.table({**first, **part})


def _is_text(column: Any) -> bool:
    try:
        column.cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def _numbers(column: pa.Array, start: int) -> NDArray[Any]:
    """By what number a text of each row lies aside: of its word, or of the row itself."""
    if pa.types.is_dictionary(column.type):
        codes: NDArray[Any] = column.indices.to_numpy()
        return codes
    return np.arange(start, start + len(column))


def _whole(column: pa.Array, start: int, kept: Kept) -> pa.Array:
    """A part of a column, from row `start` on, with whole texts for those that were cut."""
    numbers = _numbers(column, start)
    if not pa.types.is_dictionary(column.type):
        return kept.restored(column, numbers)
    # only those that this part uses: all of them, whole, may be more than memory
    used, codes = np.unique(numbers, return_inverse=True)
    words = kept.restored(column.dictionary.take(pa.array(used)), used)
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), words)
