"""Tables of scores: a column for each class, lists of classes, lists in one column, or a line for each image
and class. What a column is, is told by its name, else by what is in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ResultError
from smelt.fusion.scores.arrayfiles import Raw, hinted, stacked
from smelt.fusion.scores.arrowtables import Arrow
from smelt.fusion.scores.identity import in_order
from smelt.fusion.scores.textfiles import Text, is_number, is_whole, number
from smelt.fusion.scores.usual import ID_NAMES, INDEX_NAMES, LABEL_NAMES, LEFT_NAMES, few, plain

Table = Text | Arrow
HEAD = 200  # rows that are looked at first
POSITION = re.compile(
    r"(c|class|label|pred|prediction|top|rank|guess|k|choice|place)?_?\d+(st|nd|rd|th)?|"
    r"first|second|third|fourth|fifth|best|labels?|predictions?|prediction_?string|classes|top_?\d*"
)


def read(table: Table) -> Raw:
    """The result in a table, whichever form it has."""
    if len(lists := table.list_columns) == 1:
        return _in_one_column(table, lists[0])
    if lists and isinstance(table, Arrow):
        raise ResultError(f"{table.path} has several columns of lists: keep one, of scores")
    if (found := _long_form(table)) is not None:
        return found
    if isinstance(table, Text) and _holds_lists(table):
        return _lists(table)
    return _column_a_class(table)


# What columns are


@dataclass(frozen=True)
class Roles:
    """Which columns are which."""

    ids: int | None
    labels: int | None
    scores: list[int]
    left: list[int]

    def taken(self, table: Table) -> tuple[dict[str, Any], NDArray[Any]]:
        """What a Raw knows besides scores, and the columns of scores (N, K)."""
        known = [place for place in (self.ids, self.labels) if place is not None]
        words, scores = table.take(known, self.scores)
        of = dict(zip(known, words))
        notes = [f"{table.path}: column {table.header[place] or 'without a name'} is left out"
                 for place in self.left] if table.header else []  # fmt: skip
        return {
            "ids": None if self.ids is None else of[self.ids],
            "labels": None if self.labels is None else np.array(of[self.labels]),
            "lines": table.lines, "notes": tuple(notes),
        }, scores  # fmt: skip


def _roles(table: Table, lists: Sequence[int] = ()) -> Roles:
    """The roles of columns from their names and from what is in them; `lists` are neither ids nor labels."""
    if table.header is not None and len(table.first) != len(table.header):
        raise ResultError(
            f"{table.path} has {len(table.header)} names of columns and {len(table.first)} columns"
        )
    names = [plain(name) for name in table.header or ()]
    places = [place for place in range(len(table.first)) if place not in lists]
    words = [place for place in places if not is_number(table.first[place])]
    labels = [place for place in places if names and names[place] in LABEL_NAMES]
    ids = next((place for place in places if names and names[place] in ID_NAMES), None)
    if ids is None:
        ids = next((p for p in words if not lists or p not in labels), _numbered(names, table.head(HEAD)))
    label = next((place for place in labels if place != ids), None)
    others = [place for place in places if place not in (ids, label)]
    idle = [p for p in others if names and (names[p] in LEFT_NAMES or (p == 0 and names[p] in INDEX_NAMES))]
    left = [place for place in others if place in words or place in idle]
    return Roles(ids, label, [place for place in others if place not in left], left)


def _numbered(names: list[str], rows: list[list[str]]) -> int | None:
    """The first column, where it holds different whole numbers and the others do not."""
    firsts = [row[0] for row in rows]
    if not all(map(is_whole, firsts)) or len(set(firsts)) < len(firsts):
        return None
    others = all(is_whole(cell) for row in rows for cell in row[1:])
    return 0 if not others or (names and names[0] in INDEX_NAMES) else None


# A column for each class


def _column_a_class(table: Table) -> Raw:
    roles = _roles(table)
    if len(roles.scores) < 2:
        raise ResultError(
            f"{table.path} holds neither `id class class …` nor an id and a score for each class: "
            f"its first line is {' '.join(table.first)[:60]!r}"
        )
    known, scores = roles.taken(table)
    names = tuple(table.header[place] for place in roles.scores) if table.header else None
    (raw,) = stacked(table.path.stem, table.path, scores, classes=names, **known)
    return raw


# Lists in one column


def _in_one_column(table: Table, place: int) -> Raw:
    """Scores, or lists of classes, in one column."""
    roles = _roles(table, [place])
    known, _ = replace(roles, scores=[], left=[*roles.left, *roles.scores]).taken(table)
    values = table.lists(place)
    if (lists := _as_classes(values)) is not None:
        return Raw(table.path.stem, table.path, lists_NK=lists, **known)
    if isinstance(table, Text):
        values = np.stack([table.as_numbers(row, words) for row, words in enumerate(values.tolist())])
    hint = hinted(table.header[place] if table.header else "")
    (raw,) = stacked(table.path.stem, table.path, values, **known, **hint)
    return raw


def _as_classes(values_NK: NDArray[Any]) -> NDArray[Any] | None:
    """Rows of names, or of whole numbers none of which is twice in a row, as lists of classes; else None."""
    if values_NK.dtype.kind == "U":
        if not any(is_number(cell) for row in values_NK.tolist() for cell in row):
            return values_NK
        if not all(cell.isdecimal() and len(cell) < 10 for row in values_NK.tolist() for cell in row):
            return None
        values_NK = values_NK.astype(np.int64)
    if values_NK.dtype.kind not in "iu" or values_NK.min(initial=0) < 0:
        return None
    ordered = np.sort(values_NK, axis=1)
    # the same classes in every line: a ranking of all columns
    whole = len(ordered) > 1 and ordered.shape[1] > 2 and bool((ordered == ordered[0]).all())
    return None if whole or (ordered[:, 1:] == ordered[:, :-1]).any() else values_NK


# A line for each image and class


def _long_form(table: Table) -> Raw | None:
    """Lines of an image, a class and a score, as a result with a column for each class; None for others.

    Both images and classes come several times, no pair twice. ResultError where images lack classes.
    """
    header = table.header or [""] * len(table.first)
    start = int(table.header is not None and len(table.first) == 4 and plain(header[0]) in INDEX_NAMES)
    if any(len(row) != 3 + start for row in (header, *table.head(HEAD))):
        return None
    (ids, classes, scores), _ = table.take(_image_class_score(table, start))
    images = {name: place for place, name in enumerate(dict.fromkeys(ids))}
    if 2 * len(images) > len(ids) or not all(map(is_number, scores)):
        return None
    if all(map(is_whole, scores)):
        return None  # lists of classes, or labels
    names = in_order(tuple(dict.fromkeys(classes)))
    places = {name: place for place, name in enumerate(names)}
    if 2 * len(names) > len(ids) or len(set(zip(ids, classes))) < len(ids):
        return None
    at = [images[one] for one in ids], [places[one] for one in classes]
    there = np.zeros((len(images), len(names)), bool)
    there[at] = True
    if not there.all():
        odd = int(np.flatnonzero(~there.all(axis=1))[0])
        lacks = few([name for name, has in zip(names, there[odd]) if not has])
        raise ResultError(
            f"{table.path} has a line for each image and class, but image {list(images)[odd]} has "
            f"{there[odd].sum()} of {len(names)} classes (not {lacks}): write a line for every class, with "
            f"the score 0 where a probability was left out"
        )
    values = np.empty(there.shape, np.float64)
    values[at] = [float(number(score) or 0) for score in scores]
    note = f"{table.path}: a line for each image and class is read as a column for each class"
    (raw,) = stacked(table.path.stem, table.path, values, ids=tuple(images), classes=names, notes=(note,))
    return raw


def _image_class_score(table: Table, start: int) -> list[int]:
    """The columns of images, classes and scores: by their names, else in this order."""
    names = [plain(name) for name in table.header or [""] * len(table.first)]
    places = list(range(start, start + 3))
    ids = next((place for place in places if names[place] in ID_NAMES), start)
    places.remove(ids)
    of = next((place for place in places if names[place] in LABEL_NAMES), places[0])
    places.remove(of)
    return [ids, of, *places]


# An id and classes, the best first


def _holds_lists(text: Text) -> bool:
    """Whether the lines are `id class class …`; a look at the first tells most that are not."""
    return _are_lists(text, text.head(HEAD)) and (len(text) <= HEAD or _are_lists(text, list(text)))


def _are_lists(text: Text, lines: list[list[str]]) -> bool:
    """Whole numbers from 0, none twice in a line, or names.

    A ranking of all columns from 1 in every line is no list: it would name a class that is not there.
    """
    rows = [_parted(line) for line in lines]
    if all(len(row) == 1 and _several_words(row[0]) for row in rows):
        return True
    named = all(not is_number(cell) for row in rows for cell in row)
    if text.header is not None and not all(POSITION.fullmatch(plain(name)) for name in text.header[1:]):
        # names of classes above numbers: scores, even where all are whole
        return named and len(text.header) > 2
    if any(not row for row in rows):
        return len({len(row) for row in rows}) == 1 or all(_is_list(row) for row in rows if row)
    if all(map(_is_list, rows)):
        size = len(rows[0])
        first = [str(place) for place in range(1, size + 1)]
        return not (size > 2 and len(rows) > 1 and all(sorted(row, key=int) == first for row in rows))
    if text.header is None or len(text.header) > 2 or plain(text.header[-1]) not in LABEL_NAMES:
        return named or sum(map(_is_list, rows)) > len(rows) / 2
    return False


def _several_words(cell: str) -> bool:
    """Whether a cell holds several words and no number among them."""
    words = [word for word in re.split(r"[\s,;|]+", cell) if word]
    return len(words) > 1 and not any(map(is_number, words))


def _is_list(row: Sequence[str]) -> bool:
    """Whole numbers from 0 on, none twice."""
    return all(cell.isdecimal() for cell in row) and len({int(cell) for cell in row}) == len(row)


def _parted(cells: Sequence[str]) -> list[str]:
    """The cells behind the id; one that holds several numbers between blanks is several."""
    found: list[str] = []
    for cell in cells[1:]:
        parts = cell.split()
        found += parts if all(part.lstrip("-").isdecimal() for part in parts) else [cell]
    return found


def _lists(text: Text) -> Raw:
    """Ids and classes (N, K), numbers or names; ResultError with the line that is wrong."""
    rows = [_parted(cells) for cells in text]
    numbers = any(cell.lstrip("-").isdecimal() for row in rows for cell in row)
    for place, row in enumerate(rows):
        where = text.where(place)
        if numbers and not all(cell.lstrip("-").isdecimal() for cell in row):
            line = text.numbered[place][1]
            raise ResultError(f"{where}: {line[:80]!r} is not `id class class …`")
        if not row or len(row) != len(rows[0]):
            raise ResultError(f"{where}: {len(row)} classes where the lines before have others")
        if (numbers and min(map(int, row)) < 0) or len(set(row)) < len(row):
            raise ResultError(f"{where}: a class is below 0 or there twice")
    lists = np.array(rows, np.int64) if numbers else np.array(rows)
    ids = tuple(cells[0] for cells in text)
    return Raw(text.path.stem, text.path, lists_NK=lists, ids=ids, lines=text.lines)
