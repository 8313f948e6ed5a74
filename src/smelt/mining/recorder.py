"""The recorder: what training shows of each image, kept in fixed-width columns on the device.

    recorder = Recorder(num_rows)
    recorder.update(rows_B, logits_BC, labels_B)     # after each training forward
    recorder.arrays()                                # columns by row

It keeps no Python object per sample and never waits for the device. Sums are float32: after E visits their
relative error is at most E · 2⁻²⁴ of the mean absolute value (E = 100: 6e-6), in practice √E · 2⁻²⁴.

Over several processes of torch.distributed a row belongs to one of them: rank r keeps the rows r, r + W,
r + 2W, …, one W-th of the memory. `update` notes this rank's visits and does not communicate; `exchange`,
called on every rank now and then, gives each visit to the rank that owns its row, which books them in the
order of the steps, those of one step as one batch. So the columns are what one process would have recorded,
whichever rank met an image. `reduce`, called on every rank before a checkpoint, also brings all columns to
rank 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from smelt.mining.visits import Column, Visits, book, declared

_BLOCK = 64  # logits, about the square root of 5,000


class Recorder:
    """Dynamics of `num_rows` catalogue rows, recorded from the logits of training forwards.

    What is recorded is what the modules in `mining/scores` declare. stop_after_epoch: from epoch number
    `stop_after_epoch` + 1 on nothing is recorded (counted from 0, told by `begin_epoch`). The AUM paper stops
    before the learning rate first drops (Pleiss et al. 2020, 3.2).
    """

    def __init__(
        self, num_rows: int, device: str | torch.device = "cpu", *, stop_after_epoch: int | None = None
    ) -> None:
        if num_rows < 0:
            raise ValueError(f"num_rows is {num_rows}: the number of images cannot be negative")
        self.stop_after_epoch = stop_after_epoch
        self.recording = True
        self.step = 0
        self.num_rows = num_rows
        self.rank, self.world_size = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
        self._scratch: Tensor | None = None
        self._kinds = declared()
        self._own = _columns(self._kinds, len(range(self.rank, num_rows, self.world_size)), device)
        self._noted: list[Visits] = []  # of this rank, since the last exchange
        self._exchanged = False
        self._whole: dict[str, Tensor] | None = None  # on rank 0, after `reduce`

    @property
    def columns(self) -> dict[str, Tensor]:
        """All columns (N,): of one process; after `reduce`, on rank 0, of all ranks; before any exchange what
        this rank has seen by itself."""
        if self.world_size == 1:
            return self._own
        if self._whole is not None:
            return self._whole
        if self._exchanged:
            raise RuntimeError("over several ranks the columns are on rank 0, after `reduce`")
        alone = _columns(self._kinds, self.num_rows, self._device)
        for visits in self._noted:
            book(alone, self._kinds, visits)
        return alone

    def begin_epoch(self, epoch: int) -> None:
        """Tell which epoch begins (from 0); only needed with `stop_after_epoch`."""
        self.recording = self.stop_after_epoch is None or epoch <= self.stop_after_epoch

    @torch.no_grad()
    def update(
        self, rows_B: Tensor, logits_BC: Tensor, labels_B: Tensor, valid_B: Tensor | None = None
    ) -> None:
        """Record one batch: catalogue rows (B,), raw logits (B, C ≥ 2) and labels in 0..C−1 (B,).

        Samples with `valid_B` False and samples whose label's logit or largest other logit is not finite
        are not recorded. A row may come several times in a batch: each visit counts in the sums; for
        forgetting the batch is one visit, correct if any of them is. Raises ValueError or TypeError for
        tensors of other shapes or types, IndexError or RuntimeError for rows or labels out of range.
        """
        _check(rows_B, logits_BC, labels_B, valid_B)
        self.step += 1
        self._whole = None
        if not self.recording or len(rows_B) == 0:
            return
        found = shown(logits_BC, labels_B, self._scratch_for(logits_BC))
        rows, label, largest, share, other = (t.to(self._device) for t in (rows_B, *found))
        if valid_B is not None:
            label = label.where(valid_B.to(self._device), torch.nan)
        observed = {
            name: column.observe(logits_BC, labels_B.to(logits_BC.device)).float().to(self._device)
            for name, column in self._kinds.items()
            if column.observe is not None
        }
        visits = Visits(rows, label, largest, share, other, self.step, observed)
        if self.world_size == 1:
            book(self._own, self._kinds, visits)
        else:
            self._noted.append(visits)

    def _scratch_for(self, logits_BC: Tensor) -> Tensor:
        """Room for `shown`, kept from batch to batch: to get 5 MB from the system and give them back each
        time takes longer than the work."""
        shape = _scratch_shape(logits_BC)
        if self._scratch is None or self._scratch.shape != shape or self._scratch.device != logits_BC.device:
            self._scratch = torch.empty(shape, dtype=torch.float32, device=logits_BC.device)
        return self._scratch

    def exchange(self) -> None:
        """Give every visit since the last call to the rank that owns its row. Call it on every rank; memory
        grows by some 30 bytes a visit of this rank until then. Without torch.distributed it does nothing."""
        if self.world_size == 1:
            return
        noted, self._noted, self._exchanged = self._noted, [], True
        observed = [name for name in self._own if self._kinds[name].observe is not None]
        nothing = torch.empty((0, 6 + len(observed)), dtype=torch.int64, device=self._device)
        own = torch.cat([nothing, *(_packed(visits, observed) for visits in noted)])
        every = _gathered(own, self.world_size)
        mine = [part[part[:, 0] % self.world_size == self.rank] for part in every]
        steps = torch.cat([part[:, 1] for part in mine])
        # within a step in the order of the whole batch, of which rank r has every W-th image from r on
        place = torch.cat([_place_in_step(part[:, 1]) for part in every])
        chosen = torch.cat([part[:, 0] % self.world_size == self.rank for part in every])
        rank = torch.repeat_interleave(
            torch.arange(self.world_size, device=own.device),
            torch.tensor([len(part) for part in mine], device=own.device),
        )
        order = torch.argsort(place[chosen] * self.world_size + rank, stable=True)
        order = order[torch.argsort(steps[order], stable=True)]
        rows = torch.cat(mine)[order]
        numbers, counts = torch.unique_consecutive(rows[:, 1], return_counts=True)
        for step, part in zip(numbers.tolist(), torch.split(rows, counts.tolist())):
            book(self._own, self._kinds, _unpacked(part, self.world_size, step, observed))

    @property
    def _device(self) -> torch.device:
        return self._own["seen"].device

    def state_dict(self) -> dict[str, Tensor]:
        """The columns and the step count, for a checkpoint; over several ranks rank 0's, after `reduce`."""
        return {**self.columns, "step": torch.tensor(self.step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint, of any number of ranks. Every rank loads the same state.

        A column that it lacks was not recorded from the beginning, and is not recorded any more. ValueError
        where it is of another number of rows.
        """
        self.step = int(state["step"])
        self._noted, self._whole, self._exchanged = [], None, True
        self._own = {
            name: column
            for name, column in self._own.items()
            if {name, *self._kinds[name].of} <= state.keys()
        }
        for name, column in self._own.items():
            saved = state[name]
            if saved.shape != (self.num_rows,) or saved.dtype != column.dtype:
                raise ValueError(
                    f"{name} of the checkpoint is {tuple(saved.shape)} {saved.dtype}, not ({self.num_rows},) "
                    f"{column.dtype}"
                )
            column.copy_(saved[self.rank :: self.world_size])

    def reduce(self) -> None:
        """Bring all columns to rank 0, in its main memory. Call it on every rank; may be called any number of
        times. Without torch.distributed it does nothing."""
        if self.world_size == 1:
            return
        self.exchange()
        whole: dict[str, Tensor] = {}
        for name, column in self._own.items():
            if self.rank > 0:
                dist.send(column, dst=0)
                continue
            whole[name] = torch.empty(self.num_rows, dtype=column.dtype)
            whole[name][:: self.world_size] = column.cpu()
            for rank in range(1, self.world_size):
                size = len(range(rank, self.num_rows, self.world_size))
                part = torch.empty(size, dtype=column.dtype, device=column.device)
                dist.recv(part, src=rank)
                whole[name][rank :: self.world_size] = part.cpu()
        self._whole = whole if self.rank == 0 else None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The columns as numpy arrays (N,), for `Dynamics`; with several ranks: rank 0's, after
        `reduce`."""
        return {name: column.cpu().numpy() for name, column in self.columns.items()}


def _columns(kinds: Mapping[str, Column], num_rows: int, device: str | torch.device) -> dict[str, Tensor]:
    """Columns of rows that were never seen."""
    return {
        name: torch.full((num_rows,), kind.start, dtype=getattr(torch, kind.dtype), device=device)
        for name, kind in kinds.items()
    }


def _check(rows_B: Tensor, logits_BC: Tensor, labels_B: Tensor, valid_B: Tensor | None) -> None:
    """ValueError or TypeError unless these can be a batch."""
    if valid_B is None and isinstance(logits_BC, Tensor) and logits_BC.ndim == 2 and logits_BC.shape[1] >= 2:
        whole = all(isinstance(t, Tensor) and t.dtype == torch.int64 for t in (rows_B, labels_B))
        if whole and rows_B.shape == labels_B.shape == logits_BC.shape[:1] and logits_BC.is_floating_point():
            return  # as nearly all are: what follows takes longer to be told than to be found
    given = {"rows": rows_B, "logits": logits_BC, "labels": labels_B} | (
        {} if valid_B is None else {"valid": valid_B}
    )
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch tensor, not {type(tensor).__name__}")
        if tensor.is_floating_point() != (name == "logits"):
            wanted = "floating-point numbers" if name == "logits" else "whole numbers"
            raise TypeError(f"{name} must be {wanted}, not {tensor.dtype}")
    shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
    fits = all(shape == (len(rows_B),) for name, shape in shapes.items() if name != "logits")
    if logits_BC.ndim != 2 or len(logits_BC) != len(rows_B) or logits_BC.shape[1] < 2 or not fits:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"a batch is rows (B,), logits (B, C) of two classes or more, labels (B,), not {told}"
        )


def _packed(visits: Visits, observed: list[str]) -> Tensor:
    """A line of integers for each visit: row, step, other class, and the bits of its float32 numbers."""
    numbers = [visits.label_B, visits.largest_B, visits.log_share_B, *(visits.observed[n] for n in observed)]
    step = torch.full_like(visits.rows_B, visits.step, dtype=torch.int64)
    bits = torch.stack(numbers).float().view(torch.int32).long()
    return torch.stack([visits.rows_B.long(), step, visits.other_B.long(), *bits], dim=1)


def _unpacked(lines: Tensor, world_size: int, step: int, observed: list[str]) -> Visits:
    """The visits of one step, rows numbered as their owner keeps them."""
    label, largest, share, *rest = (column.int().view(torch.float32) for column in lines[:, 3:].unbind(1))
    return Visits(
        lines[:, 0] // world_size, label, largest, share, lines[:, 2], step, dict(zip(observed, rest))
    )


def _place_in_step(steps_V: Tensor) -> Tensor:
    """The place of each visit among those of its step, (V,); steps come in order."""
    _, counts = torch.unique_consecutive(steps_V, return_counts=True)
    first = torch.cumsum(counts, 0) - counts
    places: Tensor = torch.arange(len(steps_V), device=steps_V.device) - first.repeat_interleave(counts)
    return places


def _gathered(own: Tensor, world_size: int) -> list[Tensor]:
    """Every rank's lines, on every rank."""
    length = torch.tensor([len(own)], device=own.device)
    lengths = [torch.zeros_like(length) for _ in range(world_size)]
    dist.all_gather(lengths, length)
    sizes = [int(size) for size in lengths]
    padded = torch.zeros((max(sizes), own.shape[1]), dtype=own.dtype, device=own.device)
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in range(world_size)]
    if max(sizes):
        dist.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes)]


def shown(
    logits_BC: Tensor, labels_B: Tensor, scratch: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What raw logits (B, C ≥ 2) in any float type show, each (B,), as `Visits` has it: the label's logit,
    the largest other, the log of its share of Σ exp over the others (float32), and its class, the first of
    the largest."""
    batch, classes = logits_BC.shape
    if scratch is None:
        scratch = torch.empty(_scratch_shape(logits_BC), dtype=torch.float32, device=logits_BC.device)
    others, soft = scratch
    others[:, classes:] = float("-inf")
    others[:, :classes] = logits_BC.detach()
    index = labels_B.to(logits_BC.device, torch.int64)[:, None]
    own = others[:, :classes].gather(1, index).squeeze(1)
    others.scatter_(1, index, float("-inf"))
    # argmax over a long row is some 15 times slower than amax on a CPU: find the block first
    width = min(classes, _BLOCK)
    blocks = others.view(batch, -1, width)
    largest, block = blocks.amax(dim=2).max(dim=1)
    place = torch.arange(batch, device=block.device) * blocks.shape[1] + block
    other = blocks.view(-1, width).index_select(0, place).argmax(dim=1) + block * width
    # the largest softmax of the others is 1/Σ exp(other − largest): its log is largest − logsumexp
    torch.softmax(others, dim=1, out=soft)
    return own, largest, soft.amax(dim=1).log(), other


def _scratch_shape(logits_BC: Tensor) -> tuple[int, int, int]:
    """Two copies of the logits, each row padded to whole blocks."""
    batch, classes = logits_BC.shape
    block = min(classes, _BLOCK)
    return 2, batch, -(-classes // block) * block


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
