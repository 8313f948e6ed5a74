"""WebVision 1.0 and 2.0, as distributed (tars, read in place or unpacked) or unpacked; and mini-WebVision.

Labels come from the file lists of `info/` and from nowhere else; images are known by their full relative
path, since names repeat. Which folders hold what differs between copies, so the known ones are looked for,
and each can be set: `folders: {google: …, flickr: …, val: …, test: …, google_meta: …, flickr_meta: …}`,
`lists: {google: …, flickr: …, val: …, test: …, google_meta: …, flickr_meta: …, synsets: …, queries: …}`.

mini-WebVision (Jiang et al. 2018, MentorNet; Li et al. 2020, DivideMix): the first 50 classes, Google's
images only (65,944 rows), and validation of the same classes. Test labels were never published; where
`info/test_labels.txt` or `info/truth.csv` (path, true_label, noise) exist, as in the embedded data set,
the hidden truth goes into the catalogue for `evaluate` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from smelt.artifacts.bytestrings import decode
from smelt.artifacts.catalogue import UNKNOWN
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.archives import SUFFIX, find_archives, open_archive, stem
from smelt.data.formats.lists.pathlists import Entries, read_lines, read_list, where_in
from smelt.data.formats.lists.truth import Truth
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.files import Files, Part
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.pathcolumns import find_paths
from smelt.data.formats.webcopy import LISTS, Copy
from smelt.data.formats.webtext import MetaText

FORMAT = Format(
    "WebVision 1.0 and 2.0, as distributed or unpacked",
    order=10,
    takes="lists folders sources num_classes text",
    draws=False,
    validation="checked",
)

MINI_CLASSES = 50


def recognise(glimpse: Glimpse) -> str:
    """File lists of WebVision in `info/`."""
    found = [name for name in glimpse.files("info") if name.startswith("train_filelist")]
    packed = (name for name in glimpse.files() if SUFFIX.search(name) and stem(name) == "info")
    return f"info/{found[0]}" if found else next(packed, "")


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """Files that count by content (lists), and files and folders that count by names and sizes."""
    info = [path for path in (root / "info").rglob("*") if path.is_file()]
    lists = [root / name for name in settings.lists.values()]
    beside = [root / name for names in LISTS.values() for name in names]
    contents = [path for path in (*info, *beside) if path.is_file()] + lists
    metas = [top for pattern in ("*.json", "*/*.json", "*/*/q*.json") for top in root.glob(pattern)]
    return contents, [*_archives(root, Report()), *(metas if settings.text else [])]


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append all rows: training of each source, validation, test."""
    archives = [open_archive(path, root, writer, report) for path in _archives(root, report)]
    files = Files(root, archives, report, check=settings.check_files)
    layout = Copy(settings, files)
    synsets = [line.split(None, 1) for line in read_lines(layout.need("synsets"))]
    limit = MINI_CLASSES if settings.format == "mini_webvision" else settings.num_classes
    classes = len(synsets) if limit is None else min(limit, len(synsets))
    truth = Truth.read(layout.list_file("truth"), files, report)
    for source in layout.sources(settings):
        text = MetaText(layout, source, report, join=settings.text)
        for entries in _entries(layout.need(source), report, len(synsets), True):
            _add(writer, layout, truth, "train", source, entries, classes, text)
        text.finish()
    for split in ("val", "test"):
        for entries in _evaluation(layout, split, len(synsets), report):
            _add(writer, layout, truth, split, split, entries, classes, None)
    writer.class_ids = [decode(words[0]) for words in synsets[:classes]]
    writer.classes = [
        decode(words[-1]).strip() if len(words) > 1 else decode(words[0]) for words in synsets[:classes]
    ]


def _archives(root: Path, report: Report) -> list[Path]:
    return find_archives(root, report, deep=False)


def _entries(path: Part, report: Report, classes: int, labelled: bool) -> Iterator[tuple[Part, Entries]]:
    for entries in read_list(path, report, labelled=labelled, num_classes=classes):
        yield path, entries


def _evaluation(layout: Copy, split: str, classes: int, report: Report) -> Iterator[tuple[Part, Entries]]:
    """Entries of validation or test; the hidden labels of test where they are there."""
    listed = layout.list_file(split)
    if listed is None:
        report.warn(f"there is no {LISTS[split][0]}: the catalogue has no {split} split")
        return
    hidden = layout.list_file("test_labels") if split == "test" else None
    if hidden is None:
        yield from _entries(listed, report, classes, split == "val")
        return
    answers = list(read_list(hidden, report, labelled=True, num_classes=classes))
    for entries in read_list(listed, report, labelled=False, num_classes=classes):
        labels = np.full(len(entries), UNKNOWN, np.int32)
        for answer in answers:
            found = find_paths(entries.paths, answer.paths)
            labels[found >= 0] = answer.labels[found[found >= 0]]
        yield listed, Entries(entries.paths, labels, entries.first)


def _add(
    writer: CatalogueWriter, layout: Copy, truth: Truth, split: str, source: str,
    listed: tuple[Part, Entries], classes: int, text: MetaText | None,
) -> None:  # fmt: skip
    part, entries = listed
    chosen = np.flatnonzero(entries.labels < classes)
    paths = entries.paths
    if len(chosen) < len(entries):
        paths = Paths(paths.folders, paths.folder_codes[chosen], paths.names.take(chosen))
    placed = layout.place(paths, source) if split == "train" else paths.below(layout.below(split))
    fixed, missing = layout.files.locate(placed)
    block = Block(
        split, source, placed, entries.labels[chosen], fixed, missing=missing,
        listed_in=where_in(part), entries=entries.first + chosen,
    )  # fmt: skip
    if text is not None:
        text.join(block, paths)
    truth.join(block, classes)
    writer.add(block)
