"""Files below a root by their names: without suffix, in another case, nearly so, or wherever they lie."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.base import list_folder, unsafe
from smelt.data.formats.containers.jsons import open_regular
from smelt.data.formats.lists.columns import SUFFIXES, looks_like_image
from smelt.data.formats.tree.census import Walk
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import joined, normalised, split_of, words_of
from smelt.errors import DataError

# How files are called otherwise, the nearest way first.
WAYS = (
    "the only file that is called so, but for case, suffix or signs around it",
    "the only file that is called so, but for zeros before numbers",
    "the only file with that number",
)
MOST_BYTES = 1 << 28  # of one list
_TRIED = 40  # names by which a folder is told
_QUICK = 8  # of them, one of which has to be there for the folder to be listed
_ENDINGS = ("", *sorted({case for end in SUFFIXES for case in (end, end.upper())}))
# Words of folders whose images show no picture but what is marked in it; their names are those of the images.
_MARKS = frozenset(
    {"mask", "masks", "trimap", "trimaps", "annotation", "annotations", "labels", "segmentation", "gt",
     "segmentations", "groundtruth", "depth", "edges", "saliency"}
)  # fmt: skip
_DIGITS = re.compile(r"[0-9]+")
_NUMBERED = re.compile(r"[^0-9]*([0-9]+)[^0-9]*")
_QUERY = re.compile("(" + "|".join(map(re.escape, SUFFIXES)) + r")[?#].*$", re.IGNORECASE)

Key = TypeVar("Key", bound=Hashable)


def by_key(paths: Iterable[bytes], keys: Callable[[bytes], Iterable[Key]]) -> dict[Key, list[bytes]]:
    """Key → the paths of which `keys` gives it."""
    found: dict[Key, list[bytes]] = {}
    for path in paths:
        for key in keys(path):
            found.setdefault(key, []).append(path)
    return found


def name_of(path: bytes) -> bytes:
    """The last part of a path."""
    return path.rpartition(b"/")[2]


def _only(found: Sequence[bytes], otherwise: bytes) -> bytes:
    return found[0] if len(found) == 1 else otherwise


def _pictures(root: bytes) -> Iterator[bytes]:
    """The paths of all files below a root that are called as images are."""
    for folder in Walk(Path(os.fsdecode(root))):
        yield from (path for path in folder.paths() if looks_like_image(decode(path)))


def _stem(name: bytes) -> bytes:
    return os.path.splitext(name)[0]


class Loose:
    """Names of files that differ from the wanted ones in case or Unicode form; each folder listed once."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._known: dict[bytes, tuple[set[bytes], dict[str, list[bytes]]]] = {}

    def find(self, path: bytes) -> bytes:
        """The path of a file that is there, if there is exactly one; else `path` itself."""
        found = b""
        for part in path.split(b"/"):
            if found not in self._known:
                names = list_folder(self.root, found)
                self._known[found] = names, by_key(names, lambda name: (_form(name),))
            names, alike = self._known[found]
            name = part if part in names else _only(alike.get(_form(part), ()), b"")
            if not name:
                return path
            found = joined(found, name)
        return found


def _form(name: bytes) -> str:
    return unicodedata.normalize("NFC", decode(name)).casefold()


class Anywhere:
    """Files by their name alone, with or without its suffix, where only one below the root is called so."""

    def __init__(self, root: bytes) -> None:
        self.root = root

    @cached_property
    def _known(self) -> dict[bytes, list[bytes]]:
        return by_key(_pictures(self.root), lambda path: (name_of(path), _stem(name_of(path))))

    def find(self, path: bytes) -> bytes:
        """The path of the one file that is called so; else `path` itself."""
        return _only(self._known.get(name_of(path), ()), path)


class Near:
    """Files that are called nearly as a list says, each found once; by their folder too: many are `0001`.

    Spreadsheets take the zeros from `00012` and make `12.0` of numbers; names are copied with another suffix,
    another case, in quotes, or with what stood behind a `?` in an address. way: the place in WAYS of how
    names may differ.
    """

    def __init__(self, root: bytes, split: str) -> None:
        self.way = 0
        self.split = "train" if split == "all" else split
        self._known: tuple[dict[str, dict[str, list[bytes]]], ...] = ({}, {}, {})  # key → folder → paths
        self._ends: dict[str, set[str]] = {}  # the last parts of folders → the folders
        for path in _pictures(root):
            folder, _, name = decode(path).rpartition("/")
            own = folder.casefold()
            if own not in self._ends.get(own, ()):
                for place in (0, *(at + 1 for at, sign in enumerate(own) if sign == "/")):
                    self._ends.setdefault(own[place:], set()).add(own)
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
            found = [
                one
                for one in found
                if split_of(decode(one).rpartition("/")[0].partition("/")[0]) == self.split
            ]
        return _only(found, path)


def _top(path: bytes) -> str:
    return decode(path.rpartition(b"/")[0].partition(b"/")[0])


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


@dataclass
class Images:
    """The images below a root by folder and name; folders are listed when they are first asked for."""

    root: Path
    _known: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)

    def find(self, folder: bytes, name: bytes) -> bytes | None:
        """The path of `name` in `folder`; None where there is none, or more than one without its suffix."""
        path = normalised(joined(folder, name))
        if not path or unsafe(path):
            return None
        top, slash, own = path.rpartition(b"/")
        there = self._names(top).get(own)
        return top + slash + there if there else None

    def _names(self, folder: bytes) -> dict[bytes, bytes]:
        """Names of the images in a folder, by themselves and without their suffix where that is enough."""
        if folder not in self._known:
            names = [name for name in list_folder(self.root, folder) if looks_like_image(decode(name))]
            stems = by_key(names, lambda name: (_stem(name),))
            self._known[folder] = {stem: found[0] for stem, found in stems.items() if len(found) == 1}
            self._known[folder] |= {name: name for name in names}
        return self._known[folder]

    def best(self, folders: Sequence[bytes], names: Sequence[bytes]) -> tuple[bytes, int]:
        """(the first of the folders in which most of the names are, how many of `tried(names)` are there)."""
        sample = tried(names)
        quick = sample[:: max(1, len(sample) // _QUICK)]
        there = [folder for folder in folders if any(self._is_there(folder, name) for name in quick)]
        there = [folder for folder in there if not _marks(folder)] or there
        counts = [sum(self.find(folder, name) is not None for name in sample) for folder in there]
        most = max(counts, default=0)
        return there[counts.index(most)] if counts else b"", most

    def _is_there(self, folder: bytes, name: bytes) -> bool:
        """Whether there is such a file, without listing the folder."""
        path = os.path.join(os.fsencode(self.root), folder, name)
        endings = ("",) if looks_like_image(decode(name)) else _ENDINGS
        return b"\0" not in path and any(os.path.isfile(path + os.fsencode(end)) for end in endings)


def _marks(folder: bytes) -> bool:
    words = words_of(decode(folder))
    return not _MARKS.isdisjoint(words) and "images" not in words


def tried(names: Sequence[bytes]) -> list[bytes]:
    """Some of the names, from the whole of a list."""
    return list(names[:: max(1, len(names) // _TRIED)][: 2 * _TRIED])


def folders_of(glimpse: Glimpse) -> list[bytes]:
    """Folders in which names may be looked for: the root, those in it and those in these, as bytes."""
    return [os.fsencode(at) for at, _ in glimpse.tree]


def lines_of(path: Path) -> list[tuple[int, bytes]]:
    """(number from 1, line without blanks around it) of a text; blank lines and `#` comments left out."""
    with open_regular(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise DataError(f"{path} has more than {MOST_BYTES >> 20} MiB: no list of names is")
    lines = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n")
    return [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip() and line[:1] != b"#"]
