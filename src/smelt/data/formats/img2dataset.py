"""What img2dataset writes: crawled images in numbered shards, each image with what was known of it.

Shards are tars (`00000.tar`), folders (`00000/000000012.jpg` with `.json`, `.txt`) or Parquet files whose
rows hold the images (their bytes go into the catalogue's folder, for they cannot be read by offset);
`00000_stats.json` beside them counts what could be loaded. Shards may lie in folders of splits or of classes,
but a shard is never a class. The label is a field of the `.json`, or of the row, as `samples` says
(`data.columns.label`); the caption is the title. A `source` that is an address counts as its host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smelt.artifacts.bytestrings import decode, encode
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.artifacts.pack import Pack
from smelt.data.formats.base import IMAGE_SUFFIXES, Report, as_bytes, natural
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers import arrowfiles, jsons
from smelt.data.formats.containers.archives import find_archives
from smelt.data.formats.containers.numbering import tell_missing
from smelt.data.formats.containers.unpack import look_for_room
from smelt.data.formats.lists.samples import Samples
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.census import Walk
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.webdataset import MAX_PART, add_samples, class_list, read_shards, split_of_path
from smelt.errors import DataError, short

FORMAT = Format(
    "what img2dataset writes: crawled images in numbered shards",
    order=60,
    takes="lists text columns class_from links unlabelled split_words no_label label_is multi_label "
    "test_labels",
)

_IMAGES = frozenset(suffix.removeprefix(".") for suffix in (*IMAGE_SUFFIXES, ".jfif"))
_SHARD = re.compile(r"\d{4,}")
_TABLE = re.compile(r"(?:^|/)\d{4,}\.parquet$")
_STATS = re.compile(r"\d{4,}_stats\.json")


def recognise(glimpse: Glimpse) -> str:
    """Its statistics, or a numbered folder of images with JSON or text beside them."""
    for at, files in glimpse.tree:
        there = f"{at}/".lstrip("/")
        stats = next(filter(_STATS.fullmatch, files), None)
        if stats is not None:
            return f"{there}{stats}"
        if _SHARD.fullmatch(at.rpartition("/")[2]):
            stems = {name.rpartition(".")[0] for name in files if name.endswith((".json", ".txt"))}
            if any(_is_image(name) and name.rpartition(".")[0] in stems for name in files):
                return f"images with text beside them in {there}"
    return ""


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """Shards by name and size, be they tars, Parquet or folders; the class list by content."""
    classes = class_list(settings, root)
    shards = _Shards(settings, root, Report())
    return ([classes] if classes else []), shards.tars or shards.tables or [root]


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the images of all shards; splits that are not there are held out."""
    samples = Samples(settings, report, b"img2dataset")
    writer.follow = settings.links == "anywhere"
    shards = _Shards(settings, root, report)
    if not shards.tars and (named := settings.lists.keys() - {"classes"}):
        raise DataError(
            f"data.lists.{min(named)}: format img2dataset takes patterns of shards where they are tars, and "
            f"{root} has none; the splits are what folders are called (train/00000/…)"
        )
    if not shards.tars:
        tops = {decode(name).partition("/")[0] for name in shards.names if b"/" in name}
        names = [str(path.relative_to(root)) for path in shards.tables] or sorted(tops)
        tell_missing({"train": names}, report, chosen=True)
    if shards.tars:
        read_shards(settings, root, writer, samples, report)
    elif shards.tables:
        _read_tables(shards.tables, root, writer, samples, report)
    else:
        _read_folders(root, shards.names, samples, report)
    _count(root, shards.names, report)
    report.refuse()
    add_samples(samples, settings, root, writer, report)


class _Shards:
    """names: all files. tars, or tables: Parquet files for shards; none of either where these are folders."""

    def __init__(self, settings: FormatSettings, root: Path, report: Report) -> None:
        self.names = [path for folder in Walk(root, settings.links) for path in folder.paths()]
        self.tars = find_archives(root, report, settings.links)
        tables = [root / decode(name) for name in self.names if _TABLE.search(decode(name))]
        tables = [path for path in tables if not self.tars and not path.with_suffix("").is_dir()]
        self.tables = sorted(tables, key=lambda path: natural(os.fsencode(path)))


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in _IMAGES


def _count(root: Path, names: list[bytes], report: Report) -> None:
    """Say what img2dataset could not load, by its own statistics."""
    tried = loaded = 0
    for name in names:
        if _TABLE.search(decode(name)):
            report.used.add(name)
        if not _STATS.fullmatch(decode(name.rpartition(b"/")[2])):
            continue
        report.used.add(name)
        try:
            stats = jsons.load(root / decode(name), MAX_PART)
            count, successes = stats["count"], stats["successes"]
            tried, loaded = tried + int(count), loaded + int(successes)
        except (DataError, KeyError, TypeError, ValueError):
            report.warn(f"{decode(name)} is no statistics of img2dataset: what it counts is not known")
    if tried > loaded:
        report.note(
            f"img2dataset could load {loaded:,} of {tried:,} images; the others are in none of its shards"
        )


# ---- folders


def _read_folders(root: Path, names: list[bytes], samples: Samples, report: Report) -> None:
    groups: dict[bytes, dict[str, bytes]] = {}
    for name in names:
        key, _, suffix = name.rpartition(b".")
        if b"/" in name and not _STATS.fullmatch(decode(name.rpartition(b"/")[2])):
            groups.setdefault(key, {})[decode(suffix).lower()] = name
    for _, parts in sorted(groups.items(), key=lambda item: natural(item[0])):
        image = next((name for suffix, name in parts.items() if suffix in _IMAGES), None)
        if image is None:
            for beside in (parts[suffix] for suffix in ("json", "txt") if suffix in parts):
                report.leave_out("a sample without an image", beside)
            continue
        report.used.update(name for name in parts.values() if name != image)
        record = _record(root, parts["json"], samples) if "json" in parts else {}
        texts = {
            suffix: _text(root / decode(name)) if samples.wants(suffix) else b""
            for suffix, name in parts.items()
            if name != image and suffix != "json"
        }
        samples.add(image, split_of_path(root / decode(image), root), record, texts)


def _record(root: Path, name: bytes, samples: Samples) -> dict[str, Any]:
    path = root / decode(name)
    try:
        value = jsons.load(path, MAX_PART)
    except DataError as error:
        samples.unread(str(path), str(error))
        return {}
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> bytes:
    with jsons.open_regular(path) as file:
        return file.read(MAX_PART)


# ---- Parquet


def _read_tables(
    paths: list[Path], root: Path, writer: CatalogueWriter, samples: Samples, report: Report
) -> None:
    look_for_room(root, writer.folder, sum(path.stat().st_size for path in paths))
    size = 0
    with Pack(writer) as pack:
        for path in paths:
            name = as_bytes(path, root)
            report.used.add(name)
            split = split_of_path(path, root)
            for number, (suffix, data, record) in enumerate(_rows(path)):
                key = str(record.get("key") or number)
                own = b"%s/%s.%s" % (name, encode(short(key, 100)).replace(b"/", b"_"), suffix.encode())
                if data is None:
                    report.leave_out(f"not loaded by img2dataset ({record.get('status')})"[:80], own)
                    continue
                size += len(data)
                parts = {"txt": record["txt"].encode()} if isinstance(record.get("txt"), str) else {}
                samples.add(own, split, record, parts, pack.add(data))
    report.note(
        f"images in Parquet cannot be read where they lie: they were taken into the catalogue's folder "
        f"({size / (1 << 20):,.1f} MiB)"
    )


def _rows(path: Path) -> Iterator[tuple[str, bytes | None, dict[str, Any]]]:
    """(suffix, image or None, the other columns) of every row. DataError where there is no image column."""
    schema = arrowfiles.schema_of(path)
    held = [name for name in schema.names if arrowfiles.is_bytes(schema.field(name).type)]
    column = next((name for name in ("jpg", "jpeg", "png", "webp", "image") if name in held), None)
    if column is None:
        raise DataError(
            f"{path} holds no images (no column jpg, png or webp of bytes); it has "
            f"{', '.join(schema.names)}. Where are the shards 00000.tar or 00000/ that belong to it?"
        )
    kept = [name for name in schema.names if name == column or name not in held]
    for _, batch in arrowfiles.batches(path, kept):
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError as error:
            raise DataError(f"{path} cannot be read as Parquet: {short(str(error))}") from error
        for row in rows:
            data = row.pop(column)
            yield "jpg" if column == "image" else column, data, _plain(row)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values that JSON has too; texts no longer than a part may be."""
    return {
        name: value[:MAX_PART] if isinstance(value, str) else value
        for name, value in row.items()
        if value is None or isinstance(value, str | int | float | list | dict)
    }
