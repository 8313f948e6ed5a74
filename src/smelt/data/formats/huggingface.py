"""Hugging Face `datasets` on disk, with the images in the rows of Parquet or Arrow files.

`save_to_disk`: `dataset_dict.json` and for each split a folder with `state.json`, `dataset_info.json` and
`data-00000-of-00001.arrow`. As on the hub: `data/train-00000-of-00004.parquet`,
`default/train/0000.parquet`, `train.parquet`. Others by patterns: `lists: {train: "plain/train-*.parquet"}`.
The split is in the name of the file or of its folder.

The image is the column of bytes, or of {bytes, path}; the label a ClassLabel, or one that is called so, of
words or whole numbers; others by `columns: {path: …, label: …}`. Names of classes are those of the
ClassLabel. Images held as bytes cannot be read by offset: they are copied into the catalogue, which is said
with its size, and called `data/train-00000-of-00004.parquet/17` by file and row, from 0. Rows that hold only
a path are files below the root. A table of paths without any image is read by format `csv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from smelt.artifacts.bytestrings import ByteStrings
from smelt.artifacts.catalogue_writer import CatalogueWriter, shard_codes
from smelt.artifacts.pack import Pack
from smelt.data.formats.base import Report, as_bytes
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers import arrowfiles
from smelt.data.formats.containers.arrowfiles import Column, Columns
from smelt.data.formats.containers.hubfiles import SHARD, files_of, found_files
from smelt.data.formats.containers.numbering import tell_missing
from smelt.data.formats.containers.unpack import look_for_room
from smelt.data.formats.lists.exported import Known, Rows
from smelt.data.formats.lists.imagetable import Table
from smelt.data.formats.lists.listed import add_tables
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.finder import Finder
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import first_few, told
from smelt.data.formats.tree.spelling import Spelling
from smelt.errors import DataError, SmeltError

FORMAT = Format(
    "datasets of Hugging Face on disk, with images in Parquet or Arrow",
    order=100,
    takes="lists columns unlabelled split_words no_label label_is multi_label test_labels",
)

_IMAGES = ("image", "img", "jpg", "png", "picture", "photo")
_LABELS = (
    "label", "labels", "fine_label", "class", "class_label", "category", "target", "cls", "label_name", "y",
)  # fmt: skip
_TEXTS = ("query", "title", "description", "tags", "source", "split")
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_LIMIT = 64  # times the size of the files: images that unpack to more are a bomb


def recognise(glimpse: Glimpse) -> str:
    """Files of `save_to_disk`, or Parquet with a column of images; its schema is looked at."""
    found = found_files(glimpse)
    if not found:
        return ""
    saved = [at for at, files in glimpse.tree if "state.json" in files]
    if not saved and not any(_has_images(glimpse.root / name) for name in found[:3]):
        return ""
    return f"datasets of Hugging Face, such as {found[0]}"


def _has_images(path: Path) -> bool:
    """Whether a file has a column of images; one that is damaged does if it is called as the hub does."""
    try:
        schema = arrowfiles.schema_of(path)
        features = arrowfiles.features_of(path, schema)
        columns = arrowfiles.columns_of(schema, features, path)
    except SmeltError:
        return bool(SHARD.search(path.name))
    return any(column.kind == "image" for column in columns.values())


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """What describes the data by content; Parquet and Arrow files by name and size, for they are large."""
    files = [path for paths in files_of(settings, root).values() for path in paths]
    described = [path.with_name(name) for path in files for name in ("state.json", "dataset_info.json")]
    classes = [root / settings.lists["classes"]] if "classes" in settings.lists else []
    return [*(path for path in set(described) if path.is_file()), *classes], files


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the rows of each split, in the order of their files; images are copied into the catalogue."""
    files = files_of(settings, root)
    every = [path for paths in files.values() for path in paths]
    names = {split: [str(path.relative_to(root)) for path in paths] for split, paths in files.items()}
    tell_missing(names, report, chosen=bool(settings.lists.keys() - {"classes"}))
    planned = {path: _plan(path, settings, report) for path in every}
    _say(planned, report)
    size = sum(path.stat().st_size for path in every)
    look_for_room(every[0], writer.folder, size)
    known = Known()
    splits = []
    with Pack(writer) as pack:
        for split, paths in files.items():
            part = _Split(split, root, pack, size * _LIMIT + (1 << 30))
            for path in paths:
                report.used |= {as_bytes(path, root), *_described(path, root)}
                part.read(path, planned[path], report)
                _know(planned[path].label, path, known, report)
            splits.append(part)
    report.refuse()
    packed = sum(part.packed for part in splits)
    if packed:
        report.note(f"the images of {len(every)} files were copied into the catalogue: {_size(packed)}")
    kind = shard_codes(len(writer.shards))
    tables = [part.table(kind, settings, report) for part in splits if part.rows]
    if not tables:
        raise DataError(f"{every[0]}: no row of the data set has an image")
    own = None if "classes" in settings.lists else known.classes()
    add_tables(tables, settings, root, writer, report, known=own)


def _described(path: Path, root: Path) -> set[bytes]:
    names = ("state.json", "dataset_info.json", "../dataset_dict.json")
    there = [(path.parent / name).resolve() for name in names if (path.parent / name).is_file()]
    return {as_bytes(found, root.resolve()) for found in there if found.is_relative_to(root.resolve())}


def _size(count: int) -> str:
    unit, name = next((pair for pair in _UNITS if count >= pair[0]), _UNITS[-1])
    return f"{count / unit:,.1f} {name}"


def _know(label: Column | None, path: Path, known: Known, report: Report) -> None:
    if label is not None and label.names:
        if known.ids and list(known.ids) != label.names:
            report.warn(f"{path}: its ClassLabel has other classes than those before: told by their names")
        known.add(dict.fromkeys(label.names, b""), path, report)


def _plan(path: Path, settings: FormatSettings, report: Report) -> Columns:
    """Which columns of a file are the image and the label. DataError where that cannot be told."""
    schema = arrowfiles.schema_of(path)
    found = arrowfiles.columns_of(schema, arrowfiles.features_of(path, schema), path)
    names = [entry.name for entry in schema]
    for ours in ("path", "label"):
        own = settings.columns.get(ours)
        if own is not None and own not in found:
            kind = "is neither an image, words nor whole numbers" if own in names else "is not there"
            raise DataError(f"{path}: column {told(own)} (data.columns.{ours}) {kind}{_there(names)}")
    image = _image_of(path, found, settings, names)
    plan = Columns(image, None)
    plan.label = _label_of(path, found, settings, image, plan)
    plan.texts = [name for name in (settings.columns.get(ours, ours) for ours in _TEXTS)  # type: ignore[call-overload]
                  if name in found and found[name].kind == "text" and name != image.name]  # fmt: skip
    return plan


def _there(names: Sequence[str]) -> str:
    return f"; there are {first_few(map(told, names), len(names), 12)}"


def _image_of(path: Path, found: dict[str, Column], settings: FormatSettings, names: list[str]) -> Column:
    if own := settings.columns.get("path"):
        return found[own]
    images = [column for column in found.values() if column.kind == "image"]
    usual = [found[name] for name in _IMAGES if name in found and found[name].kind == "image"]
    if len(images) > 1 and not usual:
        shown = ", ".join(told(column.name) for column in images)
        raise DataError(f"{path}: {shown} could all be the image: -o data.columns.path={images[0].name}")
    if not images:
        raise DataError(
            f"{path} has no column of images{_there(names)}. A table of paths is read by -o data.format=csv; "
            "a column of paths can be named: -o data.columns.path=NAME"
        )
    return (usual or images)[0]


def _label_of(
    path: Path, found: dict[str, Column], settings: FormatSettings, image: Column, plan: Columns
) -> Column | None:
    if own := settings.columns.get("label"):
        return found[own]
    others = {
        name: column for name, column in found.items() if column is not image and column.kind != "image"
    }
    classes = [column for column in others.values() if column.kind == "class"]
    usual = [others[name] for name in _LABELS if name in others]
    chosen = next((column for column in usual if column in classes), None)
    if chosen is None:
        if len(classes) > 1:
            shown = ", ".join(told(column.name) for column in classes)
            raise DataError(
                f"{path}: {shown} could all be the label: -o data.columns.label={classes[0].name}"
            )
        chosen = (classes or usual or [None])[0]  # type: ignore[list-item]
    rest = [column.name for column in [*classes, *usual] if column is not chosen]
    if chosen is not None and rest:
        names = ", ".join(told(name) for name in dict.fromkeys(rest))
        plan.noted.append(
            f"the label is column {told(chosen.name)}; {names} could be it as well: "
            f"-o data.columns.label={rest[0]}"
        )
    return chosen


def _say(planned: dict[Path, Columns], report: Report) -> None:
    """Tell what the columns are taken for, once; and refuse a data set in which no file has a label."""
    plans = list(planned.values())
    for text in dict.fromkeys(text for plan in plans for text in plan.noted):
        report.note(text)
    for image, label in dict.fromkeys((p.image.name, p.label.name if p.label else "") for p in plans):
        report.note(f"images are column {told(image)}, labels {told(label) if label else 'none'}")
    if all(plan.label is None for plan in plans):
        path = next(iter(planned))
        names = [entry.name for entry in arrowfiles.schema_of(path)]
        raise DataError(
            f"{path}: no column is the label for sure{_there(names)}: name it with -o data.columns.label=NAME"
        )


@dataclass(frozen=True)
class _Rows:
    """Names the rows of a file from `first` on."""

    path: Path
    first: int

    def where(self, row: int) -> str:
        return f"{self.path} row {self.first + row}"


@dataclass
class _Split:
    """What was read of one split."""

    name: str
    root: Path
    pack: Pack
    limit: int
    rows: list[tuple[Path, int]] = field(default_factory=list)
    paths: list[bytes] = field(default_factory=list)
    words: list[tuple[bytes, ...]] = field(default_factory=list)
    texts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    places: list[tuple[int, int, int]] = field(default_factory=list)  # shard (-1: a file), offset, size
    packed: int = 0

    def where(self, entry: int) -> str:
        """File and row of a row of the catalogue."""
        path, row = self.rows[entry]
        return f"{path} row {row}"

    def read(self, path: Path, plan: Columns, report: Report) -> None:
        """Take in all rows of a file."""
        base = as_bytes(path, self.root)
        wanted = [plan.image.name, *([plan.label.name] if plan.label else []), *plan.texts]
        for first, batch in arrowfiles.batches(path, list(dict.fromkeys(wanted))):
            begun = len(self.rows)
            labels: Any = [()] * len(batch)
            if plan.label is not None:
                labels = list(arrowfiles.words_in(batch, plan.label, _Rows(path, first).where))
            kept = []
            for row, (data, name) in enumerate(arrowfiles.images_in(batch, plan.image.name)):
                if data:
                    self._packed(path, base + b"/%d" % (first + row), data)
                elif name and not data:
                    self._named(name)
                else:
                    report.leave_out("a row without an image", base + b"/%d" % (first + row))
                    continue
                kept.append(row)
                self.rows.append((path, first + row))
                self.words.append(labels[row])
            for text in plan.texts:
                values = list(arrowfiles.words_in(batch, Column(text, "text"), str))
                self.texts.setdefault(text, {}).update(
                    (begun + at, values[row][0]) for at, row in enumerate(kept) if values[row]
                )

    def _packed(self, path: Path, name: bytes, data: bytes) -> None:
        self.packed += len(data)
        if self.packed > self.limit:
            raise DataError(
                f"{path}: its images unpack to more than {_size(self.limit)}, {_LIMIT} times the size of all "
                "files"
            )
        self.paths.append(name)
        self.places.append(self.pack.add(data))

    def _named(self, name: bytes) -> None:
        self.paths.append(name)
        self.places.append((-1, 0, -1))

    def table(self, kind: np.dtype[Any], settings: FormatSettings, report: Report) -> Table:
        """The rows as columns; kind: type of the codes of shards."""
        shards = np.array([shard for shard, _, _ in self.places], np.int64)
        self._find(np.flatnonzero(shards < 0).tolist(), settings, report)
        columns = {
            "path": ByteStrings.of(self.paths),
            "label": ByteStrings.of(words[0] if words else b"" for words in self.words),
        }
        for ours in _TEXTS:
            if values := self.texts.get(settings.columns.get(ours, ours)):  # type: ignore[call-overload]
                columns[ours] = ByteStrings.of(values.get(row, b"") for row in range(len(self.rows)))
        several = {row: words for row, words in enumerate(self.words) if len(words) > 1}
        inside = {
            "shard": np.where(shards < 0, np.iinfo(kind).max, shards).astype(kind),
            "offset": np.array([offset for _, offset, _ in self.places], np.int64),
            "size": np.array([size for _, _, size in self.places], np.int64),
        }
        return Table(self.name, columns, self.where, several=several, spelling=Spelling(), inside=inside)

    def _find(self, rows: list[int], settings: FormatSettings, report: Report) -> None:
        """Put the paths of files in the place of what the rows call them."""
        if not rows:
            return
        named = Rows(self.rows[rows[0]][0], self.name, "row")
        for row in rows:
            named.add(self.paths[row], (), self.rows[row][1])
        finder = Finder(settings, self.root, report)
        for row, path in zip(rows, finder.locate(named, finder.folders(named))):
            self.paths[row] = path
