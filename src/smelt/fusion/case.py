"""What is fused: the results that take part and the methods that are tried, settled before any fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smelt.errors import ResultError
from smelt.fusion.apply import Fusion
from smelt.fusion.config import FuseSettings, Method, Pooling
from smelt.fusion.fitting.method import method, simple, titled
from smelt.fusion.folds import effective
from smelt.fusion.scores.reference import equal
from smelt.fusion.scores.screen import screened
from smelt.fusion.scores.sources import Pool, Source

OWN_PASS = 1 << 34  # scores up to which methods that need a pass over all of them by themselves are tried


@dataclass(frozen=True)
class Case:
    """All M results, which take part, why others do not, and what is said before anything is fitted."""

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

    def means(self) -> list[Fusion]:
        """The simple means of the results that take part, of those that are asked for."""
        weights = tuple(map(float, equal(len(self.active))))
        names = [name for name in self.settings.methods if simple(name)] or ["mean_rank"]
        return [Fusion(name, method(name).pooling or "rank", weights) for name in names]

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

    def record(self, images: int) -> dict[str, Any]:
        """What `fusion.json` says whatever comes of the judging."""
        return {
            "metric": self.settings.metric,
            "metric_words": self.metric_words,
            "images": images,
            "left_out": self.left_out,
            "warnings": self.warnings,
        }

    def results(self, weights: Sequence[float]) -> list[dict[str, Any]]:
        """What is said of each result whatever comes of the judging; weights: of those that take part."""
        weight = dict(zip(self.active, weights))
        return [
            {
                "name": source.name, "kind": source.kind, "top_k": source.cut,
                "weight": weight.get(index, 0.0), "set_aside": self.reasons.get(index),
            }
            for index, source in enumerate(self.sources)
        ]  # fmt: skip


def prepared(
    sources: Sequence[Source],
    labels_N: NDArray[np.int32] | None,
    settings: FuseSettings,
    num_classes: int,
    groups_N: NDArray[np.int64] | None,
) -> Case:
    """Settle the metric, the methods and the results that take part. groups: None where none are copies."""
    settings, words = settings.resolved(num_classes)
    num_images = 0 if labels_N is None else len(labels_N)
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
    fate = "set aside (fuse.set_aside: false fuses it all the same)" if aside else "fused all the same"
    warnings += [f"{sources[index].name}: {reason}; it is {fate}" for index, reason in reasons.items()]
    active = tuple(index for index in range(len(sources)) if not (aside and index in reasons))
    scores = len(active) * num_images * num_classes
    settings, left_out = usable([sources[index] for index in active], settings, scores, num_classes)
    return Case(sources, active, reasons if aside else {}, settings, words, left_out, warnings)


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
    methods = tuple(name for name, text in reasons.items() if not text) or ("mean_rank",)
    return settings.model_copy(update={"methods": methods, "poolings": poolings or settings.poolings}), left
