"""Parquet from elsewhere, read in memory that the size of the file answers for.

A dictionary, runs of equal values and compression let a megabyte ask for any number of rows. What reading
takes is told from the footer, before a page is touched; texts, of which the footer does not say how long they
are, are read in pieces and counted. A file may always ask for ALWAYS bytes, and for RATIO times its own size
beyond that: lists and scores that say something take a tenth of it at most.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from smelt.errors import SmeltError

ALWAYS = 1 << 28
RATIO = 200
ROWS = 1 << 16  # that are decoded at once
CELL = 8  # bytes that a text takes beside its letters
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
# what the size of a column answers for by itself, where its dictionary is kept as one
_PLAIN = {"PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED", "DELTA_LENGTH_BYTE_ARRAY"}


class OutOfProportionError(SmeltError):
    """A file that asks for far more memory than its size speaks for."""


def allowed(path: Path) -> int:
    """Bytes of memory that the file at `path` may ask for; what is a hole in a sparse file counts nothing."""
    status = os.stat(path)
    return max(ALWAYS, RATIO * min(status.st_size, getattr(status, "st_blocks", 1 << 50) * 512))


def refuse_beyond(path: Path, needed: int, what: str) -> None:
    """OutOfProportionError where `needed` bytes are more than `path` may ask for; `what` asks for them."""
    if needed > (limit := allowed(path)):
        raise OutOfProportionError(
            f"{path}: {what} would take {needed >> 20:,} MiB of memory, and a file of "
            f"{path.stat().st_size:,} bytes may ask for {limit >> 20:,} MiB ({RATIO} times its size): it "
            "holds nearly the same in every row. If it is sound, write it without compression and "
            "dictionaries, or in parts"
        )


def parquet_table(path: Path, columns: Sequence[str] | None = None, row: int = 0) -> Any:
    """The columns of a Parquet file as a pyarrow table, texts as they are and no dictionary among them.

    columns: names of the schema, a struct's field as `a.b`; all where None. row: bytes that whoever asks
    makes of each row beside them. Raises OutOfProportionError, and what pyarrow raises.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        wanted = list(dict.fromkeys(columns)) if columns is not None else None
        leaves = _leaves(file, wanted)
        refuse_beyond(path, _cost(file, leaves) + row * file.metadata.num_rows, _said(file))
        if not any(_is_text(file, leaf) for leaf in leaves):
            return file.read(columns=wanted)
        needed = row * file.metadata.num_rows
    limit = allowed(path)
    parts: list[Any] = []
    for batch in batches(path, wanted, limit):
        needed += sum(map(_size, batch.columns))
        if needed > limit:
            refuse_beyond(
                path, needed, f"the first {sum(part.num_rows for part in parts) + len(batch):,} rows"
            )
        parts.append(_decoded(batch))
    if not parts:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow.empty_table() if wanted is None else file.read(columns=wanted)
    return pa.Table.from_batches(parts)


def parquet_head(path: Path, columns: Sequence[str], rows: int) -> Any:
    """The first rows of some columns as a pyarrow table; raises as `parquet_table` does."""
    import pyarrow as pa

    parts, needed, missing, limit = [], 0, rows, allowed(path)
    for batch in batches(path, columns, limit, rows):
        part = batch.slice(0, missing)
        needed += sum(map(_size, part.columns))
        refuse_beyond(path, needed, f"the first {rows - missing + len(part):,} rows")
        parts.append(_decoded(part))
        missing -= len(part)
        if missing <= 0:
            break
    return pa.Table.from_batches(parts) if parts else pa.table({})


def refuse_many_rows(path: Path, row: int) -> None:
    """OutOfProportionError where a Parquet has more rows, of `row` bytes each, than its size speaks for."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        refuse_beyond(path, row * file.metadata.num_rows, _said(file))


def batches(path: Path, columns: Sequence[str] | None, limit: int, rows: int = ROWS) -> Iterator[Any]:
    """Record batches of some rows each, the texts of plain columns as dictionaries where they may be long."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        leaves = _leaves(file, columns)
        most = {leaf: _most_at_once(file, leaf) for leaf in leaves if _is_text(file, leaf)}
        flat = [file.schema.column(leaf).path for leaf, size in most.items() if not size]
        largest = max(most.values(), default=0)
    rows = max(1, min(rows, limit // largest)) if largest else rows
    with pq.ParquetFile(path, read_dictionary=flat, pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=rows, columns=columns)


def _leaves(file: Any, columns: Sequence[str] | None) -> list[int]:
    """Numbers of the stored columns that `columns` are made of."""
    paths = [file.schema.column(place).path for place in range(len(file.schema))]
    if columns is None:
        return list(range(len(paths)))
    tops = tuple(columns)
    known = set(tops)
    return [
        place for place, path in enumerate(paths)
        if path in known or path.split(".", 1)[0] in known or any(path.startswith(f"{top}.") for top in tops)
    ]  # fmt: skip


def _is_text(file: Any, leaf: int) -> bool:
    return bool(file.schema.column(leaf).physical_type == "BYTE_ARRAY")


def _chunks(file: Any, leaf: int) -> Iterator[Any]:
    return (file.metadata.row_group(group).column(leaf) for group in range(file.metadata.num_row_groups))


def _cost(file: Any, leaves: Sequence[int]) -> int:
    """Bytes that the columns take at least, by the footer; all of them where there are no texts."""
    total = 0
    for leaf in leaves:
        column = file.schema.column(leaf)
        width = _WIDTHS.get(column.physical_type, CELL)
        if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
            width = max(column.length, 1)
        total += width * sum(chunk.num_values for chunk in _chunks(file, leaf))
    return total


def _most_at_once(file: Any, leaf: int) -> int:
    """Bytes that one text of a column may have where it may be in every row; 0 where a batch is no danger."""
    flat = "." not in file.schema.column(leaf).path
    if flat and all(set(chunk.encodings) <= _PLAIN for chunk in _chunks(file, leaf)):
        return 0
    return max((int(chunk.total_uncompressed_size) for chunk in _chunks(file, leaf)), default=0)


def _said(file: Any) -> str:
    return f"its {file.metadata.num_rows:,} rows"


def _size(array: Any) -> int:
    """Bytes that an array takes once its dictionary is written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if not pa.types.is_dictionary(kind):
        return int(array.nbytes)
    if not _is_binary(kind.value_type):
        return CELL * len(array)
    lengths = pc.binary_length(array.dictionary).take(array.indices)
    return CELL * len(array) + int(pc.sum(lengths).as_py() or 0)


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _decoded(batch: Any) -> Any:
    """The batch with its dictionaries written out."""
    import pyarrow as pa

    kinds = [column.type for column in batch.columns]
    if not any(map(pa.types.is_dictionary, kinds)):
        return batch
    columns = [_plain(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _plain(array: Any) -> Any:
    import pyarrow as pa

    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
