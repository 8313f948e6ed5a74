"""Imports point one way, and what must be quick imports nothing heavy."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smelt.stages.table import STAGES

SOURCE = Path(__file__).parent.parent / "src" / "smelt"
FILES = sorted(SOURCE.rglob("*.py"))

# Parts of the package and what each may import of it; nothing else, and never one's equals
BASE = {"errors", "settings", "random", "files", "metrics", "artifacts"}
LEARN = BASE | {"data", "models"}
MAY_IMPORT = {
    "errors": set(),
    "settings": set(),
    "random": set(),
    "files": {"errors"},
    "metrics": {"errors"},
    "artifacts": {"errors", "settings", "random", "files", "metrics"},
    "data": BASE,
    "models": BASE,
    "flowchart": {"errors", "settings", "files", "artifacts"},
    "learning": LEARN,
    "mining": LEARN,
    "fusion": LEARN,
    # its gallery shows what models see
    "report": {"errors", "settings", "files", "metrics", "artifacts", "data", "flowchart"},
    "stages": BASE | LEARN | {"learning", "mining", "fusion"},
    "recipe": BASE | LEARN | {"learning", "mining", "fusion", "stages", "flowchart", "recipes"},
    "verbs": BASE
    | LEARN
    | {"learning", "mining", "fusion", "flowchart", "stages", "recipe", "report", "recipes"},
    "cli": {"errors", "verbs"},
    "__main__": {"cli"},
    "__init__": {"artifacts", "errors", "flowchart", "fusion", "metrics", "mining"},  # the public face
    "recipes": set(),
}

HEAVY = {"torch", "torchvision", "timm", "pyarrow", "sklearn", "scipy", "safetensors", "rich", "jinja2"}


def part_of(file: Path) -> str:
    """`learning` for learning/loop.py, `errors` for errors.py."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all modules that a tree imports, wherever in it."""
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            assert item.level == 0, "imports are absolute"
            assert item.module
            yield item.module
            if item.module == "smelt":
                yield from (f"smelt.{alias.name}" for alias in item.names if alias.name != "__version__")


def at_import(tree: ast.Module) -> Iterator[str]:
    """Names of modules that are imported when the file is: not in functions, not for type checking."""
    pending: list[ast.AST] = [*tree.body]
    while pending:
        item = pending.pop()
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(item, ast.If) and "TYPE_CHECKING" in ast.dump(item.test):
            pending += item.orelse
            continue
        if isinstance(item, ast.Import | ast.ImportFrom):
            yield from imported(item)
        pending += ast.iter_child_nodes(item)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_left(file: Path) -> None:
    part = part_of(file)
    used = {name.split(".")[1] for name in imported(parse(file)) if name.startswith("smelt.")}
    assert used <= MAY_IMPORT[part] | {part}, (
        f"{part} may not import {sorted(used - MAY_IMPORT[part] - {part})}"
    )


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def is_quick(file: Path) -> bool:
    """Whether `smelt plan` loads the file, or may."""
    quick = {
        "errors",
        "settings",
        "random",
        "recipe",
        "flowchart",
        "stages",
        "verbs",
        "cli",
        "__main__",
    }
    if part_of(file) == "stages" and file.stem in STAGES:
        return False  # a stage's own process loads it
    return part_of(file) in quick or file.name == "config.py"


@pytest.mark.parametrize(
    "file", [f for f in FILES if is_quick(f)], ids=lambda file: str(file.relative_to(SOURCE))
)
def test_nothing_heavy_at_the_top(file: Path) -> None:
    roots = {name.split(".")[0] for name in at_import(parse(file))}
    assert not roots & HEAVY


def module_name(file: Path) -> str:
    return ".".join(["smelt", *file.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")


def loaded(files: list[Path]) -> set[str]:
    """Top packages in memory once the modules of `files` are loaded."""
    names = [module_name(file) for file in files if file.name != "__main__.py"]
    code = f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"
    code += "print(sorted({name.split('.')[0] for name in sys.modules}))"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return set(ast.literal_eval(result.stdout))


def test_nothing_heavy_is_loaded_on_the_way() -> None:
    """What quick files import may itself import something heavy: load them all and look."""
    assert not loaded([file for file in FILES if is_quick(file)]) & (HEAVY - {"rich"})  # comes with typer


def test_the_report_reads_files_and_loads_no_models() -> None:
    found = loaded([file for file in FILES if part_of(file) == "report"])
    assert not found & {"torch", "torchvision", "timm", "sklearn", "scipy", "safetensors"}


def test_no_cycles() -> None:
    """No two files import one another, however long the way, when they are loaded."""
    names = {module_name(file): file for file in FILES}
    edges = {
        name: {target for target in at_import(parse(file)) if target in names and target != name}
        for name, file in names.items()
    }
    while free := [name for name, targets in edges.items() if not targets & set(edges)]:
        for name in free:
            del edges[name]
    assert not edges, f"these import one another: {sorted(edges)}"


def test_package_files_are_empty() -> None:
    for file in FILES:
        if file.name == "__init__.py" and file.parent != SOURCE:
            assert not parse(file).body, f"{file} has code"
