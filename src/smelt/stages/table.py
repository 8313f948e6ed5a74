"""The stages, a row each: all that anybody but a stage's own module has to know of it.

Plan, recipe, commands and tests read it here, so it imports nothing that computes. The module of a stage is
`smelt.stages.NAME`; it imports what it needs at its top and has

    def run(context: Context[ITS_SETTINGS]) -> None

A new stage is a row here, a module beside this one and a test (see CONTRIBUTING).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, cast

from smelt.errors import RecipeError

if TYPE_CHECKING:
    from smelt.settings import Settings


@dataclass(frozen=True)
class Port:
    """What a stage reads under one name: an artefact of the stage `of`.

    many: one or more of them, in an order that counts. optional: or nothing. each_round: a family of ports,
    `train/ROUND` for every round of the recipe.
    """

    of: str
    many: bool = False
    optional: bool = False
    each_round: bool = False


@dataclass(frozen=True)
class Stage:
    """A row of the table.

    version: raised when the same settings and inputs would give other bytes; part of every key.
    config: where its settings class is, below `smelt`.
    summary: what it does, in a sentence; what the command of its name is for.
    command: whether `smelt NAME` runs a recipe as far as this; `fuse` has a command of its own.
    device: it computes nets, on the device of the recipe's `runtime`, and the kind of it is in its key.
    last: it comes at the end of the flowchart, where the recipe has a section of its name (null: it has not),
    and reads on each port all that the flowchart has for it, the latest of it where the port takes one.
    warm: it is forked from a process that has imported torch and the like; the others start sooner without.
    """

    name: str
    version: int
    config: str
    summary: str
    ports: Mapping[str, Port] = field(default_factory=dict)
    command: bool = True
    device: bool = False
    last: bool = False
    warm: bool = True

    @cached_property
    def settings(self) -> type[Settings]:
        """Its settings class, which says what of it goes into the key (see `smelt.settings`)."""
        module, _, name = self.config.rpartition(".")
        return cast("type[Settings]", getattr(importlib.import_module(f"smelt.{module}"), name))

    def port(self, name: str) -> Port | None:
        """The port of that name, `train/ROUND` for a family; None where there is none."""
        family, slash, _ = name.partition("/")
        known = self.ports.get(family)
        return known if known and known.each_round == bool(slash) else None


DATA = {"data": Port("synthesise", optional=True)}  # without it the images lie in `data.root`
INDEXED = {"catalogue": Port("index")}
# All that reads the splits: `dedupe` may have drawn them again (see `Context.catalogue`)
CATALOGUE = {**INDEXED, "dedupe": Port("dedupe", optional=True)}
# Of a round that tries something: where that is not used, the round before stands in its place (`instead`)
DECIDED = {"decision": Port("decide", optional=True)}

ROWS = (
    Stage(
        "synthesise", 1, "data.synthetic.config.SyntheticSettings",
        "Draw the embedded data set, with its truth known.",
        warm=False,
        command=False,
    ),
    Stage(
        "index", 6, "data.formats.config.FormatSettings",
        "Read the file lists of a data set into a catalogue and count them.",
        DATA,
        warm=False,
    ),
    Stage(
        "check", 3, "data.images.config.CheckSettings",
        "Decode every image once and list the bad ones.",
        {**DATA, **INDEXED},
    ),
    Stage(
        "features", 1, "stages.config.FeaturesSettings",
        "Write what a net sees in every image, for scores, copies and neighbours.",
        {
            **DATA, **INDEXED,  # not how the splits were drawn: lines go by rows of the catalogue
            "check": Port("check", optional=True),
            "train": Port("train", optional=True),  # for a model of the run
        },
        device=True,
    ),
    Stage(
        "dedupe", 3, "data.copies.config.DedupeSettings",
        "Find copies within training, and of validation and test images.",
        {**DATA, **INDEXED, "check": Port("check"), "features": Port("features", optional=True)},
    ),
    Stage(
        "tune", 2, "stages.config.RangeTestSettings",
        "Seek the learning rate of a model by a range test.",
        {**DATA, **CATALOGUE, "selection": Port("select")},
        device=True,
        command=False,
    ),
    Stage(
        "train", 4, "learning.config.TrainSettings",
        "Train every model of every round.",
        {
            **DATA, **CATALOGUE, "selection": Port("select"),
            "tune": Port("tune", optional=True),  # for `learning_rate: tune`
            "teacher": Port("predict", many=True, optional=True),  # results of the train split
            "start": Port("train", optional=True),  # to fine-tune from
            **DECIDED, "instead": Port("train", many=True, optional=True),
        },
        device=True,
    ),
    Stage(
        "rank", 5, "mining.config.RankSettings",
        "Rank the training images by what training, features and texts say of them.",
        {
            **CATALOGUE,
            "check": Port("check", optional=True),
            "train": Port("train", many=True, optional=True),
            "selection": Port("select", many=True, optional=True),  # that each training was taught from
            "features": Port("features", many=True, optional=True),
        },
    ),
    Stage(
        "select", 2, "mining.config.SelectSettings",
        "Choose what each round learns from.",
        {
            **CATALOGUE,
            "check": Port("check", optional=True),
            "ranking": Port("rank", optional=True),
            "selection": Port("select", optional=True),  # of an earlier round
            "train": Port("train", many=True, optional=True),  # with threshold samples …
            "threshold": Port("select", many=True, optional=True),  # … and what these were taught from
            "results": Port("predict", many=True, optional=True),  # what models get wrong on validation
            **DECIDED, "tried": Port("select", many=True, optional=True),  # what a round tried
        },
    ),
    Stage(
        "predict", 3, "learning.predict_settings.PredictSettings",
        "Write every model's scores under every view.",
        {
            **DATA, **CATALOGUE, "train": Port("train"),
            **DECIDED, "instead": Port("predict", many=True, optional=True),
        },
        device=True,
    ),
    Stage(
        "decide", 1, "stages.config.DecideSettings",
        "Judge on validation what a round tried, against the round before.",
        {
            **CATALOGUE,
            "before": Port("predict"),  # of the round before
            "tried": Port("predict", many=True),  # the same model, after each thing that was tried
            "features": Port("features", many=True, optional=True),  # which labels of validation are right
        },
        command=False,
    ),
    Stage(
        "fuse", 5, "fusion.config.FuseSettings",
        "Fuse all results, and choose the way on validation.",
        {**CATALOGUE, "predict": Port("predict", many=True)},
        command=False,
    ),
    Stage(
        "evaluate", 6, "stages.config.EvaluateSettings",
        "Measure every step of the method.",
        {
            **CATALOGUE, "fuse": Port("fuse"),
            "train": Port("train", many=True, each_round=True),
            "predict": Port("predict", many=True, each_round=True),
            "rank": Port("rank", each_round=True),
            "select": Port("select", each_round=True),
            "decide": Port("decide", each_round=True, optional=True),
        },
    ),
    Stage(
        "submit", 1, "fusion.config.SubmitSettings",
        "Write the challenge's submission from the fused test scores.",
        {**CATALOGUE, "fuse": Port("fuse")},
        last=True,
    ),
)  # fmt: skip
STAGES: Mapping[str, Stage] = {row.name: row for row in ROWS}


def refuse_ports(stage: str, connected: Mapping[str, Sequence[str]]) -> None:
    """Raise RecipeError where `connected` (port → stages of the artefacts on it, in order) is not what the
    stage reads: a port that it has not or that is missing, a stage that does not belong there, too many."""
    row = STAGES[stage]
    for port, stages in connected.items():
        known = row.port(port)
        if known is None:
            ports = ", ".join(f"{name}/ROUND" if one.each_round else name for name, one in row.ports.items())
            raise RecipeError(f"the stage {stage} has no port {port!r}; its ports: {ports or 'none'}")
        if strange := [name for name in stages if name != known.of]:
            raise RecipeError(f"{stage}: port {port!r} takes what {known.of} made, not {strange[0]}")
        if len(stages) > 1 and not known.many:
            raise RecipeError(f"{stage}: port {port!r} takes one artefact of {known.of}, not {len(stages)}")
    families = {port.partition("/")[0] for port, stages in connected.items() if stages}
    for name, one in row.ports.items():
        if not one.optional and name not in families:
            what = "artefacts" if one.many else "an artefact"
            raise RecipeError(f"{stage}: port {name!r} needs {what} of {one.of}, and nothing is connected")
