"""How a recipe unfolds into a flowchart.

A recipe only combines the components' own settings. `unfold` names the nodes, joins their ports and decides
what each key holds; nothing here computes anything.

    synthesise ─▶ index ─▶ check ─▶ (features, under weights from elsewhere) ─▶ dedupe
      round:  select ─▶ (tune) ─▶ train ×models ─▶ rank ─▶ the next round's select
              predict (val, test) ×models            predict (train) where a later round has it as teacher
      decided: (select ─▶ train ─▶ predict (val)) ×tries ─▶ decide ─▶ select, train, predict of the round
    without rounds:  features ─▶ rank/look
    all results ─▶ fuse ─▶ what comes last (submit, …);   everything ─▶ evaluate
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from smelt.data.config import ViewSettings
from smelt.errors import DataError, RecipeError
from smelt.flowchart.graph import Graph, Node, is_try
from smelt.learning.config import TrainSettings
from smelt.mining.config import RankSettings, SelectSettings
from smelt.models.weightfile import kind_of
from smelt.random import derived
from smelt.recipe.borrowed import audit_of, borrowed
from smelt.recipe.parts import Model, Round, Teacher
from smelt.recipe.schema import Recipe
from smelt.recipe.tries import tries
from smelt.recipe.yaml_lines import dotted
from smelt.settings import Settings, not_in_key
from smelt.stages.config import DecideSettings, EvaluateSettings, RoundSettings
from smelt.stages.table import STAGES, Stage, refuse_ports


def unfold(recipe: Recipe) -> Graph:
    """The flowchart of `recipe`. Raises RecipeError or DataError for a data folder that is not there."""
    return checked(_Unfolding(recipe).nodes())


def checked(nodes: Iterable[Node]) -> Graph:
    """The flowchart of these nodes, each with what its stage reads; RecipeError says what is wrong."""
    graph = Graph(nodes)
    for node in graph:
        refuse_ports(
            node.stage, {port: [graph[name].stage for name in ids] for port, ids in node.inputs.items()}
        )
    return graph


class _Unfolding:
    """Builds the nodes of one recipe; ports and ids are decided here and nowhere else."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.data: dict[str, tuple[str, ...]] = {"data": ("synthesise",)} if recipe.synthesise else {}
        self.checked = {"check": ("check",)} | ({"dedupe": ("dedupe",)} if recipe.dedupe else {})
        # all that reads the splits: `dedupe` may have drawn them again
        self.catalogued = {"catalogue": ("index",)} | ({"dedupe": ("dedupe",)} if recipe.dedupe else {})
        self.made: list[str] = []  # ids of the nodes so far, in order
        self.seen: list[str] = []  # features so far: what a round may be ranked by
        self.selected: dict[str, str] = {}  # round → id of the node whose selection it learns from
        self.decided: dict[str, str] = {}  # round → id of the node that decides whether its step is taken
        self.instead: dict[str, tuple[str, ...]] = {}  # node → those that may stand in for it

    def node(self, name: str, settings: Settings, inputs: Mapping[str, tuple[str, ...]], **rest: Any) -> Node:
        """A node of the graph: its stage is the first part of its name, unless `stage` says otherwise."""
        row = STAGES[rest.pop("stage", name.split("/")[0])]
        values = settings.model_dump(mode="json")
        ports = {port: ids for port, ids in inputs.items() if ids}
        self.made.append(name)
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
        if not recipe.rounds:
            yield from self.untrained()
            return
        before: Round | None = None
        for one in recipe.rounds:
            yield from self.round(one, before)
            before = one
        fused = tuple(f"predict/{n}" for one in recipe.rounds if one.fuse for n in _models(one))
        fuse = _shifted(recipe.fuse, recipe.seed)
        yield self.node("fuse", fuse, {**self.catalogued, "predict": fused}, threads=recipe.runtime.workers)
        for row in (one for one in STAGES.values() if one.last):
            if (settings := getattr(recipe, row.name)) is not None:
                yield self.node(row.name, settings, self.latest(row))
        yield self.evaluate()

    def untrained(self) -> Iterator[Node]:
        """The ranking of a recipe that trains nothing: by features, and by texts where there are some."""
        if self.seen:
            checked = RankSettings(validation_labels=self.recipe.data.validation_labels)
            ports = {**self.catalogued, "check": ("check",), "features": tuple(self.seen)}
            yield self.node("rank/look", checked, ports, threads=self.recipe.runtime.workers)

    def latest(self, row: Stage) -> dict[str, tuple[str, ...]]:
        """What a stage reads that comes last: on each port all that there is for it, or the latest of it."""
        found = {
            name: tuple(i for i in self.made if i.partition("/")[0] == port.of and not is_try(i))
            for name, port in row.ports.items()
        }
        return {name: ids if row.ports[name].many else ids[-1:] for name, ids in found.items()}

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
            from smelt.data.formats.tree.fingerprint import fingerprint

            external = {"files": fingerprint(recipe.data.key_settings(), Path(recipe.data.root))}
        yield self.node("index", data, self.data, external=external)
        check = recipe.check.resolved()
        yield self.node("check", check, {**self.data, "catalogue": ("index",)}, threads=workers)
        yield from self.features(None)
        if recipe.dedupe:
            # the first ones: neighbours under one net are enough, for pixels decide
            ports = {
                **self.data,
                "catalogue": ("index",),
                "check": ("check",),
                "features": tuple(self.seen[:1]),
            }
            yield self.node("dedupe", recipe.dedupe, ports, threads=workers)

    def features(self, model: str | None) -> Iterator[Node]:
        """Features under a model of the run, ROUND/MODEL-SEED; None: under weights from elsewhere."""
        for number, one in enumerate(self.recipe.features):
            if one.model != model:
                continue
            ports = {**self.data, "catalogue": ("index",), "check": ("check",)}
            external, settings = {}, one
            if one.weights is not None:
                place, external["weights"] = borrowed(one.weights, f"features.{number}.weights")
                settings = one.model_copy(update={"weights": place})
            if one.model is not None:
                ports["train"] = (f"train/{one.model}",)
            self.seen.append(f"features/{one.name}")
            yield self.node(
                self.seen[-1], settings, ports, external=external, threads=max(1, one.threads),
                devices=self.devices,
            )  # fmt: skip

    def round(self, one: Round, before: Round | None) -> Iterator[Node]:
        """A round: what it learns from, its models, and how they rank the images."""
        if one.auto and before is not None:
            yield from self.tried(one, before)
        else:
            yield from self.select(one, before)
        ports = {**self.data, **self.catalogued, "selection": (self.selected[one.name],)}
        for model in one.models:
            for seed in model.seeds:
                yield from self.model(one, model, seed, ports)
        trained = tuple(f"train/{name}" for name in _models(one))
        taught = (self.selected[one.name],) * len(trained)
        ports = {**self.catalogued, "train": trained, "selection": taught, "features": tuple(self.seen)}
        ports["check"] = ("check",)
        checked = {"validation_labels": one.rank.validation_labels or self.recipe.data.validation_labels}
        yield self.node(
            f"rank/{one.name}",
            one.rank.model_copy(update=checked),
            ports,
            threads=self.recipe.runtime.workers,
        )

    def select(self, one: Round, before: Round | None) -> Iterator[Node]:
        if one.select is None and before is not None:
            self.selected[one.name] = self.selected[before.name]
            return
        settings = one.select or SelectSettings()
        if one.auto:  # the first round: there is nothing that it could be judged against
            settings = settings.model_copy(update={"method": "all"})
        self.selected[one.name] = f"select/{one.name}"
        yield self.selection(self.selected[one.name], settings, one, before)

    def selection(self, name: str, settings: SelectSettings, one: Round, before: Round | None) -> Node:
        """A node that selects, with all that its method reads."""
        settings = _shifted(settings, self.recipe.seed)
        ports: dict[str, tuple[str, ...]] = {"catalogue": ("index",), **self.checked}
        ports |= self.select_ports(settings, one, before)
        external = {}
        if settings.audit is not None:
            field = f"rounds.{self.recipe.rounds.index(one)}.select.audit"
            place, external["audit"] = audit_of(settings.audit, field)
            settings = settings.model_copy(update={"audit": place})
        return self.node(name, settings, ports, external=external)

    def tried(self, one: Round, before: Round) -> Iterator[Node]:
        """What a round tries, each by a training of its first model; the decision; and the selection that the
        round learns from by it."""
        model, recipe = one.models[0], self.recipe
        seed, kept = model.seeds[0], self.selected[before.name]
        ports = {**self.data, **self.catalogued, "selection": (kept,)}
        yield from self.tuned(one, model, ports)
        view, chosen = recipe.predict.views[0], tries(one, bool(self.seen))
        names, selections = [], []
        for number, (_, settings) in enumerate(chosen, 1):
            names.append(f"{one.name}@{number}/{model.name}-{seed}")
            selections.append(kept if settings is None else f"select/{one.name}@{number}")
            if settings is not None:
                yield self.selection(selections[-1], settings, one, before)
            yield self.training(names[-1], one, model, seed, ports | {"selection": (selections[-1],)})
            judged = recipe.predict.model_copy(update={"views": (view,), "splits": ("val",)})
            of = {**self.data, **self.catalogued, "train": (f"train/{names[-1]}",)}
            yield self.node(f"predict/{names[-1]}", judged, of, **self.run(one, model))
        self.decided[one.name] = f"decide/{one.name}"
        settings_ = DecideSettings(
            **recipe.decide.model_dump(), metric=recipe.fuse.metric, view=view.name,
            tries=tuple(called for called, _ in chosen), validation_labels=recipe.data.validation_labels,
        )  # fmt: skip
        of = {"before": (f"predict/{before.name}/{model.name}-{seed}",), "features": tuple(self.seen)}
        of["tried"] = tuple(f"predict/{name}" for name in names)
        yield self.node(self.decided[one.name], settings_, {**self.catalogued, **of})
        for each in one.models:
            for at in each.seeds:
                same = f"{before.name}/{each.name}-{at}"
                tried = names if (each, at) == (model, seed) else []
                self.instead[f"train/{one.name}/{each.name}-{at}"] = tuple(
                    f"train/{n}" for n in (same, *tried)
                )
                self.instead[f"predict/{one.name}/{each.name}-{at}"] = (f"predict/{same}",)
        self.selected[one.name] = kept
        if any(settings is not None for _, settings in chosen):
            self.selected[one.name] = f"select/{one.name}"
            of = {"catalogue": ("index",), **self.checked, "selection": (kept,), "tried": tuple(selections)}
            of["decision"] = (self.decided[one.name],)
            yield self.node(self.selected[one.name], _shifted(one.select, recipe.seed), of)

    def stands_in(self, one: Round, node: str) -> dict[str, tuple[str, ...]]:
        """The ports by which a decision puts other artefacts in the place of a node's own work."""
        if one.name not in self.decided:
            return {}
        return {"decision": (self.decided[one.name],), "instead": self.instead[node]}

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
        name = f"{one.name}/{model.name}-{seed}"
        yield from self.tuned(one, model, ports)
        yield self.training(name, one, model, seed, {**ports, **self.stands_in(one, f"train/{name}")})
        yield from self.features(name)
        yield from self.predict(name, one, self.run(one, model))

    def run(self, one: Round, model: Model) -> dict[str, int]:
        """What predicting takes: one device, however many trained."""
        threads = self.recipe.training(one, model, model.seeds[0]).threads
        return {"threads": max(1, threads), "devices": self.devices}

    def tuned(self, one: Round, model: Model, ports: Mapping[str, tuple[str, ...]]) -> Iterator[Node]:
        """The test of a rate that is to be tuned: one for all seeds of a model, and for all that is tried."""
        settings, external = self.begun(one, model, self.recipe.training(one, model, model.seeds[0]))
        name = f"tune/{one.name}/{model.name}"
        if settings.learning_rate == "tune" and name not in self.made:
            threads = max(1, settings.threads)
            yield self.node(name, settings, ports, external=external, threads=threads, devices=self.devices)

    def training(
        self, name: str, one: Round, model: Model, seed: int, ports: Mapping[str, tuple[str, ...]]
    ) -> Node:
        """One training."""
        recipe = self.recipe
        settings, external = self.begun(one, model, recipe.training(one, model, seed))
        inputs = dict(ports)
        if settings.learning_rate == "tune":
            inputs["tune"] = (f"tune/{one.name}/{model.name}",)
        if one.teacher:
            teachers = next(r for r in recipe.rounds if r.name == one.teacher.round)
            which = self.lessons(one.teacher.round).index(self.lesson(one.teacher))
            inputs["teacher"] = tuple(_teach(n, which) for n in _models(teachers))
        if one.start:
            inputs["start"] = (f"train/{one.start}/{model.name}-{seed}",)
        run = {"threads": max(1, settings.threads), "devices": self.devices * settings.world_size}
        return self.node(f"train/{name}", settings, inputs, external=external, **run)

    def begun(
        self, one: Round, model: Model, settings: TrainSettings
    ) -> tuple[TrainSettings, dict[str, str]]:
        """The settings with the weights to start from made absolute, and what of these is in the key."""
        if one.start or settings.weights is None:  # what a round starts from goes before
            return settings.model_copy(update={"weights": None}), {}
        at = self.recipe.rounds.index(one)
        field = dotted(self.recipe.given(at, one.models.index(model), "weights"))
        place, content = borrowed(settings.weights, field)
        if os.path.isfile(place):
            try:
                kind_of(Path(place))
            except DataError as error:
                raise RecipeError(f"{field}: {error}") from error
        return settings.model_copy(update={"weights": place}), {"weights": content}

    def predict(self, name: str, one: Round, run: Mapping[str, int]) -> Iterator[Node]:
        """A model's predictions: what is judged and fused, and each lesson that a round takes."""
        recipe = self.recipe
        ports = {**self.data, **self.catalogued, "train": (f"train/{name}",)}
        whole = {**ports, **self.stands_in(one, f"predict/{name}")}
        yield self.node(f"predict/{name}", recipe.predict, whole, **run)
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
            ports[f"decide/{one.name}"] = (self.decided[one.name],) if one.name in self.decided else ()
            rounds.append(RoundSettings(name=one.name, title=one.title, models=names, fused=one.fuse))
        settings = EvaluateSettings(view=self.recipe.predict.views[0].name, rounds=tuple(rounds))
        return self.node("evaluate", settings, ports)


def _models(one: Round) -> tuple[str, ...]:
    """`round/model-seed` of every model of a round."""
    return tuple(f"{one.name}/{model.name}-{seed}" for model in one.models for seed in model.seeds)


def _teach(model: str, which: int) -> str:
    """The id of a teacher's scores; further ones where rounds ask for different scores of one teacher."""
    return f"teach/{model}" + (f"@{which + 1}" if which else "")


def _shifted(settings: Any, seed: int) -> Any:
    """`settings` with the recipe's seed added to their own."""
    return settings.model_copy(update={"seed": derived(seed, settings.seed)})
