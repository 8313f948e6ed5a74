"""Recipes: YAML → checked, frozen settings, with the line of every mistake.

A recipe is a YAML file or the name of a shipped one. `extends: NAME` starts from another recipe: mappings
are merged key by key, everything else (lists too) is replaced. `-o a.b.0.c=VALUE` replaces one value; VALUE
is YAML.
"""

from __future__ import annotations

import importlib.resources
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from smelt.errors import RecipeError, short
from smelt.files.opening import open_file
from smelt.recipe.mistakes import did_you_mean, validate
from smelt.recipe.yaml_lines import MISSING, Place, Places, Steps, dotted, dump_yaml, read_yaml

__all__ = ["dump", "json_schema", "load", "shipped", "summary", "validate"]

MAX_BYTES = 1 << 20
MAX_PARENTS = 20  # recipes that start from one another
IS_A_MAPPING = "a recipe is a mapping of keys to values, such as `extends: folder` and what is to differ"
STREAMS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")  # what a shell gives for `<(…)`


def shipped() -> list[str]:
    """Names of the recipes that come with smelt."""
    folder = importlib.resources.files("smelt.recipes")
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml"))


def summary(name: str) -> str:
    """The first line of a shipped recipe's header comment."""
    first = _read_text(name, None)[0].partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def is_path(recipe: str) -> bool:
    """Whether the name of a recipe is that of a file: with a `/`, or the suffix of YAML."""
    return "/" in recipe or recipe.endswith((".yaml", ".yml"))


def _read_text(recipe: str, beside: Path | None) -> tuple[str, str, Path | None]:
    """(text, name to show, path or None for a shipped recipe). A `/` or `.yaml` makes it a path."""
    if is_path(recipe):
        path = Path(recipe) if beside is None else beside / recipe
        shown = short(str(path))
        return _decoded(_content(path, shown), shown), shown, path
    names = shipped()
    if recipe not in names:
        near = did_you_mean(recipe, names)
        rest = "" if near else f" (shipped: {', '.join(names) or 'none'}; a file of yours needs its .yaml)"
        raise RecipeError(f"no shipped recipe is called {short(recipe, 80)!r}{near}{rest}")
    text = (importlib.resources.files("smelt.recipes") / f"{recipe}.yaml").read_text(encoding="utf-8")
    return text, f"{recipe}.yaml", None


def _content(path: Path, shown: str) -> bytes:
    """The bytes of a recipe's file, which is a file and of a size that can be."""
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        why = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"cannot read the recipe {shown}: {why}") from error
    if stat.S_ISDIR(kind):
        raise RecipeError(f"{shown} is a folder; a recipe is a file that ends in .yaml")
    if not stat.S_ISREG(kind) and not str(path).startswith(STREAMS):
        raise RecipeError(f"{shown} is not a plain file, and no recipe")
    try:
        with open_file(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {shown}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{shown} has more than {MAX_BYTES:,} bytes: too large for a recipe")
    return content


def _decoded(content: bytes, shown: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4]:
        raise RecipeError(f"{shown} is not UTF-8: it looks like UTF-16; save it as UTF-8")
    if b"\0" in content:
        raise RecipeError(f"{shown} is no text (it has zero bytes), and no recipe: a recipe is YAML")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"{shown}:{line}: is not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8"
        ) from error
    if not text.strip():
        raise RecipeError(f"{shown} is empty: {IS_A_MAPPING}")
    return text


def _load_file(recipe: str, beside: Path | None, seen: tuple[str, ...]) -> tuple[dict[str, Any], Places]:
    text, shown, path = _read_text(recipe, beside)
    identity = str(path.resolve()) if path else recipe
    if identity in seen or len(seen) > MAX_PARENTS:
        way = "goes round in a circle" if identity in seen else f"goes over more than {MAX_PARENTS} recipes"
        on_it = " → ".join(short(Path(one).name, 60) for one in (*seen[:4], identity))
        raise RecipeError(f"{shown}: `extends` {way} ({on_it}); take it out of one of them")
    data, places = read_yaml(text, shown, shipped=path is None)
    if not isinstance(data, dict):
        empty = "has nothing but comments: " if data is None else ""
        raise RecipeError(f"{shown}:1: {empty}{IS_A_MAPPING}")
    parent = data.pop("extends", None)
    if parent is None:
        return data, places
    at = places[("extends",)]
    if not isinstance(parent, str):
        raise RecipeError(f"{at}: extends: takes the name or path of one recipe")
    try:
        base, base_places = _load_file(parent, path.parent if path else None, (*seen, identity))
    except RecipeError as error:
        if seen or str(error).startswith(str(at.file)):
            raise
        raise RecipeError(f"{at}: extends: {error}") from error
    replaced: set[Steps] = set()
    merged = _merge(base, data, places, (), replaced)
    kept = {steps: place for steps, place in base_places.items() if not _below(steps, replaced)}
    return merged, {**kept, **places}


def _merge(
    base: dict[str, Any], over: dict[str, Any], places: Places, path: Steps, replaced: set[Steps]
) -> Any:
    """`over` laid on `base`; notes the paths that were replaced, and in the places of `over` by what."""
    merged = dict(base)
    for key, value in over.items():
        below = (*path, key)
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value, places, below, replaced)
        else:
            replaced.add(below)
            if below in places:
                places[below] = replace(places[below], under=merged.get(key, MISSING))
            merged[key] = value
    return merged


def _below(steps: Steps, replaced: set[Steps]) -> bool:
    return any(steps[:depth] in replaced for depth in range(1, len(steps) + 1))


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
    shown = f"-o {short(override, 100)}"
    left, equals, text = override.partition("=")
    keys = left.strip().split(".")
    if not override.strip():
        raise RecipeError("-o: an empty override; one is key=value, as in -o train.epochs=3")
    if not equals:
        raise RecipeError(f"{shown}: an override is key=value; which value? -o {short(left.strip(), 60)}=…")
    if not all(keys):
        raise RecipeError(f"{shown}: an override is key=value, as in -o train.epochs=3")
    value = _value(text, shown)
    here: Any = data
    full: list[str | int] = []
    before: Any = MISSING
    for i, key in enumerate(keys):
        path: Steps = tuple(full)
        if isinstance(here, list):
            if not key.isdecimal() or int(key[:9]) >= len(here):
                raise RecipeError(f"{shown}: {dotted(path)} is a list of {len(here)}, counted from 0")
            step: str | int = int(key)
        elif isinstance(here, dict):
            step = key
        else:
            raise RecipeError(f"{shown}: {dotted(path)} is {short(repr(here), 60)}, it has no keys below it")
        full.append(step)
        if i == len(keys) - 1:
            before = here.get(step, MISSING) if isinstance(here, dict) else here[int(step)]
            here[step] = value
        elif isinstance(here, dict) and here.get(key) is None:  # a section that was not there is this one's
            places[tuple(full)] = Place(shown, under=here.get(key, MISSING))
            here[key] = {}
        here = here[step]
    for known in [known for known in places if known[: len(full)] == tuple(full)]:
        del places[known]
    places[tuple(full)] = Place(shown, under=before)


def _value(text: str, shown: str) -> Any:
    """The value of an override. A shell splits one with spaces that is not quoted, and the rest is lost."""
    try:
        return read_yaml(text, shown)[0]
    except RecipeError as error:
        if is_cut(text):
            raise RecipeError(
                f"{shown}: a bracket is not closed; where the value has spaces or brackets, quote the whole "
                f"override: -o '…'"
            ) from error
        raise


def is_cut(text: str) -> bool:
    """Whether a value has more brackets or braces open than closed, as what a shell has split has."""
    return any(text.count(left) > text.count(right) for left, right in ("[]", "{}"))


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
