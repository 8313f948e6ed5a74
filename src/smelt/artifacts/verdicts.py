"""Verdicts of a person on labels: a CSV that smelt writes and a person fills, however a program saved it.

Columns: `number` in the random order, `id` of the image under its label, `label`, `verdict` and
`right_class`, which are to be filled, `path` and `title`. An `id` begins with a letter, so that it is no
number to a spreadsheet; text that it would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smelt.errors import DataError, short, some
from smelt.files.atomic import write_bytes
from smelt.files.opening import patiently, read_bytes

RIGHT, WRONG, OUTSIDE, UNSURE = "right", "wrong", "outside", "unsure"
WORDS = {
    **{word: word for word in (RIGHT, WRONG, OUTSIDE, UNSURE)},
    **{word[0]: word for word in (RIGHT, WRONG, OUTSIDE, UNSURE)},
    "correct": RIGHT, "incorrect": WRONG, "none": OUTSIDE, "?": UNSURE,
}  # fmt: skip
COLUMNS = ("number", "id", "label", "verdict", "right_class", "path", "title")
LARGEST = 1 << 26  # bytes of a file that is read
MOST_ROWS = 100_000
_ID = re.compile(r"v[0-9a-f]{16}")
_OTHERS = ((b"PK\x03\x04", "an Excel or OpenDocument workbook"), (b"\xd0\xcf\x11\xe0", "an Excel workbook"))
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True)
class Asked:
    """A label that a verdict is asked for; `number` counts from 1 in the random order."""

    number: int
    id: str
    label: str
    path: str
    title: str


@dataclass(frozen=True)
class Given:
    """What a person gave: one of the four verdicts, and the right class as it was written, or ""."""

    verdict: str
    right_class: str = ""
    line: int = 0


@dataclass(frozen=True)
class File:
    """What a file holds: verdicts by id, and the ids of all its lines."""

    given: Mapping[str, Given]
    ids: frozenset[str]


def name_of(number: int) -> str:
    """The id that stands for a 64-bit hash."""
    return f"v{number:016x}"


def write(path: Path, asked: Sequence[Asked], given: Mapping[str, Given]) -> None:
    """Replace the file, with the verdicts that were given (by id), in one step."""
    text = io.StringIO(newline="")
    out = csv.writer(text, lineterminator="\r\n")
    out.writerow(COLUMNS)
    for one in asked:
        said = given.get(one.id, Given(""))
        words = [one.label, said.verdict, said.right_class, one.path, one.title]
        out.writerow([one.number, one.id, *(_plain(word) for word in words)])
    # with a mark: a spreadsheet takes it for UTF-8 then. Names that are not UTF-8 are shown, not kept
    write_bytes(path, text.getvalue().encode("utf-8-sig", "replace"))


def _plain(word: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{word}" if word.startswith(_FORMULA) else word


def read(path: Path) -> File:
    """The verdicts that were given.

    DataError by line and column for what cannot be understood: all of it, before anything is believed.
    """
    reader, delimiter = _opened(path)
    header, start = _header(reader)
    places: dict[str, int] = {
        name: header.index(name) for name in ("id", "verdict", "right_class") if name in header
    }
    for name in ("id", "verdict"):
        if name not in places:
            raise DataError(
                f"{path}:{start}: no column {name!r} among {', '.join(map(short, header[:9])) or 'nothing'}: "
                f"keep the first line as smelt audit wrote it ({', '.join(COLUMNS)})"
            )
    found: dict[str, Given] = {}
    wrong: list[str] = []
    ids: set[str] = set()
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                ids.add(_cleaned((*cells, *[""] * len(header))[places["id"]]).lower())
                _line(cells, reader.line_num, places, found, wrong)
            if len(found) > MOST_ROWS:
                raise DataError(f"{path} has more than {MOST_ROWS:,} verdicts")
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}: no CSV with {delimiter!r} between cells: {error}"
        ) from error
    if wrong:
        raise DataError("\n  ".join([f"{path} cannot be read as it is:", *some(wrong, len(wrong))]))
    return File(found, frozenset(ids))


def _line(
    cells: Sequence[str], line: int, places: Mapping[str, int], found: dict[str, Given], wrong: list[str]
) -> None:
    """Add the verdict of a line to `found`, or what is wrong with it to `wrong`."""

    def cell(name: str) -> str:
        place = places.get(name, len(cells))
        return _cleaned(cells[place]) if place < len(cells) else ""

    key, told, right = cell("id").lower(), cell("verdict"), cell("right_class")
    verdict = WORDS.get(told.casefold().rstrip(".!"), "")
    if told and not verdict:
        wrong.append(
            f"line {line}, column verdict: {short(told, 40)!r} is none of right, wrong, outside, unsure"
        )
    elif (told or right) and not _ID.fullmatch(key):
        wrong.append(f"line {line}, column id: {short(key, 40)!r} is no id of smelt audit's")
    elif right and verdict in (OUTSIDE, UNSURE):
        wrong.append(f"line {line}, column right_class: {short(right, 40)!r}, but the verdict is {verdict}")
    elif told or right:
        one = Given(verdict or WRONG, right, line)
        old = found.setdefault(key, one)
        if (old.verdict, old.right_class) != (one.verdict, one.right_class):
            wrong.append(f"line {line}: {key} has another verdict in line {old.line}")


def _cleaned(cell: str) -> str:
    return cell.replace("\N{NO-BREAK SPACE}", " ").strip().removeprefix("'").strip()


def _opened(path: Path) -> tuple[Any, str]:
    """(a `csv.reader`, its delimiter) of a file of any encoding and delimiter that spreadsheets save."""
    try:
        data = patiently(lambda: _bytes(path), lambda: str(path))
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there") from error
    for mark, what in _OTHERS:
        if data.startswith(mark):
            raise DataError(f"{path} is {what}: save the sheet as CSV under this name")
    text = _decoded(data)
    if "\0" in text:
        raise DataError(f"{path} is no text: it holds zero bytes; save it as CSV in UTF-8")
    first = next((line for line in text.splitlines() if line.strip()), "")
    said = re.fullmatch(r'(?i)"?sep=(.)"?\s*', first)  # what Excel writes and reads
    delimiter = said[1] if said else max(",;\t|", key=first.count)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), delimiter


def _bytes(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no file: move it away")
    size = path.stat().st_size if path.exists() else 0
    if size > LARGEST:
        raise DataError(f"{path} has {size:,} bytes: that is no file of verdicts")
    return read_bytes(path)


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _header(reader: Any) -> tuple[list[str], int]:
    """(names of the columns, their line): the first line that is neither empty nor `sep=;`."""
    for cells in reader:
        names = [_cleaned(cell).casefold().replace(" ", "_") for cell in cells]
        if any(names) and not names[0].startswith("sep="):
            return names, reader.line_num
    return [], 1
