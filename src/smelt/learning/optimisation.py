"""What changes the weights: optimiser, learning-rate schedule, running average, and their tensors by name."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from smelt.errors import ArtifactError
from smelt.learning.config import TrainSettings
from smelt.models.layers import rate_scales


def make_optimiser(
    model: nn.Module, settings: TrainSettings, apart: Collection[str] = ()
) -> torch.optim.Optimizer:
    """SGD or AdamW of what learns. Vectors (biases, scales of norms) get no weight decay (He et al. 2019,
    section 3.1). With `layer_decay` each layer has a rate of its own, `rate_scale` of the schedule's.

    apart: names of parameters that begin to learn before the others. They have groups of their own: a fused
    optimiser takes a group's momenta all from the past, or none.
    """
    scales: dict[str, float] = {}
    if settings.layer_decay is not None:
        scales = rate_scales(model, settings.layer_decay)
    trained = [
        ((scales.get(name, 1.0), name in apart), p) for name, p in model.named_parameters() if p.requires_grad
    ]
    groups: list[dict[str, Any]] = []
    for part in sorted({part for part, _ in trained}, reverse=True):
        own, scale = [p for one, p in trained if one == part], part[0]
        matrices, vectors = [p for p in own if p.ndim > 1], [p for p in own if p.ndim <= 1]
        groups += [
            {"params": matrices, "weight_decay": settings.weight_decay, "rate_scale": scale},
            {"params": vectors, "weight_decay": 0.0, "rate_scale": scale},
        ]
    groups = [group for group in groups if group["params"]]
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, fused=True)
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, nesterov=settings.nesterov, fused=True)


def learning_rate_at(
    step: int, total_steps: int, steps_per_epoch: int, peak: float, s: TrainSettings
) -> float:
    """The rate of step 0..total_steps-1: linear warm-up to `peak`, then the schedule; cosine ends near 0.

    Epochs in which the head alone learns come before both, at `peak`, unless it learns alone to the end.
    """
    if s.head_epochs < s.epochs:
        head_steps = s.head_epochs * steps_per_epoch
        if step < head_steps:
            return peak
        step, total_steps = step - head_steps, total_steps - head_steps
    warmup_steps = round(s.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if s.schedule == "constant":
        return peak
    if s.schedule == "step":
        return peak * s.step_factor ** sum(step >= round(at * total_steps) for at in s.step_at)
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    return peak * 0.5 * (1.0 + math.cos(math.pi * done))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Use `rate` for all parameters, or what of it is their layer's."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("rate_scale", 1.0)


def optimiser_tensors(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """State of the optimiser as `<parameter>/<what>` → tensor."""
    return {
        f"{name}/{what}": value
        for name, parameter in model.named_parameters()
        for what, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimiser(optimiser: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Take up the state that `optimiser_tensors` gave, in the memory layout of the parameters."""
    parameters = dict(model.named_parameters())
    optimiser.state.clear()
    for key, value in tensors.items():
        name, _, what = key.rpartition("/")
        parameter = parameters[name]
        if what == "step":  # a fused optimiser counts on the parameter's device, in float32
            like = torch.empty(value.shape, dtype=torch.float32, device=parameter.device)
        elif value.shape == parameter.shape:
            like = torch.empty_like(parameter)
        else:
            like = torch.empty_like(value, device=parameter.device)
        optimiser.state[parameter][what] = like.copy_(value)


class Average:
    """Exponential moving average of a model's weights and buffers.

    The decay grows to its value over the first steps, so that short trainings are not an average with the
    initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._names = list(model.state_dict())
        self.values = [tensor.detach().clone() for tensor in model.state_dict().values()]
        self._float = [i for i, tensor in enumerate(self.values) if tensor.is_floating_point()]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model as it is after step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now = list(model.state_dict().values())
        torch._foreach_lerp_(
            [self.values[i] for i in self._float], [now[i] for i in self._float], 1.0 - decay
        )
        for i in set(range(len(now))) - set(self._float):
            self.values[i].copy_(now[i])

    def state_dict(self) -> dict[str, Tensor]:
        """Weights by the model's names."""
        return dict(zip(self._names, self.values))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up saved weights."""
        for name, value in zip(self._names, self.values):
            value.copy_(state[name])


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> list[str]:
    """Copy weights into `model`; returns the names that were left as they are, their shapes being others.

    ArtifactError, naming `origin`, if names are missing or unknown.
    """
    own = model.state_dict()
    if set(own) != set(tensors):
        differing = sorted(set(own) ^ set(tensors))
        raise ArtifactError(f"{origin} holds the weights of another model ({', '.join(differing[:3])}, …)")
    left = [name for name, value in own.items() if value.shape != tensors[name].shape]
    with torch.no_grad():
        for name, value in own.items():
            if name not in left:
                value.copy_(tensors[name])
    return left
