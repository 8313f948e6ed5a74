"""Settings of fusion: what is tried, how it is judged, and the search's own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from smelt.settings import Settings

Pooling = Literal["probability", "log_probability", "rank"]
Method = Literal[
    "mean_probability", "mean_log_probability", "mean_rank",
    "tempered_probability", "tempered_log_probability",
    "linear_pool", "log_pool", "stacking",
    "greedy", "coordinate", "genetic",
]  # fmt: skip
MEANS: tuple[Method, ...] = ("mean_probability", "mean_log_probability", "mean_rank")
TEMPERED: tuple[Method, ...] = ("tempered_probability", "tempered_log_probability")
POOLS: tuple[Method, ...] = ("linear_pool", "log_pool")
STACKED: tuple[Method, ...] = ("stacking",)
SEARCHES: tuple[Method, ...] = ("greedy", "coordinate", "genetic")


class GeneticSettings(Settings):
    """The genetic algorithm over result weights; the defaults suit tens to hundreds of results.

    population, generations: individuals, and how often they are replaced. tournament: how many are drawn
    for each parent, the best becomes it. crossover: chance that a child has two parents. mutation: chance
    that a gene changes; mutation_scale: standard deviation of the change's logarithm, halved over the run.
    drop: chance that a mutated gene becomes 0 or comes back. elite: the best that live on unchanged.
    patience: generations without a better best before it stops. The weights of the pools are among the first
    population, so that few generations do.
    """

    population: int = Field(default=20, ge=4)
    generations: int = Field(default=16, ge=1)
    tournament: int = Field(default=3, ge=2)
    crossover: float = Field(default=0.8, ge=0, le=1)
    mutation: float = Field(default=0.2, ge=0, le=1)
    mutation_scale: float = Field(default=0.4, gt=0)
    drop: float = Field(default=0.1, ge=0, le=1)
    elite: int = Field(default=2, ge=1)
    patience: int = Field(default=4, ge=1)


class FuseSettings(Settings):
    """What the stage `fuse` tries and how it chooses.

    metric: the accuracy that weights are chosen by; auto: top-5 where there are more than five classes,
    else top-1. methods: all are fitted, judged and kept. poolings: those that searches may run over: the
    first, unless the plain average makes the labels clearly likelier under another. folds: parts of the
    labelled images; everything is fitted and chosen without one of them, and judged on it. shrinkage:
    shares of equal weights mixed into fitted weights, chosen by what holds out. penalties: of stacking, how
    dear its distance from the logarithmic pool is, chosen by what holds out. bound: no result gets more than
    this many times its equal share (null: the largest that fits `memory_gib`). memory_gib: of the table of a
    pooling; two are in memory at a time. sure: how certain (one-sided, by bootstrap) a gain over the plain
    average must be before anything else is used instead of it. set_aside: leave out results that are
    constant, at chance or full of ties (false: they are only named). write_scores: splits whose fused scores
    are written whole, as a teacher for distillation or for other programs.
    """

    metric: Literal["auto", "top1", "top5"] = "auto"
    methods: tuple[Method, ...] = Field(
        default=(*MEANS, *TEMPERED, *POOLS, *STACKED, *SEARCHES), min_length=1
    )
    poolings: tuple[Pooling, ...] = Field(default=("probability", "log_probability"), min_length=1)
    folds: int = Field(default=5, ge=3, le=20)
    shrinkage: tuple[float, ...] = Field(default=(0.0, 0.25, 0.5, 0.75), min_length=1)
    penalties: tuple[Annotated[float, Field(ge=1e-8)], ...] = Field(
        default=(1.0, 0.03, 0.001, 0.00003), min_length=1
    )
    seed: int = Field(default=0, ge=0)
    genetic: GeneticSettings = GeneticSettings()
    bound: float | None = Field(default=None, ge=1)
    memory_gib: float = Field(default=4.0, gt=0)
    bootstrap: int = Field(default=500, ge=100)
    sure: float = Field(default=0.95, ge=0.5, lt=1)
    set_aside: bool = True
    write_scores: tuple[Literal["train", "val", "test"], ...] = ()

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
