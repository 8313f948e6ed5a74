"""The learning-rate range test (Smith 2017, section 3.3): train with a rate that grows, watch the loss."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from smelt.data.images.loader import Batch
from smelt.errors import TrainingError
from smelt.learning.config import TrainSettings
from smelt.learning.gradients import norms_of_one
from smelt.learning.optimisation import make_optimiser, set_learning_rate
from smelt.learning.pixels import Normaliser, autocast
from smelt.learning.sections import TuneSettings

Curve = list[tuple[float, float]]  # (learning rate, loss of the step)


def rate_at(step: int, settings: TuneSettings) -> float:
    """The rate of step 0..steps-1, growing by a constant factor from `lowest` to `highest`."""
    growth = math.log(settings.highest / settings.lowest)
    return settings.lowest * math.exp(growth * step / (settings.steps - 1))


def smoothed(losses: list[float], smoothing: float) -> list[float]:
    """Exponential moving average, free of the bias towards its start (Kingma & Ba 2015, section 3)."""
    average, result = 0.0, []
    for i, loss in enumerate(losses, start=1):
        average = smoothing * average + (1.0 - smoothing) * loss
        result.append(average / (1.0 - smoothing**i))
    return result


def choose(curve: Curve, settings: TuneSettings) -> float:
    """`fraction` of the rate with the least smoothed loss; TrainingError if the loss never fell."""
    losses = smoothed([loss for _, loss in curve], settings.smoothing)
    best = min(range(len(losses)), key=losses.__getitem__)
    if best == 0:
        raise TrainingError(
            f"the range test's loss never fell from {losses[0]:.3f}: lower tune.lowest "
            f"({settings.lowest:g}), or set learning_rate to a number"
        )
    return curve[best][0] * settings.fraction


def range_test(
    model: nn.Module,
    batches: Iterable[tuple[Batch, torch.Tensor]],
    settings: TrainSettings,
    device: torch.device,
    normalise: Normaliser,
) -> Curve:
    """Train `model` on up to `tune.steps` (batch, labels_B); the curve ends where the loss diverges.

    One device does the batch of all ranks: in as many parts as they and their micro-batches would, and in
    more where the memory is short. TrainingError if it is too short for a single image.
    """
    tune = settings.tune
    optimiser = make_optimiser(model, settings)
    parts = settings.accumulate_steps * settings.world_size
    curve: Curve = []
    for step, (batch, labels_B) in zip(range(tune.steps), batches):
        if not batch.valid_B.any():
            continue
        set_learning_rate(optimiser, rate_at(step, tune))
        images, labels = batch.images[batch.valid_B], labels_B[batch.valid_B]
        value, parts = _gradients(model, images, labels, parts, settings, settings.seed + step, normalise)
        if not math.isfinite(value):
            break
        curve.append((rate_at(step, tune), value))
        losses = smoothed([loss for _, loss in curve], tune.smoothing)
        if len(curve) > 10 and losses[-1] > tune.divergence * min(losses):
            break
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimiser.step()
    if not curve:
        raise TrainingError("the range test's first loss is not finite: try precision: fp32")
    return curve


def _gradients(
    model: nn.Module,
    images: Tensor,
    labels_B: Tensor,
    parts: int,
    settings: TrainSettings,
    seed: int,
    normalise: Normaliser,
) -> tuple[float, int]:
    """Gradients of the mean loss of a batch, done in `parts` or, out of memory, in twice as many.

    Returns the loss and in how many parts it was done.
    """
    buffers = list(model.buffers())
    before = [buffer.clone() for buffer in buffers]
    while True:
        model.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        try:
            return _in_parts(model, images, labels_B, parts, settings, normalise), parts
        except torch.OutOfMemoryError as error:
            if parts >= len(images):
                raise TrainingError(
                    "out of memory with a single image: use a smaller model or input size"
                ) from error
        parts *= 2
        for buffer, value in zip(buffers, before):
            buffer.copy_(value)
        if normalise.device.type == "cuda":
            torch.cuda.empty_cache()


def _in_parts(
    model: nn.Module,
    images: Tensor,
    labels_B: Tensor,
    parts: int,
    settings: TrainSettings,
    normalise: Normaliser,
) -> float:
    """Forward and backward part by part; the mean loss of the whole."""
    total = 0.0
    parts = min(parts, max(len(images) // 2, 1))  # one image by itself has no statistics
    for part, labels in zip(images.tensor_split(parts), labels_B.tensor_split(parts)):
        with autocast(normalise.device, settings.precision), norms_of_one(model, len(part)):
            logits_BC = model(normalise(part))
        loss = nn.functional.cross_entropy(
            logits_BC.float(), labels.to(normalise.device), reduction="sum",
            label_smoothing=settings.label_smoothing,
        )  # fmt: skip
        torch.autograd.backward(loss / len(images))
        total += float(loss.detach()) / len(images)
    return total
