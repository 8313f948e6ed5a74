"""The graph, its plan in words, and its picture."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smelt.errors import ArtifactError, RecipeError
from smelt.files import committed
from smelt.flowchart import journal, upkeep
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.reasons import PlanLine, plan
from smelt.flowchart.work import Work
from smelt.report.drawing import Box, flow, lay_out
from toy import chart, execute, node


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Nodes that read only from earlier ones, given in a random order."""
    count = draw(st.integers(0, 12))
    nodes = []
    for i in range(count):
        parents = draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else []
        stage = draw(st.sampled_from("abc"))
        nodes.append(node(f"n{i}", stage, {"i": draw(st.integers(0, 2))}, x=[f"n{p}" for p in parents]))
    random.Random(draw(st.integers(0, 99))).shuffle(nodes)
    return nodes


@given(graphs())
def test_order_is_topological_and_complete(nodes: list[Node]) -> None:
    graph = Graph(nodes)
    position = {name: i for i, name in enumerate(graph.nodes)}
    assert set(position) == {item.id for item in nodes}
    assert all(position[parent] < position[item.id] for item in nodes for parent in item.parents())


@given(graphs())
def test_json_and_back(nodes: list[Node]) -> None:
    graph = Graph(nodes)
    again = Graph.from_json(json.loads(json.dumps(graph.to_json())))
    assert again.keys == graph.keys
    assert list(again.nodes) == list(graph.nodes)


def test_refused_graphs() -> None:
    with pytest.raises(RecipeError, match=r"circle: (a → b → a|b → a → b)"):
        Graph([node("a", x="b"), node("b", x="a")])
    with pytest.raises(RecipeError, match="a reads from 'z', which is not in the flowchart"):
        Graph([node("a", x="z")])
    with pytest.raises(RecipeError, match="two stages of the flowchart are called 'a'"):
        Graph([node("a"), node("a")])
    with pytest.raises(RecipeError, match="circle"):
        Graph([node("a", x="a")])


def test_two_nodes_of_one_key_are_one_artefact() -> None:
    graph = Graph([node("a"), node("b"), node("c", x=["a", "b"])])
    assert [item.id for item in graph.by_key().values()] == ["a", "c"]


def test_the_part_until_a_stage() -> None:
    graph = Graph(
        [node("a"), node("b", "b", x="a"), node("c", "c", x="b"), node("d", "b", {"n": 1}, x="c"), node("e")]
    )
    part = graph.until("b")
    assert list(part.nodes) == ["a", "b", "c", "d"]
    assert all(part.key(name) == graph.key(name) for name in part.nodes)
    assert part.whole is graph
    assert part.until("c").whole is graph
    assert len(graph.until("z")) == 0


def test_a_part_is_run_but_the_whole_is_remembered(tmp_path: Path) -> None:
    graph = Graph([node("a"), node("b", "b", x="a"), node("c", "c", x="b")])
    execute(graph, tmp_path, zygote=True)
    execute(graph.until("b"), tmp_path, zygote=True)
    assert upkeep.clean(tmp_path) == []
    assert all(line.state == "done" for line in plan(graph, Work(tmp_path)))


# The plan


def commit(graph: Graph, work: Work, *ids: str) -> None:
    """Make the artefacts of `ids` as a run would."""
    work.create()
    log = journal.Journal(work.events)
    for name in ids or graph.nodes:
        item = graph[name]
        attempt = work.attempt(item.stage, graph.key(item))
        attempt.mkdir()
        (attempt / "value.txt").write_text(name)
        committed.commit(attempt, work.artifact(item.stage, graph.key(item)), graph.identity(item))
        log.write("done", id=name, stage=item.stage, key=graph.key(item), seconds=2.0, resumed=False)
    log.close()


def lines(graph: Graph, work: Work) -> dict[str, PlanLine]:
    return {line.id: line for line in plan(graph, work)}


def small(**settings: Any) -> Graph:
    return Graph(
        [
            node("index"),
            node(
                "train",
                "train",
                {"epochs": 10, "augment": {"sizes": [32, 48]}, **settings},
                catalogue="index",
            ),
            node("rank", "rank", {}, train="train", catalogue="index"),
        ]
    )


def test_plan_of_a_fresh_folder_touches_nothing(tmp_path: Path) -> None:
    found = lines(small(), Work(tmp_path / "work"))
    assert [(line.state, line.why) for line in found.values()] == [
        ("run", "first run"),
        ("wait", "first run; waits for index"),
        ("wait", "first run; waits for train, index"),
    ]
    assert not (tmp_path / "work").exists()


def test_plan_says_which_field_changed(tmp_path: Path) -> None:
    work = Work(tmp_path)
    graph = small()
    commit(graph, work)
    work.save(graph, {})
    assert all(line.state == "done" for line in lines(graph, work).values())
    edited = lines(small(epochs=12, augment={"sizes": [32, 64]}), work)
    assert edited["index"].state == "done"
    assert edited["train"].state == "run"
    assert edited["train"].why == "settings changed: epochs 10 → 12, augment.sizes.1 48 → 64"
    assert edited["train"].seconds == 2.0
    assert edited["rank"].why == "input train changed; waits for train"


def test_plan_names_added_and_removed_settings_versions_inputs_and_content(tmp_path: Path) -> None:
    work = Work(tmp_path)
    before = Graph(
        [
            node("a"),
            node("b", settings={"n": 1}),
            Node("c", "t", 1, {"x": 1}, {"p": ("a", "b")}, {"data": "f"}),
        ]
    )
    commit(before, work)

    def why(**changes: Any) -> str:
        values = {"version": 1, "settings": {"x": 1}, "inputs": {"p": ("a", "b")}, "external": {"data": "f"}}
        c = Node("c", "t", **{**values, **changes})
        return lines(Graph([node("a"), node("b", settings={"n": 1}), c]), work)["c"].why

    assert why(version=2) == "stage version 1 → 2"
    assert why(settings={"x": 1, "y": 2}) == "settings changed: y (none) → 2"
    assert why(settings={}) == "settings changed: x 1 → (none)"
    assert why(settings={"x": 1.0}) == "settings changed: x 1 → 1.0"
    assert why(inputs={"p": ("b", "a")}) == "input p in another order"
    assert why(inputs={"p": ("a",)}) == "input p has 1 artefacts, not 2"
    assert why(inputs={"q": ("a", "b")}) == "input p removed; input q added"
    assert why(external={"data": "g"}) == "data has other content (f → g)"


def test_plan_compares_with_the_last_planned_where_nothing_was_finished(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.create()
    work.save(small(), {})
    assert lines(small(epochs=12), work)["train"].why.startswith("settings changed: epochs 10 → 12")


def test_plan_tells_damage_and_interruption(tmp_path: Path) -> None:
    work = Work(tmp_path)
    graph = small()
    commit(graph, work, "index", "train")
    work.attempt("rank", graph.key("rank")).mkdir()
    with open(work.artifact("train", graph.key("train")) / "value.txt", "a") as file:
        file.write("!")
    found = lines(graph, work)
    assert found["train"].state == "run"
    assert found["train"].why.startswith("damaged: ")
    assert "has 6 bytes, not 5" in found["train"].why
    assert found["rank"].why == "was interrupted, goes on; waits for train"


def test_plan_survives_a_damaged_flowchart_and_torn_events(tmp_path: Path) -> None:
    work = Work(tmp_path)
    commit(small(), work)
    work.flowchart.write_text("{")
    with open(work.events, "ab") as file:
        file.write(b'{"time": 1, "event": "done", "id": "tra')
    assert all(line.state == "done" for line in lines(small(), work).values())
    with pytest.raises(ArtifactError, match=r"flowchart\.json is damaged"):
        work.load()
    log = journal.Journal(work.events)  # the torn line is ended, so that the next is whole
    log.write("done", id="new", stage="s", key="k", seconds=float("nan"))
    log.close()
    assert [event["id"] for event in journal.read(work.events, "done")][-1] == "new"


def test_a_flowchart_whose_settings_were_changed_in_place_is_damaged(tmp_path: Path) -> None:
    """A stage would run under settings that its key does not stand for."""
    work = Work(tmp_path)
    work.create()
    work.save(small(), {})
    text = work.flowchart.read_text()
    work.flowchart.write_text(text.replace('"epochs": 10', '"epochs": 11'))
    assert work.flowchart.read_text() != text
    with pytest.raises(ArtifactError, match=r"damaged: train has another key; run the recipe again"):
        work.load()


def test_a_moved_folder_and_touched_times_change_nothing(tmp_path: Path) -> None:
    work = Work(tmp_path / "a")
    commit(small(), work)
    work.save(small(), {})
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    shutil.move(tmp_path / "a", tmp_path / "c")
    for name in ("b", "c"):
        assert all(line.state == "done" for line in lines(small(), Work(tmp_path / name)).values())


# The picture


@given(graphs())
def test_picture_of_any_graph(nodes: list[Node]) -> None:
    graph = Graph(nodes)
    boxes, ways = lay_out(graph)
    assert sorted(i for box in boxes for i in box.nodes) == sorted(graph.nodes)
    assert len({(box.column, box.row) for box in boxes}) == len(boxes)  # no two on one place
    assert all(box.row >= 0 and box.column >= 0 for box in boxes)
    number = {id(box): i for i, box in enumerate(boxes)}
    for way in ways:
        assert id(way[0]) in number and id(way[-1]) in number
        assert [box.column for box in way] == list(range(way[0].column, way[-1].column + 1))
    assert closure(len(boxes), {(number[id(way[0])], number[id(way[-1])]) for way in ways}) == closure(
        len(boxes), parents_of_boxes(graph, boxes)
    )


def parents_of_boxes(graph: Graph, boxes: list[Box]) -> set[tuple[int, int]]:
    box_of = {i: number for number, box in enumerate(boxes) for i in box.nodes}
    return {(box_of[parent], box_of[item.id]) for item in graph for parent in item.parents()}


def closure(count: int, edges: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Which boxes can be reached from which (Warshall)."""
    reach = set(edges)
    for k, i, j in itertools.product(range(count), repeat=3):
        if (i, k) in reach and (k, j) in reach:
            reach.add((i, j))
    return reach


def test_similar_nodes_are_one_box() -> None:
    boxes, ways = lay_out(chart())
    assert [(box.label, len(box.nodes)) for box in boxes] == [
        ("index", 1), ("select", 1), ("train ×2", 2), ("rank", 1), ("fuse", 1)
    ]  # fmt: skip
    assert [(way[0].label, way[-1].label) for way in ways] == [
        ("index", "select"), ("select", "train ×2"), ("train ×2", "rank"), ("rank", "fuse")
    ]  # fmt: skip
    assert flow(chart(), {"index"}).count("box done") == 1


def test_nothing_to_draw() -> None:
    assert lay_out(Graph([])) == ([], []) and "<svg" in flow(Graph([]), ())
