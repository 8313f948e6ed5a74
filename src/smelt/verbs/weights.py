"""Pretrained weights that models are to begin with, and that cannot be had: said before the first stage.

Where nothing pretrained is asked for, nothing is started and no network is asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from smelt.errors import short
from smelt.verbs.precheck import called, trainings
from smelt.yaml_lines import Steps, dotted

if TYPE_CHECKING:
    from smelt.verbs.precheck import Asked

LIMIT_SECONDS = 120.0  # of the process that looks for weights; most of it is for importing torch
LEARNING = ("tune", "train")


def about_weights(asked: Asked) -> Iterator[str]:
    """A line for each field that asks for weights which cannot be had."""
    wanted: dict[tuple[Steps, str], list[str]] = {}
    todo = [node.id for node in asked.todo if node.stage in LEARNING]
    for one, model, settings, at in trainings(asked.recipe):
        name = f"{one.name}/{model.name}"
        ids = {f"tune/{name}", *(f"train/{name}-{seed}" for seed in model.seeds)}
        if settings.pretrained and ids.intersection(todo):
            wanted.setdefault((asked.given(at, "pretrained"), settings.backbone), []).append(name)
    if not wanted:
        return
    missing = _ask(list(dict.fromkeys(backbone for _, backbone in wanted)))
    for (steps, backbone), names in wanted.items():
        if backbone in missing:
            yield (
                f"{asked.said(steps)}: {called(names)}: the pretrained weights of {backbone} cannot be had: "
                f"{missing[backbone]}. Run it once where there is a network, or copy the cache from such a "
                f"machine, or -o {dotted(steps)}=false"
            )


def _ask(backbones: list[str]) -> dict[str, str]:
    """The answer of models/weights.py; empty where it could not answer, as the training then may."""
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "smelt.models.weights"],
            input=json.dumps(backbones), capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False,
        )  # fmt: skip
        answer: Any = json.loads(asked.stdout)
    except subprocess.TimeoutExpired:
        return dict.fromkeys(backbones, f"no answer within {LIMIT_SECONDS:.0f} s")
    except (OSError, ValueError):
        return {}
    return {str(name): short(str(why), 400) for name, why in answer.items()}
