"""Settings of copies: what counts as one, and which are dropped."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from smelt.settings import KeyIfInput, Settings


class DedupeSettings(Settings):
    """What counts as a copy, and which copies are dropped."""

    max_distance: int = Field(
        default=4,
        ge=0,
        le=8,
        description="Bits between two 64-bit hashes of whole pictures; all pairs are found. 0: only what "
        "hashes alike.",
    )
    mirrored: bool = Field(default=True, description="Find copies that are shown left for right too.")
    crop_distance: int = Field(
        default=10,
        ge=0,
        le=16,
        description="Bits to the hash of a part of a picture, or of it turned a little; most are found. 0: "
        "not looked for.",
    )
    crop_tables: int = Field(
        default=16,
        ge=1,
        le=64,
        description="Tables that crops are looked up in: more find more, at a cost in proportion.",
    )
    agreement: float = Field(
        default=0.75,
        gt=0,
        le=1,
        description="Correlation of the detail of two pictures, as they are, from which they are copies.",
    )
    aligned_agreement: float = Field(
        default=0.88,
        gt=0,
        le=1,
        description="The same of two pictures that were moved onto each other.",
    )
    overlap: float = Field(
        default=0.5, gt=0, le=1, description="Share of each picture that the other one of a pair must show."
    )
    neighbours: Annotated[int, KeyIfInput("features")] = Field(
        default=4,
        ge=0,
        le=64,
        description="Where the recipe has features under weights from elsewhere: the nearest images by these "
        "that are compared too, which finds crops and turned pictures that no hash finds. 0: none.",
    )
    neighbour_cosine: Annotated[float, KeyIfInput("features")] = Field(
        default=0.65,
        ge=0.0,
        le=1.0,
        description="Cosine of their features (less the mean of all) from which neighbours are compared. It "
        "makes nothing a copy: the pixels decide.",
    )
    within_training: bool = Field(
        default=True, description="Of training images that are copies of one another keep the best."
    )
    against_held_out: bool = Field(
        default=True,
        description="Find training images that are copies of validation or test images, to be dropped.",
    )
