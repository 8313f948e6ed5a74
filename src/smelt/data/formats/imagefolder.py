"""A folder of class folders: `root/class/…/image.jpg`, or `root/train/class/…`, `root/val/class/…`.

Classes are the folders of the training images in natural order (`c2` before `c10`), numbered from 0; which
folder of several is the class `class_from` says, the first by default. The split folders may be called train,
val, test and the like (`names.split_of`), also below the class folders (`root/class/train/…`); a split that
is not there is held out (see `val_fraction`, `test_fraction`). Images of a test split that lie in no class
folder have no label. A folder called test, predict, unlabeled and the like beside folders of classes is a
test as well. `advice` tells what is wrong where such a tree makes no sense as classes.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np

from smelt.artifacts.bytestrings import decode, encode
from smelt.artifacts.catalogue import SPLITS
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.formats.base import IMAGE_SUFFIXES, Report, hold_out, natural
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.lists.letters import in_utf8, is_utf8, known
from smelt.data.formats.lists.testlists import labels_of_test, list_of_test
from smelt.data.formats.registry import Format
from smelt.data.formats.tree import advice
from smelt.data.formats.tree.census import Walk, is_image
from smelt.data.formats.tree.folders import Tree, class_of, classes_of
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import (
    first_few,
)
from smelt.errors import DataError

FORMAT = Format(
    "a folder for each class",
    order=150,
    takes="class_from links encoding unlabelled",
)

MOST_FOLDERS = 1000  # that are looked into for an image, to recognise the layout
ALL_CLASSES = "depth:1"  # given, it takes every folder of the root for a class
NO_CLASS = "an image in no class folder"
NO_SPLIT = "an image outside the folders of the splits"


def recognise(glimpse: Glimpse) -> str:
    """Folders with images in them, or images without any; what is wrong with those is told on reading."""
    found = [at for at, files in glimpse.tree if at and any(_looks(glimpse, at, name) for name in files[:50])]
    if found:
        return f"folders of images, such as {found[0]}/"
    if any(_looks(glimpse, "", name) for name in glimpse.files()[:50]):
        return "images in the folder itself"
    for folder in islice(Walk(glimpse.root), MOST_FOLDERS):
        if any(is_image(glimpse.root, path) for path in folder.paths()[:50]):
            return f"folders of images, such as {decode(folder.path)}/"
    return ""


def _looks(glimpse: Glimpse, at: str, name: str) -> bool:
    path = f"{at}/{name}" if at else name
    return name.lower().endswith(IMAGE_SUFFIXES) or is_image(glimpse.root, encode(path))


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """Everything below the root counts, by name and size; a list of the test's labels by content."""
    found = list_of_test(root)
    return [found.path] if found else [], [root]


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the rows of each split, sorted by path."""
    tree = Tree.of(root, settings.links, settings.class_from == ALL_CLASSES)
    writer.follow = settings.links == "anywhere"
    if not advice.on_tree(settings, root, tree, report):
        return
    rows: list[tuple[bytes, int, bytes]] = []
    unlabelled: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    loose = _loose_test(tree, settings.class_from)
    given = _labels_of_test(tree, settings, root, loose, report)
    for folder, names in tree.images.items():
        split, parts = tree.parts(folder)
        for name in names:
            path = folder + b"/" + name if folder else name
            label = b"" if split == "test" and loose else class_of(settings.class_from, parts, name)
            label = label or (given.get(path, b"") if split == "test" else b"")
            if not split:
                report.leave_out(NO_SPLIT, path)
            elif label or split == "test" or settings.unlabelled == "keep":
                rows.append((path, SPLITS.index(split), label))
                unlabelled[split] += not label
            elif settings.unlabelled == "refuse":
                report.problem(
                    f"{decode(path)!r} lies in no class folder (data.unlabelled=leave_out goes on)"
                )
            else:
                report.leave_out(NO_CLASS, path)
                lost[split] += 1
    rows.sort()
    if settings.check_files:
        advice.on_contents(root, rows, report)
    paths, splits, classes = (list(column) for column in zip(*rows)) if rows else ([], [], [])
    add_classified(settings, writer, report, paths, splits, classes)
    for split, count in unlabelled.items():
        if count:
            report.note(f"{count} images of {split} lie in no class folder: they have no label")
    advice.on_classes(settings, root, tree, report)
    if lost["val"] and not any(split == SPLITS.index("val") for split in splits):
        advice.on_no_validation(tree, lost["val"], report)


def _labels_of_test(
    tree: Tree, settings: FormatSettings, root: Path, loose: bool, report: Report
) -> dict[bytes, bytes]:
    """Path → class of test images in no class folder, where a list beside them says it."""
    classes: set[bytes] = set()
    flat = False
    for folder, names in tree.images.items():
        split, parts = tree.parts(folder)
        found = classes_of(settings.class_from, parts, names).keys()
        classes |= found if split == "train" else set()
        flat |= split == "test" and (loose or b"" in found)
    return labels_of_test(list_of_test(root), root, classes - {b""}, report) if flat else {}


def _loose_test(tree: Tree, rule: str | None) -> bool:
    """Whether the test images lie in folders that are none of the classes (`test/images/`, `test/test/`)."""
    by_split: dict[str, set[bytes]] = {}
    for folder in tree.images:
        split, parts = tree.parts(folder)
        by_split.setdefault(split, set()).add(class_of(rule, parts, b""))
    there = by_split.get("test", set()) - {b""}
    return len(there) == 1 and not there & by_split.get("train", set())


def add_classified(
    settings: FormatSettings, writer: CatalogueWriter, report: Report,
    paths: list[bytes], splits: list[int], classes: list[bytes], source: str = "files",
) -> None:  # fmt: skip
    """Append images with a class name each; the training images say which classes there are.

    splits: codes 0 train, 1 val, 2 test, -1 left out. b"" is no class.
    """
    names = sorted({name for name, split in zip(classes, splits) if split == 0 and name}, key=natural)
    numbers = {name: label for label, name in enumerate(names)}
    strange = Counter(
        name for name, split in zip(classes, splits) if split > 0 and name and name not in numbers
    )
    for name, count in sorted(strange.items()):
        report.problem(
            f"class {decode(name)!r} has {count} images of validation or test but none of training "
            f"(training has {first_few(map(decode, names), len(names), 5) or 'no class'})"
        )
    labels = np.array([numbers.get(name, -1) for name in classes], np.int32)
    add_labelled(settings, writer, report, paths, np.array(splits, np.int64), labels, source)
    writer.classes = _class_names(names, settings, report)


def _class_names(names: list[bytes], settings: FormatSettings, report: Report) -> list[str]:
    """Names of folders as names of classes; what is not UTF-8 is told, or refused."""
    encoding = known(settings.encoding) if settings.encoding else None
    found = in_utf8(names, encoding, lambda place: "a class folder")
    odd = [place for place, name in enumerate(names) if not is_utf8(name)]
    if odd and encoding is None:
        shown = names[odd[0]].decode("utf-8", "backslashreplace")
        report.note(
            f"{len(odd)} name(s) of class folders are not UTF-8 and read as latin-1, such as {shown!r} as "
            f"{decode(found[odd[0]])!r} (-o data.encoding=… names another)"
        )
    if len(set(found)) < len(found):
        twice = next(place for place, name in enumerate(found) if name in found[:place])
        raise DataError(
            f"two class folders are called {decode(found[twice])!r}, in two encodings (one is "
            f"{names[twice].decode('utf-8', 'backslashreplace')!r}): give them one name"
        )
    return [decode(name) for name in found]


def add_labelled(
    settings: FormatSettings, writer: CatalogueWriter, report: Report, paths: list[bytes],
    splits: np.ndarray, labels: np.ndarray, source: str = "files",
) -> None:  # fmt: skip
    """Append images with labels, split by split, holding out what the data set does not split itself."""
    kept = np.flatnonzero(splits >= 0)
    chosen = [paths[row] for row in kept.tolist()]
    keys = Paths.of(chosen).hashes()
    codes = hold_out(splits[kept].astype(np.uint8), labels[kept], keys, settings, report)
    for code, split in enumerate(SPLITS):
        rows = np.flatnonzero(codes == code)
        block = Block(split, source, Paths.of([chosen[i] for i in rows.tolist()]), labels[kept][rows])
        if len(rows):
            writer.add(block)
