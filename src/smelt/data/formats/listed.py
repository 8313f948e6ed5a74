"""Tables of images, a row each, on their way into the catalogue: whatever lists images ends here.

A `Table` holds columns by our names. `add_tables` brings their paths into one form below the root, turns
labels into classes, deals with rows that have no label or several, holds out, looks where the files are, and
writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, decode, encode
from smelt.artifacts.catalogue import OUT_OF_VOCABULARY, SPLITS, UNKNOWN, UNKNOWN_TRUTH
from smelt.artifacts.catalogue_writer import MAX_SOURCES, Block, CatalogueWriter, Paths, too_many_sources
from smelt.data.formats.base import SHOWN, SPLIT_NAMES, Report, hold_out, runs
from smelt.data.formats.classes import Classes, found_in, listed_in
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.files import Files, Part
from smelt.data.formats.lists import read_lines
from smelt.data.formats.names import normalised
from smelt.data.formats.paths import check_paths, split_paths
from smelt.errors import DataError

TEXTS = ("title", "description", "tags")
# beside the usual names, what a column `is_valid` says
_SPLIT_WORDS = {**SPLIT_NAMES, "true": "val", "false": "train", "1": "val", "0": "train", "": "train"}

Codes = tuple[NDArray[np.int64], list[bytes]]  # (N,) codes, words


class Located(Protocol):
    """Names the rows of a table in messages."""

    def where(self, entry: int) -> str:
        """File and line (or row, or object) of row `entry`, from 0."""


@dataclass
class Table:
    """Rows of one list, each an image.

    split: the one that all rows are of, or "all" where the column `split` says it. columns: by our names
    (`path`; `label`, `split`, `source`, `query`, `title`, `description`, `tags`, `true_label`, `noise` where
    there are any), all of N strings; "" is none. where: names rows in messages. base: folder below the root
    that the paths start from. several: all labels of those rows that have more than one (`label` is not
    looked at there). places: columns shard, offset and size of N rows, where it is known that the images lie
    in shards; else they are looked for below the root.
    """

    split: str
    columns: dict[str, ByteStrings]
    where: Located
    base: bytes = b""
    several: Mapping[int, Sequence[bytes]] = field(default_factory=dict)
    places: Mapping[str, NDArray[Any]] | None = None

    def __len__(self) -> int:
        return len(self.columns["path"])

    def words(self, name: str) -> Codes:
        """A column with few values as codes and words; one empty word where there is no such column."""
        import pyarrow as pa

        from smelt.artifacts.catalogue_parquet import arrow_binary

        if name not in self.columns:
            return np.zeros(len(self), np.int64), [b""]
        encoded = arrow_binary(self.columns[name]).dictionary_encode()
        words = [word.strip() for word in encoded.dictionary.cast(pa.large_binary()).to_pylist()]
        return encoded.indices.to_numpy().astype(np.int64), words


def add_tables(
    tables: Sequence[Table], settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report
) -> None:
    """Append the rows of all tables, grouped by split and source, each group in the order of its table."""
    placed = [_Placed(table, settings, report) for table in tables]
    report.refuse()
    for part in placed:
        part.check_splits(report)
        if (count := len(part.table.words("source")[1])) > MAX_SOURCES:
            column = settings.columns.get("source", "source")
            raise DataError(f"{part.table.where.where(0)}: column {column!r}: {too_many_sources(count)}")
    classes = _classes(settings, root, placed, report)
    writer.classes = [decode(name) for name in classes.names]
    splits = np.concatenate([part.splits for part in placed])
    labels = np.concatenate([part.labels(classes, report) for part in placed])
    keys = np.concatenate([part.paths.hashes() for part in placed])
    splits = hold_out(splits, labels, keys, settings, report)
    files = Files(root, [], report, check=settings.check_files)
    first = 0
    for part in placed:
        stop = first + len(part.paths)
        part.add(writer, files, splits[first:stop], labels[first:stop], classes)
        first = stop


def _classes(settings: FormatSettings, root: Path, tables: list[_Placed], report: Report) -> Classes:
    if "classes" in settings.lists:
        part = Part(root / settings.lists["classes"])
        return listed_in(str(part), [line.strip() for line in read_lines(part)])
    return found_in({word for part in tables for word in part.table.words("label")[1]}, report)


class _Placed:
    """A table with its paths in their one form below the root."""

    def __init__(self, table: Table, settings: FormatSettings, report: Report) -> None:
        self.table = table
        self.paths = _paths(table, settings)
        check_paths(self.paths, table.where.where, report)
        self.splits = np.zeros(len(self.paths), np.uint8)

    def check_splits(self, report: Report) -> None:
        """Fill `splits` from the column, or from which file it is."""
        if self.table.split != "all":
            self.splits[:] = SPLITS.index(self.table.split)
            return
        codes, words = self.table.words("split")
        table = [_SPLIT_WORDS.get(word.decode("utf-8", "replace").lower()) for word in words]
        for code, split in enumerate(table):
            if split is None:
                rows = np.flatnonzero(codes == code)
                where = self.table.where.where(int(rows[0]))
                report.problem(f"{where}: split {decode(words[code])!r} is not train, val or test", len(rows))
        self.splits = np.array([SPLITS.index(split or "train") for split in table], np.uint8)[codes]

    def labels(self, classes: Classes, report: Report) -> NDArray[np.int32]:
        """(N,) labels; what is no class, or empty outside the test split, goes to the report."""
        codes, words = self.table.words("label")
        numbers = [classes.label(word) for word in words]
        found = np.array([-3 if number is None else number for number in numbers], np.int32)[codes]
        wrong = (found < UNKNOWN) | ((found == UNKNOWN) & (self.splits != SPLITS.index("test")))
        for row in np.flatnonzero(wrong)[:SHOWN].tolist():
            shown = decode(words[int(codes[row])])
            hint = classes.why_not(words[int(codes[row])])
            report.problem(
                f"{self.table.where.where(row)}: label {shown[:80]!r} is not one of the classes{hint}"
            )
        report.num_problems += max(0, int(wrong.sum()) - SHOWN)
        return found

    def add(
        self, writer: CatalogueWriter, files: Files, splits: NDArray[np.uint8],
        labels: NDArray[np.int32], classes: Classes,
    ) -> None:  # fmt: skip
        """Append one block for each split and source."""
        source_codes, sources = self.table.words("source")
        group = splits.astype(np.int64) * len(sources) + source_codes
        for code, rows in runs(group):
            placed = self.paths.take(rows)
            places = self.table.places
            fixed, missing = files.locate(placed) if places is None else (_at(places, rows), None)
            source = sources[code % len(sources)].decode("utf-8", "replace") or "files"
            block = Block(SPLITS[code // len(sources)], source, placed, labels[rows], fixed, missing=missing,
                          listed_in=self.table.where, entries=rows)  # fmt: skip
            self._further(block, rows, classes)
            writer.add(block)

    def _further(self, block: Block, rows: NDArray[np.int64], classes: Classes) -> None:
        for name in ("query", "noise"):
            if name in self.table.columns:
                codes, words = self.table.words(name)
                block.words[name] = (codes[rows], words)
        for name in TEXTS:
            if name in self.table.columns:
                block.strings[name] = _as_utf8(self.table.columns[name].take(rows))
        if "true_label" in self.table.columns:
            codes, words = self.table.words("true_label")
            block.fixed["true_label"] = np.array([_truth(word, classes) for word in words], np.int32)[
                codes[rows]
            ]


def _at(columns: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    return {name: values[rows] for name, values in columns.items()}


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


def _paths(table: Table, settings: FormatSettings) -> Paths:
    """The paths with prefix and suffix, in their one form, below `base`."""
    strings = table.columns["path"]
    before, behind = encode(settings.prefix), encode(settings.suffix)
    if before or behind or _unusual(strings):
        strings = ByteStrings.of(normalised(before + path + behind) for path in strings)
    starts, ends = (np.asarray(part, np.int64) for part in (strings.offsets[:-1], strings.offsets[1:]))
    return split_paths(strings.heap, starts, ends).below(table.base)


def _unusual(strings: ByteStrings) -> bool:
    """Whether some path may not be in its one form."""
    text = strings.heap.tobytes()
    return b"//" in text or b"./" in text or b"/." in text
