"""Settings of fusion: what is tried, how it is judged, and the search's own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from smelt.settings import Settings

Pooling = Literal["probability", "log_probability", "rank"]
Method = Literal[
    "mean_probability", "mean_log_probability", "mean_rank",
    "tempered_probability", "tempered_log_probability",
    "greedy", "coordinate", "genetic",
]  # fmt: skip
MEANS: tuple[Method, ...] = ("mean_probability", "mean_log_probability", "mean_rank")
TEMPERED: tuple[Method, ...] = ("tempered_probability", "tempered_log_probability")
SEARCHES: tuple[Method, ...] = ("greedy", "coordinate", "genetic")


class GeneticSettings(Settings):
    """The genetic algorithm over result weights; the defaults suit tens to hundreds of results.

    population, generations: individuals, and how often they are replaced. tournament: how many are drawn
    for each parent, the best becomes it. crossover: chance that a child has two parents. mutation: chance
    that a gene changes; mutation_scale: standard deviation of the change's logarithm, halved over the run.
    drop: chance that a mutated gene becomes 0 or comes back. elite: the best that live on unchanged.
    patience: generations without a better best before it stops.
    """

    population: int = Field(default=64, ge=4)
    generations: int = Field(default=100, ge=1)
    tournament: int = Field(default=3, ge=2)
    crossover: float = Field(default=0.8, ge=0, le=1)
    mutation: float = Field(default=0.2, ge=0, le=1)
    mutation_scale: float = Field(default=0.4, gt=0)
    drop: float = Field(default=0.1, ge=0, le=1)
    elite: int = Field(default=2, ge=1)
    patience: int = Field(default=20, ge=1)


class FuseSettings(Settings):
    """What the stage `fuse` tries and how it chooses.

    metric: the accuracy that weights are chosen by. methods: all are fitted, judged and kept. poolings: the
    tables that searches run over; each search takes the one that holds out better. folds: parts of
    validation; weights are fitted on all but one and judged on that one. shrinkage: shares of equal weights
    mixed into fitted weights, chosen by what holds out. bound: no result gets more than this many times its
    equal share (null: the largest that fits `memory_gib`). sure: how certain (one-sided, by bootstrap) a
    gain over the best simple mean must be before fitted weights are used instead of it. write_scores: splits
    whose fused scores are written whole, as a teacher for distillation or for other programs.
    """

    metric: Literal["top1", "top5"] = "top5"
    methods: tuple[Method, ...] = Field(default=(*MEANS, *TEMPERED, *SEARCHES), min_length=1)
    poolings: tuple[Pooling, ...] = Field(default=("probability", "log_probability"), min_length=1)
    folds: int = Field(default=5, ge=2, le=20)
    shrinkage: tuple[float, ...] = Field(default=(0.0, 0.25, 0.5, 0.75), min_length=1)
    seed: int = Field(default=0, ge=0)
    genetic: GeneticSettings = GeneticSettings()
    bound: float | None = Field(default=None, ge=1)
    memory_gib: float = Field(default=4.0, gt=0)
    bootstrap: int = Field(default=1000, ge=100)
    sure: float = Field(default=0.8, ge=0.5, lt=1)
    write_scores: tuple[Literal["train", "val", "test"], ...] = ()

    @property
    def k(self) -> int:
        """The k of the metric."""
        return int(self.metric.removeprefix("top"))
