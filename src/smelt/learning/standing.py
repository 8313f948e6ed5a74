"""How a training stands: its progress, who watches it, and all that a checkpoint holds of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from smelt.artifacts.checkpoint import Checkpoint
from smelt.learning.optimisation import Average, load_optimiser, load_weights, optimiser_tensors


class Observer(Protocol):
    """Who watches training forwards. `smelt.mining.recorder.Recorder` is one; the loop knows none.

    What a loss keeps of each row is one too: it is in the checkpoint by the same way.
    """

    def begin_epoch(self, epoch: int) -> None: ...

    def update(self, rows_B: Tensor, logits_BC: Tensor, labels_B: Tensor) -> None:
        """Called once a step, on all ranks alike, with the raw float32 logits of the step's own forward pass:
        after the step, and not for one that was skipped."""

    def exchange(self) -> None:
        """Called on all ranks now and then: the ranks tell one another what they saw."""

    def reduce(self) -> None:
        """Called on all ranks before a checkpoint: brings what is recorded to rank 0."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


@dataclass
class Progress:
    """Where training is; all of it is in the checkpoint.

    loss, right, seen: sums of the epoch so far. rate_factor: 0.5 after a roll-back. bad_in_a_row, skipped:
    steps whose loss or gradient was not finite. masked: visits to images that cannot be read. parts:
    micro-batches of a step.
    """

    step: int = 0
    loss: float = 0.0
    right: float = 0.0
    seen: float = 0.0
    rate_factor: float = 1.0
    bad_in_a_row: int = 0
    skipped: int = 0
    masked: int = 0
    parts: int = 1
    metrics: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Standing:
    """All of a training but its progress that a checkpoint holds."""

    model: nn.Module
    optimiser: Optimizer
    average: Average | None
    observers: Sequence[Observer]

    def saved(self, progress: Progress) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and state of a checkpoint; observers have to be reduced."""
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"optimiser/{n}": v for n, v in optimiser_tensors(self.optimiser, self.model).items()}
        if self.average is not None:
            tensors |= {f"average/{name}": value for name, value in self.average.state_dict().items()}
        for i, observer in enumerate(self.observers):
            tensors |= {f"observer{i}/{name}": value for name, value in observer.state_dict().items()}
        return tensors, {"progress": asdict(progress)}

    def load(self, found: Checkpoint) -> Progress:
        """Take up a checkpoint; the progress that it holds."""
        load_weights(self.model, _below(found.tensors, "model/"), "the checkpoint")
        load_optimiser(self.optimiser, self.model, _below(found.tensors, "optimiser/"))
        if self.average is not None:
            self.average.load_state_dict(_below(found.tensors, "average/"))
        for i, observer in enumerate(self.observers):
            observer.load_state_dict(_below(found.tensors, f"observer{i}/"))
        return Progress(**found.state["progress"])


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
