"""Weights from elsewhere for a net: from a file, an artefact of training, or what timm has under a name.

    loaded = load(net, "tf_efficientnet_lite0", Path("lite0.pth"))  # fills the net, or DataError says why not
    loaded.inputs  # how those weights want to be shown images

Nothing here asks a network but `from_timm`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from smelt.errors import DataError, SmeltError, printable, short
from smelt.files.atomic import read_json
from smelt.models import backbones, lineup, pretrained
from smelt.models.matching import COUNTED, Match, match
from smelt.models.preprocessing import Inputs, net_beside, said, said_beside
from smelt.models.weightfile import MODEL, Held, metadata, read, weights_in

SHOWN = 3  # names in a message
# timm's functions that bring others' names and shapes into its own, by the module of a net
FILTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
# TensorFlow's own of EfficientNet-Lite; timm's configurations say .5 and .5
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
# Nets that a file is tried with where none is named, by what is in the names of its family's tensors
FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"layer1.0.conv1", ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
                         "wide_resnet50_2", "resnext101_32x8d", "wide_resnet101_2")),
    (r"cls_token", ("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224",
                    "vit_large_patch16_224", "vit_base_patch32_224", "vit_small_patch14_dinov2",
                    "vit_base_patch14_dinov2", "vit_small_patch14_reg4_dinov2")),
    (r"class_token", ("vit_base_patch16_224", "vit_base_patch32_224", "vit_large_patch16_224")),
    (r"relative_position_bias_table", ("swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224",
                                       "swin_base_patch4_window7_224")),
    (r"gamma", ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")),
    (r"layer_scale", ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")),
    (r"denseblock1", ("densenet121", "densenet169", "densenet201")),
    (r"", ("tf_efficientnet_lite0", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2",
           "efficientnet_b3", "efficientnet_b4", "tf_efficientnet_lite1", "tf_efficientnet_lite2",
           "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv3_small_100", "regnety_016", "vgg16")),
)  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """What came of it.

    loaded: names of the net that have the file's values. left: names that stay as they were → why.
    unused: names in the file that the net has no place for. inputs: what the weights want to be shown.
    how: in words, what was matched by what. where: what was around the weights in the file.
    """

    loaded: tuple[str, ...]
    left: Mapping[str, str]
    unused: tuple[str, ...]
    inputs: Inputs
    how: str
    where: str = ""
    net: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for `weights.json`."""
        return {
            "net": self.net, "how": self.how, "where": self.where, "inputs": self.inputs.to_json(),
            "loaded": list(self.loaded), "left": dict(self.left), "unused": list(self.unused),
        }  # fmt: skip

    def words(self) -> str:
        """One line: how many tensors, by what, and what was not loaded."""
        parts = [f"{len(self.loaded):,} tensors {self.how}" + (f" in {self.where}" if self.where else "")]
        if self.left:
            name, why = next(iter(self.left.items()))
            more = f" and {len(self.left) - 1:,} more" if len(self.left) > 1 else ""
            parts.append(f"{name}{more} new ({why})")
        if self.unused:
            parts.append(f"{len(self.unused):,} of the file not used ({', '.join(self.unused[:SHOWN])}, …)")
        return printable("; ".join(parts))


@dataclass
class _Fit:
    """A match, with the tensors that it is of."""

    match: Match
    tensors: Mapping[str, Tensor]
    where: str = ""
    names: Mapping[str, str] = field(default_factory=dict)  # after timm's renaming → in the file


def load(model: nn.Module, backbone: str, source: Path | str) -> Loaded:
    """Fill `model`, the net of the name `backbone`, from a file, the folder of a train artefact, or (a str)
    timm's weights of that name. DataError where the weights do not fit, with what was found.

    All tensors but those of the last layers have to be there; those are left as they are where the number of
    classes differs or the file has none. So is the first layer of a net whose stem was made small.
    """
    groups, inputs, origin = _opened(backbone, source)
    best = _best(groups, model)
    if best.match.problem:
        raise DataError(
            f"{origin} does not fit {backbone}: {best.match.problem}"
            f"{_nearest(groups, model, backbone)}. Another `backbone`, or other weights"
        )
    own = model.state_dict()
    with torch.no_grad():
        for name, there in best.match.pairs.items():
            own[name].copy_(best.tensors[there].reshape(own[name].shape))
    used = {best.names.get(there, there) for there in best.match.pairs.values()}
    known = next(held.tensors for held in groups if held.where == best.where)
    if _is_file(source) and "lite" in backbone and "efficientnet" in backbone and inputs is None:
        inputs = replace(inputs_of(backbone), mean=LITE_MEAN, std=LITE_STD)
    return Loaded(
        loaded=tuple(best.match.pairs),
        left=dict(best.match.left),
        unused=tuple(name for name in known if name not in used and not name.endswith(COUNTED)),
        inputs=inputs or inputs_of(backbone),
        how=best.match.how,
        where=best.where,
        net=backbone,
    )


def inputs_of(backbone: str) -> Inputs:
    """What the net of this name is shown by timm's account; ImageNet's for smelt's own nets."""
    try:
        config: Any = timm.models.get_pretrained_cfg(backbones.timm_name(backbone) or "")
    except (RuntimeError, KeyError, ValueError):
        config = None
    return Inputs() if config is None else Inputs().with_said(said(config.to_dict()))


def guessed(path: Path) -> str:
    """The backbone that the weights in `path` fit: the one that JSON beside it names, else the first of a
    shortlist of timm's; "" where none does."""
    groups, name = read(path), net_beside(path)
    if name and not lineup.unknown(name):
        with torch.device("meta"):
            net = backbones.build(name, 1, small_stem=False, image_size=inputs_of(name).size)
        if not _best(groups, net).match.problem:
            return name
    return next(_fitting(groups, ""), "")


def from_timm(name: str) -> tuple[dict[str, Tensor], Inputs]:
    """timm's weights of that name, from the cache or the hub. DataError where they cannot be had."""
    if why := pretrained.missing([name]).get(name):
        raise DataError(
            f"the weights {name} cannot be had: {why}. Run it once where there is a network, or name a file"
        )
    config, inputs = backbones.require_weights(name), inputs_of(name)
    try:
        model = backbones.build(
            name, config.num_classes, small_stem=False, image_size=inputs.size, pretrained=True
        )
    except SmeltError:
        raise
    except Exception as error:  # of whatever library fetches it
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"the weights {name} cannot be had: {short(first)}") from error
    return dict(model.state_dict()), inputs


def _is_file(source: Path | str) -> bool:
    return isinstance(source, Path) and not source.is_dir()


def _opened(backbone: str, source: Path | str) -> tuple[list[Held], Inputs | None, str]:
    """Groups of tensors; their inputs, where the source says them; how to call the source in a message."""
    if isinstance(source, str):
        tensors, inputs = from_timm(source)
        return [Held(tensors, "")], inputs, f"timm's {source}"
    path = source
    if path.is_dir():
        info, path = read_json(path / MODEL), weights_in(path)
        return read(path), Inputs().with_said({"size": info.get("image_size", 224), **said(info)}), str(path)
    told = said(metadata(path)) or said_beside(path)
    return read(path), inputs_of(backbone).with_said(told) if told else None, str(path)


def _best(groups: list[Held], model: nn.Module) -> _Fit:
    """The first group that fits the model, as it is or by timm's own renaming; else what came nearest."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    heads, stem = backbones.head_names(model), backbones.stem_names(model)
    best: _Fit | None = None
    for held in groups:
        for fit in _ways(held, model, own, heads, stem):
            if not fit.match.problem:
                return fit
            if best is None or fit.match.fitting > best.match.fitting:
                best = fit
    assert best is not None, "a file without tensors was refused"
    return best


def _ways(
    held: Held, model: nn.Module, own: dict[str, Any], heads: Collection[str], stem: Collection[str]
) -> list[_Fit]:
    """The matches of one group: its own names, else those that timm makes of them."""
    shapes = {name: tuple(value.shape) for name, value in held.tensors.items()}
    plain = _Fit(match(shapes, own, heads, stem), held.tensors, held.where)
    if not plain.match.problem:
        return [plain]
    fits = [plain]
    for prefix in dict.fromkeys(["", "module.", "backbone.", "model.", *_common(shapes)]):
        below = {n.removeprefix(prefix): v for n, v in held.tensors.items() if n.startswith(prefix)}
        renamed = _by_timm(below, model) if below else None
        if renamed is None:
            continue
        shapes_now = {name: tuple(value.shape) for name, value in renamed.items()}
        found = match(shapes_now, own, heads, stem)
        if not found.problem:
            origin = {
                name: f"{prefix}{name}" if f"{prefix}{name}" in held.tensors else _origin(value, held.tensors)
                for name, value in renamed.items()
            }
            fits.append(_Fit(replace(found, how=f"{found.how} after timm's renaming"), renamed, held.where,
                             {name: there for name, there in origin.items() if there}))  # fmt: skip
            break
    return fits[::-1]


def _common(shapes: Mapping[str, Any]) -> list[str]:
    """The beginning that all names have in common, up to a dot."""
    first, last = min(shapes), max(shapes)
    same = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))
    return [first[: first.rfind(".", 0, same) + 1]]


def _by_timm(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor] | None:
    module = sys.modules[type(model).__module__]
    for name in FILTERS:
        if function := getattr(module, name, None):
            try:
                takes = function.__code__.co_argcount
                found = function(dict(tensors), model) if takes > 1 else function(dict(tensors))
            except Exception:  # it is made for files that it knows
                return None
            if isinstance(found, Mapping):
                return {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    return None


def _origin(value: Tensor, tensors: Mapping[str, Tensor]) -> str:
    """The name in the file of a tensor that was only renamed or reshaped."""
    place = value.untyped_storage().data_ptr(), value.storage_offset()
    return next(
        (
            name
            for name, one in tensors.items()
            if (one.untyped_storage().data_ptr(), one.storage_offset()) == place
        ),
        "",
    )


def _nearest(groups: list[Held], model: nn.Module, backbone: str) -> str:
    found = next(_fitting(groups, backbone), "")
    return f". It fits {found}" if found else ""


def _fitting(groups: list[Held], but: str) -> Any:
    """Names of the shortlist that fit, likely families first; nets are built on the meta device."""
    names = " ".join(name for held in groups for name in held.tensors)
    likely = [family for word, family in FAMILIES if word and word in names] or [FAMILIES[-1][1]]
    for name in dict.fromkeys(name for family in likely for name in family if name != but):
        with torch.device("meta"):
            try:
                net = timm.create_model(name)
            except Exception:  # a name that this timm has not
                continue
        if not _best(groups, net).match.problem:
            yield name
