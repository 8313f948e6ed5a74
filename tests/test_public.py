"""The public face: its names, what importing it costs, and what wrong arguments are told."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import smelt

NAMES = {
    "Catalogue", "Dynamics", "Fusion", "Recorder", "SmeltError", "Work",
    "class_averaged_topk", "fuse", "noise_rate", "rank", "read_scores", "select",
}  # fmt: skip
LIBRARY = Path(__file__).parent.parent / "docs" / "library.md"


def test_the_names() -> None:
    """A new one is a promise; one that goes breaks somebody's program."""
    assert set(smelt.__all__) == NAMES | {"__version__"}
    assert set(dir(smelt)) >= NAMES
    for name in NAMES:
        assert getattr(smelt, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'train'; it has"):
        smelt.train  # noqa: B018


def test_importing_loads_nothing_else() -> None:
    code = "import sys, json; import smelt; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {name.split(".")[0] for name in json.loads(loaded)} & {"numpy", "pyarrow", "torch", "pydantic"}


def test_the_page_on_the_library_needs_no_other_names() -> None:
    code = [part.split("```")[0] for part in LIBRARY.read_text(encoding="utf-8").split("```python")[1:]]
    assert code
    used = set()
    for item in ast.walk(ast.parse("\n".join(code))):
        if isinstance(item, ast.ImportFrom | ast.Import):
            names = [item.module or ""] if isinstance(item, ast.ImportFrom) else [a.name for a in item.names]
            assert not any(name.startswith("smelt.") for name in names), names
        if isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name) and item.value.id == "smelt":
            used.add(item.attr)
    assert used == NAMES  # and every name is shown


def dynamics(rows: int = 4) -> Any:
    recorder = smelt.Recorder(num_rows=rows)
    recorder.update(torch.arange(rows), torch.eye(rows), torch.arange(rows))
    return smelt.Dynamics(recorder.arrays())


SCORES = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rank: labels of another length": (lambda: smelt.rank(dynamics(), np.zeros(3, int)), r"3|\(4,\)"),
    "rank: labels that are no numbers": (lambda: smelt.rank(dynamics(), ["a", "b", "c", "d"]), "labels"),
    "rank: no dynamics": (lambda: smelt.rank([], np.zeros(4, int)), "Dynamics"),
    "select: cleanness of two dimensions": (lambda: smelt.select([0, 1], np.zeros((2, 2))), r"\(2, 2\)"),
    "select: another length": (lambda: smelt.select([0, 1, 1], np.zeros(2)), r"\(3,\).*\(2,\)"),
    "select: a fraction above 1": (lambda: smelt.select([0, 1], np.zeros(2), fraction=2), "fraction"),
    "noise_rate: labels of another length": (lambda: smelt.noise_rate(SCORES, np.zeros(3, int)), r"\(3,\)"),
    "fuse: images that do not agree": (lambda: smelt.fuse([SCORES, SCORES[:9]], np.zeros(30, int)), "9, 4"),
    "fuse: one dimension": (lambda: smelt.fuse([SCORES[0]], np.zeros(4, int)), r"\(4,\)"),
    "fuse: labels of another length": (lambda: smelt.fuse([SCORES], np.zeros(3, int)), "3"),
    "class_averaged_topk: labels": (lambda: smelt.class_averaged_topk(SCORES, np.zeros(3, int), k=1), "3"),
    "class_averaged_topk: k": (lambda: smelt.class_averaged_topk(SCORES, np.zeros(30, int), k=0), "k"),
    "Recorder: no rows": (lambda: smelt.Recorder(num_rows=-1), "num_rows"),
    "Recorder: shapes": (
        lambda: smelt.Recorder(num_rows=9).update(torch.arange(2), torch.eye(3), torch.arange(3)), r"\(2,\)"),
    "read_scores: labels of another length": (lambda: smelt.read_scores([SCORES], labels=[1, 2]), "30|2"),
    "Catalogue: no such folder": (lambda: smelt.Catalogue.open(Path("no/such")), "no/such"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_told_with_shapes(name: str) -> None:
    call, words = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call()
