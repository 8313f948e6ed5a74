"""A text of millions of rows: one look over its bytes says whether pyarrow may read it, in parallel.

It may where every row is one line: no quote that goes over lines, no comment, no odd line end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from smelt.artifacts.bytestrings import ByteStrings
from smelt.data.formats.lists.texts import BLANKS, Form, as_utf8

BLOCK_BYTES = 8 << 20
_LF, _CR, _QUOTE, _SPACE, _TAB, _HASH = 10, 13, 34, 32, 9, 35


def looked_over(form: Form) -> tuple[bool, str]:
    """(whether every row is one line of ordinary form; what is odd and can be lived with) of a whole list."""
    plain = form.delimiter != "" and not (form.delimiter == BLANKS and len(form.names) != 2)
    utf8 = True
    for data in _blocks(form):
        plain = plain and _is_plain(data, form)
        utf8 = utf8 and _is_utf8(data)
        if not plain and not utf8:
            break
    note = f"it is read as {form.guessed}; -o data.encoding=… names another" if form.guessed else ""
    if not utf8:
        note = (
            "it is not all UTF-8: what is not is read as latin-1 if it is a word in it "
            "(-o data.encoding=… names another, such as cp1252, gb18030, cp932)"
        )
    return plain, note


def _blocks(form: Form) -> Iterator[NDArray[np.uint8]]:
    """The text in pieces that end at the end of a line, if that is not too far."""
    with as_utf8(form) as stream:
        rest = b""
        while data := stream.read(BLOCK_BYTES):
            data = rest + data
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            if len(rest) > 8 * BLOCK_BYTES:
                cut, rest = len(data), b""
            if cut:
                yield np.frombuffer(data[:cut], np.uint8)
        if rest:
            yield np.frombuffer(rest, np.uint8)


def _is_utf8(data: NDArray[np.uint8]) -> bool:
    if not bool((data & 0x80).any()):
        return True
    try:
        data.tobytes().decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_plain(data: NDArray[np.uint8], form: Form) -> bool:
    """Whether all these lines are rows of their own."""
    ends = np.flatnonzero(data == _LF)
    begins = data[np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])] if len(ends) else data[:1]
    odd = (begins == _SPACE) | (begins == _TAB) | (begins == _HASH) | (begins == ord(form.delimiter[:1]))
    if bool(odd.any()) or not data.all():
        return False
    returns = np.flatnonzero(data == _CR)
    if len(returns) and not bool((data[np.minimum(returns + 1, len(data) - 1)] == _LF).all()):
        return False
    if form.delimiter == BLANKS:
        return _one_blank_a_line(data, ends)
    quotes = data == _QUOTE
    if not bool(quotes.any()):
        return True
    starts = np.concatenate([np.zeros(1, np.int64), ends[ends < len(data) - 1] + 1])
    if bool(np.bitwise_xor.reduceat(quotes, starts).any()):  # an odd number of them in a line
        return False
    text = data.tobytes()
    return b' "' not in text or re.search(re.escape(form.delimiter.encode()) + rb' +"', text) is None


def _one_blank_a_line(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> bool:
    if bool(((data == _TAB) | (data == _QUOTE)).any()):
        return False
    blanks = np.cumsum(data == _SPACE, dtype=np.int64)
    counts = np.diff(np.concatenate([np.zeros(1, np.int64), blanks[ends]]))
    return bool((counts == 1).all()) and (not len(ends) or int(ends[-1]) == len(data) - 1)


def fast_columns(form: Form, places: Sequence[int]) -> list[ByteStrings] | None:
    """The columns at `places` by pyarrow; None where some row is not as the others."""
    names = [str(place) for place in range(len(form.names))]
    wanted = list(dict.fromkeys(str(place) for place in places))
    direct = not form.packing and form.encoding == "utf-8"
    source: Any = str(form.path) if direct else as_utf8(form)
    try:
        table = arrow_csv.read_csv(
            source,
            read_options=arrow_csv.ReadOptions(column_names=names, skip_rows=form.skipped),
            parse_options=arrow_csv.ParseOptions(delimiter=form.delimiter),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: pa.large_binary() for name in wanted},
                check_utf8=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    finally:
        if not direct:
            source.close()
    return [ByteStrings.from_arrow(table[str(place)]) for place in places]


def line_numbers(form: Form) -> NDArray[np.int64]:
    """Line, from 1, of every row of a plain text: all lines but empty ones and those before the data."""
    found, first = [], 1
    for data in _blocks(form):
        ends = np.flatnonzero(data == _LF)
        if not len(ends) or int(ends[-1]) != len(data) - 1:
            ends = np.append(ends, len(data))
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
        empty = (ends == starts) | ((ends == starts + 1) & (data[np.minimum(starts, len(data) - 1)] == _CR))
        lines = np.arange(first, first + len(ends))
        found.append(lines[~empty & (lines > form.skipped)])
        first += len(ends)
    return np.concatenate(found) if found else np.zeros(0, np.int64)
