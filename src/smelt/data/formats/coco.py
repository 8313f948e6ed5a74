"""COCO: a JSON file with `images`, `annotations` and `categories`; one label an image.

Files: `_annotations.coco.json` in a folder for each split (Roboflow), `annotations/instances_train2017.json`
beside `train2017/`, or any JSON file in the root or two folders below that begins like COCO's, one a split;
others by `lists: {train: …, val: …}`. The label of an image is the category of its annotations, boxes and
masks of crowds included; where they are of several categories, `multi_label` says what to do, and an image
without annotations has no label. Classes are the categories in the order of their ids, used or not, but for
one that is only the `supercategory` of others. `file_name` is looked for beside the list, in `images/`,
`data/`, in the folder of its split, and by its name (see `exported`).
"""

from __future__ import annotations

import re
from pathlib import Path

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import Report, as_bytes
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.jsons import MAX_DIGITS, name_bytes, placed
from smelt.data.formats.labels.classes import is_number
from smelt.data.formats.lists.exported import (
    Known,
    Rows,
    add_rows,
    candidates,
    found_lists,
    images_named,
    items,
    split_of_list,
    taken,
    text_or_number,
    wrong,
)  # fmt: skip
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.finder import Finder
from smelt.data.formats.tree.layout import Glimpse
from smelt.errors import DataError

FORMAT = Format(
    "COCO: a JSON with images, annotations and categories",
    order=70,
    takes="lists columns links prefix suffix paths_from unlabelled split_words no_label label_is "
    "multi_label test_labels",
)

_STREAMED = ("images", "annotations", "categories")
_BEGINS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_HAS = re.compile(rb'"(file_name|category_id|supercategory|coco_url)"\s*:')
_SETS = ("instances", "person_keypoints", "stuff", "panoptic", "captions", "image_info")


def recognise(glimpse: Glimpse) -> str:
    """JSON files that begin as COCO's do."""
    found = _found(glimpse)
    return f"annotations in {', '.join(found[:3])}" if found else ""


def _found(glimpse: Glimpse) -> list[str]:
    """The files to read: of several that COCO has for one split, that of the instances."""
    by_split: dict[str, list[str]] = {}
    for name in candidates(glimpse, (".json",)):
        head = glimpse.head(name)
        if _BEGINS.search(head) and _HAS.search(head) and _set_of(name) != "image_info":
            by_split.setdefault(split_of_list(name), []).append(name)
    chosen = []
    for names in by_split.values():
        best = min(_SETS.index(_set_of(name)) for name in names)
        chosen += [name for name in names if _SETS.index(_set_of(name)) == best]
    return chosen


def _set_of(name: str) -> str:
    stem = name.rpartition("/")[2].lower()
    return next((known for known in _SETS if stem.startswith(known)), _SETS[0])


def lists_of(settings: FormatSettings, root: Path) -> list[tuple[str, Path]]:
    """(split or "all", file) of the annotations."""
    return found_lists(settings, root, _found(Glimpse(root)), "COCO annotations (a JSON with `images`)")


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The annotations by content, and what lies in the folder by listing."""
    return images_named(settings, root, [path for _, path in lists_of(settings, root)])


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the images of each split, in the order of their list."""
    finder = Finder(settings, root, report)
    known, found = Known(), []
    for split, path in lists_of(settings, root):
        report.used.add(as_bytes(path, root))
        source = _Annotations(path)
        source.read(report)
        report.refuse()
        rows = source.rows(split, report)
        known.add(source.classes(report), path, report)
        found.append(rows)
    report.refuse()
    paths = [finder.locate(rows, finder.folders(rows)) for rows in found]
    add_rows(found, paths, known, settings, root, writer, report)


class _Annotations:
    """One file. Images, categories and what annotations point to are known by their ids as text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images: dict[bytes, tuple[bytes, int]] = {}  # id → (name, place)
        self.names: dict[bytes, bytes] = {}  # id of a category → name
        self.above: set[bytes] = set()  # names of supercategories
        self.of: dict[bytes, tuple[int, dict[bytes, None]]] = {}  # id of an image → (first, categories)
        self.uses: dict[bytes, int] = {}  # id of a category → its first annotation

    def read(self, report: Report) -> None:
        """Take in the file. What cannot be right goes to the report with its place."""
        seen = set()
        takes = {"images": self._image, "annotations": self._annotation, "categories": self._category}
        for within, place, where, value in items(self.path, report, _STREAMED):
            if within and isinstance(place, int):
                takes[within](value, place, where, report)
            elif place in _STREAMED:
                seen.add(place)
                if value != [] or not isinstance(value, list):
                    wrong(str(self.path), f"`{place}`", value, "a list", report)
        if missing := [name for name in ("images", "categories") if name not in seen]:
            raise DataError(f"{self.path}: no COCO annotations: it has no {' and no '.join(missing)}")

    def _image(self, value: dict[str, object], place: int, where: str, report: Report) -> None:
        name = value.get("file_name")
        if name is None and isinstance(url := value.get("coco_url"), str):
            name = "/".join(url.split("/")[-2:])
        path = name_bytes(name) if isinstance(name, str) else None
        if (number := taken(value, "id", "a whole number", where, report)) is None:
            return
        if not path:
            wrong(where, "`file_name`", name, "the name of a file", report)
        elif number in self.images:
            before = placed("images", self.images[number][1])
            report.problem(f"{where}: the id {decode(number)} is also that of {before}")
        else:
            self.images[number] = path, place

    def _category(self, value: dict[str, object], place: int, where: str, report: Report) -> None:
        name = text_or_number(value.get("name"))
        number = taken(value, "id", "a whole number", where, report)
        if number is None:
            pass
        elif not name or not name.strip():
            wrong(where, "`name`", value.get("name"), "the name of a class", report)
        elif number in self.names:
            first = decode(self.names[number])
            report.problem(f"{where}: the id {decode(number)} is also that of category {first!r}")
        else:
            self.names[number] = name.strip()
        if isinstance(above := value.get("supercategory"), str) and above != value.get("name"):
            self.above.add(name_bytes(above) or b"")

    def _annotation(self, value: dict[str, object], place: int, where: str, report: Report) -> None:
        if (image := taken(value, "image_id", "the id of an image", where, report)) is None:
            return
        if (category := taken(value, "category_id", "the id of a category", where, report)) is not None:
            self.uses.setdefault(category, place)
            self.of.setdefault(image, (place, {}))[1][category] = None

    def rows(self, split: str, report: Report) -> Rows:
        """The images with the names of their categories; what points nowhere goes to the report."""
        for category, place in self.uses.items():
            if category not in self.names:
                report.problem(
                    f"{self.path}: {placed('annotations', place)}: there is no category "
                    f"{decode(category)[:80]}"
                )
        nowhere = [(first, image) for image, (first, _) in self.of.items() if image not in self.images]
        if nowhere:
            place, image = min(nowhere)
            report.warn(
                f"{self.path}: annotations of {len(nowhere):,} images that it does not list count for "
                f"nothing, such as {placed('annotations', place)} of image {decode(image)[:80]}"
            )
        rows = Rows(self.path, split, "images")
        for number, (name, place) in self.images.items():
            _, categories = self.of.get(number, (0, {}))
            rows.add(name, (self.names.get(category, b"") for category in categories), place)
        return rows

    def classes(self, report: Report) -> dict[bytes, bytes]:
        """Name → id of each category that is a class, in the order of the ids."""
        found: dict[bytes, bytes] = {}
        for number, name in sorted(self.names.items(), key=lambda item: _order(item[0])):
            if name in self.above and number not in self.uses:
                report.note(
                    f"{self.path}: category {decode(name)!r} is only what others lie under: it is no class"
                )
            elif name in found:
                report.warn(
                    f"{self.path}: categories {decode(found[name])} and {decode(number)} are both called "
                    f"{decode(name)!r}: they are taken for one class"
                )
            else:
                found[name] = number
        return found


def _order(number: bytes) -> tuple[int, int, bytes]:
    return (0, int(number), b"") if is_number(number) and len(number) <= MAX_DIGITS else (1, 0, number)
