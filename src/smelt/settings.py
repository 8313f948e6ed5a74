"""The base class of every settings class, and the canonical form that keys are hashed from.

Nothing here, nor in any module that defines settings, imports torch: `smelt plan` must be quick.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, cast, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)


class Settings(BaseModel):
    """Frozen, checked settings; an unknown key is refused. Each component defines its own subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

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
        fields[name] = (annotation, None) if not info.metadata else (_with(annotation, info.metadata), None)
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
    from typing import Annotated

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
