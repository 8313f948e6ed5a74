"""Early-learning regularisation (ELR, Liu et al. 2020, section 4.3): nets learn clean labels first, so what
they said of a row early holds them back from memorising its wrong label later.

The paper keeps all C numbers of each row's target. Here the best K are kept, as float16: 16 M rows with
K = 10 of 5,000 classes take 640 MB instead of 320 GB, on each rank. With K ≥ C it is the paper's, to
rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from smelt.learning.distributed import Group
from smelt.learning.sections import ElrSettings

MOST = 1.0 - 1e-4  # of ⟨t, p⟩: beyond it the logarithm has no gradient, as in the authors' code


class EarlyTargets:
    """Targets t of catalogue rows: t ← β t + (1 − β) p at each visit, 0 at first. An observer of training.

    Every rank has those of all rows: as each step ends the ranks tell one another what changed. Of a row that
    comes several times in a step the last visit stays, as in the authors' code.
    """

    def __init__(
        self, num_rows: int, num_outputs: int, settings: ElrSettings, device: torch.device, group: Group
    ) -> None:
        top = min(settings.top, num_outputs)
        kind = torch.int16 if num_outputs <= 1 << 15 else torch.int32
        self.settings, self.num_outputs, self.group = settings, num_outputs, group
        # the classes of a row are K different ones from the beginning, so `stored` may write them at once
        self.classes_NK = torch.arange(top, dtype=kind, device=device).repeat(num_rows, 1)
        self.shares_NK = torch.zeros((num_rows, top), dtype=torch.float16, device=device)

    def stored(self, rows_B: Tensor) -> Tensor:
        """Targets (B, C) float32 of catalogue rows as they are."""
        rows_B = rows_B.to(self.shares_NK.device)
        found = torch.zeros(len(rows_B), self.num_outputs, device=rows_B.device)
        return found.scatter_(1, self.classes_NK[rows_B].long(), self.shares_NK[rows_B].float())

    def moved(self, rows_B: Tensor, logits_BC: Tensor) -> Tensor:
        """Targets (B, C) with this visit in them; nothing is kept yet."""
        beta = self.settings.beta
        return self.stored(rows_B).mul_(beta).add_(torch.softmax(logits_BC.detach(), dim=1), alpha=1.0 - beta)

    def begin_epoch(self, epoch: int) -> None:
        """Epochs are all alike."""

    @torch.no_grad()
    def update(self, rows_B: Tensor, logits_BC: Tensor, labels_B: Tensor) -> None:
        """Keep what a step's visits have made of their targets; to be called on all ranks."""
        device, top = self.shares_NK.device, self.shares_NK.shape[1]
        lines = torch.zeros((0, 1 + 2 * top), dtype=torch.float64, device=device)
        if len(rows_B):
            shares, classes = self.moved(rows_B, logits_BC).topk(top, dim=1)
            columns = [rows_B.to(device)[:, None], classes, shares.half()]
            lines = torch.cat([column.double() for column in columns], dim=1)  # all are exact in it
        lines = _interleaved(self.group.gathered(lines))
        lines = lines[_last_of_each(lines[:, 0])]
        rows = lines[:, 0].long()
        self.classes_NK[rows] = lines[:, 1 : 1 + top].to(self.classes_NK.dtype)
        self.shares_NK[rows] = lines[:, 1 + top :].half()

    def exchange(self) -> None:
        """Done in every `update`."""

    def reduce(self) -> None:
        """Every rank has all of it."""

    def state_dict(self) -> dict[str, Tensor]:
        """Classes (N, K) and shares (N, K), for a checkpoint."""
        return {"classes": self.classes_NK, "shares": self.shares_NK}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint, of any number of ranks."""
        self.classes_NK.copy_(state["classes"])
        self.shares_NK.copy_(state["shares"])


def early_loss(logits_BC: Tensor, targets_BC: Tensor) -> Tensor:
    """log(1 − ⟨t, p⟩), (B,): what ELR adds to the loss, times λ (Liu et al. 2020, eq. 6)."""
    inner_B = (torch.softmax(logits_BC, dim=1) * targets_BC).sum(dim=1)
    return torch.log1p(-inner_B.clamp(max=MOST))


def _interleaved(parts: list[Tensor]) -> Tensor:
    """Lines in the order of the whole batch, of which rank r has every W-th image from r on."""
    places = [torch.arange(len(part), device=part.device) * len(parts) + i for i, part in enumerate(parts)]
    return torch.cat(parts)[torch.argsort(torch.cat(places))]


def _last_of_each(values_B: Tensor) -> Tensor:
    """Place of the last of each different value."""
    order_B = torch.argsort(values_B, stable=True)
    sorted_B = values_B[order_B]
    last_B = torch.ones(len(values_B), dtype=torch.bool, device=values_B.device)
    last_B[:-1] = sorted_B[1:] != sorted_B[:-1]
    return order_B[last_B]
