"""The table of stages: what a row says is so, ports are held to it, and a new stage is a row and a module."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from smelt.errors import RecipeError
from smelt.recipe.schema import Recipe
from smelt.recipe.unfolding import unfold
from smelt.settings import KeyIfInput, Settings, rule_of
from smelt.stages.table import STAGES, Stage, refuse_ports

SOURCE = Path(__file__).parent.parent / "src"
ROWS = pytest.mark.parametrize("row", STAGES.values(), ids=lambda row: row.name)


def test_the_table_imports_nothing_heavy() -> None:
    code = (
        "import sys, smelt.stages.table; print({'torch', 'numpy', 'pyarrow', 'pydantic'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@ROWS
def test_a_row_says_what_is_there(row: Stage) -> None:
    assert issubclass(row.settings, Settings) and row.summary.endswith(".")
    assert {port.of for port in row.ports.values()} <= set(STAGES)
    assert callable(importlib.import_module(f"smelt.stages.{row.name}").run)
    rules = [rule_of(row.settings, name) for name in row.settings.model_fields]
    assert {rule.port for rule in rules if isinstance(rule, KeyIfInput)} <= set(row.ports)


def asked_ports(row: Stage) -> Iterator[str]:
    """What the module of a stage asks its context for, the first word of families."""
    text = (SOURCE / "smelt" / "stages" / f"{row.name}.py").read_text(encoding="utf-8")
    ways = r"context\.(?:one\(|maybe\(|inputs\[|inputs\.get\()"
    yield from re.findall(rf'{ways}f?"(\w+)', text)


@ROWS
def test_a_module_asks_for_ports_of_its_row(row: Stage) -> None:
    assert set(asked_ports(row)) <= set(row.ports)


# Ports are held to the table when a recipe is read


@pytest.mark.parametrize(
    ("stage", "connected", "words"),
    [
        ("fuse", {"catalogue": ["index"]}, "fuse: port 'predict' needs artefacts of predict, and nothing"),
        ("fuse", {"catalogue": ["index"], "predict": []}, "port 'predict' needs"),
        ("submit", {"catalogue": ["index"], "fused": ["fuse"]}, "no port 'fused'; its ports: catalogue, "
         "dedupe, fuse"),
        ("submit", {"catalogue": ["index"], "fuse": ["rank"]}, "port 'fuse' takes what fuse made, not rank"),
        ("submit", {"catalogue": ["index"], "fuse": ["fuse", "fuse"]}, "takes one artefact of fuse, not 2"),
        ("evaluate", {"catalogue": ["index"], "train": ["train"]}, "no port 'train'; its ports: catalogue, "
         "dedupe, fuse, train/ROUND"),
        ("synthesise", {"data": ["index"]}, "no port 'data'; its ports: none"),
    ],
)  # fmt: skip
def test_a_port_that_is_wrong_is_named(stage: str, connected: dict[str, list[str]], words: str) -> None:
    with pytest.raises(RecipeError) as error:
        refuse_ports(stage, connected)
    assert words in str(error.value)


def test_ports_are_looked_at_when_a_recipe_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.model_validate(
        {"name": "small", "synthesise": {}, "rounds": [{"name": "raw", "models": [{"name": "a"}]}]}
    )
    unfold(recipe)
    row = STAGES["train"]
    less = {name: port for name, port in row.ports.items() if name != "selection"}
    monkeypatch.setitem(cast("dict[str, Stage]", STAGES), "train", replace(row, ports=less))
    with pytest.raises(RecipeError, match="the stage train has no port 'selection'"):
        unfold(recipe)


# A new stage is a row and a module

ROW = """    Stage(
        "tally", 1, "stages.tally.TallySettings",
        "Count the images of each class.",
        {**CATALOGUE, "check": Port("check", optional=True)},
        last=True,
    ),
"""
MODULE = '''"""Stage `tally`: how many images each class has, in `tally.json`."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from smelt.artifacts.catalogue import Catalogue
from smelt.settings import Settings
from smelt.stages.context import Context
from pathlib import Path
import json


class TallySettings(Settings):
    """Settings of the stage `tally`."""

    split: str = Field(default="train", description="Whose images are counted.")


def run(context: Context[TallySettings]) -> None:
    """Write `tally.json`."""
    catalogue = Catalogue.open(context.catalogue)
    labels = catalogue.labels_N[catalogue.rows(context.settings.split)]
    (context.out / "tally.json").write_text(json.dumps(np.bincount(labels[labels >= 0]).tolist()))
'''
RECIPE = """
name: small
synthesise: {classes: 8, abstract_classes: 0, train_images: 200, val_images: 16, test_images: 8}
rounds: [{name: raw, models: [{name: a}]}]
tally: {split: val}
"""


@pytest.fixture(scope="module")
def tallying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of smelt with one more stage, and a recipe that has it."""
    folder = tmp_path_factory.mktemp("tally")
    shutil.copytree(SOURCE / "smelt", folder / "smelt", ignore=shutil.ignore_patterns("__pycache__"))
    table = folder / "smelt" / "stages" / "table.py"
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace(")  # fmt: skip\nSTAGES", f"{ROW})  # fmt: skip\nSTAGES"), encoding="utf-8")
    table.with_name("tally.py").write_text(MODULE, encoding="utf-8")
    (folder / "small.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def smelt(folder: Path, *arguments: str) -> str:
    """What the copy prints; its own workers are started by it, and are of it too."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "smelt", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_stage_is_a_row_and_a_module(tallying: Path) -> None:
    assert "Count the images of each class." in smelt(tallying, "--help")
    assert "tally" in smelt(tallying, "plan", "small.yaml")
    told = smelt(tallying, "explain", "tally.split")
    assert "Whose images are counted." in told and "a change runs tally again" in told
    smelt(tallying, "tally", "small.yaml", "--quiet")
    assert "tally.json" in smelt(tallying, "show", "work/small", "tally")
    (made,) = (tallying / "work" / "small" / "artifacts").glob("tally-*/tally.json")
    assert json.loads(made.read_text(encoding="utf-8")) == [2] * 8
    assert "done" in next(
        line for line in smelt(tallying, "plan", "small.yaml").splitlines() if "tally" in line
    )
