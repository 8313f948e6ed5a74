"""Fusion at the scale of the challenge: 128 results × 294,099 images × 5,000 classes, simulated.

    python benchmarks/fusion.py --quick --json          samples, under 50 s
    python benchmarks/fusion.py --full --work DIR       the whole guarded fusion too (some GB in DIR)
    python benchmarks/fusion.py --real LOGITS LABELS    also (M, N, C) logits of real models: calibration, (d)

(a) build: pruning against only reading the same files, images/s, projected to all images
(b) evaluate: one individual by the plain loop over results against one of a population of 64 over the table,
    on the same images, alternating; every image's hit is compared
(c) search: 64 individuals × 100 generations of the genetic algorithm, time and memory
(d) the same for real results
(e) the whole of `smelt.fusion.procedure.fuse`, guard included, as the stage calls it: tables, fits, folds,
    choice. The scores are generated as they are read; what generating costs is measured and told apart

The simulation: a label's score is raised by a strength that differs from image to image (a share of images is
hopeless); noise is shared by all models, own to a model, or own to a view; models differ in quality and in
the scale of their scores. Its constants give a gap between best single and average, and a share of common
errors, near those of the real logits; both are printed. Noise comes from a pool of rows, so that generating
costs less than pruning.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.config import FuseSettings, GeneticSettings
from smelt.fusion.exact.build import Wanted, build_all, choose_cap
from smelt.fusion.exact.candidates import Store
from smelt.fusion.exact.hits import Table, tables_of
from smelt.fusion.exact.units import working_type
from smelt.fusion.fitting.searching import Found, Steps, together
from smelt.fusion.fitting.vectors import capped
from smelt.fusion.methods.genetic import genetic_steps
from smelt.fusion.procedure import fuse
from smelt.fusion.scores.reference import normalised
from smelt.fusion.scores.sources import Held, Pool
from smelt.fusion.worth import singles
from smelt.metrics import class_averaged, hits_topk

IMAGES, CLASSES, MODELS, VIEWS = 294_099, 5_000, 16, 8
POOL = 2048  # rows of noise
K = 5
SAMPLE = 2048  # images of the table that stands for the whole one with --quick


class Simulated:
    """Scores of MODELS × VIEWS results, block by block; a block depends only on its lines."""

    hopeless, strength, spread, faint = 0.15, 6.8, 1.5, 2.0
    own, view, worse = 0.8, 0.35, 0.15

    def __init__(self, images: int = IMAGES, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.seed = seed
        self.labels_N = random.integers(0, CLASSES, images).astype(np.int32)
        weak = random.random(images) < self.hopeless
        noise = random.standard_normal(images)
        self.strength_N = np.where(weak, self.faint + noise, self.strength + self.spread * noise)
        self.quality = 1 - self.worse * np.linspace(0, 1, MODELS)
        self.scale = np.exp(random.uniform(-0.5, 0.5, MODELS))
        self._noise: Any = None
        self._scratch: Any = None
        self._lines: Any = None
        self._last: Any = None

    def __len__(self) -> int:
        return MODELS * VIEWS

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_noise": None, "_scratch": None, "_lines": None, "_last": None}

    def remembered(self, lines: NDArray[np.int64]) -> list[NDArray[Any]]:
        """The last block again, if it is of the same images."""
        if self._lines is None or not np.array_equal(self._lines, lines):
            self._last, _ = self.block(lines, None)
            self._lines = lines.copy()
        return self._last

    def block(self, lines: NDArray[np.int64], labels_B: Any) -> tuple[list[NDArray[Any]], NDArray[Any]]:
        """Views of a buffer that the next block is written to."""
        import torch

        size = len(lines)
        if self._noise is None:
            torch.set_num_threads(1)
            random = np.random.default_rng(self.seed + 1)
            self._noise = torch.from_numpy(random.standard_normal((POOL, CLASSES), np.float32)).half()
        if self._scratch is None or self._scratch[0].shape[1] != size:
            shape = (size, CLASSES)
            self._scratch = torch.empty(len(self), *shape, dtype=torch.float16), *torch.empty(2, *shape)
        out, shared, base = self._scratch
        for row, line in zip(shared.numpy(), lines):
            np.random.default_rng([self.seed, int(line)]).standard_normal(dtype=np.float32, out=row)
        # a block's images take consecutive rows of the pool, from another place for each model and view
        first = np.random.default_rng([self.seed, 1 << 40, int(lines[0])]).integers(
            POOL - size + 1, size=len(self) + MODELS
        )
        here, label = torch.arange(size), torch.from_numpy(self.labels_N[lines].astype(np.int64))
        strength = torch.from_numpy(self.strength_N[lines]).float()
        for model in range(MODELS):
            scale = float(self.scale[model])
            torch.add(shared, self._rows(first[len(self) + model], size), alpha=self.own, out=base)
            base[here, label] += strength * float(self.quality[model])
            half = base.mul_(scale).half()
            for index in range(model * VIEWS, (model + 1) * VIEWS):
                torch.add(half, self._rows(first[index], size), alpha=self.view * scale, out=out[index])
        values = out.numpy()
        return list(values), values[:, np.arange(size), self.labels_N[lines]]

    def _rows(self, first: int, size: int) -> Any:
        return self._noise[int(first) : int(first) + size]


class Part:
    """One result of a simulation, as `fuse` reads it; a block is generated once for all results."""

    kind, cut = "logits", False

    def __init__(self, simulated: Simulated, index: int) -> None:
        self.simulated, self.index = simulated, index
        self.name = f"model{index // VIEWS}/view{index % VIEWS}"

    def block(self, lines: NDArray[np.int64], side: str) -> NDArray[Any]:
        return self.simulated.remembered(lines)[self.index]


def statistics_of(scores_MNC: NDArray[Any], labels_N: NDArray[Any], k: int) -> dict[str, float]:
    """How results relate: what the simulation is calibrated by."""
    hits = np.stack([hits_topk(one, labels_N, k) for one in scores_MNC])
    together = hits_topk(scores_MNC.astype(np.float32).mean(axis=0), labels_N, k)
    best = int(hits.mean(axis=1).argmax())
    alike = np.corrcoef(~hits)[np.triu_indices(len(hits), 1)]
    return {
        "best_single": float(hits[best].mean()),
        "average": float(together.mean()),
        "errors_left_by_average": float((1 - together.mean()) / (1 - hits[best].mean())),
        "errors_shared_with_average": float((~hits[best] & ~together).sum() / (~hits[best]).sum()),
        "correlation_of_errors": float(alike.mean()),
    }


def build(
    pool: Any, labels: Any, k: int, bound: float | None = None, folder: Any = None, **rest: Any
) -> Store:
    return build_all([Wanted(pool, (k,), bound, folder, "simulated")], labels, **rest)[0]


def table_of(store: Store, labels: Any, threads: int = 0) -> Table:
    return tables_of(store, labels, threads)[store.ks[0]]


def seconds(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    begun = clock()
    work()
    return clock() - begun


def plain_hits(scores: Any, labels: Any, weights: NDArray[np.float32]) -> NDArray[np.bool_]:
    """One individual by the plain loop over results, as quick as it gets without changing its sums."""
    import torch

    hits = []
    classes = torch.arange(scores.shape[2])
    for start in range(0, len(labels), 32):
        fused = torch.zeros(scores[0, start : start + 32].shape)
        for weight, result in zip(weights.tolist(), scores):
            fused += result[start : start + 32].float() * weight
        label = labels[start : start + 32, None]
        own = fused.gather(1, label)
        before = (fused > own) | ((fused == own) & (classes < label))
        hits.append((before.sum(dim=1) < K).numpy())
    return np.concatenate(hits)


def batched_hits(scores: Any, labels: Any, weights: Any) -> None:
    """The whole population by one product over all classes: what a careful plain search would do."""
    import torch

    for start in range(0, len(labels), 16):
        block = scores[:, start : start + 16].float()
        fused = (weights @ block.flatten(1)).view(len(weights), *block.shape[1:])
        label = labels[None, start : start + 16, None].expand(len(weights), -1, 1)
        own = fused.gather(2, label)
        before = (fused > own) | ((fused == own) & (torch.arange(fused.shape[2]) < label))
        (before.sum(dim=2) < K).numpy()


def bench_build(images: int, say: Callable[[str], None]) -> dict[str, Any]:
    """(a): files of a sample of images, read only and built from, alternating."""
    simulated = Simulated()
    lines = np.arange(images)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.npy" for index in range(len(simulated))]
        values = np.concatenate(
            [
                np.stack(simulated.block(part, None)[0])
                for part in np.array_split(lines, max(1, images // 16))
            ],
            axis=1,
        )
        for path, one in zip(paths, values):
            np.save(path, one)
        size = values.nbytes
        labels = simulated.labels_N[lines]
        held = [Held(path.stem, "logits", np.load(path, mmap_mode="r")) for path in paths]
        pool = Pool(held, "log_probability")
        cap = choose_cap(pool, labels, (K,), 4.0 * images / IMAGES)

        def read() -> None:
            for path in paths:
                np.copyto(np.empty(values.shape[1:], np.float16), np.load(path, mmap_mode="r"))

        def make() -> None:
            build(pool, labels, K, bound=cap * len(pool))

        times: dict[str, list[float]] = {"read": [], "build": []}
        for _ in range(3):
            times["read"].append(seconds(read))
            times["build"].append(seconds(make))
    read_s, build_s = statistics.median(times["read"]), statistics.median(times["build"])
    found = {
        "images": images,
        "images_per_s_one_process": images / build_s,
        "gb_per_s_one_process": size / build_s / 1e9,
        "projected_minutes_two_processes": build_s / images * IMAGES / 2 / 60,
        "reading_gb_per_s_cached": size / read_s / 1e9,
        "build_over_reading": build_s / read_s,
        "bytes_to_read_gb": 2e-9 * len(simulated) * IMAGES * CLASSES,
    }
    say(
        f"(a) build: {found['images_per_s_one_process']:.0f} images/s in one process "
        f"({found['gb_per_s_one_process']:.2f} GB/s), all in "
        f"{found['projected_minutes_two_processes']:.1f} min on two cores; "
        f"{found['build_over_reading']:.1f} × the cost of only reading (cached, "
        f"{found['reading_gb_per_s_cached']:.1f} GB/s; {found['bytes_to_read_gb']:.0f} GB in all)"
    )
    return found


def bench_evaluate(images: int, repeats: int, compared: int, say: Callable[[str], None]) -> dict[str, Any]:
    """(b): one individual, plain against table, and every image's hit."""
    import torch

    simulated = Simulated()
    lines = np.arange(images)
    values = np.concatenate(
        [np.stack(simulated.block(part, None)[0]) for part in np.array_split(lines, max(1, images // 16))],
        axis=1,
    )
    labels = simulated.labels_N[lines]
    held = [Held(str(index), "logits", one) for index, one in enumerate(values)]
    pool = Pool(held, "log_probability")
    cap = choose_cap(pool, labels, (K,), 4.0 * images / IMAGES)
    store = build(pool, labels, K, bound=cap * len(pool))
    # one thread each, and its processor time: a ratio that other work on the machine does not touch
    table = table_of(store, labels, threads=1)
    weights = normalised(capped(np.random.default_rng(1).dirichlet(np.ones(len(pool)), 64), cap))
    scores, targets = torch.from_numpy(values), torch.from_numpy(labels.astype(np.int64))
    torch.set_num_threads(1)
    hits = table.hits(weights)
    equal = all(
        np.array_equal(plain_hits(scores, targets, weights[one]), hits[one]) for one in range(compared)
    )
    accuracy = table.accuracy(weights[:compared]).tolist()
    equal &= accuracy == [class_averaged(hits[one], labels) for one in range(compared)]
    plain, ours = [], []
    for repeat in range(repeats):
        plain.append(
            seconds(lambda one=weights[repeat % 64]: plain_hits(scores, targets, one), time.process_time)
        )  # type: ignore[misc]
        ours.append(seconds(lambda: table.accuracy(weights), time.process_time) / len(weights))
    batched = seconds(
        lambda: batched_hits(scores, targets, torch.from_numpy(weights)), time.process_time
    ) / len(weights)
    naive_s, ours_s = statistics.median(plain), statistics.median(ours)
    found = {
        "images": images,
        "equal": bool(equal),
        "images_compared": compared * images,
        "cap_times_results": cap * len(pool),
        "undecided": len(store.images_U) / images,
        "candidates_of_undecided": len(store.classes_R) / max(1, len(store.images_U)),
        "naive_ms": 1e3 * naive_s,
        "ours_ms": 1e3 * ours_s,
        "ratio": naive_s / ours_s,
        "ratio_to_batched_naive": batched / ours_s,
        "statistics": statistics_of(values[:, :: max(1, images // 200)], labels[:: max(1, images // 200)], K),
    }
    say(
        f"(b) evaluate: {found['naive_ms']:.1f} ms an individual by the plain loop, {found['ours_ms']:.4f} ms"
        f" over the table: {found['ratio']:.0f} × (against one product for all of a population "
        f"{found['ratio_to_batched_naive']:.0f} ×)"
    )
    say(
        f"    {found['undecided']:.0%} of images undecided, {found['candidates_of_undecided']:.0f} candidates"
        f" each, weights up to {found['cap_times_results']:.1f} × equal; hits equal in "
        f"{found['images_compared']} comparisons: {found['equal']}"
    )
    return found


def bench_search(
    table: Table, generations: int, name: str, say: Callable[[str], None], population: int = 64
) -> dict[str, Any]:
    """(c), (d): a whole genetic search."""
    settings = GeneticSettings(population=population, generations=generations, patience=generations)
    alone = singles(table)
    whole = seconds(lambda: table.accuracy(np.ones((population, table.num_results))))
    evaluated: list[int] = []

    def counted(steps: Steps) -> Steps:
        asked = next(steps)
        while True:
            evaluated.append(len(asked))
            try:
                asked = steps.send((yield asked))
            except StopIteration as stop:
                result: Found = stop.value
                return result

    steps = counted(genetic_steps(table.cap, alone, settings, 0))
    begun = time.perf_counter()
    found = together([table], {("genetic", ()): steps})["genetic", ()]
    taken = time.perf_counter() - begun
    work = 2 * table.candidates * table.num_results * sum(evaluated)
    result = {
        "seconds": taken,
        "individuals": sum(evaluated),
        "candidates": table.candidates,
        "table_gib": sum(tile.units.nbytes for tile in table.tiles) / 2**30,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "plain_average": float(table.accuracy(np.ones(table.num_results))[0]),
        "found": found.accuracy,
        "one_population_s": whole,
        "gigaflop": work / 1e9,
    }
    say(
        f"{name}: {population} × {generations} generations in {taken:.1f} s ({sum(evaluated)} individuals), "
        f"{table.candidates} candidates, table {result['table_gib']:.2f} GiB, peak "
        f"{result['peak_gib']:.1f} GiB; {work / 1e9:.0f} GFLOP; "
        f"{result['plain_average']:.4f} → {found.accuracy:.4f}"
    )
    return result


def full_table(
    work: Path, images: int, workers: int, say: Callable[[str], None]
) -> tuple[Table, dict[str, Any]]:
    """The table of all images, simulated block by block."""
    simulated = Simulated(images)
    cap = choose_cap(simulated, simulated.labels_N, (K,), 4.0 * images / IMAGES)
    begun = time.perf_counter()
    told = [begun]

    def progress(done: int, total: int) -> None:
        if time.perf_counter() - told[0] > 20:
            told[0] = time.perf_counter()
            say(f"    {done} of {total} images, {told[0] - begun:.0f} s")

    store = build(
        simulated, simulated.labels_N, K, folder=work / f"table-{images}", bound=cap * len(simulated),
        workers=workers, progress=progress,
    )  # fmt: skip
    built = time.perf_counter() - begun
    table = table_of(store, simulated.labels_N)
    loaded = time.perf_counter() - begun - built
    found = {
        "images": images,
        "seconds_with_generating": built,
        "seconds_loading": loaded,
        "undecided": len(store.images_U) / images,
        "cap_times_results": store.cap * len(simulated),
    }
    say(f"    table of {images} images: {built:.0f} s with generating the scores, {loaded:.1f} s to load")
    return table, found


def bench_guarded(work: Path, images: int, workers: int, say: Callable[[str], None]) -> dict[str, Any]:
    """(e): everything that the stage `fuse` does but for its lists."""
    simulated = Simulated(images)
    sources = [Part(simulated, index) for index in range(len(simulated))]
    lines = np.arange(min(images, 64))
    simulated.block(lines, None)
    generating = seconds(lambda: simulated.block(lines, None), time.process_time) / len(lines) * images
    stages: list[tuple[str, float]] = []

    def emit(event: str, **fields: Any) -> None:
        if not stages or stages[-1][0] != fields.get("text"):
            stages.append((fields.get("text", event), time.perf_counter() - begun))
            say(f"    {stages[-1][1]:7.1f} s  {stages[-1][0]}")

    begun = time.perf_counter()
    settings = FuseSettings(metric="top5")
    outcome = fuse(
        sources, simulated.labels_N, settings, num_classes=CLASSES, folder=work / f"guarded-{images}",
        groups_N=np.arange(images), workers=workers, fingerprint="simulated", emit=emit,
    )  # fmt: skip
    taken = time.perf_counter() - begun
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    found = {
        "images": images,
        "minutes": taken / 60,
        "cpu_minutes": (own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime) / 60,
        "cpu_minutes_generating_once": generating / 60,
        "peak_gib": own.ru_maxrss / 2**20,
        "peak_gib_of_a_worker": children.ru_maxrss / 2**20,
        "stages": [{"text": text, "at_s": at} for text, at in stages],
        "chosen": outcome.record["chosen"],
        "words": outcome.record["words"],
        "held_out": outcome.record.get("held_out"),
    }
    say(
        f"(e) guarded fusion of {len(sources)} × {images} × {CLASSES}: {found['minutes']:.1f} min "
        f"({found['cpu_minutes']:.1f} of processor time; generating all scores once takes "
        f"{found['cpu_minutes_generating_once']:.1f} of it), peak {found['peak_gib']:.1f} GiB + "
        f"{workers} workers of {found['peak_gib_of_a_worker']:.1f}; {found['words']}"
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="samples only")
    parser.add_argument("--json", action="store_true", help="one JSON line at the end")
    parser.add_argument("--full", action="store_true", help="the whole guarded fusion too")
    parser.add_argument("--images", type=int, default=IMAGES, help="of the whole guarded fusion")
    parser.add_argument("--work", type=Path, help="folder for tables (default: a temporary one)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--real", nargs=2, type=Path, metavar=("LOGITS", "LABELS"))
    arguments = parser.parse_args()
    stream = sys.stderr if arguments.json else sys.stdout

    def say(text: str) -> None:
        print(text, file=stream, flush=True)

    say(f"matrix products in {working_type()}")
    images = 256 if arguments.quick else 512
    result: dict[str, Any] = {"build": bench_build(64 if arguments.quick else 256, say)}
    result["evaluate"] = bench_evaluate(
        images, 5 if arguments.quick else 15, 8 if arguments.quick else 64, say
    )
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        table, result["table"] = full_table(work, SAMPLE, arguments.workers, say)
        result["search"] = bench_search(table, 100, f"(c) search over {SAMPLE} images", say)
        population_s = result["search"]["one_population_s"] / SAMPLE * IMAGES
        plain_s = result["evaluate"]["naive_ms"] / 1e3 / images * IMAGES / 2
        say(
            f"    a population of 64 on all images takes {population_s:.2f} s on two cores; the plain "
            f"loop {plain_s:.0f} s for one individual"
        )
        if arguments.full:
            result["guarded"] = bench_guarded(work, arguments.images, arguments.workers, say)
    if arguments.real:
        real(arguments.real, result, say)
    result["equal"] = result["evaluate"]["equal"]
    result["ratios"] = {
        "evaluate": result["evaluate"]["ratio"],
        "evaluate_batched": result["evaluate"]["ratio_to_batched_naive"],
        "build_over_reading": result["build"]["build_over_reading"],
    }
    say(f"simulated: {result['evaluate']['statistics']}")
    if arguments.json:
        print(json.dumps(result))


def real(paths: tuple[Path, Path], result: dict[str, Any], say: Callable[[str], None]) -> None:
    """(d), and what the simulation is calibrated by."""
    scores, labels = np.load(paths[0]), np.load(paths[1]).astype(np.int32)
    result["real_statistics"] = statistics_of(scores, labels, 1)
    say(f"real, top-1: {result['real_statistics']}")
    pool = Pool([Held(str(index), "logits", one) for index, one in enumerate(scores)], "log_probability")
    begun = time.perf_counter()
    table = table_of(build(pool, labels, 1), labels)
    say(f"    table of the real results: {time.perf_counter() - begun:.2f} s")
    result["real"] = bench_search(table, 100, "(d) real results", say)


if __name__ == "__main__":
    main()
