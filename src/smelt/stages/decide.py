"""Stage `decide`: whether what a round tried is used, judged on validation against the round before.

Ports: catalogue, dedupe (optional); before (results of a model of the round before), tried (of the same model
after each thing that the round tried), features (optional). Writes `decision.json`: what was compared, with
the standard errors of the gains, what is used (0: the round before) and why, in words.

Labels of validation that nobody checked count as far as they are probably right, as all compared models
together (and features, where there are some) say: a model that has learnt the mistakes of the labels would
win by them otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.featurestore import Features
from smelt.artifacts.results import TOPK, find, open_dense, open_topk, read_info, rows_hash
from smelt.errors import ArtifactError
from smelt.files.atomic import write_json
from smelt.fusion.scores.soften import softmax
from smelt.metrics import hits_in_list, hits_topk
from smelt.mining.corrected import Gain, compare, label_right
from smelt.mining.labelled_features import Labelled
from smelt.mining.posterior import Posterior
from smelt.stages.config import DecideSettings
from smelt.stages.context import Context

BLOCK = 4096
MOST = 200_000_000  # images × classes up to which probabilities are looked at: 0.8 GB
NO_LABELS = "no image of validation has a label to judge by (data.val_fraction holds some of training out)"


def run(context: Context[DecideSettings]) -> None:
    """Write the decision."""
    settings = context.settings
    catalogue = Catalogue.open(context.catalogue)
    rows = catalogue.rows("val")
    labels = catalogue.labels_N[rows]
    record: dict[str, Any] = {"chosen": 0, "images": int((labels >= 0).sum()), "tries": []}
    if not record["images"]:
        write_json(context.out / "decision.json", record | {"words": f"not used: {NO_LABELS}"})
        return
    metric = settings.metric
    if metric == "auto":  # as fusion has it
        metric = "top5" if len(catalogue.classes) > 5 else "top1"
    paths = [context.one("before"), *context.inputs["tried"]]
    files = [result_of(path, settings.view, rows) for path in paths]
    k = int(metric.removeprefix("top"))
    hits = [hits_of(path, labels, k) for path in files]
    weights, trusted = weights_of(context, catalogue, files, labels)
    gains = [compare(one, hits[0], labels, weights) for one in hits[1:]]
    best = int(np.argmax([one.gain for one in gains]))
    # a change of nothing has no error: it is no step by any bar but one far below 0
    taken = gains[best].gain > settings.standard_errors * max(gains[best].standard_error, 1e-9)
    record |= {
        "chosen": best + 1 if taken else 0,
        "metric": metric,
        "labels": trusted,
        "before": accuracy(hits[0], labels, weights),
        "tries": [
            {"name": name, "accuracy": accuracy(of, labels, weights), **one.figures()}
            for name, one, of in zip(settings.tries, gains, hits[1:], strict=True)
        ],
        "words": words(settings, gains, best, taken, record["images"]),
    }  # fmt: skip
    write_json(context.out / "decision.json", record)


def result_of(folder: Path, view: str, rows: NDArray[np.int64]) -> Path:
    """The result of validation under a view, all scores or the best K; ArtifactError where it is not there or
    of other rows."""
    path = next((one for one in find(folder, "val") if one.name in (f"{view}.npy", view + TOPK)), None)
    if path is None:
        raise ArtifactError(f"{folder} has no result of validation under the view {view}")
    if read_info(path).rows_hash != rows_hash(rows):
        raise ArtifactError(f"{path} is of other rows than the catalogue's validation split")
    return path


def hits_of(path: Path, labels_N: NDArray[np.int32], k: int) -> NDArray[np.bool_]:
    """Which labels are among the first k."""
    if path.name.endswith(TOPK):
        best = open_topk(path)[0].classes_NK
        if best.shape[1] < min(k, read_info(path).num_classes):
            raise ArtifactError(f"{path} has {best.shape[1]} scores of each image: too few for top-{k}")
        return hits_in_list(best[:, :k].astype(np.int64), labels_N)
    scores, _ = open_dense(path)
    blocks = range(0, len(labels_N), BLOCK)
    return np.concatenate([hits_topk(scores[i : i + BLOCK], labels_N[i : i + BLOCK], k) for i in blocks])


def accuracy(hits_N: NDArray[np.bool_], labels_N: NDArray[np.int32], weights_N: NDArray[np.float64]) -> float:
    """Class-averaged, each label counting as far as it is right."""
    return round(compare(hits_N, np.zeros(len(hits_N)), labels_N, weights_N).gain, 6)


def weights_of(
    context: Context[DecideSettings], catalogue: Catalogue, files: list[Path], labels: NDArray[np.int32]
) -> tuple[NDArray[np.float64], str]:
    """How much each label of validation counts, (N,), and how that came about in a word."""
    if context.settings.validation_labels == "checked":
        return np.ones(len(labels)), "checked"
    classes = len(catalogue.classes)
    if len(labels) * classes > MOST or classes < 2:
        return np.ones(len(labels)), "crawled"
    likely = np.zeros((len(labels), classes), np.float32)
    for path in files:
        likely += probabilities(path) / np.float32(len(files))
    features = context.inputs.get("features", [])
    if features and (shown := by_features(features, catalogue)) is not None:
        likely = np.where(np.isnan(shown), likely, (likely + shown) / np.float32(2))
    return label_right(labels, likely), "crawled, each counts as far as it is probably right"


def probabilities(path: Path) -> NDArray[np.float32]:
    """(N, C) of a result; of one that is cut, what the kept scores leave over is spread over the others."""
    if path.name.endswith(TOPK):
        top, info = open_topk(path)
        kept = np.asarray(top.scores_NK, np.float32)
        share = softmax(kept) * (1 - top.tail_N[:, None]) if info.kind == "logits" else kept
        rest = (1 - share.sum(axis=1)) / max(info.num_classes - kept.shape[1], 1)
        found = np.repeat(np.maximum(rest, 0)[:, None], info.num_classes, axis=1).astype(np.float32)
        np.put_along_axis(found, top.classes_NK.astype(np.int64), share.astype(np.float32), axis=1)
        return found
    scores, info = open_dense(path)
    found = np.asarray(scores, np.float32)
    return softmax(found) if info.kind == "logits" else found


def by_features(paths: list[Path], catalogue: Catalogue) -> NDArray[np.float32] | None:
    """(N, C) how likely each class is for the validation images by the features of training; NaN for images
    without; None where features tell nothing."""
    opened = [Features.open(path, catalogue.num_rows) for path in paths]
    train, val = catalogue.rows("train"), catalogue.rows("val")
    known = np.logical_and.reduce([one.known_N[train] for one in opened])
    classes = len(catalogue.classes)
    spaces = [
        Labelled(one.values_ND, catalogue.labels_N[train], classes, known_N=known, places_N=train)
        for one in opened
    ]
    if (spaces[0].counts > 0).sum() < 2:
        return None
    posterior = Posterior(spaces)
    found = np.full((len(val), classes), np.nan, np.float32)
    there = np.flatnonzero(np.logical_and.reduce([one.known_N[val] for one in opened]))
    for start in range(0, len(there), BLOCK):
        at = there[start : start + BLOCK]
        found[at] = posterior.elsewhere([np.asarray(one.values_ND[val[at]], np.float32) for one in opened])
    return found


def words(settings: DecideSettings, gains: list[Gain], best: int, taken: bool, images: int) -> str:
    """The decision in a sentence."""
    one = gains[best]
    how = f"{settings.tries[best]}: {100 * one.gain:+.2f} ± {100 * one.standard_error:.2f} points"
    of = f" (best of {len(gains)} tries)" if len(gains) > 1 else ""
    where = f" on {images} validation images"
    if taken:
        return f"used: {how}{where}{of}"
    if one.gain <= 0:
        return f"not used: it does not climb; {how}{where}{of}"
    return f"not used: too few images to tell that it climbs; {how}{where}{of}"
