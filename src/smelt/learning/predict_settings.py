"""Settings of prediction. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from smelt.data.config import ViewSettings
from smelt.learning.config import CHANNELS_LAST, PRECISION, THREADS, Threads
from smelt.settings import MAX_KEPT, Limit, Settings


class PredictSettings(Settings):
    """Views of splits through a trained model; each is a result of its own."""

    views: tuple[ViewSettings, ...] = Field(
        default=(ViewSettings(size=224),),
        min_length=1,
        max_length=100,
        description="How images are shown at test time; each view is a result of its own, and the first is "
        "what single models are compared under. Sizes a little above those of training often do best.",
    )
    splits: tuple[Literal["train", "val", "test"], ...] = Field(
        default=("val", "test"),
        min_length=1,
        description="Which images are predicted. Fusion needs val, a submission its own split.",
    )
    weights: Literal["default", "raw", "ema"] = Field(
        default="default",
        description="Weights that predict: those of the last step (raw), their average (ema), or the average "
        "where there is one (default).",
    )
    topk: dict[
        Literal["train", "val", "test"],
        Annotated[int, Field(ge=1, le=MAX_KEPT), Limit("no data set has more classes")],
    ] = Field(
        default_factory=dict,
        description="Split → how many scores of each image to keep instead of all. Set it where images × "
        "classes would fill the disk: 50 of 5,000 classes lose next to nothing.",
    )
    batch_size: Annotated[int, Limit("no machine holds a larger batch")] = Field(
        default=128, ge=1, le=1 << 20, description="Images at once. Lower it where memory runs out."
    )
    precision: Literal["fp32", "bf16"] = Field(default="bf16", description=PRECISION)
    channels_last: bool = Field(default=True, description=CHANNELS_LAST)
    threads: Threads = Field(default=1, description=THREADS)

    @model_validator(mode="after")
    def _possible(self) -> PredictSettings:
        names = [view.name for view in self.views]
        if len(set(names)) < len(names):
            raise ValueError(f"views: the same view twice ({', '.join(sorted(names))})")
        if len(set(self.splits)) < len(self.splits):
            raise ValueError("splits: the same split twice")
        return self
