"""A test whose images and whose labels are apart: a folder without a list, a list beside class folders."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path

from smelt.artifacts.bytestrings import ByteStrings, decode, encode
from smelt.data.formats.base import Report, as_bytes, list_folder
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.splitlabels import ENOUGH
from smelt.data.formats.lists.columns import looks_like_image
from smelt.data.formats.lists.imagetable import Table
from smelt.data.formats.lists.listfiles import ListFile, opened
from smelt.data.formats.lists.listnames import lists_among, said
from smelt.data.formats.lists.sheets import read, stream
from smelt.data.formats.tree.fitting import SAMPLE
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import hidden, split_of
from smelt.data.formats.tree.spelling import Spelling
from smelt.errors import DataError, short

_MOST = 10  # lists that are looked into


def unlisted_test(lists: Sequence[ListFile], settings: FormatSettings, root: Path) -> list[bytes]:
    """The images that lie in a folder `test` itself, where the lists speak of training alone; sorted.

    Paths below the root. None where the settings name the lists, a list has splits, or its paths do not lead
    into a folder of training.
    """
    if settings.lists or settings.prefix or not settings.check_files or not lists:
        return []
    if any(found.split == "test" or "split" in found.columns.places for found in lists):
        return []
    tops = [folder for folder in Glimpse(root).folders() if split_of(folder) == "test"]
    if len(tops) != 1 or not all(map(_is_of_training, lists)):
        return []
    names = list_folder(root, encode(tops[0]))
    return sorted(encode(f"{tops[0]}/") + name for name in names
                  if looks_like_image(decode(name)) and not hidden(name))  # fmt: skip


def _is_of_training(found: ListFile) -> bool:
    cells = islice(stream(found.sheet, found.columns.places["path"]), SAMPLE)
    tops = {decode(found.spelling(cell)).partition("/")[0] for cell in cells if cell}
    return bool(tops) and all(split_of(top) in ("train", "val") for top in tops)


def table_of(paths: list[bytes], root: Path, report: Report) -> Table:
    """Images without labels, as a table of the test."""
    top = decode(paths[0]).partition("/")[0]
    report.note(f"{len(paths):,} images of {top}/ are in no list: they are a test without labels")

    def where(entry: int) -> str:
        return str(root / decode(paths[entry])) if entry < len(paths) else str(root)

    return Table("test", {"path": ByteStrings.of(paths)}, where, name=top, spelling=Spelling())


def list_of_test(root: Path) -> ListFile | None:
    """The list of the test's labels beside folders of classes, or None."""
    glimpse = Glimpse(root)
    folders = [folder for folder in glimpse.folders() if split_of(folder) == "test"]
    names = [name for name in lists_among(glimpse.files()) if said(name) == "test"]
    names += [f"{folder}/{name}" for folder in folders for name in lists_among(glimpse.files(folder))
              if said(name) in ("test", "all")]  # fmt: skip
    for name in names[:_MOST] if folders else []:
        try:
            found = opened(FormatSettings(format="csv"), root, "test", root / name)
        except (DataError, ValueError):
            continue
        if "label" in found.columns.places:
            return found
    return None


def labels_of_test(
    found: ListFile | None, root: Path, classes: Collection[bytes], report: Report
) -> dict[bytes, bytes]:
    """Path below the root → class, by the list of a test whose images lie in no class folder.

    Empty, with a warning, where its labels are other words than `classes`.
    """
    if found is None:
        return {}
    places = found.columns.places
    (paths, labels), where = read(found.sheet, [places["path"], places["label"]], report)
    given = {found.spelling(path): label.strip() for path, label in zip(paths, labels) if label.strip()}
    if not given:
        return {}
    report.used.add(as_bytes(found.path, root))
    words = set(given.values())
    if len(words) == 1 and len(given) >= ENOUGH and len(classes) > 1:
        report.warn(
            f"{found.name} says {short(decode(min(words)), 60)!r} of all {len(given):,} images of the test, "
            "which stands in for a label: the test is read without labels"
        )
        return {}
    if other := words - set(classes):
        row = next(row for row, label in enumerate(labels) if label.strip() in other)
        report.warn(
            f"{found.name} may hold the labels of the test, and {where(row)}: "
            f"{short(decode(labels[row]), 60)!r} is no folder of a class: the test is read without labels. "
            "Write the names of the class folders there"
        )
        return {}
    report.note(f"{found.name} says the classes of {len(given):,} images of the test")
    return given
