"""Types of settings: what is below them, step by step, and what they take, in words."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from smelt.settings import Settings

ITEM, KEY = "N", "NAME"  # steps to what a list and a mapping hold
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
_BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}

Kind = tuple[Any, Sequence[Any]]  # a type, and what is said of it


def members(annotation: Any) -> Iterator[Any]:
    """The types that a union is of, each without what is said of it; the type itself where it is none."""
    origin = get_origin(annotation)
    if origin in (Annotated, Union, types.UnionType):
        for part in get_args(annotation)[: 1 if origin is Annotated else None]:
            yield from members(part)
    else:
        yield annotation


def inside(annotation: Any) -> Iterator[tuple[tuple[str, ...], type[Settings]]]:
    """The settings classes that a type is made of, and the steps to them."""
    for member in members(annotation):
        origin, parts = get_origin(member), get_args(member)
        if isinstance(member, type) and issubclass(member, Settings):
            yield (), member
        elif origin in (tuple, list, dict):
            step = KEY if origin is dict else ITEM
            yield from (((step, *steps), cls) for steps, cls in inside(parts[origin is dict]))


def kinds_at(model: type[BaseModel], path: Sequence[str | int]) -> list[Kind]:
    """What may be at a path below `model`."""
    kinds: list[Kind] = [(model, ())]
    for step in path:
        kinds = [kind for annotation, _ in kinds for kind in _below(annotation, step)]
    return kinds


def _below(annotation: Any, step: str | int) -> Iterator[Kind]:
    for member in members(annotation):
        parts = [part for part in get_args(member) if part is not Ellipsis]
        if isinstance(member, type) and issubclass(member, BaseModel):
            if info := member.model_fields.get(str(step)):
                yield info.annotation, info.metadata
        elif get_origin(member) in ((tuple, list) if isinstance(step, int) else (dict,)):
            yield parts[step if isinstance(step, int) and step < len(parts) else -1], ()


def fields_at(model: type[BaseModel], path: Sequence[str | int]) -> dict[str, FieldInfo]:
    """The fields of the mapping at a path below `model`; none where there is no mapping of settings."""
    kinds = [member for annotation, _ in kinds_at(model, path) for member in members(annotation)]
    found: dict[str, FieldInfo] = {}
    for one in kinds:
        if isinstance(one, type) and issubclass(one, BaseModel):
            found |= one.model_fields
    return found


# In words


def in_words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a field of this type takes, with its bounds and an article: `a whole number from 1 to 90`."""
    word = annotated(annotation, metadata)
    return f"a {word}" if word.startswith(("whole number", "number", "list", "mapping")) else word


def annotated(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """The same without an article, of any type that settings have: `list of one of cpu, cuda`."""
    bounds = _bounds(metadata)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return annotated(parts[0], [*_flat(parts[1:]), *metadata])
    if origin in (Union, types.UnionType):
        members = [part for part in parts if part is not type(None)]
        words = [annotated(part, metadata) for part in members]
        return " or ".join([*words, *(["null"] if len(members) < len(parts) else [])])
    if origin is Literal:
        return ("" if len(parts) == 1 else "one of ") + ", ".join(map(str, parts))
    if origin in (tuple, list):
        items = [part for part in parts if part is not Ellipsis]
        if len(items) == len(parts) and origin is tuple:
            return f"list of {len(items)}: {', '.join(annotated(item) for item in items)}"
        return f"list of {annotated(items[0])}" + (f" ({bounds})" if bounds else "")
    if origin is dict:
        return f"mapping of {annotated(parts[0])} to {annotated(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return "mapping"
    word = _WORDS.get(annotation, str(annotation))
    if not bounds or annotation is bool:
        return word
    return f"{word} {bounds}" if annotation in (int, float) else f"{word} ({bounds})"


def marks(annotation: Any) -> Iterator[Any]:
    """What is said of a type and of its parts."""
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        yield from _flat(parts[1:])
    for part in parts:
        yield from marks(part)


def _flat(marks: Sequence[Any]) -> Iterator[Any]:
    for mark in marks:
        yield from mark.metadata if isinstance(mark, FieldInfo) else (mark,)


def _bounds(metadata: Sequence[Any]) -> str:
    """The bounds of a field in words: of a number its least and greatest, of text and lists their length."""
    numbers = [
        _BOUNDS[name].format(f"{int(value):,}" if value == int(value) else f"{value:g}")
        for name, value in limits(None, metadata).items()
    ]
    least = max((getattr(mark, "min_length", None) or 0 for mark in metadata), default=0)
    most = max((getattr(mark, "max_length", None) or 0 for mark in metadata), default=0)
    lengths = [f"at least {least}"] * bool(least) + [f"at most {most:,}"] * bool(most)
    if least == most > 0:
        lengths = [f"exactly {least}"]
    patterns = [mark.pattern for mark in metadata if getattr(mark, "pattern", None)]
    return ", ".join([" ".join(numbers)] * bool(numbers) + lengths + [f"matching {p}" for p in patterns])


def limits(annotation: Any, metadata: Sequence[Any]) -> dict[str, float]:
    """The bounds (ge, gt, le, lt) of a number, those of its type and of its field together."""
    found: dict[str, float] = {}
    if get_origin(annotation) is Annotated:
        metadata = [*_flat(get_args(annotation)[1:]), *metadata]
    for name in _BOUNDS:
        for mark in metadata:
            if getattr(mark, name, None) is not None:
                found[name] = getattr(mark, name)
    return found
