"""From rows of a catalogue to batches of uint8 pixels: threads, in order, the same for any number of them.

Decoders and resizing let go of the interpreter's lock, so threads use all cores and share one memory; a
batch is written in place by whoever has time. Pixels stay uint8: normalising is the device's work.

What an image looks like depends on (seed, epoch, row, how often the row came before in the epoch, on all
ranks) alone: not on workers, ranks, batches or where an epoch was taken up again. A bad image gives zeros and
valid = False, never another image: its margins would be booked on the wrong row.

In training only as much of a JPEG is decoded as its crop needs (`decode.load_crop`); all of it only where its
pixels are to be kept in memory. Both give the same pixels and the same verdict: an image that is damaged
below its crop is shown all the same, whether or not there was room to keep it.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smelt.data.config import AugmentSettings, ViewSettings
from smelt.data.images import augment as aug
from smelt.data.images.decode import Pixels, crop_resize, decode, load_crop
from smelt.data.images.headers import probe
from smelt.data.images.limits import Header
from smelt.data.images.randaugment import randaugment
from smelt.data.images.sampler import Batches
from smelt.data.images.store import ImageStore
from smelt.errors import BadImageError, TrainingError, some
from smelt.files.opening import patiently
from smelt.random import keys

CHUNK = 16  # images per task of a worker
AHEAD = 3  # batches under way before the one that is asked for
LONGEST = 8  # a view's image is at most so many times as long as its short side; beyond, it is squeezed
MANY = 256  # batches, of all ranks, counted at once where an epoch is taken up again
FEW = 20  # an epoch of fewer images is never stopped for bad ones


@dataclass(frozen=True)
class Batch:
    """rows_B int64; images uint8 (B, 3, S, S), or (B, V, 3, S, S) for views, channels innermost in memory;
    valid_B bool: False marks a bad image, whose pixels are zeros and which must not contribute."""

    rows_B: Tensor
    images: Tensor
    valid_B: Tensor


Job = Callable[[int, NDArray[np.uint8]], None]  # (position in the batch, its slot of the batch) → filled


class Loader:
    """Batches of images by exact rows.

    workers: threads, at least one. cache_mib: decoded pixels kept in memory, first come; of images for which
    there is no room only what is shown is decoded.
    max_bad: an epoch is stopped when more than this part of its images is bad.
    """

    def __init__(
        self, store: ImageStore, *, workers: int, seed: int, cache_mib: int = 0, max_bad: float = 0.01
    ) -> None:
        self.store, self.seed, self.max_bad = store, seed, max_bad
        self.bad: dict[int, str] = {}  # row → reason, of all images met so far
        self._workers = max(workers, 1)
        self._pool = _pool(self._workers)
        self._cache: dict[int, Pixels] = {}
        self._cache_left = cache_mib << 20
        self._cache_lock = threading.Lock()

    def training(
        self,
        batches: Sequence[NDArray[np.int64]],
        augment: AugmentSettings,
        epoch: int,
        start: int = 0,
    ) -> Iterator[Batch]:
        """Augmented batches `start`, `start` + 1, … of an epoch; `batches` are this rank's rows of each.

        The rows of the other ranks are counted too where `batches` knows them (`ClassBalancedSampler.batches`
        does); a plain list of arrays is all there is. TrainingError when the bad images met are more than
        `max_bad` of all images of the epoch; StorageError when the machine keeps images from being read.
        """
        total = batches.num_images if isinstance(batches, Batches) else sum(map(len, batches))
        turns = _Turns(batches, self.store.catalogue.num_rows, start)
        works = (self._training_work(augment, epoch, b, *turns.next(b)) for b in range(start, len(batches)))
        bad: list[int] = []
        for batch in self._ordered(works):
            bad += batch.rows_B[~batch.valid_B].tolist()
            if total >= FEW and len(bad) > self.max_bad * total:
                raise TrainingError(self._too_many(bad, total))
            yield batch

    def views(self, rows: NDArray[np.int64], view: ViewSettings, batch_size: int) -> Iterator[Batch]:
        """Batches of views in the order of `rows`; the last may be smaller."""
        parts = (rows[at : at + batch_size] for at in range(0, len(rows), batch_size))
        return self._ordered(self._view_work(np.asarray(part, np.int64), view) for part in parts)

    def close(self) -> None:
        """Let the threads go; the loader cannot be used afterwards."""
        self._pool.shutdown(cancel_futures=True)

    def pixels(self, row: int) -> Pixels:
        """All pixels of `row`, from memory if they are there; BadImageError if they cannot be had."""
        known = self._cache.get(row)
        if known is not None:
            return known
        data = self.store.read(row)
        return self._put(row, decode(data) if isinstance(data, bytes) else data)

    def _put(self, row: int, pixels: Pixels) -> Pixels:
        """Keep the pixels of `row` in memory if there is room."""
        with self._cache_lock:
            if row not in self._cache and pixels.nbytes <= self._cache_left:
                self._cache_left -= pixels.nbytes
                self._cache[row] = np.ascontiguousarray(pixels)
        return self._cache.get(row, pixels)

    def _training_work(
        self,
        augment: AugmentSettings,
        epoch: int,
        batch: int,
        rows_B: NDArray[np.int64],
        turns_B: NDArray[np.int64],
    ) -> _Work:
        size = aug.batch_size_in_pixels(augment, self.seed, epoch, batch)
        keys_B = keys(self.seed, epoch, rows_B, turns_B)
        numbers_BD = aug.uniform(keys_B, aug.draws_per_image(augment))

        def fill(at: int, slot: NDArray[np.uint8]) -> None:
            slot[0] = self._augmented(int(rows_B[at]), size, augment, numbers_BD[at])

        return _Work(rows_B, np.empty((len(rows_B), 1, size, size, 3), np.uint8), fill, squeeze=True)

    def _augmented(
        self, row: int, size: int, augment: AugmentSettings, numbers: NDArray[np.float64]
    ) -> Pixels:
        flip = bool(numbers[aug.FLIP_DRAW] < augment.flip)
        if augment.pad_crop is not None:
            whole = crop_resize(self.pixels(row), None, (size, size), flip)
            pixels = aug.pad_crop(whole, augment.pad_crop, numbers)
        else:
            pixels = self._crop(row, size, augment, flip, numbers)
        if augment.randaugment is None:
            return pixels
        return randaugment(pixels, augment.randaugment, numbers[aug.OPS_DRAW :])

    def _crop(
        self, row: int, size: int, augment: AugmentSettings, flip: bool, numbers: NDArray[np.float64]
    ) -> Pixels:
        """The random resized crop: of pixels in memory, or straight from the file, through the seam."""
        whole = self._cache.get(row)
        if whole is None:
            data = self.store.read(row)
            if isinstance(data, bytes):
                header = probe(data)
                whole = self._whole(row, data, header)
                if whole is None:
                    box = aug.random_box(header.width, header.height, augment, numbers)
                    return load_crop(data, box, (size, size), flip, header)
            else:
                whole = data
        box = aug.random_box(whole.shape[1], whole.shape[0], augment, numbers)
        return crop_resize(whole, box, (size, size), flip)

    def _whole(self, row: int, data: bytes, header: Header) -> Pixels | None:
        """All pixels of a file; None where a part of them will do, or is all that can be had of it."""
        if header.in_part and 3 * header.width * header.height > self._cache_left:
            return None
        try:
            return self._put(row, decode(data, header))
        except BadImageError:
            if header.in_part:
                return None
            raise

    def _view_work(self, rows_B: NDArray[np.int64], view: ViewSettings) -> _Work:
        def fill(at: int, slot: NDArray[np.uint8]) -> None:
            pixels = self.pixels(int(rows_B[at]))
            height, width = scaled_size(pixels.shape[0], pixels.shape[1], round(view.size * view.resize))
            whole = crop_resize(pixels, None, (height, width), flip=False)
            for v, (box, mirrored) in enumerate(aug.view_boxes(width, height, view.size, view.crops)):
                slot[v] = crop_resize(whole, box, (view.size, view.size), mirrored)

        return _Work(rows_B, np.empty((len(rows_B), view.crops, view.size, view.size, 3), np.uint8), fill)

    def _ordered(self, works: Iterator[_Work]) -> Iterator[Batch]:
        """The batches of `works` in order, at most AHEAD of them under way."""
        waiting: deque[tuple[_Work, list[Future[list[tuple[int, str]]]]]] = deque()
        try:
            for work in works:
                waiting.append((work, self._submit(work)))
                if len(waiting) > AHEAD:
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()

    def _submit(self, work: _Work) -> list[Future[list[tuple[int, str]]]]:
        """Split a batch so that every worker gets a share of it, in tasks of at most CHUNK images."""
        count = len(work.rows_B)
        step = max(min(CHUNK, -(-count // self._workers)), 1)
        return [self._pool.submit(self._run, work, at, min(at + step, count)) for at in range(0, count, step)]

    def _run(self, work: _Work, first: int, last: int) -> list[tuple[int, str]]:
        """Fill slots first..last of a batch; returns (position, reason) of the bad images."""
        bad = []
        for at in range(first, last):
            try:
                self._fill(work, at)
            except BadImageError as error:
                work.pixels[at] = 0
                bad.append((at, error.reason))
        return bad

    def _fill(self, work: _Work, at: int) -> None:
        """One image of a batch; want of memory may be over when the other threads are done with theirs."""
        patiently(lambda: work.fill(at, work.pixels[at]), lambda: self.store.name(int(work.rows_B[at])))

    def _finish(self, work: _Work, futures: list[Future[list[tuple[int, str]]]]) -> Batch:
        bad = [item for future in futures for item in future.result()]
        valid_B = np.ones(len(work.rows_B), dtype=bool)
        for at, reason in bad:
            valid_B[at] = False
            self.bad[int(work.rows_B[at])] = reason
        images = torch.from_numpy(work.pixels).permute(0, 1, 4, 2, 3)
        images = images[:, 0] if work.squeeze else images
        return Batch(torch.from_numpy(work.rows_B), images, torch.from_numpy(valid_B))

    def _too_many(self, bad: list[int], total: int) -> str:
        rows = sorted(set(bad))
        reasons = Counter(self.bad[row] for row in rows)
        counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        lines = some((f"{self.store.name(row)}: {self.bad[row]}" for row in rows), len(rows))
        return (
            f"{len(bad)} of the epoch's {total} images cannot be read, more than {self.max_bad:.1%} "
            f"({counts}):\n  " + "\n  ".join(lines) + "\n"
            "They were whole when the stage `check` looked: put them back, or give the same command again, "
            "which looks anew where names or sizes have changed; -o train.max_bad_fraction=… lets more pass."
        )


def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that each compute on one core.

    The number of threads that torch uses is kept per thread, but setting it also sets the default of all
    later ones (and of MKL), so that the caller's own is put back when every worker has set its own.
    """
    before, started = torch.get_num_threads(), threading.Barrier(workers + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread takes the default over when it first asks: let that be done
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(workers, "loader")
    for _ in range(workers):
        pool.submit(start)
    started.wait()
    torch.set_num_threads(before)
    return pool


class _Work:
    """A batch under way: `fill(position, slot)` puts the pixels of one image into its slot (V, S, S, 3)."""

    def __init__(
        self, rows_B: NDArray[np.int64], pixels: NDArray[np.uint8], fill: Job, squeeze: bool = False
    ) -> None:
        self.rows_B, self.pixels, self.fill, self.squeeze = rows_B, pixels, fill, squeeze


class _Turns:
    """The rows of each batch of an epoch, and for each how often it came before in the epoch.

    Counted over the rows of all ranks: a row that two ranks show in one epoch is shown in two ways.
    """

    def __init__(self, batches: Sequence[NDArray[np.int64]], num_rows: int, start: int) -> None:
        self._batches = batches
        self._seen = _Occurrences(num_rows)
        for at in range(0, start, MANY):
            self._seen.skip(np.concatenate([self._whole(b) for b in range(at, min(at + MANY, start))]))

    def next(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(rows_B, turns_B) of this rank in batch `number`; to be asked for in order, each once."""
        rows, batches = self._whole(number), self._batches
        turns = self._seen.take(rows)
        own = slice(batches.rank, None, batches.world_size) if isinstance(batches, Batches) else slice(None)
        return rows[own], turns[own]

    def _whole(self, number: int) -> NDArray[np.int64]:
        batches = self._batches
        return (
            batches.whole(number) if isinstance(batches, Batches) else np.asarray(batches[number], np.int64)
        )


class _Occurrences:
    """How often each row has been shown in the epoch so far; 2 bytes a row, touched pages only.

    4 bytes from the row on that comes more than 65,535 times.
    """

    def __init__(self, num_rows: int) -> None:
        self._counts_N: NDArray[np.uint16 | np.uint32] = np.zeros(num_rows, np.uint16)

    def skip(self, rows_B: NDArray[np.int64]) -> None:
        most = np.iinfo(self._counts_N.dtype).max
        if len(rows_B) and int(self._counts_N[rows_B].max()) + len(rows_B) > most:
            self._counts_N = self._counts_N.astype(np.uint32)
        np.add.at(self._counts_N, rows_B, self._counts_N.dtype.type(1))

    def take(self, rows_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """The occurrence number of each row of a batch, and count them."""
        order = np.argsort(rows_B, kind="stable")
        ordered = rows_B[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        within = np.empty(len(rows_B), np.int64)
        within[order] = np.arange(len(rows_B)) - np.repeat(starts, np.diff(np.r_[starts, len(rows_B)]))
        occurrence_B = within + self._counts_N[rows_B]
        self.skip(rows_B)
        return occurrence_B


def scaled_size(height: int, width: int, short: int) -> tuple[int, int]:
    """(height, width) with the short side `short`, aspect kept; the long side at most LONGEST times it."""
    long = min(round(short * max(height, width) / min(height, width)), LONGEST * short)
    return (short, long) if height <= width else (long, short)
