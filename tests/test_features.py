"""The stage `features`: against a naive computation; bad images, kills, weights from elsewhere, its place."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from conftest import smelt
from learning_toy import CLASSES, COUNTS, SETTINGS, SIZE, hashes, images_of, make_data, run_stage
from smelt.artifacts.checkpoint import write_tensors
from smelt.artifacts.featurestore import Features
from smelt.errors import DataError, RecipeError
from smelt.files.atomic import write_json
from smelt.files.parquet import write_table
from smelt.flowchart.work import Work
from smelt.learning import setup
from smelt.learning.config import TrainSettings
from smelt.models.backbones import build
from smelt.models.preprocessing import MEAN, STD
from smelt.recipe.schema import Recipe
from smelt.recipe.unfolding import unfold
from smelt.settings import Disagreement
from smelt.stages import features as stage
from smelt.stages.config import FeaturesSettings
from smelt.verbs.checks import disk
from smelt.verbs.checks.asked import Asked

PLAIN: dict[str, Any] = {"name": "toy", "model": "raw/m-0", "precision": "fp32", "batch_size": 16}
BAD = (5, 130)
ROWS = sum(COUNTS.values())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), bad=BAD)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A train artefact with the weights that a model begins with."""
    folder = tmp_path_factory.mktemp("train")
    settings = TrainSettings.model_validate(SETTINGS)
    write_tensors(folder / "model.safetensors", setup.new_model(settings, CLASSES).state_dict())
    write_json(folder / "model.json", setup.model_json(settings, CLASSES, "raw"))
    return folder


def made(
    out: Path, data: Path, trained: Path | None, more: Mapping[str, Path] | None = None, **changes: Any
) -> Path:
    ports = {"catalogue": [data], **{name: [path] for name, path in (more or {}).items()}}
    if trained is not None:
        ports["train"] = [trained]
    return run_stage(out, "features", {**PLAIN, **changes}, ports)


def pixels() -> NDArray[np.float32]:
    """All images of the toy data, (N, 3, 16, 16), normalised by the plain formula."""
    images = np.concatenate(
        [
            images_of((np.arange(count) % CLASSES).astype(np.int32), seed)
            for seed, count in enumerate(COUNTS.values())
        ]
    )
    shown = (images.astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)
    return shown.transpose(0, 3, 1, 2).astype(np.float32)


def naive(model: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the last layer is given: caught at its door."""
    net: Any = setup.saved_model(model).eval()
    seen: list[torch.Tensor] = []
    net.get_classifier().register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        net(torch.from_numpy(images))
    return seen[0].numpy()


def test_lines_are_what_the_last_layer_is_given(tmp_path: Path, data: Path, model: Path) -> None:
    found = Features.open(made(tmp_path, data, model), ROWS)
    expected = naive(model, pixels())
    expected[list(BAD)] = 0
    np.testing.assert_allclose(found.values_ND, expected, rtol=2e-3, atol=2e-3)
    assert np.flatnonzero(~found.known_N).tolist() == list(BAD)
    assert found.name == "toy" and found.info["view"] == "16x1r1"
    with open(tmp_path / "bad.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["row"]) for line in lines] == list(BAD) and all(line["reason"] for line in lines)


def test_crops_and_the_mirror_image_are_averaged(tmp_path: Path, data: Path, model: Path) -> None:
    flipped = Features.open(made(tmp_path / "flip", data, model, flip=True)).values_ND
    images = pixels()
    mean = (naive(model, images) + naive(model, images[..., ::-1].copy())) / 2
    np.testing.assert_allclose(np.delete(flipped, BAD, 0), np.delete(mean, BAD, 0), rtol=3e-3, atol=2e-3)
    five = Features.open(made(tmp_path / "five", data, model, crops=5, size=8, resize=2.0)).values_ND
    corners = [images[:, :, top : top + 8, left : left + 8] for top in (0, 8) for left in (0, 8)]
    crops = [images[:, :, 4:12, 4:12], *corners]
    mean = np.mean([naive(model, np.ascontiguousarray(crop)) for crop in crops], axis=0)
    np.testing.assert_allclose(np.delete(five, BAD, 0), np.delete(mean, BAD, 0), rtol=3e-3, atol=2e-3)


def test_a_killed_stage_goes_on_to_the_same_bytes(
    tmp_path: Path, data: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "BLOCK", 32)
    whole = hashes(made(tmp_path / "whole", data, model))
    begun: list[str] = []

    def reach(name: str, start: str) -> None:
        begun.append(start)
        if start == "96" and begun.count("96") == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(stage, "reach", reach)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "killed", data, model)
    assert not (tmp_path / "killed" / "features.json").exists()
    assert hashes(made(tmp_path / "killed", data, model)) == whole
    assert begun == ["0", "32", "64", "96", "96", "128", "160"]


def test_what_check_could_not_read_is_not_tried(tmp_path: Path, data: Path, model: Path) -> None:
    ok = np.ones(ROWS, bool)
    ok[[3, *BAD]] = False
    check = tmp_path / "check"
    check.mkdir()
    columns = {"row": np.arange(ROWS), "ok": ok, "reason": np.where(ok, "", "too_large")}
    write_table(check / "images.parquet", columns)
    found = Features.open(made(tmp_path / "out", data, model, {"check": check}))
    assert np.flatnonzero(~found.known_N).tolist() == [3, *BAD]
    assert (tmp_path / "out" / "bad.csv").read_text().count("too_large") == 3
    plain = Features.open(made(tmp_path / "plain", data, model))
    np.testing.assert_allclose(np.delete(found.values_ND, 3, 0), np.delete(plain.values_ND, 3, 0), rtol=2e-3)


def test_no_features_where_nothing_can_be_read(tmp_path: Path, model: Path) -> None:
    data = make_data(tmp_path / "data", bad=tuple(range(ROWS)))
    with pytest.raises(DataError, match=f"not one of {ROWS} images can be read"):
        made(tmp_path / "out", data, model)


def test_weights_from_a_file_are_the_model(tmp_path: Path, data: Path, model: Path) -> None:
    state = setup.saved_model(model).state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "w.pth")
    there = {"model": None, "weights": str(tmp_path / "w.pth"), "backbone": "resnet8", "size": SIZE}
    found = Features.open(made(tmp_path / "file", data, None, **there))
    assert np.array_equal(found.values_ND, Features.open(made(tmp_path / "own", data, model)).values_ND)
    with pytest.raises(DataError, match=r"w.pth does not fit resnet20"):
        made(tmp_path / "other", data, None, **{**there, "backbone": "resnet20"})


def recipe(features: list[dict[str, Any]], **more: Any) -> Recipe:
    rounds = [{"name": name, "models": [{"name": "m"}]} for name in ("raw", "clean")]
    return Recipe.model_validate(
        {"name": "a", "synthesise": {}, "rounds": rounds, "features": features, **more}
    )


def test_its_place_in_the_flowchart(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"some weights")
    asked = [
        {"name": "late", "model": "clean/m-0"}, {"name": "own", "model": "raw/m-0"},
        {"name": "lite", "weights": str(tmp_path / "w.pth")}, {"name": "hub", "weights": "resnet50.a1_in1k"},
    ]  # fmt: skip
    graph = unfold(recipe(asked))
    assert graph["features/lite"].inputs == {
        "data": ("synthesise",), "catalogue": ("index",), "check": ("check",)
    }  # fmt: skip
    assert graph["features/own"].inputs["train"] == ("train/raw/m-0",)
    known = ("features/lite", "features/hub", "features/own")
    assert graph["rank/raw"].inputs["features"] == known
    assert graph["rank/clean"].inputs["features"] == (*known, "features/late")
    assert "features" not in unfold(recipe([]))["rank/raw"].inputs


def test_content_counts_not_the_path(tmp_path: Path) -> None:
    def key(name: str, content: bytes, **more: Any) -> str:
        (tmp_path / name).write_bytes(content)
        return unfold(recipe([{"name": "f", "weights": str(tmp_path / name), **more}])).key("features/f")

    assert key("a.pth", b"one") == key("b.pth", b"one") != key("c.pth", b"two")
    assert key("a.pth", b"one", size=128) != key("a.pth", b"one") != key("a.pth", b"one", backbone="resnet50")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"weights": "none/such.pth"}, "features.0.weights: none/such.pth: there is no such file"),
        ({"weights": "resnet5O"}, "features.0.weights: resnet5O is no file, no model of another run"),
        ({"weights": "."}, "is a folder, and no model that smelt trained"),
        ({"weights": ".:raw/m-0"}, "features.0.weights: . is not a work folder"),
    ],
)
def test_weights_that_are_not_there(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as error:
        unfold(recipe([{"name": "f", **asked}]))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([{"name": "f"}], "whose features"),
        ([{"name": "f", "model": "raw/x-0"}], "no model of the run (ROUND/MODEL-SEED, such as raw/m-0)"),
        ([{"name": "f", "model": "raw/m-0"}] * 2, "two are called 'f'"),
        ([{"name": "f", "weights": "resnet50", "backbone": "resnet5O"}], "did you mean 'resnet50'"),
    ],
)
def test_what_does_not_go_together(asked: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match="features") as error:
        recipe(asked)
    assert words in str(error.value)


def test_settings_that_disagree() -> None:
    for wrong in ({"model": "raw/m-0", "weights": "x"}, {"weights": "x", "flip": True, "crops": 10}):
        with pytest.raises(ValueError) as error:
            FeaturesSettings.model_validate({"name": "f", **wrong})
        (problem,) = error.value.errors()  # type: ignore[attr-defined]
        assert isinstance(problem["ctx"]["error"], Disagreement)


def test_a_model_of_another_run_by_its_name(tmp_path: Path, model: Path) -> None:
    from smelt.recipe.borrowed import borrowed

    place, known = borrowed(str(model), "features.0.weights")
    assert place == str(model.resolve())
    (model / "note.txt").write_text("no weights")
    assert borrowed(str(model), "features.0.weights") == (place, known)


def crawl(folder: Path) -> Path:
    """A folder a class, six images each, one of them broken."""
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 255, (20, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    (folder / "dog" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    data, weights = crawl(tmp_path / "crawl"), tmp_path / "w.pth"
    torch.save(build("resnet8", 7).state_dict(), weights)
    asked = f"features=[{{name: tiny, weights: {weights}, backbone: resnet8, size: 16, precision: fp32}}]"
    given = ["folder", "-o", f"data.root={data}", "-o", asked, "--work", str(tmp_path / "work")]
    told = smelt("plan", *given, "--check").stdout
    assert "wait  features/tiny" in told and "features tiny: resnet8" in told
    done = smelt("features", *given)
    assert "features/tiny: " in done.stdout and "dim: 64" in done.stdout and "rows: 12" in done.stdout
    found = Work(tmp_path / "work").find("features/tiny")
    assert Features.open(found).known_N.sum() == 11
    weights.rename(tmp_path / "moved.pth")
    given[4] = asked.replace("w.pth", "moved.pth")
    assert "done  features/tiny" in smelt("plan", *given).stdout
    given[4] = asked.replace("w.pth", "moved.pth").replace("resnet8", "resnet20")
    refused = smelt("plan", *given, "--check")
    assert refused.returncode == 2 and "features.0.weights (-o features=[" in refused.stderr
    assert "moved.pth does not fit resnet20" in refused.stderr


def test_the_disk_is_looked_at(tmp_path: Path) -> None:
    """Two bytes a number and one a row, of the rows that are known once the catalogue is there."""
    from smelt.recipe import loading as recipes

    (tmp_path / "w.pth").write_bytes(b"any")
    read, places = recipes.load("demo_short", [f"features=[{{name: f, weights: {tmp_path / 'w.pth'}}}]"])
    one = recipes.validate(Recipe, read, places)
    asked = Asked(one, unfold(one), Work(tmp_path / "work"), places)
    assert one.synthesise is not None
    rows = one.synthesise.train_images + one.synthesise.val_images + one.synthesise.test_images
    (part,) = [
        part for part in disk.estimate(asked, {(0, 0): 1}, {"f": 1280}).parts if part.what == "features"
    ]
    assert part.kept == rows * (2 * 1280 + 1)
    assert (
        not disk.estimate(asked, {(0, 0): 1}).complete
        and disk.estimate(asked, {(0, 0): 1}, {"f": 1}).complete
    )
