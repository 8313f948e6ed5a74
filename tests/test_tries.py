"""Rounds that decide: how they unfold, what cannot be decided, and whole runs, steps refused and taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import overrides, smelt
from smelt.artifacts.selection import read_selection
from smelt.errors import RecipeError
from smelt.files.atomic import sha256_file
from smelt.files.committed import files_below
from smelt.flowchart.graph import Graph, is_try
from smelt.flowchart.work import Work
from smelt.recipe.loading import load
from smelt.recipe.mistakes import validate
from smelt.recipe.schema import Recipe
from smelt.recipe.unfolding import unfold

TWO = [{"name": "a", "seeds": [0, 1]}, {"name": "b"}]
ROUNDS: list[dict[str, Any]] = [
    {"name": "raw", "models": TWO},
    {"name": "clean", "models": TWO, "select": {"method": "auto"}},
    {"name": "late", "models": TWO, "select": {"method": "auto"}, "teacher": {"round": "clean"}},
]


def made(rounds: list[dict[str, Any]] = ROUNDS, **changes: Any) -> Graph:
    recipe = {"name": "small", "synthesise": {}, "submit": {}, "rounds": rounds, **changes}
    return unfold(Recipe.model_validate(recipe))


def test_a_round_tries_three_cuts_with_its_first_model() -> None:
    graph = made()
    for number, fraction in enumerate((0.1, 0.2, 0.35), 1):
        select = graph[f"select/clean@{number}"]
        assert select.settings["fraction"] == fraction and select.inputs["ranking"] == ("rank/raw",)
        assert graph[f"train/clean@{number}/a-0"].inputs["selection"] == (f"select/clean@{number}",)
        assert graph[f"predict/clean@{number}/a-0"].settings["splits"] == ["val"]
    assert "train/clean@4/a-0" not in graph.nodes and "train/clean@1/b-0" not in graph.nodes
    decide = graph["decide/clean"]
    assert decide.inputs["before"] == ("predict/raw/a-0",)
    assert decide.inputs["tried"] == tuple(f"predict/clean@{number}/a-0" for number in (1, 2, 3))
    assert graph["select/clean"].inputs["tried"] == tuple(f"select/clean@{number}" for number in (1, 2, 3))
    first, other = graph["train/clean/a-0"], graph["train/clean/b-0"]
    assert first.inputs["instead"] == ("train/raw/a-0", *(f"train/clean@{n}/a-0" for n in (1, 2, 3)))
    assert other.inputs["instead"] == ("train/raw/b-0",)
    assert other.inputs["selection"] == ("select/clean",) and other.inputs["decision"] == ("decide/clean",)
    assert graph["predict/clean/b-0"].inputs["instead"] == ("predict/raw/b-0",)


def test_a_round_with_a_teacher_is_tried_on_the_selection_of_the_round_before() -> None:
    graph = made()
    tried = graph["train/late@1/a-0"]
    assert tried.inputs["selection"] == ("select/clean",)
    assert tried.inputs["teacher"] == graph["train/late/a-0"].inputs["teacher"] != ()
    assert tried.settings == graph["train/late/a-0"].settings
    assert "select/late" not in graph.nodes and "train/late@2/a-0" not in graph.nodes


def test_what_is_tried_joins_neither_fusion_nor_ladder_nor_submission() -> None:
    graph = made()
    for stage in ("fuse", "evaluate", "submit", "rank"):
        for node in (one for one in graph if one.stage == stage):
            assert not [parent for parent in node.parents() if is_try(parent)], node.id
    assert graph["evaluate"].inputs["decide/late"] == ("decide/late",)
    assert "decide/raw" not in graph["evaluate"].inputs


def test_the_first_round_learns_from_everything() -> None:
    graph = made([{"name": "raw", "models": TWO, "select": {"method": "auto"}}])
    assert graph["select/raw"].settings["method"] == "all" and "decide/raw" not in graph.nodes


def test_features_are_tried_by_the_row() -> None:
    features = [{"name": "net", "weights": __file__}]
    graph = made(features=features)
    methods = [graph[f"select/clean@{number}"].settings["method"] for number in (1, 2, 3)]
    assert methods == ["likely_wrong"] * 3
    assert graph["decide/clean"].inputs["features"] == ("features/net",)


def test_tries_of_ones_own() -> None:
    mine = [{"method": "lowest_fraction", "fraction": 0.05}, {"method": "all", "duplicates": "keep"}]
    clean = {**ROUNDS[1], "tries": mine, "select": {"method": "auto", "minimum_per_class": 7}}
    graph = made([ROUNDS[0], clean])
    assert graph["select/clean@1"].settings["fraction"] == 0.05
    assert graph["select/clean@2"].settings["duplicates"] == "keep"
    assert graph["select/clean@2"].settings["minimum_per_class"] == 7
    assert list(graph["decide/clean"].settings["tries"]) == [
        "lowest_fraction, fraction 0.05", "all, duplicates keep",
    ]  # fmt: skip
    assert "select/clean@1" not in made([ROUNDS[0], {**clean, "tries": []}]).nodes


def test_a_rate_that_is_tuned_is_sought_once_on_what_the_round_before_learnt_from() -> None:
    graph = made(train={"learning_rate": "tune"})
    assert graph["tune/clean/a"].inputs["selection"] == ("select/raw",)
    for name in ("clean@1/a-0", "clean@2/a-0", "clean/a-0", "clean/a-1"):
        assert graph[f"train/{name}"].inputs["tune"] == ("tune/clean/a",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": [{"name": "c"}]}, "raw has no c of seed 0"),
        ({"models": [{"name": "a", "seeds": [3]}]}, "raw has no a of seed 3"),
        ({"tries": [{"method": "threshold_runs"}]}, "rounds.1.tries.0.method: threshold_runs cannot"),
        ({"tries": [{"method": "auto"}]}, "auto cannot be tried"),
        ({"select": {"method": "all"}, "tries": []}, "`tries` says what a selection that is decided tries"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        json.dumps({"name": "x", "synthesise": {}, "rounds": [ROUNDS[0], {**ROUNDS[1], **change}]})
    )
    with pytest.raises(RecipeError, match=said.replace("(", r"\(")):
        validate(Recipe, *load(str(path)))


def test_results_cut_to_too_few_cannot_be_judged(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    recipe = {"name": "x", "synthesise": {}, "rounds": ROUNDS[:2], "predict": {"topk": {"val": 3}}}
    path.write_text(json.dumps(recipe))
    with pytest.raises(RecipeError, match="among the first five classes"):
        validate(Recipe, *load(str(path)))


# A whole run


RECIPE = {
    "extends": "demo",
    "name": "decided",
    "rounds": [
        {"name": "raw", "fuse": False, "models": [{"name": "base", "seeds": [0, 1]}]},
        {
            "name": "clean", "models": [{"name": "base", "seeds": [0, 1]}], "select": {"method": "auto"},
            "tries": [{"method": "lowest_fraction", "fraction": part} for part in (0.1, 0.3)],
        },
        {
            "name": "late", "models": [{"name": "base", "seeds": [0, 1]}], "select": {"method": "auto"},
            "teacher": {"round": "clean"},
        },
    ],
}  # fmt: skip


def held(path: Path) -> dict[str, str]:
    return {name: sha256_file(path / name) for name in files_below(path)}


@pytest.fixture(scope="module", params=["refused", "taken"])
def decided(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Work, bool]:
    """A finished tiny run whose steps were all refused, or all taken, whatever they gain."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "r.yaml").write_text(json.dumps(RECIPE))
    taken = request.param == "taken"
    bar = f"decide.standard_errors={-1000 if taken else 1000}"
    work = folder / "work"
    done = smelt("run", str(folder / "r.yaml"), "--work", str(work), "--quiet", *overrides(bar))
    assert done.returncode == 0, done.stderr[-3000:]
    return Work(work), taken


def test_a_decision_is_carried_out(decided: tuple[Work, bool]) -> None:
    work, taken = decided
    for name, before in (("clean", "raw"), ("late", "clean")):
        decision = work.items[f"decide/{name}"].json("decision.json")
        assert (decision["chosen"] > 0) == taken
        own = held(work.find(f"train/{name}/base-0"))
        tried = f"train/{name}@{decision['chosen']}/base-0" if taken else f"train/{before}/base-0"
        assert own == held(work.find(tried))
        # the second model was in no try: it is trained where the step is taken, and handed on where not
        same = held(work.find(f"train/{name}/base-1")) == held(work.find(f"train/{before}/base-1"))
        assert same != taken
        assert (
            held(work.find(f"predict/{name}/base-1")) == held(work.find(f"predict/{before}/base-1"))
        ) != taken
    chosen = work.items["decide/clean"].json("decision.json")["chosen"]
    source = "select/raw" if not taken else f"select/clean@{chosen}"
    assert (
        read_selection(work.find("select/clean")).to_arrow() == read_selection(work.find(source)).to_arrow()
    )
    # a result that is handed on counts once in the fusion
    assert len(work.fusion()["results"]) == (2 * 2 * 2 if taken else 2 * 2)


def test_the_ladder_says_which_steps_are_not_used(decided: tuple[Work, bool]) -> None:
    work, taken = decided
    rungs = work.items["evaluate"].json("ladder.json")["rungs"]
    by_name = {rung["name"]: rung for rung in rungs}
    assert "taken" not in by_name["one model, raw"]
    for rung in rungs[1:3]:
        assert rung["taken"] == taken and rung["decision"]["words"]
        if not taken:
            assert rung["test"] == rungs[0]["test"]
    told = smelt("results", str(work.folder))
    steps = [line for line in told.stdout.split("What was tried")[0].splitlines() if "one model" in line]
    assert sum("not used" in line for line in steps) == (0 if taken else 2)
    assert "lowest_fraction, fraction 0.3" in told.stdout
    page = (work.folder / "report.html").read_text()
    assert "What was tried" in page


def test_a_second_run_has_nothing_to_do(decided: tuple[Work, bool]) -> None:
    work, taken = decided
    bar = f"decide.standard_errors={-1000 if taken else 1000}"
    plan = smelt("plan", str(work.folder.parent / "r.yaml"), "--work", str(work.folder), *overrides(bar))
    states = {line.split()[0] for line in plan.stdout.splitlines() if "/" in "".join(line.split()[1:2])}
    assert states == {"done"}
    # another bar changes nothing that was tried: only the decisions, and what hangs on them
    other = smelt("plan", str(work.folder.parent / "r.yaml"), "--work", str(work.folder), "--json",
                  *overrides("decide.standard_errors=2"))  # fmt: skip
    lines = {one["id"]: one["state"] for one in json.loads(other.stdout)["stages"]}
    assert {lines[name] for name in lines if "clean@" in name or "/raw" in name} == {"done"}
    assert lines["decide/clean"] == "run" and lines["train/clean/base-1"] != "done"
