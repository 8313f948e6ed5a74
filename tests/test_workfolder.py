"""A finished run is never orphaned: what would replace it asks, readers hold to it, `clean` keeps it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from conftest import smelt
from smelt.errors import ArtifactError, SmeltError, StageFailedError
from smelt.files import committed
from smelt.files.workfolder import chart_file, read_chart, under_way
from smelt.flowchart import upkeep
from smelt.flowchart.graph import Graph
from smelt.flowchart.journal import Journal
from smelt.flowchart.reasons import plan
from smelt.flowchart.work import Work
from smelt.recipe import loading as recipes
from smelt.recipe.schema import Recipe
from smelt.recipe.unfolding import unfold
from smelt.verbs import run
from toy import execute, node


def chain(fraction: float = 0.2, last: str = "last") -> Graph:
    nodes = [
        node("a"), node("b", "select", {"f": fraction}, x="a"), node("c", "rank", x="b"),
        node("d", last, x="c"),
    ]  # fmt: skip
    return Graph(nodes)


def names(paths: list[Path]) -> set[str]:
    return {path.name for path in paths}


def artefacts(graph: Graph) -> set[str]:
    return {f"{item.stage}-{graph.key(item)}" for item in graph}


def test_a_run_is_finished_when_all_of_it_is_done(tmp_path: Path) -> None:
    work = Work(tmp_path)
    execute(chain().until("select"), tmp_path, zygote=True, recipe="name: toy\n")
    assert work.load_finished() is None and chart_file(tmp_path) == work.flowchart
    with pytest.raises(StageFailedError):
        execute(chain(last="crash"), tmp_path, zygote=True)
    assert work.load_finished() is None
    execute(chain(), tmp_path, zygote=True, recipe="name: toy\n")
    finished = work.load_finished()
    assert finished is not None and finished.keys == chain().keys
    assert read_chart(tmp_path)["recipe"] == "name: toy\n" and not under_way(tmp_path)


def test_another_flowchart_takes_its_place_only_when_it_is_finished(tmp_path: Path) -> None:
    """Until then readers speak of the finished one and `clean` keeps what either of them needs."""
    work = Work(tmp_path)
    execute(chain(), tmp_path, zygote=True, recipe="name: toy\n")
    execute(chain(0.3).until("select"), tmp_path, zygote=True, recipe="name: other\n")
    assert {one["key"] for one in read_chart(tmp_path)["nodes"]} == set(chain().keys.values())
    assert read_chart(tmp_path)["recipe"] == "name: toy\n" and under_way(tmp_path)
    assert upkeep.clean(tmp_path) == []
    (tmp_path / "artifacts" / "old-00").mkdir()
    assert names(upkeep.clean(tmp_path)) == {"old-00"}
    assert all(line.state == "done" for line in plan(chain(), work))
    execute(chain(0.3), tmp_path, zygote=True)
    assert not under_way(tmp_path)
    assert names(upkeep.clean(tmp_path, delete=False)) == artefacts(chain()) - artefacts(chain(0.3))


def test_damage_does_not_make_a_finished_run_unfinished(tmp_path: Path) -> None:
    execute(chain(), tmp_path, zygote=True)
    shutil.rmtree(Work(tmp_path).artifact("rank", chain().key("c")))
    (tmp_path / "flowchart.json").unlink()
    assert Work(tmp_path).load_finished() is not None and upkeep.clean(tmp_path) == []


def test_a_finished_run_of_an_older_version_counts(tmp_path: Path) -> None:
    """It wrote no finished.json; another flowchart must not overwrite the only trace of it."""
    execute(chain(), tmp_path, zygote=True)
    (tmp_path / "finished.json").unlink()
    finished = Work(tmp_path).load_finished()
    assert finished is not None and finished.keys == chain().keys
    execute(chain(0.3).until("select"), tmp_path, zygote=True)
    assert upkeep.clean(tmp_path) == [] and under_way(tmp_path)


def test_a_damaged_record_stops_no_run_and_deletes_nothing(tmp_path: Path) -> None:
    execute(chain(), tmp_path, zygote=True)
    (tmp_path / "finished.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"finished\.json is damaged"):
        upkeep.clean(tmp_path)
    with pytest.raises(ArtifactError, match=r"finished\.json is damaged"):
        read_chart(tmp_path)
    execute(chain(), tmp_path, zygote=True)
    assert upkeep.clean(tmp_path) == [] and Work(tmp_path).load_finished() is not None


# The verbs


def demo(**changes: Any) -> Graph:
    data, places = recipes.load(
        "demo", [f"{key.replace('_', '.')}={value}" for key, value in changes.items()]
    )
    return unfold(recipes.validate(Recipe, data, places))


@pytest.fixture
def finished_demo(tmp_path: Path) -> Path:
    """A work folder with the record of a finished demo; its artefacts are empty ones."""
    work, graph = Work(tmp_path / "demo"), demo()
    work.create()
    journal = Journal(work.events)
    for key, item in graph.by_key().items():
        work.attempt(item.stage, key).mkdir()
        for name in ("ladder.json", "rank.json", "train.json"):
            (work.attempt(item.stage, key) / name).write_text("{}")
        committed.commit(work.attempt(item.stage, key), work.artifact(item.stage, key), graph.identity(item))
        journal.write("done", id=item.id, stage=item.stage, key=key, seconds=3.0, resumed=False)
    journal.close()
    work.save(graph, {}, "name: demo\n")
    work.finish()
    return work.folder


def snapshot(folder: Path) -> dict[str, bytes]:
    kept = [path for path in folder.rglob("*") if path.is_file() and path.name != "verified.txt"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


@pytest.mark.parametrize("verb", ["run", "demo", "index", "select", "train", "fuse"])
def test_verbs_that_would_replace_a_finished_run_ask(finished_demo: Path, verb: str) -> None:
    before = snapshot(finished_demo)
    words = [verb] if verb == "demo" else [verb, "demo"]
    done = smelt(*words, "--work", str(finished_demo), "-o", "train.epochs=9")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "holds a finished run of another recipe, of which 34 artefacts" in done.stderr
    if verb != "index":  # which would run nothing, and yet forget the rest
        assert "epochs 10 → 9" in done.stderr and "s of work" in done.stderr
    assert "--replace" in done.stderr and "--work" in done.stderr
    assert snapshot(finished_demo) == before


def test_plan_tells_what_would_be_replaced(finished_demo: Path) -> None:
    place = str(finished_demo)
    told = json.loads(smelt("plan", "demo", "--json", "--work", place, "-o", "train.epochs=9").stdout)
    assert "34 artefacts" in told["replaces"] and "34 of 39 stages would run, about 102 s" in told["replaces"]
    assert json.loads(smelt("plan", "demo", "--json", "--work", place).stdout)["replaces"] == ""
    assert "--replace" in smelt("plan", "demo", "--work", place, "-o", "fuse.folds=4").stdout


@pytest.mark.parametrize(
    ("changes", "asks"),
    [({}, False), ({"runtime_workers": 3, "train_tune": "{steps: 50}"}, False), ({"fuse_folds": 4}, True)],
    ids=str,
)
def test_only_another_flowchart_asks(
    finished_demo: Path, changes: Mapping[str, Any], asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, graph = Work(finished_demo), demo(**changes)
    assert bool(run.replaces(place, graph, plan(graph, place))) == asks
    for terminal, answer in ((False, True), (True, False), (True, True)):
        monkeypatch.setattr("sys.stdin", type("In", (), {"isatty": lambda self, t=terminal: t})())
        monkeypatch.setattr("sys.stderr", type("Err", (), {"isatty": lambda self, t=terminal: t})())
        monkeypatch.setattr(typer, "confirm", lambda text, answer=answer, **rest: answer)
        if asks and not (terminal and answer):
            with pytest.raises(SmeltError, match="--work FOLDER"):
                run._may_replace(place, graph)
        else:
            run._may_replace(place, graph)


def test_a_part_of_the_same_flowchart_does_not_ask(finished_demo: Path) -> None:
    place = Work(finished_demo)
    for stage in ("index", "select", "train"):
        run._may_replace(place, demo().until(stage))


def test_a_flowchart_that_keeps_all_of_the_finished_one_does_not_ask(tmp_path: Path) -> None:
    execute(chain(), tmp_path, zygote=True)
    more = Graph([*chain(), node("e", "more", x="d")])
    assert run.replaces(Work(tmp_path), more, plan(more, Work(tmp_path))) == ""


def test_show_reads_and_computes_nothing(finished_demo: Path) -> None:
    before = snapshot(finished_demo)
    shown = smelt("show", str(finished_demo), "predict")
    assert shown.returncode == 0 and shown.stdout.count("predict-") == 12 and "ladder.json" in shown.stdout
    assert not shown.stderr
    for words, message in (
        (["show", str(finished_demo), "tune"], "has no stage 'tune' (there: synthesise, index"),
        (["show", str(finished_demo / "no"), "rank"], "lies in a work folder"),
        (["show", str(finished_demo / "logs"), "rank"], "lies in a work folder"),
    ):
        refused = smelt(*words)
        assert refused.returncode == 2 and message in refused.stderr, refused.stderr
    assert snapshot(finished_demo) == before


def test_show_says_what_is_not_done_damaged_or_of_an_earlier_run(finished_demo: Path) -> None:
    work, graph = Work(finished_demo), demo()
    work.save(demo(train_epochs=9), {})
    assert "another has been begun there since" in smelt("show", str(finished_demo), "train").stderr
    shutil.rmtree(work.artifact("predict", graph.key("predict/raw/resnet14-0")))
    assert "1 more are not done yet" in smelt("show", str(finished_demo), "predict").stdout
    shutil.rmtree(work.artifact("fuse", graph.key("fuse")))
    assert "fuse is not done yet" in smelt("show", str(finished_demo), "fuse").stderr
    path = work.artifact("evaluate", graph.key("evaluate")) / "ladder.json"
    path.write_text("[]")  # of the same size
    for words in (("show", str(finished_demo), "evaluate"), ("results", str(finished_demo))):
        refused = smelt(*words)
        assert refused.returncode == 2 and "has other content than was committed" in refused.stderr
    with pytest.raises(ArtifactError, match="other content"):
        Work(finished_demo).find("evaluate")
