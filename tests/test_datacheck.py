"""What settings ask of the data that it has not: said by `plan --check`, or right after `index`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smelt.errors import RecipeError
from smelt.flowchart.work import Work
from smelt.recipe import loading as recipes
from smelt.recipe.schema import Recipe
from smelt.recipe.unfolding import unfold
from smelt.stages.index import index
from smelt.verbs import run
from smelt.verbs.checks import precheck, trials
from smelt.verbs.checks.asked import Asked, Found
from smelt.verbs.checks.datacheck import about_data

SECOND = (
    "rounds=[{name: raw, models: [{name: m}]}, "
    "{name: b, select: {method: worst_classes}, models: [{name: m}]}]"
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two classes of twelve images, beside which the commands run."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "crawl" / name).mkdir(parents=True)
        for image in range(12):
            pixels = np.full((8, 8, 3), 90 * number + image, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "crawl" / name / f"{image} {name}.png")
    return tmp_path


def asked(*overrides: str, recipe: str = "folder", indexed: bool = True) -> Asked:
    root = ["data.root=crawl"] if recipe == "folder" else []
    read, places = recipes.load(recipe, [*root, *overrides])
    settings = recipes.validate(Recipe, read, places)
    made = Asked(settings, unfold(settings), Work(Path("work")), places)
    if indexed:
        out = made.work.artifact("index", made.graph.key(made.graph["index"]))
        out.mkdir(parents=True)
        index(settings.data.key_settings(), Path("crawl"), out, lambda event, **fields: None)
    return made


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["submit={}"],
         "submit.split (-o submit={}): test is to be submitted, and the data has no test images; it has "
         "train (22) and val (2): -o submit=null or -o submit.split=val; -o data.test_fraction=0.1"),
        (["submit.split=val"],
         " cannot go into a submission: readers split lines at white space: rename the file"),
        (["fuse.write_scores=[val, test]"],
         "fused scores of test are to be written, and the data has no such images; it has train (22) and val "
         "(2): -o 'fuse.write_scores=[val]'"),
        ([SECOND, "data.val_fraction=0"],
         "worst_classes goes by validation, and the data has no val images; it has train (24): another"),
    ],
)  # fmt: skip
def test_what_the_data_has_not(overrides: list[str], words: str) -> None:
    (told,) = about_data(asked(*overrides))
    assert words in told
    with pytest.raises(RecipeError, match="nothing was begun"):
        precheck.check(asked(*overrides, indexed=False))


@pytest.mark.usefixtures("data")
def test_what_the_data_has_and_what_nobody_knows_yet() -> None:
    assert not about_data(asked("submit={}", indexed=False))
    assert not about_data(asked("fuse.write_scores=[val]", SECOND))


def test_a_data_set_that_is_drawn_is_known_from_its_recipe() -> None:
    (told,) = about_data(asked("submit={}", "synthesise.test_images=0", recipe="demo", indexed=False))
    assert "it has train (5,000) and val (1,250): -o submit=null or -o submit.split=val" in told
    assert "test_fraction" not in told


def test_a_run_ends_after_index(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "about_models", lambda asked: Found())
    monkeypatch.setattr(run, "PRELOAD", ())
    wanted = ["data.root=crawl", "submit={}"]
    with pytest.raises(RecipeError, match="nothing was trained") as caught:
        run.run_until(None, "folder", override=wanted, work=Path("work"), quiet=True)
    assert "test is to be submitted, and the data has no test images" in str(caught.value)
    assert [path.name.partition("-")[0] for path in (data / "work" / "artifacts").iterdir()] == ["index"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "predict.weights=ema",
            "predict.weights is ema and train.ema_decay is null (the default): the model",
        ),
        ("fuse.write_scores=[train]", "fuse.write_scores is ['train'] and predict.splits is ['val', 'test']"),
        (
            "predict.topk.val=5",
            "predict.topk.val is 5 and rounds.1.select.method is worst_classes (-o rounds=",
        ),
    ],
)
def test_settings_that_would_fail_after_training(override: str, words: str) -> None:
    read, places = recipes.load("folder", [SECOND, override])
    with pytest.raises(RecipeError) as caught:
        recipes.validate(Recipe, read, places)
    assert str(caught.value).startswith(f"-o {override}: ") and words in str(caught.value)
