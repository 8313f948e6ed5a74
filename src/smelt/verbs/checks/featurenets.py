"""Nets whose features are wanted: that their weights are there and fit, said before the first stage."""

from __future__ import annotations

from typing import Any

from smelt.recipe.borrowed import borrowed
from smelt.stages.config import FeaturesSettings
from smelt.verbs.checks import asking
from smelt.verbs.checks.asked import Asked, Found

LIMIT_SECONDS = 300.0  # of the process that loads them


def about_features(asked: Asked) -> Found:
    """A problem for each that cannot give features; `dims` of those that can. Weights are loaded for it."""
    todo = {node.id for node in asked.todo}
    wanted = [
        (number, one) for number, one in enumerate(asked.recipe.features) if f"features/{one.name}" in todo
    ]
    if not wanted:
        return Found()
    try:
        told = asking.ask(
            "smelt.learning.featuretrial", [_net(asked, one) for _, one in wanted], LIMIT_SECONDS
        )
    except asking.UnansweredError as error:
        return Found(notes=[f"the nets of features could not be tried beforehand ({error})"])
    found = Found()
    for (number, one), verdict in zip(wanted, told, strict=True):
        field = "weights" if one.weights is not None else "model"
        if "error" in verdict:
            found.problems.append(f"{asked.said(('features', number, field))}: {verdict['error']}")
            continue
        found.dims[one.name] = int(verdict["dim"])
        if verdict["words"]:
            found.notes.append(f"features {one.name}: {verdict['words']}")
    return found


def _net(asked: Asked, one: FeaturesSettings) -> dict[str, Any]:
    """What the process is asked."""
    if one.weights is not None:
        source = borrowed(one.weights, "weights")[0]
        return {
            "source": source, "backbone": one.backbone, "size": one.size, "image_text": one.image_text,
        }  # fmt: skip
    for round_, model, settings, _ in asked.trainings():
        if f"{round_.name}/{model.name}" == str(one.model).rpartition("-")[0]:
            return {"source": None, "backbone": settings.backbone, "size": one.size}
    raise AssertionError("the recipe was checked")
