"""Gradients of one step: forward and backward in parts, bad images left out, summed over the ranks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smelt.data.images.loader import Batch
from smelt.learning.config import TrainSettings
from smelt.learning.distributed import Group
from smelt.learning.finetuning import Learning
from smelt.learning.losses import Lesson
from smelt.learning.mixing import Mix, Mixer
from smelt.learning.pixels import Normaliser, autocast
from smelt.learning.validation import places


@dataclass
class Sums:
    """What a step tells of its batch, summed over all ranks."""

    loss: float
    right: float
    valid: float
    out_of_memory: float
    asked_to_stop: float


Record = tuple[Tensor, Tensor, Tensor]  # rows_B, logits_BC, labels_B


class Gradients:
    """Computes the gradients of a model of what `lesson` teaches."""

    def __init__(
        self,
        model: nn.Module,
        settings: TrainSettings,
        lesson: Lesson,
        normalise: Normaliser,
        group: Group,
        learning: Learning | None = None,
    ) -> None:
        self.model, self.settings, self.lesson = model, settings, lesson
        self.normalise, self.group = normalise, group
        self.learning = learning or Learning(model, settings)
        mixing = settings.mixing
        self.mixer = None if mixing is None else Mixer(mixing, settings.seed, group.rank)

    def compute(
        self, batch: Batch, planned: int, parts: int, asked_to_stop: bool, step: int
    ) -> tuple[Sums, Record]:
        """Forward and backward of this rank's batch in `parts`, of the loss summed over `planned` images.

        Returns sums over all ranks, and what to tell the observers of this one: nothing of a batch that is
        mixed, whose logits are of no single row. Where a rank ran out of memory the gradients are to be
        thrown away.
        """
        self.learning.train()
        sums = torch.zeros(5, dtype=torch.float64, device=self.normalise.device)
        records: list[Record] = []
        rows_B, images = batch.rows_B, batch.images
        if not batch.valid_B.all():  # a bad image is no part of the batch, not even of its statistics
            rows_B, images = rows_B[batch.valid_B], images[batch.valid_B]
        mix = None
        if self.mixer is not None:
            mix = self.mixer.draw(step, len(rows_B), images.shape[2], images.shape[3])
        parts = min(parts, max(len(rows_B) // 2, 1))  # one image by itself has no statistics
        bounds = [len(rows_B) * i // parts for i in range(parts + 1)]
        try:
            for first, last in itertools.pairwise(bounds):
                if last > first:
                    shown = Shown(rows_B, images, first, last, mix)
                    record, part = self._part(shown, planned)
                    records.append(record)
                    sums[:3] += part
        except torch.OutOfMemoryError:
            records.clear()
            sums.zero_()
            sums[3] = 1.0
        sums[4] = float(asked_to_stop)
        record = _joined(records) if records and mix is None else self._empty_record()
        return Sums(*self.group.sum(sums).tolist()), record

    def _part(self, shown: Shown, planned: int) -> tuple[Record, Tensor]:
        """Forward and backward of one micro-batch; its record and (loss, right, valid) sums."""
        rows_B, partners_B, share = shown.rows_B, shown.partners_B, shown.share
        labels_B = self.lesson.labels(rows_B)
        with autocast(self.normalise.device, self.settings.precision), norms_of_one(self.model, len(rows_B)):
            logits_BC = self.model(shown.to(self.normalise))
        logits_BC = logits_BC.float()
        loss = self.lesson.loss(rows_B, logits_BC, partners_B, share).sum()
        torch.autograd.backward(loss / planned)
        seen_BC = logits_BC.detach()
        right = (places(seen_BC, labels_B) < 1).sum()  # an argmax may take any of equal logits
        if partners_B is not None:
            theirs = (places(seen_BC, self.lesson.labels(partners_B)) < 1).sum()
            right = share * right + (1.0 - share) * theirs
        valid = torch.tensor(float(len(rows_B)), device=self.normalise.device)
        record = (rows_B.to(self.normalise.device), seen_BC, labels_B)
        return record, torch.stack([loss.detach().double(), right.double(), valid.double()])

    def _empty_record(self) -> Record:
        """A rank without images still takes part: observers count steps alike on all ranks."""
        rows_B = torch.zeros(0, dtype=torch.int64, device=self.normalise.device)
        return rows_B, torch.zeros(0, 2, device=self.normalise.device), rows_B

    def summed(self) -> list[Tensor]:
        """The gradients of what learns, summed over all ranks."""
        parameters = self.learning.parameters()
        if self.group.world_size > 1:  # the same tensors on every rank, also where one had no images
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.group.sum_all(gradients)
        return gradients


class Shown:
    """The images of one micro-batch, mixed or as they are: those from `first` to before `last` of a batch."""

    def __init__(self, rows_B: Tensor, images: Tensor, first: int, last: int, mix: Mix | None) -> None:
        self.rows_B, self._images = rows_B[first:last], images[first:last]
        self.first, self._last, self._whole = first, last, len(rows_B)
        self.partners_B: Tensor | None = None
        self.share, self._mix = 1.0, mix
        if mix is not None:
            at = mix.partners_B[first:last]
            self.partners_B, self._partners, self.share = rows_B[at], images[at], mix.share

    def share_of(self, images: int) -> slice:
        """Which of so many images beside the batch go with this part of it."""
        return slice(images * self.first // self._whole, images * self._last // self._whole)

    def to(self, normalise: Normaliser) -> Tensor:
        """What the model is given."""
        own = normalise(self._images)
        return own if self._mix is None else self._mix.images(own, normalise(self._partners))


@contextmanager
def norms_of_one(model: nn.Module, images: int) -> Iterator[None]:
    """For a batch of one image, batch norms use their running statistics: its own say nothing, and torch
    refuses to compute them where the image has shrunk to one pixel."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    norms = norms if images == 1 else []
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def _joined(records: list[Record]) -> Record:
    if len(records) == 1:
        return records[0]
    rows, logits, labels = zip(*records)
    return torch.cat(rows), torch.cat(logits), torch.cat(labels)
