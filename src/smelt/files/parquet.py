"""Parquet: files from elsewhere, read in memory that their size answers for, and our own, in one step.

What reading takes is told from the footer, before a page is touched; texts, of which the footer does not say
how long they are, are read in pieces and counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from smelt.errors import ArtifactError
from smelt.files.atomic import replacing
from smelt.files.bounded import allowed, refuse_beyond

ROWS = 1 << 16  # that are decoded at once
CELL = 8  # bytes that a text takes beside its letters
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


def read_table(path: Path, columns: Sequence[str] | None = None, filters: Any = None) -> Any:
    """A Parquet file of ours as a pyarrow table; ArtifactError where it is missing or damaged."""
    try:
        return pq.read_table(path, columns=columns, filters=filters)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is not there") from error
    except pa.ArrowInvalid as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error


def column_names(path: Path) -> list[str]:
    """Names of the columns of a Parquet file of ours."""
    return [str(name) for name in pq.read_schema(path).names]


def write_table(path: Path, table: Any) -> None:
    """Replace `path` by a pyarrow table, or by columns by name, in one step."""
    table = pa.table(dict(table)) if isinstance(table, Mapping) else table
    with writing(path, table.schema) as writer:
        writer.write_table(table)


@contextlib.contextmanager
def writing(path: Path, schema: Any, **options: Any) -> Iterator[Any]:
    """A `ParquetWriter` (zstd) whose file takes the place of `path` when the block ends well."""
    options = {"compression": "zstd", **options}
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        yield writer


def parquet_table(path: Path, columns: Sequence[str] | None = None, row: int = 0) -> Any:
    """The columns of a Parquet file as a pyarrow table, texts as they are and no dictionary among them.

    columns: names of the schema, a struct's field as `a.b`; all where None. row: bytes that whoever asks
    makes of each row beside them. Raises OutOfProportionError, and what pyarrow raises.
    """
    with pq.ParquetFile(path) as file:
        wanted = list(dict.fromkeys(columns)) if columns is not None else None
        leaves = _leaves(file, wanted)
        needed = row * file.metadata.num_rows
        refuse_beyond(path, needed + _cost(file, leaves), _said(file))
        if not any(_is_open(file, leaf) for leaf in leaves):
            return file.read(columns=wanted)
        closed, names = _parted(file, leaves, wanted)
        fixed = file.read(columns=closed) if closed else None
    if fixed is None:
        return _counted(path, wanted, needed)
    known = set(closed)
    texts = _counted(path, [name for name in names if name not in known], needed + fixed.nbytes)
    columns_of = {
        name: column
        for table in (fixed, texts)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pa.table({name: columns_of[name] for name in names})


def _parted(file: Any, leaves: Sequence[int], wanted: list[str] | None) -> tuple[list[str], list[str]]:
    """(plain columns that the number of rows speaks for, all columns), where columns can be told apart."""
    names = [field.name for field in file.schema_arrow] if wanted is None else wanted
    paths = [file.schema.column(leaf).path for leaf in leaves]
    if len(set(names)) < len(names) or any("." in name for name in (*names, *paths)):
        return [], names
    return [path for leaf, path in zip(leaves, paths) if not _is_open(file, leaf)], names


def _counted(path: Path, columns: Sequence[str] | None, needed: int) -> Any:
    """Columns batch by batch; OutOfProportionError as soon as they and `needed` bytes are too much."""
    limit, done = allowed(path), 0
    parts: list[Any] = []
    together: list[Any] = []
    for batch in batches(path, columns):
        needed, done = needed + _bytes(batch), done + len(batch)
        if needed > limit:
            refuse_beyond(path, needed, f"the first {done:,} rows")
        together.append(_decoded(batch))
        if done // ROWS > len(parts):
            parts.append(pa.Table.from_batches(together).combine_chunks())
            together = []
    if together:
        parts.append(pa.Table.from_batches(together).combine_chunks())
    if not parts:
        with pq.ParquetFile(path) as file:
            return file.read(columns=columns)
    return pa.concat_tables(parts)


def parquet_head(path: Path, columns: Sequence[str], rows: int) -> Any:
    """The first rows of some columns as a pyarrow table; raises as `parquet_table` does."""
    parts, needed, missing = [], 0, rows
    for batch in batches(path, columns, rows):
        part = batch.slice(0, missing)
        needed += _bytes(part)
        refuse_beyond(path, needed, f"the first {rows - missing + len(part):,} rows")
        parts.append(_decoded(part))
        missing -= len(part)
        if missing <= 0:
            break
    return pa.Table.from_batches(parts) if parts else pa.table({})


def refuse_many_rows(path: Path, row: int) -> None:
    """OutOfProportionError where a Parquet has more rows, of `row` bytes each, than its size speaks for."""
    with pq.ParquetFile(path) as file:
        refuse_beyond(path, row * file.metadata.num_rows, _said(file))


def batches(path: Path, columns: Sequence[str] | None, rows: int = ROWS) -> Iterator[Any]:
    """Record batches of at most `rows` rows, fewer where texts may be long.

    A text is no longer than its group of rows, and may be in every row of it.
    """
    with pq.ParquetFile(path, pre_buffer=False) as file:
        leaves = _leaves(file, columns)
        if any(_is_open(file, leaf) for leaf in leaves):
            groups = range(file.metadata.num_row_groups)
            largest = max(
                (int(file.metadata.row_group(group).total_byte_size) for group in groups), default=0
            )
            rows = max(1, min(rows, allowed(path) // max(largest, 1)))
        # few rows at a time: threads would wait for one another
        yield from file.iter_batches(batch_size=rows, columns=columns, use_threads=rows >= ROWS)


def schema_of(path: Path) -> Any:
    """The Arrow schema of a Parquet file. Raises what pyarrow raises."""
    with pq.ParquetFile(path) as file:
        return file.schema_arrow


def small_batches(path: Path, columns: Sequence[str], rows: int) -> tuple[Any, Iterator[Any]]:
    """(the open file, its record batches of `rows` rows) for columns of large cells, such as images.

    A small buffer: of a column the pages that are decoded are held, which writers may make as large as a
    group of rows (pyarrow looks at their size every 1,024 values), not more.
    """
    file = pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False)
    return file, file.iter_batches(batch_size=rows, columns=list(columns), use_threads=False)


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


def _is_open(file: Any, leaf: int) -> bool:
    """Whether the number of rows does not say what a column takes: texts, and lists of anything."""
    column = file.schema.column(leaf)
    return bool(column.physical_type == "BYTE_ARRAY" or column.max_repetition_level)


def _cost(file: Any, leaves: Sequence[int]) -> int:
    """Bytes that the columns take at least, by the number of rows; all of them where none is open.

    What the footer says of pieces of columns is not asked for: pyarrow ends the process where it is damaged.
    """
    total = 0
    for leaf in leaves:
        column = file.schema.column(leaf)
        width = _WIDTHS.get(column.physical_type, CELL)
        if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
            width = max(column.length, 1)
        total += width
    return total * int(file.metadata.num_rows)


def _said(file: Any) -> str:
    return f"its {file.metadata.num_rows:,} rows"


def _bytes(batch: Any) -> int:
    """Bytes that a batch takes once its dictionaries are written out."""
    return sum(map(size, batch.columns)) if _has_dictionary(batch.schema) else int(batch.nbytes)


def _has_dictionary(schema: Any) -> bool:
    return any(pa.types.is_dictionary(kind) for kind in schema.types)


def size(array: Any) -> int:
    """Bytes that an array takes once its dictionary is written out."""
    kind = array.type
    if not pa.types.is_dictionary(kind):
        return int(array.nbytes)
    if not _is_binary(kind.value_type):
        return CELL * len(array)
    lengths = pc.binary_length(array.dictionary).take(array.indices)
    return CELL * len(array) + int(pc.sum(lengths).as_py() or 0)


def _is_binary(kind: Any) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _decoded(batch: Any) -> Any:
    """The batch with its dictionaries written out."""
    if not _has_dictionary(batch.schema):
        return batch
    columns = [_plain(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _plain(array: Any) -> Any:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
