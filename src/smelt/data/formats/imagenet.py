"""ImageNet as it is distributed: classes are synsets (`n01440764`), their names the words of it.

ILSVRC: `train/n01440764/….JPEG`, `val/` and `test/` flat or with a folder for each synset; in the root, or in
`Data/CLS-LOC/` of it or of `ILSVRC/`. The labels of a flat `val/` come from `LOC_val_solution.csv`, from a
list with a synset a line or a name and a synset a line, or from the devkit's
`ILSVRC2012_validation_ground_truth.txt`, whose numbers are those of `meta.mat`: `map_clsloc.txt`
(`n02119789 1 kit_fox`) says which synset each is. Tiny ImageNet: `wnids.txt`, `words.txt`,
`train/n…/images/….JPEG`, `val/val_annotations.txt`, `val/images/`, `test/images/`.

Words: `LOC_synset_mapping.txt`, `synset_words.txt`, `words.txt`, `map_clsloc.txt` or
`imagenet_class_index.json`; without any the synsets are the names. Classes are in the order of the synsets,
which is that of all published models, but for Tiny ImageNet's, which is that of `wnids.txt`. Others by
`lists: {val: …, classes: …}`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smelt.artifacts.bytestrings import ByteStrings, decode, encode
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import IMAGE_SUFFIXES, Report, as_bytes, list_folder, lists_named
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.jsons import load
from smelt.data.formats.lists.exported import Known
from smelt.data.formats.lists.imagetable import Table
from smelt.data.formats.lists.listed import add_tables
from smelt.data.formats.lists.pathlists import read_lines
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.files import Part
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import hidden, joined
from smelt.data.formats.tree.spelling import Spelling
from smelt.errors import DataError, short
from smelt.files.opening import read_head

FORMAT = Format(
    "ImageNet as it is distributed, and Tiny ImageNet: synsets",
    order=50,
    takes="lists links",
    validation="checked",
)

_SYNSET = re.compile(rb"n[0-9]{8}")
_IN_LINE = re.compile(rb"\bn[0-9]{8}\b")
_TOPS = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "tiny-imagenet-200", "ILSVRC2012", "imagenet")
_BESIDE = (
    "", "ILSVRC", "ILSVRC/devkit/data", "devkit/data", "ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12",
    "ILSVRC2012", "ILSVRC2012/ILSVRC2012_devkit_t12/data", "tiny-imagenet-200", "imagenet", "val",
    "tiny-imagenet-200/val",
)  # fmt: skip
_WORDS = (
    "LOC_synset_mapping.txt", "synset_words.txt", "words.txt", "map_clsloc.txt", "imagenet_class_index.json",
)  # fmt: skip
_TRUTHS = (
    "LOC_val_solution.csv", "val_annotations.txt", "imagenet_2012_validation_synset_labels.txt",
    "ILSVRC2012_validation_ground_truth.txt", "val_labels.txt", "val_map.txt", "val.txt",
)  # fmt: skip
_SUFFIXES = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)
_MAX_LIST = 64 << 20  # bytes: the longest of all, LOC_train_solution.csv, has 37 MB


def recognise(glimpse: Glimpse) -> str:
    """Folders of synsets for training, with something that only ImageNet has beside them."""
    for top in _TOPS:
        train = f"{top}/train".lstrip("/")
        synsets = [name for name in glimpse.folders(train) if _SYNSET.fullmatch(os.fsencode(name))]
        if len(synsets) < 2:
            continue
        val = f"{top}/val".lstrip("/")
        flat = "val" in glimpse.folders(top) and not glimpse.folders(val) and glimpse.files(val)
        there = [name for at in _BESIDE for name in (*_WORDS, "wnids.txt") if name in glimpse.files(at)]
        if flat or there or top.endswith("CLS-LOC"):
            return f"synsets in {train}/" + (f", and {there[0]}" if there else "")
    return ""


@dataclass(frozen=True)
class _Layout:
    """top: the folder of train/, below the root. Paths of the lists, None where they are not there."""

    top: str
    truth: Path | None
    words: Path | None
    clsloc: Path | None
    wnids: Path | None


def _layout(settings: FormatSettings, root: Path) -> _Layout:
    named = lists_named(settings, root, "val", "classes")
    tops = [top for top in _TOPS if (root / top / "train").is_dir()]
    if not tops:
        raise DataError(f"{root} has no train/ with a folder for each synset (nor has ILSVRC/Data/CLS-LOC/)")

    def first(names: Sequence[str]) -> Path | None:
        paths = (root / at / name for name in names for at in _BESIDE)
        return next((path for path in paths if path.is_file() and not _only_numbers_lines(path)), None)

    return _Layout(
        max(tops, key=len), named.get("val") or first(_TRUTHS), named.get("classes") or first(_WORDS),
        first(("map_clsloc.txt",)), first(("wnids.txt",)),
    )  # fmt: skip


def _only_numbers_lines(path: Path) -> bool:
    """Whether a list is one of ImageSets', in which a number behind each name is that of its line."""
    if path.name != "val.txt":
        return False
    return [line.split()[1:] for line in read_head(path, 4096).split(b"\n")[:2]] == [[b"1"], [b"2"]]


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The lists by content, the images by listing."""
    at = _layout(settings, root)
    lists = [path for path in (at.truth, at.words, at.clsloc, at.wnids) if path]
    return lists, [path for name in ("train", "val", "test") if (path := root / at.top / name).is_dir()]


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append train, val and test, each in the order of its paths."""
    at = _layout(settings, root)
    report.used |= {as_bytes(path, root) for path in (at.truth, at.words, at.clsloc, at.wnids) if path}
    base = encode(at.top)
    train = list(_sorted_images(root, base, b"train", report))
    synsets = sorted({synset for _, synset in train})
    if at.wnids:
        listed = dict.fromkeys(line.strip() for line in _lines(at.wnids))
        if strange := [synset for synset in synsets if synset not in listed]:
            report.problem(f"{at.wnids} does not list {decode(strange[0])}, which has images in train/")
        synsets = list(listed)
    if not train:
        raise DataError(f"{root / at.top / 'train'} has no images in folders of synsets{_tars(root, base)}")
    tables = [_table("train", train, root)]
    if (root / at.top / "val").is_dir():
        tables += _val(at, root, base, synsets, report)
    test = [*_sorted_images(root, base, b"test", report), *_flat(root, base, b"test")]
    tables += [_table("test", test, root)] if test else []
    report.refuse()
    known = Known()
    known.ids = {synset: synset for synset in synsets}
    add_tables(tables, settings, root, writer, report, known=known.classes())
    writer.class_ids = [decode(synset) for synset in synsets]
    writer.classes = _names(at.words, synsets, report)


def _table(split: str, images: Sequence[tuple[bytes, bytes]], root: Path) -> Table:
    paths = ByteStrings.of(path for path, _ in images)
    columns = {"path": paths, "label": ByteStrings.of(synset for _, synset in images)}
    return Table(split, columns, lambda row: str(root / decode(paths[row])), spelling=Spelling())


def _sorted_images(root: Path, base: bytes, split: bytes, report: Report) -> Iterator[tuple[bytes, bytes]]:
    """(path, synset) of the images in a folder for each synset, or in `images/` of it."""
    top = joined(base, split)
    for folder in sorted(list_folder(root, top)):
        at = top + b"/" + folder
        if hidden(folder) or not (root / decode(at)).is_dir():
            continue
        if not _SYNSET.fullmatch(folder):
            if folder != b"images":
                report.warn(f"{root / decode(at)} is no synset: what lies in it is left out")
            continue
        below = sorted(list_folder(root, at))
        if below == [b"images"] or b"images" in below:
            at, below = at + b"/images", sorted(list_folder(root, at + b"/images"))
        yield from ((at + b"/" + name, folder) for name in below if _image(name))


def _flat(root: Path, base: bytes, split: bytes) -> list[tuple[bytes, bytes]]:
    """(path, b"") of the images that lie in a split's folder itself, or in `images/` of it."""
    top = joined(base, split)
    return [
        (at + b"/" + name, b"")
        for at in (top, top + b"/images")
        for name in sorted(list_folder(root, at))
        if _image(name)
    ]


def _image(name: bytes) -> bool:
    return name.lower().endswith(_SUFFIXES) and not hidden(name)


def _tars(root: Path, base: bytes) -> str:
    tars = [name for name in list_folder(root, joined(base, b"train")) if name.endswith(b".tar")]
    return f", but {len(tars)} tars: unpack each into a folder of its name" if tars else ""


def _val(at: _Layout, root: Path, base: bytes, synsets: Sequence[bytes], report: Report) -> list[Table]:
    images = list(_sorted_images(root, base, b"val", report))
    if flat := _flat(root, base, b"val"):
        if at.truth is None:
            raise DataError(
                f"{root / at.top / 'val'} has {len(flat):,} images in no folder of a synset, and there is "
                f"no list of their labels below {root} ({', '.join(_TRUTHS[:4])}): put it there, or name one "
                "with a name and a synset a line: -o data.lists.val=FILE"
            )
        truths = _Truths(at.truth, at.clsloc, synsets, report)
        images += [(path, truths.of(path)) for path, _ in flat]
        truths.finish(len(flat))
    return [_table("val", images, root)] if images else []


class _Truths:
    """The synsets of flat images, by their names or by the numbers that those end in."""

    def __init__(self, path: Path, clsloc: Path | None, synsets: Sequence[bytes], report: Report) -> None:
        self.path, self.report = path, report
        self.known = set(synsets)
        self.by_name: dict[bytes, bytes] = {}
        self.by_line: list[bytes] = []
        self.unlisted: list[bytes] = []
        take: Callable[[bytes], bytes] | None = None
        for number, line in enumerate(_lines(path), 1):
            if line.startswith(b"ImageId,"):
                continue
            if found := _IN_LINE.search(line):
                synset, rest = found[0], line[: found.start()].strip(b" \t,;")
            else:
                rest, _, last = line.replace(b",", b" ").replace(b"\t", b" ").strip().rpartition(b" ")
                take = take or (_places(synsets) if rest else _by_id(path, clsloc))
                synset = take(last)
            if synset not in self.known:
                report.problem(f"{path}:{number}: {decode(line)[:80]!r} names no synset that train/ has")
            if rest:
                self.by_name[_stem(rest.strip())] = synset
            else:
                self.by_line.append(synset)

    def of(self, path: bytes) -> bytes:
        """The synset of an image; b"" where the list does not have it."""
        stem = _stem(path.rpartition(b"/")[2])
        if self.by_name:
            found = self.by_name.get(stem, b"")
        else:
            digits = re.search(rb"[0-9]{1,9}$", stem)
            number = int(digits[0]) if digits else 0
            found = self.by_line[number - 1] if 0 < number <= len(self.by_line) else b""
        if not found:
            self.unlisted.append(path)
        return found

    def finish(self, images: int) -> None:
        """Refuse a list that is not of these images."""
        if len(self.unlisted) == images:
            self.report.problem(
                f"{self.path} has not one of the {images:,} images of val/, such as "
                f"{decode(self.unlisted[0].rpartition(b'/')[2])}"
            )


def _stem(name: bytes) -> bytes:
    name = name.rpartition(b"/")[2]
    return name.rpartition(b".")[0] if name.lower().endswith(_SUFFIXES) else name


def _places(synsets: Sequence[bytes]) -> Callable[[bytes], bytes]:
    """Number → synset where numbers are places in the sorted synsets, as those of published models."""
    ordered = sorted(synsets)
    return lambda word: ordered[int(word)] if _below(word, len(ordered)) else b""


def _by_id(path: Path, clsloc: Path | None) -> Callable[[bytes], bytes]:
    """Number → synset where numbers are the devkit's own."""
    if clsloc is None:
        raise DataError(
            f"{path} has numbers in the order of the devkit's meta.mat, which is not that of the synsets. "
            "Put map_clsloc.txt beside it (a line for each class: `n02119789 1 kit_fox`), or "
            "LOC_val_solution.csv, or name a list with a name and a synset a line: -o data.lists.val=FILE"
        )
    ids = {cells[1]: cells[0] for line in _lines(clsloc) if len(cells := line.split()) > 1}
    return lambda word: ids.get(word, b"")


def _below(word: bytes, limit: int) -> bool:
    return word.isdigit() and len(word) < 10 and int(word) < limit


def _lines(path: Path) -> list[bytes]:
    if path.stat().st_size > _MAX_LIST:
        raise DataError(f"{path} has {path.stat().st_size:,} bytes; such a list has {_MAX_LIST:,} at most")
    return read_lines(Part(path))


def _names(words: Path | None, synsets: Sequence[bytes], report: Report) -> list[str]:
    """Names of the classes: the words of each synset, those that are the same told apart by it."""
    if words is None:
        report.note("no list of the synsets' words was found: classes are called by their synsets")
        return [decode(synset) for synset in synsets]
    known = _class_index(words) if words.suffix == ".json" else _word_list(words)
    named = [known.get(synset, synset).strip() or synset for synset in synsets]
    if without := [synset for synset in synsets if synset not in known]:
        report.warn(f"{words} has no words for {len(without)} synsets, such as {decode(without[0])}")
    twice = {name for name, count in Counter(named).items() if count > 1}
    return [
        name.decode("utf-8", "replace") + (f" ({decode(synset)})" if name in twice else "")
        for name, synset in zip(named, synsets)
    ]


def _word_list(words: Path) -> dict[bytes, bytes]:
    """Synset → words, of lines `n01440764 tench, Tinca tinca` or `n02119789 1 kit_fox`."""
    known = {}
    for number, line in enumerate(_lines(words), 1):
        synset, _, text = line.strip().replace(b"\t", b" ", 1).partition(b" ")
        if not _SYNSET.fullmatch(synset):
            raise DataError(f"{words}:{number}: {short(decode(line), 80)!r} does not begin with a synset")
        place, _, name = text.strip().partition(b" ")
        known[synset] = (
            name.replace(b"_", b" ") if words.name == "map_clsloc.txt" and place.isdigit() else text
        )
    return known


def _class_index(words: Path) -> dict[bytes, bytes]:
    """Synset → words, of an object {"0": ["n01440764", "tench"]}."""
    value = load(words)
    if not isinstance(value, dict):
        raise DataError(f"{words}: an object of classes should be here")
    known = {}
    for key, pair in value.items():
        if not isinstance(pair, list) or len(pair) < 2 or not all(isinstance(item, str) for item in pair):
            raise DataError(f'{words}: ["{short(key, 40)}"] is not a pair of a synset and its words')
        known[pair[0].encode("utf-8", "replace")] = pair[1].replace("_", " ").encode("utf-8", "replace")
    return known
