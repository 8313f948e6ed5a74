"""What pydantic finds wrong with a recipe, in words: where, what was found, how to mend it.

Each mistake is told at the place where its user can mend it. Where a value of a shipped recipe does not go
with what a file or an override says, the place is that of the latter.
"""

from __future__ import annotations

import copy
import difflib
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from smelt.errors import RecipeError, short
from smelt.settings import Disagreement, Limit
from smelt.yaml_lines import MISSING, Place, Places, Steps, dotted

Model = TypeVar("Model", bound=BaseModel)
MOST = 10  # mistakes that are told …
LOOKED_AT = 200  # … and that are looked at, of pydantic's; and own values that may be to blame
WIDEST = 80  # of a value in a message


def validate(model: type[Model], data: Mapping[str, Any], places: Places) -> Model:
    """`data` as a checked `model`; RecipeError lists the problems as `place: field: what`, a line each."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = _found(model, data, error)
        lines = list(_disagreements(data, places, error))
    lines += [_line(model, data, places, path, text) for path, text in found[: MOST + 1 - len(lines)]]
    more = [f"… and {len(found) - MOST} more"] if len(found) > MOST else []
    raise RecipeError("\n".join([*lines[:MOST], *more]))


def _found(model: type[BaseModel], data: Any, error: ValidationError) -> list[tuple[Steps, str]]:
    """(path, message) of each mistake, messages of one path joined."""
    found = list(_problems(model, data, error))
    paths = list(dict.fromkeys(path for path, _, _ in found))
    inner = {path[:depth] for path in paths for depth in range(len(path))}
    told = []
    for path in paths:
        messages = [text for at, text, only_type in found if at == path and not (path in inner and only_type)]
        if messages:
            told.append((path, _joined(list(dict.fromkeys(messages)))))
    return told


def _joined(messages: list[str]) -> str:
    """What each member of a union would take, and once what it was given."""
    *others, last = messages
    given = last[last.rfind(", not ") :] if ", not " in last else ""
    return " or ".join([*(text.removesuffix(given) for text in others), last])


# Settings that do not go together


def _disagreements(data: Any, places: Places, error: ValidationError) -> Iterator[str]:
    """A line for each: what the settings are, where each was set, what has to hold, a mend."""
    for item in error.errors(include_url=False)[:LOOKED_AT]:
        if isinstance(cause := _cause(item), Disagreement):
            yield _disagreement(data, places, _align(data, item["loc"]), cause)


def _cause(item: Any) -> Any:
    return item.get("ctx", {}).get("error")


def _disagreement(data: Any, places: Places, base: Steps, cause: Disagreement) -> str:
    """The user's own setting comes first, of several the one that was given last."""

    def path(name: str) -> Steps:
        return (*base, *(int(step) if step.isdecimal() else step for step in name.split(".")))

    order = {steps: number for number, steps in enumerate(places)}
    known = {name: _given_at(data, places, path(name)) for name in cause.values}
    lead = max(cause.values, key=lambda name: order[known[name]] if _own(places, known[name]) else -1)
    first = places[known[lead]] if _own(places, known[lead]) else None
    told = []
    for name in (lead, *(name for name in cause.values if name != lead)):
        value = _at_or_missing(data, path(name))
        is_what = _word(cause.values[name] if value is MISSING or isinstance(value, dict) else value)
        place = places.get(known[name])
        untold = place in (None, first) if value is not MISSING else False  # said already, or not known
        said = "" if untold else f" ({_whose(place)})"
        told.append(f"{dotted(path(name))} is {is_what}{said}")
    mend = cause.mended(lambda name: dotted(path(name)))
    every = f"{', '.join(told[:-1])} and {told[-1]}"
    return f"{f'{first}: ' if first else ''}{every}: {cause.rule}; {mend}"


def _given_at(data: Any, places: Places, path: Steps) -> Steps:
    """The path of the place where the value at `path` was given; of a default, one that has none."""
    if _at_or_missing(data, path) is not MISSING:
        while path and path not in places:
            path = path[:-1]
    return path


def _own(places: Places, path: Steps) -> bool:
    return path in places and not places[path].shipped


def _whose(place: Place | None) -> str:
    if place is None:
        return "the default"
    return f"from the recipe {place.file.removesuffix('.yaml')}" if place.shipped else str(place)


# Whose mistake it is


def _line(model: type[BaseModel], data: Mapping[str, Any], places: Places, path: Steps, text: str) -> str:
    """One mistake at the place to mend it: its own, or those of the user's values that it comes from."""
    place = _place(places, path)
    name = short(dotted(path), 200)
    blamed = _blamed(model, data, places, path) if place.shipped else []
    if not blamed:
        return f"{place}: {name}: {text}"
    own = " and ".join(dict.fromkeys(str(place) for place in blamed))
    value = _at_or_missing(data, path)
    if value is MISSING or isinstance(value, dict | list) or path not in places:
        return f"{own}: {name}: {text}"
    recipe = place.file.removesuffix(".yaml")
    mend = f"{name}: {_word(value)} comes with the recipe {recipe}, -o {name}=… changes it"
    return f"{own}: {name}: {text}; {mend}"


def _blamed(model: type[BaseModel], data: Mapping[str, Any], places: Places, path: Steps) -> list[Place]:
    """The user's own values without which there is no mistake at `path`; all of them where none is alone."""
    own = [steps for steps, place in places.items() if steps and not place.shipped]
    inner = {steps[:depth] for steps in own for depth in range(len(steps))}
    leaves = [steps for steps in own if steps not in inner][-LOOKED_AT:]
    found = [places[steps] for steps in leaves if not _wrong(model, data, places, [steps], path)]
    if not found and leaves and not _wrong(model, data, places, leaves, path):
        found = [places[steps] for steps in leaves]
    return list(dict.fromkeys(found))[:3]


def _wrong(
    model: type[BaseModel], data: Mapping[str, Any], places: Places, without: Sequence[Steps], path: Steps
) -> bool:
    """Whether there is a mistake at `path` where the user's values at `without` are as they were before."""
    tried = copy.deepcopy(dict(data))
    for steps in without:
        parent = _at_or_missing(tried, steps[:-1])
        if isinstance(parent, dict):
            before = places[steps].under
            if before is MISSING:
                parent.pop(steps[-1], None)
            else:
                parent[steps[-1]] = copy.deepcopy(before)
    try:
        model.model_validate(tried)
    except ValidationError as error:
        return any(at == path for at, _ in _found(model, tried, error))
    return False


def _at_or_missing(data: Any, path: Steps) -> Any:
    try:
        return _at(data, path)
    except (KeyError, IndexError, TypeError):
        return MISSING


def _word(value: Any) -> str:
    return (
        "null" if value is None else short(str(value).lower() if isinstance(value, bool) else str(value), 60)
    )


# What pydantic says, in words


def _problems(model: type[BaseModel], data: Any, error: ValidationError) -> Iterator[tuple[Steps, str, bool]]:
    """(path in the data, message, whether it only says that one member of a union is of another type)."""
    errors = error.errors(include_url=False)[:LOOKED_AT]
    renamed = {
        (path[:-1], near)
        for item in errors
        if item["type"] == "extra_forbidden"
        for path in [_align(data, item["loc"])]
        for near in _near(str(path[-1]), sorted(_keys_at(model, data, path[:-1])))
    }
    for item in errors:
        kind, loc = item["type"], item["loc"]
        if isinstance(_cause(item), Disagreement):
            continue  # told by `_disagreements`
        if kind == "missing":
            path = (*_align(data, loc[:-1]), loc[-1])
            if (path[:-1], str(path[-1])) not in renamed:  # it is there under a wrong name, which is told
                yield path, "is needed, and missing", False
        elif kind == "extra_forbidden":
            path = _align(data, loc)
            known = sorted(_keys_at(model, data, path[:-1]))
            nearest = did_you_mean(str(path[-1]), known) or f" (known here: {', '.join(known)})"
            yield path, f"no such key{nearest}", False
        elif kind == "union_tag_invalid":
            context = item["ctx"]
            allowed = re.findall(r"'([^']*)'", context["expected_tags"])
            path = (*_align(data, loc), context["discriminator"].strip("'"))
            near = did_you_mean(str(context["tag"]), allowed)
            tag = short(str(context["tag"]), WIDEST)
            yield path, f"input should be {context['expected_tags']}, not {tag!r}{near}", False
        else:
            path, text = _named(data, _align(data, loc), _message(dict(item)))
            if kind.startswith(("less_than", "too_long")) or _is_huge(item):
                text += _why(model, data, path)
            if kind == "string_pattern_mismatch":
                text += _what(model, data, path)
            # of a list whose items are wrong, pydantic also says that it has too few
            only_type = kind.endswith("_type") or kind in ("none_required", "is_instance_of", "too_short")
            yield path, text, only_type


def _named(data: Any, path: Steps, text: str) -> tuple[Steps, str]:
    """A validator of a whole mapping begins its message with the field that it is about: `a.0.b: …`."""
    found = re.match(r"([a-z_]+(?:\.\w+)*): ", text)
    if not found:
        return path, text
    steps: Steps = tuple(int(step) if step.isdecimal() else step for step in found[1].split("."))
    return (*path, *steps), text[found.end() :]


def _message(item: dict[str, Any]) -> str:
    text = str(item["msg"]).removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    given = item.get("input")
    if isinstance(given, list | dict) and item["type"] in ("too_short", "too_long"):
        return _length(item, len(given))
    if item["type"] in ("int_from_float", "int_parsing_size"):  # 2.5; 1e20, which it cannot make a number of
        text = f"input should be a {'much smaller' if _is_huge(item) else 'whole'} number"
    if given is None and "null" not in text and not text.endswith("None"):
        return f"{text}, not null"
    if not isinstance(given, str | int | float | bool):
        return text
    allowed = re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))
    shown = repr(short(given, WIDEST)) if isinstance(given, str) else short(repr(given), WIDEST)
    return f"{text}, not {shown}{did_you_mean(str(given), allowed)}"


def _is_huge(item: Any) -> bool:
    given = item.get("input")
    too_large = isinstance(given, float) and abs(given) >= 2**53
    return item["type"] == "int_parsing_size" or (item["type"] == "int_from_float" and too_large)


def _length(item: Mapping[str, Any], given: int) -> str:
    context = item.get("ctx", {})
    if item["type"] == "too_short":
        least = context.get("min_length", 1)
        return f"{given or 'an empty list'}{' items' * bool(given)}: it needs at least {least} item"
    return f"has {given:,} items, more than the {context.get('max_length', 0):,} that it takes"


def _why(model: type[BaseModel], data: Any, path: Steps) -> str:
    """Why a number has the bounds that it has, where its field says so."""
    for depth in (len(path), len(path) - 1):  # an item of a list is under the field's own rules
        if depth > 0 and isinstance(path[depth - 1], str):
            for info in _fields_at(model, data, path[: depth - 1], str(path[depth - 1])):
                marks = [*info.metadata, *_marks(info.annotation)]
                if why := next((mark.why for mark in marks if isinstance(mark, Limit)), ""):
                    return f" ({why})"
    return ""


def _what(model: type[BaseModel], data: Any, path: Steps) -> str:
    """What a field is, in its own words."""
    known = _fields_at(model, data, path[:-1], str(path[-1])) if path else []
    return next((f" ({info.description.rstrip('.')})" for info in known if info.description), "")


def _marks(annotation: Any) -> Iterator[Any]:
    """What is said of the parts of a type."""
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        yield from parts[1:]
    for part in parts:
        yield from _marks(part)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`, did you mean 'x'?` for the one that is nearest, "" where none is near."""
    return "".join(f", did you mean {near!r}?" for near in _near(word, known))


def _near(word: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(word[:100], known, n=1, cutoff=0.55)


def _at(data: Any, path: Steps) -> Any:
    for step in path:
        data = data[step]
    return data


def _align(data: Any, loc: tuple[int | str, ...]) -> Steps:
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


def _keys_at(model: type[BaseModel], data: Any, path: Steps) -> set[str]:
    """Names that a mapping at `path` may have, over all members of a union that fit the data there."""
    return {
        field.alias or name
        for candidate in _models_at(model, data, path)
        for name, field in candidate.model_fields.items()
    }


def _fields_at(model: type[BaseModel], data: Any, path: Steps, name: str) -> list[FieldInfo]:
    """The fields called `name` of the mapping at `path`."""
    models = _models_at(model, data, path)
    return [found.model_fields[name] for found in models if name in found.model_fields]


def _models_at(model: type[BaseModel], data: Any, path: Steps) -> list[type[BaseModel]]:
    candidates = _expand(model, data)
    for i, step in enumerate(path):
        below: list[Any] = []
        value = _at_or_missing(data, path[: i + 1])
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
        return [member for member in members if _discriminated(member, value)] or members
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


def _place(places: Places, path: Steps) -> Place:
    """The place of `path`, or of the nearest mapping around it."""
    while path and path not in places:
        path = path[:-1]
    return places.get(path, Place("recipe"))
