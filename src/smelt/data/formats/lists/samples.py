"""Images that bring their own label and text: samples of archives, or files with JSON beside them.

A `Samples` takes them one by one and becomes a table. Where a label comes from, the most particular first:
`data.class_from`, `data.columns.label`, a part called `.cls`, `.label` or `.class`, a field of the JSON with
a usual name; and where no sample has any of these, archives or folders that are called like classes, then
`.txt` parts whose few texts repeat, then the one part or field that is nearly called so (`.orig.cls`,
`.label.txt`, `labels`). What was taken is said unless it is the plain rule.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, decode, encode
from smelt.artifacts.catalogue import SPLITS
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.archives import SUFFIX
from smelt.data.formats.lists import sidecars
from smelt.data.formats.lists.imagetable import Table
from smelt.data.formats.tree.names import first_few, split_of
from smelt.data.formats.tree.spelling import Spelling
from smelt.errors import DataError, short

LABEL_PARTS = ("cls", "label", "class", "lbl")
_PLAIN = frozenset(LABEL_PARTS) | {"label"}
_FROM_FIELDS = ("split", "true_label", "noise")  # taken only where `data.columns` names them
MAX_LABEL = 1 << 14  # bytes of a label
_LOOKED_AT = 1000  # captions that a message counts
_OFFERED = 4  # fields or parts that a message offers for labels
_NUMBERED = re.compile(r"[-_. ]*\d+$")
_SHARD = re.compile(r"\d{4,}")
_SYNSET = re.compile(r"n\d{8}")


class Samples:
    """Images with what they bring, in their order; `table()` when all are there."""

    def __init__(self, settings: FormatSettings, report: Report, source: bytes) -> None:
        self.settings, self.report, self.source = settings, report, source
        self.columns = {str(ours): name for ours, name in settings.columns.items()}
        self.parts_named = {name.removeprefix(".") for name in self.columns.values()}
        if "path" in self.columns:
            raise DataError(
                f"data.columns.path: format {settings.format} finds its images by itself; it takes label, "
                f"split, {', '.join(sidecars.TEXTS)}, true_label and noise"
            )
        self.paths: list[bytes] = []
        self.splits: list[int] = []
        self.labels: list[tuple[bytes, ...]] = []
        named = {name: () for name in _FROM_FIELDS if name in self.columns}
        self.wanted = (
            sidecars.TEXTS | named if settings.text else {"source": sidecars.TEXTS["source"]} | named
        )
        self.wanted |= {name: () for name in self.columns if name in sidecars.TEXTS}
        self.further: dict[str, list[bytes]] = {name: [] for name in self.wanted}
        self.captions: list[bytes] = []
        self.shards, self.offsets, self.sizes = array("q"), array("q"), array("q")
        self.seen = sidecars.Seen()
        self.suffixes: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()  # where labels came from
        self.one_hot = sidecars.OneHot()
        self.nearly = _Nearly()
        self.odd: Counter[str] = Counter()
        self.odd_at: dict[str, bytes] = {}
        self.said: dict[str, tuple[int, str]] = {}
        self.num_unread, self.first_unread = 0, ""

    def __len__(self) -> int:
        return len(self.paths)

    def wants(self, part: str) -> bool:
        """Whether the content of a part `.part` is looked at."""
        return part in ("json", "txt") or like_label(part) or part in self.parts_named

    def add(
        self, path: bytes, split: str, record: Mapping[str, Any], parts: Mapping[str, bytes],
        place: tuple[int, int, int] | None = None,
    ) -> None:  # fmt: skip
        """Append an image: its path in the catalogue, the fields of its JSON, other parts by suffix as text.

        place: (shard, offset, size) where it lies in an archive.
        """
        self.seen.add(record)
        self.suffixes.update(parts.keys())
        self.labels.append(self._label(path, record, parts))
        self.paths.append(path)
        self.splits.append(SPLITS.index(split))
        self.captions.append(parts.get("txt", b"").strip())
        for name, usual in self.wanted.items():
            self.further[name].append(self._text(name, usual, record, parts))
        if place is not None:
            self.shards.append(place[0])
            self.offsets.append(place[1])
            self.sizes.append(place[2])

    def _text(self, name: str, usual: tuple[str, ...], record: Mapping[str, Any], parts: Any) -> bytes:
        if name in self.columns:
            wanted = self.columns[name]
            part = wanted.removeprefix(".")  # as messages spell it
            own = parts[part].strip() if part in parts else None
            text = sidecars.text_of(sidecars.field_of(record, wanted)) if own is None else own
            return _host(text) if name == "source" else text
        for other in usual:
            if (value := record.get(other)) is not None and (text := sidecars.text_of(value)):
                return text
        return parts.get("txt", b"").strip() if name == "title" else b""

    def _label(self, path: bytes, record: Mapping[str, Any], parts: Mapping[str, bytes]) -> tuple[bytes, ...]:
        """The labels of a sample, () where it says none."""
        if self.settings.class_from is not None:
            return ()
        name, value = self._labelled_by(record, parts)
        if value is None:
            self.nearly.add(len(self.paths), record, parts)
            return ()
        try:
            words = sidecars.words_of(value)
            if any(len(word) > MAX_LABEL for word in words):
                raise sidecars.NoLabel(f"a text of more than {MAX_LABEL:,} bytes")
        except sidecars.NoLabel as error:
            self._odd(f"the label ({name}) is {error}", path)
            return ()
        if words:
            self.taken[name] += 1
        self.one_hot.add(len(self.paths), value)
        return words

    def _labelled_by(self, record: Mapping[str, Any], parts: Mapping[str, bytes]) -> tuple[str, Any]:
        """(where the label is, its value); the value is None where there is none."""
        if (own := self.columns.get("label")) is not None:
            part = own.removeprefix(".")
            return (part, _lines(parts[part])) if part in parts else (own, sidecars.field_of(record, own))
        for part in LABEL_PARTS:
            if part in parts and parts[part].strip():
                return f".{part}", _lines(parts[part])
        for name in sidecars.LABELS:
            if name in record and record[name] not in (None, "", []):
                return name, record[name]
        return "", None

    def _odd(self, what: str, path: bytes) -> None:
        self.odd[what] += 1
        self.odd_at.setdefault(what, path)

    def once(self, kind: str, text: str) -> None:
        """Something that many shards may have: `text` says it of the first."""
        count, first = self.said.get(kind, (0, text))
        self.said[kind] = count + 1, first

    def unread(self, name: str, why: str) -> None:
        """Take note that the JSON `name` of a sample could not be read."""
        self.num_unread += 1
        self.first_unread = self.first_unread or (why if name in why else f"{name}: {why}")

    def where(self, entry: int) -> str:
        """What messages call a row."""
        return repr(decode(self.paths[entry]))

    def table(self) -> Table:
        """All as a table. DataError where no image has a label and none can be made of the paths."""
        for count, text in self.said.values():
            self.report.warn(text + (f" (and so in {count - 1:,} more)" if count > 1 else ""))
        if self.num_unread:
            self.report.warn(
                f"the JSON of {self.num_unread:,} samples cannot be read and counts as empty; the first: "
                f"{self.first_unread}"
            )
        for what, count in self.odd.items():
            at = decode(self.odd_at[what])
            hint = (
                "; name the field in it, as in -o data.columns.label=label.name" if "object" in what else ""
            )
            self.report.warn(
                f"{count:,} samples, such as {short(at)!r}: {what}{hint}; they count as unlabelled"
            )
        self._choose_labels()
        columns = {
            "path": ByteStrings.of(self.paths),
            "label": ByteStrings.of(words[0] if words else b"" for words in self.labels),
        }
        given = self.further.pop("split", [b""] * len(self))
        columns["split"] = ByteStrings.of(
            own or SPLITS[code].encode() for own, code in zip(given, self.splits)
        )
        self.further["source"] = [source or self.source for source in self.further["source"]]
        columns |= {name: ByteStrings.of(texts) for name, texts in self.further.items() if any(texts)}
        several = {row: words for row, words in enumerate(self.labels) if len(words) > 1}
        places: dict[str, NDArray[Any]] = {
            "shard": np.array(self.shards, np.uint32),
            "offset": np.array(self.offsets, np.int64),
            "size": np.array(self.sizes, np.int64),
        }
        return Table(
            "all",
            columns,
            self.where,
            several=several,
            spelling=Spelling(),
            inside=places if len(self.shards) else {},
        )

    def _choose_labels(self) -> None:
        if self.one_hot:
            for row, place in self.one_hot.places.items():
                self.labels[row] = (b"%d" % place,)
            self.report.note("the labels are one-hot lists: the place of the 1, from 0, is taken")
        usual = {name: count for name, count in self.taken.items() if name.removeprefix(".") not in _PLAIN}
        if usual and "label" not in self.columns:
            names = ", ".join(f"{name} ({count:,} samples)" for name, count in usual.items())
            self.report.note(f"labels are taken from {names}; -o data.columns.label=… names another field")
        if any(self.labels) or not any(split != SPLITS.index("test") for split in self.splits):
            return
        if "label" in self.columns:
            own = self.columns["label"]
            raise DataError(
                f"data.columns.label: no sample has a {own!r} with a label in it. {self._found()}"
            )
        if not (self._from_path() or self._from_captions() or self._from_nearly()):
            raise DataError(f"no sample has a label. {self._found()}")

    def _found(self) -> str:
        """What was found, and how to say where the labels are."""
        parts = ", ".join(f".{part}" for part in sorted(self.suffixes)) or "none"
        found = f"Beside the {len(self.paths):,} images are the parts {parts}"
        texts = [text for text in self.captions[:_LOOKED_AT] if text]
        if texts:
            shown = first_few((repr(short(decode(text), 60)) for text in texts), len(texts))
            found += f" (.txt: {shown})"
        found += f"; fields of the JSON: {self.seen}." if self.seen.values else "; no fields of JSON."
        shown = " or ".join(f"-o data.columns.label={name}" for name in self._candidates())
        named = f"Name the field, or the part, that holds the label: {shown}; where" if shown else "Where"
        return f"{found} {named} folders or archives are the classes: -o data.class_from=leaf (or depth:1, …)"

    def _from_nearly(self) -> bool:
        """Take the one part or field that is nearly called as labels are."""
        if "label" in self.columns or len(self.nearly.found) != 1:
            return False
        ((name, labels),) = self.nearly.found.items()
        places = self.nearly.one_hot.places if self.nearly.one_hot else {}
        for row, words in labels.items():
            self.labels[row] = (b"%d" % places[row],) if row in places else words
        self.report.note(
            f"labels are taken from {name} ({len(labels):,} samples); -o data.columns.label=… names another "
            f"field" + (": the place of the 1 in one-hot lists, from 0" if places else "")
        )
        return True

    def _candidates(self) -> list[str]:
        """Fields and parts that may hold the labels, the likeliest first."""
        own = self.columns.get("label", "").removeprefix(".")
        fields_of_json = [self.seen.proposal(), *sorted(self.seen.values)[:_OFFERED]]
        parts = [part for part in sorted(self.suffixes) if part not in ("json", "txt")]
        texts = [] if self.seen.values or not any(self.captions) else ["txt"]
        likely = [part for part in parts if like_label(part)] or parts[:_OFFERED]
        names = fields_of_json[:1] if fields_of_json[0] else [*likely, *texts] or fields_of_json
        return [name for name in dict.fromkeys(names) if name and name != own]

    def _from_captions(self) -> bool:
        """Take the `.txt` parts for labels where few, short texts repeat."""
        known = {text for text in self.captions if text}
        total = sum(bool(text) for text in self.captions)
        if not 2 <= len(known) <= total / 2 or any(len(text) > 100 or b"\n" in text for text in known):
            return False
        self.labels = [(text,) if text else () for text in self.captions]
        shown = first_few((repr(decode(text)) for text in sorted(known)), len(known))
        self.report.note(
            f"labels are taken from the .txt parts: {len(known):,} texts ({shown}) of {total:,} samples"
        )
        return True

    def _from_path(self) -> bool:
        """Take archives or folders for classes: those named by `class_from`, else the first that look so."""
        folders = [path.rpartition(b"/")[0] for path in self.paths]
        levels = {folder: _levels(folder) for folder in set(folders)}
        how = self.settings.class_from
        if how is None and (depth := _class_depth(levels.values())) is not None:
            classes = {folder: level[depth].plain for folder, level in levels.items()}
        elif how is not None:
            classes = _named(levels, how)
        else:
            return False
        if not any(classes.values()):
            return False
        named = {folder: (encode(name),) if name else () for folder, name in classes.items()}
        self.labels = [named[folder] for folder in folders]
        known = sorted(set(classes.values()) - {""})
        what = f"data.class_from={how}" if how else "the archives and folders that the images lie in"
        self.report.note(
            f"classes are taken from {what}: {first_few(map(repr, known), len(known))}"
            + ("" if how else "; -o data.class_from=… or data.columns.label=… says otherwise")
        )
        return True


class _Nearly:
    """Labels of parts and fields that are nearly called as labels are, for where nothing else has any.

    found: `.part` or field → row → labels.
    """

    def __init__(self) -> None:
        self.found: dict[str, dict[int, tuple[bytes, ...]]] = {}
        self.one_hot = sidecars.OneHot()

    def add(self, row: int, record: Mapping[str, Any], parts: Mapping[str, bytes]) -> None:
        """Take note of a sample that has no label by the plain rules."""
        near = {f".{part}": _lines(text) for part, text in parts.items() if like_label(part)}
        near |= {name: record[name] for name in sidecars.NEARLY if name in record}
        for name, value in near.items():
            try:
                words = sidecars.words_of(value)
            except sidecars.NoLabel:
                continue
            if words and all(len(word) <= MAX_LABEL for word in words):
                self.found.setdefault(name, {})[row] = words
                self.one_hot.add(row, value)


def like_label(part: str) -> bool:
    """Whether a part is called as labels are: `cls`, and `orig.cls`, `label.txt`."""
    *before, last = part.split(".")
    return last in LABEL_PARTS or (last == "txt" and bool(before) and before[-1] in LABEL_PARTS)


def _lines(data: bytes) -> list[bytes] | bytes:
    """A part that is a label: its text, or the lines of it."""
    text = data.strip()
    return [line.strip() for line in text.splitlines()] if b"\n" in text else text


def _host(text: bytes) -> bytes:
    """Of an address the host that it leads to: who delivered the image."""
    found = re.match(rb"[a-z][a-z0-9+.-]*://(?:[^/@]*@)?([^/:?#]+)", text, re.IGNORECASE)
    return found[1].lower() if found else text


class _Level(NamedTuple):
    """A folder or archive that images lie in; plain: without a shard's number, "" where it is only that."""

    name: str
    plain: str


def _levels(folder: bytes) -> list[_Level]:
    """The folders and archives of a path that may be classes: what only says a split is none."""
    found, inside = [], False
    for part in decode(folder).split("/") if folder else []:
        name = SUFFIX.sub("", part).removesuffix(".parquet")
        archive = name != part
        inside = inside or archive
        own = _SYNSET.fullmatch(name) or (inside and not archive and not _SHARD.fullmatch(name))
        plain = name if own else _NUMBERED.sub("", name)
        if not (split_of(name) or split_of(plain)):
            found.append(_Level(name, plain))
    return found


def _class_depth(folders: Iterable[list[_Level]]) -> int | None:
    """The first level that has two names or more, numbers of shards apart, in every folder."""
    levels = list(folders)
    for depth in range(min(map(len, levels), default=0)):
        names = {level[depth].plain for level in levels}
        if len(names) > 1 and "" not in names:
            return depth
    return None


def _named(levels: dict[bytes, list[_Level]], how: str) -> dict[bytes, str]:
    """The class of each folder by `leaf`, `path` or `depth:N`; "" where there is no such level.

    Mere numbers of shards are no level; other numbers are cut off unless all would have one name then.
    """
    kept = {folder: [level for level in own if level.plain] for folder, own in levels.items()}
    places = slice(None) if how == "path" else slice(-1, None)
    if how.startswith("depth:"):
        depth = int(how.partition(":")[2])
        places = slice(depth - 1, depth)
    plain = {folder: "/".join(level.plain for level in own[places]) for folder, own in kept.items()}
    if len(set(plain.values()) - {""}) > 1:
        return plain
    return {folder: "/".join(level.name for level in own[places]) for folder, own in kept.items()}
