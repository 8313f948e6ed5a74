"""Labels from files that people have: numbers, names or one-hot, with ids or in the order of the images.

    .npy .npz .pt    whole numbers (also as floats), words, or one-hot rows (N, C); in bundles under a usual
                     name (`labels`, `y`, `targets`, …) with `ids` or `filenames` beside
    .csv .txt        one a line, or `id label`, with or without a header, or an id and a 0 or 1 for each class
    .parquet         the same columns
Unknown: −1, NaN or nothing. Numbers from 1 to C are taken to count from 1, which is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ResultError
from smelt.fusion.scores import scorefiles, tablefiles, textfiles
from smelt.fusion.scores.identity import called, columns, few, match, numbered, spelt
from smelt.fusion.scores.textfiles import ID_NAMES, INDEX_NAMES, LABEL_NAMES, plain

CELL = 100  # bytes of a cell of a table as text
UNKNOWN = frozenset(["", "-1", "nan", "none", "null", "na", "n/a", "?", "unknown"])
# Suffixes of what is neither text nor read as arrays
UNREAD = (
    ".json", ".jsonl", ".ndjson", ".pkl", ".pickle", ".xlsx", ".xls", ".ods", ".h5", ".hdf5", ".mat", ".xml",
    ".yaml", ".yml", ".arrow", ".feather", ".orc", ".zip", ".gz", ".bz2", ".xz", ".zst", ".tar", ".db",
)  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """What a file says: values (N,) numbers or words, or (N, C) one-hot with the names of its columns."""

    path: Path
    values: NDArray[Any]
    ids: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    lines: Sequence[int] | None = None

    def where(self, place: int) -> str:
        """The file and line of a label."""
        return f"{self.path}:{self.lines[place]}" if self.lines is not None else str(self.path)

    def image(self, place: int) -> str:
        """What an image is called in a message."""
        return f"image {place} ({self.ids[place]})" if self.ids else f"image {place}"


def read_labels(
    path: Path,
    count: int,
    num_classes: int,
    *,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    notes: list[str] | None = None,
    alarms: list[str] | None = None,
) -> NDArray[np.int32]:
    """Labels (N,) of the images, −1 for unknown.

    ids: the images in their order, where they are known; labels that have ids are joined by them. classes:
    names in the order of columns. notes, alarms: what was done and what may be wrong is added to them.
    ResultError names what is wrong: another number of them, another set of images, out of range.
    """
    return resolve(read_file(path, classes), count, num_classes, ids, classes,
                   [] if notes is None else notes, [] if alarms is None else alarms)  # fmt: skip


def resolve(
    held: Labels, count: int, num_classes: int, ids: Sequence[str] | None, classes: Sequence[str] | None,
    notes: list[str], alarms: list[str],
) -> NDArray[np.int32]:  # fmt: skip
    """Numbers of classes in the order of the images; see `read_labels`."""
    if not len(held.values):
        raise ResultError(f"{held.path} holds no labels")
    if held.ids is not None and len(held.ids) != len(held.values):
        raise ResultError(f"{held.path} has {len(held.values)} labels but {len(held.ids)} ids")
    order = _order(held, count, ids, notes, alarms)
    values = _numbers(held, num_classes, classes, notes)
    values = values if order is None else values[order]
    places = np.arange(len(values)) if order is None else order
    wrong = (values >= num_classes) | (values < -1)
    if wrong.any():
        place = int(places[int(wrong.argmax())])
        raise ResultError(
            f"{held.where(place)}: label {values[wrong.argmax()]} of {held.image(place)} is not among "
            f"{num_classes} classes"
        )
    return values.astype(np.int32)


# The order


def _order(
    held: Labels, count: int, ids: Sequence[str] | None, notes: list[str], alarms: list[str]
) -> NDArray[np.int64] | None:
    """Where the label of each image is; None where labels are in the images' order."""
    if held.ids is not None and ids is not None:
        try:
            order, said = match(ids, held.ids, "the scores", str(held.path), extras=True)
        except ResultError as error:
            hint = "; label what is unknown −1, or name the images that are wanted with --ids"
            raise ResultError(f"{error}{hint if ' lacks ' in str(error) else ''}") from error
        notes += [said] * bool(said)
        if len(held.ids) > len(ids):
            notes.append(f"{held.path} has labels of {len(held.ids) - len(ids):,} images more: not used")
        if np.array_equal(order, np.arange(len(order))):
            return order
        notes.append(f"labels of {held.path} are joined by id (its order is another)")
        return order
    if len(held.values) != count:
        hint = (
            "" if held.ids is None else ": the scores have no ids that they could be joined by (--ids FILE)"
        )
        raise ResultError(f"{held.path} holds {len(held.values)} labels for {count} images{hint}")
    if held.ids is not None:
        return _by_line(held, count, notes, alarms)
    if ids is not None:
        notes.append(f"{held.path} has no ids: its labels are taken in the order of the images")
    return None


def _by_line(held: Labels, count: int, notes: list[str], alarms: list[str]) -> NDArray[np.int64] | None:
    """Ids that are the numbers of lines give the order; others only a warning, for the scores have none."""
    assert held.ids is not None
    if all(name.isdecimal() for name in held.ids):
        numbers = np.array(held.ids, np.int64)
        if np.array_equal(np.sort(numbers), np.arange(count)):
            if not np.array_equal(numbers, np.arange(count)):
                notes.append(f"ids of {held.path} are numbers of lines: labels are joined by them")
            return np.argsort(numbers)
    alarms.append(
        f"{held.path} has ids ({few(held.ids[:1])}, …) but the scores have none: labels are taken in the "
        f"order of lines. Say the scores' ids with --ids FILE, or put them into A.ids.txt beside A.npy"
    )
    return None


# The values


def _numbers(
    held: Labels, num_classes: int, classes: Sequence[str] | None, notes: list[str]
) -> NDArray[np.int64]:
    """Values as numbers of classes, in the order of the file."""
    values = held.values
    if values.ndim == 2:
        return _from_one_hot(held, num_classes, classes, notes)
    if values.dtype.kind == "S":
        values = scorefiles.decoded_words(values)
    if values.dtype.kind == "U":
        return _from_words(
            held, [str(value).strip() for value in values.tolist()], num_classes, classes, notes
        )
    if values.dtype.kind not in "iufb":
        raise ResultError(f"{held.path} holds {values.dtype}, neither numbers nor names of classes")
    return _from_numbers(held, values, num_classes, classes, notes)


def _from_numbers(
    held: Labels, values: NDArray[Any], num_classes: int, classes: Sequence[str] | None, notes: list[str]
) -> NDArray[np.int64]:
    """Whole numbers, from 0 or from 1, or the classes' own numbers where their names are numbers."""
    if values.dtype.kind == "f":
        values = _whole(held, values, notes)
    elif values.dtype.kind == "u" and values.max(initial=0) > np.iinfo(np.int64).max:
        raise ResultError(f"{held.path}: label {values.max()} is not among {num_classes} classes")
    values = values.astype(np.int64)
    known = values[values != -1]
    if not len(known):
        return values
    own = None if classes is None else numbered(classes)
    if classes is not None and own is not None:
        numbers = np.array(own)
        if np.isin(known, numbers).all() and not np.array_equal(numbers, np.arange(len(numbers))):
            notes.append(f"{held.path}: labels are the classes' own numbers ({few(list(classes))})")
            place = {int(number): column for column, number in enumerate(numbers)}
            return np.array([place.get(value, -1) for value in values.tolist()], np.int64)
    if known.min() == 1 and known.max() == num_classes:
        notes.append(f"{held.path}: labels run from 1 to {num_classes}: 1 is taken as the first class")
        return np.where(values == -1, -1, values - 1)
    return values


def _whole(held: Labels, values: NDArray[Any], notes: list[str]) -> NDArray[np.int64]:
    """Floats that are whole numbers; NaN is unknown."""
    unknown = np.isnan(values)
    odd = ~unknown & ((values != np.round(values)) | (np.abs(values) > 1 << 53))
    if odd.any():
        place = int(odd.argmax())
        raise ResultError(
            f"{held.where(place)} holds {values.dtype}: label {values[place]} of {held.image(place)} is no "
            f"whole number"
        )
    if unknown.any():
        notes.append(f"{held.path}: {int(unknown.sum()):,} labels are NaN: taken as unknown")
    return np.where(unknown, -1, values).astype(np.int64)


def _from_words(
    held: Labels, words: list[str], num_classes: int, classes: Sequence[str] | None, notes: list[str]
) -> NDArray[np.int64]:
    """Names of classes, or numbers written as words."""
    place = {name: column for column, name in enumerate(classes or ())}
    words = _as_called(held, words, classes or (), notes)
    known = [word for word in words if word in place or word.lower() not in UNKNOWN]
    named = [word for word in known if word in place]
    if classes is not None and known and len(named) == len(known):
        return np.array([place.get(word, -1) for word in words], np.int64)
    if all(textfiles.is_number(word) for word in known):
        values = np.array([np.nan if word.lower() in UNKNOWN else float(word) for word in words])
        return _from_numbers(held, values, num_classes, classes, notes)
    odd = [word for word in dict.fromkeys(known) if word not in place]
    if classes is not None:
        where = held.where(words.index(odd[0]))
        raise ResultError(
            f"{where}: {odd[0]!r} is none of the {len(classes)} classes ({few(list(classes))})"
            + (f"; neither are {len(odd) - 1} other labels ({few(odd[1:])})" if len(odd) > 1 else "")
        )
    first = next(word for word in odd if not textfiles.is_number(word))
    raise ResultError(
        f"{held.where(words.index(first))}: labels are names ({first!r}), but no score file names its "
        f"classes: write the names, one a line in the order of the columns, into A.classes.txt beside A.npy"
    )


def _as_called(held: Labels, words: list[str], classes: Sequence[str], notes: list[str]) -> list[str]:
    """Labels as `classes` call them, where they are only written otherwise (`Great Dane`, `great_dane`)."""
    names = spelt(classes)
    strange = [word for word in dict.fromkeys(words) if word not in set(classes)]
    other = {word: called(word, names) for word in strange if word.lower() not in UNKNOWN}
    changed = {word: name for word, name in other.items() if word != name}
    if not changed or len(changed) < len(other) or any(textfiles.is_number(word) for word in changed):
        return words
    word, name = next(iter(changed.items()))
    notes.append(f"{held.path}: classes are called otherwise ({word} is {name})")
    return [changed.get(word, word) for word in words]


def _from_one_hot(
    held: Labels, num_classes: int, classes: Sequence[str] | None, notes: list[str]
) -> NDArray[np.int64]:
    """Rows with a single 1; all zeros are unknown."""
    if held.values.dtype.kind not in "iufb":
        raise ResultError(f"{held.path} holds {held.values.dtype} {held.values.shape}, no one-hot labels")
    rows = np.nan_to_num(np.asarray(held.values, np.float64), nan=-1.0)
    if rows.shape[1] != num_classes:
        raise ResultError(
            f"{held.path} has {rows.shape[1]} columns of labels, the scores have {num_classes} classes"
        )
    if held.columns is not None and classes is not None:
        order = columns(classes, held.columns, "the scores", str(held.path))
        rows = rows if order is None else rows[:, order]
    odd = ~np.isin(rows, (0, 1)).all(axis=1) | (rows.sum(axis=1) > 1)
    if odd.any():
        place = int(odd.argmax())
        raise ResultError(
            f"{held.where(place)}: {held.image(place)} has no single 1 among zeros: not one-hot"
        )
    notes.append(f"{held.path}: labels are one-hot")
    empty = rows.sum(axis=1) == 0
    if empty.any():
        notes.append(f"{held.path}: {int(empty.sum()):,} images have no class: taken as unknown")
    return np.where(empty, -1, rows.argmax(axis=1))


# Files


def read_file(path: Path, classes: Sequence[str] | None = None) -> Labels:
    """What a file of labels says; ArtifactError or ResultError where it cannot be read."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ResultError(f"{path} is not there" if not path.exists() else f"{path} is not a file")
    if suffix == ".npy":
        return _array(path, np.asarray(scorefiles.load(path)), _ids_beside(path))
    if suffix in (".npz", ".pt", ".pth"):
        return _bundle(path, scorefiles.arrays(path) if suffix == ".npz" else scorefiles.tensors(path))
    if suffix == ".parquet":
        return _table(path)
    if suffix in UNREAD or textfiles.is_json(path):
        what = "JSON" if suffix in ("", ".txt", ".csv") else suffix
        raise ResultError(
            f"{path}: {what} is not read as labels; write a table `id,label` as .csv or .parquet, or save "
            f"them in the order of the images as .npy"
        )
    return _text(path, classes)


def _ids_beside(path: Path) -> tuple[str, ...] | None:
    beside = path.with_name(path.stem + ".ids.txt")
    return scorefiles.read_ids(beside) if beside.exists() else None


def _array(path: Path, values: NDArray[Any], ids: tuple[str, ...] | None) -> Labels:
    if values.ndim == 2 and 1 in values.shape:
        values = values.reshape(-1)
    if values.ndim not in (1, 2):
        raise ResultError(f"{path} has shape {values.shape}, neither (N,) nor one-hot (N, C)")
    return Labels(path, values, ids)


def _bundle(path: Path, members: dict[str, Any]) -> Labels:
    """Labels under a usual name, or the only array."""
    found = {name: value for name, value in members.items() if isinstance(value, np.ndarray)}
    ids = next((scorefiles.words(v) for name, v in found.items() if scorefiles.key(name) in ID_NAMES), None)
    rest = {name: value for name, value in found.items() if scorefiles.key(name) not in ID_NAMES}
    named = [name for name in rest if scorefiles.key(name) in LABEL_NAMES]
    if not named and len(rest) != 1:
        raise ResultError(f"{path} holds {', '.join(sorted(rest)) or 'nothing'}: none is called labels")
    return _array(path, rest[named[0] if named else next(iter(rest))], ids)


def _text(path: Path, classes: Sequence[str] | None) -> Labels:
    """One label a line, or a table."""
    text = textfiles.read(path)
    whole = [line.strip() for _, line in text.lines]
    lines = [line for line, _ in text.lines]
    single = text.header is None and (not text.delimiter or text.delimiter == ",")
    if classes is not None and single and set(whole) <= {*classes, *UNKNOWN}:
        return Labels(path, np.array(whole), lines=lines)  # names may hold blanks
    rows = [cells for _, cells in text]
    if not text.delimiter and text.header is None:
        rows = [_blanks(line) for line in whole]
    sizes = {len(row) for row in rows}
    if len(sizes) > 1:
        odd = next(place for place, row in enumerate(rows) if len(row) != len(rows[0]))
        raise ResultError(
            f"{path}:{lines[odd]} has {len(rows[odd])} columns where the lines before have others"
        )
    return _columns(path, text.header, rows, lines)


def _blanks(line: str) -> list[str]:
    """An id and a label that may hold blanks; or numbers."""
    cells = line.split()
    if len(cells) <= 2 or all(textfiles.is_number(cell) for cell in cells[1:]):
        return cells
    return line.split(None, 1)


def _columns(
    path: Path, header: list[str] | None, rows: list[list[str]], lines: Sequence[int] | None
) -> Labels:
    """Labels of a table."""
    wide = len(rows[0])
    if header is not None and len(header) != wide:
        where = path if lines is None else f"{path}:{lines[0]}"
        raise ResultError(f"{where} has {wide} columns, its header {len(header)}")
    names = [plain(name) for name in header] if header else [""] * wide
    if wide == 1:
        return Labels(path, np.array([row[0] for row in rows]), lines=lines)
    ids = next((place for place in range(wide) if names[place] in ID_NAMES), None)
    label = next((place for place in range(wide) if names[place] in LABEL_NAMES and place != ids), None)
    if ids is None:
        ids = _id_column(rows, label)
    if names[0] in INDEX_NAMES and header and ids != 0:
        rest = [place for place in range(1, wide) if place != ids]
    else:
        rest = [place for place in range(wide) if place != ids]
    known = None if ids is None else tuple(row[ids] for row in rows)
    if label is None and len(rest) > 1 and _ones(rows, rest):
        values = np.array([[float(row[place]) for place in rest] for row in rows])
        return Labels(path, values, known, tuple(header[p] for p in rest) if header else None, lines)
    place = rest[-1] if label is None else label
    return Labels(path, np.array([row[place] for row in rows]), known, lines=lines)


def _id_column(rows: list[list[str]], label: int | None) -> int:
    """The first column, unless it repeats and another one holds different words: some write `label,id`."""
    places = [place for place in range(len(rows[0])) if place != label]

    def different(place: int) -> bool:
        return len({row[place] for row in rows}) == len(rows)

    if different(places[0]):
        return places[0]
    words = (p for p in places[1:] if different(p) and not textfiles.is_number(rows[0][p]))
    return next(words, places[0])


def _ones(rows: list[list[str]], places: list[int]) -> bool:
    """Whether all cells are 0 or 1 (in any writing)."""
    return all(textfiles.number(row[place]) in (0.0, 1.0) for row in rows for place in places)


def _table(path: Path) -> Labels:
    table = scorefiles.parquet(path, row=tablefiles.ROW)
    if not len(table):
        raise ResultError(f"{path} holds no labels")
    if (found := _one_hot_columns(path, table)) is not None:
        return found
    tablefiles.refuse_cells(path, table, CELL)
    rows = [["" if value is None else str(value) for value in row.values()] for row in table.to_pylist()]
    rows = [[{"True": "1", "False": "0"}.get(cell, cell) for cell in row] for row in rows]
    return _columns(path, table.column_names, rows, None)


def _one_hot_columns(path: Path, table: Any) -> Labels | None:
    """The labels of a table with an id and many columns of 0 and 1, without a text for each cell."""
    names = [plain(name) for name in table.column_names]
    numbers = [place for place, column in enumerate(table.columns) if tablefiles.is_number(column.type)]
    words = [place for place in range(len(names)) if place not in numbers]
    ids = next((place for place, name in enumerate(names) if name in ID_NAMES), words[0] if words else None)
    rest = [place for place in numbers if place != ids and not (place == 0 and names[0] in INDEX_NAMES)]
    if ids is None or len(rest) < 2 or {*words} - {ids} or {*names} & LABEL_NAMES:
        return None
    values = [np.asarray(table.column(place).to_numpy(), np.float64) for place in rest]
    if not all(bool(np.isin(column, (0, 1)).all()) for column in values):
        return None
    known = tuple("" if one is None else str(one) for one in table.column(ids).to_pylist())
    header = tuple(table.column_names[place] for place in rest)
    return Labels(path, np.stack(values, axis=1), known, header)


def of_result(raw: scorefiles.Raw) -> Labels:
    """The labels that stand beside scores in one file."""
    assert raw.labels is not None
    return _array(raw.path, np.asarray(raw.labels), raw.ids)
