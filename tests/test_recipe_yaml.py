"""Recipes: YAML with lines, `extends`, overrides, and mistakes told with place and mend."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationInfo, field_validator

from smelt.errors import RecipeError
from smelt.recipe import loading
from smelt.recipe.yaml_lines import read_yaml
from smelt.settings import Settings


class RandAugment(Settings):
    num_ops: int = 2
    magnitude: int = 9


class Model(Settings):
    backbone: str
    epochs: int = 10
    sizes: tuple[int, ...] = (32,)
    randaugment: RandAugment | None = None

    @field_validator("epochs")
    @classmethod
    def _positive(cls, epochs: int, info: ValidationInfo) -> int:
        if epochs <= 0:
            raise ValueError("must be more than 0")
        return epochs


class Recipe(Settings):
    name: str = "x"
    optimiser: Literal["sgd", "adamw"] = "sgd"
    models: list[Model] = Field(default_factory=list)
    by_name: dict[str, Model] = Field(default_factory=dict)
    teacher: int | Model | None = None


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def check(path: Path, *overrides: str) -> Recipe:
    data, places = loading.load(path, overrides)
    return loading.validate(Recipe, data, places)


def complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        check(path, *overrides)
    return str(caught.value).replace(str(path), path.name)


def test_a_good_recipe(tmp_path: Path) -> None:
    path = write(
        tmp_path, "name: ünï\nmodels:\n- {backbone: resnet, sizes: [32, 48]}\nteacher: {backbone: b}\n"
    )
    found = check(path)
    assert found.name == "ünï"
    assert found.models == [Model(backbone="resnet", sizes=(32, 48))]
    assert found.teacher == Model(backbone="b")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("nmae: x", "a.yaml:1: nmae: no such key, did you mean 'name'?"),
        (
            "name: x\nmodels:\n  - backbone: r\n    epocs: 3",
            "a.yaml:4: models.0.epocs: no such key, did you mean 'epochs'?",
        ),
        (
            "models:\n  - backbone: r\n    randaugment: {num_ops: 2,\n      magntude: 9}",
            "a.yaml:4: models.0.randaugment.magntude: no such key, did you mean 'magnitude'?",
        ),
        (
            "by_name:\n  a:\n    backbone: r\n    epoch: 1",
            "a.yaml:4: by_name.a.epoch: no such key, did you mean 'epochs'?",
        ),
        (
            "optimiser: adam",
            "a.yaml:1: optimiser: input should be 'sgd' or 'adamw', not 'adam', did you mean 'adamw'?",
        ),
        ("models:\n- backbone: r\n  epochs: 0", "a.yaml:3: models.0.epochs: must be more than 0, not 0"),
        (
            "teacher:\n  backbone: r\n  epoch: 2",
            "a.yaml:3: teacher.epoch: no such key, did you mean 'epochs'?",
        ),
        ("qqqq: 1", "a.yaml:1: qqqq: no such key (known here: by_name, models, name, optimiser, teacher)"),
    ],
)
def test_one_mistake_with_line_and_mend(tmp_path: Path, text: str, expected: str) -> None:
    assert complaint(write(tmp_path, text)) == expected


def test_a_needed_key_under_a_wrong_name(tmp_path: Path) -> None:
    text = complaint(write(tmp_path, "models:\n- backbon: r"))
    assert text == "a.yaml:2: models.0.backbon: no such key, did you mean 'backbone'?"
    text = complaint(write(tmp_path, "models:\n- {epochs: 3}"))
    assert text == "a.yaml:2: models.0.backbone: is needed, and missing"


def test_every_mistake_is_listed(tmp_path: Path) -> None:
    text = complaint(write(tmp_path, "nmae: 1\nmodels:\n- backbone: r\n  epochs: many\n- backbone: [1]\n"))
    assert [line.split(": ")[1] for line in text.splitlines()] == [
        "models.0.epochs",
        "models.1.backbone",
        "nmae",
    ]


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "models:\n- {backbone: a}\n- {backbone: b, epochs: 1}\n")
    found = check(
        path, "models.1.epochs=3", "name=web", "models.0.randaugment.magnitude=5", "models.0.sizes=[8, 9]"
    )
    assert (found.name, found.models[1].epochs, found.models[0].sizes) == ("web", 3, (8, 9))
    assert found.models[0].randaugment == RandAugment(magnitude=5)
    assert check(path, "name=a=b").name == "a=b"
    assert check(path, "name=1e-3 apples").name == "1e-3 apples"


@pytest.mark.parametrize(
    "override, expected",
    [
        ("nmae=x", "-o nmae=x: nmae: no such key, did you mean 'name'?"),
        ("models.0.epocs=3", "-o models.0.epocs=3: models.0.epocs: no such key, did you mean 'epochs'?"),
        ("models.7.epochs=3", "-o models.7.epochs=3: models is a list of 1, counted from 0"),
        ("models.x=3", "-o models.x=3: models is a list of 1, counted from 0"),
        (
            "models.0.backbone.x=3",
            "-o models.0.backbone.x=3: models.0.backbone is 'a', it has no keys below it",
        ),
        ("models.0.epochs=no", "-o models.0.epochs=no: models.0.epochs: takes a whole number, not 'no'"),
        ("epochs", "-o epochs: an override is key=value; which value? -o epochs=…"),
        ("", "-o: an empty override"),
        (" ", "-o: an empty override"),
        ("a b=3", "-o a b=3: a b: no such key"),
        ("models=[{backbone:", "-o models=[{backbone:: a bracket is not closed"),
        ("=3", "-o =3: an override is key=value"),
        ("name=[", "-o name=[: a bracket is not closed"),
        ("name=!!python/name:os.system", "the tag 'tag:yaml.org,2002:python/name:os.system' is not allowed"),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in complaint(write(tmp_path, "models:\n- {backbone: a}\n"), override)


def test_extends_merges_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(
        tmp_path,
        "name: base\noptimiser: adamw\nby_name:\n  a: {backbone: x, epochs: 1}\nmodels: [{backbone: m}]\n",
    )
    path = write(tmp_path / "sub", "extends: ../a.yaml\nby_name:\n  a: {epochs: 2}\nmodels: []\n", "b.yaml")
    found = check(path)
    assert (found.name, found.optimiser, found.models) == ("base", "adamw", [])
    assert found.by_name["a"] == Model(backbone="x", epochs=2)


def test_a_mistake_in_the_recipe_that_is_extended_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, "name: base\n\nnmae: 3\n")
    with pytest.raises(RecipeError, match=r"/a\.yaml:3: nmae"):
        check(write(tmp_path, "extends: a.yaml\nname: y\n", "b.yaml"))


def test_extends_in_a_circle(tmp_path: Path) -> None:
    path = write(tmp_path, "extends: b.yaml\n")
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    assert "goes round in a circle" in complaint(path)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3: a is given twice"),
        ("x: !!python/object/apply:os.system ['touch canary']", "a.yaml:1: the tag"),
        ("a:\n  - [1,\n", "a.yaml:3: not valid YAML"),
        ("- 1\n", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
        ("a: &x [*x]", "levels"),
        ("? [1, 2]\n: 3", "a key must be a plain word"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
    ],
)
def test_refused_yaml(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in complaint(write(tmp_path, text))
    assert not (Path.cwd() / "canary").exists()


def test_a_small_file_cannot_blow_up(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "more than 50000 values" in complaint(write(tmp_path, "\n".join(lines)))


def test_deep_nesting_is_an_error_not_a_crash(tmp_path: Path) -> None:
    assert complaint(write(tmp_path, "a: " + "[" * 5000 + "]" * 5000))


def test_wrong_encoding_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"name: \xff\xfe")
    assert "is not UTF-8" in complaint(path)
    assert "cannot read the recipe" in complaint(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="no shipped recipe is called 'nothere'"):
        loading.load("nothere")


def test_scalars_follow_yaml_12() -> None:
    text = (
        "[1e-3, 1E5, .5, -1.5, 0x1F, 3_600, no, on, 1:30, 2020-01-01, 007, ~, null, true, .inf, '1', q00001]"
    )
    value, _ = read_yaml(text, "t")
    assert value[:-1] == [
        0.001, 1e5, 0.5, -1.5, 31, 3600,
        "no", "on", "1:30", "2020-01-01", "007", None, None, True, float("inf"), "1"
    ]  # fmt: skip
    assert all(type(a) is type(b) for a, b in zip(value, [0.1, 1e5, 0.5, -1.5, 31, 3600, "", ""]))


def test_anchors_and_merge_keys() -> None:
    value, places = read_yaml("base: &b {x: 1, y: 2}\nmore:\n  <<: *b\n  y: 3\n", "t")
    assert value["more"] == {"x": 1, "y": 3}
    assert places[("more", "y")].line == 4


# YAML folds the odd line ends; printable text must come back as it went
words = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cf"]), max_size=8
) | st.sampled_from(
    ["1e-3", "no", "1_000", "0x1", "null", "~", "<<", "2020-01-01", "- a", "a: b", "#", "007"]
)
scalars = st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(allow_nan=False) | words
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(words, values, max_size=4))
def test_what_is_dumped_is_read_back(data: dict[str, Any]) -> None:
    assert read_yaml(loading.dump(data), "t")[0] == data


@given(st.text(max_size=60))
def test_any_text_gives_a_value_or_a_recipe_error(text: str) -> None:
    with contextlib.suppress(RecipeError):
        read_yaml(text, "t")


@given(st.dictionaries(st.sampled_from("abcd"), values, max_size=4))
def test_places_know_every_key(data: dict[str, Any]) -> None:
    text = yaml.safe_dump(data, sort_keys=False)
    value, places = read_yaml(text, "t")
    for key in value:
        line = places[(key,)].line
        assert line is not None
        assert text.splitlines()[line - 1].startswith(f"{key}:")


def test_the_schema_knows_extends() -> None:
    schema = loading.json_schema(Recipe)
    assert {"extends", "name", "models"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_every_shipped_recipe_is_yaml_with_a_header() -> None:
    for name in loading.shipped():
        data, _ = loading.load(name)
        assert data
        assert loading.summary(name), f"{name} has no header comment"
