"""How a list in text form is written, told from its first lines: encoding, delimiter, names of columns."""

from __future__ import annotations

import codecs
import io
import itertools
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.jsons import open_regular
from smelt.data.formats.lists.columns import looks_like_image, usual
from smelt.data.formats.lists.letters import known
from smelt.data.formats.lists.texts import (
    BLANKS,
    SPLIT_IMAGE,
    Form,
    as_utf8,
    packing_of,
    parsed,
    zero_byte,
)
from smelt.errors import DataError

HEAD = 1 << 18  # bytes that the form is told from
LOOKED_AT = 200  # lines of them

DELIMITERS = (",", "\t", ";", "|")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_OTHERS = (
    (b"PK\x03\x04", "a zip archive (or an Excel workbook): unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook: save the sheet as CSV"),
    (b"SQLite format 3", "a database: write the table to a CSV"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it"),
    (b"\x89HDF", "an HDF5 file: write the list to a CSV"),
    (b"\x93NUMPY", "a NumPy array: write the list to a CSV"),
    (b"\x80\x04", "a pickle, which is not read: write the list to a CSV"),
    (b"\x80\x05", "a pickle, which is not read: write the list to a CSV"),
)


def form_of(path: Path, settings: FormatSettings) -> Form:
    """How the list `path` is written, as the settings say it or as its first lines tell. DataError."""
    with open_regular(path) as file:
        start = file.read(1 << 12)
    form = Form(path, packing_of(start), "utf-8", 0, "", (), False, 0)
    with as_utf8(form) as stream:
        head = stream.read(HEAD)
    form = _with_encoding(form, head, settings)
    with as_utf8(form) as stream:
        head = stream.read(HEAD)
    lines = _lines(head)
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} is empty" if not head.strip() else f"{path}:1: a line without an end")
    zeros = next((place for place, line in enumerate(lines) if "\0" in line), None)
    if zeros is not None and (zeros == 0 or 8 * head.count(0) > len(head)):
        raise zero_byte(path, zeros + 1)
    return _with_columns(form, lines, settings)


def _with_encoding(form: Form, head: bytes, settings: FormatSettings) -> Form:
    for magic, what in _OTHERS:
        if head.startswith(magic):
            raise DataError(f"{form.path} is no list but {what}")
    bom, encoding = next(((len(mark), name) for mark, name in _BOMS if head.startswith(mark)), (0, "utf-8"))
    if settings.encoding:
        named = known(settings.encoding)
        if named in ("utf-16", "utf-32", "utf-8-sig") and bom:
            return replace(form, encoding=encoding, bom=bom)
        return replace(form, encoding=named, bom=bom if named == encoding else 0)
    if not bom and (guess := _without_mark(head)):
        return replace(form, encoding=guess, guessed=f"{guess} (a zero byte beside every letter)")
    return replace(form, encoding=encoding, bom=bom)


def _without_mark(head: bytes) -> str:
    """UTF-16 without a mark: every second byte of Latin text is zero."""
    pairs = len(head) // 2
    if pairs < 4:
        return ""
    zeros = [head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)]
    if zeros[1] > 0.7 * pairs and zeros[0] < 0.1 * pairs:
        return "utf-16-le"
    return "utf-16-be" if zeros[0] > 0.7 * pairs and zeros[1] < 0.1 * pairs else ""


def _lines(head: bytes) -> list[str]:
    """The first whole lines."""
    text = io.StringIO(head.decode("utf-8", "surrogateescape"), newline="")
    lines = list(itertools.islice(text, LOOKED_AT))
    if len(head) >= HEAD and len(lines) < LOOKED_AT and len(lines) > 1:
        lines.pop()
    return lines


def _with_columns(form: Form, lines: list[str], settings: FormatSettings) -> Form:
    delimiter = settings.delimiter
    skipped = next(place for place, line in enumerate(lines) if line.strip())
    said = re.fullmatch(r"(?i)\"?sep=(.)\"?\s*", lines[skipped])  # what Excel writes and reads
    if said:
        skipped, delimiter = skipped + 1, delimiter or said[1]
    data = [line for line in lines[skipped:] if line.strip() and not line.startswith("#")]
    if not data:  # comments only, or all names begin with #
        data = [line for line in lines[skipped:] if line.strip()]
    if not data:
        raise DataError(f"{form.path} holds no rows")
    if delimiter is None:
        delimiter = _delimiter(data, form.path.name)
    rows = [cells for _, cells in zip(range(LOOKED_AT), parsed(data, delimiter))]
    first = rows[0]
    if not first:
        raise DataError(f"{form.path}: its first line has no columns")
    header = settings.header if settings.header is not None else _has_header(rows)
    for place, line in enumerate(lines[skipped:], skipped):
        if line.strip() and line is data[0]:
            skipped = place
            break
    names: list[str] = [name.strip().strip("\ufeff") for name in first] if header else []
    if header and delimiter and "\n" in "".join(first):
        raise DataError(
            f'{form.path}:{skipped + 1}: the names of the columns go over several lines: is a quote (") of '
            "them not ended?"
        )
    if not header:
        widths = Counter(len(cells) for cells in rows)
        names = [str(place) for place in range(widths.most_common(1)[0][0])]
        commented = [line for line in lines[:skipped] if line.startswith("#")]
        if commented and settings.header is None:
            above = [word.strip() for word in next(parsed([commented[-1].lstrip("# ")], delimiter), [])]
            if len(above) == len(names) and "path" in map(usual, above):
                names = above
    return replace(
        form, delimiter=delimiter, names=tuple(names), header=header, skipped=skipped + int(header)
    )


def _delimiter(lines: list[str], name: str) -> str:
    """What parts the columns: what parts most lines into equally many, names of columns going first."""
    found = []
    for place, sign in enumerate(DELIMITERS):
        rows = list(parsed(lines, sign))
        widths = Counter(map(len, rows))
        width, times = widths.most_common(1)[0]
        if width > 1 and times >= 0.7 * len(rows):
            known = {usual(cell) for cell in rows[0]} - {""}
            hinted = (sign == "\t" and ".tsv" in name.lower()) or (sign == "|" and ".psv" in name.lower())
            found.append((len(known), hinted, round(times / len(rows), 2), width, -place, sign))
    if found:
        return max(found)[-1]
    parted = [line for line in lines if len(line.split()) > 1 and not looks_like_image(line.strip())]
    heads = {usual(word) for word in lines[0].split()} - {""}
    if len(parted) >= 0.7 * len(lines) and (heads or any(SPLIT_IMAGE.match(line) for line in lines[:50])):
        return BLANKS
    if _labels_first(lines):
        return BLANKS
    return BLANKS if len(parted) == len(lines) and all(len(line.split()) == 2 for line in lines) else ""


def _labels_first(lines: list[str]) -> bool:
    """Whether these are lines `3 a.jpg` with few numbers: labels, not numbers of lines."""
    words = [line.split() for line in lines]
    right = all(len(pair) == 2 and pair[0].isdigit() and looks_like_image(pair[1]) for pair in words)
    return right and 2 * len({pair[0] for pair in words}) <= len(words)


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns."""
    first, rest = rows[0], rows[1:]
    if any(looks_like_image(cell) for cell in first):
        return False
    if any(usual(cell) for cell in first):
        return True
    if any(cell.strip().lstrip("-").isdigit() for cell in first) or not rest:
        return False
    for place, cell in enumerate(first):
        column = [row[place].strip() for row in rest if len(row) > place]
        if column and all(looks_like_image(value) or value.isdigit() for value in column):
            return True
        if cell.strip() in column:
            return False
    return True
