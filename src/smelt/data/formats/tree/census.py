"""Every file below a root, each with what became of it: an image of the catalogue, read, or left out and why.

A walk follows links to folders and files that stay below the root (everywhere with `links: anywhere`) and
names the others. Hidden files, and what systems and tools leave behind, are never data. What a file is its
content says: names of images that are known are believed (`check` decodes every one), all others are opened.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, combine, decode
from smelt.data.formats.base import IMAGE_SUFFIXES, Report, if_there
from smelt.data.formats.tree.names import hidden, left_by_a_program
from smelt.data.formats.tree.samefiles import Named
from smelt.data.images.kinds import HEIC_SUFFIXES, Sniffed, sniff
from smelt.files.opening import read_head

SHOWN = 10  # names of each reason that are kept
MOST_LINKS = 8  # to one folder that are followed: folders that link to one another are no end of paths
HEAD = 1024  # bytes that a kind is told by

HIDDEN = "hidden, or left behind by a system or tool"
HIDDEN_FOLDER = "a hidden folder without a file"
LEADS_OUT = "a link that leads out of the folder (data.links=anywhere follows it)"
NOWHERE = "a link to nothing"
LOOP = "a link to a folder that it lies in"
AGAIN = "a further link to a folder that others lead to"
NO_FILE = "no plain file: a pipe, a device or a socket"
EMPTY = "an empty folder"
OF_A_RUN = "a work folder of smelt"
NOT_LISTED = "an image that is not in the list"
KEPT = "half a download, or kept of another file by a program"
SIDECAR = "read beside its image"

_MOST_RUNS = 1000  # work folders side by side
_OF_A_RUN = {b"artifacts", b"events.jsonl"}  # what a work folder is known by
_SUFFIXES = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)
MOST_KINDS = 30  # different reasons; what comes later is summed up


@dataclass(frozen=True)
class Folder:
    """path: below the root, b"" for the root itself. files, folders: the names in it that count as data.

    inodes: the numbers of the files on their disk, links followed.
    """

    path: bytes
    files: list[bytes]
    folders: list[bytes]
    inodes: list[int] = field(default_factory=list)

    def paths(self) -> list[bytes]:
        """The paths of its files below the root."""
        return [self.path + b"/" + name for name in self.files] if self.path else list(self.files)


@dataclass
class Tally:
    """How many, and the first of them. what: "files", "folders", or "members" of archives and lists."""

    what: str = "files"
    count: int = 0
    first: list[bytes] = field(default_factory=list)

    def add(self, path: bytes) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(path)


class Walk:
    """The folders below a root, the outer ones first, in the order of their names; `odd` fills on the way.

    odd: told (why, path) of everything that is passed over. Raises StorageError where the machine keeps a
    folder from being listed.
    """

    def __init__(
        self, root: Path, links: str = "inside", odd: Callable[[str, bytes], None] = lambda why, path: None
    ) -> None:
        self.base = os.fsencode(root)
        self.real = os.path.realpath(self.base)
        self.anywhere = links == "anywhere"
        self.odd = odd
        self._times: Counter[tuple[int, int]] = Counter()  # folder → links to it that were followed
        self.followed: list[bytes] = []  # links to folders that were followed …
        self.out_folders: list[bytes] = []  # … and that were not, as they lead out

    def __iter__(self) -> Iterator[Folder]:
        pending: list[tuple[bytes, tuple[tuple[int, int], ...]]] = [(b"", ())]
        while pending:
            path, above = pending.pop()
            where = os.path.join(self.base, path) if path else self.base
            entries, own = _listed(where)
            if path and {entry.name for entry in entries} >= _OF_A_RUN:
                self.odd(OF_A_RUN, path)
                continue
            if path and not entries:
                self.odd(EMPTY, path)
            found = self._sort(path, entries, (*above, own))
            if path and (runs := self._only_runs(found)):  # `work` of work/NAME is no folder of the data set
                for run in runs:
                    self.odd(OF_A_RUN, run)
                continue
            yield found
            pending += [
                (os.path.join(path, name), (*above, own)) for name in sorted(found.folders, reverse=True)
            ]

    def _only_runs(self, folder: Folder) -> list[bytes]:
        """The folders in one that holds work folders of smelt and nothing else; none in any other."""
        if folder.files or len(folder.folders) > _MOST_RUNS:
            return []
        paths = [os.path.join(folder.path, name) for name in folder.folders]
        marks = (os.path.join(self.base, path, mark) for path in paths for mark in _OF_A_RUN)
        return paths if all(map(os.path.exists, marks)) else []

    def _sort(
        self, path: bytes, entries: list[os.DirEntry[bytes]], above: tuple[tuple[int, int], ...]
    ) -> Folder:
        files: dict[bytes, int] = {}
        folders: list[bytes] = []
        for entry in entries:
            if hidden(entry.name):
                self._pass_over(entry, os.path.join(path, entry.name))
            elif entry.is_symlink():
                kind, inode = self._link(entry, os.path.join(path, entry.name), above)
                if kind == "folder":
                    folders.append(entry.name)
                elif kind:
                    files[entry.name] = inode
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                files[entry.name] = entry.inode()
            else:
                self.odd(NO_FILE, os.path.join(path, entry.name))
        names = sorted(files)
        return Folder(path, names, folders, [files[name] for name in names])

    def _link(
        self, entry: os.DirEntry[bytes], below: bytes, above: tuple[tuple[int, int], ...]
    ) -> tuple[str, int]:
        """("folder" or "file" if the link is to be followed, else ""; the inode that it leads to)."""
        status = if_there(partial(os.stat, entry.path), entry.path, None)
        if status is None:
            self.odd(NOWHERE, below)
            return "", 0
        target = os.path.realpath(entry.path)
        if not self.anywhere and os.path.commonpath([self.real, target]) != self.real:
            self.odd(LEADS_OUT, below)
            if stat.S_ISDIR(status.st_mode):
                self.out_folders.append(below)
            return "", 0
        if stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) in above:
                self.odd(LOOP, below)
                return "", 0
            if self._times[status.st_dev, status.st_ino] >= MOST_LINKS:
                self.odd(AGAIN, below)
                return "", 0
            self._times[status.st_dev, status.st_ino] += 1
            self.followed.append(below)
            return "folder", status.st_ino
        if not stat.S_ISREG(status.st_mode):
            self.odd(NO_FILE, below)
            return "", 0
        return "file", status.st_ino

    def _pass_over(self, entry: os.DirEntry[bytes], below: bytes) -> None:
        """Count what is hidden; of a hidden folder the files and links in it, which are not followed."""
        if not entry.is_dir(follow_symlinks=False):
            self.odd(HIDDEN, below)
            return
        empty = True
        for at, folders, names in os.walk(entry.path):
            links = [name for name in folders if os.path.islink(os.path.join(at, name))]
            for name in (*names, *links):
                empty = False
                self.odd(HIDDEN, os.path.relpath(os.path.join(at, name), self.base))
        if empty:
            self.odd(HIDDEN_FOLDER, below)


def _listed(path: bytes) -> tuple[list[os.DirEntry[bytes]], tuple[int, int]]:
    """The entries of a folder and its identity; nothing where it has gone meanwhile."""

    def listed() -> tuple[list[os.DirEntry[bytes]], tuple[int, int]]:
        with os.scandir(path) as entries:
            found = list(entries)
        status = os.stat(path)
        return found, (status.st_dev, status.st_ino)

    nothing: list[os.DirEntry[bytes]] = []
    return if_there(listed, path, (nothing, (0, 0)))


def kind_of(root: Path | bytes, path: bytes) -> Sniffed:
    """What the file `path` below `root` is by its first bytes. StorageError where it cannot be read."""
    return sniff(_head(root, path))


def _head(root: Path | bytes, path: bytes) -> bytes:
    """The first bytes of a file, b"" where there are none."""
    where = os.path.join(os.fsencode(root), path)
    return if_there(lambda: read_head(where, HEAD), where, b"")


def what_is(root: Path | bytes, path: bytes) -> str:
    """What a file is that is no image by its content, in words; "" for an image that can be read."""
    kind = kind_of(root, path)
    if kind.readable or kind.kind == "HEIC":
        return ""
    if kind.kind == "text" and _head(root, path).startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS (git lfs pull fetches the file)"
    return kind.why


def is_image(root: Path | bytes, path: bytes) -> bool:
    """Whether a file is an image that smelt reads, here or where an extra is installed (HEIC).

    Files with a usual suffix are believed: whether they are sound `check` finds out. What a download or an
    editor left behind (`x.jpg.part`, `x.jpg~`) is none: it is half an image, or one that is there already.
    """
    if path.lower().endswith(_SUFFIXES):
        return True
    if left_by_a_program(path):
        return False
    kind = kind_of(root, path)
    return kind.readable or kind.kind == "HEIC"


def why_not(root: Path | bytes, path: bytes) -> str:
    """Why a file is left out, told by its content."""
    if left_by_a_program(path):
        return KEPT
    kind = kind_of(root, path)
    if kind.readable or kind.kind == "HEIC" or path.lower().endswith(_SUFFIXES):
        return NOT_LISTED
    if kind.image:
        return f"an image that is not read ({kind.kind})"
    return "not an image" + (f" ({kind.kind})" if kind.kind != "unknown" else "")


class Accounts:
    """What became of every file below the root, once a reader has filled the catalogue."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.images = self.read = self.found = self.heic = 0
        self.named = Named()

    @classmethod
    def of(cls, root: Path, links: str, hashes_N: np.ndarray[Any, Any], report: Report) -> Accounts:
        """hashes_N: of the paths of all images (`Paths.hashes`). One listing a folder; files that are neither
        images nor spoken of by the reader are opened, to tell what they are."""
        accounts = cls()
        spoken = {path: why for why, paths in report.left_out.items() for path in paths}
        known_N = np.sort(hashes_N)
        walk = Walk(root, links, lambda why, path: accounts._odd(why, path, report))
        seen: set[bytes] = set()
        for folder in walk:
            paths = folder.paths()
            accounts.found += len(paths)
            own_N, used_N = _among(known_N, folder)
            accounts.named.add(folder.inodes, own_N, used_N)
            for path, used in zip(paths, used_N.tolist()):
                accounts._file(root, path, used, spoken, seen, report)
        for path, why in spoken.items():  # members of archives, rows of lists
            if path not in seen:
                accounts.leave_out(why, path, "members")
        if out := walk.out_folders:
            report.warn(
                f"{len(out)} link(s) to folders lead out of the data set's and are not followed: "
                f"{', '.join(map(decode, out[:3]))}{' …' if len(out) > 3 else ''}. If they are yours: "
                f"-o data.links=anywhere"
            )
        if walk.followed:
            shown = ", ".join(map(decode, walk.followed[:3]))
            report.note(f"{len(walk.followed)} link(s) to folders are followed: {shown}")
        return accounts

    def _odd(self, why: str, path: bytes, report: Report) -> None:
        folder = why in (EMPTY, HIDDEN_FOLDER, OF_A_RUN)
        self.found += not folder
        if not folder and path in report.used:  # a list that is reached by a link, or has a hidden name
            self.read += 1
            return
        self.leave_out(why, path, "folders" if folder else "files")

    def _file(
        self, root: Path, path: bytes, used: bool, spoken: dict[bytes, str], seen: set[bytes], report: Report
    ) -> None:
        if path in spoken:
            seen.add(path)
            self.leave_out(spoken[path], path)
        elif used:
            self.images += 1
            self.heic += path.lower().endswith(HEIC_SUFFIXES)
        elif path in report.used or report.reads(path):
            self.read += 1
        else:
            self.leave_out(why_not(root, path), path)

    def leave_out(self, why: str, path: bytes, what: str = "files") -> None:
        """Count one that is left out."""
        if (why, what) not in self.tallies and len(self.tallies) >= MOST_KINDS:
            why = "of further kinds"
        self.tallies.setdefault((why, what), Tally(what)).add(path)

    def summary(self) -> dict[str, Any]:
        """For `index.json`: found = images + read + those left out whose `what` is "files".

        heic: how many of the images are HEIC by name.
        """
        order = sorted(self.tallies.items(), key=lambda item: (-item[1].count, item[0]))
        return {
            "found": self.found,
            "images": self.images,
            "read": self.read,
            "heic": self.heic,
            "left_out": [
                {
                    "why": why,
                    "what": what,
                    "count": tally.count,
                    "first": [shown(path) for path in tally.first],
                }
                for (why, what), tally in order
            ],
        }


def _among(known_N: np.ndarray[Any, Any], folder: Folder) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Hashes of the paths of a folder's files, and which of them are images of the catalogue."""
    if not len(known_N) or not folder.files:
        return np.zeros(len(folder.files), np.uint64), np.zeros(len(folder.files), np.bool_)
    names = ByteStrings.of(folder.files).hashes()
    own = combine(np.repeat(ByteStrings.of([folder.path]).hashes(), len(names)), names)
    place = np.minimum(np.searchsorted(known_N, own), len(known_N) - 1)
    return own, known_N[place] == own


def shown(path: bytes) -> str:
    """A path as text that any JSON reader takes: bytes that are not UTF-8 as \\xNN."""
    return path.decode("utf-8", "backslashreplace")
