"""Backbones: sizes against their papers, one training step each, small stems, mistakes in names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from smelt.errors import RecipeError
from smelt.models.backbones import ORIGINAL, SMALL, build, head_names, num_parameters

# Millions of parameters at 1,000 classes, and where they are published
PUBLISHED = {
    "resnet50": (25.557, "torchvision's model table"),
    "resnet101": (44.549, "torchvision's model table"),
    "resnet152": (60.193, "torchvision's model table"),
    "resnest269": (110.9, "Zhang et al. 2020 (ResNeSt), table 3"),
    "senet154": (115.09, "Cadene's pretrained-models table; Hu et al. 2018 give no figure"),
    "efficientnet_b0": (5.3, "Tan & Le 2019, table 2"),
    "efficientnet_b4": (19.0, "Tan & Le 2019, table 2"),
    # SE-ResNet-152 of Hu et al. 2018, table 2, has 66.8; the deep stem adds 0.02
    "se_resnet154": (66.8, "Hu et al. 2018, table 2"),
}


def bottleneck_net(
    layers: tuple[int, ...], *, cardinality: int = 1, base_width: int = 64, squeeze: bool = False,
    deep_stem: bool = False, classes: int = 1000,
) -> int:  # fmt: skip
    """Parameters of a ResNet of bottlenecks, counted from the papers' tables and nothing of timm's.

    He et al. 2016 table 1; Xie et al. 2017 table 1 for `cardinality` groups of `base_width` channels; Hu et
    al. 2018 section 3 for `squeeze` with reduction 16. Every convolution is followed by a norm of two
    vectors.
    """

    def convolution(inputs: int, outputs: int, kernel: int, groups: int = 1) -> int:
        return inputs // groups * outputs * kernel * kernel + 2 * outputs

    if deep_stem:  # 3×3 convolutions of 32, 32 and 64 channels in place of the 7×7
        total = convolution(3, 32, 3) + convolution(32, 32, 3) + convolution(32, 64, 3)
    else:
        total = convolution(3, 64, 7)
    inputs = 64
    for stage, depth in enumerate(layers):
        planes = 64 << stage
        width, outputs = planes * base_width // 64 * cardinality, planes * 4
        for block in range(depth):
            total += convolution(inputs, width, 1) + convolution(width, width, 3, cardinality)
            total += convolution(width, outputs, 1)
            if block == 0:
                total += convolution(inputs, outputs, 1)
            if squeeze:
                total += outputs * outputs // 16 + outputs // 16 + outputs // 16 * outputs + outputs
            inputs = outputs
    return total + inputs * classes + classes


COMPOSED = {
    "resnet50": bottleneck_net((3, 4, 6, 3)),
    "resnet152": bottleneck_net((3, 8, 36, 3)),
    "resnext152": bottleneck_net((3, 8, 36, 3), cardinality=32, base_width=4),
    "se_resnet154": bottleneck_net((3, 8, 36, 3), squeeze=True, deep_stem=True),
    "se_resnext152": bottleneck_net((3, 8, 36, 3), cardinality=32, base_width=4, squeeze=True),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield


def test_every_original_is_counted() -> None:
    assert set(ORIGINAL) == set(PUBLISHED) | set(COMPOSED)
    assert set(PUBLISHED) & set(COMPOSED), "the formula is checked against published counts too"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_size(name: str) -> None:
    with torch.device("meta"):
        assert num_parameters(build(name, 1000)) / 1e6 == pytest.approx(PUBLISHED[name][0], rel=0.02)


@pytest.mark.parametrize("name", COMPOSED)
def test_size_by_formula(name: str) -> None:
    with torch.device("meta"):
        assert num_parameters(build(name, 1000)) == pytest.approx(COMPOSED[name], rel=0.002)


def test_formula_gives_published_counts() -> None:
    for name in PUBLISHED.keys() & COMPOSED.keys():
        assert COMPOSED[name] / 1e6 == pytest.approx(PUBLISHED[name][0], rel=0.005)


def test_se_resnet154_has_154_layers() -> None:
    """Convolutions and the classifier, those of squeeze-and-excitation and of short cuts not counted."""
    with torch.device("meta"):
        model = build("se_resnet154", 1000)
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
        and ".se." not in name and "downsample" not in name
    ]  # fmt: skip
    assert len(layers) == 154


@pytest.mark.slow
@pytest.mark.parametrize("name", ORIGINAL)
def test_training_step_with_5000_classes(name: str) -> None:
    model = build(name, 5000, image_size=224)
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    head = next(p for n, p in model.named_parameters() if n in head_names(model))
    before = head.detach().clone()
    logits_BC = model(torch.randn(2, 3, 64, 64))
    assert logits_BC.shape == (2, 5000)
    loss = F.cross_entropy(logits_BC, torch.tensor([0, 4999]))
    loss.backward()
    optimiser.step()
    assert bool(loss.isfinite()) and not torch.equal(head, before)


@pytest.mark.parametrize("name", SMALL)
def test_small_nets_learn_two_images(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, 7, image_size=32)
    assert num_parameters(model) < 500_000
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 6])
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", ["resnet50", "se_resnet154", "senet154", "resnest269", "efficientnet_b0"])
def test_small_stem_keeps_the_size_of_small_images(name: str) -> None:
    """Before the first stage the image has its whole size; at 224 pixels it has a half or a quarter."""
    sides = {}
    for size in (32, 224):
        with torch.device("meta"):
            model = build(name, 10, image_size=size)
        stage = next(m for n, m in model.named_modules() if n in ("layer1", "blocks.0"))
        stage.register_forward_pre_hook(lambda module, inputs: sides.update(last=inputs[0].shape[-1]))
        with torch.device("meta"):
            model.eval()(torch.empty(1, 3, size, size))
        sides[size] = sides["last"]
    assert sides[32] == 32 and sides[224] in (56, 112)


def test_resnet20_is_the_papers() -> None:
    """He et al. 2016, table 6: 0.27 M parameters."""
    assert num_parameters(build("resnet20", 10)) / 1e6 == pytest.approx(0.27, rel=0.02)


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_any_name_of_timm(name: str) -> None:
    model = build(name, 5, image_size=64)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)
    assert head_names(model) == {"head.fc.weight", "head.fc.bias"} or head_names(model) == {
        "head.weight",
        "head.bias",
    }


def test_names_that_cannot_be() -> None:
    with pytest.raises(RecipeError, match=r"did you mean.*resnet50"):
        build("resnet5O", 10)
    with pytest.raises(RecipeError, match="no stem"):
        build("vit_tiny_patch16_224", 10, small_stem=True, image_size=64)
    with pytest.raises(RecipeError, match="pretrained"):
        build("se_resnet154", 10, pretrained=True)


def test_drop_path_is_passed_on() -> None:
    model = build("resnet20", 10, drop_path_rate=0.2)
    assert any(type(module).__name__ == "DropPath" for module in model.modules())
