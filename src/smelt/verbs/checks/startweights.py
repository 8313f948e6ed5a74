"""Pretrained weights that models are to begin with, and that cannot be had: said before the first stage.

Where nothing pretrained is asked for, nothing is started and no network is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from smelt.errors import short
from smelt.recipe.yaml_lines import Steps, dotted
from smelt.verbs.checks import asking
from smelt.verbs.checks.asked import Asked, Found, called

LIMIT_SECONDS = 120.0  # of the process that looks for weights; most of it is for importing torch
LEARNING = ("tune", "train")


def about_weights(asked: Asked) -> Found:
    """A problem for each field that asks for weights which cannot be had. Where nobody could say whether they
    can, as on a machine that is too busy, that is a note: the training may yet get them."""
    wanted: dict[tuple[Steps, str], list[str]] = {}
    todo = [node.id for node in asked.todo if node.stage in LEARNING]
    for one, model, settings, at in asked.trainings():
        name = f"{one.name}/{model.name}"
        ids = {f"tune/{name}", *(f"train/{name}-{seed}" for seed in model.seeds)}
        if settings.pretrained and ids.intersection(todo):
            wanted.setdefault((asked.given(at, "pretrained"), settings.backbone), []).append(name)
    if not wanted:
        return Found()
    try:
        missing = _ask(list(dict.fromkeys(backbone for _, backbone in wanted)))
    except asking.UnansweredError as error:
        return Found(notes=[f"pretrained weights could not be looked for beforehand ({error})"])
    return Found(problems=list(_cannot_be_had(asked, wanted, missing)))


def _cannot_be_had(
    asked: Asked, wanted: Mapping[tuple[Steps, str], list[str]], missing: Mapping[str, str]
) -> Iterator[str]:
    for (steps, backbone), names in wanted.items():
        if backbone in missing:
            yield (
                f"{asked.said(steps)}: {called(names)}: the pretrained weights of {backbone} cannot be had: "
                f"{missing[backbone]}. Run it once where there is a network, or copy the cache from such a "
                f"machine, or -o {dotted(steps)}=false"
            )


def _ask(backbones: list[str]) -> dict[str, str]:
    """The answer of models/pretrained.py; asking.UnansweredError where it could not answer."""
    answer = asking.ask("smelt.models.pretrained", backbones, LIMIT_SECONDS)
    return {str(name): short(str(why), 400) for name, why in answer.items()}
