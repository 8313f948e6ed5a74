"""What pydantic finds wrong with a recipe, in words: where, what was found, how to mend it.

Each mistake is told at the place where its user can mend it. Where a value of a shipped recipe does not go
with what a file or an override says, the place is that of the latter.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from smelt.errors import RecipeError, short
from smelt.recipe.annotations import ITEM, fields_at, in_words, inside, kinds_at, marks
from smelt.recipe.yaml_lines import MISSING, Place, Places, Steps, dotted
from smelt.settings import Disagreement, Limit

Model = TypeVar("Model", bound=BaseModel)
MOST = 10  # mistakes that are told …
OF_TYPE = (  # mistakes of which what the field takes says it all
    "int_type", "int_parsing", "int_parsing_size", "int_from_float", "float_type", "float_parsing",
    "finite_number", "bool_type", "bool_parsing", "string_type", "greater_than", "greater_than_equal",
    "less_than", "less_than_equal", "model_type", "model_attributes_type", "dict_type", "tuple_type",
    "list_type", "is_instance_of",
)  # fmt: skip
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
    messages = [text for text in messages if text.startswith("takes ")] or messages  # that names all members
    *others, last = messages
    given = last[last.rfind(", not ") :] if ", not " in last else ""
    return " or ".join([*(text.removesuffix(given) for text in others), last])


# Where a mistake is


def at_or_missing(data: Any, path: Steps) -> Any:
    """The value at `path`, MISSING where there is none."""
    try:
        for step in path:
            data = data[step]
    except (KeyError, IndexError, TypeError):
        return MISSING
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
        if step in (
            value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        ):
            for last, length, path in ways(value[step], i + 1):
                yield last or i == len(loc) - 1, length + 1, (step, *path)
        yield from ways(value, i + 1)

    return max(ways(data, 0), key=lambda way: way[:2])[2]


# Settings that do not go together


def _disagreements(data: Any, places: Places, error: ValidationError) -> Iterator[str]:
    """A line for each: what the settings are, where each was set, what has to hold, a mend."""
    for item in error.errors(include_url=False)[:LOOKED_AT]:
        if isinstance(cause := _cause(item), Disagreement):
            yield _disagreement(data, places, align(data, item["loc"]), cause)


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
        value = at_or_missing(data, path(name))
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
    if at_or_missing(data, path) is not MISSING:
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
    value = at_or_missing(data, path)
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
        parent = at_or_missing(tried, steps[:-1])
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
        for path in [align(data, item["loc"])]
        for near in _near(str(path[-1]), sorted(fields_at(model, path[:-1])))
    }
    for item in errors:
        kind, loc = item["type"], item["loc"]
        if isinstance(_cause(item), Disagreement):
            continue  # told by `_disagreements`
        if kind == "missing":
            path = (*align(data, loc[:-1]), loc[-1])
            if (path[:-1], str(path[-1])) not in renamed:  # it is there under a wrong name, which is told
                yield path, "is needed, and missing", False
        elif kind == "extra_forbidden":
            path = align(data, loc)
            known = sorted(fields_at(model, path[:-1]))
            nearest = did_you_mean(str(path[-1]), known) or f" (known here: {', '.join(known)})"
            yield path, f"no such key{nearest}", False
        else:
            path, text = _named(data, align(data, loc), _message(dict(item)))
            if kind in OF_TYPE:
                text = _takes(model, path, item.get("input")) or text
            if kind.startswith(("less_than", "too_long")) or _is_huge(item):
                text += _why(model, path)
            if kind == "string_pattern_mismatch":
                text += _what(model, path)
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
    if item["type"] == "value_error":
        return f"{text}, not {_given(given)}" if isinstance(given, str | int | float) else text
    allowed = re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))
    near = did_you_mean(given, allowed) if isinstance(given, str) else ""
    return f"{text}, not {_given(given)}{near}"


def _given(value: Any) -> str:
    """What was given, in a message."""
    if isinstance(value, list | tuple | dict):
        return "a mapping" if isinstance(value, dict) else "a list"
    return repr(short(value, WIDEST)) if isinstance(value, str) else _word(value)


def _takes(model: type[BaseModel], path: Steps, given: Any) -> str:
    """What the field takes, with its bounds, and what it was given; "" where it is not known."""
    kinds = kinds_at(model, path)
    below = [(steps, cls) for kind, _ in kinds for steps, cls in inside(kind) if steps in ((), (ITEM,))]
    if below:
        names = [*below[0][1].model_fields]
        more = f" and {len(names) - MOST} more: smelt explain {dotted(path)}" if len(names) > MOST else ""
        some = ", ".join(names[:MOST]) + more
        many = all(steps for steps, _ in below)
        what, first = ("list of sections", (*path, 0)) if many else ("section", path)
        example = f"-o {dotted((*first, names[0]))}=…"
        whose = "a field of the first" if many else "one of its fields"
        return f"takes a {what}, not {_given(given)}; {example} sets {whose} ({some})"
    words = dict.fromkeys(in_words(kind, marks) for kind, marks in kinds)
    return f"takes {' or '.join(words)}, not {_given(given)}" if words else ""


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


def _why(model: type[BaseModel], path: Steps) -> str:
    """Why a number has the bounds that it has, where its field says so."""
    for depth in (len(path), len(path) - 1):  # an item of a list is under the field's own rules
        for annotation, said in kinds_at(model, path[:depth]) if depth > 0 else ():
            if why := next((mark.why for mark in (*said, *marks(annotation)) if isinstance(mark, Limit)), ""):
                return f" ({why})"
    return ""


def _what(model: type[BaseModel], path: Steps) -> str:
    """What a field is, in its own words."""
    info = fields_at(model, path[:-1]).get(str(path[-1])) if path else None
    return f" ({info.description.rstrip('.')})" if info and info.description else ""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`, did you mean 'x'?` for the one that is nearest, "" where none is near."""
    return "".join(f", did you mean {near!r}?" for near in _near(word, known))


def _near(word: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(word[:100], known, n=1, cutoff=0.55)


def _place(places: Places, path: Steps) -> Place:
    """The place of `path`, or of the nearest mapping around it."""
    while path and path not in places:
        path = path[:-1]
    return places.get(path, Place("recipe"))
