"""What the shell proposes: recipes, fields, work folders, stages. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

import typer

SUFFIXES = (".yaml", ".yml")
MOST = 200  # files that are proposed


def recipes(incomplete: str) -> list[str]:
    """Shipped recipes, recipe files and folders on the way to them that begin with `incomplete`."""
    from smelt.recipe.loading import shipped

    names = [name for name in shipped() if name.startswith(incomplete)]
    return names + files(incomplete)


def files(incomplete: str) -> list[str]:
    """Recipe files, and folders with a `/` behind, that begin with `incomplete`."""
    folder, slash, start = incomplete.rpartition("/")
    found = []
    try:
        for path in sorted(Path(f"{folder}/" if slash else ".").iterdir()):
            if not path.name.startswith(start) or (path.name.startswith(".") and not start):
                continue
            if path.is_dir():
                found.append(f"{folder}{slash}{path.name}/")
            elif path.suffix in SUFFIXES:
                found.append(f"{folder}{slash}{path.name}")
    except OSError:
        return []
    return found[:MOST]


def work_folders(incomplete: str) -> list[str]:
    """Work folders that begin with `incomplete`, those below work/ and those where it leads, and folders with
    a `/` behind on the way to others."""
    folder, slash, start = incomplete.rpartition("/")
    found = []
    for where in (f"{folder}{slash}", *(["work/"] if not slash and "work/".startswith(start) else [])):
        begins = start if where != "work/" or slash else ""
        try:
            inside = sorted(path for path in Path(where or ".").iterdir() if path.is_dir())
        except OSError:
            continue
        for path in inside:
            if path.name.startswith(begins) and (begins or not path.name.startswith(".")):
                found.append(f"{where}{path.name}" + ("" if _is_work(path) else "/"))
    return list(dict.fromkeys(found))[:MOST]


def _is_work(path: Path) -> bool:
    return any((path / name).is_file() for name in ("flowchart.json", "finished.json"))


def stages(ctx: typer.Context, incomplete: str) -> list[str]:
    """Stages that the last flowchart of the work folder has; all, where there is none."""
    from smelt.files.workfolder import read_chart
    from smelt.stages.table import STAGES

    try:
        nodes = read_chart(Path(str(ctx.params["work"])))["nodes"]
        names = list(dict.fromkeys(str(node["stage"]) for node in nodes))
    except (OSError, ValueError, KeyError, TypeError):
        names = list(STAGES)
    return [name for name in names if name.startswith(incomplete)]


def fields(incomplete: str) -> list[str]:
    """Names of fields that go on from `incomplete` by one step; places in lists as they were typed, or 0."""
    from smelt.recipe.fields import walk
    from smelt.recipe.schema import Recipe

    *typed, start = incomplete.split(".")
    found = []
    for entry in walk(Recipe):
        path = entry.path
        if len(path) != len(typed) + 1 and not (len(path) == len(typed) + 2 and path[-2] == "N"):
            continue
        steps = [given if want == "N" and given.isdecimal() else want for want, given in zip(path, typed)]
        if steps != typed:
            continue
        rest = ["0" if step == "N" else step for step in path[len(typed) :]]
        if rest[0].startswith(start):
            found.append(".".join([*typed, *rest]))
    return sorted(dict.fromkeys(found))


def overrides(incomplete: str) -> list[str]:
    """Names of fields with `=` behind, for `-o`; choices of a field where its name is typed whole."""
    from typing import Literal, get_args, get_origin

    from smelt.recipe.fields import find
    from smelt.recipe.schema import Recipe

    name, equals, value = incomplete.partition("=")
    if not equals:
        return [f"{field}=" for field in fields(incomplete)]
    known = find(Recipe, name)
    if len(known) != 1:
        return []
    kinds = [known[0].info.annotation, *get_args(known[0].info.annotation)]
    choices = [str(c) for kind in kinds if get_origin(kind) is Literal for c in get_args(kind)]
    choices += ["true", "false"] if bool in kinds else []
    return [f"{name}={choice}" for choice in choices if choice.startswith(value)]
