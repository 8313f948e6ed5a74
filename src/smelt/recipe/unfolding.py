"""The recipe as a whole, and how it unfolds into a flowchart.

A recipe only combines the components' own settings. `unfold` names the nodes, joins their ports and decides
what each key holds; nothing here computes anything.

    synthesise ─▶ index ─▶ check ─▶ dedupe
      round:  select ─▶ (tune) ─▶ train ×models ─▶ rank ─▶ the next round's select
              predict (val, test) ×models            predict (train) where a later round has it as teacher
    all results ─▶ fuse ─▶ submit;   everything ─▶ evaluate
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from smelt.data.config import ViewSettings
from smelt.data.copies.config import DedupeSettings
from smelt.data.formats.config import OWN, DataSettings, fingerprint
from smelt.data.images.config import CheckSettings
from smelt.data.synthetic.config import SyntheticSettings
from smelt.errors import RecipeError
from smelt.flowchart.graph import Graph, Node
from smelt.fusion.config import FuseSettings, SubmitSettings
from smelt.learning.config import PredictSettings, TrainSettings
from smelt.mining.config import RankSettings, SelectSettings
from smelt.random import SEEDS, derived
from smelt.recipe import agreement
from smelt.recipe.yaml_lines import Steps
from smelt.settings import (
    MAX_KEPT,
    Disagreement,
    Limit,
    Settings,
    changes,
    merged,
    not_in_key,
    partial_of,
)
from smelt.stages.config import EvaluateSettings, RoundSettings, Runtime
from smelt.stages.table import STAGES

if TYPE_CHECKING:
    PartialTrain = Settings
else:
    PartialTrain = partial_of(TrainSettings)

NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}$"


class Model(Settings):
    """One line-up entry of a round: training settings (over the round's and the recipe's) and its seeds."""

    name: str = Field(
        pattern=NAME,
        description="What the model is called in the flowchart and in results; a later round's `start` and "
        "the report go by it.",
    )
    seeds: tuple[
        Annotated[int, Field(ge=0, lt=SEEDS), Limit("the recipe's seed counts in steps of 1,000")], ...
    ] = Field(
        default=(0,),
        min_length=1,
        max_length=SEEDS,
        description="One training for each. Several make an ensemble, and show how much a figure moves.",
    )
    train: PartialTrain = Field(
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

    name: str = Field(pattern=NAME, description="What other rounds and the flowchart call it.")
    title: str = Field(
        default="", max_length=200, description="What the ladder and the report call it; empty: its name."
    )
    models: tuple[Model, ...] = Field(
        min_length=1, max_length=1000, description="What is trained in it, each on the same selection."
    )
    train: PartialTrain = Field(
        default=PartialTrain(), description="Training settings of this round, over the recipe's."
    )
    select: SelectSettings | None = Field(
        default=None,
        description="What the round learns from; null: the selection of the round before, or everything "
        "usable.",
    )
    ranking: str | tuple[str, ...] | None = Field(
        default=None,
        description="The round that `select` goes by, null: the round before; for threshold samples the two "
        "rounds that had them.",
    )
    rank: RankSettings = Field(
        default=RankSettings(), description="How the images are ranked by what its training recorded."
    )
    teacher: Teacher | None = Field(
        default=None, description="An earlier round that this one distils from; null: none."
    )
    start: str | None = Field(
        default=None,
        description="An earlier round whose models (of the same name and seed) are fine-tuned; null: train "
        "from the beginning.",
    )
    fuse: bool = Field(
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
        return self

    @property
    def rankings(self) -> tuple[str, ...]:
        """The rounds that `ranking` names."""
        if self.ranking is None:
            return ()
        return (self.ranking,) if isinstance(self.ranking, str) else self.ranking


class Recipe(Settings):
    """Everything of one run."""

    name: str = Field(pattern=NAME, description="Name of the run; its work folder is work/NAME.")
    seed: Annotated[int, Limit("seeds are this one × 1,000 and their own")] = Field(
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
    data: DataSettings = Field(default=DataSettings(), description="Which data set, and how it is read.")
    check: CheckSettings = Field(
        default=CheckSettings(), description="What is made of images that cannot be read."
    )
    dedupe: DedupeSettings | None = Field(
        default=DedupeSettings(), description="What counts as a copy; null: do not look for copies."
    )
    train: TrainSettings = Field(
        default=TrainSettings(),
        description="How models are trained, unless a round or a model says otherwise.",
    )
    rounds: tuple[Round, ...] = Field(
        min_length=1,
        max_length=100,
        description="Passes of learning, each on what the one before shows of the data.",
    )
    predict: PredictSettings = Field(
        default=PredictSettings(), description="Which scores every model writes: views, splits."
    )
    fuse: FuseSettings = Field(default=FuseSettings(), description="How results are fused.")
    submit: SubmitSettings | None = Field(
        default=None, description="Write the challenge's submission; null: only a challenge wants one."
    )
    runtime: Runtime = Field(
        default=Runtime(), description="What differs from machine to machine and changes no result."
    )

    @model_validator(mode="after")
    def _joined(self) -> Recipe:
        agreement.refuse(self)
        return self

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


def unfold(recipe: Recipe) -> Graph:
    """The flowchart of `recipe`. Raises RecipeError or DataError for a data folder that is not there."""
    return Graph(_Unfolding(recipe).nodes())


class _Unfolding:
    """Builds the nodes of one recipe; ports and ids are decided here and nowhere else."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.data: dict[str, tuple[str, ...]] = {"data": ("synthesise",)} if recipe.synthesise else {}
        self.checked = {"check": ("check",)} | ({"dedupe": ("dedupe",)} if recipe.dedupe else {})
        # all that reads the splits: `dedupe` may have drawn them again
        self.catalogued = {"catalogue": ("index",)} | ({"dedupe": ("dedupe",)} if recipe.dedupe else {})
        self.selected: dict[str, str] = {}  # round → id of the node whose selection it learns from

    def node(self, name: str, settings: Settings, inputs: Mapping[str, tuple[str, ...]], **rest: Any) -> Node:
        """A node of the graph: its stage is the first part of its name, unless `stage` says otherwise."""
        row = STAGES[rest.pop("stage", name.split("/")[0])]
        values = settings.model_dump(mode="json")
        ports = {port: ids for port, ids in inputs.items() if ids}
        own = row.settings.model_validate(values)  # its rules of what is in the key
        return Node(
            id=name,
            stage=row.name,
            version=row.version,
            settings=values,
            inputs=ports,
            outside=not_in_key(own, ports),
            device=self.recipe.runtime.device.partition(":")[0] if row.device else "",
            **rest,
        )

    def nodes(self) -> Iterator[Node]:
        """All nodes of the recipe, each after those that it reads."""
        recipe = self.recipe
        yield from self.catalogue()
        before: Round | None = None
        for one in recipe.rounds:
            yield from self.round(one, before)
            before = one
        fused = tuple(f"predict/{n}" for one in recipe.rounds if one.fuse for n in _models(one))
        fuse = _shifted(recipe.fuse, recipe.seed)
        yield self.node("fuse", fuse, {**self.catalogued, "predict": fused}, threads=recipe.runtime.workers)
        if recipe.submit is not None:
            yield self.node("submit", recipe.submit, {**self.catalogued, "fuse": ("fuse",)})
        yield self.evaluate()

    def catalogue(self) -> Iterator[Node]:
        """What comes before the first round: images found, checked, and copies among them."""
        recipe = self.recipe
        workers = recipe.runtime.workers
        external = {}
        data = recipe.data.key_settings()
        if (
            recipe.data.draws or recipe.synthesise
        ):  # to the others a seed says nothing: it must not rerun them
            data = _shifted(data, recipe.seed)
        if recipe.synthesise:
            yield self.node("synthesise", _shifted(recipe.synthesise, recipe.seed), {}, threads=workers)
        elif recipe.data.root is None:
            raise RecipeError("data.root is not set: -o data.root=FOLDER names the folder of the images")
        else:
            external = {"files": fingerprint(recipe.data.key_settings(), Path(recipe.data.root))}
        yield self.node("index", data, self.data, external=external)
        check = recipe.check.resolved()
        yield self.node("check", check, {**self.data, "catalogue": ("index",)}, threads=workers)
        if recipe.dedupe:
            ports = {**self.data, "catalogue": ("index",), "check": ("check",)}
            yield self.node("dedupe", recipe.dedupe, ports, threads=workers)

    def round(self, one: Round, before: Round | None) -> Iterator[Node]:
        yield from self.select(one, before)
        ports = {**self.data, **self.catalogued, "selection": (self.selected[one.name],)}
        for model in one.models:
            for seed in model.seeds:
                yield from self.model(one, model, seed, ports)
        trained = tuple(f"train/{name}" for name in _models(one))
        taught = (self.selected[one.name],) * len(trained)
        ports = {**self.catalogued, "train": trained, "selection": taught}
        checked = {"validation_labels": one.rank.validation_labels or _validation_labels(self.recipe.data)}
        yield self.node(f"rank/{one.name}", one.rank.model_copy(update=checked), ports)

    def select(self, one: Round, before: Round | None) -> Iterator[Node]:
        if one.select is None and before is not None:
            self.selected[one.name] = self.selected[before.name]
            return
        settings = _shifted(one.select or SelectSettings(), self.recipe.seed)
        ports: dict[str, tuple[str, ...]] = {"catalogue": ("index",), **self.checked}
        ports |= self.select_ports(settings, one, before)
        self.selected[one.name] = f"select/{one.name}"
        yield self.node(self.selected[one.name], settings, ports)

    def select_ports(
        self, settings: SelectSettings, one: Round, before: Round | None
    ) -> dict[str, tuple[str, ...]]:
        """What the method of a selection reads beyond the catalogue and what is known of the files."""
        wanted = dict.fromkeys((*settings.needs, *(("ranking",) if settings.down_weight else ())))
        if settings.method == "noise_rate":
            wanted["results"] = None  # what the models get wrong on validation is no noise
        if not wanted:
            return {}
        sources = one.rankings or ((before.name,) if before else ())
        assert sources, "the recipe was checked"
        earlier = [r for r in self.recipe.rounds if r.name in sources]
        known = {
            "ranking": (f"rank/{sources[0]}",),
            "selection": (self.selected[sources[0]],),
            # one model of each round: the threshold of a training belongs to that training
            "train": tuple(f"train/{_models(r)[0]}" for r in earlier),
            "threshold": tuple(self.selected[r.name] for r in earlier),
            "results": tuple(f"predict/{name}" for r in earlier for name in _models(r)),
        }
        return {port: known[port] for port in wanted}

    def model(
        self, one: Round, model: Model, seed: int, ports: Mapping[str, tuple[str, ...]]
    ) -> Iterator[Node]:
        """One model of a round: its rate, where that is tuned, its training and its predictions."""
        recipe = self.recipe
        name = f"{one.name}/{model.name}-{seed}"
        settings = recipe.training(one, model, seed)
        inputs = dict(ports)
        if settings.learning_rate == "tune":
            # one test for all seeds of a model: its rate belongs to the model, not to the seed
            tune = f"tune/{one.name}/{model.name}"
            if seed == model.seeds[0]:
                yield self.node(tune, settings, ports, threads=max(1, settings.threads), devices=self.devices)
            inputs["tune"] = (tune,)
        if one.teacher:
            teachers = next(r for r in recipe.rounds if r.name == one.teacher.round)
            which = self.lessons(one.teacher.round).index(self.lesson(one.teacher))
            inputs["teacher"] = tuple(_teach(n, which) for n in _models(teachers))
        if one.start:
            inputs["start"] = (f"train/{one.start}/{model.name}-{seed}",)
        run = {"threads": max(1, settings.threads), "devices": self.devices * settings.world_size}
        yield self.node(f"train/{name}", settings, inputs, **run)
        yield from self.predict(
            name, one, {**run, "devices": self.devices}
        )  # one device, however many trained

    def predict(self, name: str, one: Round, run: Mapping[str, int]) -> Iterator[Node]:
        """A model's predictions: what is judged and fused, and each lesson that a round takes."""
        recipe = self.recipe
        ports = {**self.data, **self.catalogued, "train": (f"train/{name}",)}
        yield self.node(f"predict/{name}", recipe.predict, ports, **run)
        for which, (view, top_k) in enumerate(self.lessons(one.name)):
            scores = recipe.predict.model_copy(
                update={"views": (view,), "splits": ("train",), "topk": {"train": top_k}}
            )
            yield self.node(_teach(name, which), scores, ports, stage="predict", **run)

    def lesson(self, teacher: Teacher) -> tuple[ViewSettings, int]:
        """What a round asks its teachers for: the view, and how many scores of each image."""
        return teacher.view or self.recipe.predict.views[0], teacher.top_k

    def lessons(self, name: str) -> list[tuple[ViewSettings, int]]:
        """Everything that later rounds ask the models of round `name` for, each once."""
        wanted = [one.teacher for one in self.recipe.rounds if one.teacher and one.teacher.round == name]
        found: list[tuple[ViewSettings, int]] = []
        for lesson in map(self.lesson, wanted):
            if lesson not in found:
                found.append(lesson)
        return found

    @property
    def devices(self) -> int:
        return 0 if self.recipe.runtime.device == "cpu" else 1

    def evaluate(self) -> Node:
        """The ladder of all rounds and the fusion."""
        rounds = []
        ports: dict[str, tuple[str, ...]] = {**self.catalogued, "fuse": ("fuse",)}
        for one in self.recipe.rounds:
            names = _models(one)
            ports[f"train/{one.name}"] = tuple(f"train/{name}" for name in names)
            ports[f"predict/{one.name}"] = tuple(f"predict/{name}" for name in names)
            ports[f"rank/{one.name}"] = (f"rank/{one.name}",)
            ports[f"select/{one.name}"] = (self.selected[one.name],)
            rounds.append(RoundSettings(name=one.name, title=one.title, models=names, fused=one.fuse))
        settings = EvaluateSettings(view=self.recipe.predict.views[0].name, rounds=tuple(rounds))
        return self.node("evaluate", settings, ports)


def _validation_labels(data: DataSettings) -> str:
    """`checked` where people looked at the format's validation, `crawled` where it is held out of the same
    crawl, or nobody says otherwise: one's own images."""
    if data.format == "cifar_n":
        return "checked" if "clean" in (data.val_labels, data.labels) else "crawled"
    if data.format in ("animal10n", "food101n"):
        return "checked" if data.val_from == "test" else "crawled"
    return "crawled" if data.format in OWN else "checked"


def _models(one: Round) -> tuple[str, ...]:
    """`round/model-seed` of every model of a round."""
    return tuple(f"{one.name}/{model.name}-{seed}" for model in one.models for seed in model.seeds)


def _teach(model: str, which: int) -> str:
    """The id of a teacher's scores; further ones where rounds ask for different scores of one teacher."""
    return f"teach/{model}" + (f"@{which + 1}" if which else "")


def _shifted(settings: Any, seed: int) -> Any:
    """`settings` with the recipe's seed added to their own."""
    return settings.model_copy(update={"seed": derived(seed, settings.seed)})
