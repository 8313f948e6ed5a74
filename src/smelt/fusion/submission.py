"""The challenge's submission: a zip with `predictions.txt`, a line for each test image.

test000001.jpg<TAB>1   2   3   4   5        most confident first, classes from 0
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import ArrayLike

from smelt.errors import DataError

NAME = "predictions.txt"


def names_of(paths: Sequence[str]) -> list[str]:
    """What files are called in a submission: their last name, their whole path where that repeats.

    DataError for a name that readers, who split lines at white space, could not read.
    """
    names = [PurePosixPath(path).name for path in paths]
    if len(set(names)) < len(names):
        names = list(paths)
    for name in names:
        if not name or any(character.isspace() for character in name):
            raise DataError(f"{name!r} cannot go into a submission: readers split lines at white space")
    return names


def predictions(paths: Sequence[str], classes_NK: ArrayLike) -> str:
    """The text of `predictions.txt`. Files go by their last name, by their whole path where that repeats."""
    return lists_text(names_of(paths), classes_NK)


def lists_text(names: Sequence[str], classes_NK: ArrayLike) -> str:
    """Lines of a name, a tab and the classes, the most confident first."""
    lists = np.asarray(classes_NK)
    assert lists.ndim == 2 and len(lists) == len(names)
    line = "%s\t" + "   ".join(["%d"] * lists.shape[1]) + "\n"
    return "".join([line % (name, *row) for name, row in zip(names, lists.tolist())])


def packed(text: str) -> bytes:
    """The zip file; equal text gives equal bytes (a fixed time, no compression that may differ)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        member = zipfile.ZipInfo(NAME, date_time=(1980, 1, 1, 0, 0, 0))
        member.create_system = 3
        member.external_attr = 0o644 << 16
        archive.writestr(member, text)
    return buffer.getvalue()
