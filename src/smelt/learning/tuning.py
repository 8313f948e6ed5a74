"""The learning-rate range test (Smith 2017, section 3.3): train with a rate that grows, watch the loss."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from smelt.data.loader import Batch
from smelt.errors import TrainingError
from smelt.learning.config import TrainSettings, TuneSettings
from smelt.learning.images import Normaliser, autocast
from smelt.learning.optimisation import make_optimiser, set_learning_rate

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
    """Train `model` on up to `tune.steps` (batch, labels_B); the curve ends where the loss diverges."""
    tune = settings.tune
    optimiser = make_optimiser(model, settings)
    curve: Curve = []
    for step, (batch, labels_B) in zip(range(tune.steps), batches):
        if not batch.valid_B.any():
            continue
        torch.manual_seed(settings.seed + step)
        set_learning_rate(optimiser, rate_at(step, tune))
        optimiser.zero_grad(set_to_none=True)
        with autocast(device, settings.precision):
            logits_BC = model(normalise(batch.images[batch.valid_B]))
        loss = nn.functional.cross_entropy(
            logits_BC.float(),
            labels_B[batch.valid_B].to(device),
            label_smoothing=settings.label_smoothing,
        )
        value = float(loss.detach())
        if not math.isfinite(value):
            break
        curve.append((rate_at(step, tune), value))
        losses = smoothed([loss for _, loss in curve], tune.smoothing)
        if len(curve) > 10 and losses[-1] > tune.divergence * min(losses):
            break
        torch.autograd.backward(loss)
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimiser.step()
    if not curve:
        raise TrainingError("the range test's first loss is not finite: try precision: fp32")
    return curve
