"""What the exports of labelling tools share: rows with a place each, and images found by what is unambiguous.

An export names an image by a path on some other machine, by a URL or by its bare name. `Finder` looks for it
below the root: first under the folder in which most are, then by ever shorter ends of its path, at last by
its name alone where one file only is called so. What was done is said.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

from smelt.artifacts.bytestrings import ByteStrings, decode, encode
from smelt.data.formats.base import SHOWN, SPLIT_NAMES, Report, as_bytes
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.identity import listing
from smelt.data.formats.jsons import kind_of, name_bytes, placed
from smelt.data.formats.layout import Glimpse
from smelt.data.formats.listed import Table
from smelt.data.formats.names import hidden, normalised, split_of
from smelt.data.reading import is_kind
from smelt.errors import DataError, short

LISTS = ("all", "train", "val", "test")
FEW = 20  # lists in a folder: where more are, each belongs to an image
SAMPLE = 1000  # images by which a folder is chosen
_URL = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]+://[^/]*")
_DRIVE = re.compile(rb"[a-zA-Z]:/")


@dataclass
class Rows:
    """Images that one export names, in its order: `names` as written, all `labels` of each, (), (a,), (a, b).

    path: the export. split: of all, or "all" where `splits` says it (else they are for training). within:
    what the list of them is called in the file, and `places` where each is in it. texts: further columns.
    """

    path: Path
    split: str
    within: str = ""
    names: list[bytes] = field(default_factory=list)
    labels: list[tuple[bytes, ...]] = field(default_factory=list)
    places: list[int | str] = field(default_factory=list)
    splits: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: bytes, labels: Iterable[bytes], place: int | str) -> None:
        """Append an image; equal labels count once."""
        self.names.append(name)
        self.labels.append(tuple(dict.fromkeys(labels)))
        self.places.append(place)

    def where(self, entry: int) -> str:
        """File and place of row `entry`."""
        return f"{self.path}: {placed(self.within, self.places[entry])}"

    def table(self, paths: Sequence[bytes]) -> Table:
        """As columns, with the paths below the root that the names stand for."""
        several = {row: labels for row, labels in enumerate(self.labels) if len(labels) > 1}
        columns = {
            "path": ByteStrings.of(paths),
            "label": ByteStrings.of(labels[0] if labels else b"" for labels in self.labels),
        }
        if self.splits:
            columns["split"] = ByteStrings.of(self.splits)
        return Table(self.split, columns, self, several=several)


def found_lists(
    settings: FormatSettings, root: Path, found: Sequence[str], what: str
) -> list[tuple[str, Path]]:
    """(split or "all", file) of the lists to read: those that are named, else `found`, one for each split.

    DataError where a named one is not there, where none was found, and where a split has several.
    """
    named = {split: root / path for split, path in settings.lists.items() if split != "classes"}
    if unknown := named.keys() - set(LISTS):
        raise DataError(
            f"data.lists: format {settings.format} has all, train, val, test and classes, not {sorted(unknown)}"
        )
    if named:
        for split, path in named.items():
            if not path.is_file():
                raise DataError(f"data.lists.{split}: there is no file {path}{_instead(found)}")
        return list(named.items())
    if not found:
        raise DataError(f"{root} has no {what}; name it: -o data.lists.all=FILE (or .train, .val, .test)")
    by_split: dict[str, list[str]] = {}
    for name in found:
        by_split.setdefault(split_of_list(name), []).append(name)
    if len(by_split) > 1 and "all" in by_split:
        others = ", ".join(by_split.pop("all"))
        raise DataError(
            f"{root} has lists of splits ({', '.join(names[0] for names in by_split.values())}) and {others}, "
            "whose name says no split; name those to read: -o data.lists.train=FILE -o data.lists.val=FILE"
        )
    for split, names in by_split.items():
        if len(names) > 1:
            raise DataError(
                f"{root} has {len(names)} lists for {split}: {', '.join(names[:SHOWN])}; name the one to "
                f"read: -o data.lists.{split}={names[0]}"
            )
    return [(split, root / names[0]) for split, names in sorted(by_split.items(), key=_by_split)]


def _by_split(item: tuple[str, list[str]]) -> int:
    return LISTS.index(item[0])


def _instead(found: Sequence[str]) -> str:
    return f"; there is {', '.join(found[:3])}" if found else ""


def split_of_list(path: str) -> str:
    """The split that the name of a list, or else of a folder that it lies in, says; "all" if none does."""
    for part in reversed(path.split("/")):
        words = re.split(r"[^a-z]+", re.sub(r"[0-9]+", " ", part.lower()))
        said = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
        if len(said) == 1:
            return said.pop()
    return "all"


def candidates(glimpse: Glimpse, suffixes: tuple[str, ...]) -> list[str]:
    """Files with one of these suffixes in the root and the folders below, where they are few in a folder."""
    found = []
    for at, files in glimpse.tree:
        matching = [name for name in files if name.lower().endswith(suffixes)]
        if len(matching) <= FEW:
            found += [f"{at}/{name}".lstrip("/") for name in matching]
    return found


def text_or_number(value: object) -> bytes | None:
    """A label or an identifier as bytes: text, or a whole number in digits; None where it is neither."""
    if isinstance(value, str):
        return name_bytes(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        value = int(value)
    return b"%d" % value if isinstance(value, int) and not isinstance(value, bool) else None


def wrong(where: str, what: str, value: object, wanted: str, report: Report) -> None:
    """Report that a value is not what it has to be."""
    shown = repr(short(value, 80)) if isinstance(value, str) else kind_of(value)
    report.problem(f"{where}: {what} is {shown}, not {wanted}")


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


class Finder:
    """The files below `root`, to find images by what an export calls them.

    report: is told how the images were found, and of those that could be several files.
    """

    def __init__(self, settings: FormatSettings, root: Path, report: Report) -> None:
        self.settings, self.root, self.report = settings, root, report
        self.exact = bool(settings.prefix or settings.suffix or settings.paths_from != "auto")
        self._files: dict[bytes, None] = {}
        if settings.check_files:
            self._files = {name: None for name, _ in listing(root) if not any(map(hidden, name.split(b"/")))}
        self._names: dict[bytes, list[bytes]] = {}
        self._taken: dict[bytes, tuple[bytes, str]] = {}  # found in another way than asked for

    def there(self, path: bytes) -> bool:
        """Whether there is such a file."""
        return path in self._files or is_kind(os.path.join(os.fsencode(self.root), path), stat.S_ISREG)

    def folders(self, rows: Rows, further: Sequence[str] = ()) -> list[bytes]:
        """Folders that the images of a list may lie in: beside it, in the usual ones, in those of its split."""
        here = as_bytes(rows.path.parent, self.root)
        here = b"" if here == b"." else here
        tail = re.sub(r"^[a-z_]+_", "", rows.path.stem)  # instances_train2017: train2017
        found: dict[bytes, None] = {}
        for top in (here, here.rpartition(b"/")[0], b""):
            own = [name for name in (*further, tail) if name]
            subs = ["", "images", "data", "imgs", *own, *(f"images/{name}" for name in own)]
            for middle in (b"", b"images"):
                subs += [decode(at) for at in self._of_split(_joined(top, middle), rows.split, middle)]
            found |= {folder: None for sub in subs if self._is_folder(folder := _joined(top, encode(sub)))}
        return list(found)

    def _of_split(self, top: bytes, split: str, middle: bytes) -> list[bytes]:
        try:
            names = sorted(os.listdir(os.path.join(os.fsencode(self.root), top)))
        except OSError:
            return []
        return [_joined(middle, n) for n in names if split_of(n.decode("utf-8", "replace")) == split]

    def _is_folder(self, path: bytes) -> bool:
        return is_kind(os.path.join(os.fsencode(self.root), path), stat.S_ISDIR)

    def locate(self, rows: Rows, folders: Sequence[bytes], ends: Sequence[Sequence[bytes]] = ()) -> list[bytes]:
        """The path below the root of each image. `ends`: what else each may be called, the surest first."""
        before, behind = encode(self.settings.prefix), encode(self.settings.suffix)
        names = [local(before + name + behind) for name in rows.names]
        if self.exact:
            base = b"" if self.settings.paths_from == "root" else folders[0]
            return [self._placed(base, name) for name in names]
        base = self._best(folders, names)
        counts: dict[str, list[int]] = {}
        paths = []
        for row, name in enumerate(names):
            path, how = self._find(rows, row, base, name, ends[row] if ends else ())
            counts.setdefault(how, []).append(row)
            paths.append(path)
        self._tell(rows, base, counts, paths)
        return paths

    def _placed(self, base: bytes, name: bytes) -> bytes:
        path = _joined(base, name)
        self.report.used.discard(path)
        return path

    def _best(self, folders: Sequence[bytes], names: Sequence[bytes]) -> bytes:
        """The first of the folders in which most of the images are."""
        step = max(1, len(names) // (SAMPLE if self._files else 20))
        sample = names[::step]
        return max(folders, key=lambda at: sum(self.there(_joined(at, n)) for n in sample), default=b"")

    def _find(
        self, rows: Rows, row: int, base: bytes, name: bytes, ends: Sequence[bytes]
    ) -> tuple[bytes, str]:
        """(path, how it was found)."""
        path = _joined(base, name)
        if path in self._files or not self.settings.check_files or self.there(path):
            return path, ""
        for other in (name, *ends):
            while other:
                for top in (base, b""):
                    if (path := _joined(top, other)) in self._files:
                        return self._take(rows, row, path), "by the end of its path"
                other = other.partition(b"/")[2]
        for other in (name, *ends):
            alike = self._called(other.rpartition(b"/")[2])
            if len(alike) == 1:
                return self._take(rows, row, alike[0]), "by its name alone"
            if alike:
                shown = ", ".join(map(decode, alike[:3]))
                self.report.problem(f"{rows.where(row)}: {decode(name)!r} could be any of {shown}")
                return alike[0], ""
        return _joined(base, name), "not at all"

    def _called(self, name: bytes) -> list[bytes]:
        if not self._names:
            for path in self._files:
                self._names.setdefault(path.rpartition(b"/")[2], []).append(path)
        return self._names.get(name, [])

    def _take(self, rows: Rows, row: int, path: bytes) -> bytes:
        """Note that another name led to `path`; two names must not lead to one file."""
        name, first = self._taken.setdefault(path, (rows.names[row], rows.where(row)))
        if name != rows.names[row]:
            self.report.problem(
                f"{rows.where(row)}: {decode(rows.names[row])!r} can only be {decode(path)!r}, and so can "
                f"{decode(name)!r} of {first}"
            )
        return path

    def _tell(self, rows: Rows, base: bytes, counts: dict[str, list[int]], paths: list[bytes]) -> None:
        missing = counts.pop("not at all", [])
        if missing and len(missing) == len(paths):
            self.report.problem(
                f"{rows.path}: not one of its {len(paths):,} images is below {self.root}; the first is "
                f"{decode(rows.names[0])!r}, looked for as {decode(paths[0])!r} and by its name. Put the images "
                "there, or set `data.prefix`, `data.suffix` or `data.paths_from`"
            )
        if base and counts.get(""):
            self.report.note(f"the images of {rows.path} are read from {decode(base)}/")
        for how, found in counts.items():
            if how:
                first = found[0]
                self.report.note(
                    f"{len(found):,} images of {rows.path} were found {how}: "
                    f"{short(decode(rows.names[first]), 100)!r} is {decode(paths[first])!r}"
                )


def _joined(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder and name else folder or name
