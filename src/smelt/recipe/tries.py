"""What a round tries where validation decides: selections, and the round's own way of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smelt.mining.config import SelectSettings
from smelt.recipe.parts import Round
from smelt.settings import changes, merged

# By features p_wrong is known of each row and says how deep; without, the share does. The second try drops
# only what is surely wrong and weighs the rest: it falls least where images are few or classes many
BY_FEATURES: tuple[Mapping[str, Any], ...] = (
    {"method": "likely_wrong", "above": 0.5},
    {"method": "likely_wrong", "above": 0.9, "down_weight_from": 0.0},
    {"method": "likely_wrong", "above": 0.5, "teach": "soft"},
)
BY_TRAINING: tuple[Mapping[str, Any], ...] = (
    {"method": "lowest_fraction", "fraction": 0.1},
    {"method": "lowest_fraction", "fraction": 0.2},
    {"method": "lowest_fraction", "fraction": 0.35},
)
DEFAULT = "likely_wrong"  # of tries that name no method


def tries(one: Round, features: bool) -> list[tuple[str, SelectSettings | None]]:
    """What `one` tries, each with its name: settings of a selection, or None for the selection of the round
    before. features: whether rows are ranked by some."""
    assert one.select is not None
    if one.tries is None:
        other = one.teacher or one.start or changes(one.train)
        by_row = features or one.select.audit is not None
        given = () if other else BY_FEATURES if by_row else BY_TRAINING
    else:
        given = tuple(changes(part) for part in one.tries)
    if not given:
        return [(as_it_is(one), None)]
    base = one.select.model_dump(mode="json")
    return [
        (called(values), SelectSettings.model_validate(merged(base, {"method": DEFAULT}, values)))
        for values in given
    ]


def as_it_is(one: Round) -> str:
    """What a round does on the images of the round before: `distilled from filtered, on the same images`."""
    words = [f"distilled from {one.teacher.round}"] if one.teacher else []
    words += [f"going on from {one.start}"] if one.start else []
    words += [", ".join(f"{name} {value}" for name, value in changes(one.train).items())]
    return ", ".join(word for word in (*words, "on the same images") if word)


def called(values: Mapping[str, Any]) -> str:
    """A try by what it changes: `likely_wrong, above 0.5`."""
    method = str(values.get("method", DEFAULT))
    rest = (f"{name} {value}" for name, value in values.items() if name != "method")
    return ", ".join((method, *rest))
