"""The verb `explain`: what a field of a recipe is, from the settings classes themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.errors import RecipeError, short
from smelt.stages.table import STAGES
from smelt.verbs import completion, meant, usage

if TYPE_CHECKING:
    from smelt.recipe.fields import Entry
    from smelt.recipe.yaml_lines import Places
    from smelt.settings import Settings

EXAMPLES = """Explain a field of recipes: what it is and takes, its default, what a change of it runs again.

A name that others begin with lists what is below it; without a name, the sections of a recipe. Places in
lists may be left out: rounds.select.method is rounds.0.select.method.

Examples:

smelt explain train.epochs

smelt explain rounds.0.select --recipe folder

smelt explain predict.views --json
"""

FieldName = Annotated[
    str | None,
    typer.Argument(
        metavar="FIELD", help="Dotted name of a field.", show_default=False, autocompletion=completion.fields
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", metavar="RECIPE", help="Show its values too.", autocompletion=completion.recipes
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--override",
        metavar="KEY=VALUE",
        help="An override of that recipe.",
        autocompletion=completion.overrides,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# What no rule of a class says
SPECIAL: Mapping[str, str] = {
    "name": "in no key; it decides the work folder, unless --work names one",
    "seed": "it shifts every other seed: a change runs all that draws again, and what reads from it",
    "runtime.device": "cpu or cuda is in the key of "
    f"{_and([one.name for one in STAGES.values() if one.device])}; numbers of GPUs are in none",
    "data.root": "in no key; what lies in it counts, by names, sizes and the content of lists",
    "runtime.root": "in no key; data.root is the setting",
}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("explain", help=EXAMPLES, cls=usage.RecipeCommand)(explain)


def explain(
    field: FieldName = None,
    of: RecipeOption = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """See EXAMPLES."""
    from smelt.recipe import loading as recipes
    from smelt.recipe.fields import at_lists, find, walk
    from smelt.recipe.schema import Recipe

    if override and of is None:
        raise RecipeError("-o changes a recipe: name it with --recipe")
    data: Mapping[str, Any] | None = None
    places: Places = {}
    if of is not None:
        meant.refuse("explain --recipe", of)
        read, places = recipes.load(of, override or ())
        data = recipes.validate(Recipe, read, places).model_dump(mode="json")
    if field is None:
        entries = [entry for entry in walk(Recipe) if len(entry.path) == 1]
    else:
        known = find(Recipe, field)
        entries = [entry for entry in known if at_lists(entry, field)]
        if not entries:
            raise RecipeError(_no_list(field, known[0]) if known else _unknown(field))
    told = [_told(entry, field or entry.name, data, places, of) for entry in entries]
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
    elif field is None:
        width = max(len(one["field"]) for one in told)
        for one in told:
            typer.echo(f"{one['field']:{width}}  {first_sentence(one['description'])}")
    else:
        for number, one in enumerate(told):
            typer.echo(("\n" if number else "") + "\n".join(_lines(one)))


def _unknown(field: str) -> str:
    from smelt.recipe.fields import nearest
    from smelt.recipe.schema import Recipe

    near = nearest(Recipe, field)
    meant = f"; did you mean {' or '.join(near)}?" if near else f" (the sections: {', '.join(sections())})"
    return f"no field of a recipe is called {short(field, 80)!r}{meant}"


def _no_list(field: str, entry: Entry) -> str:
    return (
        f"no field of a recipe is called {short(field, 80)!r}: a number stands for a place in a list; did "
        f"you mean {entry.name} ({entry.takes})?"
    )


def sections() -> list[str]:
    """The first steps of all fields."""
    from smelt.recipe.schema import Recipe

    return list(Recipe.model_fields)


def _told(
    entry: Entry, asked: str, data: Mapping[str, Any] | None, places: Places, recipe: str | None
) -> dict[str, Any]:
    """All that is known of a field, as JSON values."""
    from smelt.settings import Partial

    told: dict[str, Any] = {
        "field": entry.name,
        "type": entry.takes,
        "default": entry.default or None,
        "required": entry.info.is_required(),
        "description": entry.description,
        "bounds": entry.limit or None,
        "key": key_of(entry),
        "where": where(entry),
        "below": [
            {"field": f"{entry.name}.{'.'.join([*steps, name])}", "description": info.description or ""}
            for steps, cls in entry.inside
            for name, info in cls.model_fields.items()
        ],
    }
    if issubclass(entry.cls, Partial):
        told["default"] = f"that of {'.'.join(entry.path[entry.path.index('train') :])}"
    if data is not None:
        told["recipe"] = recipe
        told["values"] = [
            {"at": ".".join(map(str, path)), "value": value, "place": str(places.get(path, "")) or None}
            for path, value in _values(data, (*entry.path, *([entry.key] if entry.key else [])), asked)
        ]
    return told


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    default = "needed" if told["required"] else f"default {told['default']}"
    yield f"{told['field']}: {told['type']}; {default}"
    yield f"  {told['description']}"
    if told["bounds"]:
        yield f"  bounds: {told['bounds']}"
    yield f"  key: {told['key']}"
    if told["where"]:
        yield f"  where: {told['where']}"
    for one in told.get("values", ()):
        value = json.dumps(one["value"], ensure_ascii=False)
        yield f"  in {told['recipe']}: {one['at']} = {value}" + (f" ({one['place']})" if one["place"] else "")
    if "values" in told and not told["values"]:
        yield f"  in {told['recipe']}: not set"
    if told["below"]:
        yield "  below it:"
    width = max((len(one["field"]) for one in told["below"]), default=0)
    for one in told["below"]:
        yield f"    {one['field']:{width}}  {first_sentence(one['description'])}"


def _values(data: Any, path: tuple[str, ...], asked: str) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """(path with its places in lists, value) of all that a recipe has at `path`; numbers in `asked` narrow it
    down."""
    numbers = [int(step) for step in asked.split(".") if step.isdecimal()]

    def at(value: Any, steps: tuple[str, ...], done: tuple[str | int, ...], rest: list[int]) -> Any:
        if not steps:
            yield done, value
        elif steps[0] == "N" and isinstance(value, list):
            chosen = rest[:1] if rest else range(len(value))
            for place in chosen:
                if place < len(value):
                    yield from at(value[place], steps[1:], (*done, place), rest[1:])
        elif isinstance(value, Mapping) and steps[0] in value:
            yield from at(value[steps[0]], steps[1:], (*done, steps[0]), rest)

    yield from at(data, path, (), numbers)


def key_of(entry: Entry) -> str:
    """What runs again when the field changes."""
    from smelt.recipe.annotations import ITEM
    from smelt.recipe.fields import key_words
    from smelt.recipe.schema import Recipe
    from smelt.settings import InKey, KeyIf, KeyIfInput, NotInKey, rule_of

    if entry.name in SPECIAL:
        return SPECIAL[entry.name]
    known = readers(Recipe)
    part = max((name for name in known if f"{entry.name}.".startswith(f"{name}.")), key=len)
    if not known[part]:
        return f"{key_words(entry.rule)}; a change runs nothing again"
    steps = [step for step in entry.path[len(part.split(".")) :] if step != ITEM]
    found: dict[str, list[str]] = {}
    for stage in known[part]:
        cls = STAGES[stage].settings
        own = [rule_of(cls, steps[0])] if steps and steps[0] in cls.model_fields else []
        rules = [*own, entry.rule] if len(steps) > 1 or not own else own
        if not any(isinstance(rule, NotInKey) for rule in rules):
            words = [key_words(rule) for rule in rules if isinstance(rule, KeyIf | KeyIfInput)]
            found.setdefault(" and ".join(dict.fromkeys(words)) or key_words(InKey()), []).append(stage)
    if not found:
        return f"{key_words(entry.rule)}; a change runs nothing again"
    stages = [name for names in found.values() for name in names]
    told = "; ".join(words.replace("key", f"key of {_and(names)}", 1) for words, names in found.items())
    them = "it" if len(stages) == 1 else "them"
    return f"{told}; a change runs {_and(stages)} again, and what reads from {them}"


def readers(cls: type[Settings]) -> dict[str, tuple[str, ...]]:
    """Field of a recipe → the stages that read it and what is below it, as far as that says nothing else."""
    from smelt.recipe.fields import walk
    from smelt.settings import ReadBy

    found: dict[str, tuple[str, ...]] = {}
    for entry in walk(cls):
        mark = next((one for one in entry.info.metadata if isinstance(one, ReadBy)), None)
        if mark or entry.name in STAGES:
            found[entry.name] = mark.stages if mark else (entry.name,)
    return found


def first_sentence(text: str) -> str:
    """The beginning of a description, up to its first full stop, colon or semicolon."""
    return re.split(r"(?<=[.;:])\s", text, maxsplit=1)[0].rstrip(".;:")


def where(entry: Entry) -> str:
    """Which formats of data sets look at the field; "" where all do, and where it is no matter of theirs."""
    from smelt.data.formats.registry import used_by

    taking = used_by().get(entry.path[-1]) if entry.path[0] == "data" else None
    return f"formats {', '.join(taking)}" if taking else ""
