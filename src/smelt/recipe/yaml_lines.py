"""YAML with the line of every key and item, and nothing that a settings file has no use for.

Numbers and booleans follow YAML 1.2 (`1e-3` is a number, `no` and `2020-01-01` are words). Refused: tags,
duplicate keys, numbers of hundreds of digits, and more values or levels than a recipe can have, whether they
are written out (seen while it is read, so that the time is bounded) or come of aliases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from smelt.errors import RecipeError, short

MAX_VALUES = 50_000
MAX_DEPTH = 40
MAX_DIGITS = 400  # a float has at most 309 before its point
TOO_MANY = f"more than {MAX_VALUES} values or {MAX_DEPTH} levels"
MISSING: Any = object()

Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where a value was written: `demo.yaml:12`, or the override itself.

    shipped: in a recipe of smelt's, that no user wrote. under: the value of the recipe below, that this one
    took the place of.
    """

    file: str
    line: int | None = None
    shipped: bool = False
    under: Any = field(default=MISSING, compare=False, repr=False)

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


Places = dict[Steps, Place]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of plain scalars: no sexagesimal numbers, no `yes`/`no`, no dates, `1e-3` a float.

    It counts what it composes and how deep it is, and stops beyond what a recipe can have.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._nodes += 1
        self._depth += 1
        if self._nodes > MAX_VALUES or self._depth > MAX_DEPTH + 1:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=TOO_MANY, problem_mark=mark)
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
        finally:
            self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would not read as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = _Dumper.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", [*"~nN", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", [*"tTfF"]),
    ("int", r"^(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+)$", [*"-+0123456789"]),
    ("float", r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
              r"|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", [*"-+.0123456789"]),
    ("merge", r"^<<$", ["<"]),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)

_CORE = "tag:yaml.org,2002:"
_SCALARS = {_CORE + kind for kind in ("null", "bool", "int", "float", "str")}
_CONSTRUCT = yaml.constructor.SafeConstructor()


class _Reader:
    """Turns YAML nodes into plain values, noting the place of each, within a budget of values."""

    def __init__(self, file: str, shipped: bool) -> None:
        self.file = file
        self.shipped = shipped
        self.places: Places = {}
        self.values = 0

    def fail(self, node: yaml.Node, message: str) -> RecipeError:
        return RecipeError(f"{self.file}:{node.start_mark.line + 1}: {message}")

    def place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1, self.shipped)

    def value(self, node: yaml.Node, path: Steps) -> Any:
        """What a node holds; notes the line of everything in it."""
        self.values += 1
        if self.values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise self.fail(node, f"{TOO_MANY} (aliases count each time)")
        self.places.setdefault(path, self.place(node))
        tag = node.tag
        if isinstance(node, yaml.MappingNode) and tag == _CORE + "map":
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and tag == _CORE + "seq":
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and tag in _SCALARS:
            return self.scalar(node)
        raise self.fail(node, f"the tag {short(tag, 80)!r} is not allowed in a recipe")

    def scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.removeprefix(_CORE)
        if kind == "str":
            return node.value
        if len(node.value) > MAX_DIGITS:  # and Python would not print the number
            raise self.fail(node, f"a number of {len(node.value):,} characters: {short(node.value, 40)}")
        try:
            return getattr(_CONSTRUCT, f"construct_yaml_{kind}")(node)
        except (ValueError, KeyError) as error:
            raise self.fail(node, f"{node.value!r} is not a YAML {kind}") from error

    def mapping(self, node: yaml.MappingNode, path: Steps) -> dict[str, Any]:
        """A mapping as a dict, `<<` merged below its own keys; RecipeError for a key that is there twice."""
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.fail(key_node, "a key must be a plain word")
            if key_node.tag == _CORE + "merge":
                merged.update(self.merge(value_node, path))
                continue
            key = key_node.value
            if key in found:
                raise self.fail(key_node, f"{short(dotted((*path, key)), 80)} is given twice")
            self.places[(*path, key)] = self.place(key_node)
            found[key] = self.value(value_node, (*path, key))
        return {**merged, **found}

    def merge(self, node: yaml.Node, path: Steps) -> dict[str, Any]:
        value = self.value(node, path)
        if not isinstance(value, dict):
            raise self.fail(node, "`<<` takes a mapping")
        return value


def read_yaml(text: str, file: str, shipped: bool = False) -> tuple[Any, Places]:
    """The value of one YAML document and the place of every key and item in it; RecipeError names file and
    line of what it cannot be."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        what = str(error.problem or error.context)
        told = what if what == TOO_MANY else f"not valid YAML: {short(what)}"
        raise RecipeError(f"{file}{line}: {told}") from error
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise RecipeError(
            f"{file}:{number}: not a text: it holds the character U+{ord(text[error.position]):04X}"
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{file}: not valid YAML: {short(str(error))}") from error
    if node is None:
        return None, {}
    reader = _Reader(file, shipped)
    return reader.value(node, ()), reader.places


def dump_yaml(value: Any) -> str:
    """`value` as YAML that `read_yaml` reads back to the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def dotted(path: Steps) -> str:
    """`path` as people write it: `models.0.epochs`."""
    return ".".join(str(step) for step in path) or "the recipe"
