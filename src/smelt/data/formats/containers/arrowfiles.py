"""Parquet and Arrow files with images in a column, read in batches of rows; damaged ones refused by name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from smelt.data.formats.containers.arrowsizes import refuse_bomb
from smelt.data.formats.containers.jsons import load, open_regular, parse, repeated
from smelt.data.formats.tree.names import told
from smelt.data.images.kinds import ENOUGH, sniff
from smelt.errors import DataError, SmeltError, StorageError, short
from smelt.files import ipc, parquet
from smelt.files.bounded import refuse_beyond

BATCH = 64  # rows of a Parquet file that are held at once; Arrow's are mapped, and held by the system
ROW = 100  # bytes that are kept of a row beside its image: its name, its label, where it is
_PARQUET, _ARROW = b"PAR1", b"ARROW1"


@contextmanager
def _named(path: Path, what: str) -> Iterator[None]:
    """What pyarrow raises, as an error that names the file."""
    try:
        yield
    except SmeltError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        raise DataError(f"{path} cannot be read {what}: {short(str(error))}") from error
    except (pa.ArrowException, MemoryError, ValueError, OverflowError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read {what}: {short(str(error) or type(error).__name__)}"
        ) from error


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet does."""
    with open_regular(path) as file:
        return file.read(4) == _PARQUET


def schema_of(path: Path) -> Any:
    """The schema of a Parquet or Arrow file. DataError where it has none that can be read."""
    with _named(path, "(its schema)"):
        if is_parquet(path):
            return parquet.schema_of(path)
        with ipc.mapped(path) as file:
            return _opened(path, file).schema


def _opened(path: Path, file: Any) -> Any:
    with open_regular(path) as head:
        whole = head.read(len(_ARROW)) == _ARROW
    refuse_bomb(path, file, whole)
    file.seek(0)
    return pa.ipc.open_file(file) if whole else pa.ipc.open_stream(file)


def batches(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """(number of its first row, record batch with `columns`) of a file, in order. DataError where damaged."""
    first = 0
    with _named(path, "from its beginning"):
        if is_parquet(path):
            parquet.refuse_many_rows(path, row=ROW)
            source, found = parquet.small_batches(path, columns, BATCH)
        else:
            source = ipc.mapped(path)
            found = _batches_of(_opened(path, source), columns)
    try:
        while True:
            with _named(path, f"from row {first:,} on"):
                batch = next(found, None)
                if batch is None:
                    return
                batch.validate(full=True)
                refuse_beyond(path, sum(map(parquet.size, batch.columns)), f"{len(batch):,} rows")
            yield first, batch
            first += len(batch)
    finally:
        source.close()


def _batches_of(reader: Any, columns: Sequence[str]) -> Iterator[Any]:
    number = getattr(reader, "num_record_batches", None)
    found = iter(reader) if number is None else (reader.get_batch(i) for i in range(number))
    for batch in found:
        yield batch.select(list(columns))


@dataclass(frozen=True)
class Column:
    """A column that matters. kind: image, text, class (with `names`) or number. several: lists of them.

    bytes, as long as it is not looked at: either images or words.
    """

    name: str
    kind: str
    several: bool = False
    names: list[bytes] | None = None


@dataclass
class Columns:
    """What the columns of some files are. noted: what was decided for the user."""

    image: Column
    label: Column | None
    texts: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)


def features_of(path: Path, schema: Any) -> dict[str, Any]:
    """Column → what `datasets` wrote of it: in the schema, and in `dataset_info.json` beside."""
    found: dict[str, Any] = {}
    beside = path.with_name("dataset_info.json")
    infos = [load(beside)] if beside.is_file() else []
    if written := (schema.metadata or {}).get(b"huggingface"):
        own = parse(written, f"{path}: the entry `huggingface` of its schema")
        infos.append(own.get("info") if isinstance(own, dict) else None)
    for info in infos:
        features = info.get("features") if isinstance(info, dict) else None
        found |= features if isinstance(features, dict) else {}
    return found


def columns_of(schema: Any, features: dict[str, Any], path: Path) -> dict[str, Column]:
    """Name → column, of those that are images, labels or text. DataError where one is there twice."""
    found: dict[str, Column] = {}
    with _named(path, "(its columns)"):  # names may be no text
        names = [entry.name for entry in schema]
        if (twice := repeated(names)) is not None:
            raise DataError(f"{path}: column {told(twice)} is there twice")
        for entry in schema:
            if column := _column(entry.name, entry.type, features.get(entry.name), str(path)):
                found[entry.name] = column
    if unsure := [name for name, column in found.items() if column.kind == "bytes"]:
        _, batch = next(batches(path, unsure), (0, None))
        found |= {name: Column(name, _kind_of_bytes(batch, name)) for name in unsure}
    return found


def _kind_of_bytes(batch: Any, name: str) -> str:
    """What a column of bytes without a word on it holds: images, or words, by the first of them."""
    values = _plain(batch.column(name)) if batch is not None else ()
    first = next((value for value in values if value.is_valid), None)
    return "image" if first is None or sniff(first.as_py()[:ENOUGH]).image else "text"


def _column(name: str, kind: Any, feature: Any, where: str) -> Column | None:
    several = False
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, several = kind.value_type, True
        inner = feature.get("feature") if isinstance(feature, dict) else None
        feature = inner or (feature[0] if isinstance(feature, list) and feature else None)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        inside = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return Column(name, "image") if is_bytes(inside.get("bytes")) and not several else None
    if is_bytes(kind):
        is_image = isinstance(feature, dict) and feature.get("_type") == "Image"
        return None if several else Column(name, "image" if is_image else "bytes")
    if pa.types.is_integer(kind):
        names = _class_names(feature, f"{where}: column {told(name)}")
        return Column(name, "number" if names is None else "class", several, names)
    if pa.types.is_boolean(kind):
        return Column(name, "number", several)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return Column(name, "text", several)
    return None


def is_bytes(kind: Any) -> bool:
    """Whether a type of Arrow is that of bytes."""
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return kind is not None and any(test(kind) for test in tests)


def _class_names(feature: Any, where: str) -> list[bytes] | None:
    """The names of a ClassLabel, None where a column is none."""
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    if not isinstance(names, list):
        return None
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f"{where}: the names of its ClassLabel are not all words")
    found = [name.strip().encode("utf-8", "replace") for name in names]
    if twice := repeated(found):
        raise DataError(f"{where}: its ClassLabel has the name {twice.decode()!r} twice")
    return found


def images_in(batch: Any, name: str) -> Iterator[tuple[bytes | None, bytes | None]]:
    """(bytes, path) of each row; one of them or both may be None."""
    column = _plain(batch.column(batch.schema.get_field_index(name)))
    if not pa.types.is_struct(column.type):
        is_text = not is_bytes(column.type)
        values = (value.as_py() for value in (_as_binary(column) if is_text else column))
        yield from ((None, value) if is_text else (value, None) for value in values)
        return
    parts = dict(zip((column.type.field(i).name for i in range(column.type.num_fields)), column.flatten()))
    paths = parts.get("path")
    texts = _as_binary(paths) if paths is not None and not pa.types.is_null(paths.type) else None
    for row, value in enumerate(parts["bytes"]):
        yield value.as_py(), texts[row].as_py() if texts is not None else None


def words_in(batch: Any, column: Column, where: Callable[[int], str]) -> Iterator[tuple[bytes, ...]]:
    """The labels of each row as words; () where it has none. DataError for a number that is no class."""
    values = _plain(batch.column(batch.schema.get_field_index(column.name)))
    for row, value in enumerate(_values(values, column)):
        items = value if isinstance(value, list) else [value]
        words = (_word(item, column, row, where) for item in items if item is not None)
        yield tuple(word for word in words if word)


def _values(values: Any, column: Column) -> list[Any]:
    if column.kind != "text":
        found: list[Any] = values.to_pylist()
        return found
    if column.several:
        values = values.cast(pa.large_list(pa.large_binary()))
        return list(values.to_pylist())
    return list(_as_binary(values).to_pylist())


def _word(item: Any, column: Column, row: int, where: Callable[[int], str]) -> bytes:
    if isinstance(item, bytes):
        return item.strip()
    if column.names is None:
        return str(item).lower().encode()
    if item == -1:  # how `datasets` writes that there is no label
        return b""
    if not 0 <= item < len(column.names):
        raise DataError(
            f"{where(row)}: {column.name} is {item}, and its ClassLabel has the {len(column.names)} names "
            f"0..{len(column.names) - 1}"
        )
    return column.names[int(item)]


def _plain(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _as_binary(column: Any) -> Any:
    return _plain(column).cast(pa.large_binary())
