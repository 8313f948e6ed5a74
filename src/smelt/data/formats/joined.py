"""Files that are joined by an id: CUB-200-2011, NABirds, and what is laid out as they are.

`images.txt` (`1 001.Black_footed_Albatross/x.jpg`), and beside it one file that says the class of each id
(`image_class_labels.txt`: `1 1`), one that says its split (`train_test_split.txt`: `1 0`, 1 is training) and
one that names the classes (`classes.txt`: `1 001.Black_footed_Albatross`). The files are told by what stands
in them: the first has paths of images; the others have its ids, and their names hold `label` or `class`, and
`split` or `partition`. Without classes of the ids the folders are the classes. The names of images may be the
ids themselves (CelebA's `identity_CelebA.txt`, `list_eval_partition.txt`: 0, 1, 2 are train, val, test).
Other files by `lists: {all: images.txt, labels: …, split: …, classes: …}`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from smelt.artifacts.bytestrings import decode, encode
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import SHOWN, Report, lists_named
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.classes import is_number
from smelt.data.formats.lists.columns import looks_like_image
from smelt.data.formats.lists.exported import Known, Rows, add_rows
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.named import Images, folders_of, lines_of, tried
from smelt.data.formats.tree.names import joined, split_of
from smelt.errors import DataError, short

FORMAT = Format(
    "files joined by an id, as in CUB-200-2011",
    order=110,
    takes="lists links unlabelled no_label label_is test_labels",
    validation="checked",
)

_SUFFIXES = (".txt", ".csv", ".tsv")
_MOST = 30  # files of a folder that are looked into
_LINES = 100  # of each
_PART = re.compile(rb"[ \t]*[,\t][ \t]*|[ ]+")
_LABELS, _SPLITS = ("label", "class", "target", "identity"), ("split", "partition")
_CLASSES = ("class", "categor")
_CODES = {b"0": "train", b"1": "val", b"2": "test"}  # where there are three


@dataclass(frozen=True)
class _Files:
    """Paths below the root; "" for what is not there."""

    images: str
    labels: str = ""
    split: str = ""
    classes: str = ""

    @property
    def all(self) -> list[str]:
        return [name for name in (self.images, self.labels, self.split, self.classes) if name]


def recognise(glimpse: Glimpse) -> str:
    """A list of ids and images, and one of ids and classes or splits."""
    found = _found(glimpse)
    return f"files joined by an id, {', '.join(found.all)}" if found else ""


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The files by content, and what lies in the folder by listing."""
    lists = [root / name for name in _files(settings, root).all]
    return lists, [root] if settings.check_files else []


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the images in the order of their list."""
    files = _files(settings, root)
    report.used |= {encode(name) for name in files.all}
    path = root / files.images
    listed = _table(path, report)
    labels = _table(root / files.labels, report) if files.labels else {}
    splits = _table(root / files.split, report) if files.split else {}
    names = _table(root / files.classes, report) if files.classes else {}
    if header := _header(listed):
        for table in (listed, labels, splits):
            table.pop(header, None)
    for other, table in ((files.labels, labels), (files.split, splits)):
        _compare(listed, table, path, root / other, report)
    report.refuse()
    called = _called(names, {value for _, value in labels.values()}, report)
    meant = _meant({value for _, value in splits.values()}, root / files.split)
    rows = Rows(path, "all" if files.split else "train", lines=True)
    named = not _is_path(listed)  # the ids are the images, and what follows them the labels
    for key, (line, name) in listed.items():
        own = name if named else labels[key][1] if key in labels else name.rpartition(b"/")[0]
        name = key if named else name
        rows.add(name, (called.get(own, own),) if own else (), line)
        if files.split:
            rows.columns.setdefault("split", []).append(
                encode(meant[splits[key][1]]) if key in splits else b"train"
            )
    _report(rows, files, meant, named, report)
    images = Images(root)
    folder, _ = images.best(folders_of(Glimpse(root)), rows.names)
    paths = [images.find(folder, name) or joined(folder, name) for name in rows.names]
    add_rows([rows], [paths], _known(rows, called, report, path), _plain(settings), root, writer, report)


def _header(listed: dict[bytes, tuple[int, bytes]]) -> bytes:
    """The id of a first line that names the columns; b"" where there is none."""
    key, (_, name) = next(iter(listed.items()), (b"", (0, b"")))
    return b"" if looks_like_image(decode(name)) or looks_like_image(decode(key)) else key


def _is_path(listed: dict[bytes, tuple[int, bytes]]) -> bool:
    """Whether ids and images are two things, and not names of images and their labels."""
    return any(looks_like_image(decode(name)) for _, name in listed.values())


def _plain(settings: FormatSettings) -> FormatSettings:
    """The settings for what comes after: `lists` has been looked at."""
    return settings.model_copy(update={"lists": {}})


def _called(names: dict[bytes, tuple[int, bytes]], used: set[bytes], report: Report) -> dict[bytes, bytes]:
    """Id → name of the classes that images have; of those with one name the id is added to it.

    NABirds calls levels above, and plumages, by one name: by it alone two classes would be one.
    """
    found = {key: value for key, (_, value) in names.items() if key in used}
    times = Counter(found.values())
    twice = sorted(name for name, count in times.items() if count > 1)
    if twice:
        report.warn(
            f"{len(twice)} names are those of several classes, such as {decode(twice[0])!r}: their ids are "
            "added to them"
        )
    return {key: b"%s (%s)" % (name, key) if times[name] > 1 else name for key, name in found.items()}


def _report(rows: Rows, files: _Files, meant: dict[bytes, str], named: bool, report: Report) -> None:
    said = [f"{files.images} lists the images" + (" and their classes" if named else "")]
    if not named:
        said += [f"{files.labels} their classes"] if files.labels else ["their folders are the classes"]
    if files.split:
        words = ", ".join(f"{decode(word)} is {split}" for word, split in sorted(meant.items()))
        said.append(f"{files.split} the split ({words})")
    if files.classes:
        said.append(f"{files.classes} names the classes")
    report.note("; ".join(said))


def _known(rows: Rows, called: dict[bytes, bytes], report: Report, path: Path) -> Known:
    """The classes in the order of their ids, but for those without an image (levels above them)."""
    known = Known()
    used = {label for labels in rows.labels for label in labels}
    if called and used <= set(called.values()):
        order = sorted(called, key=lambda key: (not is_number(key), int(key) if is_number(key) else 0, key))
        known.add({called[key]: b"" for key in order if called[key] in used}, path, report)
    return known


def _meant(words: set[bytes], path: Path) -> dict[bytes, str]:
    """Which split each word of the list of splits means. DataError where that is not known."""
    if b"2" in words and words <= _CODES.keys():
        return dict(_CODES)
    if words <= {b"0", b"1"}:
        first = "test" if re.search(r"is_?test|^test", path.stem.lower()) else "train"
        other = "train" if first == "test" else "test"
        return {b"1": first, b"0": other}
    meant = {word: split_of(decode(word)) for word in words}
    if wrong := sorted(word for word, split in meant.items() if not split):
        raise DataError(
            f"{path}: {short(decode(wrong[0]), 80)!r} is no split: it takes 1 for training and 0 for test, "
            "or train, val and test"
        )
    return meant


def _table(path: Path, report: Report) -> dict[bytes, tuple[int, bytes]]:
    """Id → (line, the rest of it). An id that is there twice is a problem."""
    found: dict[bytes, tuple[int, bytes]] = {}
    for line, text in lines_of(path):
        parts = _PART.split(text, maxsplit=1)
        if len(parts) < 2:
            report.problem(f"{path}:{line}: {short(decode(text), 80)!r} has nothing behind its id")
        elif found.setdefault(parts[0], (line, parts[1].strip(b'" ')))[0] != line:
            report.problem(
                f"{path}:{line}: the id {decode(parts[0])!r} is also that of line {found[parts[0]][0]}"
            )
    return found


def _compare(
    listed: dict[bytes, tuple[int, bytes]], other: dict[bytes, tuple[int, bytes]], path: Path, second: Path,
    report: Report,
) -> None:  # fmt: skip
    """Ids that only one of two files has are problems: they do not belong together, or one was cut off."""
    if not other:
        return
    for key in [key for key in listed if key not in other][:SHOWN]:
        report.problem(f"{path}:{listed[key][0]}: the id {decode(key)!r} is not in {second}")
    for key in [key for key in other if key not in listed][:SHOWN]:
        report.problem(f"{second}:{other[key][0]}: the id {decode(key)!r} is not in {path}")


def _files(settings: FormatSettings, root: Path) -> _Files:
    """The files that are named, or found. DataError where there are none."""
    lists_named(settings, root, "all", "labels", "split", "classes")
    named = {"images" if name == "all" else name: path for name, path in settings.lists.items()}
    if "all" in settings.lists:
        return _Files(**named)
    found = _found(Glimpse(root))
    if not found:
        raise DataError(
            f"{root} has no list of ids and images with one of ids and classes beside it (images.txt, "
            "image_class_labels.txt): -o data.lists.all=FILE -o data.lists.labels=FILE names them"
        )
    return replace(found, **named)


def _found(glimpse: Glimpse) -> _Files | None:
    images, folders = Images(glimpse.root), folders_of(glimpse)
    for at, files in glimpse.tree:
        names = [name for name in files if name.lower().endswith(_SUFFIXES)]
        if not 1 < len(names) <= _MOST:
            continue
        tables = {f"{at}/{name}".lstrip("/"): _head(glimpse, f"{at}/{name}".lstrip("/")) for name in names}
        for name, table in tables.items():
            listed = [value for value in table.values() if looks_like_image(decode(value))]
            if not listed:  # joined by the names of the images themselves
                listed = [key for key in table if looks_like_image(decode(key))]
            if len(table) < 2 or 2 * len(listed) < len(table):
                continue
            if 2 * images.best(folders, listed)[1] <= len(tried(listed)):
                continue
            found = _beside(name, table, tables)
            if looks_like_image(decode(next(reversed(table)))):
                if found.split and any(word in name.rpartition("/")[2].lower() for word in _LABELS):
                    return _Files(name, "", found.split, found.classes)
            elif found.labels or found.split:
                return found
    return None


def _beside(name: str, table: dict[bytes, bytes], tables: dict[str, dict[bytes, bytes]]) -> _Files:
    """The files that belong to a list of images: they have its ids and one word or name behind each."""
    labels = split = classes = ""
    for other, found in tables.items():
        stem = other.rpartition("/")[2].lower()
        shared = len(found.keys() & table.keys())
        if other == name or 10 * shared < 9 * len(table) or any(b" " in value for value in found.values()):
            continue
        if any(word in stem for word in _SPLITS) and _of_splits(set(found.values())):
            split = split or other
        elif any(word in stem for word in _LABELS):
            labels = labels or other
    wanted = set(tables[labels].values()) if labels else set()
    for other, found in tables.items():
        stem = other.rpartition("/")[2].lower()
        if other not in (name, labels, split) and any(word in stem for word in _CLASSES) and found:
            classes = classes or (other if labels and wanted & found.keys() else "")
    return _Files(name, labels, split, classes)


def _of_splits(words: set[bytes]) -> bool:
    """Whether most words say a split; the first may be the name of the column."""
    return sum(word in _CODES or bool(split_of(decode(word))) for word in words) >= max(1, len(words) - 1)


def _head(glimpse: Glimpse, path: str) -> dict[bytes, bytes]:
    """Id → the rest, of the first lines; empty where they are none such."""
    found: dict[bytes, bytes] = {}
    lines = glimpse.head(path).splitlines()[:_LINES]
    for line in lines:
        parts = _PART.split(line.strip(), maxsplit=1)
        if len(parts) < 2 or parts[0] in found:
            return {}
        found[parts[0]] = parts[1].strip(b'" ')
    return found
