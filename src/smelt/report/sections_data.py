"""Sections on the data set: what it holds, copies and leaks, the flowchart, the recipe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from smelt.flowchart import journal
from smelt.flowchart.work import Work
from smelt.report import charts
from smelt.report.blocks import Block, Section, chart, paragraph, preformatted, section, table
from smelt.report.counted import class_counts, main_sources, read_csv, trainings
from smelt.report.drawing import flow
from smelt.report.findings import SPLITS, Ladder, Table, count, percent

FIRST = 3  # names of files that are left out for a reason
LISTED = 40  # rows of a list that the page shows; the file holds all


def facts(work: Work, measured: Ladder) -> list[dict[str, str]]:
    """The figures under the title."""
    catalogue = work.catalogue
    found: list[tuple[str, str]] = []
    if catalogue:
        found.append(("training images", count(len(catalogue.rows("train")))))
        found.append(("classes", count(len(catalogue.classes))))
    found.append(("models", count(len(trainings(work)))))
    if split := measured.split:
        ends = (("at first", measured.steps[0]), ("in the end", measured.outcome))
        for when, step in ends:
            value = percent(step.accuracy[split].get("top1"), 1)
            found.append((f"{SPLITS[split]} top-1 {when}", f"{value} %"))
    return [{"name": name, "value": value} for name, value in found]


def data(work: Work) -> Section | None:
    """Counts by split and source, class sizes, bad files."""
    catalogue = work.catalogue
    if catalogue is None:
        return None
    rows = []
    names, place = main_sources(catalogue)
    for split in catalogue.splits:
        codes = place[catalogue.source_codes_N[catalogue.rows(split)]]
        by_source = np.bincount(codes, minlength=len(names))
        rows.append([split, *(count(n) for n in by_source), count(len(codes))])
    blocks = table(Table(["split", *names, "all"], rows, "Images"))
    sizes = np.sort(class_counts(catalogue, "train"))[::-1]
    line = [(float(i + 1), float(n)) for i, n in enumerate(sizes)]
    blocks.append(
        chart(charts.lines({"images": line}, "classes, largest first", "training images"), "Class sizes")
    )
    return section("data", "The data", blocks + _files(work) + _bad(work))


def _files(work: Work) -> list[Block]:
    """What became of every file below the root of the data set."""
    found = work.one("index").json("index.json")
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
    return blocks + table(Table(["", "files", "such as"], rows, "Every file", words=("such as",)))


def _bad(work: Work) -> list[Block]:
    """Files that cannot be used, and those that could be read but are damaged."""
    path = work.one("check").path
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
    listing = Table(["file", why], listed, note=_rest(found, path), words=(why,))
    return table(Table([why, "files"], rows, title)) + table(listing)


def _rest(found: list[dict[str, str]], path: Path) -> str:
    return f"The first {LISTED} of {len(found)}; all are in {path.name}." if len(found) > LISTED else ""


def copies(work: Work) -> Section | None:
    """Duplicates and leaks."""
    item = work.one("dedupe")
    summary = item.json("dedupe.json")
    if item.path is None or not summary:
        return None
    names = {
        "groups": "groups of the same picture",
        "exact_copies": "exact copies",
        "near_copies": "near copies",
        "cross_label_groups": "groups under more than one label",
        "dropped": "training images to drop",
        "found_by_features": "pairs of copies that were found by features alone",
        "look_alike": "pairs that look alike, and are no copies by their pixels",
        "moved_by_group": "images whose split was drawn again, with their copies",
    }
    rows = [[words, count(summary[name])] for name, words in names.items() if name in summary]
    rows += [[f"training images leaking into {split}", count(n)] for split, n in summary["leaks"].items()]
    blocks = table(Table(["", "number"], rows))
    path = item.path / "leaks.csv"
    if leaks := read_csv(path):
        listed = [list(row.values()) for row in leaks[:LISTED]]
        title = "Training images that show a validation or test picture"
        blocks += table(Table(list(leaks[0]), listed, title, _rest(leaks, path), words=list(leaks[0])))
    path = item.path / "alike.csv"
    if alike := read_csv(path):
        listed = [list(row.values()) for row in alike[:LISTED]]
        title = "Much alike, and no copies by their pixels: see for yourself"
        blocks += table(Table(list(alike[0]), listed, title, _rest(alike, path), words=("other",)))
    intro = (
        "Copies inflate what a class seems to have; a copy of a validation or test image in training "
        "inflates the accuracy; one picture under two labels is wrong under at least one of them."
    )
    return section("copies", "Duplicates and leaks", blocks, intro)


def flowchart(work: Work) -> Section | None:
    """The graph of stages, and where the time went."""
    if not work.items:
        return None
    picture = flow(work.items.values(), {name for name, item in work.items.items() if item.path})
    blocks = [chart(picture, note="Hover over a box for the stages it holds.")]
    seconds: dict[str, float] = {}  # of each node when it was done
    for event in journal.read(work.events, "done"):
        if str(event.get("id")) in work.items and "seconds" in event:
            seconds[str(event["id"])] = float(event["seconds"])
    by_stage: dict[str, float] = {}
    for name, spent in seconds.items():
        stage = work.items[name].stage
        by_stage[stage] = by_stage.get(stage, 0.0) + spent
    rows = [
        [stage, count(len(work.of(stage))), f"{spent:.1f}"]
        for stage, spent in sorted(by_stage.items(), key=lambda pair: -pair[1])
    ]
    if rows:
        blocks += table(Table(["stage", "nodes", "seconds"], rows, "Where the time went"))
    return section("flowchart", "The flowchart", blocks)


def recipe(work: Work) -> Section | None:
    """The recipe as it ran."""
    text = str(work.chart.get("recipe", ""))
    return section("recipe", "The recipe", [preformatted(text)] if text else [])
