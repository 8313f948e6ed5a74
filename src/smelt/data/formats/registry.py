"""Which formats there are: a module of this folder with a `FORMAT` is one, called as the setting's value.

Recipes are checked, and their fields explained, without importing what reads images: the declarations are
literals, taken from the sources as setuptools takes a version.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.abc import InspectLoader
from typing import Any, Literal

import smelt.data.formats
from smelt.settings import assigned

AUTO = "auto"  # whichever the folder looks like
# As all of ours are written: to parse whole modules would take most of the time of a plan
_DECLARATION = re.compile(r"^FORMAT = (Format\(\n.*?^\))$", re.MULTILINE | re.DOTALL)
_DECLARES = re.compile(r"^FORMAT\b", re.MULTILINE)


@dataclass(frozen=True)
class Format:
    """What a format says of itself, all of it in literals.

    order: place in recognition, the most particular first, since data sets of one format also look like some
    that come later; the lists of formats go the other way. takes: the settings, parted by blanks, that it
    looks at beside those that all do. draws: whether it holds images out where a data set does not split
    itself. validation: whether people looked at the labels of its own. checked_if: setting → value with any
    of which they did. dear: recognising it reads into files, so it is left where another format is meant.
    """

    summary: str
    order: int
    takes: str = ""
    draws: bool = True
    validation: Literal["checked", "crawled"] = "crawled"
    checked_if: Mapping[str, str] = field(default_factory=dict)
    dear: bool = False


@cache
def formats() -> dict[str, Format]:
    """Name → declaration of every format, the plainest first."""
    found = {}
    for module in pkgutil.iter_modules(smelt.data.formats.__path__, f"{smelt.data.formats.__name__}."):
        spec = importlib.util.find_spec(module.name)
        assert spec is not None and isinstance(spec.loader, InspectLoader)
        source = spec.loader.get_source(module.name) or ""
        if _DECLARES.search(source):
            found[module.name.rpartition(".")[2]] = _declared(module.name, source)
    return dict(sorted(found.items(), key=lambda item: -item[1].order))


def _declared(name: str, source: str) -> Format:
    """The declaration in the text of a module; ValueError names the module where it is no plain one."""
    written = _DECLARATION.search(source)
    call = ast.parse(written[1], mode="eval").body if written else assigned(source, "FORMAT")
    try:
        if not isinstance(call, ast.Call):
            raise ValueError("it is no call of Format")
        values = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
        return Format(*map(ast.literal_eval, call.args), **values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: FORMAT is read and not run, Format(…) of literals: {error}") from error


@cache
def used_by() -> dict[str, tuple[str, ...]]:
    """Setting → the formats that look at it; settings that all look at are not there."""
    taking = {name: one.takes.split() for name, one in formats().items()}
    return {
        setting: tuple(name for name, taken in taking.items() if setting in taken)
        for setting in dict.fromkeys(setting for taken in taking.values() for setting in taken)
    }


def reader(name: str) -> Any:
    """The module of a format.

    `outside(settings, root)`: what it reads, for the data set's identity; `read(settings, root, writer,
    report)`: the images into the catalogue. Where there are any, `recognise(glimpse)`: what it saw in a few
    words, "" where the folder is of another format; `listed_images(settings, root)`: paths that count too.
    """
    return importlib.import_module(f"smelt.data.formats.{name}")
