"""What a recipe is made of: its sections, its rounds with their models, and what they are read by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from smelt.data.config import ViewSettings
from smelt.data.copies.config import DedupeSettings
from smelt.data.formats.config import DataSettings
from smelt.data.images.config import CheckSettings
from smelt.data.synthetic.config import SyntheticSettings
from smelt.fusion.config import FuseSettings, SubmitSettings
from smelt.learning.config import TrainSettings
from smelt.learning.predict_settings import PredictSettings
from smelt.mining.config import RankSettings, SelectSettings
from smelt.random import SEEDS, derived
from smelt.recipe.yaml_lines import Steps
from smelt.settings import (
    MAX_KEPT,
    Disagreement,
    Limit,
    ReadBy,
    Settings,
    changes,
    merged,
    partial_of,
)
from smelt.stages.config import DecidingSettings, FeaturesSettings, Runtime

if TYPE_CHECKING:
    PartialTrain = Settings
    PartialSelect = Settings
else:
    PartialTrain = partial_of(TrainSettings)
    PartialSelect = partial_of(SelectSettings)
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}$"


class Model(Settings):
    """One line-up entry of a round: training settings (over the round's and the recipe's) and its seeds."""

    name: Annotated[str, ReadBy("evaluate")] = Field(
        pattern=NAME,
        description="What the model is called in the flowchart and in results; a later round's `start` and "
        "the report go by it.",
    )
    seeds: Annotated[
        tuple[
            Annotated[int, Field(ge=0, lt=SEEDS), Limit("the recipe's seed counts in steps of 1,000")], ...
        ],
        ReadBy("train"),
    ] = Field(
        default=(0,),
        min_length=1,
        max_length=SEEDS,
        description="One training for each. Several make an ensemble, and show how much a figure moves.",
    )
    train: Annotated[PartialTrain, ReadBy("train", "tune")] = Field(
        default=PartialTrain(),
        description="Training settings of this model, over the round's and the recipe's.",
    )

    @model_validator(mode="after")
    def _seeds(self) -> Model:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: one of {list(self.seeds)} is there twice")
        return self


class Teacher(Settings):
    """Whose scores a round distils from."""

    round: str = Field(description="An earlier round; the mean of its models is the teacher.")
    view: ViewSettings | None = Field(
        default=None,
        description="How the teacher is shown the training images; null: the first of `predict.views`.",
    )
    top_k: Annotated[int, Limit("no data set has more classes")] = Field(
        default=50,
        ge=1,
        le=MAX_KEPT,
        description="Scores kept of each image; all of them where there are fewer classes.",
    )


class Round(Settings):
    """One pass of learning."""

    name: Annotated[str, ReadBy("evaluate")] = Field(
        pattern=NAME, description="What other rounds and the flowchart call it."
    )
    title: Annotated[str, ReadBy("evaluate")] = Field(
        default="", max_length=200, description="What the ladder and the report call it; empty: its name."
    )
    models: Annotated[tuple[Model, ...], ReadBy("train", "rank", "predict", "fuse", "evaluate")] = Field(
        min_length=1, max_length=1000, description="What is trained in it, each on the same selection."
    )
    train: Annotated[PartialTrain, ReadBy("train", "tune")] = Field(
        default=PartialTrain(), description="Training settings of this round, over the recipe's."
    )
    select: Annotated[SelectSettings | None, ReadBy("select")] = Field(
        default=None,
        description="What the round learns from; null: the selection of the round before, or everything "
        "usable.",
    )
    tries: Annotated[tuple[PartialSelect, ...] | None, ReadBy("select", "train", "predict", "decide")] = (
        Field(
            default=None,
            max_length=20,
            description="What `select: {method: auto}` tries: settings of `select`, each laid over it; "
            "each trains the round's first model once. null: three depths of the cut. []: nothing but what "
            "else the round does, on the selection of the round before; null is the same where it has a "
            "`teacher`, a `start` or other training.",
        )
    )
    ranking: Annotated[str | tuple[str, ...] | None, ReadBy("select")] = Field(
        default=None,
        description="The round that `select` goes by, null: the round before; for threshold samples the two "
        "rounds that had them.",
    )
    rank: Annotated[RankSettings, ReadBy("rank")] = Field(
        default=RankSettings(), description="How the images are ranked by what its training recorded."
    )
    teacher: Annotated[Teacher | None, ReadBy("predict", "train")] = Field(
        default=None, description="An earlier round that this one distils from; null: none."
    )
    start: Annotated[str | None, ReadBy("train")] = Field(
        default=None,
        description="An earlier round whose models (of the same name and seed) are fine-tuned; null: train "
        "from the beginning.",
    )
    fuse: Annotated[bool, ReadBy("fuse", "evaluate")] = Field(
        default=True,
        description="Whether its results join the fusion. Off for rounds that later ones improve on.",
    )

    @model_validator(mode="after")
    def _names(self) -> Round:
        called = [model.name for model in self.models]
        if len(set(called)) < len(called):
            raise ValueError(f"models: two have the same name ({', '.join(called)})")
        if self.ranking is not None and self.select is None:
            raise Disagreement(
                {"ranking": self.ranking, "select": None},
                "`ranking` says what `select` goes by, and there is no `select`",
                "leave {ranking} out, or give {select}",
            )
        if self.tries is not None and not self.auto:
            method = self.select.method if self.select else None
            raise Disagreement(
                {"tries": f"{len(self.tries)} of them", "select.method": method},
                "`tries` says what a selection that is decided tries",
                "leave {tries} out, or -o {select.method}=auto",
            )
        return self

    @property
    def auto(self) -> bool:
        """Whether validation decides if the round's step is taken."""
        return self.select is not None and self.select.method == "auto"

    @property
    def rankings(self) -> tuple[str, ...]:
        """The rounds that `ranking` names."""
        if self.ranking is None:
            return ()
        return (self.ranking,) if isinstance(self.ranking, str) else self.ranking


class Parts(Settings):
    """Everything of one run, each part checked by itself; see `schema.Recipe` for the whole."""

    name: Annotated[str, ReadBy()] = Field(
        pattern=NAME, description="Name of the run; its work folder is work/NAME."
    )
    seed: Annotated[
        int,
        Limit("seeds are this one × 1,000 and their own"),
        ReadBy("synthesise", "index", "train", "select", "fuse"),
    ] = Field(
        default=0,
        ge=0,
        lt=1_000_000,
        description="Shifts every other seed: of the data, the models and the searches. Another one is "
        "another run of everything.",
    )
    synthesise: SyntheticSettings | None = Field(
        default=None,
        description="Make the images: the embedded data set, with known noise. null: `data` has them.",
    )
    data: Annotated[DataSettings, ReadBy("index")] = Field(
        default=DataSettings(), description="Which data set, and how it is read."
    )
    check: CheckSettings = Field(
        default=CheckSettings(), description="What is made of images that cannot be read."
    )
    dedupe: DedupeSettings | None = Field(
        default=DedupeSettings(), description="What counts as a copy; null: do not look for copies."
    )
    features: tuple[FeaturesSettings, ...] = Field(
        default=(),
        max_length=100,
        description="Whose features of all images are written, for scores and copies: of nets with weights "
        "from elsewhere, before anything is trained, or of models of the run.",
    )
    train: Annotated[TrainSettings, ReadBy("train", "tune")] = Field(
        default=TrainSettings(),
        description="How models are trained, unless a round or a model says otherwise.",
    )
    rounds: Annotated[tuple[Round, ...], ReadBy("train", "rank", "select", "predict", "fuse", "evaluate")] = (
        Field(
            max_length=100,
            description="Passes of learning, each on what the one before shows of the data. []: nothing is "
            "trained, and images are ranked by their `features` alone.",
        )
    )
    decide: DecidingSettings = Field(
        default=DecidingSettings(), description="When a round's step is taken, where that is decided."
    )
    predict: PredictSettings = Field(
        default=PredictSettings(), description="Which scores every model writes: views, splits."
    )
    fuse: FuseSettings = Field(default=FuseSettings(), description="How results are fused.")
    submit: SubmitSettings | None = Field(
        default=None, description="Write the challenge's submission; null: only a challenge wants one."
    )
    runtime: Annotated[Runtime, ReadBy()] = Field(
        default=Runtime(), description="What differs from machine to machine and changes no result."
    )

    def given(self, number: int, place: int, *steps: str) -> Steps:
        """Where the recipe gives a training setting of a model: at the model, its round, or for all."""
        one = self.rounds[number]
        layers: tuple[tuple[Steps, Any], ...] = (
            (("rounds", number, "models", place, "train"), changes(one.models[place].train)),
            (("rounds", number, "train"), changes(one.train)),
        )
        for prefix, values in layers:
            for step in steps:
                values = values.get(step) if isinstance(values, Mapping) else None
            if values is not None:
                return (*prefix, *steps)
        return ("train", *steps)

    def training(self, one: Round, model: Model, seed: int) -> TrainSettings:
        """Settings of one model: the recipe's, the round's laid over them, the model's over both."""
        layers = [changes(part) for part in (one.train, model.train)]
        values = merged(self.train.model_dump(mode="json"), *layers)
        return TrainSettings.model_validate({**values, "seed": derived(self.seed, seed)})
