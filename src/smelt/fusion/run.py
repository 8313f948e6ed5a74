"""The whole of a fusion: tables, judgement, explanation; what the stage and the verb `fuse` both call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ResultError
from smelt.fusion import explain
from smelt.fusion.apply import Fusion, plain_hits
from smelt.fusion.config import MEANS, SEARCHES, FuseSettings, Method, Pooling
from smelt.fusion.judge import KS, POOLING, Judge, Verdict, guard, name, tabled
from smelt.fusion.reference import equal
from smelt.fusion.sources import Pool, Source
from smelt.fusion.tables import Tables
from smelt.metrics import class_averaged

SMALL = 1 << 28  # bytes of scores below which nothing is written to disk on the way
Emit = Callable[..., None]


@dataclass(frozen=True)
class Outcome:
    """All fusions tried, in the order of the settings, the chosen one, and the contents of `fusion.json`."""

    fusions: tuple[Fusion, ...]
    chosen: Fusion
    record: dict[str, Any]


def usable(sources: Sequence[Source], settings: FuseSettings) -> tuple[FuseSettings, list[str]]:
    """Settings without the poolings that top-K results rule out, and what was left out, in words."""

    def possible(pooling: Pooling) -> bool:
        try:
            Pool(sources, pooling).refuse_cut()
        except ResultError:
            return False
        return True

    poolings = tuple(pooling for pooling in settings.poolings if possible(pooling))
    methods: list[Method] = []
    for method in settings.methods:
        if (method in SEARCHES and poolings) or (method in POOLING and possible(POOLING[method])):
            methods.append(method)
    if not methods:
        methods = ["mean_rank"]
    left = [f"{method.replace('_', ' ')} is left out: it needs every score, and some results are top-K"
            for method in settings.methods if method not in methods]  # fmt: skip
    kept = settings.model_copy(update={"methods": tuple(methods), "poolings": poolings or settings.poolings})
    return kept, left


def fuse(
    sources: Sequence[Source],
    labels_N: NDArray[np.integer] | None,
    settings: FuseSettings,
    *,
    num_classes: int,
    folder: Path | None = None,
    workers: int = 1,
    fingerprint: str = "",
    emit: Emit = lambda event, **fields: None,
) -> Outcome:
    """Fit, judge and choose. Without any label only the simple means are possible, and the first is used.

    folder: where tables are kept while they are built (None, or few scores: memory).
    """
    settings, left_out = usable(sources, settings)
    if labels_N is None or not (np.asarray(labels_N) >= 0).any():
        return _blind(sources, settings, left_out)
    labels = np.asarray(labels_N, np.int32)
    small = len(sources) * len(labels) * num_classes * 2 <= SMALL
    where = None if folder is None or small else folder

    options: dict[str, Any] = {"folder": where, "workers": workers, "fingerprint": fingerprint, "emit": emit}
    certain = Tables(sources, labels, settings, **options)
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        emit("progress", done=len(told), total=len(settings.methods), unit="methods", text=text)

    judge = Judge(sources, labels, certain, settings, tell)
    verdicts = judge.verdicts()
    chosen, words = guard(verdicts, judge.plain, settings.sure)
    possible = certain
    if any(source.cut for source in sources):
        possible = Tables(sources, labels, settings, pessimistic=False, **options)
    methods = [_record(verdict, sources, labels, certain, possible, settings) for verdict in verdicts]
    table = certain[chosen.fusion.pooling, settings.k]
    record = {
        "metric": settings.metric,
        "images": int((labels >= 0).sum()),
        "cap": table.cap,
        "undecided": len(table.store.images_U),
        "candidates": len(table.store.classes_R),
        "methods": methods,
        "plain": judge.plain,
        "chosen": chosen.fusion.method,
        "words": words,
        "left_out": left_out,
        "results": _results(sources, certain, chosen.fusion, settings),
        "likeness": explain.likeness(table.store.singles_MN, labels).tolist(),
        "curve": explain.curve(table),
    }
    return Outcome(tuple(v.fusion for v in verdicts), chosen.fusion, record)


def _blind(sources: Sequence[Source], settings: FuseSettings, left_out: list[str]) -> Outcome:
    """Simple means, of which none can be judged."""
    methods = [method for method in settings.methods if method in MEANS] or ["mean_rank"]
    weights = tuple(map(float, equal(len(sources))))
    fusions = tuple(Fusion(method, POOLING[method], weights) for method in methods)
    words = f"{fusions[0].method.replace('_', ' ')} is used: without labels nothing can be fitted or judged"
    record = {
        "metric": settings.metric, "images": 0, "methods": [fusion.to_json() for fusion in fusions],
        "plain": fusions[0].method, "chosen": fusions[0].method, "words": words, "left_out": left_out,
        "results": [{"name": s.name, "kind": s.kind, "top_k": s.cut, "weight": w}
                    for s, w in zip(sources, weights)],
    }  # fmt: skip
    return Outcome(fusions, fusions[0], record)


def _record(
    verdict: Verdict,
    sources: Sequence[Source],
    labels_N: NDArray[np.int32],
    certain: Tables,
    possible: Tables,
    settings: FuseSettings,
) -> dict[str, Any]:
    """What `fusion.json` says of a method."""
    fusion = verdict.fusion
    if tabled(fusion, settings):
        chosen_by = {f"top{k}": float(certain[fusion.pooling, k].accuracy(fusion.weights)[0]) for k in KS}
    else:
        known = np.flatnonzero(labels_N >= 0)
        hits = plain_hits(fusion, sources, labels_N, known, KS)
        chosen_by = {f"top{k}": class_averaged(hits[k], labels_N[known]) for k in KS}
    found = {
        **fusion.to_json(),
        "title": name(verdict),
        "chosen_by": chosen_by,
        "held_out": {f"top{k}": class_averaged(verdict.held_out[k], labels_N) for k in KS},
        "gain": verdict.gain,
        "interval": [verdict.low, verdict.high],
        "sure": verdict.sure,
    }
    if certain is not possible:
        # some scores are missing: the accuracy on all of them lies between these for certain
        high = {k: float(possible[fusion.pooling, k].accuracy(fusion.weights)[0]) for k in KS}
        found["certified"] = {f"top{k}": [chosen_by[f"top{k}"], high[k]] for k in KS}
    return found


def _results(
    sources: Sequence[Source],
    tables: Tables,
    chosen: Fusion,
    settings: FuseSettings,
) -> list[dict[str, Any]]:
    """What `fusion.json` says of each result."""
    alone = {k: explain.singles(tables[chosen.pooling, k]) for k in KS}
    loss = explain.without_each(tables[chosen.pooling, settings.k], chosen.weights)
    return [
        {
            "name": source.name,
            "kind": source.kind,
            "top_k": source.cut,
            "weight": chosen.weights[index],
            "accuracy": {f"top{k}": float(alone[k][index]) for k in KS},
            "without": float(loss[index]),
        }
        for index, source in enumerate(sources)
    ]
