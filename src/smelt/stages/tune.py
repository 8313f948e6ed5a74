"""tune: the starting learning rate of a model, by a range test.

Ports: data (optional), catalogue, selection. Writes `tune.json`: the rate and the curve it was read from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, cast

from smelt.learning.config import TrainSettings
from smelt.settings import InKey, NotInKey, Rule
from smelt.stages.base import Context

if TYPE_CHECKING:
    from torch import Tensor

    from smelt.data.images.loader import Batch
    from smelt.learning.loop import TrainingData

VERSION = 2


class StageSettings(TrainSettings):
    """The training that the rate is for; its field `tune` is the test's own."""

    RULES: ClassVar[Mapping[str, Rule]] = {
        "tune": InKey(),
        **dict.fromkeys(
            ("epochs", "learning_rate", "schedule", "warmup_epochs", "step_at", "step_factor", "ema_decay",
             "distillation", "record_epochs", "validate_every_epochs", "validation_view", "max_bad_steps"),
            NotInKey("the range test has one rate a step, no epochs, no average and no validation"),
        ),
    }  # fmt: skip


def run(context: Context) -> None:
    """Train a fresh model for a while with a growing rate and write what was seen."""
    from smelt.artifacts.catalogue import Catalogue
    from smelt.artifacts.files import write_json
    from smelt.artifacts.tables import read_selection
    from smelt.learning import distributed, setup
    from smelt.learning.pixels import Normaliser
    from smelt.learning.tuning import choose, range_test, smoothed
    from smelt.stages.train import images_root

    settings = cast(StageSettings, context.settings)
    device = distributed.device_of(context.runtime.device, 0)
    setup.fix_numerics(settings.threads, settings.deterministic, device)
    catalogue = Catalogue.open(context.one("catalogue") / "catalogue")
    selection = read_selection(context.one("selection"))
    loader = setup.make_loader(
        catalogue, images_root(context), workers=context.runtime.workers, seed=settings.seed,
        max_bad=settings.max_bad_fraction,
    )  # fmt: skip
    data = setup.training_data(catalogue, selection, loader, settings)
    model = setup.new_model(settings, selection.num_classes).to(device)
    normalise = Normaliser(device, settings.channels_last)
    model = model.to(memory_format=normalise.format)
    model.train()
    try:
        curve = range_test(model, _batches(data, settings, context), settings, device, normalise)
    finally:
        loader.close()
    losses = smoothed([loss for _, loss in curve], settings.tune.smoothing)
    write_json(
        context.out / "tune.json",
        {
            "learning_rate": choose(curve, settings.tune),
            "curve": [list(point) for point in curve],
            "smoothed": losses,
        },
    )


def _batches(data: TrainingData, settings: TrainSettings, context: Context) -> Iterator[tuple[Batch, Tensor]]:
    """As many training batches as the test takes, with their labels; epochs follow one another."""
    import torch

    done, epoch, steps = 0, 0, settings.tune.steps
    while done < steps:
        order = data.sampler.order(epoch)  # drawn batch by batch: an epoch may be far more than the test
        size = min(settings.batch_size, len(order))
        whole = min(len(order) // size, steps - done)
        batches = data.sampler.batches(order, size, 0, 1)[:whole]
        for batch in data.loader.training(batches, settings.augment, epoch):
            yield batch, torch.from_numpy(data.labels_N[batch.rows_B.numpy()]).long()
            done += 1
            context.emit("progress", done=done, total=steps, unit="steps")
        epoch += 1
