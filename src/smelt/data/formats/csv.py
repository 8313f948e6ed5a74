"""One's own list: a table with a row for each image, as CSV, TSV, text, Parquet or JSON.

Columns: `path` and `label` (a number, or a class name), and where there are any `split`, `source`, `query`,
`title`, `description`, `tags`, `true_label`, `noise`; usual names are recognised (`columns`), others can be
given (`columns: {label: category}`); columns of 0 and 1 may stand for the classes. Which file: `lists: {all:
images.csv}`, or one for each split (`lists: {train: …, val: …, test: …}`), or what is found (`listfiles`).
Names get numbers in natural order, or in the order of `lists: {classes: classes.txt}`; what numbers mean is
said in `classes`. A split that is not there is held out. How paths lead to files is said in `spelling`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import Report, as_bytes, unsafe
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.numbering import tell_missing
from smelt.data.formats.labels.onehot import labels_of
from smelt.data.formats.lists.imagetable import Table, Where
from smelt.data.formats.lists.listed import add_tables
from smelt.data.formats.lists.listfiles import ListFile, chosen, seen
from smelt.data.formats.lists.sheets import read as read_sheet
from smelt.data.formats.lists.sheets import stream
from smelt.data.formats.lists.sifted import NOT_SO, headers_again, held, of_rows
from smelt.data.formats.lists.testlists import table_of, unlisted_test
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import first_few

FORMAT = Format(
    "one's own list, a row an image: CSV, TSV, text, Parquet, JSON",
    order=130,
    takes="lists columns links prefix suffix paths_from delimiter header encoding unlabelled "
    "split_words no_label label_is multi_label min_confidence test_labels",
    dear=True,
)

_AT_ONCE = 64  # columns of classes that are read together


def recognise(glimpse: Glimpse) -> str:
    """A list with columns for paths and labels, in the root or in the folder of a split."""
    return seen(glimpse)


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The lists, by content; the images that they name count by `listed_images`."""
    classes = [root / settings.lists["classes"]] if "classes" in settings.lists else []
    return [*(found.path for found in chosen(settings, root)), *classes], []


def listed_images(settings: FormatSettings, root: Path) -> Iterator[bytes]:
    """The paths of all images, for the data set's identity; none where the files are not to be looked at."""
    if not settings.check_files:
        return
    lists = chosen(settings, root)
    yield from unlisted_test(lists, settings, root)
    for found in lists:
        for cell in stream(found.sheet, found.columns.places["path"]):
            image = found.spelling(cell)
            if image and not unsafe(image):
                yield image


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the rows, grouped by split and source, each group in the order of its file."""
    lists = chosen(settings, root)
    names: dict[str, list[str]] = {}
    for found in lists:
        names.setdefault(found.split, []).append(found.name)
    counted = {split: [name for name in parts if "-of-" in name] for split, parts in names.items()}
    tell_missing(
        {split: parts for split, parts in counted.items() if parts}, report, chosen=bool(settings.lists)
    )
    tables = [_table(found, settings, root, report) for found in lists]
    report.refuse()
    if rest := unlisted_test(lists, settings, root):
        tables.append(table_of(rest, root, report))
    add_tables(tables, settings, root, writer, report)


def _table(found: ListFile, settings: FormatSettings, root: Path, report: Report) -> Table:
    """One list, as columns by our names."""
    sheet, places = found.sheet, found.columns.places
    for note in found.notes:
        report.note(note)
    columns, where = read_sheet(sheet, list(places.values()), report)
    if not len(columns[0]) and not report.problems:
        report.problem(f"{found.path} has names of columns but no rows")
    kept = _kept(found, columns, where, settings, report)
    rows = None if kept.all() else np.flatnonzero(kept)
    if rows is not None:
        columns = [column.take(rows) for column in columns]
    table = Table(
        found.split, dict(zip(places, columns)), where if rows is None else of_rows(where, rows), found.base,
        name=found.name, split_words=found.columns.flags or {}, spelling=found.spelling,
    )  # fmt: skip
    table.columns.pop("confidence", None)
    if hot := found.columns.hot:
        names = [sheet.names[place].strip() for place in hot]
        report.note(
            f"{found.name}: columns {first_few(map(repr, names), len(names))} hold {found.columns.hot_as}: "
            "they are classes"
        )
        table.columns["label"], table.several = labels_of(
            names, _one_by_one(found, rows), table.where, report
        )
    if found.path.is_relative_to(root):
        report.used.add(as_bytes(found.path, root))
    return table


def _kept(
    found: ListFile, columns: list[ByteStrings], where: Where, settings: FormatSettings, report: Report
) -> NDArray[np.bool_]:
    """(N,) which rows are images with a label that holds."""
    sheet, places = found.sheet, found.columns.places
    kept = np.ones(len(columns[0]), np.bool_)
    if sheet.kind == "text" and sheet.header:
        kept = ~headers_again([sheet.names[at] for at in places.values()], columns, where, found.name, report)
    if "confidence" not in places:
        return kept
    rows = np.flatnonzero(kept)
    place = list(places).index("confidence")
    column, name = columns[place].take(rows), sheet.names[places["confidence"]]
    holds = held(column, name, of_rows(where, rows), found.name, settings, report)
    path = columns[list(places).index("path")]
    if not holds.all():
        keys = path.hashes()
        for row in np.flatnonzero(~np.isin(keys, keys[rows[holds]]) & kept).tolist():
            report.leave_out(NOT_SO, found.spelling(path[row]))
    kept[rows] = holds
    return kept


def _one_by_one(found: ListFile, rows: NDArray[np.int64] | None) -> Callable[[int], ByteStrings]:
    """Reads the columns that are classes, of `rows` or all, some at a time: there may be thousands."""
    hot = found.columns.hot
    cache: dict[int, ByteStrings] = {}

    def column(number: int) -> ByteStrings:
        if number not in cache:
            cache.clear()
            group = range(number, min(number + _AT_ONCE, len(hot)))
            quiet = Report()  # what is wrong with rows was told already
            columns, _ = read_sheet(found.sheet, [hot[place] for place in group], quiet)
            if rows is not None:
                columns = [column.take(rows) for column in columns]
            cache.update(zip(group, columns))
        return cache[number]

    return column
