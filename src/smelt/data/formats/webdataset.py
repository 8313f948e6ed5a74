"""WebDataset tars, read in place: members `key.jpg` with `key.cls` (number or name), `key.json` or `key.txt`.

A key is a member's path up to the first dot of its name; where that puts several images under one key, or
leaves none with a label or a text, and the last dot pairs images with parts of their own, up to the last (and
that is said). Where labels come from is said
in `samples`: `.cls`, a field of the JSON, archives or folders called like classes. The JSON may also have
query, title, description, tags, source; other names are given by `data.columns`. What is an image is told by
its suffix, else by its content. The split is what the shard or its folder is called (train-0000.tar,
val/0000.tar), or `lists: {train: "a/*.tar", val: "b-{000..015}.tar"}`; `lists.classes` is a file of class
names. Keys may repeat from shard to shard: paths in the catalogue begin with the shard's name. Compressed
tars are unpacked into the catalogue; tars in a tar are read in place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue import SPLITS
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import (
    IMAGE_SUFFIXES,
    SPLIT_NAMES,
    Report,
    as_bytes,
    natural,
    refuse_unknown_lists,
)
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.archives import SUFFIX, Archive, find_archives, open_archive, stem
from smelt.data.formats.containers.jsons import parse
from smelt.data.formats.containers.numbering import tell_missing
from smelt.data.formats.containers.patterns import expanded
from smelt.data.formats.lists.listed import add_tables
from smelt.data.formats.lists.samples import LABEL_PARTS, Samples
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.census import HIDDEN
from smelt.data.formats.tree.layout import Glimpse, classes_seen, of_another_kind
from smelt.data.formats.tree.names import hidden, words_of
from smelt.data.images.kinds import ENOUGH, sniff
from smelt.errors import DataError, short
from smelt.files.opening import open_file, patiently, read_bytes, read_part

FORMAT = Format(
    "tars of samples, read in place",
    order=140,
    takes="lists text columns class_from links unlabelled split_words no_label label_is multi_label "
    "test_labels",
)

_IMAGES = tuple(suffix.removeprefix(".") for suffix in (*IMAGE_SUFFIXES, ".jfif", ".jpe"))
_SUFFIXES = frozenset(_IMAGES)
_NO_IMAGES = frozenset({"json", "txt", "npy", "npz", "pth", "pt", "pickle", "pkl", *LABEL_PARTS})
_SAYING = frozenset({"json", "txt", *LABEL_PARTS})  # parts that are read
MAX_PART = 1 << 22  # bytes of a part that is read: JSON, a label, a text
_SNIFFED = 8  # parts of a sample whose content is looked at where none is called as images are
# Names of a file in the root that lists the classes, by which numbers get names
_CLASSES = ("classnames.txt", "class_names.txt", "classes.txt", "labels.txt")


def shards_of(settings: FormatSettings, root: Path, report: Report) -> dict[str, list[Path]]:
    """Split → its shards, in natural order."""
    refuse_unknown_lists(settings, *SPLITS, "classes", what=" (patterns of shards)")
    there = find_archives(root, report, settings.links)
    found: dict[str, list[Path]] = {}
    for split, pattern in settings.lists.items():
        if split != "classes":
            found[split] = expanded(f"data.lists.{split}", pattern, root, there)
    if not found:
        for path in there:
            found.setdefault(split_of_path(path, root), []).append(path)
    if not found:
        raise DataError(f"{root} has no tars: no file below it ends in .tar, .tar.gz, .tgz or the like")
    return {
        split: sorted(found[split], key=lambda path: natural(os.fsencode(path))) for split in sorted(found)
    }


def split_of_path(path: Path, root: Path) -> str:
    """The split that a word in the path of a shard below `root` says; training where none does."""
    words = words_of(SUFFIX.sub("", str(path.relative_to(root))))
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "train")


def recognise(glimpse: Glimpse) -> str:
    """Tars in the root or in the folders below; not where folders of images lie beside them."""
    if classes_seen(glimpse) > 1:
        return ""
    found = [
        f"{at}/{name}".lstrip("/") for at, files in glimpse.tree for name in files if SUFFIX.search(name)
    ]
    return f"tars, such as {found[0]}" if found else ""


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The shards, by name and size: hashing them would mean reading everything; the class list by content."""
    classes = class_list(settings, root)
    shards = [path for paths in shards_of(settings, root, Report()).values() for path in paths]
    return ([classes] if classes else []), shards


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the samples in the order of the shards; splits that are not there are held out."""
    samples = Samples(settings, report, b"shards")
    read_shards(settings, root, writer, samples, report)
    report.refuse()
    add_samples(samples, settings, root, writer, report)


def read_shards(
    settings: FormatSettings, root: Path, writer: CatalogueWriter, samples: Samples, report: Report
) -> None:
    """Add what lies in all shards to `samples`. A shard that is none is a problem, and the next is read."""
    writer.follow = settings.links == "anywhere"
    found = shards_of(settings, root, report)
    names = {split: [str(path.relative_to(root)) for path in paths] for split, paths in found.items()}
    tell_missing(names, report, chosen=bool(settings.lists.keys() - {"classes"}))
    for split, paths in found.items():
        for path in paths:
            try:
                archive = open_archive(path, root, writer, report)
            except DataError as error:
                report.problem(str(error))
                continue
            _Shard(archive, len(writer.shards) - 1, split, samples, settings, report).read()
            _use_sidecars(path, root, report)


def add_samples(
    samples: Samples, settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report
) -> None:
    """Append the samples, their classes named by the list of classes where one lies in the root."""
    if not len(samples):
        report.problem(f"{root}: no sample of its shards has an image{of_another_kind(Glimpse(root))}")
        report.refuse()
    table = samples.table()
    listed = class_list(settings, root)
    if listed is not None and "classes" not in settings.lists:
        words = {word for labels in samples.labels for word in labels}
        names = read_bytes(listed).splitlines() if listed.stat().st_size <= MAX_PART else []
        names = [name.strip() for name in names if name.strip()]
        if words and all(word.isdigit() and len(word) < 9 and int(word) < len(names) for word in words):
            report.note(
                f"the labels are numbers, and {listed.name} names them (-o data.lists.classes=… others)"
            )
            report.used.add(as_bytes(listed, root))
            lists = {**settings.lists, "classes": listed.name}
            settings = settings.model_copy(update={"lists": lists})
    add_tables([table], settings, root, writer, report)


def class_list(settings: FormatSettings, root: Path) -> Path | None:
    """The file of class names: the one that is set, or one in the root that is called so."""
    if "classes" in settings.lists:
        return root / settings.lists["classes"]
    return next((root / name for name in _CLASSES if (root / name).is_file()), None)


def _use_sidecars(path: Path, root: Path, report: Report) -> None:
    """Files beside a shard that are called after it: indexes, statistics, tables of what is in it."""
    own = stem(path.name)
    for end in (".idx", ".index", ".json", ".txt", ".parquet", "_stats.json", ".sha256", ".md5"):
        for beside in (path.with_name(own + end), path.with_name(path.name + end)):
            if beside.is_file():
                report.used.add(as_bytes(beside, root))


class _Shard:
    """One shard on its way into `samples`."""

    def __init__(
        self, archive: Archive, code: int, split: str, samples: Samples, settings: FormatSettings,
        report: Report,
    ) -> None:  # fmt: skip
        self.archive, self.members, self.code, self.split = archive, archive.members, code, split
        self.samples, self.settings, self.report = samples, settings, report
        self.shown = os.fsencode(archive.name)
        self.names = self.members.names()
        self.folders = [folder + b"/" if folder else b"" for folder in self.members.paths.folders]
        self.codes: list[int] = self.members.paths.folder_codes.tolist()
        self.offsets, self.sizes = self.members.offsets.tolist(), self.members.sizes.tolist()
        self.several = ""

    def read(self) -> None:
        """Add the samples of the archive, in its order; what has no image is counted as left out."""
        keys, by_last_dot = self._keyed(self._visible())
        if by_last_dot:
            self.samples.once(
                "dots",
                f"{self.archive.name}: names have dots, such as {by_last_dot[0]!r}: keys are taken up to the "
                f"last dot, not to the first as WebDataset has it, for that {by_last_dot[1]}",
            )
        with open_file(self.archive.path, 0) as file:
            for key, parts in keys.items():
                self._sample(file.fileno(), key, parts)
        if self.several:
            self.samples.once(
                "several",
                f"{self.archive.name}: samples have several images, such as {self.several}: of each the "
                f"first is taken, the others are left out",
            )

    def _path(self, row: int) -> bytes:
        return self.folders[self.codes[row]] + self.names[row]

    def _visible(self) -> list[int]:
        """Members that no system or tool left behind."""
        concealed = [any(map(hidden, folder.split(b"/")[:-1])) for folder in self.folders]
        found = []
        for row, code in enumerate(self.codes):
            if concealed[code] or hidden(self.names[row]):
                self.report.leave_out(HIDDEN, self.shown + b"/" + self._path(row))
            else:
                found.append(row)
        return found

    def _keyed(self, rows: list[int]) -> tuple[dict[bytes, dict[str, int]], tuple[str, str] | None]:
        """key → suffix → member; where keys are taken up to the last dot, (a name, why), else None.

        That is so where the first dot puts several images under one key, or leaves none with what belongs to
        it, and the last dot pairs half of the images at least.
        """
        first = self._by_dot(rows, last=False)
        crowded = next((parts for parts in first.values() if sum(map(_is_dotted_image, parts)) > 1), None)
        if crowded is not None:
            dotted: int | None = crowded[next(filter(_is_dotted_image, crowded))]
        elif any(map(self._is_pair, first.values())):
            return first, None
        else:
            dotted = next((row for row in rows if _is_dotted_image(self.names[row].partition(b".")[2])), None)
        if dotted is None:
            return first, None
        last = self._by_dot(rows, last=True)
        images = [parts for parts in last.values() if any(suffix in _SUFFIXES for suffix in parts)]
        if crowded is None:
            why, paired = "leaves no image with a label or a text", sum(map(self._is_pair, images))
        else:
            why, paired = "put several images under one key", sum(len(parts) > 1 for parts in images)
            if all(suffix.rpartition(".")[2] in _SUFFIXES for parts in first.values() for suffix in parts):
                paired = len(images)  # nothing but images
        return (last, (decode(self._path(dotted)), why)) if 2 * paired >= len(images) else (first, None)

    def _is_pair(self, parts: Mapping[str, int]) -> bool:
        """Whether an image lies with a part that says something of it."""
        told = any(suffix in _SAYING or suffix in self.samples.parts_named for suffix in parts)
        return told and any(suffix.rpartition(".")[2] in _SUFFIXES for suffix in parts)

    def _by_dot(self, rows: list[int], *, last: bool) -> dict[bytes, dict[str, int]]:
        found: dict[bytes, dict[str, int]] = {}
        for row in rows:
            name = self.names[row]
            if last and b"." in name:
                key, _, suffix = name.rpartition(b".")
            else:
                key, _, suffix = name.partition(b".")
            parts = found.setdefault(self.folders[self.codes[row]] + key, {})
            parts[suffix.decode("ascii", "replace").lower()] = row
        return found

    def _sample(self, descriptor: int, key: bytes, parts: dict[str, int]) -> None:
        images = self._images(descriptor, parts)
        if not images:
            first = self._path(min(parts.values()))
            self.report.leave_out("a sample without an image", self.shown + b"/" + first)
            return
        for other in images[1:]:
            path = self._path(parts[other])
            self.report.leave_out("a further image of a sample", self.shown + b"/" + path)
            self.several = self.several or repr(short(f"{decode(key)}: {', '.join(images)}"))
        image = parts[images[0]]
        others = {suffix: row for suffix, row in parts.items() if suffix not in images}
        record, texts = self._parts(descriptor, others)
        place = (self.code, self.offsets[image], self.sizes[image])
        path = self.shown + b"/" + self._path(image)
        self.samples.add(path, self.split, record, texts, place)

    def _images(self, descriptor: int, parts: dict[str, int]) -> list[str]:
        """Suffixes of the parts that are images, the one to take first; by content where none is by name."""
        named = [suffix for suffix in parts if suffix.rpartition(".")[2] in _SUFFIXES]
        if named:
            return sorted(named, key=lambda suffix: ("." in suffix, _IMAGES.index(suffix.rpartition(".")[2])))
        unknown = [suffix for suffix in parts if suffix.rpartition(".")[2] not in _NO_IMAGES]
        return [
            suffix
            for suffix in unknown[:_SNIFFED]
            if sniff(self._bytes(descriptor, parts[suffix], ENOUGH)).image
        ]

    def _parts(self, descriptor: int, parts: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, bytes]]:
        """(fields of the JSON, other parts by suffix); only what is needed is read."""
        texts = dict.fromkeys(parts, b"")
        record: dict[str, Any] = {}
        labelled = any(suffix in parts for suffix in LABEL_PARTS)
        for suffix, row in parts.items():
            if suffix == "json":
                if self.settings.text or self.settings.columns or not labelled:
                    record = self._record(descriptor, row)
            elif self.samples.wants(suffix):
                texts[suffix] = self._bytes(descriptor, row, MAX_PART)
        return record, texts

    def _record(self, descriptor: int, row: int) -> dict[str, Any]:
        name = f"{self.archive.name}:{decode(self._path(row))}"
        if self.sizes[row] > MAX_PART:
            self.samples.unread(name, f"JSON of more than {MAX_PART:,} bytes")
            return {}
        try:
            value = parse(self._bytes(descriptor, row, MAX_PART), name)
        except DataError as error:
            self.samples.unread(name, str(error))
            return {}
        if isinstance(value, dict):
            return value
        return {"label": value} if isinstance(value, str | int) else {}

    def _bytes(self, descriptor: int, row: int, most: int) -> bytes:
        size = min(self.sizes[row], most)
        offset = self.offsets[row]
        return patiently(lambda: read_part(descriptor, size, offset), lambda: self.archive.name)


def _is_dotted_image(suffix: str | bytes) -> bool:
    suffix = suffix if isinstance(suffix, str) else suffix.decode("ascii", "replace").lower()
    return "." in suffix and suffix.rpartition(".")[2] in _SUFFIXES
