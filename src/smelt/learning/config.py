"""Settings of training. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from smelt.data.config import AugmentSettings, ViewSettings
from smelt.learning.sections import (
    MAX_RATE,
    DistillationSettings,
    ElrSettings,
    Epochs,
    MixingSettings,
    SemiSettings,
    TuneSettings,
)
from smelt.settings import (
    Disagreement,
    KeyIf,
    KeyIfInput,
    Limit,
    NotInKey,
    Seed,
    Settings,
    Share,
)  # fmt: skip

# A number left to the machine would be another result on another machine, under the same key: 0 means 1
Threads = Annotated[
    int,
    Field(ge=0, le=1024),
    AfterValidator(lambda threads: max(1, threads)),
    Limit("no machine has more cores"),
]
THREADS = (
    "Threads of the processor's arithmetic in one process; 0 is 1. Their number may change the last bits of "
    "a result, so it is part of the key. More pay off for large nets on a CPU with few stages at once."
)
PRECISION = (
    "Numbers that the net computes in: bf16 (half the memory, and fast where the processor has it) or fp32. "
    "Take fp32 on an older CPU, which is slow in bf16, or where training diverges."
)
CHANNELS_LAST = (
    "Keep images with their channels last in memory: faster for convolutions, no matter for others."
)


class TrainSettings(Settings):
    """How one model is trained. Units are in the names."""

    backbone: str = Field(
        default="resnet50",
        min_length=1,
        max_length=200,
        description="The net: a preset (resnet8 and resnet20 for small images, resnet50, se_resnext152, …) "
        "or any name of timm's, with a tag for its weights where `pretrained` is on (`resnet50.a1_in1k`).",
    )
    small_stem: bool | Literal["auto"] = Field(
        default="auto",
        description="A stem that does not shrink the image: for inputs of up to 64 pixels. auto: by the "
        "largest input size.",
    )
    pretrained: bool = Field(
        default=False,
        description="Start from weights that timm downloads, the one thing that smelt takes from a network. "
        "Turn it on for few images.",
    )
    weights: Annotated[str | None, NotInKey("their content is, by its hash")] = Field(
        default=None,
        min_length=1,
        max_length=4000,
        description="Weights to start from: a file (safetensors, or what torch.save wrote, of whatever "
        "tool), WORK:round/name (a model of another run) or a name of timm's. Images are shown as they want "
        "it. null: none but those of `pretrained`.",
    )
    head_epochs: Annotated[int, Epochs] = Field(
        default=0,
        ge=0,
        le=100_000,
        description="In the first so many epochs only the head learns, at the full rate; the schedule begins "
        "after them. 1 to 5 for a new head on weights from elsewhere; all of `epochs`: nothing but a head.",
    )
    layer_decay: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="Each layer learns at so much of the rate of the one behind it. 0.65 to 0.9 for "
        "fine-tuning; null: all at one rate.",
    )
    frozen_stages: Annotated[int, Limit("no net has more stages")] = Field(
        default=0,
        ge=0,
        le=1000,
        description="The first so many stages stay as they are, with their statistics; the stem is the "
        "first. For few images, and quicker.",
    )
    drop_rate: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Share of the values before the last layer that dropout leaves out in training.",
    )
    drop_path_rate: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Chance that a residual branch is left out in training (stochastic depth), of the "
        "deepest block. 0.1 to 0.3 for transformers and long training.",
    )
    augment: AugmentSettings = Field(
        default=AugmentSettings(), description="How training images are shown: sizes, crops, flips."
    )

    epochs: Annotated[int, Epochs] = Field(
        default=90,
        ge=1,
        le=100_000,
        description="Passes over the selection; with `images_per_class`, an epoch is so many images of each "
        "class. More for small sets and long schedules.",
    )
    batch_size: Annotated[int, Limit("no machine holds a larger batch")] = Field(
        default=256,
        ge=1,
        le=1 << 20,
        description="Images of one optimiser step, over all ranks and accumulated parts. Scale the learning "
        "rate with it.",
    )
    accumulate_steps: Annotated[int, Limit("a step in more parts has fewer images than one in each")] = Field(
        default=1,
        ge=1,
        le=4096,
        description="Parts that a batch is computed in, one after the other. Raise it where memory does not "
        "hold a whole batch.",
    )
    images_per_class: Annotated[int | None, Limit("no class has more images")] = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="Images of every class in an epoch (class balance: those of small classes come again). "
        "null: every image once.",
    )
    seed: Seed = Field(
        default=0,
        description="Seed of the first weights, the order and the augmentation. A recipe sets it, from its "
        "own `seed` and those of `models`: change these.",
    )

    optimiser: Literal["sgd", "adamw"] = Field(
        default="sgd", description="sgd with momentum for convolutional nets, adamw for transformers."
    )
    learning_rate: (
        Annotated[float, Field(gt=0.0, lt=MAX_RATE), Limit("every net diverges there")] | Literal["tune"]
    ) = Field(
        default=0.1,
        description='Highest learning rate of the schedule, above 0; or "tune": the one that a range test '
        "finds, at the cost of `tune.steps` steps. 0.1 for sgd with a batch of 256, 0.001 for adamw.",
    )
    momentum: Annotated[float, KeyIf("optimiser", "sgd")] = Field(
        default=0.9, ge=0.0, lt=1.0, description="Weight of past gradients; only sgd reads it."
    )
    nesterov: Annotated[bool, KeyIf("optimiser", "sgd")] = Field(
        default=False, description="Nesterov's form of momentum; only sgd reads it."
    )
    weight_decay: float = Field(
        default=1e-4,
        ge=0.0,
        le=10.0,
        description="How strongly weights are drawn to 0. 1e-4 to 5e-4 for sgd, 0.01 to 0.1 for adamw.",
    )
    schedule: Literal["cosine", "constant", "step"] = Field(
        default="cosine",
        description="How the rate goes on behind the warm-up: down a cosine to 0, constant, or in steps "
        "(`step_at`, `step_factor`).",
    )
    warmup_epochs: Annotated[float, Epochs] = Field(
        default=0.0,
        ge=0.0,
        lt=100_000.0,
        description="Epochs over which the rate grows to its height, less than `epochs`. 1 to 5 for large "
        "rates and transformers; 0: none.",
    )
    step_at: Annotated[tuple[Share, ...], KeyIf("schedule", "step")] = Field(
        default=(0.3333333333333333, 0.6666666666666666, 0.8888888888888888),
        min_length=1,
        max_length=1000,
        description="Where the schedule `step` lowers the rate, as shares of all steps.",
    )
    step_factor: Annotated[float, KeyIf("schedule", "step")] = Field(
        default=0.1, gt=0.0, lt=1.0, description="What the schedule `step` multiplies the rate by each time."
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Share of the label that is spread over all classes. 0.1 for clean labels and long "
        "training.",
    )
    loss: Literal["cross_entropy", "gce"] = Field(
        default="cross_entropy",
        description="What is minimised: the cross entropy, or the generalised one (gce; Zhang and Sabuncu "
        "2018, eq. 6), which gives less to images that the net disagrees with. gce for noisy labels and few "
        "classes: it learns slowly where there are many.",
    )
    gce_q: Annotated[float, KeyIf("loss", "gce")] = Field(
        default=0.7,
        gt=0.0,
        le=1.0,
        description="q of gce: near 0 it is the cross entropy, at 1 the mean absolute error. 0.7 in the "
        "paper; only gce reads it.",
    )
    mixing: MixingSettings | None = Field(
        default=None,
        description="Mixes the images of a batch in pairs (mixup, CutMix); null: shown as they are. For long "
        "training and noisy labels.",
    )
    elr: ElrSettings | None = Field(
        default=None,
        description="Early-learning regularisation, for noisy labels that would be learnt by heart: long "
        "training, or a head on weights from elsewhere. In short training from scratch it harms. null: none.",
    )
    semi: SemiSettings | None = Field(
        default=None,
        description="Learns from the rows that the selection dropped as probably wrong, without their label, "
        "with one net or two; null: they are left out. For training from scratch.",
    )
    clip_norm: float | None = Field(
        default=None,
        gt=0.0,
        le=1e6,
        description="Gradients are scaled down to this norm where they are larger; null: never. 1 for "
        "transformers.",
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0.0,
        lt=1.0,
        description="Keep a running average of the weights, with so much of the past at each step (0.999), "
        "and predict with it; null: none.",
    )
    distillation: Annotated[DistillationSettings, KeyIfInput("teacher")] = Field(
        default=DistillationSettings(), description="How a round with a `teacher` learns from its scores."
    )
    tune: Annotated[TuneSettings, NotInKey("only the stage tune reads it, whose key is an input")] = Field(
        default=TuneSettings(), description="The range test of `learning_rate: tune`."
    )

    precision: Literal["fp32", "bf16"] = Field(default="bf16", description=PRECISION)
    channels_last: bool = Field(default=True, description=CHANNELS_LAST)
    deterministic: bool = Field(
        default=True,
        description="Only algorithms that give the same bytes every time. Off is a little faster on a GPU, "
        "and a run that goes on after a kill may then differ in its last bits.",
    )
    threads: Threads = Field(default=1, description=THREADS)
    world_size: Annotated[int, Limit("no run has more processes")] = Field(
        default=1,
        ge=1,
        le=4096,
        description="Processes that train one model together, each on a GPU of its own (or on the CPU, for "
        "tests). The batch is divided among them.",
    )

    record_epochs: Annotated[int | None, Epochs] = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Record margins in the first so many epochs only, as the AUM paper does before the rate "
        "first drops; null: in all.",
    )
    validate_every_epochs: Annotated[int, Epochs] = Field(
        default=1,
        ge=1,
        le=100_000,
        description="Measure validation accuracy after every so many epochs, and after the last. Raise it "
        "where validation is large.",
    )
    validation_view: ViewSettings | None = Field(
        default=None,
        description="How validation images are shown during training; null: one crop of the largest training "
        "size.",
    )
    checkpoint_every_steps: Annotated[
        int | None,
        NotInKey("resuming gives the bytes of an undisturbed run"),
        Limit("a training has fewer steps"),
    ] = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Write a checkpoint after every so many steps, beside that of every epoch; null: only "
        "those. Set it where an epoch takes hours.",
    )
    max_bad_fraction: Annotated[float, NotInKey("a limit: training ends with an error or as without it")] = (
        Field(
            default=0.01,
            ge=0.0,
            le=1.0,
            description="Share of images that may turn out unreadable in training before it stops with an "
            "error.",
        )
    )
    max_bad_steps: int = Field(
        default=5,
        ge=0,
        le=1_000_000,
        description="Steps in a row with a loss or gradient that is not finite, before training goes back to "
        "the last checkpoint with half the rate.",
    )

    @model_validator(mode="after")
    def _possible(self) -> TrainSettings:
        if self.warmup_epochs >= self.epochs:
            raise Disagreement(
                {"warmup_epochs": self.warmup_epochs, "epochs": self.epochs},
                "the warm-up has to be shorter than the training",
                "-o {warmup_epochs}=0 is none, or more {epochs}",
            )
        if (
            self.head_epochs > self.epochs
            or self.epochs > self.head_epochs >= self.epochs - self.warmup_epochs
        ):
            counts = ("head_epochs", "warmup_epochs", "epochs")
            raise Disagreement(
                {name: getattr(self, name) for name in counts if getattr(self, name)},
                "the head's epochs come first, then the warm-up, then some for all layers (or none, where "
                "the head has all epochs)",
                "a smaller {head_epochs}, or more {epochs}",
            )
        if self.weights is not None and self.pretrained:
            raise Disagreement(
                {"weights": self.weights, "pretrained": self.pretrained},
                "a net starts from one of them",
                "-o {weights}=null, or -o {pretrained}=false",
            )
        if self.elr is not None and self.mixing is not None and self.mixing.probability == 1.0:
            raise Disagreement(
                {"mixing.probability": 1.0, "elr.weight": self.elr.weight},
                "targets of elr go by batches that are not mixed, and there would be none",
                "-o {mixing.probability}=0.5, or -o {elr}=null",
            )
        parts = self.world_size * self.accumulate_steps
        if self.batch_size < parts:
            names = [name for name in ("world_size", "accumulate_steps") if getattr(self, name) > 1]
            raise Disagreement(
                {name: getattr(self, name) for name in ("batch_size", *names)},
                f"a batch has an image at least for each process and each part of a step, {parts:,} together",
                f"a larger {{batch_size}}, or a smaller {' or '.join(f'{{{name}}}' for name in names)}",
            )
        if self.nesterov and self.momentum == 0.0:
            raise Disagreement(
                {"nesterov": self.nesterov, "momentum": self.momentum},
                "Nesterov's form needs momentum above 0",
                "-o {nesterov}=false, or {momentum} above 0",
            )
        return self

    @model_validator(mode="after")
    def _semi_possible(self) -> TrainSettings:
        if self.semi is not None:
            self.semi.go_with(dict(self))
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
