"""Settings that no component owns: the `runtime` of every stage, those of `features`, `tune`, `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from smelt.data.config import Pixels
from smelt.learning.config import CHANNELS_LAST, PRECISION, THREADS, Threads, TrainSettings
from smelt.settings import Disagreement, InKey, Limit, NotInKey, Rule, Settings


class Runtime(Settings):
    """What may differ from machine to machine without changing a byte of the result; never in a key.

    Of `device` the kind counts: stages that compute on it have it in their key (`Node.device`).
    """

    RULES: ClassVar[Mapping[str, Rule]] = {
        "root": NotInKey("what lies in it counts by `fingerprint`"),
        "workers": NotInKey("rows come in one order, however many load them"),
        "device": NotInKey("its kind is a part of the key of its own, its numbers are leases"),
        "log_every_seconds": NotInKey("what is shown"),
        "stall_warning_seconds": NotInKey("what is shown"),
        "stall_limit_seconds": NotInKey("a stage that is ended goes on to the same bytes"),
    }
    root: str | None = Field(
        default=None, description="Not set in a recipe: the run fills in the folder of `data.root`."
    )
    workers: Annotated[int, Limit("no machine gains from more")] = Field(
        default=2,
        ge=1,
        le=1024,
        description="Threads or processes of a stage that load images. As many as there are cores for each "
        "stage that runs at once.",
    )
    device: str = Field(
        default="cpu",
        pattern=r"^(cpu|cuda(:\d{1,4}(,\d{1,4})*)?)$",
        description="Where nets compute: cpu, cuda (every GPU that is visible), or GPUs by number "
        "(cuda:0,1).",
    )
    log_every_seconds: float = Field(
        default=2.0,
        ge=0,
        le=86_400,
        description="Seconds between the lines of progress of a training.",
    )
    stall_warning_seconds: float | None = Field(
        default=45.0,
        ge=1,
        le=86_400,
        description="Seconds after which a stage that stands still (no event, no processor time, or one of "
        "its processes stopped) is named in a warning with its process and its log. null: never.",
    )
    stall_limit_seconds: float | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description="Seconds after which a stage that stands still is ended; the same command goes on from "
        "what it had saved. Longer than the longest wait for a slow disk or network. null: left alone.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> Runtime:
        numbers = self.device.partition(":")[2].split(",")
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"device: {self.device} names a GPU twice")
        return self


class FeaturesSettings(Settings):
    """Features of all images under one net: one with weights from elsewhere, or a model of the run."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}$",
        description="What they are called in the flowchart (`features/NAME`) and in scores.",
    )
    weights: Annotated[str | None, NotInKey("the content of the weights counts, not where they lie")] = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Whose weights the net has: a file (safetensors, .pth), a name of timm's, which may ask "
        "a network for them, or WORK:round/model-seed, a model of another run. null: `model` says.",
    )
    backbone: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="The net that the weights are of, as in `train.backbone`; null: what the weights say.",
    )
    image_text: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="The net reads images and words, by this architecture of open_clip (ViT-B-32, or "
        "ViT-B-32-quickgelu for OpenAI's weights, …; the extra `smelt[clip]`), and `weights` is a file: what "
        "it makes of the classes' words is kept, for a zero-shot score. null: a net of images.",
    )
    model: Annotated[str | None, NotInKey("its training is an input")] = Field(
        default=None,
        pattern=r"^[^/]+/[^/]+-[0-9]+$",
        description="A model of this run, ROUND/MODEL-SEED, in place of `weights`. Its own round and later "
        "ones can be ranked by it.",
    )
    size: Pixels | None = Field(
        default=None,
        description="Input size in pixels; null: what the weights were made for. It costs with its square: "
        "for copies and odd ones out 128 is enough.",
    )
    crops: Literal[1, 5, 10] = Field(
        default=1, description="Crops that are averaged, as in `predict.views`. They cost in proportion."
    )
    resize: float = Field(
        default=1.0,
        ge=1.0,
        le=4.0,
        description="Short side of the scaled image over `size`, before cropping. 1: all of the short side.",
    )
    flip: bool = Field(
        default=False, description="Average with the mirror image, at twice the cost; not where sides matter."
    )
    batch_size: Annotated[int, Limit("no machine holds a larger batch")] = Field(
        default=64, ge=1, le=1 << 20, description="Images at once. Lower it where memory runs out."
    )
    precision: Literal["fp32", "bf16"] = Field(default="bf16", description=PRECISION)
    channels_last: bool = Field(default=True, description=CHANNELS_LAST)
    threads: Threads = Field(default=1, description=THREADS)

    @model_validator(mode="after")
    def _one_net(self) -> FeaturesSettings:
        if self.model is None and self.weights is None:
            raise ValueError("weights: whose features? a file of weights, a name of timm's, or `model`")
        for name in ("weights", "backbone"):
            if self.model is not None and getattr(self, name) is not None:
                raise Disagreement(
                    {name: getattr(self, name), "model": self.model},
                    "a model of the run has its own net and weights",
                    f"leave {{{name}}} out, or {{model}}",
                )
        for name in ("model", "backbone", "size"):
            if self.image_text is not None and getattr(self, name) is not None:
                raise Disagreement(
                    {"image_text": self.image_text, name: getattr(self, name)},
                    "a net of images and words has weights of its own, and a size that they were made for",
                    f"leave {{{name}}} out, or {{image_text}}",
                )
        if self.flip and self.crops == 10:
            raise Disagreement(
                {"flip": True, "crops": 10},
                "ten crops have their mirror images among them",
                "-o {flip}=false, or -o {crops}=5",
            )
        return self


class DecidingSettings(Settings):
    """When a step of the flowchart is taken: of rounds with `select: {method: auto}`."""

    standard_errors: float = Field(
        default=1.0,
        ge=-1000.0,
        le=1000.0,
        description="A step is taken where what it gains on validation is more than so many of its standard "
        "errors. Higher takes only what is surer; 0 whatever climbs; -1000 the best of what was tried, "
        "whether it climbs or not.",
    )


class DecideSettings(DecidingSettings):
    """What was tried, in the order of the port, and what it is judged by."""

    metric: Literal["auto", "top1", "top5"] = Field(
        default="auto", description="Class-averaged accuracy that is compared; from `fuse.metric`."
    )
    view: str = Field(description="Name of the view that models are compared under.")
    tries: tuple[str, ...] = Field(min_length=1, description="What each try is called.")
    validation_labels: Literal["checked", "crawled"] | None = Field(
        default=None,
        description="Whether labels of validation can be taken to be right; crawled ones count as far as "
        "they probably are. null: crawled.",
    )


class RoundSettings(Settings):
    """What the ladder must know of a round."""

    name: str = Field(description="Name of the round, from the recipe.")
    title: str = Field(default="", description="What the ladder calls the round, from the recipe.")
    models: tuple[str, ...] = Field(description="Names of the models behind the artefacts on its ports.")
    fused: bool = Field(default=True, description="Whether its results are part of the fusion.")


class EvaluateSettings(Settings):
    """The rounds, in order, and the view that single models are compared under."""

    view: str = Field(description="Name of the view that single models are compared under.")
    rounds: tuple[RoundSettings, ...] = Field(description="The rounds of the recipe, in order.")


class RangeTestSettings(TrainSettings):
    """The training that the stage `tune` seeks a rate for; its field `tune` is the test's own."""

    RULES: ClassVar[Mapping[str, Rule]] = {
        "tune": InKey(),
        **dict.fromkeys(
            ("epochs", "head_epochs", "learning_rate", "schedule", "warmup_epochs", "step_at", "step_factor",
             "ema_decay", "distillation", "record_epochs", "validate_every_epochs", "validation_view",
             "max_bad_steps"),
            NotInKey("the range test has one rate a step, no epochs, no average and no validation"),
        ),
        **dict.fromkeys(
            ("loss", "gce_q", "mixing", "elr", "semi"),
            NotInKey("the range test goes by the plain cross entropy of images as they are"),
        ),
    }  # fmt: skip
