"""Settings of the embedded data set: how many classes and images, and what is wrong with them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from smelt.settings import Disagreement, Limit, Seed, Settings, Share

GROUP_SIZE = 4  # classes that share two of shape, texture and colour and differ subtly in the third
MAX_CLASSES = 5000

Images = Limit("drawing them would take days, and every other stage longer")


class SourceSettings(Settings):
    """What one source delivers."""

    flip: float = Field(
        ge=0.0,
        le=1e6,
        description="Relative share, among wrong labels, of pictures of another class of the same group.",
    )
    stray: float = Field(
        ge=0.0,
        le=1e6,
        description="Relative share, among wrong labels, of pictures of a class of another group.",
    )
    oov: float = Field(
        ge=0.0,
        le=1e6,
        description="Relative share, among wrong labels, of pictures of no class (out of vocabulary).",
    )
    exact: Share = Field(
        default=0.02, description="Share of the source's images that are the same bytes as another."
    )
    near: Share = Field(
        default=0.03,
        description="Share of the source's images that are another one scaled, cropped or compressed anew.",
    )

    @model_validator(mode="after")
    def _some_kind_of_error(self) -> Self:
        if self.flip + self.stray + self.oov <= 0:
            raise Disagreement(
                {"flip": self.flip, "stray": self.stray, "oov": self.oov},
                "their sum must be above 0: they are shares of the wrong labels",
                "one of {flip}, {stray} and {oov} above 0 (for no wrong labels: -o synthesise.wrong=0)",
            )
        if self.exact + self.near > 0.5:
            raise Disagreement(
                {"exact": self.exact, "near": self.near},
                f"at most half of the images can be copies, 0.5 and not {self.exact + self.near:g}",
                "a smaller {exact} or {near}",
            )
        return self


GOOGLE = SourceSettings(flip=0.55, stray=0.25, oov=0.20, exact=0.02, near=0.05)
FLICKR = SourceSettings(flip=0.25, stray=0.20, oov=0.55, exact=0.02, near=0.02)


class SyntheticSettings(Settings):
    """The whole data set. Equal settings give equal bytes on one version of numpy and Pillow."""

    seed: Seed = Field(default=0, description="Seed of the data set; `seed` of the recipe shifts it.")
    classes: int = Field(
        default=25, ge=2, le=MAX_CLASSES, description="Classes, in groups of four that look alike."
    )
    abstract_classes: int = Field(
        default=1,
        ge=0,
        le=MAX_CLASSES,
        description="Classes among them whose pictures show anything at all, as those of abstract words do.",
    )
    train_images: Annotated[int, Images] = Field(
        default=5000, ge=1, le=100_000_000, description="Training images, at least one for each class."
    )
    val_images: Annotated[int, Images] = Field(
        default=1250, ge=0, le=100_000_000, description="Validation images, with right labels; 0: none."
    )
    test_images: Annotated[int, Images] = Field(
        default=2500, ge=0, le=100_000_000, description="Test images, with right labels; 0: none."
    )
    min_side: int = Field(default=64, ge=16, le=1024, description="Least side of an image in pixels.")
    max_side: int = Field(default=128, ge=16, le=1024, description="Greatest side of an image in pixels.")
    imbalance: float = Field(
        default=6.0, ge=1.0, le=1e6, description="Largest class over the smallest, in training."
    )
    eval_imbalance: float = Field(
        default=1.5, ge=1.0, le=1e6, description="Largest class over the smallest, in validation and test."
    )
    wrong: Share = Field(
        default=0.33,
        description="Share of wrong labels among training images that copy no other one (classes differ "
        "around it).",
    )
    google_share: Share = Field(
        default=0.5, description="Share of the images that come from the source google; the rest is flickr's."
    )
    google: SourceSettings = Field(default=GOOGLE, description="What the source google delivers.")
    flickr: SourceSettings = Field(default=FLICKR, description="What the source flickr delivers.")
    across: Share = Field(
        default=0.3, description="Share of the copies that carry another class than the image they copy."
    )
    leak: Share = Field(
        default=0.01,
        description="Share of training images that are copies of validation or test images.",
    )
    broken: Share = Field(default=0.004, description="Share of training files that no decoder can read.")
    hostile: Share = Field(
        default=0.02,
        description="Share of titles and descriptions that would break a page that does not escape them.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_side > self.max_side:
            raise Disagreement(
                {"min_side": self.min_side, "max_side": self.max_side},
                "the least side is above the greatest",
                "a smaller {min_side}, or a larger {max_side}",
            )
        if self.abstract_classes > self.classes - 2:
            raise Disagreement(
                {"abstract_classes": self.abstract_classes, "classes": self.classes},
                "that leaves fewer than 2 classes that are not abstract",
                f"{{abstract_classes}} up to {self.classes - 2}, or more {{classes}}",
            )
        for name in ("train_images", "val_images", "test_images"):
            count = getattr(self, name)
            if 0 < count < self.classes:
                raise Disagreement(
                    {name: count, "classes": self.classes},
                    "that is less than one image for each class",
                    f"-o {{{name}}}={self.classes} or more, or fewer {{classes}}",
                )
        return self
