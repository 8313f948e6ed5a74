"""What weights want to be shown: mean, standard deviation, size and interpolation of images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smelt.errors import SmeltError
from smelt.files.atomic import read_json

# Mean and standard deviation of ImageNet's training images, the custom of most backbones
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
BESIDE = ("config.json", "preprocessor_config.json", "open_clip_config.json", "model.json")
LARGEST = 1 << 20  # bytes of a JSON file beside weights
RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers, in preprocessor_config.json

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Inputs:
    """How images are shown: (x / 255 - mean) / std for each channel, `size` pixels a side."""

    mean: Triple = MEAN
    std: Triple = STD
    size: int = 224
    interpolation: str = "bilinear"

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `with_said` reads them back."""
        told = asdict(self)
        return {**told, "mean": list(self.mean), "std": list(self.std)}

    def with_said(self, said: Mapping[str, Any]) -> Inputs:
        """These, but for what `said` (as `said_beside` gives it) says otherwise."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
        return replace(self, **values)


def said_beside(path: Path) -> dict[str, Any]:
    """What JSON files beside a file of weights say of its inputs: any of mean, std, size, interpolation.

    `NAME.json`, `config.json` (timm's, on the hub and off it), `preprocessor_config.json`,
    `open_clip_config.json`, `model.json` (smelt's): the first that says something. What is no number or no
    size is passed over.
    """
    return next((found for values in _beside(path) if (found := said(values))), {})


def net_beside(path: Path) -> str:
    """The net that JSON beside a file of weights names (timm's `architecture`, smelt's `backbone`), or ""."""
    for values in _beside(path):
        name = values.get("architecture", values.get("backbone")) if isinstance(values, Mapping) else None
        if isinstance(name, str) and name:
            return name
    return ""


def _beside(path: Path) -> Iterator[Any]:
    """What the JSON files beside a file of weights hold, one for it alone first."""
    for name in (f"{path.stem}.json", *BESIDE):
        file = path.parent / name
        try:
            if file.is_file() and file.stat().st_size <= LARGEST:
                yield read_json(file)
        except (OSError, SmeltError):
            continue


def said(values: Any) -> dict[str, Any]:
    """What a configuration says of inputs, whoever wrote it."""
    if not isinstance(values, Mapping):
        return {}
    for inner in (values.get("pretrained_cfg"), values.get("preprocess_cfg")):  # timm's, open_clip's
        values = {**values, **inner} if isinstance(inner, Mapping) else values
    found: dict[str, Any] = {}
    for ours, names in (("mean", ("mean", "image_mean")), ("std", ("std", "image_std"))):
        three = next((_three(values[name]) for name in names if name in values), None)
        if three and (ours == "mean" or min(three) > 0):
            found[ours] = three
    sizes = (values.get(name) for name in ("input_size", "crop_size", "size", "image_size"))
    if size := next((size for size in map(_size, sizes) if size), 0):
        found["size"] = size
    way = values.get("interpolation", RESAMPLING.get(_whole(values.get("resample"))))
    if way in RESAMPLING.values():
        found["interpolation"] = way
    # a size alone is what any configuration has: it says nothing of how pixels are shown
    return found if "mean" in found or "std" in found else {}


def _three(value: Any) -> list[float] | None:
    """Three finite numbers, or one for all channels."""
    many = value if isinstance(value, list | tuple) else [value] * 3
    if len(many) == 3 and all(isinstance(x, int | float) and math.isfinite(x) for x in many):
        return [float(x) for x in many]
    return None


def _size(value: Any) -> int:
    """Pixels a side; 0 where it is none."""
    if isinstance(value, Mapping):  # of transformers
        value = value.get("height", value.get("shortest_edge"))
    if isinstance(value, list | tuple) and value:  # (3, H, W)
        value = value[-1]
    size = _whole(value)
    return size if 1 <= size <= 4096 else 0


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
