"""Recipes: YAML → checked, frozen settings, with the line of every mistake.

A recipe is a YAML file or the name of a shipped one. `extends: NAME` starts from another recipe: mappings
are merged key by key, everything else (lists too) is replaced. `-o a.b.0.c=VALUE` replaces one value; VALUE
is YAML.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from smelt.errors import RecipeError
from smelt.yaml_lines import Place, Places, Steps, dotted, dump_yaml, read_yaml

MAX_BYTES = 1 << 20
Model = TypeVar("Model", bound=BaseModel)


def shipped() -> list[str]:
    """Names of the recipes that come with smelt."""
    folder = importlib.resources.files("smelt.recipes")
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml"))


def summary(name: str) -> str:
    """The first line of a shipped recipe's header comment."""
    first = _read_text(name, None)[0].partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def _read_text(recipe: str, beside: Path | None) -> tuple[str, str, Path | None]:
    """(text, name to show, path or None for a shipped recipe). A `/` or `.yaml` makes it a path."""
    if "/" in recipe or recipe.endswith((".yaml", ".yml")):
        path = Path(recipe) if beside is None else beside / recipe
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
        if len(content) > MAX_BYTES:
            raise RecipeError(f"{path} has {len(content)} bytes: too large for a recipe (limit {MAX_BYTES})")
        try:
            return content.decode("utf-8-sig"), str(path), path
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is not UTF-8: {error}") from error
    names = shipped()
    if recipe not in names:
        raise RecipeError(
            f"no shipped recipe is called {recipe!r}{_did_you_mean(recipe, names)} "
            f"(shipped: {', '.join(names) or 'none'}; a file of yours needs its .yaml)"
        )
    text = (importlib.resources.files("smelt.recipes") / f"{recipe}.yaml").read_text(encoding="utf-8")
    return text, f"{recipe}.yaml", None


def _load_file(recipe: str, beside: Path | None, seen: tuple[str, ...]) -> tuple[dict[str, Any], Places]:
    text, shown, path = _read_text(recipe, beside)
    identity = str(path.resolve()) if path else recipe
    if identity in seen:
        raise RecipeError(f"{shown}: `extends` goes round in a circle")
    data, places = read_yaml(text, shown)
    if not isinstance(data, dict):
        raise RecipeError(f"{shown}:1: a recipe is a mapping of keys to values")
    parent = data.pop("extends", None)
    if parent is None:
        return data, places
    if not isinstance(parent, str):
        raise RecipeError(f"{places[('extends',)]}: extends: takes the name or path of one recipe")
    base, base_places = _load_file(parent, path.parent if path else None, (*seen, identity))
    merged = _merge(base, data, base_places, places, ())
    return merged, {**base_places, **places}


def _merge(
    base: dict[str, Any], over: dict[str, Any], base_places: Places, places: Places, path: Steps
) -> Any:
    merged = dict(base)
    for key, value in over.items():
        below = (*path, key)
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value, base_places, places, below)
        else:
            _forget(base_places, below)
            merged[key] = value
    return merged


def _forget(places: Places, path: Steps) -> None:
    for known in [known for known in places if known[: len(path)] == path]:
        del places[known]


def load(recipe: str | Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Places]:
    """The recipe's data, with `extends` resolved and the overrides applied, and the place of every value.

    `recipe` is a path (with `/` or ending in `.yaml`) or the name of a shipped recipe. Raises RecipeError.
    """
    name = (
        str(recipe) if not isinstance(recipe, Path) or recipe.suffix in (".yaml", ".yml") else f"./{recipe}"
    )
    data, places = _load_file(name, None, ())
    for override in overrides:
        _apply(data, places, override)
    return data, places


def _apply(data: dict[str, Any], places: Places, override: str) -> None:
    shown = f"-o {override}"
    left, equals, text = override.partition("=")
    keys = left.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"{shown}: an override is key=value, as in -o train.epochs=3")
    value, _ = read_yaml(text, shown)
    here: Any = data
    for i, key in enumerate(keys):
        path: Steps = tuple(keys[:i])
        if isinstance(here, list):
            if not key.isdecimal() or int(key) >= len(here):
                raise RecipeError(f"{shown}: {dotted(path)} is a list of {len(here)}, counted from 0")
            step: str | int = int(key)
        elif isinstance(here, dict):
            step = key
        else:
            raise RecipeError(f"{shown}: {dotted(path)} is {here!r}, it has no keys below it")
        if i == len(keys) - 1:
            here[step] = value
        elif isinstance(here, dict) and here.get(key) is None:
            here[key] = {}
        here = here[step]
    full: Steps = tuple(int(key) if key.isdecimal() else key for key in keys)
    _forget(places, full)
    places[full] = Place(shown)


# What pydantic finds, in words, with the place


def validate(model: type[Model], data: Mapping[str, Any], places: Places) -> Model:
    """`data` as a checked `model`; RecipeError lists every problem as `file:line: field: what`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = list(_problems(model, data, error))
    lines = []
    for path in dict.fromkeys(path for path, _, _ in found):
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other, _, _ in found)
        messages = [text for at, text, only_type in found if at == path and not (deeper and only_type)]
        if messages:
            lines.append(f"{_place(places, path)}: {dotted(path)}: {' or '.join(dict.fromkeys(messages))}")
    raise RecipeError("\n".join(lines))


def _problems(model: type[BaseModel], data: Any, error: ValidationError) -> Iterator[tuple[Steps, str, bool]]:
    """(path in the data, message, whether it only says that one member of a union is of another type)."""
    for item in error.errors(include_url=False):
        kind, loc = item["type"], item["loc"]
        if kind == "missing":
            path = (*_align(data, loc[:-1]), loc[-1])
            yield path, f"is needed, and missing{_near_extra(model, data, path)}", False
        elif kind == "extra_forbidden":
            path = _align(data, loc)
            known = sorted(_keys_at(model, data, path[:-1]))
            nearest = _did_you_mean(str(path[-1]), known) or f" (known here: {', '.join(known)})"
            yield path, f"no such key{nearest}", False
        elif kind == "union_tag_invalid":
            context = item["ctx"]
            allowed = re.findall(r"'([^']*)'", context["expected_tags"])
            path = (*_align(data, loc), context["discriminator"].strip("'"))
            near = _did_you_mean(str(context["tag"]), allowed)
            yield path, f"input should be {context['expected_tags']}, not {context['tag']!r}{near}", False
        else:
            path, text = _named(data, _align(data, loc), _message(dict(item)))
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
    if not isinstance(given, str | int | float | bool):
        return text
    allowed = re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))
    return f"{text}, not {given!r}{_did_you_mean(str(given), allowed)}"


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.55)
    return f", did you mean {near[0]!r}?" if near else ""


def _near_extra(model: type[BaseModel], data: Any, path: Steps) -> str:
    """A needed key is often there under a wrong name: say so."""
    given = _at(data, path[:-1])
    wrong = (
        [key for key in given if key not in _keys_at(model, data, path[:-1])]
        if isinstance(given, dict)
        else []
    )
    near = difflib.get_close_matches(str(path[-1]), wrong, n=1, cutoff=0.55)
    return f" (is {near[0]!r} meant for it?)" if near else ""


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
    candidates = _expand(model, data)
    for i, step in enumerate(path):
        below: list[Any] = []
        value = _at(data, path[: i + 1])
        for candidate in candidates:
            below += _expand(_step(candidate, step), value)
        candidates = below
    names: set[str] = set()
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            names.update(field.alias or name for name, field in candidate.model_fields.items())
    return names


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


def dump(data: Mapping[str, Any]) -> str:
    """`data` as YAML that `load` reads back to the same values."""
    return dump_yaml(dict(data))


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of recipes of the class `model`, for editors; `extends` is part of every recipe."""
    schema = model.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    extends = {"type": "string", "description": "Name or path of the recipe that this one starts from."}
    schema.setdefault("properties", {})["extends"] = extends
    return schema
