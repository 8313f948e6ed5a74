"""File lists, `path label` line by line, parsed as bytes: sixteen million lines without an object for one.

Lines end in LF or CRLF; a byte order mark and blank lines are passed over. The label is what follows the
last white space, so paths may hold blanks, and bytes of any encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue_writer import Paths
from smelt.data.formats.base import SHOWN, Report
from smelt.data.formats.lists.imagetable import Where
from smelt.data.formats.lists.texts import MOST_LINE
from smelt.data.formats.tree.files import Part
from smelt.data.formats.tree.pathcolumns import check_paths, split_paths
from smelt.errors import DataError

BLOCK_BYTES = 8 << 20
_LF, _SPACE, _ZERO, _MINUS = 10, 32, 48, 45
_MAX_DIGITS = 9
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Entries:
    """Consecutive entries of a list; `first` is the number of the first one, from 0."""

    paths: Paths
    labels: NDArray[np.int32]
    first: int

    def __len__(self) -> int:
        return len(self.labels)


def read_list(path: Part, report: Report, *, labelled: bool, num_classes: int) -> Iterator[Entries]:
    """Entries of the list `path`, some 100,000 at a time; labels are -1 where `labelled` is False.

    Entries that cannot be right (no label, label outside 0..num_classes-1, path that leaves its folder)
    go to `report` with file and line and are still yielded, so that entries keep their numbers.
    """
    first = 0
    for block in _blocks(path):
        entries = _parse(block, labelled, first, path, report)
        if labelled:
            _check_labels(entries, path, report, num_classes)
        if len(entries):
            yield entries
        first += len(entries)


def where_in(path: Part) -> Where:
    """What messages call the entries of a list: file and line."""
    return lambda entry: f"{path}:{line_of(path, entry)}"


def line_of(path: Part, entry: int) -> int:
    """Line, from 1, of the entry with this number (from 0): blank lines are not entries."""
    first = 1
    for block in _blocks(path):
        for number, line in enumerate(block.tobytes().split(b"\n"), first):
            entry -= bool(line.strip())
            if entry < 0:
                return number
        first += int((block == _LF).sum())
    raise AssertionError("no such entry")


def read_lines(path: Part) -> list[bytes]:
    """Lines of a small file without their ends, blank ones left out. Raises DataError."""
    data = path.read().removeprefix(_BOM).replace(b"\r\n", b"\n")
    return [line for line in data.split(b"\n") if line.strip()]


def _blocks(path: Part) -> Iterator[NDArray[np.uint8]]:
    """The file in pieces that end at the end of a line, each ending in LF."""
    done = 0  # lines of the pieces before
    rest, position = b"", len(_BOM) if path.read(0, len(_BOM)) == _BOM else 0
    while data := path.read(position, BLOCK_BYTES):
        position += len(data)
        data = rest + data
        cut = data.rfind(b"\n") + 1
        if cut:
            yield np.frombuffer(data[:cut], np.uint8)
        rest = data[cut:]
        if len(rest) > MOST_LINE:
            line = 1 + done + data.count(b"\n")
            raise DataError(
                f"{path}:{line}: a line of more than {MOST_LINE >> 20} MiB: it is no list of files"
            )
        done += data.count(b"\n")
    if rest:
        yield np.frombuffer(rest + b"\n", np.uint8)


def _parse(data: NDArray[np.uint8], labelled: bool, first: int, path: Part, report: Report) -> Entries:
    ends = np.flatnonzero(data == _LF)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    ends = _strip(data, starts, ends)
    filled = ends > starts
    if not bool(filled.all()):
        starts, ends = starts[filled], ends[filled]
    labels = np.full(len(starts), -1, np.int32)
    if labelled:
        labels, digits = _numbers_at(data, starts, ends)
        stops = _strip(data, starts, ends - digits)
        wrong = (digits == 0) | (stops == ends - digits) | (stops == starts)
        for entry in np.flatnonzero(wrong)[:SHOWN].tolist():
            shown = decode(data[starts[entry] : ends[entry]].tobytes())[:120]
            report.problem(f"{path}:{line_of(path, first + entry)}: no label at the end of {shown!r}")
        report.num_problems += max(0, int(wrong.sum()) - SHOWN)
        labels[wrong] = 0
        ends = np.where(wrong, ends, stops)
    paths = split_paths(data, starts, ends)
    check_paths(paths, lambda row: where_in(path)(first + row), report)
    return Entries(paths, labels, first)


def _strip(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ends of the spans without the white space before them."""
    ends = ends.copy()
    active = np.flatnonzero(ends > starts)
    while len(active):
        last = data[ends[active] - 1]
        active = active[(last == _SPACE) | ((last >= 9) & (last <= 13))]
        ends[active] -= 1
        active = active[ends[active] > starts[active]]
    return ends


def _numbers_at(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Decimal numbers that the spans end in, and how many characters they have (0: there is none)."""
    values = np.zeros(len(starts), np.int64)
    digits = np.zeros(len(starts), np.int64)
    active = np.flatnonzero(ends > starts)
    for place in range(_MAX_DIGITS):
        digit = data[ends[active] - 1 - place].astype(np.int64) - _ZERO
        ok = (digit >= 0) & (digit <= 9)
        active, digit = active[ok], digit[ok]
        values[active] += digit * 10**place
        digits[active] += 1
        active = active[ends[active] - 1 - place > starts[active]]
        if not len(active):
            break
    signed = np.flatnonzero((digits > 0) & (ends - digits > starts))
    signed = signed[data[ends[signed] - digits[signed] - 1] == _MINUS]
    values[signed] *= -1
    digits[signed] += 1
    return values.astype(np.int32), digits


def _check_labels(entries: Entries, path: Part, report: Report, num_classes: int) -> None:
    wrong = np.flatnonzero((entries.labels < 0) | (entries.labels >= num_classes))
    for entry in wrong[:SHOWN].tolist():
        line = line_of(path, entries.first + entry)
        label = int(entries.labels[entry])
        report.problem(f"{path}:{line}: label {label} is not one of 0..{num_classes - 1}")
    report.num_problems += max(0, len(wrong) - SHOWN)
