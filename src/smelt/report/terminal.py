"""What a run found, on the terminal: the ladder, and of each stage its numbers and where its files are."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from smelt.artifacts.catalogue import Catalogue
from smelt.data.images.kinds import unread_heic
from smelt.errors import ArtifactError, printable
from smelt.files.atomic import read_json
from smelt.files.committed import MANIFEST
from smelt.files.workfolder import FLOWCHART
from smelt.flowchart.work import Work, items_of
from smelt.report.audits import audits
from smelt.report.findings import Fused, Ladder, Table
from smelt.report.kindtables import KindTables, against_truth

FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "check": ("check.json", ()),
    "dedupe": ("dedupe.json", ()),
    "features": ("features.json", ()),
    "train": ("train.json", ()),
    "rank": ("rank.json", ("score", "models", "rows", "unseen")),
    "select": ("selection.json", ("method", "noise", "rate", "decided", "counts", "num_classes")),
    "decide": ("decision.json", ("words", "labels", "images")),
}  # stage → (file, fields to print; none: all that are plain numbers, words or counts)
MOST_CLASSES = 20
MOST_ALIKE = 12  # results of which it is told how alike they err
WIDTH = 120  # of lines that a pipe or a log gets, which are not cut at 80 characters


def console() -> Console:
    """The terminal, or what stands for it; names of rounds and classes are plain text."""
    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def table(out: Console, found: Table | None) -> None:
    """Print a table, if there is one."""
    if found is None:
        return
    made = RichTable(title=found.title, caption=found.note or None, box=SIMPLE_HEAD)
    made.caption_justify = "left"
    for place, name in enumerate(found.columns):
        words = place == 0 or name in found.words
        made.add_column(name, justify="left" if words else "right", no_wrap=place == 0)
    for row in found.rows:
        made.add_row(*row)
    out.print(made)


def measured(folder: Path) -> dict[str, Any]:
    """What `evaluate` measured in the work folder `folder`, as `smelt results --json` prints it."""
    found: dict[str, Any] = read_json(Work(folder).find("evaluate") / "ladder.json")
    return found


def ladder(measured: Mapping[str, Any]) -> None:
    """Print the ladder, what was dropped against the known truth, and what was chosen."""
    out, found = console(), Ladder.of(measured)
    table(out, found.table())
    table(out, found.decided())
    for sentence in found.sentences():
        out.print(sentence, soft_wrap=True)
    table(out, found.dropped())
    table(out, found.scores())
    table(out, against_truth(measured.get("selections", ())))


def audited(folder: Path, split: str = "") -> bool:
    """Print what people's verdicts say of the labels, of all splits or of one; whether there is any."""
    out = console()
    found = [one for one in audits(Work(folder)) if split in ("", one.split)]
    for one in found:
        for sentence in one.sentences():
            out.print(printable(sentence), soft_wrap=True)
        table(out, one.cuts())
        table(out, one.selections())
    return bool(found)


def fusion(record: Mapping[str, Any], explain: bool = False) -> None:
    """Print what was tried, what is used and why; with `explain`, what each result is worth."""
    out, found = console(), Fused(record)
    judged = bool(record["images"])
    if judged:
        table(out, found.methods())
    metric = [f"metric: {record['metric_words']}"] if "metric_words" in record else []
    for line in [found.held_out(), *metric, record["words"], *record.get("left_out", [])]:
        if line:
            out.print(line, soft_wrap=True)
    if explain or not judged:
        names = [one["name"] for one in record["results"]]
        if words := found.by_class():
            out.print(words, soft_wrap=True)
        table(out, found.results(names, len(names)))
        table(out, found.similarity(MOST_ALIKE))


def show(folder: Path, stage: str, *, last: bool = False, told: Collection[str] = ()) -> None:
    """Print the artefacts of `stage` in the finished flowchart of the work folder, or in the `last` begun.

    told: warnings that were shown already, and are not repeated.

    ArtifactError where the flowchart has none of that stage, none of them is done, or one is damaged.
    """
    work = Work(folder)
    items = list((items_of(work, read_json(folder / FLOWCHART)) if last else work.items).values())
    found = [item for item in items if item.stage == stage]
    if not found:
        there = ", ".join(dict.fromkeys(item.stage for item in items))
        raise ArtifactError(f"the flowchart of {folder} has no stage {stage!r} (there: {there})")
    done = [(item, item.path) for item in found if item.path]
    if not done:
        raise work.not_done(stage)
    for item, path in done:
        work.require_whole(item)
        print(f"{item.id}: {path}")
        _one(path, stage, told)
    if len(done) < len(found):
        print(f"{len(found) - len(done)} more are not done yet")


def _one(folder: Path, stage: str, told: Collection[str]) -> None:
    if stage == "index":
        _catalogue(folder, told)
    elif stage == "evaluate":
        ladder(read_json(folder / "ladder.json"))
    elif stage in FIELDS:
        name, wanted = FIELDS[stage]
        values = read_json(folder / name)
        for field in wanted or values:
            value = values.get(field)
            if isinstance(value, Mapping):
                value = ", ".join(f"{key or '(none)'} {number}" for key, number in value.items())
            if isinstance(value, (int, float, str)):
                print(f"  {field}: {value:.4f}" if isinstance(value, float) else f"  {field}: {value}")
        if stage == "rank":
            diagnosis = read_json(folder / "diagnosis.json")
            print(f"  noise: {diagnosis.get('noise', {}).get('words', 'not estimated')}")
            table(console(), KindTables(diagnosis).kinds())
    else:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != MANIFEST:
                print(f"  {path.relative_to(folder)} ({path.stat().st_size:,} bytes)")


def _catalogue(folder: Path, told: Collection[str]) -> None:
    """Images by split, source and class, what became of every file, and warnings."""
    index, out = read_json(folder / "index.json"), console()
    names = Catalogue.open(folder / "catalogue").classes
    by_class = {f"{i} {names[i]}": n for i, n in enumerate(index["classes"].get("train", []))}
    for what, counts in (("split", index["splits"]), ("source", index["sources"]), ("class", by_class)):
        rows = [[printable(str(name)), str(number)] for name, number in list(counts.items())[:MOST_CLASSES]]
        if len(counts) > MOST_CLASSES:
            rows.append([f"… {len(counts) - MOST_CLASSES} more in index.json", ""])
        title = f"{'training ' if what == 'class' else ''}images by {what}"
        table(out, Table([what, "images"], rows, title))
    for note in index["notes"]:
        out.print(printable(note), soft_wrap=True)
    files(out, index["files"])
    unread = unread_heic((index["files"] or {}).get("heic", 0))
    for warning in [*index["warnings"], *([unread] if unread else [])]:
        if warning not in told:
            out.print(f"warning: {printable(warning)}", style="yellow", soft_wrap=True)


def files(out: Console, found: Mapping[str, Any] | None) -> None:
    """Print what became of every file below the root; None where nobody looked."""
    if found is None:
        out.print("what else lies in the folder was not looked at (data.check_files=false)")
        return
    rest = "every other one was left out:" if found["left_out"] else "none was left out"
    read = f", {found['read']:,} read beside them (lists, archives, texts)" if found["read"] else ""
    none = found.get("no_images", 0)
    doubt = f" by their names ({none:,} of those opened are none by content)" if none else ""
    within = f", {found['in_archives']:,} images lie in archives" if found["in_archives"] else ""
    out.print(
        f"{found['found']:,} files: {found['images']:,} are images of the data set{doubt}{within}{read}; "
        f"{rest}",
        soft_wrap=True,
    )
    for item in found["left_out"]:
        first = ", ".join(map(printable, item["first"][:3])) + (" …" if item["count"] > 3 else "")
        within = " (in archives or lists)" if item["what"] == "members" else ""
        out.print(f"  {item['count']:,} × {printable(item['why'])}{within}: {first}", soft_wrap=True)
