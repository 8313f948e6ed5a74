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
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from smelt.artifacts.dynamics import COLUMNS, OTHER_BITS

_CORRECT = 1 << OTHER_BITS
_BLOCK = 64  # logits, about the square root of 5,000


class Recorder:
    """Dynamics of `num_rows` catalogue rows, recorded from the logits of training forwards.

    stop_after_epoch: from epoch number `stop_after_epoch` + 1 on nothing is recorded (counted from 0, told
    by `begin_epoch`). The AUM paper stops before the learning rate first drops (Pleiss et al. 2020, 3.2).
    """

    def __init__(
        self, num_rows: int, device: str | torch.device = "cpu", *, stop_after_epoch: int | None = None
    ) -> None:
        self.stop_after_epoch = stop_after_epoch
        self.recording = True
        self.step = 0
        self.num_rows = num_rows
        self.rank, self.world_size = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
        self._scratch: Tensor | None = None
        self._own = _Columns(len(range(self.rank, num_rows, self.world_size)), device)
        self._noted: list[Visits] = []  # of this rank, since the last exchange
        self._exchanged = False
        self._whole: dict[str, Tensor] | None = None  # on rank 0, after `reduce`

    @property
    def columns(self) -> dict[str, Tensor]:
        """All columns (N,): of one process; after `reduce`, on rank 0, of all ranks; before any exchange what
        this rank has seen by itself."""
        if self.world_size == 1:
            return self._own.values
        if self._whole is not None:
            return self._whole
        assert not self._exchanged, "over several ranks the columns are on rank 0, after `reduce`"
        alone = _Columns(self.num_rows, self._device)
        for visits in self._noted:
            alone.book(visits)
        return alone.values

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
        forgetting the batch is one visit, correct if any of them is. Raises IndexError or RuntimeError
        for rows or labels out of range.
        """
        self.step += 1
        self._whole = None
        if not self.recording or len(rows_B) == 0:
            return
        margin, log_margin, other = margins(logits_BC, labels_B, self._scratch_for(logits_BC))
        device = self._own.values["seen"].device
        rows, margin, log_margin, other = (t.to(device) for t in (rows_B, margin, log_margin, other))
        ok = torch.isfinite(margin)
        if valid_B is not None:
            ok &= valid_B.to(device)
        visits = Visits(rows, margin.where(ok, torch.nan), log_margin, other, self.step)
        if self.world_size == 1:
            self._own.book(visits)
        else:
            self._noted.append(visits)

    def _scratch_for(self, logits_BC: Tensor) -> Tensor:
        """Room for `margins`, kept from batch to batch: to get 5 MB from the system and give them back each
        time takes longer than the work."""
        shape = _scratch_shape(logits_BC)
        if self._scratch is None or self._scratch.shape != shape or self._scratch.device != logits_BC.device:
            self._scratch = torch.empty(shape, dtype=torch.float32, device=logits_BC.device)
        return self._scratch

    def exchange(self) -> None:
        """Give every visit since the last call to the rank that owns its row. Call it on every rank; memory
        grows by 32 bytes a visit of this rank until then. Without torch.distributed it does nothing."""
        if self.world_size == 1:
            return
        noted, self._noted, self._exchanged = self._noted, [], True
        packed = [_packed(visits) for visits in noted]
        own = torch.cat(packed) if packed else torch.empty((0, 5), dtype=torch.int64, device=self._device)
        every = _gathered(own, self.world_size)
        mine = [part[part[:, 0] % self.world_size == self.rank] for part in every]
        steps = torch.cat([part[:, 4] for part in mine])
        # within a step in the order of the whole batch, of which rank r has every W-th image from r on
        place = torch.cat([_place_in_step(part[:, 4]) for part in every])
        chosen = torch.cat([part[:, 0] % self.world_size == self.rank for part in every])
        rank = torch.repeat_interleave(
            torch.arange(self.world_size, device=own.device),
            torch.tensor([len(part) for part in mine], device=own.device),
        )
        order = torch.argsort(place[chosen] * self.world_size + rank, stable=True)
        order = order[torch.argsort(steps[order], stable=True)]
        rows = torch.cat(mine)[order]
        numbers, counts = torch.unique_consecutive(rows[:, 4], return_counts=True)
        for step, part in zip(numbers.tolist(), torch.split(rows, counts.tolist())):
            self._own.book(_unpacked(part, self.world_size, step))

    @property
    def _device(self) -> torch.device:
        return self._own.values["seen"].device

    def state_dict(self) -> dict[str, Tensor]:
        """The columns and the step count, for a checkpoint; over several ranks rank 0's, after `reduce`."""
        return {**self.columns, "step": torch.tensor(self.step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint, of any number of ranks. Every rank loads the same state."""
        self.step = int(state["step"])
        self._noted, self._whole, self._exchanged = [], None, True
        for name, column in self._own.values.items():
            assert len(state[name]) == self.num_rows and state[name].dtype == column.dtype, name
            column.copy_(state[name][self.rank :: self.world_size])

    def reduce(self) -> None:
        """Bring all columns to rank 0, in its main memory. Call it on every rank; may be called any number of
        times. Without torch.distributed it does nothing."""
        if self.world_size == 1:
            return
        self.exchange()
        whole: dict[str, Tensor] = {}
        for name, column in self._own.values.items():
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
        """The columns as numpy arrays (N,), for `save_dynamics`; with several ranks: rank 0's, after
        `reduce`."""
        return {name: column.cpu().numpy() for name, column in self.columns.items()}


@dataclass(frozen=True)
class Visits:
    """Visits of a step: rows, margin (NaN: do not record), log margin, largest other class; each (B,)."""

    rows_B: Tensor
    margin_B: Tensor
    log_margin_B: Tensor
    other_B: Tensor
    step: int


class _Columns:
    """The columns of some rows, and how a step's visits are booked in them."""

    def __init__(self, num_rows: int, device: str | torch.device) -> None:
        self.values = {
            name: torch.full((num_rows,), -1 if name == "last" else 0, dtype=_torch(dtype), device=device)
            for name, dtype in COLUMNS.items()
        }

    def book(self, visits: Visits) -> None:
        """Add the visits of one step."""
        ok = torch.isfinite(visits.margin_B)
        margin, log_margin = visits.margin_B.where(ok, 0), visits.log_margin_B.where(ok, 0)
        correct = (margin > 0) & ok
        self._add(visits.rows_B, ok, margin, log_margin, correct)
        self._visit(visits.rows_B, ok, correct, visits.other_B, visits.step)

    def _add(
        self, rows_B: Tensor, ok_B: Tensor, margin_B: Tensor, log_margin_B: Tensor, correct_B: Tensor
    ) -> None:
        columns = self.values
        probability = torch.sigmoid(log_margin_B)
        before = self._mean(rows_B)
        columns["seen"].index_add_(0, rows_B, ok_B.int())
        columns["correct"].index_add_(0, rows_B, correct_B.int())
        columns["margin_sum"].index_add_(0, rows_B, margin_B)
        columns["log_margin_sum"].index_add_(0, rows_B, log_margin_B)
        columns["probability_sum"].index_add_(0, rows_B, probability * ok_B)
        # Welford's update; summed over several visits of a batch it is Chan's formula for two groups.
        square = (probability - before) * (probability - self._mean(rows_B))
        columns["probability_m2"].index_add_(0, rows_B, square * ok_B)

    def _mean(self, rows_B: Tensor) -> Tensor:
        seen = self.values["seen"].index_select(0, rows_B)
        return self.values["probability_sum"].index_select(0, rows_B) / seen.clamp_(min=1)

    def _visit(self, rows_B: Tensor, ok_B: Tensor, correct_B: Tensor, other_B: Tensor, step: int) -> None:
        """Keep the newest visit and count a fall from correct to wrong (Toneva et al. 2019, section 3)."""
        last, forgotten = self.values["last"], self.values["forgotten"]
        before = last.index_select(0, rows_B)
        visit = (step << (OTHER_BITS + 1)) + correct_B.long() * _CORRECT + other_B
        last.scatter_reduce_(0, rows_B, visit.where(ok_B, -1), "amax")
        now = last.index_select(0, rows_B)
        fell = (before >= 0) & (before & _CORRECT > now & _CORRECT)
        # every copy of a row in this batch writes the same value
        forgotten.index_copy_(0, rows_B, forgotten.index_select(0, rows_B) + fell.int())


def _packed(visits: Visits) -> Tensor:
    """A line of five integers for each visit: row, margin, log margin (their bits), other class, step."""
    bits = torch.stack([visits.margin_B, visits.log_margin_B]).float().view(torch.int32).long()
    step = torch.full_like(visits.rows_B, visits.step, dtype=torch.int64)
    return torch.stack([visits.rows_B.long(), bits[0], bits[1], visits.other_B.long(), step], dim=1)


def _unpacked(lines: Tensor, world_size: int, step: int) -> Visits:
    """The visits of one step, rows numbered as their owner keeps them."""
    margin, log_margin = (lines[:, place].int().view(torch.float32) for place in (1, 2))
    return Visits(lines[:, 0] // world_size, margin, log_margin, lines[:, 3], step)


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


def margins(
    logits_BC: Tensor, labels_B: Tensor, scratch: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(margin, log margin, other class), each (B,), of raw logits (B, C ≥ 2) in any float type.

    margin: logit of the label − largest other logit (Pleiss et al. 2020, equation 1). log margin:
    log p/(1 − p) = logit of the label − logsumexp of the others, p the label's softmax probability
    (the margin score of Carlini et al. 2022, section IV). Both float32, not finite where the label's or the
    largest other logit is not. other class: the first of the largest.
    """
    batch, classes = logits_BC.shape
    assert classes >= 2, "a margin needs logits of two classes or more"
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
    # the largest softmax of the others is 1/Σ exp(other − largest), so this is their logsumexp
    torch.softmax(others, dim=1, out=soft)
    return own - largest, own - largest + soft.amax(dim=1).log(), other


def _scratch_shape(logits_BC: Tensor) -> tuple[int, int, int]:
    """Two copies of the logits, each row padded to whole blocks."""
    batch, classes = logits_BC.shape
    block = min(classes, _BLOCK)
    return 2, batch, -(-classes // block) * block


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _torch(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
