"""Rows of a list that say nothing to learn: names of columns once more, and labels that are said not to hold.

Lists that were written one behind the other have their header again in the middle. A column of how sure a
label is (Open Images' `Confidence`) is 0 where people looked and the label was wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, decode
from smelt.data.formats.base import SHOWN, Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.lists.columns import plain
from smelt.data.formats.lists.imagetable import Where, coded
from smelt.data.formats.tree.names import first_few

# beside the usual words those of Prodigy's `answer` and of Mechanical Turk's `AssignmentStatus`
_TRUE = frozenset({"true", "yes", "t", "y", "accept", "approved", "submitted"})
_FALSE = frozenset({"false", "no", "f", "n", "reject", "ignore", "rejected"})
NOT_SO = "an image that the list names only to say which classes it is not of"


def of_rows(where: Where, rows: NDArray[np.int64]) -> Where:
    """What messages call the rows of a list that are left, by their rows (R,) in the file."""
    return lambda entry: where(int(rows[entry]))


def headers_again(
    names: Sequence[str], columns: Sequence[ByteStrings], where: Where, name: str, report: Report
) -> NDArray[np.bool_]:
    """(N,) which rows are the names of the columns once more. In another order they are a problem.

    names: of the `columns` in the file. One column alone tells only by its exact name.
    """
    again = np.ones(len(columns[0]), np.bool_)
    known = {plain(own) for own in names}
    for column in sorted(columns, key=lambda column: -len(column.heap)):  # long cells are told at a glance
        rows = np.flatnonzero(again)
        again[rows] = _among(column, rows, known)
    for row in np.flatnonzero(again).tolist():
        cells = [plain(decode(column[row])) for column in columns]
        if cells == [plain(own) for own in names]:
            continue
        again[row] = False
        if len(set(cells)) == len(cells) > 1:
            report.problem(
                f"{where(row)}: the names of the columns stand here again, in another order: the lists "
                "that were joined have other columns; join them by their names"
            )
    if count := int(again.sum()):
        places = [where(row).rpartition(":")[2] for row in np.flatnonzero(again)[:SHOWN].tolist()]
        report.note(
            f"{name}: the names of the columns stand again in {count:,} row(s), as where lists are joined: "
            f"left out (line {first_few(places, count)})"
        )
    return again


def _among(column: ByteStrings, rows: NDArray[np.int64], known: set[str]) -> NDArray[np.bool_]:
    """(R,) which of `rows` hold one of the names; only cells of a likely length are looked at."""
    lengths = column.lengths()[rows]
    longest = max(map(len, known), default=0) + 12  # with blanks and signs
    found = np.zeros(len(rows), np.bool_)
    likely = (lengths > 0) & (lengths <= longest)
    firsts = np.zeros(256, np.bool_)
    for letter in {own[:1] for own in known}:
        firsts[list({letter.encode()[0], letter.upper().encode()[0]} if letter else ())] = True
    firsts[[ord(sign) for sign in " \"'_#\t-."]] = True
    starts = column.offsets[:-1].astype(np.int64)[rows]
    likely[likely] = firsts[column.heap[starts[likely]]]
    for place in np.flatnonzero(likely).tolist():
        found[place] = plain(decode(column[int(rows[place])])) in known
    return found


def held(
    column: ByteStrings, called: str, where: Where, name: str, settings: FormatSettings, report: Report
) -> NDArray[np.bool_]:
    """(N,) which rows have a label that holds, by the column `called` of how sure it is.

    Cells: numbers of 0..1 (but for a `score` also 0..100), or yes and no; an empty one holds. Below
    `settings.min_confidence` a label is left out; without it those of exactly 0 are, if not all are. Cells
    that are none of these refuse a `min_confidence`, else the column says nothing.
    """
    codes, found = coded(column)
    words = [decode(word).strip() for word in found]
    values = [_sure(word) for word in words]
    everything = np.ones(len(column), np.bool_)
    least = settings.min_confidence
    meant = least is not None or "confidence" in settings.columns
    most = 1 if "score" in plain(called) and not meant else 100  # a score may be anything, such as votes
    wrong = [code for code, value in enumerate(values) if value is None or not 0 <= value <= most]
    if wrong:
        row = int(np.flatnonzero(codes == wrong[0])[0])
        what = f"{where(row)}: {words[wrong[0]][:40]!r} in column {called!r} is no confidence of 0 to 1"
        if meant:
            report.problem(what, len(wrong))
        else:
            report.note(
                f"{what}: the column is not looked at (-o data.columns.confidence=NAME takes another)"
            )
        return everything
    sure = np.array([1.0 if value is None else value for value in values])
    kept = (sure >= least if least else sure > 0) if least != 0 else sure >= 0
    kept_N = kept[codes] if len(codes) else everything
    count = int((~kept_N).sum())
    if not count:
        return everything
    if count == len(kept_N) and least is None:
        report.warn(f"{name}: column {called!r} is 0 in every row: it is not looked at")
        return everything
    if least is None:
        first = where(int(np.flatnonzero(~kept_N)[0]))
        report.warn(
            f"{name}: {count:,} of {len(kept_N):,} rows have 0 or no in column {called!r}, such as {first}: "
            "they say that an image is not of that class. They are left out (-o data.min_confidence=0 takes "
            "them as labels, 0.5 leaves out what is less sure too)"
        )
    else:
        report.note(f"{name}: {count:,} rows have less than {least:g} in column {called!r}: left out")
    return kept_N


def _sure(word: str) -> float | None:
    """How sure a cell is: 1 for an empty one; None where it does not say."""
    if not word or word.lower() in _TRUE:
        return 1.0
    if word.lower() in _FALSE:
        return 0.0
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
