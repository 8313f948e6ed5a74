"""Who is what: labels, truth, noise, sources, queries, copies and names of all images, before one is drawn.

All of it is vectorised and a function of the settings alone, so each worker makes its own copy of the plan
and no image depends on another one having been drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.data.synthetic.config import GROUP_SIZE, SyntheticSettings
from smelt.data.synthetic.looks import ClassTable, class_table

Ints = NDArray[np.int64]
Rng = np.random.Generator

SPLITS = ("train", "val", "test")
SOURCES = ("google", "flickr")
# "" clean; flip, stray, oov: wrong label; abstract: of a class that shows anything; exact, near: copy of
# another training image (its truth is that of the image copied); leak: copy of a validation or test image
NOISE = ("", "flip", "stray", "oov", "abstract", "exact", "near", "leak", "broken")
CLEAN, FLIP, STRAY, OOV, ABSTRACT, EXACT, NEAR, LEAK, BROKEN = range(len(NOISE))
OUT_OF_VOCABULARY, UNKNOWN = -1, -2

_BASE64 = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", dtype="S1")


@dataclass(frozen=True)
class Plan:
    """labels, truth and noise of each split by its name; the rest is of training rows, in the lists' order.

    Rows are sorted by source, then query. copied_split and copied_row say which image a copy is made of
    (−1: none). queries: the label of each query; query i has the id i + 1.
    """

    table: ClassTable
    labels: dict[str, Ints]
    truth: dict[str, Ints]
    noise: dict[str, Ints]
    source_N: Ints
    query_N: Ints
    copied_split_N: Ints
    copied_row_N: Ints
    names_N: NDArray[Any]  # without ".jpg"
    queries: Ints

    def size(self, split: str) -> int:
        return len(self.labels[split])

    def path(self, split: str, row: int) -> str:
        """Path of an image, relative to the root of the data set."""
        if split != "train":
            return f"{split}_images_resized/{split}{row + 1:06d}.jpg"
        folder = f"{SOURCES[self.source_N[row]]}_images_resized/q{self.query_N[row] + 1:05d}"
        return f"{folder}/{self.names_N[row]}.jpg"


def class_sizes(total: int, classes: int, imbalance: float, rng: Rng) -> Ints:
    """Images per class in random order: geometric, largest over smallest about `imbalance`, none empty."""
    if total == 0:
        return np.zeros(classes, np.int64)
    weights = imbalance ** -np.linspace(0, 1, classes)
    exact = np.maximum(total * weights / weights.sum(), 1)
    exact = 1 + (exact - 1) * ((total - classes) / max((exact - 1).sum(), 1e-12))
    sizes = np.floor(exact + 1e-9).astype(np.int64)
    rest = total - int(sizes.sum())
    sizes[np.argsort(sizes - exact, kind="stable")[:rest]] += 1
    return rng.permutation(sizes)


def make_plan(settings: SyntheticSettings) -> Plan:
    """The plan of the whole data set."""
    table = class_table(settings)
    rng = np.random.default_rng([settings.seed, 2])
    labels = {}
    for split in ("val", "test"):
        sizes = class_sizes(
            getattr(settings, f"{split}_images"), settings.classes, settings.eval_imbalance, rng
        )
        labels[split] = rng.permutation(np.repeat(np.arange(settings.classes), sizes))
    sizes = class_sizes(settings.train_images, settings.classes, settings.imbalance, rng)
    train = np.repeat(np.arange(settings.classes), sizes)
    source = (rng.random(train.size) >= settings.google_share).astype(np.int64)
    per_class = rng.integers(1, 5, settings.classes)
    query = (np.cumsum(per_class) - per_class)[train] + np.floor(
        rng.random(train.size) * per_class[train]
    ).astype(int)
    order = np.lexsort((rng.random(train.size), query, source))
    train, source, query = train[order], source[order], query[order]
    noise, truth = _noise(settings, table, train, source, rng)
    copied_split, copied_row = _copies(settings, labels, train, truth, noise, rng)
    concrete = len(table.looks)
    return Plan(
        table=table,
        labels={"train": train, **labels},
        truth={"train": truth, **labels},
        noise={
            "train": noise,
            **{split: np.where(y < concrete, CLEAN, ABSTRACT) for split, y in labels.items()},
        },
        source_N=source,
        query_N=query,
        copied_split_N=copied_split,
        copied_row_N=copied_row,
        names_N=_names(source, query, np.where(noise == EXACT, copied_row, -1), rng),
        queries=np.repeat(np.arange(settings.classes), per_class),
    )


def _noise(
    settings: SyntheticSettings, table: ClassTable, label_N: Ints, source_N: Ints, rng: Rng
) -> tuple[Ints, Ints]:
    """Kind of noise and true label of each training row; those of copies are still to be filled in."""
    mixes = (settings.google, settings.flickr)
    bounds = np.array([np.cumsum([settings.broken, settings.leak, m.exact, m.near]) for m in mixes])
    drawn = (rng.random(label_N.size)[:, None] >= bounds[source_N]).sum(axis=1)
    noise = np.array([BROKEN, LEAK, EXACT, NEAR, CLEAN])[drawn]
    # web noise is not alike over classes: some queries are much worse than others
    wrong_C = np.clip(settings.wrong * rng.uniform(0.6, 1.4, table.num_classes), 0, 0.9)
    wrong = (noise == CLEAN) & (rng.random(label_N.size) < wrong_C[label_N])
    parts = np.array([np.cumsum([m.flip, m.stray]) / (m.flip + m.stray + m.oov) for m in mixes])
    kind = FLIP + (rng.random(label_N.size)[:, None] >= parts[source_N]).sum(axis=1)
    noise[wrong] = kind[wrong]
    concrete = len(table.looks)
    noise[(label_N >= concrete) & np.isin(noise, (CLEAN, FLIP, STRAY, OOV))] = ABSTRACT
    first = label_N // GROUP_SIZE * GROUP_SIZE
    size = np.minimum(GROUP_SIZE, concrete - first)
    noise[(noise == FLIP) & (size < 2)] = STRAY
    noise[(noise == STRAY) & (size == concrete)] = FLIP
    step = 1 + np.floor(rng.random(label_N.size) * (size - 1)).astype(int)
    flipped = first + (label_N - first + step) % np.maximum(size, 1)
    stray = np.floor(rng.random(label_N.size) * (concrete - size)).astype(int)
    stray += np.where(stray >= first, size, 0)
    choices = [flipped, stray, np.full_like(label_N, OUT_OF_VOCABULARY), np.full_like(label_N, UNKNOWN)]
    truth = np.select([noise == kind for kind in (FLIP, STRAY, OOV, BROKEN)], choices, label_N)
    return noise, truth


def _pick(of_label: Ints, from_labels: Ints, from_rows: Ints, rng: Rng) -> Ints:
    """For each wanted label a random one of `from_rows` that has it; −1 where there is none."""
    order = np.argsort(from_labels, kind="stable")
    ordered = from_labels[order]
    low, high = np.searchsorted(ordered, of_label, "left"), np.searchsorted(ordered, of_label, "right")
    place = low + np.floor(rng.random(of_label.size) * (high - low)).astype(int)
    return np.where(high > low, from_rows[order][np.minimum(place, order.size - 1)] if order.size else -1, -1)


def _copies(
    settings: SyntheticSettings,
    labels: dict[str, Ints],
    label_N: Ints,
    truth_N: Ints,
    noise_N: Ints,
    rng: Rng,
) -> tuple[Ints, Ints]:
    """What each copy is a copy of; fills in truth, and makes clean again what finds nothing to copy."""
    concrete = settings.classes - settings.abstract_classes
    split, row = np.full(label_N.size, -1), np.full(label_N.size, -1)

    def fill(rows: Ints, code: int, chosen: Ints, truth_of: Callable[[Ints], Ints]) -> None:
        rows, chosen = rows[chosen >= 0], chosen[chosen >= 0]
        split[rows], row[rows] = code, chosen
        truth_N[rows] = truth_of(chosen)

    originals = np.flatnonzero(noise_N < EXACT)
    copies = np.flatnonzero((noise_N == EXACT) | (noise_N == NEAR))
    crossing = (rng.random(copies.size) < settings.across) & (label_N[copies] < concrete)
    wanted = label_N[copies]
    wanted[crossing] = (wanted[crossing] + rng.integers(1, concrete, int(crossing.sum()))) % concrete
    fill(copies, 0, _pick(wanted, label_N[originals], originals, rng), lambda rows: truth_N[rows])
    leaks = np.flatnonzero(noise_N == LEAK)
    into_test = rng.random(leaks.size) < 1 / 3
    for code, rows in ((1, leaks[~into_test]), (2, leaks[into_test])):
        held = labels[SPLITS[code]]
        chosen = _pick(label_N[rows], held, np.arange(held.size), rng)
        fill(rows, code, chosen, lambda rows, held=held: held[rows])  # type: ignore[misc]
    alone = (row < 0) & np.isin(noise_N, (EXACT, NEAR, LEAK))
    noise_N[alone] = np.where(label_N[alone] < concrete, CLEAN, ABSTRACT)
    return split, row


def _names(source_N: Ints, query_N: Ints, same_as_N: Ints, rng: Rng) -> NDArray[Any]:
    """Base names: 14 base64-like characters from Google, numbers from Flickr.

    An exact copy under another query of the same source keeps the name of what it copies: base names collide.
    """
    count = source_N.size
    google = _BASE64[rng.integers(0, 64, (count, 14))].view("S14")[:, 0].astype("U14")
    numbers = 10_000_000 + rng.permutation(np.cumsum(rng.integers(1, 10_000, count)))
    names = np.where(source_N == 0, google, numbers.astype("U14"))
    same = np.where(same_as_N >= 0, same_as_N, np.arange(count))
    own = (source_N[same] != source_N) | (query_N[same] == query_N)
    same = np.where(own, np.arange(count), same)
    _, firsts = np.unique(np.stack([same, source_N, query_N]), axis=1, return_index=True)
    lone = np.ones(count, bool)
    lone[firsts] = False
    return names[np.where(lone, np.arange(count), same)]
