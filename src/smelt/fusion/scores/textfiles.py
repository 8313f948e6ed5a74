"""Delimited text as people have it: comma, semicolon, tab or blanks, with or without a header, quoted or not.

UTF-8 (with or without a byte order mark) or UTF-16 with one; any line ends. Lines are split when they are
asked for, so that a large file is held once, as text.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from smelt.errors import ArtifactError, ResultError
from smelt.fusion.scores.brokenfiles import refuse_no_file

ID_NAMES = {
    "id", "ids", "image", "images", "image_id", "image_ids", "imageid", "img", "img_id", "img_ids",
    "file", "files", "filename", "filenames", "file_name", "file_names", "fname", "fnames", "path", "paths",
    "image_path", "image_paths", "image_name", "image_names", "img_name", "img_path", "name", "names", "key",
    "keys", "uid", "uuid", "sample", "sample_id", "sample_ids", "row_id",
}  # fmt: skip
LABEL_NAMES = {
    "label", "labels", "y", "y_true", "target", "targets", "gt", "ground_truth", "groundtruth", "true_label",
    "true_labels", "truth", "class", "class_id", "class_name", "category", "category_id", "label_id",
    "label_name",
}  # fmt: skip
LEFT_NAMES = {
    "pred", "preds", "prediction", "predicted", "pred_label", "predicted_label", "pred_class",
    "predicted_class", "confidence", "argmax", "split", "fold", "unnamed:_0", "__index_level_0__",
}  # fmt: skip
INDEX_NAMES = {"", "unnamed:_0", "index", "__index_level_0__"}
DELIMITERS = "\t;,"
MOST_LINE = 4 << 20  # characters: 200,000 scores
LOOKED_AT = 20  # lines that the delimiter is found from


def plain(name: str) -> str:
    """A column's or key's name, as it is compared with those above."""
    return re.sub(r"[\s\-]+", "_", name.strip().lstrip("#").strip().lower())


@dataclass(frozen=True)
class Text:
    """Lines of delimited text with their numbers. delimiter: "" for blanks. header: of the columns."""

    path: Path
    delimiter: str
    lines: list[tuple[int, str]] = field(repr=False)
    header: list[str] | None = None

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        for number, line in self.lines:
            yield number, cells(line, self.delimiter)

    @property
    def first(self) -> list[str]:
        """The cells of the first line below the header."""
        return cells(self.lines[0][1], self.delimiter)


def decoded(path: Path) -> str:
    """The text of a file; ArtifactError where it cannot be read or is no text."""
    if path.exists():  # a pipe would be waited for
        refuse_no_file(path, "", "text")
    try:
        content = path.read_bytes()
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


def is_json(path: Path) -> bool:
    """Whether a file begins as JSON does and no table would: an object, or a list of values."""
    try:
        with open(path, "rb") as file:
            head = file.read(512).removeprefix(codecs.BOM_UTF8).lstrip()
    except OSError:
        return False  # whoever reads it says why
    return re.match(rb'\{\s*("|\})|\[\s*[\[{"]|\[\s*-?\d+(\.\d+)?\s*,', head) is not None


def read(path: Path) -> Text:
    """The lines of `path`, with its delimiter and header found; ResultError if there are none."""
    # splitlines() would also break at characters that names may hold (U+2028, form feed)
    every = enumerate(re.split(r"\r\n|\n|\r", decoded(path)), 1)
    lines = [(number, line) for number, line in every if line.strip()]
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
    try:
        return float(cell)
    except ValueError:
        pass
    if re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", cell):
        return float(cell.replace(",", "."))
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
    counted = len(first) > 2 and first[1:] in (_counted(len(first) - 1, 0), _counted(len(first) - 1, 1))
    return counted and any(not is_whole(cell) for cell in next_line[1:])


def _counted(count: int, start: int) -> list[str]:
    return [str(start + place) for place in range(count)]


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
