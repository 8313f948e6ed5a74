"""Tables of scores: text with a column a class or with lists of classes, and .parquet.

.csv .txt     a header or none; an id and a score for each class, or an id and the best classes in order
.parquet      an id column and a column for each class, or one column of lists
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ArtifactError, OutOfProportionError, ResultError
from smelt.fusion.scores import celltables, textfiles
from smelt.fusion.scores.arrayfiles import Raw, hinted, stacked
from smelt.fusion.scores.brokenfiles import broken
from smelt.fusion.scores.textfiles import ID_NAMES, INDEX_NAMES, LABEL_NAMES, LEFT_NAMES, Text, plain

ROW = 100  # bytes that are made of a row of a table beside its scores: an id, a label
POSITION = re.compile(
    r"(c|class|label|pred|prediction|top|rank|guess|k|choice|place)?_?\d+(st|nd|rd|th)?|"
    r"first|second|third|fourth|fifth|best|labels?|predictions?|prediction_?string|classes|top_?\d*"
)


def text_table(path: Path) -> Raw:
    """Lists of classes or scores of classes, whichever the lines hold."""
    text = textfiles.read(path)
    if (found := celltables.in_one_cell(text)) is not None:
        return found
    if len(text.first) in (3, 4):
        found = celltables.long_form(path, text.header, [cells for _, cells in text])
        if found is not None:
            return found
    if holds_lists(text):
        names, lists = _lists(text)
        return Raw(path.stem, path, lists_NK=lists, ids=names)
    return _columns_of_text(text)


def holds_lists(text: Text) -> bool:
    """Whether the lines are `id class class …`: whole numbers from 0, none twice in a line, or names.

    A ranking of all columns from 1 in every line is no list: it would name a class that is not there.
    """
    rows = [_list_cells(cells) for _, cells in text]
    if all(len(row) == 1 and _words(row[0]) for row in rows):
        return True
    if text.header is not None and not all(POSITION.fullmatch(plain(name)) for name in text.header[1:]):
        # names of classes above numbers: scores, even where all are whole
        return all(not textfiles.is_number(cell) for row in rows for cell in row) and len(text.header) > 2
    if any(not row for row in rows):
        return len({len(row) for row in rows}) == 1 or all(is_list(row) for row in rows if row)
    if all(map(is_list, rows)):
        size = len(rows[0])
        first = [str(place) for place in range(1, size + 1)]
        return not (size > 2 and len(rows) > 1 and all(sorted(row, key=int) == first for row in rows))
    if text.header is None or len(text.header) > 2 or plain(text.header[-1]) not in LABEL_NAMES:
        named = all(not textfiles.is_number(cell) for row in rows for cell in row)
        listed = sum(map(is_list, rows)) > len(rows) / 2
        return named or listed
    return False


def _words(cell: str) -> bool:
    """Whether a cell holds several words and no number among them."""
    words = [word for word in re.split(r"[\s,;|]+", cell) if word]
    return len(words) > 1 and not any(map(textfiles.is_number, words))


def is_list(row: Sequence[str]) -> bool:
    """Whole numbers from 0 on, none twice."""
    return all(cell.isdecimal() for cell in row) and len({int(cell) for cell in row}) == len(row)


def _list_cells(cells: Sequence[str]) -> list[str]:
    """The cells behind the id; one that holds several numbers between blanks is several."""
    found: list[str] = []
    for cell in cells[1:]:
        parts = cell.split()
        found += parts if all(part.lstrip("-").isdecimal() for part in parts) else [cell]
    return found


def read_lists(path: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Ids and classes (N, K) of a file of lists of class numbers; a header is skipped."""
    try:
        text = textfiles.read(path)
    except ResultError:
        raise ResultError(f"{path} holds no lists of classes") from None
    names, lists = _lists(text, only_numbers=True)
    return names, lists.astype(np.int64)


def _lists(text: Text, only_numbers: bool = False) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Ids and classes (N, K), numbers or names; ResultError with the line that is wrong."""
    names: list[str] = []
    rows: list[list[str]] = []
    numbers = only_numbers or any(
        cell.lstrip("-").isdecimal() for _, cells in text for cell in _list_cells(cells)
    )
    for line, cells in text:
        row = _list_cells(cells)
        where = f"{text.path}:{line}"
        if numbers and not all(cell.lstrip("-").isdecimal() for cell in row):
            raise ResultError(f"{where}: {' '.join(cells)[:80]!r} is not `id class class …`")
        if not row or (rows and len(row) != len(rows[0])):
            raise ResultError(f"{where}: {len(row)} classes where the lines before have others")
        if (numbers and min(map(int, row)) < 0) or len(set(row)) < len(row):
            raise ResultError(f"{where}: a class is below 0 or there twice")
        names.append(cells[0])
        rows.append(row)
    return tuple(names), np.array(rows, np.int64) if numbers else np.array(rows)


def _columns_of_text(text: Text) -> Raw:
    """A score for each class in a line."""
    roles = _roles(text.path, text.header, text.first, _sampled(text))
    ids, labels, rows = [], [], []
    wide = len(text.header or text.first)
    for line, cells in text:
        if len(cells) != wide:
            raise ResultError(f"{text.path}:{line} has {len(cells)} columns where {wide} are expected")
        rows.append(_numbers(text, line, [cells[place] for place in roles.scores]))
        ids += [cells[roles.ids]] if roles.ids is not None else []
        labels += [cells[roles.labels]] if roles.labels is not None else []
    scores = np.stack(rows)
    raw = _tabled(text.path, text.header, roles, scores, tuple(ids), np.array(labels))
    return replace(raw, lines=[line for line, _ in text.lines])


def _sampled(text: Text, most: int = 200) -> list[list[str]]:
    return [cells for (_, cells), _ in zip(text, range(most))]


def _numbers(text: Text, line: int, cells: Sequence[str]) -> NDArray[np.float64]:
    try:
        return np.array(cells, np.float64)  # an array of words: much quicker than one by one
    except ValueError:
        pass
    values = [textfiles.number(cell) for cell in cells]
    if None in values:
        odd = cells[values.index(None)]
        raise ResultError(f"{text.path}:{line}: {odd[:40]!r} is not a number")
    return np.array(values, np.float64)


@dataclass(frozen=True)
class Roles:
    """Which columns are which."""

    ids: int | None
    labels: int | None
    scores: list[int]
    left: list[int]


def _roles(path: Path, header: list[str] | None, first: list[str], rows: list[list[str]]) -> Roles:
    """The roles of columns from their names and from what is in them."""
    names = [plain(name) for name in header] if header else []
    if header is not None and len(first) != len(header):
        raise ResultError(f"{path} has {len(header)} names of columns and {len(first)} columns")
    places = range(len(first))
    words = [place for place in places if not textfiles.is_number(first[place])]
    ids = next((place for place in places if names and names[place] in ID_NAMES), None)
    if ids is None:
        ids = words[0] if words else _numbered(names, rows)
    labels = next((p for p in places if names and names[p] in LABEL_NAMES and p != ids), None)
    others = [place for place in places if place not in (ids, labels)]
    idle = [p for p in others if names and (names[p] in LEFT_NAMES or (p == 0 and names[p] in INDEX_NAMES))]
    left = sorted({*idle, *(place for place in others if place in words)})
    scores = [place for place in places if place not in (ids, labels, *left)]
    if len(scores) < 2:
        raise ResultError(
            f"{path} holds neither `id class class …` nor an id and a score for each class: "
            f"its first line is {' '.join(first)[:60]!r}"
        )
    return Roles(ids, labels, scores, left)


def _numbered(names: list[str], rows: list[list[str]]) -> int | None:
    """The first column, where it holds different whole numbers and the others do not."""
    firsts = [row[0] for row in rows]
    if not all(map(textfiles.is_whole, firsts)) or len(set(firsts)) < len(firsts):
        return None
    others = all(textfiles.is_whole(cell) for row in rows for cell in row[1:])
    return 0 if not others or (names and names[0] in INDEX_NAMES) else None


def _tabled(
    path: Path, header: list[str] | None, roles: Roles, scores: NDArray[Any],
    ids: tuple[str, ...], labels: NDArray[Any],
) -> Raw:  # fmt: skip
    """The result of a table."""
    names = tuple(header[place] for place in roles.scores) if header else None
    notes = tuple(f"{path}: column {header[place] or 'without a name'} is left out"
                  for place in roles.left) if header else ()  # fmt: skip
    (raw,) = stacked(path.stem, path, scores)
    return replace(raw, ids=ids or None, classes=names, labels=labels if len(labels) else None, notes=notes)


def parquet_table(path: Path) -> Raw:
    """The result of a .parquet: a column for each class, or one that holds lists."""
    table = parquet(path, row=ROW)
    header = table.column_names
    if len(table) == 0:
        raise ResultError(f"{path} is empty")
    lists = [place for place, field in enumerate(table.schema) if _is_list(field.type)]
    if lists:
        return _list_column(path, table, lists)
    first = [str(table.column(place)[0].as_py()) for place in range(len(header))]
    rows = [[str(value) for value in row.values()] for row in table.slice(0, 200).to_pylist()]
    if len(set(header)) < len(header):
        raise ResultError(f"{path} has two columns of one name")
    if len(header) in (3, 4) and len({row[0] for row in rows}) < len(rows):
        cells = [_texts(table, place) for place in range(len(header))]
        found = celltables.long_form(path, header, list(zip(*cells)))
        if found is not None:
            return found
    roles = _roles(path, header, first, rows)
    columns = [_column(path, table, place) for place in roles.scores]
    ids = () if roles.ids is None else _texts(table, roles.ids)
    labels = np.array([] if roles.labels is None else _texts(table, roles.labels))
    return _tabled(path, header, roles, np.stack(columns, axis=1), ids, labels)


def parquet(path: Path, row: int = 0) -> Any:
    """The table of a .parquet; ArtifactError where it is damaged, or asks for more memory than its size
    speaks for. row: bytes that are made of each row beside the table."""
    import pyarrow as pa

    from smelt.artifacts import bounded

    try:
        table = bounded.parquet_table(path, row=row)
        table.validate(full=True)  # words that are no text, places beyond a dictionary
        assert all(isinstance(name, str) for name in table.column_names)  # so may the names be
        return table
    except OutOfProportionError as error:
        raise ArtifactError(str(error)) from error
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise broken(path, error) from error


def refuse_cells(path: Path, table: Any, cell: int) -> None:
    """ArtifactError where a text of `cell` bytes for each cell is more than the file may ask for."""
    from smelt.artifacts import bounded

    try:
        bounded.refuse_beyond(path, table.num_columns * len(table) * cell, f"its {len(table):,} rows")
    except OutOfProportionError as error:
        raise ArtifactError(str(error)) from error


def is_number(kind: Any) -> bool:
    """Whether a column of this type holds numbers."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind))


def _column(path: Path, table: Any, place: int) -> NDArray[Any]:
    name = table.column_names[place]
    try:
        values = table.column(place).to_numpy()
        return np.asarray(values, np.float64 if values.dtype.kind != "f" else values.dtype)
    except (ValueError, TypeError) as error:
        raise ResultError(
            f"{path}: column {name} holds {table.schema.field(place).type}, not scores"
        ) from error


def _texts(table: Any, place: int) -> tuple[str, ...]:
    return tuple("" if value is None else str(value) for value in table.column(place).to_pylist())


def _list_column(path: Path, table: Any, lists: list[int]) -> Raw:
    """Rows of scores in one column."""
    header = [plain(name) for name in table.column_names]
    if len(lists) > 1:
        raise ResultError(f"{path} has several columns of lists: keep one, of scores")
    column = table.column(lists[0]).combine_chunks()
    sizes = {len(row) if row is not None else 0 for row in table.column(lists[0]).to_pylist()}
    if len(sizes) != 1:
        raise ResultError(
            f"{path}: lists of {min(sizes)} to {max(sizes)} scores in column {header[lists[0]]}"
        )
    (size,) = sizes
    flat = column.flatten().to_numpy(zero_copy_only=False)
    (raw,) = stacked(path.stem, path, flat.reshape(len(table), size))
    others = [place for place in range(len(header)) if place not in lists]
    ids = next((p for p in others if header[p] in ID_NAMES), None)
    if ids is None:
        ids = next((p for p in others if isinstance(table.column(p)[0].as_py(), str)), None)
    labels = next((p for p in others if header[p] in LABEL_NAMES and p != ids), None)
    return replace(
        raw, ids=None if ids is None else _texts(table, ids),
        labels=None if labels is None else np.array(_texts(table, labels)),
        notes=tuple(f"{path}: column {header[p]} is left out" for p in others if p not in (ids, labels)),
        **hinted(header[lists[0]]),
    )  # fmt: skip
