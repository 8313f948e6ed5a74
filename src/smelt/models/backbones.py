"""Backbones by name: the original line-up, small nets for small images, and everything that timm knows.

What timm does not ship is put together from timm's own blocks. Nothing is downloaded unless `pretrained` is
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import timm
import torch
from timm.models import resnet
from torch import nn

from smelt.errors import RecipeError
from smelt.models import lineup

# How nets of a fixed size are asked to take others: positions are interpolated, windows padded
FLEXIBLE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
SMALL_IMAGE = 64  # pixels: up to here "auto" gives a stem that does not shrink the image

Maker = Callable[..., nn.Module]
ResNet: Any = resnet.ResNet
BasicBlock: Any = resnet.BasicBlock
Bottleneck: Any = resnet.Bottleneck


def _cifar_resnet(
    layers: tuple[int, int, int], *, width: int = 16, block: Any = BasicBlock, **kwargs: Any
) -> nn.Module:
    """He et al. 2016, section 4.2: three stages of 16, 32 and 64 channels behind one 3×3 convolution."""
    # timm's ResNet takes its first width from the deep stem only; the stem itself is replaced
    net: nn.Module = ResNet(block, layers, channels=(width, 2 * width, 4 * width), stem_type="deep",
                 stem_width=width // 2, **kwargs)  # fmt: skip
    net.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
    net.maxpool = nn.Identity()
    net.layer4 = nn.Identity()  # the forward of timm's ResNet asks for four stages
    return net


def _timm(name: str) -> Maker:
    return partial(timm.create_model, name)


_SE = {"attn_layer": "se"}

# The original's names. Sizes at 1,000 classes and where they are published: tests/test_backbones.py.
ORIGINAL: dict[str, Maker] = {
    "resnet50": _timm("resnet50"),
    "resnet101": _timm("resnet101"),
    "resnet152": _timm("resnet152"),
    "resnext152": partial(ResNet, Bottleneck, (3, 8, 36, 3), cardinality=32, base_width=4),
    "resnest269": _timm("resnest269e"),
    # 152 layers, the 7×7 convolution of the stem replaced by three 3×3: 154 in all
    "se_resnet154": partial(
        ResNet, Bottleneck, (3, 8, 36, 3), stem_type="deep", stem_width=32, block_args=_SE
    ),
    "senet154": _timm("legacy_senet154"),
    "se_resnext152": partial(ResNet, Bottleneck, (3, 8, 36, 3), cardinality=32, base_width=4, block_args=_SE),
    "efficientnet_b0": _timm("efficientnet_b0"),
    "efficientnet_b4": _timm("efficientnet_b4"),
}

# For 32 to 64 pixels and a CPU
SMALL: dict[str, Maker] = {
    "resnet8": partial(_cifar_resnet, (1, 1, 1)),
    "resnet14": partial(_cifar_resnet, (2, 2, 2)),
    "resnet20": partial(_cifar_resnet, (3, 3, 3)),
    "se_resnet14": partial(_cifar_resnet, (2, 2, 2), block_args=_SE),
    "resnext20": partial(_cifar_resnet, (2, 2, 2), block=Bottleneck, cardinality=4, base_width=16),
}

PRESETS = {**ORIGINAL, **SMALL}
_COMPOSED = {"resnext152", "se_resnet154", "se_resnext152", *SMALL}


def build(
    name: str,
    num_classes: int,
    *,
    small_stem: bool | Literal["auto"] = "auto",
    image_size: int = 224,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    pretrained: bool = False,
) -> nn.Module:
    """The net called `name` with `num_classes` outputs: images (B, 3, S, S) to logits (B, C).

    small_stem: a stem of stride 1 without pooling, for images up to 64 pixels ("auto": by `image_size`).
    drop_rate, drop_path_rate: passed on where they are not 0. Raises RecipeError for an unknown name and
    for what the net cannot do.
    """
    options: dict[str, Any] = {"num_classes": num_classes}
    if drop_rate:
        options["drop_rate"] = drop_rate
    if drop_path_rate:
        options["drop_path_rate"] = drop_path_rate
    if pretrained:
        require_weights(name)
        options["pretrained"] = True
    maker = PRESETS.get(name) or _by_timm_name(name, image_size, options)
    try:
        model = maker(**options)
    except TypeError as error:
        raise RecipeError(f"backbone {name} does not take one of {sorted(options)}: {error}") from error
    assert isinstance(model, nn.Module)
    wanted = image_size <= SMALL_IMAGE if small_stem == "auto" else small_stem
    if wanted and name not in SMALL and not _shrink_stem(model) and small_stem is True:
        raise RecipeError(f"backbone {name} has no stem that can be made small; set small_stem: false")
    return model


def require_weights(name: str) -> Any:
    """timm's account of the pretrained weights of the net; RecipeError where nobody published any, with the
    tags of those that there are."""
    timms = timm_name(name)
    if timms is None or (name not in PRESETS and not timm.is_model(name)):
        raise RecipeError(f"backbone {name}: no pretrained weights exist; set pretrained: false")
    config = timm.models.get_pretrained_cfg(timms)
    if config is None or not config.has_weights:
        others = timm.list_pretrained(f"{timms.partition('.')[0]}.*")
        rest = f"take one of {', '.join(others[:8])}" if others else "set pretrained: false"
        raise RecipeError(f"backbone {name}: no pretrained weights exist under that name; {rest}")
    return config


def timm_name(name: str) -> str | None:
    """What timm calls the net; None for one that is smelt's own."""
    maker = PRESETS.get(name)
    if name in _COMPOSED:
        return None
    return str(maker.args[0]) if isinstance(maker, partial) else name


def _by_timm_name(name: str, image_size: int, options: dict[str, Any]) -> Maker:
    if not timm.is_model(name):
        raise RecipeError(lineup.unknown(name) or f"this version of timm has no {name!r}")
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.fixed_input_size:
        return _timm(name)
    return partial(_flexible, name, img_size=image_size)


def _flexible(name: str, **options: Any) -> nn.Module:
    """A net that is made for one size of image, such that it takes other sizes too where timm can do that.

    At the size that it is made for, the same numbers come out in every bit.
    """
    state = torch.get_rng_state()
    for flexible in FLEXIBLE:
        try:
            net: nn.Module = timm.create_model(name, **options, **flexible)
        except TypeError as error:
            if not any(option in str(error) for option in flexible):
                raise
            torch.set_rng_state(state)
        else:
            return net
    raise AssertionError("the last way has no option that could be refused")


def _shrink_stem(model: nn.Module) -> bool:
    """Make the first convolution 3×3 with stride 1 and leave the pooling out; False if there is none."""
    pooling = getattr(model, "maxpool", None)
    if isinstance(pooling, nn.Module) and hasattr(model, "conv1"):  # ResNet and its kin
        _small_first_convolution(model, "conv1")
        model.add_module("maxpool", nn.Identity())
        return True
    stem = getattr(model, "conv_stem", None)
    if isinstance(stem, nn.Conv2d):  # EfficientNet and its kin
        stem.stride = (1, 1)
        return True
    layer0 = getattr(model, "layer0", None)
    if isinstance(layer0, nn.Sequential) and hasattr(model, "pool0"):  # the first SENets
        _small_first_convolution(layer0, "conv1")
        model.add_module("pool0", nn.Identity())
        return True
    return False


def _small_first_convolution(parent: nn.Module, name: str) -> None:
    first: Any = getattr(parent, name)
    if not isinstance(first, nn.Conv2d):  # a deep stem, a sequence, is 3×3 already
        first[0].stride = (1, 1)
        return
    small = nn.Conv2d(first.in_channels, first.out_channels, 3, 1, 1, bias=first.bias is not None)
    if first.kernel_size == (3, 3):
        small.weight = first.weight
    else:
        nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    setattr(parent, name, small)


def num_parameters(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def heads(model: nn.Module) -> list[nn.Module]:
    """The layers that have the classes as outputs: one, or several that the net averages; [] if unknown."""
    classifier = getattr(model, "get_classifier", None)
    found: Any = classifier() if callable(classifier) else getattr(model, "last_linear", None)
    return [
        head
        for head in (found if isinstance(found, tuple | list) else [found])
        if isinstance(head, nn.Module)
    ]


def head_names(model: nn.Module) -> set[str]:
    """Names, in the state dict, of the tensors of the last layers."""
    last = {id(head) for head in heads(model)}
    return {
        f"{name}.{key}"
        for name, module in model.named_modules()
        if id(module) in last
        for key in module.state_dict()
    }


@torch.no_grad()
def clear_heads(model: nn.Module) -> None:
    """Set the last layers to zero, as for fine-tuning (Kolesnikov et al. 2020, Big Transfer): a new head at
    random, and some nets' are large, sends noise into layers that know something."""
    for head in heads(model):
        for value in head.parameters():
            value.zero_()


def stem_names(model: nn.Module) -> set[str]:
    """Names of the tensors of a first layer that was made for small images; none where it was not."""
    for name in ("conv1", "layer0.conv1"):
        try:
            first = model.get_submodule(name)
        except AttributeError:
            continue
        small = isinstance(first, nn.Conv2d) and first.kernel_size == (3, 3) and first.stride == (1, 1)
        return {f"{name}.{key}" for key in first.state_dict()} if small else set()
    return set()
