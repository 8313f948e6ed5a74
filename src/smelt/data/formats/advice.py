"""What was probably meant, where a tree of folders makes no sense as classes: said with the option to give.

`on_tree` looks at the tree before it is read and refuses what would be nonsense to learn; `on_classes` warns
of what a person should look at. A `class_from` that is given is believed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.base import Report
from smelt.data.formats.census import what_is
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.names import first_few, no_class, numbered, of_splits, split_of
from smelt.errors import DataError

if TYPE_CHECKING:
    from smelt.data.formats.imagefolder import Tree

_SHARD = re.compile(rb"[0-9]{5}(\.tar)?")
_FEW = 10
WRITE = "write a list, images.csv, a row an image, with the columns path, label and, if there is one, split"
_DATA = (".json", ".pkl", ".pickle", ".npy", ".npz", ".xlsx", ".sqlite", ".db", ".h5")
FIRST = 5  # files of a class that are opened


def on_tree(settings: FormatSettings, root: Path, tree: Tree, report: Report) -> bool:
    """Whether the tree can be read as classes; what is wrong, and what was meant goes to `report`."""
    total = sum(map(len, tree.images.values()))
    if not total:
        odd = "; ".join(f"{count} × {why}" for why, count in tree.odd.most_common(3))
        report.problem(
            f"{as_given(root)} has no images that smelt reads in it or in the folders below"
            + (f". Passed over: {odd}" if odd else "")
        )
        return False
    if settings.class_from is None and _shards(tree):
        report.problem(
            f"the folders {_names(tree.tops)} are numbered as a downloader's shards are, with .json or .txt "
            f"beside the images: their numbers are no classes. Probably meant: -o data.format=img2dataset"
        )
        return False
    found = _class_counts(settings, tree)
    if len(found) < 2:
        report.problem(_one_class(settings, root, tree, found, total))
        return False
    if settings.class_from is None and (why := _no_classes(found) or _same_within(tree, found)):
        report.problem(f"{why} {_elsewhere(root, tree)}If they are meant: -o data.class_from=depth:1")
        return False
    return True


def on_classes(settings: FormatSettings, tree: Tree, report: Report) -> None:
    """Warn of empty class folders, of folders in class folders, of one image a class."""
    found = _class_counts(settings, tree)
    if empty := _empty(tree):
        report.warn(
            f"{len(empty)} class folder(s) hold no image, and are no classes: "
            f"{first_few(map(decode, empty), len(empty), _FEW)}"
        )
    if tree.splits:
        said = ", ".join(f"{decode(top)}/ is {split}" for top, split in sorted(tree.splits.items()))
        if any(decode(top) != split for top, split in tree.splits.items()):
            report.note(f"folders of splits: {said}")
    elif tree.within:
        report.note("the folders below the classes are splits: class/train/…, class/val/…")
    if settings.class_from is not None:
        return
    _warn_of_folders_within(tree, found, report)
    if odd := [name for name in found if split_of(decode(name))]:
        report.warn(
            f"{_names(odd)} is taken as a class, though it is called as a split is: as there is no folder "
            f"for training, folders are classes"
        )
    single = sum(count == 1 for count in found.values())
    if len(found) > _FEW and single > 0.9 * len(found):
        report.warn(
            f"{single} of {len(found)} classes have one image: is the folder of each image its class, or one "
            f"above it (-o data.class_from=depth:1, depth:2, …)?"
        )


def on_contents(root: Path, rows: list[tuple[bytes, int, bytes]], report: Report) -> None:
    """Warn of classes none of whose files is an image by its content; a problem where none of all is.

    rows: (path, split code, class). Of each class the first FIRST files are opened, and all where none of
    those is an image: pages of errors, empty files and what Git LFS leaves are called `.jpg` as well.
    """
    by_class: dict[bytes, list[bytes]] = {}
    for path, _, name in rows:
        by_class.setdefault(name, []).append(path)
    hollow: dict[bytes, Counter[str]] = {}
    for name, paths in by_class.items():
        kinds = Counter(what_is(root, path) for path in paths[:FIRST])
        if "" not in kinds and "" not in (kinds := Counter(what_is(root, path) for path in paths)):
            hollow[name] = kinds
    if not hollow:
        return
    total = sum(hollow.values(), Counter[str]())
    shown = ", ".join(f"{count} × {kind}" for kind, count in total.most_common(3))
    if len(hollow) == len(by_class):
        report.problem(
            f"none of the {total.total()} files below {as_given(root)} is an image, by content: {shown}"
        )
        return
    names = first_few([f"{decode(name) or 'no class'}" for name in hollow], len(hollow), _FEW)
    report.warn(f"{len(hollow)} class(es) hold no image, by content ({shown}): {names}")


def _class_counts(settings: FormatSettings, tree: Tree, rule: str | None = None) -> dict[bytes, int]:
    """Class → training images, by `rule` or as the settings say."""
    from smelt.data.formats.imagefolder import class_of

    counts: Counter[bytes] = Counter()
    for folder, names in tree.images.items():
        split, parts = tree.parts(folder)
        if split == "train":
            for name in names:
                counts[class_of(rule or settings.class_from, parts, name)] += 1
    del counts[b""]
    return dict(counts)


def _shards(tree: Tree) -> bool:
    """Whether the classes are a downloader's shards: `00000/`, `00001/`, …"""
    names = [parts[0] for folder in tree.images if (parts := tree.parts(folder)[1])]
    numbered = bool(names) and all(_SHARD.fullmatch(name) for name in names)
    return numbered and (tree.beside[b".json"] > 0 or tree.beside[b".txt"] > 0)


def _one_class(settings: FormatSettings, root: Path, tree: Tree, found: dict[bytes, int], total: int) -> str:
    """That there are no two classes, what there is, and what was probably meant."""
    if found:
        name, count = next(iter(found.items()))
        here = (
            f"the training images are of one class only, {decode(name)!r} ({count} of {total} images below "
            f"{as_given(root)})"
        )
    elif tree.images.keys() <= {b"", *tree.splits}:
        names = next(iter(tree.images.values()))
        where = "in the folder itself" if b"" in tree.images else f"in {_names(tree.images)} itself"
        here = f"{total} images lie {where} and none in a folder of its class (such as {decode(names[0])!r})"
    else:
        here = f"no training image lies in a class folder (of {total} images below {root}: {_places(tree)})"
    return f"learning needs two classes, and {here}. {_elsewhere(root, tree)}".rstrip()


def _elsewhere(root: Path, tree: Tree) -> str:
    """Where two classes would be found: below, above, by another folder, in the names, in a list."""
    from smelt.data.formats.imagefolder import Tree as Trees

    ways = []
    deeper = _single_path(tree)
    if deeper:
        below = Trees.of(root / decode(deeper), "inside")
        classes = _class_counts(FormatSettings(), below)
        if len(classes) > 1:
            better = as_given(root / decode(deeper))
            ways.append(f"-o data.root={better} has {len(classes)} classes ({_names(classes)})")
    for rule in ("leaf", "depth:2"):
        classes = _class_counts(FormatSettings(), tree, rule)
        if len(classes) > 1 and not deeper and not _no_classes(classes):
            ways.append(f"-o data.class_from={rule} has {len(classes)} classes ({_names(classes)})")
            break
    by_name = _class_counts(FormatSettings(), tree, "name")
    total = sum(by_name.values())
    words = all(decode(name)[:1].isalpha() for name in by_name)
    if words and 1 < len(by_name) <= total / 3 and not ways:
        ways.append(
            f"-o data.class_from=name takes what the files' names begin with, {len(by_name)} classes "
            f"({_names(by_name)})"
        )
    if not ways and (above := _above(root)):
        ways.append(above)
    also = _beside(root, tree)
    if ways:
        return f"Probably meant: {'; or '.join(ways)}. {also}"
    return also or (
        "A folder for each class is what is read here (class/image.jpg); labels that stand in a file are "
        "read as a list: -o data.format=csv -o data.lists.all=FILE. "
    )


def _beside(root: Path, tree: Tree) -> str:
    """What else lies there that may hold the labels: a list that was not taken and why, boxes."""
    from smelt.data.formats.layout import Glimpse
    from smelt.data.formats.listfiles import chosen
    from smelt.data.formats.listnames import lists_among

    found = []
    names = lists_among(Glimpse(root).files())
    if names:
        try:
            chosen(FormatSettings(format="csv"), root)
            found.append(f"A list lies there, {first_few(names, len(names))}: -o data.format=csv reads it. ")
        except DataError:
            found.append(
                f"{first_few(names, len(names))} was not taken as a list: -o data.format=csv "
                f"-o data.lists.all={names[0]} says why, or reads it. "
            )
    if other := _other_labels(root, tree):
        found.append(f"{other} are not read: {WRITE}. ")
    return "".join(found)


def _other_labels(root: Path, tree: Tree) -> str:
    """What else may hold labels: a file for each image, or one of another program; "" for none."""
    total = sum(map(len, tree.images.values()))
    if tree.beside[b".xml"] * 2 > total:
        return "Labels in an XML file for each image (Pascal VOC: boxes)"
    if tree.beside[b".txt"] * 2 > total:
        return "Labels in a text file for each image (YOLO: boxes)"
    if tree.beside[b".json"] * 2 > total:
        return "Labels in a JSON file for each image (LabelMe, Supervisely)"
    if (root / "annotations.xml").is_file():
        return "Labels in annotations.xml (CVAT, whose exports COCO and ImageNet are read)"
    if tree.beside[b".mat"]:
        return "Labels and splits in MATLAB's .mat files (scipy.io.loadmat reads them in Python)"
    if other := _data_files(root):
        return f"{first_few(other, len(other))} may hold labels, in a form of no export that is known, and"
    return ""


def _data_files(root: Path) -> list[str]:
    """Files below the root, not called as lists are, that programs write tables and labels to."""
    from smelt.data.formats.layout import Glimpse
    from smelt.data.formats.listnames import is_list

    return [
        f"{at}/{name}".lstrip("/")
        for at, files in Glimpse(root).tree
        for name in files
        if name.lower().endswith(_DATA) and (at or not is_list(name))
    ][:_FEW]


def _single_path(tree: Tree) -> bytes:
    """The folder that all images lie in or below and that parts them into several, or b"" for the root."""
    folders = [folder.split(b"/") if folder else [] for folder in tree.images]
    shared: list[bytes] = []
    for level in zip(*folders):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    if shared and any(len(parts) == len(shared) for parts in folders):
        shared.pop()  # images lie right in it: it is itself a class or a split
    return b"/".join(shared)


def _above(root: Path) -> str:
    """The folder above, where this one is a class of it."""
    from smelt.data.formats.columns import looks_like_image
    from smelt.data.formats.layout import Glimpse, recognise

    parent = root.resolve().parent
    glimpse = Glimpse(parent)
    full = [name for name in glimpse.folders()[:50] if any(map(looks_like_image, glimpse.files(name)[:20]))]
    if len(full) < 2 or root.resolve().name not in full or recognise(parent).format != "imagefolder":
        return ""
    return f"-o data.root={as_given(parent)} has a folder for each of {first_few(full, len(full), 5)}"


def _no_classes(found: dict[bytes, int]) -> str:
    """Why folders of such names are no classes; "" where they may be."""
    names = [decode(name) for name in found]
    splits: list[str] = []
    if all(split_of(name) for name in names) or (splits := of_splits(names)):
        shown = first_few(splits, len(splits)) if splits else _names(found)
        return f"the folders {shown} are called as splits are, and none is known as training."
    if all(map(no_class, names)) or numbered(names):
        return f"the folders {_names(found)} are called after kinds of files or parts, not after classes."
    return ""


def _same_within(tree: Tree, found: dict[bytes, int]) -> str:
    """That every class folder holds the same folders, two or more; "" where it is not so.

    `fold0/cat`, `fold0/dog`, `fold1/cat`, …: one of both is the class, and nobody can tell which.
    """
    within: dict[bytes, set[bytes]] = {}
    for folder in tree.images:
        parts = tree.parts(folder)[1]
        if len(parts) > 1:
            within.setdefault(parts[0], set()).add(parts[1])
    inner = next(iter(within.values()), set())
    if len(within) < len(found) or len(inner) < 2 or any(names != inner for names in within.values()):
        return ""
    return (
        f"the folders {_names(found)} all hold the same folders, {_names(sorted(inner))}: which are the "
        f"classes?"
    )


def _warn_of_folders_within(tree: Tree, found: dict[bytes, int], report: Report) -> None:
    """Warn where class folders hold folders with images: which one is the class?"""
    within = {folder: len(names) for folder, names in tree.images.items() if len(tree.parts(folder)[1]) > 1}
    last = {tree.parts(folder)[1][-1] for folder in within}
    if not within or len(last) == 1:  # class/images/x.jpg: nothing to choose from
        return
    leaves = _class_counts(FormatSettings(), tree, "leaf")
    count, total = sum(within.values()), sum(map(len, tree.images.values()))
    report.warn(
        f"class folders hold folders: {count} of {total} images lie in {_names(sorted(within))}. The first "
        f"folder is taken as the class, which makes {len(found)} ({_names(found)}); the last ones are "
        f"{len(leaves)} ({_names(leaves)}): -o data.class_from=leaf. If the first is meant: "
        f"-o data.class_from=depth:1"
    )


def _empty(tree: Tree) -> list[bytes]:
    """Class folders without an image in them or below."""
    full = set()
    for folder in tree.images:
        while folder and folder not in full:
            full.add(folder)
            folder = folder.rpartition(b"/")[0]
    depth = 1 if tree.splits else 0
    return sorted(
        folder for folder in tree.folders
        if folder and folder.count(b"/") == depth and folder not in full
        and (not depth or folder.partition(b"/")[0] in tree.splits)
    )  # fmt: skip


def _places(tree: Tree) -> str:
    shown = [
        f"{len(names)} in {decode(folder) or 'the folder itself'}" for folder, names in tree.images.items()
    ]
    return first_few(shown, len(shown), 4)


def _names(names: Iterable[bytes]) -> str:
    listed = [decode(name) for name in names]
    return first_few(listed, len(listed), 5)


def as_given(path: Path) -> str:
    """A path as a user would type it: relative to where smelt is started, if it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
