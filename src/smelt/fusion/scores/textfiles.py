"""Delimited text as people have it: comma, semicolon, tab or blanks, with or without a header, quoted or not.

UTF-8 (with or without a byte order mark) or UTF-16 with one; any line ends. Lines are split when they are
asked for, so that a large file is held once, as text.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ArtifactError, ResultError
from smelt.files.opening import read_bytes, read_head
from smelt.fusion.scores.brokenfiles import refuse_no_file
from smelt.fusion.scores.usual import ID_NAMES, INDEX_NAMES, LABEL_NAMES, plain

DELIMITERS = "\t;,"
ID_AND_REST = " "  # a delimiter of its own: an id, a blank, and all that follows
MOST_LINE = 4 << 20  # characters: 200,000 scores
LOOKED_AT = 20  # lines that the delimiter is found from
_BRACKETS = {"[": "]", "(": ")"}


@dataclass(frozen=True)
class Text:
    """A table in delimited text: its lines with their numbers, split into cells when they are asked for.

    delimiter: "" for blanks. header: the names of the columns.
    """

    path: Path
    delimiter: str
    numbered: list[tuple[int, str]] = field(repr=False)
    header: list[str] | None = None

    def __len__(self) -> int:
        return len(self.numbered)

    def __iter__(self) -> Iterator[list[str]]:
        return (cells(line, self.delimiter) for _, line in self.numbered)

    @property
    def lines(self) -> list[int]:
        """The number of each line in the file."""
        return [number for number, _ in self.numbered]

    @cached_property
    def first(self) -> list[str]:
        """The cells of the first line below the header."""
        return next(iter(self))

    def head(self, most: int) -> list[list[str]]:
        """The cells of the first lines."""
        return list(islice(self, most))

    def where(self, row: int) -> str:
        """The file and line of a row, for a message."""
        return f"{self.path}:{self.numbered[row][0]}"

    def take(
        self, words: Sequence[int], numbers: Sequence[int] = ()
    ) -> tuple[list[tuple[str, ...]], NDArray[np.float64]]:
        """Columns of words, and columns of numbers (N, K); ResultError with the line that has none."""
        wide = len(self.header or self.first)
        taken: list[list[str]] = [[] for _ in words]
        rows = []
        for row, line in enumerate(self):
            if len(line) != wide:
                raise ResultError(f"{self.where(row)} has {len(line)} columns where {wide} are expected")
            for column, place in zip(taken, words):
                column.append(line[place])
            rows.append(self.as_numbers(row, [line[place] for place in numbers]))
        return [tuple(column) for column in taken], np.stack(rows)

    def as_numbers(self, row: int, words: Sequence[str]) -> NDArray[np.float64]:
        """Words of a row as numbers; ResultError with the line where one is none."""
        try:
            return np.array(words, np.float64)  # an array of words: much quicker than one by one
        except ValueError:
            pass
        values = [number(cell) for cell in words]
        if None in values:
            raise ResultError(f"{self.where(row)}: {words[values.index(None)][:40]!r} is not a number")
        return np.array(values, np.float64)

    @property
    def list_columns(self) -> list[int]:
        """Columns whose cells are lists in brackets (`[0.1, 0.9]`)."""
        return [place for place, cell in enumerate(self.first) if _bracketed(cell)]

    def lists(self, place: int) -> NDArray[Any]:
        """The lists in a column of such, words (N, K); ResultError with the line that has another length."""
        found: list[list[str]] = []
        for row, line in enumerate(self):
            if len(line) != len(self.first) or not _bracketed(line[place]):
                raise ResultError(f"{self.where(row)}: {' '.join(line)[:60]!r} has no list in brackets")
            found.append([part.strip("'\"") for part in re.split(r"[,;\s]+", line[place][1:-1]) if part])
            if len(found[row]) != len(found[0]):
                raise ResultError(
                    f"{self.where(row)} has {len(found[row])} in brackets, the lines before {len(found[0])}"
                )
        return np.array(found)


def _bracketed(cell: str) -> bool:
    return len(cell) > 2 and _BRACKETS.get(cell[0]) == cell[-1]


def decoded(path: Path) -> str:
    """The text of a file; ArtifactError where it cannot be read or is no text."""
    if path.exists():  # a pipe would be waited for
        refuse_no_file(path, "", "text")
    try:
        content = read_bytes(path)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ArtifactError(f"{path}:{line} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
    if "\0" in text:
        raise ArtifactError(f"{path} holds zero bytes: it is not a text file")
    return text


def filled_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text that are not blank, with their numbers."""
    # splitlines() would also break at characters that names may hold (U+2028, form feed)
    every = enumerate(re.split(r"\r\n|\n|\r", decoded(path)), 1)
    return [(number, line) for number, line in every if line.strip()]


def is_json(path: Path) -> bool:
    """Whether a file begins as JSON does and no table would: an object, or a list of values."""
    try:
        head = read_head(path, 512).removeprefix(codecs.BOM_UTF8).lstrip()
    except OSError:
        return False  # whoever reads it says why
    return re.match(rb'\{\s*("|\})|\[\s*[\[{"]|\[\s*-?\d+(\.\d+)?\s*,', head) is not None


def read(path: Path) -> Text:
    """The lines of `path`, with its delimiter and header found; ResultError if there are none."""
    lines = filled_lines(path)
    if not lines:
        raise ResultError(f"{path} is empty")
    if (long := next((number for number, line in lines if len(line) > MOST_LINE), None)) is not None:
        raise ResultError(
            f"{path}:{long}: a line of more than {MOST_LINE:,} characters: are the line ends lost? So many "
            "scores are written as .npy"
        )
    while len(lines) > 1 and _is_remark(lines[0][1], [line for _, line in lines[1:LOOKED_AT]]):
        del lines[0]
    delimiter = _delimiter([line for _, line in lines[:LOOKED_AT]])
    first = cells(lines[0][1], delimiter)
    if is_header(first, [cells(line, delimiter) for _, line in lines[1:LOOKED_AT]]):
        if len(lines) == 1:
            raise ResultError(f"{path} has a header ({lines[0][1][:80]!r}) and no line below it")
        return Text(path, delimiter, lines[1:], [name.strip() for name in first])
    return Text(path, delimiter, lines)


def cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line, without quotes."""
    if not delimiter:
        return line.split()
    if delimiter == ID_AND_REST:
        parts = line.split()
        return parts if all(map(is_number, parts[1:])) else line.strip().split(None, 1)
    if '"' in line or "'" in line[:1]:
        quote = "'" if line[:1] == "'" else '"'
        try:
            row = next(csv.reader([line], delimiter=delimiter, quotechar=quote, skipinitialspace=True))
            return [cell.strip() for cell in row]
        except (csv.Error, StopIteration):
            pass  # a stray quote: taken as it is
    return [cell.strip() for cell in line.split(delimiter)]


def number(cell: str) -> float | None:
    """The number in a cell, None if it holds none; a decimal comma is one, a per cent sign is left out."""
    cell = cell.removesuffix("%").rstrip()
    if re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", cell):
        cell = cell.replace(",", ".")
    try:
        return float(cell)
    except ValueError:
        return None


def is_number(cell: str) -> bool:
    """Whether a cell holds a number."""
    return number(cell) is not None


def is_whole(cell: str) -> bool:
    """Whether a cell holds a whole number, written as one."""
    return re.fullmatch(r"[+-]?\d+", cell) is not None


def is_header(first: list[str], below: list[list[str]]) -> bool:
    """Whether a first line names columns: known names, words above numbers, 0 1 2 … above fractions."""
    if any(is_number(cell) and not is_whole(cell) for cell in first):
        return False
    if plain(first[0]) in ID_NAMES | LABEL_NAMES or plain(first[-1]) in LABEL_NAMES:
        return True
    if len(first) > 1 and any(plain(name) in ID_NAMES for name in first):
        return True
    if not below:
        return False
    if plain(first[0]) in INDEX_NAMES and len(first) > 1:
        return True
    next_line = below[0]
    if any(not is_number(name) and is_number(cell) for name, cell in zip(first, next_line)):
        return True
    counted = [[str(start + place) for place in range(len(first) - 1)] for start in (0, 1)]
    return len(first) > 2 and first[1:] in counted and any(not is_whole(cell) for cell in next_line[1:])


def _is_remark(line: str, below: list[str]) -> bool:
    """Whether a line is a remark above a table, and not its header with a # before it."""
    table = [one for one in below if not one.startswith("#")]
    if not line.startswith("#") or not table:
        return False
    delimiter = _delimiter(table)
    return len(cells(line, delimiter)) != len(cells(table[0], delimiter))


def _delimiter(lines: list[str]) -> str:
    """The sign that splits every line into as many cells, else the one that most lines hold; else blanks."""
    for sign in DELIMITERS:
        counts = {len(cells(line, sign)) for line in lines}
        if counts != {1} and (len(counts) == 1 or (sign != "," and min(counts) > 1)):
            return sign
    # lines of different lengths: whoever reads them says which
    return next((sign for sign in DELIMITERS if 2 * sum(sign in line for line in lines) > len(lines)), "")
