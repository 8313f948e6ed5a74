"""Images found by what an export calls them: a path on another machine, a URL, a bare name.

`Finder` looks below the root: first under the folder in which most are, then for ever shorter ends of the
path, at last for the name alone where one file only is called so. What was done is said.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote_to_bytes

from smelt.artifacts.bytestrings import decode, encode
from smelt.data.formats.base import Report, as_bytes, list_folder
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.lists.exported import Rows
from smelt.data.formats.tree.census import Walk
from smelt.data.formats.tree.named import by_key, name_of
from smelt.data.formats.tree.names import joined, normalised, split_of
from smelt.errors import short
from smelt.files.opening import is_kind

LONGEST = 4096  # bytes of a path, by Linux
SAMPLE = 1000  # images by which a folder is chosen
_URL = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]+://[^/]*")
_DRIVE = re.compile(rb"[a-zA-Z]:/")


def local(name: bytes) -> bytes:
    """The path in a URL, or in a path of another system, in one form and without a root of its own.

    `..` and other things that a path may not have stay, to be refused where rows are named.
    """
    if url := _URL.match(name):
        name = unquote_to_bytes(re.split(rb"[?#]", name[url.end() :])[0])
    if b"\\" in name:
        name = name.replace(b"\\", b"/")
    if _DRIVE.match(name):
        name = name[2:]
    return normalised(name).lstrip(b"/")


def _without_suffix(path: bytes) -> bytes:
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + (name.rpartition(b".")[0] or name)


class Finder:
    """The files below `root`, to find images by what an export calls them.

    report: is told how the images were found, and of those that could be several files.
    """

    def __init__(self, settings: FormatSettings, root: Path, report: Report) -> None:
        self.settings, self.root, self.report = settings, root, report
        self.exact = bool(settings.prefix or settings.suffix or settings.paths_from != "auto")
        self._files: dict[bytes, None] = {}
        if settings.check_files:
            walk = Walk(root, settings.links)
            self._files = {path: None for folder in walk for path in folder.paths()}
        self._taken: dict[bytes, tuple[bytes, str]] = {}  # found in another way than asked for

    def there(self, path: bytes) -> bool:
        """Whether there is such a file."""
        if self.settings.check_files:
            return path in self._files
        return is_kind(os.path.join(os.fsencode(self.root), path), stat.S_ISREG)

    def folders(self, rows: Rows, further: Sequence[str] = ()) -> list[bytes]:
        """Folders that the images of a list may lie in: beside it, the usual ones, those of its split."""
        here = as_bytes(rows.path.parent, self.root)
        here = b"" if here == b"." else here
        tail = re.sub(r"^[a-z_]+_", "", rows.path.stem)  # instances_train2017: train2017
        found: dict[bytes, None] = {}
        for top in (here, here.rpartition(b"/")[0], b""):
            own = [name for name in (*further, tail) if name]
            subs = ["", "images", "data", "imgs", *own, *(f"images/{name}" for name in own)]
            for middle in (b"", b"images"):
                subs += [decode(at) for at in self._of_split(joined(top, middle), rows.split, middle)]
            found |= {folder: None for sub in subs if self._is_folder(folder := joined(top, encode(sub)))}
        return list(found)

    def _of_split(self, top: bytes, split: str, middle: bytes) -> list[bytes]:
        names = sorted(list_folder(self.root, top))
        return [joined(middle, n) for n in names if split_of(n.decode("utf-8", "replace")) == split]

    def _is_folder(self, path: bytes) -> bool:
        return is_kind(os.path.join(os.fsencode(self.root), path), stat.S_ISDIR)

    def locate(
        self, rows: Rows, folders: Sequence[bytes], ends: Sequence[Sequence[bytes]] = ()
    ) -> list[bytes]:
        """The path below the root of each image. `ends`: what else each may be called, the surest first."""
        before, behind = encode(self.settings.prefix), encode(self.settings.suffix)
        names = [local(before + name + behind) for name in rows.names]
        if self.exact:
            base = b"" if self.settings.paths_from != "list" else folders[0]
            paths = [joined(base, name) for name in names]
            self._refuse_none(rows, paths)
            return paths
        base = self._best(folders, names)
        counts: dict[str, list[int]] = {}
        paths = []
        for row, name in enumerate(names):
            path, how = self._find(rows, row, base, name, ends[row] if ends else ())
            counts.setdefault(how, []).append(row)
            paths.append(path)
        self._tell(rows, base, counts, paths)
        return paths

    def locate_stems(self, rows: Rows, folder: bytes) -> list[bytes]:
        """The path of each image that a list names without its suffix, in `folder`."""
        listed = self._files or dict.fromkeys(
            joined(folder, path) for below in Walk(self.root / decode(folder)) for path in below.paths()
        )
        inside = (path for path in listed if path.startswith(folder + b"/"))
        stems = by_key(inside, lambda path: (_without_suffix(path),))
        paths = []
        for row, name in enumerate(rows.names):
            whole = joined(folder, local(name))
            alike = [] if whole in listed else stems.get(whole, [])
            if len(alike) > 1:
                self._several(rows, row, alike)
            paths.append(alike[0] if alike else whole)
        self._refuse_none(rows, paths)
        return paths

    def _best(self, folders: Sequence[bytes], names: Sequence[bytes]) -> bytes:
        """The first of the folders in which most of the images are."""
        step = max(1, len(names) // (SAMPLE if self._files else 20))
        sample = names[::step]
        return max(folders, key=lambda at: sum(self.there(joined(at, n)) for n in sample), default=b"")

    def _find(
        self, rows: Rows, row: int, base: bytes, name: bytes, ends: Sequence[bytes]
    ) -> tuple[bytes, str]:
        """(path, how it was found)."""
        path = joined(base, name)
        if len(name) > LONGEST:
            self.report.problem(f"{rows.where(row)}: {short(decode(name), 80)!r} has {len(name):,} bytes")
            return path, ""
        if path in self._files or not self.settings.check_files:
            return path, ""
        for other in (name, *ends):
            while other:
                for top in (base, b""):
                    if (path := joined(top, other)) in self._files:
                        return self._take(rows, row, path), "by the end of its path"
                other = other.partition(b"/")[2]
        for other in (name, *ends):
            alike = self._names.get(name_of(other), [])
            if len(alike) == 1:
                return self._take(rows, row, alike[0]), "by its name alone"
            if alike:
                self._several(rows, row, alike)
                return alike[0], ""
        return joined(base, name), "not at all"

    def _several(self, rows: Rows, row: int, alike: Sequence[bytes]) -> None:
        shown = ", ".join(map(decode, alike[:3]))
        self.report.problem(f"{rows.where(row)}: {decode(rows.names[row])!r} could be any of {shown}")

    @cached_property
    def _names(self) -> dict[bytes, list[bytes]]:
        return by_key(self._files, lambda path: (name_of(path),))

    def _take(self, rows: Rows, row: int, path: bytes) -> bytes:
        """Note that another name led to `path`; two names must not lead to one file."""
        name, first = self._taken.setdefault(path, (rows.names[row], rows.where(row)))
        if name != rows.names[row]:
            self.report.problem(
                f"{rows.where(row)}: {decode(rows.names[row])!r} can only be {decode(path)!r}, and so can "
                f"{decode(name)!r} of {first}"
            )
        return path

    def _refuse_none(self, rows: Rows, paths: list[bytes]) -> None:
        """Report it if not one of the images of a list is there."""
        if paths and self.settings.check_files and not any(map(self.there, paths)):
            self.report.problem(
                f"{rows.path}: not one of its {len(paths):,} images is below {self.root}; the first, "
                f"{short(decode(rows.names[0]))!r}, was looked for as {short(decode(paths[0]))!r}. Put the "
                "images there, or set `data.prefix`, `data.suffix` or `data.paths_from`"
            )

    def _tell(self, rows: Rows, base: bytes, counts: dict[str, list[int]], paths: list[bytes]) -> None:
        if len(counts.pop("not at all", [])) == len(paths):
            self._refuse_none(rows, paths)
        if base and counts.get(""):
            self.report.note(f"the images of {rows.path} are read from {decode(base)}/")
        for how, found in counts.items():
            if how:
                first = found[0]
                self.report.note(
                    f"{len(found):,} images of {rows.path} were found {how}: "
                    f"{short(decode(rows.names[first]), 100)!r} is {decode(paths[first])!r}"
                )
