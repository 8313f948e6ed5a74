"""Partial settings: the same checks as the whole class, nothing required, only what was set comes out."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from smelt.settings import Settings, canonical, changes, merged, partial_of


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
