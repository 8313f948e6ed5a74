"""What was meant, where a verb is given something of another kind; mistakes told at the user's own place."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import smelt
from smelt.cli import app
from smelt.errors import RecipeError, SmeltError
from smelt.recipe import loading as recipes
from smelt.recipe.fields import walk
from smelt.recipe.schema import Recipe
from smelt.recipe.yaml_lines import read_yaml


def told(command: str) -> str:
    """The message of a command that the user has to mend."""
    found = CliRunner().invoke(app, shlex.split(command))
    assert isinstance(found.exception, SmeltError) and found.exception.exit_code == 2, found
    return str(found.exception)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as people have it, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    for name in ("crawl/cat", "crawl/dog", "mine/sub", "empty", "scores", "work/demo/artifacts"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "crawl/cat/a.jpg",
        "crawl/dog/b.JPG",
        "images.csv",
        "crawl list.tsv",
        "scores.npy",
        "x.bin",
        "fusion.json",
        "labels.json",
        "w.tar.gz",
        "model.safetensors",
        "scores/a.npy",
        "scores/b.npy",
    ):
        (tmp_path / name).write_bytes(b"")  # fmt: skip
    (tmp_path / "work" / "demo" / "flowchart.json").write_text(json.dumps({"nodes": []}))
    (tmp_path / "work" / "demo" / "recipe.yaml").write_text("name: x\n")
    (tmp_path / "cats.yaml").write_text("extends: folder\nname: cats\ntrain:\n  epochs: 1\n")
    (tmp_path / "mine" / "own.yml").write_text("extends: demo\nname: own\n")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("index crawl", "a folder of data, not a recipe: smelt index folder -o data.root=crawl"),
        ("run crawl/", "smelt run folder -o data.root=crawl"),
        ("index crawl/cat/a.jpg", "an image, not a recipe: smelt index folder -o data.root=crawl/cat"),
        ("run images.csv", "a list, not a recipe: smelt run folder -o data.root=. -o data.format=csv"),
        ("run 'crawl list.tsv'", "'data.lists={all: crawl list.tsv}'"),
        ("run work/demo", "the work folder of a run: smelt report work/demo"),
        ("plan work/demo", "smelt plan work/demo/recipe.yaml --work work/demo"),
        ("plan scores.npy", "smelt fuse scores.npy OTHERS --labels LABELS"),
        ("plan scores", "a folder of score files: smelt fuse scores/*.npy --labels LABELS"),
        ("plan fusion.json", "smelt fuse FILES --use fusion.json"),
        ("plan labels.json", "JSON, not a recipe"),
        ("run w.tar.gz", "an archive, not a recipe"),
        ("run model.safetensors", "a model, not a recipe"),
        ("run x.bin", "a recipe ends in .yaml"),
        ("run empty", "an empty folder"),
        ("run mine", "a recipe in it is mine/own.yml: smelt run mine/own.yml"),
        ("plan cat.yml", "did you mean smelt plan cats.yaml?"),
        ("plan catz.yaml", "did you mean smelt plan cats.yaml?"),
        ("plan cats", "did you mean smelt plan cats.yaml?"),
        ("plan mine/owm.yaml", "did you mean smelt plan mine/own.yml?"),
        ("plan demo.yaml", "called without a suffix: smelt plan demo"),
        ("plan dmo", "did you mean smelt plan demo?"),
        ("plan crowl", "crawl is a folder of data, not a recipe: smelt plan folder -o data.root=crawl"),
        ("plan no/such", "there is no folder no"),
        ("plan ''", "was given an empty name"),
        ("train /dev/null/x.yaml", "there is no folder /dev/null"),
        ("explain train --recipe crawl", "smelt explain --recipe folder -o data.root=crawl"),
        ("report cats.yaml", "takes the work folder of a run, and cats.yaml is a recipe"),
        ("report demo", "demo is a shipped recipe: smelt report work/demo"),
        ("results folder", "folder is a shipped recipe: smelt run folder makes it"),
        ("show work index", "work holds work folders: smelt show work/demo"),
        ("verify work/demo/artifacts", "lies in a work folder: smelt verify work/demo"),
        ("clean crawl", "is a folder, and not the work folder of a run"),
        ("report images.csv", "is not a folder"),
    ],
)  # fmt: skip
def test_what_was_meant(place: Path, command: str, words: str) -> None:
    message = told(command)
    assert words in message and len(message) < 600
    offered = re.findall(r"smelt \w+ [\w./-]+", message)
    assert len(set(offered)) == len(offered), "the same suggestion twice"


def test_a_folder_called_as_a_shipped_recipe(place: Path) -> None:
    (place / "folder").mkdir()
    assert "smelt plan folder -o data.root=folder" in told("plan folder")


@pytest.mark.parametrize("name", ["n" * 5000, "n" * 300 + ".yaml", "a/" * 3000 + "x", "\udcff.yaml"])
def test_names_that_no_disk_has(place: Path, name: str) -> None:
    found = CliRunner().invoke(app, ["plan", name])
    assert isinstance(found.exception, RecipeError) and len(str(found.exception)) < 800


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"# only a comment\n", "a recipe is a mapping"),
        ("name: x".encode("utf-16"), "looks like UTF-16"),
        ("name: x".encode("utf-16-le"), "looks like UTF-16"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is no text"),
        (b"name: a\x07b\n", "it holds the character U+0007"),
        (b"name: x\nbad: \xff\n", "mine.yaml:2: is not UTF-8 (byte 0xff)"),
        (b"a" * (1 << 20) + b"bc", "too large for a recipe"),
        (b"- name: x\n", "a recipe is a mapping"),
        (b"extends: [a]\nname: x\n", "mine.yaml:1: extends: takes the name or path of one recipe"),
        (
            b"name: x\nextends: foldr\n",
            "mine.yaml:2: extends: no shipped recipe is called 'foldr', did you mean",
        ),
        (b"name: x\nextends: no.yaml\n", "mine.yaml:2: extends: cannot read the recipe no.yaml"),
        (b"name: x\nextends: empty\n", "mine.yaml:2: extends: no shipped recipe is called 'empty'"),
    ],
)
def test_files_that_are_no_recipe(place: Path, content: bytes, words: str) -> None:
    (place / "mine.yaml").write_bytes(content)
    assert words in told("plan mine.yaml")


def test_what_is_no_plain_file(place: Path) -> None:
    os.mkfifo(place / "pipe.yaml")
    (place / "folder.yaml").mkdir()
    (place / "loop.yaml").symlink_to("loop.yaml")
    assert "is not a plain file" in told("plan pipe.yaml")
    assert "empty folder" in told("plan folder.yaml")
    assert "loop.yaml is a link that goes round in a circle" in told("plan loop.yaml")


def test_recipes_that_start_from_one_another_without_end(place: Path) -> None:
    for number in range(40):
        (place / f"r{number}.yaml").write_text(f"extends: r{number + 1}.yaml\nname: x\n")
    assert "goes over more than 20 recipes" in told("plan r0.yaml")


# Bounded time and memory

MIB = 1 << 20
ATTACKS = {
    "[": "[" * MIB, "{": "{" * MIB, "- ": "- " * (MIB // 2), "? ": "? " * (MIB // 2),
    "anchors in lists": "&a [" + "*a" * (MIB // 4), "ints": "[" + "1," * (MIB // 2) + "]",
    "maps": "[" + "{}," * (MIB // 3) + "]", "keys": "".join(f"k{i}: 1\n" for i in range(MIB // 10)),
    "flow keys": "{" + "a," * (MIB // 2) + "}", "tags": "[" + "!!str 1," * (MIB // 8) + "]",
    "merges": "a: &a {x: 1}\nb: {" + "<<: *a," * (MIB // 7) + "}", "indent": "".join(
        " " * i + "a:\n" for i in range(1400)
    ), "digits": "a: " + "1" * MIB, "hex": "a: 0x" + "f" * MIB, "point": "a: " + "1" * MIB + ".5",
    "tag": "!" * MIB, "anchors": "[" + ",".join(f"&a{i} 1" for i in range(MIB // 12)) + "]",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_small_file_takes_no_time(name: str) -> None:
    began = time.process_time()
    with pytest.raises(RecipeError) as caught:
        read_yaml(ATTACKS[name][: MIB + 50], "a.yaml")
    assert time.process_time() - began < 5  # 13 s before there was a limit
    assert len(str(caught.value)) < 300 and str(caught.value).startswith("a.yaml:")


def test_many_mistakes_take_no_time(place: Path) -> None:
    lines = "".join(f"  k{number}: 1\n" for number in range(20_000))
    (place / "mine.yaml").write_text(f"extends: folder\nname: mine\ntrain:\n{lines}")
    began = time.process_time()
    message = told("plan mine.yaml")
    assert time.process_time() - began < 10
    assert len(message.splitlines()) == 11 and "more" in message.splitlines()[-1]


def test_a_large_recipe_over_another_takes_no_time(place: Path) -> None:
    lines = "".join(f"  k{number}: 1\n" for number in range(20_000))
    (place / "below.yaml").write_text(f"name: x\nextra:\n{lines}")
    (place / "mine.yaml").write_text(f"extends: below.yaml\nextra:\n{lines}")
    began = time.process_time()
    recipes.load("mine.yaml")
    assert time.process_time() - began < 10


def test_long_values_are_cut_in_messages(place: Path) -> None:
    long = "x" * 100_000
    for override in (f"train.epochs={long}", f"train.{long}=1", f"name={long}", f"{long}=1", long,
                     f"train.backbone={long}", "train.epochs=" + "9" * 5000, f"data.format={long}",
                     "train.epochs=0x" + "f" * 300, "train.epochs=" + "9" * 300):  # fmt: skip
        found = CliRunner().invoke(app, ["plan", "demo", "-o", override])
        assert isinstance(found.exception, RecipeError), override[:40]
        assert len(str(found.exception)) < 1500, override[:40]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("plan r/loop.yaml", "r/loop.yaml is a link that goes round in a circle; recipes there: r/own.yaml"),
        (
            "plan r/zzz.yaml",
            "r/zzz.yaml is a link to x, which is not there; recipes there: r/own.yaml",
        ),
        ("plan r/loop", "there is no r/loop; recipes there: r/own.yaml"),
        ("plan r/loop.yaml/x.yaml", "r/loop.yaml/x.yaml is behind links in a circle"),
        ("plan r/zero.yaml", "r/zero.yaml is empty"),
        ("plan r/binary.yaml", "r/binary.yaml is no text"),
        ("plan r/comment.yaml", "has nothing but comments"),
        ("plan r/folder.yaml", "r/folder.yaml is an empty folder"),
        ("plan r/missing.yaml", "recipes there: r/comment.yaml, r/own.yaml"),
        ("plan r/round1.yml", "(round1.yml → round2.yml → round1.yml); take it out of one of them"),
        ("explain --recipe r/owm.yaml train.epochs", "did you mean smelt explain --recipe r/own.yaml?"),
    ],
)
def test_what_was_just_tried_is_not_proposed(place: Path, command: str, words: str) -> None:
    (place / "r" / "folder.yaml").mkdir(parents=True)
    (place / "r" / "loop.yaml").symlink_to("loop.yaml")
    (place / "r" / "zzz.yaml").symlink_to("x")
    files = {"zero.yaml": b"", "binary.yaml": b"\x7fELF\2\1\1\0", "own.yaml": b"extends: folder\n"}
    files |= {"round1.yml": b"extends: ./round2.yml", "round2.yml": b"extends: ./round1.yml"}
    for name, content in files.items():
        (place / "r" / name).write_bytes(content)
    if "comment" in command + words:
        (place / "r" / "comment.yaml").write_bytes(b"# nothing\n")
    if "round" not in command:
        for name in ("round1.yml", "round2.yml"):
            (place / "r" / name).unlink()
    message = told(command)
    assert words in message
    assert f"smelt {command}" not in message, "the same again is no mend"


# Folders of data that are not there


@pytest.mark.parametrize(
    ("command", "start", "words"),
    [
        ("plan mine/root.yaml", "mine/root.yaml:3: data.root: there is no folder crwal (looked for /",
         "this folder has no 'crwal' but 'crawl'. It takes"),
        ("plan mine/beside.yaml", "mine/beside.yaml:3: data.root: there is no folder sub ",
         "; beside the recipe there is mine/sub: -o data.root=mine/sub"),
        ("plan mine/root.yaml -o data.root=no/such", "-o data.root=no/such: data.root: there", "'no'"),
        ("plan folder -o data.root=~/x", "-o data.root=~/x: data.root: ", "the shell left ~ as it is"),
        ("plan mine/none.yaml", "data.root is not set: ", "or in mine/none.yaml: `data: {root: FOLDER}`"),
        ("plan folder -o data.root=", "-o data.root=: data.root is not set", "-o data.root=FOLDER"),
        ("plan folder -o data.root=crawl -o data.format=csv -o data.lists.all=x.csv",
         "-o data.lists.all=x.csv: data.lists.all: cannot read crawl/x.csv", "no such file"),
    ],
)  # fmt: skip
def test_data_that_is_not_there(place: Path, command: str, start: str, words: str) -> None:
    for name, data in (("root", "{\n  root: crwal}"), ("beside", "{\n  root: sub}"), ("none", "{}")):
        (place / "mine" / f"{name}.yaml").write_text(f"extends: folder\ndata: {data}\n")
    (place / "loop").symlink_to("loop")
    message = told(command)
    assert message.startswith(start) and words in message


# The user's own place


def mistake(recipe: str, *overrides: str) -> str:
    data, places = recipes.load(recipe, overrides)
    with pytest.raises(RecipeError) as caught:
        recipes.validate(Recipe, data, places)
    return str(caught.value)


def test_an_override_that_does_not_go_with_a_shipped_value(place: Path) -> None:
    message = mistake("folder", "data.root=crawl", "train.epochs=1", "train.batch_size=32")
    assert message == (
        "-o train.epochs=1: train.epochs is 1 and train.warmup_epochs is 1 (from the recipe folder): the "
        "warm-up has to be shorter than the training; -o train.warmup_epochs=0 is none, or more train.epochs"
    )
    assert "folder.yaml" not in message and "batch_size" not in message


def test_a_file_that_does_not_go_with_a_shipped_value(place: Path) -> None:
    message = mistake("cats.yaml")
    assert message.startswith(
        "cats.yaml:4: train.epochs is 1 and train.warmup_epochs is 1 (from the recipe folder): the warm-up"
    )
    assert mistake("cats.yaml", "train.epochs=9", "train.warmup_epochs=10").startswith(
        "-o train.warmup_epochs=10: "
    )


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (
            ["train.augment.pad_crop=100"],
            "-o train.augment.pad_crop=100: train.augment.pad_crop is 100 and ",
        ),
        (["predict.splits=[val]", "submit={}"], "-o predict.splits=[val]"),
        (
            ["train.world_size=100"],
            "-o train.world_size=100: train.world_size is 100 and train.batch_size is 64 (from",
        ),
        (
            ["rounds.2.teacher.round=nope"],
            "-o rounds.2.teacher.round=nope: rounds.2.teacher.round: names 'nope'",
        ),
        (["rounds.1.name=other"], "-o rounds.1.name=other: rounds.2.teacher.round: names 'filtered'"),
        (
            ["train.momentum=0"],
            "-o train.momentum=0: train.momentum is 0 and train.nesterov is true (from the recipe folder): ",
        ),
        (
            ["synthesise={}", "data.root=crawl"],
            "-o data.root=crawl: data.root is crawl and synthesise is given (-o synthesise={}): ",
        ),
        (
            ["seed=999999", "fuse.seed=3999999999"],
            "-o fuse.seed=3999999999: fuse.seed is 3999999999 and seed is 999999 (-o seed=999999): ",
        ),
        (
            ["rounds.0.models.0.seeds=[]"],
            "-o rounds.0.models.0.seeds=[]: rounds.0.models.0.seeds: an empty list",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_conflicts_name_what_the_user_wrote(overrides: list[str], start: str) -> None:
    message = mistake("folder", *overrides)
    assert message.startswith(start)
    assert ".yaml:" not in message and overrides[0].partition("=")[0] in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epochs=1e20", "to 100,000, not 1e+20"), ("train.epochs=100001", "no training goes over its"),
        ("train.epochs=2.5", "not 2.5"), ("train.batch_size=1e9", "no machine holds a larger batch"),
        ("train.augment.sizes=[1000000]", "a larger input fits no memory"), ("runtime.workers=1e6", "1,024"),
        ("rounds.0.models.0.seeds=[1000]", "1,000, not 1000"), ("fuse.genetic.generations=1e9", "100,000"),
        ("fuse.genetic.elite=20", "fuse.genetic.population is 20 (the default)"),
        ("rounds.2.teacher.top_k=1e8", "no data set has more classes"), ("predict.topk={val: 0}", "to 1"),
        ("train.learning_rate=1e9", "below 1,000"), ("train.threads=1e5", "no machine has more cores"),
        ("predict.views=[]", "an empty list"), ("fuse.methods=[]", "empty"),
        ("train.augment.sizes=[]", "an empty list"), ("predict.splits=[]", "an empty list"),
        ("train.step_at=[]", "an empty list"), ("seed=-1", "from 0 below 1,000,000, not -1"),
        ("runtime.device=cuda:99999999", "Where nets compute"), ("train.weight_decay=.inf", "0 to 10,"),
    ],
)  # fmt: skip
def test_numbers_beyond_reason_and_empty_lists(override: str, words: str) -> None:
    message = mistake("folder", override)
    assert words in message and message.startswith(f"-o {override}: ")


def test_a_slip_is_told_once(place: Path) -> None:
    (place / "mine.yaml").write_text("name: x\nround:\n- {name: a, model: [{name: m}]}\n")
    assert told("plan mine.yaml") == "mine.yaml:2: round: no such key, did you mean 'rounds'?"


def test_an_override_that_the_shell_has_split(place: Path) -> None:
    message = told("plan demo -o rounds=[{name: raw}]")
    assert "-o 'rounds=[{name: raw}]'" in message and "quote" in message
    assert "a bracket is not closed" in told("plan demo -o rounds=[{name:")


def test_sections_that_are_given_a_value(place: Path) -> None:
    assert mistake("folder", "train.augment=5") == (
        "-o train.augment=5: train.augment: takes a section, not 5; -o train.augment.sizes=… sets one of its "
        "fields (sizes, scale, ratio, flip, pad_crop, randaugment)"
    )
    assert "and 35 more: smelt explain train)" in mistake("folder", "train=null")
    message = mistake("folder", "rounds=raw")
    assert (
        "takes a list of sections, not 'raw'; -o rounds.0.name=… sets a field of the first (name, ti"
        in message
    )
    assert "takes a list of whole number" in mistake("folder", "train.augment.sizes=3")


def test_a_section_that_an_override_begins_is_its_own() -> None:
    message = mistake("folder", "train.validation_view.resize=1.5")
    assert (
        message == "-o train.validation_view.resize=1.5: train.validation_view.size: is needed, and missing"
    )


WRONG = ("1e20", "-1", ".nan", "-.inf", "0", "1.5", "text", "[1, 2]", "{a: 1}", "null", "true", "9" * 30)


def test_every_field_takes_a_value_or_says_what_it_takes() -> None:
    """Numbers beyond reason and wrong types over all settings: accepted, or refused at the option."""
    begun, places = recipes.load("folder", ["data.root=crawl"])
    names = {".".join({"N": "0", "NAME": "x"}.get(step, step) for step in e.path) for e in walk(Recipe)}
    refused = 0
    for name in sorted(names):
        for value in WRONG:
            option, data, known = f"{name}={value}", copy.deepcopy(begun), dict(places)
            recipes._apply(data, known, option)
            try:
                recipes.validate(Recipe, data, known)
            except RecipeError as error:
                refused += 1
                lines = str(error).splitlines()
                assert all(line.startswith((f"-o {option}: ", "-o data.root=", "…")) for line in lines), error
                assert "valid dictionary" not in str(error) and ".yaml:" not in str(error)
                assert name.split(".")[0] in str(error)
                if value in (".nan", "-.inf", "9" * 30) and f": {name}: " in str(error):
                    assert re.search(r"takes |input should be|takes leaf", str(error)), error
    assert refused > len(names) * 5


@pytest.mark.parametrize(
    "words, mend",
    [
        (["plan", "folder", "-o", "data.root=x", "train.epochs=3"], "-o train.epochs=3"),
        (["plan", "folder", "data.root=x"], "-o data.root=x"),
        (["plan", "--json", "train.epochs=3", "folder"], "-o train.epochs=3"),
        (["run", "folder", "-o", "data.root", "some where"], "-o 'data.root=some where'"),
        (
            ["plan", "folder", "-o", "data"],
            "that is a section, and an override sets one value: -o data.root=…",
        ),
        (["plan", "-o", "rounds", "folder"], "an override sets one value: -o rounds.0.name=…"),
    ],
)
def test_overrides_that_are_not_given_as_such(words: list[str], mend: str) -> None:
    done = smelt(*words)
    assert done.returncode == 2 and mend in done.stderr and "Traceback" not in done.stderr


def test_a_work_folder_may_be_called_like_an_override(tmp_path: Path) -> None:
    done = smelt("plan", "demo", "--work", "data.root=x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
