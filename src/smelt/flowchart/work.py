"""The work folder: where artefacts, attempts, logs and the flowchart lie.

    WORK/recipe.yaml                    the recipe as it was run, overrides applied
    WORK/flowchart.json                 nodes with keys and runtime of the last run
    WORK/finished.json                  the same, and the recipe, of the last run that was finished
    WORK/events.jsonl                   what happened (journal.py)
    WORK/lock                           held by the run (lock.py)
    WORK/artifacts/<stage>-<key>/       committed, never changed
    WORK/attempts/<stage>-<key>/        being written; kept over a kill, so that the stage goes on
    WORK/audit/                         verdicts of people, and what follows from them (files/auditfolder.py)
    WORK/damaged/                       artefacts found damaged, and what is no longer true, moved away
    WORK/verified.txt                   which artefacts were found whole (files/verified.py)
    WORK/logs/<id>.log                  what the stage printed

Everything is found by name below WORK, so the folder can be moved or copied. What shows a run (commands, the
report, the library) finds its artefacts by stage, round or node: those of the last finished run, else of the
one under way.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smelt.errors import ArtifactError, SmeltError
from smelt.files.atomic import move, read_json, write_bytes, write_json
from smelt.files.committed import MANIFEST
from smelt.files.opening import read_text
from smelt.files.verified import Verified
from smelt.files.workfolder import FINISHED, FLOWCHART, catalogue_of, make, read_chart, refuse_strange
from smelt.flowchart.graph import Graph, Node, is_try
from smelt.flowchart.keys import key_of

if TYPE_CHECKING:
    from smelt.artifacts.catalogue import Catalogue
    from smelt.artifacts.ranking import Ranking
    from smelt.artifacts.selection import Selection


@dataclass(frozen=True)
class Item:
    """One node of the flowchart that is shown; `path` is its artefact if that is committed."""

    id: str
    stage: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, list[str]]
    path: Path | None
    key: str = ""

    @property
    def name(self) -> str:
        """The id without the stage: `raw/resnet20-0`."""
        return self.id.partition("/")[2] or self.id

    @property
    def round(self) -> str:
        """The round that it is of: `raw`; "" for what is of no round."""
        return "".join(self.id.split("/")[1:2])

    @property
    def tried(self) -> bool:
        """Whether it is of something that a round tried, and not of the round."""
        return is_try(self.id)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the artefact; empty where the node is not done or has no such file."""
        if self.path is None or not (self.path / name).is_file():
            return {}
        value: dict[str, Any] = read_json(self.path / name)
        return value


class Work:
    """The work folder at `folder`; nothing is created before `create`.

    ArtifactError where a link, or what is no file or folder, lies under a name that smelt uses there.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.artifacts = self.folder / "artifacts"
        self.attempts = self.folder / "attempts"
        self.damaged = self.folder / "damaged"
        self.logs = self.folder / "logs"
        self.flowchart = self.folder / FLOWCHART
        self.finished = self.folder / FINISHED
        self.recipe = self.folder / "recipe.yaml"
        self.events = self.folder / "events.jsonl"
        self.lock = self.folder / "lock"
        self.verified = Verified(self.folder / "verified.txt")
        refuse_strange(self.folder)

    def create(self) -> None:
        """Make the folders, the work folder for its owner alone; SmeltError if that cannot be done."""
        try:
            str(self.folder.absolute()).encode()
        except UnicodeEncodeError as error:  # Parquet's writer takes no other paths
            raise SmeltError(f"the path of the work folder {self.folder} is not UTF-8") from error
        try:
            make(self.folder)
        except OSError as error:
            raise SmeltError(f"cannot make the work folder {self.folder}: {error.strerror}") from error

    def artifact(self, stage: str, key: str) -> Path:
        """Where the artefact of that key lies once it is committed."""
        return self.artifacts / f"{stage}-{key}"

    def attempt(self, stage: str, key: str) -> Path:
        """Where the artefact of that key is written."""
        return self.attempts / f"{stage}-{key}"

    def log(self, node_id: str) -> Path:
        """Where the output of that node's process goes."""
        name = re.sub(r"[^\w.-]+", "_", node_id.replace("/", "."))[:200]
        return self.logs / f"{name}.log"

    def committed(self, stage: str, key: str) -> bool:
        """Whether the artefact is there, whole and itself."""
        return not self.problems(stage, key)

    def problems(self, stage: str, key: str, *, fresh: bool = False, remember: bool = True) -> list[str]:
        """What is wrong with an artefact: its files, by their content, and whether it is what its name says.

        Files are hashed once; again only where they changed, or `fresh`.
        """
        folder = self.artifact(stage, key)
        wrong = self.verified.problems(folder, fresh=fresh, remember=remember)
        if not wrong and self.manifest(stage, key) is None:
            wrong = [f"{folder / MANIFEST} is not of {folder.name}"]
        return wrong

    def manifest(self, stage: str, key: str) -> dict[str, Any] | None:
        """The manifest of an artefact if it is the one that its name says, damaged or not; else None."""
        manifest = self.identity(stage, key)
        return manifest if manifest is not None and _key_in(manifest) == key else None

    def identity(self, stage: str, key: str) -> dict[str, Any] | None:
        """What the manifest of a committed artefact says of settings, inputs and version; None if missing."""
        try:
            manifest = read_json(self.artifact(stage, key) / MANIFEST)
        except ArtifactError:
            return None
        return manifest if isinstance(manifest, dict) else None

    def set_aside(self, stage: str, key: str) -> Path:
        """Move an artefact that cannot be used out of the way; its new place."""
        self.damaged.mkdir(parents=True, exist_ok=True)
        number = 0
        while (target := self.damaged / f"{stage}-{key}.{number}").exists():
            number += 1
        move(self.artifact(stage, key), target)
        return target

    def save(self, graph: Graph, runtime: Mapping[str, Any], recipe: str | None = None) -> None:
        """Write flowchart.json (and recipe.yaml): what `smelt stage run` reads.

        Always the whole flowchart, even if only a part of it is run: it says what `clean` must keep.
        """
        if not self.finished.exists() and self.load_finished() is not None:
            self.finish()  # of a version that did not do so
        graph = graph.whole
        chart = {"nodes": graph.to_json(), "runtime": dict(runtime)}
        write_json(self.flowchart, chart)
        if recipe is not None:
            write_bytes(self.recipe, recipe.encode())

    def finish(self) -> None:
        """Remember the flowchart as finished, if it is: results, report and `clean` hold to it then."""
        graph, _ = self.load()
        if all(self.committed(node.stage, key) for key, node in graph.by_key().items()):
            recipe = {"recipe": read_text(self.recipe)} if self.recipe.is_file() else {}
            write_json(self.finished, {**read_json(self.flowchart), **recipe})

    def load(self) -> tuple[Graph, dict[str, Any]]:
        """The graph and the runtime of the last run; ArtifactError if there was none or it is damaged."""
        return self._load(self.flowchart)

    def load_finished(self, *, strict: bool = False) -> Graph | None:
        """The graph of the last run that was finished; None if none was, or its file is damaged.

        A run of a version that did not write it down counts where all of its artefacts are there.
        ArtifactError for a damaged file where `strict`.
        """
        try:
            if self.finished.exists():
                return self._load(self.finished)[0]
            if not self.flowchart.exists():
                return None
            graph, _ = self.load()
        except ArtifactError:
            if strict:
                raise
            return None
        there = all((self.artifact(n.stage, key) / MANIFEST).is_file() for key, n in graph.by_key().items())
        return graph if there else None

    def _load(self, path: Path) -> tuple[Graph, dict[str, Any]]:
        chart = read_json(path)
        try:
            graph, runtime = Graph.from_json(chart["nodes"]), dict(chart["runtime"])
            other = [node["id"] for node in chart["nodes"] if node.get("key") != graph.key(node["id"])]
        except (KeyError, TypeError, AttributeError, SmeltError) as error:
            raise ArtifactError(f"{path} is damaged: {error}; run the recipe again") from error
        if other:
            raise ArtifactError(f"{path} is damaged: {other[0]} has another key; run the recipe again")
        return graph, runtime

    # What is shown: read once, so of a run that has ended

    @cached_property
    def chart(self) -> dict[str, Any]:
        """The flowchart to show, of the last finished run, else of the last begun. ArtifactError if none."""
        return read_chart(self.folder)

    @cached_property
    def items(self) -> dict[str, Item]:
        """All nodes of `chart` by their id, in order."""
        return items_of(self, self.chart)

    def of(self, stage: str, round: str = "") -> list[Item]:
        """The nodes of a stage, in order, or those of one round of the recipe."""
        found = [item for item in self.items.values() if item.stage == stage]
        return [item for item in found if item.round == round] if round else found

    def one(self, stage: str) -> Item:
        """The only node of a stage; one that is not done where the flowchart has none."""
        return next(iter(self.of(stage)), Item(stage, stage, {}, {}, None))

    def find(self, name: str) -> Path:
        """The artefact of a node by its id (`select/filtered`), or by its stage where that has one node.

        ArtifactError where the flowchart has none of that name, or it is not done or damaged.
        """
        item = self.items.get(name) or next(iter(self.of(name)), None)
        if item is None:
            raise ArtifactError(f"the flowchart of {self.folder} has no stage {name!r}")
        if item.path is None:
            raise self.not_done(name)
        self.require_whole(item)
        return item.path

    def require_whole(self, item: Item) -> None:
        """ArtifactError where a committed artefact is damaged."""
        if wrong := self.problems(item.stage, item.key):
            raise ArtifactError(f"{wrong[0]}: run the recipe again, it makes {item.id} anew")

    def not_done(self, name: str) -> ArtifactError:
        """The error that a stage of a run is not done yet, with the command that goes on."""
        mend = "`smelt plan` says what is missing"
        if self.recipe.is_file():
            own, work = shlex.quote(str(self.recipe)), shlex.quote(str(self.folder))
            mend = f"smelt run {own} --work {work} goes on with it"
        return ArtifactError(f"{name} is not done yet in {self.folder}: {mend}")

    @property
    def image_root(self) -> Path | None:
        """Where the images are: the embedded data set, or the folder that the run was given."""
        root = self.chart["runtime"].get("root")
        return self.one("synthesise").path or (Path(root) if root else None)

    # A plan loads this file, and none of what opens these

    @cached_property
    def catalogue(self) -> Catalogue | None:
        """The catalogue that was learnt by, with the hold-out that `dedupe` drew; None before `index`."""
        from smelt.artifacts.catalogue import Catalogue

        indexed = self.one("index").path
        return Catalogue.open(catalogue_of(indexed, self.one("dedupe").path)) if indexed else None

    def ranking(self, round: str) -> Ranking:
        """The ranking that a round's training gave; ArtifactError where there is none."""
        from smelt.artifacts.ranking import read_ranking

        return read_ranking(self.find(f"rank/{round}"))

    def selection(self, round: str) -> Selection:
        """What a round learns from; ArtifactError where there is none."""
        from smelt.artifacts.selection import read_selection

        return read_selection(self.find(f"select/{round}"))

    def fusion(self) -> dict[str, Any]:
        """What `fusion.json` says; ArtifactError where there is none."""
        value: dict[str, Any] = read_json(self.find("fuse") / "fusion.json")
        return value

    def previous(self) -> dict[str, Node]:
        """The nodes of the last run by id; empty where there was none."""
        try:
            return self.load()[0].nodes if self.flowchart.exists() else {}
        except ArtifactError:
            return {}


def items_of(work: Work, chart: Mapping[str, Any]) -> dict[str, Item]:
    """The nodes of a flowchart (`finished.json`, `flowchart.json`) by their id, in order."""
    found = {}
    for node in chart["nodes"]:
        path = work.artifact(node["stage"], node["key"])
        done = path if (path / MANIFEST).is_file() else None
        found[node["id"]] = Item(
            node["id"], node["stage"], node.get("settings", {}), node.get("inputs", {}), done, node["key"]
        )
    return found


def _key_in(manifest: Mapping[str, Any]) -> str:
    """The key of all that a manifest says of what its artefact was made from; "" if that is no identity."""
    try:
        return key_of(
            manifest["stage"],
            manifest["version"],
            manifest["settings"],
            manifest["inputs"],
            manifest["external"],
            manifest.get("device", ""),
        )
    except (KeyError, TypeError, AttributeError):
        return ""
