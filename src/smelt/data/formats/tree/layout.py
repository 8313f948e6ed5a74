"""Which format a folder has, told from the first names in it; nothing large is read and nothing imported.

Every format that can be told by its looks has `recognise(glimpse)` in its module: what it saw in a few words,
or "". The most particular one that says yes is taken (`Format.order`), and the user is told.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

from smelt.data.formats.base import IMAGE_SUFFIXES, if_there
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.registry import AUTO, formats, reader
from smelt.data.formats.tree.census import Walk, kind_of
from smelt.data.formats.tree.names import hidden, no_class, numbered
from smelt.data.images.kinds import sniff
from smelt.errors import DataError, short
from smelt.files.opening import read_head

MOST = 5000  # names of a folder that are looked at
HEAD = 1 << 16  # bytes of a file that are looked at

Names = tuple[list[str], list[str]]  # folders, files


@dataclass(frozen=True)
class Layout:
    """format: what to read the folder as. seen: why, in words. others: further formats it could be."""

    format: str
    seen: str
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        other = f" (or {', '.join(self.others)})" if self.others else ""
        return f"{self.format}: {self.seen}; -o data.format=… takes another{other}"


class Glimpse:
    """The first names in the folders below a root, each folder listed when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[str, Names] = {}

    def folders(self, below: str = "") -> list[str]:
        """Visible folders (and links to folders) in `below`, in order; at most MOST names are looked at."""
        return self._list(below)[0]

    def files(self, below: str = "") -> list[str]:
        """Visible files in `below`, in order; at most MOST names are looked at."""
        return self._list(below)[1]

    def head(self, path: str, size: int = HEAD) -> bytes:
        """The first bytes of a file; b"" where it cannot be read."""
        try:
            return read_head(os.path.join(self.root, path), size)
        except OSError:
            return b""

    @cached_property
    def tree(self) -> list[tuple[str, list[str]]]:
        """(folder, its files) of the root, its folders and theirs, the first 50 of each."""
        found = [("", self.files())]
        for first in self.folders()[:50]:
            found.append((first, self.files(first)))
            found += [(f"{first}/{second}", self.files(f"{first}/{second}"))
                      for second in self.folders(first)[:50]]  # fmt: skip
        return found

    def _list(self, below: str) -> Names:
        if below not in self._listed:
            path = os.path.join(self.root, below)
            nothing: Names = ([], [])
            self._listed[below] = if_there(partial(_listed, path), path, nothing)
        return self._listed[below]


def classes_seen(glimpse: Glimpse) -> int:
    """How many folders with images could be classes, in the root or in the folders of splits and parts."""
    having = set()
    for folder, files in glimpse.tree:
        if any(name.lower().endswith(IMAGE_SUFFIXES) for name in files):
            having.add(next((part for part in folder.split("/") if part and not no_class(part)), ""))
    found = sorted(having - {""})
    return 0 if numbered(found) else len(found)


def _listed(path: str) -> Names:
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(path) as entries:
        for entry in islice(entries, MOST):
            if not hidden(os.fsencode(entry.name)):
                folder = if_there(entry.is_dir, entry.path, False)  # a link in a circle is none
                (folders if folder else files).append(entry.name)
    return sorted(folders), sorted(files)


def check_root(root: Path) -> None:
    """Raise DataError where the folder of the data set is none, with what is there instead."""
    if root.is_dir():
        return
    if root.is_file():
        raise DataError(
            f"data.root: {root} is a file; it takes the folder of the data set: -o data.root={root.parent}"
        )
    tried = "" if root.is_absolute() else f" (looked for {short(os.path.abspath(root))})"
    raise DataError(
        f"data.root: there is no folder {short(str(root))}{tried}{_how_far(root)}. It takes the folder "
        "of the data set (relative to where smelt is started): -o data.root=FOLDER"
    )


def _how_far(root: Path) -> str:
    """How far the path of a folder that is not there leads, and what it was probably to be."""
    if root.parts[:1] and root.parts[0].startswith("~"):
        return f"; the shell left ~ as it is, which may be {short(os.path.expanduser(root))}"
    there = next((parent for parent in root.parents if parent.is_dir()), None)
    if there is None:
        return ""
    missing = root.relative_to(there).parts[0]
    try:
        with os.scandir(there) as items:
            folders = [item.name for item in islice(items, MOST) if os.path.isdir(item.path)]
    except OSError:
        folders = []
    near = difflib.get_close_matches(missing[:100], folders, n=1, cutoff=0.55)
    meant = f" but {short(near[0])!r}" if near else ""
    whose = "this folder" if there == Path(".") else short(str(there))
    return f"; {whose} has no {short(missing)!r}{meant}"


def recognise(root: Path) -> Layout:
    """The layout of the folder `root`. DataError where it has none that is known, with what is there."""
    check_root(root)
    glimpse = Glimpse(root)
    found: list[tuple[str, str]] = []
    for name, one in reversed(formats().items()):
        if (found and one.dear) or not (looks := getattr(reader(name), "recognise", None)):
            continue
        if seen := looks(glimpse):
            found.append((name, seen))
    if not found:
        raise DataError(
            f"data.root: {root} holds no images or lists that smelt knows: {what_is_there(glimpse)}"
            f"{_all_empty(glimpse)}"
            f"{of_another_kind(glimpse) or _of_which_kinds(glimpse)}"
        )
    return Layout(*found[0], others=tuple(name for name, _ in found[1:]))


def what_is_there(glimpse: Glimpse, most: int = 6) -> str:
    """The first names in the root, in words."""
    folders, files = glimpse.folders(), glimpse.files()
    if not folders and not files:
        return "it is empty (but for hidden files)"
    names = [f"{name}/" for name in folders[:most]] + files[:most]
    rest = len(folders) + len(files) - len(names)
    return f"it has {', '.join(names)}" + (f" and {rest} more" if rest else "")


def _all_empty(glimpse: Glimpse) -> str:
    """That no folder holds a file, as where a download or a copy was cut short; "" where one does."""
    folders = list(islice(Walk(glimpse.root), MOST))
    if len(folders) < 2 or len(folders) == MOST or any(folder.files for folder in folders):
        return ""
    return (
        f". All {len(folders) - 1} folders in it are empty (but for hidden files): was a download or a copy "
        f"cut short?"
    )


# Names of files that hold images and labels in a way of their own, and what they are.
_OTHERS = (
    (re.compile(r"idx[13]-ubyte"), "MNIST's files of its own kind (idx): write the images as PNG"),
    (re.compile(r"_[Xy]\.bin$"), "binary files of STL-10: write the images as PNG"),
    (
        re.compile(r"\.mat$"),
        "MATLAB's files (scipy.io.loadmat reads them): write the images as PNG",
    ),
    (re.compile(r"\.(h5|hdf5)$"), "HDF5 files: write the images as PNG"),
    (re.compile(r"\.tfrecords?(-\d+-of-\d+)?$"), "TFRecords: write the images as PNG or into tars"),
    (re.compile(r"\.(mdb|lmdb)$"), "an LMDB: write the images as PNG or into tars"),
    (
        re.compile(r"data_batch_1$|^train$"),
        "CIFAR's batches (cifar_n reads them beside noisy labels): write them as PNG",
    ),
)


def of_another_kind(glimpse: Glimpse) -> str:
    """Files that are known and not read, with what to do, behind a full stop; "" for none."""
    for at, files in glimpse.tree:
        for name in files:
            for pattern, what in _OTHERS:
                if pattern.search(name):
                    path = f"{at}/{name}" if at else name
                    return f". {path}: {what}, a folder for each class, or with a list of path and label"
    return ""


def _of_which_kinds(glimpse: Glimpse) -> str:
    """What the first files are by content, with what to do about it."""
    kinds: dict[str, int] = {}
    for at, files in glimpse.tree:
        for name in files[:20]:
            kind = sniff(glimpse.head(f"{at}/{name}" if at else name, 1024))
            kinds[kind.why or kind.kind] = kinds.get(kind.why or kind.kind, 0) + 1
    if not kinds:  # they lie deeper
        deeper = (path for folder in islice(Walk(glimpse.root), MOST) for path in folder.paths())
        for kind in map(partial(kind_of, glimpse.root), islice(deeper, 20)):
            kinds[kind.why or kind.kind] = kinds.get(kind.why or kind.kind, 0) + 1
    if not kinds:
        return ""
    shown = ", ".join(
        f"{count} × {why}" for why, count in sorted(kinds.items(), key=lambda kind: -kind[1])[:4]
    )
    packed = any(why.startswith(("zip", "rar", "7z")) for why in kinds)
    return f". By content: {shown}" + ("; unpack the archives first" if packed else "")


def resolve(settings: FormatSettings, root: Path) -> tuple[FormatSettings, Layout | None]:
    """`settings` with the format that the folder has, where they leave it open; and how it was recognised."""
    if settings.format != AUTO:
        return settings, None
    layout = recognise(root)
    # settings that only lists have say that there is one, whatever else the folder looks like
    for name in dict.fromkeys((layout.format, *layout.others, "csv")):
        try:
            resolved = type(settings).model_validate(settings.model_dump() | {"format": name})
        except ValueError:
            continue
        others = tuple(other for other in (layout.format, *layout.others) if other != name)
        seen = layout.seen if name == layout.format else "as its settings are given"
        return resolved, Layout(name, seen, others)
    try:
        values = settings.model_dump() | {"format": layout.format}
        return type(settings).model_validate(values), layout
    except ValueError as error:  # a setting that says nothing to what was found
        text = str(error).partition("Value error, ")[2].partition(" [type=")[0] or str(error)
        raise DataError(f"data: {root} looks like {layout}. But {text}") from error
