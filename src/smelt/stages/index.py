"""Stage `index`: file lists, folders or archives become a catalogue, or are refused before any work is spent.

Everything that cannot be right is found first and then told together: labels outside the range, a path
listed twice, a path of validation or test in training, a path that leaves the root.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_parquet import write_parquet
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.artifacts.longtexts import LIMIT
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.registry import reader
from smelt.data.formats.tree.census import NOT_LISTED, Accounts
from smelt.data.formats.tree.layout import check_root, resolve
from smelt.data.formats.tree.names import alike, told
from smelt.data.images.kinds import unread_heic
from smelt.errors import DataError
from smelt.files.atomic import read_json, write_json
from smelt.stages.context import Context

SHOWN_MISSING = 100
SHOWN_GROUPS = 5


def run(context: Context[FormatSettings]) -> None:
    """Read the data set below the artefact on port `data`, else below `runtime.root`."""
    settings = context.settings
    root = context.root
    if root is None:
        raise DataError("data.root is not set: -o data.root=FOLDER names the folder of the data set")
    index(settings, root, context.out, context.emit)
    _refuse_missing(context.out, root)
    _refuse_one_class(context.out)


def index(settings: FormatSettings, root: Path, out: Path, emit: Any = lambda event, **fields: None) -> None:
    """Write `out/catalogue/` and `out/index.json`. Raises DataError with all that is wrong."""
    check_root(root)
    settings, layout = resolve(settings, root)
    report = Report()
    if layout is not None:
        report.note(f"read as {layout}")
    with CatalogueWriter(out / "catalogue") as writer:
        reader(settings.format).read(settings, root, writer, report)
        _refuse_repeats(writer, report)
        if not writer.num_rows and not report.problems:
            report.problem(f"{root} has no images that format {settings.format} finds")
        report.refuse()
        shards = [shard for shard in writer.shards if shard not in writer.inside]
        writer.finish()
    for column, number in sorted(writer.long.counts.items()):
        report.note(
            f"{number:,} text(s) of {column} are longer than {LIMIT} characters: shown cut, whole in "
            f"catalogue.parquet"
        )
    catalogue = Catalogue.open(out / "catalogue")
    summary = _summary(catalogue, report)
    _warn_of_classes(catalogue, report)
    summary["files"] = _accounts(settings, root, catalogue, shards, report)
    _warn_of_unseen(catalogue, summary["files"], report)
    write_parquet(catalogue, out / "catalogue" / "catalogue.parquet")
    # `dedupe` draws again what we held out, by groups of copies
    drawn = ("seed", "val_fraction", "val_from", "test_fraction", "test_from")
    how = {name: getattr(settings, name) for name in drawn}
    summary["held_out"] = {"splits": report.held_out, **how} if report.held_out else None
    summary["format"] = settings.format
    summary["notes"] = [_shown(note) for note in report.notes]
    summary["warnings"] = [_shown(warning) for warning in report.warnings]
    write_json(out / "index.json", summary)
    for warning in summary["warnings"]:
        emit("warning", text=warning)
    if unread := unread_heic((summary["files"] or {}).get("heic", 0)):  # of this machine: not in index.json
        emit("warning", text=unread)


def _accounts(
    settings: FormatSettings, root: Path, catalogue: Catalogue, shards: list[str], report: Report
) -> dict[str, Any] | None:
    """What became of every file below the root; None where the files were not to be looked at."""
    if not settings.check_files:
        return None
    contents, listed = reader(settings.format).outside(settings, root)
    read = [path for path in (*contents, *listed) if path.is_file() and path.is_relative_to(root)]
    report.used |= {os.fsencode(path.relative_to(root)) for path in read}
    report.used |= {os.fsencode(shard) for shard in shards}
    accounts = Accounts.of(root, settings.links, catalogue.path_hashes(), report)
    accounts.named.tell(root, catalogue, report)
    not_listed = accounts.tallies.get((NOT_LISTED, "files"))
    if not_listed and not_listed.count > accounts.images:
        report.warn(
            f"{not_listed.count:,} images lie in the folder that the list does not name, and "
            f"{accounts.images:,} that it does: is it the list of this data set? -o data.format=imagefolder "
            f"takes folders as classes"
        )
    return accounts.summary() | {"no_images": report.no_images, "in_archives": _in_archives(catalogue)}


def _warn_of_unseen(catalogue: Catalogue, files: dict[str, Any] | None, report: Report) -> None:
    """Warn of listed names that are there and are no files that will be read; DataError where all are such.

    They are folders, or links that lead out of the root.
    """
    if files is None or files["in_archives"]:
        return
    there_N = np.ones(catalogue.num_rows, bool)
    there_N[catalogue.missing] = False
    listed = len(np.unique(catalogue.path_hashes()[there_N]))
    if listed <= files["images"]:
        return
    why = "; ".join(f"{item['count']} × {item['why']}: {item['first'][0]}" for item in files["left_out"][:3])
    text = (
        f"{listed - files['images']:,} of {listed:,} listed names are no files that can be read: folders, or "
        f"links that lead out of the folder (-o data.links=anywhere follows those)"
        + (f". There: {why}" if why else "")
    )
    if not files["images"]:
        raise DataError(text)
    report.warn(text)


def _in_archives(catalogue: Catalogue) -> int:
    """How many images lie in shards, and are no files of their own."""
    codes_N = catalogue.column("shard")
    return 0 if codes_N is None else int(np.count_nonzero(codes_N < len(catalogue.shards)))


def _refuse_missing(out: Path, root: Path) -> None:
    """Refuse a list none of whose files is there: the paths start from another folder, or are other names."""
    catalogue = Catalogue.open(out / "catalogue")
    missing = len(catalogue.missing)
    if missing and missing == catalogue.num_rows:
        raise DataError(
            f"none of the {missing} listed files is there; looked for, of the first: "
            f"{root / catalogue.path(0)}. Paths are relative to data.root; a folder or a suffix that the "
            f"list leaves out is set by -o data.prefix=FOLDER/ and -o data.suffix=.jpg"
        )


def _refuse_one_class(out: Path) -> None:
    """Refuse what nothing can be learnt from: training images of fewer than two classes."""
    catalogue, summary = Catalogue.open(out / "catalogue"), read_json(out / "index.json")
    counts = summary["classes"].get("train", [])
    found = [label for label, number in enumerate(counts) if number]
    if len(found) < 2:
        there = (
            f"one class only, {catalogue.classes[found[0]]!r} ({counts[found[0]]} images)" if found
            else "no class"
        )  # fmt: skip
        splits = ", ".join(f"{number} {split}" for split, number in summary["splits"].items())
        raise DataError(
            f"learning needs training images of two classes at least; here they are of {there}. Found: "
            f"{splits}. Is the label in another column (data.columns.label), or the class in another folder "
            f"(data.class_from)?"
        )


def _refuse_repeats(writer: CatalogueWriter, report: Report) -> None:
    for repeat in writer.repeats():
        if report.repeats and writer.origin(repeat.first)[0] == writer.origin(repeat.second)[0]:
            continue
        split, listed_in, entry = writer.origin(repeat.second)
        first_split, first_in, first_entry = writer.origin(repeat.first)
        where, before = _place(listed_in, entry), _place(first_in, first_entry)
        what = "is listed twice" if split == first_split else f"is in {first_split} and in {split}"
        report.problem(f"{where}: {repeat.path!r} {what} (before: {before})")


def _place(listed_in: Any, entry: int) -> str:
    return "the folder" if listed_in is None else str(listed_in(entry))


def _summary(catalogue: Catalogue, report: Report) -> dict[str, Any]:
    """Counts per class, source and split, and what is missing."""
    splits, counts = {}, {}
    for code, split in enumerate(catalogue.splits):
        rows = catalogue.split_codes_N == code
        splits[split] = int(rows.sum())
        labels = catalogue.labels_N[rows]
        counts[split] = np.bincount(labels[labels >= 0], minlength=catalogue.num_classes).tolist()
    sources = np.bincount(catalogue.source_codes_N, minlength=len(catalogue.sources)).tolist()
    missing = catalogue.missing
    told = any("listed files are not there" in warning for warning in report.warnings)
    if len(missing) and not told:
        report.warn(f"{len(missing)} of {catalogue.num_rows} listed files are not there (see index.json)")
    return {
        "rows": catalogue.num_rows,
        "num_classes": catalogue.num_classes,
        "splits": splits,
        "sources": dict(zip(catalogue.sources, sources)),
        "classes": counts,
        "missing": {
            "count": len(missing),
            "first": [_shown(catalogue.path(row)) for row in missing[:SHOWN_MISSING].tolist()],
        },
    }


def _warn_of_classes(catalogue: Catalogue, report: Report) -> None:
    labelled_N = (catalogue.split_codes_N == catalogue.splits.index("train")) & (catalogue.labels_N >= 0)
    there_N = labelled_N.copy()
    there_N[catalogue.missing] = False
    listed, counts = (
        np.bincount(catalogue.labels_N[rows_N], minlength=catalogue.num_classes)
        for rows_N in (labelled_N, there_N)
    )
    for which, words in (
        (listed == 0, "have no training image"),
        ((listed > 0) & (counts == 0), "have no training image whose file is there"),
    ):
        if empty := np.flatnonzero(which).tolist():
            shown = ", ".join(f"{label} ({catalogue.classes[label]})" for label in empty[:10])
            report.warn(f"{len(empty)} classes {words}: {shown}{' …' if len(empty) > 10 else ''}")
    groups = alike(catalogue.classes)
    for group in groups[:SHOWN_GROUPS]:
        report.warn(
            f"{len(group)} classes differ only in case, blanks, signs around them, the form of letters or a "
            f"word for a copy: "
            f"{', '.join(told(name) for name in group)}. If they are one, give them one name"
        )
    if len(groups) > SHOWN_GROUPS:
        report.warn(f"{len(groups) - SHOWN_GROUPS} more groups of classes are called nearly the same")


def _shown(path: str) -> str:
    """A path as text that any JSON reader takes: bytes that are not UTF-8 as \\xNN."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
