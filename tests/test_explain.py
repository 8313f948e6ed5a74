"""Fields described from one source: `explain`, the schema, docs/settings.md; and the shell's completion."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import Field, ValidationError
from typer.testing import CliRunner

from smelt.cli import app
from smelt.errors import RecipeError
from smelt.recipe import loading as recipes
from smelt.recipe.annotations import limits
from smelt.recipe.fields import Entry, find, nearest, walk
from smelt.recipe.schema import Recipe
from smelt.recipe.unfolding import unfold
from smelt.settings import Partial, Settings
from smelt.stages.config import Runtime
from smelt.stages.table import STAGES
from smelt.verbs import settings_page
from smelt.verbs.explain import readers

ENTRIES = list(walk(Recipe))
STAGE_ENTRIES = [entry for stage in STAGES for entry in walk(STAGES[stage].settings, (stage,))]


def explain(*arguments: str) -> str:
    found = CliRunner().invoke(app, ["explain", *arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


@pytest.mark.parametrize("entry", [*ENTRIES, *STAGE_ENTRIES], ids=lambda entry: entry.name)
def test_every_field_is_described(entry: Entry) -> None:
    assert len(entry.description) >= 20, f"{entry.name} says nothing of itself"
    assert entry.description.endswith((".", ")")) and "\n" not in entry.description


def numbers(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every int or float in a type, with what is said of it."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in (int, float):
        yield annotation, metadata
    elif origin is Annotated:
        yield from numbers(parts[0], (*parts[1:], *metadata))
    elif origin is not Literal and not isinstance(annotation, type):
        for part in parts:  # a list's own metadata is about its length
            yield from numbers(part, () if origin in (tuple, list, dict) else metadata)


@pytest.mark.parametrize("entry", [*ENTRIES, *STAGE_ENTRIES], ids=lambda entry: entry.name)
def test_every_number_has_a_least_and_a_greatest_value(entry: Entry) -> None:
    for kind, metadata in numbers(entry.info.annotation, tuple(entry.info.metadata)):
        known = limits(Annotated[(kind, *metadata)] if metadata else kind, ())
        assert known.keys() & {"ge", "gt"} and known.keys() & {"le", "lt"}, (
            f"{entry.name} is a number without bounds on both sides: {known}"
        )


def test_the_schema_describes_every_property() -> None:
    schema = recipes.json_schema(Recipe)
    tables = {"Recipe": schema, **schema["$defs"]}
    missing = [
        f"{name}.{field}"
        for name, table in tables.items()
        for field, what in table.get("properties", {}).items()
        if len(what.get("description", "")) < 20
    ]
    assert not missing
    epochs = schema["$defs"]["TrainSettings"]["properties"]["epochs"]
    assert (epochs["minimum"], epochs["maximum"], epochs["default"]) == (1, 100_000, 90)
    assert (
        epochs["description"]
        == schema["$defs"]["PartialTrainSettings"]["properties"]["epochs"]["description"]
    )


def test_the_page_of_settings_is_up_to_date() -> None:
    page = Path(__file__).parent.parent / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == settings_page.page(), "run `make settings`"


def test_the_page_has_every_field() -> None:
    text = settings_page.page()
    for entry in ENTRIES:
        assert f"`{entry.name}`" in text or f"## {entry.name}\n" in text


# What runs again


def other(entry: Entry) -> Any:
    """Another value of a field than its default."""
    now, kind = json.loads(entry.default), entry.info.annotation
    choices = [c for k in (kind, *get_args(kind)) if get_origin(k) is Literal for c in get_args(k)]
    if choices and not isinstance(now, list | dict):
        return next((choice for choice in reversed(choices) if choice != now), None)
    if isinstance(now, bool):
        return not now
    known = limits(kind, entry.info.metadata)
    if isinstance(now, int) and not isinstance(now, bool) and int in (kind, *get_args(kind)):
        return now + 1 if now + 1 <= known.get("le", known.get("lt", 1e9) - 1) else now - 1
    if isinstance(now, float):
        return now * 0.98 if now else 0.001
    return None


def own_settings(data: dict[str, Any]) -> dict[str, list[str]]:
    """Stage → the settings in the keys of its nodes."""
    graph = unfold(Recipe.model_validate(data))
    found: dict[str, list[str]] = {}
    for node in graph:
        found.setdefault(node.stage, []).append(json.dumps(node.key_settings(), sort_keys=True))
    return found


def small() -> dict[str, Any]:
    """A recipe with everything in it that has settings: a tuned rate, a teacher, selection, submission."""
    return {
        "name": "x", "synthesise": {}, "data": {"format": "webvision"}, "submit": {},
        "train": {"learning_rate": "tune", "augment": {"randaugment": {}}},
        "rounds": [
            {"name": "a", "models": [{"name": "m"}]},
            {"name": "b", "models": [{"name": "m"}], "teacher": {"round": "a"},
             "select": {"method": "noise_rate", "down_weight": {}}},
        ],
    }  # fmt: skip


def with_value(data: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    here = data
    for step in path[:-1]:
        here = here[1] if isinstance(here, list) else here.setdefault(step, {})
    here[path[-1]] = value
    return data


UNREAD = {  # read only with another method, schedule, format; or no recipe may have them
    "train.seed", "runtime.root", "data.root", "data.format", "train.learning_rate",
}  # fmt: skip
CHANGED = [
    entry
    for entry in ENTRIES
    if not entry.info.is_required() and entry.name not in UNREAD and entry.path[0] != "name"
    and not entry.inside and other(entry) is not None and "validation_view" not in entry.name
    and "teacher.view" not in entry.name and "views" not in entry.name
]  # fmt: skip


@pytest.mark.parametrize("entry", CHANGED, ids=lambda entry: entry.name)
def test_explain_knows_which_stages_a_field_belongs_to(entry: Entry) -> None:
    """Whoever changes a field changes the settings of no other stage than those that `explain` names."""
    from smelt.verbs.explain import key_of

    before = own_settings(small())
    try:
        after = own_settings(with_value(small(), list(entry.path), other(entry)))
    except ValidationError:
        pytest.skip("does not go with the rest")
    changed = {stage for stage in before.keys() & after if before[stage] != after[stage]}
    told = key_of(entry)
    if entry.name == "seed":
        assert {"synthesise", "train", "fuse"} <= changed
        return
    named = {stage for stage in STAGES if re.search(rf"\b{stage}\b", told.split("; a change")[0])}
    assert changed <= named, f"{entry.name} changes {changed}, and explain says: {told}"
    conditional = " where " in told
    if not conditional and named & set(before) and "no key" not in told and entry.path[-2:] != ("N", "title"):
        assert changed, f"{entry.name} changes nothing, and explain says: {told}"


def test_every_section_says_who_reads_it() -> None:
    names = {entry.name for entry in ENTRIES}
    known = readers(Recipe)
    assert {name.partition(".")[0] for name in names} <= set(known)
    assert {stage for stages in known.values() for stage in stages} <= set(STAGES)


# The verb


def test_a_field() -> None:
    shown = explain("train.epochs")
    assert "whole number from 1 to 100,000; default 90" in shown
    assert Recipe.model_fields["train"].annotation is not None
    assert "runs train again" in shown and "bounds: no training" in shown


@pytest.mark.parametrize("name", ["rounds.0.select.method", "rounds.select.method", "rounds.N.select.method"])
def test_places_in_lists_may_be_left_out(name: str) -> None:
    assert explain(name).startswith(
        "rounds.N.select.method: one of all, auto, likely_wrong, lowest_fraction, noise_rate"
    )


def test_a_prefix_lists_what_is_below() -> None:
    shown = explain("fuse.genetic")
    assert all(f"fuse.genetic.{name}" in shown for name in ("population", "patience"))
    sections = explain()
    assert all(re.search(rf"^{name} ", sections, re.M) for name in Recipe.model_fields)


def test_the_last_name_is_enough() -> None:
    assert explain("generations").startswith("fuse.genetic.generations:")
    both = explain("precision")
    assert "train.precision:" in both and "predict.precision:" in both


def test_values_of_a_recipe_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: folder\nname: mine\ntrain:\n  epochs: 7\n")
    shown = explain("train.epochs", "--recipe", str(path))
    assert f"train.epochs = 7 ({path}:4)" in shown
    shown = explain("views.size", "--recipe", str(path), "-o", "predict.views.1.size=128")
    assert "predict.views.1.size = 128 (-o predict.views.1.size=128)" in shown
    assert "predict.views.2.size = 144 (folder.yaml:" in shown
    shown = explain("train.momentum", "--recipe", str(path))
    assert "train.momentum = 0.9\n" in shown  # a default has no place


def test_settings_of_a_round_are_those_of_train() -> None:
    shown = explain("rounds.0.train.epochs")
    assert "default that of train.epochs" in shown and "Passes over" in shown


def test_formats_of_a_data_set_are_named() -> None:
    assert "where: formats cifar_n" in explain("data.subset")


def test_json() -> None:
    (told,) = json.loads(explain("train.optimiser", "--json", "--recipe", "demo"))
    assert told["default"] == '"sgd"' and told["type"] == "one of sgd, adamw"
    assert told["values"][0]["value"] == "sgd" and told["values"][0]["place"].startswith("demo.yaml:")


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("train.epoch", "train.epochs"), ("epoch", "train.epochs"), ("predict.view", "predict.views"),
     ("rounds.0.model.seeds", "rounds.N.models.N.seeds"), ("trian.batch_size", "train.batch_size"),
     ("warmup", "train.warmup_epochs")],
)  # fmt: skip
def test_a_slip_offers_the_nearest(asked: str, meant: str) -> None:
    assert meant in nearest(Recipe, asked)
    with pytest.raises(RecipeError, match=f"called '{re.escape(asked)}'.*did you mean.*{re.escape(meant)}"):
        explain(asked)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("train.epochs.0", "train.epochs"), ("train.0.epochs", "train.epochs"), ("0.train", "train"),
     ("rounds.0.1.select", "rounds.N.select"), ("rounds.0.models.1.seeds.0.2", "rounds.N.models.N.seeds"),
     ("data.columns.label.0", "data.columns.label"), ("epochs[3]", "train.epochs")],
)  # fmt: skip
def test_places_where_there_is_no_list(asked: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=rf"a place in a list; did you mean {re.escape(meant)} \("):
        explain(asked)


def test_places_in_lists_of_plain_values() -> None:
    for asked in (
        "train.augment.sizes.0",
        "rounds[1].models[0].train.augment.sizes[0]",
        "seeds.0",
        "rounds.0",
    ):
        assert explain(asked)


@pytest.mark.parametrize("asked", ["", ".", "0", "0.1.2", "..", "N", "é" * 5000, "train." * 3000, "*", "a b"])
def test_names_that_cannot_be(asked: str) -> None:
    with pytest.raises(RecipeError) as caught:
        explain(asked)
    assert len(str(caught.value)) < 600


def test_an_override_needs_its_recipe() -> None:
    with pytest.raises(RecipeError, match="--recipe"):
        explain("train.epochs", "-o", "train.epochs=3")


def test_every_path_finds_itself() -> None:
    for entry in ENTRIES:
        (found,) = find(Recipe, entry.name)
        assert found.name == entry.name and found.info is entry.info


class Odd(Settings):
    """Nested as no recipe is yet."""

    by_name: dict[str, Runtime] = Field(default={})
    part: Partial | None = None


def test_mappings_of_settings() -> None:
    assert [entry.name for entry in walk(Odd)][:2] == ["by_name", "by_name.NAME.root"]
    (found,) = find(Odd, "by_name.gpu.workers")
    assert found.name == "by_name.NAME.workers"


# Completion


def completed(words: list[str], incomplete: str) -> list[str]:
    """What bash is told at the end of `smelt words… incomplete`, by the script of --install-completion."""
    line = ["smelt", *words, incomplete]
    environment = {
        "_SMELT_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1),
    }  # fmt: skip
    found = CliRunner().invoke(app, [], env=environment, prog_name="smelt")
    assert found.exit_code == 0, found.output
    return found.output.split()


def test_recipes_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yml").write_text("")
    assert completed(["run"], "dem") == ["demo", "demo_short"]
    assert {"demo", "folder", "cats.yaml", "sub/"} <= set(completed(["plan"], ""))
    assert "notes.txt" not in completed(["plan"], "")
    assert completed(["index"], "ca") == ["cats.yaml"] or set(completed(["index"], "ca")) == {"cats.yaml"}
    assert completed(["train"], "sub/") == ["sub/b.yml"]
    assert completed(["run"], "no/such/") == []


def test_fields_and_overrides_complete() -> None:
    assert completed(["explain"], "train.ep") == ["train.epochs"]
    assert "rounds.0.models" in completed(["explain"], "rounds.0.")
    assert completed(["run", "demo", "-o"], "train.optimiser=") == [
        "train.optimiser=sgd", "train.optimiser=adamw",
    ]  # fmt: skip
    assert "train.epochs=" in completed(["run", "demo", "-o"], "train.ep")
    assert completed(["run", "demo", "-o"], "no.such=") == []


def test_work_folders_and_stages_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("work/demo", "work/other", "crawl/cat", "mine"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("work/demo", "mine"):
        nodes = [{"stage": stage, "key": "k"} for stage in ("index", "train", "train", "select")]
        (tmp_path / name / "flowchart.json").write_text(json.dumps({"nodes": nodes}))
    assert completed(["report"], "") == ["crawl/", "mine", "work/", "work/demo", "work/other/"]
    assert completed(["show"], "work/d") == ["work/demo"]
    assert completed(["results"], "mi") == ["mine"] and completed(["verify"], "no/such/") == []
    assert completed(["run", "demo", "--work"], "wo") == ["work/", "work/demo", "work/other/"]
    assert completed(["show", "work/demo"], "") == ["index", "train", "select"]
    assert completed(["show", "mine"], "tr") == ["train"]
    assert {"index", "submit"} <= set(completed(["show", "crawl"], ""))


@pytest.mark.parametrize(
    ("name", "field", "words"),
    [
        ("predict.topk.val", "predict.topk.val", "whole number from 1 to 1,000,000; default none"),
        ("topk.val", "predict.topk.val", "whole number"),
        ("data.columns.path", "data.columns.path", "text; default none"),
        ("data.lists.anything", "data.lists.anything", "text"),
        ("rounds[0].name", "rounds.N.name", "text"),
        ("rounds[0].models[1].train.epochs", "rounds.N.models.N.train.epochs", "whole number from 1"),
    ],
)
def test_keys_of_maps_and_items_of_lists(name: str, field: str, words: str) -> None:
    first = explain(name).splitlines()[0]
    assert first.startswith(f"{field}: ") and words in first


def test_the_value_of_a_key_of_a_map() -> None:
    told = explain("predict.topk.val", "--recipe", "folder", "-o", "predict.topk.val=5")
    assert "in folder: predict.topk.val = 5 (-o predict.topk.val=5)" in told
    assert "in folder: not set" in explain("predict.topk.val", "--recipe", "folder")


@pytest.mark.parametrize(
    ("slip", "near"),
    [("predict.topk.vla", "predict.topk.val"), ("data.columns.pth", "data.columns.path"),
     ("rounds[0].nme", "rounds.N.name"), ("predict.topk.val.x", "predict.topk.val")],
)  # fmt: skip
def test_slips_in_maps_and_lists(slip: str, near: str) -> None:
    with pytest.raises(RecipeError, match=f"is called {re.escape(repr(slip))}; did you mean {near}"):
        explain(slip)
