"""Sections on the data set: what it holds, copies and leaks, the flowchart, the recipe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from smelt.report import charts
from smelt.report.blocks import Block, Section, chart, count, paragraph, percent, preformatted, section, table
from smelt.report.collect import SPLIT_WORDS, Run, class_counts, main_sources, read_csv

FIRST = 3  # names of files that are left out for a reason
LISTED = 40  # rows of a list that the page shows; the file holds all


def facts(run: Run) -> list[dict[str, str]]:
    """The figures under the title."""
    catalogue = run.catalogue
    found: list[tuple[str, str]] = []
    if catalogue:
        found.append(("training images", count(len(catalogue.rows("train")))))
        found.append(("classes", count(len(catalogue.classes))))
    found.append(("models", count(len(run.of("train")))))
    if split := run.judged_on():
        rungs, words = run.ladder()["rungs"], SPLIT_WORDS[split]
        found.append((f"{words} top-1 at first", f"{percent(rungs[0][split].get('top1'), 1)} %"))
        found.append((f"{words} top-1 in the end", f"{percent(run.outcome()[split].get('top1'), 1)} %"))
    return [{"name": name, "value": value} for name, value in found]


def data(run: Run) -> Section | None:
    """Counts by split and source, class sizes, bad files."""
    catalogue = run.catalogue
    if catalogue is None:
        return None
    rows = []
    names, place = main_sources(catalogue)
    for split in catalogue.splits:
        codes = place[catalogue.source_codes_N[catalogue.rows(split)]]
        by_source = np.bincount(codes, minlength=len(names))
        rows.append([split, *(count(n) for n in by_source), count(len(codes))])
    blocks: list[Block] = [table(["split", *names, "all"], rows, "Images")]
    sizes = np.sort(class_counts(catalogue, "train"))[::-1]
    line = [(float(i + 1), float(n)) for i, n in enumerate(sizes)]
    blocks.append(
        chart(charts.lines({"images": line}, "classes, largest first", "training images"), "Class sizes")
    )
    return section("data", "The data", blocks + _files(run) + _bad(run))


def _files(run: Run) -> list[Block]:
    """What became of every file below the root of the data set."""
    found = run.one("index").json("index.json")
    files = found.get("files")
    blocks: list[Block] = [paragraph(note) for note in found.get("notes", [])]
    if not files:
        return blocks
    rows = [["images of the data set", count(files["images"]), ""]]
    if files["in_archives"]:
        rows.append(["images in archives, which are files that were read", count(files["in_archives"]), ""])
    if files["read"]:
        rows.append(["lists, archives and texts that were read", count(files["read"]), ""])
    for item in files["left_out"]:
        more = " …" if item["count"] > len(item["first"][:FIRST]) else ""
        rows.append(
            [f"left out: {item['why']}", count(item["count"]), ", ".join(item["first"][:FIRST]) + more]
        )
    blocks.append(table(["", "files", "such as"], rows, "Every file", words=("such as",)))
    return blocks


def _bad(run: Run) -> list[Block]:
    """Files that cannot be used, and those that could be read but are damaged."""
    path = run.one("check").path
    if path is None:
        return []
    bad = _listed(path / "bad_files.csv", "reason", "Files that cannot be used")
    damaged = _listed(
        path / "damaged_files.csv", "damage",
        "Damaged, but read and kept (select.damaged: drop leaves them out)",
    )  # fmt: skip
    return (bad or [paragraph("Every image could be decoded.")]) + damaged


def _listed(path: Path, why: str, title: str) -> list[Block]:
    """How many files a list holds by the column `why`, and the first of them; nothing where it is empty."""
    found = read_csv(path)
    if not found:
        return []
    counts = Counter(row[why] for row in found)
    rows = [[word, count(n)] for word, n in counts.most_common()]
    listed = [[row["file"], row[why]] for row in found[:LISTED]]
    note = f"The first {LISTED} of {len(found)}; all are in {path.name}." if len(found) > LISTED else ""
    return [table([why, "files"], rows, title), table(["file", why], listed, note=note, words=(why,))]


def copies(run: Run) -> Section | None:
    """Duplicates and leaks."""
    item = run.one("dedupe")
    summary = item.json("dedupe.json")
    if item.path is None or not summary:
        return None
    names = {
        "groups": "groups of the same picture",
        "exact_copies": "exact copies",
        "near_copies": "near copies",
        "cross_label_groups": "groups under more than one label",
        "dropped": "training images to drop",
        "moved_by_group": "images whose split was drawn again, with their copies",
    }
    rows = [[words, count(summary[name])] for name, words in names.items() if name in summary]
    rows += [[f"training images leaking into {split}", count(n)] for split, n in summary["leaks"].items()]
    blocks = [table(["", "number"], rows)]
    leaks = read_csv(item.path / "leaks.csv")
    if leaks:
        shown = [list(row.values()) for row in leaks[:LISTED]]
        note = f"The first {LISTED} of {len(leaks)}; all are in leaks.csv." if len(leaks) > LISTED else ""
        blocks.append(
            table(
                list(leaks[0]),
                shown,
                "Training images that show a validation or test picture",
                note,
                list(leaks[0]),
            )
        )
    intro = (
        "Copies inflate what a class seems to have; a copy of a validation or test image in training "
        "inflates the accuracy; one picture under two labels is wrong under at least one of them."
    )
    return section("copies", "Duplicates and leaks", blocks, intro)


def flowchart(run: Run) -> Section | None:
    """The graph of stages, and where the time went."""
    if not run.drawing.get("boxes"):
        return None
    blocks = [chart(charts.flow(run.drawing, run.states), note="Hover over a box for the stages it holds.")]
    seconds = run.seconds()
    by_stage: dict[str, float] = {}
    for name, spent in seconds.items():
        if name in run.items:
            stage = run.items[name].stage
            by_stage[stage] = by_stage.get(stage, 0.0) + spent
    if by_stage:
        rows = [
            [stage, count(len(run.of(stage))), f"{spent:.1f}"]
            for stage, spent in sorted(by_stage.items(), key=lambda pair: -pair[1])
        ]
        blocks.append(table(["stage", "nodes", "seconds"], rows, "Where the time went"))
    return section("flowchart", "The flowchart", blocks)


def recipe(run: Run) -> Section | None:
    """The recipe as it ran."""
    text = run.recipe
    return section("recipe", "The recipe", [preformatted(text)] if text else [])
