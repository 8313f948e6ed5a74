"""Where the classes of a tree of folders would be found instead, each way as an option to paste."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.lists.columns import looks_like_image
from smelt.data.formats.lists.listfiles import chosen
from smelt.data.formats.lists.listnames import is_list, lists_among
from smelt.data.formats.tree.folders import Tree, classes_of
from smelt.data.formats.tree.layout import Glimpse, recognise
from smelt.data.formats.tree.names import aside, first_few, no_class, numbered, of_splits, split_of
from smelt.errors import DataError

_FEW = 10
WRITE = "write a list, images.csv, a row an image, with the columns path, label and, if there is one, split"
_DATA = (".json", ".pkl", ".pickle", ".npy", ".npz", ".xlsx", ".sqlite", ".db", ".h5")


def class_counts(settings: FormatSettings, tree: Tree, rule: str | None = None) -> dict[bytes, int]:
    """Class → training images, by `rule` or as the settings say."""
    counts: Counter[bytes] = Counter()
    for folder, names in tree.images.items():
        split, parts = tree.parts(folder)
        if split == "train":
            counts.update(classes_of(rule or settings.class_from, parts, names))
    del counts[b""]
    return dict(counts)


def readings(tree: Tree, *rules: str) -> str:
    """What each `class_from` of `rules` makes of a tree, as options to choose from."""
    told = []
    for rule in rules:
        classes = class_counts(FormatSettings(), tree, rule)
        told.append(f"-o data.class_from={rule} has {len(classes)} classes ({names_of(classes)})")
    return "; or ".join(told)


def has_classes(root: Path, below: bytes) -> str:
    """A folder below the root as the option that names it, with its classes; "" where it has not two."""
    better = root / decode(below)
    classes = class_counts(FormatSettings(), Tree.of(better, "inside"))
    if len(classes) < 2 or no_classes(classes):
        return ""
    return f"-o data.root={quote(as_given(better))} has {len(classes)} classes ({names_of(classes)})"


def pictures_in(tree: Tree) -> bytes:
    """The one folder of the root that holds folders of images, two or more, beside others that hold none."""
    if tree.splits or tree.within:
        return b""
    inner = {top: tree.below(top) for top in tree.tops}
    deep = [top for top, names in inner.items() if names != {b""}]
    if len(deep) != 1 or len(inner) < 2 or b"" in inner[deep[0]] or len(inner[deep[0]]) < 2:
        return b""
    return deep[0]


def _splits_only(tree: Tree) -> str:
    """What to do where folders are called as splits and none is known as training; "" if not so."""
    if tree.splits or tree.within:
        return ""
    tops = [decode(top) for top in tree.tops]
    single = [decode(part) for part in _single_path(tree).split(b"/")] if len(tops) == 1 else []
    found = [part for part in single if split_of(part) in ("val", "test")]
    if not found and all(split_of(top) in ("val", "test") for top in tops):
        found = tops
    if not found:
        several = of_splits(tops)
        shown = first_few(several, len(several), 5)
        return f"Call {shown} train, val and test, as they are meant. " if several else ""
    return f"Where is the folder of training? Call it train, beside {first_few(found, len(found), 5)}. "


def _asides(tree: Tree) -> list[bytes]:
    """Folders called after what is no image that hold images of training, each with its path."""
    found: dict[bytes, None] = {}
    for folder in tree.images:
        parts = folder.split(b"/")
        place = next((i for i, part in enumerate(parts) if aside(decode(part))), None)
        if place is not None and tree.parts(folder)[0] == "train":
            found[b"/".join(parts[: place + 1])] = None
    return list(found)


def elsewhere(root: Path, tree: Tree) -> str:
    """Where two classes would be found: below, above, by another folder, in the names, in a list."""
    if told := _splits_only(tree):  # what a model is judged by is never proposed to learn from
        return told
    ways = []
    deeper = _single_path(tree)
    if deeper and (better := has_classes(root, deeper)):
        ways.append(better)
    for rule in ("leaf", "depth:2"):
        classes = class_counts(FormatSettings(), tree, rule)
        if len(classes) > 1 and not ways and not no_classes(classes):
            if found := _asides(tree):  # whose files would be taken for images of the same classes
                return (
                    f"{names_of(found)}/ is called after what is no image: move it out of {as_given(root)}. "
                    f"Then: -o data.class_from={rule}. "
                )
            ways.append(f"-o data.class_from={rule} has {len(classes)} classes ({names_of(classes)})")
            break
    by_name = class_counts(FormatSettings(), tree, "name")
    total = sum(by_name.values())
    words = all(decode(name)[:1].isalpha() for name in by_name)
    if words and 1 < len(by_name) <= total / 3 and not ways:
        ways.append(
            f"-o data.class_from=name takes what the files' names begin with, {len(by_name)} classes "
            f"({names_of(by_name)})"
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
    parent = root.resolve().parent
    glimpse = Glimpse(parent)
    full = [name for name in glimpse.folders()[:50] if any(map(looks_like_image, glimpse.files(name)[:20]))]
    if len(full) < 2 or root.resolve().name not in full or recognise(parent).format != "imagefolder":
        return ""
    return f"-o data.root={quote(as_given(parent))} has a folder for each of {first_few(full, len(full), 5)}"


def no_classes(found: dict[bytes, int]) -> str:
    """Why folders of such names are no classes; "" where they may be."""
    names = [decode(name) for name in found]
    splits: list[str] = []
    if all(split_of(name) for name in names) or (splits := of_splits(names)):
        shown = first_few(splits, len(splits)) if splits else names_of(found)
        return f"the folders {shown} are called as splits are, and none is known as training."
    if all(no_class(name) or aside(name) for name in names) or numbered(names):
        return f"the folders {names_of(found)} are called after kinds of files or parts, not after classes."
    return ""


def names_of(names: Iterable[bytes], total: int = 0) -> str:
    """The first five of some names and how many more there are (of `total`)."""
    listed = [decode(name) for name in names]
    return first_few(listed, total or len(listed), 5)


def as_given(path: Path) -> str:
    """A path as a user would type it: relative to where smelt is started, if it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
