"""Class-averaged accuracy of a model on labelled rows, during training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smelt.data.config import ViewSettings
from smelt.data.images.loader import Loader
from smelt.learning.distributed import Group
from smelt.learning.heads import mixed
from smelt.learning.pixels import Normaliser


def view_logits(
    model: nn.Module,
    loader: Loader,
    rows: NDArray[np.int64],
    view: ViewSettings,
    batch_size: int,
    normalise: Normaliser,
    precision: str,
    weights: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """(logits_BC float32 averaged over the view's crops, valid_B) in the order of `rows`.

    The classifier and what follows it compute in float32, whatever `precision` is (see `heads`). The logits
    of a bad image are zeros. `weights` are used instead of the model's own where given.
    """
    device = normalise.device
    per_batch = max(1, batch_size // view.crops)
    model.eval()
    for batch in loader.views(rows, view, per_batch):
        crops = batch.images.flatten(0, 1)
        with torch.inference_mode(), mixed(model, device, precision):
            images = normalise(crops)
            if weights is None:
                logits = model(images)
            else:
                logits = torch.func.functional_call(model, dict(weights), (images,))
        valid_B = batch.valid_B.to(device)
        mean_BC = logits.float().unflatten(0, (len(valid_B), view.crops)).mean(dim=1)
        yield mean_BC.masked_fill(~valid_B[:, None], 0.0), valid_B


def accuracy(
    model: nn.Module,
    loader: Loader,
    rows: NDArray[np.int64],
    labels: NDArray[np.int32],
    num_classes: int,
    view: ViewSettings,
    batch_size: int,
    normalise: Normaliser,
    precision: str,
    group: Group,
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[float, float]:
    """Class-averaged top-1 and top-5 accuracy over all ranks, as `smelt.metrics` defines them.

    A bad image counts as what is delivered for it: the list of equal scores, which is the first classes.
    Outputs beyond `num_classes` (threshold samples' class) are left out. NaN where there is no image.
    """
    own_rows, own_labels = rows[group.rank :: group.world_size], labels[group.rank :: group.world_size]
    counts_3C = torch.zeros(3, num_classes, dtype=torch.float64, device=normalise.device)
    at = 0
    for logits_BC, valid_B in view_logits(
        model, loader, own_rows, view, batch_size, normalise, precision, weights
    ):
        labels_B = torch.from_numpy(own_labels[at : at + len(valid_B)]).long().to(normalise.device)
        at += len(valid_B)
        place_B = places(logits_BC[:, :num_classes], labels_B)
        for i, right_B in enumerate((torch.ones_like(valid_B), place_B < 1, place_B < 5)):
            counts_3C[i].index_add_(0, labels_B, right_B.double())
    counts_3C = group.sum(counts_3C).cpu()
    present = counts_3C[0] > 0
    top1, top5 = (counts_3C[1:, present] / counts_3C[0, present]).mean(dim=1).tolist()
    return top1, top5


def places(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """How many classes come before each label in the list that is delivered, (B,); see `smelt.metrics`.

    As many as no list is long for a label whose logit is NaN.
    """
    label_B1 = labels_B[:, None]
    own_B1 = logits_BC.gather(1, label_B1)
    classes_C = torch.arange(logits_BC.shape[1], device=logits_BC.device)
    before_BC = (logits_BC > own_B1) | ((logits_BC == own_B1) & (classes_C < label_B1))
    return before_BC.sum(dim=1).masked_fill(own_B1[:, 0].isnan(), 1 << 40)
