"""Which rows of a table are taken, and under which label: none, one, several, or said twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue import UNKNOWN
from smelt.artifacts.catalogue_writer import Paths
from smelt.data.formats.base import SHOWN, Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.classes import Classes
from smelt.data.formats.labels.labelcolumn import TEST, TRAIN, LabelColumn
from smelt.data.formats.lists.imagetable import Table
from smelt.errors import short

_WRONG = -3  # a word that is no label


@dataclass
class Rows:
    """Rows of a table that are taken: entries (R,) of the table with labels and splits (R,), in their order.

    paths: of all N entries. counts: training rows without a label, and all training rows.
    """

    table: Table
    paths: Paths
    entries: NDArray[np.int64]
    labels: NDArray[np.int32]
    splits: NDArray[np.uint8]
    counts: tuple[int, int] = (0, 0)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Leave out the rows that are not in the mask."""
        self.entries, self.labels, self.splits = self.entries[mask], self.labels[mask], self.splits[mask]


def labelled_rows(
    column: LabelColumn, several: Mapping[bytes, Sequence[bytes]], classes: Classes,
    settings: FormatSettings, report: Report,
) -> Rows:  # fmt: skip
    """The rows of a table with their labels; what is no label, or missing though it may not, is told.

    several: words that hold several labels.
    """
    numbers = [several[word][0] if several.get(word) else word for word in column.words]
    found = np.array([_number(classes, word) for word in numbers], np.int32)[column.codes]
    _tell_wrong(column, found == _WRONG, classes, report)
    rows = Rows(column.table, column.paths, np.arange(len(found)), found, column.splits)
    if more := _of_several(column, several, classes):
        rows = _with_several(rows, more, classes, settings, report)
    _without_label(rows, settings, report)
    return rows


def _number(classes: Classes, word: bytes) -> int:
    label = classes.label(word)
    return _WRONG if label is None else label


def _tell_wrong(column: LabelColumn, wrong: NDArray[np.bool_], classes: Classes, report: Report) -> None:
    places = np.flatnonzero(wrong)
    for row in places[:SHOWN].tolist():
        word = column.words[int(column.codes[row])]
        shown, hint = short(decode(word), 80), classes.why_not(word)
        report.problem(f"{column.table.where(row)}: label {shown!r} is not one of the classes{hint}")
    report.num_problems += max(0, len(places) - SHOWN)


def _of_several(
    column: LabelColumn, several: Mapping[bytes, Sequence[bytes]], classes: Classes
) -> dict[int, list[int]]:
    """Entry → its different labels, where there are more than one."""
    found = {
        entry: labels
        for code, word in enumerate(column.words)
        if len(labels := _different(several.get(word, ()), classes)) > 1
        for entry in np.flatnonzero(column.codes == code).tolist()
    }
    found |= {
        entry: labels
        for entry, words in column.table.several.items()
        if len(labels := _different(words, classes)) > 1
    }
    return dict(sorted(found.items()))


def _different(words: Sequence[bytes], classes: Classes) -> list[int]:
    return list(dict.fromkeys(_number(classes, word) for word in words))


def _with_several(
    rows: Rows, more: dict[int, list[int]], classes: Classes, settings: FormatSettings, report: Report
) -> Rows:
    """Deal with entries of several labels as `multi_label` says."""
    table = rows.table
    entry, labels = next(iter(more.items()))
    texts = entry not in table.several  # and not by columns or lists
    names = ", ".join(short(decode(classes.names[label]), 40) for label in labels if label >= 0)
    what = f"{len(more):,} rows have several labels, such as {table.where(entry)} ({names})"
    if settings.multi_label in ("refuse", "whole"):
        report.problem(
            f"{what}: smelt learns one label an image. -o data.multi_label=first takes the first, "
            "-o data.multi_label=split makes a row of each"
            + (", -o data.multi_label=whole takes such a text as the name of one class" if texts else ""),
            len(more),
        )
        return rows
    places = np.fromiter(more, np.int64, len(more))
    rows.labels = rows.labels.copy()
    rows.labels[places] = [labels[0] for labels in more.values()]
    if settings.multi_label == "first":
        report.note(f"{what}: the first is taken")
        return rows
    report.note(f"{what}: there is a row for each")
    report.repeats = True
    times = np.ones(len(rows.entries), np.int64)
    times[places] = [len(labels) for labels in more.values()]
    entries = np.repeat(rows.entries, times)
    starts = np.cumsum(times) - times
    spread = np.repeat(rows.labels, times)
    for entry, labels in more.items():
        spread[starts[entry] : starts[entry] + len(labels)] = labels
    return Rows(table, rows.paths, entries, spread, np.repeat(rows.splits, times))


def _without_label(rows: Rows, settings: FormatSettings, report: Report) -> None:
    """Deal with rows of training and validation that have no label as `unlabelled` says."""
    without = (rows.labels == UNKNOWN) & (rows.splits != TEST)
    training = rows.splits == TRAIN
    rows.counts = int((without & training).sum()), int(training.sum())
    places = np.flatnonzero(without)
    if not len(places) or settings.unlabelled == "keep":
        return
    if settings.unlabelled == "refuse":
        for place in places[:SHOWN].tolist():
            where = rows.table.where(int(rows.entries[place]))
            report.problem(f"{where}: label '' is not one of the classes (only test images may have none)")
        report.num_problems += max(0, len(places) - SHOWN)
        return
    for place in places.tolist():
        report.leave_out("unlabelled", rows.paths[int(rows.entries[place])])
    rows.keep(~without)


def drop_repeats(tables: Sequence[Rows], settings: FormatSettings, report: Report) -> None:
    """Leave out rows that say again what one before them says; refuse those that say otherwise.

    A path in two splits is left to be refused with all others.
    """
    hashes = [rows.paths.hashes()[rows.entries] for rows in tables]
    everything = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
    twice = np.unique(everything[1:][everything[1:] == everything[:-1]])
    del everything
    if not len(twice):
        return
    seen: dict[tuple[bytes, int], tuple[Rows, int, set[int]]] = {}
    count, example = 0, ""
    for rows, keys in zip(tables, hashes):
        kept = np.ones(len(keys), np.bool_)
        for place in np.flatnonzero(np.isin(keys, twice)).tolist():
            entry, label = int(rows.entries[place]), int(rows.labels[place])
            key = rows.paths[entry], int(rows.splits[place])
            first, before, labels = seen.setdefault(key, (rows, entry, {label}))
            if first is rows and before == entry:
                labels.add(label)  # itself, or another label of the same row
            elif label in labels:
                kept[place] = False
                count += 1
                where, earlier = rows.table.where(entry), first.table.where(before)
                example = example or f"{where}: {decode(key[0])!r} (before: {earlier})"
            else:
                kept[place] = _takes_another(rows, entry, key[0], first, before, settings, report)
                labels.add(label)
        rows.keep(kept)
    if count:
        report.warn(f"{count:,} rows are listed twice, the same each time, and count once: {example}")


def _takes_another(
    rows: Rows, entry: int, path: bytes, first: Rows, before: int, settings: FormatSettings, report: Report
) -> bool:
    """Whether a row with another label of a path is taken as well; that it may not be is told."""
    if settings.multi_label == "split":
        report.repeats = True
        return True
    if settings.multi_label in ("refuse", "whole"):
        report.problem(
            f"{rows.table.where(entry)}: {decode(path)!r} is listed twice, with another label (before: "
            f"{first.table.where(before)}); -o data.multi_label=first takes the first, split both"
        )
    return False
