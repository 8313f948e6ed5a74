"""Tables in text form whose columns are known by name, row by row, for exports of moderate size."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.jsons import open_regular, repeated
from smelt.errors import DataError, short

MAX_CELL = 8 << 20  # characters
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def text_rows(path: Path, settings: FormatSettings, report: Report) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column) of each row; blank lines are passed over, rows of another width reported.

    The delimiter and the encoding are those of the settings, else found in the first bytes. DataError where
    the file cannot be read, and where its first line names a column twice.
    """
    with open_regular(path) as file:
        first = file.read(1 << 16)
        file.seek(0)
        encoding = settings.encoding or next(
            (name for mark, name in _MARKS if first.startswith(mark)), "utf-8"
        )
        try:
            text = io.TextIOWrapper(file, encoding, "surrogateescape", newline="")
            head = first.decode(encoding, "replace").split("\n", 1)[0]
            found = max(",\t;", key=head.count)
            before = csv.field_size_limit(MAX_CELL)
            try:
                yield from _rows(path, csv.reader(text, delimiter=settings.delimiter or found), report)
            finally:
                csv.field_size_limit(before)
        except LookupError as error:
            raise DataError(f"data.encoding: Python knows no encoding {encoding!r}") from error
        except (csv.Error, UnicodeError) as error:
            raise DataError(f"{path}: {error}") from error
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error


def _rows(path: Path, reader: Iterator[list[str]], report: Report) -> Iterator[tuple[int, dict[str, str]]]:
    names = [name.strip() for name in next(reader, [])]
    if not any(names):
        raise DataError(f"{path}:1: the first line names no columns")
    if (twice := repeated(names)) is not None:
        raise DataError(f"{path}:1: column {short(twice, 80)!r} is there twice")
    line = getattr(reader, "line_num", 1) + 1
    for cells in reader:
        if any(cells) and len(cells) != len(names):
            report.problem(
                f"{path}:{line}: {len(cells)} cells, and the first line names {len(names)} columns"
            )
        elif any(cells):
            yield line, dict(zip(names, cells))
        line = getattr(reader, "line_num", line) + 1
