"""Food-101N (Lee et al. 2018, CleanNet): crawled training images; the test images are Food-101's.

`meta/imagelist.tsv` (header `class_name/key`) lists the images of `images/`; `meta/verified_train.tsv` and
`verified_val.tsv` say of some whether the label is right (`class_name/key<TAB>1`). Food-101 lies beside them
(`food-101/`, or `folders: {test: …}`): its `meta/test.txt` lists `class_name/key` without `.jpg`.
A label verified as right is the `true_label`; one verified as wrong has `noise` "wrong" and no known truth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue import SPLITS, UNKNOWN_TRUTH
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.formats.base import Report, hold_out, unsafe
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.lists.imagetable import Where
from smelt.data.formats.lists.pathlists import read_lines
from smelt.data.formats.tree.files import Files, Part
from smelt.data.formats.tree.layout import Glimpse
from smelt.errors import DataError

_HERE = ("", "Food-101N_release", "Food-101N", "food-101n")
_TEST = ("food-101", "Food-101", "food101", ".")
_VERIFIED = ("verified_train.tsv", "verified_val.tsv")


def _first(root: Path, folders: tuple[str, ...], name: str, what: str) -> Path:
    found = next((root / folder / name for folder in folders if (root / folder / name).is_file()), None)
    if found is None:
        raise DataError(f"{root} has no {name}: {what}")
    return found


def _lists(settings: FormatSettings, root: Path) -> tuple[Path, list[Path], Path | None]:
    """(list of training, verified labels, list of test or None)."""
    here = (settings.folders["train"],) if "train" in settings.folders else _HERE
    train = _first(root, here, "meta/imagelist.tsv", "is it the folder of Food-101N?")
    verified = [train.parent / name for name in _VERIFIED if (train.parent / name).is_file()]
    tests = (settings.folders["test"],) if "test" in settings.folders else _TEST
    test = next(
        (root / top / "meta/test.txt" for top in tests if (root / top / "meta/test.txt").is_file()), None
    )
    return train, verified, test


def recognise(glimpse: Glimpse) -> str:
    """Its list of images, in the root or in the folder that the release unpacks to."""
    metas = (f"{at}/meta".lstrip("/") for at in _HERE)
    return next((f"{meta}/imagelist.tsv" for meta in metas if "imagelist.tsv" in glimpse.files(meta)), "")


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The lists, by content."""
    train, verified, test = _lists(settings, root)
    return [train, *verified, *([test] if test else [])], []


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append training, a validation part held out of it, and Food-101's test images."""
    train, verified, test = _lists(settings, root)
    known = _verified(verified, report)
    listed = {"train": (train, _keys(train, report, header=True, suffix=b""))}
    if test is None:
        report.warn(f"{root} has no food-101/meta/test.txt: the catalogue has no test split of Food-101")
    else:
        listed["test"] = (test, _keys(test, report, header=False, suffix=b".jpg"))
    report.refuse()  # before a path that leads out of the folder is looked for
    names = sorted({key.partition(b"/")[0] for _, keys in listed.values() for key in keys})
    numbers = {name: label for label, name in enumerate(names)}
    writer.classes = [decode(name) for name in names]
    files = Files(root, [], report, check=settings.check_files)
    keys = [key for _, part in listed.values() for key in part]
    labels = np.array([numbers[key.partition(b"/")[0]] for key in keys], np.int32)
    given = np.repeat([SPLITS.index(split) for split in listed], [len(part) for _, part in listed.values()])
    placed = [
        f"{_images(path, root)}/".encode() + key for path, part in listed.values() for key in part
    ]  # by the path in the catalogue, as in all formats
    codes = hold_out(given.astype(np.uint8), labels, Paths.of(placed).hashes(), settings, report)
    first = 0
    for split, (path, part) in listed.items():
        base = _images(path, root).encode()
        for code in np.unique(codes[first : first + len(part)]).tolist():
            rows = np.flatnonzero(codes[first : first + len(part)] == code) + first
            block = _block(files, SPLITS[code], base, [keys[row] for row in rows.tolist()], labels[rows])
            _verdicts(block, known if split == "train" else None, [keys[row] for row in rows.tolist()])
            block.listed_in, block.entries = _lines(path, 2 if split == "train" else 1), rows - first
            writer.add(block)
        first += len(part)


def _images(meta: Path, root: Path) -> str:
    """The folder of the images that the list `meta` names, below the root."""
    return str(meta.parent.parent.relative_to(root) / "images")


def _block(files: Files, split: str, base: bytes, keys: list[bytes], labels: Any) -> Block:
    placed = Paths.of(keys).below(base)
    fixed, missing = files.locate(placed)
    return Block(split, "web", placed, labels, fixed, missing=missing)


def _verdicts(block: Block, known: dict[bytes, bool] | None, keys: list[bytes]) -> None:
    """Add `true_label` and `noise`; without `known` all labels are right (they are Food-101's)."""
    if known is None:
        block.source = "food101"
    verdicts = [True if known is None else known.get(key) for key in keys]
    right = np.array([verdict is True for verdict in verdicts], np.bool_)
    wrong = np.array([verdict is False for verdict in verdicts], np.uint32)
    block.fixed["true_label"] = np.where(right, block.labels, UNKNOWN_TRUTH)
    block.words["noise"] = (wrong, [b"", b"wrong"])


def _lines(path: Path, first: int) -> Where:
    """What messages call the lines of a list that begins at line `first`."""
    return lambda entry: f"{path}:{entry + first}"


def _keys(path: Path, report: Report, *, header: bool, suffix: bytes) -> list[bytes]:
    lines = [line.strip() for line in read_lines(Part(path))][1 if header else 0 :]
    keys = [line if line.endswith(suffix) else line + suffix for line in lines]
    for number, key in enumerate(keys, 2 if header else 1):
        if (reason := unsafe(key)) or key.count(b"/") != 1:
            report.problem(f"{path}:{number}: {decode(key)!r} {reason or 'is not class_name/key'}")
    return keys


def _verified(paths: list[Path], report: Report) -> dict[bytes, bool]:
    known = {}
    for path in paths:
        for number, line in enumerate(read_lines(Part(path))[1:], 2):
            key, _, verdict = line.strip().partition(b"\t")
            if verdict not in (b"0", b"1"):
                report.problem(f"{path}:{number}: the verification is {decode(verdict)!r}, not 0 or 1")
            known[key] = verdict == b"1"
    return known
