"""What the rows of a batch are taught, and the loss of logits against it: labels, soft labels, a teacher."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from smelt.learning.config import TrainSettings
from smelt.learning.distillation import Teacher, distillation_loss
from smelt.learning.trainingdata import TrainingData


class Lesson:
    """What each catalogue row is taught as, and at what weight.

    data: its labels_N and weights_N are by catalogue row; `soft` says what some rows are taught as beside
    their label. teacher: whose scores are distilled.
    """

    def __init__(
        self, settings: TrainSettings, data: TrainingData, teacher: Teacher | None, device: torch.device
    ) -> None:
        self.settings, self.data, self.teacher, self.device = settings, data, teacher, device

    def labels(self, rows_B: Tensor) -> Tensor:
        """Labels (B,) int64 of rows, on the device."""
        found = torch.from_numpy(self.data.labels_N[rows_B.numpy()])
        return found.long().to(self.device, non_blocking=True)

    def loss(self, rows_B: Tensor, logits_BC: Tensor) -> Tensor:
        """Weighted loss (B,) of float32 logits, each line against what its row is taught."""
        loss_B = self._label_loss(rows_B, logits_BC)
        if self.teacher is not None:
            distil = self.settings.distillation
            soft_BC = self.teacher.targets(rows_B.numpy(), logits_BC.shape[1]).to(self.device)
            soft_B = distillation_loss(logits_BC, soft_BC, distil.temperature)
            loss_B = (1.0 - distil.weight) * loss_B + distil.weight * soft_B
        weights_N: NDArray[np.float32] | None = self.data.weights_N
        if weights_N is not None:
            loss_B = loss_B * torch.from_numpy(weights_N[rows_B.numpy()]).to(self.device)
        return loss_B

    def _label_loss(self, rows_B: Tensor, logits_BC: Tensor) -> Tensor:
        smoothing = self.settings.label_smoothing
        targets = self._targets(rows_B, logits_BC.shape[1])
        return F.cross_entropy(logits_BC, targets, reduction="none", label_smoothing=smoothing)

    def _targets(self, rows_B: Tensor, num_outputs: int) -> Tensor:
        """Labels (B,), or (B, C) what the rows are taught as where some are taught softly."""
        if self.data.soft is None:
            return self.labels(rows_B)
        rows = rows_B.numpy()
        targets = self.data.soft.targets(rows, self.data.labels_N[rows], num_outputs)
        return torch.from_numpy(targets).to(self.device)
