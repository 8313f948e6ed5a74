"""The base class of every settings class, and the canonical form that keys are hashed from.

Every field is part of the key of the stages that it belongs to, unless it says otherwise by a marker:

    workers: Annotated[int, NotInKey("why it cannot change a byte")] = 2
    step_factor: Annotated[float, KeyIf("schedule", "step")] = 0.1          # read only then
    distillation: Annotated[Distillation, KeyIfInput("teacher")] = …        # read only with that port

Every field says what it is by `Field(description=…)`: what, its unit, when to change it. The JSON schema,
`smelt explain` and docs/settings.md read it there, and have the default, the bounds and the key from the
field itself. Every number has a least and a greatest value; `Limit` says why the greatest is where it is.

Nothing here, nor in any module that defines settings, imports torch: `smelt plan` must be quick.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import pkgutil
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.abc import SourceLoader
from types import ModuleType
from typing import Annotated, Any, ClassVar, cast, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)


@dataclass(frozen=True)
class InKey:
    """The field can change the result: the rule of every field without a marker."""


@dataclass(frozen=True)
class NotInKey:
    """The field cannot change a byte of what an undisturbed run gives; `why` says why not."""

    why: str


@dataclass(frozen=True, init=False)
class KeyIf:
    """The field is read only where the field `name` beside it has one of `values`."""

    name: str
    values: tuple[Any, ...]

    def __init__(self, name: str, *values: Any) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class KeyIfInput:
    """The field is read only where the stage is given something on `port`."""

    port: str


Rule = InKey | NotInKey | KeyIf | KeyIfInput


@dataclass(frozen=True)
class Limit:
    """Why a number has the bounds that it has; said to whoever goes beyond them."""

    why: str


@dataclass(frozen=True, init=False)
class ReadBy:
    """Which stages read a field of a recipe, and what is below it that does not say so itself; a section that
    is called as a stage is read by that one."""

    stages: tuple[str, ...]

    def __init__(self, *stages: str) -> None:
        object.__setattr__(self, "stages", stages)


class Disagreement(ValueError):
    """Settings of which each may be so, and which cannot be so together.

    values: what they are, by their paths below the settings that are checked (`epochs`, `augment.sizes`).
    rule: what has to hold. mend: what to write instead; `{epochs}` in it stands for the path in the recipe.
    """

    def __init__(self, values: Mapping[str, Any], rule: str, mend: str) -> None:
        self.values = dict(values)
        self.rule = rule
        self.mend = mend
        found = ", ".join(f"{name} is {value}" for name, value in self.values.items())
        super().__init__(f"{found}: {rule}; {self.mended(lambda name: name)}")

    def mended(self, path: Callable[[str], str]) -> str:
        """The mend with the paths that settings have elsewhere."""
        return re.sub(r"\{([\w.]+)\}", lambda found: path(found[1]), self.mend)

    def moved(self, path: Callable[[str], str], mended: Callable[[str], str]) -> Disagreement:
        """The same of settings that are found at `path(name)`, and are to be mended at `mended(name)`."""
        values = {path(name): value for name, value in self.values.items()}
        return Disagreement(values, self.rule, self.mended(lambda name: f"{{{mended(name)}}}"))


Share = Annotated[float, Field(ge=0.0, le=1.0)]
MAX_KEPT = 1_000_000  # scores of an image: more than any data set has classes
MAX_SEED = 4_000_000_000
Seed = Annotated[
    int, Field(ge=0, le=MAX_SEED), Limit("seeds are shifted by the recipe's and stay below 32 bits")
]


def modules_of(package: str, first: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the modules in a folder of the package, without importing them: each is a value of a setting.

    In alphabetical order, but for those in `first`, which come in that order before all others.
    """
    found = {module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)}
    known = [name for name in first if name in found]
    return (*known, *sorted(found - set(known)))


def loaded(package: str, names: Iterable[str]) -> dict[str, ModuleType]:
    """These modules of a folder of the package, by name."""
    return {name: importlib.import_module(f"{package}.{name}") for name in names}


def constant(package: str, module: str, name: str) -> Any:
    """The literal that a module of a folder assigns to `name`, read from its text: nothing of it is run."""
    spec = importlib.util.find_spec(f"{package}.{module}")
    source = spec.loader.get_source(spec.name) if spec and isinstance(spec.loader, SourceLoader) else None
    value = assigned(source or "", name)
    if value is None:
        raise ValueError(f"{package}.{module} does not say its {name}")
    try:
        return ast.literal_eval(value)
    except ValueError as error:
        raise ValueError(f"{package}.{module}: {name} is read and not run, so it takes literals") from error


def assigned(source: str, name: str) -> ast.expr | None:
    """What the text of a module assigns to `name` at its top, with a type or without; None if it does not."""
    for item in ast.parse(source).body:
        if isinstance(item, ast.Assign | ast.AnnAssign):
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            if [getattr(to, "id", "") for to in targets] == [name]:
                return item.value
    return None


class Settings(BaseModel):
    """Frozen, checked settings; an unknown key is refused. Each component defines its own subclass.

    RULES: by name, the rules of fields that a subclass inherits and uses otherwise than its base.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)
    RULES: ClassVar[Mapping[str, Rule]] = {}

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, data: Any) -> Any:
        # pydantic would take `epochs: true` as 1
        for name, value in data.items() if isinstance(data, Mapping) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field and not _takes(field.annotation, bool):
                raise ValueError(f"{name}: is not a matter of true or false")
        return data


class Partial(Settings):
    """Base of settings of which only some are given: written out, it says those and no others."""

    @model_serializer(mode="wrap")
    def _given(self, write: SerializerFunctionWrapHandler) -> Any:
        # a partial field that was not given is None, and pydantic asks here how to write that too
        given: set[str] = getattr(self, "model_fields_set", set())
        return {name: value for name, value in (write(self) or {}).items() if name in given}


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal settings give equal text, whatever their order."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def rule_of(cls: type[BaseModel], name: str) -> Rule:
    """Whether the field `name` of `cls` is part of keys, as its class or its marker says."""
    if issubclass(cls, Settings) and name in cls.RULES:
        return cls.RULES[name]
    found = [mark for mark in cls.model_fields[name].metadata if isinstance(mark, Rule)]
    assert len(found) <= 1, f"{cls.__name__}.{name} has {len(found)} markers"
    return found[0] if found else InKey()


def not_in_key(settings: Settings, ports: Collection[str] = ()) -> tuple[str, ...]:
    """Dotted paths of the values of `settings` that cannot change what a stage with these `ports` gives."""
    return tuple(".".join(path) for path in _outside(settings, ports))


def _outside(value: Any, ports: Collection[str]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Settings):
        for name in type(value).model_fields:
            if _counts(value, name, ports):
                yield from ((name, *path) for path in _outside(getattr(value, name), ports))
            else:
                yield (name,)
    elif isinstance(value, Mapping):
        yield from ((str(key), *path) for key, item in value.items() for path in _outside(item, ports))
    elif isinstance(value, list | tuple):
        yield from ((str(i), *path) for i, item in enumerate(value) for path in _outside(item, ports))


def _counts(settings: Settings, name: str, ports: Collection[str]) -> bool:
    rule = rule_of(type(settings), name)
    if isinstance(rule, KeyIf):
        return getattr(settings, rule.name) in rule.values
    return rule.port in ports if isinstance(rule, KeyIfInput) else isinstance(rule, InKey)


def without(values: Mapping[str, Any], paths: Collection[str]) -> dict[str, Any]:
    """A copy of nested JSON `values` that lacks the values at the dotted `paths`."""
    found: dict[str, Any] = _without(values, [path.split(".") for path in paths])
    return found


def _without(value: Any, paths: list[list[str]]) -> Any:
    gone = {path[0] for path in paths if len(path) == 1}
    below = {name: [path[1:] for path in paths if path[0] == name] for name in {path[0] for path in paths}}
    if isinstance(value, Mapping):
        return {k: _without(v, below.get(str(k), [])) for k, v in value.items() if str(k) not in gone}
    if isinstance(value, list | tuple):
        return [_without(v, below.get(str(i), [])) for i, v in enumerate(value) if str(i) not in gone]
    return value


def _takes(annotation: Any, kind: type) -> bool:
    """Whether a field of this type takes values of `kind`."""
    return annotation in (kind, Any) or any(_takes(part, kind) for part in get_args(annotation))


@cache
def partial_of(cls: type[Settings]) -> type[Settings]:
    """A settings class with the fields of `cls`, none of them required: what a recipe may override.

    Fields that are settings themselves become partial too. `changes` gives what was set.
    """
    fields: dict[str, Any] = {}
    for name, info in cls.model_fields.items():
        annotation = _partial_annotation(info.annotation)
        annotation = _with(annotation, info.metadata) if info.metadata else annotation
        fields[name] = (annotation, Field(default=None, description=info.description))
    made = create_model(f"Partial{cls.__name__}", __base__=Partial, __module__=cls.__module__, **fields)
    return cast(type[Settings], made)


def _partial_annotation(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return partial_of(annotation)
    parts = get_args(annotation)
    if type(None) in parts and len(parts) == 2:
        inner = next(part for part in parts if part is not type(None))
        if isinstance(inner, type) and issubclass(inner, Settings):
            return partial_of(inner) | None
    return annotation


def _with(annotation: Any, metadata: list[Any]) -> Any:
    return Annotated[(annotation, *metadata)]


def changes(partial: Settings | None) -> dict[str, Any]:
    """What was set in a partial settings object, as a nested dict."""
    return {} if partial is None else partial.model_dump(mode="json", exclude_unset=True)


def merged(base: Mapping[str, Any], *over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with each of `over` laid on it in turn; nested dicts are merged, all else is replaced."""
    result = dict(base)
    for layer in over:
        for key, value in layer.items():
            below = result.get(key)
            if isinstance(below, Mapping) and isinstance(value, Mapping):
                result[key] = merged(below, value)
            else:
                result[key] = value
    return result
