"""Settings of mining: how to rank, what to select.

A score is a module of `mining/scores`, a way of selecting one of `mining/selections`, each by its name. This
lists the modules and reads what they declare, and imports none of them: they import numpy.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from smelt.settings import (
    MAX_KEPT,
    Disagreement,
    KeyIf,
    Limit,
    NotInKey,
    Seed,
    Settings,
    constant,
    loaded,
    modules_of,
)

SCORES = "smelt.mining.scores"
# The order of the columns of a ranking; scores that come to them follow by name
ORDER = (
    "aum", "late_aum", "log_margin", "probability", "small_loss", "accuracy", "forgetting", "variability",
    "centroid", "ridge", "knn", "density", "text", "zero_shot",
)  # fmt: skip
FUSED = "fused"  # not a module: the mean of those that `fuse` names

SELECTIONS = "smelt.mining.selections"

if TYPE_CHECKING:
    Score = str
    Part = str
    Method = str
else:
    Part = Literal[modules_of(SCORES, ORDER)]
    Score = Literal[(FUSED, *modules_of(SCORES, ORDER))]
    Method = Literal[modules_of(SELECTIONS)]

# By way of selecting: the ports of the stage `select` that it goes by, and the settings that it reads
NEEDS: dict[str, tuple[str, ...]] = {m: constant(SELECTIONS, m, "NEEDS") for m in modules_of(SELECTIONS)}
READS: dict[str, tuple[str, ...]] = {m: constant(SELECTIONS, m, "READS") for m in modules_of(SELECTIONS)}


def _read(name: str) -> KeyIf:
    """The rule of a setting that some ways of selecting read: it counts for these."""
    return KeyIf("method", *(method for method, names in READS.items() if name in names))


def score_modules() -> dict[str, ModuleType]:
    """The modules of all scores, by name; imports them, and so numpy."""
    return loaded(SCORES, modules_of(SCORES, ORDER))


def selection_module(method: str) -> ModuleType:
    """The module of a way of selecting; imports it, and so numpy."""
    return loaded(SELECTIONS, [method])[method]


class RankSettings(Settings):
    """How what is known of rows becomes one cleanness for each."""

    score: Score = Field(
        default=FUSED,
        description="What images are ranked by: fused, the mean of the normal quantiles of the scores in "
        "`fuse`; aum, the margin of the label's logit over the highest other, averaged over training (Pleiss "
        "et al. 2020); or another record of training; centroid, ridge, knn or density of features; text; "
        "zero_shot, of a net of images and words.",
    )
    fuse: Annotated[tuple[Part, ...], KeyIf("score", FUSED)] = Field(
        default=("late_aum", "centroid", "knn", "text"),
        min_length=1,
        max_length=100,
        description="Scores that fused is the mean of, as far as there are: those of training where there is "
        "one, those of features where a recipe has `features`, text where it tells classes apart.",
    )
    combine: Literal["standard", "rank", "mean"] = Field(
        default="standard",
        description="How each model's scores x are brought to one scale before they are averaged: (x − mean)/"
        "deviation, the rank of x in 0..1, or x as it is.",
    )
    per_class: bool = Field(
        default=False,
        description="Bring scores of training to one scale within each class, so that hard classes lose no "
        "more than others. It loses 1.5 to 6.7 points of precision where some classes are noisier than "
        "others, which is usual.",
    )
    validation_labels: Literal["checked", "crawled"] | None = Field(
        default=None,
        description="Whether labels of validation can be taken to be right, so that by it the share of "
        "wrong ones in training can be told: checked, or crawled like those of training. null: by the "
        "data's format.",
    )


class DownWeightSettings(Settings):
    """A band of ranks (0 the cleanest row, 1 the least clean) that is learnt from with less weight."""

    start: float = Field(
        0.7, ge=0, le=1, description="Where the band begins: 0.7 is behind the cleanest 70 %."
    )
    stop: float = Field(0.9, ge=0, le=1, description="Where the band ends, above `start`.")
    weight: float = Field(0.5, gt=0, le=1, description="Weight of the rows of the band in the loss.")


class SelectSettings(Settings):
    """What a round learns from.

    `likely_wrong` goes row by row by the probability that the label is wrong, p: a row beyond `above` is
    dropped, taught softly or relabelled (`teach`); from `down_weight_from` to there it counts 1 − p. Without
    features nothing tells p: it flags `fraction` then, as lowest_fraction does. Other depths of the cut are
    other values of `above` (and of `fraction`, for data without features).

    Where training was not enough to tell, or validation cannot check it, `noise_rate` warns and flags
    `fraction`, or the share of negative AUMs that validation does not explain if that is less, within the
    interval of what is possible if there is one.
    """

    method: Method = Field(
        default="all",
        description="all; lowest_fraction: the least clean share is flagged; noise_rate: as large a share "
        "as is estimated to be wrong; threshold_runs: `part` 0 or 1 of the rows get an extra class (the "
        "two trainings before threshold_samples); threshold_samples: what scored below them is flagged; "
        "worst_classes: only the classes of lowest validation accuracy are kept; likely_wrong: row by "
        "row, by how likely each label is wrong (by features, or by an audit).",
    )
    fraction: Annotated[float, _read("fraction")] = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of the rows that is flagged; the winners of WebVision 2020 dropped 0.2. Of "
        "noise_rate it is what to fall back on.",
    )
    above: Annotated[float, _read("above")] = Field(
        0.5,
        ge=0,
        le=1,
        description="likely_wrong: labels that are wrong with a larger probability are not learnt.",
    )
    down_weight_from: Annotated[float | None, _read("down_weight_from")] = Field(
        default=None,
        ge=0,
        le=1,
        description="likely_wrong: a label that is wrong with a probability p from this on, up to `above`, "
        "has the weight 1 − p; null: none has.",
    )
    teach: Annotated[Literal["labels", "soft", "relabel"], _read("teach")] = Field(
        default="labels",
        description="likely_wrong: rows beyond `above` are dropped (labels); taught, as every row in doubt "
        "is, a mixture of their label and of what the features say instead, by p (soft); or taught the "
        "likeliest other class where that is sure enough (relabel). What shows none of the classes is "
        "dropped. Another class is taught only where it is known to be right often enough, see "
        "`new_label_right`.",
    )
    new_label_right: Annotated[float, _read("new_label_right")] = Field(
        0.6,
        ge=0,
        le=1,
        description="The least share of new labels that has to be right before any is taught: the lower end "
        "of its interval, by the right classes of an audit, else by validation whose labels were checked. "
        "Where neither tells, no new label is taught. relabel: a row's own new label has to be as likely, "
        "too.",
    )
    audit: Annotated[str | None, NotInKey("the content of the audit counts, not where it lies")] = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="likely_wrong: what people's verdicts say comes before what features say. What smelt "
        "audit wrote: the folder WORK/audit, its verdicts-train.csv or its p_wrong.parquet; null: none.",
    )
    within: Literal["all", "class"] = Field(
        default="all",
        description="Of which rows the fraction or rate is taken: of all, or of each class by itself.",
    )
    flagged_weight: float = Field(
        0.0, ge=0, le=1, description="Weight of flagged rows in the loss; 0 drops them."
    )
    down_weight: DownWeightSettings | None = Field(
        default=None,
        description="Learn from a band of ranks with less weight; the winners tried it and it failed.",
    )
    minimum_per_class: Annotated[int, Limit("no class has more images")] = Field(
        0,
        ge=0,
        le=100_000_000,
        description="Images that every class keeps, if it has them: the cleanest flagged rows come back.",
    )
    minimum_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of each class that is kept at least: the cleanest flagged rows come back. null: "
        "0.2 for likely_wrong, 0 for others.",
    )
    maximum_rate: Annotated[float, _read("maximum_rate")] = Field(
        0.6, gt=0, lt=1, description="noise_rate never flags more than this share."
    )
    percentile: Annotated[float, _read("percentile")] = Field(
        99.0,
        gt=0,
        le=100,
        description="Percentile of the threshold samples' AUM below which a row is flagged (Pleiss et al. "
        "2020: 99).",
    )
    agreement: Annotated[Literal["first", "any", "all"], _read("agreement")] = Field(
        default="first",
        description="Rows that both threshold runs judge: by the first alone (the paper), flagged by any, "
        "flagged by all.",
    )
    part: Annotated[Literal[0, 1], _read("part")] = Field(
        default=0, description="Which of the two sets of threshold samples this round has."
    )
    seed: Annotated[Seed, _read("seed")] = Field(
        default=0, description="Seed of the draw of threshold samples; `seed` of the recipe shifts it."
    )
    worst_classes: Annotated[int, _read("worst_classes"), Limit("no data set has more classes")] = Field(
        500,
        ge=1,
        le=MAX_KEPT,
        description="Classes that are kept; 500 of 5,000 in the winners' trial, which failed.",
    )
    worst_topk: Annotated[int, _read("worst_topk"), Limit("no data set has more classes")] = Field(
        1, ge=1, le=MAX_KEPT, description="The k of the top-k accuracy by which classes are compared."
    )
    revive: bool = Field(
        default=False,
        description="Judge rows again that an earlier round flagged, where they have a score.",
    )
    damaged: Literal["drop", "keep"] = Field(
        default="keep",
        description="Images that could be read, but of which not all pixels can be right: a decoder had to "
        "patch them, or the file contradicts itself (`damaged_files.csv` of the stage check lists them).",
    )
    duplicates: Literal["drop", "keep"] = Field(
        default="drop", description="Copies within training: keep the best of each group, or all."
    )
    leaks: Literal["drop", "keep"] = Field(
        default="drop",
        description="Training images that are copies of validation or test images. With keep, accuracy there "
        "is too good.",
    )
    cross_label: Literal["drop", "cleanest", "keep"] = Field(
        default="drop",
        description="One picture under several labels: drop all of its rows, keep the cleanest (none "
        "without a ranking), or keep all.",
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """Ports beyond catalogue, check and dedupe that the stage `select` must have."""
        return NEEDS[self.method]

    @model_validator(mode="after")
    def _bands(self) -> SelectSettings:
        if self.down_weight and self.down_weight.start >= self.down_weight.stop:
            raise Disagreement(
                {"down_weight.start": self.down_weight.start, "down_weight.stop": self.down_weight.stop},
                "start must be below stop",
                "a smaller {down_weight.start}, or a larger {down_weight.stop}",
            )
        return self
