"""Sections of the settings of training: its range test, and its distillation. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from smelt.settings import Disagreement, Limit, Settings

MAX_RATE = 1e3


class TuneSettings(Settings):
    """The learning-rate range test: a rate that grows from step to step, and the loss that it gives."""

    lowest: float = Field(
        default=1e-4,
        gt=0.0,
        lt=MAX_RATE,
        description="Learning rate of the first step of the range test. Lower it for fine-tuning.",
    )
    highest: float = Field(
        default=10.0,
        gt=0.0,
        le=MAX_RATE,
        description="Learning rate of the last step, if the test comes so far. Lower it for AdamW.",
    )
    steps: Annotated[int, Limit("the test looks for a rate, it does not train")] = Field(
        default=200,
        ge=10,
        le=100_000,
        description="Steps of the range test. More give a smoother curve, at the cost of so many batches.",
    )
    smoothing: float = Field(
        default=0.9, ge=0.0, lt=1.0, description="Weight of the past in the smoothed loss; 0: not smoothed."
    )
    divergence: float = Field(
        default=4.0,
        gt=1.0,
        le=1e6,
        description="The test ends where the smoothed loss is so many times its least value.",
    )
    fraction: float = Field(
        default=0.1,
        gt=0.0,
        le=1.0,
        description="The rate chosen, as a share of the one where the smoothed loss is least.",
    )

    @model_validator(mode="after")
    def _possible(self) -> TuneSettings:
        if self.lowest >= self.highest:
            raise Disagreement(
                {"lowest": self.lowest, "highest": self.highest},
                "the test goes from the lowest rate to the highest",
                "a lower {lowest}, or a higher {highest}",
            )
        return self


class DistillationSettings(Settings):
    """loss = (1 - weight) · cross entropy + weight · temperature² · KL(teacher ‖ student), both softened
    by `temperature` (Hinton et al. 2015, section 2)."""

    weight: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="Share of the teacher in the loss; the rest is the label's. Raise it where labels are "
        "noisy.",
    )
    temperature: float = Field(
        default=2.0,
        gt=0.0,
        le=1000.0,
        description="What the logits of teacher and student are divided by. Higher shows more of the classes "
        "that the teacher thinks less likely.",
    )
