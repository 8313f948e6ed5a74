"""Settings of how images are shown to a model: augmented in training, cut into crops at test time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from smelt.settings import Disagreement, Limit, Settings

MAX_SIZE = 4096  # pixels a side that a model is shown


Pixels = Annotated[int, Field(ge=1, le=MAX_SIZE), Limit("a larger input fits no memory")]


class RandAugmentSettings(Settings):
    """RandAugment (Cubuk et al. 2020): so many random operations on each image."""

    num_ops: int = Field(default=2, ge=1, le=8, description="Operations on an image, drawn anew each time.")
    magnitude: int = Field(
        default=9,
        ge=0,
        le=30,
        description="Strength of every operation, in 0..30. 9 for middling nets, more for large ones.",
    )


class AugmentSettings(Settings):
    """Augmentation of training images."""

    sizes: tuple[Pixels, ...] = Field(
        default=(224,),
        min_length=1,
        max_length=100,
        description="Input sizes in pixels; each batch takes one of them (multi-scale training). The largest "
        "is what nets of a fixed size are built for.",
    )
    scale: tuple[Annotated[float, Field(gt=0.0, le=1.0)], Annotated[float, Field(gt=0.0, le=1.0)]] = Field(
        default=(0.08, 1.0),
        description="Least and greatest area of the random resized crop, relative to the image (Szegedy et "
        "al. 2015). Raise the least where what matters is small: [0.3, 1].",
    )
    ratio: tuple[Annotated[float, Field(gt=0.0, le=100.0)], Annotated[float, Field(gt=0.0, le=100.0)]] = (
        Field(
            default=(0.75, 1.3333333333333333),
            description="Least and greatest width over height of the random resized crop, relative to the "
            "image.",
        )
    )
    flip: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="Chance of a horizontal flip. 0 where left and right matter: text, signs.",
    )
    pad_crop: Annotated[int | None, Limit("a larger input fits no memory")] = Field(
        default=None,
        ge=0,
        le=MAX_SIZE,
        description="Instead of the random resized crop: scale the image to size × size, pad it by so many "
        "zero pixels and take a random crop of the same size, the usual training of small images (4 at 32 "
        "pixels). null: the random resized crop.",
    )
    randaugment: RandAugmentSettings | None = Field(
        default=None, description="RandAugment, for large nets and long training; null: none."
    )

    @model_validator(mode="after")
    def _possible(self) -> AugmentSettings:
        if self.pad_crop is not None and self.pad_crop >= min(self.sizes):
            raise Disagreement(
                {"pad_crop": self.pad_crop, "sizes": list(self.sizes)},
                "the padding has to be less than the image",
                f"{{pad_crop}} up to {min(self.sizes) - 1}, or larger {{sizes}}",
            )
        for name in ("scale", "ratio"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name}: the least comes first, then the greatest: [{most:g}, {least:g}]")
        return self


class ViewSettings(Settings):
    """One way to show an image at test time.

    The image is scaled so that its short side is round(size * resize) pixels; then come the centre crop
    (1), or the centre and the four corners (5), or those and their mirror images (10).
    """

    size: Pixels = Field(description="Input size in pixels. It costs with its square.")
    crops: Literal[1, 5, 10] = Field(
        default=1,
        description="Crops that are averaged: the centre (1), with the four corners (5), with the mirror "
        "images of these (10). It costs in proportion.",
    )
    resize: float = Field(
        default=1.143,
        ge=1.0,
        le=4.0,
        description="Short side of the scaled image over `size`, before cropping. 1: the centre crop has "
        "all of the short side; 1.143 is 256 for 224.",
    )

    @property
    def name(self) -> str:
        """Name of the view in files: `224x1`, with `r1.3` behind where `resize` is not the usual one."""
        suffix = "" if self.resize == type(self).model_fields["resize"].default else f"r{self.resize:g}"
        return f"{self.size}x{self.crops}{suffix}"
