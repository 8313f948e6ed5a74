"""Builds stores of candidates: one streaming pass over all results, in blocks of images.

Memory is bounded by the size of a block; parts of the pass run in several processes and are written one by
one, so that a pass that was killed goes on where it was. How tightly weights are bounded decides how many
candidates remain: `choose_cap` takes the loosest bound whose table fits the memory allowed, from a sample.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ResultError
from smelt.files.arrays import map_npz, new_array, save_arrays
from smelt.files.atomic import read_json, write_json
from smelt.fusion.exact.candidates import FIELDS, INDEX, Store
from smelt.fusion.exact.prune import (
    PER_IMAGE,
    Labels,
    Pruned,
    Values,
    count,
    counted,
    joined,
    moved,
    prune_counted,
)

PART = 1024  # images of a part, the unit of work and of resuming
BLOCK = 1 << 18  # scores of a result in a block, where classes are few: small blocks are all overhead
FITS = 0.85  # of the memory allowed may be needed by a sample's word
ROOM = 1 << 27  # bytes of values that a block may take in any case
SAMPLE = 192  # images that the bound is chosen from
Progress = Callable[[int, int], None]


class Blocks(Protocol):
    """What a pass reads: M pooled results (see `sources.Pool`)."""

    def __len__(self) -> int: ...

    def block(
        self, lines: NDArray[np.int64], labels_B: NDArray[np.integer]
    ) -> tuple[Sequence[Values], Labels]:
        """M arrays of values (B, C), and the labels' values (M, B); good until the next call."""


@dataclass(frozen=True)
class Wanted:
    """A store to build: results under a pooling, for some k, the metric's first.

    bound: no weight above this many times 1/M (None: see `choose_cap`). folder: where parts and the store
    are kept; with the same results (`fingerprint`) and settings a finished store is opened, a half-done pass
    goes on. Without a folder all is done in memory.
    """

    pool: Blocks
    ks: tuple[int, ...]
    bound: float | None = None
    folder: Path | None = None
    fingerprint: str = ""


@dataclass(frozen=True)
class Job:
    """A store whose cap is settled. identity: what makes a store in the folder the one that is wanted."""

    pool: Blocks
    ks: tuple[int, ...]
    cap: float
    folder: Path
    identity: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the store is there."""
        index = self.folder / INDEX
        return index.exists() and bool(read_json(index) == self.identity)

    def part(self, start: int) -> Path:
        """The file of the part that begins at an image."""
        return self.folder / f"part-{start:09d}.npz"


def build_all(
    wanted: Sequence[Wanted],
    labels_N: NDArray[np.integer],
    *,
    memory_gib: float = 4.0,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> list[Store]:
    """The candidates of all images with a label, for several poolings in one pass over the results.

    memory_gib: of each table. Raises ResultError when one does not fit.
    """
    labels = np.asarray(labels_N, np.int32)
    jobs = [_job_of(one, labels, memory_gib) for one in wanted]
    if any(one.folder is None for one in wanted):
        parts = [_part(jobs, labels, start, memory_gib) for start in _starts(labels)]
        return [Store(job.ks, job.cap, **vars(joined(found))) for job, found in zip(jobs, zip(*parts))]
    missing = [job for job in jobs if not job.finished]
    for job in missing:
        _begin(job)
    todo = [start for start in _starts(labels) if any(not job.part(start).exists() for job in missing)]
    total, done = len(labels), len(labels) - sum(min(PART, len(labels) - start) for start in todo)
    progress(done, total)
    for start in _run(missing, labels, todo, memory_gib / max(1, workers), workers):
        done += min(PART, total - start)
        progress(done, total)
    for job in missing:
        _finish(job, _starts(labels))
    return [Store.open(job.folder) for job in jobs]


def _job_of(one: Wanted, labels_N: NDArray[np.int32], memory_gib: float) -> Job:
    free = one.bound is None
    cap = choose_cap(one.pool, labels_N, one.ks, memory_gib) if free else (one.bound or 1.0) / len(one.pool)
    cap = min(1.0, cap)
    identity = {
        "format": 4, "ks": list(one.ks), "cap": cap, "results": len(one.pool), "images": len(labels_N),
        "part": PART, "labels": hashlib.sha256(labels_N.tobytes()).hexdigest(), "of": one.fingerprint,
    }  # fmt: skip
    return Job(one.pool, one.ks, cap, one.folder or Path(), identity)


def choose_cap(pool: Blocks, labels_N: NDArray[np.int32], ks: tuple[int, ...], memory_gib: float) -> float:
    """The loosest cap on weights, 1, 1/√2, ½ … down to twice the equal share, whose table fits the memory."""
    known = np.flatnonzero(labels_N >= 0)
    if len(known) == 0:
        return 1.0
    lines = known[np.unique(np.linspace(0, len(known) - 1, SAMPLE).astype(np.int64))]
    values, _ = pool.block(lines[:1], labels_N[lines[:1]])
    if len(known) * (values[0].shape[1] * len(pool) * 2 + 16) <= FITS * memory_gib * 2**30:
        return 1.0  # every class of every image could be a candidate
    caps = [1.0]
    while caps[-1] > 2.0 / len(pool):
        caps.append(max(caps[-1] / 2**0.5, 2.0 / len(pool)))
    sizes = np.zeros(len(caps))
    for line in np.array_split(lines, max(1, len(lines) // 16)):
        values, own = pool.block(line, labels_N[line])
        counts = count(values, own, labels_N[line])
        for index, cap in enumerate(caps):
            found = prune_counted(values, own, labels_N[line], counts, ks, cap)
            sizes[index] += 2 * found.values_RM.size + 16 * len(found.values_RM)
    gib = sizes * len(known) / len(lines) / 2**30
    for cap, size in zip(caps, gib):
        if size <= FITS * memory_gib:
            return cap
    raise ResultError(
        f"the table of candidates needs some {gib[-1]:.1f} GiB even with weights bounded to twice the equal "
        f"share: raise memory_gib (now {memory_gib:g}) or fuse fewer results at once"
    )


def _starts(labels_N: NDArray[np.int32]) -> range:
    """Where the parts begin; one without images where there are none."""
    return range(0, max(1, len(labels_N)), PART)


def _part(jobs: Sequence[Job], labels_N: NDArray[np.int32], start: int, memory_gib: float) -> list[Pruned]:
    """Prune the images of one part for each job, in blocks whose values take a 16th of the memory at most;
    positions are those of all images."""
    stop = min(start + PART, len(labels_N))
    pools = list({id(job.pool): job.pool for job in jobs}.values())
    found: list[list[Pruned]] = [[] for _ in jobs]
    size = 1 if stop - start > 64 else PART
    position = start
    while position < stop or not found[0]:
        block = np.arange(position, min(position + size, stop))
        labels = labels_N[block]
        read = [pool.block(block, labels) for pool in pools]
        counts = counted(read, labels)
        for place, job in enumerate(jobs):
            index = next(i for i, pool in enumerate(pools) if pool is job.pool)
            pruned = prune_counted(*read[index], labels, counts[index], job.ks, job.cap)
            found[place].append(moved(pruned, position))
        position += len(block)
        # candidates are gathered beside the block, so a block is kept to a 16th of the memory
        held = sum(one.nbytes for values, _ in read for one in values) // max(1, len(block))
        most = max(64, BLOCK // read[0][0][0].shape[1])
        size = int(np.clip(max(ROOM, memory_gib * 2**30 / 16) // max(1, held), 1, most))
    return [joined(blocks) for blocks in found]


def _begin(job: Job) -> None:
    """Make the folder, or go on in it when it holds parts of the same pass."""
    marker = job.folder / "pass.json"
    if not (marker.exists() and read_json(marker) == job.identity):
        shutil.rmtree(job.folder, ignore_errors=True)
        job.folder.mkdir(parents=True)
        write_json(marker, job.identity)


def _run(
    jobs: Sequence[Job], labels_N: NDArray[np.int32], todo: list[int], memory_gib: float, workers: int
) -> Iterator[int]:
    """Write the parts that are missing; yields the start of each as it is done."""
    if workers <= 1 or len(todo) <= 1:
        for start in todo:
            _write_part(jobs, labels_N, start, memory_gib)
            yield start
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    setup = (jobs, labels_N, memory_gib)
    with ProcessPoolExecutor(min(workers, len(todo)), context, _set_up, setup) as executor:
        try:
            for future in as_completed([executor.submit(_work, start) for start in todo]):
                yield future.result()
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


_shared: tuple[Any, ...] = ()  # what a worker's parts have in common


def _set_up(*shared: Any) -> None:
    import torch

    global _shared
    _shared = shared
    torch.set_num_threads(1)  # there is a process for every core


def _work(start: int) -> int:
    jobs, labels, memory_gib = _shared
    _write_part(jobs, labels, start, memory_gib)
    return start


def _write_part(jobs: Sequence[Job], labels_N: NDArray[np.int32], start: int, memory_gib: float) -> None:
    for job, pruned in zip(jobs, _part(jobs, labels_N, start, memory_gib)):
        save_arrays(job.part(start), vars(pruned))


def _finish(job: Job, starts: Sequence[int]) -> None:
    """Join the parts, mapped, into one file a field; then name the store finished and drop the parts."""
    parts = [map_npz(job.part(start)) for start in starts]
    for name in (*FIELDS, *PER_IMAGE):
        pieces, axis = [part[name] for part in parts], -1 if name in PER_IMAGE else 0
        shape = list(pieces[0].shape)
        shape[axis] = sum(piece.shape[axis] for piece in pieces)
        whole = new_array(job.folder / f"{name}.npy", tuple(shape), pieces[0].dtype)
        np.concatenate(pieces, axis, whole)
    write_json(job.folder / INDEX, job.identity)
    for start in starts:
        job.part(start).unlink()
