"""Builds the store of candidates: one streaming pass over all results, in blocks of images.

Memory is bounded by the size of a block; parts of the pass run in several processes and are written one by
one, so that a pass that was killed goes on where it was. How tightly weights are bounded decides how many
candidates remain: `choose_cap` takes the loosest bound whose table fits the memory allowed, from a sample.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.files import read_json, write_json
from smelt.errors import ResultError
from smelt.fusion.exact.prune import Labels, Pruned, Values, counted, prune_counted, prune_each
from smelt.fusion.exact.store import FIELDS, INDEX, WHOLE, Store

PART = 1024  # images of a part, the unit of work and of resuming
BLOCK = 1 << 18  # scores of a result in a block, where classes are few: small blocks are all overhead
FITS = 0.85  # of the memory allowed may be needed by a sample's word
ROOM = 1 << 27  # bytes of values that a block may take in any case
SAMPLE = 192  # images that the bound is chosen from
PER_IMAGE = ("hits_KB", "singles_KMB")  # what `store.WHOLE` is called in a part
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
    """A store whose cap is settled."""

    pool: Blocks
    ks: tuple[int, ...]
    cap: float
    folder: Path | None


def build(
    pool: Blocks,
    labels_N: NDArray[np.integer],
    k: int | tuple[int, ...],
    *,
    bound: float | None = None,
    folder: Path | None = None,
    memory_gib: float = 4.0,
    workers: int = 1,
    fingerprint: str = "",
    progress: Progress = lambda done, total: None,
) -> Store:
    """The candidates of all images with a label, for one pooling; see `build_all`."""
    wanted = [Wanted(pool, (k,) if isinstance(k, int) else k, bound, folder, fingerprint)]
    return build_all(wanted, labels_N, memory_gib=memory_gib, workers=workers, progress=progress)[0]


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
    caps = [
        choose_cap(one.pool, labels, one.ks, memory_gib) if one.bound is None else one.bound / len(one.pool)
        for one in wanted
    ]
    jobs = [Job(one.pool, one.ks, min(1.0, cap), one.folder) for one, cap in zip(wanted, caps)]
    if any(job.folder is None for job in jobs):
        return _in_memory(jobs, labels, memory_gib)
    identities = [_identity(job, one, labels) for job, one in zip(jobs, wanted)]
    open_jobs = [(job, identity) for job, identity in zip(jobs, identities) if not _finished(job, identity)]
    for job, identity in open_jobs:
        _begin(_folder(job), identity)
    _pass([job for job, _ in open_jobs], labels, memory_gib, workers, progress)
    for job, identity in open_jobs:
        _finish(job, labels, identity)
    return [Store.open(_folder(job)) for job in jobs]


def _in_memory(jobs: Sequence[Job], labels_N: NDArray[np.int32], memory_gib: float) -> list[Store]:
    starts = _starts(labels_N)
    parts = [_part(jobs, labels_N, start, memory_gib) for start in starts] or [
        [_nothing(job) for job in jobs]
    ]
    return [
        Store(job.ks, job.cap, **_joined(
            [Piece(start, part[place]) for start, part in zip(starts or [0], parts)], len(labels_N)))
        for place, job in enumerate(jobs)
    ]  # fmt: skip


def _folder(job: Job) -> Path:
    assert job.folder is not None
    return job.folder


def _identity(job: Job, one: Wanted, labels_N: NDArray[np.int32]) -> dict[str, Any]:
    """What makes a store the one that is wanted."""
    digest = hashlib.sha256(labels_N.tobytes()).hexdigest()
    return {"format": 3, "ks": list(job.ks), "cap": job.cap, "results": len(job.pool),
            "images": len(labels_N), "part": PART, "labels": digest, "of": one.fingerprint}  # fmt: skip


def _finished(job: Job, identity: dict[str, Any]) -> bool:
    index = _folder(job) / INDEX
    return index.exists() and bool(read_json(index) == identity)


def _pass(
    jobs: Sequence[Job], labels_N: NDArray[np.int32], memory_gib: float, workers: int, progress: Progress
) -> None:
    """Write every part that is missing."""
    todo = [start for start in _starts(labels_N) if any(not _file(_folder(j), start).exists() for j in jobs)]
    total, done = len(labels_N), len(labels_N) - sum(min(PART, len(labels_N) - start) for start in todo)
    progress(done, total)
    for start in _run(jobs, labels_N, todo, memory_gib / max(1, workers), workers):
        done += min(PART, total - start)
        progress(done, total)


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
        for index, found in enumerate(prune_each(values, own, labels_N[line], ks, caps)):
            sizes[index] += 2 * found.values_RM.size + 16 * len(found.values_RM)
    gib = sizes * len(known) / len(lines) / 2**30
    for cap, size in zip(caps, gib):
        if size <= FITS * memory_gib:
            return cap
    raise ResultError(
        f"the table of candidates needs some {gib[-1]:.1f} GiB even with weights bounded to twice the equal "
        f"share: raise memory_gib (now {memory_gib:g}) or fuse fewer results at once"
    )


class Piece:
    """A part of the pass: N' images from `start` on."""

    def __init__(self, start: int, pruned: Pruned) -> None:
        self.start = start
        self.pruned = pruned


def _starts(labels_N: NDArray[np.int32]) -> list[int]:
    return list(range(0, len(labels_N), PART))


def _part(jobs: Sequence[Job], labels_N: NDArray[np.int32], start: int, memory_gib: float) -> list[Pruned]:
    """Prune the images of one part for each job, in blocks whose values take a 16th of the memory at most."""
    lines = np.arange(start, min(start + PART, len(labels_N)))
    pools = list({id(job.pool): job.pool for job in jobs}.values())
    found: list[list[Pruned]] = [[] for _ in jobs]
    size = 1 if len(lines) > 64 else len(lines)
    position = 0
    while position < len(lines):
        block = lines[position : position + size]
        labels = labels_N[block]
        read = [pool.block(block, labels) for pool in pools]
        counts = counted(read, labels)
        for place, job in enumerate(jobs):
            index = next(i for i, pool in enumerate(pools) if pool is job.pool)
            pruned = prune_counted(*read[index], labels, counts[index], job.ks, job.cap)
            found[place].append(_moved(pruned, position))
        position += len(block)
        # candidates are gathered beside the block, so a block is kept to a 16th of the memory
        held = sum(one.nbytes for values, _ in read for one in values) // len(block)
        most = max(64, BLOCK // read[0][0][0].shape[1])
        size = int(np.clip(max(ROOM, memory_gib * 2**30 / 16) // max(1, held), 1, most))
    return [_concatenated(blocks) for blocks in found]


def _moved(pruned: Pruned, by: int) -> Pruned:
    return Pruned(**{**_fields(pruned), "images_U": pruned.images_U + by})


def _fields(pruned: Pruned) -> dict[str, Any]:
    return {field.name: getattr(pruned, field.name) for field in fields(Pruned)}


def _concatenated(blocks: list[Pruned]) -> Pruned:
    columns = [_fields(block) for block in blocks]
    return Pruned(**{
        name: np.concatenate([column[name] for column in columns], axis=-1 if name in PER_IMAGE else 0)
        for name in columns[0]
    })  # fmt: skip


def _joined(pieces: list[Piece], num_images: int) -> dict[str, NDArray[Any]]:
    """The arrays of a store from all parts."""
    whole = _fields(_concatenated([_moved(piece.pruned, piece.start) for piece in pieces]))
    for name, of_parts in zip(WHOLE, PER_IMAGE):
        whole[name] = whole.pop(of_parts)
    assert whole[WHOLE[0]].shape[1] == num_images
    return whole


def _nothing(job: Job) -> Pruned:
    """What a part without images would hold."""
    empty, results = np.empty, len(job.pool)
    return Pruned(
        empty((len(job.ks), 0), np.int8), empty(0, np.int64), empty(0, np.int32), empty(0, np.int64),
        empty(0, np.int32), empty(0, np.bool_), empty((0, results), np.float16),
        empty((0, results), np.float16), empty((len(job.ks), results, 0), np.bool_),
    )  # fmt: skip


def _begin(folder: Path, identity: dict[str, Any]) -> None:
    """Make the folder, or go on in it when it holds parts of the same pass."""
    marker = folder / "pass.json"
    if not (marker.exists() and read_json(marker) == identity):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(marker, identity)


def _file(folder: Path, start: int) -> Path:
    return folder / f"part-{start:09d}.npz"


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


_job: tuple[Any, ...] = ()


def _set_up(*job: Any) -> None:
    import torch

    global _job
    _job = job
    torch.set_num_threads(1)  # there is a process for every core


def _work(start: int) -> int:
    jobs, labels, memory_gib = _job
    _write_part(jobs, labels, start, memory_gib)
    return start


def _write_part(jobs: Sequence[Job], labels_N: NDArray[np.int32], start: int, memory_gib: float) -> None:
    for job, pruned in zip(jobs, _part(jobs, labels_N, start, memory_gib)):
        temporary = _folder(job) / f".{start}.{os.getpid()}.tmp.npz"
        np.savez(temporary, **_fields(pruned))
        os.replace(temporary, _file(_folder(job), start))


def _finish(job: Job, labels_N: NDArray[np.int32], identity: dict[str, Any]) -> None:
    """Join the parts into one file a field, then name the store finished and drop the parts.

    One part is in memory at a time: fields are appended to their files.
    """
    folder, starts = _folder(job), _starts(labels_N)
    if not starts:
        for name, array in _joined([Piece(0, _nothing(job))], 0).items():
            np.save(folder / f"{name}.npy", array)
    else:
        per_image: dict[str, list[NDArray[Any]]] = {name: [] for name in PER_IMAGE}
        growing = {name: Growing(folder / f"{name}.npy") for name in FIELDS}
        for start in starts:
            with np.load(_file(folder, start), allow_pickle=False) as archive:
                for name in PER_IMAGE:
                    per_image[name].append(archive[name])
                for name, file in growing.items():
                    file.add(archive[name] + start if name == "images_U" else archive[name])
        for name, of_parts in zip(WHOLE, PER_IMAGE):
            np.save(folder / f"{name}.npy", np.concatenate(per_image[of_parts], axis=-1))
    write_json(folder / INDEX, identity)
    for start in starts:
        _file(folder, start).unlink()


class Growing:
    """A .npy file that arrays (n, …) are appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.length, self.begin = 0, 0

    def add(self, array: NDArray[Any]) -> None:
        """Append one. numpy leaves room in a header for its first axis to grow, so it is written in place."""
        with open(self.path, "r+b" if self.begin else "wb") as file:
            self.length += len(array)
            header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False,
                      "shape": (self.length, *array.shape[1:])}  # fmt: skip
            np.lib.format.write_array_header_1_0(file, header)
            assert self.begin in (0, file.tell()), "numpy's header has outgrown its room"
            self.begin = file.tell()
            file.seek(0, os.SEEK_END)
            file.write(array.tobytes())
