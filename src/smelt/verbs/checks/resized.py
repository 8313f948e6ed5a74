"""What to write into a recipe so that all its nets get sizes that they take: one proposal, for all fields."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smelt.data.config import ViewSettings
from smelt.recipe.yaml_lines import Steps, dotted
from smelt.settings import changes
from smelt.verbs.checks.asked import Asked


def proposal(
    asked: Asked, learnt: Mapping[tuple[int, int], Sequence[int]], shown: Sequence[int], size: int
) -> Iterator[str]:
    """A line with the options that give every net sizes that it takes; none where the recipe refuses them.

    learnt: sizes in pixels to learn from, by the place (round, model) of a net, empty for one that learns
    nothing; shown: sizes that views may keep; size: one for all other views.
    """
    options = [*_sizes(asked, learnt), *_views(asked, frozenset(shown), size)]
    if options and _agrees(asked, options):
        words = " ".join(f"-o {shlex.quote(f'{dotted(steps)}={_text(value)}')}" for steps, value in options)
        yield f"sizes that were tried, and that all its nets take: {words}"


def _sizes(
    asked: Asked, learnt: Mapping[tuple[int, int], Sequence[int]]
) -> Iterator[tuple[Steps, list[int]]]:
    """The sizes to learn from: at the field that says them, or at each model where it speaks for others."""
    fields: dict[Steps, list[tuple[tuple[int, int], list[int], list[int]]]] = {}
    for _, _, settings, at in asked.trainings():
        was = list(settings.augment.sizes)
        new = sorted(learnt.get(at) or was)
        own = (at, was, was if new == sorted(set(was)) else new)
        fields.setdefault(asked.given(at, "augment", "sizes"), []).append(own)
    for steps, models in fields.items():
        wanted = [new for _, _, new in models]
        if all(new == wanted[0] for new in wanted):
            if wanted[0] != models[0][1]:
                yield steps, wanted[0]
            continue
        for (number, place), was, new in models:
            if new != was:
                yield ("rounds", number, "models", place, "train", "augment", "sizes"), new


def _views(asked: Asked, shown: frozenset[int], size: int) -> Iterator[tuple[Steps, Any]]:
    """Views that keep their size or get the one that all nets take, none of them twice."""
    recipe = asked.recipe
    views: dict[str, ViewSettings] = {}
    for view in recipe.predict.views:
        one = view if view.size in shown else view.model_copy(update={"size": size})
        views.setdefault(one.name, one)
    if list(views.values()) != list(recipe.predict.views):
        yield ("predict", "views"), [_written(view) for view in views.values()]
    for number, later in enumerate(recipe.rounds):
        if later.teacher and later.teacher.view and later.teacher.view.size not in shown:
            yield ("rounds", number, "teacher", "view", "size"), size
    found = {}
    for _, _, settings, at in asked.trainings():
        if settings.validation_view and settings.validation_view.size not in shown:
            found[(*asked.given(at, "validation_view"), "size")] = size
    yield from found.items()


def _written(view: ViewSettings) -> dict[str, Any]:
    """A view as one writes it: its size, and what is not as usual."""
    return {"size": view.size, **{name: value for name, value in changes(view).items() if name != "size"}}


def _text(value: Any) -> str:
    """YAML of one line: `[{size: 112, crops: 10}]`."""
    return json.dumps(value).replace('"', "")


def _agrees(asked: Asked, options: Sequence[tuple[Steps, Any]]) -> bool:
    """Whether the recipe with `options` is one by its own rules."""
    data = asked.recipe.model_dump(mode="json")
    for steps, value in options:
        here: Any = data
        for step in steps[:-1]:
            if isinstance(here, dict) and here.get(step) is None:
                here[step] = {}
            here = here[step]
        here[steps[-1]] = value
    try:
        type(asked.recipe).model_validate(data)
    except ValueError:
        return False
    return True
