"""The whole of a fusion: what is left out, tables, judgement, explanation; what the stage and the verb
call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.errors import ResultError
from smelt.fusion import worth
from smelt.fusion.apply import Fusion, hits_of
from smelt.fusion.config import FuseSettings, Method, Pooling
from smelt.fusion.exact.pooled import Tables
from smelt.fusion.exact.threads import one_blas_thread, one_thread
from smelt.fusion.fitting.fits import large
from smelt.fusion.fitting.method import method, simple
from smelt.fusion.folds import effective, equal_rows
from smelt.fusion.guard import titled
from smelt.fusion.judge import KS, Judge, Judgement, Verdict
from smelt.fusion.resample import Bootstrap
from smelt.fusion.scores.reference import equal
from smelt.fusion.scores.screen import screened
from smelt.fusion.scores.sources import KEPT, Kept, Pool, Source
from smelt.metrics import before_label, class_averaged

SMALL = 1 << 27  # scores up to which nothing is written to disk on the way
OWN_PASS = 1 << 34  # scores up to which methods that need a pass over all of them by themselves are tried
FEWEST = 10  # different labelled images from which on anything is fitted and judged
Emit = Callable[..., None]


@dataclass(frozen=True)
class Outcome:
    """All fusions tried, in the order of the settings, the chosen one, and the contents of `fusion.json`."""

    fusions: tuple[Fusion, ...]
    chosen: Fusion
    record: dict[str, Any]


def usable(
    sources: Sequence[Source], settings: FuseSettings, scores: int = 0, num_classes: int = 2
) -> tuple[FuseSettings, list[str]]:
    """Settings without what top-K results rule out, or so many `scores` or classes; and what was left out, in
    words."""
    cut = any(source.cut for source in sources)

    def possible(pooling: Pooling) -> bool:
        try:
            Pool(sources, pooling).refuse_cut()
        except ResultError:
            return False
        return True

    def reason(name: Method) -> str:
        one = method(name)
        there = poolings if one.pooling is None else possible(one.pooling)
        if not there or (cut and one.every_score):
            return "it needs every score, and some results are top-K"
        if scores > OWN_PASS and one.own_pass:
            return f"it needs a pass of its own over {scores:.2g} scores"
        return one.too_large(len(sources), num_classes, scores)

    poolings = tuple(pooling for pooling in settings.poolings if possible(pooling))
    reasons = {name: reason(name) for name in settings.methods}
    left = [f"{titled(name)} is left out: {text}" for name, text in reasons.items() if text]
    methods = [name for name, text in reasons.items() if not text] or ["mean_rank"]
    return settings.model_copy(
        update={"methods": tuple(methods), "poolings": poolings or settings.poolings}
    ), left


@dataclass(frozen=True)
class Case:
    """What is fused: all M results, which of them take part, and what is said before anything is fitted."""

    sources: Sequence[Source]
    active: tuple[int, ...]
    reasons: dict[int, str]
    settings: FuseSettings
    metric_words: str
    left_out: list[str]
    warnings: list[str]

    @property
    def taking_part(self) -> list[Source]:
        """The results that are fused."""
        return [self.sources[index] for index in self.active]

    def spread(self, fusion: Fusion) -> Fusion:
        """A fusion of the results that take part, as one of all: the others weigh nothing."""

        def all_of(values: ArrayLike, other: float) -> Any:
            active = np.asarray(values)
            found = np.full((len(self.sources), *active.shape[1:]), other)
            found[list(self.active)] = active
            return found.tolist()

        degrees, of_classes = fusion.temperatures, fusion.class_weights
        return replace(
            fusion,
            weights=tuple(all_of(fusion.weights, 0.0)),
            temperatures=None if degrees is None else tuple(all_of(degrees, 1.0)),
            class_weights=None if of_classes is None else tuple(map(tuple, all_of(of_classes, 0.0))),
        )

    def means(self) -> list[Fusion]:
        """The simple means of the results that take part, of those that are asked for."""
        weights = tuple(map(float, equal(len(self.active))))
        names = [name for name in self.settings.methods if simple(name)] or ["mean_rank"]
        return [Fusion(name, method(name).pooling or "rank", weights) for name in names]

    def record(self, images: int) -> dict[str, Any]:
        """What `fusion.json` says whatever comes of the judging."""
        return {
            "metric": self.settings.metric,
            "metric_words": self.metric_words,
            "images": images,
            "left_out": self.left_out,
            "warnings": self.warnings,
        }


def prepared(
    sources: Sequence[Source],
    labels_N: NDArray[np.int32] | None,
    settings: FuseSettings,
    num_images: int,
    num_classes: int,
    groups_N: NDArray[np.int64] | None,
) -> Case:
    """Settle the metric, the methods and the results that take part."""
    settings, words = settings.resolved(num_classes)
    warnings = []
    if groups_N is not None and labels_N is not None:
        groups = groups_N[labels_N >= 0]
        warnings.append(
            f"{len(groups)} labelled images are {len(np.unique(groups))} different ones (worth "
            f"{effective(groups):.0f} equally frequent ones): copies are kept together in judging"
        )
    if settings.metric == "top5" and num_classes <= 5:
        warnings.append(
            f"top-5 of {num_classes} classes is always right: ask for top1, or leave it to `auto`"
        )
    reasons = screened(sources, labels_N, num_images, num_classes, groups_N)
    aside = settings.set_aside and 0 < len(reasons) < len(sources)
    active = tuple(index for index in range(len(sources)) if not (aside and index in reasons))
    for index, reason in reasons.items():
        fate = (
            "it is set aside (fuse.set_aside: false fuses it all the same)"
            if aside
            else "it is fused all the same"
        )
        warnings.append(f"{sources[index].name}: {reason}; {fate}")
    scores = len(active) * num_images * num_classes
    settings, left_out = usable([sources[index] for index in active], settings, scores, num_classes)
    return Case(sources, active, reasons if aside else {}, settings, words, left_out, warnings)


def fuse(
    sources: Sequence[Source],
    labels_N: NDArray[np.integer] | None,
    settings: FuseSettings,
    *,
    num_classes: int,
    groups_N: ArrayLike | None = None,
    folder: Path | None = None,
    workers: int = 1,
    fingerprint: str = "",
    emit: Emit = lambda event, **fields: None,
) -> Outcome:
    """Fit, judge and choose. Without any label only the simple means are possible, and the first is used.

    groups_N: a number for each image, the same for copies of one image (None: images with equal scores in all
    results are copies). folder: where tables are kept while they are built (None, or few scores: memory).
    """
    labels = None if labels_N is None else np.asarray(labels_N, np.int32)
    if labels is not None and not (labels >= 0).any():
        labels = None
    num_images = len(labels_N) if labels_N is not None else 0
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
        case = prepared(sources, labels, settings, num_images, num_classes, groups)
        if labels is None:
            return _blind(case)
        known = labels >= 0
        different = known.sum() if groups is None else len(np.unique(groups[known]))
        if different < FEWEST or len(np.unique(labels[known])) < 2:
            return _too_few(case, labels, groups, int(different))
        return _judged(case, labels, groups, num_classes, options)


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
    possible = Tables(case.taking_part, labels_N, settings, ks=ks, pessimistic=False, **options)
    record = {
        **case.record(found.images),
        "groups": found.groups,
        "methods": _methods(case, judge, found, certain, possible if judge.cut else certain),
        "plain": judge.plain,
        "chosen": found.choice.method,
        "words": found.words,
        "held_out": _held_out(found, labels_N, settings),
        **_explained(case, found.chosen, certain, labels_N, num_classes),
    }
    fusions = tuple(case.spread(verdict.fusion) for verdict in found.verdicts)
    chosen = next(fusion for fusion in fusions if fusion.method == found.choice.method)
    return Outcome(fusions, chosen, record)


def _groups(
    sources: Sequence[Source], labels_N: NDArray[np.int32], groups_N: ArrayLike | None
) -> NDArray[np.int64] | None:
    """Groups (N,) of copies; None where no labelled image has one."""
    known = np.flatnonzero(labels_N >= 0)
    if groups_N is None:
        groups = equal_rows(sources, known, len(labels_N))
    else:
        groups = np.unique(np.asarray(groups_N), return_inverse=True)[1].reshape(-1)
    return None if len(np.unique(groups[known])) == len(known) else np.asarray(groups, np.int64)


def _held_out(found: Judgement, labels_N: NDArray[np.int32], settings: FuseSettings) -> dict[str, Any]:
    """The honest figures of the choice: of images that had no part in it."""
    return {
        **{f"top{k}": class_averaged(found.held_out[k], labels_N) for k in KS},
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
    settings = case.settings
    fusions = case.means()
    methods, weights = [fusion.method for fusion in fusions], fusions[0].weights
    known = labels_N >= 0
    hits = hits_of(fusions, case.taking_part, labels_N, np.flatnonzero(known), KS)
    draws = Bootstrap(labels_N, groups_N, settings.bootstrap, settings.seed)
    entries = []
    for row, fusion in enumerate(fusions):
        accuracy = {f"top{k}": class_averaged(hits[k][row], labels_N[known]) for k in KS}
        difference = np.zeros(len(labels_N))
        difference[known] = hits[settings.k][row].astype(float) - hits[settings.k][0]
        low, high = np.quantile(draws([draws.column(difference)]), [0.025, 0.975])
        entries.append({
            **case.spread(fusion).to_json(), "title": titled(fusion.method), "chosen_by": accuracy,
            "held_out": accuracy, "gain": class_averaged(difference, labels_N),
            "interval": [float(low), float(high)], "sure": 0.0,
        })  # fmt: skip
    why = (
        f"{different} labelled image{'s are' if different > 1 else ' is'} too few to fit or judge anything by"
    )
    if different >= FEWEST:
        why = "all labelled images are of one class, and nothing can be judged by that"
    record = {
        **case.record(int(known.sum())),
        "groups": different,
        "methods": entries,
        "plain": methods[0],
        "chosen": methods[0],
        "words": f"the plain average ({titled(methods[0])}) is used: {why}",
        "held_out": {
            **entries[0]["held_out"], "interval": None, "gain": 0.0, "gain_interval": [0.0, 0.0],
            "images": int(known.sum()), "groups": different,
            "effective": effective((np.arange(len(labels_N)) if groups_N is None else groups_N)[known]),
            "chosen": [],
        },
        "results": _plainly(case, weights),
    }  # fmt: skip
    return Outcome(tuple(map(case.spread, fusions)), case.spread(fusions[0]), record)


def _plainly(case: Case, weights: Sequence[float]) -> list[dict[str, Any]]:
    """What is said of each result where nothing was judged."""
    weight = dict(zip(case.active, weights))
    return [
        {
            "name": source.name, "kind": source.kind, "top_k": source.cut, "weight": weight.get(index, 0.0),
            "set_aside": case.reasons.get(index),
        }
        for index, source in enumerate(case.sources)
    ]  # fmt: skip


def _blind(case: Case) -> Outcome:
    """Simple means, of which none can be judged."""
    means = case.means()
    methods, weights = [fusion.method for fusion in means], means[0].weights
    fusions = tuple(map(case.spread, means))
    words = f"{titled(methods[0])} is used: without labels nothing can be fitted or judged"
    record = {
        **case.record(0),
        "methods": [fusion.to_json() for fusion in fusions],
        "plain": methods[0],
        "chosen": methods[0],
        "words": words,
        "results": _plainly(case, weights),
    }
    return Outcome(fusions, fusions[0], record)


def _methods(
    case: Case, judge: Judge, found: Judgement, certain: Tables, possible: Tables
) -> list[dict[str, Any]]:
    """What `fusion.json` says of each method. `held_out` is of images that the method never saw; the choice
    among the methods did, so the best of these figures is not what the choice holds out."""
    labels = judge.labels_N
    entries = []
    for verdict in found.verdicts:
        entry = {
            **case.spread(verdict.fusion).to_json(),
            "title": titled(verdict.fusion.method),
            "chosen_by": {f"top{k}": class_averaged(verdict.fitted[k], labels) for k in KS},
            "held_out": {f"top{k}": class_averaged(verdict.held_out[k], labels) for k in KS},
            "gain": verdict.gain,
            "interval": [verdict.low, verdict.high],
            "sure": verdict.sure,
        }
        if certain is not possible:
            # some scores are missing: the accuracy on all of them lies between these for certain
            entry["certified"] = {f"top{k}": _bounds(verdict, certain, possible, k) for k in KS}
        entries.append(entry)
    return entries


def _bounds(verdict: Verdict, certain: Tables, possible: Tables, k: int) -> list[float]:
    key = (verdict.fusion.pooling, k)
    return [float(tables[key].accuracy(verdict.fusion.weights)[0]) for tables in (certain, possible)]


def _explained(
    case: Case, chosen: Fusion, tables: Tables, labels_N: NDArray[np.int32], num_classes: int
) -> dict[str, Any]:
    """What each result is worth, how alike they err, and what their number gains."""
    table = tables[chosen.pooling, case.settings.k]
    hits = _alone(case, tables, chosen.pooling, labels_N, num_classes)
    if chosen.class_weights is None:
        lost_M = worth.without_each(table, chosen.weights)
    else:
        lost_M = worth.without_each_by_class(chosen, case.taking_part, labels_N, case.settings.k)
    without = dict(zip(case.active, lost_M.tolist()))
    results = _plainly(case, chosen.weights)
    for index, entry in enumerate(results):
        entry["accuracy"] = {f"top{k}": class_averaged(hits[k][index], labels_N) for k in KS}
        entry["without"] = without.get(index, 0.0)
    return {
        "cap": table.cap,
        "undecided": len(table.store.images_U),
        "candidates": len(table.store.classes_R),
        "results": results,
        "likeness": worth.likeness(hits[case.settings.k], labels_N).tolist(),
        "curve": worth.curve(table),
    }


def _alone(
    case: Case, tables: Tables, pooling: Pooling, labels_N: NDArray[np.int32], num_classes: int
) -> dict[int, NDArray[np.bool_]]:
    """k → hits (M, N) of each result's own list; of very many scores those that the tables hold anyway."""
    known = np.flatnonzero(labels_N >= 0)
    found = {k: np.zeros((len(case.sources), len(labels_N)), np.bool_) for k in KS}
    known_anyway = large(case.taking_part, labels_N, num_classes)
    for index, source in enumerate(case.sources):
        if known_anyway and index in case.active:
            continue
        for lines in np.array_split(known, max(1, len(known) * num_classes >> 22)):
            scores = source.block(lines, "middle")
            before = before_label(scores, labels_N[lines])
            for k in KS:
                found[k][index, lines] = before < k
    if known_anyway:
        for k in KS:
            found[k][list(case.active)] = tables.store(pooling).singles(k)
    return found
