"""The classes of several results: one order of columns by names, or by places where there are no names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.results import TopK, classes_hash
from smelt.errors import ResultError
from smelt.fusion.scores.arrayfiles import Raw, turned
from smelt.fusion.scores.identity import Told, called, columns, in_order, numbered, spelt
from smelt.fusion.scores.usual import few

Places = NDArray[np.int64] | None  # the column of each class, None where they are in the common order


def joined(
    raws: Sequence[Raw], wanted: tuple[Sequence[str] | None, int | None, str], told: Told
) -> tuple[list[Raw], tuple[str, ...] | None, int]:
    """The results with their columns in one order, the names of the classes, and C.

    wanted: names in their order, their number, and who wants them, as far as that is given already.
    """
    names, count, whose = wanted
    for raw in raws:
        if raw.classes is not None and raw.num_classes not in (None, len(raw.classes)):
            raise ResultError(
                f"{raw.path} has {raw.num_classes} columns but {len(raw.classes)} names of classes"
            )
        if count is not None and raw.num_classes not in (None, count):
            raise ResultError(f"{raw.path} has {raw.num_classes} classes, {whose} has {count}")
    order, source = (tuple(names), whose) if names is not None else _class_order(raws, told)
    num_classes = _num_classes(raws, count or (len(order) if order is not None else None), whose or source)
    moved: dict[str, Places] = {}
    if order is not None:
        for raw in raws:
            if raw.classes is not None:
                places = moved[classes_hash(raw.classes)] = columns(order, raw.classes, source, str(raw.path))
                told.note(_moved(raw, order, places, source))
        moved.setdefault(classes_hash(order), None)
        _tell_unnamed(raws, order, source, any(places is not None for places in moved.values()), told)
    found = [_in_columns(raw, _places(raw, moved, raws, source)) for raw in raws]
    return [_numbered(raw, order, num_classes) for raw in found], order, num_classes


def _class_order(raws: Sequence[Raw], told: Told) -> tuple[tuple[str, ...] | None, str]:
    """The names of the first result that has some, in the order of columns, and whose they are."""
    first = next((raw for raw in raws if raw.classes is not None), None)
    if first is None or first.classes is None:
        return None, ""
    order = in_order(first.classes)
    if order != first.classes:
        told.note(f"{first.path}: classes are named by numbers; columns are put into the order of these")
    return order, str(first.path)


def _moved(raw: Raw, order: Sequence[str], places: Places, whose: str) -> str:
    """What is said of a file whose classes are in another order, or called by other words."""
    if raw.classes is None or places is None or whose == str(raw.path):
        return ""
    same = set(order) == set(raw.classes)
    other = "" if same else f", called otherwise ({raw.classes[places[0]]} is {order[0]})"
    if np.array_equal(places, np.arange(len(places))):
        return f"{raw.path}: classes are those of {whose}{other}"
    return f"{raw.path}: classes are those of {whose}{other} in another order; its columns are moved"


def _places(raw: Raw, moved: Mapping[str, Places], raws: Sequence[Raw], whose: str) -> Places:
    """The column of each class of a result, by its names or by what a sidecar keeps of them."""
    mark = classes_hash(raw.classes) if raw.classes is not None else raw.classes_hash
    if mark is None:
        return None
    if mark in moved:
        return moved[mark]
    if moved:
        raise ResultError(f"{raw.path} and {whose} have different lists of classes, or in another order")
    first = next(one for one in raws if one.classes_hash is not None)
    if mark != first.classes_hash:
        raise ResultError(f"{raw.path} and {first.path} have different lists of classes")
    return None


def _numbers(raw: Raw) -> NDArray[Any] | None:
    """Numbers of classes (N, K) of a result that keeps some; None for others."""
    if isinstance(raw.scores, TopK):
        return np.asarray(raw.scores.classes_NK)
    return raw.lists_NK if raw.lists_NK is not None and raw.lists_NK.dtype.kind in "iu" else None


def _num_classes(raws: Sequence[Raw], wanted: int | None, whose: str) -> int:
    """C, the same for all; files of lists and top-K results may stay below it."""
    dense = [raw for raw in raws if raw.num_classes is not None]
    for raw in dense:
        if raw.num_classes != dense[0].num_classes:
            raise ResultError(
                f"{raw.path} has {raw.num_classes} classes, {dense[0].path} has {dense[0].num_classes}"
                + turned(raw, dense[0])
            )
    tops = [(raw, numbers) for raw in raws if (numbers := _numbers(raw)) is not None]
    num_classes = dense[0].num_classes if dense else wanted
    if num_classes is None:
        if not tops:
            raise ResultError(
                f"{raws[0].path} names classes, and no file says in which order they are numbered"
            )
        num_classes = max(int(numbers.max()) for _, numbers in tops) + 1
    for raw, numbers in tops:
        lowest, highest = int(numbers.min()), int(numbers.max())
        if highest < num_classes and lowest >= 0:
            continue
        odd = lowest if lowest < 0 else highest
        of = f"{dense[0].path} has" if dense else f"{whose} has" if whose else "there are"
        from_one = highest == num_classes and lowest == 1
        hint = " (if its classes count from 1, subtract 1)" if from_one else ""
        line = int((numbers == odd).any(axis=1).argmax())
        raise ResultError(f"{raw.path} names class {odd} in line {line}, {of} {num_classes} classes{hint}")
    return num_classes


def _in_columns(raw: Raw, places: Places) -> Raw:
    """The result with numbers of classes in the common order; dense ones are moved when they are read."""
    if places is None:
        return raw
    numbers = _numbers(raw)
    if numbers is None:
        return replace(raw, places=places) if raw.lists_NK is None else raw
    moved = np.argsort(places)[numbers.astype(np.int64)]
    if isinstance(raw.scores, TopK):
        return replace(raw, scores=replace(raw.scores, classes_NK=moved))
    return replace(raw, lists_NK=moved)


def _tell_unnamed(raws: Sequence[Raw], order: Sequence[str], whose: str, moved: bool, told: Told) -> None:
    """Say whose columns are only assumed to be in the common order: a warning where that is not one which
    everybody would have chosen, by number or by letter."""
    silent = [
        str(raw.path) for raw in raws
        if raw.num_classes is not None and raw.lists_NK is None and not (raw.classes or raw.classes_hash)
    ]  # fmt: skip
    if not silent:
        return
    plainly = numbered(order) is not None or list(order) in (sorted(order), sorted(order, key=str.casefold))
    words = f"{few(list(dict.fromkeys(silent)))}: no names of classes"
    if plainly and not moved:
        told.note(f"{words}; columns are taken in the order of {whose}")
        return
    stem = silent[0].rpartition("/")[2].rpartition(".")[0]
    told.alarm(
        f"{words}, other files have: columns are taken in the order of {whose} ({few(list(order))}). If "
        f"theirs is another, write the names, one a line in the order of the columns, into "
        f"{stem}.classes.txt beside the file"
    )


def _numbered(raw: Raw, order: tuple[str, ...] | None, num_classes: int) -> Raw:
    """Lists of names as lists of numbers; a class twice in a line is refused."""
    if raw.lists_NK is not None and raw.lists_NK.dtype.kind not in "iu":
        if order is None:
            raise ResultError(f"{raw.path} names classes, and no file says in which order they are numbered")
        return replace(raw, lists_NK=_by_names(raw, raw.lists_NK, order))
    if not isinstance(raw.scores, TopK):
        return raw
    ordered = np.sort(np.asarray(raw.scores.classes_NK), axis=1)
    same = ordered[:, 1:] == ordered[:, :-1]
    if same.any():
        line, place = np.argwhere(same)[0]
        raise ResultError(f"{raw.path}: line {line} names class {ordered[line, place]} twice")
    return replace(raw, num_classes=num_classes)


def _by_names(raw: Raw, lists_NK: NDArray[Any], order: Sequence[str]) -> NDArray[np.int64]:
    """Lists of names as numbers; those that stand in one cell of each line are parted first."""
    places, names = {name: place for place, name in enumerate(order)}, spelt(order)
    rows = [[called(cell.strip(), names) for cell in row] for row in lists_NK.tolist()]
    if len(rows[0]) == 1 and not all(row[0] in places for row in rows):
        words = [[word for word in re.split(r"[\s,;|]+", row[0]) if word] for row in rows]
        parted = [[called(word, names) for word in row] for row in words]
        rows = parted if all(word in places for row in parted for word in row) else rows
    odd = list(dict.fromkeys(name for row in rows for name in row if name not in places))
    if odd:
        raise ResultError(f"{raw.path} names {len(odd)} classes that are none of the others' ({few(odd)})")
    for place, row in enumerate(rows):
        if len(row) != len(rows[0]) or len(set(row)) < len(row):
            what = "a class twice" if len(set(row)) < len(row) else f"{len(row)} classes"
            raise ResultError(f"{raw.at(place)} names {what}, the first line {len(rows[0])} different ones")
    return np.array([[places[name] for name in row] for row in rows], np.int64)
