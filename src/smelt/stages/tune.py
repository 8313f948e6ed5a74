"""tune: the starting learning rate of a model, by a range test.

Ports: data (optional), catalogue, selection. Writes `tune.json`: the rate and the curve it was read from.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.selection import read_selection
from smelt.data.images.loader import Batch
from smelt.files.atomic import write_json
from smelt.learning import distributed, setup
from smelt.learning.config import TrainSettings
from smelt.learning.finetuning import Learning
from smelt.learning.pixels import Normaliser
from smelt.learning.trainingdata import TrainingData
from smelt.learning.tuning import choose, range_test, smoothed
from smelt.stages.config import RangeTestSettings
from smelt.stages.context import Context


def run(context: Context[RangeTestSettings]) -> None:
    """Train a fresh model for a while with a growing rate and write what was seen."""
    settings = context.settings
    device = distributed.device_of(context.runtime.device, 0)
    setup.fix_numerics(settings.threads, settings.deterministic, device)
    catalogue = Catalogue.open(context.catalogue)
    selection = read_selection(context.one("selection"))
    loader = setup.make_loader(
        catalogue, context.root, workers=context.runtime.workers, seed=settings.seed,
        max_bad=settings.max_bad_fraction,
    )  # fmt: skip
    data = setup.training_data(catalogue, selection, loader, settings)
    model, inputs, _ = setup.begun_model(settings, selection.num_classes)
    normalise = Normaliser(device, settings.channels_last, inputs.mean, inputs.std)
    model = model.to(device).to(memory_format=normalise.format)
    Learning(model, settings).train()
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


def _batches(
    data: TrainingData, settings: TrainSettings, context: Context[RangeTestSettings]
) -> Iterator[tuple[Batch, Tensor]]:
    """As many training batches as the test takes, with their labels; epochs follow one another."""
    done, epoch, steps = 0, 0, settings.tune.steps
    while done < steps:
        # drawn batch by batch: an epoch may be far more than the test
        size = min(settings.batch_size, len(data.sampler))
        whole = min(len(data.sampler) // size, steps - done)
        batches = data.sampler.batches(epoch, size)[:whole]
        for batch in data.loader.training(batches, settings.augment, epoch):
            yield batch, torch.from_numpy(data.labels_N[batch.rows_B.numpy()]).long()
            done += 1
            context.emit("progress", done=done, total=steps, unit="steps")
        epoch += 1
