"""Tables of scores in other shapes than a column a class: all scores of an image in one cell, or a line for
each image and class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ResultError
from smelt.fusion.scores import textfiles
from smelt.fusion.scores.arrayfiles import Raw, hinted, stacked
from smelt.fusion.scores.identity import few, in_order
from smelt.fusion.scores.textfiles import ID_NAMES, INDEX_NAMES, LABEL_NAMES, Text, plain

_BRACKETS = {"[": "]", "(": ")"}


def in_one_cell(text: Text) -> Raw | None:
    """Scores, or lists of classes, in brackets in one cell of each line (`"[0.1, 0.9]"`); None without."""
    places = [place for place, cell in enumerate(text.first) if _bracketed(cell)]
    if len(places) != 1:
        return None
    (place,) = places
    if text.header is not None and len(text.header) != len(text.first):
        raise ResultError(
            f"{text.path} has {len(text.header)} names of columns and {len(text.first)} columns"
        )
    names = [plain(name) for name in text.header or ()]
    others = [p for p in range(len(text.first)) if p != place]
    ids = next((p for p in others if names and names[p] in ID_NAMES), None)
    labels = next((p for p in others if names and names[p] in LABEL_NAMES), None)
    if ids is None:
        ids = next((p for p in others if p != labels), None)
    rows: list[list[str]] = []
    known: list[list[str]] = [[], []]
    for line, cells in text:
        if len(cells) != len(text.first) or not _bracketed(cells[place]):
            raise ResultError(f"{text.path}:{line}: {' '.join(cells)[:60]!r} has no list in brackets")
        rows.append(_parts(cells[place]))
        if len(rows[-1]) != len(rows[0]):
            raise ResultError(
                f"{text.path}:{line} has {len(rows[-1])} in brackets, the lines before {len(rows[0])}"
            )
        for kept, at in zip(known, (ids, labels)):
            kept += [cells[at]] if at is not None else []
    own = tuple(known[0]) or None
    lines = [line for line, _ in text.lines]
    if (lists := _lists(rows)) is not None:
        return Raw(text.path.stem, text.path, lists_NK=lists, ids=own, lines=lines)
    scores = np.stack([_numbers(text, line, row) for line, row in zip(lines, rows)])
    (raw,) = stacked(text.path.stem, text.path, scores, ids=own, lines=lines,
                     labels=np.array(known[1]) if known[1] else None,
                     **hinted(text.header[place] if text.header else ""))  # fmt: skip
    return raw


def _bracketed(cell: str) -> bool:
    return len(cell) > 2 and _BRACKETS.get(cell[0]) == cell[-1]


def _parts(cell: str) -> list[str]:
    return [part.strip("'\"") for part in re.split(r"[,;\s]+", cell[1:-1]) if part]


def _lists(rows: Sequence[Sequence[str]]) -> NDArray[Any] | None:
    """Rows of names, or of whole numbers none of which is twice in a row, as lists of classes (N, K)."""
    if not any(textfiles.is_number(cell) for row in rows for cell in row):
        return np.array(rows)
    if not all(cell.isdecimal() and len(cell) < 10 for row in rows for cell in row):
        return None
    numbers = np.array(rows, np.int64)
    ordered = np.sort(numbers, axis=1)
    # the same classes in every line: a ranking of all columns
    whole = len(rows) > 1 and ordered.shape[1] > 2 and bool((ordered == ordered[0]).all())
    return None if whole or (ordered[:, 1:] == ordered[:, :-1]).any() else numbers


def _numbers(text: Text, line: int, parts: Sequence[str]) -> NDArray[np.float64]:
    try:
        return np.array(parts, np.float64)
    except ValueError:
        odd = next(part for part in parts if not textfiles.is_number(part))
        raise ResultError(f"{text.path}:{line}: {odd[:40]!r} is not a number") from None


def long_form(path: Path, header: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> Raw | None:
    """Lines of an image, a class and a score, as a result with a column for each class; None for others.

    Both images and classes come several times, no pair twice. ResultError where images lack classes.
    """
    start = int(bool(header) and len(rows[0]) == 4 and plain((header or [""])[0]) in INDEX_NAMES)
    if any(len(row) != 3 + start for row in rows):
        return None
    ids, classes, scores = _columns(header[start:] if header else None, [row[start:] for row in rows])
    images = {name: place for place, name in enumerate(dict.fromkeys(ids))}
    if 2 * len(images) > len(ids) or not all(map(textfiles.is_number, scores)):
        return None
    if all(map(textfiles.is_whole, scores)):
        return None  # lists of classes, or labels
    names = in_order(tuple(dict.fromkeys(classes)))
    places = {name: place for place, name in enumerate(names)}
    if 2 * len(names) > len(ids) or len(set(zip(ids, classes))) < len(ids):
        return None
    if len(ids) < len(images) * len(names):
        found: list[set[str]] = [set() for _ in images]
        for image, name in zip(ids, classes):
            found[images[image]].add(name)
        image, place = next(one for one in images.items() if len(found[one[1]]) < len(names))
        lacks = few([name for name in names if name not in found[place]])
        raise ResultError(
            f"{path} has a line for each image and class, but image {image} has {len(found[place])} of "
            f"{len(names)} classes (not {lacks}): write a line for every class, with the score 0 where a "
            f"probability was left out"
        )
    values = np.empty((len(images), len(names)), np.float64)
    values[[images[one] for one in ids], [places[one] for one in classes]] = [
        float(textfiles.number(score) or 0) for score in scores
    ]
    note = f"{path}: a line for each image and class is read as a column for each class"
    (raw,) = stacked(path.stem, path, values, ids=tuple(images), classes=names, notes=(note,))
    return raw


def _columns(
    header: Sequence[str] | None, rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[str], list[str]]:
    """Images, classes and scores: by the names of the columns, else in this order."""
    names = [plain(name) for name in header] if header else []
    ids = next((place for place, name in enumerate(names) if name in ID_NAMES), 0)
    of = next((place for place, name in enumerate(names) if name in LABEL_NAMES and place != ids), None)
    others = [place for place in range(3) if place != ids]
    of = others[0] if of is None else of
    score = next(place for place in others if place != of)
    return [row[ids] for row in rows], [row[of] for row in rows], [row[score] for row in rows]
