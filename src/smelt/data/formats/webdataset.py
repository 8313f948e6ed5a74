"""WebDataset tars, read in place: members `key.jpg` with `key.cls` (number or name), `key.json` or `key.txt`.

A key is a member's path up to the first dot of its name. The label is the content of `.cls`, else `label`
(or `cls`) of the JSON; the JSON may also have query, title, description, tags, source. The split is what the
shard or its folder is called (train-0000.tar, val/0000.tar), or `lists: {train: "a/*.tar", val: "b/*.tar"}`.
Keys may repeat from shard to shard: paths in the catalogue begin with the shard's name.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, decode
from smelt.artifacts.catalogue import SPLITS, UNKNOWN
from smelt.artifacts.catalogue_writer import MAX_SOURCES, Block, CatalogueWriter, Paths, too_many_sources
from smelt.data.formats.base import IMAGE_SUFFIXES, SHOWN, SPLIT_NAMES, Report, hold_out, natural, runs
from smelt.data.formats.classes import found_in
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.layout import Glimpse
from smelt.data.formats.tars import Members, read_members
from smelt.errors import DataError

_IMAGES = frozenset(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
_TEXTS = ("title", "description", "tags")
_MAX_META = 1 << 24


def shards_of(settings: FormatSettings, root: Path) -> dict[str, list[Path]]:
    """Split → its shards, in natural order."""
    if settings.lists:
        if unknown := settings.lists.keys() - set(SPLITS):
            raise DataError(f"lists: format webdataset has train, val and test, not {sorted(unknown)}")
        found = {split: list(root.glob(pattern)) for split, pattern in settings.lists.items()}
        for split, paths in found.items():
            if not paths:
                raise DataError(f"lists.{split}: {settings.lists[split]!r} matches no file below {root}")
    else:
        found = {}
        for path in root.rglob("*.tar"):
            words = re.split(r"[^a-z]+", str(path.relative_to(root)).lower())
            split = next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "train")
            found.setdefault(split, []).append(path)
    if not found:
        raise DataError(f"{root} has no .tar files")
    return {
        split: sorted(found[split], key=lambda path: natural(os.fsencode(path))) for split in sorted(found)
    }


def recognise(glimpse: Glimpse) -> str:
    """Tars in the root or in the folders below."""
    found = [
        f"{at}/{name}".lstrip("/") for at, files in glimpse.tree for name in files if name.endswith(".tar")
    ]
    return f"tars, such as {found[0]}" if found else ""


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The shards, by name and size: hashing them would mean reading everything."""
    return [], [path for paths in shards_of(settings, root).values() for path in paths]


@dataclass
class _Samples:
    """What was read of one split."""

    paths: list[bytes] = field(default_factory=list)
    words: list[bytes] = field(default_factory=list)  # labels as written
    shards: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    metas: list[dict[str, Any]] = field(default_factory=list)


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the samples in the order of the shards; splits that are not there are held out."""
    samples = _Samples()
    splits: list[int] = []
    for split, paths in shards_of(settings, root).items():
        for path in paths:
            _read_shard(path, root, len(writer.shards), settings.text, samples, report)
            writer.shards.append(str(path.relative_to(root)))
        splits += [SPLITS.index(split)] * (len(samples.paths) - len(splits))
    report.refuse()
    labels = _labels(samples, splits, writer, report)
    report.refuse()
    keys = Paths.of(samples.paths).hashes()
    codes = hold_out(np.array(splits, np.uint8), labels, keys, settings, report)
    given = [_source(meta) for meta in samples.metas]
    sources = sorted(set(given))
    if len(sources) > MAX_SOURCES:
        raise DataError(f"`source` in the .json of the samples: {too_many_sources(len(sources))}")
    numbers = {source: number for number, source in enumerate(sources)}
    group = codes.astype(np.int64) * len(sources) + np.array([numbers[source] for source in given], np.int64)
    for code, rows in runs(group):
        split, source = SPLITS[code // len(sources)], sources[code % len(sources)]
        writer.add(_block(split, source, samples, labels, rows.tolist(), settings.text))


def _source(meta: dict[str, Any]) -> str:
    """Who delivered a sample; what is no UTF-8 (lone surrogates in JSON) is replaced."""
    return str(meta.get("source") or "shards").encode("utf-8", "replace").decode()


def _read_shard(
    path: Path, root: Path, code: int, text: bool, samples: _Samples, report: Report
) -> None:  # fmt: skip
    members = read_members(path, report)
    found: dict[bytes, dict[str, int]] = {}
    for index in range(len(members)):
        name = members.paths[index]
        folder, slash, last = name.rpartition(b"/")
        stem, _, suffix = last.partition(b".")
        found.setdefault(folder + slash + stem, {})[suffix.decode("ascii", "replace").lower()] = index
    shown = os.fsencode(path.relative_to(root))
    with open(path, "rb", buffering=0) as file:
        for key, parts in found.items():
            image = next((parts[suffix] for suffix in parts if suffix.rpartition(".")[2] in _IMAGES), None)
            if image is None:
                report.warn(f"{path}: {decode(key)!r} has no image") if len(report.warnings) < SHOWN else None
                continue
            meta = _meta(file.fileno(), members, parts, text)
            label = meta.get("label", meta.get("cls"))
            if label is None:
                report.problem(f"{path}: {decode(key)!r} has neither a .cls nor a label in its .json")
            samples.paths.append(shown + b"/" + members.paths[image])
            samples.words.append(str(label).strip().encode("utf-8", "replace"))
            samples.shards.append(code)
            samples.offsets.append(int(members.offsets[image]))
            samples.sizes.append(int(members.sizes[image]))
            samples.metas.append(meta)


def _meta(descriptor: int, members: Members, parts: dict[str, int], text: bool) -> dict[str, Any]:
    """Label and text of one sample; only what is needed is kept."""
    found: dict[str, Any] = {}
    if "json" in parts and (text or "cls" not in parts):
        try:
            value = json.loads(_bytes(descriptor, members, parts["json"]))
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            found = {key: value.get(key) for key in ("label", "cls", "source", "query", *_TEXTS)}
    if "txt" in parts and text and not found.get("title"):
        found["title"] = _bytes(descriptor, members, parts["txt"]).decode("utf-8", "replace").strip()
    if "cls" in parts:
        found["label"] = _bytes(descriptor, members, parts["cls"]).decode("utf-8", "replace").strip()
    return found


def _bytes(descriptor: int, members: Members, index: int) -> bytes:
    size = min(int(members.sizes[index]), _MAX_META)
    return os.pread(descriptor, size, int(members.offsets[index]))


def _labels(
    samples: _Samples, splits: list[int], writer: CatalogueWriter, report: Report
) -> NDArray[np.int32]:
    """(N,) labels, and the writer's classes; what is none goes to the report with shard and member."""
    classes = found_in(samples.words, report)
    writer.classes = [decode(name) for name in classes.names]
    labels = [classes.label(word) for word in samples.words]
    test = SPLITS.index("test")
    wrong = [row for row, y in enumerate(labels) if y is None or (y == UNKNOWN and splits[row] != test)]
    for row in wrong[:SHOWN]:
        word = samples.words[row]
        report.problem(
            f"{decode(samples.paths[row])!r}: label {decode(word)[:80]!r} is not one of the classes"
            f"{classes.why_not(word)}"
        )
    report.num_problems += max(0, len(wrong) - SHOWN)
    return np.array([UNKNOWN if label is None else label for label in labels], np.int32)


def _block(
    split: str, source: str, samples: _Samples, labels: NDArray[np.int32], rows: list[int], text: bool
) -> Block:
    fixed: dict[str, Any] = {
        "shard": np.array([samples.shards[row] for row in rows], np.uint32),
        "offset": np.array([samples.offsets[row] for row in rows], np.int64),
        "size": np.array([samples.sizes[row] for row in rows], np.int64),
    }
    block = Block(split, source, Paths.of(samples.paths[row] for row in rows), labels[rows], fixed)
    if text:
        for name in _TEXTS:
            values = [samples.metas[row].get(name) for row in rows]
            block.strings[name] = ByteStrings.of(_as_text(value) for value in values)
        queries: dict[bytes, int] = {}
        codes = [queries.setdefault(_as_text(samples.metas[row].get("query")), len(queries)) for row in rows]
        block.words["query"] = (np.array(codes, np.int64), list(queries))
    return block


def _as_text(value: Any) -> bytes:
    if isinstance(value, list):
        value = " ".join(str(item) for item in value)
    return b"" if value is None else str(value).encode("utf-8", "replace")
