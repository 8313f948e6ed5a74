"""Food-101N (Lee et al. 2018, CleanNet): crawled training images; the test images are Food-101's.

`meta/imagelist.tsv` (header `class_name/key`) lists the images of `images/`; `meta/verified_train.tsv` and
`verified_val.tsv` say of some whether the label is right (`class_name/key<TAB>1`). Food-101 lies beside them
(`food-101/`, or `folders: {test: …}`): its `meta/test.txt` lists `class_name/key` without `.jpg`.
A label verified as right is the `true_label`; one verified as wrong has `noise` "wrong" and no known truth.
"""

from __future__ import annotations

from pathlib import Path

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import Report, as_bytes, unsafe
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.lists.exported import Known, Rows, add_rows
from smelt.data.formats.lists.pathlists import read_lines
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.files import Part
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import joined
from smelt.errors import DataError

FORMAT = Format(
    "Food-101N, with Food-101's test",
    order=40,
    takes="lists folders",
    checked_if={"val_from": "test"},
)

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
    found = [_rows(train, "train", report, known=_verified(verified, report))]
    if test is None:
        report.warn(f"{root} has no food-101/meta/test.txt: the catalogue has no test split of Food-101")
    else:
        found.append(_rows(test, "test", report))
    paths = [
        [joined(as_bytes(rows.path.parent.parent / "images", root), name) for name in rows.names]
        for rows in found
    ]
    classes = Known()
    classes.ids = dict.fromkeys(sorted({label for rows in found for (label,) in rows.labels}), b"")
    given = settings.model_copy(update={"test_labels": "given"})  # people's, however few are there
    add_rows(found, paths, classes, given, root, writer, report)


def _rows(path: Path, split: str, report: Report, known: dict[bytes, bool] | None = None) -> Rows:
    """The images of a list: of training, of which `known` says which labels are right, or of Food-101's test,
    whose labels are, and whose names have no suffix."""
    test = known is None
    rows = Rows(path, split, lines=True)
    truth, noise = rows.columns.setdefault("true_label", []), rows.columns.setdefault("noise", [])
    for line, text in enumerate(read_lines(Part(path)), 1):
        if line == 1 and not test:
            continue  # the names of the columns
        key = text.strip()
        key = key + b".jpg" if test and not key.endswith(b".jpg") else key
        if (reason := unsafe(key)) or key.count(b"/") != 1:
            report.problem(f"{path}:{line}: {decode(key)!r} {reason or 'is not class_name/key'}")
        label = key.partition(b"/")[0]
        verdict = True if known is None else known.get(key)
        rows.add(key, (label,), line)
        truth.append(label if verdict else b"")
        noise.append(b"wrong" if verdict is False else b"")
    rows.columns["source"] = [b"food101" if test else b"web"] * len(rows)
    return rows


def _verified(paths: list[Path], report: Report) -> dict[bytes, bool]:
    known = {}
    for path in paths:
        for number, line in enumerate(read_lines(Part(path))[1:], 2):
            key, _, verdict = line.strip().partition(b"\t")
            if verdict not in (b"0", b"1"):
                report.problem(f"{path}:{number}: the verification is {decode(verdict)!r}, not 0 or 1")
            known[key] = verdict == b"1"
    return known
