"""The house: sizes of files and functions, one name for one idea, no circles between files."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from test_imports import FILES, SOURCE, imported, module_name, parse

MAX_FILE, MAX_FUNCTION = 400, 50  # lines
SHARED = {"config", "__init__", "__main__"}  # names that mean the same in every folder
OLD_WORDS = ("rung", "valuer", "likeness")  # docs/design.md has the words that stand for them
# names in files that people read: the keys of fusion.json and ladder.json
ALIASES = {
    "fusion/worth.py": {"likeness"},
    "report/sections_fuse.py": {"likeness"},
    "report/findings.py": {"likeness", "rung"},
    "stages/evaluate.py": {"rung"},
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_file_says_what_it_is_for_and_stays_small(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= MAX_FILE
    if tree.body:
        assert (ast.get_docstring(tree) or "").strip(), "its first line says what it is for"
    for item in ast.walk(tree):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (item.end_lineno or item.lineno) - item.lineno + 1
            assert length <= MAX_FUNCTION, f"{item.name} has {length} lines"


def test_a_name_of_a_file_is_one_idea() -> None:
    places = defaultdict(list)
    for file in FILES:
        if file.stem not in SHARED:
            places[file.stem].append(str(file.relative_to(SOURCE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_circles_even_for_types() -> None:
    """As test_imports, but imports in functions and for type checking count."""
    names = {module_name(file): file for file in FILES if file.name != "__init__.py"}
    edges = {name: (set(imported(parse(file))) & set(names)) - {name} for name, file in names.items()}
    for name, file in names.items():  # `from smelt.a import b` where b is a module
        for item in ast.walk(parse(file)):
            if isinstance(item, ast.ImportFrom):
                edges[name] |= {f"{item.module}.{alias.name}" for alias in item.names} & set(names)
    while free := [name for name, targets in edges.items() if not targets & set(edges)]:
        for name in free:
            del edges[name]
    assert not edges, f"these know one another: {sorted(edges)}"


def test_words_of_the_field() -> None:
    for file in FILES:
        words = file.read_text(encoding="utf-8").lower().replace("wrung", "")
        name = str(file.relative_to(SOURCE))
        found = {word for word in OLD_WORDS if word in words} - ALIASES.get(name, set())
        assert not found, f"{name} has {found}"
