"""The whole of a fusion: what takes part, tables, judgement, and what `fusion.json` says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.fusion.apply import Fusion, hits_of
from smelt.fusion.case import Case, prepared
from smelt.fusion.config import FuseSettings
from smelt.fusion.exact.pooled import Tables
from smelt.fusion.exact.threads import one_blas_thread, one_thread
from smelt.fusion.fitting.evaluator import KS
from smelt.fusion.fitting.fits import large
from smelt.fusion.fitting.method import titled
from smelt.fusion.folds import effective, equal_rows
from smelt.fusion.given import Results, as_labels, as_sources, num_classes_of
from smelt.fusion.judge import Judge, Judgement, Verdict
from smelt.fusion.resample import Bootstrap
from smelt.fusion.scores.sources import KEPT, Kept, Source
from smelt.fusion.worth import explained
from smelt.metrics import class_averaged

SMALL = 1 << 27  # scores up to which nothing is written to disk on the way
FEWEST = 10  # different labelled images from which on anything is fitted and judged
Emit = Callable[..., None]


@dataclass(frozen=True)
class Outcome:
    """All fusions tried, in the order of the settings, the chosen one, and the contents of `fusion.json`."""

    fusions: tuple[Fusion, ...]
    chosen: Fusion
    record: dict[str, Any]


def fuse(
    results: Results,
    labels_N: ArrayLike | None = None,
    settings: FuseSettings | Mapping[str, Any] | None = None,
    *,
    num_classes: int | None = None,
    groups_N: ArrayLike | None = None,
    folder: Path | None = None,
    workers: int = 1,
    fingerprint: str = "",
    emit: Emit = lambda event, **fields: None,
) -> Outcome:
    """Fit, judge and choose weights of M results: arrays of scores (N, C), or what `read_scores` gave.

    labels_N: of the images, below 0 where unknown; those read with the results unless given. settings: some
    of `FuseSettings`, as `{"metric": "top1"}`. Without any label only the simple means are possible, and
    the first is used. groups_N: a number for each image, the same for copies of one image (None: images
    with equal scores in all results are copies). folder: where tables are kept while they are built
    (None, or few scores: memory). workers: processes that build them. fingerprint: what the tables there
    must be of.

    ValueError or TypeError for results and labels of other shapes and types, ResultError for scores that
    cannot be fused (NaN, infinity, too many for `memory_gib`).
    """
    sources = as_sources(results)
    labels_N = getattr(results, "labels_N", None) if labels_N is None else labels_N
    num_classes = getattr(results, "num_classes", None) if num_classes is None else num_classes
    num_classes = num_classes_of(sources) if num_classes is None else num_classes
    settings = settings if isinstance(settings, FuseSettings) else FuseSettings.model_validate(settings or {})
    labels = as_labels(labels_N, sources, num_classes)
    num_images = 0 if labels is None else len(labels)
    scores = len(sources) * num_images * num_classes
    if scores <= KEPT:
        sources = [Kept(source, num_images) for source in sources]
    elif scores > SMALL:
        import torch  # noqa: F401  from this size on its arithmetic is worth the time that it takes to load
    options: dict[str, Any] = {
        "folder": None if scores <= SMALL else folder, "workers": workers, "fingerprint": fingerprint,
        "emit": emit,
    }  # fmt: skip
    with one_thread(), one_blas_thread():
        groups = None if labels is None else _groups(sources, labels, groups_N)
        case = prepared(sources, labels, settings, num_classes, groups)
        if labels is None:
            return _blind(case)
        known = labels >= 0
        different = int(known.sum()) if groups is None else len(np.unique(groups[known]))
        if different < FEWEST or len(np.unique(labels[known])) < 2:
            return _too_few(case, labels, groups, different)
        return _judged(case, labels, groups, num_classes, options)


def _groups(
    sources: list[Source], labels_N: NDArray[np.int32], groups_N: ArrayLike | None
) -> NDArray[np.int64] | None:
    """Groups (N,) of copies; None where no labelled image has one. ValueError for another length."""
    known = np.flatnonzero(labels_N >= 0)
    if groups_N is None:
        groups = equal_rows(sources, known, len(labels_N))
    else:
        groups = np.unique(np.asarray(groups_N), return_inverse=True)[1].reshape(-1)
        if len(groups) != len(labels_N):
            raise ValueError(f"groups (images,) are {len(groups)} for {len(labels_N)} labels")
    return None if len(np.unique(groups[known])) == len(known) else np.asarray(groups, np.int64)


def _judged(
    case: Case,
    labels_N: NDArray[np.int32],
    groups_N: NDArray[np.int64] | None,
    num_classes: int,
    options: dict[str, Any],
) -> Outcome:
    """What all labels and methods make of a case."""
    settings, emit, told = case.settings, options["emit"], list[str]()
    ks: tuple[int, ...] = (settings.k,)
    if any(source.cut for source in case.taking_part) or large(case.taking_part, labels_N, num_classes):
        ks = tuple(dict.fromkeys((settings.k, *KS)))  # where nothing else knows the hits for the other k

    def tell(text: str) -> None:
        told.append(text)
        emit("progress", done=len(told), total=len(settings.methods), unit="methods", text=text)

    certain = Tables(case.taking_part, labels_N, settings, ks=ks, **options)
    judge = Judge(case.taking_part, labels_N, certain, settings, num_classes=num_classes, groups_N=groups_N,
                  told=tell)  # fmt: skip
    found = judge.judgement()
    possible = None
    if judge.evaluator.cut:
        possible = Tables(case.taking_part, labels_N, settings, ks=ks, pessimistic=False, **options)
    record = {
        **case.record(found.images),
        "groups": found.groups,
        "methods": [_entry(case, verdict, labels_N, certain, possible) for verdict in found.verdicts],
        "plain": judge.plain,
        "chosen": found.choice.method,
        "words": found.words,
        "held_out": _held_out(found, labels_N),
        **explained(case, found.chosen, certain, labels_N, num_classes),
    }
    fusions = tuple(case.spread(verdict.fusion) for verdict in found.verdicts)
    chosen = next(fusion for fusion in fusions if fusion.method == found.choice.method)
    return Outcome(fusions, chosen, record)


def _accuracies(hits: Mapping[int, NDArray[np.bool_]], labels_N: NDArray[np.int32]) -> dict[str, float]:
    return {f"top{k}": class_averaged(hits[k], labels_N) for k in KS}


def _entry(
    case: Case, verdict: Verdict, labels_N: NDArray[np.int32], certain: Tables, possible: Tables | None
) -> dict[str, Any]:
    """What `fusion.json` says of a method. `held_out` is of images that the method never saw; the choice
    among the methods did, so the best of these figures is not what the choice holds out."""
    fusion = verdict.fusion
    entry = {
        **case.spread(fusion).to_json(),
        "title": titled(fusion.method),
        "chosen_by": _accuracies(verdict.fitted, labels_N),
        "held_out": _accuracies(verdict.held_out, labels_N),
        "gain": verdict.gain,
        "interval": [verdict.low, verdict.high],
        "sure": verdict.sure,
    }
    if possible is not None:
        # some scores are missing: the accuracy on all of them lies between these for certain
        tables = {k: (certain[fusion.pooling, k], possible[fusion.pooling, k]) for k in KS}
        entry["certified"] = {
            f"top{k}": [float(table.accuracy(fusion.weights)[0]) for table in both]
            for k, both in tables.items()
        }
    return entry


def _held_out(found: Judgement, labels_N: NDArray[np.int32]) -> dict[str, Any]:
    """The honest figures of the choice: of images that had no part in it."""
    return {
        **_accuracies(found.held_out, labels_N),
        "interval": {f"top{k}": list(found.interval[k]) for k in KS},
        "gain": found.gain,
        "gain_interval": [found.low, found.high],
        "images": found.images,
        "groups": found.groups,
        "effective": found.effective,
        "chosen": list(found.taken),
    }


def _too_few(
    case: Case, labels_N: NDArray[np.int32], groups_N: NDArray[np.int64] | None, different: int
) -> Outcome:
    """Simple means, valued on what labels there are; nothing is fitted or chosen by so few."""
    settings, fusions, known = case.settings, case.means(), labels_N >= 0
    images = int(known.sum())
    hits = hits_of(fusions, case.taking_part, labels_N, np.flatnonzero(known), KS)
    draws = Bootstrap(labels_N, groups_N, settings.bootstrap, settings.seed)
    entries = []
    for row, fusion in enumerate(fusions):
        accuracy = _accuracies({k: hits[k][row] for k in KS}, labels_N[known])
        difference = np.zeros(len(labels_N))
        difference[known] = hits[settings.k][row].astype(float) - hits[settings.k][0]
        low, high = np.quantile(draws([draws.column(difference)]), [0.025, 0.975])
        entries.append({
            **case.spread(fusion).to_json(), "title": titled(fusion.method), "chosen_by": accuracy,
            "held_out": accuracy, "gain": class_averaged(difference, labels_N),
            "interval": [float(low), float(high)], "sure": 0.0,
        })  # fmt: skip
    be = "image is" if different == 1 else "images are"
    why = f"{different} labelled {be} too few to fit or judge anything by"
    if different >= FEWEST:
        why = "all labelled images are of one class, and nothing can be judged by that"
    held_out = {
        **entries[0]["held_out"], "interval": None, "gain": 0.0, "gain_interval": [0.0, 0.0],
        "images": images, "groups": different,
        "effective": effective((np.arange(len(labels_N)) if groups_N is None else groups_N)[known]),
        "chosen": [],
    }  # fmt: skip
    words = f"the plain average ({titled(fusions[0].method)}) is used: {why}"
    more = {"groups": different, "methods": entries, "held_out": held_out}
    return _plainly(case, fusions, images, words, more)


def _blind(case: Case) -> Outcome:
    """Simple means, of which none can be judged."""
    means = case.means()
    words = f"{titled(means[0].method)} is used: without labels nothing can be fitted or judged"
    methods = [case.spread(fusion).to_json() for fusion in means]
    return _plainly(case, means, 0, words, {"methods": methods})


def _plainly(case: Case, means: list[Fusion], images: int, words: str, more: dict[str, Any]) -> Outcome:
    """The first of simple means."""
    plain = means[0].method
    results = case.results(means[0].weights)
    record = {**case.record(images), "plain": plain, "chosen": plain, "words": words, "results": results}
    fusions = tuple(map(case.spread, means))
    return Outcome(fusions, fusions[0], record | more)
