"""Partial settings: the same checks as the whole class, nothing required, only what was set comes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, get_args

import pytest
from pydantic import BaseModel, Field, ValidationError

from smelt.recipe.schema import Recipe
from smelt.settings import (
    InKey,
    KeyIf,
    KeyIfInput,
    NotInKey,
    Settings,
    canonical,
    changes,
    merged,
    not_in_key,
    partial_of,
    rule_of,
    without,
)
from smelt.stages.config import Runtime
from smelt.stages.table import STAGES


class Inner(Settings):
    size: int = Field(gt=0)
    flip: bool = True


class Outer(Settings):
    epochs: int = Field(ge=1)
    inner: Inner
    extra: Inner | None = None
    rate: float | None = 0.1


def test_only_what_was_set_comes_out() -> None:
    partial = partial_of(Outer).model_validate({"inner": {"flip": False}, "rate": None})
    assert changes(partial) == {"inner": {"flip": False}, "rate": None}
    assert changes(None) == {}


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"inner": {"size": -1}}, {"extra": {"sizes": 1}}, {"epoch": 3}]
)
def test_the_checks_of_the_whole_class_hold(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        partial_of(Outer).model_validate(wrong)


def test_merging_goes_into_nested_settings_and_replaces_all_else() -> None:
    base = {"epochs": 1, "inner": {"size": 3, "flip": True}, "sizes": [1, 2]}
    over = {"inner": {"flip": False}, "sizes": [9]}
    assert merged(base, over, {"epochs": 2}) == {
        "epochs": 2, "inner": {"size": 3, "flip": False}, "sizes": [9],
    }  # fmt: skip
    assert base["inner"] == {"size": 3, "flip": True}


def test_canonical_text_does_not_know_the_order_of_keys() -> None:
    assert canonical({"b": 1, "a": [1.0, None]}) == canonical({"a": [1.0, None], "b": 1})


# What is part of keys


class Step(Settings):
    rate: float = 1.0
    shown: Annotated[int, NotInKey("it is only shown")] = 1


class Whole(Settings):
    kind: str = "a"
    width: Annotated[int, KeyIf("kind", "b", "c")] = 1
    taught: Annotated[Step, KeyIfInput("teacher")] = Step()
    steps: tuple[Step, ...] = (Step(), Step())
    named: dict[str, Step] = Field(default={"x": Step()})


class Narrow(Whole):
    RULES: ClassVar[dict[str, Any]] = {"width": InKey(), "kind": NotInKey("read by the base alone")}


def test_fields_say_what_is_in_the_key() -> None:
    always = ("steps.0.shown", "steps.1.shown", "named.x.shown")
    assert not_in_key(Whole()) == ("width", "taught", *always)
    assert not_in_key(Whole(kind="c"), {"teacher"}) == ("taught.shown", *always)
    assert not_in_key(Narrow(), ["teacher"]) == ("kind", "taught.shown", *always)


def test_values_outside_the_key_are_left_out_wherever_they_are() -> None:
    values = Whole().model_dump(mode="json")
    assert without(values, not_in_key(Whole())) == {
        "kind": "a", "steps": [{"rate": 1.0}, {"rate": 1.0}], "named": {"x": {"rate": 1.0}},
    }  # fmt: skip
    assert without(values, ()) == values == Whole().model_dump(mode="json")


def settings_within(annotation: Any) -> Iterator[type[Settings]]:
    """The settings classes that a field's type speaks of, and those within them."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
        for field in annotation.model_fields.values():
            yield from settings_within(field.annotation)
    for part in get_args(annotation):
        yield from settings_within(part)


STAGE_CLASSES = {stage: STAGES[stage].settings for stage in STAGES}
EVERY_CLASS = sorted(
    {found for cls in (Recipe, *STAGE_CLASSES.values()) for found in settings_within(cls)},
    key=lambda cls: (cls.__module__, cls.__qualname__),
)


@pytest.mark.parametrize("cls", EVERY_CLASS, ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
def test_every_rule_names_what_is_there(cls: type[Settings]) -> None:
    assert set(cls.RULES) <= set(cls.model_fields)
    for name, field in cls.model_fields.items():
        rule = rule_of(cls, name)
        if isinstance(rule, KeyIf):
            assert rule.name in cls.model_fields and rule.values
            other = cls.model_fields[rule.name]
            choices = {choice for choice in get_args(other.annotation) if not isinstance(choice, type)}
            assert not choices or {v for v in rule.values if v is not None} <= choices, name
        if isinstance(rule, NotInKey):
            assert len(rule.why) > 10, f"{name} does not say why it is in no key"
        assert not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel) or \
            issubclass(field.annotation, Settings)  # fmt: skip


def test_what_is_in_no_key_is_known() -> None:
    """A field leaves the keys only on purpose: whoever marks one changes this list too."""
    found = {
        f"{stage}.{name}"
        for stage, cls in STAGE_CLASSES.items()
        for name in cls.model_fields
        if isinstance(rule_of(cls, name), NotInKey)
    }
    assert {name for name in found if not name.startswith("tune.")} == {
        "train.tune", "train.checkpoint_every_steps", "train.max_bad_fraction", "train.weights",
        "features.weights", "features.model", "select.audit",
    }  # fmt: skip
    assert "tune.tune" not in found and {"tune.epochs", "tune.schedule", "tune.max_bad_fraction"} <= found
    assert all(isinstance(rule_of(Runtime, name), NotInKey) for name in Runtime.model_fields)


def test_partial_settings_keep_the_markers() -> None:
    assert rule_of(partial_of(Whole), "width") == KeyIf("kind", "b", "c")
