"""The recipe schema and its unfolding: ports, ids, keys, and mistakes told before any work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from smelt.errors import DataError, RecipeError
from smelt.flowchart.graph import Graph
from smelt.recipe import loading as recipes
from smelt.recipe.schema import Recipe
from smelt.recipe.unfolding import unfold

SMALL: dict[str, Any] = {
    "name": "small",
    "synthesise": {},
    "submit": {},
    "rounds": [
        {"name": "raw", "models": [{"name": "a", "seeds": [0, 1]}, {"name": "b"}]},
        {"name": "aum", "select": {"method": "lowest_fraction"}, "models": [{"name": "a"}]},
        {"name": "late", "teacher": {"round": "raw"}, "models": [{"name": "a"}]},
    ],
}


def made(**changes: Any) -> Graph:
    return unfold(Recipe.model_validate({**SMALL, **changes}))


def test_ports_of_the_rounds() -> None:
    graph = made()
    assert graph["select/raw"].inputs == {
        "catalogue": ("index",), "check": ("check",), "dedupe": ("dedupe",),
    }  # fmt: skip
    assert graph["rank/raw"].inputs["train"] == ("train/raw/a-0", "train/raw/a-1", "train/raw/b-0")
    assert graph["select/aum"].inputs["ranking"] == ("rank/raw",)
    assert graph["select/aum"].inputs["selection"] == ("select/raw",)
    # a round without `select` goes on with the selection of the round before
    assert graph["train/late/a-0"].inputs["selection"] == ("select/aum",)
    assert graph["train/late/a-0"].inputs["teacher"] == ("teach/raw/a-0", "teach/raw/a-1", "teach/raw/b-0")
    assert graph["teach/raw/a-0"].settings["splits"] == ["train"]
    assert len(graph["fuse"].inputs["predict"]) == 5
    assert "teach/aum/a-0" not in graph.nodes


def test_two_rounds_with_one_teacher_each_get_what_they_ask_for() -> None:
    """Unlike scores are predicted apart, like ones once."""
    rounds = [
        {"name": "raw", "models": [{"name": "a"}]},
        {"name": "one", "models": [{"name": "a"}], "teacher": {"round": "raw", "top_k": 20}},
        {"name": "two", "models": [{"name": "a"}], "teacher": {"round": "raw", "top_k": 3}},
        {"name": "three", "models": [{"name": "a"}], "teacher": {"round": "raw", "top_k": 20}},
    ]
    graph = made(rounds=rounds)
    asked = {}
    for name in ("one", "two", "three"):
        (teacher,) = graph[f"train/{name}/a-0"].inputs["teacher"]
        asked[name] = (teacher, graph[teacher].settings["topk"])
    assert asked["one"][1] == {"train": 20} and asked["two"][1] == {"train": 3}
    assert asked["three"][0] == asked["one"][0] != asked["two"][0]
    assert sum(node.startswith("teach/") for node in graph.nodes) == 2


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"format": "webvision"}, "checked"), ({"format": "clothing1m"}, "checked"),
        ({"format": "imagefolder"}, "crawled"), ({"format": "csv"}, "crawled"),
        ({"format": "webdataset"}, "crawled"), ({"format": "animal10n"}, "crawled"),
        ({"format": "animal10n", "val_from": "test"}, "checked"),
        ({"format": "cifar_n", "val_labels": "clean"}, "checked"), ({"format": "cifar_n"}, "crawled"),
    ],
    ids=str,
)  # fmt: skip
def test_whether_validation_can_be_trusted_goes_by_the_format(data: dict[str, str], expected: str) -> None:
    assert made(data=data)["rank/raw"].settings["validation_labels"] == expected
    rounds = [{**SMALL["rounds"][0], "rank": {"validation_labels": "checked"}}]
    assert made(data=data, rounds=rounds)["rank/raw"].settings["validation_labels"] == "checked"


def test_overrides_reach_one_model_only_and_seeds_differ() -> None:
    other = {"name": "b", "train": {"epochs": 9, "augment": {"flip": 0.0}}}
    rounds = [{"name": "raw", "train": {"epochs": 7}, "models": [{"name": "a", "seeds": [0, 1]}, other]}]
    graph = made(rounds=rounds, train={"augment": {"sizes": [32]}}, seed=2)
    a0, a1, b = (graph[f"train/raw/{name}"].settings for name in ("a-0", "a-1", "b-0"))
    assert (a0["epochs"], b["epochs"], b["augment"]["flip"], b["augment"]["sizes"]) == (7, 9, 0.0, [32])
    assert (a0["seed"], a1["seed"]) == (2000, 2001)
    assert a0["augment"]["flip"] != 0.0


def test_a_tuned_rate_is_sought_once_a_model() -> None:
    graph = made(train={"learning_rate": "tune"})
    assert graph["train/raw/a-0"].inputs["tune"] == graph["train/raw/a-1"].inputs["tune"] == ("tune/raw/a",)
    assert sum(node.stage == "tune" for node in graph) == 4


def test_keys_follow_what_matters_and_nothing_else() -> None:
    before = made()
    after = made(runtime={"workers": 7, "log_every_seconds": 1.0})
    assert before.keys == after.keys
    longer = made(predict={"views": [{"size": 96}]})
    changed = {name for name in before.nodes if before.key(name) != longer.key(name)}
    assert changed == {name for name in before.nodes if name.startswith(("predict", "teach", "train/late",
                       "rank/late"))} | {"fuse", "submit", "evaluate"}  # fmt: skip
    # the name of a recipe or of a round is for people
    assert made(name="other").keys == before.keys


@pytest.mark.parametrize(
    ("setting", "stages"),
    [
        ({"checkpoint_every_steps": 7}, []),
        ({"max_bad_fraction": 0.5}, []),
        ({"tune": {"steps": 50}}, ["tune"]),
        ({"epochs": 91}, ["train"]),
        ({"step_factor": 0.2}, []),
        ({"schedule": "step"}, ["train"]),
        ({"schedule": "step", "step_factor": 0.2}, ["train"]),
        ({"batch_size": 64}, ["train", "tune"]),
        ({"nesterov": True}, ["train", "tune"]),
        ({"optimiser": "adamw"}, ["train", "tune"]),
        ({"threads": 2}, ["train", "tune"]),
        ({"threads": 0}, []),
    ],
    ids=str,
)
def test_only_what_a_stage_reads_is_in_its_key(setting: dict[str, Any], stages: list[str]) -> None:
    """Directly: in the settings of the key, whatever inputs add."""
    before = made(train={"learning_rate": "tune"})
    after = made(train={"learning_rate": "tune", **setting})
    moved = {n.stage for n in after if n.key_settings() != before[n.id].key_settings()}
    assert moved == set(stages)
    if not stages:
        assert before.keys == after.keys


def test_settings_of_a_condition_count_under_it() -> None:
    def keys(**train: Any) -> dict[str, str]:
        return made(train=train).keys

    assert keys(schedule="step") != keys(schedule="step", step_factor=0.2)
    assert keys(optimiser="adamw") == keys(optimiser="adamw", momentum=0.5)
    taught, untaught = "train/late/a-0", "train/aum/a-0"  # only the last round has a teacher
    before, after = keys(), keys(distillation={"weight": 0.9})
    assert before[taught] != after[taught] and before[untaught] == after[untaught]
    assert made(fuse={"bound": 4.0}).keys == made(fuse={"bound": 4.0, "memory_gib": 1.0}).keys
    assert made().keys != made(fuse={"memory_gib": 1.0}).keys  # which then decides the bound


def test_the_kind_of_device_is_in_the_key_and_its_number_is_not() -> None:
    cpu, cuda, second = (made(runtime={"device": device}) for device in ("cpu", "cuda", "cuda:1"))
    assert cuda.keys == second.keys
    own = {n.stage for n in cpu if n.device}
    assert own == {"train", "predict"}
    changed = {cpu[name].stage for name in cpu.nodes if cpu.key(name) != cuda.key(name)}
    assert changed == {"train", "predict", "rank", "select", "fuse", "evaluate", "submit"}
    assert cpu.key("select/raw") == cuda.key("select/raw")  # which reads nothing that a device computed


def test_the_seed_of_the_recipe_moves_data_models_and_search() -> None:
    one, two = made(seed=0), made(seed=1)
    assert all(one.key(name) != two.key(name) for name in ("synthesise", "train/raw/a-0", "fuse"))


MODEL = [{"name": "x"}]
RUNS = [
    {"name": "t0", "select": {"method": "threshold_runs", "part": 0}, "models": MODEL},
    {"name": "t1", "select": {"method": "threshold_runs", "part": 1}, "models": MODEL},
]


def then(*rounds: dict[str, Any]) -> dict[str, Any]:
    """A change of the recipe: a first round called a, then these, each with one model."""
    return {"rounds": [{"name": "a", "models": MODEL}, *({"name": "b", "models": MODEL} | r for r in rounds)]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (then({"teacher": {"round": "c"}}), "rounds.1.teacher.round: names 'c', not an earlier round"),
        (then({"ranking": "a"}), "rounds.1.ranking is a and rounds.1.select is null ("),
        (then({"ranking": "b", "select": {}}), "rounds.1.ranking: names 'b', not an earlier"),
        (then({"start": "b"}), "rounds.1.start: names 'b'"),
        (then({"name": "a"}), "rounds.1.name: an earlier round has the same name"),
        (then({"models": MODEL * 2}), "rounds.1.models: two have the same name"),
        (then({"models": [{"name": "x", "seeds": [1, 1]}]}), "rounds.1.models.0.seeds: one of"),
        (then({"models": [{"name": "x", "seeds": [-1]}]}), "rounds.1.models.0.seeds.0: takes a whole"),
        (then({"models": [{"name": "x", "train": {"backbone": "resnet5O"}}]}), "is called 'resnet5O', did"),
        (then({"train": {"warmup_epochs": 1000.0}}), "warmup_epochs is 1000.0 and train.epochs is 90 ("),
        (then({"select": {"method": "lowest_fraction"}}, {"name": "c", "ranking": ["a", "b"], "select": {}}),
         "rounds.2.ranking is ['a', 'b'] and rounds.2.select.method is all ("),
        (then({"select": {"method": "threshold_samples"}}),
         "rounds.1.select.method is threshold_samples: threshold_samples goes by"),
        ({"rounds": [*RUNS[:1], {"name": "s", "models": MODEL, "select": {"method": "threshold_samples"},
                                 "ranking": ["t0", "t0"]}]}, "t0, t0 are not such; name such rounds in"),
        ({"rounds": [{"name": "a", "models": MODEL, "fuse": False}]}, "nothing to fuse"),
        ({"rounds": [{"name": "a", "models": MODEL, "select": {"method": "lowest_fraction"}}]},
         "rounds.0.select: method lowest_fraction goes by an earlier round"),
        ({"rounds": [{"name": "a", "models": MODEL, "select": {"down_weight": {}}}]},
         "rounds.0.select: down_weight goes by an earlier round"),
        ({"name": ".."}, "name: string should match"),
        ({"train": {"weight_decay": float("inf")}}, "weight_decay: takes a number from 0 to 10, not inf"),
        ({"train": {"epochs": True}}, "train.epochs: is not a matter of true or false"),
        ({"train": {"backbone": "no_such_net"}}, "train.backbone: no backbone is called 'no_such_net'"),
        ({"predict": {"splits": ["test"]}}, "predict.splits: needs 'val'"),
        ({"predict": {"splits": ["val"]}}, "predict.splits is ['val']: no model would predict test"),
        ({"data": {"root": "/data"}}, "data.root is /data and synthesise is given: `synthesise`"),
        ({"runtime": {"root": "/data"}}, "runtime.root: the folder of the images is `data.root`"),
        ({"runtime": {"device": "gpu"}}, "runtime.device: string should match"),
    ],
)  # fmt: skip
def test_mistakes_of_a_recipe(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        recipes.validate(Recipe, {**SMALL, **changes}, {})


def test_a_mistake_between_rounds_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: r\nsynthesise: {}\nrounds:\n  - name: a\n    models: [{name: x}]\n"
                    "    teacher:\n      round: b\n")  # fmt: skip
    data, places = recipes.load(path)
    with pytest.raises(RecipeError, match=r"r\.yaml:7: rounds\.0\.teacher\.round: names 'b'"):
        recipes.validate(Recipe, data, places)


def test_threshold_samples_join_two_rounds() -> None:
    samples = {
        "name": "s",
        "models": MODEL,
        "select": {"method": "threshold_samples"},
        "ranking": ["t0", "t1"],
    }
    graph = made(rounds=[*RUNS, samples])
    assert graph["select/s"].inputs["train"] == ("train/t0/x-0", "train/t1/x-0")
    assert graph["select/s"].inputs["threshold"] == ("select/t0", "select/t1")


def test_every_backbone_that_can_be_built_has_a_known_name() -> None:
    import timm

    from smelt.models import backbones, lineup

    assert set(lineup.PRESETS) == set(backbones.PRESETS)
    assert not [name for name in timm.list_models() if lineup.unknown(name)]
    assert not lineup.unknown("resnet50.a1_in1k") and not lineup.unknown("vit_base_patch16_224_in21k")
    assert lineup.unknown("") and lineup.unknown("../etc/passwd") and lineup.unknown("resnet50x")


def test_a_model_of_the_round_to_start_from_must_exist() -> None:
    rounds = [
        {"name": "raw", "models": [{"name": "a"}]},
        {"name": "fine", "start": "raw", "models": [{"name": "other"}]},
    ]
    with pytest.raises(RecipeError, match="train/raw/other-0"):
        made(rounds=rounds)


def test_data_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(RecipeError, match=r"data\.root is not set"):
        made(synthesise=None)
    with pytest.raises(DataError, match=r"data\.root: there is no folder no/such"):
        made(synthesise=None, data={"format": "imagefolder", "root": "no/such/folder"})


@pytest.mark.parametrize("name", recipes.shipped())
def test_shipped_recipes_are_valid_and_unfold(name: str) -> None:
    data, places = recipes.load(name)
    checked = recipes.validate(Recipe, data, places)
    assert checked.name == name
    if checked.synthesise is None:
        checked = checked.model_copy(update={"synthesise": Recipe.model_validate(SMALL).synthesise})
    graph = unfold(checked)
    assert {"fuse", "evaluate"} <= set(graph.nodes) or not checked.rounds
    assert Recipe.model_validate(checked.model_dump(mode="json")) == checked


def test_the_original_is_unfolded_whole() -> None:
    data, places = recipes.load("webvision2020", ["synthesise={}"])
    graph = unfold(recipes.validate(Recipe, data, places))
    assert sum(node.stage == "train" for node in graph) == 27
    settings = graph["train/raw/se_resnet154-0"].settings
    assert settings["images_per_class"] == 3600 and len(settings["augment"]["sizes"]) > 1
    assert graph["select/aum"].settings["fraction"] == 0.2


def test_the_seed_moves_the_hold_out_and_nothing_that_is_not_drawn(tmp_path: Path) -> None:
    """A data set that comes with lists for all its splits is not indexed again for another seed."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").write_bytes(b"x")
    (tmp_path / "info").mkdir()
    drawn = {"data": {"format": "imagefolder", "root": str(tmp_path), "seed": 7}}
    listed = {"data": {"format": "webvision", "root": str(tmp_path), "seed": 7}}
    for data, same in ((drawn, False), (listed, True)):
        first, second = (made(seed=seed, synthesise=None, **data) for seed in (0, 1))
        assert first["index"].settings["seed"] == 7
        assert (first.key("index") == second.key("index")) is same
    assert made(seed=1, synthesise=None, **drawn)["index"].settings["seed"] == 1007


def test_what_reads_the_splits_reads_those_of_dedupe() -> None:
    """`dedupe` may draw the hold-out again (see `Context.catalogue`), else they are those of `index`."""
    for dedupe in ({}, None):
        graph = made(dedupe=dedupe)
        readers = [node for node in graph.nodes.values() if "catalogue" in node.inputs]
        assert len(readers) > 10
        for node in readers:
            own = node.stage in ("check", "dedupe") or dedupe is None
            assert node.inputs.get("dedupe") == (None if own else ("dedupe",)), node.id
            assert node.inputs["catalogue"] == ("index",)


def test_the_seed_of_a_recipe_shifts_every_seed() -> None:
    """Those of the threshold samples too, and alike for both parts, which must not overlap."""
    rounds = [
        {"name": "one", "select": {"method": "threshold_runs"}, "models": [{"name": "a", "seeds": [0, 3]}]},
        {"name": "two", "select": {"method": "threshold_runs", "part": 1}, "models": [{"name": "a"}]},
    ]
    seeds = []
    for seed in (0, 2):
        graph = made(rounds=rounds, seed=seed)
        seeds.append({node.id: node.settings["seed"] for node in graph if "seed" in node.settings})
    assert {"synthesise", "select/one", "select/two", "train/one/a-3", "fuse"} <= seeds[0].keys()
    assert all(seeds[1][name] == seeds[0][name] + 2000 for name in seeds[0])
