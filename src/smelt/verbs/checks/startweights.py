"""Weights that models are to begin with, and that cannot be had or do not fit: said before the first stage.

Where none are asked for, nothing is started and no network is asked. Files that were found to fit are
remembered by their content, as nets are (tried.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from smelt.errors import short
from smelt.recipe.yaml_lines import Steps, dotted
from smelt.verbs.checks import asking, disk
from smelt.verbs.checks.asked import Asked, Found, called
from smelt.verbs.checks.tried import Tried

LIMIT_SECONDS = 120.0  # of the process that looks for weights; most of it is for importing torch
FIT_SECONDS = 600.0  # of the process that reads files of weights
LEARNING = ("tune", "train")
CLASSES = 10  # where nobody knows their number yet: heads do not matter

Wanted = dict[tuple[Steps, str], list[str]]  # (field, name of a net whose weights timm has) → models


def about_weights(asked: Asked) -> Found:
    """A problem for each field that asks for weights which cannot be had. Where nobody could say whether they
    can, as on a machine that is too busy, that is a note: the training may yet get them."""
    wanted: Wanted = {}
    for name, settings, at, _ in _beginnings(asked):
        if settings.pretrained:
            wanted.setdefault((asked.given(at, "pretrained"), settings.backbone), []).append(name)
        elif settings.weights and not os.path.isabs(settings.weights):
            wanted.setdefault((asked.given(at, "weights"), settings.weights), []).append(name)
    if not wanted:
        return Found()
    try:
        missing = _ask(list(dict.fromkeys(backbone for _, backbone in wanted)))
    except asking.UnansweredError as error:
        return Found(notes=[f"pretrained weights could not be looked for beforehand ({error})"])
    return Found(problems=list(_cannot_be_had(asked, wanted, missing)))


def about_fit(asked: Asked) -> Found:
    """A problem for each field whose weights do not fit its net; a note of what would be loaded."""
    places: dict[str, tuple[Steps, list[str]]] = {}
    nets: dict[str, tuple[dict[str, Any], str]] = {}
    known = disk.counts(asked).classes
    for name, settings, at, external in _beginnings(asked):
        if not settings.weights:
            continue
        net = {
            "backbone": settings.backbone, "outputs": known or CLASSES, "image_size": settings.image_size,
            "small_stem": settings.small_stem, "weights": settings.weights,
        }  # fmt: skip
        key = repr((net, asked.given(at, "weights")))
        nets[key] = net, external
        places.setdefault(key, (asked.given(at, "weights"), []))[1].append(name)
    if not nets:
        return Found()
    memory = Tried.here()
    new = [key for key, (net, content) in nets.items() if not memory.goes_on(*_pair(net, content))]
    try:
        answers = _fit([nets[key][0] for key in new]) if new else []
    except asking.UnansweredError as error:
        return Found(notes=[f"whether weights fit could not be looked at beforehand ({error})"])
    found = Found()
    for key, answer in zip(new, answers, strict=True):
        steps, names = places[key]
        if answer["why"]:
            found.problems.append(f"{asked.said(steps)}: {called(names)}: {answer['why']}")
        elif answer["words"]:
            words = answer["words"] if known else answer["words"].partition(";")[0]  # nothing of the head
            found.notes.append(f"weights of {called(names)}: {words}")
    fitting = [_pair(*nets[key]) for key, answer in zip(new, answers, strict=True) if not answer["why"]]
    memory.keep([], fitting)
    return found


def _pair(net: Mapping[str, Any], content: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is remembered of a net and weights: their content, wherever they lie."""
    return {"content": content}, {**net, "weights": "", "outputs": 0}


def _beginnings(asked: Asked) -> Iterator[tuple[str, Any, tuple[int, int], str]]:
    """(round/model, settings with weights as the stage is given them, place, content of the weights) of each
    model that has still to learn."""
    todo = {node.id: node for node in asked.todo if node.stage in LEARNING}
    for one, model, settings, at in asked.trainings():
        name = f"{one.name}/{model.name}"
        ids = [f"tune/{name}", *(f"train/{name}-{seed}" for seed in model.seeds)]
        node = next((todo[i] for i in ids if i in todo), None)
        if node is not None:
            given = settings.model_copy(update={"weights": node.settings.get("weights")})
            yield name, given, at, node.external.get("weights", "")


def _cannot_be_had(asked: Asked, wanted: Wanted, missing: Mapping[str, str]) -> Iterator[str]:
    for (steps, backbone), names in wanted.items():
        if backbone in missing:
            none = "false" if steps[-1] == "pretrained" else "null"
            yield (
                f"{asked.said(steps)}: {called(names)}: the pretrained weights of {backbone} cannot be had: "
                f"{missing[backbone]}. Run it once where there is a network, or copy the cache from such a "
                f"machine, or -o {dotted(steps)}={none}"
            )


def _ask(backbones: list[str]) -> dict[str, str]:
    """The answer of models/pretrained.py; asking.UnansweredError where it could not answer."""
    answer = asking.ask("smelt.models.pretrained", backbones, LIMIT_SECONDS)
    return {str(name): short(str(why), 400) for name, why in answer.items()}


def _fit(nets: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The answer of models/wouldfit.py; asking.UnansweredError where it could not answer."""
    return [
        {"why": short(str(one["why"]), 600), "words": short(str(one["words"]), 400)}
        for one in asking.ask("smelt.models.wouldfit", nets, FIT_SECONDS)
    ]
