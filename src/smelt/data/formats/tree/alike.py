"""Files that are called nearly as a list says, where each is found once: the last that is tried.

Spreadsheets take the zeros from `00012` and make `12.0` of numbers; names are copied with another suffix,
another case, in quotes, or with what stood behind a `?` in an address.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.lists.columns import SUFFIXES, looks_like_image
from smelt.data.formats.tree.census import Walk
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import split_of

# How files are called otherwise, the nearest way first.
WAYS = (
    "the only file that is called so, but for case, suffix or signs around it",
    "the only file that is called so, but for zeros before numbers",
    "the only file with that number",
)
_DIGITS = re.compile(r"[0-9]+")
_NUMBERED = re.compile(r"[^0-9]*([0-9]+)[^0-9]*")
_QUERY = re.compile("(" + "|".join(map(re.escape, SUFFIXES)) + r")[?#].*$", re.IGNORECASE)


def _keys(name: str, listed: bool) -> tuple[str, str, str]:
    """What a name is looked up by, for each of WAYS; "" where it has none."""
    text = unicodedata.normalize("NFC", name).casefold()
    stem = os.path.splitext(text)[0] if looks_like_image(text) else text
    if listed and (whole := re.fullmatch(r"([0-9]+)\.0+", stem)):
        stem = whole[1]
    plain = _DIGITS.sub(lambda digits: digits[0].lstrip("0") or "0", stem)
    number = _NUMBERED.fullmatch(plain)
    counts = number is not None and (not listed or plain.isdigit())
    return stem, plain, number[1] if number and counts else ""


def _bare(path: bytes) -> str:
    """A listed path without quotes and blanks around it and without the query of an address."""
    text = decode(path).replace("\\", "/").strip(" \t'\"`")
    return _QUERY.sub(r"\1", text)


class Near:
    """Files below the root by what their names come down to, and by their folder: many are called `0001`."""

    def __init__(self, root: bytes, split: str) -> None:
        self.way = 0
        self.split = "train" if split == "all" else split
        self._known: tuple[dict[str, dict[str, list[bytes]]], ...] = ({}, {}, {})  # key → folder → paths
        self._ends: dict[str, set[str]] = {}  # the last parts of folders → the folders
        for folder in Walk(Path(os.fsdecode(root))):
            own = decode(folder.path).casefold()
            for end in _ends(own):
                self._ends.setdefault(end, set()).add(own)
            for path in folder.paths():
                name = decode(path.rpartition(b"/")[2])
                if looks_like_image(name):
                    for known, key in zip(self._known, _keys(name, listed=False)):
                        known.setdefault(key, {}).setdefault(own, []).append(path)

    def find(self, path: bytes) -> bytes:
        """The path of the one file that is meant; else `path` itself."""
        folder, _, name = _bare(path).rpartition("/")
        key = _keys(name, listed=True)[self.way]
        there = self._known[self.way].get(key, {}) if key else {}
        if len(there) > 1 and folder:
            there = {own: there[own] for own in there.keys() & self._ends.get(folder.casefold(), set())}
        found = [one for own in there.values() for one in own]
        if len(found) > 1:
            found = [one for one in found if split_of(_folder(one).partition("/")[0]) == self.split]
        return found[0] if len(found) == 1 else path


def _ends(folder: str) -> list[str]:
    """`a/b/c`, `b/c` and `c`."""
    parts = folder.split("/")
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _folder(path: bytes) -> str:
    return decode(path.rpartition(b"/")[0])


def near(root: bytes, sample: Sequence[bytes], split: str) -> Near | None:
    """What finds the files of `sample`, each another one; None where nothing does.

    Where only case, suffix or signs are other, more than half of them are enough; else all have to be there.
    Paths that lead out of their folder are left to be refused.
    """
    wanted = set(sample)
    if any(b".." in path.split(b"/") for path in wanted) or not _likely(root, wanted):
        return None
    known = Near(root, split)
    for way in range(len(WAYS)):
        known.way = way
        pairs = [(path, known.find(path)) for path in wanted]
        found = [meant for path, meant in pairs if meant != path]
        enough = 2 * len(found) > len(pairs) if not way else len(found) == len(pairs)
        if found and enough and len(set(found)) == len(found):
            return known
    return None


def _likely(root: bytes, wanted: set[bytes]) -> bool:
    """Whether a glance at the first files finds one that may be meant: a whole walk is dear."""
    tree = Glimpse(Path(os.fsdecode(root))).tree
    there = {(way, key) for _, files in tree for name in files if looks_like_image(name)
             for way, key in enumerate(_keys(name, listed=False)) if key}  # fmt: skip
    names = (_bare(path).rpartition("/")[2] for path in wanted)
    return any((way, key) in there for name in names for way, key in enumerate(_keys(name, listed=True)))
