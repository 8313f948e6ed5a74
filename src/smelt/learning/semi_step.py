"""Gradients of a semi-supervised step: labelled images and unlabelled ones, one net or a pair of them.

What nets say of the images as they are learnt from otherwise, in `eval` mode and without a gradient, refines
the labels that are not trusted and guesses those of the unlabelled images; what they learn from is these
targets, of labelled images as they are and of unlabelled ones strongly augmented. Mixed pairs are of images
of one rank and micro-batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smelt.data.images.loader import Batch
from smelt.learning.config import TrainSettings
from smelt.learning.distributed import Group
from smelt.learning.finetuning import Learning
from smelt.learning.gradients import Gradients, Record, Shown, Sums, norms_of_one
from smelt.learning.heads import mixed
from smelt.learning.losses import Lesson
from smelt.learning.mixing import beta, permutation
from smelt.learning.pixels import Normaliser, autocast
from smelt.learning.semisupervised import guessed, ramped, refined, spread_loss, squared_loss
from smelt.learning.standing import Observer
from smelt.learning.thresholds import Thresholds
from smelt.learning.validation import places
from smelt.models.pair import Pair, mean_said
from smelt.random import mixed as hashed
from smelt.random import unit

_SHARE, _ORDER = 16, 17  # streams of numbers, others than those of `mixing`


@dataclass(frozen=True)
class Accompanied(Batch):
    """A labelled batch, and unlabelled images beside it: `weak` shown as it is, `strong` the same rows."""

    weak: Batch
    strong: Batch


class SemiGradients(Gradients):
    """Computes the gradients of a semi-supervised step; of `networks`, where the model is a Pair."""

    def __init__(
        self,
        model: nn.Module,
        settings: TrainSettings,
        lesson: Lesson,
        normalise: Normaliser,
        group: Group,
        learning: Learning,
        steps_per_epoch: int,
    ) -> None:
        super().__init__(model, settings, lesson, normalise, group, learning)
        assert settings.semi is not None
        self.semi, self.num_outputs = settings.semi, lesson.data.num_outputs
        self.nets = list(model.nets) if isinstance(model, Pair) else [model]
        self.warm_steps = settings.semi.warmup_epochs * steps_per_epoch
        self.ramp_steps = settings.semi.ramp_epochs * steps_per_epoch
        self.thresholds = Thresholds(
            self.num_outputs, settings.semi.threshold_momentum, settings.semi.threshold, normalise.device
        )
        self._step, self._beside = 0, (torch.empty(0), torch.empty(0))
        self._sums = torch.zeros(2 + self.num_outputs, dtype=torch.float64, device=normalise.device)

    @property
    def observers(self) -> list[Observer]:
        """What is kept from step to step, to be saved with the training."""
        return [self.thresholds]

    def compute(
        self, batch: Batch, planned: int, parts: int, asked_to_stop: bool, step: int
    ) -> tuple[Sums, Record]:
        """As of labelled batches alone; what observers are told is what the nets say of labelled images as
        they are, the mean of a pair."""
        self._step = step
        self._sums.zero_()
        self._beside = (batch.images[:0], batch.images[:0])
        if isinstance(batch, Accompanied):
            valid_B = batch.weak.valid_B & batch.strong.valid_B
            self._beside = (batch.weak.images[valid_B], batch.strong.images[valid_B])
        sums, record = super().compute(batch, planned, parts, asked_to_stop, step)
        if not sums.out_of_memory:
            self.thresholds.move(self.group.sum(self._sums))
        return sums, record

    def _part(self, shown: Shown, planned: int) -> tuple[Record, Tensor]:
        """Forward and backward of one micro-batch and its share of the unlabelled images."""
        if self._step < self.warm_steps:
            return self._warm(shown, planned)
        rows_B, labels_B = shown.rows_B, self.lesson.labels(shown.rows_B)
        images = shown.to(self.normalise)
        weak, strong = (self.normalise(images[shown.share_of(len(images))]) for images in self._beside)
        said_KBC = self._said(torch.cat([images, weak]))
        own_KBC, theirs_KBC = said_KBC[:, : len(rows_B)], said_KBC[:, len(rows_B) :]
        targets_BC = self._refined(rows_B, own_KBC.exp().mean(dim=0))
        weights_B = self._weights(rows_B)
        mean_BC = theirs_KBC.exp().mean(dim=0)
        sure_B = self.thresholds.passed(mean_BC)
        self._sums += Thresholds.sums(mean_BC)
        guesses_BC = guessed(theirs_KBC.exp()[:, sure_B], self.semi.temperature)
        inputs = torch.cat([images, strong[sure_B]])
        loss = self._loss(inputs, targets_BC, guesses_BC, weights_B, planned, shown.first)
        seen_BC = mean_said(list(own_KBC))
        return self._told(rows_B, seen_BC, labels_B, loss * planned)

    def _warm(self, shown: Shown, planned: int) -> tuple[Record, Tensor]:
        """Each net learns from the labels alone."""
        rows_B, labels_B, images = shown.rows_B, self.lesson.labels(shown.rows_B), shown.to(self.normalise)
        said, total = [], torch.zeros((), device=self.normalise.device)
        for net in self.nets:
            logits_BC = self._forward(net, images)
            loss = self.lesson.loss(rows_B, logits_BC).sum()
            torch.autograd.backward(loss / planned)
            said.append(logits_BC.detach())
            total += loss.detach() / len(self.nets)
        seen_BC = said[0] if len(said) == 1 else mean_said(said)
        return self._told(rows_B, seen_BC, labels_B, total)

    def _loss(
        self, inputs: Tensor, targets_BC: Tensor, guesses_BC: Tensor, weights_B: Tensor, planned: int, at: int
    ) -> Tensor:
        """Backward of all nets' losses; their mean, of the planned batch's mean. (DivideMix eq. 7 to 12.)"""
        semi, labelled = self.semi, len(targets_BC)
        both_BC = torch.cat([targets_BC, guesses_BC])
        share, partners_B = self._mixing(len(inputs), at)
        inputs = inputs * share + inputs[partners_B] * (1.0 - share)
        both_BC = both_BC * share + both_BC[partners_B] * (1.0 - share)
        ramp = semi.weight * ramped(self._step - self.warm_steps, self.ramp_steps)
        total = torch.zeros((), device=self.normalise.device)
        for net in self.nets:
            logits_BC = self._forward(net, inputs)
            known_B = F.cross_entropy(logits_BC[:labelled], both_BC[:labelled], reduction="none")
            loss = (known_B * weights_B).sum() / planned
            if len(inputs) > labelled and ramp:
                rest = logits_BC[labelled:], both_BC[labelled:]
                guess_B = (
                    squared_loss(*rest)
                    if semi.loss == "squared"
                    else F.cross_entropy(*rest, reduction="none")
                )
                loss = loss + ramp * guess_B.sum() / (planned * semi.ratio)
            if semi.spread:
                loss = loss + semi.spread * spread_loss(logits_BC) * labelled / planned
            torch.autograd.backward(loss)
            total += loss.detach() / len(self.nets)
        return total

    def _mixing(self, images: int, at: int) -> tuple[float, Tensor]:
        """How much of each image is its own, at least half (MixMatch eq. 9), and its partner's place."""
        where = (self.settings.seed, self._step)
        if not self.semi.mixup:
            return 1.0, torch.arange(images)
        share = beta(self.semi.mixup, _numbers(*where, _SHARE))
        return max(share, 1.0 - share), permutation(images, hashed(*where, _ORDER, self.group.rank, at))

    @torch.no_grad()
    def _said(self, images: Tensor) -> Tensor:
        """Log-probabilities (K, B, C) of each net as it predicts."""
        self.model.eval()
        with mixed(self.model, self.normalise.device, self.settings.precision):
            said = [torch.log_softmax(net(images).float(), dim=1) for net in self.nets]
        self.learning.train()
        return torch.stack(said)

    def _forward(self, net: nn.Module, images: Tensor) -> Tensor:
        with autocast(self.normalise.device, self.settings.precision), norms_of_one(net, len(images)):
            logits_BC: Tensor = net(images)
        return logits_BC.float()

    def _refined(self, rows_B: Tensor, said_BC: Tensor) -> Tensor:
        """What labelled rows are taught: their labels, as far as the selection trusts them."""
        labels_B = self.lesson.labels(rows_B)
        labels_BC = F.one_hot(labels_B, self.num_outputs).float()
        soft = self.lesson.data.soft
        if soft is None:
            return labels_BC
        rows = rows_B.numpy()
        taught = soft.targets(rows, self.lesson.data.labels_N[rows], self.num_outputs)
        trust_B = torch.from_numpy(taught).to(labels_BC.device).gather(1, labels_B[:, None]).squeeze(1)
        return refined(labels_BC, trust_B, said_BC, self.semi.temperature)

    def _weights(self, rows_B: Tensor) -> Tensor:
        weights_N = self.lesson.data.weights_N
        if weights_N is None:
            return torch.ones(len(rows_B), device=self.normalise.device)
        return torch.from_numpy(weights_N[rows_B.numpy()]).to(self.normalise.device)

    def _told(self, rows_B: Tensor, seen_BC: Tensor, labels_B: Tensor, loss: Tensor) -> tuple[Record, Tensor]:
        """A micro-batch's record, and its sums of loss, right and valid."""
        right = (places(seen_BC, labels_B) < 1).sum()
        valid = torch.tensor(float(len(rows_B)), device=self.normalise.device)
        record = (rows_B.to(self.normalise.device), seen_BC, labels_B)
        return record, torch.stack([loss.double(), right.double(), valid.double()])


def _numbers(*counters: int) -> Iterator[float]:
    """Numbers in [0, 1) without an end."""
    return (unit(hashed(*counters, i)) for i in itertools.count())
