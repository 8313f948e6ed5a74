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

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, decode, encode
from smelt.artifacts.catalogue import OUT_OF_VOCABULARY, SPLITS, UNKNOWN, UNKNOWN_TRUTH
from smelt.artifacts.catalogue_writer import MAX_SOURCES, Block, CatalogueWriter, too_many_sources
from smelt.data.formats.base import SHOWN, SPLIT_NAMES, Report, hold_out, runs, unsafe
from smelt.data.formats.classes import Classes, found_in, listed_in
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.files import Files, Part
from smelt.data.formats.layout import Glimpse
from smelt.data.formats.lists import read_lines
from smelt.data.formats.paths import check_paths, split_paths
from smelt.errors import DataError

_SUFFIXES = (".csv", ".tsv", ".parquet")
_NAMES = {
    "all": ("images", "data", "labels"),
    "train": ("train",),
    "val": ("val", "valid"),
    "test": ("test",),
}
_TEXTS = ("title", "description", "tags")
_COLUMNS = ("path", "label", "split", "source", "query", *_TEXTS, "true_label", "noise")
# beside the usual names, what a column `is_valid` says
_SPLIT_WORDS = {**SPLIT_NAMES, "true": "val", "false": "train", "1": "val", "0": "train", "": "train"}

csv.field_size_limit(1 << 30)  # crawled texts may be long; the default refuses 128 KiB

Codes = tuple[NDArray[np.int64], list[bytes]]  # (N,) codes, words


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
    tables = [_Table(split, path, settings, report) for split, path in lists_of(settings, root).items()]
    report.refuse()
    for table in tables:
        table.check_splits(report)
        if (count := len(table.words("source")[1])) > MAX_SOURCES:
            column = settings.columns.get("source", "source")
            raise DataError(f"{table.listed.path}: column {column!r}: {too_many_sources(count)}")
    classes = _classes(settings, root, tables, report)
    writer.classes = [decode(name) for name in classes.names]
    splits = np.concatenate([table.splits for table in tables])
    labels = np.concatenate([table.labels(classes, report) for table in tables])
    keys = np.concatenate([table.paths.hashes() for table in tables])
    splits = hold_out(splits, labels, keys, settings, report)
    files = Files(root, [], report, check=settings.check_files)
    first = 0
    for table in tables:
        stop = first + len(table.paths)
        table.add(writer, files, splits[first:stop], labels[first:stop], classes)
        first = stop


def _classes(settings: FormatSettings, root: Path, tables: list[_Table], report: Report) -> Classes:
    if "classes" in settings.lists:
        part = Part(root / settings.lists["classes"])
        return listed_in(str(part), [line.strip() for line in read_lines(part)])
    return found_in({word for table in tables for word in table.words("label")[1]}, report)


class _Table:
    """One file, as columns."""

    def __init__(self, split: str, path: Path, settings: FormatSettings, report: Report) -> None:
        self.listed = Rows(path)
        named = {str(ours): name for ours, name in settings.columns.items()}
        self.columns = _read_columns(path, {name: named.get(name, name) for name in _COLUMNS})
        for name in ("path", "label"):
            if name not in self.columns:
                report.problem(f"{path} has no column {named.get(name, name)!r} for the {name}")
                return
        strings = self.columns["path"]
        starts, ends = (np.asarray(part, np.int64) for part in (strings.offsets[:-1], strings.offsets[1:]))
        self.paths = split_paths(strings.heap, starts, ends)
        check_paths(self.paths, self.listed.where, report)
        self.split = split
        self.splits = np.zeros(len(self.paths), np.uint8)

    def words(self, name: str) -> Codes:
        """A column with few values as codes and words."""
        import pyarrow as pa

        from smelt.artifacts.catalogue_parquet import arrow_binary

        if name not in self.columns:
            return np.zeros(len(self.paths), np.int64), [b""]
        encoded = arrow_binary(self.columns[name]).dictionary_encode()
        words = [word.strip() for word in encoded.dictionary.cast(pa.large_binary()).to_pylist()]
        return encoded.indices.to_numpy().astype(np.int64), words

    def check_splits(self, report: Report) -> None:
        """Fill `splits` from the column, or from which file it is."""
        if self.split != "all":
            self.splits[:] = SPLITS.index(self.split)
            return
        codes, words = self.words("split")
        table = [_SPLIT_WORDS.get(word.decode("utf-8", "replace").lower()) for word in words]
        for code, split in enumerate(table):
            if split is None:
                rows = np.flatnonzero(codes == code)
                where = self.listed.where(int(rows[0]))
                report.problem(f"{where}: split {decode(words[code])!r} is not train, val or test", len(rows))
        self.splits = np.array([SPLITS.index(split or "train") for split in table], np.uint8)[codes]

    def labels(self, classes: Classes, report: Report) -> NDArray[np.int32]:
        """(N,) labels; what is no class, or empty outside the test split, goes to the report."""
        codes, words = self.words("label")
        numbers = [classes.label(word) for word in words]
        found = np.array([-3 if number is None else number for number in numbers], np.int32)[codes]
        wrong = (found < UNKNOWN) | ((found == UNKNOWN) & (self.splits != SPLITS.index("test")))
        for row in np.flatnonzero(wrong)[:SHOWN].tolist():
            shown = decode(words[int(codes[row])])
            hint = classes.why_not(words[int(codes[row])])
            report.problem(f"{self.listed.where(row)}: label {shown[:80]!r} is not one of the classes{hint}")
        report.num_problems += max(0, int(wrong.sum()) - SHOWN)
        return found

    def add(
        self, writer: CatalogueWriter, files: Files, splits: NDArray[np.uint8],
        labels: NDArray[np.int32], classes: Classes,
    ) -> None:  # fmt: skip
        """Append one block for each split and source."""
        source_codes, sources = self.words("source")
        group = splits.astype(np.int64) * len(sources) + source_codes
        for code, rows in runs(group):
            placed = self.paths.take(rows)
            fixed, missing = files.locate(placed)
            source = sources[code % len(sources)].decode("utf-8", "replace") or "files"
            block = Block(SPLITS[code // len(sources)], source, placed, labels[rows], fixed, missing=missing,
                          listed_in=self.listed, entries=rows)  # fmt: skip
            self._further(block, rows, classes)
            writer.add(block)

    def _further(self, block: Block, rows: NDArray[np.int64], classes: Classes) -> None:
        for name in ("query", "noise"):
            if name in self.columns:
                codes, words = self.words(name)
                block.words[name] = (codes[rows], words)
        for name in _TEXTS:
            if name in self.columns:
                block.strings[name] = _as_utf8(self.columns[name].take(rows))
        if "true_label" in self.columns:
            codes, words = self.words("true_label")
            block.fixed["true_label"] = np.array([_truth(word, classes) for word in words], np.int32)[
                codes[rows]
            ]


def _truth(word: bytes, classes: Classes) -> int:
    if word in (b"", b"%d" % UNKNOWN_TRUTH):
        return UNKNOWN_TRUTH
    label = classes.label(word)
    return OUT_OF_VOCABULARY if label is None else label


def _as_utf8(strings: ByteStrings) -> ByteStrings:
    """Free text is for showing: bytes that are not UTF-8 are replaced."""
    try:
        strings.heap.tobytes().decode()
    except UnicodeDecodeError:
        return ByteStrings.of(item.decode("utf-8", "replace").encode() for item in strings)
    return strings


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
