"""Stage `evaluate`: the ladder of the method, measured, and the quality of mining where the truth is known.

Ports: catalogue, fuse; for each round r of the settings train/r, predict/r (one artefact a model, in order),
rank/r, select/r and, where the round's step was judged, decide/r.
Writes `ladder.json` (steps, rounds, selections and rankings against the truth) and `evaluate.json` (accuracy
of every result and class, and what validation says of classes that mining found to stand out). This stage
and the report alone look at test labels and truth.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt import metrics
from smelt.artifacts import results
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.ranking import read_ranking
from smelt.artifacts.results import open_dense
from smelt.artifacts.row_kinds import read_kinds
from smelt.artifacts.selection import read_selection
from smelt.files.arrays import map_array
from smelt.files.atomic import read_json, write_json
from smelt.fusion.apply import Fusion, plain_hits
from smelt.fusion.scores.sources import Stored
from smelt.metrics import class_averaged, hits_in_list, hits_topk
from smelt.mining import diagnosis
from smelt.mining.diagnosis import by_validation
from smelt.mining.wrong_tables import kinds_against_truth
from smelt.stages.config import EvaluateSettings, RoundSettings
from smelt.stages.context import Context
from smelt.stages.rank import validation_accuracy

SPLITS = ("val", "test")
TOP = (1, 5)


def run(context: Context[EvaluateSettings]) -> None:
    """Measure everything and write both files."""
    settings = context.settings
    catalogue = Catalogue.open(context.catalogue)
    singles = {one.name: single_models(context, catalogue, one) for one in settings.rounds}
    fusion = read_json(context.one("fuse") / "fusion.json")
    mined = {one.name: against_truth(context, catalogue, one) for one in settings.rounds}
    ladder = {
        "rungs": [
            *(
                step_of(one, singles[one.name], settings.view) | decision(context, one)
                for one in settings.rounds
            ),
            *fusion_steps(context, catalogue, fusion),
        ],
        "rounds": [averaged(context, catalogue, one) for one in settings.rounds],
        "selections": [{"round": name, **found} for name, found in mined.items() if found],
        "noise": [{"round": one.name, "words": noise_words(context, one)} for one in settings.rounds],
        "fusion": fusion["words"],
    }
    write_json(context.out / "ladder.json", ladder)
    detail = {
        "results": [row for rows in singles.values() for row in rows],
        "per_class": per_class(context, catalogue, fusion["chosen"]),
        "standing_out": {one.name: standing_out(context, catalogue, one) for one in settings.rounds},
    }
    write_json(context.out / "evaluate.json", detail)


def labels_of(catalogue: Catalogue, split: str) -> NDArray[np.int32]:
    """Labels (N,) of a split, −1 where unknown."""
    labels: NDArray[np.int32] = catalogue.labels_N[catalogue.rows(split)]
    return labels


def blockwise(blocks: Iterable[Any], labels_N: NDArray[np.int32]) -> dict[str, float]:
    """{"top1": …, "top5": …} class-averaged, of scores (N, C) that come in consecutive blocks."""
    hits: dict[int, list[Any]] = {k: [] for k in TOP}
    start = 0
    for scores in blocks:
        for k in TOP:
            hits[k].append(hits_topk(scores, labels_N[start : start + len(scores)], k))
        start += len(scores)
    return {f"top{k}": class_averaged(np.concatenate(hits[k]), labels_N) for k in TOP}


def accuracy(path: Path, labels_N: NDArray[np.int32]) -> dict[str, float] | None:
    """Class-averaged accuracy of a dense result; None where no label is known."""
    if not (labels_N >= 0).any():
        return None
    scores, _ = open_dense(path)
    return blockwise((scores[i : i + 4096] for i in range(0, len(scores), 4096)), labels_N)


def single_models(
    context: Context[EvaluateSettings], catalogue: Catalogue, one: RoundSettings
) -> list[dict[str, Any]]:
    """A row for each dense result (model and view) of a round with its accuracy on val and test."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for model, folder in zip(one.models, context.inputs[f"predict/{one.name}"], strict=True):
        for split in SPLITS:
            for path in results.find(folder, split):
                if path.suffix != ".npy":
                    continue
                row = rows.setdefault(
                    (model, path.stem), {"round": one.name, "model": model, "view": path.stem}
                )
                row[split] = accuracy(path, labels_of(catalogue, split))
    return list(rows.values())


def step_of(one: RoundSettings, rows: list[dict[str, Any]], view: str) -> dict[str, Any]:
    """The step of a round: the mean over its models of each one's result under `view`."""
    first = {row["model"]: row for row in rows if row["view"] == view}
    found: dict[str, Any] = {
        "name": f"one model, {one.title or one.name}",
        "models": len(first),
        "spread": {},
    }
    for split in SPLITS:
        values = [row[split] for row in first.values() if row.get(split)]
        found[split] = {name: float(np.mean([v[name] for v in values])) for name in (values or [{}])[0]}
        if len(values) > 1:
            for name in values[0]:
                found["spread"][f"{split}_{name}"] = float(np.std([v[name] for v in values], ddof=1))
    return found


def decision(context: Context[EvaluateSettings], one: RoundSettings) -> dict[str, Any]:
    """Whether the round's step was taken, why, and what it tried; {} where nothing was to be decided."""
    path = context.maybe(f"decide/{one.name}")
    if path is None:
        return {}
    found = read_json(path / "decision.json")
    return {"taken": found["chosen"] > 0, "decision": {**found, "round": one.name}}


def averaged(context: Context[EvaluateSettings], catalogue: Catalogue, one: RoundSettings) -> dict[str, Any]:
    """The plain average of the probabilities of a round's models, each under the view of the single ones."""
    found: dict[str, Any] = {"round": one.name, "title": one.title or one.name, "models": len(one.models)}
    view = context.settings.view
    for split in SPLITS:
        labels = labels_of(catalogue, split)
        paths = [path / split / f"{view}.npy" for path in context.inputs[f"predict/{one.name}"]]
        if not all(path.exists() for path in paths) or not (labels >= 0).any():
            continue
        infos = [results.read_info(path) for path in paths]
        sources = [
            Stored(path, str(i), info.num_classes, info.kind)
            for i, (path, info) in enumerate(zip(paths, infos))
        ]
        fusion = Fusion("mean_probability", "probability", (1.0,) * len(sources))
        known = np.flatnonzero(labels >= 0)
        hits = plain_hits(fusion, sources, labels, known, TOP)
        found[split] = {f"top{k}": class_averaged(hits[k], labels[known]) for k in TOP}
    return found


def fusion_steps(
    context: Context[EvaluateSettings], catalogue: Catalogue, fusion: dict[str, Any]
) -> list[dict[str, Any]]:
    """Steps of the plain average, of the genetic algorithm and of what the guard chose.

    Validation is what held out: weights fitted on other images than they are judged on; for the last step the
    whole procedure of choosing is judged on images that had no part in it, and that is not the best of the
    figures above it. Test is the accuracy of the lists that are delivered.
    """
    methods = {entry["method"]: entry for entry in fusion["methods"]}
    titles = {fusion["plain"]: "average fusion", "genetic": "genetic fusion"}
    chosen, whole = fusion["chosen"], fusion.get("held_out")
    names = dict.fromkeys((fusion["plain"], "genetic", *(() if whole else (chosen,))))
    steps = [
        (name, titles.get(name, f"{name.replace('_', ' ')} fusion"), methods[name].get("held_out", {}))
        for name in names
        if name in methods
    ]
    if whole and chosen in methods:
        title = titles.get(chosen, chosen.replace("_", " "))
        steps.append(
            (chosen, f"what the guard chose: {title}", {key: whole[key] for key in ("top1", "top5")})
        )
    last = max((place for place, step in enumerate(steps) if step[0] == chosen), default=-1)
    return [
        {
            "name": title,
            "method": name,
            "chosen": place == last,
            # the plain average always is; of others what the guard chose
            "taken": name in (fusion["plain"], chosen),
            "models": len(fusion["results"]),
            "spread": {},
            "val": held_out,
            "test": listed(context, catalogue, "test", name) or {},
        }
        for place, (name, title, held_out) in enumerate(steps)
    ]


def listed(
    context: Context[EvaluateSettings], catalogue: Catalogue, split: str, method: str
) -> dict[str, float] | None:
    """Class-averaged accuracy of a method's lists on a split; None without lists or labels."""

    path = context.one("fuse") / split / f"{method}.top5.npy"
    labels = labels_of(catalogue, split)
    if not path.exists() or not (labels >= 0).any():
        return None
    lists = map_array(path)
    return {f"top{k}": class_averaged(hits_in_list(lists[:, :k], labels), labels) for k in TOP}


def per_class(context: Context[EvaluateSettings], catalogue: Catalogue, method: str) -> dict[str, Any]:
    """Top-1 of every class by the chosen fusion, and what its misses were most often taken for."""
    for split in reversed(SPLITS):
        labels = labels_of(catalogue, split)
        path = context.one("fuse") / split / f"{method}.top5.npy"
        if not path.exists() or not (labels >= 0).any():
            continue
        first = map_array(path)[:, 0]
        hits = metrics.per_class(first == labels, labels, len(catalogue.classes))
        missed = (labels >= 0) & (first != labels)
        pairs, counts = np.unique(
            labels[missed].astype(np.int64) * len(catalogue.classes) + first[missed], return_counts=True
        )
        confused: dict[str, str] = {}
        for pair in pairs[np.argsort(-counts, kind="stable")].tolist():
            label, taken = divmod(pair, len(catalogue.classes))
            confused.setdefault(catalogue.classes[label], catalogue.classes[taken])
        plain = [None if value != value else float(value) for value in hits]
        return {"split": split, "top1": plain, "confused_with": confused}
    return {}


def diagnosis_of(context: Context[EvaluateSettings], one: RoundSettings) -> dict[str, Any]:
    """The tables that the round's ranking came with."""
    path = context.one(f"rank/{one.name}") / "diagnosis.json"
    found: dict[str, Any] = read_json(path) if path.is_file() else {}
    return found


def noise_words(context: Context[EvaluateSettings], one: RoundSettings) -> str:
    """What the round's trainings say of the share of wrong labels among what they learnt from."""
    return str(diagnosis_of(context, one).get("noise", {}).get("words", ""))


def standing_out(
    context: Context[EvaluateSettings], catalogue: Catalogue, one: RoundSettings
) -> list[dict[str, Any]]:
    """What the round's own results say on validation of the classes that its ranking found to stand out."""
    labels, found = labels_of(catalogue, "val"), diagnosis_of(context, one).get("abstract", [])
    accuracy = validation_accuracy(context.inputs[f"predict/{one.name}"], catalogue, 1) if found else None
    if accuracy is None:
        return []
    images = np.bincount(labels[labels >= 0], minlength=len(catalogue.classes))
    return by_validation([row["number"] for row in found], accuracy, images)


def against_truth(
    context: Context[EvaluateSettings], catalogue: Catalogue, one: RoundSettings
) -> dict[str, Any]:
    """How well the round's selection leaves wrong labels out and its ranking finds them; {} without truth."""
    path = context.one(f"select/{one.name}")
    found = diagnosis.selection_against_truth(read_selection(path), catalogue)
    if not found:
        return {}
    ranking = read_ranking(context.one(f"rank/{one.name}"))
    kinds = read_kinds(context.one(f"rank/{one.name}"))
    rounds = context.settings.rounds
    first = next(r.name for r in rounds if context.one(f"select/{r.name}") == path)
    return {
        **found,
        "selected_for": ""
        if first == one.name
        else first,  # the earlier round whose selection this one keeps
        "scores": diagnosis.ranking_against_truth(ranking, catalogue),
        "intervals": diagnosis.intervals_against_truth(ranking, catalogue),
        "kinds": kinds_against_truth(kinds, catalogue) if kinds else {},
    }
