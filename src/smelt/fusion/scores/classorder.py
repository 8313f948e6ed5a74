"""The classes of several results: one order of columns by names, or by places where there are no names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import results
from smelt.errors import ResultError
from smelt.fusion.scores.arrayfiles import Raw, turned
from smelt.fusion.scores.identity import called, columns, in_order, numbered, spelt
from smelt.fusion.scores.usual import few


def joined(
    raws: list[Raw], wanted: tuple[Sequence[str] | None, int | None, str], notes: list[str], alarms: list[str]
) -> tuple[list[Raw], tuple[str, ...] | None, int]:
    """The results with their columns in one order, the names of the classes, and C."""
    for raw in raws:
        if raw.classes is not None and raw.num_classes not in (None, len(raw.classes)):
            raise ResultError(
                f"{raw.path} has {raw.num_classes} columns but {len(raw.classes)} names of classes"
            )
    named = [raw for raw in raws if raw.classes is not None]
    if wanted[1] is not None:
        for raw in raws:
            if raw.num_classes not in (None, wanted[1]):
                raise ResultError(f"{raw.path} has {raw.num_classes} classes, {wanted[2]} has {wanted[1]}")
    order, whose = _class_order(named, wanted, notes)
    num_classes = _num_classes(
        raws, wanted[1] or (len(order) if order is not None else None), wanted[2] or whose
    )
    moved: dict[str, NDArray[np.int64] | None] = {}
    found: list[Raw] = []
    for raw in raws:
        if raw.classes is None or order is None:
            found.append(raw)
            continue
        places = columns(order, raw.classes, whose, str(raw.path))
        moved[results.classes_hash(raw.classes)] = places
        if places is not None and whose != str(raw.path):
            notes.append(_told_columns(raw, order, places, whose))
        found.append(_columns_moved(raw, places))
    if order is not None:
        moved.setdefault(results.classes_hash(order), None)
    found = [
        _by_hash(raw, moved, raws, whose) if raw.classes_hash and raw.classes is None else raw
        for raw in found
    ]
    if order is not None:
        _tell_unnamed(
            found, order, whose, any(places is not None for places in moved.values()), notes, alarms
        )
    return [_numbered(raw, order, num_classes) for raw in found], order, num_classes


def _told_columns(raw: Raw, order: Sequence[str], places: NDArray[np.int64], whose: str) -> str:
    """What is said of a file whose classes are in another order, or called by other words."""
    assert raw.classes is not None
    called = (
        ""
        if set(order) == set(raw.classes)
        else f", called otherwise ({raw.classes[places[0]]} is {order[0]})"
    )
    if np.array_equal(places, np.arange(len(places))):
        return f"{raw.path}: classes are those of {whose}{called}"
    return f"{raw.path}: classes are those of {whose}{called} in another order; its columns are moved"


def _class_order(
    named: list[Raw], wanted: tuple[Sequence[str] | None, int | None, str], notes: list[str]
) -> tuple[tuple[str, ...] | None, str]:
    """Names of classes in the common order, and whose they are."""
    if wanted[0] is not None:
        return tuple(wanted[0]), wanted[2]
    if not named:
        return None, ""
    names = named[0].classes
    assert names is not None
    order = in_order(names)
    if order != names:
        notes.append(
            f"{named[0].path}: classes are named by numbers; columns are put into the order of these"
        )
    return order, str(named[0].path)


def _num_classes(raws: Sequence[Raw], wanted: int | None, whose: str) -> int:
    """C, the same for all; files of lists and top-K results may stay below it."""
    dense = [raw for raw in raws if raw.num_classes is not None]
    for raw in dense:
        if raw.num_classes != dense[0].num_classes:
            raise ResultError(
                f"{raw.path} has {raw.num_classes} classes, {dense[0].path} has {dense[0].num_classes}"
                + turned(raw, dense[0])
            )
    tops = [(raw, *_ends(raw)) for raw in raws if isinstance(raw.scores, results.TopK) or _by_number(raw)]
    num_classes = dense[0].num_classes if dense else wanted
    if num_classes is None:
        if not tops:
            raise ResultError(
                f"{raws[0].path} names classes, and no file says in which order they are numbered"
            )
        num_classes = max(highest for _, _, highest in tops) + 1
    for raw, lowest, highest in tops:
        if highest >= num_classes or lowest < 0:
            of = f"{dense[0].path} has" if dense else f"{whose} has" if whose else "there are"
            odd, hint = (lowest, "") if lowest < 0 else (highest, "")
            if highest == num_classes and lowest == 1:
                hint = " (if its classes count from 1, subtract 1)"
            line = _line_of(raw, odd)
            raise ResultError(
                f"{raw.path} names class {odd} in line {line}, {of} {num_classes} classes{hint}"
            )
    return num_classes


def _by_number(raw: Raw) -> bool:
    return raw.lists_NK is not None and raw.lists_NK.dtype.kind in "iu"


def _numbers(raw: Raw) -> NDArray[Any]:
    """Numbers of classes (N, K) of a result that keeps some."""
    return np.asarray(raw.scores.classes_NK if isinstance(raw.scores, results.TopK) else raw.lists_NK)


def _ends(raw: Raw) -> tuple[int, int]:
    numbers = _numbers(raw)
    return int(numbers.min()), int(numbers.max())


def _line_of(raw: Raw, odd: int) -> int:
    return int((_numbers(raw) == odd).any(axis=1).argmax())


def _columns_moved(raw: Raw, places: NDArray[np.int64] | None) -> Raw:
    """The result with numbers of classes in the common order; dense ones are moved when they are read."""
    if places is None:
        return raw
    if isinstance(raw.scores, results.TopK):
        back = np.argsort(places)
        top = raw.scores
        numbers = back[np.asarray(top.classes_NK, np.int64)]
        return replace(raw, scores=replace(top, classes_NK=numbers))
    if _by_number(raw):
        assert raw.lists_NK is not None
        return replace(raw, lists_NK=np.argsort(places)[raw.lists_NK])
    return replace(raw, places=places)


def _by_hash(raw: Raw, moved: Mapping[str, NDArray[np.int64] | None], raws: Sequence[Raw], whose: str) -> Raw:
    """A result of which only the hash of the class list is known."""
    if len(moved):
        if raw.classes_hash in moved:
            return _columns_moved(raw, moved[str(raw.classes_hash)])
        raise ResultError(f"{raw.path} and {whose} have different lists of classes, or in another order")
    first = next(one for one in raws if one.classes_hash is not None)
    if raw.classes_hash != first.classes_hash:
        raise ResultError(f"{raw.path} and {first.path} have different lists of classes")
    return raw


def _tell_unnamed(
    raws: Sequence[Raw], order: Sequence[str], whose: str, moved: bool, notes: list[str], alarms: list[str]
) -> None:
    """Say whose columns are only assumed to be in the common order: a warning where that is not one which
    everybody would have chosen, by number or by letter."""
    dense = [raw for raw in raws if raw.num_classes is not None and raw.lists_NK is None]
    silent = [str(raw.path) for raw in dense if raw.classes is None and raw.classes_hash is None]
    if not silent:
        return
    plainly = numbered(order) is not None or list(order) in (sorted(order), sorted(order, key=str.casefold))
    words = f"{few(list(dict.fromkeys(silent)))}: no names of classes"
    if plainly and not moved:
        notes.append(f"{words}; columns are taken in the order of {whose}")
        return
    stem = silent[0].rpartition("/")[2].rpartition(".")[0]
    alarms.append(
        f"{words}, other files have: columns are taken in the order of {whose} ({few(list(order))}). If "
        f"theirs is another, write the names, one a line in the order of the columns, into "
        f"{stem}.classes.txt beside the file"
    )


def _parted(raw: Raw, order: Sequence[str]) -> Raw:
    """Lists of names that stand in one cell of each line, parted: by blanks, commas, semicolons or bars."""
    assert raw.lists_NK is not None
    cells = [str(cell).strip() for cell in raw.lists_NK[:, 0].tolist()]
    names, known = spelt(order), set(order)
    if raw.lists_NK.shape[1] > 1 or all(called(cell, names) in known for cell in cells):
        return raw
    rows = [[called(word, names) for word in re.split(r"[\s,;|]+", cell) if word] for cell in cells]
    if not all(word in known for row in rows for word in row):
        return raw
    for place, row in enumerate(rows):
        if len(row) != len(rows[0]) or len(set(row)) < len(row):
            what = "a class twice" if len(set(row)) < len(row) else f"{len(row)} classes"
            raise ResultError(f"{raw.at(place)} names {what}, the first line {len(rows[0])} different ones")
    return replace(raw, lists_NK=np.array(rows))


def _numbered(raw: Raw, order: tuple[str, ...] | None, num_classes: int) -> Raw:
    """Lists of names as lists of numbers; a class twice in a line is refused."""
    if raw.lists_NK is not None and not _by_number(raw):
        if order is None:
            raise ResultError(f"{raw.path} names classes, and no file says in which order they are numbered")
        places = {name: place for place, name in enumerate(order)}
        raw = _parted(raw, order)
        assert raw.lists_NK is not None
        odd = list(dict.fromkeys(name for name in raw.lists_NK.ravel().tolist() if name not in places))
        if odd:
            raise ResultError(
                f"{raw.path} names {len(odd)} classes that are none of the others' ({few(odd)})"
            )
        numbers = np.array([[places[name] for name in row] for row in raw.lists_NK.tolist()], np.int64)
        raw = replace(raw, lists_NK=numbers)
    if isinstance(raw.scores, results.TopK):
        ordered = np.sort(np.asarray(raw.scores.classes_NK), axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if twice.any():
            line = int(twice.argmax())
            row = ordered[line]
            repeated = int(row[1:][row[1:] == row[:-1]][0])
            raise ResultError(f"{raw.path}: line {line} names class {repeated} twice")
        return replace(raw, num_classes=num_classes)
    return raw
