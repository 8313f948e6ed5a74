"""Settings of mining: how to rank, what to select."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from smelt.settings import KeyIf, Settings

Score = Literal["aum", "log_margin", "probability", "accuracy", "forgetting", "variability"]
Method = Literal[
    "all", "lowest_fraction", "noise_rate", "threshold_runs", "threshold_samples", "worst_classes"
]

NEEDS: dict[Method, tuple[str, ...]] = {
    "all": (),
    "lowest_fraction": ("ranking", "selection"),
    "noise_rate": ("ranking", "results", "selection"),
    "threshold_runs": (),
    "threshold_samples": ("train", "threshold"),
    "worst_classes": ("results", "selection"),
}


class RankSettings(Settings):
    """How dynamics become one cleanness per row."""

    score: Score = "aum"
    # How each model's scores are brought to one scale before they are averaged: (x − mean)/deviation, the
    # rank of x in 0..1, or x as it is.
    combine: Literal["standard", "rank", "mean"] = "standard"
    # Bring to one scale within each class, so that hard classes lose no more than others.
    per_class: bool = False
    # Whether labels of validation can be taken to be right, so that by it the share of wrong ones in training
    # can be told: `checked`, or `crawled` like those of training. Left out, a recipe goes by the format.
    validation_labels: Literal["checked", "crawled"] | None = None


class DownWeightSettings(Settings):
    """A band of ranks (0 the cleanest row, 1 the least clean) that is learnt from with less weight."""

    start: float = Field(0.7, ge=0, le=1)
    stop: float = Field(0.9, ge=0, le=1)
    weight: float = Field(0.5, gt=0, le=1)


class SelectSettings(Settings):
    """What a round learns from.

    Methods: `all`; `lowest_fraction` flags the least clean share; `noise_rate` flags as large a share as is
    estimated to be wrong (below); `threshold_runs` gives `part` 0 or 1 of the rows an extra class (the two
    trainings before `threshold_samples`); `threshold_samples` flags what scored below them;
    `worst_classes` keeps only the classes with the lowest validation accuracy.

    Where training was not enough to tell, or validation cannot check it, `noise_rate` warns and flags
    `fraction`, or the share of negative AUMs that validation does not explain if that is less, within the
    interval of what is possible if there is one.
    """

    method: Method = "all"
    fraction: Annotated[float, KeyIf("method", "lowest_fraction", "noise_rate")] = Field(
        0.2, ge=0, lt=1
    )  # the 2020 winners drop 20 % of all rows
    within: Literal["all", "class"] = "all"  # of which rows the fraction or rate is taken
    flagged_weight: float = Field(0.0, ge=0, le=1)  # weight of flagged rows; 0 drops them
    down_weight: DownWeightSettings | None = None  # the winners' failed trial: ranks 70–90 %
    minimum_per_class: int = Field(0, ge=0)  # the cleanest flagged rows come back until a class has so many
    maximum_rate: Annotated[float, KeyIf("method", "noise_rate")] = Field(
        0.6, gt=0, lt=1
    )  # `noise_rate` never flags more than this share
    percentile: Annotated[float, KeyIf("method", "threshold_samples")] = Field(
        99.0, gt=0, le=100
    )  # of the threshold samples' AUM (Pleiss et al. 2020)
    # Rows that both threshold runs judge: by the first alone (the paper), flagged by any, flagged by all.
    agreement: Annotated[Literal["first", "any", "all"], KeyIf("method", "threshold_samples")] = "first"
    part: Annotated[Literal[0, 1], KeyIf("method", "threshold_runs")] = (
        0  # which of the two sets of threshold samples
    )
    seed: Annotated[int, KeyIf("method", "threshold_runs")] = 0  # of the threshold samples
    worst_classes: Annotated[int, KeyIf("method", "worst_classes")] = Field(
        500, ge=1
    )  # the winners' failed trial: 500
    worst_topk: Annotated[int, KeyIf("method", "worst_classes")] = Field(
        1, ge=1
    )  # accuracy by which classes are compared
    revive: bool = False  # judge rows again that an earlier round flagged, where they have a score
    # images that could be read, but of which not all can be right (see `smelt.data.damage`)
    damaged: Literal["drop", "keep"] = "keep"
    duplicates: Literal["drop", "keep"] = "drop"
    leaks: Literal["drop", "keep"] = "drop"
    # One picture under several labels: drop all rows, keep the cleanest (none without a ranking), keep all.
    cross_label: Literal["drop", "cleanest", "keep"] = "drop"

    @property
    def needs(self) -> tuple[str, ...]:
        """Ports beyond catalogue, check and dedupe that the stage `select` must have."""
        return NEEDS[self.method]

    @model_validator(mode="after")
    def _bands(self) -> SelectSettings:
        if self.down_weight and self.down_weight.start >= self.down_weight.stop:
            raise ValueError("down_weight: start must be below stop")
        return self
