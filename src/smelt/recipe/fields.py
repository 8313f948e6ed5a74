"""Every field of a settings class with what is known of it: the source of `explain`, the schema and the docs.

A field's path has `N` for the place in a list (`rounds.N.models.N.seeds`), `NAME` for the key of a mapping.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from smelt.recipe.annotations import ITEM, KEY, annotated, inside
from smelt.settings import KeyIf, KeyIfInput, Limit, NotInKey, Partial, Rule, Settings, rule_of


@dataclass(frozen=True)
class Entry:
    """One field: where it is in a recipe, and the class that it belongs to.

    key: of a mapping that the field is, one of its keys, which is meant then.
    """

    path: tuple[str, ...]
    cls: type[Settings]
    info: FieldInfo
    key: str = ""

    @property
    def name(self) -> str:
        """The path as people write it."""
        return ".".join((*self.path, self.key) if self.key else self.path)

    @property
    def keys(self) -> tuple[str, ...] | None:
        """The keys that a mapping of plain values may have; () where they may be any, None of all else."""
        if get_origin(self.info.annotation) is not dict or self.inside:
            return None
        kind = get_args(self.info.annotation)[0]
        return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()

    @property
    def rule(self) -> Rule:
        """Whether it is part of keys."""
        return rule_of(self.cls, self.path[-1])

    @property
    def description(self) -> str:
        """What it is, its unit, when to change it."""
        return self.info.description or ""

    @property
    def takes(self) -> str:
        """What it takes, in words, with its bounds."""
        if self.key:
            return annotated(get_args(self.info.annotation)[1])
        return annotated(self.info.annotation, self.info.metadata)

    @property
    def limit(self) -> str:
        """Why its bounds are where they are; "" where that goes without saying."""
        return next((mark.why for mark in self.info.metadata if isinstance(mark, Limit)), "")

    @property
    def default(self) -> str:
        """The default as YAML would have it; "" where the field must be given."""
        if self.key:
            value = self.info.get_default(call_default_factory=True).get(self.key, PydanticUndefined)
            return "none" if value is PydanticUndefined else shown(value)
        if self.info.is_required():
            return ""
        value = self.info.get_default(call_default_factory=True)
        return "" if value is PydanticUndefined else shown(value)

    @property
    def inside(self) -> list[tuple[tuple[str, ...], type[Settings]]]:
        """The settings classes that its value is made of, and the steps to them."""
        return [(steps, cls) for steps, cls in inside(self.info.annotation) if not issubclass(cls, Partial)]


def shown(value: Any) -> str:
    """A value of a recipe in a line, as JSON; settings as what differs from their defaults."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    elif isinstance(value, list | tuple):
        value = [json.loads(shown(item)) for item in value]
    elif isinstance(value, dict):
        value = {str(key): json.loads(shown(item)) for key, item in value.items()}
    return json.dumps(value, ensure_ascii=False)


def walk(cls: type[Settings], path: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Every field of `cls`, each before those below it. Partial settings are not gone into: they are those of
    the class that they are part of."""
    for name, info in cls.model_fields.items():
        entry = Entry((*path, name), cls, info)
        yield entry
        for steps, below in inside(info.annotation):
            if not issubclass(below, Partial):
                yield from walk(below, (*entry.path, *steps))


def key_words(rule: Rule) -> str:
    """What a change of a field does to keys, in words."""
    if isinstance(rule, NotInKey):
        return f"in no key: {rule.why}"
    if isinstance(rule, KeyIf):
        values = " or ".join("null" if value is None else str(value) for value in rule.values)
        return f"part of the key where {rule.name} is {values}"
    if isinstance(rule, KeyIfInput):
        return f"part of the key where the stage has a {rule.port}"
    return "part of the key"


# Finding a field by what somebody types


def plain(name: str) -> tuple[str, ...]:
    """The path without places in lists: `rounds.0.models[1].seeds` is `rounds.models.seeds`."""
    return tuple(step for step in _steps(name) if not _is_place(step))


def _steps(name: str) -> list[str]:
    name = re.sub(r"\[(\w*|\*)\]", r".\1", name)
    return [step for step in name.strip().strip(".").split(".") if step]


def at_lists(entry: Entry, name: str) -> bool:
    """Whether every place in `name` is one in a list: in `rounds.0.models` it is, in `train.epochs.0` not."""
    given, known = _places(_steps(name)), _places((*entry.path, entry.key) if entry.key else entry.path)
    known[-1] += entry.takes.count("list of")
    return given[0] == 0 and all(
        places <= most for places, most in zip(reversed(given[1:]), reversed(known[1:]))
    )


def _places(steps: Sequence[str]) -> list[int]:
    """How many places in lists stand before all names, and behind each."""
    found = [0]
    for step in steps:
        if _is_place(step):
            found[-1] += 1
        elif step != KEY:
            found.append(0)
    return found


def _is_place(step: str) -> bool:
    return step.isdecimal() or step in (ITEM, "*", "[]")


def find(cls: type[Settings], name: str) -> list[Entry]:
    """The field that `name` means, alone; else all whose last steps are `name`; [] where there is none.

    Steps through lists may be left out or be any number. Below partial settings the fields are those of the
    whole class, under the path that was asked for.
    """
    wanted = plain(name)
    exact = _at(cls, wanted, ())
    if exact is not None:
        return [exact]
    ends = [entry for entry in walk(cls) if wanted and _named(entry)[-len(wanted) :] == wanted]
    if ends or len(wanted) < 2:
        return ends
    *rest, key = wanted  # the key of a mapping
    maps = [entry for entry in walk(cls) if key in (entry.keys or ())]
    return [replace(entry, key=key) for entry in maps if list(_named(entry)[-len(rest) :]) == rest]


def _named(entry: Entry) -> tuple[str, ...]:
    return tuple(step for step in entry.path if step not in (ITEM, KEY))


def _at(cls: type[Settings], wanted: tuple[str, ...], path: tuple[str, ...]) -> Entry | None:
    if not wanted or wanted[0] not in cls.model_fields:
        return None
    entry = Entry((*path, wanted[0]), cls, cls.model_fields[wanted[0]])
    if len(wanted) == 1:
        return entry
    if entry.keys is not None and len(wanted) == 2:
        return replace(entry, key=wanted[1]) if wanted[1] in (entry.keys or wanted) else None
    for steps, below in inside(entry.info.annotation):
        rest = wanted[1:]
        if KEY in steps and below.model_fields.keys().isdisjoint(rest[:1]):
            rest = rest[1:]  # the key of a mapping
        if found := _at(below, rest, (*entry.path, *steps)):
            return found
    return None


def nearest(cls: type[Settings], name: str) -> list[str]:
    """Paths that `name` may be a slip of, the nearest first."""
    wanted = plain(name[:200])
    entries = list(walk(cls))
    by_path = {".".join(_named(entry)): entry for entry in entries}
    found = difflib.get_close_matches(".".join(wanted), list(by_path), n=3, cutoff=0.75)
    of_maps = {f"{path}.{key}": entry for path, entry in by_path.items() for key in entry.keys or ()}
    if slips := difflib.get_close_matches(".".join(wanted), list(of_maps), n=1, cutoff=0.85):
        return slips
    last: dict[str, list[Entry]] = {}
    for entry in entries:
        last.setdefault(entry.path[-1], []).append(entry)
    for near in difflib.get_close_matches(wanted[-1] if wanted else "", list(last), n=2, cutoff=0.6):
        found += [".".join(_named(entry)) for entry in last[near]]
    return [by_path[path].name for path in dict.fromkeys(found)][:5]
