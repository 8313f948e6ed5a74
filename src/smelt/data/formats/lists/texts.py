"""Lists in text form as people have them: any encoding, delimiter and line end, packed or not.

A `Form` (see `textforms`) says how a list is written; `Rows` reads it row by row with the line of each. A
quoted cell that holds whole rows, because its quote was never meant as one, is told; so is a quote that does
not end.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from smelt.data.formats.containers.jsons import open_regular
from smelt.data.formats.lists.columns import looks_like_image
from smelt.errors import DataError, short
from smelt.files.bounded import RATIO, allowed

MOST_LINE = 4 << 20  # bytes of a line; a text beside an image has some hundred
PIECE = 1 << 20  # bytes read at once
MOST_LINES = 10_000  # that one quoted cell may go over
ROW = 24  # bytes that a line of a packed list counts beside its letters: what is made of an empty one

BLANKS = " "  # any run of blanks and tabs, without quotes
_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"))
SPLIT_IMAGE = re.compile(r"(.*\.[A-Za-z]{3,5})[ \t]+(\S.*)")
_LAST_WORD = re.compile(r"(.*\S)[ \t]+(\S+)")

csv.field_size_limit(1 << 30)  # crawled texts may be long; the default refuses 128 KiB


@dataclass(frozen=True)
class Form:
    """How a list in text form is written.

    encoding: "utf-8" for bytes as they are, UTF-8 or not. bom: bytes of the mark before the text. delimiter:
    "" where there is one column, BLANKS where blanks part two. names: of the columns in the file, or their
    numbers. skipped: lines before the first row of data. regular: whether exactly one blank parts every two.
    """

    path: Path
    packing: str
    encoding: str
    bom: int
    delimiter: str
    names: tuple[str, ...]
    header: bool
    skipped: int
    guessed: str = ""  # what the encoding was guessed from


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces, self._left = pieces, b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._pieces.close()
        super().close()

    def readinto(self, buffer: object) -> int:
        """Fill `buffer`, as `io.RawIOBase` has it; 0 at the end."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        self._left = self._left or next(self._pieces, b"")
        part, self._left = self._left[: len(view)], self._left[len(view) :]
        view[: len(part)] = part
        return len(part)


def _pieces(form: Form) -> Generator[bytes, None, None]:
    """The text as UTF-8, or bytes as they are. DataError for damage and what is out of all proportion."""
    limit, ends = allowed(form.path), _Ends(form.path)
    decoder = None if form.encoding == "utf-8" else codecs.getincrementaldecoder(form.encoding)()
    with open_regular(form.path) as raw, _unpacking(raw, form.packing) as file:
        count = len(_unpacked(file, form.bom, form.path))
        while True:
            data = _unpacked(file, PIECE, form.path)
            count += len(data)
            if form.packing and count + ROW * ends.lines > limit:
                raise DataError(
                    f"{form.path}: unpacks to more than {limit >> 20:,} MiB, {RATIO} times its size: unpack "
                    "it yourself if it is sound"
                )
            try:
                text = data
                if decoder is not None:
                    text = decoder.decode(data, final=not data).encode("utf-8", "surrogateescape")
            except (UnicodeDecodeError, UnicodeEncodeError) as error:
                raise DataError(
                    f"{form.path}: no text in {form.encoding}: {error.reason} near byte {count:,}; "
                    "-o data.encoding=… names another"
                ) from error
            ends.look_at(text)
            if text:
                yield text
            if not data:
                return


class _Ends:
    """Counts the lines of a text: whoever splits one without an end into cells would be busy for long."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = self.since = 0  # line ends, and bytes since the last of them

    def look_at(self, text: bytes) -> None:
        """The next bytes. DataError for a line without an end."""
        first = min((at for at in (text.find(b"\n"), text.find(b"\r")) if at >= 0), default=len(text))
        if self.since + first > MOST_LINE:
            raise DataError(
                f"{self.path}:{self.lines + 1}: a line of more than {MOST_LINE >> 20} MiB, which is no row "
                "of a list: are the line ends lost, or is it another file?"
            )
        self.lines += text.count(b"\n") or text.count(b"\r")
        last = max(text.rfind(b"\n"), text.rfind(b"\r"))
        self.since = self.since + len(text) if last < 0 else len(text) - last - 1


def _unpacked(file: BinaryIO, size: int, path: Path) -> bytes:
    try:
        return file.read(size) if size else b""
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # zlib.error is none of the above, and bz2 raises ValueError
        raise DataError(f"{path} is damaged: {error}") from error


def zero_byte(path: Path, line: int) -> DataError:
    """The error for a list with zero bytes where no text has any: free text behind the first line may."""
    return DataError(
        f"{path}:{line}: a zero byte, which no text has: the list is damaged, or in another encoding "
        "(-o data.encoding=utf-16-le, say)"
    )


def _unpacking(raw: BinaryIO, packing: str) -> BinaryIO:
    if packing == "gzip":
        return cast(BinaryIO, gzip.open(raw))
    if packing == "bzip2":
        return cast(BinaryIO, bz2.open(raw))
    return cast(BinaryIO, lzma.open(raw)) if packing else raw


def as_utf8(form: Form) -> io.BufferedReader:
    """The text of a list from its first line on: UTF-8, or bytes as they are, without a mark before it."""
    return io.BufferedReader(_Stream(_pieces(form)), PIECE)


def as_text(form: Form) -> IO[str]:
    """The same as text; bytes that are not UTF-8 come as surrogates, line ends as they are."""
    return io.TextIOWrapper(as_utf8(form), "utf-8", "surrogateescape", newline="")


def packing_of(head: bytes) -> str:
    """ "gzip", "bzip2", "xz" or ""."""
    return next((name for magic, name in _PACKED if head.startswith(magic)), "")


def _is_comment(line: str, delimiter: str) -> bool:
    """`# text`; a line that goes on behind `#` is a row where it has further columns."""
    if not line.startswith("#"):
        return False
    return line[1:2] in ("", " ", "\t", "#", "\r", "\n", "!") or not delimiter or delimiter not in line


def parsed(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    if delimiter == BLANKS:
        return (split_blanks(line) for line in lines)
    if not delimiter:
        return ([line.strip()] for line in lines)
    return (row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row)


def split_blanks(line: str) -> list[str]:
    """`path label`: the path ends at its suffix, or before the last word; both may hold blanks."""
    line = line.strip()
    if (found := SPLIT_IMAGE.fullmatch(line)) and looks_like_image(found[1]):
        return [found[1], found[2]]
    found = _LAST_WORD.fullmatch(line)
    return [found[1], found[2]] if found else [line]


class Rows:
    """The rows of a list one after the other, with the line that each begins in, from 1.

    Blank lines and comments are passed over, and so are rows of empty cells. DataError where a quoted cell
    holds rows, or does not end.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self.line = self.first = 0
        self.fresh, self.taken, self.size = True, 0, 0  # lines and letters of this row
        self.comments = 0
        self.last: list[str] = []

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        with as_text(self.form) as text:
            if self.form.delimiter in (BLANKS, ""):
                for line in self._feed(text):
                    self.fresh = True
                    yield self.first, (split_blanks(line) if self.form.delimiter else [line.strip()])
                return
            reader = csv.reader(self._feed(text), delimiter=self.form.delimiter, skipinitialspace=True)
            try:
                for row in reader:
                    self.fresh = True
                    if self.line > self.first:
                        self._check_cells(row)
                    if any(cell and not cell.isspace() for cell in row):
                        yield self.first, row
            except csv.Error as error:
                raise DataError(f"{self.form.path}:{self.first}: {error}") from error
            self._check_end()

    def _feed(self, text: IO[str]) -> Iterator[str]:
        skipped, delimiter = self.form.skipped, self.form.delimiter
        for line in text:
            self.line += 1
            if self.line <= skipped:
                continue
            if self.fresh:
                if line.isspace() or (line[0] == "#" and _is_comment(line, delimiter)):
                    self.comments += line[0] == "#"
                    continue
                self.first, self.fresh, self.last = self.line, False, []
                self.taken = self.size = 0
            self.taken += 1
            self.size += len(line)
            if self.taken > MOST_LINES or self.size > 2 * MOST_LINE:
                raise self._open_quote()
            if self.taken < 100:
                self.last.append(line)
            yield line

    def _check_cells(self, row: list[str]) -> None:
        """A cell over several lines in which a row can be seen was opened by a stray quote."""
        delimiter, width = self.form.delimiter, len(self.form.names)
        paths = [place for place, cell in enumerate(row) if looks_like_image(cell) and "\n" not in cell]
        for cell in row:
            parts = cell.splitlines() if "\n" in cell or "\r" in cell else []
            whole = any(part.count(delimiter) == width - 1 for part in parts[1:-1])
            last = parts[-1].split(delimiter) if parts else []
            if whole or any(place < len(last) - 1 and looks_like_image(last[place]) for place in paths):
                raise self._open_quote()

    def _check_end(self) -> None:
        """A quote that the end of the file ended."""
        if not self.last or '"' not in self.last[0]:
            return
        try:
            for _ in csv.reader(self.last, delimiter=self.form.delimiter, skipinitialspace=True, strict=True):
                pass
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise self._open_quote() from error

    def _open_quote(self) -> DataError:
        line = self.last[0].rstrip("\r\n")
        opened = line[line.rfind('"') :]
        held = self.line - self.first
        over = f"and holds the {held:,} line(s) after it" if held else "and not ended"
        return DataError(
            f"{self.form.path}:{self.first}: a quote is opened here ({short(opened, 60)}) {over}: end it, "
            'write it twice (""), or take it out'
        )
