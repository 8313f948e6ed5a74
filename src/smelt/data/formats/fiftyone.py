"""FiftyOne: `samples.json` (FiftyOneDataset), or `labels.json` and `data/` (its image classification).

`samples.json` holds {"samples": [{"filepath": …, "ground_truth": {"label": …}, "tags": ["train"]}]}; which
field is the label says `columns: {label: …}` where there are several and none is `ground_truth`. A tag that
means a split says the split. `labels.json` holds {"classes": […] or null, "labels": {key: …}}: a key is the
path of an image in `data/` without its suffix, its label a place in `classes`, a name, null, or several.
Either lies in the root, or in a folder for each split; others by `lists`. Classifications and detections
with several labels go by `multi_label`. The classes are those that `labels.json`, or `metadata.json` beside
the samples, lists. (An ImageClassificationDirectoryTree is read as `imagefolder`.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import Report, as_bytes
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.jsons import load, name_bytes, placed, walk
from smelt.data.formats.labels.classes import Classes
from smelt.data.formats.lists.exported import (
    Known,
    Rows,
    add_rows,
    candidates,
    found_lists,
    images_named,
    items,
    refuse_many,
    text_or_number,
    wrong,
)  # fmt: skip
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.finder import Finder
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import split_of
from smelt.errors import DataError

FORMAT = Format(
    "exports of FiftyOne: samples.json or labels.json",
    order=80,
    takes="lists columns links prefix suffix paths_from unlabelled split_words no_label label_is "
    "multi_label test_labels",
)

_SAMPLES = re.compile(rb'^\s*\{\s*"samples"\s*:\s*\[')
_LABELS = re.compile(rb'^\s*\{\s*("classes"\s*:\s*(null|\[)|"labels"\s*:\s*\{)')
_SEVERAL = ("classifications", "detections", "polylines")  # what holds a list of labels


def recognise(glimpse: Glimpse) -> str:
    """The file of samples or labels, known by how it begins."""
    found = _found(glimpse)
    return f"FiftyOne's {', '.join(found[:3])}" if found else ""


def _found(glimpse: Glimpse) -> list[str]:
    found = []
    for name in candidates(glimpse, (".json",)):
        head = glimpse.head(name)
        at, _, last = name.rpartition("/")
        if _SAMPLES.match(head) or (
            last == "labels.json" and _LABELS.match(head) and "data" in glimpse.folders(at)
        ):
            found.append(name)
    return found


def lists_of(settings: FormatSettings, root: Path) -> list[tuple[str, Path]]:
    """(split or "all", file) of the labels."""
    return found_lists(settings, root, _found(Glimpse(root)), "samples.json or labels.json of FiftyOne")


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The labels by content, and what lies in the folder by listing."""
    lists = [path for _, path in lists_of(settings, root)]
    further = [path.with_name("metadata.json") for path in lists]
    return images_named(settings, root, [*lists, *(path for path in further if path.is_file())])


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the images of each split, in the order of their list."""
    finder = Finder(settings, root, report)
    known, found, paths = Known(), [], []
    for split, path in lists_of(settings, root):
        report.used.add(as_bytes(path, root))
        if _SAMPLES.match(Glimpse(path.parent).head(path.name)):
            rows = _samples(path, split, known, settings, root, report)
            paths.append(finder.locate(rows, finder.folders(rows)))
        else:
            rows = _labels(path, split, known, report)
            paths.append(finder.locate_stems(rows, as_bytes(path.parent / "data", root)))
        found.append(rows)
    add_rows(found, paths, known, settings, root, writer, report)


def _labels(path: Path, split: str, known: Known, report: Report) -> Rows:
    """The rows of a `labels.json`."""
    rows, entries, seen = Rows(path, split, "labels"), [], set()
    listed: dict[bytes, bytes] = {}
    for within, place, value in walk(path, ("labels",)):
        if within:
            entries.append((str(place), value))
        else:
            seen.add(place)
            if place == "classes" and value is not None:
                listed = _class_list(value, f"{path}: classes", report)
            elif place == "labels" and not isinstance(value, dict):
                wrong(str(path), "`labels`", value, "an object of images", report)
    if "labels" not in seen:
        raise DataError(f"{path}: no labels of FiftyOne: it has no `labels`")
    known.add(listed, path, report)
    own = Known()
    own.add(listed, path, report)
    classes = own.classes()
    for key, value in entries:
        refuse_many(report)
        name = name_bytes(key)
        if name and type(value) is int and classes and 0 <= value < len(classes.names):
            rows.add(name, (classes.names[value],), key)  # by far the most, and there may be millions
            continue
        where = f"{path}: {placed('labels', key)}"
        if not name:
            wrong(where, "the key", key, "the name of an image", report)
            continue
        labels = [_named(label, classes, where, report) for label in _said(value, where, report)]
        rows.add(name, (label for label in labels if label), key)
    return rows


def _class_list(value: Any, where: str, report: Report) -> dict[bytes, bytes]:
    """The names of classes in their order, each with the b"" that it has for an id."""
    if not isinstance(value, list):
        wrong(where, "it", value, "a list of names", report)
        return {}
    names: dict[bytes, bytes] = {}
    for place, item in enumerate(value):
        if not (name := text_or_number(item)):
            wrong(f"{where}[{place}]", "it", item, "the name of a class", report)
        elif name.strip() in names:
            report.problem(f"{where}[{place}]: class {decode(name)!r} is there twice")
        else:
            names[name.strip()] = b""
    return names


def _named(label: Any, classes: Classes | None, where: str, report: Report) -> bytes:
    """The name of a class; b"" where the report was told that there is none."""
    name = text_or_number(label)
    if name is None or isinstance(label, float):
        wrong(where, "the label", label, "the name or the number of a class", report)
        return b""
    if classes is None:
        return name.strip()
    if isinstance(label, int):
        if 0 <= label < len(classes.names):
            return classes.names[label]
        last = len(classes.names) - 1
        report.problem(f"{where}: label {label} is none of the places 0..{last} in `classes`")
        return b""
    if name.strip() not in classes.numbers:
        report.problem(f"{where}: label {decode(name)[:80]!r} is not in `classes`")
        return b""
    return name.strip()


def _said(value: Any, where: str, report: Report) -> Iterator[Any]:
    """All labels in a value: null, a name or number, {"label": …}, a list of these, or one of _SEVERAL."""
    if isinstance(value, dict):
        several = next((value[key] for key in _SEVERAL if isinstance(value.get(key), list)), None)
        value = several if several is not None else [value]
    for item in value if isinstance(value, list) else [value]:
        label = item.get("label") if isinstance(item, dict) else item
        if isinstance(label, list | dict):
            wrong(where, "the label", label, "the name or the number of a class", report)
        elif label is not None and label != "":
            yield label


def _samples(
    path: Path, split: str, known: Known, settings: FormatSettings, root: Path, report: Report
) -> Rows:
    """The rows of a `samples.json`."""
    rows, fields, samples = Rows(path, split, "samples"), dict[str, int](), []
    for within, place, where, value in items(path, report, ("samples",)):
        if not within or not isinstance(place, int):
            continue
        name = value.get(settings.columns.get("path", "filepath"))
        if not isinstance(name, str) or not (name_in_bytes := name_bytes(name)):
            wrong(where, "`filepath`", name, "the path of an image", report)
            continue
        kept = {key: item for key, item in value.items() if _holds_label(item)}
        if (own := settings.columns.get("label")) in value:
            kept = {str(own): value[own]}
        for key in kept:
            fields[key] = fields.get(key, 0) + 1
        samples.append((place, where, name_in_bytes, kept, value.get("tags")))
    label = _field(path, fields, settings)
    for place, where, name_in_bytes, kept, tags in samples:
        refuse_many(report)
        at = f"{where}: {label}"
        said = [_named(item, None, at, report) for item in _said(kept.get(label), at, report)]
        rows.add(name_in_bytes, (item for item in said if item), place)
        if split == "all":
            rows.columns.setdefault("split", []).append(_split(tags, where, report))
    _metadata(path, label, known, root, report)
    return rows


def _holds_label(value: Any) -> bool:
    return isinstance(value, dict) and ("label" in value or any(key in value for key in _SEVERAL))


def _field(path: Path, fields: dict[str, int], settings: FormatSettings) -> str:
    """The field of the samples that is the label."""
    own = settings.columns.get("label")
    if own is not None and own not in fields:
        there = ", ".join(sorted(fields)[:10]) or "none"
        raise DataError(f"{path}: no sample has a field {own!r} (data.columns.label); with labels: {there}")
    chosen = own or ("ground_truth" if "ground_truth" in fields else "")
    if not chosen and len(fields) > 1:
        counts = ", ".join(f"{name} ({count:,})" for name, count in sorted(fields.items())[:10])
        raise DataError(
            f"{path}: the samples have {len(fields)} fields with labels: {counts}. Say which one is learnt: "
            f"-o data.columns.label={min(fields)}"
        )
    return chosen or next(iter(fields), "ground_truth")


def _split(tags: Any, where: str, report: Report) -> bytes:
    """The split that the tags of a sample say; training where none does."""
    words = tags if isinstance(tags, list) else [tags]
    said = {split for tag in words if isinstance(tag, str) and (split := split_of(tag))}
    if len(said) > 1:
        report.problem(f"{where}: its tags say {' and '.join(sorted(said))}")
    return said.pop().encode() if said else b"train"


def _metadata(path: Path, label: str, known: Known, root: Path, report: Report) -> None:
    """The classes that `metadata.json` beside the samples lists for the field `label`, or for all."""
    beside = path.with_name("metadata.json")
    if not beside.is_file():
        return
    report.used.add(as_bytes(beside, root))
    value = load(beside)
    classes = value.get("classes") if isinstance(value, dict) else None
    listed = (classes.get(label) if isinstance(classes, dict) else None) or (
        value.get("default_classes") if isinstance(value, dict) else None
    )
    if listed:
        names = _class_list(listed, f"{beside}: classes", report)
        known.add(names, path, report)
