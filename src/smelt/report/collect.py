"""What a work folder holds, found by stage and by node, for the sections of the report. Reads files only."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.tables import Ranking, Selection, read_selection
from smelt.files.atomic import read_json
from smelt.files.committed import MANIFEST
from smelt.files.verified import Verified
from smelt.files.workfolder import catalogue_of, read_chart
from smelt.report.shown import NAME, shown

MOST_SOURCES = 8  # that tables and charts tell apart; there may be as many as sites were crawled
SPLIT_WORDS = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Item:
    """One node of the flowchart; `path` is its artefact if that is committed."""

    id: str
    stage: str
    settings: dict[str, Any]
    inputs: dict[str, list[str]]
    path: Path | None

    @property
    def name(self) -> str:
        """The id without the stage: `raw/resnet20-0`."""
        return self.id.partition("/")[2] or self.id

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the artefact; empty where the node is not done or has no such file."""
        if self.path is None or not (self.path / name).is_file():
            return {}
        value: dict[str, Any] = read_json(self.path / name)
        return value


class Run:
    """The last finished run of a work folder, else the one under way. ArtifactError if it is none."""

    def __init__(self, work: Path) -> None:
        self.work = work
        chart = read_chart(work)
        self.recipe = str(chart.get("recipe", ""))  # the text of the recipe as it ran
        self.runtime: dict[str, Any] = chart["runtime"]
        self.drawing: dict[str, Any] = chart["drawing"]
        self.items: dict[str, Item] = {}
        for node in chart["nodes"]:
            path = work / "artifacts" / f"{node['stage']}-{node['key']}"
            done = path if (path / MANIFEST).is_file() else None
            self.items[node["id"]] = Item(node["id"], node["stage"], node["settings"], node["inputs"], done)

    def of(self, stage: str) -> list[Item]:
        """The nodes of a stage, in order."""
        return [item for item in self.items.values() if item.stage == stage]

    @cached_property
    def damaged(self) -> list[str]:
        """What is wrong with artefacts that are shown: a line each, by their content."""
        memory = Verified(self.work / "verified.txt")
        paths = dict.fromkeys(item.path for item in self.items.values() if item.path)
        return [wrong[0] for path in paths if (wrong := memory.problems(path))]

    def made_with(self) -> dict[str, dict[str, list[str]]]:
        """What made the artefacts: name (`torch`, `device`, …) → version → stages, once each, in order."""
        found: dict[str, dict[str, list[str]]] = {}
        for item in self.items.values():
            for name, version in item.json(MANIFEST).get("made_with", {}).items():
                stages = found.setdefault(str(name), {}).setdefault(str(version), [])
                if item.stage not in stages:
                    stages.append(item.stage)
        return found

    def one(self, stage: str) -> Item:
        """The only node of a stage; one that is not done where the flowchart has none."""
        return next(iter(self.of(stage)), Item(stage, stage, {}, {}, None))

    @property
    def states(self) -> dict[str, str]:
        """Node id → "done" or "open"."""
        return {name: "done" if item.path else "open" for name, item in self.items.items()}

    @cached_property
    def catalogue(self) -> Catalogue | None:
        """The catalogue, once it is there."""
        indexed = self.one("index").path
        return Catalogue.open(catalogue_of(indexed, self.one("dedupe").path)) if indexed else None

    @cached_property
    def image_root(self) -> Path | None:
        """Where the images are: the embedded data set, or the folder that the run was given."""
        made = self.one("synthesise").path
        root = self.runtime.get("root")
        return made or (Path(root) if root else None)

    def ladder(self) -> dict[str, Any]:
        """What `evaluate` measured; empty before it has."""
        return self.one("evaluate").json("ladder.json")

    @cached_property
    def mined(self) -> tuple[Item, Ranking, Selection | None] | None:
        """The ranking of the first round, which saw the data as they came (its cleanness alone: at full scale
        a gigabyte less), and the first selection that was made by it."""
        item = next((item for item in self.of("rank") if item.path), None)
        if item is None or item.path is None:
            return None
        known = columns(item.path / "ranking.parquet", ["row", "cleanness"])
        ranking = Ranking(rows=known["row"], scores={}, cleanness=known["cleanness"])
        for one in self.of("select"):
            if one.path and item.id in one.inputs.get("ranking", []):
                return item, ranking, read_selection(one.path)
        return item, ranking, None

    def outcome(self) -> dict[str, Any]:
        """The step of the ladder that a user would take away: the chosen fusion, else the last round."""
        rungs: list[dict[str, Any]] = self.ladder()["rungs"]
        return next((rung for rung in rungs if rung.get("chosen")), rungs[-1])

    def judged_on(self) -> str:
        """The split whose accuracy is shown: test, else val; "" where neither has labels (yet)."""
        rungs = self.ladder().get("rungs", [])
        return next((s for s in reversed(SPLIT_WORDS) if any("top1" in rung[s] for rung in rungs)), "")

    @property
    def name(self) -> str:
        """The name of the recipe, or of the folder where there is none."""
        found = re.search(r"^name: *(\S+)", self.recipe, re.MULTILINE)
        return found[1] if found else self.work.resolve().name

    def seconds(self) -> dict[str, float]:
        """Seconds that each node took when it was done, from the events."""
        found: dict[str, float] = {}
        for event in self._events():
            if event.get("event") == "done" and "seconds" in event:
                found[str(event.get("id"))] = float(event["seconds"])
        return found

    def _events(self) -> Iterator[dict[str, Any]]:
        path = self.work / "events.jsonl"
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue  # a line torn by a kill
            if isinstance(event, dict):
                yield event


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, as text; empty where it is missing."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def columns(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    """Columns of a Parquet file as arrays."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=names)
    return {name: table[name].to_numpy(zero_copy_only=False) for name in names}


def number(text: str | None) -> float:
    """A figure of a CSV file; NaN where there is none."""
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return float("nan")


def main_sources(catalogue: Catalogue) -> tuple[list[str], NDArray[np.int64]]:
    """Names to show of the sources, and the place of each source among them, (S,): in the catalogue's order,
    and where there are many the largest ones, then all others together."""
    names = list(catalogue.sources)
    if len(names) <= MOST_SOURCES:
        return [shown(name, NAME) for name in names], np.arange(len(names))
    sizes = np.bincount(catalogue.source_codes_N, minlength=len(names))
    largest = np.sort(np.argsort(-sizes, kind="stable")[: MOST_SOURCES - 1])
    place = np.full(len(names), len(largest))
    place[largest] = np.arange(len(largest))
    others = f"{len(names) - len(largest)} other sources"
    return [*(shown(names[code], NAME) for code in largest), others], place


def class_counts(catalogue: Catalogue, split: str) -> NDArray[np.int64]:
    """Images of each class in a split, (C,)."""
    labels = catalogue.labels_N[catalogue.rows(split)]
    return np.bincount(labels[labels >= 0], minlength=len(catalogue.classes))
