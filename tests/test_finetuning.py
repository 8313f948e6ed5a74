"""Fine-tuning: what is to stay does so to the bit, over kills and ranks; rates by layer; keys and plans."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from typer.testing import CliRunner

from learning_toy import CLASSES, hashes, images_of, job, make_data, make_selection, run_job, run_stage
from smelt.artifacts import results
from smelt.artifacts.checkpoint import read_tensors
from smelt.cli import app
from smelt.errors import DataError, RecipeError
from smelt.files import committed
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.work import Work
from smelt.learning import setup
from smelt.learning.config import TrainSettings
from smelt.learning.extraction import extractor
from smelt.learning.finetuning import Learning
from smelt.learning.optimisation import learning_rate_at, make_optimiser, set_learning_rate
from smelt.models import wouldfit
from smelt.models.backbones import build, head_names
from smelt.models.layers import first_stages, layers, rate_scales, still
from smelt.models.preprocessing import MEAN, STD
from smelt.models.trial import Net, judge
from smelt.recipe.borrowed import borrowed
from smelt.report import sections_learn
from smelt.verbs.checks import startweights
from test_loop import make_loop
from test_plan_check import asked
from test_train import ended

FINE = {"epochs": 4, "head_epochs": 1, "layer_decay": 0.7, "frozen_stages": 1, "warmup_epochs": 1}
INPUTS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_selection(tmp_path_factory.mktemp("selection"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a resnet8 with seven classes, and what they want to be shown, from another tool."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(42)
    state = {f"module.{n}": v.clone() for n, v in build("resnet8", 7, image_size=16).state_dict().items()}
    for value in state.values():  # so that no branch begins at zero
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    torch.save({"state_dict": state, "epoch": 3}, folder / "some.pth")
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": INPUTS}))
    return folder / "some.pth"


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, data: Path, selection: Path, weights: Path
) -> dict[str, Path]:
    """By optimiser: a training with all of it, never disturbed."""
    torch.set_num_threads(1)
    return {
        name: run_job(fine(tmp_path_factory.mktemp(name), name, data, selection, weights))
        for name in ("sgd", "adamw")
    }


def fine(folder: Path, optimiser: str, data: Path, selection: Path, weights: Path, **rest: Any) -> Path:
    rate = 0.05 if optimiser == "sgd" else 0.003
    settings = {**FINE, "optimiser": optimiser, "learning_rate": rate, "weights": str(weights), **rest}
    return job(folder, settings, catalogue=data, selection=selection)


def given(weights: Path) -> dict[str, Tensor]:
    state = torch.load(weights, weights_only=True)["state_dict"]
    return {name.removeprefix("module."): value for name, value in state.items()}


# The whole stage


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_kills_change_nothing(
    optimiser: str, tmp_path: Path, data: Path, selection: Path, weights: Path, undisturbed: dict[str, Path]
) -> None:
    """Within the head's epoch, at the step where the rest begins to learn, and behind it."""
    folder = fine(tmp_path, optimiser, data, selection, weights)
    for moment in ("train:step:2", "checkpoint:tensors:4", "train:step:4", "train:step:5", "train:step:14"):
        assert ended(folder, moment) == -signal.SIGKILL, moment
    for leftover in (folder / "out").rglob(".*.tmp"):
        leftover.unlink()
    assert ended(folder) == 0
    assert hashes(folder / "out") == hashes(undisturbed[optimiser])


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_what_is_frozen_stays_and_the_rest_learns(
    optimiser: str, weights: Path, undisturbed: dict[str, Path]
) -> None:
    begun = given(weights)
    for file in ("model", "ema"):
        trained = read_tensors(undisturbed[optimiser] / f"{file}.safetensors")
        for name, value in trained.items():
            if name.startswith(("conv1.", "bn1.")):
                assert torch.equal(value, begun[name]), name
            elif not name.startswith("fc."):
                assert not torch.equal(value, begun[name]), name


def test_the_head_alone(tmp_path: Path, data: Path, selection: Path, weights: Path) -> None:
    folder = job(
        tmp_path,
        {"epochs": 2, "head_epochs": 2, "weights": str(weights)},
        catalogue=data,
        selection=selection,
    )
    trained, begun = read_tensors(run_job(folder) / "model.safetensors"), given(weights)
    assert not torch.equal(trained["fc.weight"], setup.new_model(settings(), CLASSES).fc.weight)  # type: ignore[union-attr,arg-type]
    for name in trained.keys() - {"fc.weight", "fc.bias"}:
        assert torch.equal(trained[name], begun[name]), name


@pytest.mark.slow
def test_ranks(tmp_path: Path, data: Path, selection: Path, weights: Path) -> None:
    """Three: the mean of three equal statistics is not always the same to the bit, so there must be none."""
    rest = {"world_size": 3, "batch_size": 40, "frozen_stages": 2}
    out = run_job(fine(tmp_path / "a", "sgd", data, selection, weights, **rest))
    trained, begun = read_tensors(out / "model.safetensors"), given(weights)
    for name, value in trained.items():
        kept = name.startswith(("conv1.", "bn1.", "layer1."))
        assert kept == (name in begun and torch.equal(value, begun[name])) or "num_batches" in name, name
    again = fine(tmp_path / "b", "sgd", data, selection, weights, **rest)
    assert ended(again, "train:step:5") != 0
    for leftover in again.rglob(".*.tmp"):
        leftover.unlink()
    assert hashes(run_job(again)) == hashes(out)


def test_what_was_loaded_is_written(undisturbed: dict[str, Path]) -> None:
    out = undisturbed["sgd"]
    told = json.loads((out / "weights.json").read_text())
    assert told["how"] == "by name, below 'module.'" and told["where"] == "state_dict"
    assert told["left"] == {"fc.weight": "7 classes there, 4 here", "fc.bias": "7 classes there, 4 here"}
    assert sorted(told["unused"]) == ["module.fc.bias", "module.fc.weight"]
    assert "layer3.0.conv2.weight" in told["loaded"] and str(out) not in json.dumps(told)
    info = json.loads((out / "model.json").read_text())
    assert (info["mean"], info["std"]) == (INPUTS["mean"], INPUTS["std"])


def test_predictions_are_shown_images_as_training_was(
    tmp_path: Path, data: Path, undisturbed: dict[str, Path]
) -> None:
    import numpy as np

    view = {"views": [{"size": 16, "resize": 1.0}], "splits": ["val"], "precision": "fp32"}
    out = run_stage(tmp_path, "predict", view, {"catalogue": [data], "train": [undisturbed["sgd"]]})
    scores, _ = results.open_dense(out / "val" / "16x1r1.npy")
    images = torch.from_numpy(images_of((np.arange(40) % CLASSES).astype(np.int32), 1)).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(INPUTS[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        plain = setup.saved_model(undisturbed["sgd"]).eval()((images / 255 - mean) / std)
    np.testing.assert_allclose(scores, plain.numpy(), rtol=2e-3, atol=2e-3)


def test_features_of_a_trained_model(undisturbed: dict[str, Path]) -> None:
    features, inputs, words = extractor(undisturbed["sgd"])
    model: Any = setup.saved_model(undisturbed["sgd"]).eval()
    images = torch.randn(5, 3, 16, 16)
    with torch.inference_mode():
        found = features(images)
        torch.testing.assert_close(model.fc(found), model(images))
    assert inputs.mean == tuple(INPUTS["mean"]) and inputs.size == 16 and "trained here" in words


def test_a_round_that_goes_on_shows_images_alike(
    tmp_path: Path, data: Path, selection: Path, undisturbed: dict[str, Path]
) -> None:
    folder = job(tmp_path, {"epochs": 2}, catalogue=data, selection=selection, start=undisturbed["sgd"])
    info = json.loads((run_job(folder) / "model.json").read_text())
    assert (info["mean"], info["std"]) == (INPUTS["mean"], INPUTS["std"])


def test_the_range_test_starts_from_them_too(
    tmp_path: Path, data: Path, selection: Path, weights: Path
) -> None:
    curves = []
    for rest in ({}, {"weights": str(weights)}, {"weights": str(weights), "frozen_stages": 2}):
        settings = {"learning_rate": "tune", "tune": {"steps": 12}, **rest}
        folder = job(tmp_path / str(len(curves)), settings, catalogue=data, selection=selection)
        told = json.loads((run_job(folder, "tune") / "tune.json").read_text())
        curves.append([loss for _, loss in told["curve"]])
    assert curves[0] != curves[1] != curves[2]


# Parts of a net


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {"backbone": "resnet8", "augment": {"sizes": [16]}, "epochs": 10, "precision": "fp32", **changes}
    )


@pytest.mark.parametrize(
    "name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "convnext_atto", "resnet20"]
)
def test_rates_of_layers_are_timms(name: str) -> None:
    model = build(name, 5, small_stem=False)
    optimiser = make_optimiser(model, settings(layer_decay=0.8, weight_decay=0.02, optimiser="adamw"))
    set_learning_rate(optimiser, 0.01)
    names = {id(p): n for n, p in model.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]}
    expected = {
        names[id(p)]: (0.01 * g["lr_scale"], g["weight_decay"])
        for g in param_groups_layer_decay(model, 0.02, layer_decay=0.8)
        for p in g["params"]
    }
    assert found.keys() == expected.keys() == set(names.values())
    for one, (rate, decay) in found.items():
        assert rate == pytest.approx(expected[one][0], rel=1e-9) and decay == expected[one][1], one


def test_without_layer_decay_the_groups_are_as_ever() -> None:
    model = build("resnet8", 5)
    groups = make_optimiser(model, settings()).param_groups
    assert [len(group["params"]) for group in groups] == [
        sum(p.ndim > 1 for p in model.parameters()), sum(p.ndim <= 1 for p in model.parameters())
    ]  # fmt: skip


def test_stages() -> None:
    model = build("tf_efficientnet_lite0", 5, small_stem=False)
    names = set(model.state_dict())
    assert first_stages(model, 0) == set()
    assert first_stages(model, 1) == {n for n in names if n.startswith(("conv_stem.", "bn1."))}
    three = first_stages(model, 3)
    assert three == {n for n in names if n.startswith(("conv_stem.", "bn1.", "blocks.0.", "blocks.1."))}
    with pytest.raises(RecipeError, match=r"frozen_stages is 99, and EfficientNet has \d"):
        first_stages(model, 99)
    assert set(layers(model)) == names and rate_scales(model, 0.5)["classifier.weight"] == 1.0


def test_stages_that_a_net_has_not() -> None:
    with pytest.raises(RecipeError, match="Linear does not say which its layers are"):
        layers(nn.Linear(2, 2))
    verdicts = judge(
        [Net("resnet8", 5, 16, train=(16,), frozen_stages=9), Net("resnet8", 5, 16, layers=True)]
    )
    assert "frozen_stages is 9" in verdicts[0].build and not verdicts[1].build


def test_still_parts_are_the_outermost() -> None:
    model: Any = build("resnet8", 5)
    assert still(model, first_stages(model, 2)) == [model.conv1, model.bn1, model.layer1]
    assert still(model, set(model.state_dict())) == [model]
    assert still(model, {"bn1.weight"}) == []


def test_who_learns_when() -> None:
    model: Any = build("resnet8", 5)
    learning = Learning(model, settings(head_epochs=2, frozen_stages=1))
    fc = {id(p) for p in model.fc.parameters()}
    for epoch in (0, 1):
        learning.begin(epoch)
        learning.train()
        assert {id(p) for p in learning.parameters()} == fc and not learning.buffers()
        assert model.training and not any(
            m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d)
        )
    learning.begin(2)
    learning.train()
    assert len(learning.parameters()) == len(list(model.parameters())) - 3
    norms = {n: m.training for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms.pop("bn1") is False and all(norms.values())
    assert len(learning.buffers()) == 3 * len(norms)


def test_the_schedule_begins_after_the_head() -> None:
    s = settings(head_epochs=3, warmup_epochs=2, epochs=10)
    plain = settings(warmup_epochs=2, epochs=7)
    rates = [learning_rate_at(step, 40, 4, 0.1, s) for step in range(40)]
    assert rates[:12] == [0.1] * 12
    assert rates[12:] == [learning_rate_at(step, 28, 4, 0.1, plain) for step in range(28)]
    alone = settings(head_epochs=10, warmup_epochs=2, epochs=10)
    whole = settings(warmup_epochs=2, epochs=10)
    assert [learning_rate_at(i, 40, 4, 0.1, alone) for i in range(40)] == [
        learning_rate_at(i, 40, 4, 0.1, whole) for i in range(40)
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head_epochs": 11}, "the head's epochs come first"),
        ({"head_epochs": 8, "warmup_epochs": 2}, "the head's epochs come first"),
        ({"weights": "a.pth", "pretrained": True}, "a net starts from one of them"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**changes)


class Small(nn.Module):
    """Two layers that say which they are, a norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.body = nn.Conv2d(6, 8, 3, 2, 1)
        self.fc = nn.Linear(8, CLASSES)

    def group_matcher(self, coarse: bool = False) -> Any:
        return {"stem": r"^stem|norm", "blocks": r"^body"}

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.fc(self.body(self.norm(self.stem(images)).relu()).relu().mean(dim=(2, 3)))
        return found


@pytest.mark.parametrize("decay", [0.5, None])
def test_against_a_naive_loop(decay: float | None, data: Path, tmp_path: Path) -> None:
    """Head first with a norm that keeps still, then rates by layer: in torch's own parts."""
    loop, _, _ = make_loop(
        data, tmp_path, Small(), ema_decay=None, epochs=3, head_epochs=1, layer_decay=decay, warmup_epochs=0
    )
    model = Small()
    groups = [
        {"params": [p], "scale": scale if decay else 1.0, "weight_decay": 1e-4 if p.ndim > 1 else 0.0}
        for part, scale in ((model.stem, 0.25), (model.norm, 0.25), (model.body, 0.5), (model.fc, 1.0))
        for p in part.parameters()
    ]
    optimiser = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    for epoch in range(3):
        rows = loop.data.sampler.epoch(epoch)
        batches = [rows[at : at + 30] for at in range(0, 120, 30)]
        for step, batch in enumerate(loop.data.loader.training(batches, loop.settings.augment, epoch)):
            at = (epoch - 1) * 4 + step
            rate = 0.05 if epoch == 0 else 0.05 * 0.5 * (1 + math.cos(math.pi * at / 8))
            for group in optimiser.param_groups:
                group["lr"] = rate * group["scale"]
            model.train()
            if epoch == 0:
                model.norm.eval()
            pixels = (batch.images.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
                3, 1, 1
            )
            optimiser.zero_grad()
            F.cross_entropy(model(pixels), batch.rows_B % CLASSES).backward()
            if epoch == 0:
                for name, parameter in model.named_parameters():
                    parameter.grad = parameter.grad if name.startswith("fc.") else None
            optimiser.step()
    loop.run()
    for name, value in loop.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-3, atol=3e-5)


# Keys and plans


def resnet18(path: Path, seed: int = 0, classes: int = 3) -> Path:
    torch.manual_seed(seed)
    save_file(timm.create_model("resnet18", num_classes=classes).state_dict(), path)
    return path


def keys(folder: Path, *overrides: str) -> dict[str, str]:
    graph = asked(folder, *overrides).graph
    return {node.id: graph.key(node) for node in graph}


def test_the_content_is_in_the_key_and_the_path_is_not(tmp_path: Path) -> None:
    one = resnet18(tmp_path / "one.safetensors")
    (tmp_path / "elsewhere").mkdir()
    same = Path(shutil.copy(one, tmp_path / "elsewhere" / "same.safetensors"))
    other = resnet18(tmp_path / "other.safetensors", seed=1)
    found = {path: keys(tmp_path, f"train.weights={path}") for path in (one, same, other)}
    plain = keys(tmp_path)
    train = "train/raw/resnet18-0"
    assert found[one] == found[same]
    assert len({found[one][train], found[other][train], plain[train]}) == 3
    assert found[one]["index"] == plain["index"] and found[one]["select/raw"] == plain["select/raw"]
    (tmp_path / "one.json").write_text('{"mean": 0.5, "std": 0.5}')  # decides how images are shown
    assert keys(tmp_path, f"train.weights={one}")[train] != found[one][train]

    node = asked(tmp_path, f"train.weights={same}").graph[train]
    assert node.settings["weights"] == str(same) and "weights" in node.outside
    assert node.external == {"weights": borrowed(str(same), "x")[1]}


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resnet18(tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    node = asked(tmp_path, "train.weights=w.safetensors").graph["train/raw/resnet18-0"]
    assert node.settings["weights"] == str(tmp_path / "w.safetensors")


def test_a_name_of_timms(tmp_path: Path) -> None:
    node = asked(tmp_path, "train.weights=resnet18.a1_in1k").graph["train/raw/resnet18-0"]
    assert node.settings["weights"] == "resnet18.a1_in1k"
    assert node.external == {"weights": "timm resnet18.a1_in1k"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gone.pth", "there is no such file"),
        ("resnet1", "is no file, no model of another run .* did you mean"),
        ("crawl", "is a folder, and no model that smelt trained"),
        ("nowhere:raw/m-0", "there is no folder nowhere"),
    ],
)
def test_what_is_not_there_is_said_with_its_field(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=f"(?s)^rounds.1.models.0.train.weights: .*{words}"):
        asked(tmp_path, f"rounds.1.models.0.train.weights={text}")


def test_an_image_is_no_file_of_weights(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "w.pth", "PNG")
    with pytest.raises(RecipeError, match=r"train.weights: .*safetensors or what torch.save wrote"):
        asked(tmp_path, f"train.weights={tmp_path / 'w.pth'}")


def test_a_model_of_another_run(tmp_path: Path, undisturbed: dict[str, Path]) -> None:
    work = Work(tmp_path / "before")
    work.create()
    graph = Graph([Node("train/raw/m-0", "train")])
    attempt = work.attempt("train", graph.key("train/raw/m-0"))
    shutil.copytree(undisturbed["sgd"], attempt, ignore=shutil.ignore_patterns("scratch"))
    target = work.artifact("train", graph.key("train/raw/m-0"))
    committed.commit(attempt, target, graph.identity(graph["train/raw/m-0"]))
    work.save(graph, {})
    work.finish()
    overrides = ("train.backbone=resnet8", "train.augment.sizes=[16]", f"train.weights={work.folder}:raw/m-0")
    node = asked(tmp_path, *overrides).graph["train/raw/resnet18-0"]
    assert node.settings["weights"] == str(target.resolve())
    assert node.external == {"weights": borrowed(str(target), "x")[1]}
    model, inputs, loaded = setup.begun_model(
        TrainSettings.model_validate(
            {"backbone": "resnet8", "augment": {"sizes": [16]}, "weights": str(target)}
        ),
        CLASSES,
    )
    assert inputs.mean == tuple(INPUTS["mean"]) and loaded is not None and not loaded.left
    ema = read_tensors(target / "ema.safetensors")
    assert all(torch.equal(value, ema[name]) for name, value in model.state_dict().items())
    page = sections_learn.training(Work(work.folder))
    assert page is not None and "7 classes there, 4 here" in str(page)
    with pytest.raises(RecipeError, match=r"has no model 'raw/n-0'; it has raw/m-0"):
        asked(tmp_path, f"train.weights={work.folder}:raw/n-0")


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Files are tried in this process, and what is asked is noted."""
    questions: list[Any] = []

    def fit(nets: list[dict[str, Any]]) -> list[dict[str, str]]:
        questions.append(nets)
        return wouldfit.judge(nets)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(startweights, "_fit", fit)
    return questions


def test_a_plan_refuses_weights_that_do_not_fit(tmp_path: Path, in_process: list[Any]) -> None:
    resnet = resnet18(tmp_path / "w.safetensors")
    found = startweights.about_fit(
        asked(tmp_path, f"train.weights={resnet}", "rounds.1.models.0.train.backbone=resnet34")
    )
    (problem,) = found.problems
    assert problem.startswith("train.weights (-o ") and "the model filtered/resnet18" in problem
    assert f"{resnet} does not fit resnet34: " in problem and "It fits resnet18" in problem
    (note,) = found.notes
    assert note.endswith(": 120 tensors by name")  # how many classes there are is not known yet


def test_what_fits_is_remembered_by_its_content(tmp_path: Path, in_process: list[Any]) -> None:
    one = resnet18(tmp_path / "w.safetensors")
    assert startweights.about_fit(asked(tmp_path, f"train.weights={one}")).notes and len(in_process) == 1
    moved = one.rename(tmp_path / "moved.safetensors")
    found = startweights.about_fit(asked(tmp_path, f"train.weights={moved}"))
    assert (found.problems, found.notes, len(in_process)) == ([], [], 1)
    resnet18(moved, seed=5)
    startweights.about_fit(asked(tmp_path, f"train.weights={moved}"))
    assert len(in_process) == 2


def test_timms_weights_of_another_net(tmp_path: Path, in_process: list[Any]) -> None:
    (problem,) = startweights.about_fit(asked(tmp_path, "train.weights=resnet34.a1_in1k")).problems
    assert "timm's resnet34.a1_in1k does not fit resnet18: 100 of 100 tensors fit by name; it has " in problem
    assert startweights.about_fit(asked(tmp_path, "train.weights=resnet18.a1_in1k")).problems == []


def test_timms_weights_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startweights, "_ask", lambda names: {"resnet18.a1_in1k": "HF_HUB_OFFLINE is set"})
    (problem,) = startweights.about_weights(asked(tmp_path, "train.weights=resnet18.a1_in1k")).problems
    assert "the pretrained weights of resnet18.a1_in1k cannot be had: HF_HUB_OFFLINE is set" in problem
    assert problem.endswith("-o train.weights=null")


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked(tmp_path)  # makes the images
    weights = resnet18(tmp_path / "w.safetensors")
    plan = ["plan", "folder", "-o", f"data.root={tmp_path / 'crawl'}", "-o", f"train.weights={weights}",
            "--work", str(tmp_path / "work")]  # fmt: skip
    good = CliRunner().invoke(app, plan)
    assert good.exit_code == 0 and "weights of the model raw/resnet18" in good.output, good.output
    bad = CliRunner().invoke(app, [*plan, "-o", "train.backbone=resnet8"])
    assert bad.exit_code != 0 and isinstance(bad.exception, RecipeError | SystemExit)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    from smelt.models import pretrained, weights

    monkeypatch.setattr(pretrained, "missing", lambda names: {names[0]: "huggingface.co cannot be reached"})
    with pytest.raises(DataError, match=r"resnet18 cannot be had: huggingface.co cannot be reached\. Run it"):
        weights.load(build("resnet18", 5), "resnet18", "resnet18")
    assert head_names(build("resnet18", 5)) == {"fc.weight", "fc.bias"}


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_kills_change_nothing_where_all_layers_learn_alike(
    optimiser: str, tmp_path: Path, data: Path, selection: Path, weights: Path
) -> None:
    """The head has momenta then, and the rest has none yet."""
    rest = {"layer_decay": None, "frozen_stages": 0, "head_epochs": 2}
    whole = run_job(fine(tmp_path / "a", optimiser, data, selection, weights, **rest))
    folder = fine(tmp_path / "b", optimiser, data, selection, weights, **rest)
    for moment in ("train:step:5", "checkpoint:tensors:8", "train:step:8", "train:step:9"):
        assert ended(folder, moment) == -signal.SIGKILL, moment
    for leftover in (folder / "out").rglob(".*.tmp"):
        leftover.unlink()
    assert ended(folder) == 0
    assert hashes(folder / "out") == hashes(whole)


@pytest.mark.parametrize("classes", [7, 4])
def test_a_head_of_other_classes_begins_at_zero(classes: int, weights: Path) -> None:
    model: Any = setup.begun_model(settings(weights=str(weights)), classes)[0]
    same = torch.equal(model.fc.weight, given(weights)["fc.weight"]) if classes == 7 else False
    assert same == (classes == 7) and bool(model.fc.weight.any()) == (classes == 7)
    assert torch.equal(model.layer1[0].conv1.weight, given(weights)["layer1.0.conv1.weight"])
