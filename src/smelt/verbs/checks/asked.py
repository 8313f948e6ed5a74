"""What the checks are about, and what they find: the types that all of them share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from smelt.errors import RecipeError
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.work import Work
from smelt.learning.config import TrainSettings
from smelt.recipe.parts import Model, Round
from smelt.recipe.schema import Recipe
from smelt.recipe.yaml_lines import Places, Steps, dotted

SHOWN = 10  # problems that a refusal lists


@dataclass(frozen=True)
class Asked:
    """What is to be run: the recipe with the places of its values, its flowchart, the work folder."""

    recipe: Recipe
    graph: Graph
    work: Work
    places: Places

    @property
    def todo(self) -> list[Node]:
        """Nodes whose artefact is not there."""
        return self.undone(self.graph)

    def undone(self, graph: Graph) -> list[Node]:
        """Nodes of `graph` whose artefact is not there (os.path.exists: a name too long is not)."""
        return [node for node in graph if not os.path.exists(self.work.artifact(node.stage, graph.key(node)))]

    def said(self, steps: Steps) -> str:
        """`field` with the place where it was written, where that is the user's: `train.epochs (-o …)`."""
        at = steps
        while at and at not in self.places:
            at = at[:-1]
        place = self.places.get(at) if at else None
        return dotted(steps) if place is None or place.shipped else f"{dotted(steps)} ({place})"

    def given(self, at: tuple[int, int], *steps: str) -> Steps:
        """Where the recipe gives a training setting of a model: at the model, its round, or for all."""
        return self.recipe.given(*at, *steps)

    def trainings(self) -> Iterator[tuple[Round, Model, TrainSettings, tuple[int, int]]]:
        """Every model of every round with its settings, and its place (round, model)."""
        for i, one in enumerate(self.recipe.rounds):
            for j, model in enumerate(one.models):
                yield one, model, self.recipe.training(one, model, model.seeds[0]), (i, j)


@dataclass
class Found:
    """What a check found.

    gpus: how many torch sees, None where it was not asked. values: numbers in the state of a net, by the
    place of its model. dims: numbers of a line of features, by their name. notes: what is no error.
    """

    gpus: int | None = None
    values: dict[tuple[int, int], int] = field(default_factory=dict)
    dims: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def refuse(problems: Iterable[str], done: str = "nothing was begun") -> None:
    """RecipeError with the problems, a line each, if there are any."""
    if shown := list(dict.fromkeys(problems)):
        more = [f"… and {len(shown) - SHOWN} more"] if len(shown) > SHOWN else []
        raise RecipeError(f"this cannot work, and {done}:\n" + "\n".join([*shown[:SHOWN], *more]))


def called(names: Iterable[str]) -> str:
    """`the model raw/m`, and how many more."""
    first, *others = dict.fromkeys(names)
    return f"the model {first}" + (f" and {len(others)} more" if others else "")
