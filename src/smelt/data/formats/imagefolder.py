"""A folder of class folders: `root/class/…/image.jpg`, or `root/train/class/…`, `root/val/class/…`.

Classes are the folders of the training images in natural order (`c2` before `c10`), numbered from 0. The
split folders may be called train, training, val, valid, validation, dev, test or testing; a split that is
not there is held out (see `val_fraction`, `test_fraction`).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue import SPLITS
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.formats.base import IMAGE_SUFFIXES, SPLIT_NAMES, Report, hold_out, natural
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.identity import listing
from smelt.data.formats.layout import Glimpse

_SUFFIXES = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)


def recognise(glimpse: Glimpse) -> str:
    """Folders with images in them."""
    found = [
        at
        for at, files in glimpse.tree
        if at and any(name.lower().endswith(IMAGE_SUFFIXES) for name in files)
    ]
    return f"folders of images, such as {found[0]}/" if found else ""


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """Everything below the root counts, by name and size."""
    return [], [root]


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the rows of each split, sorted by path."""
    paths = [name for name, _ in listing(root) if name.lower().endswith(_SUFFIXES)]
    split_folders = split_folders_of(root)
    splits, classes = [], []
    for path in paths:
        parts = path.split(b"/")
        split = split_folders.get(parts[0], "train")
        own = parts[1:-1] if split_folders else parts[:-1]
        splits.append(SPLITS.index(split) if own and (not split_folders or parts[0] in split_folders) else -1)
        classes.append(own[0] if own else b"")
    add_classified(settings, writer, report, paths, splits, classes)
    ignored = splits.count(-1)
    if ignored:
        report.warn(f"{ignored} images lie in no class folder and were left out")


def split_folders_of(root: Path) -> dict[bytes, str]:
    """Folders of `root` that are splits, if training is among them; else it is a folder of classes."""
    found = {
        os.fsencode(path.name): SPLIT_NAMES[path.name.lower()]
        for path in root.iterdir()
        if path.name.lower() in SPLIT_NAMES and path.is_dir()
    }
    return found if "train" in found.values() else {}


def add_classified(
    settings: FormatSettings, writer: CatalogueWriter, report: Report,
    paths: list[bytes], splits: list[int], classes: list[bytes], source: str = "files",
) -> None:  # fmt: skip
    """Append images with a class name each; the training images say which classes there are.

    splits: codes 0 train, 1 val, 2 test, -1 left out.
    """
    names = sorted({name for name, split in zip(classes, splits) if split == 0}, key=natural)
    numbers = {name: label for label, name in enumerate(names)}
    strange = {name for name, split in zip(classes, splits) if split > 0 and name and name not in numbers}
    for name in sorted(strange):
        report.problem(f"class {decode(name)!r} has images of validation or test but none of training")
    labels = np.array([numbers.get(name, -1) for name in classes], np.int32)
    add_labelled(settings, writer, report, paths, np.array(splits, np.int64), labels, source)
    writer.classes = [name.decode("utf-8", "backslashreplace") for name in names]


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
