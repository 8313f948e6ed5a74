"""Names of classes as programs keep them: a list in the order of the columns, or a map of names and numbers.

`class_to_idx` of torchvision and `label2id` lead from names to columns, `id2label` the other way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from smelt.errors import ResultError
from smelt.files.atomic import read_json

MAPS = ("class_to_idx", "class_to_index", "label2id", "label_to_id", "name_to_idx", "idx_to_class",
        "index_to_class", "id2label", "id_to_label")  # fmt: skip


def from_json(path: Path) -> tuple[str, ...]:
    """The names in a .json beside scores; ArtifactError or ResultError where it holds none."""
    value = read_json(path)
    if isinstance(value, dict):  # one that is wrapped: {"class_to_idx": {…}}, {"classes": […]}
        inner = [one for name, one in value.items() if name in (*MAPS, "classes", "class_names", "names")]
        value = inner[0] if len(inner) == 1 and isinstance(inner[0], list | dict) else value
    return ordered(value, str(path))


def taken(members: Mapping[str, Any], path: Path) -> tuple[str, tuple[str, ...]] | None:
    """The member of a bundle that is a map of names and numbers, and the names in their order; else None."""
    for name in MAPS:
        value = members.get(name)
        if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind == "U":
            try:
                value = json.loads(str(value))  # how an .npz can hold one
            except (ValueError, RecursionError):
                continue
        if isinstance(value, dict):
            return name, ordered(value, f"{path} ({name})")
    return None


def ordered(value: Any, source: str) -> tuple[str, ...]:
    """Names in the order of columns, of a list or of a map either way; ResultError where it is neither.

    source: where it stands, for the message.
    """
    wanted = "a list of names in the order of the columns, or a map of each name to its column from 0"
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return tuple(one.strip() for one in value)
    if not isinstance(value, dict) or not value:
        raise ResultError(f"{source} holds no names of classes: {wanted} is read")
    pairs = [(str(name), number) for name, number in value.items()]
    if all(isinstance(number, str) for _, number in pairs):
        pairs = [(str(word), number) for number, word in value.items()]
    try:
        numbers = [int(number) for _, number in pairs if not isinstance(number, bool | float)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) < len(pairs) or sorted(numbers) != list(range(len(pairs))):
        raise ResultError(f"{source}: its numbers are not 0 to {len(pairs) - 1}, each once: {wanted} is read")
    return tuple(name.strip() for _, (name, _) in sorted(zip(numbers, pairs), key=lambda one: one[0]))
