"""Where a path of a recipe leads: to which value of the data, and to which field of the settings classes."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from smelt.recipe.yaml_lines import MISSING, Steps


def at_or_missing(data: Any, path: Steps) -> Any:
    """The value at `path`, MISSING where there is none."""
    try:
        return _at(data, path)
    except (KeyError, IndexError, TypeError):
        return MISSING


def _at(data: Any, path: Steps) -> Any:
    for step in path:
        data = data[step]
    return data


def align(data: Any, loc: tuple[int | str, ...]) -> Steps:
    """The path in `data` that pydantic's `loc` means: a `loc` also names the members of unions.

    Of all ways to leave names out, the one that reaches the last name wins, then the longest.
    """

    def ways(value: Any, i: int) -> Iterator[tuple[bool, int, Steps]]:
        if i == len(loc):
            yield False, 0, ()
            return
        step = loc[i]
        fits = step in value if isinstance(value, dict) else _is_index(value, step)
        if fits:
            for last, length, path in ways(value[step], i + 1):
                yield last or i == len(loc) - 1, length + 1, (step, *path)
        yield from ways(value, i + 1)

    return max(ways(data, 0), key=lambda way: way[:2])[2]


def _is_index(value: Any, step: int | str) -> bool:
    return isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)


def keys_at(model: type[BaseModel], data: Any, path: Steps) -> set[str]:
    """Names that a mapping at `path` may have, over all members of a union that fit the data there."""
    return {
        field.alias or name
        for candidate in models_at(model, data, path)
        for name, field in candidate.model_fields.items()
    }


def fields_at(model: type[BaseModel], data: Any, path: Steps, name: str) -> list[FieldInfo]:
    """The fields called `name` of the mapping at `path`."""
    models = models_at(model, data, path)
    return [found.model_fields[name] for found in models if name in found.model_fields]


def kinds_at(model: type[BaseModel], data: Any, path: Steps) -> list[tuple[Any, list[Any]]]:
    """(type, what is said of it) of the field at `path`, or of the item of a list or mapping."""
    for depth in range(len(path), 0, -1):
        known = fields_at(model, data, path[: depth - 1], str(path[depth - 1]))
        if known and isinstance(path[depth - 1], str):
            found: list[tuple[Any, list[Any]]] = [(info.annotation, list(info.metadata)) for info in known]
            for step in path[depth:]:
                found = [(item, []) for kind, _ in found for item in _items(kind, step)]
            return found
    return []


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes that a type is made of, or a list of."""
    members = [
        part
        for member in _expand(annotation, None)
        for part in ((get_args(member)[0],) if get_origin(member) in (tuple, list) else (member,))
    ]
    return [one for one in members if _is_model(one)]


def _is_model(one: Any) -> bool:
    return isinstance(one, type) and issubclass(one, BaseModel)


def _items(annotation: Any, step: str | int) -> Iterator[Any]:
    """Types of what a list or mapping of that type has at `step`."""
    for member in _expand(annotation, None):
        if get_origin(member) in ((tuple, list) if isinstance(step, int) else (dict,)):
            yield _step(member, step)


def models_at(model: type[BaseModel], data: Any, path: Steps) -> list[type[BaseModel]]:
    """The settings classes that the value at `path` may be of."""
    candidates = _expand(model, data)
    for i, step in enumerate(path):
        below: list[Any] = []
        value = at_or_missing(data, path[: i + 1])
        for candidate in candidates:
            below += _expand(_step(candidate, step), value)
        candidates = below
    return [one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)]


def _step(annotation: Any, step: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if step in (name, field.alias):
                return field.annotation
        return None
    arguments = [a for a in get_args(annotation) if a is not Ellipsis]
    if not arguments:
        return None
    if isinstance(step, int) and get_origin(annotation) is tuple and step < len(arguments):
        return arguments[step]
    return arguments[-1]


def _expand(annotation: Any, value: Any) -> list[Any]:
    """The members of a union that fit `value`; all of them where none does."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _expand(get_args(annotation)[0], value)
    if origin in (Union, types.UnionType):
        members = [member for argument in get_args(annotation) for member in _expand(argument, value)]
        fitting = [member for member in members if _discriminated(member, value)]
        return fitting if any(map(_is_model, fitting)) else members
    return [annotation]


def _discriminated(member: Any, value: Any) -> bool:
    """Whether the literal fields of a model (its discriminator) agree with the data."""
    if not (isinstance(member, type) and issubclass(member, BaseModel) and isinstance(value, dict)):
        return True
    return all(
        name not in value or value[name] in get_args(field.annotation)
        for name, field in member.model_fields.items()
        if get_origin(field.annotation) is Literal
    )
