"""Sections of the settings of training: range test, distillation, mixing, ELR, semi. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from smelt.data.config import RandAugmentSettings
from smelt.settings import Disagreement, Limit, Settings

MAX_RATE = 1e3
Epochs = Limit("no training goes over its images so often")


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


class MixingSettings(Settings):
    """Batches whose images are mixed in pairs, and taught as both: mixup (Zhang et al. 2018), CutMix (Yun et
    al. 2019). A mixed image is of no single row: it counts neither for the margins that training records
    nor for the targets of `elr`, which go by the batches that are left as they are."""

    mixup: float = Field(
        default=0.0,
        ge=0.0,
        le=100.0,
        description="α of mixup, which blends two images: shares are drawn from Beta(α, α). 0: no mixup. 0.2 "
        "for large sets, 1 for small ones, 4 and above where labels are noisy.",
    )
    cutmix: float = Field(
        default=0.0,
        ge=0.0,
        le=100.0,
        description="α of CutMix, which puts a box of one image into the other; 1 in the paper. 0: no "
        "CutMix. Where mixup is on too, each step takes one of them, with equal chance.",
    )
    probability: float = Field(
        default=0.5,
        gt=0.0,
        le=1.0,
        description="Chance that a step's batch is mixed. Of the others margins are recorded: 1 records "
        "none, and leaves a ranking to features and texts.",
    )

    @model_validator(mode="after")
    def _possible(self) -> MixingSettings:
        if not (self.mixup or self.cutmix):
            raise Disagreement(
                {"mixup": self.mixup, "cutmix": self.cutmix},
                "mixing is one of them, or both",
                "{mixup} or {cutmix} above 0",
            )
        return self


class ElrSettings(Settings):
    """Early-learning regularisation (Liu et al. 2020, eq. 6): loss + weight · log(1 - ⟨t, p⟩), p being what
    the net says of an image and t, of its row, the running mean of what it said before."""

    weight: float = Field(
        default=3.0,
        gt=0.0,
        le=1000.0,
        description="λ, how strongly the net is held to what it said early. 3 for ten classes, 7 for a "
        "hundred in the paper; more for more noise.",
    )
    beta: float = Field(
        default=0.7,
        ge=0.0,
        lt=1.0,
        description="β, how much of a row's target stays at each visit. 0.7 to 0.9 in the paper.",
    )
    top: Annotated[int, Limit("a row's target in full is what the memory does not hold")] = Field(
        default=10,
        ge=1,
        le=1000,
        description="Classes that are kept of each row's target, four bytes each (six beyond 32,768 "
        "classes), in memory and in every checkpoint. The number of classes or more: the paper's own.",
    )


class SemiSettings(Settings):
    """Semi-supervised learning, of the class of DivideMix (Li et al. 2020) and ProMix (Wang et al. 2022).

    Rows that the selection dropped as probably wrong are shown without their label, and what the nets say of
    them, where they are sure, is learnt. Labels that the selection teaches softly are mixed with what nets
    say, by how far they are trusted. A step costs two to three times that of labelled images alone, with two
    networks twice as much again."""

    networks: Literal[1, 2] = Field(
        default=1,
        description="Nets that learn side by side and guess together, at twice the time and disk; they are "
        "one model, which says their mean.",
    )
    ratio: float = Field(
        default=1.0,
        gt=0.0,
        le=16.0,
        description="Unlabelled images for each labelled one of a batch, 7 in FixMatch. Fewer where nothing "
        "is gained.",
    )
    strong: RandAugmentSettings = Field(
        default=RandAugmentSettings(),
        description="How unlabelled images are changed, beyond `augment`, where they are learnt from.",
    )
    warmup_epochs: Annotated[int, Epochs] = Field(
        default=0,
        ge=0,
        lt=100_000,
        description="The first so many epochs learn from labelled images alone, less than `epochs`. A tenth "
        "to a third of them from scratch.",
    )
    ramp_epochs: Annotated[int, Epochs] = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Epochs behind them over which the weight of unlabelled images grows to its height.",
    )
    weight: float = Field(
        default=1.0,
        ge=0.0,
        le=1000.0,
        description="Weight of the unlabelled images' loss. 1 for cross_entropy; 25 and more for squared.",
    )
    loss: Literal["cross_entropy", "squared"] = Field(
        default="cross_entropy",
        description="Loss of guesses: cross_entropy as FixMatch, or squared as MixMatch and DivideMix, which "
        "forgives wrong ones.",
    )
    temperature: float = Field(
        default=0.5,
        gt=0.0,
        le=10.0,
        description="T that guesses and refined labels are sharpened by; 1 leaves them as they are.",
    )
    threshold: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="Least share of a guess that is learnt; above it each class has a threshold of its own "
        "that follows what the nets say (FreeMatch). 0.95 is FixMatch's.",
    )
    threshold_momentum: float = Field(
        default=0.99,
        ge=0.0,
        lt=1.0,
        description="How much of the thresholds stays at each step; more for small batches.",
    )
    mixup: float = Field(
        default=0.0,
        ge=0.0,
        le=100.0,
        description="α of the mixup of labelled and unlabelled images together, 4 in DivideMix; 0: none.",
    )
    spread: float = Field(
        default=0.0,
        ge=0.0,
        le=100.0,
        description="Weight of the loss against giving all images to one class, 1 in DivideMix; for classes "
        "of about equal size.",
    )

    def go_with(self, train: Mapping[str, Any]) -> None:
        """Refuse other settings of training, by name, that it does not go with: it has a loss and a mixup of
        its own, and two nets from the same weights would say the same."""
        if self.warmup_epochs >= train["epochs"]:
            raise Disagreement(
                {"semi.warmup_epochs": self.warmup_epochs, "epochs": train["epochs"]},
                "the warm-up of semi has to be shorter than the training",
                "-o {semi.warmup_epochs}=0 is none, or more {epochs}",
            )
        plain: dict[str, Any] = {
            "mixing": None, "elr": None, "loss": "cross_entropy", "label_smoothing": 0.0,
        }  # fmt: skip
        if self.networks > 1:
            plain |= {"weights": None, "pretrained": False, "layer_decay": None, "frozen_stages": 0,
                      "head_epochs": 0}  # fmt: skip
        for name, value in plain.items():
            if train[name] != value:
                given = train[name] if isinstance(train[name], str | int | float) else "set"
                word = {"None": "null", "False": "false"}.get(str(value), str(value))
                raise Disagreement(
                    {name: given, "semi.networks": self.networks},
                    "semi has a loss and a mixup of its own, and two networks begin at random",
                    f"-o {{{name}}}={word}, or -o {{semi}}=null",
                )
