"""An earlier `fusion.json`: read, checked, and used on other scores of the same results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from smelt.errors import ArtifactError
from smelt.files.atomic import read_json
from smelt.fusion.apply import Fusion
from smelt.fusion.config import Pooling
from smelt.fusion.scores.identity import known_names, placed
from smelt.fusion.scores.inputs import Gathered


def read_record(path: Path) -> dict[str, Any]:
    """What an earlier fusion wrote; ArtifactError if it is none."""
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("methods"), list) or "chosen" not in record:
        raise ArtifactError(f"{path} is not a fusion.json")
    classes, count = record.get("classes"), record.get("num_classes")
    words = classes is None or (isinstance(classes, list) and all(isinstance(one, str) for one in classes))
    if not words or not (count is None or (isinstance(count, int) and count > 0)):
        raise ArtifactError(f"{path} is not a fusion.json: its classes are no list of names")
    known_names(record, str(path))
    return record


def used(path: str, record: Mapping[str, Any], given: Gathered) -> tuple[Fusion, Gathered]:
    """The chosen fusion of an earlier `fusion.json`, and the results in its order."""
    wanted = known_names(record, path)
    fusion = _chosen(path, record, len(wanted), given.num_classes)
    order, notes = placed(wanted, given.names, path)
    given = replace(
        given,
        sources=[given.sources[place] for place in order],
        paths=[given.paths[place] for place in order],
        found=[given.found[place] for place in order],
        notes=[*given.notes, *notes],
    )
    given.alarms += _changed(path, record, given, wanted)
    # `read_scores` called them by the files that are used now; the fusion knows them by its own names
    given.sources = [replace(source, name=name) for source, name in zip(given.sources, wanted)]
    return fusion, given


def _chosen(path: str, record: Mapping[str, Any], count: int, num_classes: int) -> Fusion:
    """The fusion that was chosen; ArtifactError where it cannot be applied."""
    try:
        fusion = Fusion.from_json(next(m for m in record["methods"] if m["method"] == record["chosen"]))
        kinds = (fusion.weights, fusion.temperatures or (), *(fusion.class_weights or ()))
        numbers = np.concatenate([np.asarray(one, np.float64) for one in kinds])
        sound = bool((np.isfinite(numbers) & (numbers >= 0)).all()) and sum(fusion.weights) > 0
        sound = sound and bool(np.isfinite(np.asarray(fusion.biases or (), np.float64)).all())
        sound = sound and fusion.pooling in get_args(Pooling) and 0 not in (fusion.temperatures or ())
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise ArtifactError(
            f"{path} is not a fusion.json: the chosen fusion is missing or damaged"
        ) from error
    if not sound:
        raise ArtifactError(f"{path} is not a fusion.json: its weights are no weights")
    if not fusion.fitting(count, num_classes):
        of = f"{count} results" + (f" and {num_classes} classes" if fusion.class_weights else "")
        found = f"{len(fusion.weights)} weights" + (" and those of classes" if fusion.class_weights else "")
        raise ArtifactError(f"{path} is not a fusion.json: {found} do not fit {of}")
    return fusion


def _changed(path: str, record: Mapping[str, Any], given: Gathered, wanted: Sequence[str]) -> list[str]:
    """What is other than when the weights were fitted, and may be a mistake."""
    alarms = [
        f"{name} held {before.replace('_', ' ')} when {path} was made, {file} holds {now.replace('_', ' ')} "
        f"(if that is wrong say --kind {file.name}=KIND)"
        for name, before, now, file in zip(wanted, record.get("kinds", []), given.kinds, given.paths)
        if before != now
    ]
    if record.get("classes") is None and given.classes is not None:
        alarms.append(f"{path} knows no names of classes: columns are taken to be in its order")
    return alarms
