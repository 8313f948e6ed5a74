"""What a verb that stops at its stage prints of it: the numbers of its artefacts, and where the files are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from smelt.artifacts.files import read_json

FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "check": ("check.json", ()),
    "dedupe": ("dedupe.json", ()),
    "train": ("train.json", ()),
    "rank": ("rank.json", ("score", "models", "rows", "unseen")),
    "select": ("selection.json", ("method", "noise", "rate", "counts", "num_classes")),
}  # stage → (file, fields to print; none: all that are plain numbers, words or counts)
MOST_CLASSES = 20


def show(work: Path, stage: str) -> None:
    """Print the artefacts of `stage` in the work folder."""
    if stage == "evaluate":
        from smelt.verbs import ladder

        ladder.show(ladder.ladder(work))
        return
    for node in read_json(work / "flowchart.json")["nodes"]:
        if node["stage"] == stage:
            folder = work / "artifacts" / f"{stage}-{node['key']}"
            print(f"{node['id']}: {folder}")
            _show_one(folder, stage)


def _show_one(folder: Path, stage: str) -> None:
    if stage == "index":
        _show_counts(folder)
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
            noise = read_json(folder / "diagnosis.json").get("noise", {})
            print(f"  noise: {noise.get('words', 'not estimated')}")
    else:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "manifest.json":
                print(f"  {path.relative_to(folder)} ({path.stat().st_size:,} bytes)")


def _show_counts(folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from smelt.artifacts.catalogue import Catalogue

    index = read_json(folder / "index.json")
    by_class = dict(enumerate(index["classes"].get("train", [])))
    names = Catalogue.open(folder / "catalogue").classes
    console = Console(markup=False, emoji=False, highlight=False)
    for title, what, counts in (
        ("images by split", "split", index["splits"]),
        ("images by source", "source", index["sources"]),
        ("training images by class", "class", {f"{i} {printable(names[i])}": n for i, n in by_class.items()}),
    ):
        table = Table(title=title)
        table.add_column(what)
        table.add_column("images", justify="right")
        for i, (name, number) in enumerate(counts.items()):
            if i == MOST_CLASSES:
                table.add_row(f"… {len(counts) - i} more in index.json", "")
                break
            table.add_row(str(name), str(number))
        console.print(table)
    for warning in index["warnings"]:
        console.print(f"warning: {warning}", style="yellow")


def printable(text: str) -> str:
    """Crawled text without what a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
