"""Any file of rows and columns, read as columns of text: CSV and its kin, JSON, JSON lines, Parquet.

What a file holds decides how it is read, not its suffix. `peek` looks at names and first rows; `read` gives
whole columns; `stream` the cells of one, without pyarrow where the file is no Parquet (planning stays light).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, concatenate, decode, encode
from smelt.data.formats.base import SHOWN, Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.jsons import open_regular, repeated
from smelt.data.formats.lists import jsontables, parquets
from smelt.data.formats.lists.imagetable import Where
from smelt.data.formats.lists.scan import fast_columns, line_numbers, looked_over
from smelt.data.formats.lists.textforms import form_of
from smelt.data.formats.lists.texts import BLANKS, Form, Rows, as_text, packing_of
from smelt.errors import DataError, short

SAMPLE = 200  # rows that are looked at to tell the columns apart
AT_ONCE = 1 << 16  # rows of Python objects at a time


@dataclass(frozen=True)
class Sheet:
    """What a file holds: names of its columns, and the cells of its first rows.

    kind: "text", "json", "lines" or "parquet". header: whether the names are the file's own; else they are
    the numbers of the columns, from "0".
    """

    path: Path
    kind: str
    names: tuple[str, ...]
    sample: list[list[str]] = field(repr=False)
    header: bool = True
    form: Form | None = None


def _at_lines(path: Path, lines: Callable[[], NDArray[np.int64]]) -> Where:
    """What messages call the rows of a text whose lines are given, when they are first asked for."""

    def where(entry: int) -> str:
        numbers = lines()
        return f"{path}:{numbers[entry]}" if entry < len(numbers) else str(path)

    return where


def peek(path: Path, settings: FormatSettings) -> Sheet:
    """Names of the columns and first rows of a file. DataError where it is none that can be read."""
    with open_regular(path) as file:
        head = file.read(1 << 16)
    _refuse_others(path, head)
    if head.startswith(b"PAR1"):
        names, sample = parquets.peek(path, SAMPLE)
        return Sheet(path, "parquet", tuple(names), sample)
    kind = "" if packing_of(head) else jsontables.kind_of_json(head, path.name)
    if kind:
        names, sample = jsontables.peek(path, kind, SAMPLE)
        return Sheet(path, kind, tuple(names), sample)
    form = form_of(path, settings)
    sample = [row for _, row in islice(_rows_of(form), SAMPLE)]
    if form.header:  # once more in the middle, as where lists are joined: it says nothing of what cells are
        sample = [row for row in sample if [cell.strip() for cell in row] != list(form.names)]
    return Sheet(path, "text", form.names, sample, form.header, form)


def _refuse_others(path: Path, head: bytes) -> None:
    """Refuse what stands where a list should be, and is read as one all the same."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if start.startswith(b"version https://git-lfs"):
        raise DataError(f"{path} is a pointer of Git LFS: `git lfs pull` in that folder fetches the file")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise DataError(
            f"{path} is a page of the web (HTML or XML) and no list: it was saved in place of the file, as "
            "where one has to sign in; download the file itself again"
        )
    if start.startswith(b"pk\3\4"):
        raise DataError(
            f"{path} is a zip archive, or a spreadsheet (.xlsx): save the sheet as CSV, or unpack the archive"
        )


def _rows_of(form: Form) -> Iterator[tuple[int, list[str]]]:
    """The rows as far as they can be read: what is wrong with them is told when the list is read."""
    try:
        yield from Rows(form)
    except DataError:
        return


def read(sheet: Sheet, places: Sequence[int], report: Report) -> tuple[list[ByteStrings], Where]:
    """The columns at `places`, and what names their rows. Rows that cannot be right go to `report`."""
    path = sheet.path
    if sheet.kind == "parquet":
        names = [sheet.names[place] for place in places]
        return parquets.columns(path, names), lambda entry: f"{path} row {entry + 1}"
    if sheet.kind != "text":
        rows = jsontables.rows(path, sheet.kind, [sheet.names[place] for place in places])
        numbers, columns = _gathered(rows, len(places))
        if sheet.kind == "lines":
            return columns, _at_lines(path, lambda: numbers)
        return columns, lambda entry: f"{path}[{entry}]"
    form = sheet.form
    assert form is not None
    plain, note = looked_over(form)
    if note:
        report.note(f"{path.name}: {note}")
    if plain and (found := fast_columns(form, places)) is not None:
        return found, _at_lines(path, cache(lambda: line_numbers(form)))
    reader = _Checked(form, places, report)
    numbers, columns = _gathered(reader, len(places))
    reader.tell()
    return columns, _at_lines(path, lambda: numbers)


def rows_by_name(
    path: Path, settings: FormatSettings, report: Report
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column) of a text whose first row names the columns; rows of another width are told.

    DataError where it cannot be read, and where a column is named twice.
    """
    form = form_of(path, settings.model_copy(update={"header": True}))
    if (twice := repeated(form.names)) is not None:
        raise DataError(f"{path}:{form.skipped}: column {short(twice, 80)!r} is there twice")
    reader = _Checked(form, range(len(form.names)), report)
    for line, cells in reader:
        yield line, dict(zip(form.names, map(decode, cells)))
    reader.tell()


def _gathered(rows: Any, count: int) -> tuple[NDArray[np.int64], list[ByteStrings]]:
    """(lines, columns) of an iterator of (line, cells as bytes): never many Python objects at a time."""
    numbers: list[NDArray[np.int64]] = []
    parts: list[list[ByteStrings]] = [[] for _ in range(count)]
    iterator = iter(rows)
    while chunk := list(islice(iterator, AT_ONCE)):
        numbers.append(np.fromiter((line for line, _ in chunk), np.int64, len(chunk)))
        for place, part in enumerate(parts):
            part.append(ByteStrings.of(cells[place] for _, cells in chunk))
    lines = np.concatenate(numbers) if numbers else np.zeros(0, np.int64)
    return lines, [concatenate(part) for part in parts]


class _Checked:
    """Rows of a text with their cells at `places` as bytes; those of too few or too many cells are told."""

    def __init__(self, form: Form, places: Sequence[int], report: Report) -> None:
        self.form, self.places, self.report = form, places, report
        self.rows = Rows(form)
        self.wrong = 0

    def __iter__(self) -> Iterator[tuple[int, list[bytes]]]:
        width = len(self.form.names)
        for line, row in self.rows:
            if len(row) != width:
                while len(row) > width and not row[-1].strip():
                    row.pop()
                if len(row) != width:
                    self._wrong(line, row, width)
                    continue
            yield line, [encode(row[place]) for place in self.places]

    def _wrong(self, line: int, row: list[str], width: int) -> None:
        self.wrong += 1
        if self.wrong > SHOWN:
            return
        sign = {"\t": "a tab", BLANKS: "blanks", "": "nothing"}.get(
            self.form.delimiter, repr(self.form.delimiter)
        )
        what = f"{len(row)} cell(s), and {width} columns ({', '.join(self.form.names)[:80]})"
        hint = "; a text that holds the sign is set in quotes" if len(row) > width else ""
        self.report.problem(f"{self.form.path}:{line}: {what}, parted by {sign}{hint}")

    def tell(self) -> None:
        """Count what was wrong, and say what was passed over."""
        self.report.num_problems += max(0, self.wrong - SHOWN)
        if self.rows.comments:
            self.report.note(
                f"{self.form.path.name}: {self.rows.comments} lines that begin with # are comments"
            )


def stream(sheet: Sheet, place: int) -> Iterator[bytes]:
    """The cells of one column."""
    if sheet.kind == "parquet":
        yield from parquets.columns(sheet.path, [sheet.names[place]])[0]
    elif sheet.kind != "text":
        for _, cells in jsontables.rows(sheet.path, sheet.kind, [sheet.names[place]]):
            yield cells[0]
    else:
        assert sheet.form is not None
        yield from _quick(sheet.form, place)


def _quick(form: Form, place: int) -> Iterator[bytes]:
    """Cells of a text, whose faults are told elsewhere."""
    if form.delimiter in ("", BLANKS):
        yield from (encode(row[place]) for _, row in _rows_of(form) if len(row) > place)
        return
    with as_text(form) as text:
        for _ in range(form.skipped):
            next(text, "")
        rows = csv.reader(text, delimiter=form.delimiter, skipinitialspace=True)
        try:
            for row in rows:
                if len(row) > place and row[place]:
                    yield encode(row[place])
        except csv.Error as error:
            raise DataError(f"{form.path}:{rows.line_num + form.skipped}: {error}") from error
