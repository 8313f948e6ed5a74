"""Tables in Arrow's memory, of Parquet and of data frames, as `textfiles` has those in text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow.interchange import from_dataframe

from smelt.errors import OutOfProportionError, ResultError
from smelt.files import bounded, parquet
from smelt.fusion.scores.brokenfiles import broken

ROW = 100  # bytes that are made of a row of a table beside its scores: an id, a label
CELL = 100  # bytes of a cell as text


@dataclass(frozen=True)
class Arrow:
    """A table with columns of numbers, words or lists; the path is the file's, or what stands for one."""

    path: Path
    table: pa.Table = field(repr=False)

    lines = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        return list(self.table.column_names)

    @property
    def first(self) -> list[str]:
        """The cells of the first row as words."""
        return self.head(1)[0]

    def head(self, most: int) -> list[list[str]]:
        """The cells of the first rows as words."""
        return list(map(list, zip(*(_words(column.slice(0, most)) for column in self.table.columns))))

    def where(self, row: int) -> str:
        """The file, for a message."""
        return str(self.path)

    def take(
        self, words: Sequence[int], numbers: Sequence[int] = ()
    ) -> tuple[list[tuple[str, ...]], NDArray[Any]]:
        """Columns of words, and columns of numbers (N, K); ResultError names one that holds other things."""
        if self.path.exists():  # a frame is in memory already
            bounded.refuse_beyond(self.path, len(words) * len(self) * CELL, f"its {len(self):,} rows as text")
        values = [self._numbers(place) for place in numbers]
        found = np.stack(values, axis=1) if values else np.empty((len(self), 0))
        return [_words(self.table.column(place)) for place in words], found

    def _numbers(self, place: int) -> NDArray[Any]:
        try:
            values = self.table.column(place).to_numpy()
            return np.asarray(values, np.float64 if values.dtype.kind != "f" else values.dtype)
        except (ValueError, TypeError) as error:
            kind = self.table.schema.field(place).type
            raise ResultError(f"{self.path}: column {self.header[place]} holds {kind}, not scores") from error

    @property
    def list_columns(self) -> list[int]:
        """Columns of lists."""
        kinds = (pa.types.is_list, pa.types.is_fixed_size_list, pa.types.is_large_list)
        return [p for p, one in enumerate(self.table.schema) if any(kind(one.type) for kind in kinds)]

    def lists(self, place: int) -> NDArray[Any]:
        """The lists in a column of such, numbers or words (N, K); ResultError where lengths differ."""
        column = self.table.column(place).combine_chunks()
        sizes = {size or 0 for size in pc.list_value_length(column).unique().to_pylist()}
        if len(sizes) != 1:
            raise ResultError(
                f"{self.path}: lists of {min(sizes)} to {max(sizes)} scores in column {self.header[place]}"
            )
        values: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(self), *sizes)
        return values.astype(str) if values.dtype == object else values


def _words(column: Any) -> tuple[str, ...]:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return tuple("" if value is None else str(value) for value in column.to_pylist())


def read(path: Path) -> Arrow:
    """The table of a .parquet; ArtifactError where it is damaged, OutOfProportionError where it asks for
    more memory than its size speaks for, ResultError where it has no rows."""
    try:
        table = parquet.parquet_table(path, row=ROW)
        table.validate(full=True)  # words that are no text, places beyond a dictionary
        assert all(isinstance(name, str) for name in table.column_names)  # so may the names be
    except OutOfProportionError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise broken(path, error) from error
    return whole(path, table)


def of_frame(name: str, frame: Any) -> Arrow:
    """A data frame (pandas, polars, pyarrow, …) that speaks Arrow's protocol or the older one of frames."""
    table = pa.table(frame) if hasattr(frame, "__arrow_c_stream__") else from_dataframe(frame)
    for place, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):  # pandas' categories
            plain = table.column(place).cast(column.type.value_type)
            table = table.set_column(place, column.name, plain)
    return whole(Path(name), table)


def is_frame(value: Any) -> bool:
    """Whether a value is a data frame, and no single column of one."""
    stream = hasattr(value, "__arrow_c_stream__") and not hasattr(value, "__array__")
    return stream or hasattr(value, "__dataframe__")


def whole(path: Path, table: pa.Table) -> Arrow:
    """A table that can be read by the names of its columns; ResultError otherwise."""
    if not table.num_rows or not table.num_columns:
        raise ResultError(f"{path} is empty")
    if len(set(table.column_names)) < table.num_columns:
        raise ResultError(f"{path} has two columns of one name")
    return Arrow(path, table)
