"""One's own list: a CSV, TSV or Parquet file with a row for each image.

Columns: `path` (relative to the root) and `label` (a number, or a class name), and where there are any
`split`, `source`, `query`, `title`, `description`, `tags`, `true_label`, `noise`; other names can be given
(`columns: {label: category}`). Which file: `lists: {all: images.csv}`, or one for each split
(`lists: {train: …, val: …, test: …}`), or what is found of images, data, labels, train, val and test with
.csv, .tsv or .parquet. Names get numbers in natural order, or in the order of `lists: {classes:
classes.txt}`; what numbers mean is said in `classes`. A split that is not there is held out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smelt.artifacts.bytestrings import ByteStrings, encode
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import Report, unsafe
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.layout import Glimpse
from smelt.data.formats.listed import TEXTS, Table, add_tables
from smelt.errors import DataError

_SUFFIXES = (".csv", ".tsv", ".parquet")
_NAMES = {
    "all": ("images", "data", "labels"),
    "train": ("train",),
    "val": ("val", "valid"),
    "test": ("test",),
}
_COLUMNS = ("path", "label", "split", "source", "query", *TEXTS, "true_label", "noise")
csv.field_size_limit(1 << 30)  # crawled texts may be long; the default refuses 128 KiB


@dataclass(frozen=True)
class Rows:
    """Names the rows of one file in messages."""

    path: Path

    def where(self, entry: int) -> str:
        """File and line; for Parquet the row, from 1."""
        if self.path.suffix == ".parquet":
            return f"{self.path} row {entry + 1}"
        text = self.path.read_bytes().decode("utf-8-sig", "surrogateescape")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(self.path))
        line = 1
        for row in reader:
            if row and entry < 0:
                return f"{self.path}:{line}"
            entry -= bool(row)
            line = reader.line_num + 1
        return f"{self.path}:{line}"


def lists_of(settings: FormatSettings, root: Path) -> dict[str, Path]:
    """Split (or "all") → file."""
    named = {name: root / path for name, path in settings.lists.items() if name != "classes"}
    if unknown := named.keys() - _NAMES.keys():
        raise DataError(f"lists: format csv has all, train, val, test and classes, not {sorted(unknown)}")
    if named:
        return named
    found = {}
    for split, stems in _NAMES.items():
        paths = [root / f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES]
        if present := [path for path in paths if path.is_file()]:
            found[split] = present[0]
    if not found:
        raise DataError(f"{root} has no images.csv, train.csv or the like: set `lists: {{all: name.csv}}`")
    return {"all": found["all"]} if "all" in found else found


def recognise(glimpse: Glimpse) -> str:
    """A list in the root that is called as such lists are."""
    stems = {stem for names in _NAMES.values() for stem in names}
    found = [
        name for name in glimpse.files() if name.lower().endswith(_SUFFIXES) and Path(name).stem in stems
    ]
    return f"the list {found[0]}" if found else ""


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The lists, by content; the images that they name count by `listed_images`."""
    classes = [root / settings.lists["classes"]] if "classes" in settings.lists else []
    return [*lists_of(settings, root).values(), *classes], []


def listed_images(settings: FormatSettings, root: Path) -> Iterator[bytes]:
    """The paths of all images, for the data set's identity; none where the files are not to be looked at."""
    if not settings.check_files:
        return
    column = settings.columns.get("path", "path")
    for path in lists_of(settings, root).values():
        for image in _paths_in(path, column):
            if not unsafe(image):
                yield image


def _paths_in(path: Path, column: str) -> Iterator[bytes]:
    """One column of a list, read without pyarrow where it is text: planning must stay light."""
    if path.suffix == ".parquet":
        yield from _read_columns(path, {"path": column}).get("path", ByteStrings.of([]))
        return
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file, delimiter=_delimiter(path))
            header = next(rows, [])
            if column in header:
                place = header.index(column)
                yield from (encode(row[place]) for row in rows if len(row) > place)
    except (OSError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the rows, grouped by split and source, each group in the order of its file."""
    tables = [_table(split, path, settings, report) for split, path in lists_of(settings, root).items()]
    report.refuse()
    add_tables([table for table in tables if table], settings, root, writer, report)


def _table(split: str, path: Path, settings: FormatSettings, report: Report) -> Table | None:
    """One file, as columns; None, and told, where it lacks one."""
    named = {str(ours): name for ours, name in settings.columns.items()}
    columns = _read_columns(path, {name: named.get(name, name) for name in _COLUMNS})
    for name in ("path", "label"):
        if name not in columns:
            report.problem(f"{path} has no column {named.get(name, name)!r} for the {name}")
            return None
    return Table(split, columns, Rows(path))


def _read_columns(path: Path, wanted: dict[str, str]) -> dict[str, ByteStrings]:
    """Our name → column, of those of `wanted` (our name → name in the file) that the file has."""
    import pyarrow as pa

    from smelt.artifacts.catalogue_parquet import from_arrow

    try:
        table = _read_parquet(path, wanted) if path.suffix == ".parquet" else _read_csv(path, wanted)
        return {
            ours: from_arrow(_as_text(table[name]))
            for ours, name in wanted.items()
            if name in table.column_names
        }
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a table that can be read: {error}") from error


def _as_text(column: Any) -> Any:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return column if is_text or is_bytes else column.cast(pa.large_string())


def _read_parquet(path: Path, wanted: dict[str, str]) -> Any:
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    return pq.read_table(path, columns=[name for name in wanted.values() if name in names])


def _read_csv(path: Path, wanted: dict[str, str]) -> Any:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        header = next(csv.reader(file, delimiter=_delimiter(path)), [])
    columns = [name for name in wanted.values() if name in header]
    return arrow_csv.read_csv(
        path,
        parse_options=arrow_csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=columns,
            column_types={name: pa.large_binary() for name in columns},
            check_utf8=False,
        ),
    )


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","
