"""Which part of a net learns: all of it, all but its first stages, or first the head alone.

What does not learn stays as it is to the bit: no gradient, no weight decay, and its batch norms show their
running statistics and keep them. It goes by the epoch alone, so a run that goes on knows it without a word.
"""

from __future__ import annotations

from torch import Tensor, nn

from smelt.learning.config import TrainSettings
from smelt.models.backbones import head_names
from smelt.models.layers import first_stages, still


class Learning:
    """The part of `model` that learns, epoch by epoch. RecipeError where the net lacks what is asked for."""

    def __init__(self, model: nn.Module, settings: TrainSettings) -> None:
        self.model, self._settings = model, settings
        self._never = first_stages(model, settings.frozen_stages)
        self._asleep: list[nn.Module] = []
        self._all_but(self._never)

    @property
    def first(self) -> set[str]:
        """Names of what learns before the rest; none where all begin together."""
        return head_names(self.model) if self._settings.head_epochs else set()

    def begin(self, epoch: int) -> None:
        """From here on what learns in that epoch (from 0) does; before, all but frozen stages."""
        head_alone = epoch < self._settings.head_epochs
        rest = set(self.model.state_dict()) - head_names(self.model) if head_alone else set()
        self._all_but(self._never | rest)

    def _all_but(self, asleep: set[str]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name not in asleep)
        self._asleep = still(self.model, asleep) if asleep else []

    def train(self) -> None:
        """The model in training mode, but for what does not learn."""
        self.model.train()
        for module in self._asleep:
            module.eval()

    def parameters(self) -> list[nn.Parameter]:
        """Those that learn."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def buffers(self) -> list[Tensor]:
        """Those of modules that learn, in the order of the model's."""
        kept = {id(buffer) for module in self._asleep for buffer in module.buffers()}
        return [buffer for buffer in self.model.buffers() if id(buffer) not in kept]
