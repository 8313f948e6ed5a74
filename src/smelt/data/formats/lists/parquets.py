"""Parquet files as columns of text; what lies in a struct is called `a.b`, a list is written as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from smelt.artifacts.bytestrings import ByteStrings, decode, encode
from smelt.errors import DataError, short
from smelt.files import parquet

_DEPTH = 4  # structs inside one another that have names
_ROW = 100  # bytes that a catalogue takes for a row, and what is worked out on the way to it


def peek(path: Path, rows: int) -> tuple[list[str], list[list[str]]]:
    """(names of the columns, cells of the first rows)."""
    with _named(path):
        names = _names(parquet.schema_of(path))
        small = [name for name in names if not name.endswith(".bytes")]
        table = parquet.parquet_head(path, small, rows)
    if not len(table):
        return names, []
    cells = {name: [decode(cell) for cell in _column(path, table, name)] for name in small}
    return names, [[cells[name][row] if name in cells else "" for name in names] for row in range(len(table))]


def columns(path: Path, names: Sequence[str]) -> list[ByteStrings]:
    """Whole columns as text."""
    with _named(path):
        table = parquet.parquet_table(path, names, row=_ROW)
    return [_column(path, table, name) for name in names]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What pyarrow raises, as an error that names the file."""
    try:
        yield
    except DataError:
        raise
    except (OSError, pa.ArrowException, MemoryError, ValueError) as error:
        raise DataError(f"{path} is no Parquet that can be read: {short(str(error), 300)}") from error


def _names(schema: Any) -> list[str]:
    """Names of the columns, those inside structs with dots."""

    def inside(name: str, kind: Any, depth: int) -> list[str]:
        if not pa.types.is_struct(kind) or depth == _DEPTH:
            return [name]
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return [path for part in fields for path in inside(f"{name}.{part.name}", part.type, depth + 1)]

    return [path for part in schema for path in inside(part.name, part.type, 0)]


def _column(path: Path, table: Any, name: str) -> ByteStrings:
    parts = name.split(".")
    top = next(
        (".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in table.column_names),
        "",
    )
    try:
        column = table[top]
        for part in parts[top.count(".") + 1 :]:
            column = pc.struct_field(column, part)
        return ByteStrings.from_arrow(_as_text(column))
    except (KeyError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: the column {name!r} is not read as text: {str(error)[:200]}") from error


def _as_text(column: Any) -> Any:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_dictionary(column.type):
        column = column.cast(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return column
    if pa.types.is_null(kind):
        return pa.chunked_array([pa.nulls(len(column), pa.large_string())])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        texts = [None if item is None else _listed(item) for item in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.large_binary())])
    if pa.types.is_floating(kind):  # a missing number is no label called nan
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    return column.cast(pa.large_string())


def _listed(items: list[Any]) -> bytes:
    if len(items) == 1:
        return encode(str(items[0]))
    return (
        json.dumps([item if isinstance(item, str) else str(item) for item in items]).encode()
        if items
        else b""
    )
