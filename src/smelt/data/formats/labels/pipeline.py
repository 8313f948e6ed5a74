"""From the labels of a data set as they are written to rows with a number each: the steps, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from smelt.artifacts.bytestrings import encode
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.classes import Classes, found_in
from smelt.data.formats.labels.classlists import read_classes
from smelt.data.formats.labels.labelcolumn import Columns
from smelt.data.formats.labels.labelled import Rows, drop_repeats, labelled_rows
from smelt.data.formats.labels.nolabels import without_no_labels
from smelt.data.formats.labels.several import several_of
from smelt.data.formats.labels.splitlabels import compare, without_stand_ins

Several = Mapping[bytes, Sequence[bytes]]  # word → the labels that it holds


def numbered(
    columns: Columns, settings: FormatSettings, root: Path, report: Report, known: Classes | None
) -> tuple[Classes, list[Rows]]:
    """The classes, and of each table the rows that are taken with their labels.

    The classes are those `known`, else those of `lists.classes`, else what is found in the labels.
    """
    columns = without_stand_ins(columns, settings, report)
    listed = known or _listed(settings, root, report)
    columns = without_no_labels(columns, listed, settings, report)
    classes, several = (known, {}) if known else _found(columns, listed, settings, report)
    found_here = known is None and "classes" not in settings.lists
    if found_here:
        compare(columns, several, classes, report)
    rows = [labelled_rows(column, several, classes, settings, report) for column in columns]
    _refuse_mostly_unlabelled(rows, settings, report)
    total = sum(part.counts[1] for part in rows)
    if found_here and total >= 20 and len(classes.names) > 0.9 * total:
        report.warn(
            f"there are {len(classes.names):,} classes and {total:,} images for training: is the label "
            "another column (-o data.columns.label=NAME)?"
        )
    drop_repeats(rows, settings, report)
    return classes, rows


def _listed(settings: FormatSettings, root: Path, report: Report) -> Classes | None:
    """The classes of `lists.classes`, where it is given."""
    if "classes" not in settings.lists:
        return None
    report.used.add(encode(settings.lists["classes"]))
    return read_classes(root / settings.lists["classes"], settings, report)


def _found(
    columns: Columns, listed: Classes | None, settings: FormatSettings, report: Report
) -> tuple[Classes, Several]:
    """The classes that are `listed`, or those in the labels; and the words that are several labels."""
    words = {word for column in columns for word in column.words}
    several = several_of(words - set(listed.names if listed else ()), settings, report)
    if listed:
        return listed, several
    singles = (words - several.keys()) | {label for labels in several.values() for label in labels}
    singles |= {label for one in columns for labels in one.table.several.values() for label in labels}
    return found_in(singles, report, names=settings.label_is == "name"), several


def _refuse_mostly_unlabelled(rows: Sequence[Rows], settings: FormatSettings, report: Report) -> None:
    """More than half without a label is hardly meant, unless it is said to be."""
    without, total = (sum(part.counts[place] for part in rows) for place in (0, 1))
    if settings.unlabelled == "leave_out" and 2 * without > total:
        column = settings.columns.get("label", "label")
        report.problem(
            f"{without:,} of {total:,} images for training have no label (column {column!r}): is it another "
            "column (-o data.columns.label=NAME)? -o data.unlabelled=keep takes them into the catalogue "
            "without learning from them"
        )
    elif settings.unlabelled == "keep" and without:
        report.note(f"{without:,} images for training have no label: they are kept, and not learnt from")
    elif settings.unlabelled == "leave_out" and without:
        report.note(f"{without:,} rows without a label are left out (-o data.unlabelled=keep keeps them)")
