"""Settings of the embedded data set: how many classes and images, and what is wrong with them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from smelt.settings import Settings

GROUP_SIZE = 4  # classes that share two of shape, texture and colour and differ subtly in the third
MAX_CLASSES = 5000

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class SourceSettings(Settings):
    """What one source delivers. `flip`, `stray` and `oov` are relative shares of its wrong labels.

    flip: a picture of another class of the same group; stray: of a class of another group;
    oov: out of vocabulary, a picture of no class.
    `exact` and `near` are the shares of the source's images that copy another training image.
    """

    flip: float = Field(ge=0.0)
    stray: float = Field(ge=0.0)
    oov: float = Field(ge=0.0)
    exact: Share = 0.02
    near: Share = 0.03

    @model_validator(mode="after")
    def _some_kind_of_error(self) -> Self:
        if self.flip + self.stray + self.oov <= 0:
            raise ValueError("flip + stray + oov must be above 0: they are shares of the wrong labels")
        if self.exact + self.near > 0.5:
            raise ValueError(f"exact + near = {self.exact + self.near:g}: at most half can be copies")
        return self


GOOGLE = SourceSettings(flip=0.55, stray=0.25, oov=0.20, exact=0.02, near=0.05)
FLICKR = SourceSettings(flip=0.25, stray=0.20, oov=0.55, exact=0.02, near=0.02)


class SyntheticSettings(Settings):
    """The whole data set. Equal settings give equal bytes on one version of numpy and Pillow.

    wrong: share of wrong labels among training images that copy no other one (classes differ around it).
    imbalance, eval_imbalance: largest class over smallest, in training and in validation and test.
    across: share of the copies that carry another class than the image they copy.
    leak: share of training images that are copies of validation or test images.
    hostile: share of titles and descriptions that would break a page that does not escape them.
    """

    seed: int = Field(default=0, ge=0)
    classes: int = Field(default=25, ge=2, le=MAX_CLASSES)
    abstract_classes: int = Field(default=1, ge=0)
    train_images: int = Field(default=5000, ge=1)
    val_images: int = Field(default=1250, ge=0)
    test_images: int = Field(default=2500, ge=0)
    min_side: int = Field(default=64, ge=16)
    max_side: int = Field(default=128, le=1024)
    imbalance: float = Field(default=6.0, ge=1.0)
    eval_imbalance: float = Field(default=1.5, ge=1.0)
    wrong: Share = 0.33
    google_share: Share = 0.5
    google: SourceSettings = GOOGLE
    flickr: SourceSettings = FLICKR
    across: Share = 0.3
    leak: Share = 0.01
    broken: Share = 0.004
    hostile: Share = 0.02

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_side > self.max_side:
            raise ValueError(f"min_side {self.min_side} is above max_side {self.max_side}")
        if self.abstract_classes > self.classes - 2:
            raise ValueError(
                f"abstract_classes {self.abstract_classes} leaves fewer than 2 of {self.classes}"
            )
        for name in ("train_images", "val_images", "test_images"):
            count = getattr(self, name)
            if 0 < count < self.classes:
                raise ValueError(f"{name} {count} is less than one image for each of {self.classes} classes")
        return self
