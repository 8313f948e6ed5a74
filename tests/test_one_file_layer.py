"""Files are opened, mapped, written and renamed in `smelt/files/`, and by nobody else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "smelt"
CALLS = {
    "open", "io.open", "os.open", "os.fdopen", "os.replace", "os.rename", "os.link",
    "np.load", "np.save", "np.savez", "np.memmap", "np.fromfile", "np.lib.format.open_memmap",
    "pq.read_table", "pq.read_schema", "pq.write_table", "pq.ParquetFile", "pq.ParquetWriter",
    "pa.memory_map", "pa.OSFile",
}  # fmt: skip
METHODS = {"read_text", "read_bytes", "write_text", "write_bytes", "rename"}
EXCEPTIONS = {
    "cli.py": "/dev/null in place of standard streams that are closed",
    "flowchart/lock.py": "the lock: links and exclusive files are its protocol, not content",
    "models/replies.py": "a pipe to the process that asked",
    "recipe/loading.py": "recipes that the package ships, which may lie in an archive",
    "report/page.py": "templates of the package, likewise",
}


def calls(tree: ast.AST) -> list[str]:
    """Calls that only the file layer may make, with their lines."""
    found = []
    for item in ast.walk(tree):
        if not isinstance(item, ast.Call):
            continue
        name = ast.unparse(item.func)
        on_path = isinstance(item.func, ast.Attribute) and item.func.attr in METHODS
        modules = ("atomic.", "opening.")
        if name in CALLS or (on_path and not name.startswith(modules)):
            found.append(f"line {item.lineno}: {name}")
    return found


@pytest.mark.parametrize(
    "file",
    [file for file in sorted(SOURCE.rglob("*.py")) if file.relative_to(SOURCE).parts[0] != "files"],
    ids=lambda file: str(file.relative_to(SOURCE)),
)
def test_nobody_else_touches_files(file: Path) -> None:
    found = calls(ast.parse(file.read_text(encoding="utf-8")))
    if str(file.relative_to(SOURCE)) in EXCEPTIONS:
        assert found, "an exception that is not needed any more"
    else:
        assert not found
