"""Columns of 0 and 1 whose names are classes (Roboflow's `_classes.csv`) as one column of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from smelt.artifacts.bytestrings import ByteStrings, decode, encode
from smelt.data.formats.base import SHOWN, Report
from smelt.data.formats.labels.hotcolumns import MINUS, OFF, ON
from smelt.data.formats.lists.columns import plain
from smelt.data.formats.lists.imagetable import coded

_NONE = ("unlabeled", "unlabelled", "none", "nolabel")  # columns that say that there is no label

Labels = tuple[
    ByteStrings, dict[int, list[bytes]]
]  # (N,) labels, "" for none; row → all, where more than one


def labels_of(
    names: Sequence[str], read: Callable[[int], ByteStrings], where: Callable[[int], str], report: Report
) -> Labels:
    """The labels that the columns `read(i)`, called `names[i]`, say; cells that are no yes or no are told."""
    first, count = np.zeros(0, np.int64), np.zeros(0, np.int32)
    rest: dict[int, list[bytes]] = {}
    for place, name in enumerate(names):
        codes, words = coded(read(place))
        words = [word.strip().lower().removesuffix(b".0") for word in words]
        if not place:
            first, count = np.full(len(codes), -1), np.zeros(len(codes), np.int32)
        _check(name, words, codes, where, report)
        if plain(name) in _NONE:
            continue
        on = np.array([word in ON for word in words], np.bool_)
        rows = np.flatnonzero(on[codes]) if len(codes) else codes
        for row in rows[count[rows] > 0].tolist():
            rest.setdefault(row, [encode(names[first[row]])]).append(encode(name))
        first[rows[count[rows] == 0]] = place
        count[rows] += 1
    texts = ByteStrings.of([*(encode(name) for name in names), b""])
    return texts.take(first), rest


def _check(
    name: str, words: list[bytes], codes: np.ndarray, where: Callable[[int], str], report: Report
) -> None:
    off = OFF if b"0" in words else OFF | {MINUS}
    for code, word in enumerate(words):
        if word not in ON and word not in off:
            rows = np.flatnonzero(codes == code)
            if len(report.problems) < SHOWN:
                report.problem(
                    f"{where(int(rows[0]))}: {decode(word)[:40]!r} in column {name!r} is not 0 or 1: "
                    "columns of classes say which one it is; probabilities are no labels",
                    len(rows),
                )
            else:
                report.num_problems += len(rows)
