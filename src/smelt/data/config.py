"""Settings of how images are shown to a model: augmented in training, cut into crops at test time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from smelt.settings import Settings

MAX_SIZE = 4096  # pixels a side that a model is shown


class RandAugmentSettings(Settings):
    """RandAugment (Cubuk et al. 2020): `num_ops` random operations of strength `magnitude` in 0..30."""

    num_ops: int = Field(default=2, ge=1, le=8)
    magnitude: int = Field(default=9, ge=0, le=30)


class AugmentSettings(Settings):
    """Augmentation of training images.

    sizes: input sizes in pixels; each batch takes one of them (multi-scale training).
    scale, ratio: area and aspect ratio of the random resized crop, relative to the image (Szegedy et al.
    2015). flip: probability of the horizontal flip. pad_crop: instead of the random resized crop, scale
    the image to size × size, pad it by so many zero pixels and take a random crop of the same size (the
    usual training of small images). randaugment: none by default.
    """

    sizes: tuple[int, ...] = Field(default=(224,), min_length=1)
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    flip: float = Field(default=0.5, ge=0.0, le=1.0)
    pad_crop: int | None = Field(default=None, ge=0)
    randaugment: RandAugmentSettings | None = None

    @model_validator(mode="after")
    def _possible(self) -> AugmentSettings:
        if not all(1 <= size <= MAX_SIZE for size in self.sizes):
            raise ValueError(f"sizes: an input size is 1 to {MAX_SIZE} pixels")
        if self.pad_crop is not None and self.pad_crop >= min(self.sizes):
            raise ValueError("pad_crop: is as large as the image itself")
        if not 0.0 < self.scale[0] <= self.scale[1] <= 1.0:
            raise ValueError("scale: needs 0 < low <= high <= 1")
        if not 0.0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError("ratio: needs 0 < low <= high")
        return self


class ViewSettings(Settings):
    """One way to show an image at test time.

    The image is scaled so that its short side is round(size * resize) pixels; then come the centre crop
    (1), or the centre and the four corners (5), or those and their mirror images (10).
    """

    size: int = Field(ge=1, le=MAX_SIZE)
    crops: Literal[1, 5, 10] = 1
    resize: float = Field(default=1.143, ge=1.0, le=4.0)

    @property
    def name(self) -> str:
        """Name of the view in files: `224x1`, with `r1.3` behind where `resize` is not the usual one."""
        suffix = "" if self.resize == type(self).model_fields["resize"].default else f"r{self.resize:g}"
        return f"{self.size}x{self.crops}{suffix}"
