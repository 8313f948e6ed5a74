"""What `show`, and a verb that stops at its stage, print of it: numbers, and where the files are."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smelt.errors import ArtifactError, printable
from smelt.files.atomic import read_json
from smelt.files.workfolder import FLOWCHART, read_chart

if TYPE_CHECKING:
    from rich.console import Console

FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "check": ("check.json", ()),
    "dedupe": ("dedupe.json", ()),
    "train": ("train.json", ()),
    "rank": ("rank.json", ("score", "models", "rows", "unseen")),
    "select": ("selection.json", ("method", "noise", "rate", "counts", "num_classes")),
}  # stage → (file, fields to print; none: all that are plain numbers, words or counts)
MOST_CLASSES = 20


def not_done(work: Path, stage: str) -> ArtifactError:
    """The error that a stage of a run is not done yet, with the command that goes on."""
    own = work / "recipe.yaml"
    mend = "`smelt plan` says what is missing"
    if own.is_file():
        mend = f"smelt run {shlex.quote(str(own))} --work {shlex.quote(str(work))} goes on with it"
    return ArtifactError(f"{stage} is not done yet in {work}: {mend}")


def show(work: Path, stage: str, *, last: bool = False, told: Collection[str] = ()) -> None:
    """Print the artefacts of `stage` in the finished flowchart of the work folder, or in the `last` begun.

    told: warnings that were shown already, and are not repeated.

    ArtifactError where the flowchart has none of that stage, none of them is done, or one is damaged.
    """
    from smelt.flowchart.work import Work

    nodes = (read_json(work / FLOWCHART) if last else read_chart(work))["nodes"]
    found = [node for node in nodes if node["stage"] == stage]
    if not found:
        there = ", ".join(dict.fromkeys(str(node["stage"]) for node in nodes))
        raise ArtifactError(f"the flowchart of {work} has no stage {stage!r} (there: {there})")
    place = Work(work)
    done = [node for node in found if place.artifact(stage, node["key"]).exists()]
    if not done:
        raise not_done(work, stage)
    for node in done:
        if wrong := place.problems(stage, node["key"]):
            raise ArtifactError(f"{wrong[0]}: run the recipe again, it makes {node['id']} anew")
        folder = place.artifact(stage, node["key"])
        print(f"{node['id']}: {folder}")
        _show_one(folder, stage, told)
    if len(done) < len(found):
        print(f"{len(found) - len(done)} more are not done yet")


def _show_one(folder: Path, stage: str, told: Collection[str]) -> None:
    if stage == "index":
        _show_counts(folder, told)
    elif stage == "evaluate":
        from smelt.verbs import ladder

        ladder.show(read_json(folder / "ladder.json"))
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


def _show_counts(folder: Path, told: Collection[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from smelt.artifacts.catalogue import Catalogue
    from smelt.data.images.kinds import unread_heic

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
            table.add_row(printable(str(name)), str(number))
        console.print(table)
    for note in index["notes"]:
        console.print(printable(note), soft_wrap=True)
    _show_files(console, index["files"])
    unread = unread_heic((index["files"] or {}).get("heic", 0))
    for warning in [*index["warnings"], *([unread] if unread else [])]:
        if warning not in told:
            console.print(f"warning: {printable(warning)}", style="yellow", soft_wrap=True)


def _show_files(console: Console, files: Mapping[str, Any] | None) -> None:
    """What became of every file below the root."""
    if files is None:
        console.print("what else lies in the folder was not looked at (data.check_files=false)")
        return
    rest = "every other one was left out:" if files["left_out"] else "none was left out"
    read = f", {files['read']:,} read beside them (lists, archives, texts)" if files["read"] else ""
    none = files.get("no_images", 0)
    doubt = f" by their names ({none:,} of those opened are none by content)" if none else ""
    within = f", {files['in_archives']:,} images lie in archives" if files["in_archives"] else ""
    console.print(
        f"{files['found']:,} files: {files['images']:,} are images of the data set{doubt}{within}{read}; "
        f"{rest}",
        soft_wrap=True,
    )
    for item in files["left_out"]:
        shown = ", ".join(map(printable, item["first"][:3])) + (" …" if item["count"] > 3 else "")
        within = " (in archives or lists)" if item["what"] == "members" else ""
        console.print(f"  {item['count']:,} × {printable(item['why'])}{within}: {shown}", soft_wrap=True)
