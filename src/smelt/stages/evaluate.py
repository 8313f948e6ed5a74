"""Stage `evaluate`: the ladder of the method, measured, and the quality of mining where the truth is known.

Ports: catalogue, fuse; for each round r of the settings train/r, predict/r (one artefact a model, in order),
rank/r and select/r.
Writes `ladder.json` (steps, selections and rankings against the truth) and `evaluate.json` (accuracy of every
result and class, the diagnosis of the noise). This stage and the report alone look at test labels and truth.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from smelt.settings import Settings
from smelt.stages.base import Context

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from smelt.artifacts.catalogue import Catalogue

VERSION = 1
SPLITS = ("val", "test")
TOP = (1, 5)


class RoundSettings(Settings):
    """What the ladder must know of a round: `models` are the names behind the artefacts on its ports."""

    name: str
    title: str = ""
    models: tuple[str, ...]
    fused: bool = True


class StageSettings(Settings):
    """The rounds, in order."""

    rounds: tuple[RoundSettings, ...]


def run(context: Context) -> None:
    """Measure everything and write both files."""
    from smelt.artifacts.catalogue import Catalogue
    from smelt.artifacts.files import write_json

    settings = cast(StageSettings, context.settings)
    catalogue = Catalogue.open(context.one("catalogue") / "catalogue")
    singles = {one.name: single_models(context, catalogue, one) for one in settings.rounds}
    fused = fusions(context, catalogue)
    mined = [mining(context, catalogue, one) for one in settings.rounds]
    ladder = {
        "rungs": [*(rung(one, singles[one.name]) for one in settings.rounds), *fused["rungs"]],
        "selections": [found["selection"] for found in mined if found["selection"]],
        "rankings": [found["ranking"] for found in mined if found["ranking"]],
        "notes": fused["notes"],
    }
    write_json(context.out / "ladder.json", ladder)
    detail = {
        "results": [row for rows in singles.values() for row in rows],
        "per_class": fused["per_class"],
        "diagnosis": diagnosis(context, catalogue, settings.rounds[0]),
    }
    write_json(context.out / "evaluate.json", detail)


def labels_of(catalogue: Catalogue, split: str) -> NDArray[np.int32]:
    """Labels (N,) of a split, −1 where unknown."""
    labels: NDArray[np.int32] = catalogue.labels_N[catalogue.rows(split)]
    return labels


def accuracy(scores_NC: Any, labels_N: NDArray[np.int32]) -> dict[str, float] | None:
    """{"top1": …, "top5": …} class-averaged; None where no label is known. Reads in blocks."""
    import numpy as np

    from smelt.metrics import class_averaged, hits_topk

    if not (labels_N >= 0).any():
        return None
    found = {}
    for k in TOP:
        blocks = range(0, len(labels_N), 4096)
        hits = [hits_topk(scores_NC[i : i + 4096], labels_N[i : i + 4096], k) for i in blocks]
        found[f"top{k}"] = class_averaged(np.concatenate(hits), labels_N)
    return found


def single_models(context: Context, catalogue: Catalogue, one: RoundSettings) -> list[dict[str, Any]]:
    """A row for each result (model and view) of a round with its accuracy on val and test."""
    from smelt.artifacts.results import open_dense

    rows = []
    for model, path in zip(one.models, context.inputs[f"predict/{one.name}"], strict=True):
        for file in sorted((path / "val").glob("*.npy")):
            if file.name.endswith(".rows.npy"):
                continue
            row: dict[str, Any] = {"round": one.name, "model": model, "view": file.stem}
            for split in SPLITS:
                there = path / split / file.name
                row[split] = (
                    accuracy(open_dense(there)[0], labels_of(catalogue, split)) if there.exists() else None
                )
            rows.append(row)
    return rows


def rung(one: RoundSettings, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The step of a round: the mean over its models of each one's single result under the first view."""
    import numpy as np

    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row["model"], row)
    found: dict[str, Any] = {
        "name": f"one model, {one.title or one.name}",
        "models": len(first),
        "spread": {},
    }
    for split in SPLITS:
        values = [row[split] for row in first.values() if row[split]]
        found[split] = {name: float(np.mean([v[name] for v in values])) for name in (values or [{}])[0]}
        if len(values) > 1:
            for name in values[0]:
                found["spread"][f"{split}_{name}"] = float(np.std([v[name] for v in values], ddof=1))
    return found
