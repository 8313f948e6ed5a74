"""Settings of training, of the learning-rate test, of distillation and of prediction. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from smelt.data.config import AugmentSettings, ViewSettings
from smelt.settings import KeyIf, KeyIfInput, NotInKey, Settings

# A number left to the machine would be another result on another machine, under the same key: 0 means 1
Threads = Annotated[int, Field(ge=0), AfterValidator(lambda threads: max(1, threads))]


class TuneSettings(Settings):
    """The learning-rate range test: `steps` steps with a rate that grows from `lowest` to `highest`.

    The rate chosen is `fraction` of the one where the smoothed loss (`smoothing`: weight of the past) is
    least; the test ends where the loss is `divergence` times its least value.
    """

    lowest: float = Field(default=1e-4, gt=0.0)
    highest: float = Field(default=10.0, gt=0.0)
    steps: int = Field(default=200, ge=10)
    smoothing: float = Field(default=0.9, ge=0.0, lt=1.0)
    divergence: float = Field(default=4.0, gt=1.0)
    fraction: float = Field(default=0.1, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _possible(self) -> TuneSettings:
        if self.lowest >= self.highest:
            raise ValueError("lowest: needs to be below highest")
        return self


class DistillationSettings(Settings):
    """loss = (1 - weight) · cross entropy + weight · temperature² · KL(teacher ‖ student), both softened
    by `temperature` (Hinton et al. 2015, section 2)."""

    weight: float = Field(default=0.5, ge=0.0, le=1.0)
    temperature: float = Field(default=2.0, gt=0.0)


class TrainSettings(Settings):
    """How one model is trained.

    Units are in the names. batch_size is that of one step, over all ranks and accumulated parts.
    learning_rate: "tune" takes the one that the `tune` stage found. schedule: "step" multiplies the rate by
    `step_factor` at each of `step_at` (fractions of all steps). images_per_class: per epoch, None: every
    image once. threads: of the processor's arithmetic; the number may change the last bits of a result,
    so it is part of the key, and 0 is 1. record_epochs: dynamics are recorded in the first so many
    epochs only (the AUM paper stops before the rate first drops), None: in all. max_bad_steps: steps in
    a row with a loss or gradient that is not finite, before training goes back to the last checkpoint.
    """

    backbone: str = "resnet50"
    small_stem: bool | Literal["auto"] = "auto"
    pretrained: bool = False
    drop_rate: float = Field(default=0.0, ge=0.0, lt=1.0)
    drop_path_rate: float = Field(default=0.0, ge=0.0, lt=1.0)
    augment: AugmentSettings = AugmentSettings()

    epochs: int = Field(default=90, ge=1)
    batch_size: int = Field(default=256, ge=1)
    accumulate_steps: int = Field(default=1, ge=1)
    images_per_class: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)

    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float | Literal["tune"] = 0.1
    momentum: Annotated[float, KeyIf("optimiser", "sgd")] = Field(default=0.9, ge=0.0, lt=1.0)
    nesterov: Annotated[bool, KeyIf("optimiser", "sgd")] = False
    weight_decay: float = Field(default=1e-4, ge=0.0)
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0.0)
    step_at: Annotated[tuple[float, ...], KeyIf("schedule", "step")] = (
        0.3333333333333333,
        0.6666666666666666,
        0.8888888888888888,
    )
    step_factor: Annotated[float, KeyIf("schedule", "step")] = Field(default=0.1, gt=0.0, lt=1.0)
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    clip_norm: float | None = Field(default=None, gt=0.0)
    ema_decay: float | None = Field(default=None, gt=0.0, lt=1.0)
    distillation: Annotated[DistillationSettings, KeyIfInput("teacher")] = DistillationSettings()
    tune: Annotated[TuneSettings, NotInKey("only the stage tune reads it, whose key is an input")] = (
        TuneSettings()
    )

    precision: Literal["fp32", "bf16"] = "bf16"
    channels_last: bool = True
    deterministic: bool = True
    threads: Threads = 1
    world_size: int = Field(default=1, ge=1)

    record_epochs: int | None = Field(default=None, ge=1)
    validate_every_epochs: int = Field(default=1, ge=1)
    validation_view: ViewSettings | None = None
    checkpoint_every_steps: Annotated[
        int | None, NotInKey("resuming gives the bytes of an undisturbed run")
    ] = Field(default=None, ge=1)
    max_bad_fraction: Annotated[float, NotInKey("a limit: training ends with an error or as without it")] = (
        Field(default=0.01, ge=0.0, le=1.0)
    )
    max_bad_steps: int = Field(default=5, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> TrainSettings:
        if self.learning_rate != "tune" and not 0.0 < self.learning_rate < 1e3:
            raise ValueError('learning_rate: needs a number above 0, or "tune"')
        if self.warmup_epochs >= self.epochs:
            raise ValueError("warmup_epochs: needs to be less than epochs")
        if self.batch_size < self.world_size * self.accumulate_steps:
            raise ValueError("batch_size: needs at least one image for each rank and accumulated part")
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov: needs momentum above 0")
        return self

    @property
    def image_size(self) -> int:
        """The largest input size in pixels."""
        return max(self.augment.sizes)

    @property
    def test_view(self) -> ViewSettings:
        """The view that validation during training looks through: one crop of the largest input size,
        the whole image where training shows whole (padded) images too."""
        if self.validation_view is not None:
            return self.validation_view
        if self.augment.pad_crop is not None:
            return ViewSettings(size=self.image_size, resize=1.0)
        return ViewSettings(size=self.image_size)


class PredictSettings(Settings):
    """Views of splits through a trained model; each is a result of its own.

    weights: "default" takes the ones that training names. topk: splits → how many scores to keep of each
    image instead of all.
    """

    views: tuple[ViewSettings, ...] = Field(default=(ViewSettings(size=224),), min_length=1)
    splits: tuple[Literal["train", "val", "test"], ...] = Field(default=("val", "test"), min_length=1)
    weights: Literal["default", "raw", "ema"] = "default"
    topk: dict[Literal["train", "val", "test"], int] = Field(default_factory=dict)
    batch_size: int = Field(default=128, ge=1)
    precision: Literal["fp32", "bf16"] = "bf16"
    channels_last: bool = True
    threads: Threads = 1

    @model_validator(mode="after")
    def _possible(self) -> PredictSettings:
        names = [view.name for view in self.views]
        if len(set(names)) < len(names):
            raise ValueError(f"views: the same view twice ({', '.join(sorted(names))})")
        if len(set(self.splits)) < len(self.splits):
            raise ValueError("splits: the same split twice")
        if any(kept < 1 for kept in self.topk.values()):
            raise ValueError("topk: needs at least 1 score for an image")
        return self
