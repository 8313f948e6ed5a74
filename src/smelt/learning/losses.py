"""What the rows of a batch are taught, and the loss of logits against it: labels, soft labels, a teacher."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from smelt.learning.config import TrainSettings
from smelt.learning.distillation import Teacher, distillation_loss
from smelt.learning.distributed import Group
from smelt.learning.early_learning import EarlyTargets, early_loss
from smelt.learning.standing import Observer
from smelt.learning.trainingdata import TrainingData


class Lesson:
    """What each catalogue row is taught as, and at what weight.

    data: its labels_N and weights_N are by catalogue row; `soft` says what some rows are taught as beside
    their label. teacher: whose scores are distilled.
    """

    def __init__(
        self,
        settings: TrainSettings,
        data: TrainingData,
        teacher: Teacher | None,
        device: torch.device,
        group: Group,
    ) -> None:
        self.settings, self.data, self.teacher, self.device = settings, data, teacher, device
        self.early: EarlyTargets | None = None
        if settings.elr is not None:
            rows = len(data.labels_N)
            self.early = EarlyTargets(rows, data.num_outputs, settings.elr, device, group)

    @property
    def observers(self) -> list[Observer]:
        """What the loss keeps of rows, to be told of every step and saved with the training."""
        return [] if self.early is None else [self.early]

    def labels(self, rows_B: Tensor) -> Tensor:
        """Labels (B,) int64 of rows, on the device."""
        found = torch.from_numpy(self.data.labels_N[rows_B.numpy()])
        return found.long().to(self.device, non_blocking=True)

    def loss(
        self, rows_B: Tensor, logits_BC: Tensor, partners_B: Tensor | None = None, share: float = 1.0
    ) -> Tensor:
        """Weighted loss (B,) of float32 logits, each line against what its row is taught.

        partners_B: the rows that images are mixed with, `share` of them being their own: the loss is share
        times that of the row, with its weight, and 1 − share times that of the partner, with the partner's.
        That is the loss of the targets mixed as the images are, up to what has no gradient (the entropy of
        a teacher's targets).
        """
        if partners_B is None:
            targets_BC = None if self.early is None else self.early.moved(rows_B, logits_BC)
            return self._weighted(rows_B, self._taught(rows_B, logits_BC), logits_BC, targets_BC)
        targets_BC = None
        if self.early is not None:
            targets_BC = self.early.stored(rows_B).mul_(share)
            targets_BC.add_(self.early.stored(partners_B), alpha=1.0 - share)
        both = [
            self._weighted(rows, self._taught(rows, logits_BC), logits_BC, targets_BC)
            for rows in (rows_B, partners_B)
        ]
        return share * both[0] + (1.0 - share) * both[1]

    def _weighted(self, rows_B: Tensor, loss_B: Tensor, logits_BC: Tensor, early_BC: Tensor | None) -> Tensor:
        """The loss and what ELR adds to it, times the rows' weights."""
        if early_BC is not None:
            assert self.settings.elr is not None
            loss_B = loss_B + self.settings.elr.weight * early_loss(logits_BC, early_BC)
        weights_N: NDArray[np.float32] | None = self.data.weights_N
        if weights_N is not None:
            loss_B = loss_B * torch.from_numpy(weights_N[rows_B.numpy()]).to(self.device)
        return loss_B

    def _taught(self, rows_B: Tensor, logits_BC: Tensor) -> Tensor:
        """The loss (B,) against labels and teacher, without weights."""
        loss_B = self._label_loss(rows_B, logits_BC)
        if self.teacher is None:
            return loss_B
        distil = self.settings.distillation
        soft_BC = self.teacher.targets(rows_B.numpy(), logits_BC.shape[1]).to(self.device)
        soft_B = distillation_loss(logits_BC, soft_BC, distil.temperature)
        return (1.0 - distil.weight) * loss_B + distil.weight * soft_B

    def _label_loss(self, rows_B: Tensor, logits_BC: Tensor) -> Tensor:
        smoothing = self.settings.label_smoothing
        targets = self._targets(rows_B, logits_BC.shape[1])
        if self.settings.loss == "gce":
            return generalised_cross_entropy(logits_BC, targets, self.settings.gce_q, smoothing)
        return F.cross_entropy(logits_BC, targets, reduction="none", label_smoothing=smoothing)

    def _targets(self, rows_B: Tensor, num_outputs: int) -> Tensor:
        """Labels (B,), or (B, C) what the rows are taught as where some are taught softly."""
        if self.data.soft is None:
            return self.labels(rows_B)
        rows = rows_B.numpy()
        targets = self.data.soft.targets(rows, self.data.labels_N[rows], num_outputs)
        return torch.from_numpy(targets).to(self.device)


def generalised_cross_entropy(logits_BC: Tensor, targets: Tensor, q: float, smoothing: float = 0.0) -> Tensor:
    """(1 − p_y^q) / q of each line, (B,) (Zhang and Sabuncu 2018, eq. 6), 0 < q ≤ 1.

    targets: labels (B,), or shares (B, C), which weigh the loss of each class. smoothing: share of the target
    that is spread over all classes.
    """
    each_BC = torch.expm1(q * F.log_softmax(logits_BC, dim=1)) / -q
    if targets.ndim == 1:
        loss_B = each_BC.gather(1, targets[:, None]).squeeze(1)
    else:
        loss_B = (each_BC * targets).sum(dim=1)
    return loss_B if not smoothing else (1.0 - smoothing) * loss_B + smoothing * each_BC.mean(dim=1)
