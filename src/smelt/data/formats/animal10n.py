"""ANIMAL-10N (Song et al. 2019): `training/`, `testing/`; the label is the number that a name begins with."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import numpy as np

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue import SPLITS
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import IMAGE_SUFFIXES, Report, list_folder
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.imagefolder import add_labelled
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.names import hidden
from smelt.errors import DataError
from smelt.files.opening import is_kind

FORMAT = Format(
    "ANIMAL-10N",
    order=45,
    takes="folders",
    checked_if={"val_from": "test"},
)

CLASSES = (
    "cat", "lynx", "wolf", "coyote", "cheetah", "jaguar", "chimpanzee", "orangutan", "hamster", "guinea pig",
)  # fmt: skip
_FOLDERS = {"train": "training", "test": "testing"}
_SUFFIXES = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)


def _folder(settings: FormatSettings, root: Path, split: str) -> Path:
    folder = root / settings.folders.get(split, _FOLDERS[split])
    if not folder.is_dir():
        raise DataError(
            f"{folder} is no folder: ANIMAL-10N has training/ and testing/; where they are called otherwise, "
            f"-o data.folders.{split}=…"
        )
    return folder


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """Both folders, by names and sizes."""
    return [], [_folder(settings, root, split) for split in _FOLDERS]


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append training, a validation part held out of it, and test."""
    paths, splits, labels = [], [], []
    for split in _FOLDERS:
        folder = _folder(settings, root, split)
        below = os.fsencode(folder.relative_to(root))
        for name in sorted(list_folder(root, below)):
            if hidden(name) or not name.lower().endswith(_SUFFIXES):
                continue
            if is_kind(os.path.join(os.fsencode(folder), name), stat.S_ISDIR):
                report.leave_out("a folder called like an image", below + b"/" + name)
                continue
            number = re.match(rb"\d+", name)
            label = int(number.group()) if number and len(number.group()) < 10 else -1
            if not 0 <= label < len(CLASSES):
                report.problem(f"{folder}/{decode(name)}: the name does not begin with a label 0..9")
            paths.append(below + b"/" + name)
            splits.append(SPLITS.index(split))
            labels.append(label)
    writer.classes = list(CLASSES)
    add_labelled(settings, writer, report, paths, np.array(splits), np.array(labels, np.int32), "web")
