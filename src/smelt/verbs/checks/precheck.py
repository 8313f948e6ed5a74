"""What cannot work, said before anything is done: models against their sizes, the machine, the disk.

`about_machine` needs no torch and is part of every plan; `check`, with the models (trials.py) and the disk
(disk.py), is for `plan --check` and comes before the first stage of a run. What is done is not looked at;
nets that were found to work are remembered (tried.py), all else is looked at each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from smelt.errors import RecipeError, short
from smelt.recipe.yaml_lines import Places, Steps, dotted

if TYPE_CHECKING:
    from smelt.flowchart.graph import Graph, Node
    from smelt.flowchart.work import Work
    from smelt.learning.config import TrainSettings
    from smelt.recipe.unfolding import Model, Recipe, Round

RANKS_PER_CORE = 8  # processes of a training on a CPU: more only wait for one another


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
        """Nodes of `graph` whose artefact is not there."""
        return [node for node in graph if not _there(self.work.artifact(node.stage, graph.key(node)))]

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


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long: the work folder is refused for it
        return False


@dataclass
class Found:
    """What a check found.

    gpus: how many torch sees, None where it was not asked. values: numbers in the state of a net, by the
    place of its model. notes: what is no error.
    """

    gpus: int | None = None
    values: dict[tuple[int, int], int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(asked: Asked) -> Found:
    """Everything; RecipeError with all that cannot work. For runs and `plan --check`."""
    from smelt.verbs.checks import datacheck, disk, trials, weights

    refuse(
        [*about_machine(asked), *datacheck.about_data(asked)]
    )  # what is known at once is told before nets are built
    found = trials.about_models(asked)
    begin = weights.about_weights(asked)
    found.problems += begin.problems
    found.notes += begin.notes
    need = disk.estimate(asked, found.values)
    found.problems += need.problem()
    found.notes.append(need.words())
    refuse(found.problems)
    return found


def after_index(asked: Asked, found: Found) -> None:
    """What could not be known before the catalogue was there; `found`: what `check` found before the run."""
    from smelt.verbs.checks import datacheck, disk

    need = disk.estimate(asked, found.values).problem()
    refuse([*datacheck.about_data(asked), *need], "nothing was trained")


def refuse(problems: list[str], done: str = "nothing was begun") -> None:
    """RecipeError with the problems, a line each, if there are any."""
    if problems:
        shown = list(dict.fromkeys(problems))
        more = [f"… and {len(shown) - 10} more"] if len(shown) > 10 else []
        raise RecipeError(f"this cannot work, and {done}:\n" + "\n".join([*shown[:10], *more]))


# The machine, without torch


def about_machine(asked: Asked) -> list[str]:
    """What the machine cannot do: the work folder, processes of one training."""
    if not asked.todo:
        return []
    return [*_about_folder(asked.work.folder), *_about_root(asked), *_about_ranks(asked)]


def _about_root(asked: Asked) -> Iterator[str]:
    root, folder = asked.recipe.data.root, asked.work.folder
    try:
        place, images = folder.resolve(), Path(root or "").resolve()
        inside = root is not None and images in place.parents and place.is_dir()
        taken = inside and not (place / "flowchart.json").exists() and any(place.iterdir())
    except (OSError, ValueError, RuntimeError):  # links in a circle: told as a folder that cannot be
        return
    if taken or (root is not None and place == images):
        what = "is a folder of the data set" if taken else "is the folder of the images"
        yield (
            f"the work folder {short(str(folder))} {what} (data.root), which stays as it is: --work FOLDER "
            "names another"
        )


def _about_folder(folder: Path) -> Iterator[str]:
    try:
        there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    except (OSError, ValueError) as error:
        yield f"the work folder {short(str(folder))} cannot be: {getattr(error, 'strerror', None) or error}"
        return
    if not there.is_dir():
        what = "is a file" if there == folder else f"would lie in {there}, which is a file"
        yield f"the work folder {short(str(folder))} {what}: --work FOLDER names another"
    elif not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if there == folder else f"cannot be made in {there}"
        yield f"the work folder {short(str(folder))} {what}: no permission; --work FOLDER names another"


def _about_ranks(asked: Asked) -> Iterator[str]:
    kind, _, numbers = asked.recipe.runtime.device.partition(":")
    most = RANKS_PER_CORE * _cores() if kind == "cpu" else len(numbers.split(",")) if numbers else None
    if most is not None:
        has = f"{_cores()} cores" if kind == "cpu" else asked.said(("runtime", "device"))
        yield from too_many_ranks(asked, most, has)


def too_many_ranks(asked: Asked, most: int, has: str) -> Iterator[str]:
    """A line for each place that asks for more processes of one training than can be."""
    found: dict[tuple[Steps, int], list[str]] = {}
    for one, model, settings, at in trainings(asked.recipe):
        if settings.world_size > most:
            known = (asked.given(at, "world_size"), settings.world_size)
            found.setdefault(known, []).append(f"{one.name}/{model.name}")
    for (steps, ranks), names in found.items():
        yield (
            f"{asked.said(steps)}: {called(names)}: {ranks} processes, and up to {most} for {has}; "
            f"at most -o {dotted(steps)}={most}"
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def trainings(recipe: Recipe) -> Iterator[tuple[Round, Model, TrainSettings, tuple[int, int]]]:
    """Every model of every round with its settings, and its place (round, model)."""
    for i, one in enumerate(recipe.rounds):
        for j, model in enumerate(one.models):
            yield one, model, recipe.training(one, model, model.seeds[0]), (i, j)


def called(names: list[str]) -> str:
    """`the model raw/m`, and how many more."""
    names = list(dict.fromkeys(names))
    return f"the model {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
