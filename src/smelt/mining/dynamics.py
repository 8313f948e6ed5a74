"""The recorder: what training shows of each image, kept in fixed-width columns on the device.

    recorder = Recorder(num_rows)
    recorder.update(rows_B, logits_BC, labels_B)     # after each training forward
    recorder.arrays()                                # columns by row

It keeps no Python object per sample and never waits for the device. Sums are float32: after E visits their
relative error is at most E · 2⁻²⁴ of the mean absolute value (E = 100: 6e-6), in practice √E · 2⁻²⁴.

Over several processes the truth is the sum over all ranks. `reduce` moves it to rank 0 and tells every rank
each row's newest visit; call it on every rank at the end of each epoch and before a checkpoint. A row that
two ranks visit between two calls has all its sums right; its forgetting events are those each rank saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from smelt.artifacts.dynamics import COLUMNS, OTHER_BITS

_SUMS = ("seen", "margin_sum", "log_margin_sum", "probability_sum", "correct", "forgotten")
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
        self._scratch: Tensor | None = None
        self.columns = {
            name: torch.full((num_rows,), -1 if name == "last" else 0, dtype=_torch(dtype), device=device)
            for name, dtype in COLUMNS.items()
        }

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
        if not self.recording or len(rows_B) == 0:
            return
        margin, log_margin, other = margins(logits_BC, labels_B, self._scratch_for(logits_BC))
        device = self.columns["seen"].device
        rows, margin, log_margin, other = (t.to(device) for t in (rows_B, margin, log_margin, other))
        ok = torch.isfinite(margin)
        if valid_B is not None:
            ok &= valid_B.to(device)
        correct = (margin > 0) & ok
        self._add(rows, ok, margin.where(ok, 0), log_margin.where(ok, 0), correct)
        self._visit(rows, ok, correct, other)

    def _scratch_for(self, logits_BC: Tensor) -> Tensor:
        """Room for `margins`, kept from batch to batch: to get 5 MB from the system and give them back each
        time takes longer than the work."""
        shape = _scratch_shape(logits_BC)
        if self._scratch is None or self._scratch.shape != shape or self._scratch.device != logits_BC.device:
            self._scratch = torch.empty(shape, dtype=torch.float32, device=logits_BC.device)
        return self._scratch

    def _add(
        self, rows_B: Tensor, ok_B: Tensor, margin_B: Tensor, log_margin_B: Tensor, correct_B: Tensor
    ) -> None:
        columns = self.columns
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
        seen = self.columns["seen"].index_select(0, rows_B)
        return self.columns["probability_sum"].index_select(0, rows_B) / seen.clamp_(min=1)

    def _visit(self, rows_B: Tensor, ok_B: Tensor, correct_B: Tensor, other_B: Tensor) -> None:
        """Keep the newest visit and count a fall from correct to wrong (Toneva et al. 2019, section 3)."""
        last, forgotten = self.columns["last"], self.columns["forgotten"]
        before = last.index_select(0, rows_B)
        visit = (self.step << (OTHER_BITS + 1)) + correct_B.long() * _CORRECT + other_B
        last.scatter_reduce_(0, rows_B, visit.where(ok_B, -1), "amax")
        now = last.index_select(0, rows_B)
        fell = (before >= 0) & (before & _CORRECT > now & _CORRECT)
        # every copy of a row in this batch writes the same value
        forgotten.index_copy_(0, rows_B, forgotten.index_select(0, rows_B) + fell.int())

    def state_dict(self) -> dict[str, Tensor]:
        """The columns and the step count, for a checkpoint. Over several ranks call `reduce` first and
        save rank 0's."""
        return {**self.columns, "step": torch.tensor(self.step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint. Every rank loads the same state; ranks above 0 take only the newest
        visits of it, since the sums are on rank 0."""
        first = not _distributed() or dist.get_rank() == 0
        self.step = int(state["step"])
        for name, column in self.columns.items():
            assert state[name].shape == column.shape and state[name].dtype == column.dtype, name
            column.copy_(state[name]) if first or name == "last" else column.zero_()

    def reduce(self) -> None:
        """Merge over the ranks of torch.distributed: the sums go to rank 0, the newest visits to all.

        May be called any number of times. Without torch.distributed it does nothing.
        """
        if not _distributed() or dist.get_world_size() == 1:
            return
        columns = self.columns
        own_seen, own_mean = (
            columns["seen"].clone(),
            columns["probability_sum"] / columns["seen"].clamp(min=1),
        )
        for name in _SUMS:
            dist.all_reduce(columns[name])
        mean = columns["probability_sum"] / columns["seen"].clamp(min=1)
        columns["probability_m2"] += own_seen * (own_mean - mean) ** 2
        dist.all_reduce(columns["probability_m2"])
        dist.all_reduce(columns["last"], op=dist.ReduceOp.MAX)
        if dist.get_rank() > 0:
            for name in (*_SUMS, "probability_m2"):
                columns[name].zero_()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The columns as numpy arrays (N,), for `save_dynamics`; with several ranks: rank 0's, reduced."""
        return {name: column.cpu().numpy() for name, column in self.columns.items()}


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
