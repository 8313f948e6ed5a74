"""Words that no verb takes: what was meant, where somebody can know."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smelt.cli import app
from smelt.errors import SmeltError
from test_meant import place, told

__all__ = ["place"]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("folder run", "the verb comes first: smelt run folder"),
        ("cats.yaml plan --json", "the verb comes first: smelt plan cats.yaml --json"),
        ("folder -o data.root=crawl", "comes first: smelt run folder -o data.root=crawl"),
        ("./crawl", "which is a folder of data, not a recipe: smelt run folder -o data.root=crawl"),
        ("scores.npy", "smelt fuse scores.npy OTHERS --labels LABELS"),
        ("data.root=crawl", "smelt run folder -o data.root=crawl"),
        ("resume", "the same smelt run goes on where it was stopped"),
        ("help", "smelt --help lists the verbs"),
        ("run", "smelt run takes a recipe: smelt run folder -o data.root=FOLDER for images of your own"),
        ("train -o data.root=crawl", "smelt train folder -o data.root=crawl for images of your own"),
        ("run crawl folder", "the folder of the images is a setting: smelt run folder -o data.root=crawl"),
        ("run cats.yaml crawl", "is a setting: smelt run cats.yaml -o data.root=crawl"),
        ("demo folder", "smelt demo takes no recipe: smelt run folder"),
        ("run two words.yaml", "split a name at its spaces: quote it: smelt run 'two words.yaml'"),
        ("run folder --data.root crawl", "settings are given by -o: -o data.root=crawl"),
        ("run folder --data 'my crawl'", "settings are given by -o: -o 'data.root=my crawl'"),
        ("run folder --data-root=crawl", "settings are given by -o: -o data.root=crawl"),
        ("run folder --epochs 3", "-o train.epochs=3"),
        ("run folder --gpu", "-o runtime.device=cuda"),
        ("run folder -d 'my crawl'", "smelt run has no -d; settings are given by -o: -o 'data.root=my"),
        ("run -dcrawl folder", "-o data.root=crawl"),
        ("plan folder -g", "-o runtime.device=cuda"),
        ("run folder -w out", "smelt run has no -w: --work is written in full"),
        ("run folder -x", "smelt run has no -x; it has -o, "),
        ("results -e 3 work/demo", "smelt results has no -e; it has --json, -h"),
        ("recipes -d", "smelt recipes has no -d; it has "),
        ("recipes folder", "smelt recipes takes no words, and folder was given: smelt plan folder shows"),
        ("schema out.json", "smelt schema takes no words, and out.json was given"),
        ("explain -x", "smelt explain has no -x; it has --recipe, -o"),
        ("run folder --output x", "--work x names the work folder"),
        ("run demo --seed 3", "-o seed=3"),
        ("index demo --check", "smelt plan RECIPE --check looks before a run"),
        ("run demo --work ''", "--work: an empty name; is a variable of the shell not set?"),
        ("report", "smelt report takes the work folder of a run; here are work/demo"),
        ("show work/demo", "smelt show work/demo STAGE: which stage? One of synthesise, index, check,"),
        ("show index work/demo", "the work folder comes first: smelt show work/demo index"),
        ("report crawl", "not the work folder of a run: smelt run folder -o data.root=crawl makes one"),
        ("plan folder -o data.root=crawl --work crawl", "is the folder of the images (data.root)"),
        ("plan folder -o data.root=crawl --work crawl/cat", "is a folder of the data set (data.root), which"),
        ("results work/demo", "goes on with it"),
    ],
)  # fmt: skip
def test_what_was_meant_by_words(command: str, words: str, place: Path) -> None:
    (place / "two words.yaml").write_text("extends: folder\n")
    chart = '{"nodes": [{"stage": "evaluate", "key": "k", "id": "evaluate"}]}'
    (place / "work" / "demo" / "flowchart.json").write_text(chart)
    assert words in told(command)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("command", ["plann demo", "run folder --nonsense 3", "frobnicate"])
def test_what_nobody_knows_stays_typers_own(command: str) -> None:
    found: Any = CliRunner().invoke(app, shlex.split(command))
    assert found.exit_code == 2 and not isinstance(found.exception, SmeltError)
    assert "No such" in found.output


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("command", ["demo folder --help", "recipes folder -h", "run two words.yaml --help"])
def test_who_asks_for_help_gets_it_and_nothing_else(command: str, place: Path) -> None:
    (place / "two words.yaml").write_text("extends: folder\n")
    found: Any = CliRunner().invoke(app, shlex.split(command))
    assert found.exit_code == 0 and "Usage:" in found.output
