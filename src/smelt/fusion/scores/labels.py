"""Labels from files that people have: numbers, names or one-hot, with ids or in the order of the images.

    .npy .npz .pt    whole numbers (also as floats), words, or one-hot rows (N, C); in bundles under a usual
                     name (`labels`, `y`, `targets`, …) with `ids` or `filenames` beside
    .csv .txt        one a line, or `id label`, with or without a header, or an id and a 0 or 1 for each class
    .parquet         the same columns
Unknown: −1, NaN or nothing. Numbers from 1 to C are taken to count from 1, which is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ResultError
from smelt.fusion.scores import arrayfiles, arrowtables, scorefiles, textfiles
from smelt.fusion.scores.arrayfiles import Raw
from smelt.fusion.scores.arrowtables import Arrow
from smelt.fusion.scores.identity import Told, called, columns, in_its_order, numbered, spelt
from smelt.fusion.scores.textfiles import Text
from smelt.fusion.scores.usual import ID_NAMES, INDEX_NAMES, LABEL_NAMES, few, key, plain

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


@dataclass(frozen=True)
class Images:
    """What labels are wanted for: images, by their ids in their order where these are known, and classes,
    by their names in the order of columns."""

    count: int
    num_classes: int
    ids: Sequence[str] | None = None
    classes: Sequence[str] | None = None


def read_labels(
    path: Path,
    count: int,
    num_classes: int,
    *,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    told: Told | None = None,
) -> NDArray[np.int32]:
    """Labels (N,) of the images, −1 for unknown.

    ids: the images in their order, where they are known; labels that have ids are joined by them. classes:
    names in the order of columns. told: what was done and what may be wrong is added to it.
    ResultError names what is wrong: another number of them, another set of images, out of range.
    """
    return resolve(read_file(path, classes), Images(count, num_classes, ids, classes), told or Told())


def resolve(held: Labels, images: Images, told: Told) -> NDArray[np.int32]:
    """Numbers of classes in the order of the images; see `read_labels`."""
    if not len(held.values):
        raise ResultError(f"{held.path} holds no labels")
    if held.ids is not None and len(held.ids) != len(held.values):
        raise ResultError(f"{held.path} has {len(held.values)} labels but {len(held.ids)} ids")
    order = _order(held, images, told)
    order = np.arange(len(held.values)) if order is None else order
    values = _numbers(held, images, told)[order]
    wrong = (values >= images.num_classes) | (values < -1)
    if wrong.any():
        place = int(order[wrong.argmax()])
        raise ResultError(
            f"{held.where(place)}: label {values[wrong.argmax()]} of {held.image(place)} is not among "
            f"{images.num_classes} classes"
        )
    return values.astype(np.int32)


# The order


def _order(held: Labels, images: Images, told: Told) -> NDArray[np.int64] | None:
    """Where the label of each image is; None where labels are in the images' order."""
    if held.ids is not None and images.ids is not None:
        try:
            return in_its_order(images.ids, held.ids, "the scores", held.path, told, extras=True)
        except ResultError as error:
            hint = "; label what is unknown −1, or name the images that are wanted with --ids"
            raise ResultError(f"{error}{hint if ' lacks ' in str(error) else ''}") from error
    if len(held.values) != images.count:
        joined = (
            "" if held.ids is None else ": the scores have no ids that they could be joined by (--ids FILE)"
        )
        raise ResultError(f"{held.path} holds {len(held.values)} labels for {images.count} images{joined}")
    if held.ids is not None:
        return _by_line(held.path, held.ids, told)
    if images.ids is not None:
        told.note(f"{held.path} has no ids: its labels are taken in the order of the images")
    return None


def _by_line(path: Path, ids: Sequence[str], told: Told) -> NDArray[np.int64] | None:
    """Ids that are the numbers of lines give the order; others only a warning, for the scores have none."""
    if all(name.isdecimal() for name in ids):
        numbers = np.array(ids, np.int64)
        if np.array_equal(np.sort(numbers), np.arange(len(ids))):
            if not np.array_equal(numbers, np.arange(len(ids))):
                told.note(f"ids of {path} are numbers of lines: labels are joined by them")
            return np.argsort(numbers)
    told.alarm(
        f"{path} has ids ({ids[0]}, …) but the scores have none: labels are taken in the order of lines. "
        f"Say the scores' ids with --ids FILE, or put them into A.ids.txt beside A.npy"
    )
    return None


# The values


def _numbers(held: Labels, images: Images, told: Told) -> NDArray[np.int64]:
    """Values as numbers of classes, in the order of the file."""
    values = held.values
    if values.dtype.kind == "S":
        values = arrayfiles.decoded_words(values)
    if values.ndim == 1 and values.dtype.kind == "U":
        return _from_words(held, [str(value).strip() for value in values.tolist()], images, told)
    if values.dtype.kind not in "iufb":
        raise ResultError(f"{held.path} holds {values.dtype}, neither numbers nor names of classes")
    return (_from_one_hot if values.ndim == 2 else _from_numbers)(held, values, images, told)


def _from_numbers(held: Labels, values: NDArray[Any], images: Images, told: Told) -> NDArray[np.int64]:
    """Whole numbers, from 0 or from 1, or the classes' own numbers where their names are numbers."""
    if values.dtype.kind == "f":
        values = _whole(held, values, told)
    elif values.dtype.kind == "u" and values.max(initial=0) > np.iinfo(np.int64).max:
        raise ResultError(f"{held.path}: label {values.max()} is not among {images.num_classes} classes")
    values = values.astype(np.int64)
    known = values[values != -1]
    if not len(known):
        return values
    own = numbered(images.classes or ())
    if own and own != list(range(len(own))) and np.isin(known, own).all():
        told.note(f"{held.path}: labels are the classes' own numbers ({few(list(images.classes or ()))})")
        place = {number: column for column, number in enumerate(own)}
        return np.array([place.get(value, -1) for value in values.tolist()], np.int64)
    if known.min() == 1 and known.max() == images.num_classes:
        told.note(f"{held.path}: labels run from 1 to {images.num_classes}: 1 is taken as the first class")
        return np.where(values == -1, -1, values - 1)
    return values


def _whole(held: Labels, values: NDArray[Any], told: Told) -> NDArray[np.int64]:
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
        told.note(f"{held.path}: {int(unknown.sum()):,} labels are NaN: taken as unknown")
    return np.where(unknown, -1, values).astype(np.int64)


def _from_words(held: Labels, words: list[str], images: Images, told: Told) -> NDArray[np.int64]:
    """Names of classes, or numbers written as words."""
    classes = images.classes
    place = {name: column for column, name in enumerate(classes or ())}
    words = _as_called(held, words, classes or (), told)
    known = [word for word in words if word in place or word.lower() not in UNKNOWN]
    odd = [word for word in dict.fromkeys(known) if word not in place]
    if classes is not None and known and not odd:
        return np.array([place.get(word, -1) for word in words], np.int64)
    if all(textfiles.is_number(word) for word in known):
        numbers = [np.nan if word.lower() in UNKNOWN else textfiles.number(word) for word in words]
        return _from_numbers(held, np.array(numbers, np.float64), images, told)
    if classes is not None:
        raise ResultError(
            f"{held.where(words.index(odd[0]))}: {odd[0]!r} is none of the {len(classes)} classes "
            f"({few(list(classes))})"
            + (f"; neither are {len(odd) - 1} other labels ({few(odd[1:])})" if len(odd) > 1 else "")
        )
    first = next(word for word in odd if not textfiles.is_number(word))
    raise ResultError(
        f"{held.where(words.index(first))}: labels are names ({first!r}), but no score file names its "
        f"classes: write the names, one a line in the order of the columns, into A.classes.txt beside A.npy"
    )


def _as_called(held: Labels, words: list[str], classes: Sequence[str], told: Told) -> list[str]:
    """Labels as `classes` call them, where they are only written otherwise (`Great Dane`, `great_dane`)."""
    names, same = spelt(classes), set(classes)
    strange = [word for word in dict.fromkeys(words) if word not in same and word.lower() not in UNKNOWN]
    changed = {word: called(word, names) for word in strange}
    if not changed or any(word == name or textfiles.is_number(word) for word, name in changed.items()):
        return words
    word, name = next(iter(changed.items()))
    told.note(f"{held.path}: classes are called otherwise ({word} is {name})")
    return [changed.get(word, word) for word in words]


def _from_one_hot(held: Labels, values: NDArray[Any], images: Images, told: Told) -> NDArray[np.int64]:
    """Rows with a single 1; all zeros are unknown."""
    rows = np.nan_to_num(np.asarray(values, np.float64), nan=-1.0)
    if rows.shape[1] != images.num_classes:
        raise ResultError(
            f"{held.path} has {rows.shape[1]} columns of labels, the scores have {images.num_classes} classes"
        )
    if held.columns is not None and images.classes is not None:
        order = columns(images.classes, held.columns, "the scores", str(held.path))
        rows = rows if order is None else rows[:, order]
    odd = ~np.isin(rows, (0, 1)).all(axis=1) | (rows.sum(axis=1) > 1)
    if odd.any():
        place = int(odd.argmax())
        raise ResultError(
            f"{held.where(place)}: {held.image(place)} has no single 1 among zeros: not one-hot"
        )
    told.note(f"{held.path}: labels are one-hot")
    empty = rows.sum(axis=1) == 0
    if empty.any():
        told.note(f"{held.path}: {int(empty.sum()):,} images have no class: taken as unknown")
    return np.where(empty, -1, rows.argmax(axis=1))


# Files


def in_memory(value: Any) -> Labels:
    """Labels in a data frame, or in an array of numbers or words (N,) or one-hot (N, C)."""
    if arrowtables.is_frame(value):
        return _of_table(arrowtables.of_frame("labels", value))
    values = np.asarray(value)
    return _array(Path("labels"), values.astype(str) if values.dtype == object else values, None)


def read_file(path: Path, classes: Sequence[str] | None = None) -> Labels:
    """What a file of labels says; ArtifactError or ResultError where it cannot be read."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ResultError(f"{path} is not there" if not path.exists() else f"{path} is not a file")
    if suffix == ".npy":
        beside = path.with_name(path.stem + ".ids.txt")
        ids = scorefiles.read_ids(beside) if beside.exists() else None
        return _array(path, np.asarray(arrayfiles.load(path)), ids)
    if suffix in (".npz", ".pt", ".pth"):
        return _bundle(path, arrayfiles.arrays(path) if suffix == ".npz" else arrayfiles.tensors(path))
    if suffix == ".parquet":
        return _of_table(arrowtables.read(path))
    if suffix in UNREAD or textfiles.is_json(path):
        what = "JSON" if suffix in ("", ".txt", ".csv") else suffix
        raise ResultError(
            f"{path}: {what} is not read as labels; write a table `id,label` as .csv or .parquet, or save "
            f"them in the order of the images as .npy"
        )
    return _of_text(textfiles.read(path), classes)


def _array(path: Path, values: NDArray[Any], ids: tuple[str, ...] | None) -> Labels:
    if values.ndim == 2 and 1 in values.shape:
        values = values.reshape(-1)
    if values.ndim not in (1, 2):
        raise ResultError(f"{path} has shape {values.shape}, neither (N,) nor one-hot (N, C)")
    return Labels(path, values, ids)


def _bundle(path: Path, members: dict[str, Any]) -> Labels:
    """Labels under a usual name, or the only array."""
    found = {name: value for name, value in members.items() if isinstance(value, np.ndarray)}
    ids = next((arrayfiles.words(value) for name, value in found.items() if key(name) in ID_NAMES), None)
    rest = {name: value for name, value in found.items() if key(name) not in ID_NAMES}
    named = [name for name in rest if key(name) in LABEL_NAMES]
    if not named and len(rest) != 1:
        raise ResultError(f"{path} holds {', '.join(sorted(rest)) or 'nothing'}: none is called labels")
    return _array(path, rest[named[0] if named else next(iter(rest))], ids)


def _of_text(text: Text, classes: Sequence[str] | None) -> Labels:
    """One label a line, or a table."""
    whole = [line.strip() for _, line in text.numbered]
    if text.header is None and text.delimiter in ("", ",") and set(whole) <= {*(classes or ()), *UNKNOWN}:
        return Labels(text.path, np.array(whole), lines=text.lines)  # names may hold blanks
    plain_lines = text.header is None and not text.delimiter
    return _of_table(replace(text, delimiter=textfiles.ID_AND_REST) if plain_lines else text)


def _of_table(table: Text | Arrow) -> Labels:
    """Labels of a table: by the names of its columns, else the last one that is no id."""
    wide = len(table.first)
    if table.header is not None and len(table.header) != wide:
        raise ResultError(f"{table.where(0)} has {wide} columns, its header {len(table.header)}")
    if wide == 1:
        return Labels(table.path, np.array(table.take([0])[0][0]), lines=table.lines)
    names = [plain(name) for name in table.header or [""] * wide]
    ids = next((place for place in range(wide) if names[place] in ID_NAMES), None)
    label = next((place for place in range(wide) if names[place] in LABEL_NAMES and place != ids), None)
    if ids is None:
        ids = _id_column(table, [place for place in range(wide) if place != label])
    index = 0 if table.header and names[0] in INDEX_NAMES else ids
    rest = [place for place in range(wide) if place not in (ids, index)]
    if label is None and len(rest) > 1 and (ones := _ones(table, rest)) is not None:
        header = tuple(table.header[place] for place in rest) if table.header else None
        return Labels(table.path, ones, table.take([ids])[0][0], header, table.lines)
    known, values = table.take([ids, rest[-1] if label is None else label])[0]
    return Labels(table.path, np.array(values), known, lines=table.lines)


def _id_column(table: Text | Arrow, places: list[int]) -> int:
    """The first column, unless it repeats and another one holds different words: some write `label,id`."""
    words = [place for place in places[1:] if not textfiles.is_number(table.first[place])]
    for place in (places[0], *words):
        column = table.take([place])[0][0]
        if len(set(column)) == len(column):
            return place
    return places[0]


def _ones(table: Text | Arrow, places: list[int]) -> NDArray[np.float64] | None:
    """The columns (N, C) if all that is in them is 0 or 1, in any writing; else None."""
    if any(textfiles.number(row[place]) not in (0.0, 1.0) for row in table.head(20) for place in places):
        return None
    try:
        values = table.take([], places)[1]
    except ResultError:
        return None
    return np.asarray(values, np.float64) if np.isin(values, (0, 1)).all() else None


def of_result(raw: Raw) -> Labels:
    """The labels that stand beside scores in one file."""
    assert raw.labels is not None
    return _array(raw.path, np.asarray(raw.labels), raw.ids)
