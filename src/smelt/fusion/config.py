"""Settings of fusion: what is tried, how it is judged, and the search's own."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from smelt.fusion import methods
from smelt.settings import Disagreement, KeyIf, Limit, Seed, Settings, Share

Pooling = Literal["probability", "log_probability", "rank"]
if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(one.name for one in pkgutil.iter_modules(methods.__path__))]  # a module a method


class GeneticSettings(Settings):
    """The genetic algorithm over result weights; the defaults suit tens to hundreds of results.

    The weights of the pools are among the first population, so that few generations do.
    """

    population: Annotated[int, Limit("every individual is judged on all images")] = Field(
        default=20, ge=4, le=10_000, description="Individuals. More where there are hundreds of results."
    )
    generations: Annotated[int, Limit("a search that has found nothing by then will not")] = Field(
        default=16, ge=1, le=100_000, description="How often the population is replaced, at most."
    )
    tournament: Annotated[int, Limit("with more, every parent is the best")] = Field(
        default=3,
        ge=2,
        le=1000,
        description="Individuals that are drawn for each parent; the best becomes it. More is greedier.",
    )
    crossover: float = Field(default=0.8, ge=0, le=1, description="Chance that a child has two parents.")
    mutation: float = Field(default=0.2, ge=0, le=1, description="Chance that a gene changes.")
    mutation_scale: float = Field(
        default=0.4,
        gt=0,
        le=10,
        description="Standard deviation of the change's logarithm, halved over the run.",
    )
    drop: float = Field(
        default=0.1, ge=0, le=1, description="Chance that a mutated gene becomes 0 or comes back."
    )
    elite: Annotated[int, Limit("no population has more")] = Field(
        default=2, ge=1, le=10_000, description="The best, that live on unchanged. Fewer than `population`."
    )
    patience: Annotated[int, Limit("no search has more generations")] = Field(
        default=4, ge=1, le=100_000, description="Generations without a better best before it stops."
    )

    @model_validator(mode="after")
    def _possible(self) -> GeneticSettings:
        if self.elite >= self.population:
            raise Disagreement(
                {"elite": self.elite, "population": self.population},
                "the best that live on are fewer than the population",
                f"{{elite}} up to {self.population - 1}, or a larger {{population}}",
            )
        return self


class FuseSettings(Settings):
    """What the stage `fuse` tries and how it chooses."""

    metric: Literal["auto", "top1", "top5"] = Field(
        default="auto",
        description="The class-averaged accuracy that weights are chosen by; auto: top-5 where there are "
        "more than five classes, else top-1.",
    )
    methods: tuple[Method, ...] = Field(
        default=(
            "mean_probability",
            "mean_log_probability",
            "mean_rank",
            "tempered_probability",
            "tempered_log_probability",
            "linear_pool",
            "log_pool",
            "stacking",
            "greedy",
            "coordinate",
            "genetic",
        ),
        min_length=1,
        description="What is tried: all are fitted, judged and kept. Fewer are quicker.",
    )
    poolings: tuple[Pooling, ...] = Field(
        default=("probability", "log_probability"),
        min_length=1,
        description="Poolings that searches may run over: the first, unless the plain average makes the "
        "labels clearly likelier under another.",
    )
    folds: int = Field(
        default=5,
        ge=3,
        le=20,
        description="Parts of the labelled images; everything is fitted and chosen without one of them, and "
        "judged on it. More for few images.",
    )
    shrinkage: tuple[Share, ...] = Field(
        default=(0.0, 0.25, 0.5, 0.75),
        min_length=1,
        max_length=100,
        description="Shares of equal weights mixed into fitted weights; what holds out chooses among them.",
    )
    penalties: tuple[Annotated[float, Field(ge=1e-8, le=1e8)], ...] = Field(
        default=(1.0, 0.03, 0.001, 0.00003),
        min_length=1,
        max_length=100,
        description="Of stacking: how dear its distance from the logarithmic pool is; what holds out chooses "
        "among them.",
    )
    seed: Seed = Field(default=0, description="Seed of folds and searches; `seed` of the recipe shifts it.")
    genetic: GeneticSettings = Field(default=GeneticSettings(), description="The genetic search's own.")
    bound: float | None = Field(
        default=None,
        ge=1,
        le=1e6,
        description="No result gets more than this many times its equal share; null: the largest that fits "
        "`memory_gib`.",
    )
    memory_gib: Annotated[float, KeyIf("bound", None), Limit("no machine has more memory")] = Field(
        default=4.0,
        gt=0,
        le=65536,
        description="Memory in GiB for the table of a pooling; two are in memory at a time. Raise it for "
        "hundreds of results.",
    )
    bootstrap: Annotated[int, Limit("more say nothing more")] = Field(
        default=500, ge=100, le=1_000_000, description="Bootstrap samples that a gain is judged by."
    )
    sure: float = Field(
        default=0.95,
        ge=0.5,
        lt=1,
        description="How certain (one-sided, by bootstrap) a gain over the plain average must be before "
        "anything else is used instead of it.",
    )
    set_aside: bool = Field(
        default=True,
        description="Leave out results that are constant, at chance or full of ties; false: only name them.",
    )
    write_scores: tuple[Literal["train", "val", "test"], ...] = Field(
        default=(),
        description="Splits whose fused scores are written whole, as a teacher for distillation or for other "
        "programs.",
    )

    def resolved(self, num_classes: int) -> tuple[FuseSettings, str]:
        """Settings with the metric settled for so many classes, and why it is that one, in words."""
        if self.metric != "auto":
            return self, f"{self.metric.replace('top', 'top-')} was asked for"
        metric = "top5" if num_classes > 5 else "top1"
        words = f"{metric.replace('top', 'top-')}, since there are {num_classes} classes"
        return self.model_copy(update={"metric": metric}), words

    @property
    def k(self) -> int:
        """The k of the metric, which must be settled."""
        assert self.metric != "auto", "resolved() settles the metric"
        return int(self.metric.removeprefix("top"))


class SubmitSettings(Settings):
    """Settings of the stage `submit`."""

    split: Literal["test", "val"] = Field(
        default="test", description="Whose images the submission is of; val to try the form of it."
    )
