"""Every command and code block of the README and of docs/ runs, every YAML block is a recipe, every link
leads somewhere, and tables that repeat the code agree with it.

A block that cannot run in a test says why in a comment before it, `<!-- not run: reason -->`; its commands
are still parsed and its recipes unfolded. `<!-- file: NAME -->` names the file that a YAML block stands for.
Commands run on tiny data, with overrides that make every training tiny.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from PIL import Image

from smelt import errors
from smelt.cli import app
from smelt.data.config import ViewSettings
from smelt.recipe import loading
from smelt.recipe.schema import Recipe
from smelt.recipe.unfolding import unfold
from smelt.stages.table import STAGES

ROOT = Path(__file__).resolve().parent.parent
DRAWN = {"design.md", "log.md"}  # a drawing, and records of what was run: only their links are tested
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name not in DRAWN)]
LINKED = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"sh", "python", "yaml", "text"}
SHRINK = (
    "train.backbone=resnet8", "train.epochs=2", "train.warmup_epochs=0", "train.augment.sizes=[24]",
    "train.threads=1", "predict.views=[{size: 24}, {size: 32, crops: 5}]", "predict.threads=1",
    "fuse.genetic.generations=3", "fuse.bootstrap=100",
)  # fmt: skip
CLASSES = ("persian cat", "siamese cat", "tabby cat")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, line and language, and what the comment before it says."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str
    file: str

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    before, lines = "", page.read_text(encoding="utf-8").splitlines()
    i = 0
    while i < len(lines):
        if lines[i].startswith("```"):
            end = next(j for j in range(i + 1, len(lines)) if lines[j] == "```")
            not_run, file = (_comment(before, name) for name in ("not run", "file"))
            text = "\n".join(lines[i + 1 : end]) + "\n"
            yield Block(page, i + 2, lines[i][3:].strip(), text, not_run, file)
            before, i = "", end
        elif lines[i].strip():
            before = lines[i]
        i += 1


def _comment(line: str, name: str) -> str:
    found = re.fullmatch(rf"<!-- {name}: (.+) -->", line.strip())
    return found.group(1) if found else ""


def commands(text: str) -> list[list[str]]:
    """The words of each command of a shell block that is a list of plain commands."""
    return [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines() if line]


ALL = [block for page in PAGES for block in blocks(page)]
MARKED = [block for block in ALL if block.language == "sh" and block.not_run]


# Data under the names that the pages use


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages take to be there, and a `smelt` that makes trainings tiny."""
    folder = tmp_path_factory.mktemp("docs")
    _crawled(folder / "crawl")
    _listed(folder / "listed")
    _webvision(folder / "webvision")
    _cifar(folder / "cifar")
    _scores(folder)
    _command(folder / "bin")
    for block in ALL:
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
    return folder


def _picture(rng: np.random.Generator, label: int) -> Image.Image:
    """A few pixels of the class's colour in much noise."""
    pixels = rng.integers(0, 120, (40, 48, 3))
    pixels[..., label % 3] += 100
    return Image.fromarray(pixels.astype(np.uint8))


def _crawled(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            shown = label if number else label + 1  # the first of each class is of another
            _picture(rng, shown).save(folder / name / f"{number:04d}.jpg")
    shutil.copy(folder / CLASSES[0] / "0003.jpg", folder / CLASSES[0] / "copy.jpg")
    shutil.copy(folder / CLASSES[0] / "0004.jpg", folder / CLASSES[1] / "copy.jpg")
    (folder / CLASSES[2] / "broken.jpg").write_bytes(b"<html>not found</html>")


def _listed(folder: Path) -> None:
    """The CSV as the page shows it, with the images that it names."""
    shown = next(block.text for block in ALL if block.text.startswith("path,label"))
    folder.mkdir()
    (folder / "images.csv").write_text(shown, encoding="utf-8")
    rng = np.random.default_rng(1)
    for line in shown.splitlines()[1:]:
        path = folder / line.partition(",")[0]
        path.parent.mkdir(exist_ok=True)
        _picture(rng, 0).save(path)


def _webvision(folder: Path) -> None:
    from smelt.data.synthetic.config import SyntheticSettings
    from smelt.data.synthetic.generate import generate

    folder.mkdir()
    settings = SyntheticSettings(
        classes=3, abstract_classes=0, train_images=24, val_images=6, test_images=6, max_side=64
    )
    generate(folder, settings)


def _cifar(folder: Path) -> None:
    """`cifar10n.npz` as the page tells of it: one sheet of training, one of test."""
    folder.mkdir()
    labels = np.arange(2500) % 10
    tiles = np.repeat(labels * 25, 32 * 32 * 3).reshape(50, 50, 32, 32, 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(tiles.transpose(0, 2, 1, 3, 4).reshape(1600, 1600, 3)).save(file, "PNG")
    sheet = np.frombuffer(file.getvalue(), np.uint8)
    np.savez(
        folder / "cifar10n.npz", train_sheet_00=sheet, test_sheet_00=sheet, train_labels_clean=labels,
        test_labels=labels, noisy_worst=(labels + (np.arange(2500) % 4 == 0)) % 10,
        noisy_aggre=labels, class_names=np.array([f"class {label}" for label in range(10)]),
    )  # fmt: skip


def _scores(folder: Path) -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(150) % 10
    np.save(folder / "L.npy", labels)
    for name in "ABC":
        scores = rng.normal(size=(150, 10)) + 2.0 * np.eye(10)[labels]
        np.save(folder / f"{name}.npy", scores.astype(np.float32))
    np.save(folder / "A-test.npy", scores[:40].astype(np.float32))
    np.save(folder / "B-test.npy", scores[40:80].astype(np.float16))
    np.savez(folder / "C-test.npz", scores=scores[80:120].astype(np.float32))


def _command(folder: Path) -> None:
    """`smelt`, with overrides behind every command that takes a recipe."""
    folder.mkdir()
    verbs = "|".join(sorted(name for name, verb in _verbs().items() if _takes_recipe(verb)))
    overrides = " ".join(f"-o {shlex.quote(override)}" for override in SHRINK)
    real = f"{shlex.quote(sys.executable)} -m smelt"
    cases = f'{verbs}) exec {real} "$@" {overrides} ;;\n*) exec {real} "$@" ;;'
    script = f'#!/bin/sh\ncase "$1" in\n{cases}\nesac\n'
    (folder / "smelt").write_text(script, encoding="utf-8")
    (folder / "smelt").chmod(0o755)


def shell(text: str, folder: Path, where: str) -> str:
    """What the commands print; they must all succeed."""
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "HOME": str(folder), "COLUMNS": "120"},
    )  # fmt: skip
    try:
        printed, _ = process.communicate(timeout=280)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    assert process.returncode == 0, f"{where} ended with {process.returncode}:\n{printed}"
    return printed


@pytest.fixture(scope="session")
def ran(place: Path) -> Path:
    """The same folder after `smelt run folder`, whose work folder several pages look into."""
    shell("smelt run folder -o data.root=crawl --quiet", place, "the fixture")
    return place


# What runs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.where}: one of {LANGUAGES}"
        assert not block.not_run or block.language in ("sh", "python"), f"{block.where}: nothing to run"
        assert not block.file or block.language == "yaml", f"{block.where}: only YAML blocks are files"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ran)
    names = _names() if page.stem == "library" else {}
    for block in blocks(page):
        if block.not_run:
            continue
        if block.language == "sh":
            shell(block.text, ran, block.where)
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
    if page.stem == "library":
        _library_is_right(names)
    if page.stem == "own-data":
        _cleaned_list_is_right(ran)
        _sections_are_right(ran / "work" / "cats" / "report.html")


def _names() -> dict[str, Any]:
    """What docs/library.md takes for granted: a model, an optimiser, batches and labels."""
    import torch

    torch.manual_seed(0)
    labels = np.arange(60, dtype=np.int32) % 3
    images = torch.randn(60, 8) + 3 * torch.eye(3, 8)[torch.from_numpy(labels).long()]
    labels[:6] = (labels[:6] + 1) % 3
    model = torch.nn.Linear(8, 3)

    def batches(epoch: int) -> Iterator[tuple[Any, Any, Any]]:
        order = torch.randperm(60, generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(16):
            yield rows, images[rows], torch.from_numpy(labels)[rows].long()

    optimiser = torch.optim.SGD(model.parameters(), 0.5)
    return {"torch": torch, "labels": labels, "model": model, "batches": batches, "optimiser": optimiser}


def _library_is_right(names: dict[str, Any]) -> None:
    assert names["dynamics"]["seen"].tolist() == [3] * 60
    flagged = set(names["suspicious"][:6].tolist())
    assert len(flagged & set(range(6))) >= 5  # the six labels that are wrong
    assert names["images"].num_rows == names["catalogue"].num_rows
    assert names["lists_N5"].shape == (150, 5) and names["again_NC"].shape == (150, 10)
    assert names["top5"] > 0.95 > np.mean(names["lists_N5"][:, 0] == names["given"].labels_N) > 0.7


def _cleaned_list_is_right(folder: Path) -> None:
    lines = (folder / "cleaned.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "path,label,kept,reason"
    reasons = {line.partition(",")[0]: line.rpartition(",")[2] for line in lines[1:]}
    assert reasons.get("tabby cat/broken.jpg", "bad:").startswith("bad:")  # unless it was held out
    assert {"low_fused", ""} <= set(reasons.values())


def _sections_are_right(report: Path) -> None:
    told = re.findall(r"^- \*\*(.+?)\*\*:", (ROOT / "docs/own-data.md").read_text(encoding="utf-8"), re.M)
    assert re.findall(r"<h2>(.+?)</h2>", report.read_text(encoding="utf-8")) == told


@pytest.mark.parametrize("block", MARKED, ids=lambda block: block.where)
def test_commands_that_are_not_run_could_be(
    block: Block, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in commands(block.text):
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.M), f"no target {words[1]}"
            names = [word.partition("=")[0] for word in words[2:]]
            assert all(re.search(rf"^{name} \?=", makefile, re.M) for name in names), names
        elif words[0] == "pip":  # by hand what the Makefile does
            assert f"$(PIP) install --quiet {' '.join(words[2:])}\n" in makefile, words
        else:
            assert words[0] == "smelt", f"{block.where}: who checks {words[0]}?"
            _could_run(words[1:], place)


def _could_run(words: list[str], place: Path) -> None:
    """Parse the command as the command line would; unfold the recipe that it names."""
    if words[0].startswith("-"):
        group = typer.main.get_command(app)
        assert words[0] in {name for parameter in group.params for name in parameter.opts}
        return
    verb = _verbs()[words[0]]
    context = verb.make_context(words[0], words[1:])
    if not _takes_recipe(verb):
        return
    overrides = list(context.params.get("override") or ())
    roots = [text for text in overrides if text.startswith("data.root=")]
    overrides += [f"data.root={place / Path(text.partition('=')[2]).name}" for text in roots]
    data, places = loading.load(context.params["recipe"], overrides)
    assert len(unfold(loading.validate(Recipe, data, places)))


def _verbs() -> dict[str, Any]:
    """The commands; typer carries its own click, so they are no `click.Command`."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def _takes_recipe(verb: Any) -> bool:
    return any(parameter.name == "recipe" for parameter in verb.params)


@pytest.mark.parametrize(
    "block", [block for block in ALL if block.language == "yaml"], ids=lambda block: block.where
)
def test_yaml_blocks_are_recipes(block: Block, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    file = Path(block.file or "block.yaml")
    file.write_text(block.text, encoding="utf-8")
    data, places = loading.load(file)
    assert len(unfold(loading.validate(Recipe, data, places)))


# What repeats the code


def table(page: str, first: str) -> list[list[str]]:
    """Cells of the rows of every table of a page whose head begins with the cell `first`."""
    rows, inside = [], False
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not set(cells[0]) <= {"-", ":"}:
            rows.append(cells)
    assert rows, f"{page} has no table of {first}"
    return rows


def quoted(cell: str) -> list[str]:
    """What is in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def test_every_folder_is_in_the_readme() -> None:
    named = {name.rstrip("/") for row in table("README.md", "folder") for name in quoted(row[0])}
    ignored = {line.strip().strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    top = [p for p in ROOT.iterdir() if p.is_dir() and p.name not in ignored]
    top = [p for p in top if not p.name.startswith(".") or p.name == ".ci"]
    package = [p for p in (ROOT / "src" / "smelt").rglob("*") if p.is_dir() and p.name != "__pycache__"]
    there = {str(p.relative_to(ROOT)) for p in (*top, *package, ROOT / "src" / "smelt")} - {"src"}
    assert named == there


def test_the_ladder_has_its_place_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (inside,) = re.findall(r"<!-- ladder -->\n(.*?)<!-- /ladder -->", text, re.S)
    rows = [line for line in inside.splitlines() if line.startswith("|")]
    assert len(rows) >= 7 and {line.count("|") for line in rows} == {rows[0].count("|")}


def test_every_verb_is_in_the_table() -> None:
    named = [quoted(row[0])[0].split() for row in table("docs/commands.md", "verb")]
    assert {words[1] for words in named} == set(_verbs())
    for words in named:
        verb = _verbs()[words[1]]
        assert ("RECIPE" in words) == _takes_recipe(verb), words
        assert hasattr(verb, "commands") or "Example" in (verb.help or ""), words


def test_exit_codes_are_those_of_the_errors() -> None:
    listed = {int(row[0]) for row in table("docs/commands.md", "code")}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.SmeltError)}
    assert listed == codes | {0, 1, 130}


def test_commands_end_with_the_codes_of_the_table(place: Path) -> None:
    from smelt.flowchart.lock import Lock

    def code(command: str) -> int:
        return subprocess.run(["bash", "-c", command], cwd=place, capture_output=True).returncode

    smelt = f"{shlex.quote(sys.executable)} -m smelt"
    interrupted = "import sys, smelt.cli, smelt.recipe.loading\ndef stop(): raise KeyboardInterrupt\n"
    interrupted += "smelt.recipe.loading.shipped = stop; sys.argv = ['smelt', 'recipes']; smelt.cli.main()"
    (place / "held").mkdir(exist_ok=True)
    with Lock(place / "held" / "lock"):
        assert code(f"{smelt} index folder -o data.root=crawl --work held") == 3
    assert code(f"{smelt} recipes") == 0
    assert code(f"{smelt} schema | true; exit ${{PIPESTATUS[0]}}") == 1
    assert code(f"{smelt} plan demo -o trian.epochs=3") == code(f"{smelt} plan --bogus") == 2
    assert code(f"{shlex.quote(sys.executable)} -c {shlex.quote(interrupted)}") == 130


@pytest.mark.slow
def test_artefacts_hold_what_the_table_says(ran: Path) -> None:
    rows = {quoted(row[0])[0]: quoted(row[1]) for row in table("docs/flowchart.md", "stage")}
    assert set(rows) == set(STAGES)
    checked = 0
    for stage, files in rows.items():
        for folder in (ran / "work" / "folder" / "artifacts").glob(f"{stage}-*"):
            for name in files:
                if re.fullmatch(r"[a-z]+(\.[a-z]+|/)", name) and name != "ema.safetensors":
                    assert (folder / name).exists(), f"{stage} has no {name}"
                    checked += 1
    assert checked > 20
    listed = {quoted(row[0])[0].partition("/")[0] for row in table("docs/flowchart.md", "in it")}
    assert {path.name for path in (ran / "work" / "folder").iterdir()} <= listed


@pytest.mark.slow
def test_selection_has_the_columns_of_the_table(ran: Path) -> None:
    import pyarrow.parquet as pq

    path = next((ran / "work" / "folder" / "artifacts").glob("select-*/selection.parquet"))
    named = [quoted(row[0])[0] for row in table("docs/own-data.md", "column")]
    assert pq.read_schema(path).names == named


# The WebVision 2020 recipe

WEBVISION = "docs/webvision2020.md"


def test_every_setting_of_webvision2020_is_explained() -> None:
    data, _ = loading.load("webvision2020")
    told = {quoted(row[0])[0]: row for row in table(WEBVISION, "setting")}
    for name, row in told.items():
        assert row[2] in {"P", "S", "A", "R", "T", "ours"}, name
        if name.startswith("rounds."):
            _, round_name, *keys = name.split(".")
            value = next(one for one in data["rounds"] if one["name"] == round_name)
            for key in keys:
                value = value[key]
        elif name == "predict.views":
            value = ", ".join(ViewSettings(**view).name for view in data["predict"]["views"])
        else:
            value = data
            for key in name.split("."):
                value = value[key]
        if quoted(row[1]):
            assert yaml.safe_load(quoted(row[1])[0]) == value, name
    for name in _leaves({key: data[key] for key in ("data", "dedupe", "train", "predict", "fuse")}, ""):
        assert any(f"{name}.".startswith(f"{known}.") for known in told), f"{name} is not explained"


def _leaves(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _leaves(below, f"{name}.{key}" if name else key)
    else:
        yield name


def test_the_line_up_of_webvision2020_is_explained() -> None:
    data, _ = loading.load("webvision2020")
    listed = [quoted(row[0])[0] for row in table(WEBVISION, "model")]
    for one in data["rounds"]:
        assert [model["name"] for model in one["models"]] == listed
    trials = {name for name in loading.shipped() if name.startswith("trial_")}
    assert {quoted(row[0])[0] for row in table(WEBVISION, "recipe")} == trials


# Links


def headings(page: Path) -> set[str]:
    """Anchors of a page, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in headings(file), f"{page.name} links to {target}: no such heading"
