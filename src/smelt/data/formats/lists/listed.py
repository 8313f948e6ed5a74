"""Tables of images, a row each, on their way into the catalogue: whatever lists images ends here.

A `Table` holds columns by our names. `add_tables` brings their paths into one form below the root, turns
labels into classes, deals with rows that have no label or several, holds out, looks where the files are, and
writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, concatenate, decode
from smelt.artifacts.catalogue import OUT_OF_VOCABULARY, SPLITS, UNKNOWN_TRUTH
from smelt.artifacts.catalogue_writer import MAX_SOURCES, Block, CatalogueWriter, Paths, too_many_sources
from smelt.data.formats.base import SPLIT_NAMES, Report, hold_out, runs
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.classes import Classes
from smelt.data.formats.labels.labelcolumn import LabelColumn
from smelt.data.formats.labels.labelled import Rows
from smelt.data.formats.labels.nolabels import quoted
from smelt.data.formats.labels.pipeline import numbered
from smelt.data.formats.lists.imagetable import Table, Where
from smelt.data.formats.lists.letters import shown
from smelt.data.formats.tree.files import Files
from smelt.data.formats.tree.fitting import fit
from smelt.data.formats.tree.names import SPLIT_WORDS, split_of
from smelt.data.formats.tree.pathcolumns import check_paths, split_paths
from smelt.data.formats.tree.spelling import Spelling, usual_options, what_lies_there
from smelt.errors import DataError, short

TEXTS = ("title", "description", "tags")
AT_ONCE = 1 << 16  # rows of Python objects at a time
MANY_MISSING = 0.1  # share of the files from which on an example is shown
# beside the usual names, what a column `is_valid` says
_SPLIT_WORDS = {
    **SPLIT_NAMES, **SPLIT_WORDS, "true": "val", "false": "train", "1": "val", "0": "train",
    **dict.fromkeys(("", "unassigned", "all", "trainval"), "train"),
}  # fmt: skip


def add_tables(
    tables: Sequence[Table], settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report,
    known: Classes | None = None,
) -> None:  # fmt: skip
    """Append the rows of all tables, grouped by split and source, each group in the order of its table.

    known: the classes, where the lists say themselves which there are; then a label is one of their names.
    """
    placed = [_Placed(table, settings, root, report) for table in tables]
    report.refuse()
    for part in placed:
        part.check_splits(report)
        if (count := len(part.table.words("source")[1])) > MAX_SOURCES:
            column = settings.columns.get("source", "source")
            raise DataError(f"{part.table.where(0)}: column {column!r}: {too_many_sources(count)}")
    columns = [
        LabelColumn(part.table, part.paths, part.splits, *part.table.words("label")) for part in placed
    ]
    classes, rows = numbered(columns, settings, root, report, known)
    for part, own in zip(placed, rows):
        part.rows = own
    writer.classes = [decode(name) for name in classes.names]
    splits = _held_out(placed, settings, report)
    files = Files(root, [], report, check=settings.check_files)
    missing = _Missing(root)
    for part in placed:
        part.locate(files, missing)
    missing.tell(report)
    if kinds := files.unread([part.placed for part in placed]):
        report.problem(f"the listed files are {kinds}, which is not read: convert them to JPEG or PNG")
    first = 0
    for part in placed:
        stop = first + len(part.rows.entries)
        part.add(writer, splits[first:stop], classes)
        first = stop


def _held_out(placed: list[_Placed], settings: FormatSettings, report: Report) -> NDArray[np.uint8]:
    """Splits of all rows, with what is held out; rows of one path go together."""
    splits = np.concatenate([part.rows.splits for part in placed])
    labels = np.concatenate([part.rows.labels for part in placed])
    keys = np.concatenate([part.paths.hashes()[part.rows.entries] for part in placed])
    if not report.repeats:
        return hold_out(splits, labels, keys, settings, report)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)  # rows as they come, so that nothing but repeats makes a difference
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    rows = first[order]
    return hold_out(splits[rows], labels[rows], keys[rows], settings, report)[place[inverse]]


class _Missing:
    """Counts files that are not there, and keeps the first of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = self.total = 0
        self.where, self.path, self.given, self.hint = "", b"", b"", ""

    def tell(self, report: Report) -> None:
        """A data set without a single file is refused; many that are not there are told with an example."""
        if not self.count:
            return
        tried = self.root / decode(self.path)
        looked = (
            f"{self.where}: {short(decode(self.given), 100)!r} was looked for as {short(str(tried), 200)}"
        )
        there = f"{looked}; {what_lies_there(self.root, self.path)}"
        if self.count == self.total:
            hint = self.hint or usual_options(self.root, self.path)
            report.problem(f"none of the {self.total:,} listed files is there. {there}. {hint}")
            report.refuse()
        elif self.count > MANY_MISSING * self.total:
            report.warn(f"{self.count:,} of {self.total:,} listed files are not there, such as {there}")


class _Placed:
    """A table with its paths in their one form below the root."""

    rows: Rows

    def __init__(self, table: Table, settings: FormatSettings, root: Path, report: Report) -> None:
        self.table = table
        strings = table.columns["path"]
        self.spelling = table.spelling or fit(
            strings, root, table.base, settings, table.name or _file_of(table.where), table.split
        )
        if self.spelling.refused:
            raise DataError(self.spelling.refused)
        if self.spelling.note:
            report.note(self.spelling.note)
        self.paths = _paths(strings, self.spelling)
        check_paths(self.paths, table.where, report)
        self.splits = np.zeros(len(self.paths), np.uint8)
        self.split_words = {word.lower(): split for word, split in settings.split_words.items()}

    def check_splits(self, report: Report) -> None:
        """Fill `splits` from the column, or from which file it is."""
        if self.table.split != "all":
            self.splits[:] = SPLITS.index(self.table.split)
            return
        codes, words = self.table.words("split")
        table = [self._split(word.decode("utf-8", "replace").lower()) for word in words]
        for word in sorted({word.decode("utf-8", "replace").lower() for word in words} & self._guessed()):
            report.note(f"split {word!r} is taken for {self._split(word)} (data.split_words says otherwise)")
        for code, split in enumerate(table):
            if not split:
                rows = np.flatnonzero(codes == code)
                where = self.table.where(int(rows[0]))
                word = short(decode(words[code]), 80)
                report.problem(
                    f"{where}: split {word!r} is not train, val or test, nor a word for one (training, "
                    "valid, validation, dev, eval, testing, holdout, public, private; empty is train): "
                    f"-o 'data.split_words={{{quoted(word)}: test}}' says what it means",
                    len(rows),
                )
        self.splits = np.array([SPLITS.index(split or "train") for split in table], np.uint8)[codes]

    def _guessed(self) -> set[str]:
        return SPLIT_WORDS.keys() - self.split_words.keys()

    def _split(self, word: str) -> str:
        if word in self.split_words:
            return self.split_words[word]
        return self.table.split_words.get(word) or _SPLIT_WORDS.get(word) or split_of(word)

    def locate(self, files: Files, missing: _Missing) -> None:
        """Look which of the rows' files are there."""
        entries = self.rows.entries
        whole = np.array_equal(entries, np.arange(len(self.paths)))
        self.placed = self.paths if whole else self.paths.take(entries)
        self.missing: NDArray[np.bool_] | None = None
        inside = {name: values[self.rows.entries] for name, values in self.table.inside.items()}
        files_N = inside["shard"] == np.iinfo(inside["shard"].dtype).max if inside else None
        if files_N is not None and not files_N.any():
            self.fixed = inside  # nothing to look for below the root
            return
        self.fixed, self.missing = files.locate(self.placed)
        if files_N is not None:
            self.fixed = inside
            if self.missing is not None:
                self.missing &= files_N
        missing.total += len(self.placed)
        if self.missing is None or not bool(self.missing.any()):
            return
        if not missing.count:
            row = int(np.flatnonzero(self.missing)[0])
            entry = int(self.rows.entries[row])
            missing.where, missing.path = self.table.where(entry), self.placed[row]
            missing.given, missing.hint = self.table.columns["path"][entry], self.spelling.hint
        missing.count += int(self.missing.sum())

    def add(self, writer: CatalogueWriter, splits: NDArray[np.uint8], classes: Classes) -> None:
        """Append one block for each split and source."""
        source_codes, sources = self.table.words("source")
        entries = self.rows.entries
        group = splits.astype(np.int64) * len(sources) + source_codes[entries]
        for code, rows in runs(group):
            source = sources[code % len(sources)].decode("utf-8", "replace") or "files"
            fixed = {name: values[rows] for name, values in self.fixed.items()}
            missing = None if self.missing is None else self.missing[rows]
            block = Block(SPLITS[code // len(sources)], source, self.placed.take(rows),
                          self.rows.labels[rows], fixed, missing=missing, listed_in=self.table.where,
                          entries=entries[rows])  # fmt: skip
            self._further(block, entries[rows], classes)
            writer.add(block)

    def _further(self, block: Block, rows: NDArray[np.int64], classes: Classes) -> None:
        columns = self.table.columns
        for name in ("query", "noise"):
            if name in columns:
                codes, words = self.table.words(name)
                block.words[name] = (codes[rows], words)
        for name in TEXTS:
            if name in columns:
                block.strings[name] = _as_utf8(columns[name].take(rows))
        if "true_label" in columns:
            codes, words = self.table.words("true_label")
            truth = [_truth(word, classes) for word in words]
            block.fixed["true_label"] = np.array(truth, np.int32)[codes[rows]]


def _truth(word: bytes, classes: Classes) -> int:
    if word in (b"", b"%d" % UNKNOWN_TRUTH):
        return UNKNOWN_TRUTH
    label = classes.label(word)
    return OUT_OF_VOCABULARY if label is None else label


def _as_utf8(strings: ByteStrings) -> ByteStrings:
    """Free text is for showing."""
    try:
        strings.heap.tobytes().decode()
    except UnicodeDecodeError:
        return ByteStrings.of(map(shown, strings))
    return strings


def _file_of(where: Where) -> str:
    """The name of a list, from where its first row is."""
    return where(0).rpartition("/")[2].partition(":")[0]


def _paths(strings: ByteStrings, spelling: Spelling) -> Paths:
    """The paths in their one form, as `spelling` reads them."""
    if not spelling.plain or spelling.base or _unusual(strings):
        parts = (strings.slice(at, min(at + AT_ONCE, len(strings))) for at in range(0, len(strings), AT_ONCE))
        strings = concatenate([ByteStrings.of(map(spelling, part)) for part in parts])
    starts, ends = (np.asarray(part, np.int64) for part in (strings.offsets[:-1], strings.offsets[1:]))
    return split_paths(strings.heap, starts, ends)


def _unusual(strings: ByteStrings) -> bool:
    """Whether some path may not be in its one form."""
    text = strings.heap.tobytes()
    return any(sign in text for sign in (b"//", b"./", b"/."))
