"""Splits in lists of names beside the images: a text file for each split, a name a line, with a label or not.

Food-101 (`meta/train.txt`: `apple_pie/1005649`), DTD (`labels/train1.txt`), SUN397 (`Partitions/`), Oxford
Pets (`annotations/trainval.txt`: `Abyssinian_100 1 1 1`), FGVC Aircraft (`images_variant_train.txt`: `1025794
707-320`), Places365 (`places365_train_standard.txt`) and their kin; none is told by its name alone. A list is
one of a split if one word of its name says so, and if the names in it lead to images in one folder, with
their suffix or without. The label is what follows the name (of several numbers the first), else the folder
of the name. Numbers are named by the folders, or by what the names of the files begin with, where each has
one of its own. Of several sets of lists (`train1.txt`, `train2.txt`; variants and families) the one with most
classes is taken, then the first, and the others are named: `lists: {train: …, val: …, test: …}`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smelt.artifacts.bytestrings import decode, encode
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import Report, lists_named
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.classes import is_number
from smelt.data.formats.lists.columns import looks_like_image
from smelt.data.formats.lists.exported import Known, Rows, add_rows, images_named
from smelt.data.formats.lists.listfiles import found_lists
from smelt.data.formats.lists.texts import SPLIT_IMAGE
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.named import Images, folders_of, lines_of, tried
from smelt.data.formats.tree.names import first_few, joined, split_of, words_of
from smelt.errors import DataError

FORMAT = Format(
    "a list of names for each split, as in Food-101",
    order=120,
    takes="lists links unlabelled no_label label_is test_labels",
    validation="checked",
)

_SUFFIXES = (".txt", ".lst", ".list")
_WORDS = {"train": "train", "training": "train", "trainval": "train", "val": "val", "valid": "val",
          "validation": "val", "test": "test", "testing": "test"}  # fmt: skip
_MOST = 60  # lists that are looked into
_STEM = re.compile(rb"(.*?)[-_ .]*\d+$")  # `Abyssinian_100`: `Abyssinian`


@dataclass(frozen=True)
class _Name:
    """What the path of a list says.

    words: what is left of its name. number: the one behind the word of the split. whole: whether that is
    `trainval`.
    """

    path: str
    split: str
    words: tuple[str, ...]
    number: int
    whole: bool

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]


@dataclass
class _List:
    """A list that was read: line, name and label ("" for none) of each row, and the folder of its images."""

    name: _Name
    numbers: list[int] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    labels: list[bytes] = field(default_factory=list)
    folder: bytes = b""
    own: bool = False  # whether labels stand in it


def recognise(glimpse: Glimpse) -> str:
    """A list for training whose names are images; not where format `csv` knows a list for training too."""
    if not any(found.split == "train" for found in _candidates(glimpse)):
        return ""
    if any(found.split in ("train", "all") for found in found_lists(glimpse)):
        return ""
    chosen = _chosen(glimpse)[0]
    if chosen and _of_split(chosen[0].names):
        return ""  # the folders are the splits and the classes: nothing that is not there without the lists
    return f"lists of names, {first_few([one.name.path for one in chosen], len(chosen))}" if chosen else ""


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The lists by content, and what lies in the folder by listing."""
    return images_named(settings, root, [root / one.name.path for one in _lists(settings, root)[0]])


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the images of each list, in its order."""
    lists, notes = _lists(settings, root)
    for note in notes:
        report.note(note)
    images, known = Images(root), Known()
    if "classes" not in settings.lists:
        _name_numbers(lists, known, report)
    found, paths = [], []
    for one in lists:
        report.used.add(encode(one.name.path))
        rows = Rows(root / one.name.path, one.name.split, lines=True)
        for line, name, label in zip(one.numbers, one.names, one.labels):
            rows.add(name, (label,) if label else (), line)
        found.append(rows)
        paths.append([images.find(one.folder, name) or joined(one.folder, name) for name in one.names])
        what = "behind the names" if one.own else "the folders of the names" if any(one.labels) else "none"
        where = f"{decode(one.folder)}/" if one.folder else "the root"
        report.note(f"{one.name.path}: images of {one.name.split} in {where}; labels: {what}")
    add_rows(found, paths, known, settings, root, writer, report)


def _lists(settings: FormatSettings, root: Path) -> tuple[list[_List], list[str]]:
    """The lists that are named, or found, and what to say of the others. DataError where there are none."""
    lists_named(settings, root, "train", "val", "test", "classes")
    named = {split: path for split, path in settings.lists.items() if split != "classes"}
    glimpse = Glimpse(root)
    if not named:
        chosen, notes = _chosen(glimpse)
        if not chosen:
            raise DataError(
                f"{root} has no list of names for training that leads to images (train.txt, a name a line): "
                "-o data.lists.train=FILE names one"
            )
        return chosen, notes
    images, folders = Images(root), folders_of(glimpse)
    lists = []
    for split, path in named.items():
        one = _read(glimpse.root, _Name(path, split, (), 0, False), images, folders)
        if one is None:
            raise DataError(
                f"data.lists.{split}: {root / path} names no images that lie in one folder below {root}, "
                "with their suffix or without"
            )
        lists.append(one)
    return lists, []


def _candidates(glimpse: Glimpse) -> list[_Name]:
    """Files that are called as lists of splits, those in the root first."""
    found = []
    for at, files in glimpse.tree:
        listed = [name for name in files if name.lower().endswith(_SUFFIXES)]
        for name in listed if len(listed) <= _MOST else ():
            words = words_of(name.rpartition(".")[0])
            said = [word for word in words if word in _WORDS]
            if len(said) != 1:
                continue
            digits = re.search(rf"{said[0]}[^a-z0-9]*([0-9]+)", name.lower())
            rest = tuple(word for word in words if word not in _WORDS)
            path = f"{at}/{name}".lstrip("/")
            number = int(digits[1]) if digits and len(digits[1]) < 9 else 0
            found.append(_Name(path, _WORDS[said[0]], rest, number, said[0] == "trainval"))
    return found[:_MOST]


def _chosen(glimpse: Glimpse) -> tuple[list[_List], list[str]]:
    """The lists of the set that has most classes, and what to say of the others."""
    names = _candidates(glimpse)
    images, folders = Images(glimpse.root), folders_of(glimpse)
    sets: list[list[_List]] = []
    seen: dict[str, _List | None] = {}

    def opened(name: _Name) -> _List | None:
        if name.path not in seen:
            seen[name.path] = _read(glimpse.root, name, images, folders)
        return seen[name.path]

    for first in (name for name in names if name.split == "train"):
        if (train := opened(first)) is None or len(set(train.labels)) < 2 or _signs(train):
            continue
        others = []
        for split in ("val", "test"):
            if first.whole and split == "val":
                continue
            likely = [name for name in names if name.split == split and _belongs(name, first)]
            likely.sort(key=lambda name: (name.words != first.words, name.number))
            others += [one for one in map(opened, likely[:3]) if one is not None][:1]
        sets.append([train, *others])
    if not sets:
        return [], []
    sets.sort(key=lambda found: -len(set(found[0].labels)))
    same = [found for found in sets if len(set(found[0].labels)) == len(set(sets[0][0].labels))]
    same.sort(key=lambda found: (-len(found), found[0].name.number))
    best = same[0]
    rest = [found[0].name.path for found in sets if found is not best]
    notes = []
    if rest:
        notes.append(
            f"{best[0].name.path} is taken as the list for training; there are others, "
            f"{first_few(rest, len(rest))}: -o data.lists.train={rest[0]} takes one (with val and test)"
        )
    return best, notes


def _belongs(name: _Name, train: _Name) -> bool:
    """Whether a list is of the same set as one for training: in its folder, with its number and words."""
    fewer, more = sorted((set(name.words), set(train.words)), key=len)
    return name.folder == train.folder and name.number == train.number and fewer <= more


def _signs(one: _List) -> bool:
    """Whether the labels say yes and no of one class, as Pascal VOC's `cat_train.txt` does."""
    return b"-1" in one.labels and {b"-1", b"0", b"1"}.issuperset(one.labels)


def _read(root: Path, name: _Name, images: Images, folders: Sequence[bytes]) -> _List | None:
    """A list with the folder of its images; None where most of its names are none."""
    try:
        lines = lines_of(root / name.path)
    except DataError:
        return None
    if not lines:
        return None
    best: tuple[int, _List] | None = None
    for pairs in (_whole(lines), _parted(lines)):
        found = _List(name, [line for line, _ in lines])
        for own, label in pairs:
            found.names.append(own)
            found.labels.append(label)
        found.folder, count = images.best(folders, found.names)
        if best is None or count > best[0]:
            best = count, found
    assert best is not None
    count, found = best
    if 2 * count <= len(tried(found.names)):
        return None
    found.own = any(found.labels)
    if found.own:
        found.labels = _of_numbers(found.labels)
    else:
        cut = 1 if _of_split(found.names) else 0
        found.labels = [b"/".join(own.split(b"/")[cut:-1]) for own in found.names]
    return found


def _of_split(names: Sequence[bytes]) -> bool:
    """Whether all names begin with one folder that is called as a split is: `train/cat/1.jpg`."""
    first = {name.partition(b"/")[0] if b"/" in name else b"" for name in names}
    return len(first) == 1 and bool(split_of(decode(next(iter(first)))))


def _clean(name: bytes) -> bytes:
    return name.replace(b"\\", b"/").removeprefix(b"./").lstrip(b"/")


def _whole(lines: Sequence[tuple[int, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    return ((_clean(line), b"") for _, line in lines)


def _parted(lines: Sequence[tuple[int, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """(name, what follows it): behind the suffix of an image, else behind the first blank, tab or comma."""
    for _, line in lines:
        text = decode(line)
        if (found := SPLIT_IMAGE.fullmatch(text)) and looks_like_image(found[1]):
            yield _clean(encode(found[1])), encode(found[2].strip())
            continue
        parts = re.split(rb"[ \t]*[,;\t][ \t]*|[ ]+", line, maxsplit=1)
        yield _clean(parts[0]), parts[1].strip() if len(parts) > 1 else b""


def _of_numbers(labels: list[bytes]) -> list[bytes]:
    """Of several numbers behind every name the first: class, species, breed."""
    parts = [re.split(rb"[\s,;]+", label) for label in labels]
    if all(len(part) > 1 and all(map(is_number, part)) for part in parts):
        return [part[0] for part in parts]
    return labels


def _name_numbers(lists: Sequence[_List], known: Known, report: Report) -> None:
    """Give numbers the names that the folders or the files of training say, where each has its own."""
    train = lists[0]
    if train.name.split != "train" or not train.own or not all(map(is_number, train.labels)):
        return
    for what, naming in (("folders", _folder_of), ("names of files", _stem_of)):
        names: dict[bytes, set[bytes]] = {}
        for name, label in zip(train.names, train.labels):
            names.setdefault(label, set()).add(naming(name))
        said = {label: next(iter(own)) for label, own in names.items() if len(own) == 1}
        if len(said) < len(names) or b"" in said.values() or len(set(said.values())) < len(names):
            continue
        for one in lists:
            one.labels = [said.get(label, label) for label in one.labels]
        report.note(f"the {what} name the classes: {_few(said)}")
        numbered = sorted(said, key=int)
        strange = {label for one in lists for label in one.labels} - set(said.values()) - {b""}
        known.ids = dict.fromkeys([*(said[label] for label in numbered), *sorted(strange)], b"")
        return


def _folder_of(name: bytes) -> bytes:
    return name.rpartition(b"/")[0]


def _stem_of(name: bytes) -> bytes:
    found = _STEM.fullmatch(os.path.splitext(name.rpartition(b"/")[2])[0])
    return found[1] if found else b""


def _few(said: dict[bytes, bytes]) -> str:
    return first_few((f"{decode(label)} is {decode(name)}" for label, name in said.items()), len(said))
